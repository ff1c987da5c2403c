package bzip2

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// zeros256 is what bzip2 -9 makes of 256 MiB of zeros: six blocks.
const zeros256 = "425a68393141592653590e09e2df015f8e4000c0000008200030804d4642a025a90a8097" +
	"3141592653590e09e2df015f8e4000c0000008200030804d4642a025a90a809731415926" +
	"53590e09e2df015f8e4000c0000008200030804d4642a025a90a80973141592653590e09" +
	"e2df015f8e4000c0000008200030804d4642a025a90a80973141592653590e09e2df015f" +
	"8e4000c0000008200030804d4642a025a90a80973141592653591ecee4db012a3fc000c0" +
	"040008200030cc0529a6aaa8491b002248f1772453850906b17caf00"

// bombTest is little data that claim much, or much that is next to nothing.
type bombTest struct {
	name string
	z    []byte
	size int   // of the zeros that it decodes to
	mid  Point // to resume at where there is no block to resume at
	err  error
}

// bombTests makes the bombs, smaller ones with -short and for the race detector.
func bombTests(t *testing.T) []bombTest {
	t.Helper()
	zeros, err := hex.DecodeString(zeros256)
	if err != nil {
		t.Fatal(err)
	}
	n := 180_000
	switch {
	case dmgtest.Raced():
		n = 9_000
	case dmgtest.Part():
		n = 36_000
	}
	full := bomb(n)
	tiny := stream(9, &spec{used: 1, symbols: []int{0, 2}, crc: crcBitwise([]byte{0})})
	blank := stream(9, &spec{used: 1, symbols: []int{2}})
	empty := stream(9)
	tests := []bombTest{
		{name: "full blocks", z: stream(9, full, full, full, full, full, full), size: 6 * 259 * n},
		{name: "tiny streams", z: bytes.Repeat(tiny, n), size: n},
		{name: "empty streams", z: bytes.Repeat(empty, 4*n), mid: Point{In: int64(len(empty)) * 8 * int64(2*n)}},
		{name: "blocks without text", z: bytes.Repeat(blank, n), err: ErrCorrupt},
	}
	if !dmgtest.Part() {
		tests = append(tests, bombTest{name: "zeros by bzip2", z: zeros, size: 256 << 20})
	}
	return tests
}

// playZeros decodes z from p on and returns how much that is. mid is a point in
// the middle of it, with the bytes before that.
func (d *player) playZeros(z []byte, p Point) (size int, mid Point, before int, err error) {
	half := (p.In + int64(len(z))*8) / 2
	var zeros [len(d.buf)]byte
	d.s.Resume(bytes.NewReader(z[p.In>>3:]), p)
	for {
		if at := d.s.Point(); mid.In == 0 && at.In >= half {
			mid, before = at, size
		}
		if err = d.s.Next(&d.b); err != nil {
			return size, mid, before, err
		}
		d.b.Unwind(&d.x)
		crc := uint32(0)
		for c, err := d.x.Start(), error(nil); err == nil; {
			var n int
			n, err = d.x.Read(&c, d.buf[:])
			if !bytes.Equal(d.buf[:n], zeros[:n]) {
				return size, mid, before, errors.New("other bytes than zeros")
			}
			crc = UpdateCRC(crc, d.buf[:n])
			size += n
		}
		if crc != d.b.CRC() {
			return size, mid, before, ErrChecksum
		}
	}
}

// TestBombs decodes bombs from their start and from the middle: in the memory
// that the package states, and in a time that input and output account for.
func TestBombs(t *testing.T) {
	const (
		// memory is more than the types hold: what a slice leaves behind that
		// grows, and a player's buffer.
		memory = BlockMemory + TextMemory + StreamMemory + 1<<20

		// slower is how much longer a byte may take than one of ordinary data.
		// A block of one byte needs a table of its own, so six is usual.
		slower = 40
	)
	for _, test := range bombTests(t) {
		t.Run(test.name, func(t *testing.T) {
			var m0, m1 runtime.MemStats
			runtime.ReadMemStats(&m0)
			d := new(player)
			start := time.Now()
			size, mid, before, err := d.playZeros(test.z, Point{})
			took := time.Since(start)
			if runtime.ReadMemStats(&m1); m1.TotalAlloc-m0.TotalAlloc > memory {
				t.Errorf("%d bytes allocated, more than %d", m1.TotalAlloc-m0.TotalAlloc, memory)
			}
			if test.err != nil {
				if size != 0 || !errors.Is(err, test.err) {
					t.Errorf("%d bytes, %v; want none, %v", size, err, test.err)
				}
				return
			}
			if size != test.size || err != io.EOF {
				t.Fatalf("%d bytes, %v; want %d", size, err, test.size)
			}
			t.Logf("%d bytes to %d in %v", len(test.z), size, took)
			if !dmgtest.Raced() {
				if most := ordinary(t, len(test.z)+size) * slower; took > most {
					t.Errorf("took %v, more than %v", took, most)
				}
			}

			if mid.In == 0 {
				mid = test.mid
			}
			if n, _, _, err := d.playZeros(test.z, mid); n != size-before || err != io.EOF {
				t.Errorf("from bit %d: %d bytes, %v; want %d", mid.In, n, err, size-before)
			}
			if size > before {
				checkInside(t, test.z, mid)
			}
		})
	}
}

// ordinary returns how long n bytes of input and output take where nothing is
// special about them.
func ordinary(t *testing.T, n int) time.Duration {
	t.Helper()
	p := mixed(400_000, 13)
	z := compress(t, p, 9)
	d := new(player)
	start := time.Now()
	if got := d.whole(z); got != int64(len(p)) {
		t.Fatalf("decoded %d of %d bytes", got, len(p))
	}
	return time.Since(start) * time.Duration(n) / time.Duration(len(z)+len(p))
}

// checkInside reads zeros from the middle of the block at p.
func checkInside(t *testing.T, z []byte, p Point) {
	t.Helper()
	d := new(player)
	d.s.Resume(bytes.NewReader(z[p.In>>3:]), p)
	if err := d.s.Next(&d.b); err != nil {
		t.Fatal(err)
	}
	d.b.Unwind(&d.x)
	var c Cursor
	for c = d.x.Start(); int(c.Pos) < d.x.Len()/2; {
		if _, err := d.x.Read(&c, d.buf[:]); err != nil {
			t.Fatal(err)
		}
	}
	raw, _ := c.AppendBinary(nil)
	var at Cursor
	if err := at.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 4096)
	n, wantErr := d.x.Read(&c, want)

	d = new(player) // knows nothing of the first
	d.s.Resume(bytes.NewReader(z[p.In>>3:]), p)
	if err := d.s.Next(&d.b); err != nil {
		t.Fatal(err)
	}
	k, err := d.b.Read(&at, d.buf[:len(want)])
	if err != wantErr || !bytes.Equal(d.buf[:k], make([]byte, n)) || at.Out != c.Out {
		t.Errorf("at %d of the block at bit %d: %d bytes, %v; want %d zeros, %v", at.Out, p.In, k, err, n, wantErr)
	}
}

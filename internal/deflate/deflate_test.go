package deflate

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/readat"
)

// decodeAll decodes what is left, max bytes a call.
func decodeAll(d *Decoder, max int) ([]byte, error) {
	var out []byte
	for {
		p, err := d.Decode(max)
		if (len(p) > 0) == (err != nil) {
			panic("bytes and an error, or neither")
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, p...)
	}
}

func TestDecode(t *testing.T) {
	dmgtest.NotRaced(t)
	d := new(Decoder)
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			all := []int{0, 1, 7, 4096, 65535, 1 << 30, 0, 0, 0, 0, 5000, 40_000}
			if dmgtest.Part() {
				all = all[:6]
			}
			for i, max := range all {
				d.Reset(sources[i%len(sources)](s.raw))
				got, err := decodeAll(d, max)
				if err != nil {
					t.Fatalf("max %d: %v after %d bytes of %d", max, err, len(got), len(s.want))
				}
				if !bytes.Equal(got, s.want) {
					t.Fatalf("max %d: wrong bytes", max)
				}
				if d.Out() != int64(len(s.want)) || (d.In()+7)/8 != int64(len(s.raw)) {
					t.Errorf("at %d, %d, want %d, %d", d.In(), d.Out(), len(s.raw)*8, len(s.want))
				}
			}
		})
	}
}

// TestLengths asks for lengths at random and must get them, or a part of them
// from a Lender.
func TestLengths(t *testing.T) {
	d, r := new(Decoder), newRand(8)
	for _, s := range ownStreams(300_000) {
		for i, source := range sources {
			d.Reset(source(s.raw))
			for off := 0; off < len(s.want); {
				n := min(1+r.IntN(1<<r.IntN(17)), MaxDecode)
				p, err := d.Decode(n)
				want := min(n, len(s.want)-off)
				if err != nil || len(p) != want && (i == 0 || len(p) > want) || !bytes.Equal(p, s.want[off:off+len(p)]) {
					t.Fatalf("%s, source %d: %d bytes of %d at %d, %v", s.name, i, len(p), n, off, err)
				}
				if off += len(p); d.Out() != int64(off) {
					t.Fatalf("%s, source %d: at %d, not %d", s.name, i, d.Out(), off)
				}
				if r.IntN(4) > 0 { // asking for the window ends what is lent
					continue
				}
				if w := d.Window(); !bytes.Equal(w, s.want[max(0, off-WindowSize):off]) {
					t.Fatalf("%s, source %d: wrong window at %d", s.name, i, off)
				}
			}
		}
	}
}

func TestMemory(t *testing.T) {
	if n := int64(reflect.TypeFor[Decoder]().Size()); n > Memory || n < Memory*9/10 {
		t.Errorf("a Decoder has %d bytes, Memory says %d", n, Memory)
	}
}

func TestZeroDecoder(t *testing.T) {
	var d Decoder
	if _, err := d.Decode(0); err != io.ErrUnexpectedEOF {
		t.Error(err)
	}
}

// failing returns err at the k-th call, once, and short reads in between.
type failing struct {
	r   io.Reader
	k   int
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	f.k--
	if f.k == 0 {
		return 0, f.err
	}
	return f.r.Read(p[:min(len(p), 1+f.k*f.k*131%5000)])
}

// reads makes a reader's Read method of a function.
type reads func(p []byte) (int, error)

func (f reads) Read(p []byte) (int, error) { return f(p) }

func TestReaders(t *testing.T) {
	d := new(Decoder)
	for _, s := range ownStreams(100_000) {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"one byte":         iotest.OneByteReader,
			"half":             iotest.HalfReader,
			"data with io.EOF": iotest.DataErrReader,
			"error behind the end": func(r io.Reader) io.Reader {
				return io.MultiReader(r, iotest.ErrReader(errors.New("not needed")))
			},
			"empty reads": func(r io.Reader) io.Reader {
				i := 0
				return reads(func(p []byte) (int, error) {
					if i++; i%50 != 0 {
						return 0, nil
					}
					return r.Read(p[:min(len(p), 999)])
				})
			},
		} {
			d.Reset(wrap(bytes.NewReader(s.raw)))
			got, err := decodeAll(d, 0)
			if err != nil || !bytes.Equal(got, s.want) {
				t.Errorf("%s, %s: %d bytes of %d, %v", s.name, name, len(got), len(s.want), err)
			}
		}
	}
}

// TestReaderError: the error comes out as it is, behind the right bytes, and
// the next call goes on.
func TestReaderError(t *testing.T) {
	d := new(Decoder)
	want := errors.New("disk on fire")
	for _, s := range ownStreams(60_000) {
		for k := 1; k < 60; k++ {
			f := &failing{bytes.NewReader(s.raw), k, want}
			d.Reset(f)
			got, err := decodeAll(d, 1000)
			if f.k > 0 {
				break // it never came so far
			}
			if err == nil && bytes.Equal(got, s.want) {
				continue // it was behind the end
			}
			if err != want || !bytes.HasPrefix(s.want, got) {
				t.Fatalf("%s, call %d: %v", s.name, k, err)
			}
			rest, err := decodeAll(d, 1000)
			if got = append(got, rest...); err != nil || !bytes.Equal(got, s.want) {
				t.Fatalf("%s, call %d: then %d bytes of %d, %v", s.name, k, len(got), len(s.want), err)
			}
		}
	}
}

func TestBadReaders(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    reads
		want error
	}{
		{"nothing, for ever", func(p []byte) (int, error) { return 0, nil }, io.ErrNoProgress},
		{"negative", func(p []byte) (int, error) { return -1, nil }, readat.ErrCount},
		{"too much", func(p []byte) (int, error) { return len(p) + 1, nil }, readat.ErrCount},
	} {
		d := new(Decoder)
		d.Reset(tt.r)
		if _, err := d.Decode(0); err != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
		c := &Checkpoint{In: 1, Block: BlockFixed}
		if err := d.Resume(tt.r, c, whole(nil)); err != tt.want {
			t.Errorf("%s: Resume: %v", tt.name, err)
		}
	}
}

// TestTruncated cuts streams at every byte.
func TestTruncated(t *testing.T) {
	d := new(Decoder)
	for _, s := range ownStreams(1000) {
		for n := range s.raw {
			d.Reset(bytes.NewReader(s.raw[:n]))
			got, err := decodeAll(d, 0)
			if err != io.ErrUnexpectedEOF || !bytes.HasPrefix(s.want, got) {
				t.Fatalf("%s, %d bytes of %d: %v", s.name, n, len(s.raw), err)
			}
			if _, err := d.Decode(0); err != io.ErrUnexpectedEOF {
				t.Fatalf("%s, %d bytes of %d: then %v", s.name, n, len(s.raw), err)
			}
		}
	}
}

// TestNoOutput decodes empty blocks only, in time proportional to the input.
func TestNoOutput(t *testing.T) {
	blocks := 2 << 20
	if dmgtest.Raced() {
		blocks = 1 << 17
	}
	d := new(Decoder)
	for name, block := range map[string][]byte{
		"stored": {0, 0, 0, 0xFF, 0xFF},
		"fixed":  {0x02, 0x08, 0x20, 0x80, 0x00}, // four blocks of 10 bits
	} {
		raw := bytes.Repeat(block, blocks)
		start := time.Now()
		d.Reset(bytes.NewReader(raw))
		if _, err := d.Decode(0); err != io.ErrUnexpectedEOF {
			t.Errorf("%s: %v", name, err)
		}
		if d.In() < int64(len(raw))*8-8*5 || d.Out() != 0 {
			t.Errorf("%s: at %d, %d", name, d.In(), d.Out())
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

// TestBomb decodes 1028 bytes for each one of input.
func TestBomb(t *testing.T) {
	size := 256 << 20
	if dmgtest.Part() {
		size = 8 << 20
	}
	w := &bitWriter{}
	w.block(codeOf(286, clc{0: 2, 256: 2, 285: 1}), []byte{1})
	w.symbol(w.lit, 0)
	for range size / 258 {
		w.symbol(w.lit, 285)
		w.symbol(w.dst, 0)
	}
	w.end()
	w.align()
	d := new(Decoder)
	d.Reset(bytes.NewReader(w.buf))
	for {
		p, err := d.Decode(0)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(p, []byte{0}) != len(p) {
			t.Fatalf("not all zero before %d", d.Out())
		}
	}
	if want := int64(1 + size/258*258); d.Out() != want {
		t.Errorf("%d bytes, want %d", d.Out(), want)
	}
}

// TestOneBlock resumes in the middle of a single block of 64 MB.
func TestOneBlock(t *testing.T) {
	size := 64 << 20
	if dmgtest.Part() {
		size = 1 << 20
	}
	w := &bitWriter{}
	lit, dst := flat()
	w.dynamic(1, lit, dst)
	w.tokens(newRand(9), size)
	w.end()
	w.align()
	s := stream{"", w.buf, w.out}
	d, e := new(Decoder), new(Decoder)
	for _, k := range checkpoints(t, d, s, cuts(len(s.want), 100, 1<<20)) {
		if err := e.Resume(bytes.NewReader(s.raw[k.c.In/8:]), &k.c, k.packed()); err != nil {
			t.Fatal(err)
		}
		want := s.want[k.c.Out:min(int(k.c.Out)+100_000, len(s.want))]
		if got, err := decodeSome(e, len(want)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("at %d: %v", k.c.Out, err)
		}
	}
	if got, err := decodeAll(e, 0); err != nil || e.Out() != int64(len(s.want)) {
		t.Fatalf("%d bytes at the end, %v", len(got), err)
	}
}

func TestAllocs(t *testing.T) {
	s := ownStreams(300_000)[4]
	d := new(Decoder)
	r := bytes.NewReader(s.raw)
	var c Checkpoint
	var refs Refs
	window := make([]byte, 0, WindowSize)
	sparse, packed := make([]byte, 0, MaxPackedWindow), make([]byte, 0, MaxPackedWindow)
	n := testing.AllocsPerRun(5, func() {
		r.Reset(s.raw)
		d.Reset(r)
		for {
			p, err := d.Decode(10_000)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			d.Refs(&refs)
			sparse = AppendPackedWindow(sparse[:0], window, &refs)
			d.Checkpoint(&c)
			window = append(window[:0], d.Window()...)
			packed = AppendPackedWindow(packed[:0], window, nil)
			d.Track()
			r.Reset(s.raw[c.In/8:])
			if err := d.Resume(r, &c, packed); err != nil {
				t.Fatal(err)
			}
			_ = p
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

package decmpfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/decmpfsenc"
)

const samplesDir = "../../../shared/samples/fs/decmpfs"

// lzvn encodes a chunk of type 8.
func lzvn(p []byte) []byte {
	for _, e := range decmpfsenc.Encodings {
		if e.Name == "lzvn" {
			return e.Chunk(p)
		}
	}
	panic("no lzvn")
}

// TestSamples reads what macOS wrote.
func TestSamples(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join(samplesDir, "MANIFEST.tsv"))
	if os.IsNotExist(err) {
		t.Skip("no samples here")
	}
	read := func(t *testing.T, name string) []byte {
		b, err := os.ReadFile(filepath.Join(samplesDir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	rows := strings.Split(strings.TrimSpace(string(manifest)), "\n")[1:]
	if len(rows) < 7 {
		t.Fatalf("%d rows in the manifest", len(rows))
	}
	for _, row := range rows {
		col := strings.Split(row, "\t")
		t.Run(col[0]+" "+col[2], func(t *testing.T) {
			kind, err := strconv.ParseUint(col[0], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			want := read(t, col[3])
			attr := decmpfsenc.Attribute(uint32(kind), uint64(len(want)), nil)
			switch name, how, _ := strings.Cut(col[1], " "); {
			case name == "header" && how != "only":
				attr = append(attr, read(t, strings.TrimPrefix(how, "+ "))...)
			case name != "header":
				attr = read(t, name)
			}
			var fork []byte
			if col[2] != "-" {
				fork = read(t, col[2])
			}
			check(t, attr, fork, want)
		})
	}
}

// check reads a file in all ways.
func check(t *testing.T, attr, fork, want []byte) {
	t.Helper()
	h, err := ParseHeader(attr[:HeaderLen])
	if err != nil || h.Size != int64(len(want)) || !h.Supported() {
		t.Errorf("header is %+v, %v; want %d bytes", h, err, len(want))
	}
	open := func() *File {
		f, err := New(attr, bytes.NewReader(fork), int64(len(fork)))
		if err != nil {
			t.Fatal(err)
		}
		if f.Size() != int64(len(want)) {
			t.Fatalf("Size() = %d, want %d", f.Size(), len(want))
		}
		return f
	}
	f := open()
	got := make([]byte, len(want)+1)
	if n, err := f.ReadAt(got, 0); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
		t.Fatalf("all at once: %d bytes of %d, %v", n, len(want), err)
	}
	if err := iotest.TestReader(io.NewSectionReader(open(), 0, f.Size()), want); err != nil {
		t.Error(err)
	}
	rnd := rand.New(rand.NewPCG(1, uint64(len(want))))
	for range 50 {
		off := rnd.IntN(len(want) + 1)
		p := make([]byte, rnd.IntN(min(len(want)-off, 100_000)+1))
		if n, err := f.ReadAt(p, int64(off)); n != len(p) || err != nil || !bytes.Equal(p, want[off:off+n]) {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
		}
	}
	for _, off := range []int64{f.Size(), f.Size() + 1, math.MaxInt64} {
		if n, err := f.ReadAt(make([]byte, 5), off); n != 0 || err != io.EOF {
			t.Errorf("read at %d: %d, %v", off, n, err)
		}
	}
	if _, err := f.ReadAt(make([]byte, 5), -1); err == nil || err == io.EOF {
		t.Errorf("read at -1: %v", err)
	}
}

// TestEncoded reads what the encoder of these tests writes, at the sizes where
// chunks begin and end.
func TestEncoded(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.NotRaced(t)
	for _, e := range decmpfsenc.Encodings {
		for _, n := range []int{0, 1, 3, 1000, 65535, 65536, 65537, 3*65536 + 5} {
			content := decmpfsenc.Text(n)
			t.Run(fmt.Sprintf("%s/%d/fork", e.Name, n), func(t *testing.T) {
				for _, spare := range []int{0, 3} {
					attr, fork := decmpfsenc.Fork(e.Fork, content, spare, e.Chunk)
					check(t, attr, fork, content)
				}
			})
			if n <= maxInline/16 {
				t.Run(fmt.Sprintf("%s/%d/inline", e.Name, n), func(t *testing.T) {
					attr := decmpfsenc.Inline(e.Inline, content, e.Chunk)
					check(t, attr, nil, content)
				})
			}
		}
	}
}

// TestLongInline reads more than a chunk from an attribute.
func TestLongInline(t *testing.T) {
	dmgtest.NotRaced(t)
	for _, e := range decmpfsenc.Encodings {
		content := bytes.Repeat([]byte("all work and no play "), 30_000)
		t.Run(e.Name, func(t *testing.T) {
			attr := decmpfsenc.Inline(e.Inline, content, e.Chunk)
			if len(attr) <= MaxAttr {
				check(t, attr, nil, content)
			} else if _, err := New(attr, nil, 0); !errors.Is(err, ErrFormat) {
				t.Errorf("attribute of %d bytes: %v", len(attr), err)
			}
		})
	}
}

// TestMixed has chunks of one file stored in different ways.
func TestMixed(t *testing.T) {
	dmgtest.NotRaced(t)
	content := decmpfsenc.Text(6*65536 - 100)
	for _, kind := range []uint32{4, 8, 10, 12} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			var ways []decmpfsenc.Encoding
			for _, e := range decmpfsenc.Encodings {
				if e.Fork == kind {
					ways = append(ways, e)
				}
			}
			k := 0
			attr, fork := decmpfsenc.Fork(kind, content, 1, func(p []byte) []byte {
				k++
				return ways[k%len(ways)].Chunk(p)
			})
			check(t, attr, fork, content)
		})
	}
}

// TestRandomAccess holds reads to what they need: a chunk is fetched only if it is
// wanted, and not again as long as it is among the last two.
func TestRandomAccess(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.NotRaced(t)
	dmgtest.Long(t)
	const chunks = 40
	content := decmpfsenc.Text(chunks * 65536)
	for _, e := range decmpfsenc.Encodings {
		if e.Name == "stored" {
			continue // its chunks have no boundaries
		}
		t.Run(e.Name, func(t *testing.T) {
			attr, data := decmpfsenc.Fork(e.Fork, content, 0, e.Chunk)
			longest := 65536 + 400
			fork := &dmgtest.Counter{R: bytes.NewReader(data)}
			f, err := New(attr, fork, int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			if fork.Calls() > 0 {
				t.Errorf("New reads the fork %d times", fork.Calls())
			}
			p := make([]byte, 100)
			for i, off := range []int64{30*65536 + 70, 30*65536 + 700, 29*65536 + 50, 30*65536 + 5, 29*65536 + 500} {
				fork.Reset()
				if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, content[off:off+100]) {
					t.Fatal(err)
				}
				calls, most := []int{2, 0, 1, 0, 0}[i], int64([]int{longest + windowLen, 0, longest, 0, 0}[i])
				if fork.Calls() > calls || fork.Bytes() > most {
					t.Errorf("read %d fetches %d bytes in %d calls, want %d in %d", i, fork.Bytes(), fork.Calls(), most, calls)
				}
			}
			fork.Reset()
			got, err := io.ReadAll(iotest.OneByteReader(io.NewSectionReader(f, 0, 3*65536)))
			if err != nil || !bytes.Equal(got, content[:3*65536]) {
				t.Fatal(err)
			}
			if fork.Calls() > 4 {
				t.Errorf("three chunks byte by byte: %d calls", fork.Calls())
			}
		})
	}
}

// TestLongTable reads chunks far apart by tables longer than the part that is kept.
func TestLongTable(t *testing.T) {
	dmgtest.NotRaced(t)
	const chunks = 3000
	for _, e := range decmpfsenc.Encodings {
		if e.Name != "zlib" && e.Name != "lzvn" {
			continue
		}
		var packed [7][]byte
		for i := range packed {
			packed[i] = e.Chunk(bytes.Repeat([]byte{byte(i)}, 65536))
		}
		k := -1
		// The encoder need not know what the chunks have.
		attr, data := decmpfsenc.Fork(e.Fork, make([]byte, chunks*65536), 0, func([]byte) []byte {
			k++
			return packed[k%7]
		})
		fork := &dmgtest.Counter{R: bytes.NewReader(data)}
		f, err := New(attr, fork, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(1, 1))
		for i := range 200 {
			k := rnd.IntN(chunks)
			fork.Reset()
			p := make([]byte, 10)
			if n, err := f.ReadAt(p, int64(k)*65536+int64(rnd.IntN(65526))); err != nil || !bytes.Equal(p[:n], bytes.Repeat([]byte{byte(k % 7)}, 10)) {
				t.Fatalf("%s: chunk %d: %v, %v", e.Name, k, p, err)
			}
			if i > 0 && (fork.Calls() > 2 || fork.Bytes() > 6<<10) {
				t.Errorf("%s: a read fetches %d bytes in %d calls", e.Name, fork.Bytes(), fork.Calls())
			}
		}
	}
}

// TestTogether has goroutines read one chunk: one fetches it, the others wait.
func TestTogether(t *testing.T) {
	content := decmpfsenc.Text(2 * 65536)
	attr, data := decmpfsenc.Fork(8, content, 0, lzvn)
	start := make(chan struct{})
	fork := &dmgtest.Counter{R: dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		<-start
		return bytes.NewReader(data).ReadAt(p, off)
	})}
	f, err := New(attr, fork, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 1000)
			off := int64(65536 + 100*i)
			if n, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, content[off:off+int64(n)]) {
				t.Errorf("%d, %v", n, err)
			}
		}()
	}
	time.Sleep(10 * time.Millisecond) // until all, or nearly all, wait
	close(start)
	wg.Wait()
	if fork.Calls() > 2 {
		t.Errorf("%d reads of the fork", fork.Calls())
	}
}

// TestAtOnce has goroutines read here and there through one Pool.
func TestAtOnce(t *testing.T) {
	content := decmpfsenc.Text(7*65536 + 99)
	var pool Pool
	var wg sync.WaitGroup
	for _, e := range decmpfsenc.Encodings {
		attr, fork := decmpfsenc.Fork(e.Fork, content, 0, e.Chunk)
		f, err := pool.New(attr, bytes.NewReader(fork), int64(len(fork)))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				rnd := rand.New(rand.NewPCG(1, uint64(i)))
				for range 20 {
					off := rnd.IntN(len(content))
					p := make([]byte, min(rnd.IntN(100_000), len(content)-off))
					if n, err := f.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, content[off:off+n]) {
						t.Errorf("%s: %d bytes at %d: %d, %v", e.Name, len(p), off, n, err)
					}
				}
			}()
		}
	}
	wg.Wait()
}

// class is what an error is, for tests. An error without a class is a fault.
func class(t testing.TB, err error) error {
	t.Helper()
	for _, c := range []error{io.EOF, ErrUnsupported, ErrChecksum, ErrFormat} {
		if errors.Is(err, c) {
			return c
		}
	}
	if err != nil {
		t.Fatalf("an error without a class: %v", err)
	}
	return nil
}

var errorTests = []struct {
	name string
	attr []byte
	fork string
	new  error // of New
	read error // of reading all, if New went well
}{
	{"nothing", nil, "", ErrFormat, nil},
	{"no header", []byte("fpmc\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "", ErrFormat, nil},
	{"magic the other way round", []byte("cmpf\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "", ErrFormat, nil},
	{"size 2^63", decmpfsenc.Attribute(1, 1<<63, nil), "", ErrFormat, nil},
	{"size 2^64-1", decmpfsenc.Attribute(1, math.MaxUint64, nil), "", ErrFormat, nil},
	{"type 0", decmpfsenc.Attribute(0, 1, []byte("x")), "", ErrUnsupported, nil},
	{"type 2", decmpfsenc.Attribute(2, 1, []byte("x")), "", ErrUnsupported, nil},
	{"type 5", decmpfsenc.Attribute(5, 1, []byte("x")), "", ErrUnsupported, nil},
	{"type 6", decmpfsenc.Attribute(6, 1, []byte("x")), "", ErrUnsupported, nil},
	{"type 15", decmpfsenc.Attribute(15, 1, []byte("x")), "", ErrUnsupported, nil},
	{"type 2^31+1", decmpfsenc.Attribute(1<<31+1, 1, nil), "", ErrUnsupported, nil},
	{"attribute too long", decmpfsenc.Attribute(1, MaxAttr, make([]byte, MaxAttr)), "", ErrFormat, nil},
	{"inline size of petabytes", decmpfsenc.Attribute(3, 1<<50, []byte("x\x9c\x03\x00\x00\x00\x00\x01")), "", ErrFormat, nil},

	{"type 1, shorter", decmpfsenc.Attribute(1, 3, []byte("ab")), "", nil, ErrFormat},
	{"type 1, longer", decmpfsenc.Attribute(1, 3, []byte("abcd")), "", nil, ErrFormat},
	{"type 9, shorter", decmpfsenc.Attribute(9, 3, []byte("\xccab")), "", nil, ErrFormat},
	{"type 9, longer", decmpfsenc.Attribute(9, 3, []byte("\xccabcd")), "", nil, ErrFormat},
	{"type 9, another marker", decmpfsenc.Attribute(9, 3, []byte("\xcdabc")), "", nil, ErrFormat},
	{"type 3, empty", decmpfsenc.Attribute(3, 3, nil), "", nil, ErrFormat},
	{"type 3, stored, shorter", decmpfsenc.Attribute(3, 3, []byte("\xffab")), "", nil, ErrFormat},
	{"type 3, no zlib", decmpfsenc.Attribute(3, 3, []byte("hello")), "", nil, ErrFormat},
	{"type 3, dictionary", decmpfsenc.Attribute(3, 3, []byte("\x78\xbb\x00\x00\x00\x01")), "", nil, ErrFormat},
	{"type 7, empty", decmpfsenc.Attribute(7, 3, nil), "", nil, ErrFormat},
	{"type 7, no codes", decmpfsenc.Attribute(7, 3, []byte("\x70\x70")), "", nil, ErrFormat},
	{"type 11, empty", decmpfsenc.Attribute(11, 3, nil), "", nil, ErrFormat},
	{"type 11, nothing but an end", decmpfsenc.Attribute(11, 3, []byte("bvx$")), "", nil, ErrFormat},
	{"type 11, unknown block", decmpfsenc.Attribute(11, 3, []byte("bvx?abcd")), "", nil, ErrFormat},

	{"type 13, empty", decmpfsenc.Attribute(13, 3, nil), "", nil, ErrFormat},
	{"type 13, nothing but an end", decmpfsenc.Attribute(13, 3, []byte("ZBM\x09\x06\x00\x00\x00\x00\x00")), "", nil, ErrFormat},
	{"type 13, longer", decmpfsenc.Attribute(13, 3, []byte("ZBM\x09\x0a\x00\x00\x04\x00\x00abcd\x06\x00\x00\x00\x00\x00")), "", nil, ErrFormat},
	{"type 13, another marker", decmpfsenc.Attribute(13, 3, []byte("\x06abc")), "", nil, ErrFormat},

	{"type 4, no fork", decmpfsenc.Attribute(4, 1, nil), "", ErrFormat, nil},
	{"type 8, no fork", decmpfsenc.Attribute(8, 1, nil), "", ErrFormat, nil},
	{"type 14, no fork", decmpfsenc.Attribute(14, 1, nil), "x", ErrFormat, nil},
	{"type 8, 2^47 chunks", decmpfsenc.Attribute(8, math.MaxInt64, nil), strings.Repeat("x", 100), ErrFormat, nil},
	{"type 4, 2^32 chunks", decmpfsenc.Attribute(4, 1<<48, nil), strings.Repeat("x", 100), ErrFormat, nil},
	{"type 4, zeros", decmpfsenc.Attribute(4, 1, nil), strings.Repeat("\x00", 500), nil, ErrFormat},
	{"type 4, ones", decmpfsenc.Attribute(4, 1, nil), strings.Repeat("\xff", 500), nil, ErrFormat},
	{"type 8, zeros", decmpfsenc.Attribute(8, 1, nil), strings.Repeat("\x00", 500), nil, ErrFormat},
	{"type 8, ones", decmpfsenc.Attribute(8, 1, nil), strings.Repeat("\xff", 500), nil, ErrFormat},
}

func TestErrors(t *testing.T) {
	for _, tt := range errorTests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := New(tt.attr, strings.NewReader(tt.fork), int64(len(tt.fork)))
			if got := class(t, err); got != tt.new {
				t.Fatalf("New: %v, want %v", err, tt.new)
			}
			if err != nil {
				if f != nil {
					t.Error("a File besides an error")
				}
				return
			}
			n, err := f.ReadAt(make([]byte, f.Size()), 0)
			if got := class(t, err); got != tt.read || n > 0 {
				t.Errorf("ReadAt: %d, %v, want %v", n, err, tt.read)
			}
			if e := new(Error); errors.As(err, &e) && e.Error() == "" {
				t.Error("no message")
			}
		})
	}
}

// TestHeaderOfAll: Stat has a type and a size of whatever New refuses.
func TestHeaderOfAll(t *testing.T) {
	for kind := range uint32(20) {
		h, err := ParseHeader(decmpfsenc.Attribute(kind, 1<<40, nil))
		if err != nil || h.Type != kind || h.Size != 1<<40 {
			t.Errorf("type %d: %+v, %v", kind, h, err)
		}
		if _, err := New(decmpfsenc.Attribute(kind, 0, nil), nil, 0); h.Supported() != (err == nil) {
			t.Errorf("type %d: supported is %v; New: %v", kind, h.Supported(), err)
		}
	}
}

// TestLies bends every word of header, table and the first chunk to numbers at which
// arithmetic breaks. What comes out must be what went in or an error with a class;
// of zlib, whose checksums tell, always.
func TestLies(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.NotRaced(t)
	dmgtest.Long(t)
	content := decmpfsenc.Text(5*65536 + 77)
	for _, e := range decmpfsenc.Encodings {
		t.Run(e.Name, func(t *testing.T) {
			attr, fork := decmpfsenc.Fork(e.Fork, content, 0, e.Chunk)
			wrong := 0
			lie := func(where string, attr, fork []byte) {
				f, err := New(attr, bytes.NewReader(fork), int64(len(fork)))
				if class(t, err) != nil {
					return
				}
				if f.Size() > int64(len(fork))/4*65536 {
					t.Fatalf("%s: %d bytes in a fork of %d", where, f.Size(), len(fork))
				}
				for off := int64(0); off < f.Size(); off += 65536 {
					if off == 8*65536 {
						off = max(off, (f.Size()-1)/65536*65536)
					}
					p := make([]byte, min(65536, f.Size()-off))
					n, err := f.ReadAt(p, off)
					if class(t, err); err == nil && (n != len(p) || off+int64(n) > int64(len(content)) || !bytes.Equal(p, content[off:off+int64(n)])) {
						wrong++
					}
				}
			}
			for _, at := range []int{0, 4, 8, 12} {
				for _, v := range numbers(attr[at:]) {
					lie(fmt.Sprintf("attribute %d", at), put(attr, at, v), fork)
				}
			}
			words := []int{0, 4, 8, 12, 16, 20, 24, 28}
			if e.Fork == 4 {
				words = []int{0, 4, 8, 12, 0x100, 0x104, 0x108, 0x10C, 0x110, 0x114, 0x118, 0x11C, 0x130, 0x134, 0x138}
			}
			for _, at := range words {
				for _, v := range numbers(fork[at:]) {
					lie(fmt.Sprintf("fork %#x", at), attr, put(fork, at, v))
				}
			}
			for n := 0; n < len(fork); n += 1 + len(fork)/dmgtest.Times(1000, 200, 30) {
				lie(fmt.Sprintf("cut at %d", n), attr, fork[:n])
			}
			if e.Name == "zlib" && wrong > 0 {
				t.Errorf("%d chunks with wrong content and no error", wrong)
			}
		})
	}
}

// numbers are those at which arithmetic of 32 bits breaks.
func numbers(right []byte) []uint32 {
	r := uint32(right[0]) | uint32(right[1])<<8 | uint32(right[2])<<16 | uint32(right[3])<<24
	return []uint32{0, 1, 2, 15, 16, r - 1, r + 1, r * 2, r / 2, -r, 1<<31 - 1, 1 << 31, math.MaxUint32 - 1, math.MaxUint32, r<<16 | r>>16, 65536, 65537}
}

func put(b []byte, at int, v uint32) []byte {
	b = bytes.Clone(b)
	copy(b[at:], []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
	return b
}

// TestChunkDamage: a damaged chunk is an error of its own bytes and no others'.
func TestChunkDamage(t *testing.T) {
	content := decmpfsenc.Text(3 * 65536)
	for _, e := range decmpfsenc.Encodings {
		if e.Fork != 4 || e.Name != "zlib" {
			continue
		}
		attr, fork := decmpfsenc.Fork(e.Fork, content, 0, e.Chunk)
		first := int(fork[0x10C]) | int(fork[0x10D])<<8 // length of chunk 0
		for _, at := range []int{0x104 + 4 + 24 + first + 3, 0x104 + 4 + 24 + first - 1 + 500} {
			bad := bytes.Clone(fork)
			bad[at] ^= 0x40
			f, err := New(attr, bytes.NewReader(bad), int64(len(bad)))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				p := make([]byte, len(content))
				n, err := f.ReadAt(p, 10)
				if c := class(t, err); n != 65526 || c != ErrFormat && c != ErrChecksum || !bytes.Equal(p[:n], content[10:65536]) {
					t.Errorf("byte %d: %d, %v", at, n, err)
				}
				if e := new(Error); !errors.As(err, &e) || e.Offset != 65536 {
					t.Errorf("error is of byte %+v", e)
				}
				if n, err := f.ReadAt(p[:65536], 2*65536); err != nil || !bytes.Equal(p[:n], content[2*65536:]) {
					t.Errorf("chunk behind the damage: %v", err)
				}
			}
		}
		bad := bytes.Clone(fork)
		// The stream's last byte is its Adler-32's.
		bad[0x104+4+24+first-1] ^= 1
		f, _ := New(attr, bytes.NewReader(bad), int64(len(bad)))
		if n, err := f.ReadAt(make([]byte, 5), 0); n > 0 || !errors.Is(err, ErrChecksum) {
			t.Errorf("wrong Adler-32: %d, %v", n, err)
		}
	}
}

// TestSource passes the fork's errors on, keeps none, and tells them from damage.
func TestSource(t *testing.T) {
	content := decmpfsenc.Text(3 * 65536)
	errFork := errors.New("fork on fire")
	for _, kind := range []uint32{4, 8, 12} {
		for _, e := range decmpfsenc.Encodings {
			if e.Fork != kind {
				continue
			}
			attr, data := decmpfsenc.Fork(e.Fork, content, 0, e.Chunk)
			for k := int64(1); ; k++ {
				fork := &dmgtest.FailAt{R: bytes.NewReader(data), Call: k, Err: errFork}
				f, err := New(attr, fork, int64(len(data)))
				if err != nil {
					t.Fatal(err)
				}
				p := make([]byte, len(content))
				n, err := f.ReadAt(p, 0)
				if !bytes.Equal(p[:n], content[:n]) {
					t.Fatalf("%s: wrong bytes before the error of call %d", e.Name, k)
				}
				if err == nil {
					if fork.Calls() >= k {
						t.Errorf("%s: error of call %d is lost", e.Name, k)
					}
					break
				}
				if !errors.Is(err, errFork) || errors.Is(err, ErrFormat) {
					t.Errorf("%s: call %d: %v", e.Name, k, err)
				}
				if n, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p[:n], content) {
					t.Errorf("%s: after the error of call %d: %d, %v", e.Name, k, n, err)
				}
			}
			for _, size := range []int{0, 10, len(data) / 2, len(data) - 60} {
				f, err := New(attr, bytes.NewReader(data[:size]), int64(len(data)))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.ReadAt(make([]byte, len(content)), 0); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrFormat) {
					t.Errorf("%s: fork cut off at %d of %d: %v", e.Name, size, len(data), err)
				}
			}
		}
	}
}

// TestPanic: a fork that panics in one read leaves the file usable.
func TestPanic(t *testing.T) {
	content := decmpfsenc.Text(65536)
	attr, data := decmpfsenc.Fork(8, content, 0, lzvn)
	bad := true
	f, err := New(attr, dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if bad {
			panic("fork")
		}
		return bytes.NewReader(data).ReadAt(p, off)
	}), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	func() {
		defer func() { _ = recover() }()
		f.ReadAt(p, 0)
	}()
	bad = false
	if n, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p[:n], content[:100]) {
		t.Errorf("%d, %v", n, err)
	}
}

// TestBomb: a chunk of much more than it says is given up when that shows.
func TestBomb(t *testing.T) {
	dmgtest.NotRaced(t)
	dmgtest.Long(t)
	zeros := make([]byte, 16<<20)
	for _, e := range decmpfsenc.Encodings {
		packed := e.Chunk(zeros[:1<<20])
		if e.Name == "lzfse" || e.Name == "zlib" {
			packed = e.Chunk(zeros)
		}
		if len(packed) > MaxAttr-HeaderLen {
			continue
		}
		f, err := New(decmpfsenc.Attribute(e.Inline, 5, packed), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := f.ReadAt(make([]byte, 5), 0); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", e.Name, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes allocated", e.Name, n)
		}
	}
}

package adc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest/adcenc"
	"github.com/go-dmg/dmg/internal/readat"
)

// decode reads all of r in steps of the given size. It checks on the way what
// Decode promises: full slices while there are bytes, bytes or an error but not
// both, and the same error again.
func decode(t testing.TB, z *Reader, r io.Reader, step int) ([]byte, error) {
	t.Helper()
	var out []byte
	z.Reset(r)
	short := false
	for {
		p, err := z.Decode(step)
		if (len(p) == 0) == (err == nil) {
			t.Fatalf("Decode returned %d bytes and error %v", len(p), err)
		}
		if err != nil {
			if _, again := z.Decode(step); again != err {
				t.Fatalf("second error is %v, first was %v", again, err)
			}
			return out, err
		}
		if short || len(p) > step {
			t.Fatalf("Decode(%d) returned %d bytes, after a short slice: %v", step, len(p), short)
		}
		short = len(p) < step
		out = append(out, p...)
	}
}

func wantError(err, want error) bool {
	if want == errCorrupt {
		var c *CorruptError
		return errors.As(err, &c)
	}
	return err == want
}

var errCorrupt = errors.New("a CorruptError")

// full is 64 KiB whose bytes at any two places differ in their neighbourhood.
func full() []byte {
	rng := rand.New(rand.NewPCG(3, 4))
	p := make([]byte, 64<<10)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

var streamTests = []struct {
	name  string
	codes string // hexadecimal
	want  string
	err   error
}{
	{"nothing", "", "", io.EOF},
	{"one literal", "80 61", "a", io.EOF},
	{"literals", "82 616263 80 64", "abcd", io.EOF},
	{"most literals", "FF" + strings.Repeat("61", 128), strings.Repeat("a", 128), io.EOF},
	{"short copy", "82 616263 00 02", "abcabc", io.EOF},
	{"short copy over itself", "81 6162 3C 01", "ab" + strings.Repeat("ab", 9), io.EOF},
	{"short copy of one byte", "80 61 3C 00", strings.Repeat("a", 19), io.EOF},
	{"long copy", "83 61626364 40 0003", "abcdabcd", io.EOF},
	{"long copy over itself", "82 616263 7F 0002", "abc" + strings.Repeat("abc", 23)[:67], io.EOF},
	{"copy of a copy", "82 616263 00 02 80 64 40 0006", "abcabcdabca", io.EOF},
	{"copy first", "00 00", "", errCorrupt},
	{"long copy first", "40 0000", "", errCorrupt},
	{"before the start", "82 616263 00 03", "abc", errCorrupt},
	{"before the start, long", "82 616263 40 0003", "abc", errCorrupt},
	{"before the start, later", "82 616263 00 02 00 06", "abcabc", errCorrupt},
	{"cut: literals", "82 6162", "", io.ErrUnexpectedEOF},
	{"cut: no literals", "82", "", io.ErrUnexpectedEOF},
	{"cut: short copy", "82 616263 00", "abc", io.ErrUnexpectedEOF},
	{"cut: long copy", "82 616263 40 00", "abc", io.ErrUnexpectedEOF},
	{"cut: before the start, distance unknown", "82 616263 03", "abc", io.ErrUnexpectedEOF},
}

func unhex(codes string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(codes, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestStreams(t *testing.T) {
	var z Reader
	for _, tt := range streamTests {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, MaxDecode} {
				got, err := decode(t, &z, bytes.NewReader(unhex(tt.codes)), step)
				if string(got) != tt.want || !wantError(err, tt.err) {
					t.Errorf("step %d: got %q, %v; want %q, %v", step, got, err, tt.want, tt.err)
				}
			}
		})
	}
}

func TestCorruptOffset(t *testing.T) {
	var z Reader
	stream := append(adcenc.Literals(nil, make([]byte, 128*1000)), adcenc.Literals(nil, []byte("a"))...)
	stream = append(stream, 0x7F, 0xFF, 0xFF)
	got, err := decode(t, &z, bytes.NewReader(stream), MaxDecode)
	if err != io.EOF || len(got) != 128001+67 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	stream = append(adcenc.Literals(nil, make([]byte, 128*500)), 0x7F, 0xFF, 0xFF)
	_, err = decode(t, &z, bytes.NewReader(stream), MaxDecode)
	var c *CorruptError
	if !errors.As(err, &c) || c.Offset != 129*500 {
		t.Errorf("got %v, want one at offset %d", err, 129*500)
	}
}

// TestDistances copies from all kinds of distances, up to the largest and after
// the window has moved in the buffer.
func TestDistances(t *testing.T) {
	var z Reader
	for _, before := range []int{0, 1, 70000, 300000} {
		plain := append(make([]byte, before), full()...)
		stream := adcenc.Literals(nil, plain)
		for i, dist := range []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 66, 1023, 1024, 1025, 32768, 65535, 65536} {
			for _, n := range []int{4, 15, 16, 17, 18, 19, 31, 32, 33, 67} {
				stream = adcenc.Copy(stream, n, dist)
				for range n {
					plain = append(plain, plain[len(plain)-dist])
				}
			}
			stream = adcenc.Literals(stream, []byte{byte(i)})
			plain = append(plain, byte(i))
		}
		for _, step := range []int{1, 1000, MaxDecode} {
			got, err := decode(t, &z, bytes.NewReader(stream), step)
			if err != io.EOF || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes before, step %d: got %d bytes, %v; want %d", before, step, len(got), err, len(plain))
			}
		}
	}
}

func someText(n int) (p []byte) {
	rng := rand.New(rand.NewPCG(5, 6))
	for len(p) < n {
		p = fmt.Appendf(p, "line %d: %x\n", rng.IntN(1000), rng.IntN(1<<20))
	}
	return p[:n]
}

// samples are plain data of different kinds.
func samples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var runs, far []byte
	for len(runs) < 500<<10 {
		runs = append(runs, bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(5000))...)
	}
	for random := full(); len(far) < 500<<10; {
		far = append(far, random[:65500+rng.IntN(36)]...)
	}
	return map[string][]byte{"random": full(), "zeros": make([]byte, 1<<20), "text": someText(500 << 10), "runs": runs, "far": far}
}

func TestRoundTrip(t *testing.T) {
	var z Reader
	for name, plain := range samples() {
		t.Run(name, func(t *testing.T) {
			stream := adcenc.Encode(plain)
			for _, step := range []int{4097, MaxDecode} {
				got, err := decode(t, &z, bytes.NewReader(stream), step)
				if err != io.EOF || !bytes.Equal(got, plain) {
					t.Fatalf("step %d: %d bytes, %v; want %d", step, len(got), err, len(plain))
				}
			}
		})
	}
}

func TestRoundTripTiny(t *testing.T) {
	var z Reader
	text := []byte("to be or not to be, that is the question; to be, to be, to be...")
	for _, plain := range [][]byte{text, make([]byte, 64)} {
		for n := range 65 {
			got, err := decode(t, &z, bytes.NewReader(adcenc.Encode(plain[:n])), 7)
			if err != io.EOF || !bytes.Equal(got, plain[:n]) {
				t.Errorf("%d bytes: got %q, %v", n, got, err)
			}
		}
	}
}

// small is a stream with all kinds of codes, what it decodes to, and where its
// codes end.
func small() (stream, plain []byte, ends map[int]bool) {
	text := someText(4000)
	stream = adcenc.Encode(text)
	ends = map[int]bool{0: true}
	for i := 0; i < len(stream); ends[i] = true {
		switch b := stream[i]; {
		case b >= 0x80:
			i += int(b&0x7F) + 2
		case b >= 0x40:
			i += 3
		default:
			i += 2
		}
	}
	return stream, text, ends
}

// TestTruncated cuts a stream everywhere: what comes out is right, and a cut
// within a code is noticed.
func TestTruncated(t *testing.T) {
	var z Reader
	stream, plain, ends := small()
	for n := range len(stream) + 1 {
		want := io.ErrUnexpectedEOF
		if ends[n] {
			want = io.EOF
		}
		got, err := decode(t, &z, bytes.NewReader(stream[:n]), 5000)
		if err != want || !bytes.HasPrefix(plain, got) {
			t.Fatalf("cut at %d of %d: %d bytes, %v; want %v", n, len(stream), len(got), err, want)
		}
	}
}

// TestBitFlips checks that damage leads to an error or other bytes and never
// further, and that the size of the steps makes no difference.
func TestBitFlips(t *testing.T) {
	var z Reader
	stream, _, _ := small()
	for i := range len(stream) {
		bad := bytes.Clone(stream)
		bad[i] ^= 1 << (i % 8)
		got, err := decode(t, &z, bytes.NewReader(bad), MaxDecode)
		if len(got) > 67*len(bad) {
			t.Fatalf("flip %d: %d bytes", i, len(got))
		}
		again, err2 := decode(t, &z, bytes.NewReader(bad), 100)
		if !bytes.Equal(got, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("flip %d: %d bytes, %v in large steps; %d bytes, %v in small ones", i, len(got), err, len(again), err2)
		}
	}
}

func TestSources(t *testing.T) {
	var z Reader
	stream, plain, _ := small()
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte":      iotest.OneByteReader,
		"halves":        iotest.HalfReader,
		"data with EOF": iotest.DataErrReader,
		"gaps":          func(r io.Reader) io.Reader { return &gapReader{r: r} },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(t, &z, wrap(bytes.NewReader(stream)), 1000)
			if err != io.EOF || !bytes.Equal(got, plain) {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(plain))
			}
			z.Reset(wrap(bytes.NewReader(stream)))
			got, err = io.ReadAll(iotest.OneByteReader(&z))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("Read: got %d bytes, %v; want %d", len(got), err, len(plain))
			}
		})
	}
}

// gapReader returns nothing every other time.
type gapReader struct {
	r   io.Reader
	odd bool
}

func (g *gapReader) Read(p []byte) (int, error) {
	if g.odd = !g.odd; g.odd {
		return 0, nil
	}
	return g.r.Read(p[:min(len(p), 100)])
}

// failAt fails at the k-th call, and returns 100 bytes at the others.
type failAt struct {
	r    io.Reader
	k    int
	n    int // returned together with the error
	err  error
	call int
}

func (f *failAt) Read(p []byte) (int, error) {
	if f.call++; f.call >= f.k {
		n, _ := f.r.Read(p[:min(len(p), f.n)])
		return n, f.err
	}
	return f.r.Read(p[:min(len(p), 100)])
}

func TestSourceErrors(t *testing.T) {
	var z Reader
	stream, plain, _ := small()
	for _, want := range []error{errors.New("disk on fire"), io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		for _, n := range []int{0, 50} {
			for k := 1; k <= len(stream)/100; k++ {
				r := &failAt{r: bytes.NewReader(stream), k: k, n: n, err: want}
				got, err := decode(t, &z, r, 3000)
				if err != want || !bytes.HasPrefix(plain, got) {
					t.Fatalf("call %d: %d bytes, %v; want %v", k, len(got), err, want)
				}
			}
		}
	}
}

func TestNoProgress(t *testing.T) {
	var z Reader
	r := io.MultiReader(strings.NewReader("\x82abc\x80"), &failAt{r: strings.NewReader("")})
	got, err := decode(t, &z, r, 100)
	if string(got) != "abc" || err != io.ErrNoProgress {
		t.Errorf("got %q, %v", got, err)
	}
}

type lyingReader int

func (n lyingReader) Read(p []byte) (int, error) { return int(n), nil }

func TestBadCounts(t *testing.T) {
	var z Reader
	for _, n := range []int{-1, 1 << 30} {
		if _, err := decode(t, &z, lyingReader(n), 100); err != readat.ErrCount {
			t.Errorf("count %d: %v", n, err)
		}
	}
}

func TestNeverReset(t *testing.T) {
	var z Reader
	if p, err := z.Decode(1); len(p) != 0 || err != io.EOF {
		t.Errorf("got %q, %v", p, err)
	}
	if _, err := decode(t, &z, nil, 1); err != io.EOF {
		t.Errorf("nil source: %v", err)
	}
}

func TestDecodeMax(t *testing.T) {
	var z Reader
	z.Reset(bytes.NewReader(adcenc.Encode(make([]byte, 5*MaxDecode))))
	for _, tt := range []struct{ max, want int }{
		{1, 1}, {MaxDecode, MaxDecode}, {0, MaxDecode}, {-1, MaxDecode}, {MaxDecode + 1, MaxDecode}, {MaxDecode, MaxDecode - 1},
	} {
		p, err := z.Decode(tt.max)
		if len(p) != tt.want || cap(p) != len(p) || err != nil {
			t.Errorf("Decode(%d): %d bytes, capacity %d, %v; want %d", tt.max, len(p), cap(p), err, tt.want)
		}
	}
	if n, err := z.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil): %d, %v", n, err)
	}
}

func TestAllocations(t *testing.T) {
	stream, _, _ := small()
	src := bytes.NewReader(stream)
	var z Reader
	z.Reset(src)
	n := testing.AllocsPerRun(10, func() {
		src.Reset(stream)
		z.Reset(src)
		if err := drain(&z); err != io.EOF {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a stream, want none", n)
	}
}

func drain(z *Reader) error {
	for {
		if _, err := z.Decode(MaxDecode); err != nil {
			return err
		}
	}
}

func TestMemory(t *testing.T) {
	if got := int64(reflect.TypeFor[memory]().Size()); got != Memory || Memory > 1<<20 {
		t.Errorf("memory is %d bytes, Memory says %d", got, Memory)
	}
}

// BenchmarkDecode decodes this package's sources repeated, and zeros.
func BenchmarkDecode(b *testing.B) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		b.Fatal(err)
	}
	var source []byte
	for _, name := range names {
		p, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		source = append(source, p...)
	}
	for name, plain := range map[string][]byte{"source": source, "zeros": make([]byte, 1<<20)} {
		b.Run(name, func(b *testing.B) {
			stream := adcenc.Encode(plain)
			src := bytes.NewReader(nil)
			var z Reader
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(stream)
				z.Reset(src)
				if err := drain(&z); err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
}

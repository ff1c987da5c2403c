package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	other "github.com/mikelolasagasti/xz"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/readat"
)

// mixed is text, noise, runs and repeats from far back.
func mixed(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	var b []byte
	for len(b) < n {
		switch r.IntN(5) {
		case 0:
			for range r.IntN(3000) {
				b = append(b, "etaoin shrdlu,.\n"[min(15, int(r.ExpFloat64()*4))])
			}
		case 1:
			for range r.IntN(1000) {
				b = append(b, byte(r.Uint32()))
			}
		case 2:
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(3))}, r.IntN(3000))...)
		case 3: // numbers, which position bits are for
			for i := range r.IntN(500) {
				b = append(b, byte(i), byte(i>>8), 0, byte(r.IntN(4)))
			}
		case 4:
			if len(b) > 0 {
				p := b[r.IntN(len(b)):]
				b = append(b, p[:min(len(p), r.IntN(3000))]...)
			}
		}
	}
	return b[:n]
}

// file is an .xz file and what it decodes to.
type file struct {
	name   string
	raw    []byte
	want   []byte
	window int64
}

// encode compresses with a writer in Go.
func encode(t testing.TB, p []byte, c xz.WriterConfig) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := c.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(p)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// streams are of every kind of property, check and block that the writers here
// make: one in Go, and XZ Utils where that is installed.
func streams(t testing.TB) []file {
	size := 400_000
	if dmgtest.Part() {
		size = 100_000
	}
	p := mixed(1, size)
	noise := make([]byte, 150_000)
	rand.NewChaCha8([32]byte{}).Read(noise)
	all := []file{
		{"empty", encode(t, nil, xz.WriterConfig{}), nil, 4 << 10},
		{"one byte", encode(t, p[:1], xz.WriterConfig{}), p[:1], 4 << 10},
		{"noise", encode(t, noise, xz.WriterConfig{DictCap: 1 << 16}), noise, 1 << 16},
		{"small dictionary", encode(t, p, xz.WriterConfig{DictCap: 4 << 10}), p, 4 << 10},
		{"blocks", encode(t, p, xz.WriterConfig{DictCap: 1 << 16, BlockSize: 10_007, CheckSum: xz.SHA256}), p, 1 << 16},
	}
	for _, check := range []byte{xz.CRC32, xz.CRC64, xz.SHA256} {
		all = append(all, file{fmt.Sprint("check ", check), encode(t, p, xz.WriterConfig{DictCap: 1 << 20, CheckSum: check}), p, 1 << 20})
	}
	for _, q := range []string{"0,0,0", "3,0,2", "4,0,0", "0,4,4", "2,2,1", "1,3,3"} {
		var lc, lp, pb int
		fmt.Sscanf(q, "%d,%d,%d", &lc, &lp, &pb)
		all = append(all, file{"properties " + q, encode(t, p, xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true, Properties: &lzma.Properties{LC: lc, LP: lp, PB: pb}}), p, 1 << 20})
	}
	if _, err := exec.LookPath("xz"); err != nil {
		return all
	}
	for _, args := range []string{
		"--check=none --lzma2=preset=6,dict=1MiB", "-0", "-9e", "--check=sha256 --lzma2=preset=1,lc=0,lp=2,pb=3,dict=4KiB",
		"--block-size=30000", "--block-size=30000 -T2", "--lzma2=preset=6,mode=fast,mf=hc3,nice=5,dict=64KiB",
	} {
		cmd := exec.Command("xz", append(strings.Fields(args), "-c", "-k")...)
		cmd.Stdin = bytes.NewReader(p)
		raw, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, file{"xz " + args, raw, p, int64(len(p))})
	}
	return all
}

// newReader returns a Reader with that window.
func newReader(window int64) *Reader { return NewReader(Memory(window)) }

// decodeAll decodes what is left, max bytes a call.
func decodeAll(z *Reader, max int) ([]byte, error) {
	var out []byte
	for {
		p, err := z.Decode(max)
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
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			z := newReader(s.window)
			for i, max := range []int{0, 1, 100, 4096, 1 << 30} {
				var r io.Reader = bytes.NewReader(append(bytes.Clone(s.raw), "garbage"...))
				if i%2 == 1 {
					r = iotest.HalfReader(r)
				}
				z.Reset(r)
				got, err := decodeAll(z, max)
				if err != nil || !bytes.Equal(got, s.want) {
					t.Fatalf("max %d: %d bytes of %d, %v", max, len(got), len(s.want), err)
				}
				if _, err := z.Decode(0); err != io.EOF {
					t.Errorf("after the end: %v", err)
				}
			}
			if got := Dictionary(s.raw); len(s.want) > 0 && (got < 4<<10 || got > 64<<20) {
				t.Errorf("a dictionary of %d bytes", got)
			}
		})
	}
}

// TestWindow decodes with windows that are shorter than the matches.
func TestWindow(t *testing.T) {
	p := append(mixed(1, 500_000), mixed(1, 500_000)...)
	raw := encode(t, p, xz.WriterConfig{DictCap: 1 << 20})
	z := newReader(100 << 10)
	z.Reset(bytes.NewReader(raw))
	got, err := decodeAll(z, 0)
	if windowOf(err) != 1<<20 || !bytes.HasPrefix(p, got) {
		t.Errorf("%d bytes, %v; want ErrWindow", len(got), err)
	}
	// As long as what is read is enough, whatever the dictionary.
	z = newReader(600 << 10)
	z.Reset(bytes.NewReader(raw))
	if got, err := decodeAll(z, 10_000); err != nil || !bytes.Equal(got, p) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestDamage flips every bit of a small stream: each is noticed, because all that
// is no data has a checksum or is known, and the data has a check.
func TestDamage(t *testing.T) {
	p := mixed(2, 3000)
	raw := encode(t, p, xz.WriterConfig{DictCap: 4 << 10, BlockSize: 2000, CheckSum: xz.CRC32})
	z := newReader(4 << 10)
	step := 1
	if dmgtest.Part() {
		step = 13
	}
	// Properties may not matter.
	unnoticed := map[int]bool{}
	for i := 0; i < len(raw)*8; i += step {
		bent := bytes.Clone(raw)
		bent[i/8] ^= 1 << (i % 8)
		z.Reset(bytes.NewReader(bent))
		got, err := decodeAll(z, 0)
		if err == nil {
			if !bytes.Equal(got, p) {
				t.Fatalf("bit %d: wrong bytes", i)
			}
			unnoticed[i/8] = true
		}
		var corrupt *CorruptError
		if err != nil && !errors.As(err, &corrupt) && !errors.Is(err, ErrCheck) && !errors.Is(err, ErrFilter) && err != io.ErrUnexpectedEOF {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	if len(unnoticed) > 4 {
		t.Errorf("flips in bytes %v of %d go unnoticed", unnoticed, len(raw))
	}
}

func TestTruncated(t *testing.T) {
	p := mixed(3, 20_000)
	raw := encode(t, p, xz.WriterConfig{DictCap: 1 << 16, BlockSize: 9000})
	z := newReader(1 << 16)
	for n := 0; n < len(raw); n += 1 + n/500 {
		z.Reset(bytes.NewReader(raw[:n]))
		got, err := decodeAll(z, 0)
		if err != io.ErrUnexpectedEOF || !bytes.HasPrefix(p, got) {
			t.Fatalf("%d bytes of %d: %v", n, len(raw), err)
		}
		if n > len(raw)/2 && len(got) < len(p)/4 {
			t.Fatalf("%d bytes of %d: only %d", n, len(raw), len(got))
		}
	}
}

// TestSourceErrors passes a source's error on, behind the bytes before it.
func TestSourceErrors(t *testing.T) {
	p := mixed(4, 200_000)
	raw := encode(t, p, xz.WriterConfig{DictCap: 1 << 16})
	z := newReader(1 << 16)
	broken := errors.New("broken")
	for _, n := range []int{0, 5, 20, 1000, len(raw) / 2, len(raw) - 3} {
		z.Reset(io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(broken)))
		if got, err := decodeAll(z, 0); err != broken || !bytes.HasPrefix(p, got) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	z.Reset(iotest.ErrReader(nil))
	if _, err := z.Decode(0); err != io.ErrNoProgress {
		t.Errorf("a source of nothing: %v", err)
	}
	z.Reset(lying{})
	if _, err := z.Decode(0); err != readat.ErrCount {
		t.Errorf("a source that lies: %v", err)
	}
	z.Reset(nil)
	if _, err := z.Decode(0); err != io.ErrUnexpectedEOF {
		t.Errorf("no source: %v", err)
	}
}

type lying struct{}

func (lying) Read(p []byte) (int, error) { return len(p) + 1, nil }

// lzma2 puts chunks into a stream of one block, without the checks of their data.
func lzma2(chunks ...string) []byte {
	w := &container{}
	w.block([]byte{0x21, 1, 22}, []byte(strings.Join(chunks, "")+"\x00"), nil)
	return w.end()
}

// TestChunks reads LZMA2 chunks in and out of place.
func TestChunks(t *testing.T) {
	zero := "\xE0\x00\x01\x00\x06\x5D\x00\x00\x00\x00\x00\x00\x00" // two bytes, of zeros only
	for _, tt := range []struct {
		name   string
		chunks []string
		want   string
		err    bool
	}{
		{"nothing", nil, "", false},
		{"stored", []string{"\x01\x00\x02abc"}, "abc", false},
		{"stored twice", []string{"\x01\x00\x02abc", "\x02\x00\x00d", "\x01\x00\x00e"}, "abcde", false},
		{"stored without a dictionary", []string{"\x02\x00\x02abc"}, "", true},
		{"a control byte that is none", []string{"\x01\x00\x00a", "\x03\x00\x00a"}, "", true},
		{"literals", []string{zero}, "\x00\x00", false},
		{"LZMA without a dictionary", []string{"\xC0" + zero[1:]}, "", true},
		{"LZMA after stored bytes", []string{"\x01\x00\x00a", zero}, "a\x00\x00", false},
		{"LZMA without properties", []string{"\x01\x00\x00a", "\xA0" + zero[1:5] + zero[6:]}, "", true},
		{"LZMA without a reset", []string{"\x01\x00\x00a", "\x80" + zero[1:5] + zero[6:]}, "", true},
		{"LZMA with a new state", []string{zero, "\xA0" + zero[1:5] + zero[6:]}, "\x00\x00\x00\x00", false},
		{"LZMA with new properties", []string{zero, "\xC0" + zero[1:]}, "\x00\x00\x00\x00", false},
		{"properties of five literal bits", []string{zero[:5] + "\x05" + zero[6:]}, "", true},
		{"properties that are none", []string{zero[:5] + "\xE1" + zero[6:]}, "", true},
		{"less data than a range code has", []string{"\xE0\x00\x00\x00\x03\x5D\x00\x00\x00\x00"}, "", true},
		{"more data than used", []string{"\xE0\x00\x01\x00\x07\x5D\x00\x00\x00\x00\x00\x00\x00\x00"}, "", true},
		{"less data than used", []string{"\xE0\x03\xFF\x00\x06\x5D\x00\x00\x00\x00\x00\x00\x00"}, "", true},
		{"data that does not begin with zero", []string{zero[:6] + "\x01" + zero[7:]}, "", true},
		{"data that does not begin with zero, later", []string{zero, "\x80" + zero[1:5] + "\xFF" + zero[7:]}, "", true},
		{"a match before the dictionary", []string{"\xE0\x00\x01\x00\x05\x5D\x00\xFF\xFF\xFF\xFF\x00"}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := newReader(1 << 16)
			z.Reset(bytes.NewReader(lzma2(tt.chunks...)))
			got, err := decodeAll(z, 0)
			if (err != nil) != tt.err || err == nil && string(got) != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
			if saysNotZero(err) && oldTool() {
				t.Skip("XZ Utils of before 5.4 skip a range code's first byte")
			}
			agree(t, lzma2(tt.chunks...), tt.want, !tt.err)
		})
	}
}

// TestShortChunk decodes chunks that say to have less data than they need. No symbol
// is made of the bytes behind.
func TestShortChunk(t *testing.T) {
	want := mixed(9, 3000)
	raw := encode(t, want, xz.WriterConfig{DictCap: 4 << 10, NoCheckSum: true})
	at := streamHeaderLen + 4*int(raw[streamHeaderLen]) + 4 // of the first chunk's header
	size := int(binary.BigEndian.Uint16(raw[at+3:])) + 1
	z := newReader(4 << 10)
	for n := rangeCodeLen; n < size; n++ {
		bent := bytes.Clone(raw)
		binary.BigEndian.PutUint16(bent[at+3:], uint16(n-1))
		for i := at + 6 + n; i < len(bent); i++ {
			bent[i] = ^bent[i]
		}
		for _, max := range []int{0, 1, 50} {
			z.Reset(bytes.NewReader(bent))
			got, err := decodeAll(z, max)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !bytes.HasPrefix(want, got) {
				t.Fatalf("%d of %d bytes, max %d: %d bytes, %v", n, size, max, len(got), err)
			}
		}
	}
}

// saysNotZero reports whether an error is that of a range code's first byte.
func saysNotZero(err error) bool {
	var corrupt *CorruptError
	return errors.As(err, &corrupt) && corrupt.Msg == notZero
}

// oldTool reports whether XZ Utils are installed, but not of 5.4 or later.
func oldTool() bool {
	out, _ := exec.Command("xz", "--version").Output()
	return bytes.Contains(out, []byte(" 5.0.")) || bytes.Contains(out, []byte(" 5.2."))
}

// agree has XZ Utils, where they are installed, decode a file too.
func agree(t *testing.T, raw []byte, want string, good bool) {
	t.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		return
	}
	cmd := exec.Command("xz", "-dcqq")
	cmd.Stdin = bytes.NewReader(raw)
	got, err := cmd.Output()
	if (err == nil) != good || good && string(got) != want {
		t.Errorf("xz: %q, %v; want %q", got, err, want)
	}
}

// decodeStreams decodes the streams that are left, max bytes a call.
func decodeStreams(z *Reader, max int) (out []byte, err error) {
	for err == nil {
		var p []byte
		p, err = decodeAll(z, max)
		if out = append(out, p...); err == nil {
			err = z.Next()
		}
	}
	return out, err
}

// TestNext reads streams that follow one another, and what else follows a stream.
// XZ Utils take no garbage behind one.
func TestNext(t *testing.T) {
	abc := lzma2("\x01\x00\x02abc")
	zeros := lzma2("\xE0\x00\x01\x00\x06\x5D\x00\x00\x00\x00\x00\x00\x00")
	far := lzma2("\xE0\x00\x01\x00\x05\x5D\x00\xFF\xFF\xFF\xFF\x00")
	noReset := lzma2("\x02\x00\x02abc")
	empty := new(container).end()
	bent := bytes.Clone(abc)
	bent[len(bent)-6] ^= 1 // the size of the index, in the footer
	long := mixed(8, 100_000)
	big := encode(t, long, xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.SHA256, BlockSize: 30_000})
	big2 := encode(t, long, xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC32})
	padding := func(n int) []byte { return make([]byte, n) }
	for _, tt := range []struct {
		name  string
		parts [][]byte
		want  string
		err   error // nil: corrupt
		bad   bool  // as XZ Utils see it
	}{
		{"one", [][]byte{abc}, "abc", io.EOF, false},
		{"two", [][]byte{abc, zeros}, "abc\x00\x00", io.EOF, false},
		{"padding", [][]byte{abc, padding(4), abc, padding(12), zeros, padding(8)}, "abcabc\x00\x00", io.EOF, false},
		{"long padding", [][]byte{abc, padding(400_004), abc}, "abcabc", io.EOF, false},
		{"streams of nothing", [][]byte{empty, empty, padding(4), empty, abc, empty}, "abc", io.EOF, false},
		{"other checks", [][]byte{big, padding(4), big2, abc, big}, string(long) + string(long) + "abc" + string(long), io.EOF, false},
		{"three bytes of padding", [][]byte{abc, padding(3), abc}, "abc", io.EOF, true},
		{"five bytes of padding", [][]byte{abc, padding(5), abc}, "abc", io.EOF, true},
		{"padding that is cut off", [][]byte{abc, padding(7)}, "abc", io.EOF, true},
		{"garbage", [][]byte{abc, []byte("garbage")}, "abc", io.EOF, true},
		{"garbage behind padding", [][]byte{abc, padding(8), []byte("garbage"), abc}, "abc", io.EOF, true},
		{"a stream that is cut off", [][]byte{abc, padding(4), abc[:11]}, "abc", io.ErrUnexpectedEOF, true},
		{"less than a stream's magic", [][]byte{abc, abc[:5]}, "abc", io.EOF, true},
		{"another format's magic", [][]byte{abc, []byte("BZh91AY&SY")}, "abc", io.EOF, true},
		{"a stream that is damaged", [][]byte{abc, bent, abc}, "abcabc", nil, true},
		{"a header that is damaged", [][]byte{abc, abc[:6], []byte("\x00\x01garbage")}, "abc", nil, true},
		{"a match from the stream before", [][]byte{abc, far}, "abc", nil, true},
		{"a dictionary from the stream before", [][]byte{abc, noReset}, "abc", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := bytes.Join(tt.parts, nil)
			z := newReader(4 << 10)
			for i, max := range []int{0, 1, 4096} {
				var r io.Reader = bytes.NewReader(raw)
				if i == 1 {
					r = iotest.HalfReader(r)
				}
				z.Reset(r)
				got, err := decodeStreams(z, max)
				var corrupt *CorruptError
				if tt.err != nil && err != tt.err || tt.err == nil && !errors.As(err, &corrupt) {
					t.Errorf("max %d: %v; want %v", max, err, tt.err)
				}
				if string(got) != tt.want {
					t.Errorf("max %d: %d bytes; want %d", max, len(got), len(tt.want))
				}
				if again := z.Next(); again != err {
					t.Errorf("max %d: after %v: %v", max, err, again)
				}
			}
			agree(t, raw, tt.want, !tt.bad)
		})
	}

	// A source's error in the padding is no end.
	broken := errors.New("broken")
	z := newReader(4 << 10)
	for n := range 8 {
		z.Reset(io.MultiReader(bytes.NewReader(abc), bytes.NewReader(make([]byte, n)), iotest.ErrReader(broken)))
		if got, err := decodeStreams(z, 0); err != broken || string(got) != "abc" {
			t.Errorf("an error behind %d bytes of padding: %q, %v", n, got, err)
		}
	}
	// Nor can it be skipped to from within a stream.
	z.Reset(bytes.NewReader(abc))
	if p, err := z.Decode(1); err != nil || string(p) != "a" || z.Next() != nil {
		t.Errorf("%q, %v", p, err)
	}
	if got, err := decodeStreams(z, 0); err != io.EOF || string(got) != "bc" {
		t.Errorf("Next within a stream: %q, %v", got, err)
	}
}

// TestContainer reads what is around the blocks, bent and with right checksums.
func TestContainer(t *testing.T) {
	abc := []byte("\x01\x00\x02abc\x00")
	props := []byte{0x21, 1, 22}
	for _, tt := range []struct {
		name string
		make func(w *container)
		err  error // nil: corrupt
		good bool
	}{
		{"plain", func(w *container) { w.block(props, abc, nil) }, nil, true},
		{"both sizes", func(w *container) { w.blockOf(0xC0, append([]byte{7, 3}, props...), abc, nil) }, nil, true},
		{"wrong stored size", func(w *container) { w.blockOf(0xC0, append([]byte{6, 3}, props...), abc, nil) }, nil, false},
		{"wrong size", func(w *container) { w.blockOf(0xC0, append([]byte{7, 4}, props...), abc, nil) }, nil, false},
		{"reserved flags", func(w *container) { w.blockOf(0x04, props, abc, nil) }, nil, false},
		{"a dictionary that is none", func(w *container) { w.block([]byte{0x21, 1, 41}, abc, nil) }, nil, false},
		{"two properties", func(w *container) { w.block([]byte{0x21, 2, 22, 22}, abc, nil) }, nil, false},
		{"delta", func(w *container) { w.blockOf(1, []byte{0x03, 1, 0, 0x21, 1, 22}, abc, nil) }, ErrFilter, false},
		{"another filter", func(w *container) { w.block([]byte{0x04, 0}, abc, nil) }, ErrFilter, false},
		{"a long number", func(w *container) { w.block([]byte{0xA1, 0x00, 1, 22}, abc, nil) }, nil, false},
		{"a header that ends early", func(w *container) { w.block([]byte{0x21, 200, 22}, abc, nil) }, nil, false},
		{"something in the padding of a header", func(w *container) { w.block([]byte{0x21, 1, 22, 0, 1}, abc, nil) }, nil, false},
		{"wrong check", func(w *container) { w.check = checkCRC32; w.block(props, abc, []byte("sum!")) }, ErrCheck, false},
		{"a check that nobody knows", func(w *container) { w.check = 2; w.block(props, abc, []byte("sum!")) }, nil, true},
		{"a block too many in the index", func(w *container) { w.block(props, abc, nil); w.records = append(w.records, 1, 1) }, nil, false},
		{"a block too few in the index", func(w *container) { w.block(props, abc, nil); w.records = nil }, nil, false},
		{"other sizes in the index", func(w *container) { w.block(props, abc, nil); w.records[1]++ }, nil, false},
		{"no block", func(w *container) {}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &container{}
			tt.make(w)
			z := newReader(1 << 16)
			z.Reset(bytes.NewReader(w.end()))
			_, err := decodeAll(z, 0)
			var corrupt *CorruptError
			switch {
			case tt.good && err != nil, !tt.good && err == nil:
				t.Errorf("%v", err)
			case err != nil && tt.err != nil && !errors.Is(err, tt.err), err != nil && tt.err == nil && !errors.As(err, &corrupt):
				t.Errorf("%v, want %v", err, tt.err)
			}
		})
	}
}

// TestNoOutput reads ten megabytes of blocks and of chunks that hold nothing.
func TestNoOutput(t *testing.T) {
	n := 500_000
	if dmgtest.Part() {
		n /= 20
	}
	w := &container{}
	for range n {
		w.block([]byte{0x21, 1, 22}, []byte{0}, nil)
	}
	z := newReader(4 << 10)
	z.Reset(bytes.NewReader(w.end()))
	if got, err := decodeAll(z, 0); err != nil || len(got) > 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestDictionary(t *testing.T) {
	raw := encode(t, []byte("abc"), xz.WriterConfig{DictCap: 1 << 20})
	for n := range raw {
		if got := Dictionary(raw[:n]); got != 0 && got != 1<<20 {
			t.Errorf("%d bytes: %d", n, got)
		}
	}
	for _, tt := range []struct {
		name string
		head string
		want int64
	}{
		{"empty", "", 0},
		{"no filter", "\x02\x00", 0},
		{"LZMA2", "\x02\x00\x21\x01\x16\x00\x00\x00", 8 << 20},
		{"both sizes", "\x04\xC0\x80\x01\x7F\x21\x01\x16\x00\x00", 8 << 20},
		{"another filter before", "\x04\x01\x03\x01\x00\x21\x01\x17\x00", 0},
		{"properties that go on and on", "\x04\x00\x21\xFF\xFF\xFF\xFF\x7F\x21\x01\x17\x00", 0},
		{"a number without an end", strings.Repeat("\xFF", 64), 0},
		{"two properties", "\x02\x00\x21\x02\x16\x16", 0},
	} {
		if got := Dictionary([]byte(headerMagic + "\x00\x00sum!" + tt.head)); got != tt.want {
			t.Errorf("%s: a dictionary of %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := dictionary(40); got != 1<<32-1 {
		t.Errorf("the largest is %d", got)
	}
	if got := dictionary(39); got != 3<<30 {
		t.Errorf("the second largest is %d", got)
	}
}

func TestMemory(t *testing.T) {
	for _, window := range []int64{1, 4096, 1 << 20, 1<<20 + 8, 3 << 20, 1<<30 + 1} {
		room := Memory(window) - fixed
		if got := min(room/9*8+room%9*8/9, room-least); got < window || got > window+8 {
			t.Errorf("a window of %d: %d", window, got)
		}
	}
	z := newReader(1 << 20)
	if n := int64(reflect.TypeFor[Reader]().Size()) + int64(len(z.dst.Buf)); n > Memory(1<<20) || n < Memory(1<<20)*9/10 {
		t.Errorf("a Reader has %d bytes, Memory says %d", n, Memory(1<<20))
	}
	s := encode(t, mixed(5, 300_000), xz.WriterConfig{DictCap: 1 << 20})
	r := bytes.NewReader(nil)
	if n := testing.AllocsPerRun(5, func() {
		r.Reset(s)
		z.Reset(r)
		for {
			if _, err := z.Decode(0); err != nil {
				return
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzXZ: the same bytes as another decoder where both have them, and none that
// that one refuses.
func FuzzXZ(f *testing.F) {
	for i, p := range [][]byte{nil, mixed(6, 300), mixed(7, 5000)} {
		f.Add(encode(f, p, xz.WriterConfig{DictCap: 4 << 10, CheckSum: []byte{xz.CRC32, xz.CRC64, xz.SHA256}[i], BlockSize: 3000}), uint16(i*100))
		f.Add(encode(f, p, xz.WriterConfig{DictCap: 4 << 10, NoCheckSum: true}), uint16(i*100))
	}
	abc := lzma2("\x01\x00\x02abc", "\xE0\x00\x01\x00\x05\x5D\x00\x00\x00\x00\x00\x00")
	f.Add(abc, uint16(1))
	f.Add(slices.Concat(abc, make([]byte, 8), abc, abc), uint16(5))
	z := newReader(fuzzWindow)
	f.Fuzz(func(t *testing.T, raw []byte, max uint16) {
		seal(raw)
		z.Reset(bytes.NewReader(raw))
		for range 10 { // streams
			from := z.in.offset()
			got, err := decodeSome(z, int(max), 1<<20)
			if err != io.EOF {
				compare(t, raw[from:], got, err)
				return
			}
			// The other takes what is behind for bad padding.
			compare(t, raw[from:z.in.offset()], got, err)
			if z.Next() != nil {
				return
			}
		}
	})
}

// fuzzWindow is the window of the decoders that are compared.
const fuzzWindow = 64 << 10

// decodeSome decodes until there are at least enough bytes, or an error.
func decodeSome(z *Reader, max, enough int) (got []byte, err error) {
	for len(got) < enough && err == nil {
		var p []byte
		p, err = z.Decode(max)
		got = append(got, p...)
	}
	return got, err
}

// compare has another decoder read a stream of which a Reader gave these bytes and
// then the error, nil if it was not asked further.
func compare(t *testing.T, raw, got []byte, err error) {
	t.Helper()
	o, oerr := other.NewReader(bytes.NewReader(raw), fuzzWindow)
	var want []byte
	if oerr == nil {
		o.Multistream(false)
		want = make([]byte, len(got)+1)
		var n int
		n, oerr = io.ReadFull(o, want)
		want = want[:n]
	}
	if !bytes.HasPrefix(want, got) && !bytes.HasPrefix(got, want) {
		t.Fatal("the bytes differ")
	}
	if err == io.EOF && oerr != io.EOF && oerr != io.ErrUnexpectedEOF && oerr != other.ErrMemlimit && oerr != other.ErrUnsupportedCheck {
		t.Fatalf("accepted, where the other says: %v", oerr)
	}
	// The other skips the byte that a range code begins with, whatever it is.
	if saysNotZero(err) {
		return
	}
	// Where the input ends, the other takes it to the last byte.
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF && oerr == nil && len(want) > len(got) && !errors.Is(err, ErrFilter) && !errors.Is(err, ErrWindow) {
		t.Fatalf("%v, where the other goes on", err)
	}
}

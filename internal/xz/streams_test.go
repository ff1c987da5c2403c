package xz

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/ulikunitz/xz"
)

// noise is n bytes that have no matches.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

// all decodes a file to the end, max bytes a call.
func all(s *Streams, max int) (out []byte, err error) {
	for {
		p, err := s.Decode(max)
		if err != nil {
			return out, err
		}
		out = append(out, p...)
	}
}

// TestStreams reads files of several streams as one. TestNext has all kinds of what
// may follow a stream.
func TestStreams(t *testing.T) {
	p := mixed(11, 90_000)
	a := encode(t, p[:40_000], xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC32})
	b := encode(t, p[40_000:], xz.WriterConfig{DictCap: 4 << 10, NoCheckSum: true, BlockSize: 20_000})
	none := encode(t, nil, xz.WriterConfig{DictCap: 4 << 10})
	bent := bytes.Clone(a)
	bent[len(a)-5] ^= 1 // the footer's flags
	padding := make([]byte, 8)
	for _, tt := range []struct {
		name  string
		parts [][]byte
		want  int   // bytes of p
		err   error // nil: corrupt
	}{
		{"one", [][]byte{a}, 40_000, io.EOF},
		{"two", [][]byte{a, b}, 90_000, io.EOF},
		{"padding", [][]byte{a, padding, b, padding}, 90_000, io.EOF},
		{"streams of nothing", [][]byte{none, a, none, padding, none, b, none}, 90_000, io.EOF},
		{"garbage behind", [][]byte{a, b, []byte("garbage")}, 90_000, io.EOF},
		{"garbage between", [][]byte{a, []byte("garbage!"), b}, 40_000, io.EOF},
		{"a damaged stream before", [][]byte{bent, b}, 40_000, nil},
		{"half a stream", [][]byte{a, padding, b[:20]}, 40_000, io.ErrUnexpectedEOF},
		{"nothing", nil, 0, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := bytes.Join(tt.parts, nil)
			s := NewStreams(Memory(4 << 10))
			for i, max := range []int{0, 1, 5000} {
				var r io.Reader = bytes.NewReader(raw)
				if i == 1 {
					r = iotest.OneByteReader(r)
				}
				s.Reset(r)
				got, err := all(s, max)
				var corrupt *CorruptError
				if tt.err != nil && err != tt.err || tt.err == nil && !errors.As(err, &corrupt) || !bytes.Equal(got, p[:tt.want]) {
					t.Errorf("max %d: %d bytes, %v; want %d, %v", max, len(got), err, tt.want, tt.err)
				}
			}
		})
	}
	s := NewStreams(Memory(4 << 10))
	s.Reset(nil)
	if _, err := s.Decode(0); err != io.ErrUnexpectedEOF {
		t.Errorf("no source: %v", err)
	}
	s.Reset(lying{})
	if _, err := s.Decode(0); err == nil || err == io.EOF {
		t.Errorf("a source that lies: %v", err)
	}
}

// counting counts the bytes that are read of it.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestFinish goes to the end of the stream of which a caller needs no more.
func TestFinish(t *testing.T) {
	const max = 64 << 10
	p := mixed(12, 300_000)
	config := xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC32}
	raw := encode(t, p[:50_000], config)
	check, footer := bytes.Clone(raw), bytes.Clone(raw)
	index := 4 * (1 + int(raw[len(raw)-8]) + int(raw[len(raw)-7])<<8)
	check[len(raw)-footerLen-index-1] ^= 1
	footer[len(raw)-1] ^= 1
	far := encode(t, slices.Concat(noise(50_000), noise(50_000)), xz.WriterConfig{DictCap: 1 << 20})
	broken := errors.New("broken")
	for _, tt := range []struct {
		name   string
		raw    []byte
		broken bool // the source fails behind raw
		need   int  // bytes of output
		err    error
		bad    bool // any error
	}{
		{"the end", raw, false, 50_000, nil, false},
		{"within the last block", raw, false, 49_000, nil, false},
		{"a wrong check", check, false, 50_000, ErrCheck, true},
		{"a wrong check, further on", check, false, 40_000, ErrCheck, true},
		{"a wrong footer", footer, false, 50_000, nil, true},
		{"cut", raw[:len(raw)-1], false, 50_000, io.ErrUnexpectedEOF, true},
		{"the source fails", raw[:len(raw)-1], true, 50_000, broken, true},
		{"the source fails behind", raw, true, 50_000, nil, false},
		{"another stream behind", append(bytes.Clone(raw), footer...), false, 50_000, nil, false},
		{"garbage behind", append(bytes.Clone(raw), "garbage"...), false, 50_000, nil, false},
		{"a wrong check too far on", encode(t, p, config)[:40_000], false, 1, ErrLong, true},
		{"a match that needs a longer window", far, false, 50_000, ErrWindow, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r io.Reader = bytes.NewReader(tt.raw)
			if tt.broken {
				r = io.MultiReader(r, iotest.ErrReader(broken))
			}
			c := &counting{r: r}
			s := NewStreams(Memory(4 << 10))
			s.Reset(c)
			for got := 0; got < tt.need; {
				b, err := s.Decode(tt.need - got)
				if err != nil {
					t.Fatal(err)
				}
				got += len(b)
			}
			from := c.n
			err := s.Finish(max)
			if (err != nil) != tt.bad || !errors.Is(err, tt.err) && tt.err != nil {
				t.Errorf("%v, want %v", err, tt.err)
			}
			if c.n-from > max {
				t.Errorf("%d bytes were read", c.n-from)
			}
		})
	}
	// However long the stream is, and whether it has output or not.
	long := &container{}
	for range 50_000 {
		long.block([]byte{0x21, 1, 22}, []byte{0}, nil)
	}
	zeros := encode(t, make([]byte, 10<<20), config)
	for name, raw := range map[string][]byte{"blocks of nothing": long.end(), "zeros": zeros} {
		c := &counting{r: bytes.NewReader(raw)}
		s := NewStreams(Memory(4 << 10))
		s.Reset(c)
		if err := s.Finish(max); err != ErrLong || c.n > max {
			t.Errorf("%s: %v, %d bytes were read", name, err, c.n)
		}
		if out := s.z.block.produced; out > max+2*MaxDecode {
			t.Errorf("%s: %d bytes were decoded", name, out)
		}
	}
}

// Package codectest tests what all codecs promise alike.
package codectest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/go-dmg/dmg/internal/adc"
	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/xz"
)

// decode decodes a stream to its end, max bytes a call: what it returns has no
// error if the stream and what checks it are whole.
type decode func(r io.Reader, max int) ([]byte, error)

// codecs are all of them. make returns a decoder whose buffers are used again by
// each of its calls, as the callers of the packages do.
var codecs = []struct {
	name   string
	method dmgtest.Method
	make   func() decode
	ends   func(stream []byte, n int) bool // whether a stream may end after n bytes
	parts  func(stream []byte) []int       // where parts of a stream begin
}{
	{"adc", dmgtest.ADC, func() decode { return forward(new(adc.Reader)) }, adcEnds, nil},
	{"lzfse", dmgtest.LZFSE, func() decode { return forward(new(lzfse.Reader)) }, nil, lzfseBlocks},
	{"xz", dmgtest.LZMA, func() decode { return forward(xz.NewReader(xz.Memory(1 << 20))) }, nil, xzChunks},
	{"bzip2", dmgtest.Bzip2, bzip2Decoder, nil, bzip2Blocks},
	{"deflate", dmgtest.Zlib, zlibDecoder, nil, nil},
}

// forward decodes with a type that has the methods of most.
func forward(z interface {
	Reset(io.Reader)
	Decode(max int) ([]byte, error)
}) decode {
	return func(r io.Reader, max int) ([]byte, error) {
		z.Reset(r)
		return all(z.Decode, max)
	}
}

// all calls a Decode until it fails.
func all(next func(max int) ([]byte, error), max int) (out []byte, err error) {
	for {
		p, err := next(max)
		switch {
		case (len(p) > 0) == (err != nil):
			return out, fmt.Errorf("%d bytes and the error %v", len(p), err)
		case err == io.EOF:
			return out, nil
		case err != nil:
			return out, err
		}
		out = append(out, p...)
	}
}

func bzip2Decoder() decode {
	var s bzip2.Stream
	var b bzip2.Block
	return func(r io.Reader, max int) (out []byte, err error) {
		if max <= 0 {
			max = 64 << 10
		}
		p := make([]byte, max)
		s.Reset(r)
		for {
			if err := s.Next(&b); err == io.EOF {
				return out, nil
			} else if err != nil {
				return out, err
			}
			c := b.Start()
			for {
				n, err := b.Read(&c, p)
				out = append(out, p[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					return out, err
				}
			}
		}
	}
}

// zlibDecoder decodes a zlib stream: the deflate stream between its header, which
// the test knows to be two bytes, and its trailer.
func zlibDecoder() decode {
	var d deflate.Decoder
	return func(r io.Reader, max int) ([]byte, error) {
		var header [deflate.ZlibHeaderLen]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		d.Reset(r)
		out, err := all(d.Decode, max)
		if err != nil {
			return out, err
		}
		var trailer [deflate.ZlibTrailerLen]byte
		return out, d.Trailer(trailer[:])
	}
}

// adcEnds reports whether n bytes of an ADC stream are whole codes.
func adcEnds(stream []byte, n int) bool {
	for i := 0; i <= n; {
		switch {
		case i == n:
			return true
		case stream[i] >= 0x80:
			i += int(stream[i]&0x7F) + 2
		case stream[i] >= 0x40:
			i += 3
		default:
			i += 2
		}
	}
	return false
}

// lzfseBlocks finds blocks by their magic.
func lzfseBlocks(stream []byte) (all []int) {
	for i := range stream {
		if bytes.HasPrefix(stream[i:], []byte("bvx")) {
			all = append(all, i)
		}
	}
	return all
}

// bzip2Blocks finds blocks, and the stream's end, by their magic.
func bzip2Blocks(stream []byte) (all []int) {
	bit, _, ok := bzip2.FindBlock(stream, 0)
	for ; ok; bit, _, ok = bzip2.FindBlock(stream, bit+1) {
		all = append(all, bit/8)
	}
	return all
}

// xzChunks returns where the LZMA2 chunks of a stream's first block begin.
func xzChunks(stream []byte) (all []int) {
	const header = 12
	for i := header + 4*int(stream[header]) + 4; stream[i] != 0; {
		all = append(all, i)
		b := stream[i:]
		switch {
		case b[0] < 0x80:
			i += 3 + int(b[1])<<8 + int(b[2]) + 1
		case b[0] < 0xC0:
			i += 5 + int(b[3])<<8 + int(b[4]) + 1
		default:
			i += 6 + int(b[3])<<8 + int(b[4]) + 1
		}
	}
	return all
}

var errBroken = errors.New("the source is broken")

// cuts are the ways in which a source may end. Each returns a reader that gives
// all of p and then io.EOF or errBroken.
var cuts = []struct {
	name  string
	cause error
	make  func(p []byte) io.Reader
}{
	{"ends", io.EOF, func(p []byte) io.Reader { return &source{p: p, err: io.EOF} }},
	{"ends with its last bytes", io.EOF, func(p []byte) io.Reader { return &source{p: p, err: io.EOF, with: true} }},
	{"ends after single bytes", io.EOF, func(p []byte) io.Reader { return &source{p: p, err: io.EOF, single: true} }},
	{"fails", errBroken, func(p []byte) io.Reader { return &source{p: p, err: errBroken} }},
	{"fails with its last bytes", errBroken, func(p []byte) io.Reader { return &source{p: p, err: errBroken, with: true} }},
	{"fails after single bytes", errBroken, func(p []byte) io.Reader { return &source{p: p, err: errBroken, single: true} }},
	{"fails with a single byte", errBroken, func(p []byte) io.Reader { return &source{p: p, err: errBroken, single: true, with: true} }},
}

// source gives p and then err.
type source struct {
	p      []byte
	err    error
	with   bool // err comes with the last bytes
	single bool // one byte at a time
}

func (s *source) Read(p []byte) (int, error) {
	if s.single {
		p = p[:min(len(p), 1)]
	}
	n := copy(p, s.p)
	s.p = s.p[n:]
	if len(s.p) == 0 && (s.with || n == 0) {
		return n, s.err
	}
	return n, nil
}

// TestCut decodes streams that are cut off at any byte, by a source that ends there
// or fails. What comes before the error is the beginning of the right output, and
// as much for each kind of source. Before each, the decoder's buffers are filled
// by another stream: what lies in them behind the input's end must not show.
func TestCut(t *testing.T) {
	dmgtest.Long(t)
	contents := []struct {
		name string
		data []byte
	}{
		{"nothing", nil},
		{"a byte", []byte{7}},
		{"short text", dmgtest.Text(1, 300).Bytes()},
		{"text", dmgtest.Text(2, 4500).Bytes()}, // LZFSE's entropy coding
		{"noise", dmgtest.Random(3, 300).Bytes()},
		{"zeros", make([]byte, 100_000)},
		{"a run and a text", append(make([]byte, 700), dmgtest.Text(4, 100).Bytes()...)},
		{"large", dmgtest.Mixed(5, 120_000).Bytes()},
		{"large text", dmgtest.Text(6, 400_000).Bytes()}, // two LZMA2 chunks, the second one at the front of the buffer
		{"large noise", dmgtest.Random(7, 80_000).Bytes()},
	}
	for _, c := range codecs {
		poison, err := dmgtest.Compress(c.method, 0, dmgtest.Random(8, 3000).Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range contents {
			t.Run(c.name+"/"+content.name, func(t *testing.T) {
				stream, err := dmgtest.Compress(c.method, 1, content.data)
				if err != nil {
					t.Fatal(err)
				}
				decode := c.make()
				if got, err := decode(bytes.NewReader(stream), 0); err != nil || !bytes.Equal(got, content.data) {
					t.Fatalf("all of the stream: %d bytes, %v", len(got), err)
				}
				var parts []int
				if c.parts != nil {
					parts = c.parts(stream)
				}
				for _, n := range offsets(len(stream), parts) {
					length := -1
					for i, cut := range cuts {
						if len(stream) <= maxSmall {
							decode(bytes.NewReader(poison), 0)
						}
						max := 0
						if i%2 == 1 {
							max = 1 + len(content.data)/50
						}
						got, err := decode(cut.make(stream[:n]), max)
						want := cut.cause
						if want == io.EOF {
							want = io.ErrUnexpectedEOF
							if c.ends != nil && c.ends(stream, n) {
								want = nil
							}
						}
						if err != want {
							t.Errorf("a source that %s after %d of %d bytes: %v, want %v", cut.name, n, len(stream), err, want)
						}
						if !bytes.HasPrefix(content.data, got) {
							t.Fatalf("a source that %s after %d of %d bytes: %d wrong bytes", cut.name, n, len(stream), len(got))
						}
						if length >= 0 && len(got) != length {
							t.Errorf("a source that %s after %d of %d bytes: %d bytes, and %d from another", cut.name, n, len(stream), len(got), length)
						}
						length = len(got)
					}
				}
			})
		}
	}
}

// offsets are where a stream of n bytes is cut: everywhere if it is short, else
// near its ends, behind the beginning of its parts, and here and there.
func offsets(n int, parts []int) (all []int) {
	step, rare := 1, 30011
	if dmgtest.Part() {
		step, rare = 7, 50021
	}
	for i := 0; i < n; i += step {
		if n <= maxSmall || i < 20 || n-i < 20 {
			all = append(all, i)
		}
	}
	if n <= maxSmall {
		return all
	}
	for i := rare; i < n; i += rare {
		all = append(all, i)
	}
	for _, part := range parts {
		for i := part; i < min(part+50, n); i += 4 * step {
			all = append(all, i)
		}
	}
	return all
}

// maxSmall is the length of the longest stream that is cut everywhere.
const maxSmall = 2000

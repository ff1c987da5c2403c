package decmpfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/lzbitmap"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/readat"
)

// maxPacked is how many bytes a chunk in a fork is decoded from at most. None of the
// compressions makes a chunk longer by so much; what more the table gives it would
// follow the end of its data.
const maxPacked = 2 * chunkLen

// A Pool has decoders for the Files that are made with it, so that they need not
// each make their own: one takes up to a megabyte. The zero Pool is ready for use, by
// several goroutines at once.
type Pool struct {
	decoders sync.Pool
}

func (p *Pool) get() *decoder {
	if d, ok := p.decoders.Get().(*decoder); ok {
		return d
	}
	return new(decoder)
}

func (p *Pool) put(d *decoder) {
	d.in.Reset(nil)
	p.decoders.Put(d)
}

// A decoder decodes one chunk at a time.
type decoder struct {
	packed  []byte // what was fetched last
	in      bytes.Reader
	inflate *deflate.Decoder // made when it is first needed, as is the next
	lz      lzfse.Reader
}

// A chunk is a chunk as it is stored, and where it is decoded to.
type chunk struct {
	off  int64  // in the content
	want int    // the length to which it must decode
	src  []byte // as stored
	dst  []byte // as decoded, so far
}

func (c *chunk) damaged(format string, args ...any) error { return damaged(c.off, format, args...) }

// fetch reads what is stored of a chunk. It is valid until the next fetch.
func (d *decoder) fetch(f *File, e extent) ([]byte, error) {
	n := int(min(e.n, maxPacked))
	if n > cap(d.packed) {
		d.packed = make([]byte, min(maxPacked, n+n/8))
	}
	p := d.packed[:n]
	if f.seen(p, e.off) {
		return p, nil
	}
	if _, err := readat.Full(f.fork, p, e.off); err != nil {
		return nil, forkError(err, e.n, e.off)
	}
	return p, nil
}

// stored takes the content of type 1, which is not compressed.
func (d *decoder) stored(c *chunk) error {
	if len(c.src) != c.want {
		return c.damaged("%d bytes are stored of %d", len(c.src), c.want)
	}
	c.dst = append(c.dst, c.src...)
	return nil
}

// marked takes the content of type 9, which follows a byte 0xCC.
func (d *decoder) marked(c *chunk) error {
	if len(c.src) == 0 || c.src[0] != 0xCC {
		return c.damaged("no byte 0xCC before what is stored")
	}
	c.src = c.src[1:]
	return d.stored(c)
}

// mayBeMarked takes a chunk of type 10. There is no sample of one: it may have the
// byte or not.
func (d *decoder) mayBeMarked(c *chunk) error {
	if len(c.src) == c.want+1 {
		return d.marked(c)
	}
	return d.stored(c)
}

// behindMarker takes a chunk that is stored behind one byte, which says so, because
// it does not get shorter by compression.
func (d *decoder) behindMarker(c *chunk) error {
	if len(c.src)-1 < c.want {
		return c.damaged("%d bytes are stored of %d and a marker", len(c.src), c.want)
	}
	c.dst = append(c.dst, c.src[1:1+c.want]...)
	return nil
}

// zlib decodes a chunk of types 3 and 4: a zlib stream, or any byte whose low half
// is 15, which no zlib stream starts with, and the content.
func (d *decoder) zlib(c *chunk) error {
	if len(c.src) > 0 && c.src[0]&15 == 15 {
		return d.behindMarker(c)
	}
	if err := deflate.CheckZlibHeader(c.src); err != nil {
		return &Error{Class: ErrFormat, Offset: c.off, Msg: "zlib stream", Err: err}
	}
	if d.inflate == nil {
		d.inflate = new(deflate.Decoder)
	}
	d.in.Reset(c.src[deflate.ZlibHeaderLen:])
	d.inflate.Reset(&d.in)
	if err := c.all(d.inflate.Decode); err != nil {
		return err
	}
	var trailer [deflate.ZlibTrailerLen]byte
	if err := d.inflate.Trailer(trailer[:]); err != nil {
		return c.damaged("zlib stream ends before its checksum")
	}
	if want, sum := binary.BigEndian.Uint32(trailer[:]), deflate.Adler32(1, c.dst); sum != want {
		return &Error{Class: ErrChecksum, Offset: c.off, Msg: "Adler-32"}
	}
	return nil
}

// lzvn decodes a chunk of types 7 and 8: bare LZVN codes, or a byte 06, with which
// they would end, and the content.
func (d *decoder) lzvn(c *chunk) error {
	if len(c.src) > 0 && c.src[0] == 0x06 && c.want > 0 {
		return d.behindMarker(c)
	}
	d.in.Reset(c.src)
	d.lz.ResetLZVN(&d.in, int64(c.want))
	return c.all(d.lz.Decode)
}

// lzfse decodes a chunk of types 11 and 12: an LZFSE stream, or a byte with which
// none starts, and the content.
func (d *decoder) lzfse(c *chunk) error {
	if !bytes.HasPrefix(c.src, []byte("bvx")) {
		return d.behindMarker(c)
	}
	d.in.Reset(c.src)
	d.lz.Reset(&d.in)
	return c.all(d.lz.Decode)
}

// lzbitmap decodes a chunk of types 13 and 14: an LZBITMAP stream, or any byte whose low
// half is 15, and the content.
func (d *decoder) lzbitmap(c *chunk) error {
	if len(c.src) > 0 && c.src[0]&15 == 15 {
		return d.behindMarker(c)
	}
	c.dst = slices.Grow(c.dst, c.want)[:c.want]
	n, err := lzbitmap.Decode(c.dst, c.src)
	if err != nil {
		return &Error{Class: ErrFormat, Offset: c.off, Msg: "does not decode", Err: err}
	}
	if n < c.want {
		return c.damaged("decodes to %d bytes, not to %d", n, c.want)
	}
	return nil
}

// all takes a chunk from a decoder, to whose end it must lead. What is stored behind
// that end is ignored: macOS leaves bytes there.
func (c *chunk) all(decode func(max int) ([]byte, error)) error {
	for {
		p, err := decode(max(1, min(chunkLen, c.want-len(c.dst))))
		switch {
		case errors.Is(err, io.EOF) && len(c.dst) == c.want:
			return nil
		case errors.Is(err, io.EOF):
			return c.damaged("decodes to %d bytes, not to %d", len(c.dst), c.want)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return c.damaged("is cut off after %d of %d bytes", len(c.dst), c.want)
		case err != nil:
			return &Error{Class: ErrFormat, Offset: c.off, Msg: "does not decode", Err: err}
		case len(p) > c.want-len(c.dst):
			return c.damaged("decodes to more than %d bytes", c.want)
		}
		c.dst = append(c.dst, p...)
	}
}

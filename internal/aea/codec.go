package aea

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/lz4"
	"github.com/go-dmg/dmg/internal/lzbitmap"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/xz"
)

// Codecs, as the root header names them. A segment that is as long as its content is stored,
// whatever the codec is.
const (
	codecNone     = '-'
	codecLZ4      = '4'
	codecLZBITMAP = 'b'
	codecLZFSE    = 'e'
	codecLZVN     = 'f'
	codecXZ       = 'x'
	codecZlib     = 'z'
)

// codecMemory returns how many bytes a decoder takes for segments of so many.
func codecMemory(codec byte, segment int64) int64 {
	switch codec {
	case codecLZ4, codecLZBITMAP:
		return segment
	case codecLZFSE, codecLZVN:
		return lzfse.Memory
	case codecXZ:
		return xz.Memory(segment)
	case codecZlib:
		return deflate.Memory
	}
	return 0
}

// A decoder decodes one segment at a time. It takes its memory when it is first used.
type decoder struct {
	codec   byte
	segment int64

	in      bytes.Reader
	lz      lzfse.Reader
	inflate *deflate.Decoder
	xz      *xz.Streams
	out     []byte // of a codec that decodes whole segments
}

// A sink takes the bytes of a segment, in order.
type sink interface{ put(b []byte) }

// decode decodes src, a segment without encryption, which must give so many bytes. Its
// error says what is wrong with the segment, or is ErrUnsupported.
func (d *decoder) decode(src []byte, plain int64, to sink) error {
	if int64(len(src)) == plain {
		to.put(src)
		return nil
	}
	d.in.Reset(src)
	defer d.in.Reset(nil)
	switch d.codec {
	case codecNone:
		return fmt.Errorf("%d bytes are stored of %d", len(src), plain)
	case codecLZFSE, codecLZVN:
		if d.codec == codecLZVN && !bytes.HasPrefix(src, []byte("bvx")) {
			d.lz.ResetLZVN(&d.in, plain)
		} else {
			d.lz.Reset(&d.in)
		}
		return pump(d.lz.Decode, plain, to)
	case codecXZ:
		if d.xz == nil {
			d.xz = xz.NewStreams(xz.Memory(d.segment))
		}
		d.xz.Reset(&d.in)
		return pump(d.xz.Decode, plain, to)
	case codecZlib:
		return d.zlib(src, plain, to)
	case codecLZ4:
		return d.whole(lz4.Decode, src, plain, to)
	case codecLZBITMAP:
		return d.whole(lzbitmap.Decode, src, plain, to)
	}
	return fmt.Errorf("%w: codec %q", ErrUnsupported, d.codec)
}

// zlib decodes a zlib stream, and compares its checksum, or bare DEFLATE.
func (d *decoder) zlib(src []byte, plain int64, to sink) error {
	if d.inflate == nil {
		d.inflate = new(deflate.Decoder)
	}
	if deflate.CheckZlibHeader(src) != nil {
		d.inflate.Reset(&d.in)
		return pump(d.inflate.Decode, plain, to)
	}
	d.in.Reset(src[deflate.ZlibHeaderLen:])
	d.inflate.Reset(&d.in)
	s := adlerSink{to: to, sum: 1}
	if err := pump(d.inflate.Decode, plain, &s); err != nil {
		return err
	}
	var trailer [deflate.ZlibTrailerLen]byte
	if err := d.inflate.Trailer(trailer[:]); err != nil {
		return errors.New("its zlib stream ends before its checksum")
	}
	if binary.BigEndian.Uint32(trailer[:]) != s.sum {
		return errors.New("the checksum of its zlib stream does not match")
	}
	return nil
}

// adlerSink sums what it passes on.
type adlerSink struct {
	to  sink
	sum uint32
}

func (s *adlerSink) put(b []byte) {
	s.sum = deflate.Adler32(s.sum, b)
	s.to.put(b)
}

// whole decodes with a codec that takes a segment as a whole.
func (d *decoder) whole(decode func(dst, src []byte) (int, error), src []byte, plain int64, to sink) error {
	if d.out == nil {
		d.out = make([]byte, d.segment)
	}
	n, err := decode(d.out[:plain], src)
	if err == nil && int64(n) != plain {
		err = short(int64(n), plain)
	}
	if err != nil {
		return err
	}
	to.put(d.out[:n])
	return nil
}

func short(n, plain int64) error { return fmt.Errorf("it decodes to %d bytes, not to %d", n, plain) }

// pump passes on what a decoder makes up to its end, which must be so many bytes.
func pump(decode func(max int) ([]byte, error), plain int64, to sink) error {
	const most = 64 << 10
	for n := int64(0); ; {
		b, err := decode(int(max(1, min(most, plain-n))))
		switch {
		case err == io.EOF && n == plain:
			return nil
		case err == io.EOF:
			return short(n, plain)
		case err != nil:
			return err
		case int64(len(b)) > plain-n:
			return fmt.Errorf("it decodes to more than %d bytes", plain)
		}
		to.put(b)
		n += int64(len(b))
	}
}

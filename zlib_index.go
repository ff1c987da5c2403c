package dmg

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/deflate"
)

// zlibCodec decodes zlib chunks, RFC 1950.
type zlibCodec struct {
	e     *engine
	d     *decoder
	z     deflate.Decoder
	head  [deflate.ZlibHeaderLen]byte
	nhead int    // bytes of head that have been read
	sum   uint32 // Adler-32 of all that was decoded
	whole bool   // sum is that of all bytes before the position
}

const zlibMemory = deflate.Memory

func newZlibCodec(e *engine) *zlibCodec { return &zlibCodec{e: e} }

func (z *zlibCodec) start(d *decoder, off int64) error {
	z.d = d
	z.nhead = 0
	z.sum, z.whole = 1, true
	z.z.Reset(z)
	return nil
}

// Read gives the deflate decoder the chunk's data. It takes the zlib header off
// what it fetches first, so that it needs no read of its own.
func (z *zlibCodec) Read(p []byte) (int, error) {
	n, err := z.d.fetch.Read(p)
	if z.nhead < len(z.head) && n > 0 {
		k := copy(z.head[z.nhead:], p[:n])
		z.nhead += k
		n = copy(p, p[k:n])
		if z.nhead == len(z.head) && err == nil {
			err = deflate.CheckZlibHeader(z.head[:])
		}
	}
	return n, err
}

func (z *zlibCodec) decode(max int) ([]byte, error) {
	b, err := z.z.Decode(max)
	if z.whole {
		z.sum = deflate.Adler32(z.sum, b)
	}
	return b, err
}

func (z *zlibCodec) reach(d *decoder, off int64) int64 {
	if d.pos <= off {
		return d.pos
	}
	return -1
}

func (z *zlibCodec) seek(*decoder, int64) {}

// maxExcess is how many bytes more than its chunk a stream is decoded for, to
// get at its checksum. A damaged stream may be longer than it should be; one
// that is much longer was meant to be cut.
const maxExcess = 64 << 10

// finish compares the Adler-32 at the stream's end with the data's.
func (z *zlibCodec) finish() error {
	if !z.whole {
		return nil
	}
	for excess := 0; ; {
		b, err := z.z.Decode(maxDecode)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		z.sum = deflate.Adler32(z.sum, b)
		if excess += len(b); excess > maxExcess {
			return nil
		}
	}
	var trailer [deflate.ZlibTrailerLen]byte
	if err := z.z.Trailer(trailer[:]); err != nil {
		return err
	}
	if sum := binary.BigEndian.Uint32(trailer[:]); sum != z.sum {
		return fmt.Errorf("%w: Adler-32 is %08x, stored is %08x", ErrChecksum, z.sum, sum)
	}
	return nil
}

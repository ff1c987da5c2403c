package dmg

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/xz"
)

// xzShort is how long a chunk is whose decoder gets a window as long as the chunk,
// whatever dictionary its data asks for: hdiutil's are no longer. To look at longer
// ones first takes a call of the source, which matters little for what is decoded
// from the start on.
const xzShort = 1 << 20

// xzHead bytes of an .xz stream say how long a dictionary it asks for, as a rule.
const xzHead = 76

// xzMemory returns the memory for the decoder of a chunk, for as long a window as
// its dictionary, or as what is decoded of it if that is less. It is the only
// decoder whose memory is up to the image. It may read the source.
func xzMemory(src countingSource, c *Chunk) (int64, error) {
	window := min(c.Length, 1<<62) + maxExcess // a chunk may say that it has 2^63 bytes
	if c.Length > xzShort {
		head := make([]byte, min(c.DataLength, xzHead))
		if _, err := src.ReadAt(head, c.DataOffset); err != nil {
			return 0, err
		}
		// Where the header isn't understood the decoder will refuse it too.
		window = min(window, xz.Dictionary(head))
	}
	memory := xz.Memory(window)
	if memory > math.MaxInt/2 { // where int has 32 bits
		return 0, &ChunkError{*c, fmt.Errorf("%w: its decoder takes %d bytes", ErrMemoryLimit, memory)}
	}
	return memory, nil
}

// xzReader is an xz.Reader that goes on where one stream follows another, and need
// not go to the end of the last one it needs.
type xzReader struct {
	*xz.Reader
	in xzInput
}

func newXZReader(memory int64) *xzReader { return &xzReader{Reader: xz.NewReader(memory)} }

func (x *xzReader) Reset(r io.Reader) {
	x.in = xzInput{r: r}
	x.Reader.Reset(&x.in)
}

// Decode is that of xz.Reader, but for the ends of streams.
func (x *xzReader) Decode(max int) ([]byte, error) {
	for {
		b, err := x.Reader.Decode(max)
		if err != io.EOF {
			return b, err
		}
		if err := x.Next(); err != nil {
			return nil, err
		}
	}
}

// finish reads on to the stream's end, where the block's check, the index and the
// footer are compared. Like zlib's it gives up if that takes long. What stands
// behind that stream is no matter.
func (x *xzReader) finish() error {
	x.in.limited, x.in.left = true, maxExcess
	for excess := 0; excess <= maxExcess; {
		b, err := x.Reader.Decode(maxDecode)
		switch {
		case err == io.EOF, err == errExcess, err == xz.ErrWindow:
			return nil
		case err != nil:
			return err
		}
		excess += len(b)
	}
	return nil
}

// errExcess is what xzInput says when it has given all it may.
var errExcess = errors.New("too much behind the last sector")

// xzInput is the input of an xz.Reader, which may be limited.
type xzInput struct {
	r       io.Reader
	limited bool
	left    int // bytes, if limited
}

// Read implements io.Reader.
func (x *xzInput) Read(p []byte) (int, error) {
	if !x.limited {
		return x.r.Read(p)
	}
	if x.left == 0 {
		return 0, errExcess
	}
	n, err := x.r.Read(p[:min(len(p), x.left)])
	x.left -= n
	return n, err
}

package dmg

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/adc"
	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/lzfse"
)

// maxDecode is the most bytes that one call of a codec's decode returns.
const maxDecode = 64 << 10

// decoder decodes one chunk in order, for one reader at a time. Between reads
// it is parked where it stands.
type decoder struct {
	codec  codec
	fetch  fetcher
	method Method
	memory int64 // what it takes of the limit, in bytes
	chunk  int   // index, -1 if it has no chunk to go on with
	pos    int64 // offset in the chunk of the next byte
	length int64 // of the chunk
	until  int64 // where the reader at work wants to get
	once   bool  // whoever reads all of a chunk is not expected to come again
	count  *counters
}

// codec is a method of compression as decoders need it. An error that is not
// the source's says that the chunk is damaged.
type codec interface {
	// start prepares to decode d's chunk from its nearest checkpoint at or
	// before off, or from its first byte. It sets d.pos and places d.fetch.
	start(d *decoder, off int64) error
	// decode returns the following bytes, as many as there are up to max and
	// maxDecode. They are valid until the next call. There are bytes or there
	// is an error, never both.
	decode(max int) ([]byte, error)
	// reach returns where the codec could go on at or before off without
	// starting anew, -1 if it can't; seek goes there.
	reach(d *decoder, off int64) int64
	seek(d *decoder, off int64)
	// rest is called when a reader is done, and another may go on later.
	rest()
	// finish is called after the chunk's last byte. It checks what can only be
	// checked then.
	finish() error
}

// start places d in chunk c of that index, at or before off.
func (d *decoder) start(c *Chunk, index int, off int64) error {
	d.chunk, d.pos, d.length = index, 0, c.Length
	d.fetch.begin(c.DataOffset, c.DataOffset+c.DataLength)
	return d.failed(d.codec.start(d, off))
}

// decode returns the next bytes of the chunk, max at most.
func (d *decoder) decode(max int64) ([]byte, error) {
	b, err := d.codec.decode(int(min(max, maxDecode)))
	d.pos += int64(len(b))
	d.count.bytesDecoded.Add(int64(len(b)))
	return b, d.failed(err)
}

// finish checks the chunk's checksum. Without one the data is as good as with a
// wrong one.
func (d *decoder) finish() error {
	err := d.failed(d.codec.finish())
	if err == nil || errors.Is(err, d.fetch.err) || errors.Is(err, ErrChecksum) {
		return err
	}
	return fmt.Errorf("%w: behind the last sector: %w", ErrChecksum, err)
}

// failed sorts an error of the codec: the source's own is passed on, anything
// else is damage.
func (d *decoder) failed(err error) error {
	switch {
	case err == nil:
		return nil
	case d.fetch.err != nil:
		return d.fetch.err
	}
	return damage(err)
}

// damage gives an error of a codec the class ErrFormat, unless it has one.
func damage(err error) error {
	switch {
	case errors.Is(err, ErrFormat), errors.Is(err, ErrChecksum), errors.Is(err, ErrUnsupported), errors.Is(err, ErrIndex):
		return err
	case errors.Is(err, bzip2.ErrChecksum):
		return fmt.Errorf("%w: %w", ErrChecksum, err)
	case err == io.EOF:
		return fmt.Errorf("%w: the data decodes to less than the chunk's sectors", ErrFormat)
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

// newCodec returns a codec for the method and the bytes that it and its
// decoder hold.
func (e *engine) newCodec(m Method, memory int64) codec {
	switch m {
	case ADC:
		return &forward{z: new(adc.Reader)}
	case LZFSE:
		return &forward{z: new(lzfse.Reader)}
	case LZMA:
		z := newXZReader(memory)
		return &forward{z: z, end: z.finish}
	case Bzip2:
		return newBzip2Codec(e)
	}
	return newZlibCodec(e)
}

// decoderMemory returns how much of the limit a decoder takes. Those of LZMA are
// as large as the chunk says: see xzMemory.
func decoderMemory(m Method) int64 {
	switch m {
	case ADC:
		return adc.Memory + fetchBuffer
	case LZFSE:
		return lzfse.Memory + fetchBuffer
	case Bzip2:
		return bzip2Memory + fetchBuffer
	}
	return zlibMemory + fetchBuffer
}

// forward is a codec whose streams can only be decoded from their start on.
type forward struct {
	z interface {
		Reset(io.Reader)
		Decode(max int) ([]byte, error)
	}
	end func() error // finish; nil if the format has nothing to check
}

func (f *forward) start(d *decoder, off int64) error {
	f.z.Reset(&d.fetch)
	return nil
}

func (f *forward) decode(max int) ([]byte, error) { return f.z.Decode(max) }

func (f *forward) reach(d *decoder, off int64) int64 {
	if d.pos <= off {
		return d.pos
	}
	return -1
}

func (f *forward) seek(*decoder, int64) {}
func (f *forward) rest()                {}

func (f *forward) finish() error {
	if f.end == nil {
		return nil
	}
	return f.end()
}

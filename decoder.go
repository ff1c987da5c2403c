package dmg

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/xz"
)

// maxDecode is the most bytes that one call of a codec's decode returns.
const maxDecode = 64 << 10

// decoder decodes one chunk in order, for one reader at a time. Between reads
// it is idle, and stands where it stopped.
type decoder struct {
	codec   codec
	fetch   fetcher
	method  Method
	memory  int64 // what it takes of the limit, in bytes
	least   int64 // of that, what it was made with
	chunk   int   // index, -1 if it has no chunk to go on with
	pos     int64 // offset in the chunk of the next byte
	length  int64 // of the chunk
	until   int64 // where the reader at work wants to get
	cut     bool  // the chunk has more data than is decoded of it
	onePass bool  // the chunk is read once, and not expected to be read again

	// careful has a codec whose blocks have checksums compare these before it
	// returns a byte: then a damaged block is not taken for one of another length.
	careful bool

	// spare returns how many other workers of the run have nothing to do; nil if the
	// decoder is a reader's.
	spare func() int
	count *counters
	store *store
	began int // the number of failures when decoding began
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
	// nearestBefore returns where the codec could go on at or before off without
	// starting anew, -1 if it can't; seek goes there.
	nearestBefore(d *decoder, off int64) int64
	seek(d *decoder, off int64)
	// suspend is called when a reader is done, and another may go on later.
	suspend()
	// abandon gives up a checkpoint that is yet to be kept.
	abandon()
	// verifyCheckpoint compares the checksum so far with that of a checkpoint at the
	// position, if there is one.
	verifyCheckpoint() error
	// sumSoFar returns the checksum of the chunk up to the position, if the codec
	// has one.
	sumSoFar() (sum uint32, ok bool)
	// finish is called after the last byte of d's chunk. It checks what can only be
	// checked then.
	finish(d *decoder) error
	// salvage emits what can be decoded of d's chunk c from byte from on, where
	// decoding has failed. An error is that of emit or of the source.
	salvage(d *decoder, c *Chunk, from int64, emit salvaged) error
	// proven returns the offset in d's chunk up to which a checksum has confirmed
	// what was decoded since start or seek.
	proven(d *decoder) int64
}

// start places d in chunk c of that index, at or before off.
func (d *decoder) start(c *Chunk, index int, off int64) error {
	d.chunk, d.pos, d.length, d.cut = index, 0, c.Length, c.streamLen() < c.DataLength
	d.began = d.store.began()
	d.fetch.begin(c.DataOffset, c.streamEnd())
	return d.failed(d.codec.start(d, off))
}

// abandon has d give up its place, and what it would have kept of it.
func (d *decoder) abandon() {
	d.chunk = -1
	d.codec.abandon()
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
	err := d.failed(d.codec.finish(d))
	if err == nil || errors.Is(err, d.fetch.err) || errors.Is(err, ErrChecksum) || errors.Is(err, xz.ErrWindow) {
		return err
	}
	if d.cut && d.fetch.at >= d.fetch.end {
		return nil // there may be one further on than is looked at
	}
	return fmt.Errorf("%w: behind the last sector: %w", ErrChecksum, err)
}

// verifyCheckpoint checks what can be checked at a checkpoint where another decoder
// goes on.
func (d *decoder) verifyCheckpoint() error { return d.failed(d.codec.verifyCheckpoint()) }

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
	case errors.Is(err, bzip2.ErrChecksum), errors.Is(err, xz.ErrCheck), errors.Is(err, xz.ErrLong):
		return fmt.Errorf("%w: %w", ErrChecksum, err)
	case errors.Is(err, xz.ErrFilter), errors.Is(err, xz.ErrWindow):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case err == io.EOF:
		return fmt.Errorf("%w: the data decodes to less than the chunk's sectors", ErrFormat)
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}

// newDecoder returns a decoder for chunks of the method, which takes so much memory.
func (e *engine) newDecoder(m Method, memory int64) *decoder {
	return &decoder{
		codec: newCodec(m, memory-fetchBuffer, &e.store, e), method: m, memory: memory, least: memory, chunk: -1,
		count: &e.count, store: &e.store, fetch: fetcher{src: e.src},
	}
}

// spacing returns how far apart the checkpoints of a zlib chunk are to be that are usually so
// far apart.
func (d *decoder) spacing(usual int64) int64 { return spacing(usual, d.onePass) }

func spacing(usual int64, onePass bool) int64 {
	if onePass {
		return max(usual, onePassSpacing)
	}
	return usual
}

// host is what codecs may ask for besides checkpoints.
type host interface {
	// borrow takes n bytes of memory, if they can be had without waiting.
	borrow(n int64) bool
	giveBack(n int64)
	// parallelReader decodes the coming blocks of d's chunk from byte at of its data
	// on, on other cores; nil if these or memory can't be had.
	parallelReader(d *decoder, at int64) *bzip2.ParallelReader
	endParallel(p *bzip2.ParallelReader)
	// parallelInflate decodes the coming blocks of d's zlib chunk from z's place on, which
	// is byte at of its data, on so many cores or fewer; nil if memory can't be had.
	parallelInflate(d *decoder, z *deflate.Decoder, at int64, cores int) *deflate.ParallelReader
	endInflate(p *deflate.ParallelReader)
}

// decoderMemory returns how much of the limit a decoder of c takes, which needs
// at least so long a window if that is known, or 0.
func decoderMemory(src countingSource, c *Chunk, window int64) (memory int64, err error) {
	info := c.Method.info()
	if memory = info.memory; memory == 0 {
		memory, err = xzMemory(src, c, window)
	}
	if c.Length > info.spacing {
		memory += info.resume
	}
	return memory + fetchBuffer, err
}

// simpleCodec has what codecs without checkpoints, checksums and so on do instead.
type simpleCodec struct{}

func (simpleCodec) seek(*decoder, int64)                            {}
func (simpleCodec) suspend()                                        {}
func (simpleCodec) abandon()                                        {}
func (simpleCodec) sumSoFar() (uint32, bool)                        { return 0, false }
func (simpleCodec) salvage(*decoder, *Chunk, int64, salvaged) error { return nil }
func (simpleCodec) proven(*decoder) int64                           { return 0 }

// xzShort is how long a chunk is whose decoder gets a window as long as the chunk,
// whatever dictionary its data asks for: hdiutil's are no longer. To look at longer
// ones first takes a call of the source, which matters little for what is decoded
// from the start on.
const xzShort = 1 << 20

// xzHead bytes of an .xz stream say how long a dictionary it asks for, as a rule.
const xzHead = 76

// xzExcess is how much of a stream goes on behind a chunk at most, as a rule.
const xzExcess = 64 << 10

// xzLongest is the longest window that is of use to a decoder of c, as a rule. A chunk may
// say that it has 2^63 bytes.
func xzLongest(c *Chunk) int64 { return min(c.Length, 1<<62) + xzExcess }

// xzWindow returns how long a window the decoder of a chunk longer than xzShort needs, by
// the first header of its data: as long as its dictionary, or as what is decoded of it if
// that is less. Where the header isn't understood the decoder will refuse it too.
func xzWindow(src countingSource, c *Chunk) (int64, error) {
	head := make([]byte, min(c.DataLength, xzHead))
	if _, err := src.ReadAt(head, c.DataOffset); err != nil {
		return 0, err
	}
	return min(xzLongest(c), xz.Dictionary(head)), nil
}

// xzMemory returns the memory for the decoder of a chunk, which is the only one whose
// memory is up to the image. known is how long a window it needs, if that is known, or 0.
// Else it may read the source.
func xzMemory(src countingSource, c *Chunk, known int64) (memory int64, err error) {
	window := xzLongest(c)
	switch {
	case known > 0:
		if c.Length > xzShort {
			window = 0
		}
		window = max(window, min(known, min(c.Length, 1<<61)+maxExcess(c.Length)))
	case c.Length > xzShort:
		if window, err = xzWindow(src, c); err != nil {
			return 0, err
		}
	}
	memory = xz.Memory(window)
	if memory > math.MaxInt/2 { // where int has 32 bits
		return 0, &ChunkError{*c, fmt.Errorf("%w: its decoder takes %d bytes", ErrMemoryLimit, memory)}
	}
	return memory, nil
}

// failures are the places where chunks failed to decode last. The damage may be the
// image's, or the source's alone, which has given a wrong byte this once. Then what
// was decoded on the way is wrong too: what is cached of it, and the checkpoints made
// of it. So these are given up; if decoding fails anew in the same place, and has come
// to the same bytes, it is the image, and they stay. So do the checkpoints of bzip2,
// which are made of blocks that have been checked. The engine's lock guards it.
type failures struct {
	last [maxFailures]failure
	next atomic.Int64 // the number of the next one; it may be read without the lock
}

const maxFailures = 64

// failure is a place where decoding failed.
type failure struct {
	chunk int
	pos   int64
	sum   uint32 // of what is before pos, where the codec has one
	known bool   // set
}

// count returns the number of failures so far. It may be called without the lock.
func (s *failures) count() int { return int(s.next.Load()) }

// again notes a place, and reports whether it was among the last.
func (s *failures) seenBefore(d failure) bool {
	for i := range s.last {
		if s.last[i] == d {
			return true
		}
	}
	s.last[s.count()%maxFailures] = d
	s.next.Add(1)
	return false
}

// since reports whether there may have been failures in a chunk since next was n.
func (s *failures) invalidatedSince(chunk, n int) bool {
	next := s.count()
	if next-n > maxFailures {
		return true
	}
	for ; n < next; n++ {
		if s.last[n%maxFailures].chunk == chunk {
			return true
		}
	}
	return false
}

// invalidate gives up what was made of the chunk that d failed to decode, unless it has
// failed so before; all says that what is cached can't be right even then.
func (e *engine) invalidate(d *decoder, all bool) {
	chunk := d.chunk
	at := failure{chunk: chunk, pos: d.pos, known: true}
	summed := false
	at.sum, summed = d.codec.sumSoFar()
	e.mu.Lock()
	defer e.mu.Unlock()
	again := e.mu.failures.seenBefore(at)
	if p := e.mu.points.before(chunk, at.pos); summed && !p.saved() && p.off == at.pos && p.off > 0 && p.sum != at.sum {
		again = false // it may be the checkpoint that is wrong, and as the one before it was
	}
	if !again || all {
		e.mu.cache.DropPages(chunk, e.chunks[chunk].Length)
	}
	if again {
		return
	}
	if !d.method.info().blocks { // which are checked before more is made of them
		e.mu.points.dropChunk(chunk)
	}
	d.abandon()
	c := &e.chunks[chunk]
	for _, other := range e.mu.idle {
		if other.chunk == chunk {
			other.abandon()
		}
		if other.fetch.overlaps(c.DataOffset, c.streamEnd()) {
			other.fetch.discardBuffer()
		}
	}
}

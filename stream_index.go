package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/stream"
	"github.com/go-dmg/dmg/internal/xz"
)

// windowSpacing is how far apart checkpoints with windows of 64 KiB and more lie at least,
// in bytes: to decode that much takes a millisecond. hdiutil's chunks are no longer, so
// they have none.
const windowSpacing = 1 << 20

// A resumable decodes streams of ADC, LZFSE or LZMA, from their start or a checkpoint.
type resumable interface {
	Reset(r io.Reader)
	Decode(max int) ([]byte, error)

	// Mark asks for a checkpoint at byte off of the output, or the next place that can have
	// one. Point returns it when it is complete, end says that no more will be decoded.
	Mark(off int64)
	Point(end bool) (stream.Point, bool)

	// Resume goes on at byte off of the output, with a checkpoint's record. The error is
	// stream.ErrRecord if no decoder has made that. Space has room for a record.
	Resume(r io.Reader, off int64, p *stream.Record) error
	Space() []byte
}

// streamCodec decodes chunks of ADC, LZFSE and LZMA. A checkpoint of the first two stands
// anywhere, and has those bytes of the window that later output copies. In an LZMA chunk it
// stands where the dictionary is empty: at a block of the .xz stream, as a rule.
type streamCodec struct {
	simpleCodec
	store   *store
	d       *decoder
	z       resumable
	lzma    *xz.Streams // z, if it is that: its streams have checksums
	spacing int64       // between checkpoints
	due     int64       // offset in the chunk from which on the next checkpoint is wanted
	marked  bool        // it has been asked for
	from    stream.Record
}

func newStreamCodec(s *store, z resumable) *streamCodec {
	lzma, _ := z.(*xz.Streams)
	return &streamCodec{store: s, z: z, lzma: lzma}
}

// start resumes from the last checkpoint at or before off, or begins the stream.
func (c *streamCodec) start(d *decoder, off int64) error {
	c.d, c.due = d, math.MaxInt64
	if d.length <= d.method.info().spacing {
		c.z.Reset(&d.fetch)
		return nil
	}
	from, record, err := c.store.record(c.z.Space()[:0], d.chunk, off)
	if d.pos = from.off; err != nil {
		return err
	}
	if len(record) == 0 {
		c.z.Reset(&d.fetch)
	} else if err := c.resume(record); err != nil {
		return err
	}
	c.plan(d.pos)
	return nil
}

// resume goes on from a checkpoint's record.
func (c *streamCodec) resume(record []byte) error {
	err := c.from.Parse(record)
	if err == nil {
		c.d.fetch.skip(c.from.In)
		err = c.z.Resume(&c.d.fetch, c.d.pos, &c.from)
	}
	if errors.Is(err, stream.ErrRecord) {
		return fmt.Errorf("%w: checkpoint at byte %d of a chunk of %v: %w", ErrIndex, c.d.pos, c.d.method, err)
	}
	return err
}

// plan asks for the next checkpoint behind byte off.
func (c *streamCodec) plan(off int64) {
	_, c.spacing = c.store.wanted(c.d.chunk, off)
	if c.lzma == nil {
		c.spacing = max(c.spacing, windowSpacing)
	}
	if c.due = roundUp(off+1, c.spacing); c.due >= c.d.length {
		c.due = math.MaxInt64
		return
	}
	if c.marked, _ = c.store.wanted(c.d.chunk, c.due); c.marked {
		c.z.Mark(c.due)
	}
}

func (c *streamCodec) decode(max int) ([]byte, error) {
	if c.due == math.MaxInt64 {
		return c.z.Decode(max)
	}
	// No further than where the next checkpoint may be wanted.
	b, err := c.z.Decode(int(min(int64(max), roundUp(c.d.pos+1, c.spacing)-c.d.pos)))
	if err == nil {
		c.keep(c.d.pos+int64(len(b)), false)
	}
	return b, err
}

// keep keeps the checkpoint that was asked for, if it is complete, now that all before byte
// pos is decoded. At the end of the chunk it is.
func (c *streamCodec) keep(pos int64, end bool) {
	switch {
	case pos < c.due:
	case !c.marked:
		c.plan(pos)
	default:
		p, ok := c.z.Point(end)
		if !ok {
			return
		}
		if wanted, _ := c.store.wanted(c.d.chunk, p.Off); wanted && p.Off < c.d.length {
			if c.lzma == nil && c.store.points.shrink {
				p.Record = stream.Shrink(p.Record)
			}
			c.store.add(c.d.chunk, c.d.began, checkpoint{off: p.Off, in: p.In}, p.Record)
		}
		c.plan(p.Off)
	}
}

func (c *streamCodec) nearestBefore(d *decoder, off int64) int64 {
	if d.pos <= off {
		return d.pos
	}
	return -1
}

// verifyCheckpoint has the check of a block of LZMA compared that ends at the position, and
// sees whether what follows is what a checkpoint there has. The other formats have no
// checksum.
func (c *streamCodec) verifyCheckpoint() error {
	d := c.d
	if c.lzma == nil || !c.store.has(d.chunk, d.pos) {
		return nil
	}
	here, err := c.lzma.Here()
	if err != nil {
		return err
	}
	var space [2 * stream.MaxState]byte
	p, record, err := c.store.record(space[:0], d.chunk, d.pos)
	if err == nil && p.off == d.pos && !bytes.Equal(here, record) {
		err = c.store.mismatch(p, fmt.Sprintf("the .xz file has no such block as its checkpoint at byte %d", p.off))
	}
	c.plan(d.pos)
	return err
}

// finish compares the checksums of the .xz stream in which the chunk ends.
func (c *streamCodec) finish(d *decoder) error {
	c.keep(d.pos, true)
	if c.lzma == nil {
		return nil
	}
	return c.lzma.Finish(maxExcess(d.length))
}

// listBlocks makes checkpoints of the blocks of LZMA chunk i, from the index of its .xz
// streams: so a read does not decode the blocks before, the first one neither. A decoder
// that passes such a checkpoint compares it with the block. The error is the source's.
func listBlocks(s *store, src countingSource, i int) error {
	c := &s.chunks[i]
	return xz.Index(io.NewSectionReader(src, c.DataOffset, c.DataLength), c.DataLength, func(p stream.Point) {
		if wanted, _ := s.wanted(i, p.Off); wanted && p.Off < c.Length {
			s.mu.Lock()
			s.points.add(i, checkpoint{off: p.Off, in: p.In, group: listedGroup}, p.Record)
			s.mu.Unlock()
		}
	})
}

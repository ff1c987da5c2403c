package dmg

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/go-dmg/dmg/internal/adc"
)

// adcSpacing is how far apart checkpoints of ADC chunks lie at least, in bytes: to
// decode that much takes a millisecond, and each checkpoint has a window of 64 KiB.
// hdiutil's chunks are no longer, so they have none.
const adcSpacing = 1 << 20

// adcRecord is the longest record of a checkpoint: where in the data it is, in bytes,
// and the window. A codec has room for one from its first chunk with checkpoints on.
const adcRecord = 8 + adc.WindowSize

// adcCodec decodes ADC chunks. A checkpoint is a place between two codes, and the
// output before it that copies may reach back to.
type adcCodec struct {
	simpleCodec
	store  *store
	d      *decoder
	z      adc.Reader
	due    int64 // offset in the chunk from which on the next checkpoint is wanted
	record []byte
}

func newADCCodec(s *store) *adcCodec { return &adcCodec{store: s} }

// start resumes from the last checkpoint at or before off, or begins the stream.
func (z *adcCodec) start(d *decoder, off int64) error {
	z.d = d
	if d.length > adcSpacing && z.record == nil {
		z.record = make([]byte, 0, adcRecord)
	}
	from, record, err := z.store.record(z.record[:0], d.chunk, off)
	if d.pos, z.record = from.off, record; err != nil {
		return err
	}
	z.plan(d.pos)
	if len(record) == 0 {
		z.z.Reset(&d.fetch)
		return nil
	}
	if len(record) < 8 || len(record) > adcRecord {
		return fmt.Errorf("%w: checkpoint at byte %d of an ADC chunk", ErrIndex, d.pos)
	}
	in := int64(binary.BigEndian.Uint64(record))
	d.fetch.skip(in)
	z.z.Resume(&d.fetch, in, d.pos, record[8:])
	return nil
}

// plan sets where behind byte off the next checkpoint is wanted.
func (z *adcCodec) plan(off int64) {
	_, spacing := z.store.wanted(z.d.chunk, off)
	if z.due = roundUp(off+1, max(spacing, adcSpacing)); z.due >= z.d.length {
		z.due = math.MaxInt64
	}
}

func (z *adcCodec) decode(max int) ([]byte, error) {
	b, err := z.z.Decode(max)
	if at := z.z.Out(); at >= z.due && err == nil {
		z.checkpoint(at)
	}
	return b, err
}

// checkpoint keeps a checkpoint at byte off of the chunk, to which all is decoded.
func (z *adcCodec) checkpoint(off int64) {
	if off < z.d.length {
		in := z.z.In()
		z.record = binary.BigEndian.AppendUint64(z.record[:0], uint64(in))
		z.record = append(z.record, z.z.Window()...)
		z.store.add(z.d.chunk, z.d.began, checkpoint{off: off, in: in}, z.record)
	}
	z.plan(off)
}

func (z *adcCodec) nearestBefore(d *decoder, off int64) int64 {
	if d.pos <= off {
		return d.pos
	}
	return -1
}

// finish has nothing to check: the format has no checksum.
func (z *adcCodec) finish(*decoder) error { return nil }

package dmg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
)

// zeroBytes is what holes are written from.
var zeroBytes [64 << 10]byte

// writeZeros writes n zeros by calls of write, until ctx is done.
func writeZeros(ctx context.Context, n int64, write func(b []byte) error) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := min(n, int64(len(zeroBytes)))
		if err := write(zeroBytes[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// WriteTo writes the whole disk to w in order, and implements [io.WriterTo]. It decodes
// ahead on all cores, within the memory limit, and calls w.Write from one goroutine at a
// time. It returns how many bytes were written, and the first error: w's, the source's, or
// that of a damaged chunk. If a block table's checksum does not match, WriteTo writes
// everything and then returns a [*ChecksumError].
//
// WriteTo is safe for concurrent use. It holds part of the memory limit while it waits for
// w. Do not call methods of im from w: that can deadlock.
func (im *Image) WriteTo(w io.Writer) (n int64, err error) {
	return im.writeTo(context.Background(), w, 0, im.size)
}

// writeTo writes a range of the disk to w in order.
func (im *Image) writeTo(ctx context.Context, w io.Writer, from, to int64) (n int64, err error) {
	write := func(b []byte) error {
		k, err := w.Write(b)
		n += int64(k)
		if err == nil && k < len(b) {
			err = io.ErrShortWrite
		}
		return err
	}
	p := pipeline{
		e:       &im.engine,
		from:    from,
		to:      to,
		ordered: true,
		data:    func(_ int64, b []byte) error { return write(b) },
		zeros:   func(ctx context.Context, _, n int64) error { return writeZeros(ctx, n, write) },
		sums:    im.newTableSums(from, to),
	}
	_, err = p.run(ctx)
	im.count.lane(0).bytesRead.Add(n)
	if err == nil {
		err = p.sums.results(func(_ int, c *check, err error) error {
			if c.err.Got == nil {
				return nil
			}
			return err
		})
	}
	return n, err
}

// ExtractOptions are the settings of [Image.Extract]. The zero value and nil stand for the
// defaults. The functions must not call methods of the Image.
type ExtractOptions struct {
	// Offset and Length are the range of the disk to extract, in bytes. Byte Offset
	// of the disk becomes byte 0 of the output. A Length of 0 stands for everything
	// from Offset to the disk's end.
	Offset, Length int64

	// Workers is how many goroutines decode at most. 0 stands for one a core. If the
	// memory limit has no room for so many, there are fewer.
	Workers int

	// Ordered makes Extract write from the range's start to its end, from one
	// goroutine at a time, for an output that can only be appended to. Decoding
	// still uses all cores.
	Ordered bool

	// Sparse leaves out what the block tables say is zero, or the tables of an ASIF
	// image, but for holes of less than 16 KiB there. Where nothing is written
	// the output must read as zeros, as a new file does. The caller must give it the
	// range's length, such as by os.File.Truncate.
	Sparse bool

	// Progress is called now and then, from one goroutine at a time, with the
	// bytes of the range that are done.
	Progress func(done, total int64)

	// Damaged, if not nil, makes Extract go on past damage: Extract writes all that
	// decodes, and zeros for what does not. It calls Damaged with each range that is
	// lost or doubtful, in no order, from one goroutine at a time. Ranges may
	// overlap; a byte in any lost range is lost.
	//
	// The ranges with a *ChecksumError come last. They are of chunks that have no
	// checksum of their own, where the block table's checksum does not match, or
	// can't be computed because of other damage. As far as the image has checksums,
	// all other bytes are as they were stored.
	//
	// If Damaged returns an error, Extract stops and returns it.
	Damaged func(Damage) error
}

// bounds returns the range as disk offsets.
func (o *ExtractOptions) bounds(size int64) (from, to int64, err error) {
	switch {
	case o.Offset < 0 || o.Length < 0:
		return 0, 0, fmt.Errorf("dmg: extract: range %d+%d is negative", o.Offset, o.Length)
	case o.Offset > size || o.Length > size-o.Offset:
		return 0, 0, fmt.Errorf("dmg: extract: range %d+%d is not on the disk of %d bytes", o.Offset, o.Length, size)
	case o.Length == 0:
		return o.Offset, size, nil
	}
	return o.Offset, o.Offset + o.Length, nil
}

// Extract writes the disk, or a range of it, to w, out of order and from several goroutines
// at a time. It compares the checksums in compressed data, and those of the block tables
// that lie in the range as a whole.
//
// Extract stops when ctx is done, or at the first error that ExtractOptions.Damaged doesn't
// pass over, after the reads and writes under way. The error wraps the cause. It says up to
// which offset everything was written without known damage. If a block table's checksum does
// not match, Extract writes everything and then returns a [*ChecksumError].
//
// The first decoder through a region records checkpoints. Extract spaces those in zlib
// chunks 1 MiB apart; [Image.BuildIndex] makes closer ones.
//
// Extract is safe for concurrent use. It holds part of the memory limit while it waits for w
// and the functions in o. Do not call methods of im from them: that can deadlock.
func (im *Image) Extract(ctx context.Context, w io.WriterAt, o *ExtractOptions) error {
	if o == nil {
		o = new(ExtractOptions)
	}
	from, to, err := o.bounds(im.size)
	if err != nil {
		return err
	}
	if f, ok := w.(*os.File); ok {
		w = &oneByOne{f: f}
	}
	write := func(b []byte, off int64) error {
		k, err := w.WriteAt(b, off-from)
		if err == nil && k < len(b) {
			err = io.ErrShortWrite
		}
		im.count.lane(laneOf(b)).bytesRead.Add(int64(k))
		return err
	}
	p := pipeline{
		e:        &im.engine,
		from:     from,
		to:       to,
		workers:  o.Workers,
		ordered:  o.Ordered,
		onePass:  true,
		toEnds:   true,
		progress: o.Progress,
		damaged:  o.Damaged,
		salvages: o.Damaged != nil,
		data:     func(off int64, b []byte) error { return write(b, off) },
		zeros: func(ctx context.Context, off, n int64) error {
			if o.Sparse {
				return nil
			}
			return writeZeros(ctx, n, func(b []byte) error {
				err := write(b, off)
				off += int64(len(b))
				return err
			})
		},
		sums: im.newTableSums(from, to),
	}
	if end, err := p.run(ctx); err != nil {
		return fmt.Errorf("dmg: extract: complete up to byte %d: %w", end, err)
	}
	err = p.sums.results(func(i int, c *check, err error) error {
		switch {
		case err == nil:
			return nil
		case o.Damaged != nil:
			return im.reportDoubtful(i, err, c.err.Got != nil, o.Damaged)
		case c.err.Got == nil: // what can't be read would have ended the run
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("dmg: extract: everything was written, but it is damaged: %w", err)
	}
	return nil
}

// reportDoubtful calls f with the ranges of a partition that may be wrong, since its block
// table's checksum does not hold or can't be computed: those that no other checksum
// confirms. If there are none but something is wrong, it is all of the partition.
func (im *Image) reportDoubtful(part int, err error, wrong bool, f func(Damage) error) error {
	for _, all := range []bool{false, true} {
		last := Damage{Err: err}
		found := false
		for i := range im.chunks {
			c := &im.chunks[i]
			if c.Partition != part || c.DataLength == 0 || c.Method != Raw && !c.Method.compressed() || !all && c.Method.info().summed {
				continue
			}
			found = true
			if last.Length > 0 && last.End() != c.Offset {
				if err := f(last); err != nil {
					return err
				}
				last.Length = 0
			}
			if last.Length == 0 {
				last.Offset = c.Offset
			}
			last.Length += c.Length
		}
		if found {
			return f(last)
		}
		if !wrong {
			return nil
		}
	}
	p := &im.partitions[part]
	return f(Damage{Offset: p.Offset, Length: p.Length, Err: err})
}

// oneByOne writes to a file from one goroutine at a time. File systems lock a
// file while it is written to, and a goroutine that waits for that in the kernel keeps
// a core from decoding.
type oneByOne struct {
	sync.Mutex
	f *os.File
}

func (o *oneByOne) WriteAt(p []byte, off int64) (int, error) {
	o.Lock()
	defer o.Unlock()
	return o.f.WriteAt(p, off)
}

// BuildIndexOptions are the settings of [Image.BuildIndex]. The zero value and nil stand for
// the defaults.
type BuildIndexOptions struct {
	// Workers is how many goroutines decode at most. 0 stands for one a core. If the
	// memory limit has no room for so many, there are fewer.
	Workers int

	// Progress is called now and then, from one goroutine at a time, with the
	// bytes of the disk that are done.
	Progress func(done, total int64)
}

// BuildIndex makes the checkpoints of the whole disk, as reading all of it would: from then
// on any read decodes little. [Image.Index] returns them. BuildIndex passes over damaged
// chunks. It stops when ctx is done, at the first error of the source, or with
// [ErrMemoryLimit] at a chunk that needs a larger decoder than the limit allows. It is safe
// for concurrent use.
func (im *Image) BuildIndex(ctx context.Context, o *BuildIndexOptions) error {
	if o == nil {
		o = new(BuildIndexOptions)
	}
	damaged := make(map[int64]bool) // by offset
	p := pipeline{
		e:        &im.engine,
		to:       im.size,
		workers:  o.Workers,
		progress: o.Progress,
		drops:    true,
		data:     func(int64, []byte) error { return nil },
		zeros:    func(context.Context, int64, int64) error { return nil },
		skip:     func(c *Chunk) bool { return !c.Method.info().checkpoints() || c.Length <= c.Method.info().spacing },
		damaged: func(d Damage) error {
			var chunk *ChunkError
			if errors.As(d.Err, &chunk) && !chunk.Chunk.Method.info().blocks { // which are kept
				damaged[chunk.Chunk.Offset] = true
			}
			return nil
		},
	}
	if _, err := p.run(ctx); err != nil || len(damaged) == 0 {
		return err
	}
	// What was made of these was given up, in case it was the source that was wrong.
	once := pipeline{
		e:       p.e,
		to:      p.to,
		data:    p.data,
		zeros:   p.zeros,
		drops:   true,
		skip:    func(c *Chunk) bool { return !damaged[c.Offset] },
		damaged: func(Damage) error { return nil },
	}
	_, err := once.run(ctx)
	return err
}

// Section is a range of the disk: an [io.SectionReader], and an [io.WriterTo] that decodes on
// all cores. ReadAt, Size and Outer are safe for concurrent use. Read, Seek and WriteTo move
// the section's position, and are not.
type Section struct {
	*io.SectionReader
	im *Image
}

// Section returns the n bytes of the disk from byte off on. Where the range goes beyond the
// disk's end, reads return [io.EOF] there. Nothing is read until a method of the Section is
// called.
func (im *Image) Section(off, n int64) *Section {
	return &Section{io.NewSectionReader(im, off, n), im}
}

// WriteTo writes the section from its position to its end to w, in order, and moves the
// position behind what was written. It is [Image.WriteTo] of that range: it returns a
// [*ChecksumError] if the checksum of a block table that lies in the range does not match.
func (s *Section) WriteTo(w io.Writer) (int64, error) {
	at, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	_, off, n := s.Outer()
	from := min(off+at, s.im.size)
	if from < 0 {
		return 0, fmt.Errorf("dmg: section at offset %d, which is negative", off)
	}
	to := s.im.size
	if off <= math.MaxInt64-n {
		to = min(to, off+n)
	}
	if from >= to {
		return 0, nil
	}
	k, err := s.im.writeTo(context.Background(), w, from, to)
	s.Seek(k, io.SeekCurrent)
	return k, err
}

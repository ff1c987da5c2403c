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

// WriteTo writes the whole disk to w in order, and implements io.WriterTo. It decodes
// ahead on all cores, within the memory limit, and calls w.Write from one goroutine at
// a time. It returns how many bytes were written, and the first error: a
// *ChecksumError, after all is written, if a block table's checksum does not hold.
//
// Other methods may be called at the same time, but not by w: WriteTo holds part of the
// memory limit while it waits for w, and a method that needs more would wait for ever.
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
	im.count.bytesRead.Add(n)
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

// ExtractOptions are what Extract may be told. The zero value and nil stand for
// the defaults.
type ExtractOptions struct {
	// Offset and Length are the range of the disk to extract, in bytes. Byte
	// Offset of the disk becomes byte 0 of the output. A Length of 0 stands for
	// all from Offset on.
	Offset, Length int64

	// Workers is how many goroutines decode, at most: fewer if the memory limit
	// has no room for them. 0 stands for one a core.
	Workers int

	// Ordered has Extract write from the range's start to its end, and from one
	// goroutine at a time, for an output that can only be appended to. Decoding
	// still uses all cores.
	Ordered bool

	// Sparse leaves out what is zero by the block tables: the output must read as
	// zeros where nothing is written, as a new file does, and must be given the
	// range's length in another way, such as os.File.Truncate.
	Sparse bool

	// Progress is called now and then, from one goroutine at a time, with the
	// bytes of the range that are done.
	Progress func(done, total int64)

	// Damaged, if not nil, makes Extract go on past damage. All that decodes is
	// written, and zeros for what does not. Damaged is called with each range
	// that is lost or doubtful, in no order, from one goroutine at a time. Ranges
	// may overlap; what is in a lost one is lost. Those with a *ChecksumError come
	// last: chunks without a checksum of their own, where their block table's does
	// not hold or can't be computed for other damage. All other bytes are as they
	// were stored, as far as the image has checksums to tell by. If Damaged returns
	// an error, Extract ends with it.
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

// Extract writes the disk, or a range of it, to w, out of order and from several
// goroutines at a time. It compares the checksums of the block tables that it reads
// as a whole, and those in compressed data.
//
// Extract stops at the first error that Damaged doesn't pass over, or when ctx is done,
// after the reads and writes under way. The error wraps the cause, and says up to which
// offset everything was written and is not known to be damaged. A *ChecksumError of a
// block table comes when everything is written.
//
// The checkpoints that Extract leaves in zlib chunks lie a megabyte apart. Other methods
// may be called at the same time, but not by w or the functions in o: Extract holds part
// of the memory limit while it waits for these.
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
		im.count.bytesRead.Add(int64(k))
		return err
	}
	p := pipeline{
		e:        &im.engine,
		from:     from,
		to:       to,
		workers:  o.Workers,
		ordered:  o.Ordered,
		onePass:  true,
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
			return im.doubt(i, err, c.err.Got != nil, o.Damaged)
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

// doubt calls f with the ranges of a partition that may be wrong, since its block
// table's checksum does not hold or can't be computed: those that no other checksum
// confirms. If there are none but something is wrong, it is all of the partition.
func (im *Image) doubt(part int, err error, wrong bool, f func(Damage) error) error {
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

// BuildIndexOptions are what BuildIndex may be told. The zero value and nil stand for
// the defaults.
type BuildIndexOptions struct {
	// Workers is how many goroutines decode, at most. 0 stands for one a core.
	Workers int

	// Progress is called now and then, from one goroutine at a time, with the
	// bytes of the disk that are done.
	Progress func(done, total int64)
}

// BuildIndex makes the checkpoints of the whole disk, as reading all of it would:
// from then on any read decodes little. Index returns them. Damaged chunks are
// passed over. BuildIndex stops when ctx is done, at the first error of the source,
// or with ErrMemoryLimit at a chunk that needs a larger decoder than the limit allows.
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
		data:     func(int64, []byte) error { return nil },
		zeros:    func(context.Context, int64, int64) error { return nil },
		skip:     func(c *Chunk) bool { return !c.Method.info().checkpoints || c.Length <= minSpacing },
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
		skip:    func(c *Chunk) bool { return !damaged[c.Offset] },
		damaged: func(Damage) error { return nil },
	}
	_, err := once.run(ctx)
	return err
}

// Section is a range of the disk: an io.SectionReader, and an io.WriterTo that decodes
// on all cores. ReadAt, Size and WriteTo are safe for concurrent use; Read and Seek, as
// those of io.SectionReader, are not.
type Section struct {
	*io.SectionReader
	im *Image
}

// Section returns the n bytes of the disk from off on. What of the range lies behind
// the disk's end reads as io.EOF.
func (im *Image) Section(off, n int64) *Section {
	return &Section{io.NewSectionReader(im, off, n), im}
}

// WriteTo writes what is left of the section from the position of Read on to w, in
// order, and moves that position to the end. Else it is Image.WriteTo: a block table
// that lies in the range has its checksum compared.
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

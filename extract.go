package dmg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// zeroBytes is what holes are written from.
var zeroBytes [64 << 10]byte

// WriteTo writes the whole disk to w in order, and implements io.WriterTo. It
// decodes ahead on all cores, within the memory limit, and calls w.Write from
// one goroutine at a time. It returns how many bytes were written, and the first
// error. Other methods may be called meanwhile, but not by w itself: as long as w keeps
// WriteTo waiting, it keeps memory that others may need.
func (im *Image) WriteTo(w io.Writer) (n int64, err error) {
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
		ordered: true,
		data:    func(_ int, _ int64, b []byte) error { return write(b) },
		zeros: func(_ context.Context, _ int, _, n int64) error {
			for n > 0 {
				k := min(n, int64(len(zeroBytes)))
				if err := write(zeroBytes[:k]); err != nil {
					return err
				}
				n -= k
			}
			return nil
		},
	}
	_, err = p.run(context.Background())
	im.count.bytesRead.Add(n)
	return n, err
}

// ExtractOptions are what Extract may be told. The zero value and nil stand for
// the defaults.
type ExtractOptions struct {
	// Workers is how many goroutines decode, at most: fewer if the memory limit
	// has no room for them. 0 stands for one a core.
	Workers int

	// Sparse leaves out what is zero by the block tables: w must read as zeros
	// where nothing is written, as a new file does, and must be given the
	// disk's size in another way, such as os.File.Truncate.
	Sparse bool

	// Progress is called now and then, from one goroutine at a time, with the
	// bytes of the disk that are done.
	Progress func(done, total int64)

	// Damaged, if not nil, is called with each chunk that can't be read, in no
	// order, once or several times, from one goroutine at a time. Extract goes on
	// with the others if it returns nil, and stops with its error if not. Of the
	// chunk's range, some may have been written, and the rest isn't. Where the
	// error is ErrChecksum, none of what was written can be relied on.
	Damaged func(*ChunkError) error
}

// Extract writes the disk to w, out of order and from several goroutines at a
// time. It stops at the first error that Damaged doesn't pass over, or when ctx is
// done, after the reads and writes under way; the error says up to which offset
// everything was written, and wraps the cause. The checkpoints that it leaves in
// zlib chunks lie a megabyte apart. Other methods may be called meanwhile, but not by
// w or the functions in o: as long as these keep Extract waiting, it keeps memory that
// others may need.
func (im *Image) Extract(ctx context.Context, w io.WriterAt, o *ExtractOptions) error {
	if o == nil {
		o = new(ExtractOptions)
	}
	if f, ok := w.(*os.File); ok {
		w = &oneByOne{f: f}
	}
	write := func(b []byte, off int64) error {
		k, err := w.WriteAt(b, off)
		if err == nil && k < len(b) {
			err = io.ErrShortWrite
		}
		im.count.bytesRead.Add(int64(k))
		return err
	}
	p := pipeline{
		e:        &im.engine,
		workers:  o.Workers,
		once:     true,
		progress: o.Progress,
		data:     func(_ int, off int64, b []byte) error { return write(b, off) },
		zeros: func(ctx context.Context, _ int, off, n int64) error {
			for !o.Sparse && n > 0 {
				k := min(n, int64(len(zeroBytes)))
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := write(zeroBytes[:k], off); err != nil {
					return err
				}
				off += k
				n -= k
			}
			return nil
		},
	}
	if o.Damaged != nil {
		var mu sync.Mutex
		p.lost = func(_ int, err *ChunkError) error {
			mu.Lock()
			defer mu.Unlock()
			return o.Damaged(err)
		}
	}
	if end, err := p.run(ctx); err != nil {
		return fmt.Errorf("dmg: extract: complete up to byte %d: %w", end, err)
	}
	return nil
}

// oneByOne writes to a file from one goroutine at a time. File systems lock a
// file while it is written to, and who waits for that in the kernel keeps a core
// from decoding.
type oneByOne struct {
	sync.Mutex
	f *os.File
}

func (o *oneByOne) WriteAt(p []byte, off int64) (int, error) {
	o.Lock()
	defer o.Unlock()
	return o.f.WriteAt(p, off)
}

// BuildIndex makes the checkpoints of the whole disk, as reading all of it would:
// from then on any read decodes little. Index returns them. progress, if not
// nil, is called now and then, from one goroutine at a time. Damaged chunks are
// passed over. BuildIndex stops when ctx is done, at the first error of the source,
// or with ErrMemoryLimit at a chunk whose decoder can't be had.
func (im *Image) BuildIndex(ctx context.Context, progress func(done, total int64)) error {
	var mu sync.Mutex
	damaged := make(map[int64]bool) // by offset
	p := pipeline{
		e:        &im.engine,
		progress: progress,
		data:     func(int, int64, []byte) error { return nil },
		zeros:    func(context.Context, int, int64, int64) error { return nil },
		skip:     func(c *Chunk) bool { return c.Method != Zlib && c.Method != Bzip2 || c.Length <= minSpacing },
		lost: func(_ int, err *ChunkError) error {
			if errors.Is(err, ErrMemoryLimit) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if err.Chunk.Method == Zlib { // a block of bzip2 is kept
				damaged[err.Chunk.Offset] = true
			}
			return nil
		},
	}
	if _, err := p.run(ctx); err != nil || len(damaged) == 0 {
		return err
	}
	// What was made of these was given up, in case it was the source that was wrong.
	once := pipeline{
		e:     p.e,
		data:  p.data,
		zeros: p.zeros,
		skip:  func(c *Chunk) bool { return !damaged[c.Offset] },
		lost:  func(int, *ChunkError) error { return nil },
	}
	_, err := once.run(ctx)
	return err
}

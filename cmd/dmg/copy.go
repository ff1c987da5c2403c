package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/go-dmg/dmg"
)

// copySize is how many bytes go from the image to the output at once.
const copySize = 1 << 20

// A copier copies a range of the disk, chunk by chunk, and can do without what
// is damaged.
type copier struct {
	im        *dmg.Image
	from      diskRange
	to        io.WriterAt // its offset 0 is the start of the range
	inOrder   bool        // to is to be written in order, each byte once
	sparse    bool        // what to holds is zeros already
	keepGoing bool
	progress  func(done, total int64) // called under the lock

	mu struct {
		sync.Mutex
		done int64 // bytes
		lost []loss
	}
}

// A loss is a range of the disk that can't be read.
type loss struct {
	diskRange
	err error

	// How many bytes at its start were written as they came before the damage was
	// met, and can't be written over. The others are zeros.
	early int64
}

// run copies what is in the range of all, chunks of the disk. The losses are in
// disk order.
func (c *copier) run(ctx context.Context, all iter.Seq[dmg.Chunk]) ([]loss, error) {
	g, ctx := errgroup.WithContext(ctx)
	chunks := make(chan dmg.Chunk)
	g.Go(func() error {
		defer close(chunks)
		return c.feed(ctx, all, chunks)
	})
	workers := runtime.GOMAXPROCS(0)
	if c.inOrder {
		workers = 1
	}
	for range workers {
		g.Go(func() error {
			buf := make([]byte, min(copySize, c.from.length))
			for chunk := range chunks {
				if err := c.chunk(ctx, chunk, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	slices.SortFunc(c.mu.lost, func(a, b loss) int { return cmp.Compare(a.off, b.off) })
	return c.mu.lost, err
}

// feed hands out the chunks of the range that are to be written, cut to it.
func (c *copier) feed(ctx context.Context, all iter.Seq[dmg.Chunk], to chan<- dmg.Chunk) error {
	for chunk := range all {
		start := max(chunk.Offset, c.from.off)
		end := min(chunk.Offset+chunk.Length, c.from.end())
		if start >= end {
			continue
		}
		chunk.Offset, chunk.Length = start, end-start
		if c.sparse && isHole(chunk.Method) {
			c.advance(chunk.Length)
			continue
		}
		select {
		case to <- chunk:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// isHole reports whether chunks of the method are zeros that nothing is stored
// of.
func isHole(m dmg.Method) bool { return m == dmg.Zero || m == dmg.Ignore }

// chunk copies a chunk, or as much of it as can be read.
func (c *copier) chunk(ctx context.Context, chunk dmg.Chunk, buf []byte) error {
	end := chunk.Offset + chunk.Length
	for off := chunk.Offset; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), end-off)]
		n, err := c.im.ReadAt(p, off)
		if err == io.EOF && n == len(p) {
			err = nil // the end of the disk
		}
		if err != nil {
			return c.lose(ctx, chunk, off, p[:n], err)
		}
		if err := c.write(p, off); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// isDamage reports whether an error says that a chunk can't be read, and not only
// because there is too little memory for it, or because of an index.
func isDamage(err error) bool {
	var damaged *dmg.ChunkError
	return errors.As(err, &damaged) && !errors.Is(err, dmg.ErrMemoryLimit) && !errors.Is(err, dmg.ErrIndex)
}

// lose makes zeros of what is lost of a chunk, if the chunk is to blame for the
// error, and the user wants to go on. The chunk was written up to off, and good
// is what was read there before the error.
func (c *copier) lose(ctx context.Context, chunk dmg.Chunk, off int64, good []byte, err error) error {
	if !c.keepGoing || !isDamage(err) {
		return err
	}
	lost := loss{diskRange: diskRange{off, chunk.Offset + chunk.Length - off}, err: err}
	switch {
	case !errors.Is(err, dmg.ErrChecksum):
		if err := c.write(good, off); err != nil {
			return err
		}
		lost.off += int64(len(good))
		lost.length -= int64(len(good))
		off = lost.off
	case chunk.Offset < off:
		// The sum is of all the chunk, so any byte of it may be wrong.
		lost.diskRange = diskRange{chunk.Offset, chunk.Length}
		if c.inOrder {
			lost.early = off - chunk.Offset
		} else {
			c.advance(chunk.Offset - off)
			off = chunk.Offset
		}
	}
	c.mu.Lock()
	c.mu.lost = append(c.mu.lost, lost)
	c.mu.Unlock()
	return c.zero(ctx, diskRange{off, lost.end() - off})
}

// zero writes zeros.
func (c *copier) zero(ctx context.Context, r diskRange) error {
	zeros := make([]byte, min(copySize, r.length))
	for off := r.off; off < r.end(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := zeros[:min(int64(len(zeros)), r.end()-off)]
		if err := c.write(p, off); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}

// write writes p, which belongs at an offset of the disk.
func (c *copier) write(p []byte, off int64) error {
	n, err := c.to.WriteAt(p, off-c.from.off)
	c.advance(int64(n))
	return err
}

// advance counts n bytes as done.
func (c *copier) advance(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.done += n
	c.progress(c.mu.done, c.from.length)
}

// sequential makes a WriterAt of a Writer, for callers that write in order.
type sequential struct{ io.Writer }

// WriteAt ignores the offset, which is where the last call ended.
func (w sequential) WriteAt(p []byte, _ int64) (int, error) { return w.Write(p) }

package main

import (
	"cmp"
	"context"
	"errors"
	"io"
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
	workers   int         // with one, it writes in order
	sparse    bool        // the output is zeros already
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
}

// run copies the range. The losses are in disk order.
func (c *copier) run(ctx context.Context) ([]loss, error) {
	g, ctx := errgroup.WithContext(ctx)
	chunks := make(chan dmg.Chunk)
	g.Go(func() error {
		defer close(chunks)
		return c.feed(ctx, chunks)
	})
	for range c.workers {
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
func (c *copier) feed(ctx context.Context, to chan<- dmg.Chunk) error {
	for chunk := range c.im.Chunks() {
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
		if n == len(p) {
			err = nil // io.EOF, at the end of the disk
		}
		if _, err := c.to.WriteAt(p[:n], off-c.from.off); err != nil {
			return err
		}
		off += int64(n)
		c.advance(int64(n))
		if err != nil {
			return c.lose(ctx, diskRange{off, end - off}, err, buf)
		}
	}
	return nil
}

// lose makes zeros of a range, if its chunk is to blame for the error and the
// user wants to go on.
func (c *copier) lose(ctx context.Context, r diskRange, err error, buf []byte) error {
	var damaged *dmg.ChunkError
	if !c.keepGoing || !errors.As(err, &damaged) {
		return err
	}
	c.mu.Lock()
	c.mu.lost = append(c.mu.lost, loss{r, err})
	c.mu.Unlock()
	if c.sparse {
		c.advance(r.length)
		return nil
	}
	clear(buf)
	for off := r.off; off < r.end(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.to.WriteAt(buf[:min(int64(len(buf)), r.end()-off)], off-c.from.off)
		if err != nil {
			return err
		}
		off += int64(n)
		c.advance(int64(n))
	}
	return nil
}

// advance counts n bytes as done.
func (c *copier) advance(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.done += n
	c.progress(c.mu.done, c.from.length)
}

// inOrder makes a WriterAt of a Writer, for callers that write in order.
type inOrder struct{ io.Writer }

// WriteAt ignores the offset, which is where the last call ended.
func (w inOrder) WriteAt(p []byte, _ int64) (int, error) { return w.Write(p) }

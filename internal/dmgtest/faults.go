package dmgtest

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Counter notes what is read of R. It is safe for concurrent use, as all the
// sources here are where their R is.
type Counter struct {
	R io.ReaderAt

	mu struct {
		sync.Mutex
		ranges []Range
		bytes  int64
	}
}

// Range is what one call asked for.
type Range struct {
	Off int64
	Len int
}

// ReadAt implements io.ReaderAt.
func (c *Counter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.R.ReadAt(p, off)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ranges = append(c.mu.ranges, Range{off, len(p)})
	c.mu.bytes += int64(n)
	return n, err
}

// Calls is how many reads there were.
func (c *Counter) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.ranges)
}

// Bytes is how many bytes they returned.
func (c *Counter) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.bytes
}

// Ranges is what the calls asked for, in the order they ended.
func (c *Counter) Ranges() []Range {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Range(nil), c.mu.ranges...)
}

// Reset forgets everything.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ranges, c.mu.bytes = nil, 0
}

// FailAt fails its Call-th read, counted from 1, with Err and without a byte
// read; with Sticky, all reads from then on.
type FailAt struct {
	R      io.ReaderAt
	Call   int64
	Err    error
	Sticky bool

	calls atomic.Int64
}

// ReadAt implements io.ReaderAt.
func (f *FailAt) ReadAt(p []byte, off int64) (int, error) {
	n := f.calls.Add(1)
	if n == f.Call || f.Sticky && n > f.Call {
		return 0, f.Err
	}
	return f.R.ReadAt(p, off)
}

// Calls is how many reads there were.
func (f *FailAt) Calls() int64 { return f.calls.Load() }

// Short returns at most Max bytes a call. Where it cut a read it returns Err;
// with Err nil it breaks io.ReaderAt's contract, as careless sources do.
type Short struct {
	R   io.ReaderAt
	Max int
	Err error
}

// ReadAt does not quite implement io.ReaderAt.
func (s Short) ReadAt(p []byte, off int64) (int, error) {
	if len(p) <= s.Max {
		return s.R.ReadAt(p, off)
	}
	n, err := s.R.ReadAt(p[:s.Max], off)
	if err == nil {
		err = s.Err
	}
	return n, err
}

// EagerEOF returns io.EOF along with the last of the Size bytes of R, which
// io.ReaderAt allows and many sources do.
type EagerEOF struct {
	R    io.ReaderAt
	Size int64
}

// ReadAt implements io.ReaderAt.
func (e EagerEOF) ReadAt(p []byte, off int64) (int, error) {
	n, err := e.R.ReadAt(p, off)
	if err == nil && off+int64(n) >= e.Size {
		err = io.EOF
	}
	return n, err
}

// Slow waits before every read, as a remote source does.
type Slow struct {
	R     io.ReaderAt
	Delay time.Duration
}

// ReadAt implements io.ReaderAt.
func (s Slow) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(s.Delay)
	return s.R.ReadAt(p, off)
}

// ReaderAtFunc is a source that is a function: for one that changes between
// reads, blocks until told, or fails in some ranges only.
type ReaderAtFunc func(p []byte, off int64) (int, error)

// ReadAt implements io.ReaderAt.
func (f ReaderAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

package sparse

import (
	"errors"
	"io"
	"io/fs"
	"sync"
)

// handles keeps the files of the bands read last. More than maxOpen are open only
// while more than that are being read.
type handles struct {
	open func(n int64) (Sized, io.Closer, error)

	mu struct { // not held while opening, reading or closing
		sync.Mutex
		open   map[int64]*handle
		clock  uint64
		closed bool
	}
}

// handle is a band's file. Its fields but refs and used, which the lock of
// handles guards, don't change once ready is closed.
type handle struct {
	band  int64
	ready chan struct{}
	data  Sized
	file  io.Closer
	err   error

	refs int
	used uint64
}

// acquire returns band n's file, opened by the first to ask. A failure is told to
// all who waited for it and then forgotten.
func (s *handles) acquire(n int64) (*handle, error) {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil, fs.ErrClosed
	}
	h := s.mu.open[n]
	if h != nil {
		h.refs++
		s.mu.Unlock()
		<-h.ready
		if h.err != nil {
			return nil, h.err
		}
		return h, nil
	}
	h = &handle{band: n, ready: make(chan struct{}), refs: 1}
	s.mu.open[n] = h
	s.mu.Unlock()

	// Opened without the lock: readers of other bands go on meanwhile, those of
	// this one wait for ready.
	h.data, h.file, h.err = s.open(n)
	if h.err != nil {
		s.mu.Lock()
		delete(s.mu.open, n)
		s.mu.Unlock()
	}
	close(h.ready)
	return h, h.err
}

// release gives back what acquire returned.
func (s *handles) release(h *handle) {
	s.mu.Lock()
	s.mu.clock++
	h.refs--
	h.used = s.mu.clock
	victim := s.evict()
	s.mu.Unlock()
	if victim != nil {
		// It was only read: nothing is lost if closing fails.
		victim.file.Close()
	}
}

// evict takes out the file that was unused for longest, if there are too many.
// One is enough: each release looks.
func (s *handles) evict() *handle {
	if len(s.mu.open) <= maxOpen && !s.mu.closed {
		return nil
	}
	// A walk over some 64 entries costs nothing beside opening a file, which is
	// what made it necessary.
	var oldest *handle
	for _, h := range s.mu.open {
		if h.refs == 0 && (oldest == nil || h.used < oldest.used) {
			oldest = h
		}
	}
	if oldest != nil {
		delete(s.mu.open, oldest.band)
	}
	return oldest
}

// close closes what isn't being read; the rest is closed as it is released.
func (s *handles) close() error {
	s.mu.Lock()
	s.mu.closed = true
	var idle []*handle
	for n, h := range s.mu.open {
		if h.refs == 0 {
			idle = append(idle, h)
			delete(s.mu.open, n)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, h := range idle {
		errs = append(errs, h.file.Close())
	}
	return errors.Join(errs...)
}

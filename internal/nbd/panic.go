package nbd

import (
	"fmt"
	"runtime/debug"
)

// PanicError is told to [Server.ErrorLog] when the disk's ReadAt or Status panicked, or the server itself did. In the
// first case the request was answered with an I/O error, in the second the extent was served as data, and in the third
// the connection was closed. Other requests and connections go on in all three.
type PanicError struct {
	Value any    // what panic was called with; nil if the goroutine ended by runtime.Goexit
	Stack []byte // of the goroutine, as debug.Stack returns it
}

// Error returns the value without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic while serving a client: %v", e.Value) }

// newPanicError makes the error of a panic that was recovered with value v. It must be called by the deferred function
// that recovered it: the stack still shows the place then.
func newPanicError(v any) *PanicError { return &PanicError{v, debug.Stack()} }

// containStatus returns status, but one whose panics are reported, and make no progress.
func (s *Server) containStatus(status func(int64) (int64, bool)) func(int64) (int64, bool) {
	if status == nil {
		return nil
	}
	return func(off int64) (end int64, hole bool) {
		defer func() {
			if v := recover(); v != nil {
				end, hole = off, false
				s.report(fmt.Errorf("nbd: extent at %d: %w", off, newPanicError(v)))
			}
		}()
		return status(off)
	}
}

// contain runs f, and hangs up if it does not return: how much of an answer was sent is unknown then. It tells whether
// f returned.
func (c *conn) contain(f func()) (returned bool) {
	defer func() {
		if !returned {
			c.hangUp(newPanicError(recover()))
		}
	}()
	f()
	return true
}

// readDisk calls the disk's ReadAt. If that panics, the error says so, and l's buffer, of which p is a part, is not
// used again: goroutines that ReadAt started may be writing to it.
func (c *conn) readDisk(l *lease, p []byte, off int64) (n int, err error) {
	returned := false
	defer func() {
		if !returned {
			l.lost = true
			n, err = 0, newPanicError(recover())
		}
	}()
	n, err = c.ReaderAt.ReadAt(p, off)
	returned = true
	return n, err
}

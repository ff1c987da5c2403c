package readat

import (
	"io"
	"sync"
	"sync/atomic"
)

// Ends is a source whose first and last EndLen bytes are read once while a file is opened: that
// takes many small reads there, and each is a round trip where the source is remote.
type Ends struct {
	R    io.ReaderAt
	Size int64 // of R, in bytes

	head, tail []byte
	done       atomic.Bool
	mu         sync.Mutex // of head and tail: large reads of encrypted files are shared out
}

// EndLen is how much Ends keeps of either end: enough for all headers and, as a rule, for koly and the property
// list before it.
const EndLen = 32 << 10

// Forget passes all further reads on. No read may be under way.
func (e *Ends) Forget() {
	e.head, e.tail = nil, nil
	e.done.Store(true)
}

// ReadAt implements io.ReaderAt.
func (e *Ends) ReadAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	switch tail := max(0, e.Size-EndLen); {
	case e.done.Load():
	case off >= 0 && off >= tail && end <= e.Size:
		return e.copy(&e.tail, tail, p, off)
	case off >= 0 && end <= min(EndLen, e.Size):
		return e.copy(&e.head, 0, p, off)
	}
	return e.R.ReadAt(p, off)
}

// copy copies from the end that begins at byte at, which it reads first if need
// be.
func (e *Ends) copy(end *[]byte, at int64, p []byte, off int64) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if *end == nil {
		b := make([]byte, min(EndLen, e.Size))
		if _, err := Full(e.R, b, at); err != nil {
			return 0, err
		}
		*end = b
	}
	return copy(p, (*end)[off-at:]), nil
}

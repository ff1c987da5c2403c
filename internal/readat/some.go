package readat

import (
	"errors"
	"io"
)

// maxEmptyReads is how often in a row a source may return nothing, as in bufio.
const maxEmptyReads = 100

// ErrCount is what a source gets that breaks io.Reader's contract by returning
// more than it was given room for, or less than nothing.
var ErrCount = errors.New("source returned an impossible count")

// Some reads from r once, and returns at least one byte or an error, maybe both.
// A source that returns neither is asked again, some times.
func Some(r io.Reader, p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := r.Read(p)
		if n < 0 || n > len(p) {
			return 0, ErrCount
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

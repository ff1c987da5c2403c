// Package readat reads from sources that may not keep to what io.ReaderAt and
// io.Reader promise.
package readat

import (
	"errors"
	"io"
)

// ErrCount means that a source broke the contract of io.ReaderAt or io.Reader: it
// returned more bytes than it was given room for, or fewer than none.
var ErrCount = errors.New("the source breaks the contract of io.ReaderAt: it returned a negative count of bytes, or more than it had room for")

// Full fills p from r at off or fails, and returns how many bytes it read. An
// early end is io.ErrUnexpectedEOF: callers ask for what the size they were told
// includes. A source that breaks io.ReaderAt's contract by returning less without
// an error is asked again as long as it returns something. An impossible count is
// ErrCount, and not counted.
func Full(r io.ReaderAt, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := r.ReadAt(p[n:], off+int64(n))
		if m < 0 || m > len(p)-n {
			return n, ErrCount
		}
		n += m
		switch {
		case n == len(p):
		case err == io.EOF:
			return n, io.ErrUnexpectedEOF
		case err == nil && m == 0:
			return n, io.ErrNoProgress
		case err != nil:
			return n, err
		}
	}
	return n, nil
}

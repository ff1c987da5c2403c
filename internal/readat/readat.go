// Package readat reads from sources that may not keep to what io.ReaderAt and
// io.Reader promise.
package readat

import "io"

// Full fills p from r at off or fails, and returns how many bytes it read. An
// early end is io.ErrUnexpectedEOF: callers ask for what the size they were told
// includes. A source that breaks io.ReaderAt's contract by returning less without
// an error is asked again as long as it returns something.
func Full(r io.ReaderAt, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := r.ReadAt(p[n:], off+int64(n))
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

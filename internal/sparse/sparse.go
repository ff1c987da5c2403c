// Package sparse reads the two formats that store only those bands of a disk that
// were written: sparse images, one file with an index, and sparse bundles, a
// directory with a file for each band.
//
// Both serve the disk as an io.ReaderAt in which missing bands are zeros, and both
// say where those holes are. Their methods may be called concurrently.
package sparse

import (
	"errors"
	"fmt"
	"io"
	"iter"
)

// ErrUnsupported is a version or kind that this package doesn't read. The error
// names it. A source's own error is passed on, wrapped.
var ErrUnsupported = errors.New("sparse disk not supported")

// FormatError is a header, index or property list that can't be right.
type FormatError struct {
	File   string // in a sparse bundle; empty in an image
	Offset int64
	Msg    string
}

func (e *FormatError) Error() string {
	if e.File != "" {
		return fmt.Sprintf("sparse bundle: %s at %d: %s", e.File, e.Offset, e.Msg)
	}
	return fmt.Sprintf("sparse image at %d: %s", e.Offset, e.Msg)
}

// Extent is a range of the disk, in bytes, that is stored or isn't.
type Extent struct {
	Offset, Length int64
	Hole           bool

	// DataOffset is where a sparse image keeps the range. It is 0 for holes and
	// in a sparse bundle, whose bands are files of their own.
	DataOffset int64

	// Stored is how many bytes from Offset on there are, 0 for holes. Where it is
	// less than Length, the rest is damaged or was cut off, and can't be read.
	Stored int64
}

// maxDefects is how many defects are kept of a disk: one may have a million.
const maxDefects = 100

// defects are what is wrong with a disk of which the rest can be read.
type defects []error

func (d *defects) add(file string, offset int64, format string, args ...any) {
	if len(*d) < maxDefects {
		*d = append(*d, &FormatError{file, offset, fmt.Sprintf(format, args...)})
	}
}

// extents walks a disk of size bytes. at returns the extent that begins at an
// offset, and is not empty.
func extents(size int64, at func(off int64) Extent) iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for off := int64(0); off < size; {
			e := at(off)
			if !yield(e) {
				return
			}
			off += e.Length
		}
	}
}

// clip returns the part of p that a disk of size bytes has from off on, and what
// ReadAt returns besides if it reads all of that.
func clip(p []byte, off, size int64) ([]byte, error) {
	switch {
	case off < 0:
		return nil, errors.New("sparse: negative offset")
	case int64(len(p)) <= size-off || len(p) == 0:
		return p, nil
	case off >= size:
		return nil, io.EOF
	}
	return p[:size-off], io.EOF
}

// Package segment joins a UDIF image that was split into files: x.dmg,
// x.002.dmgpart and so on. Each ends with a trailer ("koly") of its own, which says
// where its data goes; the block tables are in the first.
//
// The data forks joined are one io.ReaderAt. A chunk may begin in one file and end
// in the next.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-dmg/dmg/internal/readat"
)

// What can be wrong with a part. The error is a *PartError, which names it.
var (
	ErrMissing  = errors.New("segment missing")
	ErrForeign  = errors.New("segment of another image")
	ErrOrder    = errors.New("segment out of order")
	ErrNotFirst = errors.New("not the first segment")
	ErrFormat   = errors.New("damaged segment")
)

// PartError is an error with one part, or reading it.
type PartError struct {
	Name string // of the part's file
	Err  error
}

func (e *PartError) Error() string { return e.Name + ": " + e.Err.Error() }

func (e *PartError) Unwrap() error { return e.Err }

const (
	trailerLen = 512

	// maxParts is as many files as are kept open.
	maxParts = 10_000
)

// Trailer is what a part's koly says about it.
type Trailer struct {
	Number, Count uint32   // of the segment, from 1, and of all; 0 in images that were never split
	Set           [16]byte // the UUID that the segments have in common
	Running       int64    // where this part's data begins in the joined data
	Offset        int64    // of the data in this part
	Length        int64
	Sectors       int64 // of the whole disk
}

// ParseTrailer finds the trailer ("koly", 512 bytes, big-endian) of a file of size bytes and reads it.
func ParseTrailer(r io.ReaderAt, size int64) (Trailer, error) {
	b, err := findTrailer(r, size)
	if err != nil {
		return Trailer{}, err
	}
	t := Trailer{
		Number:  binary.BigEndian.Uint32(b[0x38:]),
		Count:   binary.BigEndian.Uint32(b[0x3C:]),
		Set:     [16]byte(b[0x40:]),
		Running: be64(b[0x10:]),
		Offset:  be64(b[0x18:]),
		Length:  be64(b[0x20:]),
		Sectors: be64(b[0x1EC:]),
	}
	// Running isn't bounded here: Join compares it with the parts before.
	if t.Running < 0 || t.Offset < 0 || t.Length < 0 || t.Offset > size || t.Length > size-t.Offset {
		return Trailer{}, fmt.Errorf("%w: %d bytes of data at %d in a file of %d", ErrFormat, t.Length, t.Offset, size)
	}
	return t, nil
}

// findTrailer returns the trailer's bytes. Files may be padded to whole sectors
// after it, and some old writers put it in front.
func findTrailer(r io.ReaderAt, size int64) ([]byte, error) {
	if size < trailerLen {
		return nil, fmt.Errorf("%w: shorter than a trailer", ErrFormat)
	}
	tail := make([]byte, min(size, 2*trailerLen-1))
	if _, err := readat.Full(r, tail, size-int64(len(tail))); err != nil {
		return nil, err
	}
	for i := len(tail) - trailerLen; i >= 0; i-- {
		if string(tail[i:i+4]) == "koly" {
			return tail[i:], nil
		}
	}
	head := tail[:trailerLen]
	if _, err := readat.Full(r, head, 0); err != nil {
		return nil, err
	}
	if string(head[:4]) != "koly" {
		return nil, fmt.Errorf("%w: no trailer", ErrFormat)
	}
	return head, nil
}

// Segmented reports whether there is more than this one part.
func (t Trailer) Segmented() bool { return t.Count > 1 }

// Part is one file of an image.
type Part struct {
	Name string // for errors
	R    io.ReaderAt
	Size int64
}

// Reader serves the joined data. Its methods may be called concurrently where the
// parts' readers may.
type Reader struct {
	spans   []span
	size    int64
	closers []io.Closer
}

// span is the data of one part.
type span struct {
	Part
	running, offset, length int64
}

// Join checks that parts are all the segments of one image, in order, and joins
// their data.
func Join(parts []Part) (*Reader, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("%w: no part", ErrMissing)
	}
	r := &Reader{}
	var first Trailer
	for i, p := range parts {
		t, err := ParseTrailer(p.R, p.Size)
		if err != nil {
			return nil, &PartError{p.Name, err}
		}
		if i == 0 {
			first = t
		}
		if err := r.add(p, t, first); err != nil {
			return nil, &PartError{p.Name, err}
		}
	}
	if n := uint32(len(parts)); n < first.Count {
		return nil, &PartError{PartName(parts[0].Name, int(n)+1), missing(n+1, first.Count)}
	}
	return r, nil
}

func missing(n, count uint32) error {
	return fmt.Errorf("%w: number %d of %d", ErrMissing, n, count)
}

// add takes the part after those already there.
func (r *Reader) add(p Part, t, first Trailer) error {
	want := uint32(len(r.spans) + 1)
	switch {
	// An image that was never split is its own only part.
	case want == 1 && t.Count == 0 && t.Number <= 1:
	// The set comes before the number: a part of another image has its own
	// numbers.
	case t.Set != first.Set:
		return ErrForeign
	case t.Count != first.Count || t.Sectors != first.Sectors:
		return fmt.Errorf("%w: %d segments for %d sectors, not %d for %d", ErrForeign, t.Count, t.Sectors, first.Count, first.Sectors)
	case want == 1 && t.Number != 1:
		return fmt.Errorf("%w but %d of %d", ErrNotFirst, t.Number, t.Count)
	case t.Number != want || want > t.Count:
		return fmt.Errorf("%w: it is %d, not %d of %d", ErrOrder, t.Number, want, t.Count)
	}
	// A part that was cut short or replaced by one of another split leaves a gap.
	if t.Running != r.size {
		return fmt.Errorf("%w: its data belongs at %d, where the part before ends is %d", ErrOrder, t.Running, r.size)
	}
	if t.Length > 1<<62-r.size {
		return fmt.Errorf("%w: data past 2^62 bytes", ErrFormat)
	}
	r.spans = append(r.spans, span{p, r.size, t.Offset, t.Length})
	r.size += t.Length
	return nil
}

// Size returns the bytes of the joined data.
func (r *Reader) Size() int64 { return r.size }

// Parts returns how many files the data comes from.
func (r *Reader) Parts() int { return len(r.spans) }

// Close closes what Open opened.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// ReadAt implements io.ReaderAt with one call of each part it needs. An error of a
// part's reader is passed on in a *PartError.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("segment: negative offset")
	}
	var eof error
	if rest := max(r.size-off, 0); int64(len(p)) > rest {
		p, eof = p[:rest], io.EOF
	}
	// The first part that ends after off: parts may be empty.
	i, _ := slices.BinarySearchFunc(r.spans, off, func(s span, off int64) int {
		if s.running+s.length <= off {
			return -1
		}
		return 1
	})
	done := 0
	for ; done < len(p); i++ {
		s := r.spans[i]
		in := off + int64(done) - s.running
		part := p[done:]
		part = part[:min(int64(len(part)), s.length-in)]
		n, err := readat.Full(s.R, part, s.offset+in)
		done += n
		if err != nil {
			return done, &PartError{s.Name, err}
		}
	}
	return done, eof
}

// be64 returns a size or an offset, negative where it doesn't fit.
func be64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

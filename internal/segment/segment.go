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
	ErrMissing = errors.New("segment missing")
	ErrForeign = errors.New("segment of another image")
	ErrOrder   = errors.New("segment out of order")
	ErrFormat  = errors.New("damaged segment")

	// ErrCut is a part of which the end is missing, or all that tells where its
	// data goes. The others can be read: it is a defect of a Reader.
	ErrCut = fmt.Errorf("%w: it is cut off or damaged", ErrFormat)
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

// ParseTrailer finds the trailer ("koly", 512 bytes, big-endian) of a file of size
// bytes and reads it. The file has the data it speaks of.
func ParseTrailer(r io.ReaderAt, size int64) (Trailer, error) {
	b, _, err := findTrailer(r, size)
	if err != nil {
		return Trailer{}, err
	}
	t := parseTrailer(b)
	if !t.fits(size) {
		return Trailer{}, fmt.Errorf("%w: %d bytes of data at %d in a file of %d", ErrFormat, t.Length, t.Offset, size)
	}
	return t, nil
}

// parseTrailer reads the fields.
func parseTrailer(b []byte) Trailer {
	return Trailer{
		Number:  binary.BigEndian.Uint32(b[0x38:]),
		Count:   binary.BigEndian.Uint32(b[0x3C:]),
		Set:     [16]byte(b[0x40:]),
		Running: be64(b[0x10:]),
		Offset:  be64(b[0x18:]),
		Length:  be64(b[0x20:]),
		Sectors: be64(b[0x1EC:]),
	}
}

// fits reports whether a file of size bytes has t's data. Running isn't bounded
// here: Join compares it with the parts before.
func (t Trailer) fits(size int64) bool {
	return t.Running >= 0 && t.Offset >= 0 && t.Length >= 0 && t.Offset <= size && t.Length <= size-t.Offset
}

// findTrailer returns the trailer's bytes and where they are. Files may be padded to
// whole sectors after it, and some old writers put it in front.
func findTrailer(r io.ReaderAt, size int64) (b []byte, at int64, err error) {
	if size < trailerLen {
		return nil, 0, fmt.Errorf("%w: shorter than a trailer", ErrFormat)
	}
	tail := make([]byte, min(size, 2*trailerLen-1))
	if _, err := readat.Full(r, tail, size-int64(len(tail))); err != nil {
		return nil, 0, err
	}
	for i := len(tail) - trailerLen; i >= 0; i-- {
		if string(tail[i:i+4]) == "koly" {
			return tail[i:], size - int64(len(tail)-i), nil
		}
	}
	head := tail[:trailerLen]
	if _, err := readat.Full(r, head, 0); err != nil {
		return nil, 0, err
	}
	if string(head[:4]) != "koly" {
		return nil, 0, fmt.Errorf("%w: no trailer", ErrFormat)
	}
	return head, 0, nil
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
	missing []Range
	defects []error
}

// Range is a range of the joined data, in bytes.
type Range struct{ Off, Len int64 }

// span is the data of one part.
type span struct {
	Part
	running, offset, length int64
	have                    int64 // bytes of it that the file has
}

// Join checks that parts are all the segments of one image, in order, and joins
// their data. A part that isn't the first may be cut off, and lack its trailer: its
// place follows from the others.
func Join(parts []Part) (*Reader, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("%w: no part", ErrMissing)
	}
	r := &Reader{}
	var first Trailer
	for i, p := range parts {
		t, have, err := p.trailer()
		if i == 0 {
			if err == nil && have < t.Length {
				err = ErrCut
			}
			first = t
		}
		switch {
		case i > 0 && err == ErrCut && uint32(i) < first.Count:
			// Data begins where such a part does, as it does in all known ones
			// but the first.
			r.spans = append(r.spans, span{p, r.size, 0, -1, have})
			continue
		case err == nil:
			err = r.add(p, t, first, have)
		}
		if err != nil {
			return nil, &PartError{p.Name, err}
		}
	}
	if n := uint32(len(parts)); n < first.Count {
		return nil, &PartError{PartName(parts[0].Name, int(n)+1), missing(n+1, first.Count)}
	}
	return r, r.settle(len(r.spans), -1)
}

func missing(n, count uint32) error {
	return fmt.Errorf("%w: number %d of %d", ErrMissing, n, count)
}

// trailer reads the part's trailer, and how many bytes the part has of the data that
// it speaks of. The error is ErrCut if there is no trailer: then all that there is may
// be data. It is ErrCut, and have 0, if it can't be told which of the data is missing.
func (p Part) trailer() (t Trailer, have int64, err error) {
	b, at, err := findTrailer(p.R, p.Size)
	if errors.Is(err, ErrFormat) {
		return Trailer{}, p.Size, ErrCut
	}
	if err != nil {
		return Trailer{}, 0, err
	}
	t = parseTrailer(b)
	switch {
	case t.fits(p.Size):
		return t, t.Length, nil
	case at == 0 && t.Running >= 0 && t.Offset >= trailerLen && t.Length >= 0:
		return t, max(0, p.Size-t.Offset), nil // what it lacks was behind
	}
	return t, 0, ErrCut
}

// check compares a part's trailer with the first one's.
func (t Trailer) check(first Trailer, want uint32) error {
	switch {
	// An image that was never split is its own only part.
	case want == 1 && t.Count == 0 && t.Number <= 1:
	// The set comes before the number: a part of another image has its own
	// numbers.
	case t.Set != first.Set:
		return ErrForeign
	case t.Count != first.Count || t.Sectors != first.Sectors:
		return fmt.Errorf("%w: %d segments for %d sectors, not %d for %d", ErrForeign, t.Count, t.Sectors, first.Count, first.Sectors)
	case t.Number != want || want > t.Count:
		return fmt.Errorf("%w: it is %d, not %d of %d", ErrOrder, t.Number, want, t.Count)
	}
	return nil
}

// add takes the part after those already there.
func (r *Reader) add(p Part, t, first Trailer, have int64) error {
	if err := t.check(first, uint32(len(r.spans)+1)); err != nil {
		return err
	}
	unsettled := slices.IndexFunc(r.spans, func(s span) bool { return s.length < 0 })
	if unsettled >= 0 && t.Running >= r.size {
		if err := r.settle(len(r.spans), t.Running); err != nil {
			return err
		}
	}
	// A part that was replaced by one of another split leaves a gap.
	if t.Running != r.size {
		return fmt.Errorf("%w: its data belongs at %d, where the part before ends is %d", ErrOrder, t.Running, r.size)
	}
	if t.Length > maxData-r.size {
		return fmt.Errorf("%w: data past 2^62 bytes", ErrFormat)
	}
	r.spans = append(r.spans, span{p, r.size, t.Offset, t.Length, have})
	r.size += t.Length
	if have < t.Length {
		r.lose(p, r.size-t.Length+have, t.Length-have)
	}
	return nil
}

// maxData bounds the joined data, in bytes.
const maxData = 1 << 62

// settle gives the parts before part n that have no trailer their place: the data up
// to byte end belongs to them. Of several that follow each other only the first's is
// known. An end of -1 is the end of all: none of them is longer than the longest
// other, in writers known.
func (r *Reader) settle(n int, end int64) error {
	i := slices.IndexFunc(r.spans, func(s span) bool { return s.length < 0 })
	if i < 0 {
		return nil
	}
	usual := int64(0) // length
	for _, s := range r.spans[:i] {
		usual = max(usual, s.length)
	}
	most := usual // of the first one's file is data
	if n-i == 1 {
		most = maxData
	}
	if end < 0 {
		longest := max(usual, r.spans[i].have)
		end = r.size + min(longest, (maxData-r.size)/int64(n-i))*int64(n-i)
	}
	if end > maxData {
		return fmt.Errorf("%w: data past 2^62 bytes", ErrFormat)
	}
	for ; i < n; i++ {
		s := &r.spans[i]
		s.running, s.length = r.size, end-r.size
		s.have = min(s.have, s.length, most)
		r.size = end
		r.lose(s.Part, s.running+s.have, s.length-s.have)
	}
	return nil
}

// lose notes what a part lacks.
func (r *Reader) lose(p Part, off, n int64) {
	if n > 0 {
		r.missing = append(r.missing, Range{off, n})
	}
	r.defects = append(r.defects, &PartError{p.Name, fmt.Errorf("%w: %d bytes of its data are missing", ErrCut, n)})
}

// Missing returns which of the data no part has, in order.
func (r *Reader) Missing() []Range { return r.missing }

// Defects returns what is wrong with parts of which the rest can be read.
func (r *Reader) Defects() []error { return r.defects }

// First returns the first part, which has the image's tables.
func (r *Reader) First() Part { return r.spans[0].Part }

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
		have := min(int64(len(part)), max(0, s.have-in))
		n, err := readat.Full(s.R, part[:have], s.offset+in)
		done += n
		if err == nil && n < len(part) {
			err = ErrCut
		}
		if err != nil {
			return done, &PartError{s.Name, err}
		}
	}
	return done, eof
}

// be64 returns a size or an offset, negative where it doesn't fit.
func be64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

// Package asif reads ASIF, the sparse disk images of macOS 26 ("shdw"): a file of chunks of
// equal size, of which tables say where on the disk they belong.
//
// Apple publishes no description. What is read here is what independent readers agree on;
// docs/FORMAT.md says what was checked on images that diskutil wrote. Numbers are
// big-endian.
//
//	header     0x00 "shdw"           0x04 version 1     0x08 512, its length
//	           0x10 offset of a directory, 64 bits
//	           0x18 offset of another
//	           0x30 sectors of the disk, 64 bits
//	           0x38 sectors that it could ever have, 64 bits
//	           0x40 bytes of a chunk  0x44 bytes of a sector, 16 bits
//	directory  version, 64 bits; for each table its chunk in the file, 64 bits, 0 if there
//	           is none. The directory of the higher version counts, of equals the first
//	table      one chunk of groups, each a data entry for 4 × sector size chunks of the
//	           disk, and a bitmap entry. An entry is 64 bits
//
// The high two bits of a data entry are its state, the low 55 a chunk of the file.
//
//	0, 2  zeros, no chunk
//	1     the chunk
//	3     those sectors of the chunk of which the group's bitmap says so, else zeros
//
// A bitmap is a chunk with two bits for each sector of the group, the low ones first: 0
// for zeros, 1 for what is stored.
//
// The disk is served as an io.ReaderAt. Directories, tables and bitmaps are read when a
// read needs them, and [Memory] of them is kept, whatever the image says.
package asif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	// Magic is what every image begins with: the letters, the version and the header's
	// length. The letters alone may begin anything.
	Magic = "shdw\x00\x00\x00\x01\x00\x00\x02\x00"

	headerLen = 512
	entryLen  = 8
	maxChunk  = 64 << 20 // bytes. Apple's tools write 1 MiB

	stateShift = 62
	chunkMask  = 1<<55 - 1
)

// FormatError is a header, a table or a bitmap that can't be right.
type FormatError struct {
	Offset int64 // in the file, bytes
	Msg    string
}

func (e *FormatError) Error() string { return fmt.Sprintf("ASIF at %d: %s", e.Offset, e.Msg) }

// Disk is the disk in an image. Its methods may be called concurrently.
type Disk struct {
	src      io.ReaderAt
	fileSize int64
	size     int64 // of the disk
	chunk    int64 // bytes
	block    int64 // bytes of a sector
	perGroup int64 // chunks of the disk in a group
	groups   int64 // in a table
	tables   int64 // that the directory has room for
	dir      int64 // where in the file its entries are
	defects  []error
	pages    pages
}

// Open reads the header of the image r of size bytes, and the versions of its directories.
// The error is a [*FormatError] or the source's own.
func Open(r io.ReaderAt, size int64) (*Disk, error) {
	if size < headerLen {
		return nil, &FormatError{size, "short header"}
	}
	var h [headerLen]byte
	if _, err := readat.Full(r, h[:], 0); err != nil {
		return nil, err
	}
	// A file is never so long that sums of an offset in it and a chunk's length overflow.
	d := &Disk{src: r, fileSize: min(size, math.MaxInt64-2*maxChunk)}
	if err := d.parseHeader(h[:]); err != nil {
		return nil, err
	}
	if err := d.chooseDirectory(h[0x10:]); err != nil {
		return nil, err
	}
	for _, b := range h[0x50:0x60] {
		if b != 0 {
			d.defects = append(d.defects, &FormatError{0x50, "the image may be a layer over another: what that has reads as zeros"})
			break
		}
	}
	return d, nil
}

// parseHeader takes the sizes. All products of them below fit an int64: a chunk has 2^26
// bytes at most, so that a table covers less than 2^49.
func (d *Disk) parseHeader(h []byte) error {
	if string(h[:len(Magic)]) != Magic {
		return &FormatError{0, "not an ASIF image of version 1"}
	}
	sectors, most := binary.BigEndian.Uint64(h[0x30:]), binary.BigEndian.Uint64(h[0x38:])
	d.chunk, d.block = int64(binary.BigEndian.Uint32(h[0x40:])), int64(binary.BigEndian.Uint16(h[0x44:]))
	switch {
	case binary.BigEndian.Uint16(h[0x46:]) != 0:
		return &FormatError{0x46, "number that is 0 in all known images"}
	case d.block == 0 || d.block%512 != 0:
		return &FormatError{0x44, fmt.Sprintf("sectors of %d bytes", d.block)}
	case d.chunk == 0 || d.chunk%d.block != 0 || d.chunk > maxChunk:
		return &FormatError{0x40, fmt.Sprintf("chunks of %d bytes", d.chunk)}
	case sectors > most:
		return &FormatError{0x30, fmt.Sprintf("%d sectors of a disk that could have %d", sectors, most)}
	case most > uint64(math.MaxInt64/d.block):
		return &FormatError{0x38, fmt.Sprintf("%d sectors", most)}
	}
	d.size = int64(sectors) * d.block
	d.perGroup = 4 * d.block
	d.groups = d.chunk / (entryLen * (d.perGroup + 1))
	if d.groups == 0 {
		return &FormatError{0x40, fmt.Sprintf("chunks of %d bytes have no room for a group of %d", d.chunk, d.perGroup)}
	}
	reach := d.tableReach()
	d.tables = int64(most) * d.block / reach
	if int64(most)*d.block%reach > 0 {
		d.tables++
	}
	return nil
}

// chooseDirectory takes the newer of two directories, whose offsets are in b. If one can't
// be read, it may be the newer one.
func (d *Disk) chooseDirectory(b []byte) error {
	var best uint64
	for i := range 2 {
		off := binary.BigEndian.Uint64(b[8*i:])
		if off > uint64(d.fileSize-8) {
			return &FormatError{int64(0x10 + 8*i), fmt.Sprintf("directory at %d, outside the file", off)}
		}
		var v [8]byte
		if _, err := readat.Full(d.src, v[:], int64(off)); err != nil {
			return err
		}
		if n := binary.BigEndian.Uint64(v[:]); i == 0 || n > best {
			best = n
			d.dir = int64(off) + 8
		}
	}
	return nil
}

// groupReach and tableReach are how many bytes of the disk a group and a table cover.
func (d *Disk) groupReach() int64 { return d.perGroup * d.chunk }
func (d *Disk) tableReach() int64 { return d.groups * d.groupReach() }

// Size returns the bytes of the disk.
func (d *Disk) Size() int64 { return d.size }

// Defects returns what is doubtful about the image, though it can be read.
func (d *Disk) Defects() []error { return d.defects }

// Extent is a range of the disk that is stored in one way.
type Extent struct {
	Offset, Length int64 // on the disk, bytes

	Hole       bool  // nothing is stored: zeros
	DataOffset int64 // in the file, of what is stored

	// Err is a [*FormatError] if the range can't be read.
	Err error
}

// joins reports whether next goes on as e does.
func (e *Extent) joins(next *Extent) bool {
	return e.Err == nil && next.Err == nil && e.Hole == next.Hole && (e.Hole || e.DataOffset+e.Length == next.DataOffset)
}

// At returns the extent that begins at off, which is on the disk. The extent ends where
// another begins, or earlier if it has limit bytes or more. The error is the source's.
func (d *Disk) At(off, limit int64) (Extent, error) {
	e, _, err := d.run(off, limit, math.MaxInt64)
	return e, err
}

// run is At. It also returns how many chunks of the file the range is said to use, and ends
// where that is more than most.
func (d *Disk) run(off, limit, most int64) (e Extent, used int64, err error) {
	e, used, err = d.piece(off)
	for err == nil && e.Length < limit && off+e.Length < d.size && used <= most {
		next, more, err := d.piece(off + e.Length)
		if err != nil || !e.joins(&next) {
			return e, used, nil // whoever asks for the next meets its error
		}
		e.Length += next.Length
		used += more
	}
	return e, used, err
}

// Extents yields the whole disk in order, exact to the sector. It takes time in proportion
// to the file, also where tables share what they can't: the rest of the disk then is one
// extent with an error, as it is if the source fails.
func (d *Disk) Extents(yield func(Extent) bool) {
	unused := d.fileSize/d.chunk + 1
	for off := int64(0); off < d.size; {
		e, used, err := d.run(off, math.MaxInt64, unused)
		if unused -= used; unused < 0 && err == nil {
			err = &FormatError{d.dir, "chunks of the file are used more than once"}
		}
		if err != nil {
			e = Extent{Offset: off, Length: d.size - off, Err: err}
		}
		if !yield(e) {
			return
		}
		off += e.Length
	}
}

// bridge is the longest hole, in bytes, that is read with what lies around it, rather than
// in two reads.
const bridge = 16 << 10

// Span returns what a reader best takes at once from off on: a hole, damage, or what is
// stored with the short holes in it. It looks no further than so many bytes of data, or
// of a hole. Of an extent with holes in it, DataOffset is that of its first byte. The error
// is the source's.
func (d *Disk) Span(off, data, hole int64) (Extent, error) {
	e, err := d.At(off, data)
	if err == nil && e.Hole && e.Length >= data {
		return d.At(off, hole)
	}
	for err == nil && !e.Hole && e.Err == nil && e.Length < data && off+e.Length < d.size {
		next, err := d.At(off+e.Length, data)
		if err != nil || !next.Hole || next.Length >= bridge || off+e.Length+next.Length == d.size {
			break
		}
		length := e.Length + next.Length
		next, err = d.At(off+length, data)
		if err != nil || next.Err != nil || next.DataOffset != e.DataOffset+length {
			break
		}
		e.Length = length + next.Length
	}
	return e, err
}

// ReadAt implements io.ReaderAt. What is stored in one piece is read in one call, and so
// are short holes in it. The error is a [*FormatError] or the source's own.
func (d *Disk) ReadAt(p []byte, off int64) (n int, err error) {
	switch {
	case off < 0:
		return 0, errors.New("asif: negative offset")
	case len(p) == 0:
		return 0, nil
	case off >= d.size:
		return 0, io.EOF
	}
	atEnd := int64(len(p)) > d.size-off
	if atEnd {
		p = p[:d.size-off]
	}
	for n < len(p) {
		m, err := d.readSpan(p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	if atEnd {
		return n, io.EOF
	}
	return n, nil
}

// readSpan reads a span at off, or the part of it that p has room for.
func (d *Disk) readSpan(p []byte, off int64) (int, error) {
	e, err := d.Span(off, int64(len(p)), int64(len(p)))
	if err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), e.Length)]
	switch {
	case e.Err != nil:
		return 0, e.Err
	case e.Hole:
		clear(p)
		return len(p), nil
	}
	n, err := readat.Full(d.src, p, e.DataOffset)
	for at := 0; at < n; {
		x, holeErr := d.At(off+int64(at), int64(n-at))
		if holeErr != nil {
			return at, holeErr
		}
		if x.Err != nil {
			return at, x.Err
		}
		length := int(min(x.Length, int64(n-at)))
		if x.Hole { // whatever the chunk has there
			clear(p[at : at+length])
		}
		at += length
	}
	return n, err
}

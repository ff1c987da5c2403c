package sparse

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	sector    = 512
	imageMark = "sprs"
	nodeLen   = 4096

	// Where the band numbers are: to the node's end in both kinds.
	headerBands = 0x40
	nodeBands   = 0x38
)

// Image is a sparse image: a header of 4096 bytes, whose last part numbers the
// bands that follow it, and any number of further nodes of the same make. All
// numbers are big-endian.
//
//	header                                node
//	0x00  "sprs"                          0x00  "sprs"
//	0x04  version 3                       0x04  number of the node
//	0x08  sectors of a band               0x08  flags
//	0x0C  flags                           0x0C  where the next node is, 64 bits
//	0x10  sectors of the disk             0x38  1010 band numbers
//	0x14  where the next node is, 64 bits
//	0x1C  sectors of the disk, 64 bits
//	0x40  1008 band numbers
//
// Images with one node were checked against Apple's tools; further nodes are as
// other readers document them.
type Image struct {
	src      io.ReaderAt
	size     int64 // of the disk
	bandSize int64
	bands    []band // by their place on the disk
}

// band is where one band of the disk is in the file. Nothing more is kept for it.
type band struct {
	n   uint32
	off int64
}

// OpenImage reads the index of the sparse image r of size bytes: 4 KiB for about a
// thousand bands. It keeps 16 bytes for each band stored.
func OpenImage(r io.ReaderAt, size int64) (*Image, error) {
	var node [nodeLen]byte
	if size < nodeLen {
		return nil, &FormatError{"", size, "short header"}
	}
	if _, err := readat.Full(r, node[:], 0); err != nil {
		return nil, err
	}
	m := &Image{src: r}
	if err := m.parseHeader(node[:]); err != nil {
		return nil, err
	}
	at, next := int64(0), be64(node[0x14:])
	used, err := m.addBands(node[headerBands:], nodeLen, size)
	for err == nil && next != 0 {
		// A node comes after the bands of the one before it, so nodes can't
		// loop, nor claim more bands than the file has room for.
		if next < used || next > size-nodeLen {
			return nil, &FormatError{"", at, fmt.Sprintf("next index node at %d", next)}
		}
		if _, err := readat.Full(r, node[:], next); err != nil {
			return nil, err
		}
		if string(node[:4]) != imageMark {
			return nil, &FormatError{"", next, "no index node"}
		}
		at, next = next, be64(node[0x0C:])
		used, err = m.addBands(node[nodeBands:], at+nodeLen, size)
	}
	if err != nil {
		return nil, err
	}
	return m, m.sort()
}

// parseHeader reads the sizes.
func (m *Image) parseHeader(b []byte) error {
	if string(b[:4]) != imageMark {
		return &FormatError{"", 0, "not a sparse image"}
	}
	if v := binary.BigEndian.Uint32(b[4:]); v != 3 {
		return fmt.Errorf("%w: sparse image of version %d", ErrUnsupported, v)
	}
	m.bandSize = int64(binary.BigEndian.Uint32(b[8:])) * sector
	if m.bandSize == 0 {
		return &FormatError{"", 8, "bands of 0 sectors"}
	}
	// The count of 32 bits is the low half of the later one of 64.
	sectors := be64(b[0x1C:])
	if sectors == 0 {
		sectors = int64(binary.BigEndian.Uint32(b[0x10:]))
	}
	if sectors < 0 || sectors > math.MaxInt64/sector {
		return &FormatError{"", 0x1C, fmt.Sprintf("%d sectors", uint64(sectors))}
	}
	m.size = sectors * sector
	return nil
}

// addBands takes the numbers of the bands stored one after the other from base on,
// and returns where their room ends. Number n>0 is band n-1 of the disk; a room
// may be free.
func (m *Image) addBands(numbers []byte, base, fileSize int64) (end int64, err error) {
	end = base
	for i := 0; i < len(numbers); i += 4 {
		n := binary.BigEndian.Uint32(numbers[i:])
		if n == 0 {
			continue
		}
		// Compared by division: the product of slot and band size may not fit.
		slot := int64(i / 4)
		if slot > (fileSize-base)/m.bandSize {
			return 0, &FormatError{"", base, fmt.Sprintf("band %d past the end of the file", n-1)}
		}
		b := band{n - 1, base + slot*m.bandSize}
		start, length := m.place(b.n)
		if start >= m.size {
			return 0, &FormatError{"", base, fmt.Sprintf("band %d past the end of the disk", b.n)}
		}
		if length > fileSize-b.off {
			return 0, &FormatError{"", base, fmt.Sprintf("band %d past the end of the file", b.n)}
		}
		m.bands = append(m.bands, b)
		end = b.off + m.bandSize
	}
	return end, nil
}

// place returns where band n begins on the disk and how much of it the disk has,
// which is less than all for the last. It can't overflow: both factors are below
// 2^41 and 2^32, and where their product is beyond int64 the disk is smaller.
func (m *Image) place(n uint32) (start, length int64) {
	if int64(n) > math.MaxInt64/m.bandSize {
		return math.MaxInt64, 0
	}
	start = int64(n) * m.bandSize
	return start, min(m.bandSize, m.size-start)
}

// sort brings the bands into the disk's order, in which they are looked up, and
// finds those that are stored more than once.
func (m *Image) sort() error {
	slices.SortFunc(m.bands, func(a, b band) int { return cmp.Compare(a.n, b.n) })
	for i := 1; i < len(m.bands); i++ {
		if m.bands[i].n == m.bands[i-1].n {
			return &FormatError{"", m.bands[i].off, fmt.Sprintf("band %d stored twice", m.bands[i].n)}
		}
	}
	m.bands = slices.Clip(m.bands)
	return nil
}

// Size returns the bytes of the disk.
func (m *Image) Size() int64 { return m.size }

// BandSize returns the bytes of a band.
func (m *Image) BandSize() int64 { return m.bandSize }

// ReadAt implements io.ReaderAt. What is stored in one piece is read in one call.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	p, eof := clip(p, off, m.size)
	done := 0
	for done < len(p) {
		part := p[done:]
		e := m.extent(off+int64(done), int64(len(part)))
		part = part[:min(int64(len(part)), e.Length)]
		if e.Hole {
			clear(part)
			done += len(part)
			continue
		}
		n, err := readat.Full(m.src, part, e.DataOffset)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, eof
}

// ExtentAt returns the extent from off, which is on the disk, to where a hole
// begins or ends or the data goes on elsewhere in the file.
func (m *Image) ExtentAt(off int64) Extent { return m.extent(off, math.MaxInt64) }

// extent is ExtentAt, but looks no further than it takes to find limit bytes.
func (m *Image) extent(off, limit int64) Extent {
	n := off / m.bandSize
	i, stored := slices.BinarySearchFunc(m.bands, n, func(b band, n int64) int { return cmp.Compare(int64(b.n), n) })
	if !stored {
		end := m.size
		if i < len(m.bands) {
			end, _ = m.place(m.bands[i].n)
		}
		return Extent{Offset: off, Length: end - off, Hole: true}
	}
	from := m.bands[i]
	start, length := m.place(from.n)
	e := Extent{Offset: off, Length: start + length - off, DataOffset: from.off + off - start}
	// A read of a few bytes must not walk over all bands of a large disk.
	for ; e.Length < limit && i+1 < len(m.bands) && m.bands[i+1] == (band{m.bands[i].n + 1, m.bands[i].off + m.bandSize}); i++ {
		_, length = m.place(m.bands[i+1].n)
		e.Length += length
	}
	return e
}

// Extents returns the whole disk in order. Neighbours that could be one are one.
func (m *Image) Extents() iter.Seq[Extent] { return extents(m.size, m.ExtentAt) }

// be64 returns an offset or a size, negative where it doesn't fit.
func be64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

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
	fileSize int64
	size     int64 // of the disk
	bandSize int64
	bands    []band // by their place on the disk
	unlisted bool   // an index node is missing: any band may have been in it
	defects  defects
}

// band is where one band of the disk is in the file. Nothing more is kept for it.
type band struct {
	n   uint32
	off int64 // or one of these two
}

const (
	cutOff = math.MaxInt64 // the file ends before it
	twice  = -1            // it is stored more than once: it can't be told which is right
)

// OpenImage reads the index of the sparse image r of size bytes: 4 KiB for about a
// thousand bands. It keeps 16 bytes for each band stored.
//
// An image that was cut off opens, and so does one with damage in its index, as
// long as any of its bands can be read: see Defects.
func OpenImage(r io.ReaderAt, size int64) (*Image, error) {
	var node [nodeLen]byte
	if size < nodeLen {
		return nil, &FormatError{"", size, "short header"}
	}
	if _, err := readat.Full(r, node[:], 0); err != nil {
		return nil, err
	}
	m := &Image{src: r, fileSize: size}
	if err := m.parseHeader(node[:]); err != nil {
		return nil, err
	}
	next := be64(node[0x14:])
	used := m.addBands(node[headerBands:], nodeLen)
	for next != 0 {
		// A node comes after the bands of the one before it, so nodes can't
		// loop, nor list more bands than the file has room for.
		if next < used || next > size-nodeLen {
			m.loseNode(next, used)
			break
		}
		if _, err := readat.Full(r, node[:], next); err != nil {
			return nil, err
		}
		if string(node[:4]) != imageMark {
			m.loseNode(next, used)
			break
		}
		used = m.addBands(node[nodeBands:], next+nodeLen)
		next = be64(node[0x0C:])
	}
	m.sort()
	m.noteCut()
	if len(m.defects) > 0 && !slices.ContainsFunc(m.bands, func(b band) bool { return m.stored(b) > 0 }) {
		return nil, m.defects[0]
	}
	return m, nil
}

// loseNode notes that there is no index node where the one before, whose bands end
// at used, says. Where the file ends there as well, that node's word is all that is
// wrong.
func (m *Image) loseNode(next, used int64) {
	if m.unlisted = next > m.fileSize-nodeLen || used < m.fileSize; m.unlisted {
		m.defects.add("", next, "no index node at %d: bands that the nodes before it don't list can't be read", next)
	} else {
		m.defects.add("", next, "no index node at %d", next)
	}
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
func (m *Image) addBands(numbers []byte, base int64) (end int64) {
	end = base
	for i := 0; i < len(numbers); i += 4 {
		n := binary.BigEndian.Uint32(numbers[i:])
		if n == 0 {
			continue
		}
		b := band{n - 1, cutOff}
		// Compared by division: the product of slot and band size may not fit.
		slot := int64(i / 4)
		if slot <= (m.fileSize-base)/m.bandSize {
			b.off = base + slot*m.bandSize
		}
		end = m.fileSize
		if b.off <= m.fileSize-m.bandSize {
			end = b.off + m.bandSize
		}
		if start, _ := m.place(b.n); start >= m.size {
			m.defects.add("", base, "band %d past the end of the disk: it is left out, and reads of the band that it should be give zeros", b.n)
			continue
		}
		m.bands = append(m.bands, b)
	}
	return end
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

// stored returns how many bytes of a band the file has.
func (m *Image) stored(b band) int64 {
	if b.off == twice {
		return 0
	}
	_, length := m.place(b.n)
	return max(0, min(length, m.fileSize-b.off))
}

// sort brings the bands into the disk's order, in which they are looked up, and
// finds those that are stored more than once.
func (m *Image) sort() {
	slices.SortFunc(m.bands, func(a, b band) int { return cmp.Compare(a.n, b.n) })
	kept := m.bands[:0]
	for _, b := range m.bands {
		last := len(kept) - 1
		if last < 0 || kept[last].n != b.n {
			kept = append(kept, b)
			continue
		}
		if at := kept[last].off; at != twice {
			m.defects.add("", at, "band %d stored twice: it can't be read", b.n)
			kept[last].off = twice
		}
	}
	m.bands = slices.Clip(kept)
}

// noteCut notes what the file's end lacks.
func (m *Image) noteCut() {
	missing, bands := int64(0), 0
	for _, b := range m.bands {
		_, length := m.place(b.n)
		if n := length - m.stored(b); n > 0 && b.off != twice {
			missing += min(n, math.MaxInt64-missing)
			bands++
		}
	}
	if bands > 0 {
		// The first of them: what else is wrong may follow from it.
		m.defects = slices.Insert(m.defects, 0, error(&FormatError{"", m.fileSize,
			fmt.Sprintf("the file is cut off: %d bytes in %d of its bands are missing", missing, bands)}))
	}
}

// Defects returns what is wrong with the image, though the rest of it can be read:
// 101 errors at most.
func (m *Image) Defects() []error { return m.defects }

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
		n, err := readat.Full(m.src, part[:min(int64(len(part)), e.Stored)], e.DataOffset)
		done += n
		if err != nil {
			return done, err
		}
		if n < len(part) {
			return done, &FormatError{"", e.DataOffset + e.Stored, "the band is damaged or cut off"}
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
	i, listed := slices.BinarySearchFunc(m.bands, n, func(b band, n int64) int { return cmp.Compare(int64(b.n), n) })
	if !listed {
		end := m.size
		if i < len(m.bands) {
			end, _ = m.place(m.bands[i].n)
		}
		return Extent{Offset: off, Length: end - off, Hole: !m.unlisted}
	}
	b := m.bands[i]
	start, length := m.place(b.n)
	e := Extent{Offset: off, Length: start + length - off}
	if e.Stored = max(0, m.stored(b)-(off-start)); e.Stored > 0 {
		e.DataOffset = b.off + off - start
	}
	// A read of a few bytes must not walk over all bands of a large disk.
	for e.Length < limit && e.Stored == e.Length && i+1 < len(m.bands) {
		next := m.bands[i+1]
		_, length = m.place(next.n)
		if next != (band{b.n + 1, b.off + m.bandSize}) || m.stored(next) < length {
			break
		}
		e.Length += length
		e.Stored = e.Length
		b = next
		i++
	}
	return e
}

// Extents returns the whole disk in order. Neighbours that could be one are one.
func (m *Image) Extents() iter.Seq[Extent] { return extents(m.size, m.ExtentAt) }

// be64 returns an offset or a size, negative where it doesn't fit.
func be64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

package hfsplus

import (
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

var be = binary.BigEndian

const (
	headerOffset = 1024 // of the volume header, and of the MDB of HFS
	headerLen    = 512

	// Identifiers of folders and files that every volume has (TN1150, "Catalog").
	rootParentID = 1
	rootID       = 2
	extentsID    = 3
	catalogID    = 4
	attributesID = 8
)

// A volume is where the blocks of the file system are.
type volume struct {
	r    io.ReaderAt
	size int64 // of r

	kind   Type
	start  int64 // of the volume in r, which may be inside an HFS volume
	first  int64 // of block 0 in r
	end    int64 // of the volume in r, at most size
	block  int64 // size of a block
	blocks uint32

	attributes                   uint32
	lastMounted                  string
	created, modified            uint32
	backedUp, checked            uint32
	files, folders               uint32
	free                         uint32
	finderInfo                   [32]byte
	journalInfoBlock             uint32
	extents, catalog, attributed forkData
}

// Bits of the volume header's attributes.
const (
	attrUnmounted = 1 << 8
	attrJournaled = 1 << 13
)

// A forkData is a fork as the volume header and file records have it.
type forkData struct {
	size    uint64
	blocks  uint32 // all of them, also those in the extents overflow tree
	extents extents
}

// forkSize is the length of a fork as it is stored.
func forkSize(b []byte) int64 { return int64(min(be.Uint64(b), math.MaxInt64)) }

// length is the size, as far as an int64 can tell it.
func (d *forkData) length() int64 { return int64(min(d.size, math.MaxInt64)) }

// extents are the blocks of a piece of a fork. Unused ones have the count 0.
type extents [8]extent

type extent struct{ start, count uint32 }

func parseExtents(b []byte) (e extents) {
	for i := range e {
		e[i] = extent{be.Uint32(b[8*i:]), be.Uint32(b[8*i+4:])}
	}
	return e
}

func parseFork(b []byte) forkData {
	return forkData{size: be.Uint64(b), blocks: be.Uint32(b[12:]), extents: parseExtents(b[16:80])}
}

// openVolume finds the volume header. The copy is read where the header is
// damaged, not where it can't be read.
func openVolume(r io.ReaderAt, size int64) (*volume, error) {
	v := &volume{r: r, size: size, end: size}
	b := make([]byte, headerLen)
	if size < headerOffset+headerLen {
		return nil, formatError("volume header", headerOffset, "the volume is cut off before its end")
	}
	if err := readFull(r, b, headerOffset); err != nil {
		return nil, err
	}
	if be.Uint16(b) == sigHFS {
		if be.Uint16(b[0x7C:]) != sigPlus {
			return v.openClassic(b)
		}
		if err := v.unwrap(b); err != nil {
			return nil, err
		}
		if err := readFull(r, b, v.start+headerOffset); err != nil {
			return nil, err
		}
	}
	err := v.parseHeader(b)
	if err == nil {
		return v, nil
	}
	if at := v.end - headerOffset; at >= v.start+headerOffset+headerLen {
		if err := readFull(r, b, at); err != nil {
			return nil, err
		}
		if v.parseHeader(b) == nil {
			return v, nil
		}
	}
	return nil, err
}

const (
	sigHFS  = 0x4244 // BD
	sigPlus = 0x482B // H+
	sigX    = 0x4858 // HX
)

// unwrap finds the HFS+ volume inside an HFS volume, which Mac OS 8.1 to 9 made for
// computers that knew only HFS (TN1150, "HFS Wrapper").
func (v *volume) unwrap(mdb []byte) error {
	block := int64(be.Uint32(mdb[0x14:]))
	start := int64(be.Uint16(mdb[0x1C:]))*512 + int64(be.Uint16(mdb[0x7E:]))*block
	length := int64(be.Uint16(mdb[0x80:])) * block
	if block == 0 || block%512 != 0 || start > v.size-headerOffset-headerLen || length < headerOffset+headerLen {
		return formatError("HFS wrapper", headerOffset, "the HFS+ volume is not in it")
	}
	v.start, v.first, v.end = start, start, min(start+length, v.size)
	return nil
}

// parseHeader decodes a volume header.
func (v *volume) parseHeader(b []byte) error {
	bad := func(format string, args ...any) error {
		return formatError("volume header", v.start+headerOffset, format, args...)
	}
	switch sig, version := be.Uint16(b), be.Uint16(b[2:]); {
	case sig != sigPlus && sig != sigX:
		return bad("no HFS+ volume: no signature")
	case version < 4 || version > 5:
		return bad("version %d", version)
	case sig == sigX:
		v.kind = HFSX
	default:
		v.kind = HFSPlus
	}
	v.block, v.blocks = int64(be.Uint32(b[40:])), be.Uint32(b[44:])
	if v.block < 512 || v.block&(v.block-1) != 0 || v.block > 1<<30 {
		return bad("blocks of %d bytes", v.block)
	}
	v.first = v.start
	v.attributes = be.Uint32(b[4:])
	v.lastMounted = printable(b[8:12])
	v.journalInfoBlock = be.Uint32(b[12:])
	v.created, v.modified, v.backedUp, v.checked = be.Uint32(b[16:]), be.Uint32(b[20:]), be.Uint32(b[24:]), be.Uint32(b[28:])
	v.files, v.folders, v.free = be.Uint32(b[32:]), be.Uint32(b[36:]), be.Uint32(b[48:])
	copy(v.finderInfo[:], b[80:])
	v.extents, v.catalog, v.attributed = parseFork(b[192:]), parseFork(b[272:]), parseFork(b[352:])
	return nil
}

// printable is a four-character code, with what is not ASCII as dots.
func printable(code []byte) string {
	s := make([]byte, len(code))
	for i, c := range code {
		if s[i] = c; c < ' ' || c > '~' {
			s[i] = '.'
		}
	}
	return string(s)
}

// blockAt returns where an extent lies in r, and what of it the volume has.
func (v *volume) blockAt(e extent) (off, length int64, err error) {
	if uint64(e.start)+uint64(e.count) > uint64(v.blocks) {
		return 0, 0, formatError("extent", -1, "blocks %d to %d of %d", e.start, uint64(e.start)+uint64(e.count), v.blocks)
	}
	off = v.first + int64(e.start)*v.block
	return off, int64(e.count) * v.block, nil
}

// uuid is the volume's UUID as macOS makes it of the 64-bit identifier that the
// Finder info holds: a version 3 UUID in a name space of its own.
func (v *volume) uuid() string {
	id := v.finderInfo[24:32]
	if be.Uint64(id) == 0 {
		return ""
	}
	space := []byte{0xB3, 0xE2, 0x0F, 0x39, 0xF2, 0x92, 0x11, 0xD6, 0x97, 0xA4, 0x00, 0x30, 0x65, 0x43, 0xEC, 0xAC}
	u := md5.Sum(append(space, id...))
	u[6], u[8] = u[6]&0x0F|0x30, u[8]&0x3F|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// date converts seconds since 1904. 0 says that there is no date.
func date(seconds uint32) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds)-macEpoch, 0).UTC()
}

const macEpoch = 2082844800 // from 1904-01-01 to 1970-01-01, in seconds

// readFull reads len(p) bytes at off. The error is the source's own.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("hfsplus: reading %d bytes at %d: %w", len(p), off, err)
}

package dmg

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/blkx"
	"github.com/go-dmg/dmg/internal/plistguard"
	"github.com/go-dmg/dmg/internal/readat"
)

// Lengths and limits of UDIF's structures. Apple publishes no specification:
// the fields are those that independent readers agree on, checked against
// images that hdiutil wrote (docs/FORMAT.md).
const (
	maxForkLen = 32 << 20 // its data is found by offsets of 24 bits
)

// readBuf reads big-endian fields off a slice whose length has been checked.
type readBuf []byte

func (b *readBuf) uint16() uint16 {
	v := binary.BigEndian.Uint16(*b)
	*b = (*b)[2:]
	return v
}

func (b *readBuf) uint32() uint32 {
	v := binary.BigEndian.Uint32(*b)
	*b = (*b)[4:]
	return v
}

func (b *readBuf) uint64() uint64 {
	v := binary.BigEndian.Uint64(*b)
	*b = (*b)[8:]
	return v
}

func (b *readBuf) sub(n int) []byte {
	v := (*b)[:n]
	*b = (*b)[n:]
	return v
}

// extent is a range of bytes as a header claims it.
type extent struct{ off, length uint64 }

// end returns the byte behind e, the last there is if it has more than 64 bits.
func (e extent) end() uint64 {
	if e.off > math.MaxUint64-e.length {
		return math.MaxUint64
	}
	return e.off + e.length
}

// within reports whether e lies in the first size bytes of something.
func (e extent) within(size int64) bool {
	return e.off <= uint64(size) && e.length <= uint64(size)-e.off
}

// checksumLen is the size of a checksum with its type in koly and mish.
const checksumLen = 136

// checksum is a checksum as the image stores it.
type checksum struct {
	kind uint32
	sum  []byte // nil if the stated size is senseless
}

func parseChecksum(b readBuf) checksum {
	c := checksum{kind: b.uint32()}
	if bits := b.uint32(); bits%8 == 0 && uint64(bits/8) <= uint64(len(b)) {
		c.sum = bytes.Clone(b[:bits/8])
	}
	return c
}

// blockTables reads the image's block tables with p: from the XML property list or,
// where there is none or it is damaged, from the resource fork. Images that have
// both say the same in both. Where both are damaged, the one is taken of which fewer
// tables are. r has size bytes, all the image's files have total.
func (k *koly) blockTables(p tableParser, r io.ReaderAt, size, total int64) (*blockTables, error) {
	var best *blockTables
	var damage error // the first
	for _, list := range []struct {
		length uint64
		read   func(r io.ReaderAt, size, total int64) ([]blkx.Resource, error)
	}{{k.xml.length, k.plistTables}, {k.rsrc.length, k.forkTables}} {
		if list.length == 0 || best != nil && best.damaged == 0 {
			continue
		}
		resources, err := list.read(r, size, total)
		if err != nil && !errors.Is(err, ErrFormat) {
			return nil, err // an error of the source says nothing about the list
		}
		if err == nil {
			tables := p.parse(resources)
			if err = tables.damage(); tables.readable() && (best == nil || tables.damaged < best.damaged) {
				best = tables
			}
		}
		damage = cmp.Or(damage, err)
	}
	switch {
	case best != nil:
		if damage != nil && best.damaged == 0 {
			best.defects = append(best.defects, damage) // of the list that was not taken
		}
		return best, nil
	case damage == nil:
		damage = &FormatError{Section: "koly", Offset: 0xD8, Msg: "neither a property list nor a resource fork"}
	}
	return nil, damage
}

// plistTables reads the block tables from the XML property list.
func (k *koly) plistTables(r io.ReaderAt, size, total int64) ([]blkx.Resource, error) {
	if !k.xml.within(size) {
		return nil, &FormatError{Section: "koly", Offset: 0xD8, Msg: "property list outside the file"}
	}
	if limit := blkx.PlistLimit(total); k.xml.length > limit {
		return nil, &FormatError{Section: "koly", Offset: 0xE0, Msg: fmt.Sprintf("property list of %d bytes, more than %d in an image of %d", k.xml.length, limit, total)}
	}
	xml := make([]byte, k.xml.length)
	if _, err := readat.Full(r, xml, int64(k.xml.off)); err != nil {
		return nil, err
	}
	resources, err := blkx.ParsePlist(xml)
	return resources, listError(err)
}

// listError makes a fault of a list that package blkx found a FormatError.
func listError(err error) error {
	var e *blkx.Error
	if errors.As(err, &e) {
		return &FormatError{Section: e.Section, Offset: e.Offset, Msg: e.Msg}
	}
	return err
}

// forkTables reads the block tables from a resource fork through its map.
func (k *koly) forkTables(r io.ReaderAt, size, _ int64) ([]blkx.Resource, error) {
	if !k.rsrc.within(size) {
		return nil, &FormatError{Section: "koly", Offset: 0x28, Msg: "resource fork outside the file"}
	}
	if k.rsrc.length > maxForkLen {
		return nil, &FormatError{Section: "koly", Offset: 0x30, Msg: fmt.Sprintf("resource fork of %d bytes, more than %d", k.rsrc.length, maxForkLen)}
	}
	fork := make([]byte, k.rsrc.length)
	if _, err := readat.Full(r, fork, int64(k.rsrc.off)); err != nil {
		return nil, err
	}
	return parseFork(fork)
}

// parseFork returns the resources of type blkx. The layout is that of Inside
// Macintosh: More Macintosh Toolbox, "Resource Fork Format".
func parseFork(fork []byte) ([]blkx.Resource, error) {
	bad := func(at int, msg string) ([]blkx.Resource, error) {
		return nil, &FormatError{Section: "resource fork", Offset: int64(at), Msg: msg}
	}
	if len(fork) < forkHeader {
		return bad(0, "short header")
	}
	data, dmap := forkParts(fork)
	if !data.within(int64(len(fork))) || !dmap.within(int64(len(fork))) {
		return bad(0, "data or map outside the fork")
	}
	m := forkMap{
		at:   int(dmap.off),
		data: fork[data.off : data.off+data.length],
		b:    fork[dmap.off : dmap.off+dmap.length],
	}
	return m.tables()
}

// forkHeader is the length of a resource fork's header.
const forkHeader = 16

// forkParts returns where a resource fork says that its data and its map are.
func forkParts(fork []byte) (data, dmap extent) {
	b := readBuf(fork[:forkHeader])
	data.off, dmap.off = uint64(b.uint32()), uint64(b.uint32())
	data.length, dmap.length = uint64(b.uint32()), uint64(b.uint32())
	return data, dmap
}

// forkMap is the index of a resource fork.
type forkMap struct {
	at   int    // of the map in the fork, for errors
	b    []byte // the map
	data []byte // what the map points into
}

func (m *forkMap) bad(at int, msg string) error {
	return &FormatError{Section: "resource map", Offset: int64(m.at + at), Msg: msg}
}

// tables finds the blkx type and reads its references.
func (m *forkMap) tables() ([]blkx.Resource, error) {
	const listsAt = 24
	if len(m.b) < listsAt+4 {
		return nil, m.bad(0, "short map")
	}
	b := readBuf(m.b[listsAt:])
	types, names := int(b.uint16()), int(b.uint16())
	if types+2 > len(m.b) {
		return nil, m.bad(listsAt, "type list outside the map")
	}
	b = readBuf(m.b[types:])
	// Counts are stored less one; 0xFFFF stands for none.
	for range int(b.uint16() + 1) {
		if len(b) < 8 {
			return nil, m.bad(types, "short type list")
		}
		kind, count, refs := string(b.sub(4)), int(b.uint16())+1, int(b.uint16())
		if kind == "blkx" {
			return m.references(types+refs, count, names)
		}
	}
	return nil, m.bad(types, "no blkx resources")
}

// references reads count resources whose list starts at byte at of the map.
func (m *forkMap) references(at, count, names int) ([]blkx.Resource, error) {
	const refLen = 12
	if at > len(m.b) || count*refLen > len(m.b)-at {
		return nil, m.bad(at, "reference list outside the map")
	}
	b := readBuf(m.b[at:])
	tables := make([]blkx.Resource, count)
	left := len(m.data) // resources don't share data: thousands could, of megabytes each
	for i := range tables {
		b.sub(2) // id
		name := int(int16(b.uint16()))
		off := int(b.uint32() & 0xFFFFFF) // below the attributes
		b.sub(4)                          // room for a handle in memory
		if off > len(m.data)-4 {
			return nil, m.bad(at+i*refLen, "resource outside the data")
		}
		d := m.data[off:]
		n := uint64(binary.BigEndian.Uint32(d))
		if n > uint64(len(d)-4) {
			return nil, m.bad(at+i*refLen, "resource longer than the data")
		}
		if left -= 4 + int(n); left < 0 {
			return nil, m.bad(at+i*refLen, "resources overlap")
		}
		tables[i] = blkx.Resource{Name: m.name(names + name), Data: d[4 : 4+n]}
	}
	return tables, nil
}

// name returns the counted string at byte at of the map, "" if it isn't there. Such
// names are in Mac OS Roman.
func (m *forkMap) name(at int) string {
	if at < 0 || at >= len(m.b) || int(m.b[at]) > len(m.b)-at-1 {
		return ""
	}
	return plistguard.MacRoman(m.b[at+1 : at+1+int(m.b[at])])
}

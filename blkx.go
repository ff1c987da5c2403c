package dmg

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/go-dmg/dmg/internal/blkx"
	"github.com/go-dmg/dmg/internal/license"
	"github.com/go-dmg/dmg/internal/readat"
)

// Apple publishes no specification of UDIF's structures: the fields are those that
// independent readers agree on, checked against images that hdiutil wrote
// (docs/FORMAT.md).
const (
	kolyLen  = 512
	kolyMark = "koly\x00\x00\x00\x04\x00\x00\x02\x00" // magic, version 4, length 512
)

// koly is the trailer that makes a file a UDIF image.
type koly struct {
	raw           [kolyLen]byte
	flags         uint32
	runningOffset uint64 // of this segment's data in the joined data fork
	data          extent // the data fork
	rsrc          extent // the resource fork
	segment       uint32 // from 1; 0 in images that are not segmented
	segments      uint32
	segmentSet    [16]byte
	dataSum       checksum // over the data fork's stored bytes
	xml           extent
	masterSum     checksum // over the tables' checksums
	variant       uint32   // device or partition
	sectors       uint64   // of the disk
	signature     extent   // the code signature; garbage in images before there were any

	start, end int64 // of the image in its file, in bytes
	first      bool  // the trailer is at the start
}

// How far from the file's end the trailer is looked for, and how many of what looks
// like one are looked at more closely, each of which takes a read or two.
const (
	kolySearch = 1 << 20
	kolyTries  = 16
)

// findKoly returns the trailer of the image in the size bytes of r. It is the last
// 512 bytes, but files that were padded have more after it: up to 511 bytes, where
// QEMU looks, too, and up to a megabyte, as files have that went through MacBinary or
// an archive, if the rest of the image is where the trailer says. Disk Copy 6.5 and
// DiscRecording write it at offset 0. A nil koly without an error means that there is
// none.
func findKoly(r io.ReaderAt, size int64) (*koly, error) {
	tail := make([]byte, min(size, 2*kolyLen-1))
	if _, err := readat.Full(r, tail, size-int64(len(tail))); err != nil {
		return nil, err
	}
	for i := len(tail) - kolyLen; i >= 0; i-- {
		if isKoly(tail[i:]) {
			k := parseKoly(tail[i:])
			_, err := k.locate(r, size-int64(len(tail)-i))
			return k, err
		}
	}
	head := make([]byte, min(size, kolyLen))
	if _, err := readat.Full(r, head, 0); err != nil {
		return nil, err
	}
	if isKoly(head) {
		k := parseKoly(head)
		k.end, k.first = size, true
		return k, nil
	}
	return searchKoly(r, size)
}

// searchKoly looks further back.
func searchKoly(r io.ReaderAt, size int64) (*koly, error) {
	if size < 2*kolyLen {
		return nil, nil
	}
	tail := make([]byte, min(size, kolySearch))
	begin := size - int64(len(tail))
	if _, err := readat.Full(r, tail, begin); err != nil {
		return nil, err
	}
	// The last marks that there is room for. To look for each from the end is ten times slower.
	var marks []int
	for i := 0; ; i++ {
		next := bytes.Index(tail[i:len(tail)-kolyLen+len(kolyMark)], []byte(kolyMark))
		if next < 0 {
			break
		}
		i += next
		marks = append(marks[max(0, len(marks)-kolyTries+1):], i)
	}
	for _, i := range slices.Backward(marks) {
		k := parseKoly(tail[i:])
		if sure, err := k.locate(r, begin+int64(i)); sure || err != nil {
			return k, err
		}
	}
	return nil, nil
}

// locate finds out where the image begins whose trailer is at a byte of r: at the
// start of r, unless its property list, or its resource fork, is found where it is if
// the trailer follows all else at once. It reports whether either is where it is to be.
func (k *koly) locate(r io.ReaderAt, at int64) (sure bool, err error) {
	k.start, k.end = 0, at+kolyLen
	ends := [2]uint64{max(k.data.end(), k.rsrc.end(), k.xml.end())}
	ends[1] = max(ends[0], k.signature.end())
	if ends[0] == uint64(at) || ends[1] == uint64(at) {
		return true, nil
	}
	for _, start := range []uint64{0, uint64(at) - ends[0], uint64(at) - ends[1]} {
		if start > uint64(at) {
			continue // the image says that it is longer
		}
		if sure, err = k.begins(r, int64(start), at); sure || err != nil {
			k.start = int64(start)
			return sure, err
		}
	}
	return false, nil
}

// begins reports whether what the trailer speaks of is there if the image begins at
// byte start of r, and has its trailer at byte at.
func (k *koly) begins(r io.ReaderAt, start, at int64) (bool, error) {
	room := at - start
	if !k.data.within(room) || !k.rsrc.within(room) || !k.xml.within(room) {
		return false, nil
	}
	place, is := k.xml, blkx.IsPlist
	if place.length == 0 {
		place, is = k.rsrc, blkx.IsFork
	}
	b := make([]byte, min(place.length, 64))
	if _, err := readat.Full(r, b, start+int64(place.off)); err != nil {
		return false, err
	}
	return is(b, place.length), nil
}

// at returns the trailer's place in the file.
func (k *koly) at() int64 {
	if k.first {
		return 0
	}
	return k.end - k.start - kolyLen
}

// isKoly asks for the version and the length besides the magic, because the
// four letters may turn up anywhere in the last kilobyte.
func isKoly(b []byte) bool {
	return len(b) >= kolyLen && string(b[:len(kolyMark)]) == kolyMark
}

// parseKoly reads the fields of a trailer that isKoly accepted.
func parseKoly(data []byte) *koly {
	k := new(koly)
	copy(k.raw[:], data)
	b := readBuf(k.raw[0x0C:])
	k.flags = b.uint32()
	k.runningOffset = b.uint64()
	k.data = extent{b.uint64(), b.uint64()}
	k.rsrc = extent{b.uint64(), b.uint64()}
	k.segment = b.uint32()
	k.segments = b.uint32()
	copy(k.segmentSet[:], b.sub(16))
	k.dataSum = parseChecksum(b.sub(checksumLen))
	k.xml = extent{b.uint64(), b.uint64()}
	b.sub(64) // reserved
	k.signature = extent{b.uint64(), b.uint64()}
	b.sub(40) // reserved
	k.masterSum = parseChecksum(b.sub(checksumLen))
	k.variant = b.uint32()
	k.sectors = b.uint64()
	return k
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
	xml, err := k.plist(r, size, total)
	if err != nil {
		return nil, err
	}
	resources, err := blkx.ParsePlist(xml)
	return resources, listError(err)
}

// plist reads the XML property list.
func (k *koly) plist(r io.ReaderAt, size, total int64) ([]byte, error) {
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
	return xml, nil
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
	fork, err := k.fork(r, size)
	if err != nil {
		return nil, err
	}
	resources, err := blkx.ParseFork(fork)
	return resources, listError(err)
}

// fork reads the resource fork.
func (k *koly) fork(r io.ReaderAt, size int64) ([]byte, error) {
	if !k.rsrc.within(size) {
		return nil, &FormatError{Section: "koly", Offset: 0x28, Msg: "resource fork outside the file"}
	}
	if k.rsrc.length > blkx.MaxFork {
		return nil, &FormatError{Section: "koly", Offset: 0x30, Msg: fmt.Sprintf("resource fork of %d bytes, more than %d", k.rsrc.length, blkx.MaxFork)}
	}
	fork := make([]byte, k.rsrc.length)
	if _, err := readat.Full(r, fork, int64(k.rsrc.off)); err != nil {
		return nil, err
	}
	return fork, nil
}

// Trailer is what the trailer of a UDIF image says of the image, beside the place and the
// checksums of its parts. [Image.Trailer] returns it. The values are as stored, and nothing
// depends on them but what the fields say.
type Trailer struct {
	// Flags are 1 for an image whose data and list are in one file, as hdiutil writes it, and
	// 4 for one that is internet-enabled: Safari once unpacked it and threw it away.
	Flags uint32

	// Segment is the number of the file of a split image from which the block tables were
	// read, from 1, and Segments how many there are. Of an image in one file they are 1 and 1,
	// or 0 and 0.
	Segment, Segments uint32

	// SegmentID is the same in all files of one split image. It may be zero in others.
	SegmentID [16]byte

	// Variant is 1 for a device, 2 for a partition alone.
	Variant uint32
}

// Trailer returns what the trailer says of a UDIF image, and nil if the image is none. It reads
// nothing.
func (im *Image) Trailer() *Trailer {
	k := im.koly
	if k == nil {
		return nil
	}
	return &Trailer{k.flags, k.segment, k.segments, k.segmentSet, k.variant}
}

// License is the license agreement of an image in one language: what macOS up to 14 shows, and
// asks a user to agree to, before it attaches the image. [Image.Licenses] returns it.
type License struct {
	// Language is a BCP 47 tag, such as "fr-CA". It is empty if the image doesn't say, or by
	// a region that isn't known.
	Language string

	// Region is the region code of the classic Mac OS that stands for the language, 0 for the
	// United States; -1 if the image doesn't say.
	Region int

	Default bool   // what a user gets whose language is not among the agreement's
	Text    string // in UTF-8, without styles, its lines ending in \n

	// Data is the text as stored, rich text if RTF is true. Encoding is what it was read as,
	// such as "MacRoman", "MacJapanese", "UTF-8" or "RTF". A byte that this package has no
	// character for is U+FFFD in Text.
	Data     []byte
	RTF      bool
	Encoding string

	// Words are what a dialog shows around the text: the language's own name for itself, the
	// labels of the buttons Agree, Disagree, Print and Save, and instructions. An image may
	// lack them, or have some of them only.
	Words []string
}

// Licenses returns the license agreement in each language, in the image's order, and none if
// the image has none. It reads the property list, or the resource fork, once more. What of an
// agreement is damaged is missing.
//
// The error is [ErrFormat] if the list is damaged, or the source's. Licenses is safe for
// concurrent use.
func (im *Image) Licenses() ([]License, error) {
	if im.koly == nil {
		return nil, nil
	}
	resources, err := im.resources(license.Types...)
	if err != nil {
		return nil, err
	}
	parts := make(map[string][]license.Resource)
	for kind, all := range resources {
		for _, r := range all {
			if r.Err == nil {
				parts[kind] = append(parts[kind], license.Resource{ID: r.ID, Data: r.Data})
			}
		}
	}
	var all []License
	for _, a := range license.Parse(parts) {
		// The data lies in the list, which is much longer.
		all = append(all, License{a.Language(), a.Region, a.Default, a.Text, bytes.Clone(a.Data), a.RTF, a.Encoding, a.Words})
	}
	return all, nil
}

// resources reads the resources of some types, by type, from the property list, or from the
// resource fork if there is none or it is damaged.
func (im *Image) resources(types ...string) (map[string][]blkx.Resource, error) {
	k, c := im.koly, &im.plain
	var damage error
	if k.xml.length > 0 {
		xml, err := k.plist(c.r, c.size, max(c.size, im.dataFork.length))
		if err == nil {
			found, err := blkx.PlistResources(xml, types...)
			if err == nil {
				return found, nil
			}
			damage = listError(err)
		} else if damage = err; !errors.Is(err, ErrFormat) {
			return nil, err
		}
	}
	if k.rsrc.length == 0 {
		return nil, damage
	}
	fork, err := k.fork(c.r, c.size)
	if err != nil {
		return nil, err
	}
	found, err := blkx.ForkResources(fork, types...)
	return found, listError(err)
}

// readBuf reads big-endian fields off a slice whose length has been checked.
type readBuf []byte

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

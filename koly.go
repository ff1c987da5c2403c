package dmg

import (
	"bytes"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	kolyLen  = 512
	kolyMark = "koly\x00\x00\x00\x04\x00\x00\x02\x00" // magic, version 4, length 512
)

// koly is the trailer that makes a file a UDIF image.
type koly struct {
	runningOffset uint64 // of this segment's data in the joined data fork
	data          extent // the data fork
	rsrc          extent // the resource fork
	segment       uint32 // from 1; 0 in images that are not segmented
	segments      uint32
	segmentSet    [16]byte
	dataSum       checksum // over the data fork's stored bytes
	xml           extent
	masterSum     checksum // over the tables' checksums
	sectors       uint64   // of the disk
	signature     extent   // the code signature; garbage in images before there were any

	start, end int64 // of the image in its file, in bytes
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
		k.end = size
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
	end := len(tail) - kolyLen + len(kolyMark) // of the last mark that there is room for
	for range kolyTries {
		i := bytes.LastIndex(tail[:end], []byte(kolyMark))
		if i < 0 {
			break
		}
		k := parseKoly(tail[i:])
		if sure, err := k.locate(r, begin+int64(i)); sure || err != nil {
			return k, err
		}
		end = i + len(kolyMark) - 1
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
	place, is := k.xml, isXML
	if place.length == 0 {
		place, is = k.rsrc, isFork
	}
	b := make([]byte, min(place.length, 64))
	if _, err := readat.Full(r, b, start+int64(place.off)); err != nil {
		return false, err
	}
	return is(b, place.length), nil
}

// isXML reports whether b looks like the beginning of an XML document, in UTF-16
// perhaps.
func isXML(b []byte, _ uint64) bool {
	for _, mark := range []string{"\xEF\xBB\xBF", "\xFE\xFF", "\xFF\xFE"} {
		b = bytes.TrimPrefix(b, []byte(mark))
	}
	b = bytes.TrimLeft(b, " \t\r\n\x00")
	return len(b) > 1 && b[0] == '<' && bytes.IndexByte([]byte("?!p\x00"), b[1]) >= 0
}

// isFork reports whether b looks like the beginning of a resource fork of a length.
func isFork(b []byte, length uint64) bool {
	if len(b) < forkHeader {
		return false
	}
	data, dmap := forkParts(b)
	return data.off >= forkHeader && data.within(int64(length)) && dmap.off >= forkHeader && dmap.within(int64(length))
}

// isKoly asks for the version and the length besides the magic, because the
// four letters may turn up anywhere in the last kilobyte.
func isKoly(b []byte) bool {
	return len(b) >= kolyLen && string(b[:len(kolyMark)]) == kolyMark
}

// parseKoly reads the fields of a trailer that isKoly accepted.
func parseKoly(data []byte) *koly {
	b := readBuf(data[0x10:kolyLen])
	k := new(koly)
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
	b.sub(4) // variant: device or partition
	k.sectors = b.uint64()
	return k
}

// Package codesign reads Apple's code signatures: those of a disk image, which lies before
// the trailer, and of a Mach-O program, to which LC_CODE_SIGNATURE leads.
//
// A signature is a superblob: an index of blobs by slot. Slot 0 has the code directory, the
// list of hashes of what is signed. Another slot has the CMS message that signs the code
// directory. All numbers are big-endian. The layout is that of xnu's osfmk/kern/cs_blobs.h
// and of codedirectory.h in Apple's Security framework, both published.
//
// Signatures come from untrusted files. Blobs are read one by one, as they are asked for,
// and each has a limit. Nothing recurses deeper than a constant. A Superblob and what it
// returns don't change and may be used concurrently, if the source may be.
package codesign

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// Slots of a superblob. Those below SlotAlternate, but for the first, are special slots of the
// code directory too, which has a hash of each.
const (
	SlotDirectory      = 0
	SlotInfo           = 1 // Info.plist, beside the signature
	SlotRequirements   = 2
	SlotResources      = 3 // CodeResources, beside the signature
	SlotEntitlements   = 5
	SlotTrailer        = 6 // of a disk image: its koly, with a length of the signature of 0
	SlotDEREntitlement = 7
	SlotAlternate      = 0x1000 // up to five more code directories, of other hashes
	SlotCMS            = 0x10000
	SlotTicket         = 0x10002 // the notarization ticket that stapler attaches
)

const (
	alternates = 5

	magicSuperblob = 0xfade0cc0
	magicDirectory = 0xfade0c02
)

// Limits, in bytes. A code directory has a hash of 20 to 64 bytes a page of 4 KiB: 32 MiB are
// those of 4 GB of code, hashed by SHA-256.
const (
	maxBlobs     = 64
	maxDirectory = 32 << 20
	maxBlob      = 1 << 20 // any other
	headLen      = 4 << 10 // of a code directory: what its names are in as a rule
)

// ErrUnsupported means that a signature uses something that this package doesn't read.
var ErrUnsupported = errors.New("code signature: unsupported")

// Error says what is wrong with a signature, and where.
type Error struct {
	Offset int64 // in bytes from the superblob's start
	Msg    string
}

// Error returns the place and what is wrong there.
func (e *Error) Error() string { return fmt.Sprintf("code signature at %d: %s", e.Offset, e.Msg) }

// Superblob is the index of a signature.
type Superblob struct {
	r     io.ReaderAt
	blobs []blob
}

// blob is a part of the superblob.
type blob struct {
	slot        uint32
	off, length int64 // in r; the length is not known to be right before the blob is read
}

// IsSuperblob reports whether a signature begins with b.
func IsSuperblob(b []byte) bool {
	return len(b) >= 4 && binary.BigEndian.Uint32(b) == magicSuperblob
}

// Open reads the index of the superblob that begins r, which has size bytes. It takes one
// read of r. An error is an *Error or the source's.
func Open(r io.ReaderAt, size int64) (*Superblob, error) {
	const headerLen, entryLen = 12, 8
	b := make([]byte, max(0, min(size, headerLen+maxBlobs*entryLen)))
	if _, err := readat.Full(r, b, 0); err != nil {
		return nil, err
	}
	switch {
	case len(b) < headerLen:
		return nil, &Error{0, "shorter than its header"}
	case !IsSuperblob(b):
		return nil, &Error{0, "no superblob"}
	}
	length, count := int64(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint32(b[8:])
	switch {
	case length > size:
		return nil, &Error{4, fmt.Sprintf("%d bytes where there is room for %d", length, size)}
	case count > maxBlobs:
		return nil, &Error{8, fmt.Sprintf("%d blobs, more than %d", count, maxBlobs)}
	case headerLen+int64(count)*entryLen > length:
		return nil, &Error{8, "more blobs than it has room for"}
	}
	s := &Superblob{r: r}
	for i := range int(count) {
		e := b[headerLen+i*entryLen:]
		off := int64(binary.BigEndian.Uint32(e[4:]))
		if off > length-8 {
			return nil, &Error{int64(headerLen + i*entryLen), "a blob outside the superblob"}
		}
		s.blobs = append(s.blobs, blob{binary.BigEndian.Uint32(e), off, length - off})
	}
	return s, nil
}

// find returns the blob in a slot. A second one in the same slot counts for nothing, as it
// does for the system.
func (s *Superblob) find(slot uint32) (blob, bool) {
	for _, b := range s.blobs {
		if b.slot == slot {
			return b, true
		}
	}
	return blob{}, false
}

// Blob reads the blob in a slot, with its header of eight bytes. It is nil if there is none.
func (s *Superblob) Blob(slot uint32) ([]byte, error) {
	b, ok := s.find(slot)
	if !ok {
		return nil, nil
	}
	limit := int64(maxBlob)
	if isDirectory(slot) {
		limit = maxDirectory
	}
	_, length, err := s.header(b)
	switch {
	case err != nil:
		return nil, err
	case length > limit:
		return nil, &Error{b.off + 4, fmt.Sprintf("a blob of %d bytes, more than %d", length, limit)}
	}
	return s.read(b.off, length)
}

// Content reads the blob in a slot without its header. It is nil if there is none.
func (s *Superblob) Content(slot uint32) ([]byte, error) {
	b, err := s.Blob(slot)
	if b == nil || err != nil {
		return nil, err
	}
	return b[8:], nil
}

// header reads a blob's magic and its length, which is in the superblob.
func (s *Superblob) header(b blob) (magic uint32, length int64, err error) {
	h, err := s.read(b.off, 8)
	if err != nil {
		return 0, 0, err
	}
	magic, length = binary.BigEndian.Uint32(h), int64(binary.BigEndian.Uint32(h[4:]))
	if length < 8 || length > b.length {
		return 0, 0, &Error{b.off + 4, fmt.Sprintf("a blob of %d bytes where there is room for %d", length, b.length)}
	}
	return magic, length, nil
}

// read reads n bytes, which Open or header has found to be in the superblob.
func (s *Superblob) read(off, n int64) ([]byte, error) {
	b := make([]byte, n)
	_, err := readat.Full(s.r, b, off)
	return b, err
}

// isDirectory reports whether a slot is one of code directories.
func isDirectory(slot uint32) bool {
	return slot == SlotDirectory || SlotAlternate <= slot && slot < SlotAlternate+alternates
}

// Directory reads the code directory whose hash is the strongest: the one that the system goes
// by.
func (s *Superblob) Directory() (*Directory, error) {
	b, err := s.strongest()
	if err != nil {
		return nil, err
	}
	_, length, err := s.header(b)
	switch {
	case err != nil:
		return nil, err
	case length > maxDirectory:
		return nil, &Error{b.off + 4, fmt.Sprintf("a code directory of %d bytes, more than %d", length, maxDirectory)}
	}
	data, err := s.read(b.off, length)
	if err != nil {
		return nil, err
	}
	d, err := parseDirectory(data, b.off)
	if err != nil {
		return nil, err
	}
	return d, d.checkHashes(b.off)
}

// Names reads the names in the code directory that Directory would return, without its hashes,
// which may be megabytes. Only Version, Flags, Identifier, TeamID and HashType are set.
func (s *Superblob) Names() (*Directory, error) {
	b, err := s.strongest()
	if err != nil {
		return nil, err
	}
	_, length, err := s.header(b)
	if err != nil {
		return nil, err
	}
	data, err := s.read(b.off, min(length, headLen))
	if err != nil {
		return nil, err
	}
	d, err := parseDirectory(data, b.off)
	if err != nil && length > headLen {
		d, err = s.Directory() // whose names are elsewhere
	}
	if err != nil {
		return nil, err
	}
	return &Directory{Version: d.Version, Flags: d.Flags, Identifier: d.Identifier, TeamID: d.TeamID, HashType: d.HashType}, nil
}

// strongest returns the blob of the code directory that the system goes by.
func (s *Superblob) strongest() (blob, error) {
	const hashTypeAt = 37
	if _, ok := s.find(SlotDirectory); !ok {
		return blob{}, &Error{8, "no code directory"}
	}
	var best blob
	rank := -1
	for slot := range uint32(1 + alternates) {
		if slot > 0 {
			slot += SlotAlternate - 1
		}
		b, ok := s.find(slot)
		if !ok {
			continue
		}
		magic, length, err := s.header(b)
		if err != nil {
			return blob{}, err
		}
		if magic != magicDirectory || length <= hashTypeAt {
			return blob{}, &Error{b.off, "no code directory in its slot"}
		}
		kind, err := s.read(b.off+hashTypeAt, 1)
		if err != nil {
			return blob{}, err
		}
		if r := HashType(kind[0]).rank(); r > rank {
			best, rank = b, r
		}
	}
	return best, nil
}

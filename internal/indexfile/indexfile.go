// Package indexfile is the format of a saved index (docs/INDEX.md): where the checkpoints
// of an image's compressed chunks are, and what is kept for each to decode from there.
//
// A File is a header, a directory of the checkpoints, what is kept for them in groups, and
// a SHA-256 of all that. An image is opened with the directory alone; an Unpacker unpacks a
// group when a read wants a checkpoint in it. Files are untrusted: their numbers are
// checked against the chunks and the bytes at hand, and nothing is allocated from a number
// alone. Errors are of type *Error.
//
// Values of this package are for one goroutine, but for a File, which never changes.
package indexfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The header. Its numbers are big-endian, as in the image itself.
const (
	magic   = "\x89DMGIDX\n" // mangled by whatever mangles text
	version = 1

	identityAt  = len(magic) + 4           // offsets of the image's identity,
	countAt     = identityAt + sha256.Size // the number of checkpoints,
	directoryAt = countAt + 8              // and the directory's length
	headerLen   = directoryAt + 8
	minLen      = headerLen + sha256.Size
)

// What is kept for the checkpoints of a group is in parts, each of its own kind,
// for they compress better among their like.
const (
	partStates   = iota // all of the records that is no window
	partGaps            // of a packed window's runs: bytes to leave out
	partLengths         // and bytes that follow
	partLiterals        // and these bytes
	numParts
)

// A group ends with the checkpoint that makes it so large, by number or in bytes
// before they are compressed. Larger ones compress better, smaller ones are
// unpacked sooner, by the first read that wants a checkpoint in it.
const (
	GroupPoints = 16
	groupBytes  = 64 << 10
)

// maxGroup is the most bytes that a group is unpacked to.
const maxGroup = groupBytes + maxRecord

// No file is longer than MaxLen, or MaxUnpacked when its groups are unpacked, in bytes, so
// that a file that says it were costs no more.
const (
	MaxLen      = 256 << 20
	MaxUnpacked = 1 << 30
)

// maxDecode is how many bytes are decompressed at once.
const maxDecode = 64 << 10

// Chunk is what the format needs to know of a chunk of the image. Lengths are in bytes.
type Chunk struct {
	Kind       Kind  // of its checkpoints
	Length     int64 // on the disk
	DataLength int64 // in the image
}

// Place is where in its chunk a checkpoint is, and where in the chunk's data.
type Place struct {
	Chunk  int   // its number, from 0
	Off    int64 // in the chunk, in bytes
	bit    int64 // in the data, as the codec counts
	number uint32
	kind   Kind
}

// In returns where in the chunk's data all ends that is needed to decode up to
// the checkpoint, in bytes.
func (p Place) In() int64 {
	if packings[p.kind].needed {
		return p.bit/8 + int64(p.number)
	}
	return p.bit/8 + 1 + packings[p.kind].lead
}

// Sum returns the Adler-32 of what is before the checkpoint in a zlib chunk, and 0 in others.
func (p Place) Sum() uint32 {
	if p.kind == Zlib {
		return p.number
	}
	return 0
}

// Cursors returns the number of cursors in the record of a bzip2 block, and 0 in other
// chunks.
func (p Place) Cursors() int {
	if p.kind == Bzip2 {
		return int(p.number)
	}
	return 0
}

// Error says what is wrong with an index.
type Error struct {
	Msg   string
	Chunk int   // the chunk that Msg ends with, -1 if it ends with none
	Err   error // why, if another package found it
}

func (e *Error) Error() string {
	if e.Chunk >= 0 {
		return fmt.Sprintf("%s chunk %d", e.Msg, e.Chunk)
	}
	return e.Msg
}

func (e *Error) Unwrap() error { return e.Err }

func bad(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	cause, _ := err.(interface{ Unwrap() error })
	e := &Error{Msg: err.Error(), Chunk: -1}
	if cause != nil {
		e.Err = cause.Unwrap()
	}
	return e
}

// badIn is a fault of a checkpoint; the message ends with its chunk.
func badIn(chunk int, format string, args ...any) *Error {
	return &Error{Msg: fmt.Sprintf(format, args...), Chunk: chunk}
}

// File is an index file whose frame has been checked: that it is one, and has no damage.
type File []byte

// Parse returns b as a file. It tests what can be tested without the image and without
// decompressing.
func Parse(b []byte) (File, error) {
	switch n := len(b); {
	case n > MaxLen:
		return nil, bad("more than %d bytes", MaxLen)
	case n < minLen:
		return nil, bad("cut short at %d bytes", n)
	}
	f := File(b)
	body, sum := f.body(), b[len(b)-sha256.Size:]
	if string(body[:len(magic)]) != magic {
		return nil, bad("no index file")
	}
	if v := binary.BigEndian.Uint32(body[len(magic):]); v != version {
		return nil, bad("version %d, not %d", v, version)
	}
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil, bad("its checksum is wrong")
	}
	return f, nil
}

// body returns the file without its checksum.
func (f File) body() []byte { return f[:len(f)-sha256.Size] }

// Identity returns which image the index is of.
func (f File) Identity() []byte { return f[identityAt:countAt] }

// Count returns how many checkpoints the file says to have.
func (f File) Count() uint64 { return binary.BigEndian.Uint64(f[countAt:]) }

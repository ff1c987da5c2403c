package dmg

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/go-dmg/dmg/internal/deflate"
)

// The file is a header, a directory of the checkpoints, what is kept for them in
// groups, and a SHA-256 of all that. An image is opened with the directory alone;
// a group is unpacked when a read wants a checkpoint in it. Numbers in the header
// are big-endian, as in the image itself.
const (
	indexMagic   = "\x89DMGIDX\n" // mangled by whatever mangles text
	indexVersion = 1

	indexIdentity  = len(indexMagic) + 4         // offsets of the image's identity,
	indexCount     = indexIdentity + sha256.Size // the number of checkpoints,
	indexDirectory = indexCount + 8              // and the directory's length
	indexHeader    = indexDirectory + 8
	indexMin       = indexHeader + sha256.Size
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
	groupPoints = 16
	groupBytes  = 64 << 10
)

// maxRecord is the longest record: of a bzip2 block, or a zlib checkpoint with
// all of its window. maxGroup is the most that a group is unpacked to.
const (
	maxRecord = max(pointLen+maxCursors*cursorLen, zlibRecordMax) + binary.MaxVarintLen64
	maxGroup  = groupBytes + maxRecord
)

// maxCursors are as many as a bzip2 block can have: 900,000 bytes of text
// decode to 46 MB at most.
const maxCursors = 900_000 / 5 * 259 / cursorSpacing

// No index is longer than maxIndexLen, or maxIndexRaw when its groups are
// unpacked, so that a file that says it were costs no more.
const (
	maxIndexLen = 256 << 20
	maxIndexRaw = 1 << 30
)

// place is where in its chunk a checkpoint is, and where in the chunk's data.
type place struct {
	chunk int
	off   int64
	bit   int64 // as the codec counts: in zlib chunks without the two bytes of header

	cursors int    // in a bzip2 block
	sum     uint32 // in a zlib chunk, as a checkpoint's
}

// in returns where in the chunk's data all ends that is needed to decode up to
// the checkpoint, in bytes.
func (p place) in(m Method) int64 {
	in := p.bit/8 + 1
	if m == Zlib {
		in += deflate.ZlibHeaderLen
	}
	return in
}

// check tests what can be tested without the image and without decompressing.
func (ix *Index) check() error {
	switch n := len(ix.file); {
	case n > maxIndexLen:
		return badIndex("more than %d bytes", maxIndexLen)
	case n < indexMin:
		return badIndex("cut short at %d bytes", n)
	}
	body, sum := ix.body(), ix.file[len(ix.file)-sha256.Size:]
	b := readBuf(body)
	if string(b.sub(len(indexMagic))) != indexMagic {
		return badIndex("no index file")
	}
	if v := b.uint32(); v != indexVersion {
		return badIndex("version %d, not %d", v, indexVersion)
	}
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return badIndex("its checksum is wrong")
	}
	return nil
}

// body returns the file without its checksum.
func (ix *Index) body() []byte { return ix.file[:len(ix.file)-sha256.Size] }

// identity returns which image the index is of.
func (ix *Index) identity() []byte { return ix.file[indexIdentity:indexCount] }

// count returns how many checkpoints the index says to have.
func (ix *Index) count() uint64 { return binary.BigEndian.Uint64(ix.file[indexCount:]) }

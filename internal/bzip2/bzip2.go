// Package bzip2 decodes bzip2 data block by block, and can start at any block
// and at any byte of a block's output.
//
// A Stream reads blocks in order, from the start of the data or from a Point, a
// block's offset in bits. It decodes a block up to the inverse of its
// Burrows-Wheeler transform. A Block is what a few bytes are read from, at a
// Cursor; Unwind makes a Text of it, which is what all bytes are read from.
//
// The format has no specification. Where decoders differ this one does as
// libbz2 1.0.8 does, in particular: a Huffman code may be incomplete or claim
// too many words; selectors beyond the 18,002nd are read and forgotten; a block
// without text is corrupt, and so is one that ends in four equal bytes without
// the length that has to follow. (compress/bzip2 refuses or misreads the first,
// accepts the last, and refuses bytes after the last stream, which the bzip2
// tool and this package ignore. Neither it nor dsnet/compress decodes
// randomised blocks.)
package bzip2

import (
	"errors"
	"fmt"
)

// Errors to test for. What io.Reader a Stream reads from returns is passed on
// as it is, but that the data ends within a stream is io.ErrUnexpectedEOF.
var (
	ErrCorrupt  = errors.New("bzip2: corrupt data")
	ErrChecksum = errors.New("bzip2: checksum mismatch")
	ErrCursor   = errors.New("bzip2: position outside the data") // a Point or Cursor
)

var errNoLength = fmt.Errorf("%w: run without a length at a block's end", ErrCorrupt)

// An Error says where data is wrong.
type Error struct {
	Class error // ErrCorrupt or ErrChecksum
	In    int64 // offset in bits of the block or the stream's end
	Msg   string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%v: %s at bit %d", e.Class, e.Msg, e.In)
}

// Unwrap returns the error's class.
func (e *Error) Unwrap() error { return e.Class }

// Memory that the types hold at most, in bytes. Nothing is allocated from what
// data says but a block's links and text, in the size that it decoded to, and
// ranks, in the size that the stream's level allows.
const (
	BlockMemory  = 5*maxLevel*levelSize + 16<<10
	RankMemory   = markMemory // more, of a Block that has had ranks
	TextMemory   = maxLevel*levelSize + 320<<10
	StreamMemory = inputLen + 96<<10
)

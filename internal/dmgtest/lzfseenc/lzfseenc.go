// Package lzfseenc writes LZFSE streams for tests: all kinds of block, alone or
// mixed, with matches at every distance the format allows. It also writes
// blocks from hand-made triples, wrong ones included.
//
// It shares no code with the decoder, and 7-Zip reads what it writes (but for
// bvx1 blocks, which 7-Zip doesn't know). It keeps all it has encoded in memory
// and aims at images like hdiutil's, not at the best ratio.
package lzfseenc

import "encoding/binary"

// Limits of the format.
const (
	MaxL        = 315    // literals of a triple
	MaxM        = 2359   // match length of a triple
	MaxD        = 262139 // distance in bvx1 and bvx2 blocks
	MaxLZVND    = 65535  // distance in bvxn blocks
	MaxMatches  = 10000  // triples of a block
	MaxLiterals = 40000  // literals of a block
)

// A Kind is a kind of block, named by the fourth byte of its magic.
type Kind byte

const (
	Stored Kind = '-'
	LZVN   Kind = 'n'
	V1     Kind = '1' // frequencies as 16-bit words
	V2     Kind = '2' // frequencies in a prefix code
)

// Kinds lists all kinds of block.
var Kinds = []Kind{Stored, LZVN, V1, V2}

// Encode returns p as a stream of blocks of one kind.
func Encode(kind Kind, p []byte) []byte {
	var w Writer
	w.Add(kind, p)
	return w.Close()
}

// A Writer collects the blocks of one stream. Matches reach back into earlier
// blocks. The zero Writer is ready for use.
type Writer struct {
	out   []byte
	plain []byte // all that was added
	find  finder
}

// Add appends p in as many blocks of one kind as it takes; empty p still gives
// a block.
func (w *Writer) Add(kind Kind, p []byte) {
	from := len(w.plain)
	w.plain = append(w.plain, p...)
	switch kind {
	case Stored:
		w.header(kind, len(p))
		w.out = append(w.out, p...)
		w.find.skip(w.plain, from)
	case LZVN:
		w.lzvn(from)
	default:
		w.fse(kind, from)
	}
}

// Bytes appends anything as it is.
func (w *Writer) Bytes(p ...byte) { w.out = append(w.out, p...) }

// Len tells how long the stream is so far.
func (w *Writer) Len() int { return len(w.out) }

// Close appends the end mark and returns the stream.
func (w *Writer) Close() []byte {
	return append(w.out, "bvx$"...)
}

// header appends a block's magic and decoded size.
func (w *Writer) header(kind Kind, raw int) {
	w.out = append(w.out, 'b', 'v', 'x', byte(kind))
	w.out = binary.LittleEndian.AppendUint32(w.out, uint32(raw))
}

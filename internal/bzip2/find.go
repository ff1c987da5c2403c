package bzip2

import "encoding/binary"

// Kind is what begins with a magic.
type Kind uint8

const (
	KindNone  Kind = iota
	KindBlock      // a block
	KindEnd        // the end of a stream
)

// MagicLen is the length of a magic, in bits.
const MagicLen = magicLen

// pairStep is how far FindBlock moves: a magic at any of the 8 alignments
// covers 5 whole bytes, and so 4 pairs of bytes, just one of which begins at a
// multiple of 4.
const pairStep = 4

// magicPairs has a bit for each pair of bytes that a magic covers.
var magicPairs = makePairs()

func makePairs() *[1 << 16 / 8]byte {
	t := new([1 << 16 / 8]byte)
	for _, magic := range [...]uint64{blockMagic, endMagic} {
		for shift := range 8 {
			for pair := 1; pair <= pairStep; pair++ {
				// The magic lies shift bits into the top 7 bytes of 8.
				v := uint16(magic << (16 - shift) >> (48 - 8*pair))
				t[v>>3] |= 1 << (v & 7)
			}
		}
	}
	return t
}

// FindBlock looks for the magic of a block or of a stream's end at any bit of
// p, from bit from on, and returns the offset in bits of the first. The whole
// magic lies in p: a search that goes on in the next piece of the data begins
// 47 bits before its end. What is found may be a block's data that looks so.
func FindBlock(p []byte, from int) (bit int, kind Kind, ok bool) {
	from = max(from, 0)
	if from > len(p)*8-magicLen {
		return 0, KindNone, false
	}
	// A magic whose first byte is b covers the whole bytes b+1 to b+5.
	for i := (from>>3 + pairStep) &^ (pairStep - 1); i+1 < len(p); i += pairStep {
		v := binary.BigEndian.Uint16(p[i:])
		if magicPairs[v>>3]>>(v&7)&1 == 0 {
			continue
		}
		if bit, kind, ok = checkPair(p, i, from); ok {
			return bit, kind, ok
		}
	}
	return 0, KindNone, false
}

// checkPair looks for a magic that covers the pair of bytes at i.
func checkPair(p []byte, i, from int) (bit int, kind Kind, ok bool) {
	for bit = max(from, (i-pairStep)*8); bit < i*8 && bit+magicLen <= len(p)*8; bit++ {
		var w [8]byte
		copy(w[:], p[bit>>3:])
		switch binary.BigEndian.Uint64(w[:]) << (bit & 7) >> (64 - magicLen) {
		case blockMagic:
			return bit, KindBlock, true
		case endMagic:
			return bit, KindEnd, true
		}
	}
	return 0, KindNone, false
}

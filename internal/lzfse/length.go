package lzfse

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/readat"
)

// lengthRead is how much Length reads at a time: a block is larger as a rule, and all of
// many that aren't are read.
const lengthRead = 4 << 10

// Length returns how many bytes the stream in the first size bytes of r decodes to, by the
// headers of its blocks, without decoding them. The error is a [*CorruptError], which is
// also that of a stream without its end, or r's own.
func Length(r io.ReaderAt, size int64) (n int64, err error) {
	var room [lengthRead]byte
	var b []byte // from at on
	for at := int64(0); ; {
		if len(b) < v2FixedLen && int64(len(b)) < size-at {
			b = room[:min(lengthRead, size-at)]
			if _, err := readat.Full(r, b, at); err != nil {
				return 0, err
			}
		}
		raw, length, fault := blockLength(b)
		switch {
		case fault == "" && raw > math.MaxInt64-n:
			fault = "more than there can be"
		case fault == "" && length > size-at:
			fault = "stream is cut off"
		}
		if fault != "" {
			return 0, &CorruptError{Offset: at, Msg: fault}
		}
		if length == 0 {
			return n, nil
		}
		n += raw
		at += length
		b = b[min(int64(len(b)), length):]
	}
}

// blockLength returns to how much the block decodes that b begins with, and how long it is:
// 0 for the end of the stream.
func blockLength(b []byte) (raw, length int64, fault string) {
	const cut = "stream is cut off"
	if len(b) < 4 {
		return 0, 0, cut
	}
	magic := binary.LittleEndian.Uint32(b)
	if magic == magicEnd {
		return 0, 0, ""
	}
	word := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	switch {
	case magic == magicStored && len(b) >= storedHeaderLen:
		return word(4), storedHeaderLen + word(4), ""
	case magic == magicLZVN && len(b) >= lzvnHeaderLen:
		return word(4), lzvnHeaderLen + word(8), ""
	case magic == magicV1 && len(b) >= v2FixedLen:
		return word(4), v1HeaderLen + word(8), ""
	case magic == magicV2 && len(b) >= v2FixedLen:
		p0, p1 := binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
		return word(4), max(v2FixedLen, word(24)) + int64(p0>>20&0xFFFFF) + int64(p1>>40&0xFFFFF), ""
	case magic == magicStored || magic == magicLZVN || magic == magicV1 || magic == magicV2:
		return 0, 0, cut
	}
	return 0, 0, "unknown block magic"
}

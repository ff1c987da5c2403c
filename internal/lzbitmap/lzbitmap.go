// Package lzbitmap decodes LZBITMAP streams, a compression of Apple's for single files
// and for segments of encrypted archives.
//
// Apple describes the format nowhere. What is read here is what independent readers agree
// on; docs/FORMAT.md says how it was checked. A stream begins with "ZBM\x09". Chunks of at
// most 32 KiB of content follow, each with its lengths, stored or packed. A chunk without
// content ends the stream. All numbers are little-endian.
//
//	0   length of the chunk, with this header, 3 bytes
//	3   length of its content, 3 bytes
//	6   where periods begin, from the chunk's start, 3 bytes
//	9   where masks begin, 3 bytes
//	12  where operations begin, 3 bytes
//	15  literals, periods, masks, operations
//	-17 12 table entries of 10 bits: a mask of 8, and how many bytes of period it comes with
//
// A chunk whose length is 6 more than its content's has the content behind byte 6.
//
// Operations are nibbles, the low one first. Each makes eight bytes of content, fewer at
// the chunk's end: where a bit of its mask is set a literal, else the byte one period
// back, which may lie in an earlier chunk. The period stays until an operation brings
// another, and is 8 at first.
//
//	0–2   the next mask, and so many bytes of period
//	3–14  a table entry
//	15    not by itself: behind another, that is carried out 4 times, and once more for
//	      each unit of the nibbles that follow, up to the first that is not 15
//
// The operation that ends a chunk has no 15 behind it. A repetition may go on beyond the
// chunk's end, which ends it.
package lzbitmap

import (
	"fmt"
	"math/bits"
)

const (
	// Magic is what every stream begins with.
	Magic = "ZBM\x09"

	maxContent = 32 << 10 // of a chunk, bytes

	storedLen = 6  // header of a stored chunk, and of the last
	packedLen = 15 // header of a packed one
	tableLen  = 17 // at its end: 15 bytes, and two without use

	group       = 8 // bytes of content that an operation makes
	firstPeriod = 8
	ownMasks    = 3  // operations below this one take the next mask
	repeat      = 15 // operation
	leastRepeat = 4
)

// A CorruptError reports a stream that no encoder writes.
type CorruptError struct {
	Offset int64 // in the stream, bytes: where the faulty chunk starts
	Msg    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("lzbitmap: %s, chunk at offset %d", e.Msg, e.Offset)
}

// Decode decodes the stream in src to dst, and returns how many bytes that is. It takes
// a stream that is shorter than dst, and ignores what follows the stream's end in src. It
// allocates nothing, and may be called concurrently.
//
// The error is a [*CorruptError]: the stream is damaged or cut off, or longer than dst.
func Decode(dst, src []byte) (int, error) {
	if len(src) < len(Magic) || string(src[:len(Magic)]) != Magic {
		return 0, &CorruptError{0, "stream without its signature"}
	}
	at, n := len(Magic), 0
	for {
		size, content, fault := chunk(dst, n, src[at:])
		if fault != "" {
			return n, &CorruptError{int64(at), fault}
		}
		if content == 0 {
			return n, nil
		}
		at += size
		n += content
	}
}

// chunk decodes the chunk that src begins with to dst[n:], and returns its length and
// its content's. The fault is what is wrong with it, "" if nothing is.
func chunk(dst []byte, n int, src []byte) (size, content int, fault string) {
	if len(src) < storedLen {
		return 0, 0, "stream is cut off"
	}
	size, content = u24(src), u24(src[3:])
	switch {
	case content > maxContent:
		return 0, 0, "chunk of more than 32 KiB"
	case content == 0:
		return size, 0, "" // of the last chunk, the length says nothing
	case size > len(src):
		return 0, 0, "stream is cut off"
	case content > len(dst)-n:
		return 0, 0, "content is longer than expected"
	case size == content+storedLen:
		copy(dst[n:], src[storedLen:size])
		return size, content, ""
	case size < packedLen+tableLen:
		return 0, 0, "chunk without room for its header"
	}
	return size, content, unpack(dst[:n+content], n, src[:size])
}

// u24 reads a number of three bytes.
func u24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// An operation is what a nibble asks for.
type operation struct {
	mask   uint8 // of bytes that are literals; not used if the next mask is taken
	period uint8 // how many bytes of period come with it
}

// newTable returns the operations by their nibbles.
func newTable(b []byte) (t [repeat]operation) {
	for op := range ownMasks {
		t[op].period = uint8(op)
	}
	for i := range repeat - ownMasks {
		bit := 10 * i
		entry := int(b[bit/8]) | int(b[bit/8+1])<<8
		entry >>= bit % 8
		t[ownMasks+i] = operation{uint8(entry), uint8(entry >> 8 & 3)}
	}
	return t
}

// nibbles are operations as they are stored.
type nibbles struct {
	b   []byte
	pos int // in nibbles
}

// peek returns the next nibble, or none: -1.
func (s *nibbles) peek() int {
	if s.pos>>1 >= len(s.b) {
		return -1
	}
	return int(s.b[s.pos>>1]>>(s.pos&1*4)) & 15
}

// next reads an operation and how often it is carried out: once, if most is 1. It returns
// a fault, "" if there is none.
func (s *nibbles) next(most int) (op, times int, fault string) {
	op = s.peek()
	s.pos++
	switch {
	case op < 0:
		return 0, 0, "operations end before the content"
	case op == repeat:
		return 0, 0, "repetition of nothing"
	case most == 1 || s.peek() != repeat:
		return op, 1, ""
	}
	s.pos++
	times = leastRepeat
	for {
		more := s.peek()
		s.pos++
		if more < 0 {
			return 0, 0, "operations end within a count"
		}
		// Nibbles are fewer than twice the bytes of a chunk, so the sum is small.
		times += more
		if more != repeat {
			return op, min(times, most), ""
		}
	}
}

const beforeStart = "too few literals, or a period that reaches back before the start"

// copyBack appends to dst[:n] so many bytes of what begins a period before, and returns the
// new length.
func copyBack(dst []byte, n, period, length int) int {
	from, end := n-period, n+length
	for n < end {
		n += copy(dst[n:end], dst[from:n]) // twice as much each time
	}
	return n
}

// A packed chunk, as far as it isn't used.
type packed struct {
	literals, periods, masks []byte

	ops    nibbles
	table  [repeat]operation
	period int
}

// unpack decodes a packed chunk to dst[n:], which is as long as its content.
func unpack(dst []byte, n int, src []byte) (fault string) {
	o1, o2, o3, end := u24(src[6:]), u24(src[9:]), u24(src[12:]), len(src)-tableLen
	if o1 < packedLen || o2 < o1 || o3 < o2 || end < o3 {
		return "parts of the chunk overlap"
	}
	c := packed{
		literals: src[packedLen:o1],
		periods:  src[o1:o2],
		masks:    src[o2:o3],
		ops:      nibbles{b: src[o3:end]},
		table:    newTable(src[end:]),
		period:   firstPeriod,
	}
	for n < len(dst) {
		op, times, fault := c.ops.next((len(dst) - n + group - 1) / group)
		if fault != "" {
			return fault
		}
		if op >= ownMasks && c.table[op] == (operation{}) { // often a long repetition
			length := min(group*times, len(dst)-n)
			if c.period == 0 || c.period > n {
				return beforeStart
			}
			n = copyBack(dst, n, c.period, length)
			continue
		}
		for range times {
			m := min(group, len(dst)-n)
			if fault := c.carryOut(op, dst[:n+m], n); fault != "" {
				return fault
			}
			n += m
		}
	}
	if len(c.literals) > 0 || len(c.periods) > 0 || len(c.masks) > 0 {
		return "more literals, periods or masks than the content needs"
	}
	return ""
}

// carryOut makes dst[n:], a group, by an operation.
func (c *packed) carryOut(nibble int, dst []byte, n int) (fault string) {
	op := c.table[nibble]
	if nibble < ownMasks {
		if len(c.masks) == 0 {
			return "too few masks"
		}
		op.mask = c.masks[0]
		c.masks = c.masks[1:]
	}
	if len(c.periods) < int(op.period) {
		return "too few periods"
	}
	switch op.period {
	case 1:
		c.period = int(c.periods[0])
	case 2:
		c.period = int(c.periods[0]) | int(c.periods[1])<<8
	case 3:
		return "period of three bytes"
	}
	c.periods = c.periods[op.period:]
	used := apply(dst, n, op.mask, c.period, c.literals)
	if used < 0 {
		return beforeStart
	}
	c.literals = c.literals[used:]
	return ""
}

// apply makes dst[n:], a group: literals where the mask has bits, else what is a period
// back. It returns how many literals that took, or -1.
func apply(dst []byte, n int, mask uint8, period int, literals []byte) (used int) {
	part := dst[n:]
	switch {
	case mask == 0 && period >= len(part) && period <= n:
		copy(part, dst[n-period:])
		return 0
	case mask == 0xFF && len(literals) >= len(part):
		return copy(part, literals)
	case len(part) == group && period >= group && period <= n && len(literals) >= group:
		copy(part, dst[n-period:n-period+group])
		for ; mask != 0; mask &= mask - 1 {
			part[bits.TrailingZeros8(mask)] = literals[used]
			used++
		}
		return used
	}
	for i := range part {
		switch {
		case mask>>i&1 == 0 && period > 0 && period <= n+i:
			part[i] = dst[n+i-period]
		case mask>>i&1 == 1 && used < len(literals):
			part[i] = literals[used]
			used++
		default:
			return -1
		}
	}
	return used
}

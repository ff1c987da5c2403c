// Package lz4 decodes what Apple's compression library writes as COMPRESSION_LZ4.
//
// The library's documentation describes the format: LZ4 blocks with a header each,
// all numbers little-endian.
//
//	"bv41"  length of the content, 4 bytes; length of the block, 4 bytes; an LZ4 block
//	"bv4-"  length, 4 bytes; so many bytes of content, stored
//	"bv4$"  the end
//
// The block format is https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md. A match
// may lie in an earlier block of the stream, as it does in the logs that macOS writes. A
// block without a header is read, too: some readers of encrypted archives have it so.
package lz4

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	frameMark  = "bv4"
	packedMark = "bv41"
	storedMark = "bv4-"
	endMark    = "bv4$"
	markLen    = 4
	storedLen  = 8  // header
	packedLen  = 12 // header

	longLength = 15 // in a token: further bytes follow
	minMatch   = 4
)

// A CorruptError reports a stream that no encoder writes.
type CorruptError struct {
	Offset int64 // in the stream, bytes: where the faulty part starts
	Msg    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("lz4: %s at offset %d", e.Msg, e.Offset)
}

// Decode decodes src to dst, and returns how many bytes that is: a stream, if src begins
// with one that has its end, else one LZ4 block. It takes content that is shorter than dst,
// and ignores what follows a stream's end in src. It allocates nothing, and may be called
// concurrently.
//
// The error is a [*CorruptError]: src is damaged or cut off, or longer than dst.
func Decode(dst, src []byte) (int, error) {
	if err := walk(src); err != nil {
		n, used, fault := block(dst, 0, src)
		switch {
		case fault == "":
			return n, nil
		case bytes.HasPrefix(src, []byte(frameMark)):
			return 0, err // that src is a stream is likelier
		}
		return n, &CorruptError{int64(used), fault}
	}
	return stream(dst, src)
}

// A frame is a part of a stream.
type frame struct {
	packed bool
	end    bool   // the last
	data   []byte // as it is stored
	length int64  // of its content
	size   int    // with the header
}

// parseFrame returns the frame that b begins with. The fault is what is wrong with it, ""
// if nothing is.
func parseFrame(b []byte) (f frame, fault string) {
	if len(b) < markLen {
		return f, "stream is cut off"
	}
	header := storedLen
	switch string(b[:markLen]) {
	case endMark:
		return frame{end: true, size: markLen}, ""
	case packedMark:
		f.packed, header = true, packedLen
	case storedMark:
	default:
		return f, "no header of a block"
	}
	if len(b) < header {
		return f, "stream is cut off"
	}
	f.length = int64(binary.LittleEndian.Uint32(b[markLen:]))
	stored := int64(binary.LittleEndian.Uint32(b[header-4:]))
	if stored > int64(len(b)-header) {
		return f, "stream is cut off"
	}
	f.size = header + int(stored)
	f.data = b[header:f.size]
	return f, ""
}

// walk returns an error if src is no stream of frames up to the last.
func walk(src []byte) error {
	for at := 0; ; {
		f, fault := parseFrame(src[at:])
		if fault != "" {
			return &CorruptError{int64(at), fault}
		}
		if f.end {
			return nil
		}
		at += f.size
	}
}

// stream decodes the frames that walk has seen.
func stream(dst, src []byte) (n int, err error) {
	for at := 0; ; {
		f, fault := parseFrame(src[at:])
		switch {
		case fault != "":
		case f.end:
			return n, nil
		case f.length > int64(len(dst)-n):
			fault = "content is longer than expected"
		case f.packed:
			end := n + int(f.length)
			if n, _, fault = block(dst[:end], n, f.data); n < end && fault == "" {
				fault = "block decodes to less than its length"
			}
		default:
			n += copy(dst[n:], f.data)
		}
		if fault != "" {
			return n, &CorruptError{int64(at), fault}
		}
		at += f.size
	}
}

// block decodes an LZ4 block to dst[n:]. Matches may lie in all of dst. It returns how far
// it got, in dst and in src, and a fault, "" if there is none.
func block(dst []byte, n int, src []byte) (end, used int, fault string) {
	at := 0
	for {
		if at == len(src) {
			return n, at, "block ends before its last literals"
		}
		token := int(src[at])
		at++
		literals, from, ok := length(token>>4, src, at, len(dst)-n)
		if !ok || literals > len(src)-from {
			return n, at, "literals go beyond the end"
		}
		n += copy(dst[n:], src[from:from+literals])
		at = from + literals
		if at == len(src) {
			return n, at, ""
		}
		if len(src)-at < 2 {
			return n, at, "block is cut off"
		}
		distance := int(binary.LittleEndian.Uint16(src[at:]))
		match, next, ok := length(token&15, src, at+2, len(dst)-n-minMatch)
		switch {
		case !ok:
			return n, at, "match goes beyond the end"
		case distance == 0 || distance > n:
			return n, at, "match reaches back before the start"
		}
		at = next
		n = copyMatch(dst, n, distance, match+minMatch)
	}
}

// length returns a length whose first part is in a token, and where it ends in src. It is
// not ok if it is above most, or cut off.
func length(n int, src []byte, at, most int) (int, int, bool) {
	for more := n == longLength; more && n <= most; at++ {
		if at == len(src) {
			return 0, at, false
		}
		n += int(src[at])
		more = src[at] == 255
	}
	return n, at, n <= most
}

// copyMatch appends to dst[:n] so many bytes of what begins a distance before, and returns
// the new length. What is copied may overlap what is written.
func copyMatch(dst []byte, n, distance, length int) int {
	from, end := n-distance, n+length
	for n < end {
		n += copy(dst[n:end], dst[from:n]) // twice as much each time
	}
	return n
}

// Package lz4enc writes LZ4 blocks for tests, and the streams of Apple's compression
// library around them. It shares no code with the decoder.
package lz4enc

import "encoding/binary"

// Stream writes p in blocks of so many bytes of content. A block that does not get shorter
// is stored. Where they are linked, the matches of a block may lie in those before.
func Stream(p []byte, blockLen int, linked bool) []byte {
	var b []byte
	for at := 0; at < len(p); at += blockLen {
		end := min(at+blockLen, len(p))
		packed := block(p[:end], at, linked)
		if len(packed) >= end-at {
			b = binary.LittleEndian.AppendUint32(append(b, "bv4-"...), uint32(end-at))
			b = append(b, p[at:end]...)
			continue
		}
		b = binary.LittleEndian.AppendUint32(append(b, "bv41"...), uint32(end-at))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(packed)))
		b = append(b, packed...)
	}
	return append(b, "bv4$"...)
}

// Block writes p as one block.
func Block(p []byte) []byte { return block(p, 0, false) }

// block writes p[start:]. As the format asks for, the last match begins 12 bytes before the
// end or more, and ends 5 before it.
func block(p []byte, start int, linked bool) (b []byte) {
	seen := make(map[uint32]int)
	i, literals := start, start
	if linked {
		for j := max(0, start-1000); j < start && j+4 <= len(p); j++ {
			seen[binary.LittleEndian.Uint32(p[j:])] = j
		}
	}
	for i+12 < len(p) {
		key := binary.LittleEndian.Uint32(p[i:])
		j, ok := seen[key]
		seen[key] = i
		if !ok || i-j > 65535 {
			i++
			continue
		}
		n := 4
		for i+n < len(p)-5 && p[i+n] == p[j+n] {
			n++
		}
		b = sequence(b, p[literals:i], i-j, n)
		i += n
		literals = i
	}
	return sequence(b, p[literals:], 0, 4)
}

// sequence writes literals and a match, or the last literals if the distance is 0.
func sequence(b, literals []byte, distance, match int) []byte {
	b = append(b, byte(min(15, len(literals))<<4|min(15, match-4)))
	b = more(b, len(literals))
	b = append(b, literals...)
	if distance == 0 {
		return b
	}
	return more(binary.LittleEndian.AppendUint16(b, uint16(distance)), match-4)
}

// more writes the bytes of a length behind its first 15.
func more(b []byte, n int) []byte {
	if n < 15 {
		return b
	}
	for n -= 15; n >= 255; n -= 255 {
		b = append(b, 255)
	}
	return append(b, byte(n))
}

// Package adcenc writes Apple Data Compression streams for tests, with all
// three kinds of code and distances up to the largest, 65,536. It shares no code
// with the decoder, and 7-Zip reads what it writes.
package adcenc

import "encoding/binary"

const (
	maxLiterals = 128
	maxShort    = 18 // length and distance of the two-byte code
	shortDist   = 1 << 10
	maxLong     = 67 // of the three-byte code
	longDist    = 1 << 16

	hashBits = 14
)

// Encode returns p as a stream. An empty p gives an empty stream.
func Encode(p []byte) []byte {
	var out []byte
	var head [1 << hashBits]int // by hash: the last position plus one
	start := 0                  // of the literals not written yet
	for i := 0; i < len(p); {
		n, dist := 0, 0
		if i+3 <= len(p) {
			h := hash(p[i:])
			if c := head[h] - 1; c >= 0 && i-c <= longDist {
				n, dist = common(p[c:], p[i:]), i-c
			}
			head[h] = i + 1
		}
		if n < 3 || n == 3 && dist > shortDist {
			i++
			continue
		}
		out = Literals(out, p[start:i])
		out = Copy(out, n, dist)
		i += n
		start = i
	}
	return Literals(out, p[start:])
}

// Literals appends p as literals.
func Literals(out, p []byte) []byte {
	for len(p) > 0 {
		n := min(len(p), maxLiterals)
		out = append(out, 0x80|byte(n-1))
		out = append(out, p[:n]...)
		p = p[n:]
	}
	return out
}

// Copy appends a copy of 3 to 67 bytes from 1 to 65,536 back, in the short code
// where that can spell it.
func Copy(out []byte, n, dist int) []byte {
	if d := dist - 1; n <= maxShort && dist <= shortDist {
		return append(out, byte((n-3)<<2|d>>8), byte(d))
	} else {
		return append(out, 0x40|byte(n-4), byte(d>>8), byte(d))
	}
}

func hash(p []byte) uint32 {
	return (uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16) * 2654435761 >> (32 - hashBits)
}

// common tells how many bytes a and b share at their start, up to maxLong.
func common(a, b []byte) int {
	n, most := 0, min(len(b), maxLong)
	for n+8 <= most && binary.LittleEndian.Uint64(a[n:]) == binary.LittleEndian.Uint64(b[n:]) {
		n += 8
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

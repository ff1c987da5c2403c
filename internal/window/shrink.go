package window

import "encoding/binary"

// Shrink and Expand make a packed window smaller for as long as it stays in memory, where
// 100 KiB of a window of 256 KiB may be wanted: to two thirds of it, 300 MB a second. What
// they make is never written to a file, so the form may change.
//
// A shrunk window is a zero byte, the packed window's length as a uvarint, and sequences:
// a byte of two numbers of 4 bits, so many literals, and 2 bytes that say how far back the
// copy begins which follows them. The first number, the lower bits, is that of literals.
// The other is the length of the copy, less minCopy. From 15 on a uvarint has the rest of
// a number: that of literals comes before these, that of the copy behind the distance. The
// last sequence ends behind its literals.
const (
	minCopy  = 4
	hashBits = 12
	most     = 15 // in 4 bits
)

// Shrink appends packed to dst in fewer bytes, in dst's capacity. It returns false if that
// has no room for it, or if it would save less than an eighth.
func Shrink(dst, packed []byte) ([]byte, bool) {
	limit := min(cap(dst)-len(dst), len(packed)-len(packed)/8)
	var table [1 << hashBits]uint32 // by hash: the last place
	from := len(dst)
	dst = binary.AppendUvarint(append(dst, 0), uint64(len(packed)))
	start := 0 // of literals
	for i := 1; i+8 <= len(packed); {
		v := binary.LittleEndian.Uint32(packed[i:])
		h := v * 2654435761 >> (32 - hashBits)
		c := int(table[h])
		table[h] = uint32(i)
		if i-c > 0xFFFF || binary.LittleEndian.Uint32(packed[c:]) != v {
			i += 1 + (i-start)>>6
			continue
		}
		n := minCopy
		for i+n < len(packed) && packed[c+n] == packed[i+n] {
			n++
		}
		if len(dst)-from+(i-start)+16 > limit {
			return dst[:from], false
		}
		dst = appendSequence(dst, packed[start:i], n-minCopy)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(i-c))
		if n-minCopy >= most {
			dst = binary.AppendUvarint(dst, uint64(n-minCopy-most))
		}
		i += n
		start = i
	}
	if len(dst)-from+len(packed)-start+16 > limit {
		return dst[:from], false
	}
	return appendSequence(dst, packed[start:], 0), true
}

// appendSequence appends a sequence up to its distance.
func appendSequence(dst, literals []byte, n int) []byte {
	dst = append(dst, byte(min(len(literals), most)|min(n, most)<<4))
	if len(literals) >= most {
		dst = binary.AppendUvarint(dst, uint64(len(literals)-most))
	}
	return append(dst, literals...)
}

// Expand returns the packed window that Shrink has made b of, in dst's capacity, or b
// itself if Shrink has not. The error is ErrPacked.
func Expand(dst, b []byte) ([]byte, error) {
	if len(b) < 2 || b[0] != 0 {
		return b, nil
	}
	s := sequences{b: b[1:]}
	size := s.number(cap(dst) - len(dst))
	dst = dst[len(dst) : len(dst)+size]
	for at := 0; ; {
		t := s.number1()
		n := t & most
		if n == most {
			n += s.number(size)
		}
		if s.bad || n > len(s.b) || n > size-at {
			return nil, ErrPacked
		}
		copy(dst[at:], s.b[:n])
		s.b, at = s.b[n:], at+n
		if len(s.b) == 0 {
			if at < size {
				return nil, ErrPacked
			}
			return dst, nil
		}
		dist := s.number1() | s.number1()<<8
		if n = t >> 4; n == most {
			n += s.number(size)
		}
		n += minCopy
		if s.bad || dist < 1 || dist > at || n > size-at {
			return nil, ErrPacked
		}
		for end := at + n; at < end; {
			at += copy(dst[at:end], dst[at-dist:at])
		}
	}
}

// sequences reads numbers off a shrunk window.
type sequences struct {
	b   []byte
	bad bool
}

// number1 returns a byte.
func (s *sequences) number1() int {
	if len(s.b) == 0 {
		s.bad = true
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return int(v)
}

// number returns a uvarint, which must not exceed limit.
func (s *sequences) number(limit int) int {
	v, n := binary.Uvarint(s.b)
	if n <= 0 || v > uint64(limit) {
		s.bad = true
		return 0
	}
	s.b = s.b[n:]
	return int(v)
}

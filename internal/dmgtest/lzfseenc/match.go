package lzfseenc

import "encoding/binary"

const (
	hashBits = 15
	depth    = 8 // candidates tried for a match
	goodLen  = 32
)

// A match copies n bytes from dist back.
type match struct{ n, dist int }

// finder finds matches with chains of positions that share a hash.
type finder struct {
	head []int32 // by hash: the last position plus one
	prev []int32 // by position: the one before it plus one
}

func hash(p []byte) uint32 {
	return binary.LittleEndian.Uint32(p) * 2654435761 >> (32 - hashBits)
}

// insert makes position i known.
func (f *finder) insert(p []byte, i int) {
	if f.head == nil {
		f.head = make([]int32, 1<<hashBits)
	}
	for len(f.prev) <= i {
		f.prev = append(f.prev, 0)
	}
	if i+4 > len(p) {
		return
	}
	h := hash(p[i:])
	f.prev[i] = f.head[h]
	f.head[h] = int32(i + 1)
}

// skip makes all positions from the given one known.
func (f *finder) skip(p []byte, from int) {
	for i := from; i < len(p); i++ {
		f.insert(p, i)
	}
}

// longest returns the longest match for p[i:] no further back than maxDist, and
// makes i known.
func (f *finder) longest(p []byte, i, maxDist int) (best match) {
	f.insert(p, i)
	if i+4 > len(p) {
		return match{}
	}
	c := int(f.prev[i]) - 1
	for try := 0; try < depth && c >= 0 && i-c <= maxDist; try++ {
		if n := common(p[c:], p[i:]); n > best.n {
			best = match{n, i - c}
		}
		c = int(f.prev[c]) - 1
	}
	if best.n < 4 {
		return match{}
	}
	return best
}

// common tells how many bytes a and b share at their start.
func common(a, b []byte) int {
	n := 0
	for len(b)-n >= 8 && len(a)-n >= 8 &&
		binary.LittleEndian.Uint64(a[n:]) == binary.LittleEndian.Uint64(b[n:]) {
		n += 8
	}
	for n < len(b) && n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}

// parse cuts p[from:] into literals and matches and calls emit for each pair;
// the last has a match of length 0 if p ends with literals.
func (f *finder) parse(p []byte, from, maxDist int, emit func(literals []byte, m match)) {
	start := from
	for i := from; i < len(p); {
		m := f.longest(p, i, maxDist)
		if m.n == 0 {
			i++
			continue
		}
		at := i
		if m.n < goodLen && i+1 < len(p) {
			// One byte later there may be a better one.
			if next := f.longest(p, i+1, maxDist); next.n > m.n+1 {
				m, at = next, i+1
			}
			i++
		}
		emit(p[start:at], m)
		start = at + m.n
		for i++; i < start; i++ {
			f.insert(p, i)
		}
		i = start
	}
	if start < len(p) {
		emit(p[start:], match{})
	}
}

package lzfseenc

import "encoding/binary"

// lzvn appends plain[from:] as one bvxn block.
func (w *Writer) lzvn(from int) {
	w.header(LZVN, len(w.plain)-from)
	sizeAt := len(w.out)
	w.out = append(w.out, 0, 0, 0, 0)
	last := 0
	w.find.parse(w.plain, from, MaxLZVND, func(literals []byte, m match) {
		for len(literals) > 3 || m.n == 0 && len(literals) > 0 {
			n := min(len(literals), 271)
			w.out = append(lzvnRun(w.out, 0xE0, n), literals[:n]...)
			literals = literals[n:]
		}
		if m.n > 0 {
			w.lzvnMatch(literals, m, last)
			last = m.dist
		}
	})
	w.out = append(w.out, 6, 0, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(w.out[sizeAt:], uint32(len(w.out)-sizeAt-4))
}

// lzvnRun appends a code of literals (0xE0) or of a match at the last distance
// (0xF0), of length 1 to 271.
func lzvnRun(out []byte, op byte, n int) []byte {
	if n < 16 {
		return append(out, op|byte(n))
	}
	return append(out, op, byte(n-16))
}

// lzvnMatch appends a match with up to three literals before it.
func (w *Writer) lzvnMatch(literals []byte, m match, last int) {
	l := len(literals)
	// The codes that more would give have other meanings.
	n := min(m.n, 10-2*l)
	op := byte(l<<6 | (n-3)<<3)
	switch d := m.dist; {
	case d == last && l == 0:
		n = 0
	case d == last:
		w.out = append(w.out, op|6)
	case d < 6<<8:
		w.out = append(w.out, op|byte(d>>8), byte(d))
	case d < 1<<14:
		n = min(m.n, 34)
		w.out = append(w.out, 0xA0|byte(l<<3|(n-3)>>2), byte((n-3)&3|d<<2), byte(d>>6))
	default:
		w.out = append(w.out, op|7, byte(d), byte(d>>8))
	}
	w.out = append(w.out, literals...)
	for m.n -= n; m.n > 0; {
		n = min(m.n, 271)
		w.out = lzvnRun(w.out, 0xF0, n)
		m.n -= n
	}
}

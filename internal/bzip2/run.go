package bzip2

import (
	"encoding/binary"
	"math/bits"
)

// runLen is how many equal bytes make a run: a byte follows that says how many
// more there are.
const runLen = 4

// run is the state of the last stage between two bytes of text.
type run struct {
	last    byte  // the byte before
	equal   uint8 // how many equal ones end there; at runLen a length comes next
	pending uint8 // copies of last still to be written
}

// flush writes pending copies to p and returns how many.
func (r *run) flush(p []byte) int {
	if r.pending == 0 {
		return 0
	}
	n := min(int(r.pending), len(p))
	for i := range p[:n] {
		p[i] = r.last
	}
	r.pending -= uint8(n)
	return n
}

// step takes one byte of text. It writes what that stands for to p, which has
// room for a byte at least, and returns how many bytes it wrote.
func (r *run) step(c byte, p []byte) int {
	if r.equal == runLen {
		r.equal, r.pending = 0, c
		return r.flush(p)
	}
	if r.equal > 0 && c == r.last {
		r.equal++
	} else {
		r.last, r.equal = c, 1
	}
	p[0] = c
	return 1
}

// expand decodes text into p until one of them is used up, and returns how far
// it got in each.
func (r *run) expand(p, text []byte) (n, used int) {
	n = r.flush(p)
	for n < len(p) && used < len(text) {
		if r.equal == 1 && used > 0 {
			// Any run begins at the byte before at the earliest, and that is
			// in text: from here on runs can be looked for 8 bytes at a time.
			k := r.plain(p[n:], text[used-1:])
			n += k
			used += k
			if n == len(p) || used == len(text) {
				break
			}
		}
		n += r.step(text[used], p[n:])
		used++
	}
	return n, used
}

// plain copies text[1:] to p up to the end of the first run that begins in
// text, or as far as it can while there are 11 bytes to go in both. It returns
// how many bytes it copied, and leaves r as they do.
func (r *run) plain(p, text []byte) int {
	const (
		ones = eightOnes
		tops = eightOnes << 7
	)
	all := text
	n := 0
	for len(text) >= 12 && len(p) >= 11 {
		w := binary.LittleEndian.Uint64(text[1:])
		x := w ^ binary.LittleEndian.Uint64(text)
		x |= w ^ binary.LittleEndian.Uint64(text[2:])
		x |= w ^ binary.LittleEndian.Uint64(text[3:])
		binary.LittleEndian.PutUint64(p, w)
		// A zero byte of x is where a run begins. The lowest one is exact.
		if zero := (x - ones) &^ x & tops; zero != 0 {
			k := bits.TrailingZeros64(zero) >> 3
			r.last, r.equal = text[k], runLen
			p[k], p[k+1], p[k+2] = r.last, r.last, r.last
			return n + k + runLen - 1
		}
		n += 8
		text, p = text[8:], p[8:]
	}
	if n == 0 {
		return 0
	}
	r.last, r.equal = text[0], 1
	for i := n - 1; i >= 0 && all[i] == r.last; i-- {
		r.equal++
	}
	return n
}

// Package lzbitmapenc writes LZBITMAP streams for tests. It shares no code with the
// decoder.
package lzbitmapenc

import (
	"bytes"
	"cmp"
	"maps"
	"math/bits"
	"slices"
)

const (
	chunkLen = 32 << 10
	group    = 8
)

// Encode writes p as a stream.
func Encode(p []byte) []byte {
	b := []byte("ZBM\x09")
	seen := make(map[string]int)
	for at := 0; at < len(p); at += chunkLen {
		content := p[:min(at+chunkLen, len(p))]
		packed := chunk(content, at, seen)
		if n := len(content) - at; len(packed) >= n+6 {
			packed = append(u24(u24(nil, n+6), n), content[at:]...)
		}
		b = append(b, packed...)
	}
	return u24(u24(b, 6), 0)
}

func u24(b []byte, n int) []byte { return append(b, byte(n), byte(n>>8), byte(n>>16)) }

// A step makes a group of eight bytes.
type step struct {
	mask   uint8
	period int // how many bytes of period come with it
}

// chunk packs p[at:]. It keeps in seen where the first bytes of a group were seen last.
func chunk(p []byte, at int, seen map[string]int) []byte {
	var literals, periods []byte
	var steps []step
	period := 8
	for i := at; i < len(p); i += group {
		s := step{mask: mask(p, i, period)}
		key := string(p[i:min(i+4, len(p))])
		if far := i - seen[key]; far > 0 && far < 1<<16 {
			m := mask(p, i, far)
			if bits.OnesCount8(m)+2 < bits.OnesCount8(s.mask) {
				s = step{m, 1}
				periods = append(periods, byte(far))
				if far > 255 {
					s.period = 2
					periods = append(periods, byte(far>>8))
				}
				period = far
			}
		}
		seen[key] = i
		steps = append(steps, s)
		for b := range min(group, len(p)-i) {
			if s.mask>>b&1 == 1 {
				literals = append(literals, p[i+b])
			}
		}
	}
	return assemble(len(p)-at, literals, periods, steps)
}

// mask has a bit for each byte of the group at i that isn't what is a period before.
func mask(p []byte, i, period int) (m uint8) {
	for b := range min(group, len(p)-i) {
		if j := i + b; j < period || p[j] != p[j-period] {
			m |= 1 << b
		}
	}
	return m
}

// assemble writes the parts of a chunk.
func assemble(n int, literals, periods []byte, steps []step) []byte {
	table := frequent(steps)
	var masks, ops []byte
	for i := 0; i < len(steps); {
		op := slices.Index(table, steps[i]) + 3
		end := i
		for ; end < len(steps); end++ {
			s := steps[end]
			if op >= 3 && s != steps[i] || op < 3 && (s.period != steps[i].period || slices.Contains(table, s)) {
				break
			}
		}
		if op < 3 {
			op = steps[i].period
		}
		run := end - i
		count := run
		if run < 4 {
			run, count = 1, 1
		} else if end == len(steps) && steps[i] == (step{}) {
			count += 3 // as Apple's encoder does: the chunk's end ends the run
		}
		for _, s := range steps[i : i+run] {
			if op < 3 {
				masks = append(masks, s.mask)
			}
		}
		ops = append(ops, byte(op))
		if count >= 4 {
			ops = append(ops, 15)
			for count -= 4; count >= 15; count -= 15 {
				ops = append(ops, 15)
			}
			ops = append(ops, byte(count))
		}
		i += run
	}
	o1 := 15 + len(literals)
	o2 := o1 + len(periods)
	o3 := o2 + len(masks)
	var b []byte
	for _, v := range []int{o3 + (len(ops)+1)/2 + 17, n, o1, o2, o3} {
		b = u24(b, v)
	}
	return slices.Concat(b, literals, periods, masks, nibbles(ops), tableBytes(table))
}

// frequent returns the twelve steps that are used most.
func frequent(steps []step) []step {
	count := make(map[step]int)
	for _, s := range steps {
		count[s]++
	}
	all := slices.SortedFunc(maps.Keys(count), func(a, b step) int {
		return cmp.Or(count[b]-count[a], int(a.mask)-int(b.mask), a.period-b.period)
	})
	return all[:min(12, len(all))]
}

func nibbles(ops []byte) []byte {
	b := make([]byte, (len(ops)+1)/2)
	for i, op := range ops {
		b[i/2] |= op << (i % 2 * 4)
	}
	return b
}

func tableBytes(table []step) []byte {
	b := bytes.Repeat([]byte{0}, 17)
	for i, s := range table {
		v := (int(s.mask) | s.period<<8) << (10 * i % 8)
		b[10*i/8] |= byte(v)
		b[10*i/8+1] |= byte(v >> 8)
	}
	return b
}

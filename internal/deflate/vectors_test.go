package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"testing"
)

// clc are lengths of the code-length code by symbol.
type clc map[int]int

// headerBits writes a dynamic block's counts and its code-length code.
func (w *bitWriter) headerBits(hlit, hdist uint64, lens clc) code {
	w.bits(1|2<<1, 3)
	w.bits(hlit, 5)
	w.bits(hdist, 5)
	w.bits(15, 4)
	all := make([]byte, 19)
	for s, n := range lens {
		all[s] = byte(n)
	}
	for _, i := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		w.bits(uint64(all[i]), 3)
	}
	return newCode(all)
}

// four are codes of 2 bits for what the vectors need: 0, 1, 2 and zero runs.
var four = clc{0: 2, 1: 2, 2: 2, 18: 2}

// block writes a final block's header for these codes, with long zero runs as
// repeats.
func (w *bitWriter) block(lit, dst []byte) {
	c := w.headerBits(uint64(len(lit)-257), uint64(len(dst)-1), four)
	all := append(append([]byte{}, lit...), dst...)
	for len(all) > 0 {
		n := 0
		for n < len(all) && n < 138 && all[n] == 0 {
			n++
		}
		if n >= 11 {
			w.symbol(c, 18)
			w.bits(uint64(n-11), 7)
			all = all[n:]
			continue
		}
		w.symbol(c, int(all[0]))
		all = all[1:]
	}
	w.lit, w.dst = newCode(lit), newCode(dst)
}

// codeOf has the given lengths at the given symbols among n.
func codeOf(n int, lens clc) []byte {
	all := make([]byte, n)
	for s, l := range lens {
		all[s] = byte(l)
	}
	return all
}

var vectors = []struct {
	name string
	make func(w *bitWriter)
	want string // output of a valid stream
	msg  string // what is wrong with another one
}{
	{name: "stored", want: "\x11", make: func(w *bitWriter) { w.stored(1, []byte{0x11}) }},
	{name: "stored, empty", make: func(w *bitWriter) { w.stored(1, nil) }},
	{name: "stored, wrong complement", msg: "complement", make: func(w *bitWriter) {
		w.bits(1, 8)
		w.bits(0xFFFE<<16|2, 32)
	}},
	{name: "reserved block type", msg: "block type", make: func(w *bitWriter) { w.bits(7, 3) }},

	{name: "code lengths: one code", msg: "code-length code", make: func(w *bitWriter) {
		w.headerBits(0, 0, clc{18: 1})
	}},
	{name: "code lengths: no code", msg: "code-length code", make: func(w *bitWriter) {
		w.headerBits(0, 0, nil)
	}},
	{name: "code lengths: over-subscribed", msg: "code-length code", make: func(w *bitWriter) {
		w.headerBits(0, 0, clc{0: 1, 1: 1, 2: 1})
	}},
	{name: "code lengths: incomplete", msg: "code-length code", make: func(w *bitWriter) {
		w.headerBits(0, 0, clc{0: 2, 1: 2, 18: 2})
	}},
	{name: "repeat of nothing", msg: "repeat", make: func(w *bitWriter) {
		c := w.headerBits(0, 0, clc{0: 1, 16: 1})
		w.symbol(c, 16)
	}},
	{name: "repeat past the end", msg: "repeat", make: func(w *bitWriter) {
		c := w.headerBits(0, 0, clc{1: 2, 16: 2, 18: 1})
		w.symbol(c, 18)
		w.bits(127, 7) // 138
		w.symbol(c, 18)
		w.bits(107, 7) // 118
		w.symbol(c, 1) // the 257th, and there is one distance
		w.symbol(c, 16)
	}},
	{name: "zeros past the end", msg: "repeat", make: func(w *bitWriter) {
		c := w.headerBits(0, 0, clc{1: 1, 18: 1})
		w.symbol(c, 18)
		w.bits(127, 7)
		w.symbol(c, 18)
		w.bits(127, 7)
	}},
	{name: "repeat from lengths into distances", make: func(w *bitWriter) {
		c := w.headerBits(1, 3, clc{2: 2, 16: 2, 18: 1})
		w.symbol(c, 18)
		w.bits(127, 7)
		w.symbol(c, 18)
		w.bits(105, 7) // 254 zeros
		w.symbol(c, 2) // 254
		w.symbol(c, 16)
		w.bits(3, 2)   // 255-257, and distances 0-2
		w.symbol(c, 2) // distance 3
		w.lit = newCode(codeOf(258, clc{254: 2, 255: 2, 256: 2, 257: 2}))
		w.end()
	}},

	{name: "too many lengths, 287", msg: "too many", make: func(w *bitWriter) { w.headerBits(30, 0, four) }},
	{name: "too many lengths, 288", msg: "too many", make: func(w *bitWriter) { w.headerBits(31, 0, four) }},
	{name: "too many distances, 31", msg: "too many", make: func(w *bitWriter) { w.headerBits(0, 30, four) }},
	{name: "too many distances, 32", msg: "too many", make: func(w *bitWriter) { w.headerBits(0, 31, four) }},
	{name: "30 distances, all unused", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{256: 1}), make([]byte, 30))
		w.end()
	}},

	{name: "no code at all", msg: "end-of-block", make: func(w *bitWriter) {
		w.block(make([]byte, 257), []byte{0})
	}},
	{name: "no literal code, one distance", msg: "end-of-block", make: func(w *bitWriter) {
		w.block(make([]byte, 257), []byte{1})
	}},
	{name: "no end of block", msg: "end-of-block", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{0: 1, 1: 1}), []byte{0})
		w.literal(1)
	}},
	{name: "one code, no distance", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{256: 1}), []byte{0})
		w.end()
	}},
	{name: "one code, one distance", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{256: 1}), []byte{1})
		w.end()
	}},
	{name: "one code, the other one used", msg: "literal/length symbol", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{256: 1}), []byte{1})
		w.bits(1, 1)
	}},
	{name: "one code of two bits", msg: "literal/length code", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{256: 2}), []byte{0})
		w.end()
	}},
	{name: "over-subscribed", msg: "literal/length code", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{0: 1, 1: 1, 256: 1}), []byte{0})
	}},
	{name: "incomplete", msg: "literal/length code", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{0: 2, 1: 2, 256: 2}), []byte{0})
	}},
	{name: "two codes", want: "\x01", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{1: 1, 256: 1}), []byte{0})
		w.literal(1)
		w.end()
	}},
	{name: "three codes", want: "\x01\x02", make: func(w *bitWriter) {
		w.block(codeOf(257, clc{1: 2, 2: 2, 256: 1}), []byte{0})
		w.literal(1)
		w.literal(2)
		w.end()
	}},

	{name: "no distance code, used", msg: "distance symbol", make: func(w *bitWriter) {
		w.stored(0, []byte{0})
		w.block(codeOf(258, clc{256: 1, 257: 1}), []byte{0})
		w.symbol(w.lit, 257)
		w.bits(0, 8)
	}},
	{name: "one distance code, the other one used", msg: "distance symbol", make: func(w *bitWriter) {
		w.stored(0, []byte{0})
		w.block(codeOf(258, clc{256: 1, 257: 1}), []byte{1})
		w.symbol(w.lit, 257)
		w.bits(1, 8)
	}},
	{name: "one distance code, used", want: "\x07\x07\x07\x07", make: func(w *bitWriter) {
		w.stored(0, []byte{7})
		w.block(codeOf(258, clc{256: 1, 257: 1}), []byte{1})
		w.match(3, 1)
		w.end()
	}},
	{name: "one distance code of two bits", msg: "distance code", make: func(w *bitWriter) {
		w.block(codeOf(258, clc{256: 1, 257: 1}), []byte{2})
	}},
	{name: "distances over-subscribed", msg: "distance code", make: func(w *bitWriter) {
		w.block(codeOf(258, clc{256: 1, 257: 1}), []byte{1, 1, 1})
	}},
	{name: "distances incomplete", msg: "distance code", make: func(w *bitWriter) {
		w.block(codeOf(258, clc{256: 1, 257: 1}), []byte{2, 2, 2})
	}},
	{name: "length 258 as 227+31", want: "\x05" + string(bytes.Repeat([]byte{5}, 258)), make: func(w *bitWriter) {
		w.stored(0, []byte{5})
		w.block(codeOf(286, clc{256: 1, 284: 1}), []byte{1})
		w.symbol(w.lit, 284)
		w.bits(31, 5)
		w.symbol(w.dst, 0)
		for range 258 {
			w.out = append(w.out, 5)
		}
		w.end()
	}},

	{name: "fixed, length symbol 286", msg: "literal/length symbol", make: func(w *bitWriter) {
		w.fixed(1)
		w.symbol(w.lit, 286)
	}},
	{name: "fixed, length symbol 287", msg: "literal/length symbol", make: func(w *bitWriter) {
		w.fixed(1)
		w.symbol(w.lit, 287)
	}},
	{name: "fixed, distance symbol 30", msg: "distance symbol", make: func(w *bitWriter) {
		w.fixed(1)
		w.literal('a')
		w.symbol(w.lit, 257)
		w.symbol(w.dst, 30)
	}},
	{name: "fixed, distance symbol 31", msg: "distance symbol", make: func(w *bitWriter) {
		w.fixed(1)
		w.literal('a')
		w.symbol(w.lit, 257)
		w.symbol(w.dst, 31)
	}},
	{name: "distance before the start", msg: "too far", make: func(w *bitWriter) {
		w.fixed(1)
		w.literal('a')
		w.symbol(w.lit, 257)
		w.symbol(w.dst, 1)
	}},
	{name: "distance at the start", msg: "too far", make: func(w *bitWriter) {
		w.fixed(1)
		w.symbol(w.lit, 257)
		w.symbol(w.dst, 0)
	}},
}

func TestVectors(t *testing.T) {
	d := new(Decoder)
	for _, tt := range vectors {
		// With what follows in place, and room for the fast loop; then without.
		for _, tail := range []int{100, 0} {
			w := &bitWriter{}
			tt.make(w)
			w.align()
			raw := append(w.buf, make([]byte, tail)...)
			d.Reset(bytes.NewReader(raw))
			got, err := decodeAll(d, 0)
			_, other := io.ReadAll(flate.NewReader(bytes.NewReader(raw)))
			if (err == nil) != (other == nil) {
				t.Errorf("%s: %v, and compress/flate: %v", tt.name, err, other)
			}
			if tt.msg == "" {
				if err != nil || string(got) != tt.want || string(got) != string(w.out) {
					t.Errorf("%s: %q, %v", tt.name, got, err)
				}
				continue
			}
			var c *CorruptError
			if !errors.As(err, &c) || !errors.Is(err, ErrCorrupt) || !bytes.Contains([]byte(c.Msg), []byte(tt.msg)) {
				t.Errorf("%s: %v", tt.name, err)
			} else if c.Offset < 0 || c.Offset > int64(len(raw)) {
				t.Errorf("%s: offset %d in %d bytes", tt.name, c.Offset, len(raw))
			}
			if _, again := d.Decode(0); again != err {
				t.Errorf("%s: then %v", tt.name, again)
			}
		}
	}
}

package deflate

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
)

// zlibOf is p as a zlib stream whose blocks have at most so many bytes, 0 for as
// many as the writer likes.
func zlibOf(t testing.TB, p []byte, level, block int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	for block > 0 && len(p) > block {
		w.Write(p[:block])
		w.Flush()
		p = p[block:]
	}
	w.Write(p)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rest decodes a tail.
func rest(t testing.TB, tail Tail, r io.ReaderAt, window []Symbol) (p []byte, known []bool) {
	t.Helper()
	err := tail.Decode(r, window, func(off int64, q []byte, k []bool) error {
		if off != int64(len(p)) || len(q) == 0 || len(q) != len(k) {
			t.Fatalf("%d bytes at %d, want them at %d", len(q), off, len(p))
		}
		p, known = append(p, q...), append(known, k...)
		return nil
	})
	if err != nil || int64(len(p)) != tail.Len {
		t.Fatalf("%d bytes of %d, %v", len(p), tail.Len, err)
	}
	return p, known
}

// agree compares what is known of a tail with the true output, and returns how much
// of it is known.
func agree(t testing.TB, want, p []byte, known []bool) (n int) {
	t.Helper()
	want = want[len(want)-len(p):]
	for i, k := range known {
		if k && p[i] != want[i] || !k && p[i] != 0 {
			t.Fatalf("byte %d of the tail is wrong", i)
		}
		if k {
			n++
		}
	}
	return n
}

// TestFindTail finds what is behind damage of many kinds. In all rows a stream has
// many blocks, and the bits that the damage begins and ends with are known.
func TestFindTail(t *testing.T) {
	text := english(newRand(31), 600_000)
	noise := make([]byte, 400_000)
	rand.NewChaCha8([32]byte{}).Read(noise)
	all := mixed(700_000)
	flip := func(places ...float64) func(z []byte) []byte {
		return func(z []byte) []byte {
			for _, at := range places {
				z[int(at*float64(len(z)))] ^= 0x10
			}
			return z
		}
	}
	zero := func(from, to float64) func(z []byte) []byte {
		return func(z []byte) []byte {
			clear(z[int(from*float64(len(z))):int(to*float64(len(z)))])
			return z
		}
	}
	tests := []struct {
		name    string
		want    []byte
		level   int
		block   int
		damage  func(z []byte) []byte
		behind  float64 // where the last damage ends
		padding int
		least   float64 // how much of the output is in the tail, 0 if there is none
	}{
		{"nothing", text, 6, 0, flip(), 0, 0, 0.99},
		{"one bit", text, 6, 0, flip(0.3), 0.3, 0, 0.5},
		{"one bit of the zlib header", text, 6, 0, flip(0), 0, 0, 0.99},
		{"one bit early", all, 6, 0, flip(0.05), 0.05, 0, 0.8},
		{"one bit of short blocks", text, 6, 3000, flip(0.3), 0.3, 0, 0.65},
		{"two places", text, 6, 0, flip(0.2, 0.5), 0.5, 0, 0.3},
		{"many places", text, 6, 5000, flip(0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5), 0.5, 0, 0.4},
		{"a gap of zeros", text, 6, 0, zero(0.2, 0.4), 0.4, 0, 0.4},
		{"a gap of zeros, in stored blocks", noise, 0, 20_000, zero(0.2, 0.4), 0.4, 0, 0.5},
		{"noise", noise, 6, 0, flip(0.2), 0.2, 0, 0.5},
		{"best compression", all, 9, 0, flip(0.3), 0.3, 0, 0.5},
		{"fastest compression", all, 1, 0, flip(0.3), 0.3, 0, 0.5},
		{"no matches", text, flate.HuffmanOnly, 0, flip(0.3), 0.3, 0, 0.5},
		{"in the last block", text, 6, 0, flip(0.999), 0.999, 0, 0},
		{"cut at the end", text, 6, 0, func(z []byte) []byte { return z[:len(z)-2000] }, 0, 0, 0},
		{"cut in the checksum", text, 6, 0, func(z []byte) []byte { return z[:len(z)-1] }, 0, 0, 0},
		{"bytes lost", text, 6, 0, func(z []byte) []byte { return append(z[:1000], z[1100:]...) }, 0.2, 0, 0.5},
		{"bytes behind", text, 6, 0, func(z []byte) []byte { return append(flip(0.3)(z), 0, 0) }, 0.3, 0, 0},
		{"padding", text, 6, 0, func(z []byte) []byte { return append(flip(0.3)(z), 0, 0) }, 0.3, 3, 0.5},
		{"too much padding", text, 6, 0, func(z []byte) []byte { return append(flip(0.3)(z), 0, 0) }, 0.3, 1, 0},
		{"padding that is none", text, 6, 0, func(z []byte) []byte { return append(flip(0.3)(z), 0, 1) }, 0.3, 3, 0},
		{"one block", text[:3000], 6, 0, flip(0.5), 0.5, 0, 0},
		{"nothing in it", nil, 6, 0, flip(), 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := tt.damage(zlibOf(t, tt.want, tt.level, tt.block))
			r := bytes.NewReader(z)
			behind := int64(tt.behind*float64(len(z))) * 8
			for _, from := range []int64{-1, behind, behind + 9} {
				tail, err := FindTail(r, from, int64(len(z)), tt.padding, int64(len(tt.want)))
				if err == nil && from < behind && tail.In < behind {
					rest(t, tail, r, nil) // the damage is in it, and just makes other bytes
					continue
				}
				if tt.least == 0 {
					if !errors.Is(err, ErrNoTail) {
						t.Errorf("from bit %d: %+v, %v; want nothing", from, tail, err)
					}
					continue
				}
				if err != nil || tail.In < from || float64(tail.Len) < tt.least*float64(len(tt.want)) {
					t.Fatalf("from bit %d: %+v, %v; want %v of %d bytes", from, tail, err, tt.least, len(tt.want))
				}
				p, known := rest(t, tail, r, nil)
				if n := agree(t, tt.want, p, known); n < len(p)*2/5 {
					t.Errorf("from bit %d: %d bytes of %d are known", from, n, len(p))
				}
				// With the window before it, all is.
				start := len(tt.want) - int(tail.Len)
				window := make([]Symbol, WindowSize)
				for i := range window {
					window[i] = Marker
					if at := start - WindowSize + i; at >= 0 {
						window[i] = Symbol(tt.want[at])
					}
				}
				p, known = rest(t, tail, r, window)
				if agree(t, tt.want, p, known) != int(tail.Len) {
					t.Errorf("from bit %d: not all of the tail is known with its window", from)
				}
			}
		})
	}
}

// TestFindTailBlocks has damage in each block of a stream in turn, of every kind of
// block: all from the first findable one behind it is found.
func TestFindTailBlocks(t *testing.T) {
	for _, s := range ownStreams(60_000) {
		z := append(bytes.Clone(s.raw), "sum!"...)
		all := starts(t, s.raw)
		for i, b := range all {
			if len(all) > 8 && i%(len(all)/8) != 0 {
				continue
			}
			best := int64(-1)
			for _, b := range all[i:] {
				if b.state != stFixed && b.out < int64(len(s.want)) {
					best = b.out
					break
				}
			}
			tail, err := FindTail(bytes.NewReader(z), b.in, int64(len(z)), 0, int64(len(s.want)))
			if best < 0 {
				if !errors.Is(err, ErrNoTail) {
					t.Errorf("%s, from %d: %+v, %v; want nothing", s.name, b.in, tail, err)
				}
				continue
			}
			if err != nil || tail.Len != int64(len(s.want))-best || tail.End != int64(len(s.raw)) {
				t.Errorf("%s, from %d: %+v, %v; want %d bytes", s.name, b.in, tail, err, int64(len(s.want))-best)
				continue
			}
			p, known := rest(t, tail, bytes.NewReader(z), nil)
			agree(t, s.want, p, known)
		}
	}
}

// TestFindTailWithin has streams within a stream: a stored block, the header of
// which is damaged, holds a compressed file.
func TestFindTailWithin(t *testing.T) {
	inner := zlibOf(t, english(newRand(33), 120_000), 6, 0)
	inner = inner[:min(len(inner), 60_000)]
	whole := zlibOf(t, english(newRand(34), 50_000), 6, 0)
	for name, stored := range map[string][]byte{"cut": inner, "whole": append(bytes.Clone(whole), make([]byte, 10)...)} {
		w := &bitWriter{buf: []byte{0x78, 0x9C}}
		w.stored(0, mixed(1000))
		at := len(w.buf)
		w.stored(0, stored)
		end := len(w.out)
		w.stored(0, []byte("behind"))
		w.stored(1, mixed(2000))
		z := append(w.buf, "sum!"...)
		z[at+2] ^= 1 // of the length
		r := bytes.NewReader(z)
		tail, err := FindTail(r, int64(at)*8, int64(len(z)), 0, int64(len(w.out)))
		if err != nil || tail.Len != int64(len(w.out)-end) {
			t.Fatalf("%s: %+v, %v; want %d bytes", name, tail, err, len(w.out)-end)
		}
		p, known := rest(t, tail, r, nil)
		agree(t, w.out, p, known)
	}
}

// TestFindTailSize says that the stream has less output than it has: of the blocks
// that lead to its end, those further on are found that have so much.
func TestFindTailSize(t *testing.T) {
	want := english(newRand(35), 300_000)
	z := zlibOf(t, want, 6, 0)
	r := bytes.NewReader(z)
	for _, size := range []int64{0, 1000, 100_000, 250_000, 300_000} {
		tail, err := FindTail(r, 0, int64(len(z)), 0, size)
		if size < 100_000 {
			if !errors.Is(err, ErrNoTail) && tail.Len > size {
				t.Errorf("%d: %+v, %v", size, tail, err)
			}
			continue
		}
		if err != nil || tail.Len > size || tail.Len < size/2 {
			t.Errorf("%d: %+v, %v", size, tail, err)
		}
	}
	// The second block has a match from the first: it can't be at the start.
	w := &bitWriter{}
	w.stored(0, []byte("abcabc"))
	w.fixed(0)
	w.end()
	w.stored(0, []byte("xyz"))
	w.fixed(1)
	w.match(4, 8)
	w.end()
	w.align()
	w.buf = append(w.buf, "sum!"...)
	for size, length := range map[int64]int64{13: 13, 12: 7, 11: 0} {
		tail, err := FindTail(bytes.NewReader(w.buf), 0, int64(len(w.buf)), 0, size)
		if (err == nil) != (length > 0) || tail.Len != length {
			t.Errorf("%d: %+v, %v; want %d bytes", size, tail, err, length)
		}
	}
}

// brokenAt fails at an offset.
type brokenAt struct {
	p   []byte
	at  int64
	err error
}

func (b *brokenAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= b.at {
		return copy(p, b.p[off:]), nil
	}
	return copy(p, b.p[off:max(off, b.at)]), b.err
}

// TestFindTailErrors passes errors on.
func TestFindTailErrors(t *testing.T) {
	want := mixed(900_000)
	z := zlibOf(t, want, 6, 0)
	good := bytes.NewReader(z)
	broken := errors.New("broken")
	tail, err := FindTail(good, int64(len(z)), int64(len(z)), 0, int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < int64(len(z)); at += 10_007 {
		r := &brokenAt{z, at, broken}
		if _, err := FindTail(r, 100, int64(len(z)), 0, int64(len(want))); err != broken {
			t.Errorf("a source that fails at %d: %v", at, err)
		}
		err := tail.Decode(r, nil, func(int64, []byte, []bool) error { return nil })
		if at < tail.End && err != broken || at >= tail.End && err != nil {
			t.Errorf("Decode of a source that fails at %d: %v", at, err)
		}
	}
	if err := tail.Decode(good, nil, func(int64, []byte, []bool) error { return broken }); err != broken {
		t.Errorf("an error of emit: %v", err)
	}
	for _, wrong := range []Tail{{tail.In, tail.End, tail.Len - 1}, {tail.In, tail.End, tail.Len + 1}} {
		if err := wrong.Decode(good, nil, func(int64, []byte, []bool) error { return nil }); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	for _, end := range []int64{0, 3, 4, 5} {
		if _, err := FindTail(good, 0, end, 0, 100); !errors.Is(err, ErrNoTail) {
			t.Errorf("%d bytes of data: %v", end, err)
		}
	}
}

// TestFindTailWork bounds what is decoded of data that is made to look like blocks.
func TestFindTailWork(t *testing.T) {
	// Every five bytes begin a stored block, each of which leads to the next, and
	// the last of them nowhere; and each of so many bytes of zeros a block that has
	// a kilobyte of output, and codes.
	chain := bytes.Repeat([]byte{0, 0, 0, 0xFF, 0xFF}, 400_000)
	w := &bitWriter{}
	for len(w.buf) < 1<<20 {
		lit, dst := flat()
		w.dynamic(0, lit, dst)
		w.literal(0)
		for range 4 {
			w.match(258, 1)
		}
		w.end()
	}
	nested := make([]byte, 1<<20) // all lead to other places
	for i := 0; i+5 <= len(nested); i += 5 {
		n := uint16(65535 - i%50_000)
		binary.LittleEndian.PutUint16(nested[i+1:], n)
		binary.LittleEndian.PutUint16(nested[i+3:], ^n)
	}
	for name, p := range map[string][]byte{"chain": chain, "codes": w.buf, "nested": nested} {
		size := int64(8 << 20)
		f := &finder{src: bytes.NewReader(p), last: int64(len(p)), end: int64(len(p)), size: size}
		limit := 4*size + 16*int64(len(p)) + 1<<20
		f.budget = limit
		tries := 0
		var at int64
		for ; f.budget >= 0; at++ {
			var err error
			if at, err = f.next(at); err != nil {
				break
			}
			if _, err := f.try(at); err == nil {
				t.Fatalf("%s: found at %d", name, at)
			}
			tries++
		}
		t.Logf("%s: %d tries, %d of %d spent", name, tries, limit-f.budget, limit)
		if f.budget < -(64 << 10) {
			t.Errorf("%s: %d too much was decoded", name, -f.budget)
		}
		if _, err := FindTail(bytes.NewReader(p), 0, int64(len(p)), 0, size); !errors.Is(err, ErrNoTail) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFindTail: what is known of a tail behind a flipped bit is right.
func FuzzFindTail(f *testing.F) {
	for i, n := range []int{100, 5000, 70_000} {
		for _, level := range []int{0, 1, 6, 9} {
			f.Add(mixed(n), uint8(level), uint16(n/3), uint32(n/4+i), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, want []byte, level uint8, block uint16, at uint32, padding uint8) {
		if len(want) == 0 {
			return
		}
		z := zlibOf(t, want, int(level%10), int(block)+200)
		bit := int64(at) % int64(len(z)*8-8*ZlibTrailerLen)
		z[bit/8] ^= 1 << (bit % 8)
		z = append(z, make([]byte, padding%4)...)
		r := bytes.NewReader(z)
		tail, err := FindTail(r, bit+1, int64(len(z)), int(padding%4), int64(len(want)))
		if err != nil {
			if !errors.Is(err, ErrNoTail) {
				t.Fatal(err)
			}
			return
		}
		if tail.In <= bit || tail.Len > int64(len(want)) {
			t.Fatalf("%+v behind bit %d of %d bytes", tail, bit, len(want))
		}
		p, known := rest(t, tail, r, nil)
		agree(t, want, p, known)
	})
}

// FindTail takes no memory to speak of for short data without a block in it: an image
// may have hundreds of thousands of such chunks.
func TestFindTailMemory(t *testing.T) {
	data := bytes.Repeat([]byte{0xFF}, 300)
	const runs = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		if _, err := FindTail(bytes.NewReader(data), 16, int64(len(data)), 0, 512); !errors.Is(err, ErrNoTail) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > 8<<10 {
		t.Errorf("%d bytes for %d of data", n, len(data))
	}
}

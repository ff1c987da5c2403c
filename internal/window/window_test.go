package window

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// sizes of windows: DEFLATE's, ADC's and LZFSE's.
var sizes = []int{32 << 10, 64 << 10, 256 << 10}

// filled returns bytes of which none is zero, so that a zero in an unpacked window
// was left out.
func filled(rng *rand.Rand, n int) []byte {
	w := make([]byte, n)
	for i := range w {
		w[i] = byte(1 + rng.IntN(255))
	}
	return w
}

// packInPlace packs a window into the buffer whose end it is.
func packInPlace(window []byte, refs Refs) []byte {
	const head = 5
	buf := make([]byte, head+Room+len(window))
	copy(buf[head+Room:], window)
	return Append(buf[:head], buf[head+Room:], refs)[head:]
}

// TestAppend packs windows, and must have every marked byte when they are unpacked, and
// little else.
func TestAppend(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range sizes {
		w := filled(rng, size)
		for _, n := range []int{0, 1, 63, 64, 1000, size - 1, size} {
			for _, density := range []int{0, 1, 10, 100, 900, 1000} {
				window := w[size-n:]
				refs := make(Refs, size/64)
				for i := 0; i < size; i += 1 + rng.IntN(20) {
					if rng.IntN(1000) < density {
						refs.Mark(uint(i), uint(min(size, i+1+rng.IntN(300))))
					}
				}
				packed := Append([]byte("x"), window, refs)[1:]
				if len(packed) > n+Excess {
					t.Fatalf("%d bytes packed", len(packed))
				}
				if !bytes.Equal(packInPlace(window, refs), packed) {
					t.Fatal("packed in place it is another")
				}
				got := bytes.Repeat([]byte{0xEE}, n)
				if err := Unpack(got, packed); err != nil {
					t.Fatal(err)
				}
				kept := 0
				for i, b := range got {
					k := size - n + i
					marked := refs[k/64]>>(k%64)&1 != 0
					if b != window[i] && (marked || b != 0) {
						t.Fatalf("byte %d of %d is %02x, want %02x, marked %v", i, n, b, window[i], marked)
					}
					if b != 0 {
						kept++
					}
				}
				if density == 0 && kept > 0 {
					t.Fatalf("%d bytes kept that nothing refers to", kept)
				}
				full := Append(nil, window, nil)
				if err := Unpack(got, full); err != nil || !bytes.Equal(got, window) {
					t.Fatalf("full window: %v", err)
				}
			}
		}
	}
}

// TestAppendWorst packs what gives the most, the shortest and the costliest runs.
func TestAppendWorst(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, size := range sizes {
		w := filled(rng, size)
		periods := []int{127, 128, 129, 16383, 16384, 16385, 16386, 16387, 16388, 20000}
		for period := 1; period < 400; period += 3 {
			periods = append(periods, period)
		}
		for _, period := range periods {
			refs := make(Refs, size/64)
			for i := 0; i < size; i += period {
				refs.Mark(uint(i), uint(min(size, i+max(1, period-minGap))))
			}
			packed := packInPlace(w, refs)
			if n := len(packed); n > size+Excess {
				t.Errorf("%d bytes, period %d: %d bytes", size, period, n)
			}
			if !bytes.Equal(packed, Append(nil, w, refs)) {
				t.Errorf("%d bytes, period %d: packed in place it is another", size, period)
			}
		}
	}
}

func TestUnpackBad(t *testing.T) {
	for _, tt := range []struct {
		name   string
		n      int
		packed []byte
	}{
		{"empty", 0, nil},
		{"other length", 5, []byte{4}},
		{"longer than the window", 32<<10 + 1, []byte{0x81, 0x80, 0x03}},
		{"gap beyond the end", 5, []byte{5, 6, 0}},
		{"run beyond the end", 5, []byte{5, 3, 3, 1, 2, 3}},
		{"run cut short", 5, []byte{5, 0, 5, 1, 2, 3}},
		{"no run behind a gap", 5, []byte{5, 1}},
		{"endless number", 5, bytes.Repeat([]byte{0x80}, 20)},
		{"huge gap", 5, []byte{5, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0}},
		{"huge run", 5, []byte{5, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := Unpack(make([]byte, tt.n), tt.packed); !errors.Is(err, ErrPacked) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestShrink has what was shrunk expand to the same, and refuses what is none.
func TestShrink(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	text := []byte("to be or not to be, that is the question; to be, to be, to be... ")
	for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 100, 1000, 70_000, 256 << 10} {
		for _, kind := range []string{"noise", "text", "runs", "far"} {
			p := filled(rng, n)
			for i := range p {
				switch {
				case kind == "runs":
					p[i] = byte(i >> 11)
				case kind == "text":
					p[i] = text[(i+i/500)%len(text)]
				case kind == "far" && i >= 65_000:
					p[i] = p[i-65_000]
				}
			}
			buf := make([]byte, n+Excess)
			s, ok := Shrink(buf[:0], p)
			if !ok {
				if kind != "noise" && n >= 1000 && !(kind == "far" && n < 100_000) {
					t.Errorf("%d bytes of %s were not shrunk", n, kind)
				}
				continue
			}
			if len(s) > n-n/8 || &s[0] != &buf[0] {
				t.Fatalf("%d bytes of %s: %d", n, kind, len(s))
			}
			space := make([]byte, n)
			got, err := Expand(space[:0], s)
			if err != nil || !bytes.Equal(got, p) {
				t.Fatalf("%d bytes of %s: %d bytes, %v", n, kind, len(got), err)
			}
			if _, err := Expand(space[:0:n-1], s); err != ErrPacked {
				t.Errorf("no room: %v", err)
			}
			if _, err := Expand(space[:0], s[:len(s)-1]); err != ErrPacked {
				t.Errorf("cut short: %v", err)
			}
			if _, ok := Shrink(buf[:0:len(s)-1], p); ok {
				t.Errorf("%d bytes of %s: shrunk into less room than they take", n, kind)
			}
		}
	}
	plain := Append(nil, []byte("plain"), nil)
	if got, err := Expand(nil, plain); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("not shrunk: %q, %v", got, err)
	}
}

// FuzzExpand expands anything: it is refused, or gives as much as it says.
func FuzzExpand(f *testing.F) {
	s, _ := Shrink(make([]byte, 0, 1000), bytes.Repeat([]byte("abcdefgh"), 100))
	f.Add(s)
	f.Add([]byte{0, 5, 1, 7, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		space := make([]byte, 4096)
		got, err := Expand(space[:0], b)
		if err != nil && err != ErrPacked || err == nil && len(got) > max(len(space), len(b)) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if err == nil && len(b) > 1 && b[0] == 0 {
			if p, ok := Shrink(make([]byte, 0, 8192), got); ok {
				again, err := Expand(make([]byte, 0, 4096), p)
				if err != nil || !bytes.Equal(again, got) {
					t.Fatalf("%d bytes again, %v", len(again), err)
				}
			}
		}
	})
}

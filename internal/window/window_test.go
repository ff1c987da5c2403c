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

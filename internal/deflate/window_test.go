package deflate

import (
	"bytes"
	"errors"
	"testing"
)

func TestPackWindow(t *testing.T) {
	r := newRand(7)
	w := mixed(WindowSize)
	for i := range w {
		w[i] |= 1 // so that a zero in the unpacked window was left out
	}
	for _, n := range []int{0, 1, 63, 64, 1000, WindowSize - 1, WindowSize} {
		for _, density := range []int{0, 1, 10, 100, 900, 1000} {
			window := w[WindowSize-n:]
			var refs Refs
			for i := 0; i < WindowSize; i += 1 + r.IntN(20) {
				if r.IntN(1000) < density {
					refs.mark(uint(i), uint(min(WindowSize, i+1+r.IntN(300))))
				}
			}
			packed := AppendPackedWindow([]byte("x"), window, &refs)[1:]
			if len(packed) > MaxPackedWindow {
				t.Fatalf("%d bytes packed", len(packed))
			}
			got := bytes.Repeat([]byte{0xEE}, n)
			if err := unpackWindow(got, packed); err != nil {
				t.Fatal(err)
			}
			kept := 0
			for i, b := range got {
				k := WindowSize - n + i
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
			full := AppendPackedWindow(nil, window, nil)
			if err := unpackWindow(got, full); err != nil || !bytes.Equal(got, window) {
				t.Fatalf("full window: %v", err)
			}
		}
	}
}

// TestPackWorst packs what gives the most and the shortest runs.
func TestPackWorst(t *testing.T) {
	w := mixed(WindowSize)
	for period := 1; period < 400; period++ {
		var refs Refs
		for i := 0; i < WindowSize; i += period {
			refs.mark(uint(i), uint(min(WindowSize, i+max(1, period-minGap))))
		}
		if n := len(AppendPackedWindow(nil, w, &refs)); n > MaxPackedWindow {
			t.Errorf("period %d: %d bytes", period, n)
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
		{"longer than a window", WindowSize + 1, []byte{0x81, 0x80, 0x02}},
		{"gap beyond the end", 5, []byte{5, 6, 0}},
		{"run beyond the end", 5, []byte{5, 3, 3, 1, 2, 3}},
		{"run cut short", 5, []byte{5, 0, 5, 1, 2, 3}},
		{"no run behind a gap", 5, []byte{5, 1}},
		{"endless number", 5, bytes.Repeat([]byte{0x80}, 20)},
		{"huge number", 5, []byte{5, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := unpackWindow(make([]byte, tt.n), tt.packed); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("got %v", err)
			}
		})
	}
}

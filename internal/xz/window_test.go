package xz

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ulikunitz/xz"
)

// windowOf returns the window that an error asks for, 0 if it is no WindowError.
func windowOf(err error) int64 {
	var window *WindowError
	if !errors.Is(err, ErrWindow) || !errors.As(err, &window) {
		return 0
	}
	return window.Window
}

// TestWindowError decodes what needs a longer window than the Reader has, and then
// with the one that the error asks for: in the first block, in a later one, and in
// a later stream.
func TestWindowError(t *testing.T) {
	far := slices.Concat(noise(100_000), noise(100_000)) // matches from 100,000 back
	small := encode(t, far[:5000], xz.WriterConfig{DictCap: 4 << 10})
	large := encode(t, far, xz.WriterConfig{DictCap: 1 << 20})

	// Blocks of different dictionaries, as a header of either kind has them. The
	// block's data is that of large.
	at := streamHeaderLen + 4*int(large[streamHeaderLen]) + 4
	data := large[at : at+lzma2Len(large[at:])]
	blocks := func(flags byte, sizes ...byte) []byte {
		w := &container{}
		w.block([]byte{0x21, 1, 0}, []byte("\x01\x00\x02abc\x00"), nil)
		w.blockOf(flags, append(sizes, 0x21, 1, 16), data, nil) // of 1 MiB
		return w.end()
	}
	for _, tt := range []struct {
		name   string
		raw    []byte
		want   []byte
		block  int64 // the offset of the block that needs a longer window
		window int64
	}{
		{"the first block", large, far, streamHeaderLen, 1 << 20},
		{"a later stream", slices.Concat(small, make([]byte, 8), large), slices.Concat(far[:5000], far), int64(len(small)) + 8 + streamHeaderLen, 1 << 20},
		{"a later block", blocks(0), slices.Concat([]byte("abc"), far), streamHeaderLen + 12 + 8, 1 << 20},
		{"a later block of known size", blocks(0x80, 0xC0, 0x9A, 0x0C), slices.Concat([]byte("abc"), far), streamHeaderLen + 12 + 8, 200_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, max := range []int{0, 1, 1000} {
				window := int64(4 << 10)
				s := NewStreams(Memory(window))
				s.Reset(bytes.NewReader(tt.raw))
				_, err := all(s, max)
				var e *WindowError
				if !errors.Is(err, ErrWindow) || !errors.As(err, &e) {
					t.Fatalf("%v, want a WindowError", err)
				}
				if e.Offset != tt.block || e.Window != tt.window {
					t.Errorf("block at %d, window %d; want %d, %d", e.Offset, e.Window, tt.block, tt.window)
				}
				s = NewStreams(Memory(e.Window))
				s.Reset(bytes.NewReader(tt.raw))
				got, err := all(s, max)
				if err != io.EOF || !bytes.Equal(got, tt.want) {
					t.Errorf("with that window: %d bytes, %v; want %d", len(got), err, len(tt.want))
				}
			}
		})
	}

	// A match further back than its block's header says that the block is long.
	s := NewStreams(Memory(4 << 10))
	s.Reset(bytes.NewReader(blocks(0x80, 1)))
	var corrupt *CorruptError
	if _, err := all(s, 0); !errors.As(err, &corrupt) {
		t.Errorf("a block longer than its header says: %v", err)
	}
}

// TestWindowReset has a match from before the place where its block's dictionary was
// reset, which has left the Reader's buffer: that is no matter of the window.
func TestWindowReset(t *testing.T) {
	const size = 140_000
	p := unlike(size)
	raw := encode(t, slices.Concat(p, p), xz.WriterConfig{DictCap: 1 << 20})
	at := streamHeaderLen + 4*int(raw[streamHeaderLen]) + 4
	at += 3 + int(raw[at+1])<<8 + int(raw[at+2]) + 1
	if raw[at] != 2 {
		t.Fatalf("the second chunk is of kind %#x", raw[at])
	}
	for control, reset := range map[byte]bool{2: false, 1: true} {
		bent := bytes.Clone(raw)
		bent[at] = control
		for _, max := range []int{0, 1000} {
			z := newReader(4 << 10)
			z.Reset(bytes.NewReader(bent))
			got, err := decodeAll(z, max)
			var corrupt *CorruptError
			if errors.As(err, &corrupt) != reset || errors.Is(err, ErrWindow) == reset || len(got) < size {
				t.Errorf("reset %v: %d bytes, %v", reset, len(got), err)
			}
		}
	}
}

// unlike is n bytes in which no four bytes are there twice.
func unlike(n int) []byte {
	p := make([]byte, n)
	for seed := byte(0); ; seed++ {
		rand.NewChaCha8([32]byte{seed}).Read(p)
		seen := make(map[[4]byte]bool, n)
		for i := 0; i+4 <= n && !seen[[4]byte(p[i:])]; i++ {
			seen[[4]byte(p[i:])] = true
		}
		if len(seen) == n-3 {
			return p
		}
	}
}

// lzma2Len returns how long the chunks at the beginning of p are, with their end.
func lzma2Len(p []byte) int {
	n := 0
	for p[n] != 0 {
		size := int(p[n+1])<<8 + int(p[n+2])
		switch {
		case p[n] < 0x80:
			n += 4 + size
		case p[n] < 0xC0:
			n += 6 + int(p[n+3])<<8 + int(p[n+4])
		default:
			n += 7 + int(p[n+3])<<8 + int(p[n+4])
		}
	}
	return n + 1
}

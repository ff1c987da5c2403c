package deflate

import (
	"bytes"
	"encoding/binary"
	"hash/adler32"
	"testing"
)

// TestAdler32Pieces sums data of all lengths around the blocks', whole and in random
// pieces, from random sums on.
func TestAdler32Pieces(t *testing.T) {
	r := newRand(21)
	noise := make([]byte, 3*adlerRun+100)
	for i := 0; i+8 <= len(noise); i += 8 {
		binary.LittleEndian.PutUint64(noise[i:], r.Uint64())
	}
	for _, c := range []struct {
		name string
		data []byte
	}{
		{"noise", noise},
		{"largest", bytes.Repeat([]byte{0xFF}, len(noise))},
		{"even", bytes.Repeat([]byte{0xFF, 0}, len(noise)/2)},
		{"odd", bytes.Repeat([]byte{0, 0xFF}, len(noise)/2)},
		{"zeros", make([]byte, len(noise))},
	} {
		t.Run(c.name, func(t *testing.T) {
			lengths := []int{adlerRun - 1, adlerRun, adlerRun + 1, adlerRun + adlerBlock, adlerRun + adlerBlock + 1, len(noise)}
			for n := range 3 * adlerGroup * adlerBlock {
				lengths = append(lengths, n)
			}
			for _, n := range lengths {
				if got, want := Adler32(1, c.data[:n]), adler32.Checksum(c.data[:n]); got != want {
					t.Fatalf("of %d bytes: %08x, want %08x", n, got, want)
				}
			}
			for range 200 {
				sum, p := uint32(1), c.data[r.IntN(1000):]
				want := adler32.Checksum(p)
				for rest := p; len(rest) > 0; {
					n := min(len(rest), r.IntN(1<<r.IntN(18)))
					sum = Adler32(sum, rest[:n])
					rest = rest[n:]
				}
				if sum != want {
					t.Fatalf("of %d bytes in pieces: %08x, want %08x", len(p), sum, want)
				}
			}
		})
	}
}

func FuzzAdler32(f *testing.F) {
	f.Add([]byte("Wikipedia"), uint16(3), uint8(1))
	f.Add(bytes.Repeat([]byte{0xFF, 0x80}, 700), uint16(129), uint8(7))
	f.Fuzz(func(t *testing.T, p []byte, cut uint16, times uint8) {
		p = bytes.Repeat(p, 1+int(times)) // or few inputs have a block
		n := min(len(p), int(cut))
		if got, want := Adler32(Adler32(1, p[:n]), p[n:]), adler32.Checksum(p); got != want {
			t.Errorf("%08x, want %08x", got, want)
		}
	})
}

package deflate

import (
	"bytes"
	"errors"
	"hash/adler32"
	"io"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

func TestAdler32(t *testing.T) {
	p := mixed(300_000)
	high := bytes.Repeat([]byte{0xFF}, 300_000)
	for _, n := range []int{0, 1, 7, 8, 127, 128, 129, 5552, 65535, 65536, 65537, 200_000} {
		for _, p := range [][]byte{p[:n], p[100 : 100+n], high[:n]} {
			if got, want := Adler32(1, p), adler32.Checksum(p); got != want {
				t.Errorf("%d bytes: %08x, want %08x", n, got, want)
			}
			if got, want := Adler32(Adler32(1, p[:n/3]), p[n/3:]), adler32.Checksum(p); got != want {
				t.Errorf("%d bytes in two parts: %08x, want %08x", n, got, want)
			}
		}
	}
}

// TestAdler32Extremes begins with the largest sums that a checksum can hold.
func TestAdler32Extremes(t *testing.T) {
	p := bytes.Repeat([]byte{0xFF}, adlerRun+5)
	a, b := uint64(adlerMod-1), uint64(adlerMod-1)
	for _, x := range p {
		a = (a + uint64(x)) % adlerMod
		b = (b + a) % adlerMod
	}
	if got, want := Adler32((adlerMod-1)<<16|(adlerMod-1), p), uint32(b<<16|a); got != want {
		t.Errorf("%08x, want %08x", got, want)
	}
}

func TestZlibHeader(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    []byte
		want error
	}{
		{"level 6", []byte{0x78, 0x9C}, nil},
		{"level 0", []byte{0x78, 0x01}, nil},
		{"small window", []byte{0x18, 0x19}, nil},
		{"check", []byte{0x78, 0x9D}, ErrCorrupt},
		{"method", []byte{0x77, 0x85}, ErrCorrupt},
		{"window of 64 KiB", []byte{0x88, 0x1C}, ErrCorrupt},
		{"dictionary", []byte{0x78, 0xBB}, ErrDictionary},
		{"short", []byte{0x78}, ErrCorrupt},
		{"empty", nil, ErrCorrupt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := CheckZlibHeader(tt.p); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestTrailer(t *testing.T) {
	dmgtest.Long(t)
	d := new(Decoder)
	for _, s := range streams(t) {
		trailer := []byte{0xDE, 0xAD, 0xBE, 0xEF}
		d.Reset(bytes.NewReader(append(bytes.Clone(s.raw), trailer...)))
		var p [4]byte
		if err := d.Trailer(p[:]); err == nil {
			t.Errorf("%s: a trailer before the end", s.name)
		}
		if _, err := decodeAll(d, 0); err != nil {
			t.Fatal(err)
		}
		in := d.In()
		if err := d.Trailer(p[:]); err != nil || !bytes.Equal(p[:], trailer) {
			t.Errorf("%s: % x, %v", s.name, p, err)
		}
		if want := (in+7)/8 + 4; d.In() != want*8 {
			t.Errorf("%s: at bit %d, want byte %d", s.name, d.In(), want)
		}
		if err := d.Trailer(p[:]); err != io.ErrUnexpectedEOF {
			t.Errorf("%s: second trailer: %v", s.name, err)
		}
		if _, err := d.Decode(0); err != io.EOF {
			t.Errorf("%s: %v behind the trailer", s.name, err)
		}
	}
}

package lzfse

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// fuzzOutput bounds what is decoded of one input: small ones can give much.
const fuzzOutput = 64 << 10

// limited decodes up to fuzzOutput bytes in steps.
func limited(z *Reader, r io.Reader, step int) (out []byte, err error) {
	z.Reset(r)
	for len(out) < fuzzOutput {
		p, err := z.Decode(min(step, fuzzOutput-len(out)))
		if err != nil {
			return out, err
		}
		out = append(out, p...)
	}
	return out, nil
}

// FuzzLZFSE holds the decoder to this: any input gives the same bytes and the
// same error, whatever the sizes of the steps and of the source's reads; and
// the input, taken for plain data, comes back from every kind of block.
func FuzzLZFSE(f *testing.F) {
	for _, tt := range streamTests {
		f.Add([]byte(tt.stream))
	}
	for _, tt := range tripleTests {
		if len(tt.triples) < 100 && len(tt.literals) < 100 {
			f.Add(triples(lzfseenc.V2, tt.literals, tt.raw, tt.triples...))
		}
	}
	stream, plain := mixed(3000)
	f.Add(stream)
	f.Add(plain)
	var z Reader
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := limited(&z, bytes.NewReader(data), MaxDecode)
		got, err := limited(&z, iotest.OneByteReader(bytes.NewReader(data)), 1)
		if !bytes.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("small steps give %d bytes and %v, large ones %d bytes and %v", len(got), err, len(want), wantErr)
		}
		for _, kind := range lzfseenc.Kinds {
			got, err := limited(&z, bytes.NewReader(lzfseenc.Encode(kind, data)), 1000)
			if err != io.EOF || !bytes.Equal(got, data) {
				t.Fatalf("bvx%c gives %d bytes and %v for %d", kind, len(got), err, len(data))
			}
		}
	})
}

// model carries triples out at their plainest, with all output kept.
func model(out, literals []byte, raw int, tr []triple) ([]byte, error) {
	if raw < 0 || raw > len(literals)+len(tr)*maxM {
		return out, errCorrupt
	}
	dist := 0
	for _, t := range tr {
		if t.d != 0 {
			dist = t.d
		}
		if t.l > len(literals) || t.l+t.m > raw || dist == 0 || dist > len(out)+t.l {
			return out, errCorrupt
		}
		out = append(out, literals[:t.l]...)
		literals = literals[t.l:]
		raw -= t.l + t.m
		for range t.m {
			out = append(out, out[len(out)-dist])
		}
	}
	if raw != 0 {
		return out, errCorrupt
	}
	return out, io.EOF
}

// script reads a block out of arbitrary bytes, most of it sensible: what comes
// before it, its literals, its size and its triples.
func script(data []byte) (before, literals []byte, raw int, tr []triple) {
	next := func() (n int) {
		if len(data) > 0 {
			n = int(data[0])
			data = data[1:]
		}
		return n
	}
	before = bytes.Repeat([]byte("0123456789"), 4*next())
	have := len(before)
	for len(data) > 0 && len(tr) < 2000 {
		t := triple{l: next(), m: next()}
		switch op := next(); {
		case op < 4: // any distance, likely a wrong one
			t.d = (next()<<10 | next()<<2) % (maxDistance + 1)
		case op < 128: // longer
			t.l, t.m = min(t.l*2, maxL), min(t.m*10, maxM)
			fallthrough
		case op < 192: // a distance that fits
			t.d = min(1+next()*next()%(have+t.l+1), maxDistance)
		}
		for i := range t.l {
			literals = append(literals, byte(i*len(tr)))
		}
		have += t.l + t.m
		raw += t.l + t.m
		tr = append(tr, t)
	}
	for len(literals)%4 != 0 {
		literals = append(literals, 0)
	}
	if len(tr) > 0 {
		switch tr[0].m {
		case 1:
			raw++
		case 2:
			raw--
		case 3:
			literals = literals[:len(literals)/8*4]
		}
	}
	return before, literals, raw, tr
}

// FuzzTriples gets past the entropy coding, where few changed bytes survive: it
// writes blocks of triples that may or may not make sense and compares with the
// model.
func FuzzTriples(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		data := make([]byte, rng.IntN(400))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	var z Reader
	f.Fuzz(func(t *testing.T, data []byte) {
		before, literals, raw, tr := script(data)
		if len(literals) > maxLiterals {
			t.Skip()
		}
		want, wantErr := model(bytes.Clone(before), literals, raw, tr)
		for i, kind := range []lzfseenc.Kind{lzfseenc.V1, lzfseenc.V2} {
			var w lzfseenc.Writer
			w.Add(lzfseenc.Stored, before)
			addTriples(&w, kind, string(literals), raw, tr...)
			got, err := decode(t, &z, bytes.NewReader(w.Close()), []int{100, MaxDecode}[i])
			if !bytes.Equal(got, want) || !wantError(err, wantErr) {
				t.Fatalf("bvx%c: got %d bytes and %v, want %d and %v", kind, len(got), err, len(want), wantErr)
			}
		}
	})
}

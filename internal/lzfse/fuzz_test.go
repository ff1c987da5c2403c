package lzfse

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// fuzzOutput bounds what is decoded of one input: small ones can give much.
const fuzzOutput = 1 << 20

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

package lzfse

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// BenchmarkDecode decodes 1 MiB chunks, as images have them, of this package's
// sources repeated, random bytes and zeros.
func BenchmarkDecode(b *testing.B) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		b.Fatal(err)
	}
	var source []byte
	for _, name := range names {
		p, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		source = append(source, p...)
	}
	data := samples()
	for _, bb := range []struct {
		name  string
		kind  lzfseenc.Kind
		plain []byte
	}{
		{"bvx2/source", lzfseenc.V2, source},
		{"bvx2/text", lzfseenc.V2, data["text"]},
		{"bvx2/skewed", lzfseenc.V2, data["skewed"]},
		{"bvx2/zeros", lzfseenc.V2, data["zeros"]},
		{"bvxn/source", lzfseenc.LZVN, source},
		{"stored/random", lzfseenc.Stored, data["random"]},
	} {
		b.Run(bb.name, func(b *testing.B) {
			stream := lzfseenc.Encode(bb.kind, bb.plain)
			src := bytes.NewReader(nil)
			var z Reader
			b.SetBytes(int64(len(bb.plain)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(stream)
				z.Reset(src)
				if err := drain(&z); err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
}

func drain(z *Reader) error {
	for {
		if _, err := z.Decode(MaxDecode); err != nil {
			return err
		}
	}
}

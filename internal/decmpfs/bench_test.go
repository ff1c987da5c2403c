package decmpfs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/decmpfsenc"
)

// BenchmarkRead reads files of 4 MiB: in order as io.Copy does, and 4 KiB at random.
func BenchmarkRead(b *testing.B) {
	content := dmgtest.Mixed(1, 4<<20).Bytes()
	for _, e := range decmpfsenc.Encodings {
		if e.Name != "zlib" && e.Name != "lzvn" && e.Name != "lzfse" {
			continue
		}
		attr, fork := decmpfsenc.Fork(e.Fork, content, 0, e.Chunk)
		counter := &dmgtest.Counter{R: bytes.NewReader(fork)}
		f, err := New(attr, counter, int64(len(fork)))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(e.Name+"/in order", func(b *testing.B) {
			buf := make([]byte, 32<<10)
			b.SetBytes(f.Size())
			b.ReportAllocs()
			for b.Loop() {
				r := io.NewSectionReader(f, 0, f.Size())
				if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); n != f.Size() || err != nil {
					b.Fatal(n, err)
				}
			}
		})
		b.Run(e.Name+"/random 4 KiB", func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(1, 1))
			p := make([]byte, 4<<10)
			counter.Reset()
			b.ReportAllocs()
			reads := 0
			for b.Loop() {
				reads++
				if _, err := f.ReadAt(p, rnd.Int64N(f.Size()-4<<10)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(counter.Bytes())/float64(reads), "source-B/read")
		})
	}
}

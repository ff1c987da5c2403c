package dmg

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// benchmarkImage opens a workload's image, in memory, after one way through
// it. It is larger than the limit, so that most random reads decode.
func benchmarkImage(b *testing.B, w workload) *Image {
	w.size = 16 << 20
	ti := w.image(b)
	im, err := NewImage(bytes.NewReader(ti.file), int64(len(ti.file)), &Options{MemoryLimit: 10 << 20})
	if err != nil {
		b.Fatal(err)
	}
	return im
}

// benchmarkReads measures 4 KiB reads at the offsets that next returns, and
// reports what each of them decodes and fetches, in bytes.
func benchmarkReads(b *testing.B, im *Image, next func() int64) {
	p := make([]byte, 4096)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	before := im.Stats()
	for b.Loop() {
		if _, err := im.ReadAt(p, next()); err != nil {
			b.Fatal(err)
		}
	}
	after := im.Stats()
	b.ReportMetric(float64(after.BytesDecoded-before.BytesDecoded)/float64(b.N), "decoded/read")
	b.ReportMetric(float64(after.SourceBytes-before.SourceBytes)/float64(b.N), "source/read")
}

// BenchmarkRandom4K reads anywhere, once all has been decoded before. ADC,
// LZFSE and LZMA have no checkpoints: in one chunk they decode all that is
// before the place.
func BenchmarkRandom4K(b *testing.B) {
	for _, w := range layouts("mixed") {
		b.Run(w.String(), func(b *testing.B) {
			resumes := strings.HasPrefix(w.String(), "zlib") || strings.HasPrefix(w.String(), "bzip2")
			if testing.Short() && !resumes {
				b.Skip("takes long")
			}
			im := benchmarkImage(b, w)
			p := make([]byte, 1<<20)
			for off := int64(0); off < im.Size(); off += int64(len(p)) {
				if _, err := im.ReadAt(p, off); err != nil {
					b.Fatal(err)
				}
			}
			rng := rand.New(rand.NewPCG(1, 1))
			benchmarkReads(b, im, func() int64 { return rng.Int64N(im.Size() - 4096) })
		})
	}
}

// BenchmarkSequential4K reads on and on, around the disk.
func BenchmarkSequential4K(b *testing.B) {
	for _, w := range layouts("mixed") {
		b.Run(w.String(), func(b *testing.B) {
			im := benchmarkImage(b, w)
			off := int64(-4096)
			benchmarkReads(b, im, func() int64 {
				off = (off + 4096) % im.Size()
				return off
			})
		})
	}
}

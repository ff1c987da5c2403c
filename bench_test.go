package dmg

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/indexfile"
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

// BenchmarkIndex measures what docs/INDEX.md has in its table, for checkpoints at
// several spans: how long an index is, how long it takes to open an image with it,
// the first read of 4 KiB anywhere, which unpacks a group, and one a span further
// on. DMG_IMAGE names the image; without it one of 16 MiB is made.
func BenchmarkIndex(b *testing.B) {
	image := benchmarkFile(b)
	whole := newTest(b, image, &Options{MemoryLimit: 1 << 30})
	if err := whole.BuildIndex(context.Background(), nil); err != nil {
		b.Fatal(err)
	}
	id, err := whole.identity()
	if err != nil {
		b.Fatal(err)
	}
	for span := int64(minSpacing); span <= 2<<20; span *= 2 {
		w := indexfile.Writer{Limit: indexfile.MaxLen}
		w.Begin()
		if err := whole.pack(&w, span); err != nil {
			b.Fatal(err)
		}
		index := w.Finish(id)
		b.Run(fmt.Sprintf("%dKiB", span>>10), func(b *testing.B) {
			benchmarkIndex(b, image, index, span)
			b.ReportMetric(float64(len(index)), "index-bytes") // after the loop, which resets
			b.ReportMetric(100*float64(len(index))/float64(len(image)), "index-%")
		})
	}
}

// benchmarkIndex opens the image with the index and reads twice, again and again.
func benchmarkIndex(b *testing.B, image, index []byte, span int64) {
	var open, first, next time.Duration
	decoded := int64(0)
	p := make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 1))
	read := func(im *Image, off int64) time.Duration {
		start := time.Now()
		if _, err := im.ReadAt(p, off); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	for b.Loop() {
		start := time.Now()
		im := newTest(b, image, &Options{Index: readIndex(b, index)})
		open += time.Since(start)
		off := rng.Int64N(im.Size() - span - 4096)
		first += read(im, off)
		decoded += im.Stats().BytesDecoded
		next += read(im, off+span)
	}
	for _, m := range []struct {
		time time.Duration
		unit string
	}{{open, "open-µs"}, {first, "first-µs"}, {next, "next-µs"}} {
		b.ReportMetric(float64(m.time.Microseconds())/float64(b.N), m.unit)
	}
	b.ReportMetric(float64(decoded)/float64(b.N), "decoded/read")
}

// benchmarkFile returns the image that DMG_IMAGE names, or one of zlib in one
// chunk.
func benchmarkFile(b *testing.B) []byte {
	name := os.Getenv("DMG_IMAGE")
	if name == "" {
		return workload{codecs: allCodecs[1:2], size: 16 << 20}.image(b).file
	}
	image, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	return image
}

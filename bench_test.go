package dmg

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
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

// BenchmarkCachedParallel reads 4 KiB at a time of what is cached, or needs no decoder, by as
// many goroutines as -cpu says.
func BenchmarkCachedParallel(b *testing.B) {
	raw := []dmgtest.Method{dmgtest.Raw}
	for _, bb := range []struct {
		name string
		workload
		of int64 // bytes from the disk's start that are read
	}{
		{"pages", workload{codecs: allCodecs[1:2], chunk: 2048, size: 16 << 20}, 16 << 20},
		{"one page", workload{codecs: allCodecs[1:2], chunk: 2048, size: 16 << 20}, pageSize},
		{"one chunk", workload{codecs: allCodecs[1:2], size: 16 << 20}, 16 << 20},
		{"raw", workload{codecs: raw, chunk: 2048, size: 16 << 20}, 16 << 20},
		{"zeros", workload{codecs: raw, chunk: 2048, size: 16 << 20, kind: "zeros"}, 16 << 20},
	} {
		b.Run(bb.name, func(b *testing.B) {
			im := newTest(b, bb.image(b).file, nil)
			if _, err := io.Copy(io.Discard, io.NewSectionReader(im, 0, im.Size())); err != nil {
				b.Fatal(err)
			}
			before := im.Stats()
			parallelReads(b, im, bb.of)
			if after := im.Stats(); after.BytesDecoded != before.BytesDecoded {
				b.Errorf("%d bytes are decoded", after.BytesDecoded-before.BytesDecoded)
			}
		})
	}
}

// BenchmarkResumedParallel reads 4 KiB at random places of one chunk, most of which are
// decoded from a checkpoint.
func BenchmarkResumedParallel(b *testing.B) {
	for _, w := range []workload{{codecs: allCodecs[1:2]}, {codecs: allCodecs[2:3]}} {
		b.Run(w.String(), func(b *testing.B) {
			im := benchmarkImage(b, w)
			if _, err := io.Copy(io.Discard, io.NewSectionReader(im, 0, im.Size())); err != nil {
				b.Fatal(err)
			}
			parallelReads(b, im, im.Size())
		})
	}
}

// parallelReads measures reads of 4 KiB at random places in the first bytes of the disk.
func parallelReads(b *testing.B, im *Image, of int64) {
	var seed atomic.Uint64
	b.SetBytes(4096)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(1, seed.Add(1)))
		p := make([]byte, 4096)
		for pb.Next() {
			if _, err := im.ReadAt(p, rng.Int64N(of/4096)*4096); err != nil {
				b.Error(err)
				return
			}
		}
	})
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

package hfsplus_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg/hfsplus"
)

// A counter counts reads.
type counter struct {
	r            io.ReaderAt
	calls, bytes atomic.Int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.calls.Add(1)
	c.bytes.Add(int64(len(p)))
	return c.r.ReadAt(p, off)
}

// manySample is a volume of 15,000 files.
var manySample = sample{image: samples + "fs/hfsplus-many.img.gz", tsv: samples + "fs/hfsplus-many"}

func openMany(b testing.TB) (*hfsplus.FS, *counter, []string) {
	if _, err := os.Stat(manySample.image); err != nil {
		b.Skip(err)
	}
	r, size := manySample.disk(b)
	c := &counter{r: r}
	fsys, err := hfsplus.New(c, size)
	if err != nil {
		b.Fatal(err)
	}
	var paths []string
	err = fs.WalkDir(fsys, ".", func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return fsys, c, paths
}

// BenchmarkLookup looks up random files of 15,000, with the path's folders.
func BenchmarkLookup(b *testing.B) {
	fsys, c, paths := openMany(b)
	b.Run("Lstat", func(b *testing.B) {
		benchLookup(b, c, paths, func(path string) error { _, err := fsys.Lstat(path); return err })
	})
	b.Run("Open", func(b *testing.B) {
		benchLookup(b, c, paths, func(path string) error {
			f, err := fsys.Open(path)
			if err != nil {
				return err
			}
			return f.Close()
		})
	})
	b.Run("missing", func(b *testing.B) {
		benchLookup(b, c, paths, func(path string) error {
			if _, err := fsys.Lstat(path + "é"); !errors.Is(err, fs.ErrNotExist) {
				return errors.New("found " + path)
			}
			return nil
		})
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			random := rand.New(rand.NewPCG(1, 2))
			for pb.Next() {
				if _, err := fsys.Lstat(paths[random.IntN(len(paths))]); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

func benchLookup(b *testing.B, c *counter, paths []string, look func(string) error) {
	random := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	calls := c.calls.Load()
	for b.Loop() {
		if err := look(paths[random.IntN(len(paths))]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(c.calls.Load()-calls)/float64(b.N), "reads/op")
}

// BenchmarkList lists 15,000 files in 600 folders, cold: names alone, and with Stat.
func BenchmarkList(b *testing.B) {
	if _, err := os.Stat(manySample.image); err != nil {
		b.Skip(err)
	}
	r, size := manySample.disk(b)
	for _, bm := range []struct {
		name string
		stat bool
	}{{"names", false}, {"info", true}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			c := &counter{r: r}
			files := 0
			for b.Loop() {
				fsys, err := hfsplus.New(c, size)
				if err != nil {
					b.Fatal(err)
				}
				err = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
					files++
					if err == nil && bm.stat {
						_, err = d.Info()
					}
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(files)/float64(b.N), "entries/op")
			b.ReportMetric(float64(c.calls.Load())/float64(b.N), "reads/op")
			b.ReportMetric(float64(c.bytes.Load())/float64(b.N), "source-B/op")
		})
	}
}

// BenchmarkReadAll walks through volumes with all contents.
func BenchmarkReadAll(b *testing.B) {
	for _, s := range []sample{
		manySample,
		{image: samples + "fs/hfsplus-app.dmg", tsv: samples + "fs/hfsplus-app"},
		{image: samples + "fs/hfsplus-compressed.img.gz", tsv: samples + "fs/hfsplus-compressed"},
	} {
		b.Run(s.name(), func(b *testing.B) {
			if _, err := os.Stat(s.image); err != nil {
				b.Skip(err)
			}
			fsys, _ := s.open(b)
			var n int64
			for b.Loop() {
				n = 0
				err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
					if err != nil || !d.Type().IsRegular() {
						return err
					}
					f, err := fsys.Open(path)
					if err != nil {
						return err
					}
					defer f.Close()
					m, err := f.(io.WriterTo).WriteTo(io.Discard)
					n += m
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(n)
		})
	}
}

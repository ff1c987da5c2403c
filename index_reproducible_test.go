package dmg

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// places returns the offsets of all checkpoints.
func places(im *Image) map[int][]int64 {
	all := make(map[int][]int64)
	for chunk, points := range im.mu.points.chunks {
		for _, p := range points {
			all[chunk] = append(all[chunk], p.off)
		}
	}
	return all
}

// The same checkpoints give the same bytes, however they came to be.
func TestIndexIsReproducible(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotRaced(t)
	t.Parallel()
	disk := indexDisk()
	for _, tt := range indexImages {
		t.Run(tt.name, func(t *testing.T) {
			file := dmgtest.Image(t, disk, tt.o)
			want := builtIndex(t, file, disk)
			ways := []struct {
				name string
				opts Options
				read func(im *Image)
			}{
				{"in one read", Options{}, func(im *Image) { im.ReadAt(make([]byte, im.Size()), 0) }},
				{"in small steps", Options{}, func(im *Image) { readPrefix(im, make([]byte, im.Size()), 4096) }},
				{"in little memory", Options{MemoryLimit: 16 << 20}, func(im *Image) { im.WriteTo(io.Discard) }},
				{"in much memory", Options{MemoryLimit: 256 << 20}, func(im *Image) { im.WriteTo(io.Discard) }},
				{"chunks from the last", Options{}, func(im *Image) {
					for _, c := range slices.Backward(im.chunks) {
						im.ReadAt(make([]byte, c.Length), c.Offset)
					}
				}},
				{"with the index", Options{Index: readIndex(t, want)}, func(im *Image) { im.WriteTo(io.Discard) }},
			}
			for _, way := range ways {
				im := newTest(t, file, &way.opts)
				way.read(im)
				if !bytes.Equal(saved(t, im), want) {
					t.Errorf("%s: another index", way.name)
				}
			}
		})
	}
}

// The cursors in a bzip2 block are the same, whoever decodes it: one core or
// those that work ahead, for a reader who needs all of it or a few bytes.
func TestIndexOfBzip2IsReproducible(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotRaced(t)
	size := fewer[int64](7<<20, 4) // more than parallelFrom, if not slow
	disk := dmgtest.Join(dmgtest.Mixed(8, size/2), dmgtest.Text(9, size/2)).Bytes()
	for _, level := range []int{1, 9} {
		file := dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}, Level: level})
		steps := func(n int) func(*Image) {
			return func(im *Image) { readPrefix(im, make([]byte, im.Size()), n) }
		}
		build := func(im *Image) {
			if err := im.BuildIndex(context.Background(), nil); err != nil {
				t.Error(err)
			}
		}
		var want []byte
		for _, way := range []struct {
			name  string
			cores int
			read  func(im *Image)
		}{
			{"BuildIndex on one core", 1, build},
			{"BuildIndex on two", 2, build},
			{"WriteTo", 2, func(im *Image) { im.WriteTo(io.Discard) }},
			{"in one read", 2, steps(len(disk))},
			{"in steps of 4096", 1, steps(4096)},
			{"in steps of 30,000", 1, steps(30_000)},
			{"here and there, then all", 2, func(im *Image) {
				rng := rand.New(rand.NewPCG(1, 8))
				for range 50 {
					im.ReadAt(make([]byte, 5000), rng.Int64N(im.Size()))
				}
				steps(4096)(im)
			}},
		} {
			im := newTest(t, file, nil)
			procs := runtime.GOMAXPROCS(way.cores)
			way.read(im)
			runtime.GOMAXPROCS(procs)
			got := saved(t, im)
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Errorf("level %d, %s: another index", level, way.name)
			}
		}
	}
}

// Random reads leave the checkpoints of zlib chunks that reading in order does.
func TestIndexByRandomReads(t *testing.T) {
	t.Parallel()
	disk := indexDisk()
	file := dmgtest.Image(t, disk, dmgtest.Options{})
	im := newTest(t, file, nil)
	rng := rand.New(rand.NewPCG(3, 4))
	var wg sync.WaitGroup
	for range 4 {
		offs := make([]int64, 30)
		for i := range offs {
			offs[i] = rng.Int64N(int64(len(disk) - 1000))
		}
		offs = append(offs, int64(len(disk)-1000))
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 1000)
			for i, off := range offs {
				if i%20 == 0 {
					if _, err := im.Index(); err != nil {
						t.Error(err)
					}
				}
				if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:][:len(p)]) {
					t.Errorf("read at %d: %v or wrong bytes", off, err)
				}
			}
		}()
	}
	wg.Wait()
	whole := newTest(t, file, nil)
	readThrough(t, whole, disk)
	// A decoder that was called away may have left one out.
	for chunk, offs := range places(im) {
		for _, off := range offs {
			if _, ok := slices.BinarySearch(places(whole)[chunk], off); !ok {
				t.Errorf("a checkpoint at %d of chunk %d", off, chunk)
			}
		}
	}
	other := newTest(t, file, &Options{Index: readIndex(t, saved(t, im))})
	readThrough(t, other, disk)
	if !bytes.Equal(saved(t, other), saved(t, whole)) {
		t.Error("another index when the rest has been read")
	}
}

// Where the index has more than checkpoints may take, they are thinned out.
func TestIndexThinned(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotRaced(t)
	t.Parallel()
	disk := dmgtest.Text(1, 24<<20).Bytes()
	file := dmgtest.Image(t, disk, dmgtest.Options{})
	ix := readIndex(t, builtIndex(t, file, disk))
	full := newTest(t, file, &Options{Index: ix}).Stats().CheckpointBytes
	const limit = 1 << 20
	im := newTest(t, file, &Options{Index: ix, MemoryLimit: limit})
	if n := im.Stats().CheckpointBytes; n > limit/16*9 || n == 0 || full <= limit/16*9 {
		t.Errorf("%d bytes of checkpoints, %d without a limit", n, full)
	}
	p := make([]byte, 4096)
	if _, err := im.ReadAt(p, 20<<20); err != nil || !bytes.Equal(p, disk[20<<20:][:len(p)]) {
		t.Error(err, "or wrong bytes")
	}
	if n := im.Stats().BytesDecoded; n > 8<<20 {
		t.Errorf("the first read decodes %d bytes", n)
	}
}

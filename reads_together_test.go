package dmg

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// R4: readers that want the same cold data decode it once, however each of
// them cuts it.
func TestSameColdMegabyte(t *testing.T) {
	notForced(t)
	dmgtest.NotEmulated(t)
	t.Parallel()
	readers := fewer(64, 4)
	patterns := map[string]func(rng *rand.Rand, off, n int64) [][2]int64{
		"in one": func(_ *rand.Rand, off, n int64) [][2]int64 { return [][2]int64{{off, n}} },
		"in steps": func(_ *rand.Rand, off, n int64) (all [][2]int64) {
			for k := int64(0); k < n; k += 16 << 10 {
				all = append(all, [2]int64{off + k, min(16<<10, n-k)})
			}
			return all
		},
		"shuffled": func(rng *rand.Rand, off, n int64) (all [][2]int64) {
			for k := int64(0); k < n; k += 16 << 10 {
				all = append(all, [2]int64{off + k, min(16<<10, n-k)})
			}
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all
		},
	}
	for _, w := range layouts("") {
		if w.codecs[0] == dmgtest.Bzip2 {
			continue
		}
		for name, pattern := range patterns {
			t.Run(w.String()+"/"+name, func(t *testing.T) {
				ti := w.image(t)
				counter := new(dmgtest.Counter)
				im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt { counter.R = r; return counter })
				size := int64(len(ti.disk))
				off, n := size/2, size/4 // 1 MiB, 2 MiB into the disk
				counter.Reset()
				start := make(chan struct{})
				var wg sync.WaitGroup
				for r := range readers {
					wg.Add(1)
					go func() {
						defer wg.Done()
						rng := rand.New(rand.NewPCG(uint64(r), 4))
						<-start
						for _, piece := range pattern(rng, off, n) {
							ti.mustRead(t, im, piece[0], int(piece[1]))
						}
					}()
				}
				close(start)
				within(t, "reading one megabyte", wg.Wait)
				// In one chunk the way there is decoded too.
				want, stored := n, int64(0)
				for c := range im.Chunks() {
					if c.Offset < off+n && off < c.Offset+c.Length {
						want = off + n - c.Offset
						stored += c.DataLength
					}
				}
				if w.chunk != 0 {
					want = n
				}
				if d := im.Stats().BytesDecoded; d > want+pageSize {
					t.Errorf("%d bytes decoded, want %d", d, want)
				}
				// An LZMA decoder's size is in the chunk's first bytes.
				if b := counter.Bytes(); b > stored+int64(readers)*128 {
					t.Errorf("%d bytes fetched of %d stored", b, stored)
				}
			})
		}
	}
}

// meeting is a source whose reads in some ranges wait until one has come in
// each of them. Readers that wait for each other never meet.
type meeting struct {
	r      io.ReaderAt
	ranges []Chunk
	mu     sync.Mutex
	here   map[int]bool
	all    chan struct{}
	late   atomic.Bool
}

func (m *meeting) ReadAt(p []byte, off int64) (int, error) {
	for i, c := range m.ranges {
		if c.DataOffset <= off && off < c.DataOffset+c.DataLength {
			m.mu.Lock()
			if !m.here[i] {
				m.here[i] = true
				if len(m.here) == len(m.ranges) {
					close(m.all)
				}
			}
			m.mu.Unlock()
			select {
			case <-m.all:
			case <-time.After(20 * time.Second):
				m.late.Store(true)
			}
		}
	}
	return m.r.ReadAt(p, off)
}

// R4: readers of different chunks don't wait for each other, nor do readers of
// different places in one chunk once there are checkpoints.
func TestReadersOverlap(t *testing.T) {
	for _, m := range allCodecs {
		w := workload{codecs: []dmgtest.Method{m}, chunk: fewer[int64](2048, 4)}
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			source := &meeting{here: make(map[int]bool), all: make(chan struct{})}
			im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt { source.r = r; return source })
			source.ranges = im.chunks[:3]
			var wg sync.WaitGroup
			for i := range source.ranges {
				wg.Add(1)
				go func() {
					defer wg.Done()
					ti.mustRead(t, im, source.ranges[i].Offset+1000, 5000)
				}()
			}
			within(t, "reading different chunks", wg.Wait)
			if source.late.Load() {
				t.Error("a reader waited for one of another chunk")
			}
		})
	}
	t.Run("zlib/one", func(t *testing.T) {
		w := workload{codecs: allCodecs[1:2], size: 16 << 20}
		ti := w.image(t)
		source := &meeting{here: make(map[int]bool), all: make(chan struct{})}
		im := ti.open(t, 8<<20, func(r io.ReaderAt) io.ReaderAt { source.r = r; return source })
		ti.wayThrough(t, im, len(ti.disk)) // which leaves only the end cached
		c := im.chunks[0]
		place := func(part int64) Chunk {
			return Chunk{DataOffset: c.DataOffset + c.DataLength*part/8, DataLength: c.DataLength / 8}
		}
		source.ranges = []Chunk{place(1), place(3)}
		var wg sync.WaitGroup
		for _, eighths := range []int64{3, 7} { // the middles of the second and fourth eighth
			wg.Add(1)
			go func() {
				defer wg.Done()
				ti.mustRead(t, im, c.Length*eighths/16, 5000)
			}()
		}
		within(t, "reading two places of a chunk", wg.Wait)
		if source.late.Load() {
			t.Error("a reader waited for one far away")
		}
	})
}

// A reader of what is cached never waits for the source.
func TestCachedReadsDontWait(t *testing.T) {
	w := workload{codecs: allCodecs[1:2]}
	ti := w.image(t)
	var block atomic.Bool
	blocked, release := make(chan struct{}, 1), make(chan struct{})
	im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt {
		return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
			if block.Load() {
				blocked <- struct{}{}
				<-release
			}
			return r.ReadAt(p, off)
		})
	})
	ti.mustRead(t, im, 0, 100_000)
	block.Store(true)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		ti.mustRead(t, im, int64(len(ti.disk))-5000, 4096)
	}()
	<-blocked
	block.Store(false)
	within(t, "reading cached bytes", func() { ti.mustRead(t, im, 500, 99_000) })
	close(release)
	wg.Wait()
}

// The blocks of a bzip2 chunk are decoded once for readers that come together.
func TestSameColdBzip2(t *testing.T) {
	ti := workload{codecs: allCodecs[2:3]}.image(t)
	im := ti.open(t, 64<<20, nil)
	off, n := int64(len(ti.disk)/2), len(ti.disk)/4
	var wg sync.WaitGroup
	for range 64 {
		wg.Add(1)
		go func() { defer wg.Done(); ti.mustRead(t, im, off, n) }()
	}
	wg.Wait()
	if d := im.Stats().BytesDecoded; d > off+int64(n)+pageSize {
		t.Errorf("%d bytes decoded, want %d", d, off+int64(n))
	}
}

// TestSharedNothing has every sector a chunk of its own, and all of them the same
// megabytes of blocks of nothing before what they decode to.
func TestSharedNothing(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	const n = 2000
	z, err := dmgtest.Compress(dmgtest.Zlib, 0, dmgtest.Text(2, sectorSize).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	data := append([]byte("\x78\x9C"), bytes.Repeat([]byte{0x02, 0x08, 0x20, 0x80, 0x00}, 4<<20/5)...)
	data = append(data, z[2:]...)
	im := imageOf(t, Options{}, data, slices.Repeat([]dmgtest.Chunk{{Method: dmgtest.Zlib, Sectors: 1, Length: uint64(len(data))}}, n)...)
	p := make([]byte, sectorSize)
	for i := range int64(n) {
		if _, err := im.ReadAt(p, i*sectorSize); !errors.Is(err, ErrFormat) {
			t.Fatalf("sector %d: %v", i, err)
		}
	}
	if got := im.Stats().SourceBytes; got > n*32<<10 {
		t.Errorf("%d bytes of the source were read", got)
	}
}

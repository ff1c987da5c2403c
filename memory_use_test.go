package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// R6: the least limit that fits a decoder serves any number of readers, and
// one byte less gives ErrMemoryLimit to all of them.
func TestLeastMemory(t *testing.T) {
	t.Parallel()
	for _, m := range allCodecs {
		w := workload{codecs: []dmgtest.Method{m}, chunk: 512}
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			probe := ti.open(t, 0, nil)
			need := memoryFor(t, probe, &probe.chunks[0])
			for _, tt := range []struct {
				limit int64
				err   error
			}{
				{1, ErrMemoryLimit},
				{need - 1, ErrMemoryLimit},
				{need, nil},
				{need + pageSize, nil},
				{2 * need, nil},
			} {
				im := ti.open(t, tt.limit, nil)
				var wg sync.WaitGroup
				for r := range fewer(32, 4) {
					wg.Add(1)
					go func() {
						defer wg.Done()
						p := make([]byte, 3000)
						off := int64(r) * int64(len(ti.disk)-len(p)) / 31
						_, err := im.ReadAt(p, off)
						if !errors.Is(err, tt.err) {
							t.Errorf("limit %d: ReadAt: %v, want %v", tt.limit, err, tt.err)
						} else if err == nil && !bytes.Equal(p, ti.disk[off:off+int64(len(p))]) {
							t.Errorf("limit %d: wrong bytes at %d", tt.limit, off)
						}
						var chunk *ChunkError
						if err != nil && !errors.As(err, &chunk) {
							t.Errorf("limit %d: %v names no chunk", tt.limit, err)
						}
					}()
				}
				within(t, "reading with little memory", wg.Wait)
				checkAtRest(t, &im.engine)
			}
		})
	}
}

// memoryTests are run one by one, each in a process of its own: the garbage
// collector lets a heap grow in proportion to all that is in it.
var memoryTests = []struct {
	name   string
	w      workload
	limit  int64
	images int // open at once, each with its limit
}{
	{"mixture with LZMA", workload{codecs: allCodecs, chunk: 512, kind: "mixed"}, 32 << 20, 1},
	{"zlib", workload{codecs: allCodecs[1:2], size: 32 << 20}, 8 << 20, 1},
	{"zlib", workload{codecs: allCodecs[1:2], size: 32 << 20}, 32 << 20, 1},
	{"bzip2", workload{codecs: allCodecs[2:3]}, 16 << 20, 1},
	{"images", workload{codecs: allCodecs[1:2], size: fewer[int64](16<<20, 4)}, 4 << 20, 4},
}

// memoryChild is set for the process that runs one of the memoryTests: its
// number and the image's name.
const memoryChild = "DMG_TEST_MEMORY"

// R6: whatever 64 readers do, what is in use stays under the limit and 8 MiB.
func TestMemoryInUse(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotEmulated(t)
	t.Parallel()
	if dmgtest.Raced() {
		t.Skip("the race detector takes memory of its own")
	}
	if child := os.Getenv(memoryChild); child != "" {
		var i int
		var name string
		if _, err := fmt.Sscan(child, &i, &name); err != nil {
			t.Fatal(err)
		}
		readInMemory(t, name, memoryTests[i].limit, memoryTests[i].images)
		return
	}
	for i, tt := range memoryTests {
		t.Run(fmt.Sprintf("%s/%dMiB", tt.name, tt.limit>>20), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "image.dmg")
			if err := os.WriteFile(name, tt.w.image(t).file, 0o666); err != nil {
				t.Fatal(err)
			}
			c := dmgtest.Self(t, "-test.run=^TestMemoryInUse$", "-test.v")
			c.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", memoryChild, i, name))
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for line := range bytes.Lines(out) {
				if bytes.Contains(line, []byte("in use")) {
					t.Logf("%s", bytes.TrimSpace(line))
				}
			}
		})
	}
}

// readInMemory reads images from a file at random, from 64 goroutines, and
// looks at the heap meanwhile.
func readInMemory(t *testing.T, name string, limit int64, images int) {
	var all []*Image
	for range images {
		im, err := Open(name, &Options{MemoryLimit: limit})
		if err != nil {
			t.Fatal(err)
		}
		defer im.Close()
		all = append(all, im)
	}
	const readers, buffer = 64, 128 << 10
	buffers := make([]byte, readers*buffer) // the callers' own
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := inUse()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var reads atomic.Int64
	for r := range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(r), 9))
			p := buffers[r*buffer:][:buffer]
			im := all[r%len(all)]
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := 1 + rng.IntN([]int{4096, 4096, buffer}[rng.IntN(3)])
				if _, err := im.ReadAt(p[:n], rng.Int64N(im.Size()-int64(n))); err != nil {
					t.Errorf("ReadAt: %v", err)
					return
				}
				reads.Add(1)
			}
		}()
	}
	most := int64(0)
	// A collection waits for its turn among the readers.
	for start := time.Now(); time.Since(start) < time.Duration(dmgtest.Times(10_000, 1000, 150))*time.Millisecond; {
		time.Sleep(20 * time.Millisecond)
		most = max(most, inUse()-before)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d MiB: %.1f MiB in use at most, %d reads", limit>>20, float64(most)/(1<<20), reads.Load())
	if most > (limit+8<<20)*int64(images) {
		t.Errorf("%d bytes are in use by %d images, the limit is %d", most, images, limit)
	}
	// At rest there is no garbage, and what is there has been accounted for.
	counted := int64(0)
	for _, im := range all {
		checkAtRest(t, &im.engine)
		counted += im.mu.account.Total()
	}
	if rest := inUse() - before; rest > counted+1<<20 {
		t.Errorf("at rest %d bytes are in use, %d are accounted for", rest, counted)
	} else {
		t.Logf("at rest %.1f MiB are in use, %.1f are accounted for", float64(rest)/(1<<20), float64(counted)/(1<<20))
	}
	runtime.KeepAlive(buffers)
}

// Checkpoints of zlib chunks must not keep a bzip2 decoder from its memory.
func TestCheckpointsLeaveRoomForDecoder(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	ti := workload{codecs: allCodecs[1:3], chunk: fewer[int64](16384, 2), size: fewer[int64](16<<20, 2)}.image(t) // zlib, then bzip2
	im := ti.open(t, bzip2Memory+fetchBuffer+512<<10, nil)
	p := make([]byte, 4096)
	half := int64(len(ti.disk) / 2)
	for off := int64(0); off < half; off += int64(len(p)) {
		ti.mustReadInto(t, im, p, off)
	}
	t.Log("checkpoints: ", im.Stats().CheckpointBytes)
	ti.mustReadInto(t, im, p, half*3/2)
}

package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Readers of chunks for which there is memory go on beside readers of one whose
// decoder can't have it: these are told.
func TestDecoderTooLarge(t *testing.T) {
	ti := workload{codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2}, chunk: 256, size: 2 << 20}.image(t)
	im := ti.open(t, 1<<20, nil)
	if n := memoryFor(t, im, &im.chunks[1]); n <= 1<<20 {
		t.Fatalf("%v takes %d: the test tests nothing", im.chunks[1], n)
	}
	var wg sync.WaitGroup
	for r := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(r), 1))
			for range 100 {
				c := &im.chunks[rng.IntN(len(im.chunks))]
				off := c.Offset + rng.Int64N(c.Length-1000)
				if c.Method != Bzip2 {
					ti.mustRead(t, im, off, 1000)
				} else if _, err := im.ReadAt(make([]byte, 1000), off); !errors.Is(err, ErrMemoryLimit) {
					t.Errorf("a read in %v: %v, want ErrMemoryLimit", c, err)
				}
			}
		}()
	}
	within(t, "reading beside what doesn't fit", wg.Wait)
}

// R6: what is on the heap keeps to the limit, whatever the codecs and however many
// readers.
func TestHeapKeepsToLimit(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotEmulated(t)
	t.Parallel()
	if dmgtest.Raced() {
		t.Skip("the race detector allocates")
	}
	// Alone: other tests' images make a heap in which the engine collects nothing.
	if os.Getenv("DMG_TEST_ALONE") == "" {
		cmd := dmgtest.Self(t, "-test.run=^TestHeapKeepsToLimit$", "-test.v")
		cmd.Env = append(os.Environ(), "DMG_TEST_ALONE=1")
		out, err := cmd.CombinedOutput()
		if t.Logf("%s", out); err != nil {
			t.Error(err)
		}
		return
	}
	// Else what is measured is garbage that has not been collected yet.
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	for _, w := range []struct {
		workload
		indexed bool
	}{
		{workload{codecs: allCodecs, chunk: 512, size: fewer[int64](8<<20, 4)}, false},
		{workload{codecs: allCodecs[2:3], size: fewer[int64](8<<20, 2)}, false},
		{workload{codecs: allCodecs[1:2], size: fewer[int64](16<<20, 2)}, false},
		{workload{codecs: allCodecs[1:2], size: fewer[int64](64<<20, 4)}, true},
	} {
		t.Run(fmt.Sprintf("%v/index %v", w, w.indexed), func(t *testing.T) {
			ti := w.image(t)
			var index bytes.Buffer
			if w.indexed {
				ti.index(t, usualSpacing).WriteTo(&index)
			}
			for _, limit := range []int64{12 << 20, 32 << 20}[:fewer(2, 2)] {
				buffers := make([][]byte, 16)
				for i := range buffers {
					buffers[i] = make([]byte, 100_000)
				}
				before := heapInUse()
				var ix *Index
				if w.indexed {
					ix = readIndex(t, index.Bytes())
				}
				im := ti.openIndexed(t, limit, ix)
				end := time.Now().Add(time.Duration(dmgtest.Times(10_000, 1000, 100)) * time.Millisecond)
				var wg sync.WaitGroup
				for r, p := range buffers {
					wg.Add(1)
					go func() {
						defer wg.Done()
						rng := rand.New(rand.NewPCG(uint64(r), 2))
						for time.Now().Before(end) {
							off := rng.Int64N(int64(len(ti.disk) - len(p)))
							ti.mustReadInto(t, im, p[:1+rng.IntN(len(p)-1)], off)
						}
					}()
				}
				most := int64(0)
				for time.Now().Before(end) {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					most = max(most, int64(m.HeapInuse)-before)
					time.Sleep(5 * time.Millisecond)
				}
				wg.Wait()
				t.Logf("limit %d MiB: %.1f MiB at most", limit>>20, float64(most)/(1<<20))
				if most > limit+8<<20 {
					t.Errorf("limit %d: %d bytes more of heap are in use", limit, most)
				}
				if packed, _, _ := packedNow(im); w.indexed && packed != ix.Len() {
					t.Errorf("%d of %d checkpoints are packed", packed, ix.Len())
				}
			}
		})
	}
}

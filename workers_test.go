package dmg

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// workersTests say how many workers run at a memory limit, on sixteen cores. The table in
// docs/DESIGN.md and the comment of Options.MemoryLimit have these numbers.
var workersTests = []struct {
	method dmgtest.Method
	limit  int64 // MiB
	chunks int   // in many chunks
	one    int   // in one chunk of bzip2, beside the decoder that takes the blocks
}{
	{dmgtest.Bzip2, 16, 2, 0},
	{dmgtest.Bzip2, 32, 4, 2},
	{dmgtest.Bzip2, 64, 9, 6},
	{dmgtest.Bzip2, 128, 16, 14},
	{dmgtest.Bzip2, 160, 16, 16},
	{dmgtest.Zlib, 16, 16, 0},
	{dmgtest.LZFSE, 16, 16, 0},
}

func TestWorkersAtLimit(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	const cores = 16
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	for _, tt := range workersTests {
		if dmgtest.Part() && tt.limit < 64 {
			continue
		}
		// Each chunk is longer than a worker's buffers: so a worker that waits for its
		// output has its decoder.
		many := workload{codecs: []dmgtest.Method{tt.method}, chunk: 768, size: 17 * 768 * 512}
		t.Run(many.String(), func(t *testing.T) {
			if n := workersOf(t, many, tt.limit<<20, cores, tt.chunks); n != tt.chunks {
				t.Errorf("%d workers at %d MiB, want %d", n, tt.limit, tt.chunks)
			}
		})
		if tt.method != dmgtest.Bzip2 {
			continue
		}
		one := workload{codecs: many.codecs, size: 5 << 20}
		t.Run(one.String(), func(t *testing.T) {
			im := one.image(t).open(t, tt.limit<<20, nil)
			take := writerAtFunc(func(p []byte, off int64) (int, error) { return len(p), nil })
			if err := im.Extract(context.Background(), take, &ExtractOptions{Workers: cores}); err != nil {
				t.Fatal(err)
			}
			n := 0
			if p := im.mu.idleParallel; p != nil {
				n = p.Workers()
			}
			if n != tt.one {
				t.Errorf("%d workers at %d MiB, want %d", n, tt.limit, tt.one)
			}
		})
	}
}

// workersOf returns how many workers extract the image at once. Each stops at its first
// output, until as many as are wanted have stopped, and some time for one more has passed.
func workersOf(t *testing.T, w workload, limit int64, workers, want int) int {
	im := w.image(t).open(t, limit, nil)
	var mu sync.Mutex
	at := 0 // workers that have stopped
	all := make(chan struct{})
	late := time.AfterFunc(time.Minute, sync.OnceFunc(func() { close(all) }))
	stop := writerAtFunc(func(p []byte, off int64) (int, error) {
		mu.Lock()
		if at++; at == want {
			late.Reset(300 * time.Millisecond)
		}
		mu.Unlock()
		<-all
		return 0, errEnough
	})
	if err := im.Extract(context.Background(), stop, &ExtractOptions{Workers: workers}); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	return at
}

// In order, workers whose turn it isn't decode their chunks of hdiutil's length to the end,
// while the receiver takes its time, and within the limit.
func TestDecodesAheadInOrder(t *testing.T) {
	const chunk = 1 << 20
	ti := workload{codecs: []dmgtest.Method{dmgtest.Zlib}, chunk: chunk / sectorSize, size: 8 * chunk}.image(t)
	for _, tt := range []struct{ limit, workers int }{{64 << 20, 2}, {64 << 20, 3}, {16 << 20, 4}} {
		im := ti.open(t, int64(tt.limit), nil)
		want := int64(tt.workers-1) * chunk
		out := &sink{p: make([]byte, len(ti.disk))}
		first := true
		take := writerAtFunc(func(p []byte, off int64) (int, error) {
			for until := time.Now().Add(20 * time.Second); first && im.count.bytesDecoded.Load() < want; {
				if time.Now().After(until) {
					t.Errorf("%d workers in %d MiB: %d bytes are decoded before one is taken, want %d", tt.workers, tt.limit>>20, im.count.bytesDecoded.Load(), want)
					break
				}
				time.Sleep(time.Millisecond)
			}
			first = false
			return out.WriteAt(p, off)
		})
		if err := im.Extract(context.Background(), take, &ExtractOptions{Workers: tt.workers, Ordered: true}); err != nil {
			t.Error(err)
		}
		if k := firstDifference(out.p, ti.disk); k >= 0 {
			t.Errorf("byte %d is wrong", k)
		}
		checkAtRest(t, &im.engine)
	}
}

var errEnough = errors.New("enough")

// writerAtFunc is an io.WriterAt.
type writerAtFunc func(p []byte, off int64) (int, error)

func (f writerAtFunc) WriteAt(p []byte, off int64) (int, error) { return f(p, off) }

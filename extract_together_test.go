package dmg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestWriteToSlow has a receiver that is slower than the decoders: these must wait
// for it rather than take more memory.
func TestWriteToSlow(t *testing.T) {
	img, disk := mixedImage(t)
	im := newTestImage(t, bytes.NewReader(img), len(img), 16<<20)
	s := &sequence{recorder: newRecorder(im.Size())}
	peak := int64(0)
	s.call = func(int) (bool, error) {
		time.Sleep(time.Millisecond)
		im.mu.Lock()
		peak = max(peak, im.mu.account.Total())
		im.mu.Unlock()
		return false, nil
	}
	if n, err := im.WriteTo(s); n != im.Size() || err != nil {
		t.Errorf("WriteTo = %d, %v", n, err)
	}
	s.check(t, im, disk, im.Size(), false)
	if peak == 0 || peak > 16<<20 {
		t.Errorf("%d bytes are taken of %d", peak, 16<<20)
	}
}

// TestWholeDiskTogether does everything at once, in a memory that is too small for
// all to go on at the same time.
func TestWholeDiskTogether(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	withCores(t)
	img, disk := mixedImage(t)
	large, stream := aheadBlocks(t)
	for _, tt := range []struct {
		name      string
		img, disk []byte
		limit     int64
	}{
		{"small chunks", img, disk, 16 << 20},
		{"one bzip2 chunk", bzip2ChunkImage(t, large, stream), large, 16 << 20},
		{"one zlib chunk", dmgtest.Image(t, large, dmgtest.Options{}), large, 2 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := newTestImage(t, bytes.NewReader(tt.img), len(tt.img), tt.limit)
			before := runtime.NumGoroutine()
			done := make(chan struct{})
			go func() {
				doTogether(t, im, tt.disk)
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(2 * time.Minute):
				t.Fatalf("deadlock:\n%s", goroutines())
			}
			checkIdle(t, im, before)
		})
	}
}

func doTogether(t *testing.T, im *Image, disk []byte) {
	works := []func() error{
		func() error {
			w := newRecorder(im.Size())
			defer w.check(t, im, disk, im.Size(), false)
			return im.Extract(context.Background(), w, nil)
		},
		func() error {
			s := &sequence{recorder: newRecorder(im.Size())}
			defer s.check(t, im, disk, im.Size(), false)
			_, err := im.WriteTo(s)
			return err
		},
		func() error { return im.Verify(context.Background(), nil) },
		func() error { return im.BuildIndex(context.Background(), nil) },
	}
	for i := range 16 {
		works = append(works, func() error { return readRandomly(im, disk, uint64(i)) })
	}
	var wg sync.WaitGroup
	for _, work := range works {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := work(); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
}

// readRandomly makes short reads all over the disk.
func readRandomly(im *Image, disk []byte, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, 10_000)
	reads := 30
	if dmgtest.Part() {
		reads = 2
	}
	for range reads {
		off := rng.IntN(len(disk) - len(p))
		if _, err := im.ReadAt(p, int64(off)); err != nil {
			return err
		}
		if i := firstDifference(p, disk[off:off+len(p)]); i >= 0 {
			return fmt.Errorf("ReadAt(%d): byte %d is wrong", off, i)
		}
	}
	return nil
}

// TestBuildIndexLimit has BuildIndex say that it has made nothing of a chunk whose
// decoder takes more than all memory.
func TestBuildIndexLimit(t *testing.T) {
	ti := workload{codecs: allCodecs[2:3], size: 2 << 20}.image(t)
	im := ti.open(t, bzip2Memory/2, nil)
	if err := im.BuildIndex(context.Background(), nil); !errors.Is(err, ErrMemoryLimit) {
		t.Errorf("got %v", err)
	}
}

// writerFunc is a Write method.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestReceiverEnds has the writer end the goroutine that it is called from.
func TestReceiverEnds(t *testing.T) {
	dmgtest.NotEmulated(t)
	for _, method := range allCodecs[1:3] {
		ti := workload{codecs: []dmgtest.Method{method}, chunk: 512, size: fewer[int64](8<<20, 8)}.image(t)
		im := ti.open(t, 0, nil)
		within(t, "WriteTo", func() {
			if _, err := im.WriteTo(writerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil })); err == nil {
				t.Error("no error")
			}
		})
		checkAtRest(t, &im.engine)
		ti.mustRead(t, im, 0, len(ti.disk))
	}
}

// TestVerifyProgressOfAll verifies a disk of nearly 2^63 bytes and the data fork
// besides.
func TestVerifyProgressOfAll(t *testing.T) {
	im := imageOf(t, Options{}, make([]byte, 4096), dmgtest.Chunk{Method: dmgtest.Zero, Sectors: maxSectors})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	last := int64(0)
	im.Verify(ctx, &VerifyOptions{Progress: func(done, total int64) {
		if done < last || total < done {
			t.Errorf("%d of %d, after %d", done, total, last)
		}
		last = done
	}})
	if last == 0 {
		t.Error("no progress")
	}
}

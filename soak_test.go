package dmg

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

var soak = flag.Duration("soak", time.Duration(dmgtest.Times(600_000, 3000, 500))*time.Millisecond, "how long TestSoak goes on")

// A soaked is an image under test, the source of which fails now and then.
type soaked struct {
	testImage
	name  string
	limit int64
	opts  Options
	im    *Image

	calls  atomic.Int64 // of the source
	broken atomic.Int64 // every so many calls fail; 0 for none
}

// ReadAt reads the image's file, or fails.
func (s *soaked) ReadAt(p []byte, off int64) (int, error) {
	k := s.calls.Add(1)
	if every := s.broken.Load(); every > 0 && k%every == 0 {
		n := copy(p[:len(p)/3], s.file[min(off, int64(len(s.file))):])
		return n, errSometimes
	}
	return bytes.NewReader(s.file).ReadAt(p, off)
}

func (s *soaked) open() (*Image, error) {
	opts := s.opts
	opts.MemoryLimit = s.limit
	return NewImage(s, int64(len(s.file)), &opts)
}

// soakedImages are of every codec, under limits that hurt.
func soakedImages(t *testing.T) []*soaked {
	mixture := workload{codecs: append([]dmgtest.Method{dmgtest.Raw}, allCodecs...), chunk: 256, size: 2 << 20, kind: "mixed"}.image(t)
	secret := dmgtest.Encryption{Password: "rosebud", BlockSize: 512}
	all := []*soaked{
		{name: "mixture", testImage: mixture, limit: 11 << 20},
		{name: "encrypted mixture", testImage: testImage{mixture.disk, secret.Image(mixture.file)}, limit: 11 << 20, opts: Options{Password: "rosebud"}},
		{name: "one zlib chunk", testImage: workload{codecs: allCodecs[1:2], size: 8 << 20}.image(t), limit: 1 << 20},
		{name: "one bzip2 chunk", testImage: workload{codecs: allCodecs[2:3]}.image(t), limit: 8 << 20},
		{name: "one bzip2 chunk on all cores", testImage: workload{codecs: allCodecs[2:3]}.image(t), limit: 64 << 20},
	}
	for _, s := range all {
		var err error
		if s.im, err = s.open(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
	return all
}

var errWriter = errors.New("the writer has had enough")

// soakWorks are what is done over and over, by many at once. The error is that
// of the call made; wrong bytes are an error of their own.
var soakWorks = map[string]func(s *soaked, ctx context.Context, rng *rand.Rand) error{
	"short reads": func(s *soaked, _ context.Context, rng *rand.Rand) error {
		var first error
		for range 20 {
			if err := s.read(rng.Int64N(int64(len(s.disk))), 1+rng.IntN(5000)); err != nil && first == nil {
				first = err
			}
		}
		return first
	},
	"a long read": func(s *soaked, _ context.Context, rng *rand.Rand) error {
		return s.read(rng.Int64N(int64(len(s.disk))), 1+rng.IntN(1<<20))
	},
	"reads in order": func(s *soaked, ctx context.Context, rng *rand.Rand) error {
		off := rng.Int64N(int64(len(s.disk)))
		for end := min(int64(len(s.disk)), off+512<<10); off < end && ctx.Err() == nil; off += 4096 {
			if err := s.read(off, 4096); err != nil {
				return err
			}
		}
		return nil
	},
	"WriteTo": func(s *soaked, _ context.Context, rng *rand.Rand) error {
		w := &soakWriter{soaked: s, left: rng.Int64N(2 * int64(len(s.disk)))}
		n, err := s.im.WriteTo(w)
		if n != w.n {
			return fmt.Errorf("WriteTo wrote %d bytes and says %d", w.n, n)
		}
		return w.verdict(err)
	},
	"Extract": func(s *soaked, ctx context.Context, rng *rand.Rand) error {
		w := &soakWriter{soaked: s, left: rng.Int64N(2 * int64(len(s.disk)))}
		return w.verdict(s.im.Extract(ctx, w, &ExtractOptions{Workers: rng.IntN(4)}))
	},
	"Verify":     func(s *soaked, ctx context.Context, _ *rand.Rand) error { return s.im.Verify(ctx, nil) },
	"BuildIndex": func(s *soaked, ctx context.Context, _ *rand.Rand) error { return s.im.BuildIndex(ctx, nil) },
	"an image opened from the index": func(s *soaked, _ context.Context, rng *rand.Rand) error {
		var saved bytes.Buffer
		ix, err := s.im.Index()
		if err != nil {
			return err
		}
		if _, err := ix.WriteTo(&saved); err != nil {
			return err
		}
		x, err := ReadIndex(&saved)
		if err != nil {
			return err
		}
		other := &soaked{testImage: s.testImage, limit: s.limit, opts: s.opts}
		other.opts.Index = x
		if other.im, err = other.open(); err != nil {
			return err
		}
		defer other.im.Close()
		return other.read(rng.Int64N(int64(len(s.disk))), 5000)
	},
}

// read reads up to n bytes and compares them, also those before an error.
func (s *soaked) read(off int64, n int) error {
	p := make([]byte, min(int64(n), int64(len(s.disk))-off))
	k, err := s.im.ReadAt(p, off)
	if !bytes.Equal(p[:k], s.disk[off:off+int64(k)]) {
		return fmt.Errorf("ReadAt(%d, %d) = %d, %v: wrong bytes", len(p), off, k, err)
	}
	if k < len(p) && err == nil {
		return fmt.Errorf("ReadAt(%d, %d) = %d without an error", len(p), off, k)
	}
	return err
}

// soakWriter compares what is written, in order or not, and fails after some
// bytes.
type soakWriter struct {
	*soaked
	mu    sync.Mutex
	n     int64
	left  int64
	wrong error
}

func (w *soakWriter) Write(p []byte) (int, error) { return w.WriteAt(p, w.n) }

func (w *soakWriter) WriteAt(p []byte, off int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !bytes.Equal(p, w.disk[off:off+int64(len(p))]) {
		w.wrong = fmt.Errorf("wrong bytes in %d at %d", len(p), off)
	}
	if w.left -= int64(len(p)); w.left < 0 {
		return 0, errWriter
	}
	w.n += int64(len(p))
	return len(p), nil
}

func (w *soakWriter) verdict(err error) error {
	if w.wrong != nil {
		return w.wrong
	}
	return err
}

// TestSoak has many goroutines do everything to images the sources of which fail,
// under contexts that end, for as long as -soak says. There must be no error but
// those made here, no wrong byte, and in the end no goroutine and no memory more
// than before.
func TestSoak(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	images := soakedImages(t)
	names := slices.Sorted(maps.Keys(soakWorks))
	before, heap := runtime.NumGoroutine(), heapInUse()
	var done, failed [16]atomic.Int64
	end := time.Now().Add(*soak)
	var workers sync.WaitGroup
	for k := range 4 * len(images) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			rng := rand.New(rand.NewPCG(uint64(k), uint64(time.Now().UnixNano())))
			for time.Now().Before(end) && !t.Failed() {
				s, w := images[k%len(images)], rng.IntN(len(names))
				if rng.IntN(10) == 0 {
					s.broken.Store(max(0, int64(rng.IntN(40))-20) * 5) // half the time it is sound
				}
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				if rng.IntN(2) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(2000))*time.Millisecond)
				}
				err := soakWorks[names[w]](s, ctx, rng)
				cancel()
				done[w].Add(1)
				if err != nil {
					failed[w].Add(1)
				}
				if err != nil && err != io.EOF && !errors.Is(err, errSometimes) && !errors.Is(err, errWriter) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %s: %v", s.name, names[w], err)
				}
			}
		}()
	}
	finished := make(chan struct{})
	go func() { workers.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-time.After(*soak + 2*time.Minute):
		t.Fatalf("stuck:\n%s", goroutines())
	}
	for w, name := range names {
		t.Logf("%s: %d times, %d failed", name, done[w].Load(), failed[w].Load())
		if done[w].Load() == 0 && *soak > time.Second && !t.Failed() {
			t.Errorf("%s: never done", name)
		}
	}

	limits := int64(0)
	for _, s := range images {
		s.broken.Store(0)
		checkAtRest(t, &s.im.engine)
		if err := s.read(0, len(s.disk)); err != nil {
			t.Errorf("%s: after all: %v", s.name, err)
		}
		if err := s.im.Verify(context.Background(), nil); err != nil {
			t.Errorf("%s: after all: %v", s.name, err)
		}
		limits += s.limit
	}
	for range 50 { // a goroutine may be about to end
		if runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines are left, there were %d:\n%s", n, before, goroutines())
	}
	if more := heapInUse() - heap; more > limits+8<<20 {
		t.Errorf("%d bytes more of heap are in use, the limits are %d", more, limits)
	}
}

// heapInUse is what the heap holds that is still referred to.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

package dmg

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// aheadImage is one zlib chunk that is worth several cores.
func aheadImage(t testing.TB) testImage {
	return workload{codecs: []dmgtest.Method{dmgtest.Zlib}, size: 24 << 20, kind: "mixed"}.image(t)
}

// wentAhead reports whether several cores decoded a chunk of im.
func wentAhead(im *Image) bool {
	return im.count.bytesAhead.Load() > im.count.bytesDecoded.Load()/2
}

// notForced skips a test of when several cores decode a chunk, or of how much is fetched: with
// little to decode, what they fetch in vain matters.
func notForced(t *testing.T) {
	if deflate.Forced > 0 {
		t.Skip("several cores decode what is hardly worth it")
	}
}

// aheadWorkers are how many workers take a chunk: one, and more than there may be cores.
var aheadWorkers = []int{1, 4, 8, 16}

// TestZlibAheadIndex builds indexes on one core and on several. They are the same.
func TestZlibAheadIndex(t *testing.T) {
	dmgtest.NotRaced(t)
	dmgtest.Long(t)
	notForced(t)
	ti := aheadImage(t)
	for _, limit := range []int64{16 << 20, 64 << 20, 256 << 20} {
		var want []byte
		for _, workers := range aheadWorkers {
			im := ti.open(t, limit, nil)
			if err := im.BuildIndex(context.Background(), &BuildIndexOptions{Workers: workers}); err != nil {
				t.Fatal(err)
			}
			ix, err := im.Index()
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := ix.WriteTo(&b); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = b.Bytes()
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("limit %d: the index of %d workers has %d bytes, that of one has %d, and they differ", limit, workers, b.Len(), len(want))
			}
			if ahead := wentAhead(im); ahead != (workers >= leastInflate) && limit > 16<<20 {
				t.Errorf("limit %d, %d workers: decoded ahead: %v", limit, workers, ahead)
			}
			ti.mustRead(t, im, int64(len(ti.disk))-4096, 4096)
		}
	}
}

// TestZlibAheadExtract extracts on one core and on several, from images that are whole,
// damaged and cut: the same bytes, errors, and lost and doubtful ranges.
func TestZlibAheadExtract(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotRaced(t)
	whole := aheadImage(t)
	data := func(im *Image) Chunk {
		for c := range im.Chunks() {
			if c.Method == Zlib {
				return c
			}
		}
		panic("no zlib chunk")
	}
	c := data(whole.open(t, 64<<20, nil))
	type change struct {
		name string
		at   int64 // in the chunk's data
		bits byte
		n    int64
	}
	changes := []change{{name: "whole"}, {"trailer", c.DataLength - 1, 1, 1}}
	for _, at := range []int64{c.DataLength / 10, c.DataLength / 2, c.DataLength - 70_000} {
		changes = append(changes, change{fmt.Sprint("a bit at ", at), at, 0x10, 1}, change{fmt.Sprint("zeros at ", at), at, 0, 3000})
	}
	for _, ch := range changes {
		t.Run(ch.name, func(t *testing.T) {
			ti := testImage{whole.disk, bytes.Clone(whole.file)}
			for i := range ch.n {
				b := &ti.file[c.DataOffset+ch.at+i]
				if *b ^= ch.bits; ch.bits == 0 {
					*b = 0
				}
			}
			want := ""
			for _, workers := range aheadWorkers {
				im := ti.open(t, 64<<20, nil)
				out := &sink{p: make([]byte, len(ti.disk))}
				err := im.Extract(context.Background(), out, &ExtractOptions{Workers: workers})
				got := fmt.Sprintf("%v, %x", err, sha256.Sum256(out.p))
				if workers >= leastInflate && (ch.n == 0 || ch.at > c.DataLength/4) && !wentAhead(im) {
					t.Errorf("%d workers: nothing was decoded ahead", workers)
				}
				var damage []string
				clear(out.p)
				err = im.Extract(context.Background(), out, &ExtractOptions{Workers: workers, Damaged: func(d Damage) error {
					damage = append(damage, fmt.Sprintf("%+v", d))
					return nil
				}})
				slices.Sort(damage)
				got += fmt.Sprintf("; %v, %x, %q", err, sha256.Sum256(out.p), damage)
				if workers == 1 {
					want = got
					if !bytes.Equal(out.p, ti.disk) != (ch.n > 0 && ch.name != "trailer") {
						t.Error("nothing is wrong, or all")
					}
				}
				if got != want {
					t.Errorf("%d workers: %s\nwant %s", workers, got, want)
				}
			}
		})
	}
}

// sink is where an image is extracted to.
type sink struct {
	mu sync.Mutex
	p  []byte
}

func (s *sink) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copy(s.p[off:], p), nil
}

// TestZlibAheadRead reads far into a chunk, on all cores. Reads thereafter are as after one
// core.
func TestZlibAheadRead(t *testing.T) {
	dmgtest.NotRaced(t)
	notForced(t)
	ti := aheadImage(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var want []checkpoint
	for _, procs := range []int{1, 8} {
		runtime.GOMAXPROCS(procs)
		im := ti.open(t, 64<<20, nil)
		far := int64(len(ti.disk)) * 3 / 4
		ti.mustRead(t, im, far, 10_000)
		if wentAhead(im) != (procs > 1) {
			t.Errorf("on %d cores: decoded ahead: %v", procs, wentAhead(im))
		}
		decoded := im.Stats().BytesDecoded
		if decoded > far+10_000+pageSize {
			t.Errorf("on %d cores: %d bytes decoded for %d", procs, decoded, far+10_000)
		}
		if n := im.Stats().SourceBytes; n > int64(len(ti.file)) {
			t.Errorf("on %d cores: %d bytes fetched of %d", procs, n, len(ti.file))
		} else {
			t.Logf("on %d cores: %d bytes fetched", procs, n)
		}
		ti.mustRead(t, im, far+10_000, 50_000) // goes on
		if n := im.Stats().BytesDecoded - decoded; n > 50_000+pageSize {
			t.Errorf("on %d cores: %d bytes decoded to go on", procs, n)
		}
		ti.mustRead(t, im, far/2, 4096)
		ti.mustRead(t, im, far+200_000, 4096)
		im.mu.Lock()
		var points []checkpoint
		for _, p := range im.mu.points.chunks {
			points = append(points, p...)
		}
		im.mu.Unlock()
		for i := range points {
			points[i].log = 0
		}
		if procs == 1 {
			want = points
		}
		if !slices.Equal(points, want) {
			t.Errorf("on %d cores: %d checkpoints, on one %d, and they differ", procs, len(points), len(want))
		}
		im.mu.Lock()
		used := im.mu.account.Total()
		im.mu.Unlock()
		if used > 64<<20 {
			t.Errorf("%d bytes in use", used)
		}
	}
}

// TestZlibAheadFails has the source fail, panic and be cancelled while several cores are at
// work. Nothing stays behind.
func TestZlibAheadFails(t *testing.T) {
	dmgtest.NotEmulated(t)
	ti := cheapZlib(t, 9<<20+512<<10, repeats, storedText)
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		do   func(cancel func()) error
		want error
	}{
		{"error", func(func()) error { return broken }, broken},
		{"cancelled", func(cancel func()) error { cancel(); return nil }, context.Canceled},
		{"panic", func(func()) error { panic(broken) }, nil},
	} {
		for _, at := range []int64{int64(len(ti.file)) / 5, int64(len(ti.file)) / 2} {
			t.Run(fmt.Sprint(tt.name, " at ", at), func(t *testing.T) {
				goroutines := runtime.NumGoroutine()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var mu sync.Mutex
				fails := true
				im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt {
					return readAtFunc(func(p []byte, off int64) (int, error) {
						mu.Lock()
						now := fails && off >= at && off < int64(len(ti.file))*9/10
						mu.Unlock()
						if now {
							if err := tt.do(cancel); err != nil {
								return 0, err
							}
						}
						return r.ReadAt(p, off)
					})
				})
				var err error
				out := &sink{p: make([]byte, len(ti.disk))}
				panicked := func() (v any) {
					defer func() { v = recover() }()
					err = im.Extract(ctx, out, &ExtractOptions{Workers: 8})
					return nil
				}()
				if tt.name == "panic" && panicked != any(broken) || tt.name != "panic" && panicked != nil {
					t.Errorf("panic %v", panicked)
				}
				if tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("error %v", err)
				}
				checkAtRest(t, &im.engine)
				mu.Lock()
				fails = false
				mu.Unlock()
				if err := im.Extract(context.Background(), out, &ExtractOptions{Workers: 8}); err != nil || !bytes.Equal(out.p, ti.disk) {
					t.Errorf("afterwards: %v", err)
				}
				for range 1000 { // those that tell of a cancelled context
					if runtime.NumGoroutine() <= goroutines {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if n := runtime.NumGoroutine(); n > goroutines {
					t.Errorf("%d goroutines, were %d", n, goroutines)
				}
			})
		}
	}
}

// readAtFunc is a source that is a function.
type readAtFunc func(p []byte, off int64) (int, error)

func (f readAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

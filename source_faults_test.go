package dmg

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// errSometimes is what sources fail with in the tests below.
var errSometimes = errors.New("the source fails now and then")

// A fault is a source's way to fail one of its calls.
type fault struct {
	name  string
	cause error // that the read must fail with, if it fails
	read  func(r io.ReaderAt, p []byte, off int64) (int, error)
}

var faults = []fault{
	{"error", errSometimes, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return 0, errSometimes
	}},
	{"short with an error", errSometimes, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p[:len(p)/2], off)
		return n, errSometimes
	}},
	{"one byte with an error", errSometimes, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p[:1], off)
		return n, errSometimes
	}},
	{"short without an error", io.ErrNoProgress, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return r.ReadAt(p[:len(p)/2], off)
	}},
	{"nothing without an error", io.ErrNoProgress, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return 0, nil
	}},
	{"end", io.ErrUnexpectedEOF, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return 0, io.EOF
	}},
	{"short with the end", io.ErrUnexpectedEOF, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p[:len(p)/2], off)
		return n, io.EOF
	}},
	{"all with the end", nil, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, err := r.ReadAt(p, off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}},
	{"all with an error", nil, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p, off)
		return n, errSometimes
	}},
}

// faulty fails its k-th call from now on.
type faulty struct {
	r      io.ReaderAt
	how    fault
	left   atomic.Int64 // calls until then
	failed atomic.Int64 // calls that failed
}

func (f *faulty) ReadAt(p []byte, off int64) (int, error) {
	if f.left.Add(-1) == 0 && len(p) > 1 {
		f.failed.Add(1)
		return f.how.read(f.r, p, off)
	}
	return f.r.ReadAt(p, off)
}

// R8: whichever call of the source fails, in whichever way, the read that made
// it says so or does without; bytes before the error are right; the same read
// then succeeds; and nothing of it stays behind.
func TestSourceFaults(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.LongOrRaced(t)
	mixture := append([]dmgtest.Method{dmgtest.Raw}, allCodecs...)
	step := int64(1)
	if dmgtest.Raced() {
		mixture = mixture[:len(mixture)-1] // an LZMA decoder takes long to make
		step = 11
	}
	for _, w := range []workload{
		{codecs: mixture, chunk: 128, size: 512 << 10, kind: "mixed"},
		{codecs: allCodecs[1:2], size: 2 << 20},
		{codecs: allCodecs[2:3], size: 512 << 10, kind: "mixed"},
	} {
		ti := w.image(t)
		for _, how := range faults {
			t.Run(w.String()+"/"+how.name, func(t *testing.T) {
				goroutines := runtime.NumGoroutine()
				failed := false
				for k := int64(1); ; k += step {
					source := &faulty{how: how}
					im := ti.open(t, 16<<20, func(r io.ReaderAt) io.ReaderAt { source.r = r; return source })
					source.left.Store(k)
					ti.readDespiteFaults(t, im, source)
					checkAtRest(t, &im.engine)
					if t.Failed() {
						t.Fatalf("with call %d failing", k)
					}
					if source.failed.Load() == 0 {
						break // there are no more calls
					}
					failed = true
				}
				if !failed {
					t.Error("no call failed: the test tests nothing")
				}
				if n := runtime.NumGoroutine(); n > goroutines {
					t.Errorf("%d goroutines, were %d", n, goroutines)
				}
			})
		}
	}
}

// readDespiteFaults reads here and there, then everything in order.
func (ti testImage) readDespiteFaults(t *testing.T, im *Image, source *faulty) {
	rng := rand.New(rand.NewPCG(8, 8))
	size := int64(len(ti.disk))
	read := func(off int64, n int) {
		p := make([]byte, n)
		before := source.failed.Load()
		k, err := im.ReadAt(p, off)
		if err == io.EOF && k == n {
			err = nil
		}
		hit := source.failed.Load() > before
		switch {
		case err != nil && !hit:
			t.Errorf("ReadAt(%d, %d) fails long after the source did: %v", n, off, err)
		case err != nil && (source.how.cause == nil || !errors.Is(err, source.how.cause)):
			t.Errorf("ReadAt(%d, %d): %v, want %v", n, off, err, source.how.cause)
		case err == nil && k < n:
			t.Errorf("ReadAt(%d, %d) = %d without an error", n, off, k)
		}
		// No damage of the image: nobody should throw it away.
		if errors.Is(err, ErrFormat) || errors.Is(err, ErrChecksum) {
			t.Errorf("ReadAt(%d, %d): %v blames the image", n, off, err)
		}
		if !bytes.Equal(p[:k], ti.disk[off:off+int64(k)]) {
			t.Errorf("ReadAt(%d, %d): wrong bytes before %v", n, off, err)
		}
		if err != nil {
			ti.mustReadInto(t, im, p, off)
		}
	}
	for range 6 {
		n := 1 + rng.IntN(50_000)
		read(rng.Int64N(size-int64(n)), n)
	}
	for off := int64(0); off < size; off += 100_000 {
		read(off, int(min(100_000, size-off)))
	}
	for range 6 {
		n := 1 + rng.IntN(5000)
		read(rng.Int64N(size-int64(n)), n)
	}
}

// Many readers of a source that keeps failing get errors of its own and right
// bytes, and when it recovers all is as if nothing had been.
func TestSourceFaultsAtOnce(t *testing.T) {
	dmgtest.NotEmulated(t)
	for _, w := range []workload{
		{codecs: append([]dmgtest.Method{dmgtest.Raw}, allCodecs...), chunk: 256, size: 1 << 20, kind: "mixed"},
		{codecs: allCodecs[1:2]},
	} {
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			var broken atomic.Bool
			var calls, failures atomic.Int64
			im := ti.open(t, 10<<20, func(r io.ReaderAt) io.ReaderAt {
				return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
					if k := calls.Add(1); broken.Load() && (k%3 != 0 || failures.Load() == 0) {
						n, _ := r.ReadAt(p[:min(int64(len(p)), k%2*100)], off)
						return n, errSometimes
					}
					return r.ReadAt(p, off)
				})
			})
			broken.Store(true)
			var wg sync.WaitGroup
			for r := range 32 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					rng := rand.New(rand.NewPCG(uint64(r), 6))
					for range fewer(60, 4) {
						p := make([]byte, 1+rng.IntN(20_000))
						off := rng.Int64N(int64(len(ti.disk) - len(p)))
						n, err := im.ReadAt(p, off)
						if err != nil {
							failures.Add(1)
							if !errors.Is(err, errSometimes) {
								t.Errorf("ReadAt: %v", err)
							}
						} else if n < len(p) {
							t.Errorf("ReadAt = %d of %d without an error", n, len(p))
						}
						if !bytes.Equal(p[:n], ti.disk[off:off+int64(n)]) {
							t.Error("wrong bytes")
						}
					}
				}()
			}
			within(t, "reading a failing source", wg.Wait)
			if failures.Load() == 0 {
				t.Error("no read failed: the test tests nothing")
			}
			broken.Store(false)
			ti.wayThrough(t, im, 100_000)
		})
	}
}

// An LZMA chunk's decoder has no checkpoint; its size is read from the source
// first, and that read may fail as any other. A damaged chunk, too, is nobody
// else's trouble: only reads that touch it fail, each time, and keep nothing.
func TestDamagedChunk(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	for _, m := range allCodecs {
		w := workload{codecs: []dmgtest.Method{m}, chunk: 256}
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			probe := ti.open(t, 0, nil)
			bad := probe.chunks[2]
			file := bytes.Clone(ti.file)
			clear(file[bad.DataOffset+bad.DataLength/2:][:bad.DataLength/4])
			damaged := testImage{ti.disk, file}
			im := damaged.open(t, 16<<20, nil)
			for range 3 {
				for i, c := range im.chunks {
					p := make([]byte, c.Length)
					n, err := im.ReadAt(p, c.Offset)
					if i != 2 {
						if err != nil && err != io.EOF || !bytes.Equal(p, ti.disk[c.Offset:c.end()]) {
							t.Fatalf("%v: %v, want its bytes", c, err)
						}
						continue
					}
					var chunk *ChunkError
					if !errors.As(err, &chunk) || chunk.Chunk != c || !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
						t.Fatalf("the damaged %v: %d, %v", c, n, err)
					}
				}
			}
			// Across the border, what is before it is right.
			p := make([]byte, 3000)
			if n, err := im.ReadAt(p, bad.Offset-1000); n < 1000 || !bytes.Equal(p[:1000], ti.disk[bad.Offset-1000:bad.Offset]) {
				t.Errorf("before the damage: %d bytes, %v", n, err)
			}
		})
	}
}

// A source's error at the trailer must not let a wrong checksum pass.
func TestSwallowedChecksum(t *testing.T) {
	ti := workload{codecs: allCodecs[1:2], size: 256 << 10}.image(t)
	c := ti.open(t, 0, nil).chunks[0]
	file := bytes.Clone(ti.file)
	trailer := c.DataOffset + c.DataLength - 4
	file[trailer]++
	failing := false
	im := testImage{ti.disk, file}.open(t, 0, func(r io.ReaderAt) io.ReaderAt {
		return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
			if failing && off <= trailer && off+int64(len(p)) > trailer {
				n, _ := r.ReadAt(p[:trailer-off], off)
				return n, errSometimes
			}
			return r.ReadAt(p, off)
		})
	})
	failing = true
	_, err := im.ReadAt(make([]byte, len(ti.disk)), 0)
	t.Log("while the source fails at the trailer: ", err)
	failing = false
	if _, err = im.ReadAt(make([]byte, len(ti.disk)), 0); !errors.Is(err, ErrChecksum) {
		t.Errorf("afterwards: %v, want ErrChecksum", err)
	}
}

// TestSourcePanics has the source panic once: the panic comes out of the read, and
// later ones are served.
func TestSourcePanics(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	for _, w := range []workload{{codecs: allCodecs[1:2], size: 1 << 20}, {codecs: allCodecs[4:5], size: 1 << 20}} {
		ti := w.image(t)
		left := 0 // calls before the panic
		src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
			if left--; left == 0 {
				panic("boom")
			}
			return bytes.NewReader(ti.file).ReadAt(p, off)
		})
		im := ti.open(t, 3<<20, func(io.ReaderAt) io.ReaderAt { return src })
		for call := 1; call < 20; call++ {
			left = call
			func() {
				defer func() {
					if v := recover(); v != nil && v != "boom" {
						panic(v)
					}
				}()
				im.ReadAt(make([]byte, 1<<20), 0)
			}()
			left = 0
			within(t, "a read after a panic", func() { ti.mustRead(t, im, int64(call)*5000, 4096) })
		}
		checkAtRest(t, &im.engine)
	}
}

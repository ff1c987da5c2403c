package dmg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

var completeTo = regexp.MustCompile(`complete up to byte (\d+):`)

// checkStopped checks an error of Extract, and what was written before it.
func checkStopped(t *testing.T, im *Image, w *recorder, disk []byte, err, cause error) {
	t.Helper()
	if !errors.Is(err, cause) {
		t.Fatalf("%v, want %v", err, cause)
	}
	m := completeTo.FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatalf("%v does not say how far it got", err)
	}
	end, _ := strconv.ParseInt(m[1], 10, 64)
	w.check(t, im, disk, end, false)
}

// mixedImage is an image of all methods with small chunks.
func mixedImage(t *testing.T) (img, disk []byte) {
	disk = testDisk()
	return dmgtest.Image(t, disk, dmgtest.Options{Codecs: testMethods, ChunkSectors: 64, Zeros: dmgtest.ZeroKeep}), disk
}

// TestExtractWriteError fails the k-th write, or makes it short. What the error
// says is written is, and the next Extract works.
func TestExtractWriteError(t *testing.T) {
	dmgtest.NotEmulated(t)
	img, disk := mixedImage(t)
	im := newTestImage(t, bytes.NewReader(img), len(img), 0)
	errWrite := errors.New("no space")
	count := newRecorder(im.Size())
	if err := im.Extract(context.Background(), count, nil); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for k := 1; k <= count.mu.calls; k += 1 + k/failStep() {
		for _, short := range []bool{false, true} {
			w := newRecorder(im.Size())
			cause := errWrite
			if short {
				cause = io.ErrShortWrite
			}
			w.call = func(call int) (bool, error) {
				if call == k && !short {
					return false, errWrite
				}
				return call == k, nil
			}
			workers := 1 + k%5
			err := im.Extract(context.Background(), w, &ExtractOptions{Workers: workers})
			checkStopped(t, im, w, disk, err, cause)

			s := &sequence{recorder: newRecorder(im.Size())}
			s.call = w.call
			n, err := im.WriteTo(s)
			if !errors.Is(err, cause) || n != s.n {
				t.Errorf("write %d: WriteTo = %d, %v; %d bytes came", k, n, err, s.n)
			}
			s.check(t, im, disk, n, false)
		}
	}
	w := newRecorder(im.Size())
	if err := im.Extract(context.Background(), w, nil); err != nil {
		t.Error(err)
	}
	w.check(t, im, disk, im.Size(), false)
	checkIdle(t, im, before)
}

// TestExtractSourceError fails the k-th read of the source. It is no damage, and
// the next Extract works.
func TestExtractSourceError(t *testing.T) {
	dmgtest.NotEmulated(t)
	img, disk := mixedImage(t)
	errSource := errors.New("connection reset")
	calls := int64(0)
	for k := int64(0); k <= calls; k += 1 + k/int64(failStep()) {
		src := &dmgtest.FailAt{R: bytes.NewReader(img), Err: errSource}
		im := newTestImage(t, src, len(img), 0)
		before := runtime.NumGoroutine()
		opened := src.Calls()
		src.Call = opened + k
		w := newRecorder(im.Size())
		err := im.Extract(context.Background(), w, &ExtractOptions{Workers: 1 + int(k%5)})
		if k == 0 {
			if err != nil {
				t.Fatal(err)
			}
			calls = src.Calls() - opened
			continue
		}
		var damaged *ChunkError
		if errors.As(err, &damaged) {
			t.Errorf("read %d: %v is damage", k, err)
		}
		checkStopped(t, im, w, disk, err, errSource)

		for _, work := range []func() error{
			func() error { _, err := im.WriteTo(io.Discard); return err },
			func() error { return im.Verify(context.Background(), nil) },
			func() error { return im.BuildIndex(context.Background(), nil) },
		} {
			// A read that is not needed, or after the work, fails the next.
			src.Call = src.Calls() + k/2 + 1
			if err := work(); err != nil && !errors.Is(err, errSource) || errors.As(err, &damaged) {
				t.Errorf("read %d: %v", k, err)
			}
		}
		src.Call = 0
		w = newRecorder(im.Size())
		if err := im.Extract(context.Background(), w, nil); err != nil {
			t.Error(err)
		}
		w.check(t, im, disk, im.Size(), false)
		checkIdle(t, im, before)
	}
}

// TestExtractDamage has one damaged chunk of each method.
func TestExtractDamage(t *testing.T) {
	dmgtest.NotEmulated(t)
	disk := testDisk()
	for _, m := range testMethods[1:] {
		t.Run(m.String(), func(t *testing.T) {
			l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{m}, ChunkSectors: 128, Zeros: dmgtest.ZeroKeep})
			if err != nil {
				t.Fatal(err)
			}
			c := &l.Tables[0].Chunks[4]
			c.Length /= 2
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			img := l.Bytes()
			im := newTestImage(t, bytes.NewReader(img), len(img), 0)
			before := runtime.NumGoroutine()
			for _, workers := range []int{1, 3} {
				w := newRecorder(im.Size())
				err = im.Extract(context.Background(), w, &ExtractOptions{Workers: workers})
				var damaged *ChunkError
				if !errors.As(err, &damaged) || damaged.Chunk.Offset != int64(c.Sector)*sectorSize {
					t.Errorf("%v does not name the chunk at sector %d", err, c.Sector)
				}
				checkStopped(t, im, w, disk, err, ErrFormat)
			}
			if err := im.BuildIndex(context.Background(), nil); err != nil {
				t.Errorf("BuildIndex: %v", err)
			}
			checkIdle(t, im, before)
		})
	}
}

// TestExtractCancel cancels Extract when it has written something. It ends soon.
func TestExtractCancel(t *testing.T) {
	dmgtest.NotEmulated(t)
	withCores(t)
	mixed, disk := mixedImage(t)
	large, stream := aheadBlocks(t)
	for _, tt := range []struct {
		name      string
		img, disk []byte
		at        int // write that cancels
	}{
		{"small chunks", mixed, disk, 5},
		{"blocks ahead", bzip2ChunkImage(t, large, stream), large, 1},
		{"one zlib chunk", dmgtest.Image(t, large, dmgtest.Options{}), large, 1},
		{"zeros", dmgtest.Image(t, make([]byte, 16<<20), dmgtest.Options{}), make([]byte, 16<<20), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := newTestImage(t, bytes.NewReader(tt.img), len(tt.img), 0)
			before := runtime.NumGoroutine()
			best := time.Hour
			for range 5 {
				ctx, cancel := context.WithCancel(context.Background())
				w := newRecorder(im.Size())
				var cancelled time.Time
				w.call = func(k int) (bool, error) {
					if k == tt.at {
						cancelled = time.Now()
						cancel()
					}
					return false, nil
				}
				err := im.Extract(ctx, w, nil)
				best = min(best, time.Since(cancelled))
				checkStopped(t, im, w, tt.disk, err, context.Canceled)
			}
			limit := 100 * time.Millisecond
			if dmgtest.Part() {
				limit *= 10
			}
			if best > limit {
				t.Errorf("Extract ends %v after it was cancelled", best)
			}
			checkIdle(t, im, before)
		})
	}
}

//go:build linux

package main

import (
	"context"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/go-dmg/dmg"
)

// extract writes to nowhere in no order, as to a file, or in order if w is not a counter.
func extract(im *dmg.Image, w io.Writer) error {
	n, timed := w.(*counter)
	if !timed {
		return im.Extract(context.Background(), &inOrder{w: w}, &dmg.ExtractOptions{Ordered: true})
	}
	if err := im.Extract(context.Background(), nowhere{}, nil); err != nil {
		return err
	}
	*n += counter(im.Size())
	return nil
}

// nowhere takes everything.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }

// inOrder writes what comes in order.
type inOrder struct{ w io.Writer }

func (o *inOrder) WriteAt(p []byte, off int64) (int, error) { return o.w.Write(p) }

// verify writes nothing but when asked for what is to be compared.
func verify(im *dmg.Image, w io.Writer) error {
	if err := im.Verify(context.Background(), nil); err != nil {
		return err
	}
	if _, timed := w.(*counter); timed {
		return nil
	}
	return writeTo(im, w)
}

// cachedBytes is how much of the disk the reads of cached data are in.
const cachedBytes = 8 << 20

// cached measures reads of cached data by as many goroutines as there are cores.
func (o options) cached(file string) (result, error) {
	return o.readTogether(file, func(im *dmg.Image) (int64, error) {
		size := min(im.Size(), cachedBytes)
		_, err := io.Copy(new(counter), io.NewSectionReader(im, 0, size))
		return size, err
	})
}

// resumed measures reads anywhere on the disk, after one way through it, by as many
// goroutines as there are cores.
func (o options) resumed(file string) (result, error) {
	return o.readTogether(file, func(im *dmg.Image) (int64, error) {
		return im.Size(), writeTo(im, new(counter))
	})
}

// readTogether measures reads in the first bytes of the disk, whose number prepare returns.
// The time is that which passes for each read of any goroutine.
func (o options) readTogether(file string, prepare func(*dmg.Image) (int64, error)) (result, error) {
	im, err := dmg.Open(file, &dmg.Options{MemoryLimit: o.limit})
	if err != nil {
		return result{}, err
	}
	defer im.Close()
	size, err := prepare(im)
	if err != nil {
		return result{}, err
	}
	warm := series(1)
	if err := o.compare(im, &warm); err != nil {
		return result{}, err
	}
	workers := runtime.GOMAXPROCS(0)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	start, processor := time.Now(), processorTime()
	for k := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s := series(100 + k)
			buf := make([]byte, readSize)
			for range o.reads {
				if _, err := im.ReadAt(buf, s.offset(size)); err != nil && err != io.EOF {
					errs[k] = err
					return
				}
			}
		}()
	}
	wg.Wait()
	n := float64(workers * o.reads)
	r := result{Bytes: int64(n) * readSize, Seconds: time.Since(start).Seconds() / n, Processor: (processorTime() - processor).Seconds() / n}
	for _, err := range errs {
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

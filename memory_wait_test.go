package dmg

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// largeDictionary returns an .xz stream of text whose header asks for a dictionary of
// 4 GiB: the memory of its decoder is then the length of its chunk.
func largeDictionary(t *testing.T, text []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16, NoCheckSum: true}.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(text)
	w.Close()
	data := z.Bytes()
	head := data[12 : 12+(int(data[12])+1)*4] // of the block
	i := bytes.Index(head, []byte{0x21, 1})
	head[i+2] = 40
	sum := crc32.ChecksumIEEE(head[:len(head)-4])
	head[len(head)-4], head[len(head)-3], head[len(head)-2], head[len(head)-1] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	return data
}

// greedyImage makes an image of text in bzip2 chunks and, behind them, LZMA chunks
// whose decoders take about the given numbers of MiB. Each chunk begins with text. It
// returns the offsets of both kinds.
func greedyImage(t *testing.T, text []byte, small int, large ...int) (file []byte, smallAt, largeAt []int64) {
	t.Helper()
	data := largeDictionary(t, text)
	bz, err := dmgtest.Compress(dmgtest.Bzip2, 9, text)
	if err != nil {
		t.Fatal(err)
	}
	var chunks []dmgtest.Chunk
	at := uint64(0)
	for range small {
		n := uint64(len(text) / 512)
		chunks = append(chunks, dmgtest.Chunk{Method: dmgtest.Bzip2, Sector: at, Sectors: n, Offset: uint64(len(data)), Length: uint64(len(bz))})
		smallAt = append(smallAt, int64(at)*512)
		at += n
	}
	for _, mib := range large {
		n := uint64(mib<<20) / 512
		chunks = append(chunks, dmgtest.Chunk{Method: dmgtest.LZMA, Sector: at, Sectors: n, Length: uint64(len(data))})
		largeAt = append(largeAt, int64(at)*512)
		at += n
	}
	l := &dmgtest.Layout{Data: append(data, bz...), Koly: dmgtest.NewKoly()}
	l.Tables = []dmgtest.Table{dmgtest.NewTable("all", 0, int64(at), chunks...)}
	l.Koly.Sectors = at
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return l.Bytes(), smallAt, largeAt
}

// A reader that needs much memory is served beside others that need little and never
// pause, and so is whole-disk work.
func TestLargeDecoderIsServed(t *testing.T) {
	text := dmgtest.Text(1, 64<<10).Bytes()
	file, small, large := greedyImage(t, text, 40, 48)
	im, err := NewImage(bytes.NewReader(file), int64(len(file)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var reads atomic.Int64
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			p := make([]byte, 4096)
			for ctx.Err() == nil {
				if n, err := im.ReadAt(p, small[rng.IntN(len(small))]); err != nil || !bytes.Equal(p, text[:4096]) {
					t.Error(n, err)
					return
				}
				reads.Add(1)
			}
		}()
	}
	for range 5 {
		before := reads.Load()
		start := time.Now()
		within(t, "a read with a large decoder", func() {
			p := make([]byte, 4096)
			if n, err := im.ReadAt(p, large[0]); err != nil || !bytes.Equal(p, text[:4096]) {
				t.Error(n, err)
			}
		})
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("served after %v", took)
		}
		im.engine.mu.Lock()
		im.engine.mu.cache.DropPages(len(small), 48<<20)
		im.engine.mu.Unlock()
		for reads.Load() < before+200 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	cancel()
	wg.Wait()
	checkAtRest(t, &im.engine)
}

// Beside a WriteTo that its receiver keeps waiting, a read waits for memory, if its
// decoder would fit alone, and does not fail.
func TestReadBesideWriteTo(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, procs := range []int{2, 16} {
		runtime.GOMAXPROCS(procs)
		readBesideWriteTo(t)
	}
}

func readBesideWriteTo(t *testing.T) {
	t.Helper()
	text := dmgtest.Text(1, 64<<10).Bytes()
	file, _, large := greedyImage(t, text, 40, 55)
	im, err := NewImage(bytes.NewReader(file), int64(len(file)), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := im.WriteTo(w)
		w.CloseWithError(err)
		done <- err
	}()
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // all of WriteTo's buffers are full
	read := make(chan error, 1)
	go func() {
		p := make([]byte, 4096)
		_, err := im.ReadAt(p, large[0])
		if err == nil && !bytes.Equal(p, text[:4096]) {
			err = errors.New("wrong bytes")
		}
		read <- err
	}()
	time.Sleep(50 * time.Millisecond)
	io.Copy(io.Discard, r)
	if err := <-done; !errors.Is(err, ErrFormat) { // the large chunk's stream is short
		t.Errorf("WriteTo: %v", err)
	}
	if err := <-read; err != nil {
		t.Errorf("ReadAt: %v", err)
	}
	checkAtRest(t, &im.engine)
}

// Workers leave if their buffers take the room of a decoder that would fit beside fewer:
// whether a chunk can be decoded does not depend on how many there are. The source takes
// long, so that all of them have started when the first knows what it needs.
func TestWorkersMakeRoom(t *testing.T) {
	dmgtest.LongOrRaced(t)
	text := dmgtest.Text(1, 64<<10).Bytes()
	for _, small := range []int{0, 40} {
		file, _, large := greedyImage(t, text, small, 56, 2, 56)
		for _, workers := range []int{2, 1, 16}[:fewer(3, 1)] {
			im, err := NewImage(dmgtest.Slow{R: bytes.NewReader(file), Delay: 2 * time.Millisecond}, int64(len(file)), nil)
			if err != nil {
				t.Fatal(err)
			}
			within(t, "Extract and Verify", func() {
				out := &sink{p: make([]byte, im.Size())}
				damaged := 0
				o := &ExtractOptions{Workers: workers, Damaged: func(d Damage) error { damaged++; return nil }}
				if err := im.Extract(context.Background(), out, o); err != nil || damaged == 0 {
					t.Errorf("%d small chunks, %d workers: Extract: %v", small, workers, err)
				}
				for _, at := range large {
					if !bytes.Equal(out.p[at:][:len(text)], text) {
						t.Errorf("%d small chunks, %d workers: wrong bytes at %d", small, workers, at)
					}
				}
				if err := im.Verify(context.Background(), &VerifyOptions{Workers: workers}); !errors.Is(err, ErrFormat) || errors.Is(err, ErrMemoryLimit) {
					t.Errorf("%d small chunks, %d workers: Verify: %v", small, workers, err)
				}
			})
			checkAtRest(t, &im.engine)
		}
	}
}

// What decoders had is let go when they are dropped, whatever they were used in.
func TestHeapAtRest(t *testing.T) {
	dmgtest.Long(t)
	if dmgtest.Raced() {
		t.Skip("the race detector allocates")
	}
	text := dmgtest.Text(1, 64<<10).Bytes()
	var sizes []int
	for i := range 64 {
		sizes = append(sizes, 2+i*54/64)
	}
	file, small, large := greedyImage(t, text, 64, sizes...)
	offs := append(small, large...)
	im, err := NewImage(dmgtest.Slow{R: bytes.NewReader(file), Delay: time.Millisecond}, int64(len(file)), nil)
	if err != nil {
		t.Fatal(err)
	}
	before := heapInUse()
	var wg sync.WaitGroup
	for g := range 128 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			p := make([]byte, 4096)
			for range fewer(10, 3) {
				if n, err := im.ReadAt(p, offs[rng.IntN(len(offs))]); err != nil || !bytes.Equal(p, text[:4096]) {
					t.Error(n, err)
				}
			}
		}()
	}
	wg.Wait()
	if more := heapInUse() - before; more > DefaultMemoryLimit+8<<20 {
		t.Errorf("%d MiB are in use at rest", more>>20)
	}
	checkAtRest(t, &im.engine)
	runtime.KeepAlive(im)
}

// The first in the queue hears of it when the run that it waits for comes to wait for
// memory, too. Otherwise both would wait for ever.
func TestRunJoinsQueue(t *testing.T) {
	const limit, buffers = 1 << 20, 64 << 10
	e := new(engine)
	e.init(bytes.NewReader(nil), chunkMap{}, limit)
	a := &e.mu.account
	a.Take(budget.Buffers, buffers)
	a.Take(budget.Decoders, limit/2) // a decoder of the run's, at work
	want := func(need, held int64) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		err := e.acquire(context.Background(), need, held, func() bool { return a.Take(budget.Decoders, need) })
		if err == nil {
			a.Release(budget.Decoders, need)
		}
		return err
	}
	// looked waits until the first has looked so often for what came free.
	looked := func(n int) {
		for {
			e.mu.Lock()
			ok := len(e.mu.queue) > 0 && e.mu.queue[0].woke >= n
			e.mu.Unlock()
			if ok {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	var run, reader error
	done := make(chan struct{})
	go func() {
		reader = want(limit-buffers/2, 0)
		close(done)
	}()
	within(t, "the reader", func() { looked(0) })
	e.mu.Lock()
	a.Release(budget.Decoders, limit/2)
	e.wakeLocked()
	e.mu.Unlock()
	within(t, "the reader", func() { looked(1) })
	within(t, "the run", func() { run = want(limit/2, buffers) })
	e.mu.Lock()
	a.Release(budget.Buffers, buffers) // the run ends
	e.wakeLocked()
	e.mu.Unlock()
	within(t, "the reader", func() { <-done })
	if run != nil || reader != nil {
		t.Error(run, reader)
	}
}

// A read whose decoder would fit alone waits for runs that wait themselves, and does
// not fail.
func TestReadBesideRuns(t *testing.T) {
	dmgtest.LongOrRaced(t)
	text := dmgtest.Text(1, 64<<10).Bytes()
	file, small, large := greedyImage(t, text, 20, 11, 11, 11)
	im, err := NewImage(bytes.NewReader(file), int64(len(file)), &Options{MemoryLimit: 14 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range fewer(20, 4) {
				err := im.Extract(ctx, discardAt{}, &ExtractOptions{Workers: 1 + g, Damaged: func(Damage) error { return nil }})
				if err != nil && !errors.Is(err, ErrMemoryLimit) && ctx.Err() == nil {
					t.Error("Extract:", err)
				}
			}
		}()
	}
	for g := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 4096)
			for i := range fewer(40, 4) {
				off := large[g]
				if i%2 == 0 {
					off = small[(g+i)%len(small)]
				}
				if n, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, text[:4096]) {
					t.Errorf("ReadAt = %d, %v", n, err)
				}
			}
		}()
	}
	within(t, "reads beside runs", wg.Wait)
	checkAtRest(t, &im.engine)
}

type discardAt struct{}

func (discardAt) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

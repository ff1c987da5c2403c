package deflate

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// outcome is what decoding a stream comes to.
type outcome struct {
	p       []byte
	err     error
	sum     uint32
	offs    []int64 // of checkpoints
	records [][]byte
	taken   int // bytes that were decoded ahead
}

// alone decodes a stream as a single decoder does.
func alone(raw []byte, spacing int64) (o outcome) {
	d := new(Decoder)
	d.Reset(bytes.NewReader(raw))
	c := checkpointer{spacing: spacing}
	for o.sum = 1; ; {
		c.at(d, &o)
		b, err := d.Decode(c.max(d.Out()))
		if o.err = err; err != nil {
			break
		}
		o.p, o.sum = append(o.p, b...), Adler32(o.sum, b)
	}
	if o.err == io.EOF {
		c.finish(d, &o)
	}
	return o
}

// checkpointer makes checkpoints of a decoder.
type checkpointer struct {
	spacing int64
	record  []byte // pending; nil
	window  []byte // nil if record is complete
	off     int64
}

func (c *checkpointer) max(out int64) int {
	return int(min(MaxDecode, out/c.spacing*c.spacing+c.spacing-out))
}

func (c *checkpointer) at(d *Decoder, o *outcome) {
	if d.Out() == 0 || d.Out()%c.spacing != 0 || d.Out() == c.off {
		return
	}
	c.finish(d, o)
	var state Checkpoint
	d.Checkpoint(&state)
	c.record, _ = state.AppendBinary(nil)
	c.window, c.off = bytes.Clone(d.Window()), d.Out()
	d.Track()
}

func (c *checkpointer) finish(d *Decoder, o *outcome) {
	if c.record == nil {
		return
	}
	if c.window != nil {
		var refs Refs
		d.Refs(&refs)
		c.record = AppendPackedWindow(c.record, c.window, &refs)
	}
	o.offs, o.records = append(o.offs, c.off), append(o.records, c.record)
	c.record = nil
}

// A memorySource is a source in memory, which cuts reads at multiples of a number.
type memorySource struct {
	io.ReaderAt
	unit int64
}

func (s *memorySource) Align(off int64) int64 { return off - off%s.unit }

// ahead decodes a stream with r.
func ahead(r *ParallelReader, raw []byte, span Span) (o outcome) {
	d := new(Decoder)
	c := checkpointer{spacing: span.Spacing()}
	open := func(in int64) io.Reader { return bytes.NewReader(raw[min(in/8, int64(len(raw))):]) }
	d.Reset(open(0))
	started := false
	defer func() {
		if started {
			r.Stop()
		}
	}()
	o.sum = 1
	for {
		c.at(d, &o)
		d.StopBetweenBlocks()
		var s *Segment
		if !started && d.BetweenBlocks() && d.Out() >= WindowSize {
			r.Start(span, d, raw[:min(len(raw), 300_000)], 0)
			started = true
		}
		if started && d.BetweenBlocks() && !r.GaveUp() {
			s = r.Take(d)
		}
		if s != nil && c.record != nil && c.window != nil {
			for d.Out() < c.off+WindowSize {
				if _, err := d.Decode(int(c.off + WindowSize - d.Out())); err != nil {
					state, window := s.Before(0)
					d.Place(&state, window)
					d.Continue(open(state.In))
					s = nil
					break
				}
			}
			if s != nil {
				var refs Refs
				d.Refs(&refs)
				c.record, c.window = AppendPackedWindow(c.record, c.window, &refs), nil
			}
		}
		var last *Segment
		for s != nil {
			last = s
			for at := 0; at < s.Len(); {
				n := min(c.max(s.Out()+int64(at)), s.Len()-at)
				b := s.Bytes(at, at+n)
				o.p = append(o.p, b...)
				o.sum = s.Sum(o.sum, at, at+n)
				o.taken += n
				at += n
				if off := s.Out() + int64(at); off%c.spacing == 0 {
					c.finish(nil, &o)
					record, _, ok := s.Record(off)
					if !ok {
						panic("no record")
					}
					c.record, c.window, c.off = bytes.Clone(record), nil, off
				}
			}
			s = r.Next(s)
		}
		if last != nil {
			state, window := last.Before(last.Len())
			if err := d.Place(&state, window); err != nil {
				panic(err)
			}
			if err := d.Continue(open(state.In)); err != nil {
				panic(err)
			}
			for to := last.Out() + int64(last.Len()); d.Out() < to; {
				if _, err := d.Decode(int(min(MaxDecode, to-d.Out()))); err != nil {
					panic(err)
				}
			}
			continue
		}
		b, err := d.Decode(c.max(d.Out()))
		if o.err = err; err != nil {
			break
		}
		o.p, o.sum = append(o.p, b...), Adler32(o.sum, b)
	}
	if o.err == io.EOF {
		c.finish(d, &o)
	}
	return o
}

// same reports what differs between two outcomes.
func same(t testing.TB, got, want *outcome) {
	t.Helper()
	switch {
	case !bytes.Equal(got.p, want.p):
		n := 0
		for n < min(len(got.p), len(want.p)) && got.p[n] == want.p[n] {
			n++
		}
		t.Fatalf("%d bytes, want %d; they differ from %d on", len(got.p), len(want.p), n)
	case (got.err == nil) != (want.err == nil) || got.err != nil && got.err.Error() != want.err.Error():
		t.Fatalf("error %v, want %v", got.err, want.err)
	case got.sum != want.sum:
		t.Fatalf("Adler-32 is %08x, want %08x", got.sum, want.sum)
	case len(got.records) != len(want.records):
		t.Fatalf("%d checkpoints, want %d", len(got.records), len(want.records))
	}
	for i := range want.records {
		if got.offs[i] != want.offs[i] || !bytes.Equal(got.records[i], want.records[i]) {
			t.Fatalf("checkpoint %d at %d differs (%d bytes, want %d), want one at %d", i, got.offs[i], len(got.records[i]), len(want.records[i]), want.offs[i])
		}
	}
}

func spanOf(raw []byte, ratio float64, spacing int64) Span {
	return Span{
		End: int64(len(raw)), Last: int64(len(raw)), Length: 1 << 60, Ratio: ratio,
		Spacing: func() int64 { return spacing },
	}
}

func TestParallel(t *testing.T) {
	dmgtest.LongOrRaced(t)
	taken := 0
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			for _, spacing := range []int64{WindowSize, 1 << 18} {
				want := alone(s.raw, spacing)
				for _, segment := range []int64{96 << 10, 192 << 10, 512 << 10} {
					r := NewParallelReader(&memorySource{bytes.NewReader(s.raw), 512}, 4, segment)
					got := ahead(r, s.raw, spanOf(s.raw, float64(len(s.want))/float64(len(s.raw)), spacing))
					same(t, &got, &want)
					taken += got.taken
					t.Logf("spacing %d, segments of %d: %d of %d ahead, used %d, failed %d", spacing, segment, got.taken, len(got.p), r.mu.used, r.mu.failed)
				}
			}
		})
	}
	if taken == 0 {
		t.Error("nothing was decoded ahead")
	}
}

// crafted returns a stream of blocks of all kinds, with what looks like blocks among the
// stored ones, and matches that reach as far back as they can.
func crafted(r *rand.Rand) *bitWriter {
	w := &bitWriter{}
	type block struct{ from, to int }
	var old []block // dynamic ones, in bits
	size := 48<<10 + r.IntN(200<<10)
	long := r.IntN(8) == 0 // blocks
	for len(w.out) < size {
		n := 1 + r.IntN(1<<(4+r.IntN(12)))
		if long {
			n = 40 << 10
		}
		from := len(w.buf)*8 + int(w.n)
		switch kind := r.IntN(16); {
		case kind < 9:
			lit, dst := flat()
			if r.IntN(4) == 0 {
				lit, dst = deep(r)
			}
			w.dynamic(0, lit, dst)
			far := r.IntN(2) == 0
			if far && len(w.out) >= WindowSize {
				w.match(3+r.IntN(256), WindowSize)
			}
			w.tokens(r, n)
			if far && len(w.out) >= WindowSize {
				w.match(3+r.IntN(256), WindowSize-r.IntN(3))
			}
			w.end()
			old = append(old, block{from / 8, len(w.buf)})
		case kind < 11:
			w.fixed(0)
			w.tokens(r, r.IntN(n))
			w.end()
		case kind < 12: // empty blocks
			for range 1 + r.IntN(50) {
				if r.IntN(2) == 0 {
					w.stored(0, nil)
					continue
				}
				w.fixed(0)
				w.end()
			}
		case kind < 14 && len(old) > 0: // with a block of this stream in it
			b := old[r.IntN(len(old))]
			b.to = min(b.to, b.from+60_000)
			w.stored(0, w.buf[b.from:b.to])
		default:
			p := make([]byte, min(n, 65535))
			for i := range p {
				p[i] = byte(r.Uint32()) * byte(r.IntN(2))
			}
			for i := 0; i+5 < len(p); i += 1 + r.IntN(2000) { // more stored blocks
				k := uint16(r.IntN(300))
				copy(p[i:], []byte{0, byte(k), byte(k >> 8), ^byte(k), ^byte(k >> 8)})
			}
			w.stored(0, p)
		}
	}
	if r.IntN(2) == 0 {
		w.stored(1, []byte("end"))
	} else {
		w.fixed(1)
		w.tokens(r, r.IntN(100))
		w.end()
	}
	w.align()
	return w
}

// TestParallelCrafted decodes streams that were made to mislead, whole, cut and damaged.
func TestParallelCrafted(t *testing.T) {
	src := &memorySource{unit: 1}
	var readers []*ParallelReader
	for _, n := range []int64{96 << 10, 160 << 10, 512 << 10} {
		readers = append(readers, NewParallelReader(src, 4, n))
	}
	tried, ahead4 := dmgtest.Times(10_000, 3000, 250), 0
	goroutines := runtime.NumGoroutine()
	for seed := range tried {
		r := newRand(uint64(seed))
		var raw []byte
		ratio := float64(1 + r.IntN(8))
		switch r.IntN(4) {
		case 0:
			raw = goFlate(t, mixed(64<<10+r.IntN(300<<10)), 1+r.IntN(9))
		default:
			raw = crafted(r).buf
		}
		switch r.IntN(4) {
		case 0:
			raw = raw[:r.IntN(len(raw))]
		case 1:
			for range 1 + r.IntN(3) {
				raw[r.IntN(len(raw))] ^= 1 << r.IntN(8)
			}
		}
		spacing := int64(WindowSize) << r.IntN(4)
		want := alone(raw, spacing)
		src.ReaderAt, src.unit = bytes.NewReader(raw), 1+int64(r.IntN(4096))
		reader := readers[seed%len(readers)]
		span := spanOf(raw, ratio, spacing)
		if r.IntN(4) == 0 {
			span.Last = int64(r.IntN(len(raw) + 1))
		}
		got := ahead(reader, raw, span)
		same(t, &got, &want)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if got.taken > 0 {
			ahead4++
		}
	}
	t.Logf("of %d streams, some of %d was decoded ahead", tried, ahead4)
	if ahead4 < tried/4 {
		t.Errorf("of %d streams, some of %d was decoded ahead", tried, ahead4)
	}
	atMost(t, goroutines)
}

// atMost waits until there are so many goroutines: the last deferred call of one comes before
// its end.
func atMost(t *testing.T, goroutines int) {
	t.Helper()
	for range 1000 {
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d goroutines, were %d", runtime.NumGoroutine(), goroutines)
}

// hooked is a source that calls a function before each read.
type hooked struct {
	io.ReaderAt
	before func(off int64) error
}

func (h *hooked) ReadAt(p []byte, off int64) (int, error) {
	if err := h.before(off); err != nil {
		return 0, err
	}
	return h.ReaderAt.ReadAt(p, off)
}

// TestParallelSource has the source fail, and panic, at places of a stream. What it fails
// with is no matter to what is decoded: the decoder comes upon it in its place.
func TestParallelSource(t *testing.T) {
	raw := goFlate(t, mixed(1<<20), 6)
	want := alone(raw, 1<<18)
	broken := errors.New("broken")
	for _, at := range []int64{0, 100_000, 200_000, int64(len(raw)) - 1} {
		h := &hooked{bytes.NewReader(raw), func(off int64) error {
			if off >= at {
				return broken
			}
			return nil
		}}
		r := NewParallelReader(&memorySource{h, 1}, 4, 160<<10)
		got := ahead(r, raw, spanOf(raw, 2, 1<<18))
		same(t, &got, &want)

		h.before = func(off int64) error {
			if off >= at {
				panic(broken)
			}
			return nil
		}
		goroutines := runtime.NumGoroutine()
		func() {
			defer func() {
				if v := recover(); v != nil && v != any(broken) {
					t.Errorf("at %d: panic with %v", at, v)
				} else if v == nil && at < 300_000 && at > 0 {
					t.Errorf("at %d: no panic", at)
				}
			}()
			got := ahead(r, raw, spanOf(raw, 2, 1<<18))
			same(t, &got, &want)
		}()
		atMost(t, goroutines)
		h.before = func(int64) error { return nil }
		got = ahead(r, raw, spanOf(raw, 2, 1<<18))
		same(t, &got, &want)
	}
}

// TestParallelStop stops a reader at any time.
func TestParallelStop(t *testing.T) {
	raw := goFlate(t, mixed(2<<20), 6)
	var reads atomic.Int64
	h := &hooked{bytes.NewReader(raw), func(int64) error { reads.Add(1); return nil }}
	r := NewParallelReader(&memorySource{h, 1}, 4, 160<<10)
	goroutines := runtime.NumGoroutine()
	for i := range 100 {
		d := new(Decoder)
		d.Reset(bytes.NewReader(raw))
		d.StopBetweenBlocks()
		for d.Out() < WindowSize || !d.BetweenBlocks() {
			if _, err := d.Decode(0); err != nil {
				t.Fatal(err)
			}
		}
		r.Start(spanOf(raw, 2, 1<<18), d, nil, 0)
		for k, s := 0, r.Take(d); s != nil && k < i%8; k++ {
			s = r.Next(s)
		}
		time.Sleep(time.Duration(i%16) * 50 * time.Microsecond)
		r.Stop()
		atMost(t, goroutines)
	}
}

// TestParallelHopeless has a stream in which nothing can be found. Where one worker ends
// another may begin all the same.
func TestParallelHopeless(t *testing.T) {
	w := &bitWriter{}
	r := newRand(3)
	for len(w.out) < 4<<20 {
		w.fixed(0)
		w.tokens(r, 30_000)
		w.end()
	}
	w.fixed(1)
	w.end()
	w.align()
	var read atomic.Int64
	h := &hooked{bytes.NewReader(w.buf), func(int64) error { read.Add(1); return nil }}
	p := NewParallelReader(&memorySource{h, 1}, 4, 256<<10)
	got := ahead(p, w.buf, spanOf(w.buf, 2, 1<<18))
	want := alone(w.buf, 1<<18)
	same(t, &got, &want)
	t.Logf("gave up: %v; %d used, %d failed", p.GaveUp(), p.mu.used, p.mu.failed)
}

func TestParallelMemory(t *testing.T) {
	raw := goFlate(t, mixed(8<<20), 6)
	const workers, segment = 8, 512 << 10
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := NewParallelReader(&memorySource{bytes.NewReader(raw), 1}, workers, segment)
	for _, spacing := range []int64{WindowSize, 1 << 20} {
		d := new(Decoder)
		d.Reset(bytes.NewReader(raw))
		d.StopBetweenBlocks()
		for d.Out() < WindowSize || !d.BetweenBlocks() {
			d.Decode(0)
		}
		r.Start(spanOf(raw, 1, spacing), d, nil, 0)
		for s := r.Take(d); s != nil; {
			time.Sleep(time.Millisecond)
			s = r.Next(s)
		}
		r.Stop()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	have, want := int64(after.HeapAlloc)-int64(before.HeapAlloc), ParallelMemory(workers, segment)
	t.Logf("%d bytes are held, %d counted", have, want)
	if have > want+256<<10 {
		t.Errorf("%d bytes are held, %d counted", have, want)
	}
	runtime.KeepAlive(r)
}

func TestAdlerCombine(t *testing.T) {
	r := newRand(8)
	p := make([]byte, 300_000)
	for i := range p {
		p[i] = byte(r.Uint32()) | byte(i>>10)
	}
	for range 1000 {
		a := r.IntN(len(p) + 1)
		b := a + r.IntN(len(p)-a+1)
		got := adlerCombine(Adler32(1, p[:a]), Adler32(1, p[a:b]), int64(b-a))
		if want := Adler32(1, p[:b]); got != want {
			t.Fatalf("%d and %d bytes: %08x, want %08x", a, b-a, got, want)
		}
	}
}

// FuzzParallel compares a ParallelReader with a single decoder, on data behind a block that
// is right.
func FuzzParallel(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, uint8(0))
	}
	for seed := range 8 {
		f.Add(crafted(newRand(uint64(seed))).buf[:20_000], uint8(seed))
	}
	text := english(newRand(1), 40_000)
	src := &memorySource{unit: 1}
	r := NewParallelReader(src, 4, 96<<10)
	f.Fuzz(func(t *testing.T, p []byte, how uint8) {
		if len(p) > 64<<10 {
			return
		}
		w := &bitWriter{}
		w.stored(0, text)
		w.buf = append(w.buf, p...)
		spacing := int64(WindowSize) << (how & 3)
		want := alone(w.buf, spacing)
		src.ReaderAt = bytes.NewReader(w.buf)
		got := ahead(r, w.buf, spanOf(w.buf, float64(how>>2&7), spacing))
		same(t, &got, &want)
	})
}

func BenchmarkParallel(b *testing.B) {
	for _, s := range benchData(b) {
		raw := s.raw[ZlibHeaderLen:]
		for _, dense := range []bool{false, true} {
			name, spacing := "far", int64(1<<20)
			if dense {
				name, spacing = "near", 64<<10
			}
			b.Run(s.name+"/"+name, func(b *testing.B) {
				r := NewParallelReader(&memorySource{bytes.NewReader(raw), 1}, 4, 1<<20)
				b.SetBytes(int64(len(s.want)))
				for b.Loop() {
					ahead(r, raw, spanOf(raw, float64(len(s.want))/float64(len(raw)), spacing))
				}
			})
		}
	}
}

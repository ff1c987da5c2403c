package deflate

import (
	"bytes"
	"io"
	"testing"
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

func spanOf(raw []byte, ratio, spacing int64) Span {
	return Span{
		End: int64(len(raw)), Last: int64(len(raw)), Length: 1 << 60, Ratio: ratio,
		Spacing: func() int64 { return spacing },
	}
}

func TestParallel(t *testing.T) {
	taken := 0
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			for _, spacing := range []int64{WindowSize, 1 << 18} {
				want := alone(s.raw, spacing)
				for _, segment := range []int64{96 << 10, 192 << 10, 512 << 10} {
					r := NewParallelReader(&memorySource{bytes.NewReader(s.raw), 512}, 4, segment)
					got := ahead(r, s.raw, spanOf(s.raw, int64(len(s.want)/len(s.raw)), spacing))
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

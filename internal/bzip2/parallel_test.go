package bzip2

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// parallelSource is data in a source, with other bytes around it.
type parallelSource struct {
	data   []byte
	unit   int64
	reads  atomic.Int64 // that did not end where a unit does, nor at the span's end
	tails  atomic.Int64
	failAt int64 // from where on reads fail; 0 for none
}

const sourceOff = 1000 // of the data

var errReset = errors.New("connection reset")

func (s *parallelSource) ReadAt(p []byte, off int64) (int, error) {
	if s.failAt > 0 && off+int64(len(p)) > sourceOff+s.failAt {
		return 0, errReset
	}
	if end := off + int64(len(p)); end%s.unit != 0 && end != sourceOff+int64(len(s.data)) {
		s.reads.Add(1)
	}
	if n := copy(p, s.data[off-sourceOff:]); n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return len(p), nil
}

func (s *parallelSource) source() ParallelSource {
	return ParallelSource{
		ReaderAt: s,
		Align:    func(off int64) int64 { return off - off%s.unit },
		Tail: func() func(off, end int64) io.Reader {
			return func(off, end int64) io.Reader {
				s.tails.Add(1)
				return io.NewSectionReader(s, off, end-off)
			}
		},
	}
}

// parallelPoints returns the places of a stream's blocks, in order.
func parallelPoints(t *testing.T, stream []byte) (points []Point) {
	t.Helper()
	var s Stream
	var b Block
	s.Reset(bytes.NewReader(stream))
	for {
		err := s.Next(&b)
		if err == io.EOF {
			return points
		}
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, b.Point())
	}
}

// whole is the span of all of the data.
func (s *parallelSource) whole() Span {
	n := int64(len(s.data))
	return Span{Off: sourceOff, Length: n, Last: n, End: n}
}

// TestParallel has all blocks of a stream decoded by any number of workers, whatever has
// been fetched before, and compares what they decode to with the data.
func TestParallel(t *testing.T) {
	disk := dmgtest.Join(dmgtest.Text(1, 600<<10), dmgtest.Zeros(200<<10), dmgtest.Random(2, 450<<10)).Bytes()
	stream, err := dmgtest.Compress(dmgtest.Bzip2, 1, disk)
	if err != nil {
		t.Fatal(err)
	}
	points := parallelPoints(t, stream)
	for _, tt := range []struct {
		workers, fetched, from int // from is a block
		unit                   int64
	}{
		{workers: 1, unit: 1}, {workers: 2, unit: 512}, {workers: 3, fetched: 1, unit: 4096},
		{workers: 2, fetched: 300_000, unit: 16 << 10}, {workers: 2, fetched: len(stream), unit: 1},
		{workers: 2, from: 2, fetched: 1000, unit: 512},
	} {
		src := &parallelSource{data: stream, unit: tt.unit}
		r := NewParallelReader(src.source(), tt.workers)
		if r.Workers() != tt.workers {
			t.Errorf("%d workers, want %d", r.Workers(), tt.workers)
		}
		for again := range 2 { // it can be started again
			span := src.whole()
			span.From = points[tt.from].In / 8
			r.Start(span, stream[span.From:][:min(tt.fetched, len(stream)-int(span.From))])
			text, p := new(Text), make([]byte, 1<<16)
			var got []byte
			taken := 0
			at := points[tt.from]
			for range points[tt.from:] {
				next := r.Take(at, text)
				if next == nil {
					break
				}
				text = next
				taken++
				for c, err := text.Start(), error(nil); err == nil; {
					var n int
					n, err = text.Read(&c, p)
					got = append(got, p[:n]...)
				}
				at, _ = at.AfterText(text)
			}
			if r.Take(at, text) != nil || r.GaveUp() {
				t.Error("a block is found behind the last one, or there were false starts")
			}
			r.Stop()
			if want := points[tt.from:]; taken != len(want) || !bytes.HasSuffix(disk, got) || tt.from == 0 && len(got) != len(disk) {
				t.Errorf("%+v, time %d: %d blocks of %d, %d bytes of %d", tt, again, taken, len(want), len(got), len(disk))
			}
		}
		if tt.unit > 1 {
			if n := src.reads.Load(); n > 4 {
				t.Errorf("unit of %d: %d reads don't end at one", tt.unit, n)
			}
		}
	}
}

// TestParallelStops has Stop wait for no more than the blocks in work, whatever was taken.
func TestParallelStops(t *testing.T) {
	stream, err := dmgtest.Compress(dmgtest.Bzip2, 1, dmgtest.Text(1, 1<<20).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	points := parallelPoints(t, stream)
	src := &parallelSource{data: stream, unit: 1}
	r := NewParallelReader(src.source(), 2)
	for n := range 5 {
		r.Start(src.whole(), nil)
		for i := range n {
			// Of level 1: each is decoded as one of level 9, and is the same.
			if r.Take(points[i], new(Text)) == nil {
				t.Fatalf("block %d of %d is not there", i, len(points))
			}
		}
		r.Stop()
		if tails := src.tails.Swap(0); tails > int64(n+6) {
			t.Errorf("%d blocks were begun of which %d were taken", tails, n)
		}
	}
}

// TestParallelRange has no block decoded behind Last, nor one that the caller is past.
func TestParallelRange(t *testing.T) {
	stream, err := dmgtest.Compress(dmgtest.Bzip2, 1, dmgtest.Text(1, 2<<20).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	points := parallelPoints(t, stream)
	src := &parallelSource{data: stream, unit: 1}
	r := NewParallelReader(src.source(), 2)
	span := src.whole()
	span.Last = points[3].In / 8
	span.End = span.Last
	r.Start(span, nil)
	text := new(Text)
	for i, p := range points {
		next := r.Take(p, text)
		if (next != nil) != (i < 3) {
			t.Errorf("block %d: %v", i, next != nil)
		}
		if next != nil {
			text = next
		}
	}
	r.Stop()

	r.Start(src.whole(), nil)
	if r.Take(points[4], text) == nil {
		t.Error("a block behind others is not found")
	}
	if r.Take(points[1], new(Text)) != nil {
		t.Error("a block is found behind which another was taken")
	}
	if r.GaveUp() {
		t.Error("four false starts are too many")
	}
	r.Stop()
}

// TestParallelGivesUp has genuine blocks taken for false starts, as those are that the
// caller finds to lie inside another block.
func TestParallelGivesUp(t *testing.T) {
	stream, err := dmgtest.Compress(dmgtest.Bzip2, 1, dmgtest.Text(1, 2<<20).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	points := parallelPoints(t, stream)
	src := &parallelSource{data: stream, unit: 1}
	r := NewParallelReader(src.source(), 2)
	for _, tt := range []struct {
		skip   int
		gaveUp bool
	}{{maxFalseStarts - 1, false}, {maxFalseStarts, true}} {
		r.Start(src.whole(), nil)
		if got := r.Take(points[tt.skip], new(Text)); (got == nil) != tt.gaveUp || r.GaveUp() != tt.gaveUp {
			t.Errorf("%d false starts: the next block is there: %v, gave up: %v", tt.skip, got != nil, r.GaveUp())
		}
		r.Stop()
	}
}

// TestParallelFaults has a source that fails end the search, and a damaged block not be
// taken: the caller comes upon the fault itself.
func TestParallelFaults(t *testing.T) {
	stream, err := dmgtest.Compress(dmgtest.Bzip2, 1, dmgtest.Random(1, 350<<10).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	points := parallelPoints(t, stream)
	damaged := bytes.Clone(stream)
	copy(damaged[points[1].In/8+10:], "\xFF\xFF\xFF\xFF\xFF") // its origin is no byte of it
	for _, tt := range []struct {
		name string
		src  *parallelSource
	}{
		{"damage", &parallelSource{data: damaged, unit: 1}},
		{"source", &parallelSource{data: stream, unit: 1, failAt: points[2].In/8 - 1000}},
	} {
		r := NewParallelReader(tt.src.source(), 2)
		r.Start(tt.src.whole(), tt.src.data[:points[1].In/8+1000])
		if r.Take(points[0], new(Text)) == nil {
			t.Errorf("%s: the block before it is not there", tt.name)
		}
		if r.Take(points[1], new(Text)) != nil {
			t.Errorf("%s: the damaged block is there", tt.name)
		}
		r.Stop()
	}
}

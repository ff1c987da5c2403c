package dmg

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/pagecache"
)

// newTestCheckpoints returns checkpoints of their own, with a cache to take
// memory from.
func newTestCheckpoints(limit int64) (*checkpoints, *budget.Budget) {
	a := &budget.Budget{Limit: limit}
	c := new(pagecache.Cache)
	c.Init(a)
	s := new(checkpoints)
	s.init(a, c, 0, 0)
	return s, a
}

// lastRecord appends the record of the last checkpoint at or before off to dst, if
// there is one.
func lastRecord(s *checkpoints, dst []byte, chunk int, off int64) []byte {
	if i := s.find(chunk, off); i >= 0 {
		return s.at(dst, s.chunks[chunk][i])
	}
	return dst
}

// testRecord is n bytes that are no other checkpoint's.
func testRecord(chunk int, off int64, n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(chunk), uint64(off)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// checkCheckpoints tests what must hold between any two calls: the order, the
// account, and that every checkpoint's record is the one that was added last.
func checkCheckpoints(t *testing.T, s *checkpoints, last map[[2]int64][]byte) {
	t.Helper()
	memory := int64(len(s.pages)) * pageSize
	var buf []byte
	for chunk, points := range s.chunks {
		if len(points) == 0 {
			t.Fatalf("chunk %d is kept without a checkpoint", chunk)
		}
		memory += chunkOverhead + int64(len(points))*checkpointOverhead
		for i, p := range points {
			if i > 0 && points[i-1].off >= p.off {
				t.Fatalf("chunk %d: checkpoint at %d after one at %d", chunk, p.off, points[i-1].off)
			}
			if m := s.moving; p.log < 0 || p.log >= s.size && p.log < m.at || p.log >= max(s.size, m.end) {
				t.Fatalf("chunk %d: record at %d of a log of %d bytes, and %+v", chunk, p.log, s.size, m)
			}
			buf = s.at(buf[:0], p)
			if want := last[[2]int64{int64(chunk), p.off}]; !bytes.Equal(buf, want) {
				t.Fatalf("chunk %d: the checkpoint at %d has another record of %d bytes, want %d", chunk, p.off, len(buf), len(want))
			}
			if got := lastRecord(s, nil, chunk, p.off+s.spacing/4); s.before(chunk, p.off+s.spacing/4).off == p.off && !bytes.Equal(got, buf) {
				t.Fatalf("chunk %d: record finds another than nearest", chunk)
			}
		}
	}
	if m := s.moving; m.end > 0 && (s.size > m.at || m.at >= m.end) {
		t.Fatalf("a log of %d bytes, and %+v", s.size, m)
	}
	if max(s.size, s.moving.end) > int64(len(s.pages))*pageSize {
		t.Fatalf("a log of %d bytes in %d pages", s.size, len(s.pages))
	}
	if got := s.account.Used[budget.Checkpoints]; got != memory {
		t.Fatalf("%d bytes are accounted for, %d are there", got, memory)
	}
	if s.account.Total() > s.account.Limit {
		t.Fatalf("%d bytes of %d", s.account.Total(), s.account.Limit)
	}
}

// memoryOf is what the records and their checkpoints take, without what is
// unused of the last page.
func memoryOf(s *checkpoints) int64 {
	return s.account.Used[budget.Checkpoints] - int64(len(s.pages))*pageSize + s.size
}

// Before there are checkpoints, and between them, the questions have answers.
func TestCheckpointPlaces(t *testing.T) {
	s, _ := newTestCheckpoints(1 << 20)
	for _, off := range []int64{3, 1, 7} { // in no order, as readers come
		s.add(5, checkpoint{off: off * minSpacing, in: off * 1000}, testRecord(5, off, 100))
	}
	for _, tt := range []struct {
		chunk   int
		off     int64
		nearest int64
		has     bool
		input   int64 // of the first checkpoint from off on
	}{
		{5, 0, 0, false, 1000},
		{5, minSpacing - 1, 0, false, 1000},
		{5, minSpacing, minSpacing, true, 1000},
		{5, minSpacing + 1, minSpacing, false, 3000},
		{5, 3 * minSpacing, 3 * minSpacing, true, 3000},
		{5, 7*minSpacing - 1, 3 * minSpacing, false, 7000},
		{5, 7 * minSpacing, 7 * minSpacing, true, 7000},
		{5, 7*minSpacing + 1, 7 * minSpacing, false, 0},
		{5, 1 << 60, 7 * minSpacing, false, 0},
		{4, 3 * minSpacing, 0, false, 0},
		{6, 3 * minSpacing, 0, false, 0},
	} {
		if got := s.before(tt.chunk, tt.off).off; got != tt.nearest {
			t.Errorf("chunk %d: nearest to %d is %d, want %d", tt.chunk, tt.off, got, tt.nearest)
		}
		if got := s.has(tt.chunk, tt.off); got != tt.has {
			t.Errorf("chunk %d: has %d is %v", tt.chunk, tt.off, got)
		}
		if got, _ := s.after(tt.chunk, tt.off); got.in != tt.input {
			t.Errorf("chunk %d: input for %d is %d, want %d", tt.chunk, tt.off, got.in, tt.input)
		}
		var want []byte
		if tt.nearest > 0 {
			want = append([]byte("kept"), testRecord(5, tt.nearest/minSpacing, 100)...)
		} else {
			want = []byte("kept")
		}
		if got := lastRecord(s, []byte("kept"), tt.chunk, tt.off); !bytes.Equal(got, want) {
			t.Errorf("chunk %d: another record for %d", tt.chunk, tt.off)
		}
	}
}

// One checkpoint a span is kept, the first that comes.
func TestCheckpointWanted(t *testing.T) {
	s, _ := newTestCheckpoints(1 << 20)
	s.add(0, checkpoint{off: 2*minSpacing + 100}, []byte("x"))
	for _, tt := range []struct {
		off    int64
		wanted bool
	}{
		{0, true}, // a chunk's start may have one, for what is in its first block
		{1, false},
		{minSpacing - 1, false},
		{minSpacing, true},
		{2*minSpacing + 100, false},
		{2*minSpacing + 101, false},
		{3*minSpacing - 1, false},
		{3 * minSpacing, true},
	} {
		if got := s.wanted(0, tt.off); got != tt.wanted {
			t.Errorf("wanted at %d: %v", tt.off, got)
		}
		before := len(s.chunks[0])
		s.add(0, checkpoint{off: tt.off}, []byte("y"))
		if added := len(s.chunks[0]) > before; added != tt.wanted {
			t.Errorf("added at %d: %v", tt.off, added)
		}
		s, _ = newTestCheckpoints(1 << 20)
		s.add(0, checkpoint{off: 2*minSpacing + 100}, []byte("x"))
	}
}

// A record may be replaced by a longer one, as when more of a block's cursors
// are known. The old one is dead weight until the log is moved together.
func TestCheckpointReplace(t *testing.T) {
	s, _ := newTestCheckpoints(1 << 20)
	last := make(map[[2]int64][]byte)
	for n := range 40 {
		for _, off := range []int64{0, minSpacing, 5 * minSpacing} {
			r := testRecord(n, off, 20+n*15)
			s.add(1, checkpoint{off: off, in: off / 3}, r)
			last[[2]int64{1, off}] = r
		}
		checkCheckpoints(t, s, last)
	}
	if n := len(s.chunks[1]); n != 3 {
		t.Errorf("%d checkpoints, want 3", n)
	}
	size := s.size
	s.compact()
	checkCheckpoints(t, s, last)
	if s.size >= size/10 {
		t.Errorf("a log of %d bytes is %d after its dead were dropped", size, s.size)
	}
}

// The spacing adapts: however many checkpoints come, they keep to their share,
// lie apart by the spacing, evenly, and each still has its own record.
func TestCheckpointThinning(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limit  int64
		chunks int
		points int64 // of each chunk, a spacing apart
		record int   // bytes
	}{
		{"one chunk, windows", 4 << 20, 1, 2000, 17 << 10},
		{"one chunk, small records", 1 << 20, 1, 20_000, 100},
		{"one chunk, records of pages", 8 << 20, 1, 300, 3*pageSize + 17},
		{"many chunks", 2 << 20, 500, 15, 2000},
		{"one a chunk", 1 << 20, 5000, 2, 400},
		{"least records", 1 << 20, 300, 100, 20}, // less than what is beside the log
		{"least", 100 << 10, 1, 500, 5000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, a := newTestCheckpoints(tt.limit)
			last := make(map[[2]int64][]byte)
			for chunk := range tt.chunks {
				for n := int64(1); n < tt.points; n++ {
					off := n * minSpacing
					if !s.wanted(chunk, off) {
						continue
					}
					r := testRecord(chunk, off, tt.record)
					last[[2]int64{int64(chunk), off}] = r
					s.add(chunk, checkpoint{off: off, in: off / 2}, r)
					if a.Used[budget.Checkpoints] > checkpointShare(a)+chunkOverhead+checkpointOverhead {
						t.Fatalf("checkpoints take %d, their share is %d", a.Used[budget.Checkpoints], checkpointShare(a))
					}
				}
			}
			checkCheckpoints(t, s, last)
			if s.spacing == minSpacing && len(s.chunks) == tt.chunks {
				t.Fatal("nothing was shed: the test tests nothing")
			}
			if len(s.chunks) == 0 {
				t.Fatal("no checkpoint is left")
			}
			for chunk, points := range s.chunks {
				for i, p := range points {
					if p.off != int64(i+1)*s.spacing {
						t.Fatalf("chunk %d: checkpoint %d is at %d, the spacing is %d", chunk, i, p.off, s.spacing)
					}
				}
			}
			// Less than a quarter in use would say that they were thinned too soon.
			if used := memoryOf(s); tt.chunks == 1 && used < checkpointShare(a)/4 {
				t.Errorf("checkpoints take %d bytes of a share of %d", used, checkpointShare(a))
			}
		})
	}
}

// Readers in many places add in no order; the log stays right through every
// thinning.
func TestCheckpointRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	s, _ := newTestCheckpoints(1 << 20)
	last := make(map[[2]int64][]byte)
	for i := range 5000 {
		chunk, off := rng.IntN(20), rng.Int64N(100)*minSpacing
		if rng.IntN(3) == 0 {
			off += rng.Int64N(minSpacing)
		}
		r := testRecord(chunk+i, off, rng.IntN(5000))
		s.add(chunk, checkpoint{off: off, in: off}, r)
		// A record may have been refused, then the old one is as good.
		if got := lastRecord(s, nil, chunk, off); s.has(chunk, off) && bytes.Equal(got, r) {
			last[[2]int64{int64(chunk), off}] = r
		}
		if i%10 == 0 {
			checkCheckpoints(t, s, last)
		}
	}
	if s.spacing == minSpacing {
		t.Error("nothing was thinned")
	}
}

// A log of many megabytes is moved together bit by bit: no call but those that need its
// memory at once looks at more than some steps of it. Meanwhile every record is found, more are
// added, and a chunk's are dropped.
func TestCheckpointMoving(t *testing.T) {
	const chunks = 4
	rng := rand.New(rand.NewPCG(4, 4))
	s, _ := newTestCheckpoints(16 << 20)
	last := make(map[[2]int64][]byte)
	n, moves, between := int64(0), 0, 0
	for i := range 12_000 {
		before := s.moving
		chunk := rng.IntN(chunks)
		switch {
		case i%1999 == 1998:
			s.dropChunk(chunk)
		case i%3001 == 3000:
			s.halve()
			if s.moving.end > 0 {
				t.Fatal("memory was needed, and the log is not moved together yet")
			}
			s.trim()
		default:
			n++
			off := n/chunks*minSpacing + minSpacing
			if rng.IntN(4) == 0 {
				off = (1 + rng.Int64N(n/chunks+1)) * minSpacing
			}
			r := testRecord(chunk+i, off, 500+rng.IntN(3500))
			s.add(chunk, checkpoint{off: off, in: off}, r)
			if got := lastRecord(s, nil, chunk, off); s.has(chunk, off) && bytes.Equal(got, r) {
				last[[2]int64{int64(chunk), off}] = r
			}
			looked := s.moving.at - before.at
			if s.moving.end == 0 {
				looked = before.end - before.at
			} else if before.end == 0 {
				moves++
				looked = s.moving.at
			}
			if looked > 4*moveStep {
				t.Fatalf("%d bytes of the log were looked at for one record", looked)
			}
		}
		if s.moving.end > 0 {
			between++
		}
		if i%300 == 0 {
			checkCheckpoints(t, s, last)
		}
	}
	checkCheckpoints(t, s, last)
	if moves < 3 || between < 20*moves {
		t.Errorf("the log was moved %d times, in %d steps", moves, between)
	}
}

// Where there is no memory a checkpoint is not kept, and none of the others
// suffers for it.
func TestCheckpointNoMemory(t *testing.T) {
	s, a := newTestCheckpoints(1 << 20)
	if !a.Take(budget.Decoders, a.Limit-2*pageSize-1000) {
		t.Fatal("no memory for the decoders")
	}
	last := make(map[[2]int64][]byte)
	for n := int64(1); n < 300; n++ {
		r := testRecord(0, n*minSpacing, 3000)
		last[[2]int64{0, n * minSpacing}] = r
		s.add(0, checkpoint{off: n * minSpacing}, r)
		checkCheckpoints(t, s, last)
	}
	if len(s.chunks[0]) < 5 {
		t.Errorf("%d checkpoints in two pages", len(s.chunks[0]))
	}
	// A record that will never fit is no reason to drop what there is.
	n := len(s.chunks[0])
	huge := make([]byte, a.Limit)
	s.add(0, checkpoint{off: 300 * s.spacing}, huge)
	if len(s.chunks[0]) != n {
		t.Errorf("%d checkpoints of %d are left after one that is too large", len(s.chunks[0]), n)
	}
	checkCheckpoints(t, s, last)
}

// Headers hold what they are given, at any place in the pages.
func TestCheckpointLog(t *testing.T) {
	s, _ := newTestCheckpoints(1 << 20)
	// 50 headers and records of odd lengths cross every page's end somewhere.
	for n := 1; n < 50; n++ {
		s.add(math.MaxInt32-n, checkpoint{off: int64(n) * minSpacing}, testRecord(n, 0, 1361*n%9000))
	}
	at := int64(0)
	for n := 1; n < 50; n++ {
		chunk, off, length := s.header(at)
		if chunk != math.MaxInt32-n || off != int64(n)*minSpacing || length != 1361*n%9000 {
			t.Fatalf("header %d says chunk %d, byte %d, %d bytes", n, chunk, off, length)
		}
		if got := s.read(nil, at+recordHeader, length); !bytes.Equal(got, testRecord(n, 0, length)) {
			t.Fatalf("record %d is another", n)
		}
		at += recordHeader + int64(length)
	}
	if at != s.size || binary.Size([2]uint64{}) != recordHeader {
		t.Errorf("records end at %d, the log at %d", at, s.size)
	}
}

// Where the checkpoints of all zlib chunks fit into their share the spacing is
// fine from the start.
func TestFirstSpacing(t *testing.T) {
	for _, tt := range []struct{ limit, bytes, spacing int64 }{
		{64 << 20, 0, minSpacing},
		{64 << 20, 288 << 20, minSpacing},
		{64 << 20, 289 << 20, usualSpacing},
		{32 << 20, 256 << 20, usualSpacing},
		{64 << 20, math.MaxInt64, usualSpacing},
		{math.MaxInt64, math.MaxInt64, minSpacing},
	} {
		var s checkpoints
		s.init(&budget.Budget{Limit: tt.limit}, nil, tt.bytes, 0)
		if s.spacing != tt.spacing {
			t.Errorf("%d bytes under a limit of %d: %d apart, want %d", tt.bytes, tt.limit, s.spacing, tt.spacing)
		}
	}
}

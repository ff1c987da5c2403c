package dmg

import (
	"bytes"
	"context"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// The CRC-32s of pieces, added in any order, are that of the whole.
func TestRunningSum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 3))
	data := dmgtest.Mixed(1, 1<<20).Bytes()
	for range 100 {
		whole := data[:rnd.IntN(len(data))]
		s := runningSum{length: int64(len(whole))}
		type piece struct {
			at int64
			b  []byte
		}
		var pieces []piece
		for rest := whole; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 1<<rnd.IntN(18)))
			pieces = append(pieces, piece{s.claim(int64(n)), rest[:n]})
			rest = rest[n:]
		}
		rnd.Shuffle(len(pieces), func(i, k int) { pieces[i], pieces[k] = pieces[k], pieces[i] })
		for _, p := range pieces {
			s.add(crc32.ChecksumIEEE(p.b), p.at, int64(len(p.b)))
		}
		if got, want := s.sum.Load(), crc32.ChecksumIEEE(whole); got != want {
			t.Fatalf("%d bytes in %d pieces: %08x, want %08x", len(whole), len(pieces), got, want)
		}
	}
}

// checkSourceSum sums data[from:to] in pieces, which may overlap and go beyond, and what
// is left at last.
func checkSourceSum(t *testing.T, data []byte, from, to int64, pieces []span) {
	t.Helper()
	s := newSourceSum(from, to-from)
	covered := make([]bool, len(data))
	var group sync.WaitGroup
	for i := range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for k := i; k < len(pieces); k += 4 {
				p := pieces[k]
				s.add(data[p.from:p.to], p.from)
			}
		}()
	}
	group.Wait()
	for _, p := range pieces {
		for i := max(p.from, from); i < min(p.to, to); i++ {
			covered[i] = true
		}
	}
	left, last := int64(0), from-1
	for _, p := range s.rest() {
		if p.from <= last || p.from >= p.to || p.to > to {
			t.Fatalf("%v is left behind %d", p, last)
		}
		if len(pieces) < maxClaimed && slices.Contains(covered[p.from:p.to], true) {
			t.Fatalf("%v is left, some of which was added", p)
		}
		last = p.to
		left += p.to - p.from
	}
	if got := s.n.Load() + left; got != to-from {
		t.Fatalf("%d bytes were summed and %d are left, of %d", s.n.Load(), left, to-from)
	}
	for _, p := range s.rest() {
		s.add(data[p.from:p.to], p.from)
	}
	if len(pieces) < maxClaimed && len(s.rest()) > 0 {
		t.Fatalf("%v are left at last", s.rest())
	}
	if got, want := s.sum.sum.Load(), crc32.ChecksumIEEE(data[from:to]); got != want {
		t.Fatalf("%d pieces: %08x, want %08x", len(pieces), got, want)
	}
}

// Whatever is fetched, in any order and again and again, is summed once.
func TestSourceSum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 3))
	data := dmgtest.Mixed(2, 64<<10).Bytes()
	size := int64(len(data))
	for range 300 {
		from := rnd.Int64N(size + 1)
		to := from + rnd.Int64N(size+1-from)
		longest := int64(1) << rnd.IntN(17)
		var pieces []span
		for range rnd.IntN(100) {
			at := rnd.Int64N(size)
			pieces = append(pieces, span{at, at + rnd.Int64N(min(longest, size-at)+1)})
		}
		checkSourceSum(t, data, from, to, pieces)
	}
	same := slices.Repeat([]span{{1000, 50_000}}, 100_000) // as the chunks of a hostile image
	s := newSourceSum(0, size)
	for _, p := range same {
		s.add(data[p.from:p.to], p.from)
	}
	if got := s.n.Load(); got != 49_000 {
		t.Errorf("%d bytes were summed, want 49000", got)
	}
}

// More ranges than are kept are left to the end.
func TestSourceSumScattered(t *testing.T) {
	data := dmgtest.Mixed(3, 64<<10).Bytes()
	var pieces []span
	for at := int64(0); at < int64(len(data)); at += 8 {
		pieces = append(pieces, span{at, at + 4})
	}
	rand.New(rand.NewPCG(3, 3)).Shuffle(len(pieces), func(i, k int) { pieces[i], pieces[k] = pieces[k], pieces[i] })
	s := newSourceSum(0, int64(len(data)))
	for _, p := range pieces {
		s.add(data[p.from:p.to], p.from)
	}
	if n := len(s.mu.claimed); n != maxClaimed {
		t.Errorf("%d ranges are kept, want %d", n, maxClaimed)
	}
	for range 2 { // each one that is read joins others
		for _, p := range s.rest() {
			s.add(data[p.from:p.to], p.from)
		}
	}
	if got, want := s.sum.sum.Load(), crc32.ChecksumIEEE(data); got != want || len(s.rest()) > 0 {
		t.Errorf("%08x, want %08x; %d ranges are left", got, want, len(s.rest()))
	}
}

func FuzzSourceSum(f *testing.F) {
	f.Add([]byte{0, 255, 10, 20, 30, 10, 5, 40})
	f.Add([]byte{3, 200, 0, 255, 0, 255})
	data := dmgtest.Mixed(4, 512).Bytes()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 2 {
			return
		}
		from := int64(b[0])
		to := from + int64(b[1])
		var pieces []span
		for b = b[2:]; len(b) > 1; b = b[2:] {
			pieces = append(pieces, span{int64(b[0]), int64(b[0]) + int64(b[1])})
		}
		checkSourceSum(t, data, from, to, pieces)
	})
}

// Verify reads the data fork once: in no more calls than it takes to decode, and one for
// each range that no chunk has. It finds a wrong bit in any byte.
func TestVerifyReadsOnce(t *testing.T) {
	dmgtest.Long(t)
	withCores(t)
	for _, tt := range haulTests() {
		t.Run(tt.name, func(t *testing.T) {
			l, err := dmgtest.Build(tt.disk, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			for at := len(l.Data); at >= 0; at -= len(l.Data)/5 + 1 {
				if at < len(l.Data) {
					l.Data[at] ^= 1
				}
				file := l.Bytes()
				src := &dmgtest.Counter{R: bytes.NewReader(file)}
				im, err := NewImage(src, int64(len(file)), nil)
				if err != nil {
					t.Fatal(err)
				}
				src.Reset()
				wrong := true // the data fork
				im.Verify(context.Background(), &VerifyOptions{Result: func(r VerifyResult) {
					if r.Checksum != nil && r.Checksum.Part == "data fork" {
						wrong = r.Err != nil
					}
				}})
				if wrong != (at < len(l.Data)) {
					t.Errorf("with byte %d of %d bent the data fork is wrong: %v", at, len(l.Data), wrong)
				}
				if at < len(l.Data) {
					l.Data[at] ^= 1
				} else if src.Calls() > tt.calls+1 || src.Bytes() > int64(len(file))*106/100 {
					t.Errorf("%d calls for %d bytes of %d, want %d calls", src.Calls(), src.Bytes(), len(file), tt.calls+1)
				}
			}
		})
	}
}

// TestVerifyMixedSums has tables of which some have a CRC-32 and others another hash, and
// bends each.
func TestVerifyMixedSums(t *testing.T) {
	dmgtest.Long(t)
	withCores(t)
	disk := dmgtest.Join(dmgtest.Text(1, 300<<10), dmgtest.Zeros(300<<10), dmgtest.Mixed(2, 400<<10)).Bytes()
	options := func(kind dmgtest.SumType) dmgtest.Options {
		return dmgtest.Options{
			ChunkSectors: 64,
			Partitions:   []dmgtest.Partition{{First: 900, Sectors: 700}, {First: 3, Sectors: 500}, {First: 1700}, {First: 600, Sectors: 200}},
			TableSum:     kind,
		}
	}
	build := func(kind dmgtest.SumType) *dmgtest.Layout {
		l, err := dmgtest.Build(disk, options(kind))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	crc := build(dmgtest.CRC32)
	for _, mask := range []int{0b0101, 0b1000, 0b1110}[:fewer(3, 1)] {
		for bent := -1; bent < 4; bent++ {
			l := build(dmgtest.SHA256)
			for i := range l.Tables {
				if mask>>i&1 != 0 {
					l.Tables[i].Checksum = crc.Tables[i].Checksum
				}
				if i == bent {
					l.Tables[i].Checksum.Data[1] ^= 1
				}
			}
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			file := l.Bytes()
			im, err := NewImage(bytes.NewReader(file), int64(len(file)), nil)
			if err != nil {
				t.Fatal(err)
			}
			var wrong []string
			im.Verify(context.Background(), &VerifyOptions{Result: func(r VerifyResult) {
				if r.Err != nil {
					wrong = append(wrong, r.Checksum.Algorithm)
				}
			}})
			want := []string{"SHA-256"}
			if bent >= 0 && mask>>bent&1 != 0 {
				want = []string{"CRC-32"}
			}
			if bent < 0 {
				want = nil
			}
			if !slices.Equal(wrong, want) {
				t.Errorf("CRC-32s %04b, table %d bent: %v are wrong, want %v", mask, bent, wrong, want)
			}
			checkAtRest(t, &im.engine)
		}
	}
}

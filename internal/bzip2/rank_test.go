package bzip2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// spanTest is a block twice, once with ranks, and what to expect of its spans.
type spanTest struct {
	whole   Block
	x       Text
	ranked  Block
	y       Text
	cursors []Cursor
	out     []byte
	buf     [1009]byte
}

// set decodes the block at bit p.In of z, and reads it with a cursor every so
// many bytes of output. Of a larger block than limit it returns io.ErrShortBuffer.
func (s *spanTest) set(z []byte, p Point, every, limit int) error {
	var stream Stream
	for _, decode := range []func() error{
		func() error { return stream.Next(&s.whole) },
		func() error { return stream.NextRanked(&s.ranked) },
	} {
		stream.Resume(bytes.NewReader(z[p.In>>3:]), p)
		if err := decode(); err != nil {
			return err
		}
	}
	s.whole.Unwind(&s.x)
	s.cursors, s.out = s.cursors[:0], s.out[:0]
	p1 := make([]byte, every)
	for c, err := s.x.Start(), error(nil); err == nil; {
		s.cursors = append(s.cursors, c)
		var n int
		n, err = s.x.Read(&c, p1)
		s.out = append(s.out, p1[:n]...)
		if len(s.out) > limit {
			return io.ErrShortBuffer
		}
	}
	return nil
}

// check unwinds the span between some cursors and reads it. What it reads has to
// be the block's, from the first cursor to the last one, less what that skips.
func (s *spanTest) check(cursors ...Cursor) error {
	first, last := cursors[0], cursors[len(cursors)-1]
	if err := s.ranked.UnwindSpan(&s.y, cursors); err != nil {
		if _, err := s.y.Read(&first, s.buf[:1]); err == nil {
			return errors.New("there is text after an error")
		}
		return err
	}
	c := first
	for k := 1; ; k = k*3%len(s.buf) + 1 {
		at := int(c.Out)
		n, err := s.y.Read(&c, s.buf[:k])
		if !bytes.HasPrefix(s.out[at:], s.buf[:n]) || at+n != int(c.Out) {
			return fmt.Errorf("%d other bytes at %d", n, at)
		}
		// The cursor is good for the links too, where the span has no more.
		d := c
		if m, _ := s.whole.Read(&d, s.buf[:100]); !bytes.HasPrefix(s.out[c.Out:], s.buf[:m]) || m < min(100, len(s.out)-int(c.Out)) {
			return fmt.Errorf("behind a span, at %d: %d other bytes", c.Out, m)
		}
		if err == nil {
			if n < k {
				return fmt.Errorf("%d of %d bytes at %d", n, k, at)
			}
			continue
		}
		if err != io.EOF && int(c.Pos) < s.ranked.Len() || c.Pos != last.at() {
			return fmt.Errorf("%v at %d of text, the span ends at %d", err, c.Pos, last.at())
		}
		return nil
	}
}

// checkAll checks each span between neighbours, and longer ones. Of damaged text
// the end leads to no cursor, perhaps.
func (s *spanTest) checkAll(rng *rand.Rand, damaged bool) error {
	end := s.ranked.EndCursor()
	all := append(s.cursors[:len(s.cursors):len(s.cursors)], end)
	for i := range s.cursors {
		j := i + 1
		if rng.IntN(4) == 0 {
			j += rng.IntN(min(len(all)-j, 12))
		}
		some := append([]Cursor(nil), all[i])
		for _, c := range all[i+1 : j] {
			if rng.IntN(4) > 0 {
				some = append(some, c)
			}
		}
		some = append(some, all[j])
		err := s.check(some...)
		if damaged && int(all[j].Pos) == s.ranked.Len() && err == ErrCursor {
			continue
		}
		if all[j].at() <= all[i].Pos {
			// Nothing is between them but what the last one skips.
			if err != ErrCursor {
				return fmt.Errorf("from cursor %d to %d: %v, want %v", i, j, err, ErrCursor)
			}
		} else if err != nil {
			return fmt.Errorf("from cursor %d to %d of %d: %w", i, j, len(s.cursors), err)
		}
	}
	return nil
}

// Spans are what the block has there, in blocks of all kinds.
func TestSpans(t *testing.T) {
	size := 1_000_000
	if dmgtest.Part() {
		size = 120_000
	}
	rng := rand.New(rand.NewPCG(31, 1))
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	runs := bytes.Repeat(append(bytes.Repeat([]byte{1}, 255+4), append(bytes.Repeat([]byte{2}, 600), "aaaabbbb"...)...), size/867)
	for _, data := range []struct {
		name string
		p    []byte
	}{
		{"words", words(size, 1)},
		{"mixed", mixed(size, 1)},
		{"noise", noise},
		{"runs", runs},
		{"fours", bytes.Repeat([]byte("aaaabbbbcccc"), size/12)},
		{"zeros", make([]byte, 5*size)},
		{"period", bytes.Repeat([]byte("abcdefg\x00\x00\x00\x00\x00\x00\x00"), size/14)},
		{"byte", []byte{7}},
		{"four", []byte("aaaa")},
		{"short", []byte("banana")},
		{"some", words(1500, 2)},
	} {
		for _, level := range []int{1, 9} {
			t.Run(fmt.Sprint(data.name, level), func(t *testing.T) {
				z := compress(t, data.p, level)
				var s spanTest
				off := 0
				for p := (Point{In: 32, Level: level}); off < len(data.p); {
					if err := s.set(z, p, []int{8192, 1000, 33_333}[rng.IntN(3)], 1<<30); err != nil {
						t.Fatal(err)
					}
					if !bytes.HasPrefix(data.p[off:], s.out) || !s.ranked.Ranked() || s.whole.Ranked() {
						t.Fatalf("block at bit %d: %d other bytes", p.In, len(s.out))
					}
					if err := s.checkAll(rng, false); err != nil {
						t.Fatalf("block at bit %d: %v", p.In, err)
					}
					off += len(s.out)
					p, _ = p.After(&s.whole)
				}
			})
		}
	}
}

// A span lies between two cursors of the block, or there is none.
func TestSpanCursors(t *testing.T) {
	z := compress(t, words(90_000, 5), 1)
	var s spanTest
	if err := s.set(z, Point{In: 32, Level: 1}, 8192, 1<<30); err != nil {
		t.Fatal(err)
	}
	c := s.cursors
	bend := func(c Cursor, by func(*Cursor)) Cursor {
		by(&c)
		return c
	}
	row := func(c *Cursor) { c.Row ^= 1 }
	pos := func(c *Cursor) { c.Pos++ }
	far := func(c *Cursor) { c.Row = uint32(s.ranked.Len()) }
	for _, tt := range []struct {
		name    string
		cursors []Cursor
		err     error
	}{
		{"neighbours", c[2:4], nil},
		{"several", c[2:7], nil},
		{"some", []Cursor{c[0], c[1], c[9]}, nil},
		{"to the end", []Cursor{c[8], s.ranked.EndCursor()}, nil},
		{"none", nil, ErrCursor},
		{"one", c[1:2], ErrCursor},
		{"the same", []Cursor{c[1], c[1]}, ErrCursor},
		{"back", []Cursor{c[2], c[1]}, ErrCursor},
		{"back between", []Cursor{c[1], c[3], c[2], c[4]}, ErrCursor},
		{"from another row", []Cursor{bend(c[1], row), c[2]}, ErrCursor},
		{"to another row", []Cursor{c[1], bend(c[2], row)}, ErrCursor},
		{"by another row", []Cursor{c[1], bend(c[2], row), c[3]}, ErrCursor},
		{"from another byte", []Cursor{bend(c[1], pos), c[2]}, ErrCursor},
		{"to another byte", []Cursor{c[1], bend(c[2], pos)}, ErrCursor},
		{"by another byte", []Cursor{c[1], c[2], bend(c[3], pos), c[4]}, ErrCursor},
		{"from no row", []Cursor{bend(c[1], far), c[2]}, ErrCursor},
		{"to no row", []Cursor{c[1], bend(c[2], far)}, ErrCursor},
		{"to behind the end", []Cursor{c[1], bend(s.ranked.EndCursor(), pos)}, ErrCursor},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.err == nil {
				if err := s.check(tt.cursors...); err != nil {
					t.Error(err)
				}
				return
			}
			if err := s.ranked.UnwindSpan(&s.y, tt.cursors); err != tt.err {
				t.Errorf("%v, want %v", err, tt.err)
			}
		})
	}
	// Spans of whole pieces, and nearly: a cursor at the end has its row.
	for n := 1022; n < 1027; n++ {
		from := s.whole.Start()
		s.whole.Read(&from, s.buf[:700])
		to := from
		for to.Pos < from.Pos+uint32(n) {
			s.whole.Read(&to, s.buf[:1])
		}
		if err := s.check(from, to); err != nil {
			t.Errorf("%d bytes of text: %v", n, err)
		}
	}
	// A span has nothing before it and nothing behind.
	if err := s.ranked.UnwindSpan(&s.y, c[3:5]); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 7} {
		at := c[i]
		if _, err := s.y.Read(&at, s.buf[:]); err != ErrCursor {
			t.Errorf("cursor %d, of another span: %v", i, err)
		}
	}
	if err := s.whole.UnwindSpan(&s.y, c[3:5]); err != ErrCursor {
		t.Errorf("a block without ranks: %v", err)
	}
}

// A block with ranks gets links when they are needed.
func TestRankedRead(t *testing.T) {
	z := compress(t, mixed(90_000, 6), 1)
	for name, read := range map[string]func(*spanTest) ([]byte, error){
		"Read": func(s *spanTest) ([]byte, error) {
			c := s.ranked.Start()
			p := make([]byte, len(s.out)+1)
			n, err := s.ranked.Read(&c, p)
			return p[:n], err
		},
		"Unwind": func(s *spanTest) ([]byte, error) {
			s.ranked.Unwind(&s.y)
			c := s.y.Start()
			p := make([]byte, len(s.out)+1)
			n, err := s.y.Read(&c, p)
			return p[:n], err
		},
	} {
		var s spanTest
		if err := s.set(z, Point{In: 32, Level: 1}, 8192, 1<<30); err != nil {
			t.Fatal(err)
		}
		if got, err := read(&s); err != io.EOF || !bytes.Equal(got, s.out) || s.ranked.Ranked() {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(s.out))
		}
	}
	// Randomised blocks have links from the start.
	var s spanTest
	if err := s.set(stream(1, scrambled(noRuns(5000, 9), 9)), Point{In: 32, Level: 1}, 1000, 1<<30); err != nil {
		t.Fatal(err)
	}
	if s.ranked.Ranked() {
		t.Error("a randomised block has ranks")
	}
}

// FuzzSpans compares the spans of any block with the whole.
func FuzzSpans(f *testing.F) {
	for _, z := range fuzzSeeds(f) {
		for bit, ok := 0, true; ok; bit++ {
			if bit, _, ok = FindBlock(z, bit); ok {
				f.Add(z, uint32(bit), uint16(100), uint64(bit))
			}
		}
	}
	var s spanTest
	f.Fuzz(func(t *testing.T, z []byte, bit uint32, every uint16, seed uint64) {
		if int(bit>>3) > len(z) || every == 0 {
			return
		}
		if s.set(z, Point{In: int64(bit), Level: 9}, int(every), 1<<18) != nil || len(s.cursors) > 5000 || !s.ranked.Ranked() {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		if err := s.checkAll(rng, true); err != nil {
			t.Fatal(err)
		}
		// Anybody's cursors either are in order and on one walk, or give an error.
		bent := append(s.cursors[:len(s.cursors):len(s.cursors)], s.ranked.EndCursor())
		for i := range bent {
			switch c := &bent[i]; rng.IntN(8) {
			case 0:
				c.Row = rng.Uint32N(900_000)
			case 1:
				c.Pos = rng.Uint32N(900_000)
			case 2:
				c.Skip = uint16(rng.IntN(pieceLen))
			}
		}
		for i := range bent[1:] {
			s.ranked.UnwindSpan(&s.y, bent[i:min(len(bent), i+1+rng.IntN(4))])
		}
	})
}

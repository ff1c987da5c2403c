package bzip2

import (
	"encoding/binary"
	"math/bits"
)

// A rank is how many bytes equal to one stand before it in the transform's last
// column. It leads from a byte's row to the row that links to it, and so through
// the text from its end to its start.
//
// Equal bytes meet there, in runs, and within a run ranks rise by one. So they
// are kept by run, and there is nothing to count: while runs are written, the
// counts are at hand. That takes a tenth of the time that links take, which
// makes the cheapest way to a few bytes of a block: backwards from a cursor
// behind them.
type ranks struct {
	// steps has for each run the rank of its first byte, less its row. What
	// comes before the first byte that is not a run's is run 0.
	steps []uint32

	// starts has for each markRows rows, a bit for each, those that begin a
	// run but for run 0; and above, the number of runs that begin before.
	starts []uint64

	// first is the row of each byte's first link.
	first [256]uint32
}

const markRows = 32

// markMemory is what starts take.
const markMemory = 8 * (maxLevel*levelSize/markRows + 1)

// into makes d decode to b's memory, with the steps of ranks or without.
func (d *decoder) into(b *Block, ranked bool, size int) {
	if b.bwt == nil {
		b.bwt = new(column)
	}
	d.bwt, d.steps = b.bwt, nil
	if !ranked {
		return
	}
	// As in the column, a group may go beyond the size before it is noticed.
	if steps := size + groupSize + 2; len(b.room) < steps {
		b.room = make([]uint32, steps)
	}
	if len(b.ranks.starts) <= size/markRows {
		b.ranks.starts = make([]uint64, size/markRows+1)
	}
	b.ranks.steps, d.steps = b.room, b.room
	b.room[0] = 0
}

// order sets the first links from how often each byte occurs.
func (k *ranks) order(counts *[256]uint32) {
	row := uint32(0)
	for c, n := range counts {
		k.first[c] = row
		row += n
	}
}

// mark sets starts from the n bytes of the last column. Before them is taken to
// be the byte that a run at the very start repeats.
func (k *ranks) mark(bwt *column, n int, before byte) {
	starts := k.starts[:(n+markRows-1)/markRows]
	last, runs := uint64(before), uint64(0)
	for i := range starts {
		p := (*[markRows]byte)(bwt[i*markRows:])
		marks := uint64(0)
		for j := 0; j < markRows; j += 8 {
			w := binary.LittleEndian.Uint64(p[j:])
			marks |= differing(w, w<<8|last) << j
			last = w >> 56
		}
		starts[i] = runs<<markRows | marks
		runs += uint64(bits.OnesCount32(uint32(marks)))
	}
}

// differing has a bit for each byte in which v and w differ.
func differing(v, w uint64) uint64 {
	const low7 = eightOnes * 0x7F
	x := v ^ w
	x = (x&low7 + low7 | x) >> 7 & eightOnes
	return x * 0x0102040810204080 >> 56 // gathers the lowest bits in the top byte
}

// before returns a byte of the text and its row, from the row of the byte that
// follows it.
func (b *Block) before(row uint32) (c byte, prev uint32) {
	c = b.bwt[row]
	s := b.ranks.starts[row/markRows]
	// The shift leaves the marks up to that of the row.
	run := uint32(s>>markRows) + uint32(bits.OnesCount32(uint32(s)<<(^row%markRows)))
	return c, row + b.ranks.first[c] + b.ranks.steps[run]
}

// EndCursor returns the cursor of the block's end, but for its Out. It is for
// UnwindSpan alone.
func (b *Block) EndCursor() Cursor { return Cursor{Pos: uint32(b.size), Row: b.origin} }

// UnwindSpan decodes the text from the first of some cursors on to the last one
// into t, but for the bytes that the last one is to skip. It takes those between
// as well, to walk from two of them at once; like Unwind it waits for memory
// most of the time.
//
// The block must have ranks, and the cursors must be of its text and in order. A
// walk that does not lead from one cursor to the one before gives ErrCursor. So
// may one from the end of a damaged block: that need not lead round to its start.
func (b *Block) UnwindSpan(t *Text, cursors []Cursor) error {
	t.set(b)
	if !b.Ranked() || !inOrder(cursors, b.size) {
		return ErrCursor
	}
	for len(cursors) > 1 {
		var s [2]span
		for i := range min(len(s), len(cursors)-1) {
			s[i] = t.lay(&cursors[i], &cursors[i+1])
		}
		t.walkBack(b, &s[0], &s[1])
		for i := range min(len(s), len(cursors)-1) {
			if s[i].row != cursors[0].Row {
				t.set(b)
				return ErrCursor
			}
			cursors = cursors[1:]
		}
	}
	// A piece of nothing has the row for a cursor at the end.
	t.pieces = append(t.pieces, piece{pos: t.end, at: t.end - t.begin, row: cursors[0].Row})
	return nil
}

// inOrder reports whether cursors can be of a text of size bytes, in order, and
// have some of it between them.
func inOrder(cursors []Cursor, size int) bool {
	for i := range cursors {
		if !cursors[i].fits(size) || i > 0 && cursors[i].at() < cursors[i-1].at() {
			return false
		}
	}
	return len(cursors) > 1 && cursors[len(cursors)-1].at() > cursors[0].Pos
}

// span is the text from one cursor to the next, walked from its end on.
type span struct {
	text   []byte // what is left of it
	row    uint32 // of the byte behind
	pieces int    // where its pieces are in those of the Text
}

// lay adds the pieces of the text between two cursors, without their rows, and
// the room for it.
func (t *Text) lay(from, to *Cursor) span {
	if len(t.pieces) == 0 {
		t.begin = from.at()
	}
	s := span{row: to.Row, pieces: len(t.pieces)}
	s.text = t.arena[from.at()-t.begin : to.at()-t.begin]
	for pos := from.at(); pos < to.at(); pos += pieceLen {
		t.pieces = append(t.pieces, piece{pos: pos, at: pos - t.begin, len: min(pieceLen, to.at()-pos)})
	}
	t.end = to.at()
	return s
}

// walkBack walks two spans to their starts.
func (t *Text) walkBack(b *Block, s1, s2 *span) {
	for len(s1.text) > 0 && len(s2.text) > 0 {
		k := min(s1.inPiece(), s2.inPiece())
		p1, p2 := s1.text[len(s1.text)-k:], s2.text[len(s2.text)-k:]
		r1, r2 := s1.row, s2.row
		for i := k - 1; i >= 0; i-- {
			p1[i], r1 = b.before(r1)
			p2[i], r2 = b.before(r2)
		}
		t.walked(s1, k, r1)
		t.walked(s2, k, r2)
	}
	if len(s1.text) == 0 {
		s1 = s2
	}
	for len(s1.text) > 0 {
		k := s1.inPiece()
		p, row := s1.text[len(s1.text)-k:], s1.row
		for i := k - 1; i >= 0; i-- {
			p[i], row = b.before(row)
		}
		t.walked(s1, k, row)
	}
}

// inPiece returns how much is left of the last piece.
func (s *span) inPiece() int { return (len(s.text)-1)%pieceLen + 1 }

// walked takes the last k bytes from s, which begin at row.
func (t *Text) walked(s *span, k int, row uint32) {
	s.text, s.row = s.text[:len(s.text)-k], row
	if len(s.text)%pieceLen == 0 {
		t.pieces[s.pieces+len(s.text)/pieceLen].row = row
	}
}

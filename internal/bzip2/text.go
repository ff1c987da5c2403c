package bzip2

import (
	"io"
	"sort"
)

const (
	// chains is how many walks Unwind has under way at once. Each waits for
	// memory most of the time, so their waits overlap.
	chains = 16

	// strideLen is the average distance between the rows that walks start at,
	// in bytes of text: short enough for the last walks to end together, long
	// enough for their ends to be rare.
	strideLen = 512

	// shortLen is the size up to which the links fit in the nearer caches,
	// where one walk is as good as many.
	shortLen = 16 << 10
)

// piece is a stretch of text that lies in one place.
type piece struct {
	pos uint32 // its offset in the text
	at  uint32 // its place in the arena
	row uint32 // the row of its first byte
	len uint32
	up  int32 // the piece after it in its walk, -1 if none
}

// walk is the text from one start up to the next.
type walk struct {
	link        uint32 // what the start's link was before it was marked
	row         uint32
	next        int32 // the walk that goes on where this one ends
	first, last int32 // its pieces
}

// Text is the text of a block, in order but for runs, which are still short, or
// a span of that. It takes a fifth of the room of a Block and reads at the speed
// of a copy.
//
// The zero value is empty, for Block.Unwind to fill, or UnwindSpan. Reads may
// run concurrently with each other, not with these.
type Text struct {
	arena  []byte
	size   int     // of the block's text
	begin  uint32  // of what is there of it,
	end    uint32  // and how far it goes
	pieces []piece // in the order of the text
	origin uint32  // row of the block's first byte
	crc    uint32
	from   int64 // in bits: where the block begins,
	to     int64 // and where it ends

	walks []walk
	found []piece // in the order they were found
}

// Len returns how many bytes of text the block has.
func (t *Text) Len() int { return t.size }

// CRC returns what Block.CRC does.
func (t *Text) CRC() uint32 { return t.crc }

// Start returns the cursor of the block's first byte, good for the Block too.
func (t *Text) Start() Cursor {
	return Cursor{Row: t.origin}
}

// Read does what Block.Read does, with the same cursors. A span ends as a block
// does, with io.EOF; a cursor before it or behind it gives ErrCursor.
func (t *Text) Read(c *Cursor, p []byte) (int, error) {
	if !c.fits(t.size) || c.Pos < t.begin || c.Pos > t.end {
		return 0, ErrCursor
	}
	pos := c.Pos
	i := sort.Search(len(t.pieces), func(i int) bool { return t.pieces[i].pos > pos }) - 1
	n := c.run.flush(p)
	for ; n < len(p) && i >= 0 && i < len(t.pieces); i++ {
		s := &t.pieces[i]
		skip := pos - s.pos
		k, used := c.run.expand(p[n:], t.arena[s.at+skip:s.at+s.len])
		n += k
		pos += uint32(used)
		if used < int(s.len-skip) {
			break
		}
	}
	if i >= 0 && len(t.pieces) > 0 {
		t.place(c, pos, min(i, len(t.pieces)-1))
	}
	n, err := c.advance(n, len(p), int(pos), t.size)
	if err != nil && t.end < uint32(t.size) {
		err = io.EOF // the length of a run comes behind the span
	}
	return n, err
}

// place sets the row of c, which is at pos, by the piece that holds it: i, or
// the one after it. The text's end leads round to its start.
func (t *Text) place(c *Cursor, pos uint32, i int) {
	if int(pos) == t.size {
		c.Row, c.Skip = t.origin, 0
		return
	}
	s := &t.pieces[i]
	c.Row, c.Skip = s.row, uint16(pos-s.pos)
}

// Unwind decodes all of the block's text into t.
//
// A single walk along the links is one cache miss after another. But walks can
// start at any row: each runs until it meets the start of another, and in the
// end they are put in order, from the walk that starts at the text's first
// byte. Several walks at once then wait for memory together.
func (b *Block) Unwind(t *Text) {
	if b.Ranked() {
		b.link()
	}
	t.set(b)
	n := b.size
	t.end = uint32(n)
	if n > shortLen {
		t.mark(b)
		t.walkAll(b.links)
		t.unmark(b)
		if t.join() == n {
			return
		}
		// The text repeats, or it is corrupt: the links form several rings,
		// and the text goes round one of them.
		t.pieces = t.pieces[:0]
	}
	t.walkOne(b)
}

// set makes t that of b, with nothing there of it.
func (t *Text) set(b *Block) {
	n := b.size
	t.size, t.origin, t.crc = n, b.origin, b.crc
	t.from, t.to = b.start.In, b.end
	t.begin, t.end = 0, 0
	t.pieces, t.found, t.walks = t.pieces[:0], t.found[:0], t.walks[:0]
	if need := n + chains*pieceLen; cap(t.arena) < need {
		t.arena = make([]byte, roundUp(n)+chains*pieceLen)
	}
	t.arena = t.arena[:cap(t.arena)]
}

// mark chooses the starts and marks their links with the number of the walk.
func (t *Text) mark(b *Block) {
	t.start(b, b.origin)
	for row := uint32(0); row < uint32(len(b.links)); row += strideLen {
		if row != b.origin {
			t.start(b, row)
		}
	}
}

// start makes a row the start of the next walk.
func (t *Text) start(b *Block, row uint32) {
	w := len(t.walks)
	t.walks = append(t.walks, walk{link: b.links[row], row: row, first: -1})
	b.links[row] = linkMark | uint32(w)
}

func (t *Text) unmark(b *Block) {
	for _, w := range t.walks {
		b.links[w.row] = w.link
	}
}

// chain is one of the walks under way.
type chain struct {
	link uint32 // of the next byte of text
	walk int32
	from int    // where in its lane the current piece began
	row  uint32 // the row there
}

// walkAll walks all walks, chains of them at a time. Each chain writes to a
// lane of its own; the lanes lie side by side and fill at the same pace.
func (t *Text) walkAll(links []uint32) {
	var c [chains]chain
	started := 0
	for i := range c {
		c[i] = t.startWalk(started, 0)
		started++
	}
	base, k := 0, 0
	for {
		for i := range c {
			if c[i].link&linkMark == 0 {
				continue
			}
			if started == len(t.walks) {
				t.finish(links, &c, base, k)
				return
			}
			t.endWalk(&c[i], base+i*pieceLen, k)
			c[i] = t.startWalk(started, k)
			started++
		}
		if k < pieceLen-1 {
			k = step(links, (*[chains * pieceLen]byte)(t.arena[base:]), &c, k)
			continue
		}
		for i := range c {
			t.turn(links, &c[i], base+i*pieceLen, k)
		}
		base, k = base+chains*pieceLen, 0
	}
}

// startWalk returns a chain on walk w that writes its first byte at k.
func (t *Text) startWalk(w, k int) chain {
	return chain{link: t.walks[w].link, walk: int32(w), from: k, row: t.walks[w].row}
}

// step takes all chains from k on to where one meets a start, or to the last
// place in their lanes but one. The links are in registers and the lanes'
// distance is a constant; this loop is what Unwind spends its time in.
func step(links []uint32, lanes *[chains * pieceLen]byte, c *[chains]chain, k int) int {
	l0, l1, l2, l3 := c[0].link, c[1].link, c[2].link, c[3].link
	l4, l5, l6, l7 := c[4].link, c[5].link, c[6].link, c[7].link
	l8, l9, l10, l11 := c[8].link, c[9].link, c[10].link, c[11].link
	l12, l13, l14, l15 := c[12].link, c[13].link, c[14].link, c[15].link
	for uint(k) < pieceLen-1 {
		lanes[k+0*pieceLen] = byte(l0 >> linkByte)
		l0 = links[l0&linkRow]
		lanes[k+1*pieceLen] = byte(l1 >> linkByte)
		l1 = links[l1&linkRow]
		lanes[k+2*pieceLen] = byte(l2 >> linkByte)
		l2 = links[l2&linkRow]
		lanes[k+3*pieceLen] = byte(l3 >> linkByte)
		l3 = links[l3&linkRow]
		lanes[k+4*pieceLen] = byte(l4 >> linkByte)
		l4 = links[l4&linkRow]
		lanes[k+5*pieceLen] = byte(l5 >> linkByte)
		l5 = links[l5&linkRow]
		lanes[k+6*pieceLen] = byte(l6 >> linkByte)
		l6 = links[l6&linkRow]
		lanes[k+7*pieceLen] = byte(l7 >> linkByte)
		l7 = links[l7&linkRow]
		lanes[k+8*pieceLen] = byte(l8 >> linkByte)
		l8 = links[l8&linkRow]
		lanes[k+9*pieceLen] = byte(l9 >> linkByte)
		l9 = links[l9&linkRow]
		lanes[k+10*pieceLen] = byte(l10 >> linkByte)
		l10 = links[l10&linkRow]
		lanes[k+11*pieceLen] = byte(l11 >> linkByte)
		l11 = links[l11&linkRow]
		lanes[k+12*pieceLen] = byte(l12 >> linkByte)
		l12 = links[l12&linkRow]
		lanes[k+13*pieceLen] = byte(l13 >> linkByte)
		l13 = links[l13&linkRow]
		lanes[k+14*pieceLen] = byte(l14 >> linkByte)
		l14 = links[l14&linkRow]
		lanes[k+15*pieceLen] = byte(l15 >> linkByte)
		l15 = links[l15&linkRow]
		k++
		if (l0|l1|l2|l3|l4|l5|l6|l7|l8|l9|l10|l11|l12|l13|l14|l15)&linkMark != 0 {
			break
		}
	}
	c[0].link, c[1].link, c[2].link, c[3].link = l0, l1, l2, l3
	c[4].link, c[5].link, c[6].link, c[7].link = l4, l5, l6, l7
	c[8].link, c[9].link, c[10].link, c[11].link = l8, l9, l10, l11
	c[12].link, c[13].link, c[14].link, c[15].link = l12, l13, l14, l15
	return k
}

// turn writes the byte at k, where the chain's piece then ends, and takes the
// chain to the first row of its next piece.
func (t *Text) turn(links []uint32, c *chain, lane, k int) {
	t.arena[lane+k] = byte(c.link >> linkByte)
	t.add(c, lane, k+1)
	c.row = c.link & linkRow
	c.link = links[c.row]
	c.from = 0
}

// endWalk ends the chain's walk before k; its link is that of a start.
func (t *Text) endWalk(c *chain, lane, k int) {
	t.add(c, lane, k)
	t.walks[c.walk].next = int32(c.link & linkRow)
}

// add adds the piece from where it began up to k, if that is any.
func (t *Text) add(c *chain, lane, k int) {
	if k == c.from {
		return
	}
	w, i := &t.walks[c.walk], int32(len(t.found))
	t.found = append(t.found, piece{at: uint32(lane + c.from), row: c.row, len: uint32(k - c.from), up: -1})
	if w.first < 0 {
		w.first = i
	} else {
		t.found[w.last].up = i
	}
	w.last = i
}

// finish takes the chains that are left to their ends, one by one, when there
// is no walk left to start.
func (t *Text) finish(links []uint32, c *[chains]chain, base, k int) {
	at := base + chains*pieceLen
	for i := range c {
		c := &c[i]
		if c.link&linkMark == 0 {
			t.turn(links, c, base+i*pieceLen, k)
			at = t.walkOn(links, c, at)
		} else {
			t.endWalk(c, base+i*pieceLen, k)
		}
	}
}

// walkOn walks one chain to its end, writing to the arena from at on, and
// returns where it stopped writing.
func (t *Text) walkOn(links []uint32, c *chain, at int) int {
	for {
		k := 0
		for c.link&linkMark == 0 && k < pieceLen-1 {
			t.arena[at+k] = byte(c.link >> linkByte)
			c.link = links[c.link&linkRow]
			k++
		}
		if c.link&linkMark != 0 {
			t.endWalk(c, at, k)
			return at + k
		}
		t.turn(links, c, at, k)
		at += k + 1
	}
}

// join puts the pieces of the walks in order, from that of the text's first
// byte until it comes round, and returns how much text they are.
func (t *Text) join() int {
	pos := uint32(0)
	for w := int32(0); ; {
		for i := t.walks[w].first; i >= 0; i = t.found[i].up {
			s := t.found[i]
			s.pos = pos
			pos += s.len
			t.pieces = append(t.pieces, s)
		}
		if w = t.walks[w].next; w == 0 {
			return int(pos)
		}
	}
}

// walkOne walks the whole text from its first byte.
func (t *Text) walkOne(b *Block) {
	row := b.origin
	text := t.arena[:t.size]
	for at := 0; at < len(text); at += pieceLen {
		p := text[at:min(at+pieceLen, len(text))]
		t.pieces = append(t.pieces, piece{pos: uint32(at), at: uint32(at), row: row, len: uint32(len(p))})
		for i := range p {
			l := b.links[row]
			p[i] = byte(l >> linkByte)
			row = l & linkRow
		}
	}
}

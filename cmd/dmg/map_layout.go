package main

import (
	"iter"
	"math"

	"github.com/go-dmg/dmg"
)

// A look is how a part of the disk is drawn: one for each method of storing it.
type look int

const (
	hole   look = iota // in no block table
	ignore             // free space
	zero
	raw
	adc
	zlib
	bzip2
	lzfse
	lzma
	unsupported // whatever its method
	numLooks
)

// stored reports whether the image has data for what looks so.
func (l look) stored() bool { return l >= raw }

// lookOf is how a chunk is drawn.
func lookOf(c dmg.Chunk) look {
	switch c.Method {
	case dmg.Zero:
		if c.Partition < 0 {
			return hole
		}
		return zero
	case dmg.Ignore:
		return ignore
	case dmg.Raw:
		return raw
	case dmg.ADC:
		return adc
	case dmg.Zlib:
		return zlib
	case dmg.Bzip2:
		return bzip2
	case dmg.LZFSE:
		return lzfse
	case dmg.LZMA:
		return lzma
	}
	return unsupported
}

// A cell is a fixed share of the disk. It may be a part of a chunk or have
// thousands of them: then it looks like most of what is stored of it, however
// little that is, because one sector of data in a terabyte of zeros is what
// people look for.
type cell struct {
	data  stretch // what most stored bytes are of
	fill  int     // how much of the cell is stored bytes: 0 if none, fillLevels if nearly all
	shade int     // how little smaller its data is than what it decodes to: 0 to numShades-1
	empty stretch // what most other bytes are of
	bad   bool    // some of it is damaged
}

// A stretch is of one look, and of one chunk or of several equal ones.
type stretch struct {
	look  look
	chunk int // index in disk order: neighbours of the same chunk are drawn as one
}

const (
	fillLevels = 4
	numShades  = 4
)

// A tally adds up the chunks of a cell.
type tally struct {
	length int64             // of the cell, as far as it is on the disk
	bytes  [numLooks]int64   // of the disk
	packed [numLooks]float64 // of the image
	most   [2]struct {       // the longest chunk: of those without data, of those with
		chunk  int
		length int64
	}
}

func (t *tally) add(c dmg.Chunk, index int, length int64) {
	l := lookOf(c)
	t.length += length
	t.bytes[l] += length
	if c.Length > 0 {
		t.packed[l] += float64(c.DataLength) * (float64(length) / float64(c.Length))
	}
	most := &t.most[0]
	if l.stored() {
		most = &t.most[1]
	}
	if length > most.length {
		most.chunk, most.length = index, length
	}
}

// cell decides how the cell looks.
func (t *tally) cell() cell {
	var stored int64
	var packed float64
	for l := raw; l < numLooks; l++ {
		stored += t.bytes[l]
		packed += t.packed[l]
	}
	c := cell{empty: stretch{t.largest(hole, raw), t.most[0].chunk}}
	if stored == 0 {
		return c
	}
	c.data = stretch{t.largest(raw, numLooks), t.most[1].chunk}
	c.fill = step(float64(stored)/float64(t.length), fillLevels) + 1
	c.shade = step(packed/float64(stored), numShades)
	return c
}

// largest is the look, from the first up to the end, that most bytes have.
func (t *tally) largest(first, end look) look {
	best := first
	for l := first + 1; l < end; l++ {
		if t.bytes[l] > t.bytes[best] {
			best = l
		}
	}
	return best
}

// step is which of n equal steps a share is on, which may be above 1: data can
// be longer than what it decodes to.
func step(share float64, n int) int {
	return max(0, min(int(math.Ceil(min(share, 1)*float64(n)))-1, n-1))
}

// layOut cuts a disk of size bytes into cells of cellSize bytes, of which the last
// may be shorter. The chunks are the whole disk in order. It takes time by the
// number of chunks and cells, not by the size.
func layOut(chunks iter.Seq[dmg.Chunk], size, cellSize int64) []cell {
	cells := make([]cell, cellCount(size, cellSize))
	var t tally
	at, index := int64(0), 0
	for c := range chunks {
		for end := min(c.Offset+c.Length, size); at < end; {
			// What is left of the cell; its end may be past the largest int64.
			n := min(cellSize-at%cellSize, end-at)
			t.add(c, index, n)
			at += n
			if at%cellSize == 0 || at == size {
				cells[(at-1)/cellSize] = t.cell()
				t = tally{}
			}
		}
		index++
	}
	return cells
}

// cellCount is the number of cells of a disk.
func cellCount(size, cellSize int64) int {
	if size <= 0 {
		return 0
	}
	return int((size-1)/cellSize) + 1
}

// mark marks the cells that the range has bytes in as damaged.
func mark(cells []cell, cellSize int64, r diskRange) {
	if r.length <= 0 || len(cells) == 0 {
		return
	}
	last := min((r.end()-1)/cellSize, int64(len(cells)-1))
	for i := r.off / cellSize; i <= last; i++ {
		cells[i].bad = true
	}
}

// A grid is how cells make a picture: rows of cols cells, each a square of so
// many pixels.
type grid struct {
	size     int64 // of the disk
	cellSize int64 // bytes; a power of two, which makes rows begin at round offsets
	cols     int
	pixels   int
}

// Every grid is gridWidth pixels wide and maxRows·minPixels high at most.
const (
	gridWidth = 768
	minPixels = 6
	maxCols   = gridWidth / minPixels
	maxRows   = 64
	maxCells  = maxCols * maxRows
)

// newGrid takes the smallest cells, from a sector on, of which a picture has
// room for. If these are few they are drawn larger.
func newGrid(size int64) grid {
	g := grid{size: size, cellSize: sectorSize, pixels: minPixels}
	for (size-1)/g.cellSize >= maxCells {
		g.cellSize *= 2
	}
	// Cells of twice the width fill four times the room.
	for n := cellCount(size, g.cellSize); n*4 <= maxCells && g.pixels < 4*minPixels; n *= 4 {
		g.pixels *= 2
	}
	g.cols = gridWidth / g.pixels
	return g
}

// place is the row and the column of the cell that has the byte at off.
func (g grid) place(off int64) (row, col int) {
	i := int(off / g.cellSize)
	return i / g.cols, i % g.cols
}

func (g grid) rows() int { return (cellCount(g.size, g.cellSize) + g.cols - 1) / g.cols }

// height is that of the picture of the cells, in pixels.
func (g grid) height() int { return g.rows() * g.pixels }

// spread moves labels, whose places are in ascending order, apart until there is
// a gap between any two, but not past the end if they have room before it.
func spread(places []int, gap, end int) []int {
	out := make([]int, len(places))
	for i, y := range places {
		out[i] = y
		if i > 0 {
			out[i] = max(y, out[i-1]+gap)
		}
	}
	limit := max(end, gap*(len(places)-1))
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = min(out[i], limit)
		limit = out[i] - gap
	}
	return out
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/go-dmg/dmg"
)

// maxRanges is how many ranges of each kind are listed.
const maxRanges = 1000

// How many ranges a damageList keeps after it has sorted them, and how many it takes
// before it sorts them again. More than are listed are kept, because later ones may
// join them.
const (
	keptRanges   = 8 * maxRanges
	unsortedRest = 8 * maxRanges
)

// A damagedRange is a run of the disk that is damaged in one way: of one chunk, or of
// neighbours that are stored by the same method.
type damagedRange struct {
	diskRange
	method      string // of the chunks; empty if a block table's checksum is what is wrong
	chunks      int
	first, last int64 // offsets of the first and the last chunk
	err         error // of the first chunk
}

// newDamagedRange returns the range with what is known of its chunk.
func newDamagedRange(d dmg.Damage) damagedRange {
	r := damagedRange{diskRange: diskRange{d.Offset, d.Length}, chunks: 1, err: d.Err}
	var chunk *dmg.ChunkError
	if errors.As(d.Err, &chunk) {
		r.method = chunk.Chunk.Method.String()
		r.first, r.last = chunk.Chunk.Offset, chunk.Chunk.Offset
	}
	return r
}

// join takes next in, which does not begin before r, if they are neighbours.
func (r *damagedRange) join(next *damagedRange) bool {
	if next.off > r.end() || next.method != r.method {
		return false
	}
	r.length = max(r.end(), next.end()) - r.off
	if next.first != r.last {
		r.chunks += next.chunks
	} else {
		r.chunks += next.chunks - 1
	}
	r.last = max(r.last, next.last)
	return true
}

// sectors names the range as lists do.
func (r *damagedRange) sectors() string {
	return fmt.Sprintf("sectors %d-%d", r.off/sectorSize, max(r.off, r.end()-1)/sectorSize)
}

// A damageList keeps the first ranges of the disk that are damaged in one way, of any
// number that come in any order, and adds up the others.
type damageList struct {
	ranges []damagedRange // sorted and joined, if not dirty
	dirty  bool
	others struct {
		places int
		bytes  int64
		span   diskRange // from the first to the last of them
	}
}

// add takes a range.
func (l *damageList) add(r damagedRange) {
	if r.length <= 0 {
		return
	}
	if n := len(l.ranges); n > 0 && l.ranges[n-1].off <= r.off && l.ranges[n-1].join(&r) {
		return
	}
	l.dirty = true
	if l.ranges = append(l.ranges, r); len(l.ranges) >= keptRanges+unsortedRest {
		l.settle()
	}
}

// settle sorts the ranges, joins neighbours, and leaves the last ones to the sums if
// there are too many. From the first of these on, no range is kept any more: the list
// has no gaps.
func (l *damageList) settle() {
	if !l.dirty {
		return
	}
	l.dirty = false
	slices.SortStableFunc(l.ranges, func(a, b damagedRange) int { return cmp.Compare(a.off, b.off) })
	joined := l.ranges[:0]
	for i := range l.ranges {
		if n := len(joined); n == 0 || !joined[n-1].join(&l.ranges[i]) {
			joined = append(joined, l.ranges[i])
		}
	}
	keep := min(keptRanges, len(joined))
	if l.others.places > 0 {
		limit := l.others.span.off
		i, _ := slices.BinarySearchFunc(joined, limit, func(r damagedRange, off int64) int { return cmp.Compare(r.off, off) })
		keep = min(keep, i)
	}
	for i := range joined[keep:] {
		l.leave(joined[keep+i].diskRange)
	}
	clear(l.ranges[keep:]) // the errors
	l.ranges = joined[:keep]
}

// leave adds a range to the sums.
func (l *damageList) leave(r diskRange) {
	o := &l.others
	if o.places == 0 {
		o.span = r
	}
	end := max(o.span.end(), r.end())
	o.span.off = min(o.span.off, r.off)
	o.span.length = end - o.span.off
	o.places++
	o.bytes += r.length
}

// places is how many ranges there are. What was left to the sums may count
// neighbours apart.
func (l *damageList) places() int {
	l.settle()
	return len(l.ranges) + l.others.places
}

// bytes is the length of all ranges.
func (l *damageList) bytes() int64 {
	l.settle()
	n := l.others.bytes
	for i := range l.ranges {
		n += l.ranges[i].length
	}
	return n
}

// listed returns the ranges to list, in disk order, and how many there are besides.
func (l *damageList) listed() (ranges []damagedRange, more int) {
	n := l.places()
	ranges = l.ranges[:min(maxRanges, len(l.ranges))]
	return ranges, n - len(ranges)
}

// touches reports whether some of a range of the disk is damaged.
func (l *damageList) touches(r diskRange) bool {
	l.settle()
	overlaps := func(d diskRange) bool { return d.off < r.end() && r.off < d.end() }
	if overlaps(l.others.span) {
		return true
	}
	return slices.ContainsFunc(l.ranges, func(d damagedRange) bool { return overlaps(d.diskRange) })
}

// isDamage reports whether an error says that the image is damaged, and not only
// that there is too little memory for a chunk, or that an index is wrong.
func isDamage(err error) bool {
	var chunk *dmg.ChunkError
	var sum *dmg.ChecksumError
	return (errors.As(err, &chunk) || errors.As(err, &sum)) && !errors.Is(err, dmg.ErrMemoryLimit) && !ofIndexAlone(err)
}

// ofIndexAlone reports whether an error is an index's fault for sure. If data does not
// match a saved checkpoint, it may be the image's.
func ofIndexAlone(err error) bool {
	return errors.Is(err, dmg.ErrIndex) && !errors.Is(err, dmg.ErrChecksum)
}

// A jsonLines writes values as JSON, one a line, and keeps the first error.
type jsonLines struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

// put writes a value.
func (j *jsonLines) put(v any) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = writeJSON(j.w, v)
	}
	return j.err
}

// rangeJSON is a damaged range as scripts get it. Offset and Length are in bytes of the
// disk.
type rangeJSON struct {
	Kind   string `json:"kind"` // lost, doubtful or unsupported
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Error  string `json:"error"`
}

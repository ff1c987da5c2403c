package dmg

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/indexfile"
	"github.com/go-dmg/dmg/internal/pagecache"
)

// How many bytes of a chunk lie between checkpoints at first: minSpacing, a
// window of DEFLATE, if the checkpoints of all zlib chunks are expected to fit
// into their share then. Else it is usualSpacing, which takes 50 microseconds to
// decode: finer ones cost a tenth of the first way through, and would be dropped.
const (
	minSpacing     = indexfile.Spacing
	usualSpacing   = 64 << 10
	checkpointSize = 4 << 10 // about, of a zlib chunk

	windowRecord = 24 << 10 // about, of an LZFSE chunk
)

// checkpoints are the places inside compressed chunks from which decoding can
// be resumed, for all chunks of an image. What is kept for each, a record, stands
// in a log, in the order in which they were made, behind a header that says
// whose it is. When the log has used up its share of the memory limit the
// spacing is doubled, what lies closer is dropped, and the rest is moved
// together. The log takes its memory in pages, from the cache if need be: nothing
// is left to the garbage collector, which lets the heap grow to twice what is in
// use. Those of a saved index stay packed until they are wanted. The engine's lock
// guards all of it.
type checkpoints struct {
	account *budget.Budget
	cache   *pagecache.Cache
	spacing int64
	chunks  map[int][]checkpoint // by chunk, in order of off
	pages   [][]byte             // of pageSize bytes
	size    int64                // of the log
	moving  moving               // what is behind size, while the log is moved together
	packed  packed
	copies  int64 // bytes of the log that are records of packed checkpoints
	shrink  bool  // records with large windows are shrunk; never changes
	dead    bool  // there are records in the log that no checkpoint has any more
}

// moving is the part of the log that is yet to be moved to its front. At a limit of
// gigabytes it may be a gigabyte, and the lock is held: so it is moved bit by bit, as
// records are added.
type moving struct{ at, end int64 } // end is 0 if there is none

// moveStep is how many bytes of the log are looked at, at least, when a record is added.
const moveStep = 256 << 10

// checkpoint says where the record for a byte of a chunk is.
type checkpoint struct {
	off   int64  // in the chunk
	in    int64  // in the chunk's data: what is decoded before off ends here, in bytes
	log   int64  // of its header, or noRecord
	group int32  // of a saved index, in which it is packed, from 1 on; or noGroup, listedGroup, or 0
	sum   uint32 // in a zlib chunk, the Adler-32 of what is before off
}

// noGroup is the group of a checkpoint that is of a saved index which is too large to
// stay packed.
const noGroup = -1

// listedGroup is the group of a checkpoint that the index of an .xz stream has. It stays when
// decoding fails: nothing that was decoded has a part in it. Else the tasks of a damaged
// chunk would begin elsewhere if another reader comes upon the damage at the same time.
const listedGroup = -2

// saved reports whether p is of a saved index.
func (p *checkpoint) saved() bool { return p.group > 0 || p.group == noGroup }

// noRecord is where the record of a packed checkpoint is that is not in the log.
const noRecord = -1

// recordHeader is the record's chunk, its offset there, and its length. It
// limits an image to 2^32 chunks, which takes 160 GB of block tables.
const recordHeader = 4 + 8 + 4

// Memory beside the log, about: that of a checkpoint, and of a chunk with any,
// as slices and maps grow.
const (
	checkpointOverhead = 48
	chunkOverhead      = 128
)

// init prepares s for zlib chunks of so many bytes, and chunks of LZFSE and ADC that are
// longer than their checkpoints lie apart. To shrink a record of these takes a twentieth of
// the first way through, and is done where they are not expected to fit.
func (s *checkpoints) init(a *budget.Budget, c *pagecache.Cache, bytes, windowed int64) {
	s.account = a
	s.cache = c
	s.spacing = usualSpacing
	if bytes/minSpacing*checkpointSize <= checkpointShare(a) {
		s.spacing = minSpacing
	}
	s.shrink = windowed/windowSpacing*windowRecord > checkpointShare(a)
	s.chunks = make(map[int][]checkpoint)
}

// memory returns how many bytes the checkpoints take.
func (s *checkpoints) memory() int64 {
	n := int64(len(s.pages))*pageSize + s.packed.memory + int64(s.packed.made)*indexfile.UnpackerMemory
	for _, points := range s.chunks {
		n += chunkOverhead + int64(len(points))*checkpointOverhead
	}
	return n
}

// find returns the index of the last checkpoint of the chunk at or before off,
// -1 if there is none.
func (s *checkpoints) find(chunk int, off int64) int {
	points := s.chunks[chunk]
	return sort.Search(len(points), func(i int) bool { return points[i].off > off }) - 1
}

// has reports whether byte off of the chunk is a checkpoint.
func (s *checkpoints) has(chunk int, off int64) bool {
	i := s.find(chunk, off)
	return i >= 0 && s.chunks[chunk][i].off == off
}

// after returns the first checkpoint of the chunk at or after off, if there is one.
func (s *checkpoints) after(chunk int, off int64) (p checkpoint, ok bool) {
	points := s.chunks[chunk]
	i := s.find(chunk, off-1) + 1
	if i == len(points) {
		return p, false
	}
	return points[i], true
}

// before returns the last checkpoint of the chunk at or before off; the chunk's
// start counts as one.
func (s *checkpoints) before(chunk int, off int64) checkpoint {
	if i := s.find(chunk, off); i >= 0 {
		return s.chunks[chunk][i]
	}
	return checkpoint{}
}

// at appends the record of p to dst.
func (s *checkpoints) at(dst []byte, p checkpoint) []byte {
	_, _, n := s.header(p.log)
	return s.read(dst, p.log+recordHeader, n)
}

// wanted reports whether a checkpoint at off would be kept: whether it is the
// first in its span of the chunk. The chunk's start has no need of one, but it
// may have one for the cursors in it.
func (s *checkpoints) wanted(chunk int, off int64) bool {
	if s.has(chunk, off) {
		return false
	}
	i := s.find(chunk, off)
	return off == 0 || off >= s.spacing && (i < 0 || s.chunks[chunk][i].off/s.spacing < off/s.spacing)
}

// add keeps a checkpoint of the chunk, of which off, in and sum are given, if one
// is wanted there or there is one to be replaced.
func (s *checkpoints) add(chunk int, p checkpoint, record []byte) {
	if !s.has(chunk, p.off) && !s.wanted(chunk, p.off) {
		return
	}
	n := int64(recordHeader + len(record))
	for !s.room(n) {
		if s.dead {
			s.startMoving()
			continue
		}
		if s.copies > 0 {
			s.dropCopies()
			continue
		}
		// Thinning makes room in the log's pages, not pages.
		if p.off == 0 || n > int64(len(s.pages))*pageSize {
			return
		}
		s.shed()
	}
	p.log = s.size
	i := s.find(chunk, p.off)
	switch {
	case s.has(chunk, p.off):
		if old := &s.chunks[chunk][i]; old.group > 0 && old.log != noRecord {
			_, _, n := s.header(old.log)
			s.copies -= recordHeader + int64(n)
		}
		s.chunks[chunk][i] = p
	case s.wanted(chunk, p.off) && s.takeOverhead(chunk): // still: others may have been dropped
		s.chunks[chunk] = slices.Insert(s.chunks[chunk], i+1, p)
	default:
		return
	}
	s.log(chunk, p.off, record)
}

// log appends a record to the log, which has room.
func (s *checkpoints) log(chunk int, off int64, record []byte) {
	var head [recordHeader]byte
	binary.LittleEndian.PutUint32(head[:], uint32(chunk))
	binary.LittleEndian.PutUint64(head[4:], uint64(off))
	binary.LittleEndian.PutUint32(head[12:], uint32(len(record)))
	s.write(head[:])
	s.write(record)
}

// room makes sure that n more bytes fit into the log, and that the share is not
// used up: what checkpoints take beside the log may have grown. Without room nothing of
// the log is yet to be moved.
func (s *checkpoints) room(n int64) bool {
	s.move(moveStep)
	if s.account.Used[budget.Checkpoints] > checkpointShare(s.account) {
		s.finishMoving()
		return false
	}
	for s.moving.end > 0 {
		if s.size+n <= s.moving.at {
			return true
		}
		s.move(moveStep)
	}
	for s.size+n > int64(len(s.pages))*pageSize {
		if s.account.Used[budget.Checkpoints]+pageSize > checkpointShare(s.account) {
			return false
		}
		page := s.cache.Lend()
		if page == nil {
			return false
		}
		s.pages = append(s.pages, page)
	}
	return true
}

// write appends to the log, which has room.
func (s *checkpoints) write(p []byte) {
	for len(p) > 0 {
		n := copy(s.pages[s.size/pageSize][s.size%pageSize:], p)
		s.size += int64(n)
		p = p[n:]
	}
}

// read appends n bytes from a place in the log to dst.
func (s *checkpoints) read(dst []byte, at int64, n int) []byte {
	for n > 0 {
		p := s.pages[at/pageSize][at%pageSize:]
		p = p[:min(n, len(p))]
		dst = append(dst, p...)
		at += int64(len(p))
		n -= len(p)
	}
	return dst
}

// header reads the header of the record at a place in the log.
func (s *checkpoints) header(at int64) (chunk int, off int64, n int) {
	var space [recordHeader]byte
	b := s.read(space[:0], at, recordHeader)
	return int(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint64(b[4:])), int(binary.LittleEndian.Uint32(b[12:]))
}

// takeOverhead accounts for what one more checkpoint of the chunk takes beside
// the log.
func (s *checkpoints) takeOverhead(chunk int) bool {
	n := int64(checkpointOverhead)
	if len(s.chunks[chunk]) == 0 {
		n += chunkOverhead
	}
	for !s.account.Take(budget.Checkpoints, n) {
		if !s.cache.Shrink() {
			return false
		}
	}
	return true
}

// thin doubles the spacing and drops every checkpoint but the first in each
// span, and those at the start of chunks. Those that remain need no more of
// their window for the longer way to the next: what lies beyond the old way's
// end refers back 32 KiB at most, which is less than any way. Packed ones stay:
// they take less memory, and none would come free before the last of a group.
func (s *checkpoints) thin() {
	s.spacing = 2 * min(s.spacing, maxSpacing/2)
	s.filter(func(p *checkpoint, last int64) bool {
		return p.group > 0 || s.spacing < maxSpacing && p.off/s.spacing > last/s.spacing
	})
	s.startMoving()
}

// shed makes room in the log, of which nothing is yet to be moved. It doubles the spacing as long as that keeps a fair
// part of the checkpoints: in one large chunk, every second one. In many chunks that
// are hardly longer than the spacing, it drops the checkpoints that were made first
// instead: else all would go, and none be made again.
func (s *checkpoints) shed() {
	kept, all := 0, 0
	spacing := 2 * min(s.spacing, maxSpacing/2)
	for _, points := range s.chunks {
		last := int64(0)
		for i := range points {
			if p := &points[i]; p.group <= 0 {
				all++
				if spacing < maxSpacing && p.off/spacing > last/spacing {
					kept++
					last = p.off
				}
			}
		}
	}
	if kept > 0 && kept >= all/4 {
		s.thin()
		return
	}
	half := s.size / 2
	s.filter(func(p *checkpoint, _ int64) bool { return p.group > 0 || p.log >= half })
	s.startMoving()
}

// maxSpacing is where doubling ends: nothing is kept then.
const maxSpacing = 1 << 62

// halve drops some checkpoints of the log, every second one if that will do.
// Reads may leave others as close as before, when there is room again.
func (s *checkpoints) halve() {
	spacing := s.spacing
	s.finishMoving()
	size := s.size
	if s.dead {
		s.compact()
	}
	for s.size == size {
		s.shed()
		s.finishMoving()
	}
	s.spacing = spacing
}

// filter drops the checkpoints that keep is false for. It is called for those of
// a chunk in order, with the offset of the last one that was kept, or 0.
func (s *checkpoints) filter(keep func(p *checkpoint, last int64) bool) {
	for chunk, points := range s.chunks {
		kept := points[:0]
		last := int64(0)
		for _, p := range points {
			if keep(&p, last) {
				last = p.off
				kept = append(kept, p)
			}
		}
		s.chunks[chunk] = kept
		s.account.Release(budget.Checkpoints, int64(len(points)-len(kept))*checkpointOverhead)
		if len(kept) == 0 {
			delete(s.chunks, chunk)
			s.account.Release(budget.Checkpoints, chunkOverhead)
		}
	}
}

// dropChunk drops the chunk's checkpoints but those of an index, saved or of an .xz stream.
func (s *checkpoints) dropChunk(chunk int) {
	points := s.chunks[chunk]
	kept := slices.DeleteFunc(points, func(p checkpoint) bool { return p.group == 0 })
	if len(kept) == len(points) {
		return
	}
	s.dead = true
	s.account.Release(budget.Checkpoints, int64(len(points)-len(kept))*checkpointOverhead)
	if s.chunks[chunk] = kept; len(kept) == 0 {
		delete(s.chunks, chunk)
		s.account.Release(budget.Checkpoints, chunkOverhead)
	}
}

// compact moves the records that still have a checkpoint to the log's front.
func (s *checkpoints) compact() {
	s.finishMoving()
	s.startMoving()
	s.finishMoving()
}

// startMoving begins what compact does. Until it is finished, records stand before
// s.size, and from s.moving.at to s.moving.end.
func (s *checkpoints) startMoving() {
	s.finishMoving()
	s.moving = moving{0, s.size}
	s.size, s.dead = 0, false
}

// finishMoving ends what startMoving began.
func (s *checkpoints) finishMoving() { s.move(math.MaxInt64) }

// move goes through so many bytes of what is yet to be moved, at least.
func (s *checkpoints) move(bytes int64) {
	m := &s.moving
	if m.end == 0 {
		return
	}
	var buf []byte
	for stop := m.at + min(bytes, m.end-m.at); m.at < stop; {
		chunk, off, n := s.header(m.at)
		from := m.at
		m.at += int64(recordHeader + n)
		if !s.has(chunk, off) {
			continue
		}
		if p := &s.chunks[chunk][s.find(chunk, off)]; p.log == from {
			p.log = s.size
			buf = s.read(buf[:0], from, recordHeader+n)
			s.write(buf)
		}
	}
	if m.at < m.end {
		return
	}
	*m = moving{}
	for s.account.Used[budget.Checkpoints] > checkpointShare(s.account) && s.givePage() {
	}
}

// trim returns the pages that the log has no use for.
func (s *checkpoints) trim() {
	s.finishMoving()
	for s.givePage() {
	}
}

// givePage returns a page that the log has no use for, if there is one.
func (s *checkpoints) givePage() bool {
	last := len(s.pages) - 1
	if last < 0 || max(s.size, s.moving.end) > int64(last)*pageSize {
		return false
	}
	s.cache.Return(s.pages[last])
	s.pages[last] = nil
	s.pages = s.pages[:last]
	return true
}

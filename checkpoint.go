package dmg

import (
	"encoding/binary"
	"slices"
	"sort"
)

// minSpacing is how many bytes of a chunk lie between checkpoints at first.
// Decoding that many takes a tenth of a millisecond.
const minSpacing = 64 << 10

// slabSize is the unit in which checkpoints take memory, in bytes.
const slabSize = 128 << 10

// checkpoints are the places inside compressed chunks from which decoding can
// be resumed, for all chunks of an image. What is kept for each, a record,
// stands in slabs, one after the other as they were made, behind a header that
// says whose it is. When records have used up their share of the memory limit
// the spacing is doubled, what lies closer is dropped, and the rest is moved
// together: nothing is left to the garbage collector, whose heap may grow to
// twice what is in use. The engine's lock guards all of it.
type checkpoints struct {
	account *account
	spacing int64
	chunks  map[int][]checkpoint // by chunk, in order of off
	slabs   [][]byte             // records up to their length; the capacity is slabSize
	last    int                  // the slab that is being filled; those behind it are empty
}

// checkpoint says where the record for a byte of a chunk is.
type checkpoint struct {
	off      int64 // in the chunk
	slab, at int32
}

// recordHeader is the record's chunk, its offset there, and its length.
const recordHeader = 4 + 8 + 4

// Memory beside the slabs, about: that of a checkpoint, and of a chunk with
// any, as slices and maps grow.
const (
	checkpointOverhead = 32
	chunkOverhead      = 128
)

func (s *checkpoints) init(a *account) {
	s.account = a
	s.spacing = minSpacing
	s.chunks = make(map[int][]checkpoint)
}

// find returns the index of the last checkpoint of the chunk at or before off,
// -1 if there is none.
func (s *checkpoints) find(chunk int, off int64) int {
	points := s.chunks[chunk]
	return sort.Search(len(points), func(i int) bool { return points[i].off > off }) - 1
}

// nearest returns the offset of the last checkpoint of the chunk at or before
// off; the chunk's start counts as one.
func (s *checkpoints) nearest(chunk int, off int64) int64 {
	if i := s.find(chunk, off); i >= 0 {
		return s.chunks[chunk][i].off
	}
	return 0
}

// record returns what is kept for the last checkpoint of the chunk at or before
// off, nil if there is none. It is valid as long as the lock is held.
func (s *checkpoints) record(chunk int, off int64) []byte {
	if i := s.find(chunk, off); i >= 0 {
		return s.at(s.chunks[chunk][i])
	}
	return nil
}

// exact returns what is kept for byte off of the chunk, nil if that is no
// checkpoint. It is valid as long as the lock is held.
func (s *checkpoints) exact(chunk int, off int64) []byte {
	if i := s.find(chunk, off); i >= 0 && s.chunks[chunk][i].off == off {
		return s.at(s.chunks[chunk][i])
	}
	return nil
}

// next returns what is kept for the first checkpoint of the chunk after off,
// nil if there is none.
func (s *checkpoints) next(chunk int, off int64) []byte {
	if i := s.find(chunk, off) + 1; i < len(s.chunks[chunk]) {
		return s.at(s.chunks[chunk][i])
	}
	return nil
}

// at returns the record of p.
func (s *checkpoints) at(p checkpoint) []byte {
	b := s.slabs[p.slab][p.at:]
	return b[recordHeader : recordHeader+binary.LittleEndian.Uint32(b[12:])]
}

// wanted reports whether a checkpoint at off would be kept: whether it is the
// first in its span of the chunk. The chunk's start has no need of one, but it
// may have one for the cursors in it.
func (s *checkpoints) wanted(chunk int, off int64) bool {
	i := s.find(chunk, off)
	if i >= 0 && s.chunks[chunk][i].off == off {
		return false
	}
	return off == 0 || off >= s.spacing && (i < 0 || s.chunks[chunk][i].off/s.spacing < off/s.spacing)
}

// add keeps a record for byte off of the chunk, if one is wanted there or there
// is one to be replaced. room makes room in the account, and reports whether it
// could.
func (s *checkpoints) add(chunk int, off int64, record []byte, room func() bool) {
	n := recordHeader + len(record)
	for !s.fits(n) && !s.grow(room) {
		if off == 0 || n > slabSize || len(s.chunks) == 0 {
			return
		}
		s.thin()
	}
	i := s.find(chunk, off)
	if i >= 0 && s.chunks[chunk][i].off == off {
		s.chunks[chunk][i] = s.write(chunk, off, record)
		return
	}
	if !s.wanted(chunk, off) || !s.account.take(useCheckpoints, s.overhead(chunk)) {
		return
	}
	s.chunks[chunk] = slices.Insert(s.chunks[chunk], i+1, s.write(chunk, off, record))
}

// write puts a record into the slab that fits chose.
func (s *checkpoints) write(chunk int, off int64, record []byte) checkpoint {
	b := s.slabs[s.last]
	p := checkpoint{off, int32(s.last), int32(len(b))}
	b = binary.LittleEndian.AppendUint32(b, uint32(chunk))
	b = binary.LittleEndian.AppendUint64(b, uint64(off))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(record)))
	s.slabs[s.last] = append(b, record...)
	return p
}

// overhead is the memory that one more checkpoint of the chunk takes beside its
// record.
func (s *checkpoints) overhead(chunk int) int64 {
	if len(s.chunks[chunk]) == 0 {
		return checkpointOverhead + chunkOverhead
	}
	return checkpointOverhead
}

// fits finds the slab that n more bytes go to, and reports whether there is one.
func (s *checkpoints) fits(n int) bool {
	for ; s.last < len(s.slabs); s.last++ {
		if len(s.slabs[s.last])+n <= slabSize {
			return true
		}
	}
	s.last = max(0, len(s.slabs)-1)
	return false
}

// grow takes one more slab, if the checkpoints' share of the limit has room for
// it.
func (s *checkpoints) grow(room func() bool) bool {
	a := s.account
	if a.used[useCheckpoints]+slabSize > a.checkpointShare() {
		return false
	}
	for !a.take(useCheckpoints, slabSize) {
		if !room() {
			return false
		}
	}
	s.slabs = append(s.slabs, make([]byte, 0, slabSize))
	return true
}

// thin doubles the spacing and drops every checkpoint but the first in each
// span, and those at the start of chunks. Those that remain need no more of their window for the longer way to
// the next: what lies beyond the old way's end refers back 32 KiB at most, which
// is less than any way.
func (s *checkpoints) thin() {
	s.spacing *= 2
	for chunk, points := range s.chunks {
		kept := points[:0]
		span := int64(0)
		for _, p := range points {
			if p.off/s.spacing > span {
				span = p.off / s.spacing
				kept = append(kept, p)
			}
		}
		s.chunks[chunk] = kept
		s.account.release(useCheckpoints, int64(len(points)-len(kept))*checkpointOverhead)
		if len(kept) == 0 {
			delete(s.chunks, chunk)
			s.account.release(useCheckpoints, chunkOverhead)
		}
	}
	s.compact()
}

// compact moves the records that still have a checkpoint to the front. A record
// never moves back, so it can't be written over one that is yet to be moved.
func (s *checkpoints) compact() {
	s.last = 0
	for i, b := range s.slabs {
		start := len(b)
		s.slabs[i] = b[:0]
		for len(b) > 0 {
			n := recordHeader + int(binary.LittleEndian.Uint32(b[12:]))
			chunk, off := int(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint64(b[4:]))
			at := int32(start - len(b))
			if k := s.find(chunk, off); k >= 0 && s.chunks[chunk][k] == (checkpoint{off, int32(i), at}) {
				s.fits(n)
				s.chunks[chunk][k] = checkpoint{off, int32(s.last), int32(len(s.slabs[s.last]))}
				s.slabs[s.last] = append(s.slabs[s.last], b[:n]...)
			}
			b = b[n:]
		}
	}
}

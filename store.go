package dmg

import (
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/indexfile"
)

// store is the checkpoints as codecs see them. Its methods take the engine's lock,
// which guards what it points to, and may be called by any goroutine without it.
type store struct {
	mu       sync.Locker
	chunks   []Chunk
	points   *checkpoints
	failures *failures
	unpacked sync.Cond // an unpacker is free, or there are none any more
	freed    func()    // is called with the lock when memory has come free
}

// record returns the last checkpoint of the chunk at or before off, and appends
// to dst what is kept for it: the chunk's start, and nothing, if there is none.
// It unpacks the checkpoint's group if need be. An error is that of an index which
// its author meant to be wrong: it has passed the checksum.
func (s *store) record(dst []byte, chunk int, off int64) (checkpoint, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		i := s.points.find(chunk, off)
		if i < 0 {
			return checkpoint{}, dst, nil
		}
		p := s.points.chunks[chunk][i]
		if p.log != noRecord {
			return p, s.points.at(dst, p), nil
		}
		g := s.points.packed.groups[p.group-1]
		u := s.waitUnpacker()
		if u == nil {
			continue
		}
		dst, err := s.unpackRecord(dst, u, chunk, p, g)
		return p, dst, err
	}
}

// waitUnpacker returns an unpacker for a reader, who may have to wait for it. It is
// nil if there are no packed checkpoints any more.
func (s *store) waitUnpacker() *indexfile.Unpacker {
	packed := &s.points.packed
	for len(packed.groups) > 0 {
		if n := len(packed.idle); n > 0 {
			u := packed.idle[n-1]
			packed.idle = packed.idle[:n-1]
			return u
		}
		if packed.made < runtime.GOMAXPROCS(0) && s.points.takeUnpacker() {
			return indexfile.NewUnpacker()
		}
		s.unpacked.Wait()
	}
	return nil
}

// putUnpacker takes an unpacker back. It is called with the lock.
func (s *store) putUnpacker(u *indexfile.Unpacker) {
	packed := &s.points.packed
	if len(packed.groups) > 0 {
		packed.idle = append(packed.idle, u)
	} else {
		packed.made--
		s.points.account.Release(budget.Checkpoints, indexfile.UnpackerMemory)
		s.freed()
	}
	s.unpacked.Broadcast()
}

// unpackRecord unpacks group g with u, which it takes back, and appends the record
// of p to dst. It lets go of the lock while it unpacks.
func (s *store) unpackRecord(dst []byte, u *indexfile.Unpacker, chunk int, p checkpoint, g group) ([]byte, error) {
	defer s.putUnpacker(u)
	if err := s.unpackUnlocked(u, g); err != nil {
		return dst, err
	}
	dst = append(dst, u.Record(g.at(chunk, p.off))...)
	for i, at := range g.places {
		s.points.copyPacked(p.group, at, u.Record(i))
	}
	return dst, nil
}

// unpackUnlocked unpacks g without the lock, and has it again when that returns or
// panics.
func (s *store) unpackUnlocked(u *indexfile.Unpacker, g group) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	return indexError(u.Unpack(g.data, g.places), s.chunks)
}

// has reports whether byte off of the chunk is a checkpoint.
func (s *store) has(chunk int, off int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.points.has(chunk, off)
}

// after returns the offset of the first checkpoint of the chunk behind byte off, 0 if
// there is none.
func (s *store) after(chunk int, off int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, _ := s.points.after(chunk, off+1)
	return p.off
}

// wanted reports whether a checkpoint at byte off of the chunk would be kept, and how
// far apart they are to be.
func (s *store) wanted(chunk int, off int64) (wanted bool, spacing int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.points.wanted(chunk, off), s.points.spacing
}

// add keeps a checkpoint of the chunk, unless decoding of the chunk has failed since
// the number of failures was began: then what it was made of may be wrong.
func (s *store) add(chunk int, began int, p checkpoint, record []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failures.invalidatedSince(chunk, began) {
		s.points.add(chunk, p, record)
	}
}

// compare compares the checksum of all before byte off of the chunk with that of the
// checkpoint there, if there is one. So damage that was done to the data since it was
// made is noticed by whatever decoder passes it.
func (s *store) compare(chunk int, off int64, sum uint32) error {
	s.mu.Lock()
	p := s.points.before(chunk, off)
	s.mu.Unlock()
	if p.off != off || off == 0 || p.sum == sum {
		return nil
	}
	return s.mismatch(p, fmt.Sprintf("Adler-32 up to byte %d is %08x, was %08x when the checkpoint there was made", p.off, sum, p.sum))
}

// mismatch is the error of data that is not what it was when p was made.
func (s *store) mismatch(p checkpoint, text string) error {
	err := fmt.Errorf("%w: %s", ErrChecksum, text)
	if p.saved() {
		return &alsoError{fmt.Errorf("%w; if the image was replaced since its index was made, it takes a new index", err), ErrStaleIndex}
	}
	return err
}

// began returns the number of failures so far.
func (s *store) began() int { return s.failures.count() }

// recordReader reads the records of checkpoints in order. It leaves none in the
// log.
type recordReader struct {
	store  *store
	u      *indexfile.Unpacker
	group  int32 // that u has unpacked
	record []byte
}

// next returns the first checkpoint of the chunk at or after off, and its record,
// which is nil if there is none.
func (r *recordReader) next(chunk int, off int64) (checkpoint, []byte, error) {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.points.after(chunk, off)
	switch {
	case !ok:
		return p, nil, nil
	case p.log != noRecord:
		r.record = s.points.at(r.record[:0], p)
		return p, r.record, nil
	}
	g := s.points.packed.groups[p.group-1]
	if r.group != p.group {
		if r.u == nil {
			r.u = indexfile.NewUnpacker()
		}
		r.group = 0
		if err := s.unpackUnlocked(r.u, g); err != nil {
			return p, nil, err
		}
		r.group = p.group
	}
	return p, r.u.Record(g.at(chunk, p.off)), nil
}

// packed are the checkpoints that a saved index brought, as they are in its
// file: in groups, each of which is unpacked by the first read that wants a
// checkpoint in it. Their records then stand in the log as those that reads
// leave, and are the first to go where the log has no room: the group is still
// there. The engine's lock guards all of it; groups themselves never change.
type packed struct {
	groups []group
	memory int64                 // accounted for, without unpackers
	idle   []*indexfile.Unpacker // at rest
	made   int                   // unpackers that there are
}

// group is a group of packed checkpoints.
type group struct {
	data   []byte // in the index
	places []indexfile.Place
}

// Memory of a group and of a place in it, as slices grow.
const (
	groupMemory = 2 * (3 + 3) * 8
	placeMemory = 5 * 8
)

// keepPacked takes over the checkpoints of an index as they are, and the file's
// memory with them. It returns false if that is too much.
func (im *Image) keepPacked(ix *Index) (bool, error) {
	d, err := ix.directory(im.chunks)
	if err != nil {
		return false, err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	s := &im.mu.points
	if !s.takePacked(int64(len(ix.file)) + indexfile.UnpackerMemory) {
		return false, nil
	}
	s.packed.memory -= indexfile.UnpackerMemory
	s.packed.idle, s.packed.made = append(s.packed.idle, indexfile.NewUnpacker()), 1
	for d.Next() {
		if !s.addPacked(d.Data, d.Places) {
			s.dropPacked()
			return false, nil
		}
	}
	if len(s.packed.groups) == 0 {
		s.dropPacked() // the file's memory too
	}
	// Reads leave none between them: of each window all would have to be kept.
	s.spacing = max(s.spacing, usualSpacing)
	return true, indexError(d.Err(), im.chunks)
}

// at returns the place in a group of the checkpoint at byte off of a chunk: its
// index there.
func (g *group) at(chunk int, off int64) int {
	return slices.IndexFunc(g.places, func(at indexfile.Place) bool { return at.Chunk == chunk && at.Off == off })
}

// takePacked accounts for n bytes of packed checkpoints.
func (s *checkpoints) takePacked(n int64) bool {
	a := s.account
	if a.Used[budget.Checkpoints]+n > budget.ShareCompressed.Of(a.Limit) || !a.Take(budget.Checkpoints, n) {
		return false
	}
	s.packed.memory += n
	return true
}

// addPacked adds a group of checkpoints that come after all there are.
func (s *checkpoints) addPacked(data []byte, places []indexfile.Place) bool {
	if !s.takePacked(groupMemory + int64(len(places))*placeMemory) {
		return false
	}
	s.packed.groups = append(s.packed.groups, group{data, append([]indexfile.Place(nil), places...)})
	for _, p := range places {
		if !s.takeOverhead(p.Chunk) {
			return false
		}
		c := checkpoint{off: p.Off, in: p.In(), log: noRecord, group: int32(len(s.packed.groups)), sum: p.Sum()}
		s.chunks[p.Chunk] = append(s.chunks[p.Chunk], c)
	}
	return true
}

// dropPacked gives up all checkpoints of the index that have not been replaced.
// It returns how many bytes beside the log have become free.
func (s *checkpoints) dropPacked() int64 {
	s.filter(func(p *checkpoint, _ int64) bool { return p.group <= 0 })
	s.copies = 0
	s.compact()
	n := s.packed.memory + int64(len(s.packed.idle))*indexfile.UnpackerMemory
	s.account.Release(budget.Checkpoints, n)
	s.packed = packed{made: s.packed.made - len(s.packed.idle)}
	return n
}

// dropCopies drops the records of packed checkpoints from the log.
func (s *checkpoints) dropCopies() {
	for _, points := range s.chunks {
		for i := range points {
			if p := &points[i]; p.group > 0 {
				p.log = noRecord
			}
		}
	}
	s.copies = 0
	s.startMoving()
}

// copyPacked puts the record of a packed checkpoint into the log, if it has room.
// The way is only worth it if many others make room for it.
func (s *checkpoints) copyPacked(group int32, at indexfile.Place, record []byte) {
	if !s.has(at.Chunk, at.Off) {
		return
	}
	p := &s.chunks[at.Chunk][s.find(at.Chunk, at.Off)]
	if p.group != group || p.log != noRecord {
		return
	}
	n := int64(recordHeader + len(record))
	if !s.room(n) {
		if s.copies < s.size/4 {
			return
		}
		if s.dropCopies(); !s.room(n) {
			return
		}
	}
	p.log = s.size
	s.copies += n
	s.log(at.Chunk, at.Off, record)
}

// takeUnpacker accounts for one more unpacker.
func (s *checkpoints) takeUnpacker() bool {
	a := s.account
	if a.Used[budget.Checkpoints]+indexfile.UnpackerMemory > checkpointShare(a) || !a.Take(budget.Checkpoints, indexfile.UnpackerMemory) {
		return false
	}
	s.packed.made++
	return true
}

// shedCheckpointsLocked makes room where nothing else can. It reports whether there was anything
// to give up.
func (e *engine) shedCheckpointsLocked() bool {
	s := &e.mu.points
	switch {
	case s.copies > 0:
		s.dropCopies()
	case s.size > 0:
		s.halve()
	case len(s.packed.groups) > 0:
		s.dropPacked()
		e.store.unpacked.Broadcast()
	default:
		return s.givePage()
	}
	s.trim()
	return true
}

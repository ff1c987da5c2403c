package dmg

import (
	"runtime"
	"slices"
)

// packed are the checkpoints that a saved index brought, as they are in its
// file: in groups, each of which is unpacked by the first read that wants a
// checkpoint in it. Their records then stand in the log as those that reads
// leave, and are the first to go where the log has no room: the group is still
// there. The engine's lock guards all of it; groups themselves never change.
type packed struct {
	groups []group
	memory int64       // accounted for, without unpackers
	idle   []*unpacker // at rest
	made   int         // unpackers that there are
}

// group is a group of packed checkpoints.
type group struct {
	data   []byte // in the index
	places []place
}

// Memory of a group and of a place in it, as slices grow.
const (
	groupMemory = 2 * (3 + 3) * 8
	placeMemory = 5 * 8
)

// packedShare is how much of their share of the limit checkpoints may take, in
// eighths, to stay packed. The rest is for the log.
const packedShare = 6

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
	if !s.takePacked(int64(len(ix.file)) + unpackerMemory) {
		return false, nil
	}
	s.packed.memory -= unpackerMemory
	s.packed.idle, s.packed.made = append(s.packed.idle, newUnpacker()), 1
	for d.next() {
		if !s.addPacked(im.chunks, d.data, d.places) {
			s.dropPacked()
			return false, nil
		}
	}
	if len(s.packed.groups) == 0 {
		s.dropPacked() // the file's memory too
	}
	// Reads leave none between them: of each window all would have to be kept.
	s.spacing = max(s.spacing, usualSpacing)
	return true, d.err
}

// at returns the place in a group of the checkpoint at byte off of a chunk: its
// index there.
func (g *group) at(chunk int, off int64) int {
	return slices.IndexFunc(g.places, func(at place) bool { return at.chunk == chunk && at.off == off })
}

// takePacked accounts for n bytes of packed checkpoints.
func (s *checkpoints) takePacked(n int64) bool {
	a := s.account
	if a.used[useCheckpoints]+n > a.checkpointShare()/8*packedShare || !a.take(useCheckpoints, n) {
		return false
	}
	s.packed.memory += n
	return true
}

// addPacked adds a group of checkpoints that come after all there are.
func (s *checkpoints) addPacked(chunks []Chunk, data []byte, places []place) bool {
	if !s.takePacked(groupMemory + int64(len(places))*placeMemory) {
		return false
	}
	s.packed.groups = append(s.packed.groups, group{data, append([]place(nil), places...)})
	for _, p := range places {
		if !s.takeOverhead(p.chunk) {
			return false
		}
		c := checkpoint{off: p.off, in: p.in(chunks[p.chunk].Method), log: noRecord, group: int32(len(s.packed.groups)), sum: p.sum}
		s.chunks[p.chunk] = append(s.chunks[p.chunk], c)
	}
	return true
}

// dropPacked gives up all checkpoints of the index that have not been replaced.
// It returns how many bytes beside the log have become free.
func (s *checkpoints) dropPacked() int64 {
	s.filter(func(p *checkpoint, _ int64) bool { return p.group == 0 })
	s.copies = 0
	s.compact()
	n := s.packed.memory + int64(len(s.packed.idle))*unpackerMemory
	s.account.release(useCheckpoints, n)
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
	s.compact()
}

// copyPacked puts the record of a packed checkpoint into the log, if it has room.
// The way is only worth it if many others make room for it.
func (s *checkpoints) copyPacked(group int32, at place, record []byte) {
	if !s.has(at.chunk, at.off) {
		return
	}
	p := &s.chunks[at.chunk][s.find(at.chunk, at.off)]
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
	s.log(at.chunk, at.off, record)
}

// unpacker returns an unpacker for a reader, who may have to wait for it. It is
// nil if there are no packed checkpoints any more.
func (e *engine) unpacker() *unpacker {
	s := &e.mu.points
	for len(s.packed.groups) > 0 {
		if n := len(s.packed.idle); n > 0 {
			u := s.packed.idle[n-1]
			s.packed.idle = s.packed.idle[:n-1]
			return u
		}
		if s.packed.made < runtime.GOMAXPROCS(0) && s.takeUnpacker() {
			return newUnpacker()
		}
		e.mu.unpacked.Wait()
	}
	return nil
}

// takeUnpacker accounts for one more unpacker.
func (s *checkpoints) takeUnpacker() bool {
	a := s.account
	if a.used[useCheckpoints]+unpackerMemory > a.checkpointShare() || !a.take(useCheckpoints, unpackerMemory) {
		return false
	}
	s.packed.made++
	return true
}

// restUnpacker takes an unpacker back.
func (e *engine) restUnpacker(u *unpacker) {
	s := &e.mu.points
	if len(s.packed.groups) > 0 {
		s.packed.idle = append(s.packed.idle, u)
	} else {
		s.packed.made--
		s.account.release(useCheckpoints, unpackerMemory)
		e.wake()
	}
	e.mu.unpacked.Broadcast()
}

// record returns the last checkpoint of the chunk at or before off, and appends
// to dst what is kept for it: the chunk's start, and nothing, if there is none.
// It unpacks the checkpoint's group if need be. An error is that of an index which
// its author meant to be wrong: it has passed the checksum.
func (e *engine) record(dst []byte, chunk int, off int64) (checkpoint, []byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		i := e.mu.points.find(chunk, off)
		if i < 0 {
			return checkpoint{}, dst, nil
		}
		p := e.mu.points.chunks[chunk][i]
		if p.log != noRecord {
			return p, e.mu.points.at(dst, p), nil
		}
		g := e.mu.points.packed.groups[p.group-1]
		u := e.unpacker()
		if u == nil {
			continue
		}
		dst, err := e.unpackRecord(dst, u, chunk, p, g)
		return p, dst, err
	}
}

// unpackRecord unpacks group g with u, which it takes back, and appends the record
// of p to dst. It lets go of the lock while it unpacks.
func (e *engine) unpackRecord(dst []byte, u *unpacker, chunk int, p checkpoint, g group) ([]byte, error) {
	defer e.restUnpacker(u)
	if err := e.unpackUnlocked(u, g); err != nil {
		return dst, err
	}
	dst = append(dst, u.record(g.at(chunk, p.off))...)
	for i, at := range g.places {
		e.mu.points.copyPacked(p.group, at, u.record(i))
	}
	return dst, nil
}

// unpackUnlocked unpacks g without the lock, and has it again when that returns or
// panics.
func (e *engine) unpackUnlocked(u *unpacker, g group) error {
	e.mu.Unlock()
	defer e.mu.Lock()
	return u.unpack(g.data, e.chunks, g.places)
}

// yield makes room where nothing else can. It reports whether there was anything
// to give up.
func (e *engine) yield() bool {
	s := &e.mu.points
	switch {
	case s.copies > 0:
		s.dropCopies()
	case s.size > 0:
		s.giveUpSome()
	case len(s.packed.groups) > 0:
		s.dropPacked()
		e.mu.unpacked.Broadcast()
	default:
		return s.givePage()
	}
	s.trim()
	return true
}

// recordReader reads the records of checkpoints in order. It leaves none in the
// log.
type recordReader struct {
	u      *unpacker
	group  int32 // that u has unpacked
	record []byte
}

// next returns the first checkpoint of the chunk at or after off, and its record,
// which is nil if there is none.
func (r *recordReader) next(e *engine, chunk int, off int64) (checkpoint, []byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.mu.points
	p, ok := s.next(chunk, off)
	switch {
	case !ok:
		return p, nil, nil
	case p.log != noRecord:
		r.record = s.at(r.record[:0], p)
		return p, r.record, nil
	}
	g := s.packed.groups[p.group-1]
	if r.group != p.group {
		if r.u == nil {
			r.u = newUnpacker()
		}
		r.group = 0
		if err := e.unpackUnlocked(r.u, g); err != nil {
			return p, nil, err
		}
		r.group = p.group
	}
	return p, r.u.record(g.at(chunk, p.off)), nil
}

package dmg

import (
	"slices"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/indexfile"
)

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
	if a.Used[budget.Checkpoints]+n > checkpointShare(a)/8*packedShare || !a.Take(budget.Checkpoints, n) {
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
	s.filter(func(p *checkpoint, _ int64) bool { return p.group == 0 })
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
	s.compact()
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

// yield makes room where nothing else can. It reports whether there was anything
// to give up.
func (e *engine) shedCheckpoints() bool {
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

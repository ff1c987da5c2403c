package dmg

// doubts are the places where chunks failed to decode last. The damage may be the
// image's, or the source's alone, which has given a wrong byte this once. Then what
// was decoded on the way is wrong too: what is cached of it, and the checkpoints made
// of it. So these are given up; if decoding fails anew in the same place, and has come
// to the same bytes, it is the image, and they stay. So do the checkpoints of bzip2,
// which are made of blocks that have been checked. The engine's lock guards it.
type doubts struct {
	last [maxDoubts]doubt
	next int // the number of the next one
}

const maxDoubts = 64

// doubt is a place where decoding failed.
type doubt struct {
	chunk int
	pos   int64
	sum   uint32 // of what is before pos, where the codec has one
	known bool   // set
}

// again notes a place, and reports whether it was among the last.
func (s *doubts) again(d doubt) bool {
	for i := range s.last {
		if s.last[i] == d {
			return true
		}
	}
	s.last[s.next%maxDoubts] = d
	s.next++
	return false
}

// since reports whether there may have been doubts about a chunk since next was n.
func (s *doubts) since(chunk, n int) bool {
	if s.next-n > maxDoubts {
		return true
	}
	for ; n < s.next; n++ {
		if s.last[n%maxDoubts].chunk == chunk {
			return true
		}
	}
	return false
}

// distrust gives up what was made of the chunk that d failed to decode, unless it has
// failed so before; all says that what is cached can't be right even then.
func (e *engine) distrust(d *decoder, all bool) {
	chunk := d.chunk
	at := doubt{chunk: chunk, pos: d.pos, known: true}
	z, ok := d.codec.(*zlibCodec)
	if ok {
		z.addLast()
		at.sum = z.sum
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	again := e.mu.doubts.again(at)
	if p := e.mu.points.before(chunk, at.pos); ok && p.group == 0 && p.off == at.pos && p.off > 0 && p.sum != at.sum {
		again = false // it may be the checkpoint that is wrong, and as the one before it was
	}
	if !again || all {
		e.mu.cache.forget(chunk, e.chunks[chunk].Length)
	}
	if again {
		return
	}
	if d.method != Bzip2 { // whose blocks have been checked before more is made of them
		e.mu.points.forget(chunk)
	}
	d.disown()
	c := &e.chunks[chunk]
	for _, other := range e.mu.parked {
		if other.chunk == chunk {
			other.disown()
		}
		if other.fetch.overlaps(c.DataOffset, c.streamEnd()) {
			other.fetch.forget()
		}
	}
}

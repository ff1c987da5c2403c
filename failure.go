package dmg

// failures are the places where chunks failed to decode last. The damage may be the
// image's, or the source's alone, which has given a wrong byte this once. Then what
// was decoded on the way is wrong too: what is cached of it, and the checkpoints made
// of it. So these are given up; if decoding fails anew in the same place, and has come
// to the same bytes, it is the image, and they stay. So do the checkpoints of bzip2,
// which are made of blocks that have been checked. The engine's lock guards it.
type failures struct {
	last [maxFailures]failure
	next int // the number of the next one
}

const maxFailures = 64

// failure is a place where decoding failed.
type failure struct {
	chunk int
	pos   int64
	sum   uint32 // of what is before pos, where the codec has one
	known bool   // set
}

// again notes a place, and reports whether it was among the last.
func (s *failures) seenBefore(d failure) bool {
	for i := range s.last {
		if s.last[i] == d {
			return true
		}
	}
	s.last[s.next%maxFailures] = d
	s.next++
	return false
}

// since reports whether there may have been failures in a chunk since next was n.
func (s *failures) invalidatedSince(chunk, n int) bool {
	if s.next-n > maxFailures {
		return true
	}
	for ; n < s.next; n++ {
		if s.last[n%maxFailures].chunk == chunk {
			return true
		}
	}
	return false
}

// invalidate gives up what was made of the chunk that d failed to decode, unless it has
// failed so before; all says that what is cached can't be right even then.
func (e *engine) invalidate(d *decoder, all bool) {
	chunk := d.chunk
	at := failure{chunk: chunk, pos: d.pos, known: true}
	summed := false
	at.sum, summed = d.codec.sumSoFar()
	e.mu.Lock()
	defer e.mu.Unlock()
	again := e.mu.failures.seenBefore(at)
	if p := e.mu.points.before(chunk, at.pos); summed && p.group == 0 && p.off == at.pos && p.off > 0 && p.sum != at.sum {
		again = false // it may be the checkpoint that is wrong, and as the one before it was
	}
	if !again || all {
		e.mu.cache.DropPages(chunk, e.chunks[chunk].Length)
	}
	if again {
		return
	}
	if !d.method.info().blocks { // which are checked before more is made of them
		e.mu.points.dropChunk(chunk)
	}
	d.abandon()
	c := &e.chunks[chunk]
	for _, other := range e.mu.idle {
		if other.chunk == chunk {
			other.abandon()
		}
		if other.fetch.overlaps(c.DataOffset, c.streamEnd()) {
			other.fetch.discardBuffer()
		}
	}
}

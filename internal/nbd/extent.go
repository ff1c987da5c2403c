package nbd

// extent is a part of the disk that is data throughout, or a hole throughout.
type extent struct {
	off, end int64
	hole     bool
}

// maxSteps is how often Status is asked for one request. A disk in smaller pieces is still described truly: what
// lies beyond is called data, which is never wrong (proto.md: a status of 0 is always safe).
const maxSteps = 1 << 16

// extents walks the extents of [off, end): adjacent ones of a kind are joined.
type extents struct {
	status   func(int64) (int64, bool)
	off, end int64
	steps    int
	ahead    extent // the piece Status told of last, not yet part of an extent
}

func (x *Export) extents(off, end int64) *extents {
	return &extents{status: x.Status, off: off, end: end}
}

// next returns the next extent; ok is false after the last.
func (w *extents) next() (e extent, ok bool) {
	if w.off >= w.end {
		return extent{}, false
	}
	e = w.piece(w.off)
	for e.end < w.end {
		p := w.piece(e.end)
		if p.hole != e.hole {
			w.ahead = p
			break
		}
		e.end = p.end
	}
	w.off = e.end
	return e, true
}

// piece asks for the extent at off, and cuts it to the walk's range. An answer that makes no progress counts as data
// to the end.
func (w *extents) piece(off int64) extent {
	if w.ahead.off == off && w.ahead.end > off {
		return w.ahead
	}
	if w.status == nil || w.steps >= maxSteps {
		return extent{off: off, end: w.end}
	}
	w.steps++
	end, hole := w.status(off)
	if end <= off {
		return extent{off: off, end: w.end}
	}
	return extent{off: off, end: min(end, w.end), hole: hole}
}

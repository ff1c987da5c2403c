package dmg

import (
	"errors"
	"fmt"
)

// Damage is a range of the disk that can't be read as it was stored. [Image.Extract] and
// [Image.Verify] report them.
type Damage struct {
	Offset, Length int64 // on the disk, in bytes

	// Lost says that some bytes of the range do not decode. Extract writes zeros for
	// them; other bytes of the same sector may decode, and are doubtful. Without Lost
	// the range is doubtful: it decodes, but no checksum confirms it, or one
	// contradicts it.
	Lost bool

	// Err says why: a *ChunkError, or a *ChecksumError of a block table.
	Err error
}

// End returns the offset behind the range.
func (d Damage) End() int64 { return d.Offset + d.Length }

// String returns the range in sectors, and whether it is lost or doubtful.
func (d Damage) String() string {
	kind := "doubtful"
	if d.Lost {
		kind = "lost"
	}
	return fmt.Sprintf("%s sectors %d-%d", kind, d.Offset/sectorSize, max(d.Offset, d.End()-1)/sectorSize)
}

// quality says what can be said of bytes that were salvaged.
type quality int

const (
	confirmed   quality = iota // by a checksum
	unconfirmed                // decoded
	partial                    // decoded, but for some bytes that are zeros instead
)

// salvaged takes bytes of a chunk that were salvaged, in order.
type salvaged func(off int64, b []byte, q quality) error

// damageNotes joins neighbouring ranges of one kind before they are reported.
type damageNotes struct {
	run  *pipelineRun
	last Damage
	err  error // of the receiver
}

// add notes a range.
func (n *damageNotes) add(off, end int64, lost bool, err error) {
	if off >= end {
		return
	}
	if n.last.Length > 0 && n.last.End() == off && n.last.Lost == lost && n.last.Err == err {
		n.last.Length += end - off
		return
	}
	n.report()
	n.last = Damage{off, end - off, lost, err}
}

// report passes the last range on.
func (n *damageNotes) report() error {
	if n.last.Length > 0 && n.err == nil {
		n.run.damage.Lock()
		n.err = n.run.damaged(n.last)
		n.run.damage.Unlock()
	}
	n.last = Damage{}
	return n.err
}

// salvage delivers what can be decoded of a task that is damaged at byte at of the
// disk, and zeros for the rest, and reports both. It returns how far it got, and the
// error that ends the run, if any does.
func (w *worker) salvage(t *task, at int64, cause *ChunkError) (int64, error) {
	t.sum.spoil()
	notes := damageNotes{run: w.run}
	from, tried := t.off, t.off-1
	if t.d != nil {
		from = w.chainStart(t)
	}
	for {
		if t.d != nil {
			notes.add(max(from, min(at, w.proven(t))), at, false, cause)
		}
		if at == t.end {
			return at, notes.report()
		}
		next := w.restart(t, max(at, tried+1))
		if next < 0 {
			break
		}
		tried = next
		notes.add(at, next, true, cause)
		var err error
		if at, err = w.sendZeros(t, at, next); err != nil {
			return at, err
		}
		from = next
		if c := &w.run.e.chunks[t.chunk]; t.d != nil {
			at, err = w.fillDecoded(t, c, next)
		} else {
			at, err = w.fillRaw(t, c, next)
		}
		if err == nil {
			return at, notes.report()
		}
		if !errors.As(err, &cause) || errors.Is(err, ErrMemoryLimit) || ofIndexAlone(err) {
			return at, err
		}
	}
	at, err := w.salvageTail(t, at, cause, &notes)
	if err != nil {
		return at, err
	}
	return at, notes.report()
}

// restart returns the next place on the disk, at or after at, where a saved checkpoint
// lets decoding go on in t; -1 if there is none. Checkpoints that this run left are
// as doubtful as what they were made of.
func (w *worker) restart(t *task, at int64) int64 {
	e := w.run.e
	c := &e.chunks[t.chunk]
	if t.d == nil {
		return e.nextBlock(c, at, t.end)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for off := at - c.Offset; ; {
		p, ok := e.mu.points.after(t.chunk, off)
		switch {
		case !ok || c.Offset+p.off >= t.end:
			return -1
		case p.saved():
			return c.Offset + p.off
		}
		off = p.off + 1
	}
}

// nextBlock returns where on the disk the next block begins of the archive that raw chunk c is
// in, behind byte at of the disk; -1 if that is not before end.
func (e *engine) nextBlock(c *Chunk, at, end int64) int64 {
	if e.src.block == 0 || c.Method != Raw {
		return -1
	}
	data := c.DataOffset - c.Offset
	if next := ((at+data)/e.src.block+1)*e.src.block - data; next < end {
		return next
	}
	return -1
}

// salvageTail delivers what the codec finds behind the damage without a checkpoint, and
// zeros for what is lost.
func (w *worker) salvageTail(t *task, at int64, cause *ChunkError, notes *damageNotes) (int64, error) {
	lose := func(end int64) error {
		notes.add(at, end, true, cause)
		var err error
		at, err = w.sendZeros(t, at, end)
		return err
	}
	if t.d != nil {
		c := &w.run.e.chunks[t.chunk]
		t.d.fetch.ctx = w.run.ctx
		err := t.d.codec.salvage(t.d, c, at-c.Offset, func(off int64, b []byte, q quality) error {
			off += c.Offset
			if skip := max(0, at-off); skip > 0 {
				b = b[min(skip, int64(len(b))):]
				off += skip
			}
			b = b[:max(0, min(int64(len(b)), t.end-off))]
			if len(b) == 0 {
				return nil
			}
			if err := lose(off); err != nil {
				return err
			}
			if q != confirmed {
				notes.add(off, off+int64(len(b)), q == partial, cause)
			}
			var ok bool
			if at, ok = w.copy(t, at, b); !ok {
				return w.run.ctx.Err()
			}
			return nil
		})
		t.d.fetch.ctx = nil
		if err != nil && !(w.run.e.src.inner && isDamage(err)) { // an archive has no more of it
			return at, err
		}
	}
	return t.end, lose(t.end)
}

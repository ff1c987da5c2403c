package nbd

import (
	"fmt"
	"io"
)

const (
	// readPiece is the longest data chunk of a structured reply: a long read goes out as it is decoded, and needs
	// no buffer of its whole length.
	readPiece = 4 << 20

	// cachePiece is how much a cache request reads at a time, to throw it away.
	cachePiece = 1 << 20

	// minHole is the shortest hole sent as one within a read: for a shorter one, zeros within a longer chunk cost
	// less than two chunks more.
	minHole = 32 << 10
)

// readCost is the memory a read takes: that of its longest piece.
func (c *conn) readCost(q *request) int64 {
	return classSize(c.pieceLen(q))
}

// pieceLen is the length of the data a read sends at once. Simple replies and unfragmented ones have one piece.
func (c *conn) pieceLen(q *request) int {
	n := int(q.length)
	if c.structured && q.flags&cmdFlagDF == 0 {
		n = min(n, readPiece)
	}
	return n
}

// read answers a read.
func (c *conn) read(q *request) error {
	switch {
	case q.length == 0: // not to be sent by clients, nor a reason to disconnect
		return c.succeed(q)
	case !c.structured:
		return c.readSimple(q)
	case q.flags&cmdFlagDF != 0:
		return c.readWhole(q)
	}
	return c.readPieces(q)
}

// readSimple answers with a simple reply: all the data must be there before the header says that they come.
func (c *conn) readSimple(q *request) error {
	b := c.pool.take(int(q.length))
	defer c.pool.give(b)
	msg := (*b)[headroom-simpleLen : headroom+int(q.length)]
	if _, err := c.readAt(msg[simpleLen:], int64(q.offset)); err != nil {
		return c.fail(q, eIO, err.Error())
	}
	putSimple(msg, q.cookie, 0)
	return c.send(msg)
}

// readWhole answers with one content chunk: a hole only if all is one.
func (c *conn) readWhole(q *request) error {
	e, _ := c.extents(int64(q.offset), q.end()).next()
	if e.hole && e.end == q.end() {
		return c.sendHole(q, e)
	}
	return c.sendData(q, e.off, q.end())
}

// readPieces answers with a chunk for each hole and each piece of data.
func (c *conn) readPieces(q *request) error {
	walk := c.extents(int64(q.offset), q.end())
	data := int64(q.offset) // from here to the extent at hand all is data, not yet sent
	for e, ok := walk.next(); ok; e, ok = walk.next() {
		whole := e.off == int64(q.offset) && e.end == q.end()
		if !e.hole || e.end-e.off < minHole && !whole {
			continue
		}
		if err := c.sendData(q, data, e.off); err != nil {
			return err
		}
		if err := c.sendHole(q, e); err != nil {
			return err
		}
		data = e.end
	}
	return c.sendData(q, data, q.end())
}

// sendHole sends an extent as a hole chunk.
func (c *conn) sendHole(q *request, e extent) error {
	b := make([]byte, structuredLen, structuredLen+chunkOffset+4)
	b = be.AppendUint64(b, uint64(e.off))
	b = be.AppendUint32(b, uint32(e.end-e.off))
	putChunk(b, q.cookie, doneIf(e.end == q.end()), chunkOffsetHole)
	return c.send(b)
}

// sendData reads and sends [off, end) as data chunks. When reading fails the request has been answered with that, and
// errAnswered is returned, so that nothing more is sent for it.
func (c *conn) sendData(q *request, off, end int64) error {
	if off == end {
		return nil
	}
	piece := int64(c.pieceLen(q))
	b := c.pool.take(int(min(piece, end-off)))
	defer c.pool.give(b)
	for ; off < end; off += piece {
		n := min(piece, end-off)
		msg := (*b)[headroom-structuredLen-chunkOffset : headroom+n]
		payload := msg[structuredLen:]
		if got, err := c.readAt(payload[chunkOffset:], off); err != nil {
			return c.failAt(q, err, off+int64(got))
		}
		be.PutUint64(payload, uint64(off))
		putChunk(msg, q.cookie, doneIf(off+n == q.end()), chunkOffsetData)
		if err := c.send(msg); err != nil {
			return err
		}
	}
	return nil
}

// readAt fills p from the disk. Nothing less will do: the rest of p holds bytes of some other answer.
func (c *conn) readAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	if n >= len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	n = max(n, 0)
	c.report(fmt.Errorf("nbd: reading %d bytes at %d: %w", len(p), off, err))
	return n, err
}

// cache reads a range to no end but that the disk's own cache then holds it.
func (c *conn) cache(q *request) error {
	b := c.pool.take(cachePiece)
	defer c.pool.give(b)
	for off := int64(q.offset); off < q.end() && c.lost() == nil; off += cachePiece {
		n := min(cachePiece, q.end()-off)
		if _, err := c.readAt((*b)[:n], off); err != nil {
			return c.fail(q, eIO, err.Error())
		}
	}
	return c.succeed(q)
}

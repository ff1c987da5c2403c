package nbd

import (
	"fmt"
	"io"
)

const (
	// readPiece is the longest data chunk of a structured reply: a long read goes out as it is decoded, and needs
	// no buffer of its whole length.
	readPiece = 256 << 10

	// minHole is the shortest hole sent as one within a read: for a shorter one, zeros within a longer chunk cost
	// less than two chunks more.
	minHole = 32 << 10
)

// readBuffer is the buffer a read is served best with: for a piece or, where the answer has one piece, for all of it.
func (c *conn) readBuffer(q *request) int {
	if c.structured && q.flags&cmdFlagDF == 0 {
		return min(int(q.length), readPiece)
	}
	return int(q.length)
}

// read answers a read.
func (c *conn) read(q *request, l *lease) error {
	switch {
	case q.length == 0: // not to be sent by clients, nor a reason to disconnect
		return c.succeed(q)
	case !c.structured:
		return c.readWhole(q, l, simpleLen)
	case q.flags&cmdFlagDF == 0:
		return c.readPieces(q, l)
	}
	e, _ := c.extents(int64(q.offset), q.end()).next()
	if e.hole && e.end == q.end() { // in one chunk, only a hole of that length is one
		return c.sendHole(q, e)
	}
	return c.readWhole(q, l, structuredLen+chunkOffset)
}

// readWhole answers with one message, a simple reply or a data chunk, whose header has head bytes. All the data must
// be known to be readable before the header says that they come. Data too long for the buffer are read twice, for few
// clients ask for so much in one piece: once to see that they can be read, and again to send them.
func (c *conn) readWhole(q *request, l *lease, head int64) error {
	off, n := int64(q.offset), min(int64(q.length), l.size())
	for at := off; at < q.end(); at += n {
		if at > off && c.gone.Load() {
			c.hangUp(io.EOF)
			return io.EOF
		}
		p := l.message(0, min(n, q.end()-at))
		if got, err := c.readAt(l, p, at); err != nil {
			return c.failAt(q, err, at+int64(got))
		}
	}
	if n == int64(q.length) {
		msg := l.message(head, n)
		c.putHead(msg, q)
		return c.send(msg)
	}
	c.writing.Lock() // the message must stay whole, so others wait while its pieces are read
	defer c.writing.Unlock()
	for at := off; at < q.end(); at += n {
		piece := min(n, q.end()-at)
		if _, err := c.readAt(l, l.message(0, piece), at); err != nil {
			// The header has said that the data come. proto.md (NBD_CMD_READ) wants "a hard disconnect" then.
			c.hangUp(errCutAnswer)
			return errCutAnswer
		}
		msg := l.message(0, piece)
		if at == off {
			msg = l.message(head, piece)
			c.putHead(msg, q)
		}
		if err := c.write(msg); err != nil {
			return err
		}
	}
	return nil
}

// putHead writes the header of an answer that has all the data in one message.
func (c *conn) putHead(msg []byte, q *request) {
	if c.structured {
		putData(msg, q.cookie, replyFlagDone, q.offset, q.length)
	} else {
		putSimple(msg, q.cookie, 0)
	}
}

// readPieces answers with a chunk for each hole and each piece of data.
func (c *conn) readPieces(q *request, l *lease) error {
	walk := c.extents(int64(q.offset), q.end())
	data := int64(q.offset) // from here to the extent at hand all is data, not yet sent
	for e, ok := walk.next(); ok; e, ok = walk.next() {
		whole := e.off == int64(q.offset) && e.end == q.end()
		if !e.hole || e.end-e.off < minHole && !whole {
			continue
		}
		if err := c.sendData(q, l, data, e.off); err != nil {
			return err
		}
		if err := c.sendHole(q, e); err != nil {
			return err
		}
		data = e.end
	}
	return c.sendData(q, l, data, q.end())
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
func (c *conn) sendData(q *request, l *lease, off, end int64) error {
	for off < end {
		n := min(l.size(), end-off, readPiece)
		if got, err := c.readAt(l, l.message(0, n), off); err != nil {
			return c.failAt(q, err, off+int64(got))
		}
		msg := l.message(structuredLen+chunkOffset, n)
		putData(msg, q.cookie, doneIf(off+n == q.end()), uint64(off), uint32(n))
		if err := c.send(msg); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// readAt fills p, which is a part of l's buffer, from the disk. Nothing less will do: the rest of p holds bytes of some
// other answer. It reads in pieces, so that other connections get their turns.
func (c *conn) readAt(l *lease, p []byte, off int64) (n int, err error) {
	for n < len(p) && err == nil {
		var got int
		got, err = c.readOnce(l, p[n:min(len(p), n+readPiece)], off+int64(n))
		n += got
	}
	return n, err
}

// readOnce is readAt for a piece.
func (c *conn) readOnce(l *lease, p []byte, off int64) (int, error) {
	if err := c.lost(); err != nil {
		return 0, err // nobody waits for the data
	}
	c.gate.enter(&c.line, len(p))
	defer c.gate.leave()
	n, err := c.readDisk(l, p, off)
	if n >= len(p) {
		return len(p), nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	n = max(n, 0)
	c.report(fmt.Errorf("nbd: reading %d bytes at %d: %w", len(p), off, err))
	return n, err
}

// cache reads a range to no end but that the disk's own cache then holds it. It stops after a piece when the client
// has gone without a word.
func (c *conn) cache(q *request, l *lease) error {
	for off := int64(q.offset); off < q.end(); {
		p := l.message(0, min(l.size(), q.end()-off))
		if _, err := c.readAt(l, p, off); err != nil {
			return c.fail(q, eIO, messageFor(err))
		}
		off += int64(len(p))
		if c.gone.Load() {
			break
		}
	}
	return c.succeed(q)
}

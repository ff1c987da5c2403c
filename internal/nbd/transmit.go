package nbd

import (
	"fmt"
	"io"
	"time"
)

// request is one request as received.
type request struct {
	flags, cmd uint16
	cookie     uint64 // the client's name for the request, repeated in the answer
	offset     uint64
	length     uint32
}

// end is the first byte after the request's range, once checkRange has passed it.
func (q *request) end() int64 { return int64(q.offset) + int64(q.length) }

// transmit serves requests until the client ends the session or breaks the protocol, or the server ends. Requests in
// flight are still running when it returns.
func (c *conn) transmit() error {
	if err := c.readUntil(time.Time{}); err != nil {
		return err // a block device may be idle for days: no deadline
	}
	for {
		q, err := c.readRequest()
		if err != nil {
			return err
		}
		if err := c.begin(q); err != nil {
			return err
		}
	}
}

// readRequest reads the next request's header.
func (c *conn) readRequest() (request, error) {
	var h [requestLen]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return request{}, err
	}
	if m := be.Uint32(h[:]); m != magicRequest {
		return request{}, fmt.Errorf("%w: request magic %#x", errProtocol, m)
	}
	return request{
		flags:  be.Uint16(h[4:]),
		cmd:    be.Uint16(h[6:]),
		cookie: be.Uint64(h[8:]),
		offset: be.Uint64(h[16:]),
		length: be.Uint32(h[24:]),
	}, nil
}

// begin starts the work a request asks for, or refuses it. An error ends the connection.
func (c *conn) begin(q request) error {
	switch q.cmd {
	case cmdDisc:
		return errAbort
	case cmdWrite:
		// The data follows the header, and is passed over whatever its length: that costs us nothing to hold,
		// and the client as much time as us.
		if err := c.skip(int64(q.length)); err != nil {
			return err
		}
	}
	if e, msg := c.check(&q); e != 0 {
		return c.fail(&q, e, msg)
	}
	switch q.cmd {
	case cmdRead:
		return c.start(q, c.readBuffer(&q), (*conn).read)
	case cmdCache:
		return c.start(q, readPiece, (*conn).cache)
	default: // cmdBlockStatus: check lets no other through
		return c.start(q, statusBuffer, (*conn).blockStatus)
	}
}

// skip passes over n bytes of input.
func (c *conn) skip(n int64) error {
	// In steps, as Discard takes an int, which may have 32 bits.
	for n > 0 {
		d, err := c.r.Discard(int(min(n, maxRequest)))
		if err != nil {
			return noEOF(err)
		}
		n -= int64(d)
	}
	return nil
}

// check returns why a request must be refused, or zero.
func (c *conn) check(q *request) (errno, string) {
	var known uint16 // the flags the command may carry
	switch q.cmd {
	case cmdWrite, cmdTrim, cmdWriteZeroes:
		return ePerm, "export is read-only"
	case cmdRead:
		if c.structured {
			known = cmdFlagDF
		}
	case cmdCache:
	case cmdBlockStatus:
		if !c.allocation {
			return eInval, "no metadata context selected"
		}
		known = cmdFlagReqOne
	default:
		return eInval, "unknown command"
	}
	switch {
	case c.ctx.Err() != nil:
		return eShutdown, "server is shutting down"
	case q.flags&^known != 0:
		return eInval, "unknown flag"
	}
	return c.checkRange(q)
}

// checkRange refuses what lies outside the disk or is too long to answer.
func (c *conn) checkRange(q *request) (errno, string) {
	size := uint64(c.Size)
	switch {
	case q.offset > size || uint64(q.length) > size-q.offset:
		return eInval, "beyond the end of the export"
	case q.cmd == cmdBlockStatus && q.length == 0:
		return eInval, "no length" // the answer could hold no extent
	case q.cmd == cmdBlockStatus || q.length <= maxRequest:
		return 0, ""
	case q.flags&cmdFlagDF != 0:
		return eOverflow, "longer than 32 MiB"
	}
	return eInval, "longer than 32 MiB"
}

// start runs a request in a goroutine of its own once there are a place and a buffer for it, of n bytes or, where these
// are short, less. Until then nothing more is read from the client.
func (c *conn) start(q request, n int, run func(*conn, *request, *lease) error) error {
	l, err := c.memory.acquire(c.alive, &c.share, n)
	if err != nil {
		return err
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		defer c.memory.release(l)
		returned := c.contain(func() {
			run(c, &q, l) // an error is the connection's, which remembers it
		})
		l.lost = l.lost || !returned
	}()
	return nil
}

package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readBuffer holds requests that arrived together: 73 of them in one system call.
	readBuffer = 2048

	// writeSteps is in how many steps the time is measured in which a client takes nothing.
	writeSteps = 8
)

var (
	errGrace     = errors.New("requests still in flight when the server ended")
	errFull      = errors.New("refused: as many connections as there may be, or server ended")
	errGaveWay   = errors.New("had not finished its handshake when a newer connection needed the place")
	errStuck     = errors.New("client takes no answers")
	errCutAnswer = errors.New("data that were read once could not be read again: answer cut off")
	errAbort     = errors.New("client ended the session") // by its wish: never reported
	errProtocol  = errors.New("client broke the protocol")
	errNoExport  = errors.New("client asked for an export that is not here")
	errTooMany   = errors.New("client sent too many options")
	errOptionLen = errors.New("client sent too long an option")
)

// conn is one client's connection. Its own goroutine reads; requests run in others, at most maxInFlight.
type conn struct {
	*session
	nc     net.Conn
	r      *bufio.Reader
	alive  context.Context // done when the connection is: wakes whoever waits for memory
	cancel context.CancelFunc

	// What the handshake agreed on.
	noZeroes   bool
	structured bool
	allocation bool // the context base:allocation is selected

	deadline    time.Time // of the handshake, for reading and writing; zero after it
	number      int64     // counts connections: the greater, the newer; guarded by the session's lock
	established bool      // the handshake is over; guarded by the session's lock
	option      []byte    // what the handshake read last, to be used again

	share share          // of the server's memory
	line  line           // of reads at the server's gate
	wg    sync.WaitGroup // of the requests in flight

	writing sync.Mutex  // one message is written at a time
	gone    atomic.Bool // the client disconnected, without the command for it

	mu struct {
		sync.Mutex
		lost error // why the connection was given up; set once
	}
}

func (se *session) newConn(nc net.Conn) *conn {
	c := &conn{
		session: se,
		nc:      nc,
		r:       bufio.NewReaderSize(nc, readBuffer),
	}
	// Not a child of the session's context: requests begun before that ends are still answered.
	c.alive, c.cancel = context.WithCancel(context.Background())
	return c
}

// serve runs the connection from the greeting to its end. All its goroutines have ended when it returns.
func (c *conn) serve() {
	defer c.cancel()
	var err error
	c.contain(func() {
		if err = c.handshake(); err == nil {
			err = c.transmit()
		}
	})
	c.gone.Store(err != nil && err != errAbort)
	c.wg.Wait()
	c.nc.Close()
	if lost := c.lost(); lost != nil {
		err = lost // reading failed only because of it
	}
	if c.worthReporting(err) {
		c.report(fmt.Errorf("nbd: %v: %w", c.nc.RemoteAddr(), err))
	}
}

// worthReporting tells failures from the ordinary ends of a connection: the client's wish, its disconnecting between
// two messages, and ours.
func (c *conn) worthReporting(err error) bool {
	switch {
	case err == errAbort, err == io.EOF:
		return false
	case c.ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
		return false
	}
	return err != nil
}

// readUntil sets the time until which the client's next bytes may come; none if zero. It fails when the session is
// ending: its stopReading may have come before and been overwritten, but not before the session's context was done.
func (c *conn) readUntil(t time.Time) error {
	c.nc.SetReadDeadline(t)
	if c.ctx.Err() != nil {
		return errAbort
	}
	return nil
}

// stopReading makes the connection's goroutine take no more from the client. Safe to call from another goroutine.
func (c *conn) stopReading() {
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// hangUp closes the connection at once, for the reason given. Whoever is writing fails. Safe to call from another
// goroutine.
func (c *conn) hangUp(err error) {
	c.mu.Lock()
	if c.mu.lost == nil {
		c.mu.lost = err
	}
	c.mu.Unlock()
	c.nc.Close()
	c.cancel()
}

// lost returns why the connection was given up, nil if it was not.
func (c *conn) lost() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.lost
}

// send writes one whole message. A failure is the connection's end: the client has lost its place in the stream.
func (c *conn) send(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.write(b)
}

// write writes a part of a message. The caller holds the writing lock until the message is whole.
//
// A client that takes nothing for limits.write is cut off. One that takes its answers slowly is not, so the write is
// tried in steps: a deadline of the whole time would not tell when in it the client last took something.
func (c *conn) write(b []byte) error {
	step := c.WriteTimeout / writeSteps
	for idle := 0; ; {
		if err := c.lost(); err != nil {
			return err
		}
		c.nc.SetWriteDeadline(c.writeUntil(step))
		n, err := c.nc.Write(b)
		b = b[n:]
		if err == nil {
			return nil
		}
		if n > 0 {
			idle = 0
		} else {
			idle++
		}
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
		case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		case idle < writeSteps:
			continue
		default:
			err = fmt.Errorf("%w for %v: cut off", errStuck, c.WriteTimeout)
		}
		c.hangUp(err)
		return err
	}
}

// writeUntil returns the deadline of a step of a write, which ends with the handshake's if that is sooner.
func (c *conn) writeUntil(step time.Duration) time.Time {
	t := time.Now().Add(step)
	if !c.deadline.IsZero() && c.deadline.Before(t) {
		return c.deadline
	}
	return t
}

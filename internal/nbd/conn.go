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
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxInFlight is how many requests of a connection are worked on at once. QEMU sends no more than 16; what
	// other clients send beyond it waits in the socket.
	maxInFlight = 16

	// connMemory is how many bytes of buffers a connection may hold, so that one whose client does not take its
	// answers leaves the rest of the server's memory to others. It lets every single request through.
	connMemory = maxRequest

	// writePiece is how much is written under one deadline: a slow client that makes progress is no stuck one.
	writePiece = 1 << 20

	// readBuffer holds requests that arrived together: 73 of them in one system call.
	readBuffer = 2048
)

var (
	errGrace     = errors.New("requests still in flight when the server ended")
	errFull      = errors.New("as many connections as there may be, or server ended")
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

	slots   *semaphore.Weighted
	holding *semaphore.Weighted
	wg      sync.WaitGroup // of the requests in flight

	writing sync.Mutex // one message is written at a time

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
		slots:   semaphore.NewWeighted(maxInFlight),
		holding: semaphore.NewWeighted(connMemory),
	}
	// Not a child of the session's context: requests begun before that ends are still answered.
	c.alive, c.cancel = context.WithCancel(context.Background())
	return c
}

// serve runs the connection from the greeting to its end. All its goroutines have ended when it returns.
func (c *conn) serve() {
	defer c.cancel()
	err := c.handshake()
	if err == nil {
		err = c.transmit()
	}
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
	for len(b) > 0 {
		if err := c.lost(); err != nil {
			return err
		}
		n := min(len(b), writePiece)
		c.nc.SetWriteDeadline(time.Now().Add(c.limits.write))
		if _, err := c.nc.Write(b[:n]); err != nil {
			c.hangUp(err)
			return err
		}
		b = b[n:]
	}
	return nil
}

// acquire waits for a place among the requests in flight and for n bytes of memory. It fails only when the connection
// has ended.
func (c *conn) acquire(n int64) error {
	if err := c.slots.Acquire(c.alive, 1); err != nil {
		return err
	}
	if err := c.holding.Acquire(c.alive, n); err != nil {
		c.slots.Release(1)
		return err
	}
	if err := c.memory.Acquire(c.alive, n); err != nil {
		c.holding.Release(n)
		c.slots.Release(1)
		return err
	}
	return nil
}

// release undoes acquire.
func (c *conn) release(n int64) {
	c.memory.Release(n)
	c.holding.Release(n)
	c.slots.Release(1)
}

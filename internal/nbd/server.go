// Package nbd serves one read-only export over the Network Block Device protocol.
//
// It speaks the fixed newstyle handshake and the transmission phase of the NBD project's doc/proto.md, without TLS
// and without extended headers: reads as simple or structured replies, with holes sent as holes; block status in the
// context base:allocation; cache requests; several requests in flight, answered in any order; several connections.
// Whatever would write is refused with EPERM.
//
// Clients are untrusted. What they can make the server do is bounded:
//
//   - Connections: [Server.MaxConns]. One that has not finished its handshake gives way to a newer one, and is closed
//     after 30 seconds in any case. An established one may be idle for days: it costs about 10 KiB.
//   - Requests: 16 of each connection are worked on at once; the rest wait in the socket. 32 reads of the disk run at
//     once, and the connection that has had least goes next.
//   - Memory: [Server.MaxMemory] for all requests in flight, and 48 KiB for each connection. A connection may hold as
//     much as a quarter of what it leaves to others, and always has 32 KiB for itself: clients that take no answers
//     can't keep other clients' requests waiting for memory. A long answer goes out in pieces of what memory there is.
//   - Time: a client that takes nothing of an answer for [Server.WriteTimeout] is cut off. One that reads slowly stays.
//   - Options: their number and length.
//
// A connection that breaks the protocol is closed and no other one notices. A panic of the disk is an I/O error: see
// [PanicError].
package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"sync"
	"time"
)

// Export is the disk served.
type Export struct {
	// Name is what clients ask for. The empty name, the protocol's default export, finds the export as well.
	Name string
	// Description is a line for people; may be empty. Both strings are cut at the protocol's 4096 bytes.
	Description string
	// Size is the disk's length in bytes.
	Size int64
	// ReaderAt is the disk's content. Calls run concurrently, and always lie within Size.
	ReaderAt io.ReaderAt
	// Status gives the extent that holds off: its end, and whether it is a hole, which reads as zeros. It is
	// called concurrently and for every read, so it must be quick. If nil, all is data.
	Status func(off int64) (end int64, hole bool)
	// BlockSize is the length of aligned reads that serve the disk best, announced as the preferred block size.
	// It is rounded up to a power of two from 4096 to 32 MiB.
	BlockSize int
}

// Server serves one export. Its fields must not change while Serve runs; several calls of Serve may run at once, on
// different listeners.
type Server struct {
	Export

	// MaxConns is how many clients may be connected at once, DefaultMaxConns if zero. If there are as many, the oldest that has
	// not finished its handshake is closed in favour of a new one, and if all have finished, the new one is closed
	// at once: a client fails instead of waiting, and no one loses a disk in use.
	MaxConns int
	// MaxMemory is how many bytes one call of Serve may hold for requests in flight, 16 MiB if zero. Each connection
	// can have 48 KiB on top: 12 MiB for 256 connections.
	MaxMemory int64
	// WriteTimeout is after how long a client is cut off that takes nothing of an answer, DefaultWriteTimeout if
	// zero. The operating system hides from the server what a client takes in less than about 64 KiB.
	WriteTimeout time.Duration
	// ErrorLog, if set, is told why a connection was closed other than by the client's wish, and what failed when
	// the disk was read. It is called concurrently.
	ErrorLog func(error)

	limits limits
}

// limits are times a client may take. Tests shorten them.
type limits struct {
	handshake time.Duration // from the connection to the first request
	grace     time.Duration // for answers in flight, once Serve is to end
}

// Defaults of a Server's fields.
const (
	DefaultMaxConns     = 256
	DefaultWriteTimeout = 30 * time.Second
)

const (
	defaultMemory = 16 << 20

	handshakeTime = 30 * time.Second
	graceTime     = 5 * time.Second
)

// session is the state of one call of Serve.
type session struct {
	*Server
	ctx    context.Context // done: no request is begun any more
	cancel context.CancelFunc
	memory *memory
	gate   gate
	wg     sync.WaitGroup // of the connections

	mu struct {
		sync.Mutex
		conns  map[*conn]struct{}
		number int64 // of the newest
		ended  bool  // no connection is added any more
	}
}

// Serve accepts connections on l and serves them until ctx is done, when it returns nil, or until l fails, when it
// returns l's error. In both cases it first closes l, answers the requests it has begun, for at most five seconds,
// and closes every connection; no goroutine is left. It cannot interrupt calls of the Export's methods: it returns
// after them.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	se := s.newSession(ctx)
	accepted := make(chan struct{})
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		select {
		case <-ctx.Done():
		case <-accepted:
		}
		l.Close()
	}()
	err := se.accept(l)
	close(accepted)
	<-closed
	se.end()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// newSession fills in what the server's fields leave to us.
func (s *Server) newSession(ctx context.Context) *session {
	filled := *s
	if filled.MaxConns <= 0 {
		filled.MaxConns = DefaultMaxConns
	}
	if filled.MaxMemory <= 0 {
		filled.MaxMemory = defaultMemory
	}
	filled.Name = cutString(filled.Name, maxString)
	filled.Description = cutString(filled.Description, maxString)
	filled.BlockSize = preferredSize(filled.BlockSize)
	filled.Status = filled.containStatus(filled.Status)
	orElse := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	orElse(&filled.WriteTimeout, DefaultWriteTimeout)
	orElse(&filled.limits.handshake, handshakeTime)
	orElse(&filled.limits.grace, graceTime)
	se := &session{Server: &filled, memory: newMemory(filled.MaxMemory)}
	se.ctx, se.cancel = context.WithCancel(ctx)
	se.mu.conns = make(map[*conn]struct{})
	return se
}

// preferredSize rounds a block size up to what may be announced: a power of two no longer than a request.
func preferredSize(n int) int {
	n = min(max(n, minPreferred), maxRequest)
	return 1 << bits.Len(uint(n-1))
}

// accept starts a goroutine for each connection until the listener fails or the context is done.
func (se *session) accept(l net.Listener) error {
	var wait time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			se.start(nc)
			continue
		}
		// A process out of file descriptors gets them back when a connection ends: not a reason to end.
		var t interface{ Temporary() bool }
		if !errors.As(err, &t) || !t.Temporary() {
			return err
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-se.ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// start serves a connection in the background, or closes it if there are too many.
func (se *session) start(nc net.Conn) {
	c := se.newConn(nc)
	if !se.add(c) {
		c.hangUp(errFull)
		se.report(fmt.Errorf("nbd: %v: %w", nc.RemoteAddr(), errFull))
		return
	}
	go func() {
		defer se.wg.Done()
		defer se.remove(c)
		c.serve()
	}()
}

// add counts a connection in, in the place of an older one if there is no other.
func (se *session) add(c *conn) bool {
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.mu.ended || len(se.mu.conns) >= se.MaxConns && !se.giveWay() {
		return false
	}
	se.mu.conns[c] = struct{}{}
	se.mu.number++
	c.number = se.mu.number
	se.wg.Add(1)
	return true
}

// giveWay closes the oldest connection that has not finished its handshake. Established ones stay even if they are
// idle: a disk that is quiet for an hour is in use all the same. The caller holds the lock.
func (se *session) giveWay() bool {
	var oldest *conn
	for c := range se.mu.conns {
		if !c.established && (oldest == nil || c.number < oldest.number) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	oldest.hangUp(errGaveWay)
	delete(se.mu.conns, oldest)
	return true
}

// establish notes that the connection's handshake is over, before the client is told.
func (c *conn) establish() {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	c.established = true
}

// remove counts a connection out. Without any, no buffers are kept.
func (se *session) remove(c *conn) {
	se.mu.Lock()
	defer se.mu.Unlock()
	delete(se.mu.conns, c)
	if len(se.mu.conns) == 0 {
		se.memory.dropAll()
	}
}

// each calls f for every connection there is, and keeps new ones out.
func (se *session) each(f func(*conn)) {
	se.mu.Lock()
	defer se.mu.Unlock()
	se.mu.ended = true
	for c := range se.mu.conns {
		f(c)
	}
}

// end stops every connection from reading further requests, waits for the answers in flight, closes what has not
// finished when the grace is over, and returns when all goroutines have ended.
func (se *session) end() {
	se.cancel() // before stopReading: see conn.readUntil
	se.each((*conn).stopReading)
	done := make(chan struct{})
	go func() {
		defer close(done)
		se.wg.Wait()
	}()
	grace := time.NewTimer(se.limits.grace)
	defer grace.Stop()
	select {
	case <-done:
		return
	case <-grace.C:
	}
	se.each(func(c *conn) { c.hangUp(errGrace) })
	<-done
}

// report tells the error log, if there is one.
func (s *Server) report(err error) {
	if s.ErrorLog != nil {
		s.ErrorLog(err)
	}
}

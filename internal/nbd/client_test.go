package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// disk is a disk in memory with holes, which can be made to fail or to wait.
type disk struct {
	data  []byte
	holes []extent // sorted
	bad   extent   // reads that touch it fail; empty if none
	gate  chan struct{}
	began chan struct{} // if set, told of every read
}

var errBad = errors.New("bad sector at the named place")

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if d.began != nil {
		d.began <- struct{}{}
	}
	if d.gate != nil {
		<-d.gate
	}
	if off < 0 || off+int64(len(p)) > int64(len(d.data)) {
		return 0, fmt.Errorf("read of [%d,%d) beyond the disk", off, off+int64(len(p)))
	}
	n := copy(p, d.data[off:])
	if d.bad.end > off && d.bad.off < off+int64(n) {
		return int(max(d.bad.off-off, 0)), errBad
	}
	return n, nil
}

func (d *disk) status(off int64) (int64, bool) {
	for _, h := range d.holes {
		switch {
		case off < h.off:
			return h.off, false
		case off < h.end:
			return h.end, true
		}
	}
	return int64(len(d.data)), false
}

// newDisk returns a disk of random bytes but for its holes.
func newDisk(size int, holes ...extent) *disk {
	d := &disk{data: make([]byte, size), holes: holes}
	rng := rand.NewChaCha8([32]byte{7})
	rng.Read(d.data)
	for i, h := range holes {
		clear(d.data[h.off:h.end])
		d.holes[i].hole = true
	}
	return d
}

func (d *disk) export() Export {
	return Export{Name: "disk", Description: "a test's disk", Size: int64(len(d.data)), ReaderAt: d, Status: d.status}
}

// running is a server started for a test.
type running struct {
	t    testing.TB
	addr net.Addr
	stop context.CancelFunc
	done chan error
}

// serve starts s on network, unix or tcp, until the test's end.
func serve(t testing.TB, s *Server, network string) *running {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: t, addr: l.Addr(), stop: stop, done: make(chan error, 1)}
	go func() { r.done <- s.Serve(ctx, l) }()
	t.Cleanup(r.end)
	return r
}

// end stops the server and waits for it.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	if r.done == nil {
		return
	}
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Serve = %v after its context's end, want nil", err)
		}
	case <-time.After(20 * time.Second):
		r.t.Error("Serve did not return")
	}
	r.done = nil
}

// client is a bare NBD client. Its methods fail the test.
type client struct {
	t testing.TB
	net.Conn
	structured bool
}

// dial connects and reads the greeting.
func (r *running) dial(t testing.TB) *client {
	t.Helper()
	c := r.dialRaw(t)
	if g := c.take(18); be.Uint64(g) != magicInit || be.Uint64(g[8:]) != magicOption || be.Uint16(g[16:]) != 3 {
		t.Fatalf("greeting % x", g)
	}
	return c
}

func (r *running) dialRaw(t testing.TB) *client {
	t.Helper()
	nc, err := net.Dial(r.addr.Network(), r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, Conn: nc}
}

// transmission connects and goes straight to the transmission phase, with structured replies and block status or not.
func (r *running) transmission(t testing.TB, structured bool) *client {
	t.Helper()
	c := r.dial(t)
	c.put(flags(3))
	if structured {
		c.put(opt(optStructuredReply, nil))
		c.wantReplies(optStructuredReply, repAck)
		c.put(opt(optSetMetaContext, metaData("", allocationContext)))
		c.wantReplies(optSetMetaContext, repMetaContext, repAck)
		c.structured = true
	}
	c.put(opt(optGo, infoData("")))
	c.wantReplies(optGo, repInfo, repInfo, repAck)
	return c
}

func (c *client) put(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *client) take(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatalf("read of %d bytes: %v", n, err)
	}
	return b
}

// wantClosed fails unless the server closes the connection without another byte.
func (c *client) wantClosed() {
	c.t.Helper()
	b, err := io.ReadAll(io.LimitReader(c, 1<<20))
	if len(b) != 0 {
		c.t.Errorf("got % x, want the connection closed", b[:min(len(b), 64)])
	}
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		c.t.Errorf("connection still open: %v", err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// optAnswer is one answer to an option.
type optAnswer struct {
	opt, rep uint32
	data     []byte
}

func (c *client) takeReply() optAnswer {
	c.t.Helper()
	h := c.take(optReplyLen)
	if m := be.Uint64(h); m != magicOptReply {
		c.t.Fatalf("option reply magic %#x", m)
	}
	n := be.Uint32(h[16:])
	if n > 1<<16 {
		c.t.Fatalf("option reply of %d bytes", n)
	}
	return optAnswer{be.Uint32(h[8:]), be.Uint32(h[12:]), c.take(int(n))}
}

// wantReplies reads as many answers as there are types, checks these, and returns the answers.
func (c *client) wantReplies(opt uint32, types ...uint32) []optAnswer {
	c.t.Helper()
	var got []optAnswer
	for i, want := range types {
		a := c.takeReply()
		if a.opt != opt || a.rep != want {
			c.t.Fatalf("answer %d: option %d, type %#x %q; want option %d, type %#x", i, a.opt, a.rep, a.data, opt, want)
		}
		got = append(got, a)
	}
	return got
}

// answer is the whole answer to a request.
type answer struct {
	cookie uint64
	err    errno
	msg    string
	at     int64    // where the error is said to be; -1: not said
	data   []byte   // of a simple reply; of a structured one, put together from its chunks
	holes  []extent // those sent as holes
	chunks int      // content chunks
	status []extent
}

// takeSimple reads a simple reply; n bytes of data follow on success.
func (c *client) takeSimple(n int) answer {
	c.t.Helper()
	h := c.take(simpleLen)
	if m := be.Uint32(h); m != magicSimple {
		c.t.Fatalf("simple reply magic %#x", m)
	}
	a := answer{err: errno(be.Uint32(h[4:])), cookie: be.Uint64(h[8:]), at: -1}
	if a.err == 0 {
		a.data = c.take(n)
	}
	return a
}

// takeStructured reads the chunks of one reply, which no other may interrupt, to a request for n bytes at off.
func (c *client) takeStructured(off int64, n int) answer {
	c.t.Helper()
	a := answer{at: -1, data: make([]byte, n)}
	covered := 0
	for first := true; ; first = false {
		h := c.take(structuredLen)
		if m := be.Uint32(h); m != magicStructured {
			c.t.Fatalf("structured reply magic %#x", m)
		}
		cookie := be.Uint64(h[8:])
		if !first && cookie != a.cookie {
			c.t.Fatalf("chunk for %#x within the reply for %#x", cookie, a.cookie)
		}
		a.cookie = cookie
		covered += c.takeChunk(&a, off, be.Uint16(h[6:]), c.take(int(be.Uint32(h[16:]))))
		if be.Uint16(h[4:])&replyFlagDone != 0 {
			break
		}
	}
	if a.err == 0 && a.status == nil && covered != n {
		c.t.Fatalf("chunks cover %d bytes of %d", covered, n)
	}
	return a
}

// takeChunk adds one chunk to a, and returns how many bytes of the range it covers.
func (c *client) takeChunk(a *answer, off int64, typ uint16, p []byte) int {
	c.t.Helper()
	switch typ {
	case chunkNone:
	case chunkOffsetData:
		a.chunks++
		return copy(a.data[int64(be.Uint64(p))-off:], p[8:])
	case chunkOffsetHole:
		a.chunks++
		at, n := int64(be.Uint64(p)), int64(be.Uint32(p[8:]))
		a.holes = append(a.holes, extent{at, at + n, true})
		return int(n)
	case chunkBlockStatus:
		if id := be.Uint32(p); id != allocationID {
			c.t.Fatalf("status for context %d", id)
		}
		for p = p[4:]; len(p) > 0; p = p[8:] {
			end := off + int64(be.Uint32(p))
			a.status = append(a.status, extent{off, end, be.Uint32(p[4:]) == stateHole|stateZero})
			off = end
		}
	case chunkError, chunkErrorOffset:
		a.err = errno(be.Uint32(p))
		n := be.Uint16(p[4:])
		a.msg = string(p[6 : 6+n])
		if typ == chunkErrorOffset {
			a.at = int64(be.Uint64(p[6+n:]))
		}
	default:
		c.t.Fatalf("chunk of type %#x", typ)
	}
	return 0
}

// ask sends a request and reads its answer.
func (c *client) ask(cmd, flags uint16, off uint64, n uint32) answer {
	c.t.Helper()
	c.put(req(cmd, flags, 0xfeedface00000001, off, n))
	var a answer
	switch {
	case c.structured && cmd == cmdRead && n <= maxRequest:
		a = c.takeStructured(int64(off), int(n))
	case c.structured:
		a = c.takeStructured(int64(off), 0)
	case cmd == cmdRead && n <= maxRequest:
		a = c.takeSimple(int(n))
	default:
		a = c.takeSimple(0)
	}
	if a.cookie != 0xfeedface00000001 {
		c.t.Fatalf("answer for %#x", a.cookie)
	}
	return a
}

// flags, opt, infoData, metaData and req make messages.
func flags(f uint32) []byte { return be.AppendUint32(nil, f) }

func opt(id uint32, data []byte) []byte {
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, id)
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func lenString(b []byte, s string) []byte {
	return append(be.AppendUint32(b, uint32(len(s))), s...)
}

func infoData(name string, items ...uint16) []byte {
	b := be.AppendUint16(lenString(nil, name), uint16(len(items)))
	for _, i := range items {
		b = be.AppendUint16(b, i)
	}
	return b
}

func metaData(name string, queries ...string) []byte {
	b := be.AppendUint32(lenString(nil, name), uint32(len(queries)))
	for _, q := range queries {
		b = lenString(b, q)
	}
	return b
}

func req(cmd, flags uint16, cookie, off uint64, n uint32) []byte {
	b := be.AppendUint32(nil, magicRequest)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, cmd)
	b = be.AppendUint64(b, cookie)
	b = be.AppendUint64(b, off)
	return be.AppendUint32(b, n)
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// checkGoroutines fails unless the goroutines of this package have ended by the test's end. It must be called before
// the servers are started.
func checkGoroutines(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		var stacks string
		for range 100 {
			buf := make([]byte, 1<<20)
			stacks = string(buf[:runtime.Stack(buf, true)])
			if strings.Count(stacks, "nbd.(*conn)")+strings.Count(stacks, "nbd.(*session)")+
				strings.Count(stacks, "nbd.(*Server)") == 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("goroutines left:\n%s", stacks)
	})
}

package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

var errEOF = io.EOF

// errorLog collects what a server reports.
type errorLog struct {
	mu   sync.Mutex
	msgs []string
}

func (l *errorLog) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.msgs = append(l.msgs, err.Error())
}

func (l *errorLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.msgs...)
}

// TestInFlight sends 64 requests before it reads an answer, on two connections, and sees that the server works on
// maxInFlight of each at once and answers all.
func TestInFlight(t *testing.T) {
	checkGoroutines(t)
	for _, structured := range []bool{false, true} {
		d := newDisk(1 << 20)
		d.gate = make(chan struct{})
		d.began = make(chan struct{}, 128)
		r := serve(t, &Server{Export: d.export()}, "tcp")
		conns := []*client{r.transmission(t, structured), r.transmission(t, structured)}
		for _, c := range conns {
			var b []byte
			for i := range uint64(64) {
				b = append(b, req(cmdRead, 0, i, i*1000, 4000)...)
			}
			c.put(b)
		}
		for range 2 * maxInFlight {
			<-d.began
		}
		time.Sleep(20 * time.Millisecond)
		if n := len(d.began); n != 0 {
			t.Errorf("%d requests more than %d are worked on at once", n, maxInFlight)
		}
		close(d.gate)
		for _, c := range conns {
			c.wantAll(t, d, 64)
		}
	}
}

// wantAll reads the answers to n requests for 4000 bytes at 1000 times the cookie, in any order.
func (c *client) wantAll(t *testing.T, d *disk, n int) {
	t.Helper()
	seen := make(map[uint64]bool)
	for range n {
		head := simpleLen
		if c.structured {
			head = structuredLen + chunkOffset
		}
		cookie := be.Uint64(c.take(head)[8:]) // in both kinds of header it is there
		if seen[cookie] || cookie >= uint64(n) {
			t.Fatalf("second or unasked answer %d", cookie)
		}
		seen[cookie] = true
		if got := c.take(4000); !bytes.Equal(got, d.data[cookie*1000:][:4000]) {
			t.Fatalf("wrong data for %d", cookie)
		}
	}
}

// TestWholeMessages sees that messages which take many writes are not mixed: simple replies and unfragmented chunks,
// of sizes that fit in a buffer and that don't.
func TestWholeMessages(t *testing.T) {
	checkGoroutines(t)
	const n = 8
	d := newDisk(5<<20 + n)
	for _, size := range []int{maxBuffer, 5 << 20} {
		for _, structured := range []bool{false, true} {
			c := serve(t, &Server{Export: d.export()}, "unix").transmission(t, structured)
			head, flags := simpleLen, uint16(0)
			if structured {
				head, flags = structuredLen+chunkOffset, cmdFlagDF
			}
			for i := range uint64(n) {
				c.put(req(cmdRead, flags, i, i, uint32(size)))
			}
			for range n {
				cookie := be.Uint64(c.take(head)[8:])
				time.Sleep(time.Millisecond) // time for others to write where they must not
				if cookie >= n || !bytes.Equal(c.take(size), d.data[cookie:][:size]) {
					t.Fatalf("structured %v: wrong answer for %#x", structured, cookie)
				}
			}
		}
	}
}

// TestPieces reads much at once with structured replies, whose chunks may come in any order.
func TestPieces(t *testing.T) {
	checkGoroutines(t)
	const n, size = 40, 3<<20 + 5
	d := newDisk(size + n)
	c := serve(t, &Server{Export: d.export()}, "unix").transmission(t, true)
	go func() {
		for i := range uint64(n) {
			c.Write(req(cmdRead, 0, i, i, size))
		}
	}()
	left := make(map[uint64]int)
	for done := 0; done < n; {
		h := c.take(structuredLen)
		p := c.take(int(be.Uint32(h[16:])))
		off, p := be.Uint64(p), p[chunkOffset:]
		if be.Uint16(h[6:]) != chunkOffsetData || len(p) > readPiece || !bytes.Equal(p, d.data[off:][:len(p)]) {
			t.Fatalf("chunk % x at %d: wrong data", h, off)
		}
		left[be.Uint64(h[8:])] += len(p)
		if be.Uint16(h[4:]) == replyFlagDone {
			done++
		}
	}
	for i := range uint64(n) {
		if left[i] != size {
			t.Errorf("%d bytes for request %d, want %d", left[i], i, size)
		}
	}
}

// TestShutdown ends the server while requests are in flight: they are answered, those read but not begun are refused
// with ESHUTDOWN, the connection is closed, and Serve returns nil.
func TestShutdown(t *testing.T) {
	checkGoroutines(t)
	d := newDisk(1 << 20)
	d.gate = make(chan struct{})
	d.began = make(chan struct{}, 128)
	r := serve(t, &Server{Export: d.export(), ErrorLog: func(err error) { t.Error(err) }}, "unix")
	idle, haggling := r.transmission(t, true), r.dial(t)
	c := r.transmission(t, false)
	var b []byte
	for i := range uint64(20) {
		b = append(b, req(cmdRead, 0, i, 0, 512)...)
	}
	c.put(b)
	for range maxInFlight {
		<-d.began
	}
	r.stop()
	idle.wantClosed()
	haggling.wantClosed()
	if _, err := net.Dial(r.addr.Network(), r.addr.String()); err == nil {
		t.Error("the server still listens")
	}
	close(d.gate)
	r.end()
	served, refused := 0, 0
	for range 20 {
		h := c.take(simpleLen)
		switch errno(be.Uint32(h[4:])) {
		case 0:
			served++
			if !bytes.Equal(c.take(512), d.data[:512]) {
				t.Fatal("wrong data")
			}
		case eShutdown:
			refused++
		}
	}
	// One more than maxInFlight was checked before the end and waited for a place.
	if served < maxInFlight || served > maxInFlight+1 || served+refused != 20 {
		t.Errorf("%d answered, %d refused", served, refused)
	}
	c.wantClosed()
}

// TestShutdownStuck ends the server while a client does not take its answers.
func TestShutdownStuck(t *testing.T) {
	checkGoroutines(t)
	var log errorLog
	s := &Server{Export: newDisk(32 << 20).export(), ErrorLog: log.add}
	s.limits.grace = 100 * time.Millisecond
	r := serve(t, s, "unix")
	c := r.transmission(t, true)
	for i := range uint64(4) {
		c.put(req(cmdRead, 0, i, 0, 32<<20))
	}
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	r.end()
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("Serve took %v to end", d)
	}
	if got := log.all(); len(got) != 1 || !strings.Contains(got[0], errGrace.Error()) {
		t.Errorf("error log: %q", got)
	}
}

// flakyListener fails as told.
type flakyListener struct {
	net.Listener
	errs []error
}

func (l *flakyListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func TestListenerErrors(t *testing.T) {
	checkGoroutines(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("listener broken")
	s := &Server{Export: newDisk(4096).export()}
	err = s.Serve(context.Background(), &flakyListener{l, []error{temporary{broken}, temporary{broken}, broken}})
	if err != broken {
		t.Errorf("Serve = %v, want %v", err, broken)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is left open: %v", err)
	}
}

// TestServeDone sees that Serve returns at once if its context is done before.
func TestServeDone(t *testing.T) {
	checkGoroutines(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (&Server{Export: newDisk(4096).export()}).Serve(ctx, l); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// TestClose sees that connections end with Serve when the listener is closed by another, and what they wait for.
func TestClose(t *testing.T) {
	checkGoroutines(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- (&Server{Export: newDisk(4096).export()}).Serve(context.Background(), l)
	}()
	r := &running{t: t, addr: l.Addr()}
	c := r.transmission(t, true)
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v", err)
	}
	c.wantClosed()
}

var preferredTests = []struct{ in, want int }{
	{-1, 4096}, {0, 4096}, {512, 4096}, {4097, 8192}, {1 << 20, 1 << 20}, {1<<20 + 1, 2 << 20},
	{32 << 20, 32 << 20}, {1 << 30, 32 << 20},
}

func TestPreferredSize(t *testing.T) {
	for _, tt := range preferredTests {
		if got := preferredSize(tt.in); got != tt.want {
			t.Errorf("preferredSize(%d) = %d, want %d", tt.in, got, tt.want)
		}
	}
}

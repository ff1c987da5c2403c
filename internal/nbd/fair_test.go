package nbd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// endless is a disk of 1 TiB that costs nothing to read.
func endless() Export {
	return Export{Size: 1 << 40, ReaderAt: readerFunc(func(p []byte, off int64) (int, error) { return len(p), nil })}
}

// stuff sends requests until the server takes no more, or all are sent, and reads nothing.
func (c *client) stuff(flags uint16, size uint32, count int) {
	go func() {
		for i := range uint64(count) {
			if _, err := c.Write(req(cmdRead, flags, i, i*uint64(size), size)); err != nil {
				return
			}
		}
	}()
}

// greedyTests are what clients do that take no answers.
var greedyTests = []struct {
	name       string
	structured bool
	flags      uint16
	size       uint32
	count      int
	clients    int
}{
	{name: "simple", size: 32 << 20, count: 64, clients: 8},
	{name: "simple, in one buffer", size: maxBuffer, count: 64, clients: 60},
	{name: "pieces", structured: true, size: 32 << 20, count: 64, clients: 60},
	{name: "unfragmented", structured: true, flags: cmdFlagDF, size: 32 << 20, count: 64, clients: 16},
	{name: "many small", structured: true, size: 4096, count: 10000, clients: 16},
}

// waitUntil waits for a condition, which comes about soon.
func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

// TestGreedy has clients that ask for much and take no answer. Another one's reads are answered meanwhile. Then the
// greedy are cut off, and the other is not.
func TestGreedy(t *testing.T) {
	dmgtest.LongOrRaced(t)
	for i, tt := range greedyTests {
		if dmgtest.Part() && i%2 != 0 {
			continue // each takes WriteTimeout
		}
		t.Run(tt.name, func(t *testing.T) {
			checkGoroutines(t)
			var cut atomic.Int32
			s := &Server{Export: endless(), WriteTimeout: time.Second}
			s.ErrorLog = func(err error) {
				if !errors.Is(err, errStuck) {
					t.Error(err)
				}
				cut.Add(1)
			}
			r := serve(t, s, "unix")
			for range tt.clients {
				r.transmission(t, tt.structured).stuff(tt.flags, tt.size, tt.count)
			}
			time.Sleep(50 * time.Millisecond) // let them fill the sockets and the memory
			var others []*client
			for _, structured := range []bool{false, true} {
				other := r.transmission(t, structured)
				others = append(others, other)
				for i := range 10 {
					begin := time.Now()
					if a := other.ask(cmdRead, 0, uint64(i), 4096); a.err != 0 {
						t.Fatalf("error %d", a.err)
					}
					if d := time.Since(begin); d > time.Second {
						t.Errorf("a read of 4 KiB took %v", d)
					}
				}
				other.ask(cmdRead, 0, 0, 8<<20) // goes in pieces, as small as there are
			}
			if cut.Load() > 0 {
				t.Error("the greedy were cut off before: this tests nothing")
			}
			waitUntil(t, "all greedy clients cut off", func() bool { return int(cut.Load()) == tt.clients })
			for _, other := range others {
				other.ask(cmdRead, 0, 0, 4096)
			}
		})
	}
}

// TestSlowButReading sees that a client is not cut off whose answer takes three times WriteTimeout, but who takes some
// of it all the time.
func TestSlowButReading(t *testing.T) {
	dmgtest.NotEmulated(t) // which may be slower than this client
	dmgtest.LongOrRaced(t)
	checkGoroutines(t)
	d := newDisk(maxBuffer)
	s := &Server{Export: d.export(), WriteTimeout: time.Second, ErrorLog: func(err error) { t.Error(err) }}
	c := serve(t, s, "unix").transmission(t, false)
	c.put(req(cmdRead, 0, 1, 0, maxBuffer))
	c.take(simpleLen)
	var got []byte
	begin := time.Now()
	for len(got) < len(d.data) {
		got = append(got, c.take(min(32<<10, len(d.data)-len(got)))...)
		time.Sleep(50 * time.Millisecond)
	}
	if took := time.Since(begin); took < 3*time.Second {
		t.Errorf("taken in %v: this tests nothing", took)
	}
	if !bytes.Equal(got, d.data) {
		t.Error("wrong data")
	}
}

// TestStuckInHandshake sees that the handshake's time includes what the client takes to read.
func TestStuckInHandshake(t *testing.T) {
	checkGoroutines(t)
	e := endless()
	e.Name = string(bytes.Repeat([]byte{'n'}, maxString))
	s := &Server{Export: e}
	s.limits.handshake = 300 * time.Millisecond
	c := serve(t, s, "unix").dial(t)
	c.put(flags(3))
	begin := time.Now()
	for range maxOptions { // 1 MiB of answers, more than the socket holds
		if _, err := c.Write(opt(optList, nil)); err != nil {
			break
		}
	}
	waitUntil(t, "connection closed", func() bool {
		_, err := c.Write([]byte{0})
		return err != nil
	})
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("let go after %v", d)
	}
}

// TestIdle sees that idle clients keep nobody out, and cost little.
func TestIdle(t *testing.T) {
	checkGoroutines(t)
	const clients = 200
	var before, after runtime.MemStats
	r := serve(t, &Server{Export: newDisk(4096).export(), ErrorLog: func(err error) { t.Error(err) }}, "unix")
	conns := make([]*client, clients)
	for i := range conns {
		conns[i] = r.transmission(t, true)
		if i == 0 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	if a := r.transmission(t, true).ask(cmdRead, 0, 0, 4096); a.err != 0 {
		t.Errorf("error %d", a.err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse) / clients
	if each > 16<<10 {
		t.Errorf("an idle connection costs %d bytes, with the test's client", each)
	}
	for _, c := range conns {
		c.ask(cmdRead, 0, 0, 1)
	}
}

func TestMaxConns(t *testing.T) {
	checkGoroutines(t)
	r := serve(t, &Server{Export: newDisk(4096).export(), MaxConns: 2}, "unix")
	a, b := r.transmission(t, true), r.transmission(t, true)
	r.dialRaw(t).wantClosed()
	a.Close()
	// Its place is free as soon as the server has seen it go.
	waitUntil(t, "a place for a client after another has gone", func() bool {
		c := r.dialRaw(t)
		_, err := io.ReadFull(c, make([]byte, 18))
		return err == nil
	})
	if a := b.ask(cmdRead, 0, 0, 10); a.err != 0 {
		t.Errorf("error %d", a.err)
	}
}

// TestGiveWay sees that connections which don't finish their handshake keep out nobody, the oldest of them going
// first.
func TestGiveWay(t *testing.T) {
	checkGoroutines(t)
	var log errorLog
	r := serve(t, &Server{Export: newDisk(4096).export(), MaxConns: 4, ErrorLog: log.add}, "unix")
	established := r.transmission(t, true)
	first, second, third := r.dial(t), r.dial(t), r.dial(t)
	for _, oldest := range []*client{first, second, third} {
		if a := r.transmission(t, false).ask(cmdRead, 0, 0, 10); a.err != 0 {
			t.Errorf("error %d", a.err)
		}
		oldest.wantClosed()
	}
	r.dialRaw(t).wantClosed() // all have finished
	if a := established.ask(cmdRead, 0, 0, 10); a.err != 0 {
		t.Errorf("error %d", a.err)
	}
	if got := log.all(); len(got) != 4 {
		t.Errorf("error log: %q", got)
	}
}

// TestFlood opens a thousand connections that say nothing. Clients get in among them, and none is left at the end.
func TestFlood(t *testing.T) {
	checkGoroutines(t)
	r := serve(t, &Server{Export: newDisk(4096).export(), MaxConns: 32}, "tcp")
	before := r.transmission(t, true)
	var flood []net.Conn
	for i := range 1000 {
		nc, err := net.Dial(r.addr.Network(), r.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if flood = append(flood, nc); len(flood) > 200 { // to save the test's descriptors
			flood[0].Close()
			flood = flood[1:]
		}
		if i%100 == 99 {
			c := r.transmission(t, true)
			if a := c.ask(cmdRead, 0, 0, 10); a.err != 0 {
				t.Errorf("error %d", a.err)
			}
		}
	}
	if a := before.ask(cmdRead, 0, 0, 10); a.err != 0 {
		t.Errorf("error %d", a.err)
	}
	for _, nc := range flood {
		nc.Close()
	}
}

// TestMemory measures what 16 clients with 16 requests in flight each make the server allocate: first while they take
// no answer, then while they take 1 GiB, or 128 MiB if tests run in part.
func TestMemory(t *testing.T) {
	dmgtest.NotRaced(t)
	const clients = 16
	all := dmgtest.Times(1<<30, 1<<30, 1<<27)
	for _, tt := range greedyTests {
		t.Run(tt.name, func(t *testing.T) {
			checkGoroutines(t)
			r := serve(t, &Server{Export: endless()}, "unix")
			conns := make([]*client, clients)
			for i := range conns {
				conns[i] = r.transmission(t, tt.structured)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const most = defaultMemory + clients*(reserve+requestCost)
			for _, c := range conns {
				c.stuff(tt.flags, tt.size, 1<<20)
			}
			time.Sleep(200 * time.Millisecond)
			runtime.ReadMemStats(&after)
			if got := int64(after.TotalAlloc - before.TotalAlloc); got > most+4<<20 {
				t.Errorf("%d bytes allocated, want no more than %d and a little", got, most)
			}
			var wg sync.WaitGroup
			for _, c := range conns {
				wg.Add(1)
				go func() {
					defer wg.Done()
					buf := make([]byte, 64<<10)
					for n := 0; n < all/clients; {
						got, err := c.Read(buf)
						if n += got; err != nil {
							t.Error(err)
							return
						}
					}
				}()
			}
			wg.Wait()
			runtime.ReadMemStats(&after)
			// What a request allocates besides its buffer is less than 600 bytes.
			requests := int64(all/int(tt.size)) + clients*maxInFlight
			if got := int64(after.TotalAlloc - before.TotalAlloc); got > most+clients*64<<10+requests*600+8<<20 {
				t.Errorf("%d bytes allocated: buffers are not used again", got)
			}
			for _, c := range conns {
				c.Close()
			}
		})
	}
}

// TestGone sees that the server does little more for a client that went without its answers.
func TestGone(t *testing.T) {
	for _, tt := range []struct {
		name       string
		structured bool
		cmd, flags uint16
		count      int
		most       int64 // bytes of 32 MiB a request
	}{
		{name: "cache", cmd: cmdCache, count: 8, most: 8 * 2 * readPiece},
		{name: "simple", cmd: cmdRead, count: 1, most: 2 * maxBuffer},
		{name: "unfragmented", structured: true, cmd: cmdRead, flags: cmdFlagDF, count: 1, most: 2 * maxBuffer},
		{name: "pieces", structured: true, cmd: cmdRead, count: 8, most: 8 * 2 * readPiece},
		// While a request waits for memory nothing is read from the client, so one may be done in full.
		{name: "simple, waiting", cmd: cmdRead, count: 16, most: maxRequest + 2*maxBuffer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkGoroutines(t)
			var bytesRead atomic.Int64
			gate := make(chan struct{})
			e := endless()
			e.ReaderAt = readerFunc(func(p []byte, off int64) (int, error) {
				<-gate
				time.Sleep(time.Millisecond)
				bytesRead.Add(int64(len(p)))
				return len(p), nil
			})
			r := serve(t, &Server{Export: e}, "unix")
			c := r.transmission(t, tt.structured)
			for i := range tt.count {
				c.put(req(tt.cmd, tt.flags, uint64(i), 0, 32<<20))
			}
			c.Close()
			time.Sleep(50 * time.Millisecond) // the server learns of it by reading
			close(gate)
			if a := r.transmission(t, true).ask(cmdRead, 0, 0, 10); a.err != 0 {
				t.Errorf("error %d", a.err)
			}
			r.end()
			if n := bytesRead.Load(); n > tt.most {
				t.Errorf("%d bytes read for a client that has gone, want no more than %d", n, tt.most)
			}
		})
	}
}

// TestTurns has clients with many long reads of the disk waiting, which are slow. Another client's small reads are soon
// begun.
func TestTurns(t *testing.T) {
	checkGoroutines(t)
	const busy, small, at = 30, 5, 1 << 30
	before := 0 // long reads begun before all small ones had
	step := make(chan struct{})
	arrived := make(chan int64, 10000)
	e := endless()
	e.ReaderAt = readerFunc(func(p []byte, off int64) (int, error) {
		arrived <- off
		if off != at {
			<-step
		}
		return len(p), nil
	})
	r := serve(t, &Server{Export: e}, "unix")
	for range busy {
		r.transmission(t, true).stuff(0, reserve, 16)
	}
	for range maxReads {
		<-arrived
	}
	time.Sleep(50 * time.Millisecond) // until the others wait
	done := make(chan struct{})
	go func() {
		defer close(done)
		other := r.transmission(t, false)
		for range small {
			other.ask(cmdRead, 0, at, 1)
		}
	}()
	time.Sleep(50 * time.Millisecond)
	for found := 0; found < small; {
		step <- struct{}{}
		time.Sleep(2 * time.Millisecond) // for the other client to ask again
		for len(arrived) > 0 {
			if <-arrived == at {
				found++
			} else {
				before++
			}
		}
	}
	close(step)
	<-done
	// Each waits only for one of the reads that run to end; others begin before the client asks again. By turns it
	// would wait for one of each connection.
	if before > small*busy/2 {
		t.Errorf("%d long reads went first, of %d connections", before, busy)
	}
}

// TestGate sees that waiting lines get the same in the long run, whatever the length of their reads, and that one that
// comes back gets little more for having stayed away.
func TestGate(t *testing.T) {
	var g gate
	lens := []int{1, 4096, readPiece}
	lines := []*line{{}, {}, {}}
	g.mu.running = maxReads
	had := make([]int, len(lines))
	refill := func() {
		for i, l := range lines {
			for len(l.waiting) < 3 {
				if len(l.waiting) == 0 {
					g.mu.lines = append(g.mu.lines, l)
				}
				l.waiting = append(l.waiting, turn{lens[i], make(chan struct{})})
			}
		}
	}
	next := func() {
		refill()
		before := []int{len(lines[0].waiting), len(lines[1].waiting), len(lines[2].waiting)}
		g.leave()
		for i, l := range lines {
			had[i] += (before[i] - len(l.waiting)) * (lens[i] + readCost)
		}
	}
	for range 10000 {
		next()
	}
	least, most := min(had[0], had[1], had[2]), max(had[0], had[1], had[2])
	if most-least > readPiece+readCost {
		t.Errorf("lines got %d bytes", had)
	}
	late := &line{}
	g.mu.running = 0
	g.enter(late, 1)
	if late.had < g.mu.clock-credit {
		t.Errorf("a line that comes back has had %d by %d", late.had, g.mu.clock)
	}
}

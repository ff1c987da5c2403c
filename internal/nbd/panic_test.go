package nbd

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// trap is a disk whose reads fail in ways other than errors, where told.
type trap struct {
	*disk
	at    int64        // reads that hold this byte fall into it
	after int32        // the first so many of them do not
	seen  atomic.Int32 // reads of at
	fall  func()

	lost   atomic.Pointer[byte] // of the buffer of a read that fell: something may still be writing to it
	reused atomic.Bool
}

func (d *trap) ReadAt(p []byte, off int64) (int, error) {
	if &p[0] == d.lost.Load() {
		d.reused.Store(true)
	}
	if off <= d.at && d.at < off+int64(len(p)) && d.seen.Add(1) > d.after {
		d.lost.Store(&p[0])
		d.fall()
	}
	return d.disk.ReadAt(p, off)
}

// TestPanic has a disk that panics in a read: in the only one of an answer, in a later one, and in the second of a
// byte, when the answer has begun.
func TestPanic(t *testing.T) {
	const at = 3 << 20
	boom := func() { panic("boom") }
	failed := func() { panic(errBad) }
	for _, tt := range []struct {
		name       string
		structured bool
		cmd, flags uint16
		off        uint64
		n          uint32
		after      int32
		fall       func()
		closed     bool // the connection; otherwise the answer is EIO
	}{
		{name: "simple", cmd: cmdRead, off: at, n: 1, fall: boom},
		{name: "simple, long", cmd: cmdRead, n: 4 << 20, fall: failed},
		{name: "simple, long, late", cmd: cmdRead, n: 4 << 20, after: 1, fall: boom, closed: true},
		{name: "structured", structured: true, cmd: cmdRead, off: at, n: 1, fall: failed},
		{name: "structured, long", structured: true, cmd: cmdRead, n: 4 << 20, fall: boom},
		{name: "unfragmented", structured: true, cmd: cmdRead, flags: cmdFlagDF, off: at, n: 1, fall: boom},
		{name: "unfragmented, late", structured: true, cmd: cmdRead, flags: cmdFlagDF, n: 4 << 20, after: 1, fall: boom,
			closed: true},
		{name: "cache", structured: true, cmd: cmdCache, n: 4 << 20, fall: boom},
		{name: "goroutine ended", structured: true, cmd: cmdRead, off: at, n: 1, fall: runtime.Goexit, closed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkGoroutines(t)
			d := newDisk(4 << 20)
			var mu sync.Mutex
			var panics []*PanicError
			e := d.export()
			trapped := &trap{disk: d, at: at, after: tt.after, fall: tt.fall}
			e.ReaderAt = trapped
			r := serve(t, &Server{Export: e, ErrorLog: func(err error) {
				var p *PanicError
				if errors.As(err, &p) {
					mu.Lock()
					defer mu.Unlock()
					panics = append(panics, p)
				}
			}}, "unix")
			other := r.transmission(t, true)
			c := r.transmission(t, tt.structured)
			if tt.closed {
				c.put(req(tt.cmd, tt.flags, 1, tt.off, tt.n))
				if n, err := c.Read(make([]byte, 16)); tt.after == 0 && n > 0 {
					t.Errorf("got %d bytes, %v", n, err)
				}
				got := int64(16)
				for buf := make([]byte, 1<<16); ; {
					n, err := c.Read(buf)
					if got += int64(n); err != nil {
						break
					}
				}
				if got > at+simpleLen+structuredLen {
					t.Errorf("got %d bytes, want an answer cut off before %d", got, at)
				}
			} else {
				// The connection and the buffers are good after it.
				for range 3 {
					if a := c.ask(tt.cmd, tt.flags, tt.off, tt.n); a.err != eIO || strings.Contains(a.msg, "boom") {
						t.Errorf("error %d %q", a.err, a.msg)
					}
				}
				if a := c.ask(cmdRead, 0, 5, 9); !bytes.Equal(a.data, d.data[5:14]) {
					t.Error("wrong data after a panic")
				}
			}
			if a := other.ask(cmdRead, 0, 0, at); a.err != 0 || !bytes.Equal(a.data, d.data[:at]) {
				t.Errorf("another connection: error %d", a.err)
			}
			r.end()
			if trapped.reused.Load() {
				t.Error("the buffer of a read that panicked is used again")
			}
			if len(panics) == 0 || !bytes.Contains(panics[0].Stack, []byte("(*trap).ReadAt")) {
				t.Errorf("%d panics reported, or not where", len(panics))
			}
		})
	}
}

// TestStatusPanic sees that what Status panics about is served as data.
func TestStatusPanic(t *testing.T) {
	d := newDisk(1 << 20)
	var panics atomic.Int32
	e := d.export()
	e.Status = func(off int64) (int64, bool) {
		if off == 0 {
			return 1 << 19, false
		}
		panic("boom")
	}
	c := serve(t, &Server{Export: e, ErrorLog: func(err error) {
		if p := new(PanicError); errors.As(err, &p) {
			panics.Add(1)
		}
	}}, "unix").transmission(t, true)
	if a := c.ask(cmdRead, 0, 0, 1<<20); a.err != 0 || !bytes.Equal(a.data, d.data) {
		t.Errorf("error %d, or wrong data", a.err)
	}
	if a := c.ask(cmdBlockStatus, 0, 0, 1<<20); len(a.status) != 1 || a.status[0] != (extent{0, 1 << 20, false}) {
		t.Errorf("status %v", a.status)
	}
	if panics.Load() == 0 {
		t.Error("no panic reported")
	}
}

// TestCutAnswer has data that can be read once only. An answer that has begun by then is cut off.
func TestCutAnswer(t *testing.T) {
	checkGoroutines(t)
	d := newDisk(8 << 20)
	var reads atomic.Int32
	e := d.export()
	e.ReaderAt = readerFunc(func(p []byte, off int64) (int, error) {
		if off == 6<<20 && reads.Add(1) > 1 {
			return 0, errBad
		}
		return d.ReadAt(p, off)
	})
	var log errorLog
	r := serve(t, &Server{Export: e, ErrorLog: log.add}, "unix")
	c := r.transmission(t, false)
	c.put(req(cmdRead, 0, 1, 0, 8<<20))
	if h := c.take(simpleLen); be.Uint32(h[4:]) != 0 {
		t.Fatalf("error %d", be.Uint32(h[4:]))
	}
	if got := c.take(6 << 20); !bytes.Equal(got, d.data[:6<<20]) {
		t.Error("wrong data")
	}
	c.wantClosed()
	r.end()
	if got := log.all(); len(got) != 2 || !strings.Contains(got[0], errBad.Error()) ||
		!strings.Contains(got[1], errCutAnswer.Error()) {
		t.Errorf("error log: %q", got)
	}
}

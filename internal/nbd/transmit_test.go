package nbd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

const testSize = 40 << 20

// requestTests are asked on a connection with structured replies, and on one without where simple is not noSimple.
// The disk is data but for [1 MiB, 2 MiB), and for 4 KiB at 3 MiB; reading at 4 MiB fails.
var requestTests = []struct {
	name       string
	cmd, flags uint16
	off        uint64
	n          uint32
	err        errno
	simple     errno // error in a simple reply, if another one
	at         int64 // where the error is said to be
	holes      string
	chunks     int
	status     string
}{
	{name: "read", cmd: cmdRead, off: 100, n: 1000, chunks: 1},
	{name: "read one byte", cmd: cmdRead, off: 1, n: 1, chunks: 1},
	{name: "read nothing", cmd: cmdRead, off: 5},
	{name: "read nothing at the end", cmd: cmdRead, off: testSize},
	{name: "read the last byte", cmd: cmdRead, off: testSize - 1, n: 1, chunks: 1},
	{name: "read the hole", cmd: cmdRead, off: 1 << 20, n: 1 << 20, chunks: 1, holes: "[{1048576 2097152 true}]"},
	{name: "read within the hole", cmd: cmdRead, off: 1<<20 + 1, n: 10, chunks: 1, holes: "[{1048577 1048587 true}]"},
	{name: "read around the hole", cmd: cmdRead, off: 1<<20 - 10, n: 1<<20 + 20, chunks: 3,
		holes: "[{1048576 2097152 true}]"},
	{name: "read into the hole", cmd: cmdRead, off: 1<<20 - 10, n: 1 << 17, chunks: 2, holes: "[{1048576 1179638 true}]"},
	{name: "read around the short hole", cmd: cmdRead, off: 3<<20 - 1, n: 5000, chunks: 1},
	{name: "read around the hole, in one", cmd: cmdRead, flags: cmdFlagDF, off: 1<<20 - 10, n: 1<<20 + 20, chunks: 1,
		simple: eInval},
	{name: "read the hole, in one", cmd: cmdRead, flags: cmdFlagDF, off: 1 << 20, n: 512, chunks: 1,
		holes: "[{1048576 1049088 true}]", simple: eInval},
	{name: "read 32 MiB", cmd: cmdRead, off: 8 << 20, n: 32 << 20, chunks: 128},
	{name: "read 32 MiB in one", cmd: cmdRead, flags: cmdFlagDF, off: 8 << 20, n: 32 << 20, chunks: 1, simple: eInval},
	{name: "read more", cmd: cmdRead, off: 0, n: 32<<20 + 1, err: eInval, at: -1},
	{name: "read more in one", cmd: cmdRead, flags: cmdFlagDF, n: 32<<20 + 1, err: eOverflow, simple: eInval, at: -1},
	{name: "read past the end", cmd: cmdRead, off: testSize - 1, n: 2, err: eInval, at: -1},
	{name: "read beyond the end", cmd: cmdRead, off: testSize + 1, n: 0, err: eInval, at: -1},
	{name: "read at 2^63", cmd: cmdRead, off: 1 << 63, n: 1, err: eInval, at: -1},
	{name: "read at 2^64-1", cmd: cmdRead, off: 1<<64 - 1, n: 1, err: eInval, at: -1},
	{name: "read with a strange flag", cmd: cmdRead, flags: 1 << 15, n: 1, err: eInval, at: -1},
	{name: "read with FUA", cmd: cmdRead, flags: 1, n: 1, err: eInval, at: -1},
	{name: "read the bad place", cmd: cmdRead, off: 4<<20 - 10, n: 100, err: eIO, at: 4 << 20},
	{name: "read the bad place in one", cmd: cmdRead, flags: cmdFlagDF, off: 4<<20 - 10, n: 100, err: eIO,
		at: 4 << 20, simple: eInval},
	{name: "read the bad place, last piece", cmd: cmdRead, off: 0, n: 5 << 20, err: eIO, at: 4 << 20, chunks: 13,
		holes: "[{1048576 2097152 true}]"},
	{name: "write", cmd: cmdWrite, n: 0, err: ePerm, at: -1},
	{name: "trim", cmd: cmdTrim, n: 512, err: ePerm, at: -1},
	{name: "write zeroes", cmd: cmdWriteZeroes, flags: 2, n: 1 << 31, err: ePerm, at: -1},
	{name: "flush", cmd: 3, err: eInval, at: -1},
	{name: "resize", cmd: 8, err: eInval, at: -1},
	{name: "unknown command", cmd: 0xffff, flags: 0xffff, off: 1<<64 - 1, n: 1<<32 - 1, err: eInval, at: -1},
	{name: "cache", cmd: cmdCache, off: 77, n: 3 << 20},
	{name: "cache nothing", cmd: cmdCache, off: 77},
	{name: "cache the bad place", cmd: cmdCache, off: 0, n: 32 << 20, err: eIO, at: -1},
	{name: "cache with a flag", cmd: cmdCache, flags: cmdFlagDF, n: 1, err: eInval, at: -1},
	{name: "cache too much", cmd: cmdCache, n: 32<<20 + 1, err: eInval, at: -1},
	{name: "cache past the end", cmd: cmdCache, off: testSize, n: 1, err: eInval, at: -1},
	{name: "status", cmd: cmdBlockStatus, off: 10, n: 1 << 20, simple: eInval,
		status: "[{10 1048576 false} {1048576 1048586 true}]"},
	{name: "status of all", cmd: cmdBlockStatus, n: testSize, simple: eInval,
		status: "[{0 1048576 false} {1048576 2097152 true} {2097152 3145728 false} {3145728 3149824 true} {3149824 41943040 false}]"},
	{name: "status of one extent", cmd: cmdBlockStatus, flags: cmdFlagReqOne, n: testSize, simple: eInval,
		status: "[{0 1048576 false}]"},
	{name: "status of part of one extent", cmd: cmdBlockStatus, flags: cmdFlagReqOne, off: 1<<20 + 9, n: 1, simple: eInval,
		status: "[{1048585 1048586 true}]"},
	{name: "status of nothing", cmd: cmdBlockStatus, off: 1, err: eInval, at: -1},
	{name: "status past the end", cmd: cmdBlockStatus, off: 1, n: testSize, err: eInval, at: -1},
	{name: "status with DF", cmd: cmdBlockStatus, flags: cmdFlagDF, n: 1, err: eInval, at: -1},
}

func testDisk() *disk {
	d := newDisk(testSize, extent{off: 1 << 20, end: 2 << 20}, extent{off: 3 << 20, end: 3<<20 + 4096})
	d.bad = extent{off: 4 << 20, end: 4<<20 + 1}
	return d
}

func TestRequestsStructured(t *testing.T) {
	checkGoroutines(t)
	d := testDisk()
	c := serve(t, &Server{Export: d.export()}, "unix").transmission(t, true)
	for _, tt := range requestTests {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			a := c.ask(tt.cmd, tt.flags, tt.off, tt.n)
			if a.err != tt.err || a.chunks != tt.chunks {
				t.Fatalf("error %d %q, %d chunks; want %d, %d", a.err, a.msg, a.chunks, tt.err, tt.chunks)
			}
			if tt.err != 0 {
				if a.at != tt.at || a.msg == "" {
					t.Errorf("error at %d: %q; want at %d", a.at, a.msg, tt.at)
				}
				if tt.err == eIO && a.msg != errBad.Error() {
					t.Errorf("message %q, want %q", a.msg, errBad)
				}
				return
			}
			if tt.cmd == cmdRead && !bytes.Equal(a.data, d.data[tt.off:tt.off+uint64(tt.n)]) {
				t.Error("wrong data")
			}
			if got := fmt.Sprint(a.holes); got != "["+strings.Trim(tt.holes, "[]")+"]" {
				t.Errorf("holes %s, want %s", got, tt.holes)
			}
			if got := fmt.Sprint(a.status); tt.status != "" && got != tt.status {
				t.Errorf("status %s, want %s", got, tt.status)
			}
		})
	}
}

func TestRequestsSimple(t *testing.T) {
	checkGoroutines(t)
	d := testDisk()
	c := serve(t, &Server{Export: d.export()}, "unix").transmission(t, false)
	for _, tt := range requestTests {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			want := tt.err
			if tt.simple != 0 {
				want = tt.simple
			}
			a := c.ask(tt.cmd, tt.flags, tt.off, tt.n)
			if a.err != want {
				t.Fatalf("error %d, want %d", a.err, want)
			}
			if tt.cmd == cmdRead && want == 0 && !bytes.Equal(a.data, d.data[tt.off:tt.off+uint64(tt.n)]) {
				t.Error("wrong data")
			}
		})
	}
}

// TestWritePayload sees that what a refused write carries is passed over.
func TestWritePayload(t *testing.T) {
	d := newDisk(1 << 20)
	for _, structured := range []bool{false, true} {
		c := serve(t, &Server{Export: d.export()}, "unix").transmission(t, structured)
		for _, n := range []int{1, 27, 28, readBuffer, 33<<20 + 1} {
			c.put(req(cmdWrite, 1, 9, 1<<62, uint32(n)))
			// The payload looks like requests, which must not be taken for any.
			c.put(bytes.Repeat(req(cmdDisc, 0, 1, 0, 0), n/requestLen+1)[:n])
			var a answer
			if structured {
				a = c.takeStructured(0, 0)
			} else {
				a = c.takeSimple(0)
			}
			if a.err != ePerm || a.cookie != 9 {
				t.Fatalf("write of %d bytes: %+v", n, a)
			}
		}
		if a := c.ask(cmdRead, 0, 7, 70); !bytes.Equal(a.data, d.data[7:77]) {
			t.Error("wrong data after writes")
		}
	}
}

func TestDisconnect(t *testing.T) {
	checkGoroutines(t)
	d := newDisk(8 << 20)
	r := serve(t, &Server{Export: d.export(), ErrorLog: func(err error) { t.Error(err) }}, "unix")
	c := r.transmission(t, false)
	// What is in flight when the client says goodbye is still answered.
	c.put(cat(req(cmdRead, 0, 1, 0, 8<<20), req(cmdDisc, 0, 2, 0, 0)))
	if a := c.takeSimple(8 << 20); !bytes.Equal(a.data, d.data) {
		t.Error("wrong data")
	}
	c.wantClosed()
}

func TestBadRequestMagic(t *testing.T) {
	checkGoroutines(t)
	var log errorLog
	r := serve(t, &Server{Export: newDisk(4096).export(), ErrorLog: log.add}, "unix")
	c := r.transmission(t, true)
	bad := req(cmdRead, 0, 1, 0, 1)
	bad[0]++
	c.put(bad)
	c.wantClosed()
	r.end()
	if got := log.all(); len(got) != 1 || !strings.Contains(got[0], errProtocol.Error()) {
		t.Errorf("error log: %q", got)
	}
}

// TestBadStatus sees that no answer of Status makes the server loop, lie or send what the protocol forbids.
func TestBadStatus(t *testing.T) {
	d := newDisk(1 << 20)
	clear(d.data[:1<<19])
	for name, status := range map[string]func(int64) (int64, bool){
		"no progress":  func(off int64) (int64, bool) { return off, true },
		"backwards":    func(off int64) (int64, bool) { return -1, true },
		"beyond":       func(off int64) (int64, bool) { return 1 << 62, false },
		"byte by byte": func(off int64) (int64, bool) { return off + 1, off >= 1<<18 && off < 1<<19 },
		"bytes and holes by turns": func(off int64) (int64, bool) {
			return off + 1, off < 1<<19 && off%2 == 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := d.export()
			e.Status = status
			c := serve(t, &Server{Export: e}, "unix").transmission(t, true)
			if a := c.ask(cmdRead, 0, 0, 1<<20); a.err != 0 || !bytes.Equal(a.data, d.data) {
				t.Error("wrong data")
			}
			a := c.ask(cmdBlockStatus, 0, 0, 1<<20)
			if len(a.status) == 0 || a.status[len(a.status)-1].end > 1<<20 {
				t.Errorf("status %v", a.status)
			}
			for _, s := range a.status {
				if s.end <= s.off || s.hole && s.end > 1<<19 {
					t.Errorf("status %v", s)
				}
			}
		})
	}
}

// TestManyExtents reads a map of more extents than one answer holds.
func TestManyExtents(t *testing.T) {
	e := newDisk(3000 * 512).export()
	e.Status = func(off int64) (int64, bool) { return off&^511 + 512, off/512%2 == 1 }
	c := serve(t, &Server{Export: e}, "unix").transmission(t, true)
	for at := int64(0); at < e.Size; {
		a := c.ask(cmdBlockStatus, 0, uint64(at), uint32(e.Size-at))
		if want := min(maxExtents, int(e.Size-at)/512); len(a.status) != want {
			t.Fatalf("at %d: %d extents, want %d", at, len(a.status), want)
		}
		for _, s := range a.status {
			if s != (extent{at, at + 512, at/512%2 == 1}) {
				t.Fatalf("extent %v at %d", s, at)
			}
			at = s.end
		}
	}
}

// readerFunc is a ReaderAt.
type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// TestBadReader sees that a reader that returns too little is an I/O error, never bytes of an earlier answer.
func TestBadReader(t *testing.T) {
	for name, f := range map[string]readerFunc{
		"short":          func(p []byte, off int64) (int, error) { return len(p) - 1, nil },
		"none":           func(p []byte, off int64) (int, error) { return 0, nil },
		"negative":       func(p []byte, off int64) (int, error) { return -1, errBad },
		"long message":   func(p []byte, off int64) (int, error) { return 0, errLong{} },
		"short with EOF": func(p []byte, off int64) (int, error) { return 1, errEOF },
	} {
		t.Run(name, func(t *testing.T) {
			e := Export{Size: 1 << 20, ReaderAt: f}
			r := serve(t, &Server{Export: e}, "unix")
			a := r.transmission(t, true).ask(cmdRead, 0, 4096, 100)
			if a.err != eIO || a.chunks != 0 || a.msg == "" || len(a.msg) > maxMessage || a.at < 4096 || a.at >= 4196 {
				t.Errorf("structured: %d %q at %d, %d chunks", a.err, a.msg, a.at, a.chunks)
			}
			if strings.Contains(a.msg, "\x00") || strings.ToValidUTF8(a.msg, "") != a.msg {
				t.Errorf("message %q is no string of the protocol", a.msg)
			}
			if a := r.transmission(t, false).ask(cmdRead, 0, 4096, 100); a.err != eIO {
				t.Errorf("simple: %d", a.err)
			}
		})
	}
}

type errLong struct{}

func (errLong) Error() string { return "\xff\x00" + strings.Repeat("ä", 40000) }

// TestEOFWithData sees that a full read that comes with io.EOF, as io.ReaderAt allows, is a good one.
func TestEOFWithData(t *testing.T) {
	f := readerFunc(func(p []byte, off int64) (int, error) { return copy(p, bytes.Repeat([]byte{9}, len(p))), errEOF })
	c := serve(t, &Server{Export: Export{Size: 4096, ReaderAt: f}}, "unix").transmission(t, true)
	if a := c.ask(cmdRead, 0, 0, 4096); a.err != 0 || a.data[4095] != 9 {
		t.Errorf("error %d %q", a.err, a.msg)
	}
}

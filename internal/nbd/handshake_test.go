package nbd

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// optionTests send one option after the flags and, where agreed is set, after structured replies were agreed on.
var optionTests = []struct {
	name   string
	agreed bool
	id     uint32
	data   []byte
	want   []uint32 // types of the answers
}{
	{name: "list", id: optList, want: []uint32{repServer, repAck}},
	{name: "list with data", id: optList, data: []byte{0}, want: []uint32{repErrInvalid}},
	{name: "info of the default export", id: optInfo, data: infoData(""), want: []uint32{repInfo, repInfo, repAck}},
	{name: "info by name", id: optInfo, data: infoData("disk"), want: []uint32{repInfo, repInfo, repAck}},
	{name: "info with all items", id: optInfo, data: infoData("", 0, 1, 2, 3, 77),
		want: []uint32{repInfo, repInfo, repInfo, repInfo, repAck}},
	{name: "info, other name", id: optInfo, data: infoData("disc"), want: []uint32{repErrUnknown}},
	{name: "go, other name", id: optGo, data: infoData("disk\x00"), want: []uint32{repErrUnknown}},
	{name: "info, no data", id: optInfo, want: []uint32{repErrInvalid}},
	{name: "info, name cut", id: optInfo, data: infoData("disk")[:6], want: []uint32{repErrInvalid}},
	{name: "info, no count", id: optInfo, data: infoData("disk")[:8], want: []uint32{repErrInvalid}},
	{name: "info, name of 2^32-1 bytes", id: optInfo, data: []byte{255, 255, 255, 255, 0, 0},
		want: []uint32{repErrInvalid}},
	{name: "info, fewer items than said", id: optInfo, data: []byte{0, 0, 0, 0, 0, 2, 0, 1},
		want: []uint32{repErrInvalid}},
	{name: "info, bytes after the items", id: optInfo, data: append(infoData("", 1), 0), want: []uint32{repErrInvalid}},
	{name: "info too long", id: optInfo, data: make([]byte, maxOption+1), want: []uint32{repErrTooBig}},
	{name: "structured replies", id: optStructuredReply, want: []uint32{repAck}},
	{name: "structured replies again", agreed: true, id: optStructuredReply, want: []uint32{repAck}},
	{name: "structured replies with data", id: optStructuredReply, data: []byte("x"), want: []uint32{repErrInvalid}},
	{name: "list contexts", agreed: true, id: optListMetaContext, data: metaData(""), want: []uint32{repMetaContext, repAck}},
	{name: "list base:", agreed: true, id: optListMetaContext, data: metaData("", "base:"),
		want: []uint32{repMetaContext, repAck}},
	{name: "list others", agreed: true, id: optListMetaContext, data: metaData("", "qemu:", "x-y:z", "base:other"),
		want: []uint32{repAck}},
	{name: "set", agreed: true, id: optSetMetaContext, data: metaData("disk", "qemu:", "base:allocation", "base:allocation"),
		want: []uint32{repMetaContext, repAck}},
	{name: "set nothing", agreed: true, id: optSetMetaContext, data: metaData(""), want: []uint32{repAck}},
	{name: "set base: is no wildcard", agreed: true, id: optSetMetaContext, data: metaData("", "base:"),
		want: []uint32{repAck}},
	{name: "set, other export", agreed: true, id: optSetMetaContext, data: metaData("x", "base:allocation"),
		want: []uint32{repErrUnknown}},
	{name: "set before structured", id: optSetMetaContext, data: metaData("", "base:allocation"),
		want: []uint32{repErrInvalid}},
	{name: "set, more queries said than sent", agreed: true, id: optSetMetaContext,
		data: append(metaData("")[:4], 255, 255, 255, 255), want: []uint32{repErrInvalid}},
	{name: "set, query cut", agreed: true, id: optSetMetaContext, data: metaData("", "base:allocation")[:20],
		want: []uint32{repErrInvalid}},
	{name: "set, bytes after", agreed: true, id: optSetMetaContext, data: append(metaData("", "base:allocation"), 0),
		want: []uint32{repErrInvalid}},
	{name: "set, no data", agreed: true, id: optSetMetaContext, want: []uint32{repErrInvalid}},
	{name: "set too long", agreed: true, id: optSetMetaContext, data: make([]byte, maxSkip),
		want: []uint32{repErrTooBig}},
	{name: "TLS", id: 5, want: []uint32{repErrUnsup}},
	{name: "extended headers", id: 11, want: []uint32{repErrUnsup}},
	{name: "unknown", id: 0xffffffff, data: []byte("data of an option to come"), want: []uint32{repErrUnsup}},
	{name: "unknown and long", id: 0, data: make([]byte, maxSkip), want: []uint32{repErrUnsup}},
}

func TestOptions(t *testing.T) {
	checkGoroutines(t)
	r := serve(t, &Server{Export: newDisk(4096).export()}, "unix")
	for _, tt := range optionTests {
		t.Run(tt.name, func(t *testing.T) {
			c := r.dial(t)
			defer c.Close()
			c.put(flags(3))
			if tt.agreed {
				c.put(opt(optStructuredReply, nil))
				c.wantReplies(optStructuredReply, repAck)
			}
			c.put(opt(tt.id, tt.data))
			c.wantReplies(tt.id, tt.want...)
			// The stream is still in step: the next option is understood.
			c.put(opt(optAbort, nil))
			c.wantReplies(optAbort, repAck)
			c.wantClosed()
		})
	}
}

func TestInfo(t *testing.T) {
	d := newDisk(123457)
	e := d.export()
	e.BlockSize = 1<<20 - 3
	r := serve(t, &Server{Export: e}, "tcp")
	for _, tt := range []struct {
		structured bool
		flags      uint16
	}{
		{false, flagHasFlags | flagReadOnly | flagCanMultiConn | flagSendCache},
		{true, flagHasFlags | flagReadOnly | flagCanMultiConn | flagSendCache | flagSendDF},
	} {
		c := r.dial(t)
		c.put(flags(3))
		if tt.structured {
			c.put(opt(optStructuredReply, nil))
			c.wantReplies(optStructuredReply, repAck)
		}
		for _, id := range []uint32{optInfo, optGo} {
			c.put(opt(id, infoData("", infoName, infoDescription)))
			got := c.wantReplies(id, repInfo, repInfo, repInfo, repInfo, repAck)
			want := [][]byte{
				be.AppendUint16(be.AppendUint64([]byte{0, 0}, 123457), tt.flags),
				{0, 3, 0, 0, 0, 1, 0, 0x10, 0, 0, 2, 0, 0, 0},
				[]byte("\x00\x01disk"),
				[]byte("\x00\x02a test's disk"),
				{},
			}
			for i := range want {
				if !bytes.Equal(got[i].data, want[i]) {
					t.Errorf("option %d, answer %d: % x, want % x", id, i, got[i].data, want[i])
				}
			}
		}
	}
}

// TestContextReplaced sees that a selection of contexts replaces the one before, even one that fails.
func TestContextReplaced(t *testing.T) {
	r := serve(t, &Server{Export: newDisk(4096).export()}, "unix")
	set := metaData("", allocationContext)
	for _, tt := range []struct {
		name string
		data []byte
		want []uint32
		err  errno
	}{
		{"again", set, []uint32{repMetaContext, repAck}, 0},
		{"nothing", metaData(""), []uint32{repAck}, eInval},
		{"malformed", set[:9], []uint32{repErrInvalid}, eInval},
		{"other export", metaData("x", allocationContext), []uint32{repErrUnknown}, eInval},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.dial(t)
			c.structured = true
			c.put(cat(flags(3), opt(optStructuredReply, nil), opt(optSetMetaContext, set)))
			c.wantReplies(optStructuredReply, repAck)
			c.wantReplies(optSetMetaContext, repMetaContext, repAck)
			c.put(opt(optSetMetaContext, tt.data))
			c.wantReplies(optSetMetaContext, tt.want...)
			c.put(opt(optGo, infoData("")))
			c.wantReplies(optGo, repInfo, repInfo, repAck)
			if a := c.ask(cmdBlockStatus, 0, 0, 4096); a.err != tt.err {
				t.Errorf("block status: error %d, want %d", a.err, tt.err)
			}
		})
	}
}

func TestList(t *testing.T) {
	e := newDisk(512).export()
	e.Name = strings.Repeat("é", 3000) // cut to 2048 letters
	c := serve(t, &Server{Export: e}, "unix").dial(t)
	c.put(cat(flags(3), opt(optList, nil)))
	a := c.wantReplies(optList, repServer, repAck)
	if want := lenString(nil, strings.Repeat("é", 2048)); string(a[0].data) != string(want)+"a test's disk" {
		t.Errorf("list says %d bytes: %.40q", len(a[0].data), a[0].data)
	}
}

func TestExportName(t *testing.T) {
	d := newDisk(8192)
	r := serve(t, &Server{Export: d.export()}, "unix")
	for _, tt := range []struct {
		name    string
		flags   uint32
		export  string
		padding int
		closed  bool
	}{
		{name: "default", flags: 3},
		{name: "by name", flags: 3, export: "disk"},
		{name: "with zeros", flags: 1, padding: 124},
		{name: "not fixed newstyle", flags: 0, padding: 124},
		{name: "other name", flags: 3, export: "disc", closed: true},
		{name: "long name", flags: 3, export: strings.Repeat("d", maxOption+1), closed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.dial(t)
			c.put(cat(flags(tt.flags), opt(optExportName, []byte(tt.export))))
			if tt.closed {
				c.wantClosed()
				return
			}
			if b := c.take(10 + tt.padding); be.Uint64(b) != 8192 || len(bytes.Trim(b[10:], "\x00")) != 0 {
				t.Errorf("answer % x", b)
			}
			if a := c.ask(cmdRead, 0, 100, 1000); !bytes.Equal(a.data, d.data[100:1100]) {
				t.Errorf("read after it: error %d", a.err)
			}
		})
	}
}

func TestMalformedHandshake(t *testing.T) {
	checkGoroutines(t)
	r := serve(t, &Server{Export: newDisk(4096).export()}, "unix")
	badMagic := opt(optList, nil)
	badMagic[3]++
	tooLong := be.AppendUint32(opt(77, nil)[:12], maxSkip+1)
	for _, tt := range []struct {
		name string
		send []byte
	}{
		{"unknown flag", flags(4)},
		{"all flags", flags(0xffffffff)},
		{"option magic", cat(flags(3), badMagic)},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"huge option", cat(flags(3), tooLong, make([]byte, 100))},
		{"huge option, 2^32-1", cat(flags(3), be.AppendUint32(opt(optGo, nil)[:12], 1<<32-1))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.dial(t)
			c.put(tt.send)
			c.wantClosed()
		})
	}
}

// TestEndlessOptions sees that a client cannot haggle for ever.
func TestEndlessOptions(t *testing.T) {
	checkGoroutines(t)
	r := serve(t, &Server{Export: newDisk(4096).export()}, "unix")
	c := r.dial(t)
	c.put(flags(3))
	for range maxOptions {
		c.put(opt(optStructuredReply, nil))
		c.wantReplies(optStructuredReply, repAck)
	}
	c.wantClosed()
}

// TestSlowHandshake sees that clients that say nothing, or something now and then, are let go.
func TestSlowHandshake(t *testing.T) {
	checkGoroutines(t)
	s := &Server{Export: newDisk(4096).export()}
	s.limits.handshake = 200 * time.Millisecond
	r := serve(t, s, "unix")

	silent := r.dial(t)
	slow := r.dial(t)
	go func() {
		for {
			if _, err := slow.Write([]byte{0}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	silent.wantClosed()
	begin := time.Now()
	slow.SetReadDeadline(begin.Add(10 * time.Second))
	slow.Read(make([]byte, 1))
	if time.Since(begin) > 5*time.Second {
		t.Error("a client that sends a byte now and then is never let go")
	}
	// An idle client past its handshake is.
	idle := r.transmission(t, false)
	time.Sleep(400 * time.Millisecond)
	if a := idle.ask(cmdRead, 0, 0, 10); a.err != 0 {
		t.Errorf("read after a pause: error %d", a.err)
	}
}

// TestByteByByte sends a whole session a byte at a time.
func TestByteByByte(t *testing.T) {
	d := newDisk(4096)
	r := serve(t, &Server{Export: d.export()}, "tcp")
	c := r.dial(t)
	for _, b := range cat(flags(3), opt(99, []byte("xyz")), opt(optGo, infoData("disk")),
		req(cmdWrite, 0, 1, 0, 5), []byte("hello"), req(cmdRead, 0, 2, 1, 4095)) {
		c.put([]byte{b})
	}
	c.wantReplies(99, repErrUnsup)
	c.wantReplies(optGo, repInfo, repInfo, repAck)
	if a := c.takeSimple(0); a.err != ePerm || a.cookie != 1 {
		t.Errorf("write: %+v", a)
	}
	if a := c.takeSimple(4095); a.cookie != 2 || !bytes.Equal(a.data, d.data[1:]) {
		t.Errorf("read: error %d", a.err)
	}
}

// TestCutAnywhere disconnects after every prefix of a session, and at last sees that the server still serves.
func TestCutAnywhere(t *testing.T) {
	checkGoroutines(t)
	d := newDisk(1 << 20)
	r := serve(t, &Server{Export: d.export(), MaxConns: 1000}, "unix")
	session := cat(flags(3), opt(optStructuredReply, nil), opt(optSetMetaContext, metaData("", allocationContext)),
		opt(optGo, infoData("disk", infoName)), req(cmdRead, 0, 1, 0, 1<<20), req(cmdBlockStatus, 0, 2, 0, 4096),
		req(cmdWrite, 0, 3, 0, 4), []byte("data"), req(cmdCache, 0, 4, 0, 4096), req(cmdDisc, 0, 5, 0, 0))
	for n := range session {
		c := r.dialRaw(t)
		c.put(session[:n])
		c.Close()
	}
	c := r.transmission(t, true)
	if a := c.ask(cmdRead, 0, 5, 99); !bytes.Equal(a.data, d.data[5:104]) {
		t.Errorf("read at last: error %d", a.err)
	}
}

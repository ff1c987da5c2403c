package nbd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// wire is a connection whose client has sent all it will ever send.
type wire struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)       { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error)      { return w.out.Write(p) }
func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "wire"} }
func (w *wire) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "wire"} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// fuzzSize is small, so that the output is: a request of 28 bytes may ask for all of it.
const fuzzSize = 64 << 10

func fuzzDisk() *disk {
	d := newDisk(fuzzSize, extent{off: 4096, end: 4097}, extent{off: 10000, end: 50000})
	d.bad = extent{off: 60000, end: 60001}
	return d
}

// FuzzWire sends any bytes. What comes back must be a well-formed stream of the protocol that answers them: every
// option in order, every request exactly once, with the disk's bytes or an error that is due.
//
// The server's goroutines make coverage vary from run to run, which minimizing cannot cope with: fuzz with
// -fuzzminimizetime=10x.
func FuzzWire(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(seed)
	}
	d := fuzzDisk()
	e := d.export()
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 8<<10 {
			return // 292 requests for the whole disk are enough output
		}
		w := &wire{in: bytes.NewReader(in)}
		se := (&Server{Export: e}).newSession(context.Background())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		se.newConn(w).serve()
		runtime.ReadMemStats(&after)
		// A message may cost a buffer to cache with, and the output what it takes to collect it: but nothing of
		// the size a message merely claims.
		most := 1<<20 + 4*w.out.Len() + len(in)/requestLen*(readPiece+headroom+1<<14) + len(in)/optionLen*2*maxOption
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(most) {
			t.Fatalf("%d bytes allocated for %d bytes of input and %d of output", got, len(in), w.out.Len())
		}
		check := &transcript{disk: d, in: in, out: w.out.Bytes()}
		if err := check.run(); err != nil {
			t.Fatalf("%v\nsent % x\ngot  % x", err, in, w.out.Bytes()[:min(w.out.Len(), 4096)])
		}
	})
}

func fuzzSeeds() [][]byte {
	agree := cat(flags(3), opt(optStructuredReply, nil), opt(optSetMetaContext, metaData("", allocationContext)))
	var requests []byte
	for i, cmd := range []uint16{cmdRead, cmdBlockStatus, cmdCache, cmdTrim, cmdWriteZeroes, 3, 99} {
		requests = append(requests, req(cmd, 0, uint64(i), 0, fuzzSize)...)
		requests = append(requests, req(cmd, 4, uint64(100+i), 9000, 45000)...)
		requests = append(requests, req(cmd, 8, uint64(200+i), 50000, 10001)...)
		requests = append(requests, req(cmd, 0, uint64(300+i), 20000, 1)...)
		requests = append(requests, req(cmd, 0, uint64(400+i), fuzzSize, 0)...)
	}
	write := cat(req(cmdWrite, 0, 500, 0, 7), []byte("payload"))
	disc := req(cmdDisc, 0, 501, 0, 0)
	seeds := [][]byte{
		nil,
		cat(flags(0), opt(optExportName, nil), requests, write, disc),
		cat(flags(3), opt(optExportName, []byte("disk")), write, requests),
		cat(agree, opt(optGo, infoData("disk", 1, 2, 3)), requests, write, requests, disc),
		cat(agree, opt(optExportName, nil), requests[:100]),
		cat(flags(3), opt(optGo, infoData("disc")), opt(optGo, infoData("")), requests),
	}
	for _, tt := range optionTests {
		if len(tt.data) < 1000 {
			seeds = append(seeds, cat(agree, opt(tt.id, tt.data), opt(optAbort, nil)))
		}
	}
	return seeds
}

// transcript holds what was sent and what came back, and takes both apart from the front.
type transcript struct {
	disk       *disk
	in, out    []byte
	structured bool
	allocation bool
}

// errEnd says that the input is used up or cut, so that nothing more may have come back.
var errEnd = fmt.Errorf("input ended")

func (x *transcript) run() error {
	err := x.handshake()
	if err == nil {
		err = x.requests()
	}
	if err == errEnd && len(x.out) > 0 {
		return fmt.Errorf("%d bytes more than there are answers", len(x.out))
	}
	if err == errEnd {
		return nil
	}
	return err
}

// sent takes n bytes off the input.
func (x *transcript) sent(n int) ([]byte, error) {
	if len(x.in) < n {
		x.in = nil
		return nil, errEnd
	}
	b := x.in[:n]
	x.in = x.in[n:]
	return b, nil
}

// got takes n bytes off the output.
func (x *transcript) got(n int) ([]byte, error) {
	if len(x.out) < n {
		return nil, fmt.Errorf("output ends %d bytes early: %w", n-len(x.out), io.ErrUnexpectedEOF)
	}
	b := x.out[:n]
	x.out = x.out[n:]
	return b, nil
}

func (x *transcript) handshake() error {
	if _, err := x.got(18); err != nil {
		return err
	}
	f, err := x.sent(4)
	if err != nil || be.Uint32(f) > 3 {
		return errEnd
	}
	for range maxOptions {
		h, err := x.sent(optionLen)
		if err != nil || be.Uint64(h) != magicOption {
			return errEnd
		}
		id, n := be.Uint32(h[8:]), be.Uint32(h[12:])
		data, err := x.sent(int(min(n, maxSkip+1)))
		if err != nil {
			return err
		}
		if id == optExportName {
			return x.exportName(data, f[3]&flagNoZeroes == 0)
		}
		last, err := x.replies(id)
		switch {
		case err != nil:
			return err
		case id == optAbort:
			return errEnd
		case id == optGo && last == repAck:
			return nil
		case id == optStructuredReply && last == repAck:
			x.structured = true
		}
	}
	return errEnd
}

func (x *transcript) exportName(name []byte, padded bool) error {
	if len(name) > 0 && string(name) != "disk" {
		return errEnd
	}
	n := 10
	if padded {
		n += exportPadding
	}
	_, err := x.got(n)
	return err
}

// replies takes the answers to one option, and returns the type of the last.
func (x *transcript) replies(id uint32) (uint32, error) {
	if id == optSetMetaContext {
		x.allocation = false
	}
	for range 6 {
		h, err := x.got(optReplyLen)
		if err != nil {
			return 0, err
		}
		rep, n := be.Uint32(h[12:]), be.Uint32(h[16:])
		if be.Uint64(h) != magicOptReply || be.Uint32(h[8:]) != id || n > 512 {
			return 0, fmt.Errorf("answer % x to option %d", h, id)
		}
		if _, err := x.got(int(n)); err != nil {
			return 0, err
		}
		if id == optSetMetaContext && rep == repMetaContext {
			x.allocation = true
		}
		if rep == repAck || rep >= 1<<31 {
			return rep, nil
		}
	}
	return 0, fmt.Errorf("option %d has answers without end", id)
}

// requests takes all requests off the input, then all answers off the output, which may come in any order.
func (x *transcript) requests() error {
	open := make(map[uint64][]request)
	count := 0
	for {
		h, err := x.sent(requestLen)
		if err != nil || be.Uint32(h) != magicRequest {
			break
		}
		q := request{be.Uint16(h[4:]), be.Uint16(h[6:]), be.Uint64(h[8:]), be.Uint64(h[16:]), be.Uint32(h[24:])}
		if q.cmd == cmdDisc {
			break
		}
		if q.cmd == cmdWrite {
			if _, err := x.sent(int(q.length)); err != nil {
				break
			}
		}
		open[q.cookie] = append(open[q.cookie], q)
		count++
	}
	if x.structured {
		return x.structuredReplies(open, count)
	}
	return x.simpleReplies(open, count)
}

// due is the error a request must be answered with, by the specification and not by the code under test.
func (x *transcript) due(q request) errno {
	inside := q.offset <= fuzzSize && uint64(q.length) <= fuzzSize-q.offset
	touchesBad := inside && q.offset <= 60000 && q.offset+uint64(q.length) > 60000
	flags := map[uint16]uint16{cmdRead: cmdFlagDF, cmdBlockStatus: cmdFlagReqOne}[q.cmd]
	if !x.structured {
		flags = 0
	}
	switch q.cmd {
	case cmdWrite, cmdTrim, cmdWriteZeroes:
		return ePerm
	case cmdRead, cmdCache:
		if inside && touchesBad && q.flags&^flags == 0 {
			return eIO
		}
	case cmdBlockStatus:
		if !x.allocation || q.length == 0 {
			return eInval
		}
	default:
		return eInval
	}
	if q.flags&^flags != 0 || !inside {
		return eInval
	}
	return 0
}

func (x *transcript) simpleReplies(open map[uint64][]request, count int) error {
	for ; count > 0; count-- {
		h, err := x.got(simpleLen)
		if err != nil {
			return err
		}
		qs := open[be.Uint64(h[8:])]
		if be.Uint32(h) != magicSimple || len(qs) == 0 {
			return fmt.Errorf("simple reply % x answers nothing", h)
		}
		if len(qs) > 1 {
			return nil // which of them is answered cannot be told
		}
		q := qs[0]
		delete(open, q.cookie)
		if e := errno(be.Uint32(h[4:])); e != x.due(q) {
			return fmt.Errorf("%+v: error %d, want %d", q, e, x.due(q))
		}
		if q.cmd != cmdRead || x.due(q) != 0 {
			continue
		}
		data, err := x.got(int(q.length))
		if err != nil {
			return err
		}
		if !bytes.Equal(data, x.disk.data[q.offset:q.end()]) {
			return fmt.Errorf("%+v: wrong data", q)
		}
	}
	return errEnd
}

func (x *transcript) structuredReplies(open map[uint64][]request, count int) error {
	covered := make(map[uint64]int64)
	for count > 0 {
		h, err := x.got(structuredLen)
		if err != nil {
			return err
		}
		cookie := be.Uint64(h[8:])
		qs := open[cookie]
		if be.Uint32(h) != magicStructured || len(qs) == 0 {
			return fmt.Errorf("chunk % x answers nothing", h)
		}
		p, err := x.got(int(be.Uint32(h[16:])))
		if err != nil {
			return err
		}
		done := be.Uint16(h[4:]) == replyFlagDone
		if done {
			count--
		}
		if len(qs) > 1 {
			continue // which of them is answered cannot be told; framing still can
		}
		n, err := x.chunk(qs[0], be.Uint16(h[6:]), p)
		if err != nil {
			return fmt.Errorf("%+v: chunk % x: %w", qs[0], h, err)
		}
		covered[cookie] += n
		if done {
			if q := qs[0]; q.cmd == cmdRead && x.due(q) == 0 && covered[cookie] != int64(q.length) {
				return fmt.Errorf("%+v: %d bytes came", q, covered[cookie])
			}
			delete(open, cookie)
		}
	}
	return errEnd
}

// chunk checks one chunk, and returns how many bytes of the read it answers.
func (x *transcript) chunk(q request, typ uint16, p []byte) (int64, error) {
	due := x.due(q)
	switch {
	case typ == chunkNone && len(p) == 0 && due == 0 && (q.cmd == cmdCache || q.length == 0):
		return 0, nil
	case typ == chunkOffsetData && q.cmd == cmdRead && (due == 0 || due == eIO) && len(p) > 8:
		off, n := be.Uint64(p), uint64(len(p)-8)
		if off < q.offset || off+n > uint64(q.end()) || !bytes.Equal(p[8:], x.disk.data[off:off+n]) {
			return 0, fmt.Errorf("wrong data at %d", off)
		}
		return int64(n), nil
	case typ == chunkOffsetHole && q.cmd == cmdRead && (due == 0 || due == eIO) && len(p) == 12:
		off, n := be.Uint64(p), uint64(be.Uint32(p[8:]))
		if off < q.offset || n == 0 || off+n > uint64(q.end()) || len(bytes.Trim(x.disk.data[off:off+n], "\x00")) > 0 {
			return 0, fmt.Errorf("wrong hole at %d", off)
		}
		return int64(n), nil
	case typ == chunkBlockStatus && q.cmd == cmdBlockStatus && due == 0:
		return 0, x.statusChunk(q, p)
	case typ == chunkError && len(p) >= 6 && errno(be.Uint32(p)) == due && due != 0,
		typ == chunkErrorOffset && len(p) >= 14 && due == eIO && be.Uint64(p[len(p)-8:]) == 60000:
		return 0, nil
	}
	return 0, fmt.Errorf("type %#x is not due (error %d is)", typ, due)
}

func (x *transcript) statusChunk(q request, p []byte) error {
	if len(p) < 12 || len(p)%8 != 4 || q.flags&cmdFlagReqOne != 0 && len(p) != 12 {
		return fmt.Errorf("status of %d bytes", len(p))
	}
	at := int64(q.offset)
	for p = p[4:]; len(p) > 0; p = p[8:] {
		end := at + int64(be.Uint32(p))
		if end == at || end > q.end() {
			return fmt.Errorf("extent [%d,%d)", at, end)
		}
		zero := len(bytes.Trim(x.disk.data[at:end], "\x00")) == 0
		if hole := be.Uint32(p[4:]) == stateHole|stateZero; hole && !zero {
			return fmt.Errorf("no hole at [%d,%d)", at, end)
		}
		at = end
	}
	return nil
}

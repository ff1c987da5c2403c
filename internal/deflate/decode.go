// Package deflate decodes DEFLATE (RFC 1951), can stop after any output byte,
// and can start again there.
//
// A Decoder hands out slices of its own buffer, or of the source's where that is
// a [Lender], so nothing is copied that the caller doesn't copy. A [Checkpoint] with the window before it (at most
// 32 KiB of output) is all that a later decoder needs to go on from that byte,
// inside a block and inside a match as well as between blocks. The window may
// be a sparse one, see [AppendPackedWindow].
//
// Where a stream is damaged, [FindTail] finds what can be decoded behind that. Its
// parts are [FindBlock], which looks for the start of a block, and a
// [MarkerDecoder], which begins there without the window.
//
// The package also has the pieces of the zlib format (RFC 1950) around a
// DEFLATE stream. It does not encode, and it has no preset dictionaries.
//
// # Where this differs from others
//
// What is accepted is what zlib and compress/flate accept. Where a stream is
// rejected the three may have made a different number of bytes by then: a
// block without an end-of-block code, and a code-length code of a single
// symbol, are refused with their header here and in zlib, and later (no valid
// stream can come of them) in compress/flate.
package deflate

import (
	"errors"
	"fmt"
	"io"
)

const (
	// MaxDecode is the most that one call of Decode returns.
	MaxDecode = 64 << 10

	// WindowSize is how far back a match reaches.
	WindowSize = 32 << 10

	// bufLen is a power of two, so that a mask can stand for a bounds check.
	// A slide leaves WindowSize bytes and makes room for 96 KiB: large enough
	// that sliding costs under 2 %, small enough for a second-level cache.
	bufLen = 128 << 10

	// bufSlack takes what the fast loop writes behind the position it was
	// asked for: the rest of a match and of its last 16-byte chunk.
	bufSlack = 512

	inLen   = 32 << 10
	inSlack = 8
)

// ErrCorrupt is the class of every [CorruptError].
var ErrCorrupt = errors.New("deflate: corrupt stream")

var errNotAtEnd = errors.New("deflate: trailer asked for before the stream's end")

// CorruptError says what is wrong in a stream, and where.
type CorruptError struct {
	Offset int64 // of the byte in which it was seen, from the stream's start
	Msg    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("deflate: %s at input byte %d", e.Msg, e.Offset)
}

// Is makes every CorruptError an ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// state is where in the stream's grammar the decoder stands.
type state uint8

const (
	stHeader  state = iota // a block header is next
	stStored               // inside a stored block
	stFixed                // inside a block with the fixed codes
	stDynamic              // inside a block with its own codes
	stEnd                  // behind the final block
)

// Memory is the most that one Decoder holds, in bytes, whatever it decodes.
const Memory int64 = 192 << 10

// A Decoder decodes one stream at a time. It allocates nothing of its own but
// error values. Its zero value is an empty, truncated stream until Reset or
// Resume. It must not be used by several goroutines at once.
//
// Its large arrays are fields, not slices: the fast loop then reaches all of
// them through one register, and their sizes are constants to the compiler.
type Decoder struct {
	r      io.Reader
	lender Lender // r, if it is one
	rerr   error  // what r returned last, if that was an error not yet reported
	err    error  // found behind the bytes of the last Decode; next Decode's
	state  state
	final  bool // the current block is the last one
	stops  bool // Decode returns between two blocks

	// The bit buffer holds nbits bits, the next one lowest. They are the last
	// ones before in[ipos]; inBase is the stream's offset of in[0].
	bits       uint64
	nbits      uint
	skip       uint // bits of the first byte, once there is a reader
	ipos, iend int
	inBase     int64

	opos    int   // output goes to buf[opos]; what lies before is the window
	outBase int64 // the stream's offset of buf[0]
	loan    loan  // output behind that in buf
	stored  int   // bytes left of a stored block
	mlen    int   // bytes left of a match that the last position has cut
	mdist   int   // how far back they are

	// Matches that start before buf[low] leave the fast path: they refer to
	// the tracked window, or to nothing. low is 0 while nothing is tracked.
	low   int
	refs  Refs
	notes [maxNoted]uint32 // such matches, source and length, of one call of fast
	noted uint

	// The fast loop's limits. As fields they leave two registers to it.
	ilim, olim uint

	hdrLen int                    // of hdr
	hdr    [maxHeader]byte        // the current dynamic block's header, for checkpoints
	lens   [maxLit + maxDist]byte // code lengths behind lit and dist

	fixed bool // lit and dist hold the fixed codes
	lit   [litSize]uint32
	dist  [distSize]uint32
	work  builder

	in  [inLen + inSlack]byte
	buf [bufLen + bufSlack]byte
}

// Reset begins a raw stream. r is read ahead of what is needed.
func (d *Decoder) Reset(r io.Reader) {
	d.r, d.rerr, d.err = r, nil, nil
	d.lender, _ = r.(Lender)
	d.state, d.final, d.stops = stHeader, false, false
	d.bits, d.nbits, d.skip = 0, 0, 0
	d.ipos, d.iend, d.inBase = 0, 0, 0
	d.opos, d.outBase, d.loan = 0, 0, loan{}
	d.stored, d.mlen, d.mdist = 0, 0, 0
	d.low = 0
}

// In is the number of bits consumed since the stream's start.
func (d *Decoder) In() int64 {
	return (d.inBase+int64(d.ipos))*8 - int64(d.nbits)
}

// Out is the number of bytes made since the stream's start.
func (d *Decoder) Out() int64 { return d.outBase + int64(d.opos+d.loan.size) }

// Window is the output before the present position, at most WindowSize bytes
// of it. It is valid until the next call of Decode, Reset or Resume.
func (d *Decoder) Window() []byte {
	d.unlend()
	return d.buf[max(0, d.opos-WindowSize):d.opos]
}

// Decode returns the next bytes of output in a slice that is valid until the
// next call, and of a [Lender] no longer than what it lent. It returns at least
// one and at most max of them (MaxDecode, if max is not in 1..MaxDecode): fewer
// where a Lender's memory or a stored block in it ends, and where the stream ends
// or fails; then io.EOF or the error comes in the next call. There are bytes or
// there is an error, never both or neither.
//
// A stream that ends too early gives io.ErrUnexpectedEOF. An error of the
// reader is passed on as it is and leaves the decoder where it was, so that
// Decode may be called again and reads on. Other errors are final.
func (d *Decoder) Decode(max int) ([]byte, error) {
	if max <= 0 || max > MaxDecode {
		max = MaxDecode
	}
	if d.lender != nil {
		if p := d.lend(max); p != nil {
			return p, nil
		}
	}
	if d.opos+max > bufLen {
		d.slide()
	}
	start, target := d.opos, d.opos+max
	err := d.err
	for err == nil && d.opos < target {
		err = d.step(target)
		if d.stops && d.state == stHeader {
			break
		}
	}
	if d.opos > start || err == nil {
		d.err = err
		return d.buf[start:d.opos], nil
	}
	d.err = d.keep(err)
	return nil, err
}

// StopBetweenBlocks has Decode return where a block ends, too, until the next Reset or
// Resume. There it may return no bytes and no error.
func (d *Decoder) StopBetweenBlocks() { d.stops = true }

// BetweenBlocks reports whether a block's header is next.
func (d *Decoder) BetweenBlocks() bool {
	return d.state == stHeader && d.err == nil && d.rerr == nil && d.r != nil
}

// keep is what remains of an error once it has been reported: the reader's
// own do not stay.
func (d *Decoder) keep(err error) error {
	if _, ok := err.(*CorruptError); ok || err == io.EOF && d.state == stEnd {
		return err
	}
	d.rerr = nil
	return nil
}

// step goes on in the present state, to buf[target] at most.
func (d *Decoder) step(target int) error {
	if d.mlen > 0 {
		d.match(target)
		return nil
	}
	switch d.state {
	case stHeader:
		return d.header()
	case stStored:
		return d.copyStored(target)
	case stEnd:
		return io.EOF
	}
	if d.slack(target) {
		return d.fast(target)
	}
	return d.careful(target)
}

// slack reports that the fast loop can do something.
func (d *Decoder) slack(target int) bool {
	return d.avail() >= fastIn && target-d.opos > fastOut
}

// match makes the rest of a match, or as much as fits before buf[target].
func (d *Decoder) match(target int) {
	n := min(d.mlen, target-d.opos)
	src := d.opos - d.mdist
	if src < d.low {
		d.refer(src, n)
	}
	d.fill(src, n)
	d.mlen -= n
}

// slide moves the window to the front of buf.
func (d *Decoder) slide() {
	s := d.opos - WindowSize
	if s <= 0 {
		return
	}
	copy(d.buf[:WindowSize], d.buf[s:d.opos])
	d.opos = WindowSize
	d.outBase += int64(s)
	d.low = max(0, d.low-s)
}

// end leaves a block.
func (d *Decoder) end() {
	d.state = stHeader
	if d.final {
		d.state = stEnd
	}
}

func (d *Decoder) corrupt(msg string) error {
	return &CorruptError{Offset: d.In() / 8, Msg: msg}
}

// Trailer reads the len(p) bytes that follow the stream, from the next byte
// boundary on. It may be called once Decode has returned io.EOF.
func (d *Decoder) Trailer(p []byte) error {
	if d.state != stEnd {
		return errNotAtEnd
	}
	if err := d.ensure(len(p)); d.avail() < len(p) {
		d.rerr = nil
		return err
	}
	d.unread()
	d.bits, d.nbits = 0, 0
	d.ipos += copy(p, d.in[d.ipos:d.iend])
	return nil
}

package stream

import (
	"encoding/binary"
	"errors"

	"github.com/go-dmg/dmg/internal/window"
)

// A Record is what is kept for a checkpoint, from which decoding resumes. Where it came
// from an index it may be anything: whatever resumes checks it.
type Record struct {
	In     int64  // offset in the data of the byte that decoding goes on with
	Need   int64  // how many bytes from there on the output up to the checkpoint may need: of a block, all
	Skip   int64  // bytes of output to leave out: the checkpoint is so far behind the output before In
	State  []byte // of the decoder, as it has it
	Window []byte // the last output before In, as package window packs and shrinks it
}

// The most that a Record may have, in bytes.
const (
	MaxState  = 128
	MaxWindow = 256 << 10
	MaxNeed   = 1 << 17
	MaxSkip   = 1 << 12
	maxHead   = 9 + 3 + 2 + 2 + MaxState

	// MaxRecord is the length of the longest record.
	MaxRecord = maxHead + MaxWindow + window.Excess

	// PointRoom is what an Output allocates for checkpoints at the first call of Mark,
	// besides its window's length and an eighth of that.
	PointRoom = maxHead + window.Room
)

// ErrRecord says that a record is none, or none of the decoder that it was given to.
var ErrRecord = errors.New("stream: a checkpoint's record that no decoder makes")

// Append appends r in the form that Parse reads: In, Need, Skip, the length of the state
// as uvarints, then the state and the window.
func (r *Record) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.In))
	dst = binary.AppendUvarint(dst, uint64(r.Need))
	dst = binary.AppendUvarint(dst, uint64(r.Skip))
	dst = binary.AppendUvarint(dst, uint64(len(r.State)))
	return append(append(dst, r.State...), r.Window...)
}

// Parse sets r to what Append wrote, all of p, of which it keeps parts. The error is
// ErrRecord.
func (r *Record) Parse(p []byte) error {
	b := Fields{p: p}
	r.In, r.Need, r.Skip = int64(b.Uvarint(1<<60)), int64(b.Uvarint(MaxNeed)), int64(b.Uvarint(MaxSkip))
	n := int(b.Uvarint(MaxState))
	if b.bad || n > len(b.p) {
		return ErrRecord
	}
	r.State, r.Window = b.p[:n], b.p[n:]
	return nil
}

// Fields reads numbers off a state. After a failure it yields zeros.
type Fields struct {
	p   []byte
	bad bool
}

// NewFields returns the fields of p.
func NewFields(p []byte) Fields { return Fields{p: p} }

// Uvarint returns the next number, which must not exceed limit.
func (f *Fields) Uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(f.p)
	if n <= 0 || v > limit {
		f.bad, f.p = true, nil
		return 0
	}
	f.p = f.p[n:]
	return v
}

// End returns ErrRecord if a number was missing or too large, or if there are more.
func (f *Fields) End() error {
	if f.bad || len(f.p) > 0 {
		return ErrRecord
	}
	return nil
}

// A Point is a checkpoint that a decoder has left.
type Point struct {
	Off    int64  // of output
	In     int64  // offset in the data behind what is needed to decode all before Off
	Record []byte // valid until the next call of Mark
}

// pending is a checkpoint whose window is yet to be packed: later output may refer to more
// of it.
type pending struct {
	begun bool
	off   int64
	at    int64 // of output, where decoding resumes: off less Record.Skip
	in    int64
	head  int    // length of the record without its window, in buf
	size  int    // of the window, at buf's end
	buf   []byte // in which the window is packed
	refs  window.Refs
}

// Mark asks for a checkpoint at byte off of the output, which a decoder must not have got
// to yet: else there will be none. What was pending is given up.
func (o *Output) Mark(off int64) {
	if o.point.buf == nil {
		o.point.buf = make([]byte, PointRoom+o.Window)
		o.point.refs = make(window.Refs, o.Window/64)
	}
	o.mark, o.low, o.point.begun = off, 0, false
}

// Until returns where a step is to stop instead of at limit, which is behind Wr. If it is
// Wr the step is to call Begin instead. A step goes no further than Slack beyond its
// limit, so that this comes in time.
func (o *Output) Until(limit int) int {
	if o.mark == 0 {
		return limit
	}
	return max(o.Wr, int(min(int64(limit), o.mark-o.Base-int64(o.Slack))))
}

// Begin begins the checkpoint that Mark asked for, where the decoder stands. r has all
// that is to be kept but Skip and Window.
func (o *Output) Begin(r Record) {
	p := &o.point
	at := o.Base + int64(o.Wr)
	r.Skip = o.mark - at
	p.off, p.at, p.in = o.mark, at, r.In+r.Need
	o.mark = 0
	if r.Skip < 0 {
		return
	}
	p.head = len(r.Append(p.buf[:0]))
	p.size = copy(p.buf[len(p.buf)-min(o.Window, o.Wr):], o.Buf[o.Wr-min(o.Window, o.Wr):])
	clear(p.refs)
	p.begun, o.low = true, o.Wr
}

// Low returns how far the window of a checkpoint goes that is pending: of a match that
// copies from before Buf[Low] Refer must be told. It is 0 if there is none.
func (o *Output) Low() int { return o.low }

// Refer notes that n bytes from Buf[src] on are copied.
func (o *Output) Refer(src, n int) {
	if from := o.Window - (o.low - src); from >= 0 && from < o.Window {
		o.point.refs.Mark(uint(from), uint(min(from+n, o.Window)))
	}
}

// Point returns the checkpoint that Mark asked for, if it is there and all that later
// output can copy of its window is known, because a window's length was decoded since. At
// the end of all that is ever decoded it is known sooner.
func (o *Output) Point(end bool) (Point, bool) {
	p := &o.point
	if !p.begun || !end && o.Base+int64(o.Wr)-p.at < int64(o.Window) {
		return Point{}, false
	}
	p.begun, o.low = false, 0
	record := window.Append(p.buf[:p.head], p.buf[len(p.buf)-p.size:], p.refs)
	return Point{p.off, p.in, record}, true
}

// Shrink returns a Point's record in fewer bytes if it can, for a while in memory. It uses
// the record's memory.
func Shrink(record []byte) []byte {
	var r Record
	if r.Parse(record) != nil || len(r.Window) > cap(record)-PointRoom {
		return record
	}
	head := len(record) - len(r.Window)
	s, ok := window.Shrink(record[len(record):], r.Window)
	if !ok {
		return record
	}
	return record[:head+copy(record[head:], s)]
}

// Resume goes on at byte off of the output, where a decoder left a checkpoint. The
// decoder's own part of r is the caller's to resume. The error is ErrRecord.
func (o *Output) Resume(off int64, r *Record) error {
	o.Restart()
	at := off - r.Skip
	if at < 0 || r.Skip > int64(o.Slack) {
		return ErrRecord
	}
	n := int(min(int64(o.Window), at))
	packed, err := window.Expand(o.Buf[o.Window:o.Window], r.Window)
	if err != nil || window.Unpack(o.Buf[:n], packed) != nil {
		return ErrRecord
	}
	o.Wr, o.rd, o.Base = n, n+int(r.Skip), at-int64(n)
	return nil
}

// Space returns a buffer that has room for the record of a checkpoint. It is valid until
// the next call of Mark.
func (o *Output) Space() []byte {
	if o.point.buf == nil {
		o.Mark(0)
	}
	return o.point.buf
}

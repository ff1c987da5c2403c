package indexfile

import (
	"encoding/binary"
	"math"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/stream"
	"github.com/go-dmg/dmg/internal/window"
)

// Kind is how what is kept for a checkpoint, its record, is made. It depends on the
// chunk's codec.
type Kind uint8

const (
	None   Kind = iota // the chunk has no checkpoints
	Zlib               // a deflate.Checkpoint, and the packed window
	Bzip2              // a block's record, as package bzip2 has it
	Stream             // a stream.Record
	numKinds
)

// Spacing is the unit, in bytes, in which checkpoints stand in zlib chunks.
const Spacing = 32 << 10

// packing is what the format has of its own for records of a kind.
type packing struct {
	unit   int64  // checkpoints are at multiples of it, above 0; 0 where they can be anywhere
	lead   int64  // bytes of the chunk's data before those that the place is counted in,
	needed bool   // and the last number is how many behind it are needed, instead of one
	number uint64 // the most that the directory's last number of a checkpoint can be

	// split puts the record of a checkpoint at byte off to the parts of the group at hand,
	// but for what the directory has: the place in the data, and the checkpoint's last
	// number, which is sum if the record doesn't have it. It fails if the record is none
	// for off, or before bit least of the data.
	split func(w *Writer, record []byte, off, least int64, sum uint32) (bit int64, number uint32, ok bool)

	// join appends the record of p to u.out. It takes from the group's parts what split
	// put there. It fails if that makes no record.
	join func(u *Unpacker, p Place) bool
}

var packings = [numKinds]packing{
	Zlib:   {Spacing, deflate.ZlibHeaderLen, false, math.MaxUint32, (*Writer).splitZlib, (*Unpacker).joinZlib},
	Bzip2:  {0, 0, false, bzip2.MaxCursors, (*Writer).splitBlock, (*Unpacker).joinBlock},
	Stream: {0, 0, true, stream.MaxNeed, (*Writer).splitStream, (*Unpacker).joinStream},
}

// maxRecord is the longest record: of a bzip2 block, or of a checkpoint with all of its
// window.
const maxRecord = max(bzip2.MaxRecord, stream.MaxRecord, deflate.MaxCheckpoint+deflate.MaxPackedWindow) + binary.MaxVarintLen64

// splitStream distributes a record as splitZlib does, with what comes before the state in
// the directory or in front of it.
func (w *Writer) splitStream(record []byte, _, least int64, _ uint32) (bit int64, number uint32, ok bool) {
	var r stream.Record
	if r.Parse(record) != nil || r.In > math.MaxInt64/8 || r.In*8 < least {
		return 0, 0, false
	}
	if w.window == nil {
		w.window = make([]byte, 0, stream.MaxRecord)
	}
	packed, err := window.Expand(w.window, r.Window)
	if err != nil {
		return 0, 0, false
	}
	size, k := binary.Uvarint(packed)
	if k <= 0 || size > stream.MaxWindow {
		return 0, 0, false
	}
	runs, ok := w.splitRuns(packed[k:])
	if !ok {
		return 0, 0, false
	}
	states := binary.AppendUvarint(w.parts[partStates], uint64(r.Skip))
	states = binary.AppendUvarint(states, uint64(len(r.State)))
	states = append(states, r.State...)
	states = binary.AppendUvarint(states, size)
	w.parts[partStates] = binary.AppendUvarint(states, runs)
	return r.In * 8, uint32(r.Need), true
}

// joinStream puts the record together.
func (u *Unpacker) joinStream(p Place) bool {
	states := &u.parts[partStates]
	skip, ok1 := states.uvarint(stream.MaxSkip)
	n, ok2 := states.uvarint(stream.MaxState)
	state, ok3 := states.cut(int(n))
	size, ok4 := states.uvarint(stream.MaxWindow)
	runs, ok5 := states.uvarint(size)
	if !(ok1 && ok2 && ok3 && ok4 && ok5) || p.bit%8 != 0 {
		return false
	}
	r := stream.Record{In: p.bit / 8, Need: int64(p.number), Skip: int64(skip), State: state}
	u.out = r.Append(u.out)
	return u.joinWindow(int(size), int(runs))
}

// splitZlib distributes a zlib chunk's record: its window among three parts, and
// what comes before to the states.
func (w *Writer) splitZlib(record []byte, off, least int64, sum uint32) (bit int64, number uint32, ok bool) {
	window, err := w.state.Parse(record)
	if err != nil || w.state.Out != off || w.state.In < least {
		return 0, 0, false
	}
	head := record[:len(record)-len(window)]
	n, k := binary.Uvarint(window)
	if n != deflate.WindowSize {
		return 0, 0, false
	}
	runs, ok := w.splitRuns(window[k:])
	if !ok {
		return 0, 0, false
	}
	w.short = deflate.AppendWithoutOffsets(w.short[:0], head)
	states := binary.AppendUvarint(w.parts[partStates], uint64(len(w.short)))
	states = append(states, w.short...)
	w.parts[partStates] = binary.AppendUvarint(states, runs)
	return w.state.In, sum, true
}

// splitRuns distributes the runs of a packed window among three parts, and returns their
// number.
func (w *Writer) splitRuns(window []byte) (runs uint64, ok bool) {
	gaps, lengths, literals := w.parts[partGaps], w.parts[partLengths], w.parts[partLiterals]
	for ; len(window) > 0; runs++ {
		gap, g := binary.Uvarint(window)
		n, k := binary.Uvarint(window[max(g, 0):])
		if g <= 0 || k <= 0 || n > uint64(len(window)-g-k) {
			return 0, false
		}
		gaps = binary.AppendUvarint(gaps, gap)
		lengths = binary.AppendUvarint(lengths, n)
		literals = append(literals, window[g+k:][:n]...)
		window = window[g+k+int(n):]
	}
	w.parts[partGaps], w.parts[partLengths], w.parts[partLiterals] = gaps, lengths, literals
	return runs, true
}

// joinZlib puts the record of a zlib chunk's checkpoint together.
func (u *Unpacker) joinZlib(p Place) bool {
	states := &u.parts[partStates]
	n, _ := states.uvarint(deflate.MaxCheckpoint)
	short, ok := states.cut(int(n))
	if !ok {
		return false
	}
	from := len(u.out)
	u.out = deflate.AppendWithOffsets(u.out, short, p.bit, p.Off)
	if rest, err := u.state.Parse(u.out[from:]); err != nil || len(rest) > 0 {
		return false
	}
	runs, ok := states.uvarint(deflate.WindowSize)
	return ok && u.joinWindow(deflate.WindowSize, int(runs))
}

// joinWindow puts the packed window of so many bytes together.
func (u *Unpacker) joinWindow(size, runs int) bool {
	gaps, lengths, literals := &u.parts[partGaps], &u.parts[partLengths], &u.parts[partLiterals]
	out := binary.AppendUvarint(u.out, uint64(size))
	left := uint64(size)
	for range runs {
		gap, ok := gaps.uvarint(left)
		if !ok {
			return false
		}
		n, ok := lengths.uvarint(left - gap)
		if !ok {
			return false
		}
		bytes, ok := literals.cut(int(n))
		if !ok || len(out)+len(bytes) > maxRecords {
			return false
		}
		out = binary.AppendUvarint(out, gap)
		out = binary.AppendUvarint(out, n)
		out = append(out, bytes...)
		left -= gap + n
	}
	u.out = out
	return true
}

// splitBlock puts the record of a bzip2 block to the states.
func (w *Writer) splitBlock(record []byte, _, least int64, _ uint32) (bit int64, number uint32, ok bool) {
	point, err := bzip2.RecordPoint(record)
	if err != nil || point.In < least || (len(record)-bzip2.PointLen)%bzip2.CursorLen != 0 {
		return 0, 0, false
	}
	cursors := bzip2.RecordCursors(len(record))
	if cursors > bzip2.MaxCursors {
		return 0, 0, false
	}
	w.parts[partStates] = append(w.parts[partStates], record[bzip2.PointIn:]...)
	return point.In, uint32(cursors), true
}

// joinBlock puts the record of a bzip2 block together.
func (u *Unpacker) joinBlock(p Place) bool {
	b, ok := u.parts[partStates].cut(bzip2.PointLen - bzip2.PointIn + p.Cursors()*bzip2.CursorLen)
	if !ok {
		return false
	}
	from := len(u.out)
	u.out = binary.BigEndian.AppendUint64(u.out, uint64(p.bit))
	u.out = append(u.out, b...)
	record := u.out[from:]
	if _, err := bzip2.RecordPoint(record); err != nil {
		return false
	}
	var err error
	u.cursors, err = bzip2.AppendRecordCursors(append(u.cursors[:0], bzip2.Cursor{}), record)
	return err == nil
}

package indexfile

import (
	"encoding/binary"
	"math"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
)

// Kind is how what is kept for a checkpoint, its record, is made. It depends on the
// chunk's codec.
type Kind uint8

const (
	None   Kind = iota // the chunk has no checkpoints
	Zlib               // a deflate.Checkpoint, and the packed window
	Bzip2              // a block's record, as package bzip2 has it
	Window             // offset in the chunk's data, 8 bytes, and the window
	numKinds
)

// Spacing is the unit, in bytes, in which checkpoints stand in zlib chunks.
const Spacing = 32 << 10

// packing is what the format has of its own for records of a kind.
type packing struct {
	unit   int64  // checkpoints are at multiples of it, above 0; 0 where they can be anywhere
	lead   int64  // bytes of the chunk's data before those that the place is counted in
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
	Zlib:   {Spacing, deflate.ZlibHeaderLen, math.MaxUint32, (*Writer).splitZlib, (*Unpacker).joinZlib},
	Bzip2:  {0, 0, bzip2.MaxCursors, (*Writer).splitBlock, (*Unpacker).joinBlock},
	Window: {0, 0, maxWindow, (*Writer).splitWindow, (*Unpacker).joinPlainWindow},
}

// maxRecord is the longest record: of a bzip2 block, or a zlib checkpoint with
// all of its window.
const maxRecord = max(bzip2.MaxRecord, 8+maxWindow, deflate.MaxCheckpoint+deflate.MaxPackedWindow) + binary.MaxVarintLen64

// maxWindow is the longest window of a record of kind Window, in bytes.
const maxWindow = 64 << 10

// splitWindow puts the window to the literals.
func (w *Writer) splitWindow(record []byte, _, least int64, _ uint32) (bit int64, number uint32, ok bool) {
	if len(record) < 8 || len(record) > 8+maxWindow {
		return 0, 0, false
	}
	in := binary.BigEndian.Uint64(record)
	if in >= 1<<60 || int64(in)*8 < least {
		return 0, 0, false
	}
	w.parts[partLiterals] = append(w.parts[partLiterals], record[8:]...)
	return int64(in) * 8, uint32(len(record) - 8), true
}

// joinPlainWindow puts the record together.
func (u *Unpacker) joinPlainWindow(p Place) bool {
	window, ok := u.parts[partLiterals].cut(int(p.number))
	if !ok || p.bit%8 != 0 {
		return false
	}
	u.out = binary.BigEndian.AppendUint64(u.out, uint64(p.bit/8))
	u.out = append(u.out, window...)
	return true
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
	gaps, lengths, literals := w.parts[partGaps], w.parts[partLengths], w.parts[partLiterals]
	runs := uint64(0)
	for window = window[k:]; len(window) > 0; runs++ {
		gap, g := binary.Uvarint(window)
		n, k := binary.Uvarint(window[max(g, 0):])
		if g <= 0 || k <= 0 || n > uint64(len(window)-g-k) {
			return 0, 0, false
		}
		gaps = binary.AppendUvarint(gaps, gap)
		lengths = binary.AppendUvarint(lengths, n)
		literals = append(literals, window[g+k:][:n]...)
		window = window[g+k+int(n):]
	}
	w.short = deflate.AppendWithoutOffsets(w.short[:0], head)
	states := binary.AppendUvarint(w.parts[partStates], uint64(len(w.short)))
	states = append(states, w.short...)
	states = binary.AppendUvarint(states, runs)
	w.parts = [numParts][]byte{states, gaps, lengths, literals}
	return w.state.In, sum, true
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
	return ok && u.joinWindow(int(runs))
}

// joinWindow puts a packed window together.
func (u *Unpacker) joinWindow(runs int) bool {
	gaps, lengths, literals := &u.parts[partGaps], &u.parts[partLengths], &u.parts[partLiterals]
	out := binary.AppendUvarint(u.out, deflate.WindowSize)
	left := uint64(deflate.WindowSize)
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

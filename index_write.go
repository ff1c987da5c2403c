package dmg

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/klauspost/compress/flate"

	"github.com/go-dmg/dmg/internal/deflate"
)

// indexWriter packs checkpoints in order.
type indexWriter struct {
	limit     int64
	count     uint64
	raw       int64 // bytes of all parts
	last      place
	z         *flate.Writer
	directory []byte // not compressed yet
	groups    bytes.Buffer
	entries   []byte // of the directory, for the group at hand
	points    int    // in the group at hand
	parts     [numParts][]byte
	state     deflate.Checkpoint
	short     []byte
}

// The compressor is not the standard library's, whose output may change from one
// toolchain to the next: an index is to be the same wherever it is made. A level
// higher takes three times as long for half a percent less.
const indexLevel = 8

func (w *indexWriter) begin() {
	w.count, w.raw, w.last = 0, 0, place{}
	w.directory = w.directory[:0]
	w.groups.Reset()
	w.beginGroup()
	if w.z == nil {
		w.z, _ = flate.NewWriter(nil, indexLevel) // fails for other levels only
	}
}

func (w *indexWriter) beginGroup() {
	w.points, w.entries = 0, w.entries[:0]
	for i := range w.parts {
		w.parts[i] = w.parts[i][:0]
	}
}

// full reports whether the index has become too long.
func (w *indexWriter) full() bool {
	return int64(indexMin+w.groups.Len()) > w.limit || w.raw > maxIndexRaw
}

// put adds a checkpoint that comes after those before. A record that is none is
// left out.
func (w *indexWriter) put(m Method, chunk int, at checkpoint, record []byte) {
	p := place{chunk: chunk, off: at.off, sum: at.sum}
	last := w.last
	if chunk != last.chunk {
		last = place{chunk: last.chunk}
	}
	before := w.inGroup()
	ok := false
	switch m {
	case Zlib:
		p.bit, ok = w.splitZlib(record, p.off, last.bit)
	case Bzip2:
		p.bit, p.cursors, ok = w.splitBlock(record, last.bit)
	}
	if !ok {
		return
	}
	w.entries = binary.AppendUvarint(w.entries, uint64(p.chunk-last.chunk))
	w.entries = binary.AppendUvarint(w.entries, uint64(p.off-last.off))
	w.entries = binary.AppendUvarint(w.entries, uint64(p.bit-last.bit))
	if m == Bzip2 {
		w.entries = binary.AppendUvarint(w.entries, uint64(p.cursors))
	} else {
		w.entries = binary.AppendUvarint(w.entries, uint64(p.sum))
	}
	w.last = p
	w.count++
	w.points++
	after := w.inGroup()
	w.raw += int64(after - before)
	if w.points == groupPoints || after >= groupBytes {
		w.endGroup()
	}
}

// inGroup returns how many bytes the parts of the group at hand have.
func (w *indexWriter) inGroup() (n int) {
	for _, part := range w.parts {
		n += len(part)
	}
	return n
}

// splitZlib distributes a zlib chunk's record: its window among three parts, and
// what comes before to the states, but for what the directory has. It fails if
// the checkpoint is not at off, or before bit least.
func (w *indexWriter) splitZlib(record []byte, off, least int64) (bit int64, ok bool) {
	window, err := w.state.Parse(record)
	if err != nil || w.state.Out != off || w.state.In < least {
		return 0, false
	}
	head := record[:len(record)-len(window)]
	n, k := binary.Uvarint(window)
	if n != deflate.WindowSize {
		return 0, false
	}
	gaps, lengths, literals := w.parts[partGaps], w.parts[partLengths], w.parts[partLiterals]
	runs := uint64(0)
	for window = window[k:]; len(window) > 0; runs++ {
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
	w.short = deflate.AppendWithoutOffsets(w.short[:0], head)
	states := binary.AppendUvarint(w.parts[partStates], uint64(len(w.short)))
	states = append(states, w.short...)
	states = binary.AppendUvarint(states, runs)
	w.parts = [numParts][]byte{states, gaps, lengths, literals}
	return w.state.In, true
}

// splitBlock puts the record of a bzip2 block to the states, but for what the
// directory has. It fails if the block is before bit least.
func (w *indexWriter) splitBlock(record []byte, least int64) (bit int64, cursors int, ok bool) {
	p, err := blockPoint(record)
	if err != nil || p.In < least || (len(record)-pointLen)%cursorLen != 0 {
		return 0, 0, false
	}
	if cursors = (len(record) - pointLen) / cursorLen; cursors > maxCursors {
		return 0, 0, false
	}
	w.parts[partStates] = append(w.parts[partStates], record[pointBit:]...)
	return p.In, cursors, true
}

// endGroup compresses the group at hand: its parts one after the other in one
// DEFLATE stream, each in blocks of its own, with codes for its kind. The last
// part's length is what is left.
func (w *indexWriter) endGroup() {
	if w.points == 0 {
		return
	}
	from := w.groups.Len()
	var lengths []byte
	for _, part := range w.parts[:numParts-1] {
		lengths = binary.AppendUvarint(lengths, uint64(len(part)))
	}
	w.groups.Write(lengths)
	w.z.Reset(&w.groups)
	for i, part := range w.parts {
		w.z.Write(part) // to memory
		if len(part) > 0 && i < numParts-1 && len(w.parts[i+1]) > 0 {
			w.z.Flush()
		}
	}
	w.z.Close()
	w.directory = binary.AppendUvarint(w.directory, uint64(w.points))
	w.directory = binary.AppendUvarint(w.directory, uint64(w.groups.Len()-from))
	w.directory = append(w.directory, w.entries...)
	w.beginGroup()
}

// finish returns the index's file, nil if it is too long.
func (w *indexWriter) finish(id [sha256.Size]byte) []byte {
	w.endGroup()
	if w.full() {
		return nil
	}
	var directory bytes.Buffer
	w.z.Reset(&directory)
	w.z.Write(w.directory) // to memory
	w.z.Close()
	n := indexMin + directory.Len() + w.groups.Len()
	if int64(n) > w.limit {
		return nil
	}
	file := append(make([]byte, 0, n), indexMagic...)
	file = binary.BigEndian.AppendUint32(file, indexVersion)
	file = append(file, id[:]...)
	file = binary.BigEndian.AppendUint64(file, w.count)
	file = binary.BigEndian.AppendUint64(file, uint64(directory.Len()))
	file = append(file, directory.Bytes()...)
	file = append(file, w.groups.Bytes()...)
	sum := sha256.Sum256(file)
	return append(file, sum[:]...)
}

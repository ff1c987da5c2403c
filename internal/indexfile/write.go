package indexfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/klauspost/compress/flate"

	"github.com/go-dmg/dmg/internal/deflate"
)

// Writer packs checkpoints in order. It is ready after Begin.
type Writer struct {
	Limit int64 // bytes that the file may have

	count     uint64
	raw       int64 // bytes of all parts
	last      Place
	z         *flate.Writer
	directory []byte // not compressed yet
	groups    bytes.Buffer
	entries   []byte // of the directory, for the group at hand
	points    int    // in the group at hand
	parts     [numParts][]byte
	state     deflate.Checkpoint
	short     []byte
	window    []byte // a packed window, as it was before it was shrunk
}

// The compressor is not the standard library's, whose output may change from one
// toolchain to the next: an index is to be the same wherever it is made. A level
// higher takes three times as long for half a percent less.
const level = 8

// Begin starts a file. It may be called again, for another one.
func (w *Writer) Begin() {
	w.count, w.raw, w.last = 0, 0, Place{}
	w.directory = w.directory[:0]
	w.groups.Reset()
	w.beginGroup()
	if w.z == nil {
		w.z, _ = flate.NewWriter(nil, level) // fails for other levels only
	}
}

func (w *Writer) beginGroup() {
	w.points, w.entries = 0, w.entries[:0]
	for i := range w.parts {
		w.parts[i] = w.parts[i][:0]
	}
}

// Full reports whether the file has become longer than it may be.
func (w *Writer) Full() bool {
	return int64(minLen+w.groups.Len()) > w.Limit || w.raw > MaxUnpacked
}

// Put adds a checkpoint at byte off of a chunk that comes after those before. In a zlib
// chunk sum is the Adler-32 of what is before it. A record that is none is left out.
func (w *Writer) Put(kind Kind, chunk int, off int64, sum uint32, record []byte) {
	p := Place{Chunk: chunk, Off: off, kind: kind}
	last := w.last
	if chunk != last.Chunk {
		last = Place{Chunk: last.Chunk}
	}
	before := w.inGroup()
	split, ok := packings[kind].split, false
	if split != nil {
		p.bit, p.number, ok = split(w, record, off, last.bit, sum)
	}
	if !ok {
		return
	}
	w.entries = binary.AppendUvarint(w.entries, uint64(p.Chunk-last.Chunk))
	w.entries = binary.AppendUvarint(w.entries, uint64(p.Off-last.Off))
	w.entries = binary.AppendUvarint(w.entries, uint64(p.bit-last.bit))
	w.entries = binary.AppendUvarint(w.entries, uint64(p.number))
	w.last = p
	w.count++
	w.points++
	after := w.inGroup()
	w.raw += int64(after - before)
	if w.points == GroupPoints || after >= groupBytes {
		w.endGroup()
	}
}

// inGroup returns how many bytes the parts of the group at hand have.
func (w *Writer) inGroup() (n int) {
	for _, part := range w.parts {
		n += len(part)
	}
	return n
}

// endGroup compresses the group at hand: its parts one after the other in one
// DEFLATE stream, each in blocks of its own, with codes for its kind. The last
// part's length is what is left.
func (w *Writer) endGroup() {
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

// Finish returns the file, of the image of that identity, nil if it is too long.
func (w *Writer) Finish(id [sha256.Size]byte) File {
	w.endGroup()
	if w.Full() {
		return nil
	}
	var directory bytes.Buffer
	w.z.Reset(&directory)
	w.z.Write(w.directory) // to memory
	w.z.Close()
	n := minLen + directory.Len() + w.groups.Len()
	if int64(n) > w.Limit {
		return nil
	}
	file := append(make([]byte, 0, n), magic...)
	file = binary.BigEndian.AppendUint32(file, version)
	file = append(file, id[:]...)
	file = binary.BigEndian.AppendUint64(file, w.count)
	file = binary.BigEndian.AppendUint64(file, uint64(directory.Len()))
	file = append(file, directory.Bytes()...)
	file = append(file, w.groups.Bytes()...)
	sum := sha256.Sum256(file)
	return append(file, sum[:]...)
}

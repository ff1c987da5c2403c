package dmg

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/flate"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
)

// The file is a header, the streams, and a SHA-256 of both. Numbers in the
// header are big-endian, as in the image itself.
const (
	indexMagic   = "\x89DMGIDX\n" // mangled by whatever mangles text
	indexVersion = 1

	indexIdentity = len(indexMagic) + 4         // offsets of the image's identity,
	indexCount    = indexIdentity + sha256.Size // and the number of checkpoints
	indexHeader   = indexCount + 8 + 8*numStreams
	indexMin      = indexHeader + sha256.Size
)

// A checkpoint is stored in parts, in a stream for each kind, for they compress
// better among their like: in 245 MB of source code and binaries by 7 %.
const (
	streamPlaces   = iota // where it is, and all of its record that is no window
	streamGaps            // of a packed window's runs: bytes to leave out
	streamLengths         // and bytes that follow
	streamLiterals        // and these bytes
	numStreams
)

// No index is longer than maxIndexLen, or maxIndexRaw when its streams are
// decompressed, so that a file that says it were costs no more.
const (
	maxIndexLen = 256 << 20
	maxIndexRaw = 1 << 30
)

// maxCursors are as many as a bzip2 block can have: 900,000 bytes of text
// decode to 46 MB at most.
const maxCursors = 900_000 / 5 * 259 / cursorSpacing

// check tests what can be tested without the image and without decompressing.
func (ix *Index) check() error {
	switch n := len(ix.file); {
	case n > maxIndexLen:
		return badIndex("more than %d bytes", maxIndexLen)
	case n < indexMin:
		return badIndex("cut short at %d bytes", n)
	}
	body, sum := ix.file[:len(ix.file)-sha256.Size], ix.file[len(ix.file)-sha256.Size:]
	b := readBuf(body)
	if string(b.sub(len(indexMagic))) != indexMagic {
		return badIndex("no index file")
	}
	if v := b.uint32(); v != indexVersion {
		return badIndex("version %d, not %d", v, indexVersion)
	}
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return badIndex("its checksum is wrong")
	}
	return nil
}

// indexWriter packs checkpoints in order.
type indexWriter struct {
	limit   int64
	count   uint64
	raw     int64 // bytes written to the streams
	chunk   int   // of the last checkpoint
	off     int64
	streams [numStreams]packer
	state   deflate.Checkpoint
}

// A packer compresses a stream. The compressor is not the standard library's,
// whose output may change from one toolchain to the next: an index is to be the
// same wherever it is made.
type packer struct {
	out bytes.Buffer
	z   *flate.Writer
	in  []byte // of the checkpoint at hand
}

// indexLevel is where compressing more begins to take much longer: a level
// higher gains 1 % for the same time again.
const indexLevel = 7

func (w *indexWriter) begin(limit int64) {
	w.limit, w.count, w.raw = limit, 0, 0
	w.chunk, w.off = 0, 0
	for i := range w.streams {
		p := &w.streams[i]
		p.out.Reset()
		if p.z == nil {
			p.z, _ = flate.NewWriter(&p.out, indexLevel) // fails for other levels only
		} else {
			p.z.Reset(&p.out)
		}
	}
}

// full reports whether the index has become too long.
func (w *indexWriter) full() bool { return w.size() > w.limit || w.raw > maxIndexRaw }

// put adds a checkpoint that comes after those before. A record that is none is
// left out.
func (w *indexWriter) put(m Method, chunk int, off int64, record []byte) {
	last := w.off
	if chunk != w.chunk {
		last = 0
	}
	for i := range w.streams {
		w.streams[i].in = w.streams[i].in[:0]
	}
	p := &w.streams[streamPlaces]
	p.in = binary.AppendUvarint(p.in, uint64(chunk-w.chunk))
	p.in = binary.AppendUvarint(p.in, uint64(off-last))
	switch m {
	case Zlib:
		if !w.splitZlib(record) {
			return
		}
	case Bzip2:
		if len(record) < pointLen {
			return
		}
		p.in = binary.AppendUvarint(p.in, uint64(len(record)-pointLen)/cursorLen)
		p.in = append(p.in, record...)
	default:
		return
	}
	for i := range w.streams {
		p := &w.streams[i]
		w.raw += int64(len(p.in))
		p.z.Write(p.in) // to memory
	}
	w.chunk, w.off = chunk, off
	w.count++
}

// splitZlib distributes a zlib chunk's record: its window among three streams,
// and what comes before goes with the checkpoint's place.
func (w *indexWriter) splitZlib(record []byte) bool {
	if len(record) < 4 {
		return false
	}
	window, err := w.state.Parse(record[4:])
	if err != nil {
		return false
	}
	head := record[:len(record)-len(window)]
	n, k := binary.Uvarint(window)
	if n != deflate.WindowSize {
		return false
	}
	gaps, lengths, literals := &w.streams[streamGaps].in, &w.streams[streamLengths].in, &w.streams[streamLiterals].in
	runs := uint64(0)
	for window = window[k:]; len(window) > 0; runs++ {
		gap, g := binary.Uvarint(window)
		n, k := binary.Uvarint(window[max(g, 0):])
		if g <= 0 || k <= 0 || n > uint64(len(window)-g-k) {
			return false
		}
		*gaps = binary.AppendUvarint(*gaps, gap)
		*lengths = binary.AppendUvarint(*lengths, n)
		*literals = append(*literals, window[g+k:][:n]...)
		window = window[g+k+int(n):]
	}
	p := &w.streams[streamPlaces]
	p.in = binary.AppendUvarint(p.in, uint64(len(head)))
	p.in = append(p.in, head...)
	p.in = binary.AppendUvarint(p.in, runs)
	return true
}

// finish ends the streams. It returns false if the index is too long.
func (w *indexWriter) finish() bool {
	for i := range w.streams {
		w.streams[i].z.Close() // to memory
	}
	return !w.full()
}

// size returns the length that the file has if nothing is added, but for what
// the compressors still hold.
func (w *indexWriter) size() int64 {
	n := int64(indexMin)
	for i := range w.streams {
		n += int64(w.streams[i].out.Len())
	}
	return n
}

// file returns the index's file.
func (w *indexWriter) file(id [sha256.Size]byte) []byte {
	file := append(make([]byte, 0, w.size()), indexMagic...)
	file = binary.BigEndian.AppendUint32(file, indexVersion)
	file = append(file, id[:]...)
	file = binary.BigEndian.AppendUint64(file, w.count)
	for i := range w.streams {
		file = binary.BigEndian.AppendUint64(file, uint64(w.streams[i].out.Len()))
	}
	for i := range w.streams {
		file = append(file, w.streams[i].out.Bytes()...)
	}
	sum := sha256.Sum256(file)
	return append(file, sum[:]...)
}

// indexReader yields the checkpoints of an index, each of which has been
// checked against its chunk.
type indexReader struct {
	chunks  []Chunk
	count   uint64 // of checkpoints to come
	raw     int64  // bytes that may still come of the streams
	streams [numStreams]unpacker
	state   deflate.Checkpoint
	cursors []bzip2.Cursor

	chunk  int
	off    int64
	in     int64
	record []byte
	first  bool
	err    error
}

// begin places r at the streams, whose lengths b begins with.
func (r *indexReader) begin(b readBuf) error {
	var lengths [numStreams]uint64
	for i := range lengths {
		lengths[i] = b.uint64()
	}
	r.raw, r.first = maxIndexRaw, true
	for i, n := range lengths {
		if n > uint64(len(b)) {
			return badIndex("a stream is longer than the file")
		}
		u := &r.streams[i]
		u.r = r
		u.src.Reset(b.sub(int(n)))
		u.z.Reset(&u.src)
	}
	if len(b) > 0 {
		return badIndex("%d bytes after the streams", len(b))
	}
	return nil
}

func (r *indexReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = badIndex(format, args...)
	}
}

// next goes to the next checkpoint. It returns false after the last one, or
// with an error.
func (r *indexReader) next() bool {
	if r.count == 0 {
		for i := range r.streams {
			r.streams[i].end()
		}
		return false
	}
	r.count--
	if !r.place() {
		return false
	}
	last := r.in
	c := &r.chunks[r.chunk]
	switch c.Method {
	case Zlib:
		r.joinZlib()
	case Bzip2:
		r.readBlock()
	default:
		r.fail("a checkpoint in a %v", c)
	}
	if r.err == nil && (r.in < last || r.in > c.DataLength) {
		r.fail("a checkpoint at byte %d of the data of a %v", r.in, c)
	}
	return r.err == nil
}

// place reads where the next checkpoint is.
func (r *indexReader) place() bool {
	p := &r.streams[streamPlaces]
	chunk := p.uvarint(uint64(len(r.chunks)))
	off := p.uvarint(1<<63 - 1)
	if r.err != nil {
		return false
	}
	if chunk >= uint64(len(r.chunks)-r.chunk) {
		r.fail("a checkpoint in a chunk that is none")
		return false
	}
	same := chunk == 0 && !r.first
	if !same {
		r.off, r.in = 0, 0
	}
	r.first = false
	r.chunk += int(chunk)
	if c := &r.chunks[r.chunk]; same && off == 0 || off >= uint64(c.Length-r.off) {
		r.fail("a checkpoint after byte %d of a %v", r.off, c)
		return false
	}
	r.off += int64(off)
	return true
}

// joinZlib puts the record of a zlib chunk's checkpoint together and checks it.
func (r *indexReader) joinZlib() {
	p := &r.streams[streamPlaces]
	r.record = p.append(r.record[:0], p.uvarint(4+stateMax))
	if r.err != nil {
		return
	}
	if len(r.record) < 4 {
		r.fail("a checkpoint without an Adler-32")
		return
	}
	rest, err := r.state.Parse(r.record[4:])
	if err != nil || len(rest) > 0 || r.state.Out != r.off || r.off%minSpacing != 0 || r.off == 0 {
		r.fail("the decoder's state at byte %d of a %v", r.off, &r.chunks[r.chunk])
		return
	}
	r.in = deflate.ZlibHeaderLen + r.state.In/8 + 1
	r.record = binary.AppendUvarint(r.record, deflate.WindowSize)
	gaps, lengths, literals := &r.streams[streamGaps], &r.streams[streamLengths], &r.streams[streamLiterals]
	left := uint64(deflate.WindowSize)
	for runs := p.uvarint(deflate.WindowSize); runs > 0 && r.err == nil; runs-- {
		gap := gaps.uvarint(left)
		n := lengths.uvarint(left - gap)
		r.record = binary.AppendUvarint(r.record, gap)
		r.record = binary.AppendUvarint(r.record, n)
		r.record = literals.append(r.record, n)
		left -= gap + n
	}
}

// readBlock reads the record of a bzip2 block and checks it.
func (r *indexReader) readBlock() {
	p := &r.streams[streamPlaces]
	n := p.uvarint(maxCursors)
	if r.record = p.append(r.record[:0], pointLen+n*cursorLen); r.err != nil {
		return
	}
	point, err := blockPoint(r.record)
	if err == nil {
		r.cursors, err = appendCursors(append(r.cursors[:0], bzip2.Cursor{}), r.record)
	}
	if err != nil {
		r.fail("the block at byte %d of a %v", r.off, &r.chunks[r.chunk])
		return
	}
	r.in = point.In/8 + 1
}

// An unpacker decompresses a stream. After a failure, which the indexReader
// knows, it yields zeros.
type unpacker struct {
	r   *indexReader
	src bytes.Reader
	z   deflate.Decoder
	b   []byte // decompressed
}

// more decompresses the next bytes.
func (u *unpacker) more() bool {
	if u.r.err != nil {
		return false
	}
	b, err := u.z.Decode(maxDecode)
	u.b = b
	switch u.r.raw -= int64(len(b)); {
	case err == io.EOF:
		u.r.fail("a stream ends early")
	case err != nil:
		u.r.fail("%w", err)
	case u.r.raw < 0:
		u.r.fail("more than %d bytes in its streams", maxIndexRaw)
	}
	return u.r.err == nil
}

// uvarint returns the next number, which must not exceed limit.
func (u *unpacker) uvarint(limit uint64) (v uint64) {
	if len(u.b) > 0 && u.b[0] < 0x80 && uint64(u.b[0]) <= limit { // as most are
		v, u.b = uint64(u.b[0]), u.b[1:]
		return v
	}
	for shift := 0; ; shift += 7 {
		if len(u.b) == 0 && !u.more() {
			return 0
		}
		c := u.b[0]
		u.b = u.b[1:]
		v |= uint64(c&0x7F) << shift
		if c < 0x80 {
			break
		}
		if shift == 56 {
			v = 1<<64 - 1 // no number here has more than 63 bits
			break
		}
	}
	if v > limit {
		u.r.fail("the number %d, where %d is the most", v, limit)
		return 0
	}
	return v
}

// append appends the next n bytes to dst.
func (u *unpacker) append(dst []byte, n uint64) []byte {
	for n > 0 {
		if len(u.b) == 0 && !u.more() {
			return dst
		}
		k := min(n, uint64(len(u.b)))
		dst = append(dst, u.b[:k]...)
		u.b = u.b[k:]
		n -= k
	}
	return dst
}

// end makes sure that the stream is at its end, and its data too.
func (u *unpacker) end() {
	if u.r.err != nil {
		return
	}
	if len(u.b) == 0 {
		b, err := u.z.Decode(1)
		if len(b) == 0 && err == io.EOF && u.src.Len() == 0 {
			return
		}
	}
	u.r.fail("bytes left over in a stream")
}

package dmg

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
)

// directory reads the directory of an index, a group at a time. Every place in it
// has been checked against its chunk.
type directory struct {
	chunks []Chunk
	count  uint64 // of checkpoints to come
	src    bytes.Reader
	z      deflate.Decoder
	b      []byte // decompressed
	rest   []byte // groups to come
	last   place
	first  bool

	data   []byte  // of the group
	places []place // of its checkpoints
	err    error
}

// directory places a reader at the beginning of the index's directory.
func (ix *Index) directory(chunks []Chunk) (*directory, error) {
	b := readBuf(ix.body()[indexCount:])
	d := &directory{chunks: chunks, count: b.uint64(), first: true}
	n := b.uint64()
	if n > uint64(len(b)) {
		return nil, badIndex("the directory is longer than the file")
	}
	d.src.Reset(b.sub(int(n)))
	d.z.Reset(&d.src)
	d.rest = b
	return d, nil
}

func (d *directory) fail(format string, args ...any) {
	if d.err == nil {
		d.err = badIndex(format, args...)
	}
}

// next goes to the next group. It returns false after the last one, or with an
// error.
func (d *directory) next() bool {
	if d.count == 0 {
		d.end()
		return false
	}
	points := d.uvarint(min(groupPoints, d.count))
	n := d.uvarint(uint64(len(d.rest)))
	if d.err == nil && points == 0 {
		d.fail("a group of no checkpoints")
	}
	if d.err != nil {
		return false
	}
	d.data, d.rest = d.rest[:n:n], d.rest[n:]
	d.count -= points
	d.places = d.places[:0]
	for range points {
		d.places = append(d.places, d.place())
	}
	return d.err == nil
}

// place reads where the next checkpoint is.
func (d *directory) place() (p place) {
	chunk := d.uvarint(uint64(len(d.chunks)))
	off := d.uvarint(1<<63 - 1)
	bit := d.uvarint(1<<63 - 1)
	if d.err != nil {
		return p
	}
	if chunk >= uint64(len(d.chunks)-d.last.chunk) {
		d.fail("a checkpoint in a chunk that is none")
		return p
	}
	same := chunk == 0 && !d.first
	p = place{chunk: d.last.chunk + int(chunk)}
	if same {
		p.off, p.bit = d.last.off, d.last.bit
	}
	c := &d.chunks[p.chunk]
	if same && off == 0 || off >= uint64(c.Length-p.off) {
		d.fail("a checkpoint after byte %d of a %v", p.off, c)
		return p
	}
	p.off += int64(off)
	switch {
	case c.Method == Bzip2:
		p.cursors = int(d.uvarint(maxCursors))
	case c.Method != Zlib:
		d.fail("a checkpoint in a %v", c)
	case p.off == 0 || p.off%minSpacing != 0:
		d.fail("a checkpoint at byte %d of a %v", p.off, c)
	default:
		p.sum = uint32(d.uvarint(math.MaxUint32))
	}
	if bit > uint64(1<<63-1-p.bit) {
		bit = uint64(1<<63 - 1 - p.bit) // past the data's end, as any more is
	}
	p.bit += int64(bit)
	if in := p.in(c.Method); in > c.DataLength {
		d.fail("a checkpoint at byte %d of the data of a %v", in, c)
	}
	d.last, d.first = p, false
	return p
}

// more decompresses the next bytes. After a failure there are none.
func (d *directory) more() bool {
	if d.err != nil {
		return false
	}
	b, err := d.z.Decode(maxDecode)
	d.b = b
	switch {
	case err == io.EOF:
		d.fail("the directory ends early")
	case err != nil:
		d.fail("directory: %w", err)
	}
	return d.err == nil
}

// uvarint returns the next number, which must not exceed limit. After a failure
// it is 0.
func (d *directory) uvarint(limit uint64) (v uint64) {
	for shift := 0; ; shift += 7 {
		if len(d.b) == 0 && !d.more() {
			return 0
		}
		c := d.b[0]
		d.b = d.b[1:]
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
		d.fail("the number %d, where %d is the most", v, limit)
		return 0
	}
	return v
}

// end makes sure that nothing is left of the directory, its data, and the
// groups.
func (d *directory) end() {
	if d.err == nil && len(d.b) == 0 {
		b, err := d.z.Decode(1)
		if len(b) == 0 && err == io.EOF && d.src.Len() == 0 && len(d.rest) == 0 {
			return
		}
	}
	d.fail("bytes left over")
}

// unpacker makes the records of a group.
type unpacker struct {
	src   bytes.Reader
	z     deflate.Decoder
	raw   []byte // the group, decompressed
	parts [numParts]part
	out   []byte // the records
	ends  []int  // of each, in out

	state   deflate.Checkpoint
	cursors []bzip2.Cursor
}

// unpackerMemory is what an unpacker holds. Its records are longer than their
// parts by the offsets in them.
const (
	maxRecords     = maxGroup + groupPoints*32
	unpackerMemory = deflate.Memory + maxGroup + maxRecords + stateMax + maxCursors*16 + 4<<10
)

func newUnpacker() *unpacker {
	u := &unpacker{raw: make([]byte, 0, maxGroup), out: make([]byte, 0, maxRecords), ends: make([]int, 0, groupPoints)}
	u.state.Header = make([]byte, 0, stateMax)
	return u
}

// record returns the record of the group's i-th checkpoint.
func (u *unpacker) record(i int) []byte {
	from := 0
	if i > 0 {
		from = u.ends[i-1]
	}
	return u.out[from:u.ends[i]]
}

// unpack decompresses a group and makes the records of the checkpoints at these
// places, each of which is checked.
func (u *unpacker) unpack(data []byte, chunks []Chunk, places []place) error {
	if err := u.decompress(data); err != nil {
		return err
	}
	u.out, u.ends = u.out[:0], u.ends[:0]
	for _, p := range places {
		ok := false
		switch chunks[p.chunk].Method {
		case Zlib:
			ok = u.joinZlib(p)
		case Bzip2:
			ok = u.joinBlock(p)
		}
		if !ok || len(u.out) > maxRecords {
			return badIndex("the checkpoint at byte %d of a %v", p.off, &chunks[p.chunk])
		}
		u.ends = append(u.ends, len(u.out))
	}
	for _, part := range u.parts {
		if len(part) > 0 {
			return badIndex("bytes left over in a group")
		}
	}
	return nil
}

// decompress sets the parts of a group.
func (u *unpacker) decompress(data []byte) error {
	b := part(data)
	var lengths [numParts - 1]int
	for i := range lengths {
		n, ok := b.uvarint(maxGroup)
		if !ok {
			return badIndex("a group's lengths")
		}
		lengths[i] = int(n)
	}
	u.src.Reset(b)
	u.z.Reset(&u.src)
	for u.raw = u.raw[:0]; ; {
		b, err := u.z.Decode(maxDecode)
		if err == io.EOF {
			break
		}
		if err != nil {
			return badIndex("group: %w", err)
		}
		if len(b) > maxGroup-len(u.raw) {
			return badIndex("a group of more than %d bytes", maxGroup)
		}
		u.raw = append(u.raw, b...)
	}
	if u.src.Len() > 0 {
		return badIndex("bytes left over behind a group")
	}
	rest := part(u.raw)
	for i, n := range lengths {
		var ok bool
		if u.parts[i], ok = rest.cut(n); !ok {
			return badIndex("a group cut short")
		}
	}
	u.parts[partLiterals] = rest
	return nil
}

// joinZlib puts the record of a zlib chunk's checkpoint together.
func (u *unpacker) joinZlib(p place) bool {
	states := &u.parts[partStates]
	n, _ := states.uvarint(stateMax)
	short, ok := states.cut(int(n))
	if !ok {
		return false
	}
	from := len(u.out)
	u.out = deflate.AppendWithOffsets(u.out, short, p.bit, p.off)
	if rest, err := u.state.Parse(u.out[from:]); err != nil || len(rest) > 0 {
		return false
	}
	runs, ok := states.uvarint(deflate.WindowSize)
	return ok && u.joinWindow(int(runs))
}

// joinWindow puts a packed window together.
func (u *unpacker) joinWindow(runs int) bool {
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

// joinBlock puts the record of a bzip2 block together.
func (u *unpacker) joinBlock(p place) bool {
	b, ok := u.parts[partStates].cut(pointLen - pointBit + p.cursors*cursorLen)
	if !ok {
		return false
	}
	from := len(u.out)
	u.out = binary.BigEndian.AppendUint64(u.out, uint64(p.bit))
	u.out = append(u.out, b...)
	record := u.out[from:]
	if _, err := blockPoint(record); err != nil {
		return false
	}
	var err error
	u.cursors, err = appendCursors(append(u.cursors[:0], bzip2.Cursor{}), record)
	return err == nil
}

// part is what is left of one of a group's parts.
type part []byte

// uvarint returns the next number, which must not exceed limit.
func (b *part) uvarint(limit uint64) (v uint64, ok bool) {
	if p := *b; len(p) > 0 && p[0] < 0x80 { // as most are
		v, *b = uint64(p[0]), p[1:]
		return v, v <= limit
	}
	v, n := binary.Uvarint(*b)
	if n <= 0 || v > limit {
		return 0, false
	}
	*b = (*b)[n:]
	return v, true
}

// cut returns the next n bytes.
func (b *part) cut(n int) (p []byte, ok bool) {
	if n > len(*b) {
		return nil, false
	}
	p, *b = (*b)[:n], (*b)[n:]
	return p, true
}

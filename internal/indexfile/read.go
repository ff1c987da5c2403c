package indexfile

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
)

// Directory reads the directory of a file, a group at a time. Every place in it
// has been checked against its chunk.
type Directory struct {
	// Data and Places are the group's that Next went to. Data is valid as long as the
	// file is, Places until the next call.
	Data   []byte
	Places []Place

	chunks int
	chunk  func(i int) Chunk
	count  uint64 // of checkpoints to come
	src    bytes.Reader
	z      deflate.Decoder
	b      []byte // decompressed
	rest   []byte // groups to come
	last   Place
	first  bool
	err    *Error
}

// Directory returns a reader at the beginning of the file's directory. The image has so
// many chunks; chunk returns the i-th.
func (f File) Directory(chunks int, chunk func(i int) Chunk) (*Directory, error) {
	body := f.body()
	b := body[headerLen:]
	n := binary.BigEndian.Uint64(body[directoryAt:])
	if n > uint64(len(b)) {
		return nil, bad("the directory is longer than the file")
	}
	d := &Directory{chunks: chunks, chunk: chunk, count: f.Count(), first: true, rest: b[n:]}
	d.src.Reset(b[:n])
	d.z.Reset(&d.src)
	return d, nil
}

// Err returns what ended the directory early, nil if it was read to its end.
func (d *Directory) Err() error {
	if d.err == nil {
		return nil
	}
	return d.err
}

func (d *Directory) fail(err *Error) {
	if d.err == nil {
		d.err = err
	}
}

// Next goes to the next group. It returns false after the last one, or with an
// error, which Err has.
func (d *Directory) Next() bool {
	if d.count == 0 {
		d.end()
		return false
	}
	points := d.uvarint(min(GroupPoints, d.count))
	n := d.uvarint(uint64(len(d.rest)))
	if d.err == nil && points == 0 {
		d.fail(bad("a group of no checkpoints"))
	}
	if d.err != nil {
		return false
	}
	d.Data, d.rest = d.rest[:n:n], d.rest[n:]
	d.count -= points
	d.Places = d.Places[:0]
	for range points {
		d.Places = append(d.Places, d.place())
	}
	return d.err == nil
}

// place reads where the next checkpoint is.
func (d *Directory) place() (p Place) {
	step := d.uvarint(uint64(d.chunks))
	off := d.uvarint(1<<63 - 1)
	bit := d.uvarint(1<<63 - 1)
	if d.err != nil {
		return p
	}
	if step >= uint64(d.chunks-d.last.Chunk) {
		d.fail(bad("a checkpoint in a chunk that is none"))
		return p
	}
	same := step == 0 && !d.first
	p = Place{Chunk: d.last.Chunk + int(step)}
	if same {
		p.Off, p.bit = d.last.Off, d.last.bit
	}
	c := d.chunk(p.Chunk)
	if same && off == 0 || off >= uint64(c.Length-p.Off) {
		d.fail(badIn(p.Chunk, "a checkpoint after byte %d of", p.Off))
		return p
	}
	p.Off += int64(off)
	p.kind = c.Kind
	packing := &packings[c.Kind]
	switch {
	case c.Kind == None:
		d.fail(badIn(p.Chunk, "a checkpoint in"))
	case packing.unit > 0 && (p.Off == 0 || p.Off%packing.unit != 0):
		d.fail(badIn(p.Chunk, "a checkpoint at byte %d of", p.Off))
	default:
		p.number = uint32(d.uvarint(packing.number))
	}
	if bit > uint64(1<<63-1-p.bit) {
		bit = uint64(1<<63 - 1 - p.bit) // past the data's end, as any more is
	}
	p.bit += int64(bit)
	if in := p.In(); in > c.DataLength {
		d.fail(badIn(p.Chunk, "a checkpoint at byte %d of the data of", in))
	}
	d.last, d.first = p, false
	return p
}

// more decompresses the next bytes. After a failure there are none.
func (d *Directory) more() bool {
	if d.err != nil {
		return false
	}
	b, err := d.z.Decode(maxDecode)
	d.b = b
	switch {
	case err == io.EOF:
		d.fail(bad("the directory ends early"))
	case err != nil:
		d.fail(bad("directory: %w", err))
	}
	return d.err == nil
}

// uvarint returns the next number, which must not exceed limit. After a failure
// it is 0.
func (d *Directory) uvarint(limit uint64) (v uint64) {
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
		d.fail(bad("the number %d, where %d is the most", v, limit))
		return 0
	}
	return v
}

// end makes sure that nothing is left of the directory, its data, and the
// groups.
func (d *Directory) end() {
	if d.err == nil && len(d.b) == 0 {
		b, err := d.z.Decode(1)
		if len(b) == 0 && err == io.EOF && d.src.Len() == 0 && len(d.rest) == 0 {
			return
		}
	}
	d.fail(bad("bytes left over"))
}

// Unpacker makes the records of a group.
type Unpacker struct {
	src   bytes.Reader
	z     deflate.Decoder
	raw   []byte // the group, decompressed
	parts [numParts]part
	out   []byte // the records
	ends  []int  // of each, in out

	state   deflate.Checkpoint
	cursors []bzip2.Cursor
}

// maxRecords is the most bytes of a group's records, which are longer than their parts by
// the offsets in them.
const maxRecords = maxGroup + GroupPoints*32

// UnpackerMemory is what an Unpacker holds, in bytes.
const UnpackerMemory = deflate.Memory + maxGroup + maxRecords + deflate.MaxCheckpoint + bzip2.MaxCursors*16 + 4<<10

// NewUnpacker returns an unpacker, which allocates no more when it unpacks.
func NewUnpacker() *Unpacker {
	u := &Unpacker{raw: make([]byte, 0, maxGroup), out: make([]byte, 0, maxRecords), ends: make([]int, 0, GroupPoints)}
	u.state.Header = make([]byte, 0, deflate.MaxCheckpoint)
	return u
}

// Size returns how many bytes the group had that Unpack decompressed last.
func (u *Unpacker) Size() int { return len(u.raw) }

// Record returns the record of the group's i-th checkpoint. It is valid until the next
// Unpack.
func (u *Unpacker) Record(i int) []byte {
	from := 0
	if i > 0 {
		from = u.ends[i-1]
	}
	return u.out[from:u.ends[i]]
}

// Unpack decompresses a group and makes the records of the checkpoints at these
// places, as a Directory has both. Each record is checked.
func (u *Unpacker) Unpack(data []byte, places []Place) error {
	if err := u.decompress(data); err != nil {
		return err
	}
	u.out, u.ends = u.out[:0], u.ends[:0]
	for _, p := range places {
		if !packings[p.kind].join(u, p) || len(u.out) > maxRecords {
			return badIn(p.Chunk, "the checkpoint at byte %d of", p.Off)
		}
		u.ends = append(u.ends, len(u.out))
	}
	for _, part := range u.parts {
		if len(part) > 0 {
			return bad("bytes left over in a group")
		}
	}
	return nil
}

// decompress sets the parts of a group.
func (u *Unpacker) decompress(data []byte) error {
	b := part(data)
	var lengths [numParts - 1]int
	for i := range lengths {
		n, ok := b.uvarint(maxGroup)
		if !ok {
			return bad("a group's lengths")
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
			return bad("group: %w", err)
		}
		if len(b) > maxGroup-len(u.raw) {
			return bad("a group of more than %d bytes", maxGroup)
		}
		u.raw = append(u.raw, b...)
	}
	if u.src.Len() > 0 {
		return bad("bytes left over behind a group")
	}
	rest := part(u.raw)
	for i, n := range lengths {
		var ok bool
		if u.parts[i], ok = rest.cut(n); !ok {
			return bad("a group cut short")
		}
	}
	u.parts[partLiterals] = rest
	return nil
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

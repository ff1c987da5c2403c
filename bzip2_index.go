package dmg

import (
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/bzip2"
)

// cursorSpacing is how many bytes of a block's output lie between its cursors.
const cursorSpacing = bzip2.CursorSpacing

// A read that is to go this far through a block unwinds it, which costs about
// as much as reading that many bytes along its links. So does one that comes to
// where a cursor is to be kept: a place has several cursors, and the text's are
// the same however the block is read.
const unwindFrom = 256 << 10

// A read that is to go less far than this in a block of which cursors are known
// does without the links, which take as long to make as some fifty kilobytes take
// to read: it walks to the cursor before it from the one behind it.
const spansUpTo = 64 << 10

// parallelFrom is how many bytes a bzip2 decoder must have before it for several
// cores to be put to work on them.
const parallelFrom = 4 << 20

// bzip2Memory is what a bzip2Codec holds: a block with ranks, its text, the
// stream's tables, buffers, and the block's cursors, which are as many as its
// output makes them: 46 MB at most.
const bzip2Memory = bzip2.BlockMemory + bzip2.RankMemory + bzip2.TextMemory + bzip2.StreamMemory + maxDecode + 256<<10

// bzip2Codec decodes bzip2 chunks. Its checkpoints are the starts of blocks,
// and for each block the cursors at which a read can begin inside it.
type bzip2Codec struct {
	simpleCodec
	store  *store
	host   host
	d      *decoder
	stream bzip2.Stream
	block  bzip2.Block
	text   *bzip2.Text
	buf    [maxDecode]byte

	parallel *bzip2.ParallelReader // decodes coming blocks, while a reader has far to go
	alone    bool                  // it had too many false starts
	detached bool                  // stream is not where the block ends
	spans    bool                  // the next block is to be read by spans

	point     bzip2.Point    // of the block
	after     bzip2.Point    // where the block ends
	crc       uint32         // the block's own
	following int64          // offset in the chunk of the next block, 0 if it isn't known
	begin     int64          // offset in the chunk of the block's first byte, -1 if none is decoded
	at        bzip2.Cursor   // of the next byte
	unwound   bool           // text is the block's
	spanned   bool           // text is a span of the block
	span      []bzip2.Cursor // where the walks through it begin
	cursors   []bzip2.Cursor // of the block, in order of Out, from its start
	walked    int64          // bytes decoded in one go, over blocks
	sum       uint32         // CRC of the block's bytes before at
	whole     bool           // sum is of all of them
	kept      int            // cursors that are in the checkpoints, or need not be
	record    []byte         // for checkpoints
}

func newBzip2Codec(s *store, h host) *bzip2Codec {
	return &bzip2Codec{store: s, host: h, text: new(bzip2.Text)}
}

// start goes to the last block known to begin at or before off, and in it to
// the last cursor.
func (z *bzip2Codec) start(d *decoder, off int64) error {
	z.d, z.begin, z.walked, z.alone, z.detached, z.spans = d, -1, 0, false, false, false
	from, record, err := z.store.record(z.record[:0], d.chunk, off)
	if d.pos, z.record = from.off, record; err != nil {
		return err
	}
	if len(z.record) == 0 {
		z.stream.Reset(&d.fetch)
		return nil // the first decode reads the first block
	}
	p, err := bzip2.RecordPoint(z.record)
	if err != nil {
		return errBlockRecord
	}
	d.fetch.skip(p.In / 8)
	z.stream.Resume(&d.fetch, p)
	z.spans = len(z.record) > bzip2.PointLen && d.until-off < spansUpTo
	if err := z.next(); err != nil {
		z.begin = -1 // nothing of the block has been delivered, and salvage may find some
		return err
	}
	z.seek(d, off)
	return nil
}

// next decodes the block at d.pos, or takes it from those decoded ahead. Its
// start becomes a checkpoint, unless it is one, with cursors.
func (z *bzip2Codec) next() error {
	taken := z.begin >= 0 && z.takeAhead()
	z.begin = -1
	if !taken {
		if err := z.decodeBlock(); err != nil {
			return err
		}
	}
	z.begin = z.d.pos
	z.sum, z.whole = 0, true
	z.following = z.store.after(z.d.chunk, z.begin)
	if z.d.careful {
		if err := z.sumAll(); err != nil {
			return err
		}
		if z.sum != z.crc {
			return z.wrongCRC()
		}
		z.sum = 0
	}
	z.cursors = append(z.cursors[:0], z.at)
	if z.isNew() {
		z.kept = 1
		return nil
	}
	at, record, err := z.store.record(z.record[:0], z.d.chunk, z.begin)
	z.record = record
	if err == nil && at.off == z.begin && len(record) > 0 {
		if z.cursors, err = bzip2.AppendRecordCursors(z.cursors, record); err != nil {
			err = errBlockRecord
		}
	}
	z.kept = len(z.cursors)
	return err
}

// isNew makes a checkpoint of the block's start, and reports whether it was none.
func (z *bzip2Codec) isNew() bool {
	if z.store.has(z.d.chunk, z.begin) {
		return false
	}
	z.keep()
	return true
}

// decodeBlock decodes the next block from the stream.
func (z *bzip2Codec) decodeBlock() (err error) {
	z.attach()
	if z.point, err = z.stream.Peek(); err != nil {
		return err
	}
	decode := z.stream.Next
	if z.spans {
		decode, z.spans = z.stream.NextRanked, false
	}
	if err := decode(&z.block); err != nil {
		return err
	}
	z.after = z.stream.Point()
	z.at, z.crc, z.unwound, z.spanned = z.block.Start(), z.block.CRC(), false, false
	return nil
}

// attach places the stream behind the block, if that was decoded ahead of it.
func (z *bzip2Codec) attach() {
	if z.detached {
		c := &z.store.chunks[z.d.chunk]
		z.d.fetch.begin(c.DataOffset+z.after.In/8, c.streamEnd())
		z.stream.Resume(&z.d.fetch, z.after)
		z.detached = false
	}
}

// takeAhead takes the block behind the present one from the workers, which it
// puts to work if the reader has far to go.
func (z *bzip2Codec) takeAhead() bool {
	if z.parallel == nil {
		if z.alone || z.d.until-z.d.pos < parallelFrom {
			return false
		}
		if z.parallel = z.host.parallelReader(z.d, z.after.In/8); z.parallel == nil {
			return false
		}
	}
	text := z.parallel.Take(z.after, z.text)
	if z.parallel.GaveUp() {
		z.suspend()
		z.alone = true
		return false
	}
	if text == nil {
		// Where a stream ends and the next begins the block is further on.
		z.attach()
		p, err := z.stream.Peek()
		if err != nil || p.In == z.after.In {
			return false
		}
		z.after = p
		if text = z.parallel.Take(p, z.text); text == nil {
			return false
		}
	}
	z.text, z.unwound, z.detached = text, true, true
	z.point = z.after
	z.after, _ = z.point.AfterText(text)
	z.at, z.crc = text.Start(), text.CRC()
	return true
}

// suspend ends what was decoded ahead.
func (z *bzip2Codec) suspend() {
	if z.parallel != nil {
		z.host.endParallel(z.parallel)
		z.parallel = nil
	}
}

// keep adds the block's checkpoint, with the cursors that there are by now.
func (z *bzip2Codec) keep() {
	z.record, _ = z.point.AppendBinary(z.record[:0])
	for _, c := range z.cursors[1:] {
		z.record, _ = c.AppendBinary(z.record)
	}
	z.store.add(z.d.chunk, z.d.began, checkpoint{off: z.begin, in: z.point.In/8 + 1}, z.record)
}

func (z *bzip2Codec) decode(max int) ([]byte, error) {
	for {
		if z.begin >= 0 {
			b, err := z.read(z.buf[:max])
			if len(b) > 0 {
				return b, nil
			}
			if err != io.EOF {
				return nil, err
			}
			if err := z.endBlock(); err != nil {
				return nil, err
			}
		}
		if err := z.next(); err != nil {
			z.begin = -1
			return nil, err
		}
	}
}

// read decodes bytes of the block up to the next place where a cursor is kept.
func (z *bzip2Codec) read(p []byte) ([]byte, error) {
	stop := int64(z.at.Out)/cursorSpacing*cursorSpacing + cursorSpacing
	p = p[:min(int64(len(p)), stop-int64(z.at.Out))]
	beyond := false // there should be no more: a damaged block may be longer than it was
	if z.following > 0 {
		left := z.following - z.begin - int64(z.at.Out)
		beyond = left <= 0
		p = p[:min(int64(len(p)), max(1, left))]
	}
	further := stop > int64(z.cursors[len(z.cursors)-1].Out)
	far := int64(unwindFrom)
	if z.block.Ranked() {
		far = spansUpTo
	}
	if !z.unwound && (max(z.walked, z.d.until-z.d.pos) >= far || further && z.begin+stop <= z.d.until) {
		z.block.Unwind(z.text)
		z.unwound = true
	}
	var n int
	var err error
	switch {
	case z.unwound:
		n, err = z.text.Read(&z.at, p)
	case z.block.Ranked():
		n, err = z.readSpan(p)
	default:
		n, err = z.block.Read(&z.at, p)
	}
	if beyond && n > 0 {
		return nil, fmt.Errorf("%w: bzip2 block at bit %d goes on where the next one begins", ErrChecksum, z.point.In)
	}
	z.walked += int64(n)
	if z.whole {
		z.sum = bzip2.UpdateCRC(z.sum, p[:n])
	}
	if int64(z.at.Out) == stop && further {
		z.cursors = append(z.cursors, z.at)
	}
	return p[:n], err
}

// maxSpan is the most text that is between two cursors and what the second of
// them may skip: a byte of it more for each four of output.
const maxSpan = cursorSpacing + cursorSpacing/4 + 2<<10

// readSpan decodes bytes of the block, which has ranks, from the span that z.at
// is in.
func (z *bzip2Codec) readSpan(p []byte) (int, error) {
	for {
		if z.spanned {
			n, err := z.text.Read(&z.at, p)
			if err == io.EOF && int(z.at.Pos) < z.block.Len() {
				if err = nil; n == 0 {
					z.spanned = false
					continue
				}
			}
			return n, err
		}
		if !z.findSpan() {
			return z.block.Read(&z.at, p)
		}
		if z.block.UnwindSpan(z.text, z.span) != nil {
			if int(z.span[len(z.span)-1].Pos) < z.block.Len() {
				return 0, errBlockRecord
			}
			// The walk began at the block's end, and the block is to blame.
			return z.block.Read(&z.at, p)
		}
		z.spanned = true
	}
}

// findSpan sets z.span to the cursors from z.at on to the first behind the bytes
// that the reader wants, or to the block's end.
func (z *bzip2Codec) findSpan() bool {
	want := z.d.until - z.begin
	z.span = append(z.span[:0], z.at)
	for i := int(z.at.Out/cursorSpacing) + 1; i <= len(z.cursors); i++ {
		c := z.block.EndCursor()
		if i < len(z.cursors) {
			c = z.cursors[i]
		}
		if c.Pos-uint32(c.Skip) <= z.at.Pos {
			continue
		}
		if c.Pos-z.span[len(z.span)-1].Pos > maxSpan {
			return false
		}
		z.span = append(z.span, c)
		if int64(c.Out) >= want {
			break
		}
	}
	return len(z.span) > 1
}

// endBlock checks the block's CRC and keeps its cursors, after its last byte.
func (z *bzip2Codec) endBlock() error {
	if !z.whole {
		if err := z.sumAll(); err != nil {
			return err
		}
	}
	if z.sum != z.crc {
		return z.wrongCRC()
	}
	if n := len(z.cursors); n > z.kept {
		z.keep()
		z.kept = n
	}
	return nil
}

func (z *bzip2Codec) wrongCRC() error {
	return fmt.Errorf("%w: bzip2 block at bit %d: CRC is %08x, stored is %08x", ErrChecksum, z.point.In, z.sum, z.crc)
}

// sumAll makes z.sum the CRC of the whole block.
func (z *bzip2Codec) sumAll() error {
	if !z.unwound {
		z.block.Unwind(z.text)
		z.unwound, z.spanned = true, false
	}
	z.sum = 0
	for at := z.text.Start(); ; {
		n, err := z.text.Read(&at, z.buf[:])
		z.sum = bzip2.UpdateCRC(z.sum, z.buf[:n])
		if err == io.EOF {
			z.whole = true
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// verifyCheckpoint compares the CRC of the block at hand, which other decoders go on in.
func (z *bzip2Codec) verifyCheckpoint() error {
	if z.begin < 0 || z.d.pos == z.begin {
		return nil
	}
	if err := z.sumAll(); err != nil {
		return err
	}
	if z.sum != z.crc {
		return z.wrongCRC()
	}
	z.whole = false // the sum is of more than was read
	return nil
}

// proven returns the start of the block at hand: those before were compared with
// their CRCs.
func (z *bzip2Codec) proven(d *decoder) int64 {
	if z.begin >= 0 {
		return z.begin
	}
	return d.pos
}

func (z *bzip2Codec) nearestBefore(d *decoder, off int64) int64 {
	if z.begin >= 0 && off >= z.begin {
		at := z.begin + int64(z.cursor(off).Out)
		if d.pos <= off {
			at = max(at, d.pos)
		}
		return at
	}
	if d.pos <= off {
		return d.pos
	}
	return -1
}

// cursor returns the block's last cursor at or before off in the chunk.
func (z *bzip2Codec) cursor(off int64) bzip2.Cursor {
	i := int(min((off-z.begin)/cursorSpacing, int64(len(z.cursors)-1)))
	return z.cursors[i]
}

func (z *bzip2Codec) seek(d *decoder, off int64) {
	if z.nearestBefore(d, off) == d.pos {
		return
	}
	// The second read in a block will not be the last.
	if !z.unwound && z.walked > 0 {
		z.walked = unwindFrom
	}
	z.at, z.spanned = z.cursor(off), false
	d.pos = z.begin + int64(z.at.Out)
	z.whole = z.at.Out == 0
	z.sum = 0
}

// finish checks what follows the chunk's last block: a CRC of the stream.
func (z *bzip2Codec) finish(*decoder) error {
	if z.begin >= 0 {
		b, err := z.read(z.buf[:1])
		cut := len(b) > 0 // the chunk ends within the block
		if cut {
			// Only all of the block has a CRC. A damaged block is often longer
			// than it was.
			z.whole = false
		} else if err != io.EOF {
			return err
		}
		if err := z.endBlock(); err != nil || cut {
			return err
		}
	}
	z.attach()
	_, err := z.stream.EndStream(true)
	return err
}

// cursors returns how many cursors the record has of the last block known to
// begin at or before off.
func (s *checkpoints) cursors(chunk int, off int64) int {
	i := s.find(chunk, off)
	if i < 0 {
		return 0
	}
	p := s.chunks[chunk][i]
	if p.log == noRecord {
		g := &s.packed.groups[p.group-1]
		return g.places[g.at(chunk, p.off)].Cursors()
	}
	_, _, n := s.header(p.log)
	return bzip2.RecordCursors(n)
}

var errBlockRecord = fmt.Errorf("%w: a checkpoint of a bzip2 block is damaged", ErrIndex)

// What salvage of a bzip2 chunk looks at, at most.
const (
	maxSalvaged  = 1 << 16 // blocks; larger chunks have their first and last ones salvaged
	maxFalseBits = 256     // places that look like a block and are none
)

// salvagedBlock is what stands behind a damaged block: a block that decodes, or
// something that doesn't.
type salvagedBlock struct {
	bit    int64 // in the chunk's data
	length int64 // of its output, -1 if it isn't known
	good   bool  // its CRC is right
}

// salvage finds the blocks behind the damaged one at hand, as bzip2recover does, by the
// bits that they begin with. A good block says how long its output is, but not where on
// the disk that is: the damaged one before may have had another length than it decodes
// to. The blocks behind the last damaged one end where the chunk ends. Blocks between
// two damaged ones are placed by the lengths that these decode to, and are doubtful.
func (z *bzip2Codec) salvage(d *decoder, c *Chunk, from int64, emit salvaged) error {
	z.suspend()
	bit := z.point.In
	if z.begin >= 0 { // the damaged block at hand has been delivered
		bit += bzip2.MagicLen
	}
	blocks, ended, err := z.survey(c, bit)
	if err != nil {
		return err
	}
	tail := len(blocks) // the first one behind the last damage
	for tail > 0 && blocks[tail-1].good {
		tail--
	}
	starts := placeBlocks(d.pos, c.Length, blocks, tail, ended) // of which less may be wanted
	for i, b := range blocks {
		if starts[i] < 0 || b.length < 0 {
			continue
		}
		if ok, err := z.decodeAt(c, b.bit); err != nil || !ok {
			return err
		}
		off := starts[i]
		for at := z.text.Start(); ; {
			n, err := z.text.Read(&at, z.buf[:])
			if i+1 < len(starts) && starts[i+1] >= 0 { // a damaged block may be longer than it was
				n = int(max(0, min(int64(n), starts[i+1]-off)))
			}
			q := unconfirmed
			if ended && i >= tail {
				q = confirmed
			}
			if err := emit(off, z.buf[:n], q); err != nil {
				return err
			}
			if off += int64(n); n == 0 || err != nil {
				break
			}
		}
	}
	return nil
}

// placeBlocks returns where in a chunk the output of each block begins, -1 if that
// can't be told: one after the other from byte from on; and before the chunk's end, if
// the last of the blocks ends the stream. Those from tail on are good.
func placeBlocks(from, length int64, blocks []salvagedBlock, tail int, ended bool) []int64 {
	starts := make([]int64, len(blocks))
	at := from
	for i, b := range blocks {
		starts[i] = at
		if at >= 0 {
			if at += b.length; b.length < 0 || at > length {
				at = -1
			}
		}
	}
	if !ended {
		return starts
	}
	at = length
	for i := len(blocks) - 1; i >= 0 && blocks[i].length >= 0 && at >= from; i-- {
		at -= blocks[i].length
		if starts[i] < 0 || i >= tail {
			starts[i] = max(at, -1)
		}
	}
	return starts
}

// survey finds the blocks of c's data from a bit on. ended says that the last of them
// ends the stream.
func (z *bzip2Codec) survey(c *Chunk, bit int64) (blocks []salvagedBlock, ended bool, err error) {
	next := int64(-1) // where the next block must be, if the last one was good
	for vain := 0; vain < maxFalseBits && len(blocks) < maxSalvaged; {
		at, err := z.findMagic(c, bit)
		if err != nil {
			return nil, false, err
		}
		if at < 0 {
			return blocks, ended, nil
		}
		if next >= 0 && at != next || ended {
			// Something in between doesn't even begin like a block.
			blocks = append(blocks, salvagedBlock{bit: next, length: -1})
		}
		ended = false
		ok, err := z.decodeAt(c, at)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			vain++
			bit, next = at+1, -1
			if n := len(blocks); n == 0 || blocks[n-1].length >= 0 {
				blocks = append(blocks, salvagedBlock{bit: at, length: -1})
			}
			continue
		}
		b := salvagedBlock{bit: at}
		sum := uint32(0)
		for at := z.text.Start(); ; {
			n, err := z.text.Read(&at, z.buf[:])
			sum = bzip2.UpdateCRC(sum, z.buf[:n])
			b.length += int64(n)
			if err != nil {
				if err != io.EOF {
					b.length = -1
				}
				break
			}
		}
		b.good = b.length >= 0 && sum == z.block.CRC()
		blocks = append(blocks, b)
		if bit, next = at+bzip2.MagicLen, -1; !b.good {
			vain++
			continue
		}
		bit = z.block.End()
		switch end, err := z.stream.EndStream(false); {
		case err == nil && !end:
			next = z.stream.Point().In
		case err == nil:
			if p, err := z.stream.Peek(); err == nil {
				next = p.In
			} else {
				ended = true
			}
		case z.d.fetch.err != nil:
			return nil, false, z.d.fetch.err
		}
	}
	return blocks, false, nil
}

// decodeAt decodes the block at a bit of c's data into z.text. It returns false if
// there is none; an error is the source's.
func (z *bzip2Codec) decodeAt(c *Chunk, bit int64) (bool, error) {
	z.d.fetch.begin(c.DataOffset+bit/8, c.streamEnd())
	z.stream.Resume(&z.d.fetch, bzip2.Point{In: bit, Level: 9})
	if err := z.stream.Next(&z.block); err != nil {
		return false, z.d.fetch.err
	}
	z.block.Unwind(z.text)
	return true, nil
}

// findMagic returns the first bit of c's data from one on at which something begins
// like a block, -1 if there is none.
func (z *bzip2Codec) findMagic(c *Chunk, from int64) (int64, error) {
	const overlap = bzip2.MagicLen/8 + 1
	skip := int(from % 8)
	for at := c.DataOffset + from/8; ; {
		n := min(int64(len(z.buf)), c.streamEnd()-at)
		if n < bzip2.MagicLen/8 {
			return -1, nil
		}
		b := z.buf[:n]
		if z.d.fetch.ctx != nil && z.d.fetch.ctx.Err() != nil {
			return -1, z.d.fetch.ctx.Err()
		}
		if _, err := z.d.fetch.src.ReadAt(b, at); err != nil {
			return -1, err
		}
		for bit := skip; ; {
			found, kind, ok := bzip2.FindBlock(b, bit)
			if !ok {
				break
			}
			if kind == bzip2.KindBlock {
				return (at-c.DataOffset)*8 + int64(found), nil
			}
			bit = found + 1
		}
		skip = 0
		if at += n - overlap; n <= overlap {
			return -1, nil
		}
	}
}

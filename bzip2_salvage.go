package dmg

import (
	"io"

	"github.com/go-dmg/dmg/internal/bzip2"
)

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
	starts := placeBlocks(from, c.Length, blocks, tail, ended)
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

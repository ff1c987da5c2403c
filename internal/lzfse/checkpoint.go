package lzfse

import (
	"encoding/binary"
	"io"

	"github.com/go-dmg/dmg/internal/stream"
)

// A checkpoint may stand anywhere between two triples or codes, or in stored bytes, because
// a block may have any length: of zeros, a bvx2 block makes 23 MB. Decoding resumes at the
// code, but in a block with entropy coding at the block's header: its tables and literals
// are decoded again, which takes 50 microseconds.
//
// The state of a checkpoint is the kind of the block that it stands in, a byte, and uvarints:
//
//	between blocks   nothing
//	bvx-             bytes left
//	bvxn             bytes left of the output, of the payload; the last distance
//	bvx1, bvx2       bytes left of the output; the last distance; bits left of the
//	                 payload, triples left, literals used; the states of L, M and D

// checkpoint begins a checkpoint where the decoder stands.
func (z *Reader) checkpoint() {
	var space [stream.MaxState]byte
	b := &z.blk
	p := stream.Record{In: z.in.offset(), State: append(space[:0], byte(b.kind))}
	put := func(numbers ...int) {
		for _, n := range numbers {
			p.State = binary.AppendUvarint(p.State, uint64(n))
		}
	}
	switch b.kind {
	case storedBlock:
		p.State = binary.AppendUvarint(p.State, uint64(b.rawLeft))
	case lzvnBlock:
		p.State = binary.AppendUvarint(p.State, uint64(b.rawLeft))
		p.State = binary.AppendUvarint(p.State, uint64(b.packLeft))
		put(b.prev)
	case fseBlock:
		s := &b.lmd
		p.Need = p.In + int64(s.size) - b.header
		p.In = b.header
		p.State = binary.AppendUvarint(p.State, uint64(b.rawLeft))
		put(b.prev, s.pos, s.left, s.lit, int(s.l), int(s.m), int(s.d))
	}
	z.dst.Begin(p)
}

// parseBlock returns the block of a checkpoint's state, in which it stands. Whether it is
// the stream's only decoding can tell.
func parseBlock(state []byte) (block, error) {
	if len(state) == 0 || state[0] > byte(fseBlock) {
		return block{}, stream.ErrRecord
	}
	f := stream.NewFields(state[1:])
	b := block{kind: blockKind(state[0])}
	if b.kind != betweenBlocks {
		b.rawLeft = int64(f.Uvarint(1<<32 - 1))
	}
	switch b.kind {
	case lzvnBlock:
		b.packLeft = int64(f.Uvarint(1<<32 - 1))
		b.prev = int(f.Uvarint(windowSize))
	case fseBlock:
		b.prev = int(f.Uvarint(windowSize))
		b.lmd = lmdState{
			pos:  int(f.Uvarint(maxLMDPayload * 8)),
			left: int(f.Uvarint(maxMatches)),
			lit:  int(f.Uvarint(maxLiterals)),
			l:    uint32(f.Uvarint(lStates - 1)),
			m:    uint32(f.Uvarint(mStates - 1)),
			d:    uint32(f.Uvarint(dStates - 1)),
		}
	}
	if b.kind == storedBlock && b.rawLeft == 0 {
		return b, stream.ErrRecord
	}
	return b, f.End()
}

// resumeBlock goes on in b.
func (z *Reader) resumeBlock(b block) error {
	if b.kind != fseBlock {
		z.blk = b
		return nil
	}
	if err := z.header(); err == io.EOF {
		return z.corrupt("the end, where a checkpoint has a block")
	} else if err != nil {
		return err
	}
	now := &z.blk
	s, t := &b.lmd, &now.lmd
	if now.kind != fseBlock || b.rawLeft > now.rawLeft || s.pos > t.pos || s.left > t.left || s.lit > t.literals {
		return z.corrupt("another block than a checkpoint has")
	}
	now.rawLeft, now.prev = b.rawLeft, b.prev
	t.pos, t.left, t.lit, t.l, t.m, t.d = s.pos, s.left, s.lit, s.l, s.m, s.d
	return nil
}

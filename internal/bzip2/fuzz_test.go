package bzip2

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	"errors"
	"io"
	"testing"

	dsnet "github.com/dsnet/compress/bzip2"
)

// fuzzSeeds are small streams of every kind.
func fuzzSeeds(f *testing.F) [][]byte {
	short := &spec{used: 3, symbols: []int{2, 0, 1, 3, 3, 2, 1, 4}, origin: 1}
	seeds := [][]byte{
		compress(f, nil, 1),
		compress(f, []byte("aaaaaaaaaaaaaaaaaaaabbbb\x00banana"), 1),
		compress(f, mixed(3000, 1), 9),
		stream(1, short),
		stream(9, scrambled(noRuns(700, 8), 8)),
		stream(2, bomb(5)),
		stream(1, magicBlock(200)),
	}
	return append(seeds, append(bytes.Clone(seeds[1]), seeds[2]...))
}

// mend makes the checksums in z right, as far as its blocks decode, so that
// damage to anything else is not hidden behind them. It returns the bytes, and
// the error that ended them.
func (d *player) mend(z []byte, limit int) (out []byte, err error) {
	var p Point
	for {
		d.s.Resume(bytes.NewReader(z[p.In>>3:]), p)
		q, err := d.s.Peek()
		if errors.Is(err, ErrChecksum) {
			setBits(z, int(q.In)+magicLen, q.CRC)
			p = q
			continue
		}
		if err == io.EOF {
			return out, nil
		}
		if err == nil {
			err = d.s.Next(&d.b)
		}
		if err != nil {
			return out, err
		}
		d.b.Unwind(&d.x)
		crc := uint32(0)
		for c, err := d.x.Start(), error(nil); err == nil && len(out) < limit; {
			var n int
			n, err = d.x.Read(&c, d.buf[:])
			crc = UpdateCRC(crc, d.buf[:n])
			out = append(out, d.buf[:n]...)
			if err != nil && err != io.EOF {
				return out, err
			}
		}
		if len(out) >= limit {
			return out, io.ErrShortBuffer
		}
		d.b.crc = crc
		setBits(z, int(q.In)+magicLen, crc)
		p, _ = q.After(&d.b)
	}
}

func setBits(z []byte, at int, v uint32) {
	for i := range 32 {
		bit := at + i
		z[bit>>3] &^= 0x80 >> (bit & 7)
		z[bit>>3] |= byte(v>>(31-i)&1) << (7 - bit&7)
	}
}

// FuzzDecode compares with two decoders. What they both decode, this one does,
// to the same bytes.
func FuzzDecode(f *testing.F) {
	for _, z := range fuzzSeeds(f) {
		f.Add(z)
	}
	const limit = 1 << 20
	var d player
	f.Fuzz(func(t *testing.T, z []byte) {
		z = bytes.Clone(z)
		got, err := d.mend(z, limit)
		if err == io.ErrShortBuffer {
			return
		}
		if err == nil {
			// The checksums are right now, so it decodes straight through.
			if again, err := d.play(bytes.NewReader(z)); err != nil || !bytes.Equal(again, got) {
				t.Fatalf("mended, %d bytes and %v instead of %d", len(again), err, len(got))
			}
		}
		std, stdErr := io.ReadAll(io.LimitReader(stdbzip2.NewReader(bytes.NewReader(z)), limit))
		r, _ := dsnet.NewReader(bytes.NewReader(z), nil)
		other, otherErr := io.ReadAll(io.LimitReader(r, limit))
		if stdErr == nil && otherErr == nil {
			if err != nil {
				t.Fatalf("%v, others decode %d bytes", err, len(std))
			}
			if !bytes.Equal(got, std) || !bytes.Equal(got, other) {
				t.Fatalf("%d bytes, others have %d and %d", len(got), len(std), len(other))
			}
		}
		// What compress/bzip2 decodes and dsnet refuses is the same bytes too,
		// up to where dsnet stopped.
		for _, p := range [][]byte{std, other} {
			if err == nil && stdErr == nil && !bytes.HasPrefix(got, p) {
				t.Fatalf("%d bytes, of which others have %d differently", len(got), len(p))
			}
		}
	})
}

// FuzzBlock decodes a block wherever one is asked for. What decodes is the same
// read from the links and from the text.
func FuzzBlock(f *testing.F) {
	for _, z := range fuzzSeeds(f) {
		for bit, ok := 0, true; ok; bit++ {
			if bit, _, ok = FindBlock(z, bit); ok {
				f.Add(z, uint32(bit), byte(9))
				f.Add(z, uint32(0), byte(0))
			}
		}
	}
	var (
		s      Stream
		b      Block
		x      Text
		p1, p2 [997]byte
	)
	f.Fuzz(func(t *testing.T, z []byte, bit uint32, level byte) {
		if int(bit>>3) > len(z) {
			return
		}
		s.Resume(bytes.NewReader(z[bit>>3:]), Point{In: int64(bit), Level: int(level)})
		err := s.Next(&b)
		if err != nil {
			if b.Len() != 0 {
				t.Fatalf("%v, and a block of %d", err, b.Len())
			}
			return
		}
		// At level 0 a stream's header stands before the block and tells it.
		at := b.Point()
		if b.Len() > at.Level*levelSize || b.End() > int64(len(z))*8 || b.End() <= at.In || at.In < int64(bit) {
			t.Fatalf("block of %d from %d to %d, asked for at %d", b.Len(), at.In, b.End(), bit)
		}
		before := bytes.Clone(bytesOf(b.links))
		b.Unwind(&x)
		if !bytes.Equal(before, bytesOf(b.links)) {
			t.Fatal("Unwind changed the links")
		}
		c1, c2 := b.Start(), x.Start()
		for k := 1; err == nil && c1.Out < 1<<20; k = k*3%len(p1) + 1 {
			var n1, n2 int
			var err2 error
			n1, err = b.Read(&c1, p1[:k])
			n2, err2 = x.Read(&c2, p2[:k])
			if n1 != n2 || err != err2 || !bytes.Equal(p1[:n1], p2[:n2]) {
				t.Fatalf("Read %d: %d, %v from links; %d, %v from text", k, n1, err, n2, err2)
			}
			if !c1.fits(b.Len()) || !c2.fits(b.Len()) || c1.Pos != c2.Pos || c1.run != c2.run {
				t.Fatalf("cursors %+v, %+v", c1, c2)
			}
			c1, c2 = c2, c1
		}
	})
}

func bytesOf(links []uint32) []byte {
	p := make([]byte, 0, 4*len(links))
	for _, l := range links {
		p = append(p, byte(l>>24), byte(l>>16), byte(l>>8), byte(l))
	}
	return p
}

// FuzzPositions reads from points and cursors that anybody may have made.
func FuzzPositions(f *testing.F) {
	var d player
	z := compress(f, mixed(20_000, 3), 1)
	d.s.Reset(bytes.NewReader(z))
	if err := d.s.Next(&d.b); err != nil {
		f.Fatal(err)
	}
	d.b.Unwind(&d.x)
	for c, err := d.x.Start(), error(nil); err == nil; _, err = d.x.Read(&c, d.buf[:3001]) {
		p1, _ := d.b.Point().AppendBinary(nil)
		p2, _ := c.AppendBinary(nil)
		f.Add(p1, p2)
	}
	f.Fuzz(func(t *testing.T, rawPoint, rawCursor []byte) {
		var p Point
		if err := p.UnmarshalBinary(rawPoint); err == nil {
			if again, _ := p.AppendBinary(nil); !bytes.Equal(again, rawPoint) {
				t.Fatalf("point %x becomes %x", rawPoint, again)
			}
			var s Stream
			var b Block
			s.Resume(bytes.NewReader(z[min(p.In>>3, int64(len(z))):]), p)
			for n := 0; s.Next(&b) == nil; n++ {
				if n > len(z) {
					t.Fatal("more blocks than bytes")
				}
			}
		}
		var c Cursor
		if err := c.UnmarshalBinary(rawCursor); err != nil {
			return
		}
		if again, _ := c.AppendBinary(nil); !bytes.Equal(again, rawCursor) {
			t.Fatalf("cursor %x becomes %x", rawCursor, again)
		}
		for _, read := range []func(*Cursor, []byte) (int, error){d.b.Read, d.x.Read} {
			c := c
			total := 0
			for err := error(nil); err == nil; {
				var n int
				n, err = read(&c, d.buf[:4096])
				if total += n; total > maxOut {
					t.Fatal("endless block")
				}
			}
		}
	})
}

package dmg

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/go-dmg/dmg/internal/deflate"
)

// salvageMemory is what salvage of a zlib chunk takes besides the decoder.
const salvageMemory = deflate.FindMemory + deflate.MarkerMemory + 96<<10

// salvage decodes the stream's blocks behind the damage, if some lead to its end: then
// their place is known, but not the window before the first of them. Bytes that are
// copies of it are lost, and zeros; sectors are told apart by whether they have any. No
// checksum is of the rest alone, so that is doubtful.
func (z *zlibCodec) salvage(d *decoder, c *Chunk, from int64, emit salvaged) error {
	if !z.host.borrow(salvageMemory) {
		return nil // others need the memory; what is behind stays lost
	}
	defer z.host.giveBack(salvageMemory)
	src := interruptedSource{d.fetch.ctx, io.NewSectionReader(d.fetch.src, c.DataOffset, c.DataLength)}
	tail, err := deflate.FindTail(src, deflate.ZlibHeaderLen*8+z.z.In(), c.DataLength, 0, c.Length)
	switch {
	case errors.Is(err, deflate.ErrNoTail):
		return nil
	case err != nil:
		return err
	}
	start := c.Length - tail.Len
	return tail.Decode(src, nil, func(off int64, b []byte, known []bool) error {
		for off += start; len(b) > 0; {
			n := min(len(b), sectorSize-int(off%sectorSize))
			q := unconfirmed
			if slices.Contains(known[:n], false) {
				q = partial
			}
			if err := emit(off, b[:n], q); err != nil {
				return err
			}
			off += int64(n)
			b, known = b[n:], known[n:]
		}
		return nil
	})
}

// interruptedSource is a source that fails once ctx is done. ctx may be nil.
type interruptedSource struct {
	ctx context.Context
	io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (s interruptedSource) ReadAt(p []byte, off int64) (int, error) {
	if s.ctx != nil && s.ctx.Err() != nil {
		return 0, s.ctx.Err()
	}
	return s.ReaderAt.ReadAt(p, off)
}

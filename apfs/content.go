package apfs

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/readat"
	"github.com/go-dmg/dmg/internal/vfs"
)

// extKind is the tree of a sealed volume's extents: key {private id u64, offset u64}, value
// {length and flags u64, block u64}. No sample was at hand.
var extKind = &treeKind{
	name: "extent tree", subtype: typeExtentTree,
	keySize: 16, valueSize: 16,
	key: omapKind.key,
}

// An extent is where a piece of a stream is stored:
//
//	0 length (56 bits) and flags (8 bits) u64 · 8 block u64 · 16 crypto id u64
type extent struct {
	start, end int64 // in the stream
	block      uint64
	cryptoID   uint64
}

// A stream is the content of a file or of an attribute.
type stream struct {
	fs   *FS
	id   uint64
	size int64

	last atomic.Pointer[span] // for the read that goes on there
}

// Size returns the size in bytes.
func (s *stream) Size() int64 { return s.size }

// newStream returns the stream of a private id. Its size is a claim, for which nothing is
// allocated.
func (f *FS) newStream(id uint64, d *dstream) (vfs.Content, error) {
	if d == nil {
		return &stream{fs: f, id: id}, nil
	}
	if d.size > math.MaxInt64 {
		return nil, fmt.Errorf("%w: stream %d has a size of %d bytes", ErrFormat, id, d.size)
	}
	return &stream{fs: f, id: id, size: int64(d.size)}, nil
}

// extents returns a cursor behind the last extent that begins at off or before it.
func (s *stream) extents(off int64) (*extentCursor, error) {
	c := &extentCursor{s: s}
	var err error
	if t := s.fs.extents; t != nil {
		c.cursor, err = t.seek(treeKey{a: s.id, b: uint64(off)}, true)
	} else {
		c.cursor, err = s.fs.tree.seek(treeKey{a: recordKey(s.id, recExtent), b: uint64(off)}, true)
	}
	return c, err
}

type extentCursor struct {
	*cursor
	s *stream
}

// before returns the extent that begins before the cursor. It has no length if there is
// none.
func (c *extentCursor) before() (extent, error) {
	k, v, ok := c.prev()
	if !ok {
		return extent{}, nil
	}
	e, _, err := c.parse(k, v)
	return e, err
}

// after returns the extent that begins behind the cursor, and goes over it. If there is
// none, it returns one that begins at the greatest offset.
func (c *extentCursor) after() (extent, error) {
	none := extent{start: math.MaxInt64, end: math.MaxInt64}
	k, v, ok, err := c.next()
	if !ok || err != nil {
		return none, err
	}
	e, ok, err := c.parse(k, v)
	if !ok {
		return none, err
	}
	return e, err
}

// parse decodes a record. ok is false if the record is not an extent of the stream.
func (c *extentCursor) parse(k, v []byte) (e extent, ok bool, err error) {
	key, _ := c.t.kind.key(k)
	want, n := recordKey(c.s.id, recExtent), 24
	if c.t.kind == extKind {
		want, n = c.s.id, 16
	}
	if key.a != want {
		return extent{}, false, nil
	}
	if len(v) < n {
		return extent{}, false, damaged(c.leaf(), c.t.kind.name, "an extent of stream %d is malformed", c.s.id)
	}
	length := le.Uint64(v) & (1<<56 - 1)
	if key.b > math.MaxInt64-length {
		return extent{}, false, damaged(c.leaf(), c.t.kind.name, "an extent of stream %d ends past 2⁶³", c.s.id)
	}
	e = extent{start: int64(key.b), end: int64(key.b + length), block: le.Uint64(v[8:])}
	e.cryptoID = e.block // for the tree that has none
	if n == 24 {
		e.cryptoID = le.Uint64(v[16:])
	}
	return e, true, nil
}

// ReadAt reads the stream. What no extent has, and what has block 0, is a hole of zeros.
//
// Of extents that overlap the one that begins last counts, so that all ways to read a byte
// agree. Neighbours on the disk are read at once.
func (s *stream) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, errOffset
	case len(p) == 0:
		return 0, nil
	case off >= s.size:
		return 0, io.EOF
	}
	short := int64(len(p)) > s.size-off
	if short {
		p = p[:s.size-off]
	}
	r := run{fs: s.fs}
	var err error
	if last := s.last.Load(); last != nil && last.has(off, len(p)) {
		err = r.piece(p, off, last.extent)
	} else {
		err = s.readExtents(&r, p, off)
	}
	if err == nil {
		err = r.flush()
	}
	if err != nil {
		return r.fail(err)
	}
	if short {
		return r.done, io.EOF
	}
	return r.done, nil
}

// readExtents reads what may be in several extents.
func (s *stream) readExtents(r *run, p []byte, off int64) error {
	c, err := s.extents(off)
	if err != nil {
		return err
	}
	e, err := c.before()
	if err != nil {
		return err
	}
	for len(p) > 0 {
		next, err := c.after()
		if err != nil {
			return err
		}
		if next.start <= off {
			if next.start < e.start { // the tree is in order: only damage gets here
				return fmt.Errorf("%w: extents of stream %d go back", ErrFormat, s.id)
			}
			e = next
			continue
		}
		to := p[:min(int64(len(p)), next.start-off)]
		if err := r.piece(to, off, e); err != nil {
			return err
		}
		if len(to) == len(p) {
			s.last.Store(&span{e, next.start})
		}
		p, off, e = p[len(to):], off+int64(len(to)), next
	}
	return nil
}

// A span is an extent that was read from, and where the next one begins.
type span struct {
	extent
	next int64
}

func (s *span) has(off int64, n int) bool { return off >= s.start && int64(n) <= s.next-off }

var errOffset = errors.New("negative offset")

// A run is what a read puts off: neighbouring pieces that are neighbours on the disk, too.
type run struct {
	fs   *FS
	to   []byte // of the reader's buffer, not read yet
	at   int64  // where its data is, from the container's start
	done int    // where it belongs in the reader's buffer
}

// piece appends what a range of the stream has that begins in an extent, and ends before the
// next one: data, and a hole behind it.
func (r *run) piece(to []byte, off int64, e extent) error {
	data := to[:max(0, min(int64(len(to)), e.end-off))]
	if e.block == 0 {
		data = nil
	}
	if err := r.add(data, e, off-e.start); err != nil {
		return err
	}
	return r.hole(to[len(data):])
}

// add appends the piece of an extent that is skip bytes behind its start.
func (r *run) add(to []byte, e extent, skip int64) error {
	if len(to) == 0 {
		return nil
	}
	d := &r.fs.v.c.dev
	if e.block >= d.blocks() || skip > d.size-int64(e.block)*d.blockSize-int64(len(to)) {
		return damaged(e.block, "file data", "the extent is past the end of the data, which has %d blocks", d.blocks())
	}
	at := int64(e.block)*d.blockSize + skip
	if c := r.fs.cipher; c != nil {
		first := e.cryptoID*uint64(d.blockSize/sectorSize) + uint64(skip/sectorSize)
		return r.decrypt(c, to, at, first)
	}
	if len(r.to) > 0 && r.at+int64(len(r.to)) == at {
		r.to = r.to[:len(r.to)+len(to)] // to is the memory behind
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	r.to, r.at = to, at
	return nil
}

// maxDecrypt is how much encrypted data is read at a time.
const maxDecrypt = 1 << 20

// decrypt reads whole sectors, the first one with the tweak first.
func (r *run) decrypt(c *volumeCipher, to []byte, at int64, first uint64) error {
	if err := r.flush(); err != nil {
		return err
	}
	head := int(at % sectorSize) // blocks are whole sectors
	var buf []byte
	for len(to) > 0 {
		n := min((head+len(to)+sectorSize-1)&^(sectorSize-1), maxDecrypt)
		if buf == nil {
			buf = make([]byte, n)
		}
		b := buf[:n]
		if err := r.read(b, at-int64(head)); err != nil {
			return err
		}
		c.decrypt(b, first)
		m := copy(to, b[head:])
		to, at, first, head = to[m:], at+int64(m), first+uint64(n/sectorSize), 0
		r.done += m
	}
	return nil
}

// hole appends zeros.
func (r *run) hole(to []byte) error {
	if len(to) == 0 {
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	clear(to)
	r.done += len(to)
	return nil
}

// flush reads what was put off.
func (r *run) flush() error {
	if len(r.to) == 0 {
		return nil
	}
	to := r.to
	r.to = nil
	if err := r.read(to, r.at); err != nil {
		return err
	}
	r.done += len(to)
	return nil
}

func (r *run) read(p []byte, at int64) error {
	if _, err := readat.Full(r.fs.v.c.dev.r, p, at); err != nil {
		return fmt.Errorf("apfs: file data at byte %d: %w", at, err)
	}
	return nil
}

// fail reads what was put off before the error, so that the reader gets it.
func (r *run) fail(err error) (int, error) {
	if first := r.flush(); first != nil {
		err = first
	}
	return r.done, err
}

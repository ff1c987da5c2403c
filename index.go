package dmg

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
)

// Index is what has been learned of an image's compressed chunks: places from
// which they can be decoded, so that a later Image of the same file need not
// find them again. It is the image's own: for any other one, Open and NewImage
// fail with ErrIndex.
//
// An Index of an encrypted image holds pieces of what is in it, not encrypted.
//
// An Index never changes and may be used by many goroutines and Images at once.
type Index struct {
	file []byte // as docs/INDEX.md has it; its frame has been checked
	err  error  // why there is none
}

// An index is to cost little beside its image: a twentieth of the data, for
// which the checkpoints that lie closest are left out. In what is that small
// anyway indexFloor decides.
const (
	indexShare = 20
	indexFloor = 4 << 10
)

func badIndex(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrIndex}, args...)...)
}

// ReadIndex reads an index that WriteTo wrote, up to r's end. A damaged one
// gives ErrIndex; errors of r are passed on. Whose it is, and what it says of
// the image's chunks, is checked by Open and NewImage.
func ReadIndex(r io.Reader) (*Index, error) {
	file, err := io.ReadAll(io.LimitReader(r, maxIndexLen+1))
	if err != nil {
		return nil, err
	}
	ix := &Index{file: slices.Clip(file)}
	if err := ix.check(); err != nil {
		return nil, err
	}
	return ix, nil
}

// WriteTo writes the index to w. It returns how many bytes were written. The
// same checkpoints of the same image give the same bytes. The error is w's, or
// the source's if the image could not be identified by what Index read of it.
func (ix *Index) WriteTo(w io.Writer) (int64, error) {
	if ix.err != nil {
		return 0, ix.err
	}
	if ix.file == nil {
		return 0, badIndex("it is empty: get one from Image.Index")
	}
	n, err := w.Write(ix.file)
	return int64(n), err
}

// Len returns the number of checkpoints. An index of none is of no use: the image
// has no compressed chunks that can be decoded from elsewhere than their start,
// or none that are large enough.
func (ix *Index) Len() int {
	if ix.err != nil || ix.file == nil {
		return 0
	}
	b := readBuf(ix.file[indexCount:])
	return int(min(b.uint64(), maxIndexRaw)) // each takes a byte at least
}

// Index returns the checkpoints that reads have left so far, for Options.Index.
// Those are left out that lie closer than a power of two, the least with which
// the index takes a twentieth of the image's compressed data or 4 KiB. It may be
// called concurrently with reads; it takes a tenth of a second for each MB that
// the index has.
func (im *Image) Index() *Index {
	id, err := im.identity()
	if err != nil {
		return &Index{err: err}
	}
	limit := im.indexLimit()
	var w indexWriter
	for spacing := int64(minSpacing); ; spacing *= 2 {
		if w.begin(limit); im.pack(&w, spacing) && w.finish() {
			return &Index{file: w.file(id)}
		}
	}
}

// indexLimit returns how long the image's index may be, in bytes.
func (im *Image) indexLimit() int64 {
	var stored uint64
	for i := range im.chunks {
		if c := &im.chunks[i]; c.Method.compressed() {
			stored += uint64(c.DataLength)
		}
	}
	return int64(min(max(stored/indexShare, indexFloor), maxIndexLen))
}

// pack puts all checkpoints into w that are the first in their span of the
// chunk. It returns false if w is full before. Checkpoints that come or go
// meanwhile may be among them or not.
func (e *engine) pack(w *indexWriter, spacing int64) bool {
	e.mu.Lock()
	chunks := slices.Sorted(maps.Keys(e.mu.points.chunks))
	e.mu.Unlock()
	var record []byte
	for _, i := range chunks {
		c := &e.chunks[i]
		from := spacing
		if c.Length > spacing {
			from = 0 // the chunk's start, if it is a checkpoint
		}
		for {
			e.mu.Lock()
			p, ok := e.mu.points.next(i, from)
			if ok {
				record = e.mu.points.at(record[:0], p)
			}
			e.mu.Unlock()
			if !ok {
				break
			}
			if p.off == 0 || p.off >= spacing {
				if w.put(c.Method, i, p.off, record); w.full() {
					return false
				}
			}
			from = (p.off/spacing + 1) * spacing
		}
	}
	return true
}

// next returns the first checkpoint of the chunk at or after off.
func (s *checkpoints) next(chunk int, off int64) (p checkpoint, ok bool) {
	points := s.chunks[chunk]
	i := s.find(chunk, off-1) + 1
	if i == len(points) {
		return p, false
	}
	return points[i], true
}

// useIndex takes over the checkpoints of a saved index. Where they exceed their
// share of the memory limit they are thinned out as those that reads leave.
func (im *Image) useIndex(ix *Index) error {
	if ix.err != nil {
		return ix.err
	}
	if ix.file == nil {
		return badIndex("it is empty")
	}
	id, err := im.identity()
	if err != nil {
		return err
	}
	b := readBuf(ix.file[len(indexMagic)+4 : len(ix.file)-sha256.Size])
	if string(b.sub(sha256.Size)) != string(id[:]) {
		return badIndex("it is another image's")
	}
	r := indexReader{chunks: im.chunks, count: b.uint64()}
	if err := r.begin(b); err != nil {
		return err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	for r.next() {
		im.mu.points.add(r.chunk, r.off, r.in, r.record)
	}
	return r.err
}

// identity returns a hash of all that tells the image from others: of the size,
// what the trailer and the block tables say, which has checksums of the content
// as a rule, and the chunk map. It reads the source only where there are none.
func (im *Image) identity() (id [sha256.Size]byte, err error) {
	h := sha256.New()
	f := fingerprint{h: h}
	f.numbers(uint64(im.plain.size), uint64(im.size), uint64(len(im.tables)), uint64(len(im.chunks)))
	f.bytes([]byte(im.plain.format))
	if k := im.koly; k != nil {
		f.numbers(k.runningOffset, k.data.off, k.data.length, k.rsrc.off, k.rsrc.length, k.xml.off, k.xml.length)
		f.numbers(uint64(k.segment), uint64(k.segments), k.sectors)
		f.bytes(k.segmentSet[:])
		f.checksum(k.dataSum)
		f.checksum(k.masterSum)
	}
	for i := range im.tables {
		t := &im.tables[i]
		f.bytes([]byte(t.name))
		f.numbers(t.first, t.count)
		f.checksum(t.sum)
	}
	for i := range im.chunks {
		c := &im.chunks[i]
		f.numbers(uint64(c.Method), uint64(c.Offset), uint64(c.Length), uint64(c.DataOffset), uint64(c.DataLength))
	}
	if k := im.koly; k != nil && !k.dataSum.says() && !k.masterSum.says() {
		err = im.sample(&f)
	}
	f.flush()
	h.Sum(id[:0])
	return id, err
}

// says reports whether c can tell contents apart.
func (c *checksum) says() bool {
	return c.kind != 0 && len(bytes.Trim(c.sum, "\x00")) > 0
}

// sample adds the ends of up to 128 chunks' data, evenly spread: there the
// checksums of zlib and bzip2 streams are.
func (im *Image) sample(f *fingerprint) error {
	const most, length = 64, 32
	stored := 0
	for i := range im.chunks {
		if im.chunks[i].DataLength > 0 {
			stored++
		}
	}
	k, step := 0, max(1, stored/most)
	for i := range im.chunks {
		c := &im.chunks[i]
		if c.DataLength == 0 {
			continue
		}
		if k++; k%step != 0 {
			continue
		}
		var buf [length]byte
		b := buf[:min(length, c.DataLength)]
		if _, err := im.src.ReadAt(b, c.DataOffset+c.DataLength-int64(len(b))); err != nil {
			return err
		}
		f.bytes(b)
	}
	return nil
}

// fingerprint hashes numbers and byte strings, so that no two sequences of them
// look the same.
type fingerprint struct {
	h hash.Hash
	b []byte
}

func (f *fingerprint) numbers(v ...uint64) {
	for _, n := range v {
		f.b = binary.BigEndian.AppendUint64(f.b, n)
	}
	if len(f.b) > 4<<10 {
		f.flush()
	}
}

func (f *fingerprint) bytes(p []byte) {
	f.numbers(uint64(len(p)))
	f.b = append(f.b, p...)
}

func (f *fingerprint) checksum(c checksum) {
	f.numbers(uint64(c.kind))
	f.bytes(c.sum)
}

func (f *fingerprint) flush() {
	f.h.Write(f.b)
	f.b = f.b[:0]
}

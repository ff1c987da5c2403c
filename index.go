package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/go-dmg/dmg/internal/readat"
)

// Index is a set of checkpoints: places in an image's compressed chunks at which decoding
// can resume. [Image.Index] returns those of an Image, and [Options].Index gives them to a
// later Image of the same file, which need not find them again. For any other image, [Open],
// [OpenFS] and [NewImage] return [ErrStaleIndex].
//
// An Index of an encrypted image holds pieces of the disk that are not encrypted. A forged
// Index makes reads return wrong bytes: take none along with an image from elsewhere.
//
// An Index never changes. Any number of goroutines and Images may use it at once.
type Index struct {
	file []byte // as docs/INDEX.md has it; its frame has been checked
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

// ofIndexAlone reports whether err is an index's fault for sure. If data does not match a
// saved checkpoint, it may be the image's.
func ofIndexAlone(err error) bool { return errors.Is(err, ErrIndex) && !errors.Is(err, ErrChecksum) }

// ReadIndex reads an index that [Index.WriteTo] wrote, up to r's end. The error is [ErrIndex]
// if the index is damaged, or r's own. Opening an image with the index checks whether it is
// the image's, and what it says of the image's chunks.
func ReadIndex(r io.Reader) (*Index, error) {
	var file bytes.Buffer
	file.Grow(sizeHint(r) + bytes.MinRead)
	if _, err := file.ReadFrom(io.LimitReader(readat.Checked(r), maxIndexLen+1)); err != nil {
		return nil, err
	}
	ix := &Index{file: slices.Clip(file.Bytes())}
	if err := ix.check(); err != nil {
		return nil, err
	}
	return ix, nil
}

// sizeHint returns how many bytes r will probably give, if it is a file or in
// memory, lest they be copied again and again.
func sizeHint(r io.Reader) int {
	n := int64(0)
	switch r := r.(type) {
	case interface{ Stat() (fs.FileInfo, error) }:
		if info, err := r.Stat(); err == nil && info.Mode().IsRegular() {
			n = info.Size()
		}
	case interface{ Len() int }:
		n = int64(r.Len())
	}
	return int(min(max(n, 0), maxIndexLen+1))
}

// WriteTo writes the index to w, as [ReadIndex] reads it, and returns how many bytes it
// wrote. The same checkpoints of the same image give the same bytes. The error is w's,
// or [ErrIndex] if ix is the zero value.
func (ix *Index) WriteTo(w io.Writer) (int64, error) {
	if ix.file == nil {
		return 0, badIndex("it is empty: get one from Image.Index")
	}
	n, err := w.Write(ix.file)
	return int64(n), err
}

// Len returns the number of checkpoints. An index without any is of no use: the image has no
// zlib or bzip2 chunks that are large enough to need one, or nothing has been read yet.
func (ix *Index) Len() int {
	if ix.file == nil {
		return 0
	}
	return int(min(ix.count(), maxIndexRaw)) // each takes a byte at least
}

// Index returns the checkpoints that reads have left so far, for [Options].Index of a
// later Image of the same file. After [Image.BuildIndex] these are all of the disk's.
//
// To keep the index below 5 % of the compressed data (or 4 KiB, if that is larger), Index
// thins the checkpoints out to the smallest power-of-two spacing that fits.
//
// Index may be called concurrently with reads. It takes a tenth of a second for each MB
// of the index. The error is the source's if the image stores no checksums and Index
// could not read what tells it from other images, or [ErrIndex] if the image was opened
// with a forged index.
func (im *Image) Index() (*Index, error) {
	id, err := im.identity()
	if err != nil {
		return nil, err
	}
	w := indexWriter{limit: im.indexLimit()}
	for spacing := int64(minSpacing); spacing > 0; spacing *= 2 {
		w.begin()
		if err := im.pack(&w, spacing); err != nil {
			return nil, err
		}
		if file := w.finish(id); file != nil {
			return &Index{file: file}, nil
		}
	}
	// Only a chunk of 2^62 bytes has one to keep whatever the spacing.
	w.begin()
	return &Index{file: w.finish(id)}, nil
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
// chunk, until w is full. Checkpoints that come or go meanwhile may be among them
// or not.
func (e *engine) pack(w *indexWriter, spacing int64) error {
	e.mu.Lock()
	chunks := slices.Sorted(maps.Keys(e.mu.points.chunks))
	e.mu.Unlock()
	r := recordReader{store: &e.store, record: make([]byte, 0, zlibRecordMax)}
	for _, i := range chunks {
		c := &e.chunks[i]
		from := spacing
		if c.Length > spacing {
			from = 0 // the chunk's start, if it is a checkpoint
		}
		for !w.full() {
			p, record, err := r.next(i, from)
			if err != nil {
				return err
			}
			if record == nil {
				break
			}
			if p.off == 0 || p.off >= spacing {
				w.put(c.Method, i, p, record)
			}
			if from = (p.off/spacing + 1) * spacing; from < 0 {
				break // no chunk is so long
			}
		}
	}
	return nil
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

// useIndex takes over the checkpoints of a saved index: packed as they are, if
// the memory limit leaves room for that.
func (im *Image) useIndex(ix *Index) error {
	if ix.file == nil {
		return badIndex("it is empty")
	}
	id, err := im.identity()
	if err != nil {
		return err
	}
	if !bytes.Equal(ix.identity(), id[:]) {
		return ErrStaleIndex
	}
	if ok, err := im.keepPacked(ix); ok || err != nil {
		return err
	}
	return im.unpackAll(ix)
}

// unpackAll takes over the checkpoints of an index that is too large to be kept
// packed. Their records go into the log, where they are thinned out.
func (im *Image) unpackAll(ix *Index) error {
	d, err := ix.directory(im.chunks)
	if err != nil {
		return err
	}
	u := newUnpacker()
	raw := 0
	for d.next() {
		if err := u.unpack(d.data, im.chunks, d.places); err != nil {
			return err
		}
		if raw += len(u.raw); raw > maxIndexRaw {
			return badIndex("more than %d bytes of checkpoints", maxIndexRaw)
		}
		im.mu.Lock()
		for i, p := range d.places {
			im.mu.points.add(p.chunk, checkpoint{off: p.off, in: p.in(im.chunks[p.chunk].Method), sum: p.sum}, u.record(i))
		}
		im.mu.Unlock()
	}
	return d.err
}

package dmg

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/go-dmg/dmg/internal/indexfile"
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
	file indexfile.File
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

// indexError gives an error of package indexfile its class, and the name of the chunk that
// it is about.
func indexError(err error, chunks []Chunk) error {
	if err == nil {
		return nil // what errors.As needs is allocated
	}
	var e *indexfile.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Chunk >= 0 {
		return badIndex("%s a %v", e.Msg, &chunks[e.Chunk])
	}
	return badIndex("%w", err)
}

// directory returns a reader of the index's directory, for an image of these chunks.
func (ix *Index) directory(chunks []Chunk) (*indexfile.Directory, error) {
	d, err := ix.file.Directory(len(chunks), func(i int) indexfile.Chunk {
		c := &chunks[i]
		return indexfile.Chunk{Kind: c.Method.info().records, Length: c.Length, DataLength: c.DataLength}
	})
	return d, indexError(err, chunks)
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
	if _, err := file.ReadFrom(io.LimitReader(readat.Checked(r), indexfile.MaxLen+1)); err != nil {
		return nil, err
	}
	f, err := indexfile.Parse(slices.Clip(file.Bytes()))
	if err != nil {
		return nil, badIndex("%w", err)
	}
	return &Index{file: f}, nil
}

// sizeHint returns how many bytes r will probably give, if it is a file or in
// memory, so that they are not copied again and again.
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
	return int(min(max(n, 0), indexfile.MaxLen+1))
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
// compressed chunks that are large enough to need one, or nothing has been read yet.
func (ix *Index) Len() int {
	if ix.file == nil {
		return 0
	}
	return int(min(ix.file.Count(), indexfile.MaxUnpacked)) // each takes a byte at least
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
	w := indexfile.Writer{Limit: im.indexLimit()}
	for spacing := int64(minSpacing); spacing > 0; spacing *= 2 {
		w.Begin()
		if err := im.pack(&w, spacing); err != nil {
			return nil, err
		}
		if file := w.Finish(id); file != nil {
			return &Index{file: file}, nil
		}
	}
	// Only a chunk of 2^62 bytes has one to keep whatever the spacing.
	w.Begin()
	return &Index{file: w.Finish(id)}, nil
}

// indexLimit returns how long the image's index may be, in bytes.
func (im *Image) indexLimit() int64 {
	var stored uint64
	for i := range im.chunks {
		if c := &im.chunks[i]; c.Method.compressed() {
			stored += uint64(c.DataLength)
		}
	}
	return int64(min(max(stored/indexShare, indexFloor), indexfile.MaxLen))
}

// pack puts all checkpoints into w that are the first in their span of the
// chunk, until w is full. Checkpoints that come or go meanwhile may be among them
// or not.
func (e *engine) pack(w *indexfile.Writer, spacing int64) error {
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
		for !w.Full() {
			p, record, err := r.next(i, from)
			if err != nil {
				return err
			}
			if record == nil {
				break
			}
			if p.off == 0 || p.off >= spacing {
				w.Put(c.Method.info().records, i, p.off, p.sum, record)
			}
			if from = (p.off/spacing + 1) * spacing; from < 0 {
				break // no chunk is so long
			}
		}
	}
	return nil
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
	if !bytes.Equal(ix.file.Identity(), id[:]) {
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
	u := indexfile.NewUnpacker()
	raw := 0
	for d.Next() {
		if err := u.Unpack(d.Data, d.Places); err != nil {
			return indexError(err, im.chunks)
		}
		if raw += u.Size(); raw > indexfile.MaxUnpacked {
			return badIndex("more than %d bytes of checkpoints", indexfile.MaxUnpacked)
		}
		im.mu.Lock()
		for i, p := range d.Places {
			im.mu.points.add(p.Chunk, checkpoint{off: p.Off, in: p.In(), group: noGroup, sum: p.Sum()}, u.Record(i))
		}
		im.mu.Unlock()
	}
	return indexError(d.Err(), im.chunks)
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
	k := im.koly
	if k == nil && im.plain.packed.Length > 0 || k != nil && !k.dataSum.present() && !k.masterSum.present() {
		err = im.sample(&f)
	}
	f.flush()
	h.Sum(id[:0])
	return id, err
}

// present reports whether c can tell contents apart.
func (c *checksum) present() bool {
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

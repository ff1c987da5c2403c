// Package dmg reads Apple disk images: any byte of the disk inside, without
// decoding the rest.
//
// A disk image is a disk cut into chunks, each stored raw, as zeros, or
// compressed. [Open] and [NewImage] read its block tables; the [Image] is an
// [io.ReaderAt] of the disk. A read goes to the chunks it touches, and inside a
// compressed chunk to a checkpoint shortly before, so that it decodes little
// even where a chunk is as large as the disk.
//
// # Formats
//
// UDIF images compressed by zlib (UDZO), bzip2 (UDBZ), LZFSE (ULFO), LZMA (ULMO)
// and ADC (UDCO), and uncompressed ones (UDRO), with a property list or a
// resource fork; sparse images (UDSP) and sparse bundles (UDSB); images split
// into segments; raw disks (UDRW, UDTO); and all of these encrypted by a password
// or for a certificate. The compressions of the 1990s, KenCode, RLE and LZH, are
// not decoded: such an image opens, and reading such a chunk is ErrUnsupported.
// File systems are not this package's business: hand a [Partition] to one.
//
// # Checkpoints
//
// A zlib or bzip2 chunk can only be decoded from its start, at first. The first
// way through it, whoever's read that is, leaves checkpoints at which decoding
// can resume. BuildIndex goes that way for the whole disk, on all cores. The
// other compressions have no checkpoints; their chunks are a megabyte or less in
// the images that Apple's tools write.
//
// # Memory
//
// Decoders, decoded data that is kept for later reads, and checkpoints take up to
// [Options].MemoryLimit bytes together, whatever the image says, however large
// its chunks are, and however many reads there are at a time. The chunk map, 48
// bytes a chunk, comes on top.
//
// # Untrusted images
//
// An image may come from anyone. A hostile one gives an error or some bytes; it
// does not make the package panic, run on without end, or allocate by what it
// claims. The structures are checked when the image is opened, compressed data
// when it is decoded, and checksums by Verify.
package dmg

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/partition"
)

// The classes of errors, to test for with errors.Is. The errors returned say
// more: where in the image, and why. Errors of the source that an image is
// read from are passed on and are of none of these classes.
var (
	// ErrFormat means that the file is no disk image, or that its structures
	// or compressed data are damaged.
	ErrFormat = errors.New("dmg: not a valid disk image")
	// ErrUnsupported means that the image is valid as far as can be told, but
	// uses something that this package does not read.
	ErrUnsupported = errors.New("dmg: unsupported")
	// ErrChecksum means that data decoded, but not to what its checksum says.
	ErrChecksum = errors.New("dmg: checksum mismatch")
	// ErrPassword means that an image is encrypted and that what should open it
	// is missing or wrong. The error is one of the four below as well.
	ErrPassword = errors.New("dmg: encrypted image")
	// ErrMemoryLimit means that a chunk's decoder needs more than
	// Options.MemoryLimit allows.
	ErrMemoryLimit = errors.New("dmg: memory limit too low")
	// ErrIndex means that a saved index can't be used: it is damaged or forged,
	// or it is ErrStaleIndex.
	ErrIndex = errors.New("dmg: not a valid index for this image")
	// ErrStaleIndex means that a saved index is intact, but of another image, or
	// of this one before it changed. It Is ErrIndex. A read's error that Is both
	// ErrStaleIndex and ErrChecksum says that the data before a saved checkpoint
	// is not what it was when the index was made: either the index is stale, or
	// the image has been damaged since. Opened without the index, the image shows
	// which.
	ErrStaleIndex = fmt.Errorf("%w: it is of another image, or of this one before it changed", ErrIndex)
)

// What is the matter with a password or a private key. Each Is [ErrPassword]. Of an image
// that several of them open, the error names what the caller has given, or else the
// password.
var (
	// ErrNoPassword means that a password opens the image, and none was given.
	ErrNoPassword = fmt.Errorf("%w: no password given", ErrPassword)
	// ErrWrongPassword means that the password does not open the image.
	ErrWrongPassword = fmt.Errorf("%w: wrong password", ErrPassword)
	// ErrNoPrivateKey means that only a private key opens the image, and none was
	// given.
	ErrNoPrivateKey = fmt.Errorf("%w: no private key given", ErrPassword)
	// ErrWrongPrivateKey means that the private key does not open the image.
	ErrWrongPrivateKey = fmt.Errorf("%w: wrong private key", ErrPassword)
)

// FormatError says which structure of an image is damaged, and how. It Is
// ErrFormat.
type FormatError struct {
	Section string // such as "koly", "plist", "mish 2", "zlib data"
	Offset  int64  // in bytes from the section's start
	Msg     string // what is wrong there
}

// Error returns section, offset and what is wrong.
func (e *FormatError) Error() string {
	return fmt.Sprintf("dmg: %s at byte %d: %s", e.Section, e.Offset, e.Msg)
}

// Is reports whether target is ErrFormat.
func (e *FormatError) Is(target error) bool { return target == ErrFormat }

// ChunkError is the error of a read that touched a chunk whose data can't be
// decoded. Other chunks can still be read.
type ChunkError struct {
	Chunk Chunk // as Image.Chunks yields it
	Err   error // why it can't be decoded
}

// Error returns the chunk's method and sectors, and why it can't be decoded.
func (e *ChunkError) Error() string {
	return fmt.Sprintf("dmg: %v: %s", e.Chunk, strings.TrimPrefix(e.Err.Error(), "dmg: "))
}

// Unwrap returns the cause, whose class is ErrFormat, ErrUnsupported,
// ErrChecksum, ErrMemoryLimit or, where the image isn't to blame, ErrIndex.
func (e *ChunkError) Unwrap() error { return e.Err }

// alsoError is an error that is of one more class, without its words.
type alsoError struct{ err, class error }

// Error returns the error's own words.
func (e *alsoError) Error() string { return e.err.Error() }

// Unwrap returns the error and the class.
func (e *alsoError) Unwrap() []error { return []error{e.err, e.class} }

// DefaultMemoryLimit is the MemoryLimit in bytes of Options that set none.
const DefaultMemoryLimit = 64 << 20

// Options are what Open and NewImage may be told. The zero value and nil stand
// for the defaults.
type Options struct {
	// Password opens an encrypted image. It is taken byte for byte.
	Password string

	// PrivateKey opens an image that was encrypted for a certificate. It must
	// decrypt RSA with PKCS #1 v1.5 padding.
	PrivateKey crypto.Decrypter

	// MemoryLimit is how many bytes decoders, decoded data kept for later
	// reads, and checkpoints may take together. 0 stands for
	// DefaultMemoryLimit. It holds for any image and any number of concurrent
	// reads, which wait for each other rather than exceed it. The chunk map,
	// 48 bytes a chunk, comes on top.
	MemoryLimit int64

	// Index holds checkpoints that an earlier run saved. Opening fails with
	// ErrIndex if it is of another image. A read fails with it, each time, if
	// what the index has for its place is no checkpoint: it was made so. Without
	// that index the image can be read. Reads that pass a checkpoint in a zlib
	// chunk fail with ErrChecksum, as Verify, Extract and WriteTo do, if the data
	// before it is not what it was when the index was made.
	Index *Index
}

// Image is an open disk image. All methods are safe for concurrent use, except
// that none may be called during or after Close.
type Image struct {
	engine
	plain      container
	partitions []Partition // those that have a block table first
	inner      struct {    // of the disk's own partition table
		sync.Mutex
		known bool
		found []partition.Partition // beside partitions
	}
	tables   []table // in the image's order, which the master checksum follows
	order    []int   // index of each table's partition, -1 of one that is lost
	dataFork struct{ off, length int64 }
	koly     *koly // nil if the image is no UDIF
	defects  []error
}

// Partition is a range of the disk that the image or the disk itself names.
//
// In a UDIF image those come first, in disk order, that have a block table of their
// own, among them the partition map and free space where hdiutil gave these a table.
// [Chunk].Partition and [ChecksumError].Partition count these. If a table's name
// doesn't say what is in it, as that of a table over the whole disk doesn't, the
// partitions of the disk's own partition table follow, in disk order, as far as no
// table has the same range: they lie inside the others. In all other images the
// partitions are those of the disk's partition table.
type Partition struct {
	Name   string // as in the image, such as "disk image (Apple_HFS : 4)"; may be empty
	Type   string // such as "Apple_HFS"; empty if it isn't known
	Offset int64  // in bytes from the disk's start
	Length int64  // in bytes
	Table  bool   // it has a block table of its own

	im *Image
}

// Section returns a reader of the partition's bytes, as [Image.Section] does for any
// range of the disk. The Partition must come from [Image.Partitions].
func (p Partition) Section() *Section { return p.im.Section(p.Offset, p.Length) }

// NewImage opens the disk image that is the first size bytes of r. The image
// reads from r as long as it is used, at times concurrently, as an io.ReaderAt
// allows, and never writes or closes it.
func NewImage(r io.ReaderAt, size int64, opts *Options) (*Image, error) {
	if size < 0 {
		return nil, fmt.Errorf("dmg: NewImage: size %d is negative", size)
	}
	return newImage(container{r: r, size: size}, opts.unlocker(), opts)
}

func (o *Options) unlocker() *crypt.Unlocker {
	if o == nil {
		return crypt.NewUnlocker(crypt.Keys{})
	}
	return crypt.NewUnlocker(crypt.Keys{Password: o.Password, PrivateKey: o.PrivateKey})
}

// newImage opens the image in c. It closes c if it fails.
func newImage(c container, u *crypt.Unlocker, opts *Options) (*Image, error) {
	if opts == nil {
		opts = new(Options)
	}
	im := &Image{plain: c}
	if err := im.open(u, opts); err != nil {
		return nil, errors.Join(err, im.Close())
	}
	return im, nil
}

func (im *Image) open(u *crypt.Unlocker, opts *Options) error {
	limit := opts.MemoryLimit
	switch {
	case limit < 0:
		return fmt.Errorf("dmg: MemoryLimit %d is negative", limit)
	case limit == 0:
		limit = DefaultMemoryLimit
	}
	c := &im.plain
	if c.r != nil {
		ends := &edges{r: c.r, size: c.size}
		c.r = ends
		defer ends.open()
	}
	if err := c.unwrap(u); err != nil {
		return err
	}
	chunks, size, err := im.layout(u)
	if err != nil {
		return err
	}
	m, err := newChunkMap(chunks, size)
	if err != nil {
		return err
	}
	for _, err := range c.defects {
		im.addDefect(err)
	}
	im.engine.init(c.disk, m, limit)
	if opts.Index != nil {
		if err := im.useIndex(opts.Index); err != nil {
			return err
		}
	}
	return im.findPartitions()
}

// Size returns the size of the disk in bytes.
func (im *Image) Size() int64 { return im.size }

// Close closes what Open opened. An image made by NewImage holds nothing open.
func (im *Image) Close() error {
	closers := im.plain.closers
	im.plain.closers = nil
	var errs []error
	for _, c := range slices.Backward(closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Partitions returns the partitions of the disk, in the order that [Partition] says.
// The first call may read the disk's partition table; if the source fails then, its
// partitions are missing, and the next call tries again.
func (im *Image) Partitions() []Partition { return im.allPartitions() }

// maxDefects is how many errors Defects returns at most: an image may have any
// number of damaged parts.
const maxDefects = 100

// Defects returns what was found to be wrong with the image while it was opened,
// though the rest of it can be read: that its file is cut off, that a band is
// missing, or that a block table is damaged. Reads of what is missing return an
// error. There are at most 100 errors; an intact image has none.
func (im *Image) Defects() []error { return slices.Clone(im.defects) }

// addDefect keeps an error for Defects.
func (im *Image) addDefect(err error) {
	if len(im.defects) < maxDefects {
		im.defects = append(im.defects, err)
	}
}

// Chunks yields the chunks of the whole disk in order, from byte 0 to Size.
// Holes, which no block table covers, come as Zero chunks without a partition.
func (im *Image) Chunks() iter.Seq[Chunk] { return im.all() }

// ReadAt reads len(p) bytes of the disk from byte off on, as io.ReaderAt says: a
// short read has an error, which is io.EOF at the disk's end. The error is a
// *ChunkError if a chunk in the range is damaged or unsupported. Then n counts the
// bytes up to the chunk, and those in it that a checksum has confirmed; what else is
// in p may be wrong. Where damage is noticed later, such as in the middle of a zlib
// chunk of which only a part was read, a read may return wrong bytes: Verify notices.
//
// Errors of the source are passed on, and the next read tries again. Concurrent reads
// of one place decode it once; reads of different places don't wait for each other.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	return im.readAt(context.Background(), p, off)
}

// ReadAtContext is ReadAt until ctx is done; then it returns the cause. A read of the
// source that is under way is not interrupted.
func (im *Image) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	return im.readAt(ctx, p, off)
}

// Stats are counters of an Image since it was opened, in bytes where nothing
// else is said.
type Stats struct {
	BytesRead       int64 // returned by ReadAt, or written by WriteTo and Extract
	BytesDecoded    int64 // made by decoders
	SourceBytes     int64 // read from the source, since the image was opened
	SourceReads     int64 // calls of the source's ReadAt
	CacheHits       int64 // times that a read found decoded data
	CheckpointBytes int64 // memory that checkpoints take now
	CacheBytes      int64 // memory that decoded data takes now
	MemoryUsed      int64 // of Options.MemoryLimit, by everything that counts in it, now
}

// Stats returns the counters so far.
func (im *Image) Stats() Stats { return im.stats() }

// Format returns the image's format as hdiutil names it: "UDZO", "UDBZ",
// "ULFO", "ULMO", "UDCO" by the method that compresses most of the disk, "UDRO"
// for a UDIF image that compresses nothing, "UDSP" for a sparse image, "UDSB"
// for a sparse bundle, "UDRW" for a raw disk, "UDTO" for that of a CD or DVD. A
// UDIF image of methods without a name is "UDIF".
func (im *Image) Format() string {
	if im.koly == nil {
		return im.plain.format
	}
	bytes := make(map[Method]int64)
	best, unknown := Raw, false
	for i := range im.chunks {
		switch m := im.chunks[i].Method; {
		case m.compressed():
			bytes[m] += im.chunks[i].Length
			if bytes[m] > bytes[best] || bytes[m] == bytes[best] && m < best {
				best = m
			}
		case !m.zeros() && m != Raw:
			unknown = true
		}
	}
	switch {
	case best != Raw:
		return best.info().format
	case unknown:
		return "UDIF"
	}
	return "UDRO"
}

// Encrypted reports whether the image is encrypted.
func (im *Image) Encrypted() bool { return slices.Contains(im.plain.layers, "encrypted") }

// Layers returns what is wrapped around the disk, outermost first: "encrypted",
// "segments", and "UDIF", "sparse image", "sparse bundle" or "raw".
func (im *Image) Layers() []string {
	layers := slices.Clone(im.plain.layers)
	switch {
	case im.koly != nil:
		layers = append(layers, "UDIF")
	case im.plain.extents == nil:
		layers = append(layers, "raw")
	}
	return layers
}

// Package dmg reads Apple disk images: any file and any byte of the disk inside,
// without decoding the rest.
//
//	im, err := dmg.Open("Installer.dmg", nil)
//	if err != nil { … }
//	defer im.Close()
//	files, err := im.FS()
//	if err != nil { … }
//	data, err := fs.ReadFile(files, "Some.app/Contents/Info.plist")
//	…
//	sector := make([]byte, 512)
//	_, err = im.ReadAt(sector, 1024) // any byte of the disk
//
// A disk image is a disk cut into chunks, each stored raw, as zeros, or
// compressed. [Open], [OpenFS] and [NewImage] read its block tables. The [Image]
// is an [io.ReaderAt] of the disk, [Image.Section] and [Partition.Section] are
// readers of a part. [Image.WriteTo], [Image.Extract] and [Image.Verify] go
// through the whole disk on all cores. [Image.FS] returns the files of HFS+, HFS and
// APFS volumes as an [io/fs.FS]. [Image.Volumes] lists all file systems on the disk.
// [Image.Licenses] and [Image.Signature] tell what an image carries besides.
//
// # Formats
//
// The package reads UDIF images compressed by zlib (UDZO), bzip2 (UDBZ), LZFSE
// (ULFO), LZMA (ULMO) and ADC (UDCO), and uncompressed ones (UDRO), with a
// property list or a resource fork; sparse images (UDSP), sparse bundles (UDSB)
// and the sparse images of macOS 26 (ASIF); images split into segments; raw disks
// (UDRW, UDTO); all of these encrypted by a password or for a certificate; and disks
// in firmware files (IM4P, IMG4) and Apple Encrypted Archives (AEA). It does not decode the
// compressions of the 1990s, KenCode, RLE and LZH: such an image opens, and
// reading such a chunk returns [ErrUnsupported].
//
// # Checkpoints
//
// At first, a compressed chunk can only be decoded from its start. The first
// decoder that goes through it leaves checkpoints, at which later reads resume.
// [Image.BuildIndex] makes those of the whole disk, on all cores. [Image.Index]
// returns them, to be saved and given to a later Image as [Options].Index.
// LZMA chunks have them at the blocks of their .xz streams alone, which the first
// read finds in the stream's index.
//
// # Concurrency
//
// All methods of an Image may be called by many goroutines at once, except that
// none may be called during or after [Image.Close]. Reads of different places
// don't wait for each other. Reads of one place decode it once. No goroutine
// outlives the call that started it.
//
// WriteTo and Extract hold part of the memory limit while they wait for the
// caller's writer and functions. These must not call methods of the same Image:
// that can deadlock.
//
// # Errors
//
// An error is of one of these classes, to be tested with [errors.Is], or it is
// the source's own, which the package passes on:
//
//   - [ErrFormat]: this is no disk image, or it is damaged
//   - [ErrUnsupported]: the image uses something that this package doesn't read
//   - [ErrChecksum]: data decodes, but not to what a checksum says
//   - [ErrPassword]: [ErrNoPassword], [ErrWrongPassword], [ErrNoPrivateKey],
//     [ErrWrongPrivateKey], [ErrNoKey] or [ErrWrongKey]
//   - [ErrMemoryLimit]: a decoder needs more memory than the limit allows
//   - [ErrIndex]: the saved index is damaged or forged, or it is [ErrStaleIndex]
//   - [ErrSeveralVolumes]: Image.FS was to choose, and can't
//
// What the files of a volume are read by returns errors of io/fs, and those of packages
// hfsplus and apfs, which have classes of their own.
//
// [errors.As] finds the place in a [*FormatError], [*ChunkError] or
// [*ChecksumError].
//
// A read that returns fewer bytes than were asked for always returns an error,
// which is [io.EOF] at the disk's end. The bytes before the error are right: of a
// damaged chunk a read returns only those that a checksum confirms. Other chunks
// can still be read. A read that failed leaves nothing behind, so that the next
// one tries again.
//
// A checksum lies at the end of what it covers. A read that does not get there
// can't compare it. To know that an image is intact, call Verify.
//
// # Memory
//
// [Options].MemoryLimit bounds what decoders, the buffers between them and the
// caller, decoded data kept for later reads, and checkpoints take together. The
// limit holds whatever the image says, however large its chunks are, and however
// many reads there are at a time. [Stats].MemoryUsed is how much of it is in use.
//
// These come on top of the limit:
//
//   - the chunk map, 48 bytes a chunk, as long as the Image is in use; of an ASIF image
//     instead of it a megabyte of the image's tables
//   - the property list and the block tables, while the image is opened
//   - the list once more while [Image.Licenses] reads it, and the code signature that
//     [Image.Signature] returns, of 34 MiB at most
//   - of each volume whose files are read, some megabytes of its trees, which packages
//     hfsplus and apfs bound
//   - what Go's garbage collector has not freed yet. The heap may grow to twice
//     what is in use, unless GOGC or GOMEMLIMIT is set, or the program calls
//     [runtime/debug.SetGCPercent] or [runtime/debug.SetMemoryLimit]. The package
//     changes none of these
//
// # Untrusted images
//
// An image may come from anyone. A hostile one gives an error or some bytes. It
// does not make the package panic, run without end, or allocate what the image
// claims to need. The structures are checked when the image is opened, compressed
// data when it is decoded, and all checksums by Verify.
package dmg

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/go-dmg/dmg/internal/aea"
	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/partition"
	"github.com/go-dmg/dmg/internal/readat"
)

// The classes of errors, to test for with [errors.Is]. The errors returned say
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
	// ErrPassword means that an image is encrypted, and that the password, private
	// key or key is missing or wrong. Such an error also Is one of ErrNoPassword,
	// ErrWrongPassword, ErrNoPrivateKey, ErrWrongPrivateKey, ErrNoKey and ErrWrongKey.
	ErrPassword = errors.New("dmg: encrypted image")
	// ErrMemoryLimit means that a chunk's decoder needs more memory than
	// Options.MemoryLimit allows. Open the image with a higher limit. Other chunks
	// can be read.
	ErrMemoryLimit = errors.New("dmg: memory limit too low")
	// ErrIndex means that a saved index can't be used: it is damaged or forged,
	// or the error Is ErrStaleIndex. Open the image without the index.
	ErrIndex = errors.New("dmg: not a valid index for this image")
	// ErrStaleIndex means that a saved index is intact, but of another image, or
	// of this one before it changed. It Is ErrIndex. Make a new index.
	//
	// If a read's error Is both ErrStaleIndex and ErrChecksum, the data before a
	// saved checkpoint has changed since the index was made. Either the image was
	// replaced by another of the same block tables, or it was damaged. To find out
	// which, open the image without the index and call Image.Verify.
	ErrStaleIndex = fmt.Errorf("%w: it is of another image, or of this one before it changed", ErrIndex)
)

// The kinds of [ErrPassword]: each Is ErrPassword too. If an image can be opened by a
// password or by a private key, the error is about the one that was given. If neither was
// given, the error is ErrNoPassword.
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
	// ErrNoKey means that a symmetric key or, of a signed archive, the signer's public
	// key is needed, and none was given. The error says where Apple serves the key of a
	// disk of its own, if the archive does.
	ErrNoKey = fmt.Errorf("%w: no key given", ErrPassword)
	// ErrWrongKey means that the symmetric key, or the signer's public key, does not open
	// the archive. Damage of its header looks the same.
	ErrWrongKey = fmt.Errorf("%w: wrong key", ErrPassword)
)

// FormatError says which structure of an image is damaged, and how. It Is
// [ErrFormat].
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

// Unwrap returns the cause, whose class is [ErrFormat], [ErrUnsupported],
// [ErrChecksum], [ErrMemoryLimit] or [ErrIndex].
func (e *ChunkError) Unwrap() error { return e.Err }

// alsoError is an error that is of one more class, without its words.
type alsoError struct{ err, class error }

// Error returns the error's own words.
func (e *alsoError) Error() string { return e.err.Error() }

// Unwrap returns the error and the class.
func (e *alsoError) Unwrap() []error { return []error{e.err, e.class} }

// DefaultMemoryLimit is the memory limit in bytes where [Options].MemoryLimit is 0.
const DefaultMemoryLimit = 64 << 20

// Options are the settings of [Open], [OpenFS] and [NewImage]. The zero value and nil
// stand for the defaults. The functions don't change Options.
type Options struct {
	// Password opens an encrypted image, and encrypted volumes on the disk. It is taken
	// byte for byte, in UTF-8 as a rule. An image that isn't encrypted needs none and
	// ignores it. The Image keeps it for the volumes.
	Password string

	// PrivateKey opens an image that was encrypted for a certificate, or an encrypted
	// archive (AEA).
	//
	// For a certificate it is a [crypto.Decrypter] that decrypts RSA with PKCS #1 v1.5
	// padding. For an archive it is a key of P-256: the recipient's, or the one with which
	// Apple's servers have wrapped the symmetric key of a disk of a restore image. That
	// is an [*ecdsa.PrivateKey], as [crypto/x509] parses it, an [*ecdh.PrivateKey], or a
	// key in a token with the latter's methods PublicKey and ECDH.
	PrivateKey crypto.PrivateKey

	// Key is the symmetric key of an encrypted archive, 32 bytes. It goes before
	// PrivateKey where either would do.
	Key []byte

	// PublicKey is the signer's key of P-256, an [*ecdsa.PublicKey] or an
	// [*ecdh.PublicKey], of a signed archive that does not name it. Signed shortcuts do.
	PublicKey crypto.PublicKey

	// MemoryLimit is how many bytes decoders, buffers, decoded data kept for later
	// reads, and checkpoints may take together. 0 stands for DefaultMemoryLimit; a
	// negative limit is an error. The limit holds for any image and any number of
	// concurrent reads, which wait for each other rather than exceed it. What does
	// not count is in the package comment's section on memory.
	//
	// Where chunks are bzip2, the limit also says how many cores decode the whole disk: a
	// decoder takes 6.3 MiB. At 64 MiB they are nine, or six in one large chunk; sixteen
	// take 128 MiB, or 160 MiB. Decoders of zlib, LZFSE and ADC take less than 1 MiB.
	MemoryLimit int64

	// Index holds the checkpoints that an earlier run saved. Opening fails with
	// ErrStaleIndex if the index is of another image.
	//
	// If the index holds a forged checkpoint, every read that needs it returns
	// ErrIndex. If the data of a zlib chunk has changed since the index was made,
	// reads that pass a saved checkpoint return an error that Is both ErrChecksum
	// and ErrStaleIndex, and so do Verify, Extract and WriteTo. In either case open
	// the image without the index.
	Index *Index
}

// Image is an open disk image: an [io.ReaderAt] and an [io.WriterTo] of the disk. All
// methods are safe for concurrent use, except that none may be called during or after
// [Image.Close].
type Image struct {
	engine
	plain      container
	partitions []Partition // those that have a block table first
	inner      struct {    // of the disk's own partition table
		sync.Mutex
		known bool
		found []partition.Partition // beside partitions
	}
	volumes  volumes
	tables   []table // in the image's order, which the master checksum follows
	order    []int   // index of each table's partition, -1 of one that is lost
	dataFork struct{ off, length int64 }
	koly     *koly // nil if the image is no UDIF
	defects  []error
}

// Partition is a range of the disk that the image or the disk itself names.
//
// In a UDIF image the partitions that have a block table come first, in disk order.
// The partition map and free space are among them where hdiutil gave these a table.
// [Chunk].Partition and [ChecksumError].Partition are indexes of these.
//
// A table's name may not say what the table covers, as that of a table over the whole
// disk doesn't. Then the partitions of the disk's own partition table follow, in disk
// order. They lie inside the others. Those whose range a block table has too are left out.
//
// In all other images the partitions are those of the disk's own partition table.
type Partition struct {
	Name   string // as in the image, such as "disk image (Apple_HFS : 4)"; may be empty
	Type   string // such as "Apple_HFS"; empty if it isn't known
	Offset int64  // in bytes from the disk's start
	Length int64  // in bytes
	Table  bool   // the partition has a block table of its own

	im *Image
}

// Section returns a reader of the partition's bytes, as [Image.Section] does of any
// range of the disk. The Partition must come from [Image.Partitions]. Packages that read
// file systems take a [Section]: it is an [io.ReaderAt] and an [io.ReadSeeker].
func (p Partition) Section() *Section { return p.im.Section(p.Offset, p.Length) }

// NewImage opens the disk image that is the first size bytes of r. The Image reads from r
// as long as it is in use, also concurrently, as [io.ReaderAt] allows. It never closes r.
//
// An image that was split into files can only be opened by [Open] and [OpenFS], unless the
// files stand one behind the other in r. A sparse bundle, a directory, can only be opened
// by these.
//
// The error is of one of the classes that the package comment lists, or r's own.
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
	key, _ := o.PrivateKey.(crypto.Decrypter)
	return crypt.NewUnlocker(crypt.Keys{Password: o.Password, PrivateKey: key})
}

// archiveKeys returns the keys that may open an encrypted archive.
func (o *Options) archiveKeys() aea.Keys {
	return aea.Keys{Key: o.Key, Password: o.Password, PrivateKey: o.PrivateKey, PublicKey: o.PublicKey}
}

// check returns what is wrong with the options, if anything is.
func (o *Options) check() error {
	if o.MemoryLimit < 0 {
		return fmt.Errorf("dmg: MemoryLimit %d is negative", o.MemoryLimit)
	}
	if _, ok := o.PrivateKey.(crypto.Decrypter); o.PrivateKey != nil && !ok && !aea.IsPrivateKey(o.PrivateKey) {
		return fmt.Errorf("dmg: PrivateKey is a %T, and must be a crypto.Decrypter or a key of P-256", o.PrivateKey)
	}
	if o.PublicKey != nil && !aea.IsPublicKey(o.PublicKey) {
		return fmt.Errorf("dmg: PublicKey is a %T, and must be a key of P-256", o.PublicKey)
	}
	return nil
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
	if err := opts.check(); err != nil {
		return err
	}
	limit := cmp.Or(opts.MemoryLimit, DefaultMemoryLimit)
	c := &im.plain
	c.count = &im.count
	if c.r != nil {
		ends := &readat.Ends{R: c.r, Size: c.size}
		c.r = ends
		defer ends.Forget()
	}
	limit, err := c.unwrap(u, opts.archiveKeys(), limit)
	if err != nil {
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
	if c.mapped != nil {
		im.span = asifDisk{c.mapped}.span
	}
	im.src.inner = len(c.archives) > 0
	im.archived = cmp.Or(opts.MemoryLimit, DefaultMemoryLimit) - limit
	im.count.resetSource()
	password := opts.Password
	im.volumes.password = func() string { return password }
	if opts.Index != nil {
		if err := im.useIndex(opts.Index); err != nil {
			return err
		}
	}
	err = im.findPartitions()
	c.opened = c.archiveStats()
	return err
}

// Size returns the size of the disk in bytes.
func (im *Image) Size() int64 { return im.size }

// Close closes the files that [Open] or [OpenFS] opened, and returns the errors of closing
// them. An Image made by [NewImage] holds nothing open. No other method may be called
// during or after Close. To close an Image twice does no harm.
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
// The first call may read the disk's own partition table. If the source fails then, the
// table's partitions are missing, and the next call tries again.
func (im *Image) Partitions() []Partition {
	parts, _ := im.allPartitions()
	return parts
}

// maxDefects is how many errors Defects returns at most: an image may have any
// number of damaged parts.
const maxDefects = 100

// Defects returns what opening the image found to be wrong with it, though the rest can
// be read: that the file is cut off, that a band is missing, or that a block table is
// damaged. Reads of what is missing return an error. There are at most 100 errors. An
// intact image has none.
func (im *Image) Defects() []error { return slices.Clone(im.defects) }

// addDefect keeps an error for Defects.
func (im *Image) addDefect(err error) {
	if len(im.defects) < maxDefects {
		im.defects = append(im.defects, err)
	}
}

// Chunks yields the chunks of the whole disk in order, from byte 0 to [Image.Size].
// Holes, which no block table covers, come as [Zero] chunks without a partition.
//
// Of an ASIF image, whose tables aren't read at opening, going through the chunks reads
// them. If the source fails, one raw chunk stands for the rest of the disk.
func (im *Image) Chunks() iter.Seq[Chunk] {
	if d := im.plain.mapped; d != nil {
		return asifDisk{d}.chunks
	}
	return im.all()
}

// ReadAt reads len(p) bytes of the disk from byte off on, as [io.ReaderAt] says. If it
// returns fewer bytes, it returns an error too: [io.EOF] at the disk's end, and a
// [*ChunkError] if a chunk in the range is damaged or unsupported. Of a damaged chunk, n
// counts the bytes that a checksum has confirmed; what else is in p may be wrong. A read
// that ends before its decoder notices the damage may return wrong bytes without an
// error; [Image.Verify] reads to the end and notices.
//
// Errors of the source are passed on, and the next read tries again.
//
// ReadAt is safe for concurrent use. Concurrent reads of one place decode it once. Reads of
// different places don't wait for each other, unless there is no memory for both.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	return im.readAt(context.Background(), p, off)
}

// ReadAtContext is [Image.ReadAt] until ctx is done; then it returns the cause. A read of
// the source that is under way is not interrupted.
func (im *Image) ReadAtContext(ctx context.Context, p []byte, off int64) (int, error) {
	return im.readAt(ctx, p, off)
}

// Stats are what an [Image] has done since it was opened, and what memory it takes now. All
// are in bytes but for SourceReads and CacheHits.
type Stats struct {
	BytesRead       int64 // returned by ReadAt, or written by WriteTo and Extract
	BytesDecoded    int64 // made by decoders
	SourceBytes     int64 // read from the source; reads of block tables don't count
	SourceReads     int64 // calls of the source's ReadAt
	CacheHits       int64 // times that a read found decoded data
	CheckpointBytes int64 // memory that checkpoints take now
	CacheBytes      int64 // memory that decoded data takes now
	MemoryUsed      int64 // of Options.MemoryLimit, by everything that counts in it, now
}

// Stats returns the counters so far. It may be called at any time, also while WriteTo or
// Extract call the caller's functions.
func (im *Image) Stats() Stats {
	s := im.stats()
	a := im.plain.archiveStats()
	s.BytesDecoded += a.Decoded - im.plain.opened.Decoded
	s.CacheHits += a.Hits - im.plain.opened.Hits
	s.CacheBytes += a.Cached
	s.MemoryUsed += a.Memory
	return s
}

// Format returns the image's format as hdiutil names it: "UDZO", "UDBZ",
// "ULFO", "ULMO", "UDCO" by the method that compresses most of the disk, "UDRO"
// for a UDIF image that compresses nothing, "UDSP" for a sparse image, "UDSB"
// for a sparse bundle, "ASIF" for that of macOS 26, "UDRW" for a raw disk, "UDTO" for that of a CD or DVD. A
// UDIF image of methods that hdiutil has no name for is "UDIF".
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

// Encrypted reports whether the image is encrypted, or is in an encrypted archive.
func (im *Image) Encrypted() bool {
	return slices.Contains(im.plain.layers, "encrypted") || slices.ContainsFunc(im.plain.archives, (*aea.Reader).Encrypted)
}

// Layers returns what is wrapped around the disk, outermost first: "AEA", "IMG4", "IM4P",
// "LZFSE", "encrypted", "segments", and "UDIF", "sparse image", "sparse bundle", "ASIF" or "raw".
func (im *Image) Layers() []string {
	layers := slices.Clone(im.plain.layers)
	switch {
	case im.koly != nil:
		layers = append(layers, "UDIF")
	case im.plain.raw():
		layers = append(layers, "raw")
	}
	return layers
}

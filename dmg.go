package dmg

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
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
	// ErrPassword means that an image is encrypted and that the password, or
	// the private key, is missing or wrong. The error says which.
	ErrPassword = errors.New("dmg: encrypted image")
	// ErrMemoryLimit means that a chunk's decoder needs more than
	// Options.MemoryLimit allows.
	ErrMemoryLimit = errors.New("dmg: memory limit too low")
	// ErrIndex means that a saved index is damaged, or is another image's.
	ErrIndex = errors.New("dmg: not a valid index for this image")
)

// FormatError says which structure of an image is damaged, and how. It Is
// ErrFormat.
type FormatError struct {
	Section string // such as "koly", "plist", "mish 2", "zlib data"
	Offset  int64  // in bytes from the section's start
	Msg     string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("dmg: %s at byte %d: %s", e.Section, e.Offset, e.Msg)
}

// Is reports whether target is ErrFormat.
func (e *FormatError) Is(target error) bool { return target == ErrFormat }

// ChunkError is the error of a read that touched a chunk whose data can't be
// decoded. Other chunks can still be read.
type ChunkError struct {
	Chunk Chunk
	Err   error
}

func (e *ChunkError) Error() string {
	return fmt.Sprintf("dmg: %v: %s", e.Chunk, strings.TrimPrefix(e.Err.Error(), "dmg: "))
}

// Unwrap returns the cause, whose class is ErrFormat, ErrUnsupported,
// ErrChecksum or ErrMemoryLimit.
func (e *ChunkError) Unwrap() error { return e.Err }

// DefaultMemoryLimit is the MemoryLimit in bytes of Options that set none.
const DefaultMemoryLimit = 64 << 20

// Options are what Open and NewImage may be told. The zero value and nil stand
// for the defaults.
type Options struct {
	// Password opens an encrypted image.
	Password string

	// MemoryLimit is how many bytes decoders, decoded data kept for later
	// reads, and checkpoints may take together. 0 stands for
	// DefaultMemoryLimit. It holds for any image and any number of concurrent
	// reads, which wait for each other rather than exceed it. The chunk map,
	// 48 bytes a chunk, comes on top.
	MemoryLimit int64
}

// Image is an open disk image. All methods are safe for concurrent use, except
// that none may be called during or after Close.
type Image struct {
	engine
	plain      container
	partitions []Partition
	tables     []table // in the image's order, which the master checksum follows
	koly       *koly   // nil if the image is no UDIF
	closers    []io.Closer
}

// Partition is a range of the disk with a name: of one of the block tables.
type Partition struct {
	Name   string // as in the image, such as "disk image (Apple_HFS : 4)"; may be empty
	Offset int64  // in bytes from the disk's start
	Length int64  // in bytes

	im *Image
}

// Open returns a reader of the partition's bytes. It is safe for concurrent
// use as far as io.SectionReader is: ReadAt is, Read and Seek are not.
func (p Partition) Open() *io.SectionReader {
	return io.NewSectionReader(p.im, p.Offset, p.Length)
}

// Open opens the disk image of that name in the file system. Close the Image
// when it is no longer needed.
func Open(name string, opts *Options) (*Image, error) {
	c, err := openFile(name)
	if err != nil {
		return nil, err
	}
	im, err := newImage(c, opts)
	if err != nil {
		return nil, errors.Join(err, closeAll(c.closers))
	}
	return im, nil
}

// NewImage opens the disk image that is the first size bytes of r. The image
// reads from r as long as it is used, concurrently if its own methods are
// called concurrently, and never writes or closes it.
func NewImage(r io.ReaderAt, size int64, opts *Options) (*Image, error) {
	if size < 0 {
		return nil, fmt.Errorf("dmg: NewImage: size %d is negative", size)
	}
	return newImage(container{r: r, size: size}, opts)
}

func newImage(c container, opts *Options) (*Image, error) {
	if opts == nil {
		opts = new(Options)
	}
	limit := opts.MemoryLimit
	switch {
	case limit < 0:
		return nil, fmt.Errorf("dmg: MemoryLimit %d is negative", limit)
	case limit == 0:
		limit = DefaultMemoryLimit
	}
	im := &Image{plain: c, closers: c.closers}
	k, err := findKoly(c.r, c.size)
	if err != nil {
		return nil, err
	}
	var chunks []Chunk
	size := c.size
	if k != nil {
		im.koly = k
		if chunks, size, err = im.readTables(); err != nil {
			return nil, err
		}
	} else if chunks, err = im.plain.rawChunks(); err != nil {
		return nil, err
	}
	m, err := newChunkMap(chunks, size)
	if err != nil {
		return nil, err
	}
	im.engine.init(c.r, m, limit)
	return im, nil
}

// readTables reads the block tables of a UDIF image: its chunks, and the size
// of its disk in bytes.
func (im *Image) readTables() ([]Chunk, int64, error) {
	k, c := im.koly, im.plain
	if k.sectors > maxSectors {
		return nil, 0, &FormatError{Section: "koly", Offset: 0x1EC, Msg: fmt.Sprintf("%d sectors are more than a disk can have", k.sectors)}
	}
	resources, err := k.blockTables(c.r, c.size)
	if err != nil {
		return nil, 0, err
	}
	p := tableParser{dataFork: k.data.off, dataSize: c.size}
	entries := 0
	for _, res := range resources {
		entries += len(res.data) / entryLen
	}
	p.chunks = make([]Chunk, 0, entries)
	sectors := k.sectors
	for i, res := range resources {
		t, err := p.parse(res, i)
		if err != nil {
			return nil, 0, err
		}
		// Images of one partition may be short of the tables' total by what
		// alignment left free; the tables are what is stored.
		sectors = max(sectors, t.first+t.count)
		im.tables = append(im.tables, t)
	}
	order := im.sortPartitions()
	for i := range p.chunks {
		p.chunks[i].Partition = order[p.chunks[i].Partition]
	}
	return p.chunks, int64(sectors) * sectorSize, nil
}

// sortPartitions makes the partitions of the tables, in disk order. It returns
// each table's index among them.
func (im *Image) sortPartitions() []int {
	byTable := make([]int, len(im.tables))
	for i := range byTable {
		byTable[i] = i
	}
	slices.SortStableFunc(byTable, func(a, b int) int {
		return cmp.Compare(im.tables[a].first, im.tables[b].first)
	})
	order := make([]int, len(im.tables))
	for i, t := range byTable {
		order[t] = i
		im.partitions = append(im.partitions, Partition{
			Name:   im.tables[t].name,
			Offset: int64(im.tables[t].first) * sectorSize,
			Length: int64(im.tables[t].count) * sectorSize,
			im:     im,
		})
	}
	return order
}

// Size returns the size of the disk in bytes.
func (im *Image) Size() int64 { return im.size }

// Close closes what Open opened. An image made by NewImage holds nothing open.
func (im *Image) Close() error {
	closers := im.closers
	im.closers = nil
	return closeAll(closers)
}

func closeAll(closers []io.Closer) error {
	var errs []error
	for _, c := range slices.Backward(closers) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Partitions returns the parts of the disk that have a block table of their
// own, in disk order: the partitions, their map, and free space. A raw disk has
// none.
func (im *Image) Partitions() []Partition { return slices.Clone(im.partitions) }

// Chunks yields the chunks of the whole disk in order, from byte 0 to Size.
// Holes, which no block table covers, come as Zero chunks without a partition.
func (im *Image) Chunks() iter.Seq[Chunk] { return im.all() }

// udifFormats are the names that hdiutil has for images compressed by a method.
var udifFormats = map[Method]string{
	ADC:   "UDCO",
	Zlib:  "UDZO",
	Bzip2: "UDBZ",
	LZFSE: "ULFO",
	LZMA:  "ULMO",
}

// Format returns the image's format as hdiutil names it: "UDZO", "UDBZ",
// "ULFO", "ULMO", "UDCO" by the method that compresses most of the disk, "UDRO"
// for a UDIF image that compresses nothing, "UDRW" for a raw disk, "UDTO" for
// the raw image of a CD or DVD. A UDIF image of methods without a name is
// "UDIF".
func (im *Image) Format() string {
	if im.koly == nil {
		return im.plain.format
	}
	var bytes [LZMA - ADC + 1]int64
	unknown := false
	for i := range im.chunks {
		switch m := im.chunks[i].Method; {
		case m.compressed():
			bytes[m-ADC] += im.chunks[i].Length
		case !m.zeros() && m != Raw:
			unknown = true
		}
	}
	best := 0
	for i, n := range bytes {
		if n > bytes[best] {
			best = i
		}
	}
	switch {
	case bytes[best] > 0:
		return udifFormats[ADC+Method(best)]
	case unknown:
		return "UDIF"
	}
	return "UDRO"
}

// Encrypted reports whether the image is encrypted.
func (im *Image) Encrypted() bool { return im.plain.encrypted }

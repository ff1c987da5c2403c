package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sort"

	"github.com/go-dmg/dmg/internal/aea"
	"github.com/go-dmg/dmg/internal/asif"
	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/img4"
	"github.com/go-dmg/dmg/internal/location"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/readat"
	"github.com/go-dmg/dmg/internal/segment"
	"github.com/go-dmg/dmg/internal/sniff"
	"github.com/go-dmg/dmg/internal/sparse"
)

// Open opens the disk image called name in the operating system's file system: a file, a
// block device, the directory that is a sparse bundle, or any file of an image that was
// split, whose other files must be in the same directory. Close the [Image] when it is no
// longer needed. [OpenFS] does the same in any [fs.FS], [NewImage] with any [io.ReaderAt].
//
// The error is of one of the classes that the package comment lists, or the file system's.
func Open(name string, opts *Options) (*Image, error) {
	return open(location.System(name), opts)
}

// OpenFS opens the disk image called name in fsys, as [Open] does in the operating system's
// file system: a file, a directory that is a sparse bundle, or any file of an image that
// was split. The name must satisfy [fs.ValidPath]; "." is fsys itself, if that is a bundle.
//
// The files of fsys must be an [io.ReaderAt], as those of [os.DirFS], [os.Root.FS] and
// [embed.FS] are. Those of [archive/zip.Reader] are not: OpenFS returns [ErrUnsupported], and
// [NewImage] reads an image that the archive stores without compression.
//
// Reads call fsys and its files concurrently, until the Image is closed. OpenFS follows
// links if fsys does. A hostile sparse bundle may have links: open its directory with
// [os.OpenRoot], or use Open, which lets none lead out of the bundle.
func OpenFS(fsys fs.FS, name string, opts *Options) (*Image, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return open(location.In(fsys, name), opts)
}

func open(l location.Location, opts *Options) (*Image, error) {
	u := opts.unlocker()
	c, err := openContainer(l, u)
	if err != nil {
		return nil, err
	}
	return newImage(c, u, opts)
}

// openContainer opens the file or the sparse bundle.
func openContainer(l location.Location, u *crypt.Unlocker) (container, error) {
	f, err := l.FS.Open(l.Name)
	if err != nil {
		return container{}, l.Named(err)
	}
	c, err := takeFile(l, f, u)
	if err != nil || c.r == nil {
		f.Close() // of a bundle, it is the directory
	}
	return c, err
}

// takeFile makes a container of the open file f.
func takeFile(l location.Location, f fs.File, u *crypt.Unlocker) (container, error) {
	if bundle := l.Around(); bundle != "" {
		return container{}, &FormatError{Section: "file", Msg: fmt.Sprintf("a part of a sparse bundle: open the bundle's directory instead, %s", bundle)}
	}
	info, err := f.Stat()
	if err != nil {
		return container{}, l.Named(err)
	}
	if info.IsDir() {
		return openBundle(l, u)
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return container{}, fmt.Errorf("%w: %s: the file system's files (%T) are no io.ReaderAt: copy the file to where it can be read at any offset, or into memory, and use NewImage", ErrUnsupported, l.Name, f)
	}
	c := container{r: r, size: info.Size(), location: l, closers: []io.Closer{f}}
	if s, ok := f.(io.Seeker); ok && !info.Mode().IsRegular() { // a block device has a size, but not there
		c.size, err = s.Seek(0, io.SeekEnd)
	}
	if err == nil && c.size < 0 {
		err = fmt.Errorf("size %d is negative", c.size)
	}
	if err != nil {
		return container{}, l.Named(err)
	}
	return c, nil
}

// openBundle opens the sparse bundle that the directory is.
func openBundle(l location.Location, u *crypt.Unlocker) (container, error) {
	dir, root, err := l.OpenBundle()
	if err != nil {
		return container{}, l.Named(err)
	}
	b, err := sparse.OpenBundle(dir, func(token io.ReaderAt, size int64) (sparse.Decrypter, error) {
		c, err := u.Unlock(token, size)
		if err != nil {
			return nil, err
		}
		return func(r io.ReaderAt, size int64) sparse.Sized { return c.Reader(r, size) }, nil
	})
	if err != nil {
		root.Close()
		// To the caller this would say that there is nothing of that name.
		if path := (*fs.PathError)(nil); errors.Is(err, fs.ErrNotExist) && errors.As(err, &path) {
			err = &FormatError{Section: "directory", Msg: "no sparse bundle, because it lacks " + path.Path}
		}
		return container{}, wrapError(err)
	}
	c := container{size: b.Size(), location: l, closers: []io.Closer{root, b}}
	c.note(b.Defects())
	if b.Encrypted() {
		c.layers = append(c.layers, "encrypted")
	}
	c.layers = append(c.layers, "sparse bundle")
	c.disk, c.extents, c.format = b, b.Extents(), "UDSB"
	return c, nil
}

// A container is a file that holds an image, with what is wrapped around it
// taken off one by one: each wrapping is an io.ReaderAt over the one outside.
type container struct {
	r        io.ReaderAt
	size     int64
	location location.Location // of the file; the zero value if the caller gave an io.ReaderAt
	layers   []string          // what has been taken off, outermost first
	closers  []io.Closer
	defects  []error // what is wrong with it though the rest can be read
	lost     int64   // bytes that were cut off the end of an encrypted file

	archives []*aea.Reader // that were taken off, outermost first
	opened   aea.Stats     // of them, when the image was opened
	count    *counters     // what is read of the source below the first archive

	disk    io.ReaderAt             // of a format without block tables: what extents lie in
	extents iter.Seq[sparse.Extent] // of that disk; nil if it is r itself
	mapped  *asif.Disk              // that disk, where its extents are looked up when they are needed
	packed  Chunk                   // of a disk that is one compressed chunk
	format  string                  // hdiutil's name for it
}

// maxWrappings is how many layers are taken off before what is in the last is looked at.
const maxWrappings = 4

// raw reports whether nothing says what of the disk is stored: all of it is.
func (c *container) raw() bool { return c.extents == nil && c.mapped == nil }

// unwrap takes archives, firmware files and encryption off, and finds out whether what is
// inside is a sparse image or an ASIF. It returns what the archives leave of the memory limit.
func (c *container) unwrap(u *crypt.Unlocker, keys aea.Keys, limit int64) (int64, error) {
	if c.disk != nil {
		return limit, nil
	}
	var head []byte
	for before := -1; before < len(c.layers); {
		if before = len(c.layers); before > maxWrappings {
			return 0, fmt.Errorf("%w: more than %d containers inside each other", ErrUnsupported, maxWrappings)
		}
		head = make([]byte, min(img4.HeaderLen, c.size)) // in one read, for all kinds of container
		_, err := readat.Full(c.r, head, 0)
		switch {
		case err != nil:
		case aea.Is(head):
			limit, err = c.takeArchive(keys, limit)
		case img4.Is(head) && !slices.Contains(c.layers, "IM4P"):
			err = c.openFirmware()
		case !slices.Contains(c.layers, "encrypted"):
			err = c.decrypt(u)
		}
		if err != nil || c.disk != nil {
			return limit, wrapError(err)
		}
	}
	switch {
	case bytes.HasPrefix(head, []byte(asif.Magic)):
		return limit, c.openASIF()
	case bytes.HasPrefix(head, []byte("sprs")):
		return limit, c.openSparse()
	}
	return limit, nil
}

// openFirmware takes an IM4P off, and an IMG4 around it. A payload that is compressed is a
// disk of one chunk.
func (c *container) openFirmware() error {
	p, err := img4.Find(c.r, c.size)
	if err != nil {
		return err
	}
	c.layers = append(c.layers, p.Layers...)
	c.r, c.size = io.NewSectionReader(c.r, p.Off, p.Length), p.Length
	switch {
	case p.Encrypted:
		return fmt.Errorf("%w: the payload of type %q is encrypted with keys that Apple's devices have: decrypt it first, and open what comes out", ErrUnsupported, p.Type)
	case p.Compression == img4.LZFSE:
		return c.openLZFSE(p.Size)
	case p.Compression != img4.None:
		return fmt.Errorf("%w: the payload of type %q is compressed by LZSS or an unknown algorithm: extract it first", ErrUnsupported, p.Type)
	}
	return nil
}

// openLZFSE makes the container a disk of one LZFSE chunk, of so many bytes, if size isn't
// 0. Only its beginning is decoded, to see whether it is a disk.
func (c *container) openLZFSE(size int64) (err error) {
	if size == 0 {
		if size, err = lzfse.Length(c.r, c.size); err != nil {
			return err
		}
	}
	z := new(lzfse.Reader)
	z.Reset(io.NewSectionReader(c.r, 0, c.size))
	head := make([]byte, min(size, diskHead))
	n, err := io.ReadFull(z, head)
	if corrupt := (*lzfse.CorruptError)(nil); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF && !errors.As(err, &corrupt) {
		return err // the source's: damage of the stream is met by reads
	}
	inside := container{r: bytes.NewReader(head[:n]), size: int64(n), layers: append(c.layers, "LZFSE")}
	if err := inside.rawDisk(); err != nil {
		return err
	}
	c.packed = Chunk{Method: LZFSE, Length: size, DataLength: c.size, Partition: -1}
	c.layers, c.disk, c.format, c.size = inside.layers, c.r, inside.format, size
	return nil
}

// openASIF makes the disk in an ASIF image the container's.
func (c *container) openASIF() error {
	d, err := asif.Open(c.r, c.size)
	if err != nil {
		return wrapError(err)
	}
	c.layers = append(c.layers, "ASIF")
	c.disk, c.mapped, c.format = asifDisk{d}, d, "ASIF"
	c.size, c.lost = d.Size(), 0
	c.note(d.Defects())
	return nil
}

// asifDisk is the disk in an ASIF image. To read what is damaged is an error of a chunk.
type asifDisk struct{ *asif.Disk }

// ReadAt implements io.ReaderAt.
func (d asifDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.Disk.ReadAt(p, off)
	if wrong := (*asif.FormatError)(nil); errors.As(err, &wrong) {
		x, atErr := d.At(off+int64(n), 1)
		if atErr != nil {
			return n, atErr
		}
		err = &ChunkError{asifChunk(x), wrapError(wrong)}
	}
	return n, err
}

// span is what a reader takes at once: zeros, or what is stored or damaged.
func (d asifDisk) span(off, data, hole int64) (length int64, zero bool, err error) {
	x, err := d.Span(off, data, hole)
	return x.Length, x.Hole, err
}

// chunks yields the extents of the disk.
func (d asifDisk) chunks(yield func(Chunk) bool) {
	for x := range d.Extents {
		if !yield(asifChunk(x)) {
			return
		}
	}
}

// asifChunk returns an extent as a chunk: a raw one without data, if it is damaged.
func asifChunk(x asif.Extent) Chunk {
	c := Chunk{Method: Raw, Offset: x.Offset, Length: x.Length, DataOffset: x.DataOffset, DataLength: x.Length, Partition: -1}
	switch {
	case x.Hole:
		c.Method, c.DataLength = Zero, 0
	case x.Err != nil:
		c.DataLength = 0
	}
	return c
}

// openSparse makes the disk in a sparse image the container's.
func (c *container) openSparse() error {
	s, err := sparse.OpenImage(c.r, c.size)
	if err != nil {
		return wrapError(err)
	}
	c.layers = append(c.layers, "sparse image")
	c.disk, c.extents, c.format = c.r, s.Extents(), "UDSP"
	c.size, c.lost = s.Size(), 0
	c.note(s.Defects())
	return nil
}

// takeArchive takes an encrypted archive off, and returns what it leaves of the memory limit.
// Its error is package aea's.
func (c *container) takeArchive(keys aea.Keys, limit int64) (int64, error) {
	src := c.r
	if len(c.archives) == 0 {
		src = newSource(src, c.count)
	}
	r, err := aea.Open(src, c.size, keys, limit)
	if err != nil {
		return 0, err
	}
	if c.lost, err = r.Missing(); err != nil {
		return 0, err
	}
	if c.lost > 0 {
		c.defects = append(c.defects, &FormatError{Section: "encrypted archive", Offset: c.size, Msg: fmt.Sprintf("the file is cut off: %d bytes of what it holds are missing", c.lost)})
	}
	c.archives = append(c.archives, r)
	c.layers = append(c.layers, "AEA")
	c.r, c.size = archiveData{r}, r.Size()-c.lost
	return limit - r.Reserved(), nil
}

// archiveData is the content of an encrypted archive. What is wrong with a segment is an
// error of the image, not of the source.
type archiveData struct{ *aea.Reader }

// ReadAt implements io.ReaderAt.
func (a archiveData) ReadAt(p []byte, off int64) (int, error) {
	n, err := a.Reader.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = wrapError(err)
	}
	return n, err
}

// passDamage notes damage of an archive's last segments, where a trailer was looked for, and
// returns any other error: a raw disk has none.
func (c *container) passDamage(err error) error {
	if len(c.archives) == 0 || !isDamage(err) {
		return err
	}
	if !slices.ContainsFunc(c.defects, func(d error) bool { return d.Error() == err.Error() }) {
		c.defects = append(c.defects, err)
	}
	return nil
}

// archiveStats returns the sum over all archives.
func (c *container) archiveStats() (s aea.Stats) {
	for _, r := range c.archives {
		a := r.Stats()
		s.Decoded += a.Decoded
		s.Hits += a.Hits
		s.Cached += a.Cached
		s.Memory += a.Memory
	}
	return s
}

// note keeps the defects that a container package found, in its words.
func (c *container) note(defects []error) {
	for _, err := range defects {
		c.defects = append(c.defects, wrapError(err))
	}
}

// decrypt takes encryption off, if there is any. Its error is package crypt's.
func (c *container) decrypt(u *crypt.Unlocker) error {
	v, err := crypt.Detect(c.r, c.size)
	if err = c.passDamage(err); err != nil || v == crypt.None {
		return err
	}
	r, err := u.Open(c.r, c.size)
	if err != nil {
		return err
	}
	if c.lost = r.Missing(); c.lost > 0 {
		c.defects = append(c.defects, &FormatError{Section: "encrypted file", Offset: c.size, Msg: fmt.Sprintf("the file is cut off: %d bytes are missing", c.lost)})
	}
	c.r, c.size = r, r.Size()
	c.layers = append(c.layers, "encrypted")
	return nil
}

// joinSegments opens the other files of an image that was split, of which c is one,
// and returns the joined data fork and the first file's trailer. What c is read from
// is then that file, which has the tables.
func (c *container) joinSegments(k *koly, u *crypt.Unlocker) (joinedData, *koly, error) {
	s, err := c.openSegments(k, u)
	if err != nil {
		return joinedData{}, nil, err
	}
	c.note(s.Defects())
	first := s.First()
	c.r, c.size = first.R, first.Size
	k, err = findKoly(c.r, c.size)
	if err == nil && k == nil {
		err = &FormatError{Section: first.Name, Msg: "no trailer that this package reads"}
	}
	return joinedData{s}, k, err
}

// joinedData is the data of a split image. To read what is missing of it is an error
// of the image, not of the source.
type joinedData struct{ *segment.Reader }

// ReadAt implements io.ReaderAt.
func (j joinedData) ReadAt(p []byte, off int64) (int, error) {
	n, err := j.Reader.ReadAt(p, off)
	if errors.Is(err, segment.ErrCut) {
		err = wrapError(err)
	}
	return n, err
}

// openSegments finds the files: behind each other in c itself, or beside it.
func (c *container) openSegments(k *koly, u *crypt.Unlocker) (*segment.Reader, error) {
	if k.segment == k.segments {
		name := "the file"
		if c.location.Name != "" {
			name = c.location.Name
		}
		parts, err := segment.Concatenated(name, c.r, c.size)
		if err != nil {
			return nil, err
		}
		if parts != nil {
			s, err := segment.Join(parts)
			if err == nil {
				c.layers = append(c.layers, "segments")
			}
			return s, wrapError(err)
		}
	}
	if c.location.FS == nil {
		return nil, fmt.Errorf("%w: the image is split into %d files: open one of them by its name with Open or OpenFS", ErrUnsupported, k.segments)
	}
	unwrap := func(name string, r io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
		part := container{r: r, size: size}
		err := part.decrypt(u)
		return part.r, part.size, err
	}
	s, err := segment.Open(c.location.FS, c.location.Name, unwrap)
	if errors.Is(err, segment.ErrMissing) {
		err = fmt.Errorf("%w: all files of the image must be in one directory", err)
	}
	if err != nil {
		return nil, wrapError(err)
	}
	c.layers = append(c.layers, "segments")
	c.closers = append(c.closers, s)
	return s, nil
}

// maxSplits bounds how many chunks withoutData makes more than there were.
const maxSplits = 1 << 16

// withoutData takes off chunks what is missing of the data they are stored in, in
// order, so that reading it is an error of those chunks. A raw chunk goes on behind
// it, from the next sector on.
func withoutData(chunks []Chunk, missing []segment.Range) []Chunk {
	if len(missing) == 0 {
		return chunks
	}
	most := len(chunks) + maxSplits
	for i := 0; i < len(chunks); i++ { // those that are added as well
		c := &chunks[i]
		j := sort.Search(len(missing), func(j int) bool { return missing[j].Off+missing[j].Len > c.DataOffset })
		if j == len(missing) || c.DataLength == 0 || missing[j].Off >= c.DataOffset+c.DataLength {
			continue
		}
		m, rest := missing[j], *c
		c.DataLength = max(0, m.Off-c.DataOffset)
		n := roundUp(m.Off+m.Len-c.DataOffset, sectorSize)
		if c.Method != Raw || n >= min(rest.Length, rest.DataLength) || len(chunks) == most {
			continue
		}
		c.Length = n
		rest.Offset, rest.Length = rest.Offset+n, rest.Length-n
		rest.DataOffset, rest.DataLength = rest.DataOffset+n, rest.DataLength-n
		chunks = append(chunks, rest)
	}
	return chunks
}

// noteCutDisk notes that a disk ends before its partitions do. Where no container
// says how long the disk is, in a raw image or a UDIF of raw chunks that has lost its
// end, nothing else tells of a copy that broke off.
func (im *Image) noteCutDisk(end int64) {
	if end > im.size && im.koly == nil && im.plain.raw() && im.plain.format != "UDTO" {
		im.addDefect(&FormatError{Section: "disk", Offset: im.size, Msg: fmt.Sprintf("cut short: its partitions reach to byte %d, the disk only to %d", end, im.size)})
	}
}

// diskMarks are the signatures that tell a raw disk from any other file.
var diskMarks = []struct {
	offset int64
	magic  string
	format string
}{
	{32769, "CD001", "UDTO"},  // ISO 9660 volume descriptor
	{512, "EFI PART", "UDRW"}, // GUID partition table
	{510, "\x55\xAA", "UDRW"}, // master boot record
	{0, "ER", "UDRW"},         // Apple driver descriptor map
	{1024, "H+", "UDRW"},      // HFS+
	{1024, "HX", "UDRW"},      // HFSX
	{1024, "BD", "UDRW"},      // HFS
	{32, "NXSB", "UDRW"},      // APFS container

	{1080, "\x53\xEF", "UDRW"},      // ext2, ext3, ext4
	{4096, "EFI PART", "UDRW"},      // GUID partition table of sectors of 4096 bytes
	{512, "PM\x00\x00", "UDRW"},     // Apple partition map without a driver descriptor
	{4086, "SWAPSPACE2", "UDRW"},    // Linux swap
	{512, "LABELONE", "UDRW"},       // Linux LVM
	{0, "LUKS\xBA\xBE", "UDRW"},     // Linux encryption
	{0, "XFSB", "UDRW"},             // XFS
	{65600, "_BHRfS_M", "UDRW"},     // Btrfs
	{3, "ReFS\x00\x00\x00", "UDRW"}, // ReFS
	{3, "-FVE-FS-", "UDRW"},         // BitLocker
}

// diskHead is how much of a disk rawDisk looks at.
const diskHead = 68 << 10

// rawDisk takes what is no image for a disk itself. A file without any sign of a
// disk is refused: to serve any file as a disk would hide that it is no image.
func (c *container) rawDisk() error {
	for _, mark := range diskMarks {
		b := make([]byte, len(mark.magic))
		if mark.offset+int64(len(b)) > c.size {
			continue
		}
		if _, err := readat.Full(c.r, b, mark.offset); err != nil {
			return err
		}
		if string(b) == mark.magic {
			return c.takeRaw(mark.format)
		}
	}
	udf, err := c.isUDF()
	if err != nil {
		return err
	}
	if udf {
		return c.takeRaw("UDTO")
	}
	return c.noImage()
}

// takeRaw takes the file for a disk. A UDIF image whose first chunks are raw looks
// like one if its trailer is missing, and may be read as one as far as they go.
func (c *container) takeRaw(format string) error {
	tail := make([]byte, min(c.size, readat.EndLen)) // which has been fetched with the trailer's place
	if _, err := readat.Full(c.r, tail, c.size-int64(len(tail))); c.passDamage(err) != nil {
		return err
	}
	if sniff.EndsLikeUDIF(tail) {
		c.defects = append(c.defects, &FormatError{Section: "file", Offset: c.size,
			Msg: "it ends like a UDIF image whose trailer is missing: it is cut off (an incomplete download?), and read as a raw disk"})
	}
	c.disk, c.format = c.r, format
	c.size += c.lost
	return nil
}

// isUDF looks for a volume recognition sequence of UDF (ECMA-167, part 2): from byte
// 32768 on, descriptors of 2048 bytes, of which one begins the extended area and the
// next ones name what is there. A disc that has ISO 9660 too has that first.
func (c *container) isUDF() (bool, error) {
	const start, length, most = 32768, 2048, 16
	begun := false
	for i := int64(0); i < most && start+(i+1)*length <= c.size; i++ {
		var id [6]byte
		if _, err := readat.Full(c.r, id[:], start+i*length); err != nil {
			return false, err
		}
		switch string(id[1:]) {
		case "BEA01":
			begun = true
		case "NSR02", "NSR03":
			return begun, nil
		case "BOOT2", "CD001", "CDW02", "TEA01":
		default:
			return false, nil
		}
	}
	return false, nil
}

// noImage returns what is wrong with a file in which neither an image nor a disk was
// found.
func (c *container) noImage() error {
	section := "file"
	if n := len(c.layers); n > 0 {
		switch section = "what is encrypted"; c.layers[n-1] {
		case "encrypted":
		case "AEA":
			section = "what is in the archive"
		default:
			section = "what is in the " + c.layers[n-1]
		}
	}
	if c.lost > 0 {
		return &FormatError{Section: section, Offset: c.size, Msg: fmt.Sprintf("the file is cut off: the image in it can't be read without the %d bytes that are missing", c.lost)}
	}
	kind, ok, err := sniff.Identify(c.r, c.size)
	switch {
	case err != nil:
		return err
	case !ok:
		return &FormatError{Section: section, Msg: "neither a disk image nor a raw disk: it has no mark of either"}
	case kind.Image:
		return fmt.Errorf("%w: %v", ErrUnsupported, kind)
	}
	return &FormatError{Section: section, Msg: kind.String()}
}

// chunks returns the stored ranges of a disk without block tables as raw chunks.
func (c *container) chunks() []Chunk {
	switch {
	case c.size == 0:
		return nil
	case c.packed.Length > 0:
		return []Chunk{c.packed}
	case c.extents == nil:
		return []Chunk{{Method: Raw, Length: c.size, DataLength: c.size - c.lost, Partition: -1}}
	}
	var chunks []Chunk
	_, bundle := c.disk.(*sparse.Bundle)
	for x := range c.extents {
		if x.Hole {
			continue
		}
		at := x.DataOffset
		if bundle && x.Stored > 0 {
			at = x.Offset // its bands are files of their own
		}
		chunks = append(chunks, Chunk{Method: Raw, Offset: x.Offset, Length: x.Length, DataOffset: at, DataLength: x.Stored, Partition: -1})
	}
	return chunks
}

// wrapError gives an error of a container package its class here. The source's
// own errors stay as they are.
func wrapError(err error) error {
	var c *crypt.FormatError
	var s *sparse.FormatError
	var a *asif.FormatError
	var f *img4.FormatError
	var z *lzfse.CorruptError
	var part *segment.PartError
	var archive *aea.FormatError
	switch {
	case errors.As(err, new(*classError)):
		return err // of an archive inside another
	case errors.Is(err, crypt.ErrPassword):
		return &classError{passwordClass(err), err}
	case errors.Is(err, aea.ErrPassword):
		return &classError{passwordClass(err), err}
	case errors.Is(err, crypt.ErrUnsupported), errors.Is(err, sparse.ErrUnsupported), errors.Is(err, aea.ErrUnsupported):
		return &classError{ErrUnsupported, err}
	case errors.Is(err, aea.ErrChecksum):
		return &classError{ErrChecksum, err}
	case errors.Is(err, aea.ErrMemory):
		return &classError{ErrMemoryLimit, err}
	case errors.As(err, &archive):
		return &FormatError{Section: "encrypted archive's " + archive.Section, Offset: archive.Offset, Msg: archive.Msg}
	case errors.As(err, &c):
		section := "encryption header"
		if errors.As(err, &part) {
			section = part.Name + ": " + section
		}
		return &FormatError{Section: section, Offset: c.Offset, Msg: c.Msg}
	case errors.As(err, &s):
		section := "sparse image"
		if s.File != "" {
			section = "sparse bundle's " + s.File
		}
		return &FormatError{Section: section, Offset: s.Offset, Msg: s.Msg}
	case errors.As(err, &f):
		return &FormatError{Section: "IM4P", Offset: f.Offset, Msg: f.Msg}
	case errors.As(err, &z):
		return &FormatError{Section: "LZFSE data", Offset: z.Offset, Msg: z.Msg}
	case errors.As(err, &a):
		return &FormatError{Section: "ASIF", Offset: a.Offset, Msg: a.Msg}
	case slices.ContainsFunc(segmentErrors, func(class error) bool { return errors.Is(err, class) }):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}

// passwordClass returns the class of an error that is crypt.ErrPassword or aea.ErrPassword.
func passwordClass(err error) error {
	for _, c := range []struct{ inside, class error }{
		{crypt.ErrNoPassword, ErrNoPassword},
		{crypt.ErrWrongPassword, ErrWrongPassword},
		{crypt.ErrNoPrivateKey, ErrNoPrivateKey},
		{crypt.ErrWrongPrivateKey, ErrWrongPrivateKey},
		{aea.ErrNoPassword, ErrNoPassword},
		{aea.ErrWrongPassword, ErrWrongPassword},
		{aea.ErrNoPrivateKey, ErrNoPrivateKey},
		{aea.ErrWrongPrivateKey, ErrWrongPrivateKey},
		{aea.ErrNoKey, ErrNoKey},
		{aea.ErrWrongKey, ErrWrongKey},
	} {
		if errors.Is(err, c.inside) {
			return c.class
		}
	}
	return ErrPassword
}

// segmentErrors are what can be wrong with a segment itself. Other errors in a
// segment.PartError are those of the file system, or of what is around it.
var segmentErrors = []error{segment.ErrMissing, segment.ErrForeign, segment.ErrOrder, segment.ErrFormat}

// classError is an error whose own words say enough, with a class.
type classError struct{ class, err error }

func (e *classError) Error() string   { return "dmg: " + e.err.Error() }
func (e *classError) Unwrap() []error { return []error{e.class, e.err} }

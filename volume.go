package dmg

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/fsname"
)

// Volume is a file system on the disk, by what is there, whatever a partition's type says.
type Volume struct {
	// Name is the volume's name as Finder shows it, in NFC. It may be empty, and may
	// hold any character, slashes too.
	Name string

	// Type is the file system's usual name, such as "HFS+", "HFSX", "APFS", "HFS",
	// "FAT32", "exFAT", "ISO 9660", "UDF", "NTFS" or "ext4". What is no file system,
	// but stands in a partition in place of one, has a type too, such as "LUKS" or
	// "Linux swap".
	Type string

	// Partition is an index of Image.Partitions, or -1 if the file system is in none
	// of these: where the disk has no partition table, and on a disc that is ISO 9660
	// as a whole.
	Partition int

	// Offset and Length are the file system's place in bytes of the disk. Those of an
	// APFS volume are its container's.
	Offset, Length int64

	BlockSize int64 // the file system's unit of allocation in bytes; 0 if it isn't known
	Used      int64 // bytes that are allocated; -1 if that isn't known

	// Files is how many files the volume has, as its header says; -1 if that isn't
	// known. HFS+ counts files there that users don't see.
	Files int64

	// Role is what an APFS volume is for, such as "system" or "preboot". It is empty
	// for a volume like any other.
	Role string

	// Encrypted means that the volume can't be read without a key of its own. A volume
	// in an encrypted image isn't, once the image is open.
	Encrypted bool

	hidden bool // users don't see it mounted
	files  *volumeFiles
}

// ErrSeveralVolumes means that [Image.FS] can't choose among several volumes. The error
// lists them. Take one of [Image.Volumes].
var ErrSeveralVolumes = errors.New("dmg: several volumes")

// A fileSystem is one whose files can be read.
type fileSystem struct {
	// volumes returns the volumes of what v names, which size bytes of r hold. A password
	// is for those that are encrypted by themselves.
	volumes func(v Volume, r io.ReaderAt, size int64, password string) ([]Volume, error)

	// classes are pairs of a class of its package's errors, and of this one's.
	classes [][2]error
}

// fileSystems are those whose files can be read, by the type that fsname gives them.
var fileSystems = map[string]fileSystem{
	"HFS+": {files(hfsplus.New), hfsPlusClasses},
	"HFSX": {files(hfsplus.New), hfsPlusClasses},
	"HFS":  {files(hfsplus.New), hfsPlusClasses},
	"APFS": {apfsVolumes, apfsClasses},
}

var hfsPlusClasses = [][2]error{{hfsplus.ErrFormat, ErrFormat}, {hfsplus.ErrUnsupported, ErrUnsupported}}

// The more exact classes come first.
var apfsClasses = [][2]error{
	{apfs.ErrNoPassword, ErrNoPassword}, {apfs.ErrWrongPassword, ErrWrongPassword},
	{apfs.ErrChecksum, ErrChecksum}, {apfs.ErrFormat, ErrFormat}, {apfs.ErrUnsupported, ErrUnsupported},
}

// classOf returns this package's class of a file system's error, or nil.
func classOf(err error, classes [][2]error) error {
	for _, c := range classes {
		if errors.Is(err, c[0]) {
			return c[1]
		}
	}
	return nil
}

// files makes a function volumes for a file system that is one volume.
func files[F fs.FS](open func(r io.ReaderAt, size int64) (F, error)) func(Volume, io.ReaderAt, int64, string) ([]Volume, error) {
	return func(v Volume, r io.ReaderAt, size int64, _ string) ([]Volume, error) {
		v.files = &volumeFiles{open: func() (fs.FS, error) { return open(r, size) }}
		return []Volume{v}, nil
	}
}

// apfsVolumes returns the volumes of a container. What of it is damaged stays the container,
// whose FS says why.
func apfsVolumes(container Volume, r io.ReaderAt, size int64, password string) ([]Volume, error) {
	opts := &apfs.Options{Password: password}
	lost := container
	lost.files = &volumeFiles{open: func() (fs.FS, error) {
		c, err := apfs.New(r, size, opts)
		if err == nil {
			_, err = c.Volumes()
		}
		if err == nil { // it is only now that it could be read
			err = fmt.Errorf("%w: some volumes were not found; open the image again", apfs.ErrFormat)
		}
		return nil, err
	}}
	c, err := apfs.New(r, size, opts)
	if err != nil {
		if isLastingDamage(err) {
			return []Volume{lost}, nil
		}
		return nil, err
	}
	list, err := c.Volumes()
	if err != nil && !isLastingDamage(err) {
		return nil, err
	}
	var all []Volume
	for _, a := range list {
		v := container
		v.Name, v.Role, v.Encrypted = a.Name, a.Role, a.Encrypted
		v.Files = int64(min(a.Files, math.MaxInt64))
		v.hidden = v.hidden || slices.Contains(hiddenRoles, v.Role)
		v.files = &volumeFiles{open: func() (fs.FS, error) { return a.FS() }}
		v.files.snapshots = func() ([]Snapshot, error) { return apfsSnapshots(v, a) }
		all = append(all, v)
	}
	if err != nil || len(all) == 0 {
		all = append(all, lost)
	}
	return all, nil
}

// apfsSnapshots returns the snapshots of v, which is a; with an error, those before the damage.
func apfsSnapshots(v Volume, a *apfs.Volume) ([]Snapshot, error) {
	list, err := a.Snapshots()
	var all []Snapshot
	for _, s := range list {
		files := &volumeFiles{open: func() (fs.FS, error) { return s.FS() }}
		all = append(all, Snapshot{Name: s.Name, Created: s.Created, of: v, files: files})
	}
	return all, err
}

// isLastingDamage reports whether all errors that err joins say what is on the disk, so
// that to try again is of no use.
func isLastingDamage(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !isLastingDamage(err) })
	}
	return isLost(err) || classOf(err, apfsClasses) != nil
}

// isLost reports whether a read of the image failed because it is damaged there, or stored
// in a way that isn't supported.
func isLost(err error) bool {
	var chunk *ChunkError
	return errors.As(err, &chunk) && !errors.Is(err, ErrIndex) && !errors.Is(err, ErrMemoryLimit)
}

// volumeFiles opens a volume or a snapshot once.
type volumeFiles struct {
	open      func() (fs.FS, error)
	snapshots func() ([]Snapshot, error) // nil where there can be none

	mu struct {
		sync.Mutex
		opened fs.FS      // nil until open has succeeded
		listed []Snapshot // nil until snapshots has succeeded, and if there are none
	}
}

// FS returns the files of an HFS+, HFSX, HFS or APFS volume. For any other file system the error
// is [ErrUnsupported] and says what it is; [Image.Section] is for packages that read these.
// The volume must come from [Image.Volumes] or [Image.Volume].
//
// The FS also implements [fs.ReadDirFS], [fs.StatFS], [fs.ReadFileFS] and [fs.ReadLinkFS].
// Its files are [io.ReaderAt] and [io.Seeker] too, and read only what is asked for. Symbolic
// links are followed inside the volume, and never lead out of it. FS is safe for concurrent
// use, and so is what it returns. All calls for one volume of one Image return the same.
//
// The first call reads the volume's header. Its trees are read as they are needed, and what
// is kept of them is bounded and comes on top of [Options].MemoryLimit.
//
// An encrypted volume is opened by [Options].Password. If that is missing or wrong, the error is
// [ErrNoPassword] or [ErrWrongPassword]. If the volume's structures are damaged, it is
// [ErrFormat] or [ErrChecksum]. What the FS's methods return are errors of packages hfsplus and
// apfs, which have such classes of their own, or of [Image.ReadAt], or of io/fs. A call that
// failed leaves nothing behind, so that the next one tries again.
func (v Volume) FS() (fs.FS, error) {
	if v.files == nil {
		return nil, fmt.Errorf("%w: the files of %s can't be read", ErrUnsupported, v)
	}
	return v.files.fs(v, v.Type)
}

// fs opens what is to be called by that name in errors, and is of a type of fileSystems.
func (f *volumeFiles) fs(name fmt.Stringer, kind string) (fs.FS, error) {
	f.mu.Lock()
	opened := f.mu.opened
	f.mu.Unlock()
	if opened != nil {
		return opened, nil
	}
	opened, err := f.open()
	if err != nil {
		return nil, volumeError(name, kind, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.opened == nil { // nobody was faster
		f.mu.opened = opened
	}
	return f.mu.opened, nil
}

// volumeError adds to an error of a file system what it is about, and this package's class.
func volumeError(name fmt.Stringer, kind string, err error) error {
	if class := classOf(err, fileSystems[kind].classes); class != nil {
		err = &alsoError{err, class}
	}
	return fmt.Errorf("dmg: %s: %w", name, err)
}

// A Snapshot is a volume as it was at a point in time. It comes from [Volume.Snapshots].
type Snapshot struct {
	Name    string // no other snapshot of the volume has it, unless that is damaged
	Created time.Time

	of    Volume
	files *volumeFiles
}

// Snapshots returns the volume's snapshots, the oldest first. Only APFS volumes have any. An
// encrypted volume's are listed without its password.
//
// If the list is damaged, the error is [ErrFormat] or [ErrChecksum], and the snapshots before
// the damage are returned with it. Other errors are those of [Image.ReadAt]. Snapshots is safe
// for concurrent use. The volume must come from [Image.Volumes] or [Image.Volume].
func (v Volume) Snapshots() ([]Snapshot, error) {
	f := v.files
	if f == nil || f.snapshots == nil {
		return nil, nil
	}
	f.mu.Lock()
	listed := f.mu.listed
	f.mu.Unlock()
	if listed == nil {
		var err error
		if listed, err = f.snapshots(); err != nil {
			return listed, volumeError(v, v.Type, err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.mu.listed == nil { // nobody was faster
			f.mu.listed = listed
		}
		listed = f.mu.listed
	}
	return slices.Clone(listed), nil
}

// FS returns the files as they were. What the FS is, and what errors mean, [Volume.FS] says:
// an encrypted volume's snapshots take its password. All calls for one snapshot return the same,
// but for those of a list that came with an error. FS is safe for concurrent use.
func (s Snapshot) FS() (fs.FS, error) {
	if s.files == nil {
		return nil, fmt.Errorf("%w: a Snapshot that is none of a Volume", ErrUnsupported)
	}
	return s.files.fs(s, s.of.Type)
}

// String returns the snapshot's name and volume for messages, such as
// `snapshot "before" of APFS "Data" (partition 0)`.
func (s Snapshot) String() string {
	return "snapshot " + strconv.Quote(s.Name) + " of " + s.of.String()
}

// String returns the volume's type, name and place for messages, such as
// `HFS+ "Installer" (partition 4)`.
func (v Volume) String() string {
	s := v.Type
	if v.Name != "" {
		s += " " + strconv.Quote(v.Name)
	}
	if v.Role != "" {
		s += ", " + v.Role
	}
	if v.Partition >= 0 {
		return s + " (partition " + strconv.Itoa(v.Partition) + ")"
	}
	return s
}

// volumes are those of an Image, once they are known.
type volumes struct {
	sync.Mutex
	known    bool
	found    []Volume
	password func() string // a function, so that printing an Image doesn't print it
}

// Volumes returns all file systems on the disk, in disk order: those that can't be read too,
// and those in partitions whose type says otherwise. It looks at the start of each partition
// and of the disk, so it finds no file system behind a start that is damaged, but for HFS+ and
// HFSX, of whose header there is a copy at the end. An APFS
// container gives one Volume for each of its volumes.
//
// The first call reads some 30 KB of each partition, and what it takes to decode these. If the
// source fails then, the next call tries again. Volumes is safe for concurrent use.
//
// The error is the source's, or one of reading the index or of too little memory.
func (im *Image) Volumes() ([]Volume, error) {
	vs := &im.volumes
	vs.Lock()
	known, found := vs.known, vs.found
	vs.Unlock()
	if !known {
		var err error
		if found, err = im.findVolumes(); err != nil {
			return nil, err
		}
		vs.Lock()
		defer vs.Unlock()
		if !vs.known { // nobody was faster
			vs.known, vs.found = true, found
		}
		found = vs.found
	}
	return slices.Clone(found), nil
}

// maxLooks bounds how many partitions are looked at. A GUID table has room for 128 as a
// rule, an image's block tables for any number.
const maxLooks = 256

// findVolumes looks for file systems in the partitions and on the disk as a whole.
func (im *Image) findVolumes() ([]Volume, error) {
	parts, err := im.allPartitions()
	if err != nil {
		return nil, err
	}
	parts = parts[:min(len(parts), maxLooks)]
	whole := Partition{Length: im.size, im: im}
	type place struct {
		off  int64
		kind string
	}
	seen := make(map[place]bool) // a partition may lie in another, or on the whole disk
	var all []Volume
	for i, p := range append(parts, whole) {
		if p.Offset >= im.size {
			continue
		}
		p.Length = min(p.Length, im.size-p.Offset)
		reach := p.Length
		if i == len(parts) {
			if i = -1; len(parts) > 0 {
				reach = hybridReach
			}
		}
		found, err := im.look(p, reach)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if at := (place{p.Offset + f.Offset, f.Type}); !seen[at] {
				seen[at] = true
				vs, err := im.volumesOf(i, p, f)
				if err != nil {
					return nil, err
				}
				all = append(all, vs...)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Volume) int { return cmp.Compare(a.Offset, b.Offset) })
	return all, nil
}

// hybridReach is how far into a disk with partitions a file system is looked for that is
// not in one of them, in bytes. Those of hybrid discs say near the start where they are. The
// disk's end is the last partition's, and far away in a compressed image.
const hybridReach = 4 << 20

// look returns the file systems that begin where the partition does. It reads the first
// reach bytes of it.
func (im *Image) look(p Partition, reach int64) ([]fsname.FileSystem, error) {
	var disk io.ReaderAt = readerAt(im.ReadAt)
	if isScaffold(p.Type) {
		// Where nothing is to be found, not much is spent on it.
		const deep = 128 << 10
		disk = newBoundedReader(&im.engine, deep)
	}
	r := &readable{disk, p.Offset, reach}
	return fsname.Probe(r, p.Length)
}

// isScaffold reports whether a partition's type is one of those that hold no files: what
// partition tables are made of, free space, and what of a hybrid disc is found from its
// start.
func isScaffold(kind string) bool {
	for _, s := range []string{"Apple_Free", "Apple_partition_", "Apple_Driver", "Apple_Patches", "Apple_Scratch", "Apple_Void", "ISO9660_data", "GPT ", "MBR", "DDM"} {
		if strings.Contains(kind, s) {
			return true
		}
	}
	return false
}

// readerAt makes an io.ReaderAt of a function.
type readerAt func(p []byte, off int64) (int, error)

// ReadAt implements io.ReaderAt.
func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r(p, off) }

// readable is the disk from an offset on, with zeros for what can't be decoded, and for what
// is out of reach: what is found elsewhere is found in spite of it.
type readable struct {
	r          io.ReaderAt
	off, reach int64
}

// ReadAt implements io.ReaderAt.
func (r *readable) ReadAt(p []byte, off int64) (int, error) {
	if off > r.reach-int64(len(p)) {
		clear(p)
		return len(p), nil
	}
	n, err := r.r.ReadAt(p, r.off+off)
	if isLost(err) || err == errDeep {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// hiddenTypes are types of partitions whose volumes users don't see mounted.
var hiddenTypes = []string{"EFI", "Apple_Boot", "Apple_APFS_ISC", "Apple_APFS_Recovery", "Apple_TV_Recovery", "Windows Recovery", "Windows_RE"}

// hiddenRoles are those of APFS volumes that users don't see mounted.
var hiddenRoles = []string{"recovery", "vm", "preboot", "update", "baseband", "xart", "hardware", "sidecar", "enterprise", "prelogin"}

// volumesOf returns the volumes of a file system that was found in partition i, or -1.
func (im *Image) volumesOf(i int, p Partition, f fsname.FileSystem) ([]Volume, error) {
	v := Volume{
		Name: f.Label, Type: f.Type, Partition: i,
		Offset: p.Offset + f.Offset, Length: f.Length,
		BlockSize: f.BlockSize, Used: f.Used, Files: f.Files, Encrypted: f.Encrypted,
		hidden: slices.Contains(hiddenTypes, p.Type),
	}
	volumes := fileSystems[f.Type].volumes
	if volumes == nil {
		return []Volume{v}, nil
	}
	size := p.Length // with what comes behind the last block: a copy of the header
	if f.Offset > 0 {
		size = f.Length
	}
	return volumes(v, im.Section(v.Offset, size), size, im.volumes.password())
}

// FS returns the files of the volume that a user would see mounted: those of [Image.Volume].
// Errors are also those of [Volume.FS], which says what the FS is. FS is safe for concurrent use.
func (im *Image) FS() (fs.FS, error) {
	v, err := im.Volume()
	if err != nil {
		return nil, err
	}
	return v.FS()
}

// Volume returns the volume that a user would see mounted: the only one whose files can be
// read, apart from those that a system keeps for itself, such as for recovery.
//
// If there are several such volumes, the error is [ErrSeveralVolumes]. If there is none, it is
// [ErrUnsupported] and says what is on the disk. Other errors are those of [Image.Volumes].
// Volume is safe for concurrent use.
func (im *Image) Volume() (Volume, error) {
	all, err := im.Volumes()
	if err != nil {
		return Volume{}, err
	}
	shown := slices.DeleteFunc(slices.Clone(all), func(v Volume) bool { return v.files == nil || v.hidden })
	if ordinary := slices.DeleteFunc(slices.Clone(shown), func(v Volume) bool { return v.Role != "" }); len(ordinary) > 0 {
		shown = ordinary
	}
	switch len(shown) {
	case 0:
		if len(all) == 0 {
			return Volume{}, fmt.Errorf("%w: no file system was found on the disk", ErrUnsupported)
		}
		return Volume{}, fmt.Errorf("%w: the disk has no volume whose files can be read, but %s", ErrUnsupported, listVolumes(all))
	case 1:
		return shown[0], nil
	}
	return Volume{}, fmt.Errorf("%w: %s", ErrSeveralVolumes, listVolumes(shown))
}

// listVolumes lists the first volumes for a message.
func listVolumes(vs []Volume) string {
	const most = 10
	var all []string
	for _, v := range vs[:min(most, len(vs))] {
		all = append(all, v.String())
	}
	if n := len(vs) - most; n > 0 {
		all = append(all, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(all, ", ")
}

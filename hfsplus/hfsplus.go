// Package hfsplus reads HFS+, HFSX and HFS volumes: the files on a Mac's disk, or in
// a disk image.
//
//	fsys, err := hfsplus.New(r, size) // r is the volume, an io.ReaderAt
//	if err != nil { … }
//	data, err := fs.ReadFile(fsys, "Some.app/Contents/Info.plist")
//
// An [FS] is an [fs.FS]. Opening a volume reads four small pieces of it. A file is
// found by the volume's index, and read where it is. So a file costs a few reads of
// some kilobytes, whatever the size of the volume.
//
// # Paths
//
// Paths are those of io/fs. A name is looked up as the volume does: HFS+ does not
// tell upper case from lower case, nor composed characters from decomposed ones.
// HFSX may tell cases apart.
//
// Open, Stat, ReadFile and ReadDir follow symbolic links inside the volume. An
// absolute target begins at the volume's root, and ".." of the root is the root: no
// link leads out. A path of more than 40 links gives [ErrLoop].
//
// Names are given out composed (NFC), though they are stored decomposed. A slash in
// a name, which the Finder allows, is a colon here, as in macOS. What io/fs can't
// express is escaped: "%u" and four hexadecimal digits stand for a UTF-16 code unit.
// That concerns NUL, backslash, a stored colon, half a surrogate pair, the names "."
// and "..", and names that look escaped. Where two names of a folder differ in
// composition alone, one has all that isn't ASCII escaped. An empty name is "%u".
// No two entries of a folder have the same name, and each can be opened by it.
//
// Folders and files that macOS shows nobody are hidden: those that hard links lead
// to, and the journal.
//
// # Files
//
// An open file is an [io.ReaderAt], an [io.Seeker] and an [io.WriterTo]. Compressed
// files (decmpfs) are decompressed. A hard link is its file, with the file's mode,
// dates and attributes: [Stat].ID tells which names belong to one file. Resource
// forks and the Finder's information are extended attributes, as in macOS. There is
// no path to them.
//
// ReadDir of the FS sorts a folder, and so holds its list in memory. It refuses to
// sort more than 4,194,304 entries ([ErrTooLarge]). ReadDir(n) of an open folder has
// the volume's order, and holds n entries.
//
// A volume that was made for Time Machine may have hard links to folders, so that a
// folder has many paths. A walk that wants each once compares [Stat].ID. A folder
// that contains itself, which a damaged volume may have, is listed, and can't be
// opened ([ErrLoop]).
//
// # Damage
//
// A volume may come from anyone. What it says is checked before it is used. Damage
// gives an error of class [ErrFormat], which a [*FormatError] describes, and what is
// not damaged can still be read. The format has no checksums: changed bytes in a
// file are not noticed, except in compressed files. An error of the source is
// passed on. Nothing of a failed read is kept.
//
// A journal that was not emptied is not replayed: see [FS.Dirty].
//
// # HFS
//
// HFS, which Mac OS had before HFS+, has no permissions, links, attributes or
// journal. Files have the mode 0644, folders 0755. Its dates are in local time of an
// unknown zone, and given out as if that were UTC. A locked file has the flag
// UF_IMMUTABLE.
//
// # Memory and concurrency
//
// All methods may be called by many goroutines at once. An open file's ReadAt may be
// called by many, its other methods by one at a time.
//
// A volume keeps up to 4 MiB of its index ([FS.CacheBytes]), and up to 4 MiB of the
// folders that were listed last: what is in them is opened without a search. An open
// file keeps a few hundred bytes, an open folder the nodes that lead to its place, and
// a compressed file up to a megabyte.
package hfsplus

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/internal/decmpfs"
	"github.com/go-dmg/dmg/internal/vfs"
)

// The classes of errors, to test for with [errors.Is]. An error is of one of them,
// one of io/fs, or the source's own. Methods that take a path return a
// [*fs.PathError] around it.
var (
	// ErrFormat says that this is no HFS+ or HFS volume, or that it is damaged.
	ErrFormat = errors.New("not an HFS+ volume, or damaged")

	// ErrUnsupported says that the package does not read what it found, such as a
	// file in a compression that it doesn't know.
	ErrUnsupported = errors.New("not supported")

	// ErrLoop says that a path leads through too many symbolic links, or through a
	// folder that contains itself.
	ErrLoop = vfs.ErrLoop

	// ErrTooLarge says that a list, or an attribute, would take too much memory.
	// There is another method that reads it in pieces.
	ErrTooLarge = vfs.ErrTooLarge
)

// A FormatError says where a volume is damaged. Its class is [ErrFormat].
type FormatError struct {
	Part   string // of the volume, such as "catalog"
	Offset int64  // in the volume, in bytes; -1 if it has no place
	Msg    string
}

// Error returns the part, where it is, and what is wrong.
func (e *FormatError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("hfsplus: %s: %s", e.Part, e.Msg)
	}
	return fmt.Sprintf("hfsplus: %s at byte %d: %s", e.Part, e.Offset, e.Msg)
}

// Is makes a FormatError an ErrFormat.
func (e *FormatError) Is(target error) bool { return target == ErrFormat }

func formatError(part string, offset int64, format string, args ...any) error {
	return &FormatError{Part: part, Offset: offset, Msg: fmt.Sprintf(format, args...)}
}

func isFormat(err error) bool { return errors.Is(err, ErrFormat) }

// A contentError is an error of internal/decmpfs, with the class of this package.
type contentError struct{ class, err error }

func (e *contentError) Error() string   { return e.err.Error() }
func (e *contentError) Unwrap() []error { return []error{e.class, e.err} }

func damagedContent(err error) error {
	switch {
	case errors.Is(err, decmpfs.ErrUnsupported):
		return &contentError{ErrUnsupported, err}
	case errors.Is(err, decmpfs.ErrFormat), errors.Is(err, decmpfs.ErrChecksum):
		return &contentError{ErrFormat, err}
	}
	return err
}

// Type is the kind of a volume.
type Type string

const (
	HFSPlus Type = "HFS+"
	HFSX    Type = "HFSX"
	HFS     Type = "HFS" // of Mac OS before 8.1, 1998
)

// An FS is a volume. It implements [fs.FS], [fs.ReadDirFS], [fs.StatFS],
// [fs.ReadFileFS] and, of Go 1.25, [fs.ReadLinkFS].
type FS struct {
	volume *volume
	files  *vfs.FS
	cache  *cache

	catalog    *tree
	extents    lazyTree
	attributes lazyTree
	decoders   decmpfs.Pool

	form        norm.Form // of names
	name        string
	rootCreated uint32
	hiddenNames []string // as stored

	fileLinks, folderLinks atomic.Uint32 // the private folders, once found
}

// New opens a volume of size bytes, which begins at the start of r. It reads the
// volume's header and the root folder's entry. The error is of class ErrFormat if
// there is no HFS+ volume, or the source's own.
//
// The FS reads r as long as it is in use, by several goroutines at once if it is
// used by several.
func New(r io.ReaderAt, size int64) (*FS, error) {
	v, err := openVolume(r, size)
	if err != nil {
		return nil, err
	}
	fsys := &FS{volume: v, cache: newCache(), form: norm.NFD}
	if v.kind == HFS {
		fsys.form = norm.NFC
	}
	if err := fsys.openCatalog(); err != nil {
		return nil, err
	}
	root, err := fsys.openRoot()
	if err != nil {
		return nil, err
	}
	fsys.files = vfs.New(root)
	fsys.hiddenNames = append(fsys.hiddenNames,
		string(asciiUnits(privateFolders[fileLink].folder)), string(asciiUnits(privateFolders[folderLink].folder)))
	if v.attributes&attrJournaled != 0 {
		fsys.hiddenNames = append(fsys.hiddenNames, string(asciiUnits(".journal")), string(asciiUnits(".journal_info_block")))
	}
	return fsys, nil
}

func (fsys *FS) openCatalog() error {
	f := fsys.volume.newFork(fsys.volume.catalog, fsys.overflowOf(dataFork, catalogID))
	kind := keyKind{id: catalogID, valid: validCatalogKey, compare: compareFolded}
	if fsys.volume.kind == HFS {
		kind.classic, kind.compare = &classicCatalog, compareRoman
	}
	t, err := openTree("catalog", f, fsys.cache, kind)
	if err != nil {
		return err
	}
	if fsys.volume.kind == HFSX && t.compareType == binaryCompare {
		t.keys.compare = compareBinary
	}
	fsys.catalog = t
	return nil
}

// openRoot finds the root folder by its thread, which has its name: the volume's.
func (fsys *FS) openRoot() (*node, error) {
	found, err := fsys.catalog.find(catalogKey(rootID, nil), isThread)
	if err != nil {
		return nil, err
	}
	if found.node != nil {
		_, thread := found.record()
		if parent, units, ok := parseThread(thread); ok {
			fsys.name = normalize(norm.NFC, decodeAttr(units)) // in which a slash is one
			at, data, err := fsys.entry(parent, units)
			if err != nil {
				return nil, err
			}
			if at.node != nil && be.Uint16(data) == folderRecord && be.Uint32(data[8:]) == rootID {
				fsys.rootCreated = be.Uint32(data[12:])
				return &node{fs: fsys, leaf: at.node.number, rec: uint16(at.i), id: rootID, typ: fs.ModeDir}, nil
			}
		}
	}
	return nil, formatError("catalog", -1, "no root folder")
}

// A lazyTree is a tree that is opened when it is first needed.
type lazyTree struct {
	mu   sync.Mutex
	tree atomic.Pointer[tree]
}

func (l *lazyTree) open(open func() (*tree, error)) (*tree, error) {
	if t := l.tree.Load(); t != nil {
		return t, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tree.Load(); t != nil {
		return t, nil
	}
	t, err := open()
	if err == nil {
		l.tree.Store(t)
	}
	return t, err
}

func (fsys *FS) extentsTree() (*tree, error) {
	return fsys.extents.open(func() (*tree, error) {
		kind := keyKind{id: extentsID, valid: validExtentsKey, compare: compareExtents}
		if fsys.volume.kind == HFS {
			kind.classic = &classicExtentsTree
		}
		return openTree("extents overflow tree", fsys.volume.newFork(fsys.volume.extents, nil), fsys.cache, kind)
	})
}

func (fsys *FS) attributesTree() (*tree, error) {
	return fsys.attributes.open(func() (*tree, error) {
		f := fsys.volume.newFork(fsys.volume.attributed, fsys.overflowOf(dataFork, attributesID))
		kind := keyKind{id: attributesID, valid: validAttrKey, compare: compareAttr}
		return openTree("attributes tree", f, fsys.cache, kind)
	})
}

// Open opens a file or a folder. It follows symbolic links. A file is an
// [io.ReaderAt], an [io.Seeker] and an [io.WriterTo], a folder an [fs.ReadDirFile].
func (fsys *FS) Open(name string) (fs.File, error) { return fsys.files.Open(name) }

// ReadDir lists a folder, sorted by name. Damage to entries gives an error, beside a
// list of the other entries.
func (fsys *FS) ReadDir(name string) ([]fs.DirEntry, error) { return fsys.files.ReadDir(name) }

// ReadFile returns the content of a file.
func (fsys *FS) ReadFile(name string) ([]byte, error) { return fsys.files.ReadFile(name) }

// Stat describes a file. Sys of the result is a [*Stat]. It follows symbolic links.
func (fsys *FS) Stat(name string) (fs.FileInfo, error) { return fsys.files.Stat(name) }

// Lstat is Stat, but does not follow a symbolic link in the path's last element.
func (fsys *FS) Lstat(name string) (fs.FileInfo, error) { return fsys.files.Lstat(name) }

// ReadLink returns the target of a symbolic link, as it is stored.
func (fsys *FS) ReadLink(name string) (string, error) { return fsys.files.ReadLink(name) }

// ListXattr returns the names of a file's extended attributes, sorted. Like Lstat,
// it does not follow a symbolic link in the path's last element: links have
// attributes of their own.
//
// The list is what macOS shows. The resource fork is com.apple.ResourceFork, and the
// Finder's information com.apple.FinderInfo, unless that is all zeros. It leaves out
// com.apple.system.*, where access control lists are, and of a compressed file
// com.apple.decmpfs and the resource fork, wherever the content is. [FS.Xattr] returns these, too, when asked
// for by name.
func (fsys *FS) ListXattr(name string) ([]string, error) {
	x, err := fsys.xattrs("listxattr", name)
	if err != nil {
		return nil, err
	}
	names, err := x.list()
	if err != nil {
		return names, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	return names, nil
}

// Xattr returns the value of an extended attribute. It does not follow a symbolic
// link in the path's last element. The error is [fs.ErrNotExist] if there is no such
// attribute, and [ErrTooLarge] if it has more than 16 MiB.
func (fsys *FS) Xattr(name, attr string) ([]byte, error) {
	r, err := fsys.OpenXattr(name, attr)
	if err != nil {
		return nil, err
	}
	var value []byte
	if err = ErrTooLarge; r.Size() <= maxXattr {
		value, err = vfs.ReadAll(r, r.Size())
	}
	if err != nil {
		return value, &fs.PathError{Op: "getxattr", Path: name, Err: err}
	}
	return value, nil
}

// OpenXattr opens an extended attribute: [FS.Xattr] for large ones, such as resource
// forks.
func (fsys *FS) OpenXattr(name, attr string) (*io.SectionReader, error) {
	x, err := fsys.xattrs("getxattr", name)
	if err != nil {
		return nil, err
	}
	c, err := x.open(attr)
	if err != nil {
		return nil, &fs.PathError{Op: "getxattr", Path: name, Err: err}
	}
	return io.NewSectionReader(c, 0, c.Size()), nil
}

// CacheBytes returns how many bytes of its index the volume keeps in memory.
func (fsys *FS) CacheBytes() int64 { return int64(fsys.cache.bytes()) }

// A Volume is what a volume's header says.
type Volume struct {
	Name          string // as the Finder shows it: it may have slashes
	Type          Type
	UUID          string // as macOS shows it; "" if it has none
	Wrapped       bool   // the volume lies in an HFS volume
	CaseSensitive bool
	Journaled     bool
	Clean         bool // the volume was unmounted properly

	Files     uint32 // with hidden ones
	Folders   uint32 // with hidden ones, without the root folder
	BlockSize int64  // in bytes
	Blocks    int64
	Free      int64 // blocks that are not in use

	LastMounted string // who wrote last: "10.0" is macOS, "HFSJ" macOS with a journal

	// Dates are in whole seconds, and zero if they are not set. Created is the root
	// folder's: the volume's own is in local time of an unknown zone.
	Created, Modified, BackedUp, Checked time.Time
}

// Volume describes the volume.
func (fsys *FS) Volume() Volume {
	v := fsys.volume
	return Volume{
		Name:          fsys.name,
		Type:          v.kind,
		UUID:          v.uuid(),
		Wrapped:       v.start > 0,
		CaseSensitive: v.kind == HFSX && fsys.catalog.compareType == binaryCompare,
		Journaled:     v.attributes&attrJournaled != 0,
		Clean:         v.attributes&attrUnmounted != 0,
		Files:         v.files,
		Folders:       v.folders,
		BlockSize:     v.block,
		Blocks:        int64(v.blocks),
		Free:          int64(v.free),
		LastMounted:   v.lastMounted,
		Created:       date(fsys.rootCreated),
		Modified:      date(v.modified),
		BackedUp:      date(v.backedUp),
		Checked:       date(v.checked),
	}
}

// Dirty reports whether the journal has changes that were not made yet: the computer
// stopped, or the disk was copied, while it was in use. The FS shows the volume
// without them. What they concern may be old or damaged.
func (fsys *FS) Dirty() (bool, error) { return fsys.volume.journalFull() }

var _ interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadFileFS
} = (*FS)(nil)

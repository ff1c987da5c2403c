package hfsplus

import (
	"io/fs"
	"strings"
	"time"

	"github.com/go-dmg/dmg/internal/decmpfs"
	"github.com/go-dmg/dmg/internal/vfs"
)

// A Stat is what Sys of a file's [fs.FileInfo] returns, as a *Stat: what the volume
// knows about the file. Of a hard link it is about the file, not the link.
type Stat struct {
	ID    uint64 // of the file, the same for all its hard links
	Links uint32 // number of names; of a folder 1, unless it has directory hard links
	UID   uint32
	GID   uint32
	Flags uint32 // BSD flags, as in stat(2) of macOS; UF_HIDDEN stands for the Finder's flag

	// Dates are in whole seconds. A date that the volume doesn't have is zero.
	Created  time.Time
	Modified time.Time // the content
	Changed  time.Time // the file's properties
	Accessed time.Time
	BackedUp time.Time

	Rdev uint32 // device number of a device

	// ResourceFork is the resource fork's size in bytes. It is 0 for a compressed file,
	// which may have its content there: macOS hides the fork of any such file.
	ResourceFork int64

	// Compressed says that the file is stored compressed. Its size and its content
	// are those before compression.
	Compressed bool

	// FinderInfo is the Finder's information, 16 bytes each of FileInfo or
	// FolderInfo, and of the extended one. It is the attribute
	// com.apple.FinderInfo: see [FS.ListXattr].
	FinderInfo [32]byte
}

// BSD flags of macOS.
const (
	flagImmutable = 0x02   // UF_IMMUTABLE
	flagHidden    = 0x8000 // UF_HIDDEN
)

// finderInvisible is a bit of the Finder's flags, in byte 8 of its information.
const finderInvisible = 0x40

// File types of st_mode.
const (
	modeType    = 0o170000
	modePipe    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeLink    = 0o120000
	modeSocket  = 0o140000
)

// fileMode is the mode of a file's record: what claims to be a folder is none.
func fileMode(mode uint16) fs.FileMode {
	if mode == 0 { // written by Mac OS 8 or 9, or a foreign system
		return 0o644
	}
	m := permissions(mode)
	switch mode & modeType {
	case modePipe:
		m |= fs.ModeNamedPipe
	case modeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case modeBlock:
		m |= fs.ModeDevice
	case modeLink:
		m |= fs.ModeSymlink
	case modeSocket:
		m |= fs.ModeSocket
	}
	return m
}

func folderMode(mode uint16) fs.FileMode {
	if mode == 0 {
		return fs.ModeDir | 0o755
	}
	return fs.ModeDir | permissions(mode)
}

func permissions(mode uint16) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// Info describes the node.
func (n *node) Info() (vfs.Info, error) {
	r, err := n.record()
	if err != nil {
		return vfs.Info{}, err
	}
	st := n.stat(&r)
	info := vfs.Info{Mode: fileMode(r.mode), ModTime: st.Modified, Sys: st}
	switch {
	case r.folder:
		info.Mode = folderMode(r.mode)
	case n.typ == fs.ModeSymlink, n.regular():
		info.Size = forkSize(r.forks)
	}
	if h, err := n.compression(&r); err != nil {
		return vfs.Info{}, err
	} else if h != nil {
		st.Compressed, info.Size, st.ResourceFork = true, h.Size, 0
	}
	return info, nil
}

// regular reports whether the node has the data fork of its record.
func (n *node) regular() bool { return n.typ == 0 && !n.broken }

func (n *node) stat(r *record) *Stat {
	st := &Stat{
		ID: uint64(r.id), Links: 1, UID: r.owner, GID: r.group,
		Flags:   uint32(r.adminFlags)<<16 | uint32(r.ownerFlags),
		Created: date(r.created), Modified: date(r.modified), Changed: date(r.changed),
		Accessed: date(r.accessed), BackedUp: date(r.archive),
		FinderInfo: n.finderInfo(r),
	}
	if n.broken {
		st.UID, st.GID = 0, 0 // they hold the neighbouring links
		return st
	}
	if r.finder[8]&finderInvisible != 0 {
		st.Flags |= flagHidden
	}
	switch {
	case n.typ&fs.ModeDevice != 0:
		st.Rdev = r.special
	case r.flags&hasLinkChain != 0 && r.special > 0, n.linkedFile():
		st.Links = max(r.special, 1)
	}
	if !r.folder {
		st.ResourceFork = forkSize(r.forks[80:])
	}
	return st
}

// linkedFile reports whether the node lies in the folder of what hard links lead to.
func (n *node) linkedFile() bool {
	folder := n.fs.fileLinks.Load()
	if folder == 0 {
		return false
	}
	key, _, err := n.keyAndData()
	return err == nil && be.Uint32(key) == folder
}

// finderInfo is the Finder's information without what macOS keeps to itself: the
// type of symbolic links, and of all but the flags of the extended information.
func (n *node) finderInfo(r *record) (info [32]byte) {
	if n.broken {
		return info
	}
	info = r.finder
	if n.typ == fs.ModeSymlink {
		clear(info[:8])
	}
	clear(info[16:24]) // document_id, date_added
	clear(info[28:32]) // write_gen_counter
	return info
}

// compression returns the header of a compressed file, and nil for others.
func (n *node) compression(r *record) (*decmpfs.Header, error) {
	if !n.regular() || r.ownerFlags&compressed == 0 {
		return nil, nil
	}
	a, err := n.fs.attribute(n.id, decmpfs.AttrName)
	if a == nil || err != nil {
		return nil, err
	}
	head := make([]byte, min(a.Size(), decmpfs.HeaderLen))
	if err := readFull(a, head, 0); err != nil {
		return nil, err
	}
	h, err := decmpfs.ParseHeader(head)
	if err != nil {
		return nil, damagedContent(err)
	}
	return &h, nil
}

// Content opens the content.
func (n *node) Content() (vfs.Content, error) {
	r, err := n.record()
	if err != nil {
		return nil, err
	}
	if n.broken {
		return nil, formatError("hard link", -1, "iNode%d, which it leads to, is not there", r.special)
	}
	if n.typ != 0 {
		return strings.NewReader(""), nil
	}
	h, err := n.compression(&r)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return n.dataFork(&r), nil
	}
	a, err := n.fs.attribute(n.id, decmpfs.AttrName)
	if err != nil {
		return nil, err
	}
	attr, err := vfs.ReadAll(a, min(a.Size(), decmpfs.MaxAttr+1))
	if err != nil {
		return nil, err
	}
	resource := n.resourceFork(&r)
	f, err := n.fs.decoders.New(attr, resource, resource.Size())
	if err != nil {
		return nil, damagedContent(err)
	}
	return content{f}, nil
}

func (n *node) dataFork(r *record) *fork {
	return n.fs.fileFork(r.data(), dataFork, r.id)
}

func (n *node) resourceFork(r *record) *fork {
	return n.fs.fileFork(r.resource(), resourceFork, r.id)
}

// A content gives decmpfs's errors the classes of this package.
type content struct{ *decmpfs.File }

func (c content) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(p, off)
	return n, damagedContent(err)
}

// Target reads where a symbolic link leads to.
func (n *node) Target() (string, error) {
	r, err := n.record()
	if err != nil {
		return "", err
	}
	f := n.dataFork(&r)
	if f.Size() > vfs.MaxTarget {
		return "", formatError("symbolic link", -1, "a target of %d bytes", f.Size())
	}
	target := make([]byte, f.Size())
	if _, err := f.ReadAt(target, 0); err != nil && len(target) > 0 {
		return "", err
	}
	// Foreign systems may end it with a NUL.
	return strings.TrimRight(string(target), "\x00"), nil
}

package apfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/go-dmg/dmg/internal/decmpfs"
	"github.com/go-dmg/dmg/internal/vfs"
)

// A Stat is what Sys of a file's [fs.FileInfo] returns, as a *Stat: what the volume knows
// about the file.
type Stat struct {
	ID    uint64 // of the file, the same for all its hard links
	Links uint32 // number of names; of a folder 1
	UID   uint32
	GID   uint32
	Flags uint32 // BSD flags, as in stat(2) of macOS

	Created  time.Time
	Modified time.Time // the content
	Changed  time.Time // the file's properties
	Accessed time.Time

	Rdev uint32 // device number of a device

	// ResourceFork is the resource fork's size in bytes. It is 0 for a compressed file,
	// which may have its content there: macOS hides the fork of any such file.
	ResourceFork int64

	// Compressed says that the file is stored compressed. Its size and its content are
	// those before compression.
	Compressed bool

	// FinderInfo is the Finder's information: the attribute com.apple.FinderInfo, see
	// [FS.ListXattr].
	FinderInfo [32]byte
}

// A fileNode is an inode to which a directory entry leads.
type fileNode struct {
	fs  *FS
	id  uint64
	typ fs.FileMode
}

// ID returns the inode's id.
func (n *fileNode) ID() uint64 { return n.id }

// Type returns the type that the entry has.
func (n *fileNode) Type() fs.FileMode { return n.typ }

// inode reads the node's record. The type in it must be the entry's.
func (n *fileNode) inode() (*inode, fs.FileMode, error) {
	v, ok, err := n.fs.tree.get(treeKey{a: recordKey(n.id, recInode)})
	if err != nil {
		return nil, 0, err
	}
	if !ok {
		return nil, 0, fmt.Errorf("%w: file %d, which a folder lists, is not there", ErrFormat, n.id)
	}
	i, ok := parseInode(v)
	if !ok {
		return nil, 0, fmt.Errorf("%w: the record of file %d is malformed", ErrFormat, n.id)
	}
	mode, ok := fileMode(i.mode)
	if !ok || mode.Type() != n.typ {
		return nil, 0, fmt.Errorf("%w: file %d has mode %#o, which is not what its folder says", ErrFormat, n.id, i.mode)
	}
	return i, mode, nil
}

// Info describes the file.
func (n *fileNode) Info() (vfs.Info, error) {
	i, mode, err := n.inode()
	if err != nil {
		return vfs.Info{}, err
	}
	st := &Stat{
		ID: n.id, Links: 1, UID: i.uid, GID: i.gid, Flags: i.bsdFlags,
		Created: i.created, Modified: i.modified, Changed: i.changed, Accessed: i.accessed,
		Rdev: i.device,
	}
	if n.typ != fs.ModeDir {
		st.Links = uint32(max(i.links, 1))
	}
	info := vfs.Info{Mode: mode, ModTime: i.modified, Sys: st}
	switch n.typ {
	case 0:
		info.Size, err = n.size(i, st)
	case fs.ModeSymlink:
		var target string
		target, err = n.Target()
		info.Size = int64(len(target))
	}
	if err == nil {
		err = n.addAttrs(st)
	}
	return info, err
}

// size returns the size of a regular file's content.
func (n *fileNode) size(i *inode, st *Stat) (int64, error) {
	h, err := n.compression(i)
	if err != nil {
		return 0, err
	}
	if h != nil {
		st.Compressed = true
		return h.Size, nil
	}
	s, err := n.fs.newStream(i.private, i.stream)
	if err != nil {
		return 0, err
	}
	return s.Size(), nil
}

// addAttrs adds what is kept in attributes.
func (n *fileNode) addAttrs(st *Stat) error {
	a, err := n.fs.attr(n.id, attrFinderInfo)
	if err != nil {
		return err
	}
	if a != nil {
		if _, err := a.ReadAt(st.FinderInfo[:min(a.Size(), 32)], 0); err != nil && a.Size() > 0 {
			return err
		}
	}
	if n.typ != 0 || st.Compressed {
		return nil
	}
	if a, err = n.fs.attr(n.id, attrResourceFork); a != nil {
		st.ResourceFork = a.Size()
	}
	return err
}

// compression returns the header of a compressed file, and nil for others.
func (n *fileNode) compression(i *inode) (*decmpfs.Header, error) {
	if n.typ != 0 || i.bsdFlags&bsdCompressed == 0 {
		return nil, nil
	}
	a, err := n.fs.attr(n.id, decmpfs.AttrName)
	if a == nil || err != nil {
		return nil, err
	}
	head, err := vfs.ReadAll(a, min(a.Size(), decmpfs.HeaderLen))
	if err != nil {
		return nil, err
	}
	h, err := decmpfs.ParseHeader(head)
	if err != nil {
		return nil, classify(err)
	}
	return &h, nil
}

// Content opens the content.
func (n *fileNode) Content() (vfs.Content, error) {
	i, _, err := n.inode()
	if err != nil {
		return nil, err
	}
	if n.typ != 0 {
		return strings.NewReader(""), nil
	}
	h, err := n.compression(i)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return n.fs.newStream(i.private, i.stream)
	}
	return n.decompressed()
}

// decompressed opens the content of a compressed file.
func (n *fileNode) decompressed() (vfs.Content, error) {
	a, err := n.fs.attr(n.id, decmpfs.AttrName)
	if err != nil {
		return nil, err
	}
	attr, err := vfs.ReadAll(a, min(a.Size(), decmpfs.MaxAttr+1))
	if err != nil {
		return nil, err
	}
	fork, err := n.fs.attr(n.id, attrResourceFork)
	if err != nil {
		return nil, err
	}
	if fork == nil {
		fork = bytes.NewReader(nil)
	}
	f, err := n.fs.decoders.New(attr, fork, fork.Size())
	if err != nil {
		return nil, classify(err)
	}
	return content{f}, nil
}

// A content gives decmpfs's errors the classes of this package.
type content struct{ *decmpfs.File }

// ReadAt reads the decompressed content.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(p, off)
	return n, classify(err)
}

// classify adds this package's class to an error of decmpfs.
func classify(err error) error {
	for class, mine := range map[error]error{
		decmpfs.ErrFormat: ErrFormat, decmpfs.ErrChecksum: ErrChecksum, decmpfs.ErrUnsupported: ErrUnsupported,
	} {
		if errors.Is(err, class) {
			return fmt.Errorf("%w: %w", mine, err)
		}
	}
	return err
}

// Target reads where a symbolic link leads to: an attribute that ends with a NUL.
func (n *fileNode) Target() (string, error) {
	a, err := n.fs.attr(n.id, attrSymlink)
	if err != nil {
		return "", err
	}
	if a == nil {
		return "", fmt.Errorf("%w: symbolic link %d has no target", ErrFormat, n.id)
	}
	if a.Size() > vfs.MaxTarget+1 {
		return "", fmt.Errorf("%w: symbolic link %d has a target of %d bytes", ErrFormat, n.id, a.Size())
	}
	target, err := vfs.ReadAll(a, a.Size())
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(target), "\x00"), nil
}

package apfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/go-dmg/dmg/internal/decmpfs"
	"github.com/go-dmg/dmg/internal/vfs"
)

// Names of attributes that have a meaning here, or that macOS keeps to itself.
const (
	attrResourceFork = "com.apple.ResourceFork"
	attrFinderInfo   = "com.apple.FinderInfo"
	attrSymlink      = "com.apple.fs.symlink"
	systemPrefix     = "com.apple.system."
)

// maxXattr is how many bytes of an attribute Xattr returns, and of names ListXattr.
const maxXattr = 16 << 20

// Flags of an attribute.
const (
	attrStream   = 1
	attrEmbedded = 2
	attrOwned    = 4 // by the file system
)

// attr returns an attribute of a file, or nil:
//
//	0 flags u16 · 2 length u16 · 4 data, or for a stream {id u64, dstream}
func (f *FS) attr(id uint64, name string) (vfs.Content, error) {
	v, ok, err := f.tree.get(treeKey{a: recordKey(id, recAttr), name: []byte(name)})
	if !ok || err != nil {
		return nil, err
	}
	if len(v) < 4 {
		return nil, fmt.Errorf("%w: attribute %q of file %d is malformed", ErrFormat, name, id)
	}
	data, n := v[4:], int(le.Uint16(v[2:]))
	switch flags := le.Uint16(v); {
	case flags&attrEmbedded != 0 && n <= len(data):
		return bytes.NewReader(data[:n]), nil
	case flags&attrEmbedded == 0 && flags&attrStream != 0 && len(data) >= 8+dstreamLen:
		return f.newStream(le.Uint64(data), parseDstream(data[8:]))
	}
	return nil, fmt.Errorf("%w: attribute %q of file %d is malformed", ErrFormat, name, id)
}

// ListXattr lists the extended attributes of a file, sorted by name: those that macOS
// shows. It hides access lists, the target of a symbolic link and, of a compressed file,
// com.apple.decmpfs and the resource fork, wherever the content is. It does not follow a symbolic link in the name's last element.
func (f *FS) ListXattr(name string) ([]string, error) {
	n, err := f.vfs.Lookup("listxattr", name, false)
	if err != nil {
		return nil, err
	}
	names, err := n.(*fileNode).attrNames()
	if err != nil {
		return names, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	return names, nil
}

func (n *fileNode) attrNames() ([]string, error) {
	i, _, err := n.inode()
	if err != nil {
		return nil, err
	}
	compressed, err := n.compression(i)
	if err != nil && !errors.Is(err, ErrFormat) { // of a malformed header nothing is hidden
		return nil, err
	}
	key := recordKey(n.id, recAttr)
	c, err := n.fs.tree.seek(treeKey{a: key}, false)
	if err != nil {
		return nil, err
	}
	var names []string
	size := 0
	for {
		k, v, ok, err := c.next()
		if !ok || err != nil {
			return names, err
		}
		k2, _ := c.t.kind.key(k)
		if k2.a != key {
			return names, nil
		}
		name := string(k2.name)
		switch {
		case len(v) >= 2 && le.Uint16(v)&attrOwned != 0 && name != attrResourceFork && name != attrFinderInfo,
			strings.HasPrefix(name, systemPrefix), name == attrSymlink,
			compressed != nil && (name == decmpfs.AttrName || name == attrResourceFork):
			continue
		}
		if size += len(name) + 16; size > maxXattr {
			return names, vfs.ErrTooLarge
		}
		names = append(names, name)
	}
}

// Xattr returns an extended attribute of a file, also one that ListXattr hides. It refuses
// one of more than 16 MiB, which OpenXattr can read. It does not follow a symbolic link in
// the name's last element. The error Is [fs.ErrNotExist] if there is no such attribute.
func (f *FS) Xattr(name, attr string) ([]byte, error) {
	a, err := f.OpenXattr(name, attr)
	if err != nil {
		return nil, err
	}
	if a.Size() > maxXattr {
		err = vfs.ErrTooLarge
	} else {
		var data []byte
		if data, err = vfs.ReadAll(a, a.Size()); err == nil {
			return data, nil
		}
	}
	return nil, &fs.PathError{Op: "getxattr", Path: name, Err: err}
}

// OpenXattr is Xattr for an attribute of any length, such as com.apple.ResourceFork.
func (f *FS) OpenXattr(name, attr string) (*io.SectionReader, error) {
	n, err := f.vfs.Lookup("getxattr", name, false)
	if err != nil {
		return nil, err
	}
	a, err := f.attr(n.ID(), attr)
	if a == nil && err == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "getxattr", Path: name, Err: fmt.Errorf("attribute %q: %w", attr, err)}
	}
	return io.NewSectionReader(a, 0, a.Size()), nil
}

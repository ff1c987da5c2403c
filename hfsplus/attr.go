package hfsplus

import (
	"bytes"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/go-dmg/dmg/internal/decmpfs"
	"github.com/go-dmg/dmg/internal/vfs"
)

// Names of attributes that are kept elsewhere, or that macOS keeps to itself.
const (
	attrResourceFork = "com.apple.ResourceFork"
	attrFinderInfo   = "com.apple.FinderInfo"
	systemPrefix     = "com.apple.system."
)

// maxXattr is how many bytes of an attribute Xattr returns.
const maxXattr = 16 << 20

// Types of the attributes tree's records.
const (
	inlineRecord  = 0x10
	forkRecord    = 0x20
	extentsRecord = 0x30
)

// An attribute key is: padding, the file, the first block of what the record holds,
// the name's length, and the name.
const attrKeyLen = 12

func attrKey(id uint32, units []byte, block uint32) []byte {
	key := make([]byte, attrKeyLen, attrKeyLen+len(units))
	be.PutUint32(key[2:], id)
	be.PutUint32(key[6:], block)
	be.PutUint16(key[10:], uint16(len(units)/2))
	return append(key, units...)
}

func validAttrKey(key []byte) bool {
	if len(key) < attrKeyLen {
		return false
	}
	n := int(be.Uint16(key[10:]))
	return n <= maxName && attrKeyLen+2*n <= len(key)
}

func attrName(key []byte) []byte {
	return key[attrKeyLen : attrKeyLen+2*int(be.Uint16(key[10:]))]
}

// compareAttr orders by file, name, and block.
func compareAttr(a, b []byte) int {
	if c := bytes.Compare(a[2:6], b[2:6]); c != 0 {
		return c
	}
	if c := bytes.Compare(attrName(a), attrName(b)); c != 0 {
		return c
	}
	return bytes.Compare(a[6:10], b[6:10])
}

// attribute finds an attribute in the tree. It is nil if there is none.
func (fsys *FS) attribute(id uint32, name string) (vfs.Content, error) {
	t, err := fsys.attributesTree()
	if t == nil || err != nil {
		return nil, err
	}
	units := encode(name, asGiven)
	if len(units) > 2*maxName {
		return nil, nil
	}
	found, err := t.find(attrKey(id, units, 0), func([]byte) bool { return true })
	if found.node == nil || err != nil {
		return nil, err
	}
	leaf := found.node
	_, data := found.record()
	if len(data) < 4 {
		return nil, t.errorf(leaf.number, "an attribute of %d bytes", len(data))
	}
	switch kind := be.Uint32(data); {
	case kind == inlineRecord && len(data) >= 16:
		size := be.Uint32(data[12:])
		if uint64(size) > uint64(len(data)-16) {
			return nil, t.errorf(leaf.number, "an attribute of %d bytes in a record of %d", size, len(data))
		}
		return bytes.NewReader(data[16 : 16+size]), nil
	case kind == forkRecord && len(data) >= 88:
		return fsys.volume.newFork(parseFork(data[8:]), fsys.moreAttr(t, id, units)), nil
	default:
		return nil, t.errorf(leaf.number, "an attribute's record of type %#x and %d bytes", kind, len(data))
	}
}

// moreAttr returns what looks up further extents of an attribute, which are in the
// attributes tree itself.
func (fsys *FS) moreAttr(t *tree, id uint32, units []byte) func(uint32) (run, error) {
	return func(block uint32) (run, error) {
		key, data, err := t.floor(attrKey(id, units, block))
		if err != nil {
			return run{}, err
		}
		if key == nil || be.Uint32(key[2:]) != id || !bytes.Equal(attrName(key), units) || len(data) < 72 || be.Uint32(data) != extentsRecord {
			return run{}, formatError("attributes tree", -1, "no extents for block %d of an attribute of file %d", block, id)
		}
		return run{be.Uint32(key[6:]), parseExtents(data[8:])}, nil
	}
}

// attributeNames lists the names that the tree has for a file.
func (fsys *FS) attributeNames(id uint32) ([]string, error) {
	t, err := fsys.attributesTree()
	if t == nil || err != nil {
		return nil, err
	}
	p, err := t.descend(attrKey(id, nil, 0))
	if err == errEmpty {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	size := 0
	for {
		top := p.top()
		if p.leafEnd() {
			if err := p.nextLeaf(); err == io.EOF {
				return names, nil
			} else if err != nil {
				return names, err
			}
			continue
		}
		key, data := top.node.record(top.i)
		top.i++
		switch file := be.Uint32(key[2:]); {
		case file > id && top.node.sorted:
			return names, nil
		case file != id || be.Uint32(key[6:]) != 0 || len(data) >= 4 && be.Uint32(data) == extentsRecord:
			continue
		}
		name := decodeAttr(attrName(key))
		if size += len(name) + 16; size > maxXattr {
			return names, vfs.ErrTooLarge
		}
		names = append(names, name)
	}
}

// decodeAttr turns a name that is not part of a path into UTF-8. Attributes' names
// are stored as they were given. encode is the reverse.
func decodeAttr(units []byte) string { return decode(units, func(uint16) bool { return false }) }

// xattrs is what a file's attributes are read from.
type xattrs struct {
	node   *node
	record record
}

func (fsys *FS) xattrs(op, name string) (*xattrs, error) {
	found, err := fsys.files.Lookup(op, name, false)
	if err != nil {
		return nil, err
	}
	n := found.(*node)
	r, err := n.record()
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return &xattrs{node: n, record: r}, nil
}

// list lists the names as macOS does.
func (x *xattrs) list() ([]string, error) {
	if x.node.broken {
		return nil, nil
	}
	h, err := x.node.compression(&x.record)
	if err != nil && !isFormat(err) {
		return nil, err
	}
	names, err := x.node.fs.attributeNames(x.node.id)
	names = slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, systemPrefix) || name == decmpfs.AttrName && h != nil
	})
	if x.node.finderInfo(&x.record) != [32]byte{} {
		names = append(names, attrFinderInfo)
	}
	if !x.record.folder && x.record.resource().size > 0 && h == nil {
		names = append(names, attrResourceFork)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// open opens an attribute.
func (x *xattrs) open(name string) (vfs.Content, error) {
	if x.node.broken {
		return nil, fs.ErrNotExist
	}
	switch {
	case name == attrFinderInfo:
		if info := x.node.finderInfo(&x.record); info != [32]byte{} {
			return bytes.NewReader(info[:]), nil
		}
	case name == attrResourceFork && !x.record.folder:
		if f := x.node.resourceFork(&x.record); f.Size() > 0 {
			return f, nil
		}
	}
	a, err := x.node.fs.attribute(x.node.id, name)
	if a == nil && err == nil {
		err = fs.ErrNotExist
	}
	return a, err
}

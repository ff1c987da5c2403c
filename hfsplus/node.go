package hfsplus

import (
	"bytes"
	"io"
	"io/fs"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/internal/vfs"
)

// A node is a folder's or file's record, as the place where it is.
type node struct {
	fs     *FS
	leaf   uint32
	rec    uint16
	broken bool // a hard link to nothing; the record is the link's
	id     uint32
	typ    fs.FileMode
}

// newNode returns the folder or file of a record. A hard link is followed.
func (fsys *FS) newNode(leaf *bnode, i int, data []byte) (*node, error) {
	n := &node{fs: fsys, leaf: leaf.number, rec: uint16(i), id: be.Uint32(data[8:])}
	if be.Uint16(data) == folderRecord {
		n.typ = fs.ModeDir
		return n, nil
	}
	if kind := fsys.linkKind(data); kind != noLink {
		return n, fsys.follow(n, kind, be.Uint32(data[44:]))
	}
	n.typ = fileMode(be.Uint16(data[42:])).Type()
	return n, nil
}

// record reads the node's record.
func (n *node) record() (record, error) {
	_, data, err := n.keyAndData()
	if err != nil {
		return record{}, err
	}
	return parseRecord(data), nil
}

func (n *node) keyAndData() (key, data []byte, err error) {
	t := n.fs.catalog
	leaf, err := t.node(n.leaf)
	if err != nil {
		return nil, nil, err
	}
	if leaf.height == 1 && int(n.rec) < leaf.n {
		key, data = leaf.record(int(n.rec))
	}
	if size := recordLen(data); size == 0 || len(data) < size || be.Uint32(data[8:]) != n.id {
		return nil, nil, t.errorf(n.leaf, "node %d has changed", n.leaf)
	}
	return key, data, nil
}

func (n *node) ID() uint64        { return uint64(n.id) }
func (n *node) Type() fs.FileMode { return n.typ }

// Lookup finds a name as macOS would store it, and then as it was given.
func (n *node) Lookup(name string) (vfs.Node, error) {
	if len(name) > maxName*len("%u0000") {
		return nil, fs.ErrNotExist
	}
	units := encodeName(name, n.fs.form)
	found, err := n.child(units)
	if found == nil && err == nil {
		if other := encodeName(name, asGiven); !bytes.Equal(units, other) {
			found, err = n.child(other)
		}
	}
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fs.ErrNotExist
	}
	return found, nil
}

// child returns the entry with a stored name, or nil.
func (n *node) child(units []byte) (*node, error) {
	if len(units) > 2*maxName {
		return nil, nil
	}
	at, data, err := n.fs.entry(n.id, units)
	if at.node == nil || err != nil {
		return nil, err
	}
	if n.fs.hidden(n.id, keyName(at.node.key(at.i))) {
		return nil, nil
	}
	return n.fs.newNode(at.node, at.i, data)
}

// entry finds a folder's or file's record by its parent and stored name. The node
// is nil if there is none.
func (fsys *FS) entry(parent uint32, units []byte) (level, []byte, error) {
	// An empty name is a thread's. A damaged volume may have an entry of that name.
	at, err := fsys.catalog.find(catalogKey(parent, units), func(data []byte) bool { return recordLen(data) > 0 })
	if at.node == nil || err != nil {
		return level{}, nil, err
	}
	_, data := at.record()
	if len(data) < recordLen(data) {
		return level{}, nil, fsys.catalog.errorf(at.node.number, "a record of %d bytes", len(data))
	}
	return at, data, nil
}

// entries gives out a folder's entries. Damage to a single one is told behind the
// last one, and behind a damaged node there are no more.
type entries struct {
	dir   *node
	path  *path // nil before the first entry
	err   error // of the first entry that was left out
	ended error
}

func (n *node) Entries() vfs.Entries { return &entries{dir: n} }

// Next returns the next entry.
func (e *entries) Next() (vfs.Entry, error) {
	for e.ended == nil {
		key, data, err := e.next()
		if err != nil {
			if e.ended = err; err == io.EOF && e.err != nil {
				e.ended = e.err
			}
			if !isFormat(err) && err != io.EOF {
				e.ended = nil // the source may do better next time
				return vfs.Entry{}, err
			}
			break
		}
		entry, err := e.entry(key, data)
		if err != nil && !isFormat(err) {
			return vfs.Entry{}, err
		}
		if err != nil && len(keyName(key)) == 0 && isThread(data) { // the folder itself is damaged
			e.ended = err
			break
		}
		e.path.top().i++
		if err != nil && e.err == nil {
			e.err = err
		}
		if entry.Node != nil {
			return entry, nil
		}
	}
	return vfs.Entry{}, e.ended
}

// next goes to the folder's next record.
func (e *entries) next() (key, data []byte, err error) {
	if e.path == nil {
		p, err := e.dir.fs.catalog.descend(catalogKey(e.dir.id, nil))
		if err == errEmpty {
			return nil, nil, io.EOF
		}
		if err != nil {
			return nil, nil, err
		}
		e.path = p
	}
	for {
		top := e.path.top()
		if e.path.leafEnd() {
			if err := e.path.nextLeaf(); err != nil {
				return nil, nil, err
			}
			continue
		}
		key, data = top.node.record(top.i)
		switch parent := be.Uint32(key); {
		case parent == e.dir.id:
			return key, data, nil
		case parent > e.dir.id && top.node.sorted:
			return nil, nil, io.EOF
		}
		top.i++
	}
}

// entry is that of a record. It is nil for records that are not listed.
func (e *entries) entry(key, data []byte) (entry vfs.Entry, err error) {
	fsys, units, top := e.dir.fs, keyName(key), e.path.top()
	size := recordLen(data)
	switch {
	case size == 0 && len(units) == 0 && isThread(data):
		return entry, e.dir.checkThread(data)
	case size == 0 || len(data) < size:
		return entry, fsys.catalog.errorf(top.node.number, "record %d of node %d has %d bytes", top.i, top.node.number, len(data))
	case fsys.hidden(e.dir.id, units):
		return entry, nil
	case doubled(top.node, top.i):
		return entry, fsys.catalog.errorf(top.node.number, "two entries of folder %d have one name", e.dir.id)
	}
	n, err := fsys.newNode(top.node, top.i, data)
	if err != nil {
		return entry, err
	}
	name, err := e.dir.nameOf(units)
	return vfs.Entry{Name: name, Node: n}, err
}

// checkThread refuses to list a folder in a place that is not its own. Then a folder
// that has records in several places is listed in one. A thread that leads to no
// such record is passed over: macOS makes do with such volumes.
func (n *node) checkThread(data []byte) error {
	key, _, err := n.keyAndData()
	if err != nil {
		return err
	}
	parent, units, ok := parseThread(data)
	if !ok || parent == be.Uint32(key) && bytes.Equal(units, keyName(key)) {
		return nil
	}
	at, home, err := n.fs.entry(parent, units)
	if at.node == nil || err != nil {
		return err
	}
	same := at.node.number == n.leaf && at.i == int(n.rec)
	if be.Uint16(home) == folderRecord && be.Uint32(home[8:]) == n.id && !same {
		return n.fs.catalog.errorf(n.leaf, "folder %d is in two places", n.id)
	}
	return nil
}

// doubled reports whether a leaf has a record's key before it, too. Keys that compare
// equal are in one leaf.
func doubled(leaf *bnode, i int) bool {
	key := leaf.key(i)
	for j := i - 1; j >= 0; j-- {
		other, data := leaf.record(j)
		equal := leaf.t.keys.compare(key, other) == 0
		if equal && recordLen(data) > 0 && bytes.Equal(keyName(key), keyName(other)) {
			return true
		}
		if !equal && leaf.sorted {
			break
		}
	}
	return false
}

// nameOf returns the name by which Lookup finds an entry.
func (n *node) nameOf(units []byte) (string, error) {
	name, exact := decodeName(units, n.fs.form)
	if exact {
		return name, nil
	}
	// Two entries may differ only in how they are composed. The one that Lookup
	// finds by the composed name has it.
	for _, form := range []norm.Form{n.fs.form, asGiven} {
		at, _, err := n.fs.entry(n.id, encodeName(name, form))
		if err != nil {
			return "", err
		}
		if at.node != nil {
			if bytes.Equal(keyName(at.node.key(at.i)), units) {
				return name, nil
			}
			break
		}
	}
	return escapeName(units), nil
}

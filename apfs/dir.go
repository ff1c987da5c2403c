package apfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/go-dmg/dmg/internal/vfs"
)

// maxTwins is how many names of one hash a folder may have. There are 2²² hashes: of ten
// million names five have the same one.
const maxTwins = 1024

// Lookup finds an entry by the hash of its name, or in a volume without hashes by the name.
func (n *fileNode) Lookup(name string) (vfs.Node, error) {
	raw := stored(name)
	want := n.fs.naming.canonical(raw)
	key := treeKey{a: recordKey(n.id, recEntry)}
	if n.fs.naming.hashed {
		key.b = uint64(hash(want))
	} else {
		key.name = []byte(raw)
	}
	e, err := n.find(key, func(k treeKey) bool { return k.compare(key) == 0 }, raw, want)
	if errors.Is(err, fs.ErrNotExist) && n.fs.naming.hashed && !isASCII(want) {
		// A Mac with newer tables of Unicode may have hashed another form.
		e, err = n.find(treeKey{a: key.a}, func(k treeKey) bool { return k.a == key.a }, raw, want)
	}
	if err != nil {
		return nil, err
	}
	return &fileNode{fs: n.fs, id: e.id, typ: e.typ}, nil
}

// find returns the entry with a name among those from a key on, as long as their keys are
// in. The one that is stored under just this name goes before others that are the same to
// the volume: there is more than one only in a damaged folder.
func (n *fileNode) find(from treeKey, in func(treeKey) bool, raw, want string) (found entry, err error) {
	c, err := n.fs.tree.seek(from, false)
	if err != nil {
		return entry{}, err
	}
	err = fs.ErrNotExist
	var others []entry // to compare if none is stored under just this name
	for {
		k, v, ok, nextErr := c.next()
		if nextErr != nil {
			return entry{}, nextErr
		}
		inside := false
		if ok {
			key, _ := c.t.kind.key(k)
			inside = in(key)
		}
		if !inside || len(others) == maxTwins {
			for _, e := range others {
				if err != nil && n.fs.naming.canonical(e.name) == want {
					found, err = e, nil
				}
			}
			others = others[:0]
		}
		if !inside {
			return found, err
		}
		e, ok := parseEntry(k, v, n.fs.naming.hashed)
		switch {
		case !ok && err == fs.ErrNotExist:
			err = n.malformed(c) // it may have been this one
		case ok && e.name == raw:
			return e, nil
		case ok:
			others = append(others, e)
		}
	}
}

func (n *fileNode) malformed(c *cursor) error {
	return damaged(c.leaf(), c.t.kind.name, "an entry of folder %d is malformed", n.id)
}

// entries lists a folder in the volume's order. Damage to a single entry is told behind
// the last one. Behind a node that can't be read there are no more.
type entries struct {
	dir    *fileNode
	cursor *cursor // nil before the first entry
	err    error   // of the first entry that was left out
	ended  error

	hash  uint32          // of the last entry
	names map[string]bool // given out with this hash, or of volumes without hashes the last one
}

// Entries lists the folder.
func (n *fileNode) Entries() vfs.Entries { return &entries{dir: n} }

// Next returns the next entry.
func (l *entries) Next() (vfs.Entry, error) {
	for l.ended == nil {
		e, ok, err := l.next()
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
			return vfs.Entry{}, err // the source may do better next time
		}
		if err == nil && ok {
			var name string
			if name, err = l.name(e); err == nil {
				return vfs.Entry{Name: name, Node: &fileNode{fs: l.dir.fs, id: e.id, typ: e.typ}}, nil
			}
			l.note(err)
			continue
		}
		if l.ended = io.EOF; err != nil {
			l.ended = err
		} else if l.err != nil {
			l.ended = l.err
		}
	}
	return vfs.Entry{}, l.ended
}

func (l *entries) note(err error) {
	if l.err == nil {
		l.err = err
	}
}

// next returns the next entry that can be read.
func (l *entries) next() (entry, bool, error) {
	key := recordKey(l.dir.id, recEntry)
	if l.cursor == nil {
		c, err := l.dir.fs.tree.seek(treeKey{a: key}, false)
		if err != nil {
			return entry{}, false, err
		}
		l.cursor = c
	}
	for {
		k, v, ok, err := l.cursor.next()
		if !ok || err != nil {
			return entry{}, false, err
		}
		if k, _ := l.cursor.t.kind.key(k); k.a != key {
			return entry{}, false, nil
		}
		if e, ok := parseEntry(k, v, l.dir.fs.naming.hashed); ok {
			return e, true, nil
		}
		l.note(l.dir.malformed(l.cursor))
	}
}

// name returns the name by which Lookup finds an entry.
func (l *entries) name(e entry) (string, error) {
	nm := l.dir.fs.naming
	name := nm.given(e.name)
	if !nm.hashed { // of the same key there may be several, one after the other
		if l.names[name] {
			return "", l.twice(e)
		}
		l.names = map[string]bool{name: true}
		return name, nil
	}
	if c := nm.canonical(e.name); hash(c) != e.hash && isASCII(c) {
		return "", damaged(l.cursor.leaf(), l.cursor.t.kind.name, "the hash of %q in folder %d is not that of the name", e.name, l.dir.id)
	}
	if e.hash != l.hash || l.names == nil {
		l.hash, l.names = e.hash, map[string]bool{}
	}
	switch {
	case l.names[name]:
		return "", l.twice(e)
	case len(l.names) == maxTwins:
		return "", fmt.Errorf("%w: more than %d names of folder %d have one hash", ErrFormat, maxTwins, l.dir.id)
	}
	l.names[name] = true
	return name, nil
}

func (l *entries) twice(e entry) error {
	return damaged(l.cursor.leaf(), l.cursor.t.kind.name, "two entries of folder %d have the name %q", l.dir.id, e.name)
}

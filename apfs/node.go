package apfs

import (
	"bytes"
	"cmp"
)

// Offsets and sizes in a node:
//
//	32 flags u16 · 34 level u16 · 36 keys u32 · 40 table of contents {offset u16, length u16}
//	44 free space {offset u16, length u16} · 56 data
//
// The table of contents is at 56 + its offset. Keys are counted from the table's end,
// values backwards from the node's end, or in a root from the 40 bytes before it.
const (
	nodeHeaderLen = 56
	treeInfoLen   = 40
	noValue       = 0xFFFF // as a value's offset

	nodeRoot     = 0x01
	nodeLeaf     = 0x02
	nodeFixed    = 0x04 // keys and values have fixed sizes
	nodeHashed   = 0x08 // values of index nodes have the child's hash
	nodeNoHeader = 0x10 // the object header is all zero: there is no checksum
)

// A treeKey is a key as trees sort it: by a, then b, then name. Which of a key's fields
// are in it, the tree's kind says.
type treeKey struct {
	a, b uint64
	name []byte
}

func (k treeKey) compare(o treeKey) int {
	if k.a != o.a {
		return cmp.Compare(k.a, o.a)
	}
	if k.b != o.b {
		return cmp.Compare(k.b, o.b)
	}
	return bytes.Compare(k.name, o.name)
}

// numbers is a treeKey without its name.
type numbers struct{ a, b uint64 }

// A treeKind is what all trees of a kind have in common.
type treeKind struct {
	name    string // for errors
	subtype uint32 // the object's
	// key takes a stored key apart. It reports false for one that can't be right.
	key func([]byte) (treeKey, bool)
	// keySize and valueSize are those of trees whose sizes are fixed.
	keySize, valueSize int
	names              bool // keys may have names
}

// A node is a block of a tree, all of whose keys and values were found inside it, and
// its keys in order.
type node struct {
	block  uint64
	data   []byte
	kind   *treeKind
	level  int
	fixed  bool
	hashed bool
	n      int    // keys
	toc    int    // offset of the table of contents
	keys   int    // offset of the key area
	end    int    // offset behind the value area
	sum    []byte // the node's hash, in a sealed volume

	// sorted has the numbers of all keys: most comparisons need no more.
	sorted []numbers
}

// memory is what the cache counts for a node.
func (n *node) memory() int64 { return int64(cap(n.data)) + 16*int64(cap(n.sorted)) + 256 }

func (n *node) leaf() bool { return n.level == 0 }

func (n *node) damaged(format string, args ...any) error {
	return damaged(n.block, n.kind.name, format, args...)
}

// parseNode takes a block for a node. The block's checksum was compared before.
func parseNode(b []byte, block uint64, kind *treeKind) (*node, error) {
	flags := le.Uint16(b[32:])
	n := &node{
		block: block, data: b, kind: kind,
		level:  int(le.Uint16(b[34:])),
		fixed:  flags&nodeFixed != 0,
		hashed: flags&nodeHashed != 0,
		end:    len(b),
	}
	if flags&nodeRoot != 0 {
		n.end -= treeInfoLen
		if err := n.checkInfo(b[n.end:]); err != nil {
			return nil, err
		}
	}
	if n.leaf() != (flags&nodeLeaf != 0) {
		return nil, n.damaged("level %d does not go with flags %#x", n.level, flags)
	}
	if n.fixed && kind.keySize == 0 {
		return nil, n.damaged("flags %#x are of another kind of tree", flags)
	}
	if err := n.checkRecords(le.Uint32(b[36:])); err != nil {
		return nil, err
	}
	return n, nil
}

// checkInfo compares the end of a root with what this package reads:
//
//	0 flags u32 · 4 node size u32 · 8 key size u32 · 12 value size u32 (0: variable)
//	16 longest key u32 · 20 longest value u32 · 24 keys u64 · 32 nodes u64
func (n *node) checkInfo(info []byte) error {
	if size := le.Uint32(info[4:]); size != uint32(len(n.data)) {
		return unsupported("%s with nodes of %d bytes, in blocks of %d", n.kind.name, size, len(n.data))
	}
	if !n.fixed {
		return nil
	}
	if k, v := le.Uint32(info[8:]), le.Uint32(info[12:]); k != uint32(n.kind.keySize) || v != uint32(n.kind.valueSize) {
		return n.damaged("keys of %d bytes and values of %d, want %d and %d", k, v, n.kind.keySize, n.kind.valueSize)
	}
	return nil
}

// checkRecords places the table of contents, and compares every entry with the node's
// bounds and with its neighbour.
func (n *node) checkRecords(count uint32) error {
	entry := 8
	if n.fixed {
		entry = 4
	}
	n.toc = nodeHeaderLen + int(le.Uint16(n.data[40:]))
	n.keys = n.toc + int(le.Uint16(n.data[42:]))
	if n.keys > n.end || uint64(count)*uint64(entry) > uint64(n.keys-n.toc) {
		return n.damaged("table of contents of %d keys, from %d to %d", count, n.toc, n.keys)
	}
	n.n = int(count)
	n.sorted = make([]numbers, 0, n.n) // the table has as many entries
	var last treeKey
	for i := range n.n {
		k, v, ok := n.bounds(i)
		if !ok {
			return n.damaged("key %d or its value is outside the node", i)
		}
		if !n.leaf() && len(v) < 8 {
			return n.damaged("key %d has no child", i)
		}
		key, ok := n.kind.key(k)
		if !ok {
			return n.damaged("key %d is malformed", i)
		}
		if i > 0 && last.compare(key) > 0 {
			return n.damaged("key %d is out of order", i)
		}
		last = key
		n.sorted = append(n.sorted, numbers{key.a, key.b})
	}
	return nil
}

// bounds returns key and value i, and whether both are inside the node.
func (n *node) bounds(i int) (key, value []byte, ok bool) {
	var keyOff, keyLen, valOff, valLen int
	if n.fixed {
		e := n.data[n.toc+4*i:]
		keyOff, keyLen = int(le.Uint16(e)), n.kind.keySize
		valOff, valLen = int(le.Uint16(e[2:])), n.kind.valueSize
		if !n.leaf() {
			valLen = 8
		}
	} else {
		e := n.data[n.toc+8*i:]
		keyOff, keyLen = int(le.Uint16(e)), int(le.Uint16(e[2:]))
		valOff, valLen = int(le.Uint16(e[4:])), int(le.Uint16(e[6:]))
	}
	keyOff += n.keys
	if keyOff+keyLen > n.end {
		return nil, nil, false
	}
	key = n.data[keyOff : keyOff+keyLen : keyOff+keyLen]
	if valOff == noValue {
		return key, nil, true
	}
	valOff = n.end - valOff
	if valOff < n.keys || valOff+valLen > n.end {
		return nil, nil, false
	}
	return key, n.data[valOff : valOff+valLen : valOff+valLen], true
}

// record returns key and value i. Both are the node's own memory: nobody may write there.
func (n *node) record(i int) (key, value []byte) {
	key, value, _ = n.bounds(i)
	return key, value
}

// key returns key i, which checkRecords has seen.
func (n *node) key(i int) treeKey {
	k, _ := n.record(i)
	key, _ := n.kind.key(k)
	return key
}

// before returns how many keys are less than k, or with orEqual no greater than k.
func (n *node) before(k treeKey, orEqual bool) int {
	lo, hi := 0, n.n
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if c := n.compare(mid, k); c < 0 || c == 0 && orEqual {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// compare compares key i with k.
func (n *node) compare(i int, k treeKey) int {
	switch s := n.sorted[i]; {
	case s.a != k.a:
		return cmp.Compare(s.a, k.a)
	case s.b != k.b:
		return cmp.Compare(s.b, k.b)
	case k.name == nil && !n.kind.names:
		return 0
	}
	return bytes.Compare(n.key(i).name, k.name)
}

package hfsplus

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// A tree is a B-tree: the catalog, the extents overflow tree, or the attributes
// tree (TN1150, "B-trees"; of HFS: Inside Macintosh, Files, chapter 2).
//
// What is read by way of the index is checked on the way: heights descend by one,
// keys ascend, and the keys of a node lie between the index keys around it. So
// every walk through a tree ends, visits no node twice, and finds the same records
// as a search does. The chain of leaves is not used.
type tree struct {
	name     string
	fork     *fork
	cache    *cache
	keys     keyKind
	nodeSize int
	depth    int
	root     uint32
	varKeys  bool // index keys are as long as they say, else maxKey
	maxKey   int

	recent      atomic.Pointer[bnode] // the sorted leaf that was searched last
	current     atomic.Pointer[bnode] // the node that was asked for last
	buffers     sync.Pool             // of *[]byte, for nodes that are read at once
	last        atomic.Uint32         // the node that was read last
	stored      *tree                 // of HFS, to read nodes before they are converted
	compareType uint8                 // how the catalog's keys are compared
}

// binaryCompare is the compareType of volumes that tell cases apart.
const binaryCompare = 0xBC

// keyKind is what trees differ in.
type keyKind struct {
	id      uint32 // of the tree's file
	short   bool   // key lengths are one byte: HFS, as it is stored
	classic *classicKind
	// valid reports whether a key has all of its fields.
	valid func(key []byte) bool
	// compare compares two valid keys.
	compare func(a, b []byte) int
}

const (
	maxDepth    = 16 // of Apple's own; a tree of 2³² records has less
	nodeHeader  = 14
	minNodeSize = 512
	maxNodeSize = 32768
)

// openTree reads a tree's header node. A tree without blocks has no records.
func openTree(name string, f *fork, c *cache, keys keyKind) (*tree, error) {
	t := &tree{name: name, fork: f, cache: c, keys: keys, nodeSize: minNodeSize}
	if f.Size() == 0 {
		return t, nil
	}
	b := make([]byte, minNodeSize)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if err == io.EOF {
			err = t.errorf(0, "the header node is cut off")
		}
		return nil, err
	}
	if int8(b[8]) != 1 || be.Uint16(b[10:]) == 0 {
		return nil, t.errorf(0, "no header node")
	}
	h := b[nodeHeader:]
	t.depth, t.root = int(be.Uint16(h)), be.Uint32(h[2:])
	t.nodeSize, t.maxKey = int(be.Uint16(h[18:])), int(be.Uint16(h[20:]))
	t.compareType = h[37]
	t.varKeys = keys.classic == nil && be.Uint32(h[38:])&4 != 0
	switch {
	case t.nodeSize < minNodeSize || t.nodeSize > maxNodeSize || t.nodeSize&(t.nodeSize-1) != 0:
		return nil, t.errorf(0, "nodes of %d bytes", t.nodeSize)
	case t.depth > maxDepth:
		return nil, t.errorf(0, "a depth of %d", t.depth)
	case (t.depth == 0) != (t.root == 0):
		return nil, t.errorf(0, "the root is node %d, at a depth of %d", t.root, t.depth)
	case keys.classic == nil && be.Uint32(h[38:])&2 == 0:
		return nil, t.errorf(0, "keys with lengths of one byte")
	case keys.classic != nil && t.nodeSize != classicNodeSize:
		return nil, t.errorf(0, "nodes of %d bytes in HFS", t.nodeSize)
	}
	if keys.classic != nil {
		kind := keyKind{short: true, valid: keys.classic.valid}
		t.stored = &tree{name: t.name, fork: f, keys: kind, nodeSize: t.nodeSize, maxKey: t.maxKey}
		t.varKeys = true
	}
	return t, nil
}

func (t *tree) errorf(node uint32, format string, args ...any) error {
	at := int64(-1)
	if off := int64(node) * int64(t.nodeSize); off/t.fork.v.block < int64(t.fork.known) { // else that takes a search
		if found, _, err := t.fork.locate(off); err == nil {
			at = found
		}
	}
	return formatError(t.name, at, format, args...)
}

// A bnode is a node of a tree. It never changes.
type bnode struct {
	data   []byte
	number uint32
	height int
	n      int // records
	sorted bool
	t      *tree
}

// readAhead is how many bytes of a tree are read at once, where nodes are read one
// after the other: for lists of a whole folder, or all of them.
const readAhead = 64 << 10

// node reads a node, by one read.
func (t *tree) node(number uint32) (*bnode, error) {
	if n := t.current.Load(); n != nil && n.number == number {
		return n, nil
	}
	n, err := t.cachedNode(number)
	if err == nil {
		t.current.Store(n)
	}
	return n, err
}

func (t *tree) cachedNode(number uint32) (*bnode, error) {
	k := nodeKey{t.keys.id, number}
	if n := t.cache.get(k); n != nil {
		return n, nil
	}
	off := int64(number) * int64(t.nodeSize)
	if number == 0 || off > t.fork.Size()-int64(t.nodeSize) {
		return nil, t.errorf(0, "node %d of %d", number, t.fork.Size()/int64(t.nodeSize))
	}
	if t.last.Swap(number)+1 == number {
		if n, err := t.readAhead(number, off); n != nil || err != nil {
			return n, err
		}
	}
	data := make([]byte, t.nodeSize)
	if _, err := t.fork.ReadAt(data, off); err != nil {
		return nil, err
	}
	n, err := t.parse(number, data)
	if err == nil {
		t.cache.put(k, n)
	}
	return n, err
}

// readAhead reads a node and some that follow by one read, and keeps them. If that is of
// no use, or fails, it returns nil.
func (t *tree) readAhead(number uint32, off int64) (*bnode, error) {
	size := t.fork.contiguous(off, readAhead) / int64(t.nodeSize) * int64(t.nodeSize)
	if size <= int64(t.nodeSize) {
		return nil, nil
	}
	buf, _ := t.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
		*buf = make([]byte, readAhead)
	}
	defer t.buffers.Put(buf)
	data := (*buf)[:size]
	if _, err := t.fork.ReadAt(data, off); err != nil {
		return nil, nil
	}
	count := uint32(size / int64(t.nodeSize))
	t.last.Store(number + count - 1)
	var first *bnode
	for i := range count {
		// A node in the cache has its bytes for itself.
		n, err := t.parse(number+i, bytes.Clone(data[int(i)*t.nodeSize:][:t.nodeSize]))
		switch {
		case err == nil:
			t.cache.put(nodeKey{t.keys.id, number + i}, n)
		case i == 0:
			return nil, err
		}
		// What follows may be unused, or damaged: then it is read again if need be.
		if i == 0 {
			first = n
		}
	}
	return first, nil
}

// parse checks a node, and converts it if it is of HFS.
func (t *tree) parse(number uint32, data []byte) (*bnode, error) {
	n := &bnode{data: data, number: number, t: t}
	if t.stored == nil {
		return n, n.check()
	}
	n.t = t.stored
	if err := n.check(); err != nil {
		return nil, err
	}
	return t.keys.classic.convert(n, t)
}

// check finds out whether all records lie inside the node.
func (n *bnode) check() error {
	t := n.t
	n.height, n.n = int(n.data[9]), int(be.Uint16(n.data[10:]))
	switch kind := int8(n.data[8]); {
	case kind == -1 && n.height == 1:
	case kind == 0 && n.height > 1 && n.height <= maxDepth:
	default:
		return t.errorf(n.number, "node %d is of kind %d and height %d", n.number, kind, n.height)
	}
	if 2*(n.n+1) > len(n.data)-nodeHeader {
		return t.errorf(n.number, "node %d has %d records", n.number, n.n)
	}
	last := nodeHeader
	for i := range n.n + 1 {
		off := n.offset(i)
		if off < last || off > len(n.data)-2*(n.n+1) {
			return t.errorf(n.number, "record %d of node %d begins at %d", i, n.number, off)
		}
		if i > 0 && !n.recordFits(i-1) {
			return t.errorf(n.number, "record %d of node %d is too short", i-1, n.number)
		}
		last = off + 1
	}
	if t.keys.compare == nil { // the node is converted before it is used
		return nil
	}
	n.sorted = true
	for i := 1; i < n.n; i++ {
		c := t.keys.compare(n.key(i-1), n.key(i))
		if c > 0 {
			n.sorted = false
		}
		if c >= 0 && n.height > 1 {
			return t.errorf(n.number, "index node %d is not in order", n.number)
		}
	}
	return nil
}

// offset is where record i begins, or the free space behind the last one.
func (n *bnode) offset(i int) int { return int(be.Uint16(n.data[len(n.data)-2*(i+1):])) }

// recordFits checks that the record has its key, and an index record its child.
func (n *bnode) recordFits(i int) bool {
	rec := n.data[n.offset(i):n.offset(i+1)]
	lengthSize := 2
	if n.t.keys.short {
		lengthSize = 1
	}
	if len(rec) < lengthSize {
		return false
	}
	keyLen, dataAt := n.keyLen(rec)
	if lengthSize+keyLen > len(rec) || dataAt > len(rec) || n.height > 1 && dataAt+4 > len(rec) {
		return false
	}
	return n.t.keys.valid(rec[lengthSize : lengthSize+keyLen])
}

// keyLen is the length of a record's key, and where the record's data begins.
func (n *bnode) keyLen(rec []byte) (keyLen, dataAt int) {
	size := 2
	if n.t.keys.short {
		keyLen, size = int(rec[0]), 1
	} else {
		keyLen = int(be.Uint16(rec))
	}
	dataAt = size + keyLen
	if n.height > 1 && !n.t.varKeys {
		dataAt = size + n.t.maxKey
	}
	return keyLen, dataAt + dataAt&1
}

// record returns a record's key and data.
func (n *bnode) record(i int) (key, data []byte) {
	rec := n.data[n.offset(i):n.offset(i+1)]
	keyLen, dataAt := n.keyLen(rec)
	if n.t.keys.short {
		return rec[1 : 1+keyLen], rec[dataAt:]
	}
	return rec[2 : 2+keyLen], rec[dataAt:]
}

func (n *bnode) key(i int) []byte {
	key, _ := n.record(i)
	return key
}

// search returns the first record whose key is not below the wanted one. In a leaf
// that is not in order, that may have any neighbours.
func (n *bnode) search(key []byte) int {
	if !n.sorted {
		for i := range n.n {
			if n.t.keys.compare(n.key(i), key) >= 0 {
				return i
			}
		}
		return n.n
	}
	lo, hi := 0, n.n
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if n.t.keys.compare(n.key(mid), key) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// A path leads from the root to a record of a leaf, or behind a leaf's last one.
type path struct {
	t      *tree
	levels [maxDepth]level
	n      int
}

type level struct {
	node *bnode
	i    int
}

func (l level) record() (key, data []byte) { return l.node.record(l.i) }

// errEmpty says that a tree has no records.
var errEmpty = errors.New("hfsplus: empty tree")

// descend goes to the first record whose key is not below the wanted one, or
// behind the last record of the leaf where that would be.
func (t *tree) descend(key []byte) (*path, error) {
	p := new(path)
	if err := p.descend(t, key); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *path) descend(t *tree, key []byte) error {
	if t.depth == 0 {
		return errEmpty
	}
	p.t = t
	root, err := t.node(t.root)
	if err != nil {
		return err
	}
	if root.height != t.depth {
		return t.errorf(t.root, "the root has height %d, not %d", root.height, t.depth)
	}
	if root.n == 0 {
		if root.height > 1 {
			return t.errorf(t.root, "the root is an index without records")
		}
		return errEmpty
	}
	p.push(root, 0)
	for {
		top := p.top()
		top.i = top.node.search(key)
		if top.node.height == 1 {
			return nil
		}
		// The child is that of the last key that is not above the wanted one.
		if top.i == top.node.n || t.keys.compare(top.node.key(top.i), key) > 0 {
			top.i = max(top.i-1, 0)
		}
		if err := p.down(); err != nil {
			return err
		}
	}
}

// leaf is descend for what needs the leaf alone.
func (t *tree) leaf(key []byte) (level, error) {
	// All keys between two keys of a leaf are in it, too: names of one folder often
	// are in one leaf.
	if n := t.recent.Load(); n != nil && t.keys.compare(n.key(0), key) <= 0 && t.keys.compare(key, n.key(n.n-1)) <= 0 {
		return level{n, n.search(key)}, nil
	}
	var p path
	if err := p.descend(t, key); err != nil {
		return level{}, err
	}
	l := *p.top()
	if l.node.sorted {
		t.recent.Store(l.node)
	}
	return l, nil
}

func (p *path) push(n *bnode, i int) {
	p.levels[p.n] = level{n, i}
	p.n++
}

func (p *path) top() *level { return &p.levels[p.n-1] }

// down goes from an index record to the first record of its child.
func (p *path) down() error {
	t, top := p.t, p.top()
	key, data := top.node.record(top.i)
	child, err := t.node(be.Uint32(data))
	if err != nil {
		return err
	}
	switch {
	case child.height != top.node.height-1:
		return t.errorf(child.number, "node %d has height %d below height %d", child.number, child.height, top.node.height)
	case child.n == 0:
		return t.errorf(child.number, "node %d has no records", child.number)
	}
	below := p.after()
	for i := 0; i < child.n; i++ {
		if child.sorted && i == 1 {
			i = child.n - 1 // between are the keys between
		}
		if k := child.key(i); t.keys.compare(k, key) < 0 || below != nil && t.keys.compare(k, below) >= 0 {
			return t.errorf(child.number, "record %d of node %d is not what the index says", i, child.number)
		}
	}
	p.push(child, 0)
	return nil
}

// after returns the index key behind all that is below the path's last record.
func (p *path) after() []byte {
	for i := p.n - 1; i >= 0; i-- {
		if l := p.levels[i]; l.i+1 < l.node.n {
			return l.node.key(l.i + 1)
		}
	}
	return nil
}

// nextLeaf goes to the first record of the next leaf. The error is io.EOF if there
// is none.
func (p *path) nextLeaf() error {
	for n := p.n - 1; n > 0; n-- {
		up := &p.levels[n-1]
		if up.i+1 == up.node.n {
			continue
		}
		back := *p // a failed read changes nothing
		up.i++
		p.n = n
		for p.top().node.height > 1 {
			if err := p.down(); err != nil {
				*p = back
				return err
			}
		}
		return nil
	}
	return io.EOF
}

// leafEnd reports whether the path is behind the last record of its leaf.
func (p *path) leafEnd() bool { return p.top().i >= p.top().node.n }

// find goes to the record with the key whose data is accepted. Of keys that compare
// equal it prefers the one that has the same bytes. The node is nil if there is none.
func (t *tree) find(key []byte, accept func(data []byte) bool) (level, error) {
	top, err := t.leaf(key)
	if err == errEmpty {
		return level{}, nil
	}
	if err != nil {
		return level{}, err
	}
	equal := -1
	for i := top.i; i < top.node.n; i++ {
		k, data := top.node.record(i)
		c := t.keys.compare(k, key)
		if c > 0 && top.node.sorted {
			break
		}
		if c != 0 || !accept(data) {
			continue
		}
		if bytes.HasPrefix(k, key) { // an index key may be longer than its fields
			equal = i
			break
		}
		if equal < 0 {
			equal = i
		}
	}
	if equal < 0 {
		return level{}, nil
	}
	return level{top.node, equal}, nil
}

// floor returns the last record whose key is not above the wanted one. The key is
// nil if there is none.
func (t *tree) floor(key []byte) (got, data []byte, err error) {
	l, err := t.leaf(key)
	if err == errEmpty {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	n := l.node
	best := -1
	for i := n.n - 1; i >= 0; i-- {
		k := n.key(i)
		if t.keys.compare(k, key) <= 0 && (best < 0 || t.keys.compare(k, n.key(best)) > 0) {
			best = i
		}
		if best >= 0 && n.sorted {
			break
		}
	}
	if best < 0 {
		return nil, nil, nil
	}
	got, data = n.record(best)
	return got, data, nil
}

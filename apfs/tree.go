package apfs

// maxDepth bounds the levels of a tree. Nodes of 4 KiB hold 40 children at least, so that
// 16 levels are more than any disk can fill.
const maxDepth = 16

// A tree is found by its root. Looking up a key descends from there; a cursor goes on
// over the leaves.
type tree struct {
	kind *treeKind
	root uint64 // oid
	// load returns the node of an oid; hash is what its parent says about it, or nil.
	load func(oid uint64, hash []byte) (*node, error)
	// relative means that children's oids are counted from the root's, as in the hashed
	// trees of sealed volumes. Apple's reference does not say so; two other readers agree.
	relative bool
	rootHash []byte // of a sealed volume's tree
	// ahead, if it is not nil, may load several nodes at once into the cache.
	ahead func(oids []uint64)
}

// maxAhead is how many leaves a cursor that goes on has loaded at once.
const maxAhead = 16

// childID returns the oid of child i of n.
func (t *tree) childID(n *node, i int) uint64 {
	_, v := n.record(i)
	if t.relative {
		return le.Uint64(v) + t.root
	}
	return le.Uint64(v)
}

// loadAhead has the next leaves below n loaded, from child i on: twice as many each time.
func (c *cursor) loadAhead(n *node, i int) {
	if n.level != 1 || c.t.ahead == nil {
		return
	}
	if c.ahead = min(2*c.ahead, maxAhead); c.ahead == 0 {
		c.ahead = 1
		return
	}
	var oids []uint64
	for ; i < n.n && len(oids) < c.ahead; i++ {
		oids = append(oids, c.t.childID(n, i))
	}
	c.t.ahead(oids)
}

// child loads child i of n, and compares its level with its parent's: so no tree that
// loops is without an end.
func (t *tree) child(n *node, i int) (*node, error) {
	var hash []byte
	if n.hashed {
		_, v := n.record(i)
		hash = v[8:]
	}
	c, err := t.load(t.childID(n, i), hash)
	if err != nil {
		return nil, err
	}
	if c.level != n.level-1 {
		return nil, c.damaged("level %d, below level %d", c.level, n.level)
	}
	if c.n == 0 {
		return nil, c.damaged("no keys")
	}
	return c, nil
}

// A cursor is a place in a tree: between two records, or at an end.
type cursor struct {
	t     *tree
	path  [maxDepth]step
	depth int // steps of path in use; the last one is a leaf
	ahead int // leaves that were loaded at once the last time

	// twins are leaves that begin with the key that the leaf before ended with, as names
	// with one hash may have it. None may come twice: see forward.
	twins map[uint64]bool
}

type step struct {
	n *node
	i int // of the child that the path goes through, or in a leaf of the next record
}

// seek returns a cursor in front of the first record whose key is not less than k. After
// orEqual it is behind the last record whose key is not greater than k.
func (t *tree) seek(k treeKey, orEqual bool) (*cursor, error) {
	n, err := t.load(t.root, t.rootHash)
	if err != nil {
		return nil, err
	}
	c := &cursor{t: t}
	if n.level >= maxDepth {
		return nil, n.damaged("%d levels", n.level+1)
	}
	for {
		i := n.before(k, orEqual)
		if n.leaf() {
			c.push(n, i)
			if i == 0 && orEqual {
				// The key of an index node may be less than all that are left below it.
				return c, c.back()
			}
			return c, nil
		}
		// The child before the first greater key: it begins below k, and may end above.
		i = max(i-1, 0)
		c.push(n, i)
		if n.n == 0 {
			return nil, n.damaged("no keys")
		}
		if n, err = t.child(n, i); err != nil {
			return nil, err
		}
	}
}

func (c *cursor) push(n *node, i int) {
	c.path[c.depth] = step{n, i}
	c.depth++
}

// prev returns the record before the cursor, which is in the same leaf for a cursor that
// seek returned with orEqual. It reports false where there is none.
func (c *cursor) prev() (key, value []byte, ok bool) {
	s := &c.path[c.depth-1]
	if s.i == 0 {
		return nil, nil, false
	}
	key, value = s.n.record(s.i - 1)
	return key, value, true
}

// next returns the record behind the cursor, and goes over it. It reports false at the
// tree's end.
func (c *cursor) next() (key, value []byte, ok bool, err error) {
	s := &c.path[c.depth-1]
	if s.i == s.n.n {
		if ok, err := c.forward(); !ok {
			return nil, nil, false, err
		}
		s = &c.path[c.depth-1]
	}
	key, value = s.n.record(s.i)
	s.i++
	return key, value, true, nil
}

// leaf returns the block of the leaf that the cursor is in, for errors.
func (c *cursor) leaf() uint64 { return c.path[c.depth-1].n.block }

// forward goes to the start of the next leaf. It reports false at the tree's end.
//
// A tree whose index nodes lie may have a leaf twice, or a hundred children that are all
// the same, which have children of that kind again. Such a tree has no end in practice. So
// the keys must go up from leaf to leaf; and where they stay the same, each leaf may come
// once.
func (c *cursor) forward() (bool, error) {
	was := c.path[c.depth-1].n
	d := c.depth - 2
	for d >= 0 && c.path[d].i == c.path[d].n.n-1 {
		d--
	}
	if d < 0 {
		return false, nil
	}
	path := *c // on failure the cursor stays
	path.path[d].i++
	for path.depth = d + 1; ; {
		s := path.path[path.depth-1]
		path.loadAhead(s.n, s.i)
		n, err := c.t.child(s.n, s.i)
		if err != nil {
			return false, err
		}
		path.push(n, 0)
		if n.leaf() {
			break
		}
	}
	n := path.path[path.depth-1].n
	if was.n > 0 {
		switch order := was.compare(was.n-1, n.key(0)); {
		case order > 0:
			return false, n.damaged("keys go back behind those of block %d", was.block)
		case order < 0:
			path.twins = nil
		case path.twins[n.block] || n.block == was.block:
			return false, n.damaged("the block is in the tree twice")
		default:
			if path.twins == nil {
				path.twins = map[uint64]bool{was.block: true}
			}
			path.twins[n.block] = true
		}
	}
	*c = path
	return true, nil
}

// back goes to the end of the leaf before, if there is one.
func (c *cursor) back() error {
	d := c.depth - 2
	for d >= 0 && c.path[d].i == 0 {
		d--
	}
	if d < 0 {
		return nil
	}
	c.path[d].i--
	for c.depth = d + 1; ; {
		s := c.path[c.depth-1]
		n, err := c.t.child(s.n, s.i)
		if err != nil {
			return err
		}
		if n.leaf() {
			c.push(n, n.n)
			return nil
		}
		c.push(n, n.n-1)
	}
}

// floor returns the last record whose key is not greater than k.
func (t *tree) floor(k treeKey) (key, value []byte, ok bool, err error) {
	n, err := t.load(t.root, t.rootHash)
	for depth := 0; err == nil && depth < maxDepth; depth++ {
		i := n.before(k, true)
		switch {
		case i == 0 && depth > 0:
			// Keys of index nodes may be less than all that are left below them.
			c, err := t.seek(k, true)
			if err != nil {
				return nil, nil, false, err
			}
			key, value, ok = c.prev()
			return key, value, ok, nil
		case i == 0:
			return nil, nil, false, nil
		case n.leaf():
			key, value = n.record(i - 1)
			return key, value, true, nil
		}
		n, err = t.child(n, i-1)
	}
	if err == nil {
		err = n.damaged("more than %d levels", maxDepth)
	}
	return nil, nil, false, err
}

// get returns the value of a key. It reports false where the tree has none.
func (t *tree) get(k treeKey) (value []byte, ok bool, err error) {
	key, value, ok, err := t.floor(k)
	if !ok || err != nil {
		return nil, false, err
	}
	if have, _ := t.kind.key(key); have.compare(k) != 0 {
		return nil, false, nil
	}
	return value, true, nil
}

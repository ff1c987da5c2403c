package hfsplus

import "sync"

// cacheLimit is how many bytes of B-tree nodes a volume keeps.
const cacheLimit = 4 << 20

// nodeCost is what a node takes beside its bytes.
const nodeCost = 256

type nodeKey struct{ tree, node uint32 }

// A cache keeps the nodes that were used last.
type cache struct {
	mu struct {
		sync.Mutex
		nodes map[nodeKey]*slot
		// A ring: oldest.newer is the second oldest, oldest.older the newest.
		oldest *slot
		used   int
	}
}

type slot struct {
	key          nodeKey
	node         *bnode
	older, newer *slot
}

func newCache() *cache {
	c := &cache{}
	c.mu.nodes = map[nodeKey]*slot{}
	return c
}

// get returns nil if the node isn't there.
func (c *cache) get(k nodeKey) *bnode {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.mu.nodes[k]
	if s == nil {
		return nil
	}
	c.unlink(s)
	c.link(s)
	return s.node
}

// put adds a node. Readers that read one node at a time each put it.
func (c *cache) put(k nodeKey, n *bnode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.nodes[k] != nil {
		return
	}
	s := &slot{key: k, node: n}
	c.mu.nodes[k] = s
	c.link(s)
	for c.mu.used += len(n.data) + nodeCost; c.mu.used > cacheLimit; {
		old := c.mu.oldest
		c.unlink(old)
		delete(c.mu.nodes, old.key)
		c.mu.used -= len(old.node.data) + nodeCost
	}
}

// bytes is the memory that the nodes take.
func (c *cache) bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.used
}

// link makes a slot the newest.
func (c *cache) link(s *slot) {
	old := c.mu.oldest
	if old == nil {
		s.older, s.newer = s, s
		c.mu.oldest = s
		return
	}
	s.older, s.newer = old.older, old
	old.older.newer = s
	old.older = s
}

func (c *cache) unlink(s *slot) {
	if s.newer == s {
		c.mu.oldest = nil
		return
	}
	s.older.newer, s.newer.older = s.newer, s.older
	if c.mu.oldest == s {
		c.mu.oldest = s.newer
	}
}

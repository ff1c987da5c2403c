package apfs

import (
	"container/list"
	"sync"
)

// nodeCacheSize is how many bytes of tree nodes a container keeps. A volume of 100,000
// files has some 30 MB of them, of which all index nodes fit.
const nodeCacheSize = 8 << 20

// nodeCache keeps the nodes that were used last. Nodes never change, so that they may be
// in use after they have left it.
type nodeCache struct {
	room int64 // bytes, set when it is made

	mu struct {
		sync.Mutex
		used  int64
		nodes map[nodeKey]*list.Element
		order list.List // of *cached, the one used last in front
	}
}

// nodeKey has everything that checking a node depends on. So the order of reads does not
// change what a reader gets of a block that a hostile container uses twice. Each volume
// has its own kinds.
type nodeKey struct {
	kind  *treeKind
	oid   uint64
	block uint64
	flags uint32 // the object map's
}

type cached struct {
	key  nodeKey
	node *node
}

func newNodeCache(room int64) *nodeCache {
	c := &nodeCache{room: room}
	c.mu.nodes = make(map[nodeKey]*list.Element)
	return c
}

// get returns the node, or nil.
func (c *nodeCache) get(key nodeKey) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.mu.nodes[key]
	if e == nil {
		return nil
	}
	c.mu.order.MoveToFront(e)
	return e.Value.(*cached).node
}

// put keeps a node that was checked. Two goroutines may have read it at once: then the
// first one's stays.
func (c *nodeCache) put(key nodeKey, n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.nodes[key] != nil {
		return
	}
	c.mu.nodes[key] = c.mu.order.PushFront(&cached{key, n})
	c.mu.used += n.memory()
	for c.mu.used > c.room {
		last := c.mu.order.Back()
		old := c.mu.order.Remove(last).(*cached)
		delete(c.mu.nodes, old.key)
		c.mu.used -= old.node.memory()
	}
}

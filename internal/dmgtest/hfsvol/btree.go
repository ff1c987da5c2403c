package hfsvol

import (
	"encoding/binary"
	"fmt"
)

// A record of a tree, before it has a place.
type record struct {
	key  []byte // without its length
	data []byte
}

// tree is what a B-tree is written by.
type tree struct {
	nodeSize   int
	maxRecords int
	maxKey     int
	attributes uint32 // big keys; index keys of their own length
	compare    uint8
	records    []record // in order
}

const (
	nodeHead     = 14
	bigKeys      = 2
	variableKeys = 4

	leafNode   = -1
	indexNode  = 0
	headerNode = 1
	mapNode    = 2
)

// node is a node being filled.
type node struct {
	kind    int8
	height  int
	next    uint32
	prev    uint32
	records [][]byte
	keys    [][]byte // of a leaf or an index
}

// room is how many bytes are left for a further record.
func (n *node) room(size int) int {
	size -= nodeHead + 2*(len(n.records)+2)
	for _, r := range n.records {
		size -= len(r)
	}
	return size
}

// entry forms a record: key length, key, data, to an even length.
func entry(key, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(key)))
	b = append(b, key...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b = append(b, data...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	return b
}

// level puts records into nodes, numbered from first on, next to each other.
func (t *tree) level(kind int8, height int, first int, records []record) []*node {
	var nodes []*node
	for _, r := range records {
		b := entry(r.key, r.data)
		last := len(nodes) - 1
		if last < 0 || nodes[last].room(t.nodeSize) < len(b) || t.maxRecords > 0 && len(nodes[last].records) >= t.maxRecords {
			nodes = append(nodes, &node{kind: kind, height: height})
			last++
		}
		n := nodes[last]
		if n.room(t.nodeSize) < len(b) {
			panic(fmt.Sprintf("hfsvol: a record of %d bytes in a node of %d", len(b), t.nodeSize))
		}
		n.records = append(n.records, b)
		n.keys = append(n.keys, r.key)
	}
	for i, n := range nodes {
		if i > 0 {
			n.prev = uint32(first + i - 1)
		}
		if i+1 < len(nodes) {
			n.next = uint32(first + i + 1)
		}
	}
	return nodes
}

// write makes the tree's fork. Node 0 is the header, map nodes follow, then leaves,
// then the levels above.
func (t *tree) write() ([]byte, Tree) {
	maps := t.mapNodes()
	first := 1 + maps
	nodes := make([]*node, first)
	records, kind, height, begin := t.records, int8(leafNode), 0, first
	leaves := 0
	for len(records) > 0 {
		height++
		if height > 16 {
			panic("hfsvol: a tree of more than 16 levels")
		}
		begin = len(nodes)
		level := t.level(kind, height, begin, records)
		nodes = append(nodes, level...)
		if height == 1 {
			leaves = len(level)
		}
		if len(level) == 1 {
			break
		}
		records = nil
		for i, n := range level {
			records = append(records, record{n.keys[0], binary.BigEndian.AppendUint32(nil, uint32(begin+i))})
		}
		kind = indexNode
	}
	info := Tree{NodeSize: t.nodeSize, Depth: height, Root: begin}
	head := header{t: t, depth: height, root: begin, firstLeaf: first, lastLeaf: first + leaves - 1, nodes: len(nodes)}
	if height == 0 {
		info.Root, head.root, head.firstLeaf, head.lastLeaf = 0, 0, 0, 0
	}
	head.make(nodes, maps)
	var fork []byte
	for i, n := range nodes {
		fork = append(fork, n.bytes(t.nodeSize)...)
		info.Nodes = append(info.Nodes, int64(i*t.nodeSize))
		off := int64(i*t.nodeSize + nodeHead)
		for k, key := range n.keys {
			data := 2 + len(key)
			data += data % 2
			info.Records = append(info.Records, Record{Node: i, Index: k, Height: n.height, Key: key,
				Off: off, Data: off + int64(data), Size: len(n.records[k]) - data})
			off += int64(len(n.records[k]))
		}
	}
	return fork, info
}

// mapNodes is how many map nodes the tree needs: it asks how many nodes there are
// without.
func (t *tree) mapNodes() int {
	total, records, kind := 1, t.records, int8(leafNode)
	for len(records) > 0 {
		level := t.level(kind, 1, 0, records)
		total += len(level)
		if len(level) == 1 {
			break
		}
		records = nil
		for _, n := range level {
			records = append(records, record{n.keys[0], make([]byte, 4)})
		}
		kind = indexNode
	}
	maps := 0
	for total+maps > headerBits(t.nodeSize)+maps*mapBits(t.nodeSize) {
		maps++
	}
	return maps
}

// header is what the header record says.
type header struct {
	t                          *tree
	depth, root                int
	firstLeaf, lastLeaf, nodes int
}

const (
	headerLen = 106
	userLen   = 128
)

func headerBits(nodeSize int) int { return 8 * (nodeSize - nodeHead - headerLen - userLen - 8) }
func mapBits(nodeSize int) int    { return 8 * ((nodeSize - nodeHead - 4) &^ 3) }

// make fills the header node and the map nodes.
func (h *header) make(nodes []*node, maps int) {
	var w big
	w.u16(uint16(h.depth))
	w.u32(uint32(h.root), uint32(len(h.t.records)), uint32(h.firstLeaf), uint32(h.lastLeaf))
	w.u16(uint16(h.t.nodeSize), uint16(h.t.maxKey))
	w.u32(uint32(h.nodes), 0)
	w.u16(0)
	w.u32(0) // clump size
	w.u8(0, h.t.compare)
	w.u32(h.t.attributes)
	w.zero(64)
	bits := make([]byte, (h.nodes+7)/8)
	for i := range h.nodes {
		bits[i/8] |= 0x80 >> (i % 8)
	}
	bitmap := func(n int) []byte {
		b := make([]byte, n/8)
		bits = bits[copy(b, bits):]
		return b
	}
	nodes[0] = &node{kind: headerNode, records: [][]byte{w.b, make([]byte, userLen), bitmap(headerBits(h.t.nodeSize))}}
	for i := 1; i <= maps; i++ {
		nodes[i-1].next = uint32(i)
		nodes[i] = &node{kind: mapNode, records: [][]byte{bitmap(mapBits(h.t.nodeSize))}}
	}
}

// bytes forms a node: head, records, and their offsets from the end.
func (n *node) bytes(size int) []byte {
	var w big
	w.u32(n.next, n.prev)
	w.u8(uint8(n.kind), uint8(n.height))
	w.u16(uint16(len(n.records)), 0)
	offs := []uint16{nodeHead}
	for _, r := range n.records {
		w.b = append(w.b, r...)
		offs = append(offs, uint16(len(w.b)))
	}
	w.zero(size - len(w.b))
	for i, off := range offs {
		binary.BigEndian.PutUint16(w.b[size-2*(i+1):], off)
	}
	return w.b
}

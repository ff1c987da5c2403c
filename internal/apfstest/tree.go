package apfstest

import (
	"cmp"
	"crypto/sha256"
	"slices"
)

// A record is a key and its value. The fields behind are those by which it is sorted.
type record struct {
	key, val []byte
	id       uint64
	typ      uint8
	num      uint64
	name     string
}

func sortRecords(list []record) {
	slices.SortStableFunc(list, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.typ, b.typ), cmp.Compare(a.num, b.num), cmp.Compare(a.name, b.name))
	})
}

// A treeSpec is what a tree is to be like.
type treeSpec struct {
	what     string
	subtype  uint32
	flags    uint32 // of the root's info
	physical bool
	fixed    bool // keys of 16 bytes, values of val bytes
	keyLen   int
	valLen   int
	hashed   bool // as of sealed volumes: hashes, and no headers
	root     uint64
	xid      uint64
	maxKeys  int // in a node; 0: as many as fit
}

const (
	btreePhysical   = 0x10
	btreeNonaligned = 0x40
	btreeHashed     = 0x80
	btreeNoHeader   = 0x100
)

// A treeWriter makes nodes.
type treeWriter struct {
	w    *writer
	spec treeSpec
	// place returns the block of a new node, and its oid; the root's oid is given.
	place func(root bool) (block, oid uint64)
	store func(block, oid uint64, b block)

	nodes               uint64
	longestKey, longest int
}

// write makes the tree of sorted records, and returns its root's block and hash.
func (t *treeWriter) write(records []record) (root uint64, rootHash []byte) {
	total := len(records)
	for _, r := range records {
		t.longestKey, t.longest = max(t.longestKey, len(r.key)), max(t.longest, len(r.val))
	}
	for level := 0; ; level++ {
		if t.fits(records, level, true) {
			blk, oid := t.place(true)
			t.nodes++
			b := t.node(records, level, true, total)
			t.finish(b, blk, oid, true)
			return blk, hashOf(b)
		}
		var up []record
		for len(records) > 0 {
			n := t.take(records, level)
			blk, oid := t.place(false)
			t.nodes++
			b := t.node(records[:n], level, false, 0)
			t.finish(b, blk, oid, false)
			child := oid
			if t.spec.hashed {
				child -= t.spec.root
			}
			val := le.AppendUint64(nil, child)
			if t.spec.hashed {
				val = append(val, hashOf(b)...)
			}
			up = append(up, record{key: records[0].key, val: val})
			records = records[n:]
		}
		records = up
	}
}

func hashOf(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// room returns how many bytes of a node the table, keys and values of records take.
func (t *treeWriter) room(records []record) int {
	n := 0
	for _, r := range records {
		n += t.entryLen() + len(r.key) + len(r.val)
	}
	return n
}

func (t *treeWriter) entryLen() int {
	if t.spec.fixed {
		return 4
	}
	return 8
}

// tableLen is the length of the table of contents. Trees of fixed sizes set aside what a
// full node needs.
func (t *treeWriter) tableLen(n, level int) int {
	if t.spec.fixed {
		val := t.spec.valLen
		if level > 0 {
			val = 8
		}
		return (t.w.bs - 56) / (t.spec.keyLen + val + 4) * 4
	}
	return max(n, 16) * 8
}

func (t *treeWriter) fits(records []record, level int, root bool) bool {
	if t.spec.maxKeys > 0 && len(records) > t.spec.maxKeys {
		return false
	}
	free := t.w.bs - 56 - t.tableLen(len(records), level)
	if root {
		free -= 40
	}
	if t.tableLen(len(records), level) < len(records)*t.entryLen() {
		return false
	}
	return t.room(records)-len(records)*t.entryLen() <= free
}

// take returns how many records go into the next node.
func (t *treeWriter) take(records []record, level int) int {
	n := 1
	for n < len(records) && t.fits(records[:n+1], level, false) {
		n++
	}
	return n
}

func (t *treeWriter) node(records []record, level int, root bool, total int) block {
	s := t.spec
	b := make(block, t.w.bs)
	flags := uint16(0)
	end := t.w.bs
	if root {
		flags |= 1
		end -= 40
	}
	if level == 0 {
		flags |= 2
	}
	if s.fixed {
		flags |= 4
	}
	if s.hashed {
		flags |= 8 | 0x10
	}
	table := t.tableLen(len(records), level)
	b.u16(32, flags)
	b.u16(34, uint16(level))
	b.u32(36, uint32(len(records)))
	b.u16(42, uint16(table))
	key, val := 56+table, end
	for i, r := range records {
		copy(b[key:], r.key)
		val -= len(r.val)
		copy(b[val:], r.val)
		if s.fixed {
			b.u16(56+4*i, uint16(key-56-table))
			b.u16(56+4*i+2, uint16(end-val))
		} else {
			b.u16(56+8*i, uint16(key-56-table))
			b.u16(56+8*i+2, uint16(len(r.key)))
			b.u16(56+8*i+4, uint16(end-val))
			b.u16(56+8*i+6, uint16(len(r.val)))
		}
		key += len(r.key)
	}
	b.u16(44, uint16(key-56-table))
	b.u16(46, uint16(val-key))
	b.u16(48, 0xFFFF) // no free keys or values
	b.u16(52, 0xFFFF)
	if root {
		t.info(b[end:], total)
	}
	return b
}

// info writes the end of a root.
func (t *treeWriter) info(b block, total int) {
	s := t.spec
	b.u32(0, s.flags)
	b.u32(4, uint32(t.w.bs))
	if s.fixed {
		b.u32(8, uint32(s.keyLen))
		b.u32(12, uint32(s.valLen))
		t.longestKey, t.longest = s.keyLen, s.valLen
	}
	b.u32(16, uint32(t.longestKey))
	b.u32(20, uint32(t.longest))
	b.u64(24, uint64(total))
	b.u64(32, t.nodes)
}

func (t *treeWriter) finish(b block, blk, oid uint64, root bool) {
	if !t.spec.hashed {
		typ := uint32(3)
		if root {
			typ = 2
		}
		if t.spec.physical {
			typ |= 0x40000000
		}
		t.w.header(b, oid, t.spec.xid, typ, t.spec.subtype)
	}
	t.store(blk, oid, b)
}

// physicalTree writes a tree whose oids are blocks.
func (w *writer) physicalTree(spec treeSpec, records []record) uint64 {
	spec.physical = true
	spec.flags |= btreePhysical
	t := &treeWriter{w: w, spec: spec}
	t.place = func(bool) (uint64, uint64) {
		b := w.alloc(1)
		return b, b
	}
	t.store = func(blk, _ uint64, b block) { w.put(blk, b, spec.what, nil) }
	root, _ := t.write(records)
	return root
}

// omapRecord is an entry of an object map.
func omapRecord(oid, xid uint64, flags uint32, bs int, blk uint64) record {
	key := le.AppendUint64(le.AppendUint64(nil, oid), xid)
	val := le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, flags), uint32(bs)), blk)
	return record{key: key, val: val, id: oid, num: xid}
}

// omap writes an object map, and returns its block.
func (w *writer) omap(records []record, snapshots []uint64, xid uint64, managed bool, maxKeys int) uint64 {
	sortRecords(records)
	blk := w.alloc(1)
	b := make(block, w.bs)
	if managed {
		b.u32(32, 1)
	}
	b.u32(36, uint32(len(snapshots)))
	b.u32(40, 0x40000002)
	b.u32(44, 0x40000002)
	b.u64(48, w.physicalTree(treeSpec{
		what: "node of object map", subtype: 0xB, fixed: true, keyLen: 16, valLen: 16, xid: xid, maxKeys: maxKeys,
	}, records))
	if len(snapshots) > 0 {
		var list []record
		for _, s := range snapshots {
			list = append(list, record{key: le.AppendUint64(nil, s), val: make([]byte, 16)})
		}
		b.u64(56, w.physicalTree(treeSpec{what: "node of object map's snapshots", subtype: 0x13, fixed: true, keyLen: 8, valLen: 16, xid: xid}, list))
		b.u64(64, snapshots[len(snapshots)-1])
	}
	w.header(b, blk, xid, 0x4000000B, 0)
	w.put(blk, b, "object map", nil)
	return blk
}

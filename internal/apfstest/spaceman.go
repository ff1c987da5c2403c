package apfstest

// checkpointData is how many blocks the checkpoint data area has: room for the reaper, the
// space manager and its two queues; and so many that blocks behind it are valid as object
// ids, which begin at 1024.
func (c *Container) checkpointData() uint64 {
	if c.Compact {
		return 4
	}
	return 1024
}

// volumeRoom is how many bytes a container has for each of the volumes that it may have.
const volumeRoom = 512 << 20

// finish writes the space manager, and then the checkpoints.
func (w *writer) finish() {
	c := w.c
	perChunk := uint64(8 * w.bs)
	claimed := max(c.Blocks, 32768, uint64(max(len(c.Volumes)-1, 0))*volumeRoom/uint64(w.bs)+1)
	// The pool has three blocks for each chunk and for their list. Its bitmaps are in a
	// ring of 16.
	var chunks, lists, pool, ring, base uint64
	for {
		chunks = (claimed + perChunk - 1) / perChunk
		perList := uint64(w.bs-40) / 32
		lists = (chunks + perList - 1) / perList
		pool = 3 * (chunks + lists)
		ring = w.next
		base = ring + 16
		if base+pool <= claimed {
			break
		}
		claimed = base + pool
	}
	w.next = base + pool
	w.d.Claimed = int64(claimed) * int64(w.bs)
	used := w.next
	usedChunks := (used + perChunk - 1) / perChunk

	bitmap := make([]byte, uint64(w.bs)*usedChunks)
	for i := range used {
		bitmap[i/8] |= 1 << (i % 8)
	}
	w.put(base, bitmap, "", nil)
	firstList := base + usedChunks
	w.chunkLists(firstList, lists, claimed, used, base)
	inner := make(block, w.bs)
	for i := range usedChunks + lists {
		inner[i/8] |= 1 << (i % 8)
	}
	w.put(ring, inner, "", nil)
	for uint64(len(w.d.blocks)) < used {
		w.d.blocks = append(w.d.blocks, nil)
	}

	sm := make(block, w.bs)
	sm.u32(32, uint32(w.bs))
	sm.u32(36, uint32(perChunk))
	sm.u32(40, uint32(w.bs-40)/32)
	sm.u32(44, uint32(w.bs-40)/8)
	sm.u64(48, claimed)
	sm.u64(56, chunks)
	sm.u32(64, uint32(lists))
	sm.u64(72, claimed-used)
	sm.u32(80, 0x180)
	sm.u32(128, uint32(0x180+8*lists))
	sm.u32(148, 16)
	sm.u64(152, pool)
	sm.u32(160, 1)
	sm.u32(164, 16)
	sm.u64(168, ring)
	sm.u64(176, base)
	sm.u64(208, oidInnerQueue)
	sm.u16(224, 1)
	sm.u64(248, oidMainQueue)
	sm.u16(264, queueNodes(claimed))
	sm.u16(320, 1)
	sm.u16(322, 15)
	sm.u32(324, 0x150)
	sm.u32(328, 0x158)
	sm.u32(332, 0x160)
	sm.u64(0x150, w.c.XID)
	for i := range 16 {
		sm.u16(0x160+2*i, uint16(i+1))
	}
	sm.u16(0x160, 0xFFFF)
	sm.u16(0x160+30, 0xFFFF)
	for i := range lists {
		sm.u64(int(0x180+8*i), firstList+i)
	}
	w.header(sm, oidSpaceman, c.XID, 0x80000005, 0)

	reaper := make(block, w.bs)
	reaper.u64(32, 1)
	reaper.u32(64, 1)
	reaper.u32(108, uint32(w.bs-112))
	w.header(reaper, oidReaper, c.XID, 0x80000011, 0)

	data := 1 + uint64(c.Ring)
	w.put(data, reaper, "reaper", nil)
	w.put(data+1, sm, "space manager", nil)
	w.put(data+2, w.queue(oidInnerQueue), "free queue", nil)
	w.put(data+3, w.queue(oidMainQueue), "free queue", nil)
	w.checkpoints(claimed)
	w.d.Size = int64(len(w.d.blocks)) * int64(w.bs)
}

// queueNodes is how many nodes the queue of freed blocks may have, by the blocks that the
// container claims. The numbers are those of newfs_apfs.
func queueNodes(blocks uint64) uint16 {
	switch {
	case blocks < 0x40000:
		return uint16(1 + (blocks-1)/4544)
	case blocks < 0x100000:
		return uint16(116 + (blocks-261281)/2272)
	}
	return 512
}

// chunkLists writes the blocks that describe chunks.
func (w *writer) chunkLists(at, lists, claimed, used, bitmaps uint64) {
	perChunk := uint64(8 * w.bs)
	perList := uint64(w.bs-40) / 32
	start := uint64(0)
	for i := range lists {
		b := make(block, w.bs)
		b.u32(32, uint32(i))
		n := uint64(0)
		for ; n < perList && start < claimed; n++ {
			count := min(perChunk, claimed-start)
			e := b[40+32*n:]
			e.u64(0, w.c.XID)
			e.u64(8, start)
			e.u32(16, uint32(count))
			taken := uint64(0)
			if start < used {
				taken = min(count, used-start)
				e.u64(24, bitmaps+start/perChunk)
			}
			e.u32(20, uint32(count-taken))
			start += count
		}
		b.u32(36, uint32(n))
		w.header(b, at+i, w.c.XID, 0x40000007, 0)
		w.put(at+i, b, "chunk list", nil)
	}
}

// queue is an empty free queue.
func (w *writer) queue(oid uint64) block {
	t := &treeWriter{w: w, spec: treeSpec{fixed: true, keyLen: 16, valLen: 8, flags: 8 | 4, subtype: 9, xid: w.c.XID}}
	t.nodes = 1
	b := t.node(nil, 0, true, 0)
	w.header(b, oid, w.c.XID, 0x80000002, 9)
	return b
}

// checkpoints writes the ring, and block 0.
func (w *writer) checkpoints(claimed uint64) {
	c := w.c
	s := w.super
	copy(s[32:], "NXSB")
	s.u32(36, uint32(w.bs))
	s.u64(40, claimed)
	s.u64(64, c.Incompat)
	copy(s[72:88], c.UUID[:])
	s.u64(88, w.oid)
	s.u64(96, c.XID+1)
	s.u32(104, uint32(c.Ring))
	s.u32(108, uint32(c.checkpointData()))
	s.u64(112, 1)
	s.u64(120, 1+uint64(c.Ring))
	s.u32(132, 4)
	s.u32(140, 2)
	s.u32(148, 4)
	s.u64(152, oidSpaceman)
	s.u64(168, oidReaper)
	s.u32(180, uint32(min((claimed*uint64(w.bs)+volumeRoom-1)/volumeRoom, 100)))
	for _, v := range c.Volumes {
		if v.Users != nil && !c.Hardware {
			s.u64(1264, 4)
		}
	}
	limit := uint64(8)
	s.u64(1312, limit<<32|4<<16|1)

	at := func(i int) uint64 { return 1 + uint64((i+c.Ring)%c.Ring) }
	var first block
	for k := c.Old; k >= 0; k-- {
		// Older checkpoints have nothing to show: their object map is block 0.
		xid := c.XID - uint64(k)
		super := append(block(nil), s...)
		super.u32(128, uint32(at(c.Newest-2*k+2)-1))
		super.u32(136, uint32(at(c.Newest-2*k)-1))
		if k > 0 {
			super.u64(160, 0)
		}
		w.header(super, 1, xid, 0x80000001, 0)
		w.put(at(c.Newest-2*k), w.checkpointMap(at(c.Newest-2*k), xid), "checkpoint map", nil)
		w.put(at(c.Newest-2*k+1), super, superName(k), nil)
		if k == 0 && !c.StaleBlock0 || k == c.Old && c.StaleBlock0 {
			first = append(block(nil), super...)
		}
	}
	if c.TornBlock0 {
		first[4000] ^= 1
	}
	w.put(0, first, "block 0", nil)
	if c.Unfinished {
		i := at(c.Newest + 2)
		w.put(i, w.checkpointMap(i, c.XID+1), "checkpoint map", nil)
	}
}

func superName(k int) string {
	if k == 0 {
		return "superblock"
	}
	return "old superblock"
}

func (w *writer) checkpointMap(at, xid uint64) block {
	b := make(block, w.bs)
	b.u32(32, 1)
	b.u32(36, 4)
	data := 1 + uint64(w.c.Ring)
	for i, m := range []struct {
		typ, subtype uint32
		oid          uint64
	}{{0x80000011, 0, oidReaper}, {0x80000005, 0, oidSpaceman}, {0x80000002, 9, oidInnerQueue}, {0x80000002, 9, oidMainQueue}} {
		e := b[40+40*i:]
		e.u32(0, m.typ)
		e.u32(4, m.subtype)
		e.u32(8, uint32(w.bs))
		e.u64(24, m.oid)
		e.u64(32, data+uint64(i))
	}
	w.header(b, at, xid, 0x4000000C, 0)
	return b
}

package apfstest

import (
	"cmp"
	"slices"
	"time"
)

// Record types.
const (
	recExtentRef = 2
	recInode     = 3
	recAttr      = 4
	recSibling   = 5
	recStream    = 6
	recExtent    = 8
	recEntry     = 9
	recMap       = 0xC
)

// volumeWriter is a volume being written.
type volumeWriter struct {
	*writer
	v      *Volume
	hashed bool // names are
	cipher *xts

	ids      map[*File]uint64
	streams  map[*File]*stream
	nextID   uint64
	root     uint64 // oid of the file system tree
	omapList []record
	refs     map[uint64]*extentRef // by block
	counts   [4]uint64             // of the state written last: files, folders, symlinks, others

	records []record // of the state being written
	written map[*stream]bool
	clones  map[*File]uint32
	extents []record // of a sealed volume
}

// extentRef is a run of blocks that streams refer to.
type extentRef struct {
	blocks, owner uint64
	count         uint32
}

// stream is where a file's or attribute's content is.
type stream struct {
	id      uint64
	size    int64
	of      *File
	extents []piece
}

type piece struct {
	off, len int64
	block    uint64 // 0: a hole
}

func (v *Volume) incompat() uint64 {
	f := v.Incompat
	switch {
	case v.Exact:
	case v.CaseSensitive:
		f |= 8
	default:
		f |= 1
	}
	if v.Sealed {
		f |= 0x20
	}
	return f
}

// volume writes a volume, and returns what the container's keybag is to have for it.
func (w *writer) volume(index int, v *Volume) []bagEntry {
	if v.UUID == [16]byte{} {
		copy(v.UUID[:], "a volume's UUID")
		v.UUID[15] = byte(index)
	}
	vw := &volumeWriter{
		writer: w, v: v, hashed: !v.Exact, nextID: 16,
		ids: make(map[*File]uint64), streams: make(map[*File]*stream), refs: make(map[uint64]*extentRef),
	}
	before := w.next
	var k *keys
	var bags []bagEntry
	if v.Users != nil {
		k = &keys{vek: make([]byte, 32), kek: make([]byte, 32)}
		for i := range 32 {
			k.vek[i], k.kek[i] = byte(3*i+index), byte(5*i+1)
		}
		if v.Converted {
			k.vek, k.kek = k.vek[:16], k.kek[:16]
		}
		vw.cipher = k.cipher(v.UUID[:])
		bags = vw.bags(k)
		before = w.next
	}
	vw.root = w.newOID()
	w.oid += 1 << 20 // the nodes' oids, which a sealed volume counts from the root's
	oid := w.newOID()
	b := make(block, w.bs)
	var snaps []record
	var snapXIDs []uint64
	for i := range v.Snapshots {
		snaps = append(snaps, vw.snapshot(&v.Snapshots[i])...)
		snapXIDs = append(snapXIDs, v.Snapshots[i].XID)
	}
	vw.superblock(b, index)
	vw.state(b, v.Root, w.c.XID)
	sortRecords(snaps)
	b.u64(144, w.physicalTree(treeSpec{what: "node of extent references", subtype: 0xF, flags: btreeNonaligned, xid: w.c.XID}, vw.refRecords()))
	b.u64(152, w.physicalTree(treeSpec{what: "node of snapshot tree", subtype: 0x10, flags: btreeNonaligned, xid: w.c.XID}, snaps))
	b.u64(128, w.omap(vw.omapList, snapXIDs, w.c.XID, false, w.c.MaxKeys))
	b.u64(216, uint64(len(snapXIDs)))
	b.u64(88, w.next-before) // all that was allocated is the volume's
	if v.ShowSnapshot > 0 {
		b.u64(968, snapXIDs[v.ShowSnapshot-1])
	}
	b.u64(176, vw.nextID)
	at := w.alloc(1)
	w.header(b, oid, w.c.XID, 0xD, 0)
	w.put(at, b, "volume superblock", nil)
	w.super.u64(184+8*index, oid)
	w.volumes = append(w.volumes, omapRecord(oid, w.c.XID, 0, w.bs, at))
	return bags
}

// bags writes the volume's keybag.
func (vw *volumeWriter) bags(k *keys) []bagEntry {
	var users []bagEntry
	for i, u := range vw.v.Users {
		id := make([]byte, 16)
		id[0] = byte(i + 1)
		users = append(users, bagEntry{uuid: id, tag: 3, data: k.user(u, i)})
	}
	at := vw.keybag("volume's keybag", users, vw.v.UUID, 0x72656373)
	place := le.AppendUint64(le.AppendUint64(nil, at), 1)
	return []bagEntry{
		{uuid: vw.v.UUID[:], tag: 2, data: keyBlob(vw.v.UUID[:], wrap(k.kek, k.vek))},
		{uuid: vw.v.UUID[:], tag: 3, data: place},
	}
}

// superblock writes the fields that all states have in common.
func (vw *volumeWriter) superblock(b block, index int) {
	copy(b[32:], "APSB")
	b.u32(36, uint32(index))
	b.u64(40, 2) // hard links have map records
	b.u64(56, vw.v.incompat())
	b.u16(96, 5)
	b.u32(104, 6)
	b.u16(112, 1)
	b.u32(116, 2)
	b.u32(120, 0x40000002)
	b.u32(124, 0x40000002)
	b.u64(136, vw.root)
	copy(b[240:256], vw.v.UUID[:])
	b.u64(256, nano(time.Time{}))
	flags := uint64(1)
	if vw.cipher != nil {
		flags = 8
		if vw.v.PerFileKey {
			flags = 0
		}
	}
	b.u64(264, flags)
	copy(b[272:], "apfstest")
	b.u64(304, nano(time.Time{}))
	b.u64(312, 1)
	copy(b[704:960], vw.v.Name)
	b.u32(960, 3)
	b.u16(964, vw.v.Role)
}

// snapshot writes a state, and returns its records in the snapshot tree.
func (vw *volumeWriter) snapshot(s *Snapshot) []record {
	b := make(block, vw.bs)
	vw.superblock(b, 0)
	vw.state(b, s.Root, s.XID)
	b.u64(176, vw.nextID)
	at := vw.alloc(1)
	vw.header(b, at, s.XID, 0x4000000D, 0)
	vw.put(at, b, "superblock of snapshot", nil)
	name := append([]byte(s.Name), 0)
	val := make(block, 50, 50+len(name))
	val.u64(8, at)
	val.u64(16, nano(s.Created))
	val.u64(24, nano(s.Created))
	val.u32(40, 0x40000002)
	val.u16(48, uint16(len(name)))
	all := uint64(1<<60 - 1)
	nameKey := append(le.AppendUint16(keyOf(0xB, all), uint16(len(name))), name...)
	return []record{
		{key: keyOf(1, s.XID), val: append(val, name...), id: s.XID, typ: 1},
		{key: nameKey, val: le.AppendUint64(nil, s.XID), id: all, typ: 0xB, name: s.Name},
	}
}

// keyOf is the start of a key.
func keyOf(typ uint8, id uint64) []byte { return le.AppendUint64(nil, uint64(typ)<<60|id) }

func nano(t time.Time) uint64 {
	if t.IsZero() {
		t = time.Date(2024, 2, 29, 12, 34, 56, 789, time.UTC)
	}
	return uint64(t.UnixNano())
}

// state writes the file system tree as of a transaction.
func (vw *volumeWriter) state(b block, root []*File, xid uint64) {
	vw.clones = make(map[*File]uint32)
	vw.records, vw.extents, vw.counts, vw.written = nil, nil, [4]uint64{}, make(map[*stream]bool)
	top := &File{Name: "root", Mode: 0o040755, Children: root, ID: 2}
	private := &File{Name: "private-dir", Mode: 0o040755, ID: 3}
	vw.dir(1, []*File{top, private})
	vw.counts[1] -= 2
	sortRecords(vw.records)
	for i, n := range vw.counts {
		b.u64(184+8*i, n)
	}
	t := &treeWriter{w: vw.writer, spec: treeSpec{
		what: "node of file system tree", subtype: 0xE, flags: btreeNonaligned, root: vw.root, xid: xid,
		hashed: vw.v.Sealed, maxKeys: vw.v.MaxKeys,
	}}
	flags := uint32(0)
	if vw.v.Sealed {
		t.spec.flags |= btreeHashed | btreeNoHeader
		flags |= 8
	}
	if vw.cipher != nil {
		flags |= 4
	}
	next := vw.root
	t.place = func(root bool) (uint64, uint64) {
		if root {
			return vw.alloc(1), vw.root
		}
		next++
		return vw.alloc(1), next
	}
	t.store = func(at, oid uint64, b block) {
		vw.put(at, b, t.spec.what, vw.cipher)
		vw.omapList = append(vw.omapList, omapRecord(oid, xid, flags, vw.bs, at))
	}
	_, hash := t.write(vw.records)
	if vw.v.Sealed {
		vw.seal(b, hash, xid)
	}
}

// seal writes what only a sealed volume has.
func (vw *volumeWriter) seal(b block, hash []byte, xid uint64) {
	sortRecords(vw.extents)
	b.u64(1032, vw.physicalTree(treeSpec{what: "node of extent tree", subtype: 0x1F, fixed: true, keyLen: 16, valLen: 16, xid: xid, maxKeys: vw.v.MaxKeys}, vw.extents))
	b.u32(1040, 0x40000002)
	oid := vw.root + 1<<19 + xid
	at := vw.alloc(1)
	m := make(block, vw.bs)
	m.u32(32, 2)
	m.u32(40, 1)
	m.u32(44, 128)
	copy(m[128:], hash)
	vw.header(m, oid, xid, 0x1E, 0)
	vw.put(at, m, "integrity metadata", nil)
	vw.omapList = append(vw.omapList, omapRecord(oid, xid, 0, vw.bs, at))
	b.u64(1024, oid)
}

// refRecords are those of the tree of extent references.
func (vw *volumeWriter) refRecords() []record {
	var list []record
	for at, r := range vw.refs {
		val := make(block, 20)
		val.u64(0, 1<<60|r.blocks)
		val.u64(8, r.owner)
		val.u32(16, r.count)
		list = append(list, record{key: keyOf(recExtentRef, at), val: val, id: at})
	}
	sortRecords(list)
	return list
}

func (vw *volumeWriter) add(r record) { vw.records = append(vw.records, r) }

// id returns a file's inode.
func (vw *volumeWriter) id(f *File) uint64 {
	if f.LinkTo != nil {
		return vw.id(f.LinkTo)
	}
	if f.ID != 0 {
		return f.ID
	}
	if vw.ids[f] == 0 {
		vw.ids[f] = vw.nextID
		vw.nextID++
	}
	return vw.ids[f]
}

func (f *File) mode() uint16 { return cmp.Or(f.Mode, 0o100644) }

// dir writes the entries of a directory, and what is in them.
func (vw *volumeWriter) dir(parent uint64, children []*File) {
	for _, f := range children {
		vw.id(f)
	}
	links := make(map[*File][]link)
	vw.collect(parent, children, links)
	vw.entries(parent, children, links)
}

// link is a name of a file that has several.
type link struct {
	parent uint64
	file   *File
	id     uint64
}

// collect finds the names of files that have several.
func (vw *volumeWriter) collect(parent uint64, children []*File, links map[*File][]link) {
	for _, f := range children {
		if f.CloneOf != nil {
			vw.clones[f.CloneOf]++
		}
		if f.LinkTo != nil {
			links[f.LinkTo] = append(links[f.LinkTo], link{parent, f, 0})
		} else {
			links[f] = append(links[f], link{parent, f, 0})
		}
		vw.collect(vw.id(f), f.Children, links)
	}
}

func (vw *volumeWriter) entries(parent uint64, children []*File, links map[*File][]link) {
	for _, f := range children {
		target := f
		if f.LinkTo != nil {
			target = f.LinkTo
		}
		names := links[target]
		if len(names) > 1 && names[0].id == 0 {
			vw.siblings(vw.id(target), names)
		}
		sibling := uint64(0)
		for _, l := range names {
			if l.file == f {
				sibling = l.id
			}
		}
		vw.entry(parent, f, target.mode(), sibling)
		if f.LinkTo != nil {
			continue
		}
		vw.inode(f, names)
		vw.entries(vw.id(f), f.Children, links)
	}
}

// siblings writes the records of hard links.
func (vw *volumeWriter) siblings(inode uint64, names []link) {
	for i := range names {
		names[i].id = vw.nextID
		vw.nextID++
		l := names[i]
		name := append([]byte(l.file.Name), 0)
		val := append(le.AppendUint16(le.AppendUint64(nil, l.parent), uint16(len(name))), name...)
		vw.add(record{key: le.AppendUint64(keyOf(recSibling, inode), l.id), val: val, id: inode, typ: recSibling, num: l.id})
		vw.add(record{key: keyOf(recMap, l.id), val: le.AppendUint64(nil, inode), id: l.id, typ: recMap})
	}
}

func (vw *volumeWriter) entry(parent uint64, f *File, mode uint16, sibling uint64) {
	name := append([]byte(f.Name), 0)
	k := keyOf(recEntry, parent)
	num := uint64(0)
	if vw.hashed {
		h := NameHash(f.Name, !vw.v.CaseSensitive)
		if f.Hash != nil {
			h = *f.Hash
		}
		num = uint64(h)<<10 | uint64(len(name))
		k = le.AppendUint32(k, uint32(num))
	} else {
		k = le.AppendUint16(k, uint16(len(name)))
	}
	val := make(block, 18)
	val.u64(0, vw.id(f))
	val.u64(8, nano(f.Modified))
	val.u16(16, cmp.Or(f.EntryType, mode>>12))
	if sibling != 0 {
		val = append(val, xfields(xfield{1, 0, le.AppendUint64(nil, sibling)})...)
	}
	vw.add(record{key: append(k, name...), val: val, id: parent, typ: recEntry, num: num, name: f.Name})
}

type xfield struct {
	typ, flags uint8
	val        []byte
}

func xfields(list ...xfield) []byte {
	heads, vals := []byte{}, []byte{}
	for _, x := range list {
		heads = append(heads, x.typ, x.flags)
		heads = le.AppendUint16(heads, uint16(len(x.val)))
		vals = append(vals, x.val...)
		for len(vals)%8 != 0 {
			vals = append(vals, 0)
		}
	}
	out := le.AppendUint16(nil, uint16(len(list)))
	out = le.AppendUint16(out, uint16(len(vals)))
	return append(append(out, heads...), vals...)
}

func (vw *volumeWriter) inode(f *File, names []link) {
	id := vw.id(f)
	mode := f.mode()
	val := make(block, 92)
	private, flags := id, uint64(0)
	fields := []xfield{{4, 2, append([]byte(names[0].file.Name), 0)}}
	links := uint32(len(names))
	switch mode >> 12 {
	case 4:
		vw.counts[1]++
		links = uint32(len(f.Children))
	case 8:
		vw.counts[0]++
		if s := vw.fileStream(f); s != nil {
			private = s.id
			fields = append(fields, xfield{8, 0x20, vw.dstream(s)})
			if n := s.sparse(); n > 0 {
				flags |= 0x200
				fields = append(fields, xfield{13, 0x28, le.AppendUint64(nil, uint64(n))})
			}
			if vw.clones[s.of] > 0 {
				flags |= 0x10 | 0x400
			}
		}
	case 10:
		vw.counts[2]++
		vw.xattr(id, Xattr{Name: "com.apple.fs.symlink", Data: append([]byte(f.Target), 0), Flags: 4})
	default:
		vw.counts[3]++
		if m := mode >> 12; m == 2 || m == 6 {
			fields = append(fields, xfield{14, 0x20, le.AppendUint32(nil, f.Rdev)})
		}
	}
	rsrc := uint64(0x8000)
	for _, x := range f.Xattrs {
		vw.xattr(id, x)
		switch x.Name {
		case "com.apple.ResourceFork":
			rsrc = 0x4000
		case "com.apple.FinderInfo":
			flags |= 0x100
		case "com.apple.system.Security":
			flags |= 0x40
		}
	}
	flags |= rsrc
	val.u64(0, names[0].parent)
	val.u64(8, private)
	for i := range 4 {
		val.u64(16+8*i, nano(f.Modified)+uint64(i%2)) // created, modified, changed, accessed
	}
	val.u64(24, nano(f.Modified))
	val.u64(48, flags)
	val.u32(56, links)
	val.u32(68, f.Flags)
	val.u32(72, f.UID)
	val.u32(76, f.GID)
	val.u16(80, mode)
	if !f.NoInode {
		vw.add(record{key: keyOf(recInode, id), val: append(val, xfields(fields...)...), id: id, typ: recInode})
	}
}

func (vw *volumeWriter) dstream(s *stream) []byte {
	b := make(block, 40)
	b.u64(0, uint64(s.size))
	allocated := int64(0)
	for _, p := range s.extents {
		allocated += p.len
	}
	b.u64(8, uint64(allocated))
	return b
}

func (s *stream) sparse() (n int64) {
	for _, p := range s.extents {
		if p.block == 0 {
			n += p.len
		}
	}
	return n
}

func (vw *volumeWriter) xattr(id uint64, x Xattr) {
	name := append([]byte(x.Name), 0)
	k := append(le.AppendUint16(keyOf(recAttr, id), uint16(len(name))), name...)
	var val []byte
	if x.Stream {
		s := &stream{id: vw.nextID, size: int64(len(x.Data))}
		vw.nextID++
		s.extents = vw.store(x.Data, nil, 0, s.id)
		vw.addExtents(s)
		val = le.AppendUint16(le.AppendUint16(nil, 1|x.Flags), 48)
		val = append(le.AppendUint64(val, s.id), vw.dstream(s)...)
	} else {
		val = le.AppendUint16(le.AppendUint16(nil, 2|x.Flags), uint16(len(x.Data)))
		val = append(val, x.Data...)
	}
	vw.add(record{key: k, val: val, id: id, typ: recAttr, name: x.Name})
}

// fileStream returns a file's stream, or nil where the file has none.
func (vw *volumeWriter) fileStream(f *File) *stream {
	if f.CloneOf != nil {
		vw.id(f.CloneOf)
		return vw.fileStream(f.CloneOf)
	}
	if len(f.Data) == 0 && f.Size == 0 && f.Share == nil {
		return nil
	}
	s := vw.streams[f]
	if s == nil {
		s = &stream{id: vw.id(f), size: int64(len(f.Data)), of: f}
		if f.Share != nil {
			from := vw.fileStream(f.Share)
			s.size, s.extents = from.size, from.extents
			for _, p := range s.extents {
				if p.block != 0 {
					vw.refs[p.block].count++
				}
			}
		} else {
			s.extents = vw.store(f.Data, f.Holes, f.Fragment, s.id)
		}
		if f.Size != 0 {
			s.size = f.Size
		}
		vw.streams[f] = s
	}
	vw.addStream(s)
	return s
}

// addStream writes a stream's records, once for each state.
func (vw *volumeWriter) addStream(s *stream) {
	if vw.written[s] {
		return
	}
	vw.written[s] = true
	vw.add(record{key: keyOf(recStream, s.id), val: le.AppendUint32(nil, 1+vw.clones[s.of]), id: s.id, typ: recStream})
	vw.addExtents(s)
}

// store stores data in extents of some blocks, those further on the disk first.
func (vw *volumeWriter) store(data []byte, holes []Hole, fragment int, owner uint64) []piece {
	bs := int64(vw.bs)
	total := (int64(len(data)) + bs - 1) / bs * bs
	var list []piece
	for off := int64(0); off < total; {
		p := piece{off: off, len: total - off, block: 1}
		for _, h := range holes {
			switch {
			case h.Off == off:
				p.len, p.block = h.Len, 0
			case h.Off > off && h.Off < off+p.len:
				p.len = h.Off - off
			}
		}
		if n := int64(fragment) * bs; n > 0 && p.block != 0 {
			p.len = min(p.len, n)
		}
		off += p.len
		list = append(list, p)
	}
	for i := len(list) - 1; i >= 0; i-- {
		p := &list[i]
		if p.block == 0 {
			continue
		}
		p.block = vw.alloc(uint64(p.len / bs))
		part := make([]byte, p.len)
		copy(part, data[p.off:])
		if vw.cipher != nil {
			part = vw.cipher.encrypt(part, (p.block+vw.v.CryptoID)*uint64(vw.bs/512))
		}
		vw.put(p.block, part, "", nil)
		vw.refs[p.block] = &extentRef{uint64(p.len / bs), owner, 1}
	}
	return slices.DeleteFunc(list, func(p piece) bool {
		return p.block == 0 && slices.ContainsFunc(holes, func(h Hole) bool { return h.Off == p.off && h.Missing })
	})
}

func (vw *volumeWriter) addExtents(s *stream) {
	for _, p := range s.extents {
		if vw.v.Sealed {
			k := le.AppendUint64(le.AppendUint64(nil, s.id), uint64(p.off))
			v := le.AppendUint64(le.AppendUint64(nil, uint64(p.len)), p.block)
			vw.extents = append(vw.extents, record{key: k, val: v, id: s.id, num: uint64(p.off)})
			continue
		}
		flags, cryptoID := uint64(0), uint64(0)
		if vw.cipher != nil && p.block != 0 {
			flags, cryptoID = 1<<56, p.block+vw.v.CryptoID
		}
		v := le.AppendUint64(nil, uint64(p.len)|flags)
		v = le.AppendUint64(le.AppendUint64(v, p.block), cryptoID)
		vw.add(record{key: le.AppendUint64(keyOf(recExtent, s.id), uint64(p.off)), val: v, id: s.id, typ: recExtent, num: uint64(p.off)})
	}
}

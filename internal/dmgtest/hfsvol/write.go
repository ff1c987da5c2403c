package hfsvol

import (
	"bytes"
	"cmp"
	"encoding/binary"
)

const (
	headerAt   = 1024 // and the copy as far before the end
	headerSize = 512
)

// Write writes a volume. The root folder's name is the volume's.
func Write(root *Entry, o Options) *Volume {
	w := &writer{o: o, next: firstID, disk: disk{size: cmp.Or(o.BlockSize, 4096)}}
	for len(w.disk.bytes) < headerAt+headerSize {
		w.disk.take(make([]byte, w.disk.size))
	}
	v := &Volume{BlockSize: w.disk.size, Header: headerAt}
	room := uint32(len(w.disk.used)) // where it begins
	for range o.CatalogRoom {
		w.disk.take(nil)
	}
	r := *root
	root.ID, r.ID = rootID, rootID
	r.Children = append([]*Entry(nil), root.Children...)
	forget(&r)
	w.number(&r)
	w.addPrivate(&r)
	w.addJournal(v, &r)
	w.add(rootParent, &r)
	if o.edit != nil {
		o.edit(w)
	}

	store := func(p []byte) fork { return w.disk.store(p, o.CatalogExtent) }
	if o.CatalogRoom > 0 {
		store = func(p []byte) fork { return w.disk.fill(p, room, o.CatalogRoom) }
	}
	catalog := w.storeTree(&v.Catalog, w.catalogTree(), store, catalogID)
	var attributes fork
	if !o.NoAttributes {
		attributes = w.storeTree(&v.Attributes, w.attributesTree(), func(p []byte) fork { return w.disk.store(p, o.AttributesExtent) }, attributesID)
	}
	extents := w.storeTree(&v.Extents, w.extentsTree(), func(p []byte) fork { return w.disk.store(p, 0) }, extentsID)
	for range o.Spare {
		w.disk.skip()
	}
	bitmap := w.bitmap()
	free := 0
	for _, used := range w.disk.used {
		if !used {
			free++
		}
	}
	v.Blocks = len(w.disk.used)
	v.Copy = int64(len(w.disk.bytes) - headerAt)
	head := w.header(v, free, bitmap, extents, catalog, attributes)
	copy(w.disk.bytes[headerAt:], head)
	copy(w.disk.bytes[v.Copy:], head)
	v.Image = w.disk.bytes
	if o.Wrapper {
		v.wrap()
	}
	return v
}

// forget drops where an earlier Write put things.
func forget(e *Entry) {
	e.stored = nil
	if e.Inode != nil {
		forget(e.Inode)
	}
	for _, c := range e.Children {
		forget(c)
	}
}

// storeTree writes a tree's fork, and tells where in the volume its nodes are.
func (w *writer) storeTree(info *Tree, t *tree, store func([]byte) fork, id uint32) fork {
	p, at := t.write()
	f := store(p)
	if id != extentsID {
		w.overflow(0, id, f)
	}
	place := func(off *int64) { *off = int64(f.at(int(*off), w.disk.size)) }
	for i := range at.Nodes {
		place(&at.Nodes[i])
	}
	for i := range at.Records {
		place(&at.Records[i].Off)
		if at.Records[i].Size > 0 {
			place(&at.Records[i].Data)
		}
	}
	at.Extents = f.extents
	*info = at
	return f
}

// bitmap writes the allocation file, and makes room for the header's copy.
func (w *writer) bitmap() fork {
	size := w.disk.size
	last := (headerAt + size - 1) / size
	n := 1
	for n*size*8 < len(w.disk.used)+n+last {
		n++
	}
	bits := make([]byte, n*size)
	for i := range len(w.disk.used) + n + last {
		if i >= len(w.disk.used) || w.disk.used[i] {
			bits[i/8] |= 0x80 >> (i % 8)
		}
	}
	f := w.disk.store(bits, 0)
	for range last {
		w.disk.take(make([]byte, size))
	}
	return f
}

func (w *writer) header(v *Volume, free int, bitmap, extents, catalog, attributes fork) []byte {
	var h big
	h.str("H+")
	version, flags := uint16(4), uint32(0x100)
	if w.o.HFSX || w.o.FoldedHFSX {
		h.b, version = []byte("HX"), 5
	}
	if w.o.Dirty {
		flags = 0
	}
	mounted := "10.0"
	if w.o.Journal != NoJournal {
		flags |= 0x2000
		mounted = "HFSJ"
	}
	h.u16(version)
	h.u32(flags)
	h.str(mounted)
	h.u32(uint32(v.JournalInfo / int64(w.disk.size)))
	h.u32(RootCreated, Time, 0, Time, w.files, w.folders-1)
	h.u32(uint32(w.disk.size), uint32(v.Blocks), uint32(free), 0)
	h.u32(0, 0, w.next, 1) // clump sizes, next id, times written
	h.u64(1)               // encodings
	h.zero(32)
	for _, f := range []fork{bitmap, extents, catalog, attributes, {}} {
		h.fork(f)
	}
	return h.b
}

// addJournal writes a journal in which nothing is, as macOS on Intel and Apple silicon
// has it: in little-endian numbers, but for the info block.
func (w *writer) addJournal(v *Volume, root *Entry) {
	if w.o.Journal == NoJournal {
		return
	}
	const size = 8 << 10
	end := uint64(512)
	if w.o.Journal == FullJournal {
		end = 1024
	}
	h := []byte("xLNJ")
	h = binary.LittleEndian.AppendUint32(h, 0x12345678)
	for _, n := range []uint64{512, end, size} {
		h = binary.LittleEndian.AppendUint64(h, n)
	}
	for _, n := range []uint32{512, 0, 512} {
		h = binary.LittleEndian.AppendUint32(h, n)
	}
	h = append(h, bytes.Repeat([]byte{0}, size-len(h))...)
	journal := w.disk.store(h, 0)
	v.JournalHeader = int64(journal.at(0, w.disk.size))
	var i big
	i.u32(1)
	i.zero(32)
	i.u64(uint64(v.JournalHeader), size)
	i.zero(w.disk.size - len(i.b))
	info := w.disk.store(i.b, 0)
	v.JournalInfo = int64(info.at(0, w.disk.size))
	root.Children = append(root.Children,
		&Entry{Name: journalName, ID: w.id(), Mode: 0100000, stored: &journal},
		&Entry{Name: journalInfo, ID: w.id(), Mode: 0100000, stored: &info})
}

// wrap puts the volume into an HFS volume, whose header says where it is.
func (v *Volume) wrap() {
	const (
		blockSize = 8192
		firstAt   = 16 // sectors
		embedded  = 3  // block
	)
	v.Offset = firstAt*512 + embedded*blockSize
	image := bytes.Repeat([]byte{gap}, int(v.Offset))
	image = append(image, v.Image...)
	blocks := (len(v.Image) + blockSize - 1) / blockSize
	image = append(image, bytes.Repeat([]byte{gap}, embedded*blockSize+blocks*blockSize+firstAt*512-len(image)+1024)...)
	var m big
	m.str("BD")
	m.u32(RootCreated, Time)
	m.u16(0x100, 0, 3, 0, uint16(embedded+blocks))
	m.u32(blockSize, blockSize)
	m.u16(firstAt)
	m.u32(firstID)
	m.u16(0)
	m.u8(7)
	m.str("wrapper")
	m.zero(0x7C - len(m.b))
	m.str("H+")
	m.u16(embedded, uint16(blocks))
	m.zero(headerSize - len(m.b))
	copy(image[headerAt:], m.b)
	copy(image[len(image)-headerAt:], m.b)
	v.Image = image
	for _, off := range []*int64{&v.Header, &v.Copy, &v.JournalInfo, &v.JournalHeader} {
		*off += v.Offset
	}
	for _, t := range []*Tree{&v.Catalog, &v.Extents, &v.Attributes} {
		for i := range t.Nodes {
			t.Nodes[i] += v.Offset
		}
		for i := range t.Records {
			t.Records[i].Off += v.Offset
			t.Records[i].Data += v.Offset
		}
	}
}

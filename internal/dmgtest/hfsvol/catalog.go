package hfsvol

import (
	"cmp"
	"fmt"
	"slices"
)

// Ids of folders and of the volume's own files.
const (
	rootParent   = 1
	rootID       = 2
	extentsID    = 3
	catalogID    = 4
	allocationID = 6
	attributesID = 8
	firstID      = 16
)

const (
	privateFolder = "\x00\x00\x00\x00HFS+ Private Data"
	privateDirs   = ".HFS+ Private Directory Data\r"
	journalInfo   = ".journal_info_block"
	journalName   = ".journal"
	firstLink     = "com.apple.system.hfs.firstlink"

	hasThread    = 0x02
	hasChain     = 0x20 // of hard links
	maxCatKey    = 516
	maxExtKey    = 10
	maxAttKey    = 266
	folderRecord = 1
	fileRecord   = 2
	folderThread = 3
	fileThread   = 4
)

// A writer collects the records of all trees.
type writer struct {
	o    Options
	disk disk
	next uint32 // id

	catalog    []catalogRecord
	extents    []extentRecord
	attributes []attributeRecord
	inodes     []*inode
	files      uint32
	folders    uint32
}

// catalogRecord is a record with its key in parts.
type catalogRecord struct {
	parent uint32
	name   []uint16
	data   []byte
}

type extentRecord struct {
	kind  uint8
	id    uint32
	start uint32
	data  []byte
}

type attributeRecord struct {
	id    uint32
	name  []uint16
	start uint32
	data  []byte
}

// An inode is what hard links lead to.
type inode struct {
	e     *Entry
	links []*Entry
}

func (w *writer) id() uint32 {
	w.next++
	return w.next - 1
}

// number gives ids to an entry and all below, and finds the inodes.
func (w *writer) number(e *Entry) {
	if e.Inode != nil {
		e.ID = w.id()
		i := slices.IndexFunc(w.inodes, func(n *inode) bool { return n.e == e.Inode })
		if i >= 0 {
			w.inodes[i].links = append(w.inodes[i].links, e)
			return
		}
		w.inodes = append(w.inodes, &inode{e.Inode, []*Entry{e}})
		w.number(e.Inode)
		return
	}
	if e.ID != rootID {
		e.ID = w.id()
	}
	for _, c := range e.Children {
		w.number(c)
	}
}

// addPrivate puts the inodes into the folders that hide them.
func (w *writer) addPrivate(root *Entry) {
	var files, dirs []*Entry
	for _, n := range w.inodes {
		e := *n.e
		if e.Dir {
			e.Name, e.Units = fmt.Sprintf("dir_%d", e.ID), nil
			e.Xattrs = append(slices.Clone(e.Xattrs), Xattr{Name: firstLink, Data: fmt.Append(nil, n.links[0].ID)})
			dirs = append(dirs, &e)
		} else {
			e.Name, e.Units = fmt.Sprintf("iNode%d", e.ID), nil
			files = append(files, &e)
		}
	}
	add := func(name string, children []*Entry) {
		if len(children) > 0 {
			root.Children = append(root.Children, &Entry{Name: name, Dir: true, Children: children, ID: w.id(), Mode: 0041777, Time: RootCreated})
		}
	}
	add(privateFolder, files)
	add(privateDirs, dirs)
}

// add writes an entry's records, and those of all below it.
func (w *writer) add(parent uint32, e *Entry) {
	name := e.units()
	thread := uint16(fileThread)
	switch {
	case e.Inode != nil:
		w.files++
		w.put(parent, name, w.linkRecord(e))
	case e.Dir:
		w.folders++
		thread = folderThread
		w.put(parent, name, w.folderRecord(e))
	default:
		w.files++
		w.put(parent, name, w.fileRecord(e))
	}
	var t big
	t.u16(thread, 0)
	t.u32(parent)
	t.u16(uint16(len(name)))
	t.u16(name...)
	w.put(e.ID, nil, t.b)
	if e.Inode == nil {
		w.xattrs(e)
		for _, c := range e.Children {
			w.add(e.ID, c)
		}
	}
}

func (w *writer) put(parent uint32, name []uint16, data []byte) {
	w.catalog = append(w.catalog, catalogRecord{parent, name, data})
}

// inodeOf returns the inode that an entry is, if any.
func (w *writer) inodeOf(id uint32) *inode {
	for _, n := range w.inodes {
		if n.e.ID == id {
			return n
		}
	}
	return nil
}

// common is what records of files and folders have alike, up to the forks.
func (r *big) common(w *writer, kind, flags uint16, second uint32, e *Entry) {
	at := cmp.Or(e.Time, Time)
	mode := e.Mode
	if mode == 0 && !e.ZeroMode {
		mode = 0100644
		if e.Dir {
			mode = 0040755
		}
	}
	created := at
	if e.ID == rootID {
		created = RootCreated
	}
	special := e.Special
	if n := w.inodeOf(e.ID); n != nil {
		flags |= hasChain
		special = uint32(len(n.links))
		if !e.Dir {
			second = n.links[0].ID
		}
	}
	if len(e.Xattrs) > 0 {
		flags |= 4
	}
	r.u16(kind, flags)
	r.u32(second, e.ID, created, at+1, at+2, at+3, 0, e.Owner, e.Group)
	r.u8(e.AdminFlags, e.OwnerFlags)
	r.u16(mode)
	r.u32(special)
}

func (w *writer) folderRecord(e *Entry) []byte {
	var r big
	r.common(w, folderRecord, 0, uint32(len(e.Children)), e)
	r.zero(8)
	r.u16(e.FinderFlags)
	r.zero(22)
	r.u32(0, 0)
	return r.b
}

func (w *writer) fileRecord(e *Entry) []byte {
	var r big
	r.common(w, fileRecord, hasThread, 0, e)
	r.str((e.Type + "\x00\x00\x00\x00")[:4])
	r.str((e.Creator + "\x00\x00\x00\x00")[:4])
	r.u16(e.FinderFlags)
	r.zero(22)
	r.u32(0, 0)
	if e.stored == nil {
		f := w.store(0, e.ID, e.Data, e.DataExtent)
		e.stored = &f
	}
	r.fork(*e.stored)
	r.fork(w.store(0xFF, e.ID, e.Rsrc, e.RsrcExtent))
	return r.b
}

// linkRecord is the record of a name: a file without content.
func (w *writer) linkRecord(e *Entry) []byte {
	n := w.inodeOf(e.Inode.ID)
	i := slices.Index(n.links, e)
	var before, after uint32
	if i > 0 {
		before = n.links[i-1].ID
	}
	if i+1 < len(n.links) {
		after = n.links[i+1].ID
	}
	var r big
	r.u16(fileRecord, hasThread|hasChain)
	r.u32(0, e.ID, RootCreated, Time, Time, Time, 0, after, before)
	r.u8(0, 0)
	r.u16(0100444)
	r.u32(n.e.ID)
	if e.Inode.Dir {
		r.str("fdrpMACS")
		r.u16(0x8000) // an alias
	} else {
		r.str("hlnkhfs+")
		r.u16(0)
	}
	r.zero(22)
	r.u32(0, 0)
	r.fork(fork{})
	r.fork(fork{})
	return r.b
}

// store writes a fork, and the records of its extents behind the first eight.
func (w *writer) store(kind uint8, id uint32, p []byte, extent int) fork {
	f := w.disk.store(p, extent)
	w.overflow(kind, id, f)
	return f
}

func (w *writer) overflow(kind uint8, id uint32, f fork) {
	f.overflow(func(start uint32, extents [][2]uint32) {
		var r big
		r.extents(extents)
		w.extents = append(w.extents, extentRecord{kind, id, start, r.b})
	})
}

// xattrs writes the attributes of an entry.
func (w *writer) xattrs(e *Entry) {
	for _, x := range e.Xattrs {
		name := (&Entry{Name: x.Name}).units()
		var r big
		if !x.Fork {
			r.u32(0x10, 0, 0, uint32(len(x.Data)))
			r.b = append(r.b, x.Data...)
			w.attributes = append(w.attributes, attributeRecord{e.ID, name, 0, r.b})
			continue
		}
		f := w.disk.store(x.Data, x.Extent)
		r.u32(0x20, 0)
		r.fork(f)
		w.attributes = append(w.attributes, attributeRecord{e.ID, name, 0, r.b})
		f.overflow(func(start uint32, extents [][2]uint32) {
			var r big
			r.u32(0x30, 0)
			r.extents(extents)
			w.attributes = append(w.attributes, attributeRecord{e.ID, name, start, r.b})
		})
	}
}

// binaryCompare reports whether names compare as numbers.
func (w *writer) binaryCompare() bool { return w.o.HFSX && !w.o.FoldedHFSX }

func (w *writer) catalogTree() *tree {
	slices.SortStableFunc(w.catalog, func(a, b catalogRecord) int {
		return cmp.Or(cmp.Compare(a.parent, b.parent), compareNames(a.name, b.name, w.binaryCompare()))
	})
	t := &tree{nodeSize: cmp.Or(w.o.CatalogNode, 4096), maxRecords: w.o.MaxRecords, maxKey: maxCatKey, attributes: bigKeys | variableKeys}
	if w.o.HFSX || w.o.FoldedHFSX {
		t.compare = 0xCF
		if w.binaryCompare() {
			t.compare = 0xBC
		}
	}
	for _, r := range w.catalog {
		var k big
		k.u32(r.parent)
		k.u16(uint16(len(r.name)))
		k.u16(r.name...)
		t.records = append(t.records, record{k.b, r.data})
	}
	return t
}

func (w *writer) extentsTree() *tree {
	slices.SortFunc(w.extents, func(a, b extentRecord) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.kind, b.kind), cmp.Compare(a.start, b.start))
	})
	t := &tree{nodeSize: cmp.Or(w.o.ExtentsNode, 4096), maxKey: maxExtKey, attributes: bigKeys}
	for _, r := range w.extents {
		var k big
		k.u8(r.kind, 0)
		k.u32(r.id, r.start)
		t.records = append(t.records, record{k.b, r.data})
	}
	return t
}

func (w *writer) attributesTree() *tree {
	slices.SortFunc(w.attributes, func(a, b attributeRecord) int {
		return cmp.Or(cmp.Compare(a.id, b.id), compareNames(a.name, b.name, true), cmp.Compare(a.start, b.start))
	})
	t := &tree{nodeSize: cmp.Or(w.o.AttributesNode, 8192), maxRecords: w.o.MaxRecords, maxKey: maxAttKey, attributes: bigKeys | variableKeys}
	for _, r := range w.attributes {
		var k big
		k.u16(0)
		k.u32(r.id, r.start)
		k.u16(uint16(len(r.name)))
		k.u16(r.name...)
		t.records = append(t.records, record{k.b, r.data})
	}
	return t
}

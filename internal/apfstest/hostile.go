package apfstest

import (
	"fmt"
	"iter"
	"strings"
)

// HostileContainer is a container made to harm its reader.
type HostileContainer struct {
	Name     string // of its own: what is bent, and to what
	Class    string // the kind of container or damage
	Disk     *Disk
	Password string
}

// Hostile makes hostile containers, the same ones every time. In most of them one field of
// one object is another number, and the checksums are right again. About 74,000 can be
// made: every nth of them is.
func Hostile(nth int) iter.Seq[HostileContainer] {
	return func(yield func(HostileContainer) bool) {
		h := &hostile{yield: yield, nth: nth}
		for _, b := range hostileBases() {
			h.bend(b)
		}
		h.shapes()
	}
}

type hostile struct {
	yield   func(HostileContainer) bool
	nth, n  int
	stopped bool
}

func (h *hostile) give(class string, d func() *Disk, password, name string, args ...any) {
	if h.stopped {
		return
	}
	h.stopped = !h.yield(HostileContainer{Name: class + "/" + fmt.Sprintf(name, args...), Class: class, Disk: d(), Password: password})
}

// sample gives every nth.
func (h *hostile) sample(class string, d func() *Disk, password, name string, args ...any) {
	if h.n++; h.n%h.nth == 0 {
		h.give(class, d, password, name, args...)
	}
}

type hostileBase struct {
	class    string
	disk     *Disk
	password string
}

// hostileBases are small containers of all kinds.
func hostileBases() []hostileBase {
	return []hostileBase{
		{"container", (&Container{Compact: true, Volumes: []*Volume{{Name: "Plain", Root: hostileFiles()}}}).Write(), ""},
		{"deep", (&Container{Compact: true, MaxKeys: 2, Volumes: []*Volume{{Name: "Deep", Exact: true, MaxKeys: 4, Root: hostileFiles()}}}).Write(), ""},
		{"snapshots", (&Container{Compact: true, Volumes: []*Volume{{
			Name: "Snapshots", Root: hostileFiles(), ShowSnapshot: 1,
			Snapshots: []Snapshot{{Name: "old", XID: 3, Root: hostileFiles()[:3]}, {Name: "newer", XID: 9}},
		}}}).Write(), ""},
		{"sealed", (&Container{Compact: true, Volumes: []*Volume{{Name: "Sealed", Sealed: true, MaxKeys: 6, Root: hostileFiles()}}}).Write(), ""},
		{"encrypted", (&Container{Compact: true, Volumes: []*Volume{{
			Name: "Encrypted", Root: hostileFiles()[:4], Users: []User{{Password: "other", Iterations: 1}, {Password: "hostile", Iterations: 2}},
		}}}).Write(), "hostile"},
	}
}

func hostileFiles() []*File {
	text := Text("text", "some text")
	text.Xattrs = []Xattr{{Name: "com.apple.FinderInfo", Data: make([]byte, 32)}, {Name: "stream", Data: make([]byte, 5000), Stream: true}}
	packed := &File{Name: "packed", Flags: 0x20, Xattrs: []Xattr{
		{Name: "com.apple.decmpfs", Data: append([]byte("fpmc\x09\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\xcc"), "abc"...)},
	}}
	return []*File{
		text, {Name: "again", LinkTo: text}, packed,
		{Name: "big", Data: make([]byte, 30000), Fragment: 2, Holes: []Hole{{Off: 8192, Len: 4096}}},
		Link("link", "folder/inside"),
		Dir("folder", Text("inside", "inside"), Dir("deeper")),
	}
}

// bend bends every object of a base.
func (h *hostile) bend(b hostileBase) {
	h.give(b.class, func() *Disk { return b.disk }, b.password, "as it is")
	for _, o := range b.disk.Objects {
		if strings.HasPrefix(o.What, "free queue") || strings.HasPrefix(o.What, "space") || o.What == "reaper" || o.What == "chunk list" || o.What == "checkpoint map" {
			continue // no reader needs them
		}
		plain := b.disk.plain(o)
		for _, f := range hostileFields(o.What, plain) {
			for _, v := range hostileValues(f, plain, o.Block) {
				h.sample(b.class, func() *Disk {
					return b.disk.Bend(o, func(p []byte) { put(p, f, v) })
				}, b.password, "%s %d, %d bytes at %d: %#x", o.What, o.Block, f.size, f.off, v)
			}
		}
		h.sample(b.class, func() *Disk {
			return b.disk.Break(o, func(p []byte) { p[len(p)/2] ^= 4 })
		}, b.password, "%s %d: wrong checksum", o.What, o.Block)
	}
	for n := range b.disk.Size / int64(b.disk.BlockSize) {
		h.sample(b.class, func() *Disk {
			d := *b.disk
			d.Size = n*int64(b.disk.BlockSize) + n%3*100
			return &d
		}, b.password, "cut after %d blocks", n)
	}
}

// field is a number in an object.
type field struct{ off, size int }

func put(p []byte, f field, v uint64) {
	for i := range f.size {
		p[f.off+i] = byte(v >> (8 * i))
	}
}

func get(p []byte, f field) (v uint64) {
	for i := range f.size {
		v |= uint64(p[f.off+i]) << (8 * i)
	}
	return v
}

// hostileFields lists the numbers of an object that a reader may look at.
func hostileFields(what string, p []byte) (list []field) {
	add := func(size int, offs ...int) {
		for _, off := range offs {
			if off+size <= len(p) {
				list = append(list, field{off, size})
			}
		}
	}
	add(8, 8, 16)
	add(4, 24, 28)
	switch {
	case what == "superblock", what == "block 0":
		add(4, 32, 36, 104, 108)
		add(8, 40, 64, 112, 160, 184, 192, 1264, 1296, 1304)
	case what == "object map":
		add(4, 32, 36, 40, 44)
		add(8, 48, 56, 64)
	case strings.Contains(what, "superblock"):
		add(4, 32, 36, 116, 124, 1040)
		add(8, 56, 128, 136, 144, 152, 184, 264, 968, 1024, 1032)
		add(2, 964)
	case what == "integrity metadata":
		add(4, 32, 36, 40, 44)
		add(8, 48, 128)
	case strings.Contains(what, "keybag"):
		add(2, 32, 34, 66, 68)
		for off := 48; off < 48+320; off += 3 {
			add(1, off)
		}
		for off := 80; off < 300; off += 17 {
			add(8, off)
		}
	case strings.Contains(what, "node"):
		list = append(list, nodeFields(p)...)
	}
	return list
}

// nodeFields lists the numbers of a node, its table, its keys and its values.
func nodeFields(p []byte) (list []field) {
	for off := 32; off < 48; off += 2 {
		list = append(list, field{off, 2})
	}
	list = append(list, field{36, 4}, field{len(p) - 40, 4}, field{len(p) - 36, 4}, field{len(p) - 32, 4}, field{len(p) - 28, 4})
	flags := le.Uint16(p[32:])
	entry, end := 8, len(p)
	if flags&4 != 0 {
		entry = 4
	}
	if flags&1 != 0 {
		end -= 40
	}
	keys := 56 + int(le.Uint16(p[42:]))
	for i := range int(le.Uint32(p[36:])) {
		e := 56 + entry*i
		for off := e; off < e+entry; off += 2 {
			list = append(list, field{off, 2})
		}
		key, keyLen, val, valLen := keys+int(le.Uint16(p[e:])), 16, end-int(le.Uint16(p[e+2:])), 16
		if entry == 8 {
			keyLen, val, valLen = int(le.Uint16(p[e+2:])), end-int(le.Uint16(p[e+4:])), int(le.Uint16(p[e+6:]))
		}
		for off := 0; off+8 <= keyLen; off += 8 {
			list = append(list, field{key + off, 8})
		}
		if keyLen > 10 {
			list = append(list, field{key + 8, 2})
		}
		for off := 0; off+8 <= valLen && val+off+8 <= len(p); off += 8 {
			list = append(list, field{val + off, 8})
		}
		for _, off := range []int{0, 2, 56, 68, 80, 92, 94, 98, 102} {
			if off+2 <= valLen {
				list = append(list, field{val + off, 2})
			}
		}
	}
	return list
}

// hostileValues are the numbers at which arithmetic breaks, and those near the right one.
func hostileValues(f field, p []byte, blk uint64) (list []uint64) {
	old := get(p, f)
	all := []uint64{0, 1, old + 1, old - 1, ^uint64(0), old ^ 1<<(8*f.size-1), 1<<(8*f.size-1) - 1}
	switch f.size {
	case 2:
		all = append(all, uint64(len(p)), uint64(len(p)-56), 0xFFFE, old+8, old*2)
	case 4:
		all = append(all, 0x10000, 0x01000000, old<<8)
	case 8:
		all = append(all, blk, blk+1, 2, 3, 1<<32, 1<<56-1, 1<<56, 1<<60|old, old^1<<60, 1<<51, 1<<52-1, uint64(len(p)))
	}
	seen := map[uint64]bool{old: true}
	for _, v := range all {
		if f.size < 8 {
			v &= 1<<(8*f.size) - 1
		}
		if !seen[v] {
			seen[v] = true
			list = append(list, v)
		}
	}
	return list
}

// shapes gives containers whose files are hostile, rather than their numbers.
func (h *hostile) shapes() {
	files := func(name string, root ...*File) {
		h.give("files", func() *Disk {
			return (&Container{Compact: true, Volumes: []*Volume{{Name: "Files", Root: root}}}).Write()
		}, "", "%s", name)
	}
	files("a folder in itself", &File{Name: "loop", Mode: 0o040755, ID: 2, NoInode: true})
	files("no inode", &File{Name: "nothing", NoInode: true}, Text("something", "x"))
	files("another type", &File{Name: "file", Data: []byte("x"), EntryType: 4}, &File{Name: "type 0", EntryType: 15})
	files("a stream of 2⁶³-1 bytes", &File{Name: "long", Data: []byte("x"), Size: 1<<63 - 1})
	files("a stream of 2⁶² bytes, by a hole", &File{Name: "long", Data: make([]byte, 8192), Size: 1 << 62, Holes: []Hole{{Off: 4096, Len: 4096}}})
	files("links in a circle", Link("a", "b"), Link("b", "a"), Link("c", "c/c"), Link("up", "../../../../.."), Link("root", "/"), Link("none", ""))
	files("a long target", Link("a", strings.Repeat("x/", 1000)))
	for i, name := range []string{"", ".", "..", "a/b", "a\x00b", "\xff\xfe", "%u0041", "%u", "\\", "\ud7ff\xed\xa0\x80", strings.Repeat("x", 1000)} {
		files(fmt.Sprint("name ", i), Text(name, name), Dir("folder", Text(name, name)))
	}
	hash := uint32(12345)
	var twins []*File
	for i := range 1500 {
		twins = append(twins, &File{Name: fmt.Sprintf("\u00e4%d", i), Hash: &hash})
	}
	files("names of one hash", twins...)
	files("a name twice", &File{Name: "twice", Data: []byte("1")}, &File{Name: "twice", Data: []byte("2")}, Text("TWICE", "3"))
	for _, typ := range []byte{1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 255} {
		for _, size := range []uint64{0, 1, 1 << 20, 1 << 40, 1<<63 - 1, 1 << 63} {
			attr := le.AppendUint64([]byte{'f', 'p', 'm', 'c', typ, 0, 0, 0}, size)
			files(fmt.Sprintf("compressed, type %d, %d bytes", typ, size), &File{Name: "packed", Flags: 0x20, Xattrs: []Xattr{
				{Name: "com.apple.decmpfs", Data: append(attr, 0xF, 1, 2, 3), Stream: size == 1},
				{Name: "com.apple.ResourceFork", Data: make([]byte, 9000), Stream: true},
			}})
		}
	}
	for _, n := range []uint64{0, 9_999_999, 10_000_001, 1 << 31, 1 << 62, 1<<64 - 1} {
		h.give("iterations", func() *Disk {
			var list []User
			for range 5 {
				list = append(list, User{Password: "x", Iterations: n})
			}
			return (&Container{Compact: true, Volumes: []*Volume{{Name: "Slow", Users: list}}}).Write()
		}, "y", "%d", n)
	}
	h.give("tree", sameChildren, "", "index nodes whose children are one")
}

// sameChildren has a file system tree of index nodes, each of which has one child many
// times; the keys of them all are equal.
func sameChildren() *Disk {
	hash := uint32(77)
	var twins []*File
	for i := range 30 {
		twins = append(twins, &File{Name: fmt.Sprintf("\u00e4%d", i), Hash: &hash})
	}
	d := (&Container{Compact: true, Volumes: []*Volume{{Name: "Same", Root: twins, MaxKeys: 3}}}).Write()
	for _, o := range d.Objects {
		if o.What != "node of file system tree" || le.Uint16(d.plain(o)[34:]) == 0 {
			continue
		}
		d = d.Bend(o, func(p []byte) {
			end := len(p)
			if p[32]&1 != 0 {
				end -= 40
			}
			last := int(le.Uint32(p[36:])) - 1
			val := end - int(le.Uint16(p[56+8*last+4:]))
			for i := range last { // all children are the last one
				copy(p[end-int(le.Uint16(p[56+8*i+4:])):][:8], p[val:val+8])
			}
		})
	}
	return d
}

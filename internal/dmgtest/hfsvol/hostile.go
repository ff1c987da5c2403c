package hfsvol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/go-dmg/dmg/internal/dmgtest/decmpfsenc"
)

// A HostileVolume is a volume made to harm its reader.
type HostileVolume struct {
	Name  string // of its own: the class, what is bent, and to what
	Class string // what it aims at, such as "node"

	image func() []byte
}

// Image makes the volume. It may be called until Hostile goes on to the next one: most
// callers want some of them only, and that all are made takes seconds.
func (h *HostileVolume) Image() []byte { return h.image() }

// Hostile makes hostile volumes, the same ones every time: each field of each
// structure bent to the numbers at which arithmetic breaks, trees that lead in
// circles, and folders, links and names that no system makes.
func Hostile() iter.Seq[HostileVolume] {
	return func(yield func(HostileVolume) bool) {
		b := &bender{yield: yield, given: make(map[string]bool)}
		for _, class := range hostileClasses {
			if b.class = class.name; !b.stopped {
				class.give(b)
			}
		}
	}
}

var hostileClasses = []struct {
	name string
	give func(*bender)
}{
	{"volume header", (*bender).headers},
	{"tree header", (*bender).treeHeaders},
	{"node", (*bender).nodes},
	{"child", (*bender).children},
	{"key", (*bender).keys},
	{"catalog", (*bender).catalogRecords},
	{"extents", (*bender).extentsRecords},
	{"attributes", (*bender).attributesRecords},
	{"compressed", (*bender).compressed},
	{"names", (*bender).names},
	{"folders", (*bender).folders},
	{"links", (*bender).links},
	{"volume cut", (*bender).cuts},
	{"flips", (*bender).flips},
}

// HostileClasses are the classes of Hostile's volumes, in the order in which they
// come.
func HostileClasses() []string {
	var names []string
	for _, class := range hostileClasses {
		names = append(names, class.name)
	}
	return names
}

// A bender gives the volumes of one class after the other.
type bender struct {
	class   string
	yield   func(HostileVolume) bool
	given   map[string]bool
	stopped bool
}

func (b *bender) give(image []byte, name string, args ...any) {
	b.giveMade(func() []byte { return image }, name, args...)
}

func (b *bender) giveMade(image func() []byte, name string, args ...any) {
	h := HostileVolume{Class: b.class, Name: b.class + "/" + fmt.Sprintf(name, args...), image: image}
	if !b.stopped && !b.given[h.Name] {
		b.given[h.Name] = true
		b.stopped = !b.yield(h)
	}
}

// write gives a volume whose records are edited.
func (b *bender) write(root *Entry, o Options, edit func(w *writer), name string, args ...any) {
	o.edit = edit
	if o.BlockSize == 0 {
		o.BlockSize = 512
	}
	b.giveMade(func() []byte { return Write(root, o).Image }, name, args...)
}

// numbers are those at which arithmetic of a width breaks, and the neighbours of the
// right one.
func numbers(width int, right uint64) []uint64 {
	top := uint64(1)<<(width*8-1)<<1 - 1
	all := []uint64{0, 1, 2, top >> 1, top>>1 + 1, top - 1, top, right - 1, right + 1, right * 2, right / 2}
	if width == 8 {
		all = append(all, 1<<32-1, 1<<32, 1<<40, 1<<62, -right)
	}
	for i := range all {
		all[i] &= top
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(v uint64) bool { return v == right })
}

// get and set are big-endian numbers of a width.
func get(p []byte, at int64, width int) (v uint64) {
	for _, c := range p[at : at+int64(width)] {
		v = v<<8 | uint64(c)
	}
	return v
}

func set(p []byte, at int64, width int, v uint64) {
	for i := width - 1; i >= 0; i-- {
		p[at+int64(i)] = byte(v)
		v >>= 8
	}
}

// bend gives copies of the volume with a number bent, also to the further ones.
func (b *bender) bend(v *Volume, where string, at int64, width int, more ...uint64) {
	right := get(v.Image, at, width)
	for _, n := range append(numbers(width, right), more...) {
		if n == right || b.stopped {
			continue
		}
		b.giveMade(func() []byte {
			image := bytes.Clone(v.Image)
			set(image, at, width, n)
			return image
		}, "%s=%#x", where, n)
	}
}

// A field is a number in a structure.
type field struct{ at, width int }

// forkFields are those of a fork of 80 bytes.
func forkFields(at int) []field {
	fields := []field{{at, 8}, {at + 12, 4}}
	for i := range 8 {
		if i < 2 || i == 7 {
			fields = append(fields, field{at + 16 + 8*i, 4}, field{at + 20 + 8*i, 4})
		}
	}
	return fields
}

// base is a volume that has something of everything, in trees of some levels.
func base(o Options) *Volume {
	o.BlockSize, o.CatalogNode, o.ExtentsNode, o.AttributesNode, o.MaxRecords = 512, 1024, 512, 1024, 5
	return Write(baseTree(), o)
}

func baseTree() *Entry {
	file := File("", []byte("linked"))
	dir := Dir("", File("inside", []byte("inside")))
	long := File("long", content(1, 12_000))
	long.DataExtent, long.Rsrc, long.RsrcExtent = 1, content(2, 9_000), 1
	marked := File("marked", []byte("marked"))
	marked.Xattrs = []Xattr{
		{Name: "inline", Data: []byte("value")},
		{Name: "fork", Data: content(3, 3_000), Fork: true},
		{Name: "extents", Data: content(4, 12_000), Fork: true, Extent: 1},
	}
	packed := &Entry{Name: "packed", OwnerFlags: 0x20, Shown: decmpfsenc.Text(70_000)}
	attr, fork := decmpfsenc.Fork(4, packed.Shown, 0, encoding("zlib"))
	packed.Rsrc, packed.Xattrs = fork, []Xattr{{Name: "com.apple.decmpfs", Data: attr}}
	small := &Entry{Name: "small", OwnerFlags: 0x20, Shown: []byte("small and compressed")}
	small.Xattrs = []Xattr{{Name: "com.apple.decmpfs", Data: decmpfsenc.Inline(7, small.Shown, encoding("lzvn"))}}
	return Dir("Base", File("empty", nil), File("short", []byte("short")), long, marked, packed, small,
		Dir("folder", File("a", []byte("a")), Dir("deeper", File("b", []byte("b")), Symlink("up", "../a"))),
		Link("first", file), Link("second", file), Link("folder link", dir), Dir("sub", Link("again", dir)),
		Symlink("link", "folder/deeper/b"))
}

func encoding(name string) func([]byte) []byte {
	for _, e := range decmpfsenc.Encodings {
		if e.Name == name {
			return e.Chunk
		}
	}
	panic("hfsvol: no encoding " + name)
}

// headers bends the volume header, with its copy and alone; the wrapper; and the
// journal.
func (b *bender) headers() {
	v := base(Options{Journal: FullJournal})
	fields := []field{{0, 2}, {2, 2}, {4, 4}, {8, 4}, {12, 4}, {16, 4}, {32, 4}, {36, 4}, {40, 4}, {44, 4}, {48, 4}, {64, 4}}
	for _, at := range []int{112, 192, 272, 352, 432} {
		fields = append(fields, forkFields(at)...)
	}
	for _, f := range fields {
		right := get(v.Image, v.Header+int64(f.at), f.width)
		for _, n := range numbers(f.width, right) {
			both, one := bytes.Clone(v.Image), bytes.Clone(v.Image)
			set(both, v.Header+int64(f.at), f.width, n)
			set(both, v.Copy+int64(f.at), f.width, n)
			set(one, v.Header+int64(f.at), f.width, n)
			b.give(both, "%d=%#x", f.at, n)
			if f.at < 50 {
				b.give(one, "one %d=%#x", f.at, n)
			}
		}
	}
	for _, f := range []field{{0, 4}, {36, 8}, {44, 8}} {
		b.bend(v, fmt.Sprintf("journal info %d", f.at), v.JournalInfo+int64(f.at), f.width)
	}
	for _, f := range []field{{0, 4}, {4, 4}, {8, 8}, {16, 8}, {24, 8}, {32, 4}, {40, 4}} {
		b.bend(v, fmt.Sprintf("journal %d", f.at), v.JournalHeader+int64(f.at), f.width)
	}
	// Trees in each other's blocks, and in the header's.
	for _, at := range []int64{192, 272, 352} {
		for _, from := range []int64{112, 192, 272, 352} {
			image := bytes.Clone(v.Image)
			for _, h := range []int64{v.Header, v.Copy} {
				copy(image[h+at:], v.Image[h+from:][:80])
			}
			b.give(image, "tree %d is %d", at, from)
		}
		for _, start := range []uint64{0, 1, 2} {
			image := bytes.Clone(v.Image)
			set(image, v.Header+at+16, 4, start)
			b.give(image, "tree %d at %d", at, start)
		}
	}
	w := base(Options{Wrapper: true})
	for _, f := range []field{{0, 2}, {0x12, 2}, {0x14, 4}, {0x1C, 2}, {0x7C, 2}, {0x7E, 2}, {0x80, 2}} {
		b.bend(w, fmt.Sprintf("wrapper %#x", f.at), headerAt+int64(f.at), f.width)
	}
	// A wrapper around itself.
	image := bytes.Clone(w.Image)
	set(image, headerAt+0x1C, 2, 0)
	set(image, headerAt+0x7E, 2, 0)
	b.give(image, "wrapper in itself")
}

type namedTree struct {
	name string
	Tree
}

func (v *Volume) trees() []namedTree {
	return []namedTree{{"catalog", v.Catalog}, {"extents", v.Extents}, {"attributes", v.Attributes}}
}

// treeHeaders bends the header records of all trees.
func (b *bender) treeHeaders() {
	v := base(Options{})
	for _, t := range v.trees() {
		at := t.Nodes[0]
		for _, f := range []field{{0, 4}, {4, 4}, {8, 1}, {9, 1}, {10, 2}, {1022 % t.NodeSize, 2}, {t.NodeSize - 2, 2}, {t.NodeSize - 4, 2}} {
			b.bend(v, fmt.Sprintf("%s node 0 %d", t.name, f.at), at+int64(f.at), f.width)
		}
		sizes := []uint64{3, 511, 512, 513, 768, 2048, 4096, 8192, 16384, 32768}
		for _, f := range []field{{0, 2}, {2, 4}, {6, 4}, {10, 4}, {14, 4}, {18, 2}, {20, 2}, {22, 4}, {26, 4}, {36, 1}, {37, 1}, {38, 4}} {
			more := []uint64(nil)
			switch f.at {
			case 2: // the root: every node
				for i := range t.Nodes {
					more = append(more, uint64(i))
				}
			case 0:
				more = []uint64{3, 4, 5, 6, 15, 16, 17, 255}
			case 18, 20:
				more = sizes
			case 37:
				more = []uint64{0xBC, 0xCF}
			}
			b.bend(v, fmt.Sprintf("%s header %d", t.name, f.at), at+nodeHead+int64(f.at), f.width, more...)
		}
		for _, depth := range []uint64{0, 1, 16, 17} { // and a root that fits
			for root := range t.Nodes {
				image := bytes.Clone(v.Image)
				set(image, at+nodeHead, 2, depth)
				set(image, at+nodeHead+2, 4, uint64(root))
				b.give(image, "%s depth %d root %d", t.name, depth, root)
			}
		}
	}
}

// some returns the nodes of a tree to bend: the root, one in the middle, the first
// leaf and the last.
func (t *Tree) some() []int {
	height := make(map[int]int)
	for _, r := range t.Records {
		height[r.Node] = r.Height
	}
	nodes := []int{t.Root, 1, len(t.Nodes) / 2}
	for n := range t.Nodes {
		if height[n] == 2 {
			nodes = append(nodes, n)
			break
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// nodes bends the heads of nodes and the offsets of their records.
func (b *bender) nodes() {
	v := base(Options{})
	for _, t := range v.trees() {
		for _, n := range t.some() {
			at := t.Nodes[n]
			var all []uint64
			for i := range t.Nodes {
				all = append(all, uint64(i))
			}
			b.bend(v, fmt.Sprintf("%s %d next", t.name, n), at, 4, all...)
			b.bend(v, fmt.Sprintf("%s %d previous", t.name, n), at+4, 4, all...)
			b.bend(v, fmt.Sprintf("%s %d kind", t.name, n), at+8, 1)
			b.bend(v, fmt.Sprintf("%s %d height", t.name, n), at+9, 1, 3, 4, 5, 16, 17)
			b.bend(v, fmt.Sprintf("%s %d records", t.name, n), at+10, 2)
			count := int(get(v.Image, at+10, 2))
			for i := range count + 1 {
				off := at + int64(t.NodeSize) - 2*int64(i+1)
				more := []uint64{13, 14, 15, uint64(t.NodeSize), uint64(t.NodeSize - 1), uint64(t.NodeSize - 2*(count+1)), get(v.Image, off, 2) + 7}
				if i > 0 {
					more = append(more, get(v.Image, off+2, 2), get(v.Image, off+2, 2)+1) // the record before
				}
				if i < count {
					more = append(more, get(v.Image, off-2, 2)) // the one behind
				}
				b.bend(v, fmt.Sprintf("%s %d offset %d", t.name, n, i), off, 2, more...)
			}
			image := bytes.Clone(v.Image)
			copy(image[at:at+int64(t.NodeSize)], make([]byte, t.NodeSize))
			b.give(image, "%s %d is zeros", t.name, n)
			for other, from := range t.Nodes {
				image := bytes.Clone(v.Image)
				copy(image[at:], v.Image[from:from+int64(t.NodeSize)])
				b.give(image, "%s %d is %d", t.name, n, other)
			}
		}
	}
}

// children makes index records lead elsewhere: to themselves, up, in circles, past
// the end.
func (b *bender) children() {
	v := base(Options{})
	for _, t := range v.trees() {
		var all []uint64
		for i := range t.Nodes {
			all = append(all, uint64(i))
		}
		all = append(all, uint64(len(t.Nodes)), uint64(len(t.Nodes))+1)
		for _, r := range t.Records {
			if r.Height > 1 {
				b.bend(v, fmt.Sprintf("%s %d child %d", t.name, r.Node, r.Index), r.Data, 4, all...)
			}
		}
		// An index node of one record, which leads to the node itself or to the root,
		// has nothing but its height to tell that this is a circle.
		for _, r := range t.Records {
			if r.Height == 1 || r.Index > 0 {
				continue
			}
			for _, child := range []int{r.Node, t.Root} {
				image := bytes.Clone(v.Image)
				set(image, t.Nodes[r.Node]+10, 2, 1)
				set(image, r.Data, 4, uint64(child))
				b.give(image, "%s %d has one child, %d", t.name, r.Node, child)
				if r.Node != t.Root {
					set(image, t.Nodes[0]+nodeHead+2, 4, uint64(r.Node))
					set(image, t.Nodes[0]+nodeHead, 2, uint64(r.Height))
					b.give(image, "%s the root, %d, has one child, %d", t.name, r.Node, child)
				}
			}
		}
		// All children of all index nodes are the same: a tree of 5^depth leaves.
		for height := 2; height <= t.Depth; height++ {
			image := bytes.Clone(v.Image)
			for _, r := range t.Records {
				if r.Height == height {
					set(image, r.Data, 4, get(v.Image, t.first(height).Data, 4))
				}
			}
			b.give(image, "%s one child at height %d", t.name, height)
		}
		image := bytes.Clone(v.Image)
		for _, r := range t.Records {
			if r.Height > 1 {
				set(image, r.Data, 4, uint64(t.Root))
			}
		}
		b.give(image, "%s all children are the root", t.name)
	}
}

func (t *Tree) first(height int) Record {
	for _, r := range t.Records {
		if r.Height == height {
			return r
		}
	}
	panic("hfsvol: no such height")
}

// keys bends the keys of records, in leaves and above.
func (b *bender) keys() {
	v := base(Options{})
	for _, t := range v.trees() {
		some := t.some()
		for _, r := range t.Records {
			if !slices.Contains(some, r.Node) {
				continue
			}
			where := fmt.Sprintf("%s %d %d ", t.name, r.Node, r.Index)
			b.bend(v, where+"length", r.Off, 2, 3, 5, 6, 9, 10, 11, 12, 516, 520)
			key := r.Off + 2
			switch t.name {
			case "catalog":
				b.bend(v, where+"parent", key, 4, 3, 16, 17, 18)
				b.bend(v, where+"name length", key+4, 2, 255, 256)
				if len(r.Key) >= 8 {
					b.bend(v, where+"name", key+6, 2, 0xD800, 0xDFFF, '/', '.')
				}
			case "extents":
				b.bend(v, where+"fork", key, 1)
				b.bend(v, where+"file", key+2, 4, 3, 4, 8)
				b.bend(v, where+"block", key+6, 4, 7, 8, 9, 16)
			case "attributes":
				b.bend(v, where+"file", key+2, 4)
				b.bend(v, where+"block", key+6, 4, 7, 8, 9, 16)
				b.bend(v, where+"name length", key+10, 2, 127, 128, 255, 256)
			}
		}
	}
}

// catalogRecords bends what the catalog says about folders, files and threads.
func (b *bender) catalogRecords() {
	v := base(Options{})
	common := []field{{0, 2}, {2, 2}, {4, 4}, {8, 4}, {12, 4}, {32, 4}, {40, 1}, {41, 1}, {42, 2}, {44, 4}, {48, 4}, {52, 4}, {56, 2}}
	file := slices.Concat(common, forkFields(88), forkFields(168))
	modes := []uint64{0100644, 0040755, 0120777, 0010644, 0020644, 0060644, 0140644, 0xF1ED}
	for _, r := range v.Catalog.Records {
		if r.Height > 1 {
			continue
		}
		name := keyText(r.Key)
		fields := common
		switch get(v.Image, r.Data, 2) {
		case folderRecord:
			if !slices.Contains([]string{"2 folder", "1 Base", "2 sub"}, name) && !strings.Contains(name, "dir_") && !strings.Contains(name, "Private") {
				continue
			}
		case fileRecord:
			if !slices.Contains([]string{"2 long", "2 marked", "2 packed", "2 first", "2 folder link", "2 link", "2 short"}, name) && !strings.Contains(name, "iNode") {
				continue
			}
			fields = file
		default:
			if r.Index%2 > 0 && name != "2 " {
				continue
			}
			fields = []field{{0, 2}, {4, 4}, {8, 2}, {10, 2}}
		}
		for _, f := range fields {
			more := []uint64{uint64(rootParent), rootID, 3, 4}
			switch f.at {
			case 42:
				more = modes
			case 8, 44: // ids
				more = append(more, 16, 17, 18, 19, 20, 21, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
			}
			if f.width == 1 {
				more = nil
			}
			b.bend(v, fmt.Sprintf("%s %d", name, f.at), r.Data+int64(f.at), f.width, more...)
		}
	}
	// Sizes that lie, with extents that would be right for them.
	for _, size := range []uint64{1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		for _, r := range v.Catalog.Records {
			if r.Height == 1 && get(v.Image, r.Data, 2) == fileRecord {
				image := bytes.Clone(v.Image)
				for _, fork := range []int64{88, 168} {
					set(image, r.Data+fork, 8, size)
					set(image, r.Data+fork+12, 4, 1<<32-1)
					set(image, r.Data+fork+16, 4, 0)
					set(image, r.Data+fork+20, 4, 1<<32-1)
				}
				b.give(image, "%s sizes %#x", keyText(r.Key), size)
			}
		}
	}
}

// keyText is a catalog key for the name of a volume.
func keyText(key []byte) string {
	var units []uint16
	for i := 6; i+2 <= len(key); i += 2 {
		units = append(units, binary.BigEndian.Uint16(key[i:]))
	}
	return fmt.Sprintf("%d %s", binary.BigEndian.Uint32(key), strings.Trim(fmt.Sprintf("%q", string(utf16.Decode(units))), `"`))
}

// extentsRecords bends the extents of files' overflow, in circles too.
func (b *bender) extentsRecords() {
	v := base(Options{CatalogExtent: 2, AttributesExtent: 3})
	for i, r := range v.Extents.Records {
		if r.Height > 1 {
			continue
		}
		for k := range 8 {
			at := r.Data + int64(8*k)
			b.bend(v, fmt.Sprintf("%d start %d", i, k), at, 4, uint64(v.Blocks), uint64(v.Blocks-1))
			b.bend(v, fmt.Sprintf("%d count %d", i, k), at+4, 4, uint64(v.Blocks))
		}
		// What the first record has, and the whole volume, eight times.
		image := bytes.Clone(v.Image)
		copy(image[r.Data:r.Data+64], v.Image[v.Extents.first(1).Data:])
		b.give(image, "%d is the first", i)
		image = bytes.Clone(v.Image)
		for k := range int64(8) {
			set(image, r.Data+8*k, 4, 0)
			set(image, r.Data+8*k+4, 4, uint64(v.Blocks))
		}
		b.give(image, "%d is the volume", i)
		b.give(zero(v.Image, r.Data, 64), "%d is empty", i)
	}
	// The extents tree's own fork, cut and overlapping itself.
	for _, n := range []uint64{0, 1, 2} {
		image := bytes.Clone(v.Image)
		for _, h := range []int64{v.Header, v.Copy} {
			set(image, h+192+20, 4, n)
		}
		b.give(image, "its own fork of %d blocks", n)
	}
	// Records that say that the catalog's fork goes on, forever.
	for _, id := range []uint32{catalogID, extentsID, attributesID, 5} {
		b.write(baseTree(), Options{CatalogNode: 1024}, func(w *writer) {
			for start := uint32(1); start < 200; start++ {
				var r big
				r.extents([][2]uint32{{start, 1}, {start, 1}, {start, 1}})
				w.extents = append(w.extents, extentRecord{0, id, start * 3, r.b})
			}
		}, "file %d goes on", id)
	}
	for _, shift := range []uint32{1, 7, 8, 9, 1 << 31} {
		b.write(baseTree(), Options{}, func(w *writer) {
			for i := range w.extents {
				w.extents[i].start += shift
			}
		}, "all starts %d later", shift)
	}
}

func zero(image []byte, at int64, n int) []byte {
	image = bytes.Clone(image)
	clear(image[at : at+int64(n)])
	return image
}

// attributesRecords bends attributes of all kinds.
func (b *bender) attributesRecords() {
	v := base(Options{})
	for i, r := range v.Attributes.Records {
		if r.Height > 1 {
			continue
		}
		fields := []field{{0, 4}, {4, 4}, {12, 4}}
		if kind := get(v.Image, r.Data, 4); kind == 0x20 {
			fields = append([]field{{0, 4}}, forkFields(8)...)
		} else if kind == 0x30 {
			fields = []field{{0, 4}, {8, 4}, {12, 4}, {16, 4}, {20, 4}, {64, 4}, {68, 4}}
		}
		for _, f := range fields {
			b.bend(v, fmt.Sprintf("%d %d", i, f.at), r.Data+int64(f.at), f.width, 0x10, 0x20, 0x30, 0x31)
		}
	}
	many := func(n int, data []byte) func(w *writer) {
		return func(w *writer) {
			for i := range n {
				w.attributes = append(w.attributes, attributeRecord{16, utf16.Encode([]rune(fmt.Sprintf("a%06d", i))), 0, data})
			}
		}
	}
	var inline, forks, rest big
	inline.u32(0x10, 0, 0, 1)
	inline.u8('x', 0)
	forks.u32(0x20, 0)
	forks.u64(1 << 62)
	forks.u32(0, 1<<32-1)
	forks.extents([][2]uint32{{0, 1<<32 - 1}})
	rest.u32(0x30, 0)
	rest.extents([][2]uint32{{0, 1}})
	b.write(baseTree(), Options{}, many(20_000, inline.b), "20000 of a file")
	b.write(baseTree(), Options{}, many(100, forks.b), "forks of exabytes")
	b.write(baseTree(), Options{}, many(100, rest.b), "extents of nothing")
	b.write(baseTree(), Options{}, func(w *writer) {
		for i := range 3 {
			w.attributes = append(w.attributes, attributeRecord{16, []uint16{'d'}, 0, inline.b}, attributeRecord{16, []uint16{'e'}, uint32(i), inline.b})
		}
		for _, name := range [][]uint16{nil, {0}, {0xD800}, {'/'}, {'.'}, {'.', '.'}, slices.Repeat([]uint16{'n'}, 255)} {
			w.attributes = append(w.attributes, attributeRecord{16, name, 0, inline.b})
		}
	}, "names and doubles")
}

// compressed bends the attribute and the chunk table of compressed files.
func (b *bender) compressed() {
	for _, e := range decmpfsenc.Encodings {
		plain := decmpfsenc.Text(2*65536 + 100)
		attr, fork := decmpfsenc.Fork(e.Fork, plain, 0, e.Chunk)
		short := decmpfsenc.Inline(e.Inline, plain[:300], e.Chunk)
		file := func(attr, fork []byte) *Entry {
			f := &Entry{Name: "packed", OwnerFlags: 0x20, Rsrc: fork}
			f.Xattrs = []Xattr{{Name: "com.apple.decmpfs", Data: attr, Fork: len(attr) > 3000}}
			return Dir("Packed", f)
		}
		little := func(p []byte, at int, v uint32) []byte {
			p = bytes.Clone(p)
			binary.LittleEndian.PutUint32(p[at:], v)
			return p
		}
		words := []int{0, 4, 8}
		if e.Fork == 4 {
			words = []int{0, 4, 8, 0x100, 0x104, 0x108, 0x10C, 0x110}
		}
		for _, at := range words {
			right := binary.LittleEndian.Uint32(fork[at:])
			for _, n := range numbers(4, uint64(right)) {
				b.write(file(attr, little(fork, at, uint32(n))), Options{}, nil, "%s fork %#x=%#x", e.Name, at, n)
			}
		}
		for _, at := range []int{0, 4, 8, 12} {
			for _, n := range numbers(4, uint64(binary.LittleEndian.Uint32(attr[at:]))) {
				b.write(file(little(attr, at, uint32(n)), fork), Options{}, nil, "%s attribute %d=%#x", e.Name, at, n)
				b.write(file(little(short, at, uint32(n)), nil), Options{}, nil, "%s inline %d=%#x", e.Name, at, n)
			}
		}
		for _, n := range []int{0, 1, 15, 16, 17, len(short) - 1} {
			b.write(file(short[:n], nil), Options{}, nil, "%s inline cut at %d", e.Name, n)
		}
		for _, n := range []int{0, 1, 4, 0x104, len(fork) / 2, len(fork) - 60} {
			b.write(file(attr, fork[:n]), Options{}, nil, "%s fork cut at %d", e.Name, n)
		}
	}
	for kind := range uint32(20) {
		e := &Entry{Name: "packed", OwnerFlags: 0x20, Data: []byte("data fork"), Rsrc: make([]byte, 5000)}
		e.Xattrs = []Xattr{{Name: "com.apple.decmpfs", Data: decmpfsenc.Attribute(kind, 1<<40, make([]byte, 100))}}
		b.write(Dir("Packed", e), Options{}, nil, "type %d of a terabyte", kind)
	}
	long := &Entry{Name: "packed", OwnerFlags: 0x20}
	long.Xattrs = []Xattr{{Name: "com.apple.decmpfs", Data: decmpfsenc.Attribute(1, 4<<20, make([]byte, 4<<20)), Fork: true}}
	b.write(Dir("Packed", long), Options{}, nil, "attribute of 4 MiB")
}

// hostileNames are names that no path has, and some that look alike.
var hostileNames = [][]uint16{
	nil, {0}, {0, 0}, {'.'}, {'.', '.'}, {'/'}, {'a', '/', 'b'}, {'.', '.', '/', 'x'}, {':'}, {'a', ':', 'b'}, {'\\'},
	{0xD800}, {0xDC00}, {0xDC00, 0xD800}, {0xD83D, 0xDE00}, {'x', 0xD800}, {0xFFFF}, {0xFFFE}, {0xFEFF}, {0x200D},
	{'%', 'u', '0', '0', '2', 'E'}, {'%', 'u'}, {'%', 'u', '0', '0'}, {'%', 'U', '0', '0', '2', 'E'}, {'\n'}, {'\r'}, {27, '[', '2', 'J'}, {127},
	{0xE9}, {'e', 0x301}, {0x212B}, {0xC5}, {'A', 0x30A}, {0x1112, 0x1161, 0x11AB}, {0xD55C}, {'a', 0x301, 0x327}, {'a', 0x327, 0x301},
	{0x202E, 'a'}, {' '}, {'a', ' '}, {'A'}, {'a'}, {0x3B1}, {0xDF}, {'s', 's'}, {0x17F},
}

// names puts such names into folders, alone and together, in volumes of all kinds.
func (b *bender) names() {
	all := append(slices.Clone(hostileNames), slices.Repeat([]uint16{'n'}, 255), slices.Repeat([]uint16{0xD800}, 255), slices.Repeat([]uint16{0x301}, 255), slices.Repeat([]uint16{0xAC01}, 255))
	options := []Options{{}, {HFSX: true}}
	entry := func(units []uint16, dir bool) *Entry {
		e := &Entry{Units: units, Dir: dir}
		if units == nil {
			e.Units = []uint16{}
		}
		if dir {
			e.Children = []*Entry{File("inside", []byte("inside"))}
		} else {
			e.Data = []byte("data")
		}
		return e
	}
	for k, o := range options {
		for i, name := range all {
			for _, dir := range []bool{false, true} {
				b.write(Dir("Names", entry(name, dir), File("zz", nil)), o, nil, "%d as %v in %d", i, dir, k)
			}
			link := Symlink("link", "sub/"+string(utf16.Decode(name))+"/inside")
			b.write(Dir("Names", Dir("sub", entry(name, true)), link), o, nil, "link to %d in %d", i, k)
		}
		root := Dir("Names")
		for _, name := range all {
			root.Children = append(root.Children, entry(name, false))
		}
		b.write(root, o, nil, "all in %d", k)
		b.write(Dir("Names", root), o, nil, "all in a folder in %d", k)
		b.write(&Entry{Units: []uint16{0xD800, 0, '/'}, Dir: true}, o, nil, "volume in %d", k)
	}
	same := func(names ...string) {
		root := Dir("Same")
		for i, name := range names {
			root.Children = append(root.Children, File(name, fmt.Append(nil, i)))
		}
		b.write(root, Options{}, nil, "together %q", names)
		b.write(root, Options{MaxRecords: 2}, nil, "apart %q", names)
	}
	same("a", "a", "a")
	same("a", "A", "a")
	same("e\u0301", "e\u0301", "E\u0301")
	same("\u00E9", "e\u0301")
	same("ab", "a\u200Db", "a\u200C\u200Db")
	same(slices.Repeat([]string{"twin"}, 300)...)
}

// folders makes folders that contain themselves, have no thread, or another's.
func (b *bender) folders() {
	tree := func() *Entry {
		return Dir("Folders", Dir("a", Dir("b", Dir("c", File("file", []byte("file"))))), File("z", []byte("z")))
	}
	const a, bb, c = 16, 17, 18 // ids
	for _, inner := range []uint32{rootParent, rootID, a, bb, c, 19} {
		for _, outer := range []uint32{rootParent, rootID, a, bb, c, 19, 1 << 31} {
			b.write(tree(), Options{}, func(w *writer) {
				r := big{w.find(rootID, "a").data}
				data := bytes.Clone(r.b)
				binary.BigEndian.PutUint32(data[8:], inner)
				w.put(outer, []uint16{'x'}, data)
			}, "%d in %d", inner, outer)
			b.write(tree(), Options{}, func(w *writer) {
				w.thread(inner, outer, "x")
			}, "thread of %d says %d", inner, outer)
		}
		b.write(tree(), Options{}, func(w *writer) { w.remove(inner, "") }, "no thread of %d", inner)
	}
	b.write(tree(), Options{}, func(w *writer) {
		w.catalog = slices.DeleteFunc(w.catalog, func(r catalogRecord) bool { return len(r.name) == 0 })
	}, "no threads")
	b.write(tree(), Options{}, func(w *writer) {
		w.catalog = slices.DeleteFunc(w.catalog, func(r catalogRecord) bool { return len(r.name) > 0 })
	}, "only threads")
	b.write(tree(), Options{}, func(w *writer) { w.catalog = nil }, "nothing")
	for _, name := range []string{"a", "b", "c", "Folders"} {
		for _, valence := range []uint32{0, 1 << 31, 1<<32 - 1} {
			b.write(tree(), Options{}, func(w *writer) {
				for i, r := range w.catalog {
					if string(utf16.Decode(r.name)) == name {
						binary.BigEndian.PutUint32(w.catalog[i].data[4:], valence)
					}
				}
			}, "valence of %s is %#x", name, valence)
		}
	}
	// Every folder has the same id, and so the same entries.
	b.write(tree(), Options{}, func(w *writer) {
		for _, r := range w.catalog {
			if len(r.data) >= 88 && r.data[1] == folderRecord && r.parent != rootParent {
				binary.BigEndian.PutUint32(r.data[8:], a)
			}
		}
	}, "one id")
	b.write(tree(), Options{}, func(w *writer) {
		for _, r := range w.catalog {
			if len(r.data) >= 88 && r.data[1] == folderRecord && r.parent != rootParent {
				binary.BigEndian.PutUint32(r.data[8:], rootID)
			}
		}
	}, "all are the root")
	// Two of each folder in the one before: 2^40 paths.
	b.write(tree(), Options{}, func(w *writer) {
		record := w.find(rootID, "a").data
		parent := uint32(rootID)
		for id := range uint32(40) {
			for _, name := range []uint16{'x', 'y'} {
				data := bytes.Clone(record)
				binary.BigEndian.PutUint32(data[8:], 1000+id)
				w.put(parent, []uint16{name}, data)
			}
			parent = 1000 + id
		}
	}, "two of each")
	// A thousand folders, each of which has all of them.
	b.write(tree(), Options{}, func(w *writer) {
		record := w.find(rootID, "a").data
		for _, parent := range []uint32{rootID, 1000, 1001, 1002} {
			for i := range uint32(250) {
				data := bytes.Clone(record)
				binary.BigEndian.PutUint32(data[8:], 1000+i)
				w.put(parent, utf16.Encode([]rune(fmt.Sprintf("n%d", i))), data)
			}
		}
	}, "each has all")
	b.write(deepFolders(3000), Options{}, nil, "3000 deep")
	for _, n := range []int{0, 1, 2, 10, 87} {
		b.write(tree(), Options{}, func(w *writer) { w.find(rootID, "a").data = w.find(rootID, "a").data[:n] }, "folder of %d bytes", n)
		b.write(tree(), Options{}, func(w *writer) { w.find(rootID, "z").data = w.find(rootID, "z").data[:n] }, "file of %d bytes", n)
		b.write(tree(), Options{}, func(w *writer) {
			t := w.find(a, "")
			t.data = t.data[:min(n, len(t.data))]
		}, "thread of %d bytes", n)
	}
}

// find returns a record, to be changed.
func (w *writer) find(parent uint32, name string) *catalogRecord {
	for i, r := range w.catalog {
		if r.parent == parent && string(utf16.Decode(r.name)) == name {
			return &w.catalog[i]
		}
	}
	panic("hfsvol: no record " + name)
}

func (w *writer) remove(parent uint32, name string) {
	w.catalog = slices.DeleteFunc(w.catalog, func(r catalogRecord) bool {
		return r.parent == parent && string(utf16.Decode(r.name)) == name
	})
}

// thread replaces the thread of an id.
func (w *writer) thread(id, parent uint32, name string) {
	w.remove(id, "")
	var t big
	t.u16(folderThread, 0)
	t.u32(parent)
	units := utf16.Encode([]rune(name))
	t.u16(uint16(len(units)))
	t.u16(units...)
	w.put(id, nil, t.b)
}

// links makes links that lead to each other, to nothing, and up.
func (b *bender) links() {
	tree := func() *Entry {
		file, dir := File("", []byte("linked")), Dir("", File("inside", []byte("inside")))
		return Dir("Links", Link("f1", file), Link("f2", file), Link("d1", dir), Dir("sub", Link("d2", dir)), File("z", nil))
	}
	// Each link's number is any other id.
	v := Write(tree(), Options{})
	for _, r := range v.Catalog.Records {
		if r.Height > 1 || get(v.Image, r.Data, 2) != fileRecord || get(v.Image, r.Data+2, 2)&hasChain == 0 {
			continue
		}
		for id := range uint64(32) {
			image := bytes.Clone(v.Image)
			set(image, r.Data+44, 4, id)
			b.give(image, "%s is %d", keyText(r.Key), id)
		}
		for _, kind := range []string{"hlnkhfs+", "fdrpMACS", "slnkrhap", "\x00\x00\x00\x00\x00\x00\x00\x00"} {
			image := bytes.Clone(v.Image)
			copy(image[r.Data+48:], kind)
			b.give(image, "%s is a %q", keyText(r.Key), kind)
		}
	}
	private := func(w *writer, name string) uint32 {
		return binary.BigEndian.Uint32(w.find(rootID, name).data[8:])
	}
	links := func(w *writer) (file, dir uint32, link []byte) {
		return private(w, privateFolder), private(w, privateDirs), bytes.Clone(w.find(rootID, "f1").data)
	}
	numbered := func(link []byte, number uint32) []byte {
		link = bytes.Clone(link)
		binary.BigEndian.PutUint32(link[44:], number)
		return link
	}
	name := func(format string, args ...any) []uint16 {
		return utf16.Encode([]rune(fmt.Sprintf(format, args...)))
	}
	b.write(tree(), Options{}, func(w *writer) { // a link to itself
		file, _, link := links(w)
		w.put(file, name("iNode500"), numbered(link, 500))
		w.put(rootID, name("self"), numbered(link, 500))
	}, "link to itself")
	b.write(tree(), Options{}, func(w *writer) { // a chain
		file, _, link := links(w)
		for i := range uint32(1000) {
			w.put(file, name("iNode%d", 500+i), numbered(link, 501+i))
		}
		w.put(rootID, name("chain"), numbered(link, 500))
	}, "chain of links")
	b.write(tree(), Options{}, func(w *writer) { // links between folders of links, in a circle
		_, dir, _ := links(w)
		link := w.find(rootID, "d1").data
		folder := w.find(rootID, "sub").data
		for i := range uint32(3) {
			f := bytes.Clone(folder)
			binary.BigEndian.PutUint32(f[8:], 700+i)
			w.put(dir, name("dir_%d", 700+i), f)
			w.put(700+i, name("next"), numbered(link, 700+(i+1)%3))
		}
		w.put(rootID, name("circle"), numbered(link, 700))
	}, "folder links in a circle")
	b.write(tree(), Options{}, func(w *writer) { // two links to the next, 2^30 paths
		_, dir, _ := links(w)
		link, folder := w.find(rootID, "d1").data, w.find(rootID, "sub").data
		for i := range uint32(30) {
			f := bytes.Clone(folder)
			binary.BigEndian.PutUint32(f[8:], 700+i)
			w.put(dir, name("dir_%d", 700+i), f)
			w.put(700+i, name("x"), numbered(link, 701+i))
			w.put(700+i, name("y"), numbered(link, 701+i))
		}
		w.put(rootID, name("laughs"), numbered(link, 700))
	}, "two folder links each")
	for _, target := range []string{"dir_%d", "iNode%d"} {
		for _, id := range []uint32{rootParent, rootID, 16, 17, 18, 19, 20, 21, 22, 23} {
			b.write(tree(), Options{}, func(w *writer) { // a link to an ancestor, or to what contains the links
				_, dir, _ := links(w)
				f := bytes.Clone(w.find(rootID, "sub").data)
				binary.BigEndian.PutUint32(f[8:], id)
				w.put(dir, name(target, 900), f)
				w.put(rootID, name("up"), numbered(w.find(rootID, "d1").data, 900))
			}, target+" to %d", 900, id)
		}
	}
	for _, folder := range []string{privateFolder, privateDirs} {
		b.write(tree(), Options{}, func(w *writer) { w.remove(rootID, folder) }, "without %q", folder)
		b.write(tree(), Options{}, func(w *writer) { w.find(rootID, folder).data = w.find(rootID, "z").data }, "a file for %q", folder)
		for _, id := range []uint32{rootParent, rootID, 16, 18, 20} {
			b.write(tree(), Options{}, func(w *writer) {
				binary.BigEndian.PutUint32(w.find(rootID, folder).data[8:], id)
			}, "%d is %q", id, folder)
		}
	}
	// Symbolic links.
	for i, target := range []string{"", "/", ".", "..", "../..", "link", "./link/", "link/x", "\x00", "a\x00b", "\xff\xfe", "/etc/passwd", "../../../../etc/passwd",
		strings.Repeat("a/", 5000), strings.Repeat("../", 300) + "z", strings.Repeat("sub/../", 500) + "z", "%u002E%u002E/z", strings.Repeat("x", 1<<20)} {
		b.write(Dir("Links", Symlink("link", target), Dir("sub", Symlink("link", target)), File("z", []byte("z"))), Options{}, nil, "target %d", i)
	}
	root := Dir("Links", File("l0", []byte("end")))
	for i := range 200 {
		root.Children = append(root.Children, Symlink(fmt.Sprintf("l%d", i+1), fmt.Sprintf("l%d", i)))
	}
	b.write(root, Options{}, nil, "chain of symbolic links")
	root = Dir("Links", Dir("a", File("x", nil)))
	for i := range 12 { // l1 is ten times l0, and so on
		root.Children = append(root.Children, Symlink(fmt.Sprintf("l%d", i+1), strings.Repeat(fmt.Sprintf("l%d/../", i), 10)))
	}
	root.Children = append(root.Children, Symlink("l0", "a"))
	b.write(root, Options{}, nil, "ten links in each")
}

// cuts ends a volume early.
func (b *bender) cuts() {
	for k, o := range []Options{{Journal: EmptyJournal}, {Wrapper: true}} {
		v := base(o)
		for n := 0; n < len(v.Image); n += 512 + 512*(n/20_000) {
			b.give(v.Image[:n], "%d at %d", k, n)
		}
		for _, n := range []int{1, 1023, 1025, 1535, 1537, len(v.Image) - 1} {
			b.give(v.Image[:n], "%d at %d", k, n)
		}
	}
}

// flips turns bits over at random, in what describes the volume.
func (b *bender) flips() {
	v := base(Options{Journal: EmptyJournal})
	rnd := rand.New(rand.NewPCG(1, 2))
	var places []int64
	for _, t := range v.trees() {
		places = append(places, t.Nodes...)
	}
	places = append(places, v.Header, v.JournalInfo, v.JournalHeader)
	for i := range 800 {
		image := bytes.Clone(v.Image)
		for range 1 + rnd.IntN(4) {
			at := places[rnd.IntN(len(places))] + rnd.Int64N(512)
			image[at] ^= 1 << rnd.IntN(8)
		}
		b.give(image, "%d", i)
	}
	for i := range 100 { // every node has something
		image := bytes.Clone(v.Image)
		for _, at := range places {
			image[at+rnd.Int64N(512)] = byte(rnd.Uint32())
		}
		b.give(image, "all %d", i)
	}
}

package hfsvol

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/go-dmg/dmg/internal/dmgtest/decmpfsenc"
)

// A Sample is a volume that shows something.
type Sample struct {
	Name    string
	Root    *Entry
	Options Options
	Sizes   bool // it has what others have, in other sizes
}

// Large makes a volume of 100,000 files. It takes a second to write, and longer to read.
func Large() Sample {
	return Sample{Name: "100000-files", Root: manyFiles(100_000), Options: Options{CatalogNode: 8192}}
}

// Samples makes a volume of each kind that this package can write.
func Samples() []Sample {
	all := []Sample{
		{Name: "empty", Root: Dir("Nothing")},
		{Name: "no-attributes", Root: sampleTree(), Options: Options{NoAttributes: true}},
		{Name: "tree", Root: sampleTree()},
		{Name: "hfsx", Root: caseTree(true), Options: Options{HFSX: true}},
		{Name: "hfsx-folded", Root: caseTree(false), Options: Options{HFSX: true, FoldedHFSX: true}},
		{Name: "names", Root: namesTree()},
		{Name: "folding", Root: caseTree(false)},
		{Name: "overflow", Root: overflowTree(7, 8, 9, 16, 17, 24, 25), Options: Options{BlockSize: 512}},
		{Name: "overflow-leaves", Root: overflowTree(8, 100, 1000), Options: Options{BlockSize: 512}},
		{Name: "overflow-catalog", Root: manyFiles(300), Options: Options{BlockSize: 512, CatalogNode: 512, CatalogExtent: 3}},
		{Name: "nodes-across-extents", Root: attributeTree(), Options: Options{BlockSize: 512, CatalogNode: 4096, CatalogExtent: 3, AttributesNode: 2048, AttributesExtent: 1}},
		{Name: "attributes", Root: attributeTree(), Options: Options{BlockSize: 1024, Spare: 7}},
		{Name: "attributes-overflow", Root: manyAttributes(400), Options: Options{BlockSize: 512, AttributesNode: 1024, AttributesExtent: 2}},
		{Name: "deep-trees", Root: manyFiles(500), Options: Options{MaxRecords: 2}},
		{Name: "deep-folders", Root: deepFolders(150)},
		{Name: "links", Root: linkTree()},
		{Name: "decmpfs", Root: decmpfsTree()},
		{Name: "wrapper", Root: sampleTree(), Options: Options{Wrapper: true}},
		{Name: "journal", Root: sampleTree(), Options: Options{Journal: EmptyJournal}},
		{Name: "full-journal", Root: sampleTree(), Options: Options{Journal: FullJournal, Dirty: true}},
		{Name: "map-nodes", Root: manyFiles(6000), Options: Options{BlockSize: 512, CatalogNode: 512, MaxRecords: 3}, Sizes: true},
	}
	for size := 512; size <= 65536; size *= 2 {
		all = append(all, Sample{Name: fmt.Sprintf("block-%d", size), Root: attributeTree(), Options: Options{BlockSize: size}, Sizes: true})
	}
	for size := 512; size <= 32768; size *= 2 {
		all = append(all, Sample{Name: fmt.Sprintf("node-%d", size), Root: manyAttributes(60),
			Options: Options{BlockSize: 1024, CatalogNode: size, ExtentsNode: size, AttributesNode: size}, Sizes: true})
	}
	return all
}

// Walk goes over all names that users see, with their paths as macOS shows them in a
// terminal: a slash in a name is a colon. Of a hard link it gives the inode. The root
// is ".".
func Walk(root *Entry) iter.Seq2[string, *Entry] {
	return func(yield func(string, *Entry) bool) {
		walk(".", root, yield)
	}
}

func walk(path string, e *Entry, yield func(string, *Entry) bool) bool {
	if e.Inode != nil {
		e = e.Inode
	}
	if !yield(path, e) {
		return false
	}
	for _, c := range e.Children {
		name := strings.ReplaceAll(c.Name, "/", ":")
		if path != "." {
			name = path + "/" + name
		}
		if !walk(name, c, yield) {
			return false
		}
	}
	return true
}

// content is bytes that differ in every place.
func content(seed, n int) []byte {
	r := rand.New(rand.NewPCG(uint64(seed), uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func sampleTree() *Entry {
	pipe := File("pipe", nil)
	pipe.Mode = 0010600
	device := File("device", nil)
	device.Mode, device.Special = 0060660, 0x0E000001
	old := File("old", []byte("mode 0"))
	old.ZeroMode = true
	rsrc := File("Icon\r", nil)
	rsrc.Rsrc, rsrc.Type, rsrc.Creator, rsrc.FinderFlags = content(1, 3000), "icon", "MACS", 0x4000
	script := File("run", []byte("#!/bin/sh\n"))
	script.Mode, script.Owner, script.Group, script.OwnerFlags, script.AdminFlags = 0104755, 501, 20, 0x02, 0x02
	script.Time = 3_900_000_000
	return Dir("Sample",
		File("empty", nil),
		File("hello.txt", []byte("Hello, world!\n")),
		File("block", content(2, 4096)),
		File("more", content(3, 4097)),
		File("much", content(4, 300_000)),
		Dir("empty folder"),
		Dir("folder", File("a", []byte("a")), Dir("deeper", File("b", []byte("b")), Symlink("up", "../a"))),
		Symlink("link", "hello.txt"), Symlink("out", "/etc/passwd"), Symlink("broken", "not/there"), Symlink("loop", "loop"),
		pipe, device, old, rsrc, script)
}

// caseTree has names that only differ in case, where the volume tells them apart.
func caseTree(both bool) *Entry {
	root := Dir("Case",
		File("Readme", []byte("1")), File("alpha", []byte("2")), File("Zulu", []byte("3")), File("mike", []byte("4")),
		File("ΣΑΝ", []byte("5")), File("Привет", []byte("6")), File("Æther", []byte("7")), File("ĳ", []byte("8")),
		File("Ⴀ", []byte("9")), File("ab\u200dc", []byte("10")), File("_x", []byte("11")), File("{x", []byte("12")))
	if both {
		root.Children = append(root.Children, File("README", []byte("a")), File("readme", []byte("b")), File("σαν", []byte("c")),
			File("abc", []byte("d")), File("привет", []byte("e")))
	}
	return root
}

// namesTree has names that other systems don't.
func namesTree() *Entry {
	return Dir("Names/and slashes",
		File("forward/slash", []byte("1")), File("back\\slash", []byte("2")), File("new\nline", []byte("3")),
		File("e\u0301te\u0301", []byte("4")), File("A\u030a", []byte("5")), File("\u1112\u1161\u11ab", []byte("6")),
		File("😀 emoji", []byte("7")), File(strings.Repeat("n", 255), []byte("8")), File(" space ", []byte("9")),
		File("...", []byte("10")), File("日本語", []byte("11")), Dir("a/b", File("c/d", []byte("12"))),
		File("quote\"'", []byte("13")), File("-rf", []byte("14")))
}

// overflowTree has files in more extents than a catalog record holds.
func overflowTree(extents ...int) *Entry {
	root := Dir("Overflow")
	for i, extents := range extents {
		for _, n := range []int{1, 3} {
			e := File(fmt.Sprintf("in %d extents of %d", extents, n), content(i, extents*512*n-100))
			e.DataExtent = n
			root.Children = append(root.Children, e)
		}
		e := File(fmt.Sprintf("resource in %d", extents), content(100+i, 10))
		e.Rsrc, e.RsrcExtent = content(200+i, extents*1024-1), 2
		root.Children = append(root.Children, e)
	}
	both := File("both", content(50, 30_000))
	both.DataExtent, both.Rsrc, both.RsrcExtent = 2, content(51, 20_000), 3
	root.Children = append(root.Children, both)
	return root
}

// manyFiles has one folder of so many, most of them empty.
func manyFiles(n int) *Entry {
	d := Dir("many")
	for i := range n {
		e := File(fmt.Sprintf("file %06d", i*7919%n), nil)
		if i%100 == 0 {
			e.Data = fmt.Append(nil, i)
		}
		d.Children = append(d.Children, e)
	}
	return Dir("Many", d, File("zz last", []byte("last")))
}

func deepFolders(n int) *Entry {
	e := File("at the end", []byte("here"))
	for i := n; i > 0; i-- {
		e = Dir(fmt.Sprintf("d%d", i), e)
	}
	return Dir("Deep", e)
}

// attributeTree has attributes of all kinds. They fit nodes of 512 bytes.
func attributeTree() *Entry {
	one := File("one", []byte("1"))
	one.Xattrs = []Xattr{{Name: "com.example.inline", Data: []byte("short")}}
	all := File("all", content(9, 5000))
	all.Rsrc = content(10, 700)
	all.Xattrs = []Xattr{
		{Name: "com.example.empty"},
		{Name: "com.example.inline", Data: content(11, 300)},
		{Name: "com.example.odd", Data: []byte("odd")},
		{Name: "com.example.fork", Data: content(12, 6000), Fork: true},
		{Name: "com.example.eight", Data: content(13, 8*4096), Fork: true, Extent: 1},
		{Name: "com.example.extents", Data: content(14, 40_000), Fork: true, Extent: 1},
		{Name: "com.example.many", Data: content(15, 150_001), Fork: true, Extent: 2},
		{Name: "com.example.nothing", Fork: true},
		{Name: "name e\u0301", Data: []byte("decomposed")},
	}
	dir := Dir("folder", File("in it", nil))
	dir.Xattrs = []Xattr{{Name: "com.example.folder", Data: []byte("of a folder")}}
	root := Dir("Attributes", one, all, dir, File("none", nil))
	root.Xattrs = []Xattr{{Name: "com.example.root", Data: []byte("of the root")}}
	return root
}

// manyAttributes has an attribute or two for each file.
func manyAttributes(n int) *Entry {
	root := Dir("Marked")
	for i := range n {
		e := File(fmt.Sprintf("f%d", i), fmt.Append(nil, i))
		e.Xattrs = []Xattr{{Name: "com.example.a", Data: content(i, 20+i%200)}}
		if i%3 == 0 {
			e.Xattrs = append(e.Xattrs, Xattr{Name: "com.example.b", Data: content(i, 2000), Fork: true})
		}
		root.Children = append(root.Children, e)
	}
	return root
}

func linkTree() *Entry {
	file := File("", []byte("one file, three names"))
	file.Mode, file.Owner, file.Rsrc = 0100640, 501, []byte("resource")
	file.Xattrs = []Xattr{{Name: "com.example.linked", Data: []byte("yes")}}
	single := File("", []byte("a link that is alone"))
	dir := Dir("", File("inside", []byte("in a folder of two names")), Dir("below", Link("again", file)))
	alias := File("alias", nil)
	alias.Type, alias.Creator, alias.FinderFlags, alias.Rsrc = "fdrp", "MACS", 0x8000, []byte("alias record")
	return Dir("Links",
		Link("first", file), Dir("sub", Link("second", file), Link("folder link", dir)), Link("folder", dir),
		Link("single", single), alias, Symlink("to a link", "sub/second"), Symlink("through", "folder/inside"))
}

// decmpfsTree has files compressed in each way.
func decmpfsTree() *Entry {
	root := Dir("Compressed")
	short := bytes.Repeat([]byte("short and dull. "), 200)
	long := decmpfsenc.Text(3*65536 - 1234)
	for i, e := range decmpfsenc.Encodings {
		name := strings.ReplaceAll(e.Name, " ", "-")
		inline := &Entry{Name: fmt.Sprintf("%d-%s-inline", i, name), OwnerFlags: 0x20, Shown: short}
		attr := decmpfsenc.Inline(e.Inline, short, e.Chunk)
		inline.Xattrs = []Xattr{{Name: "com.apple.decmpfs", Data: attr}}
		fork := &Entry{Name: fmt.Sprintf("%d-%s-fork", i, name), OwnerFlags: 0x20, Shown: long, RsrcExtent: 7}
		spare := 0 // entries of the table: 7-Zip wants none
		if e.Name == "lzvn with bytes behind" || e.Fork == 12 {
			spare = i % 3
		}
		attr, fork.Rsrc = decmpfsenc.Fork(e.Fork, long, spare, e.Chunk)
		fork.Xattrs = []Xattr{{Name: "com.apple.decmpfs", Data: attr}, {Name: "com.example.other", Data: []byte("seen")}}
		root.Children = append(root.Children, inline, fork)
	}
	flag := File("flag alone", []byte("not compressed"))
	flag.OwnerFlags = 0x20
	// The fork of a file whose content is not there is hidden, too.
	both := &Entry{Name: "inline, and a fork", OwnerFlags: 0x20, Rsrc: []byte("hidden"), Shown: short}
	zlib := slices.IndexFunc(root.Children, func(e *Entry) bool { return strings.HasSuffix(e.Name, "-zlib-inline") })
	both.Xattrs = append(both.Xattrs, root.Children[zlib].Xattrs[0], Xattr{Name: "com.example.other", Data: []byte("seen")})
	root.Children = append(root.Children, flag, both)
	return root
}

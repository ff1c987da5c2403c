package hfsplus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// inspect goes through a volume that may be damaged, as far as a few thousand
// entries, and checks what must hold of any. It returns how many errors it met.
func inspect(t testing.TB, image []byte) (failed int) {
	t.Helper()
	c := &counter{r: bytes.NewReader(image)}
	fsys, err := hfsplus.New(c, int64(len(image)))
	if err != nil {
		check(t, "New", err, hfsplus.ErrFormat, hfsplus.ErrUnsupported)
		return 1
	}
	_ = fsys.Volume()
	_, err = fsys.Dirty()
	check(t, "Dirty", err, hfsplus.ErrFormat)
	i := &inspector{t: t, fsys: fsys, left: 3000}
	i.dir(".", 0)
	// 4 MiB of 8 KiB and more, and no node is read without being asked for.
	if used := fsys.CacheBytes(); used > 4<<20 {
		t.Errorf("the cache holds %d bytes", used)
	}
	if calls := c.calls.Load(); calls > 400_000 {
		t.Errorf("%d reads", calls)
	}
	return i.failed
}

type inspector struct {
	t            testing.TB
	fsys         *hfsplus.FS
	left, failed int
}

// check checks the class of an error.
func check(t testing.TB, what string, err error, classes ...error) bool {
	t.Helper()
	if err == nil {
		return true
	}
	for _, class := range classes {
		if errors.Is(err, class) {
			return false
		}
	}
	t.Errorf("%s: %v", what, err)
	return false
}

func (i *inspector) check(what, path string, err error, classes ...error) bool {
	i.t.Helper()
	if err != nil {
		i.failed++
	}
	return check(i.t, fmt.Sprintf("%s %q", what, path), err, append(classes, hfsplus.ErrFormat)...)
}

func (i *inspector) dir(path string, depth int) {
	d, err := i.fsys.Open(path)
	if !i.check("Open", path, err, hfsplus.ErrLoop) {
		return
	}
	defer d.Close()
	names := map[string]bool{}
	for i.left > 0 {
		list, err := d.(fs.ReadDirFile).ReadDir(7)
		for _, e := range list {
			i.left--
			name := e.Name()
			if names[name] || !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, `/\`) {
				i.t.Errorf("%q in %q is a bad name, or listed twice", name, path)
			}
			names[name] = true
			i.entry(strings.TrimPrefix(path+"/"+name, "./"), e, depth)
		}
		if err == io.EOF {
			break
		}
		if !i.check("ReadDir", path, err) {
			return
		}
	}
}

// entry checks that what is listed can be looked up, and is the same then.
func (i *inspector) entry(path string, e fs.DirEntry, depth int) {
	info, err := e.Info()
	if !i.check("Info", path, err) {
		return
	}
	same, err := i.fsys.Lstat(path)
	if !i.check("Lstat", path, err) {
		return
	}
	a, b := info.Sys().(*hfsplus.Stat), same.Sys().(*hfsplus.Stat)
	if *a != *b || info.Mode() != same.Mode() || info.Size() != same.Size() || e.Type() != same.Mode().Type() {
		i.t.Errorf("%q is listed as %v %+v, and found as %v %+v", path, info, a, same, b)
	}
	names, err := i.fsys.ListXattr(path)
	i.check("ListXattr", path, err)
	for n, name := range names {
		if n > 20 {
			break
		}
		r, err := i.fsys.OpenXattr(path, name)
		if i.check("OpenXattr", path+" "+name, err) {
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			i.check("reading", path+" "+name, err)
		}
	}
	switch e.Type() {
	case fs.ModeDir:
		if depth < 200 {
			i.dir(path, depth+1)
		}
	case fs.ModeSymlink:
		_, err := i.fsys.ReadLink(path)
		i.check("ReadLink", path, err)
		_, err = i.fsys.Stat(path)
		i.check("Stat", path, err, fs.ErrNotExist, hfsplus.ErrLoop)
	default:
		i.file(path, info.Size())
	}
}

func (i *inspector) file(path string, size int64) {
	f, err := i.fsys.Open(path)
	if !i.check("Open", path, err, hfsplus.ErrUnsupported) {
		return
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(f, 1<<20))
	if i.check("reading", path, err) && n != min(size, 1<<20) {
		i.t.Errorf("%q: %d bytes of %d", path, n, size)
	}
	if size > 1<<20 {
		_, err := f.(io.ReaderAt).ReadAt(make([]byte, 100), size-100)
		i.check("reading the end of", path, err)
	}
}

// A trap is a volume in which something is wrong.
type trap struct {
	name string
	set  func(v *volume)
	// intact has files that must be readable in spite of it.
	intact []string
	// fails says that something must fail.
	fails bool
}

// A volume is one with which traps are set.
type volume struct{ *hfsvol.Volume }

func (v *volume) put16(off int64, x uint16) { binary.BigEndian.PutUint16(v.Image[off:], x) }
func (v *volume) put32(off int64, x uint32) { binary.BigEndian.PutUint32(v.Image[off:], x) }
func (v *volume) put64(off int64, x uint64) { binary.BigEndian.PutUint64(v.Image[off:], x) }
func (v *volume) get32(off int64) uint32    { return binary.BigEndian.Uint32(v.Image[off:]) }

// entry is the catalog record of a name that no other folder has.
func (v *volume) entry(name string) hfsvol.Record {
	for _, r := range v.Catalog.Records {
		if r.Height == 1 && len(r.Key) == 6+2*len(name) && strings.ReplaceAll(string(r.Key[6:]), "\x00", "") == name {
			return r
		}
	}
	panic(name)
}

// thread is the thread of a folder or a file.
func (v *volume) thread(name string) hfsvol.Record {
	id := v.id(name)
	for _, r := range v.Catalog.Records {
		if r.Height == 1 && len(r.Key) == 6 && binary.BigEndian.Uint32(r.Key) == id {
			return r
		}
	}
	panic(name)
}

func (v *volume) id(name string) uint32 { return v.get32(v.entry(name).Data + 8) }

// index returns the records of the root of a tree.
func index(t hfsvol.Tree) (all []hfsvol.Record) {
	for _, r := range t.Records {
		if r.Node == t.Root {
			all = append(all, r)
		}
	}
	return all
}

// leaf returns the first node of a height.
func nodeOf(t hfsvol.Tree, height int) int64 {
	for _, r := range t.Records {
		if r.Height == height {
			return t.Nodes[r.Node]
		}
	}
	panic("no such node")
}

// trapTree has some of everything, in a catalog of depth 3 or more.
func trapTree() (*hfsvol.Entry, hfsvol.Options) {
	file := hfsvol.File("", []byte("linked"))
	dir := hfsvol.Dir("", hfsvol.File("in a linked folder", []byte("inside")))
	split := hfsvol.File("split", bytes.Repeat([]byte("0123456789abcdef"), 64*40))
	split.DataExtent = 1
	packed := hfsvol.File("packed", nil)
	packed.OwnerFlags = 0x20
	packed.Xattrs = []hfsvol.Xattr{{Name: "com.apple.decmpfs", Data: []byte("fpmc\x01\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00tight")}}
	packed.Shown = []byte("tight")
	marked := hfsvol.File("marked", []byte("m"))
	marked.Xattrs = []hfsvol.Xattr{{Name: "inline", Data: []byte("value")}, {Name: "fork", Data: bytes.Repeat([]byte("x"), 30_000), Fork: true, Extent: 1}}
	root := hfsvol.Dir("Traps",
		hfsvol.Dir("alpha", hfsvol.Dir("beta", hfsvol.Dir("gamma", hfsvol.File("deep", []byte("deep"))))),
		hfsvol.Dir("other", hfsvol.File("file in other", []byte("other"))),
		hfsvol.Link("link", file), hfsvol.Link("link two", file), hfsvol.Link("folder link", dir), hfsvol.Link("folder link two", dir),
		split, packed, marked, hfsvol.Symlink("symlink", "alpha/beta"), hfsvol.File("zz", []byte("last")))
	return root, hfsvol.Options{BlockSize: 512, MaxRecords: 4}
}

var traps = []trap{
	{name: "none", set: func(v *volume) {}, intact: []string{"alpha/beta/gamma/deep", "other/file in other", "link", "folder link/in a linked folder", "split", "packed", "marked", "zz"}},

	{name: "no signature", set: func(v *volume) { v.put16(v.Header, 0) }, intact: []string{"zz", "split"}},
	{name: "blocks of 0 bytes", set: func(v *volume) { v.put32(v.Header+40, 0) }, intact: []string{"zz"}},
	{name: "both headers", set: func(v *volume) { v.put32(v.Header+40, 768); v.put16(v.Copy, 0) }, fails: true},
	{name: "more blocks than there are", set: func(v *volume) { v.put32(v.Header+44, 1<<32-1) }, intact: []string{"zz", "split"}},
	{name: "fewer blocks", set: func(v *volume) { v.put32(v.Header+44, 3) }, fails: true},
	{name: "no catalog", set: func(v *volume) { v.put64(v.Header+272, 0) }, fails: true},
	{name: "catalog of 2^63 bytes", set: func(v *volume) { v.put64(v.Header+272, 1<<63) }, intact: []string{"zz"}},
	{name: "extents past the volume", set: func(v *volume) { v.put32(v.Header+288, 1<<32-1) }, fails: true},
	{name: "extents of 2^32 blocks", set: func(v *volume) {
		for i := range int64(8) {
			v.put32(v.Header+288+8*i+4, 1<<32-1)
		}
	}, fails: true},

	{name: "nodes of 0 bytes", set: func(v *volume) { v.put16(v.Catalog.Nodes[0]+32, 0) }, fails: true},
	{name: "nodes of 768 bytes", set: func(v *volume) { v.put16(v.Catalog.Nodes[0]+32, 768) }, fails: true},
	{name: "nodes of 65535 bytes", set: func(v *volume) { v.put16(v.Catalog.Nodes[0]+32, 65535) }, fails: true},
	{name: "depth 17", set: func(v *volume) { v.put16(v.Catalog.Nodes[0]+14, 17) }, fails: true},
	{name: "depth 1", set: func(v *volume) { v.put16(v.Catalog.Nodes[0]+14, 1) }, fails: true},
	{name: "root 0", set: func(v *volume) { v.put32(v.Catalog.Nodes[0]+16, 0) }, fails: true},
	{name: "root past the end", set: func(v *volume) { v.put32(v.Catalog.Nodes[0]+16, 1<<32-1) }, fails: true},
	{name: "header node is a leaf", set: func(v *volume) { v.Image[v.Catalog.Nodes[0]+8] = 0xFF }, fails: true},

	{name: "root in itself", set: func(v *volume) { v.put32(index(v.Catalog)[1].Data, uint32(v.Catalog.Root)) }, fails: true},
	{name: "children in a circle", set: func(v *volume) {
		for _, r := range v.Catalog.Records {
			if r.Height > 1 {
				v.put32(r.Data, uint32(v.Catalog.Root))
			}
		}
	}, fails: true},
	{name: "one child for all", set: func(v *volume) {
		all := index(v.Catalog)
		for _, r := range all[1:] {
			v.put32(r.Data, v.get32(all[0].Data))
		}
	}, fails: true},
	{name: "a child past the end", set: func(v *volume) { v.put32(index(v.Catalog)[1].Data, 1<<32-1) }, fails: true},
	{name: "a child is the header", set: func(v *volume) { v.put32(index(v.Catalog)[1].Data, 0) }, fails: true},
	{name: "height 1 for all", set: func(v *volume) {
		for _, off := range v.Catalog.Nodes[1:] {
			v.Image[off+9] = 1
		}
	}, fails: true},
	{name: "height 255", set: func(v *volume) { v.Image[v.Catalog.Nodes[v.Catalog.Root]+9] = 255 }, fails: true},
	{name: "leaf links in a circle", set: func(v *volume) {
		for i, off := range v.Catalog.Nodes[1:] {
			v.put32(off, uint32(i+1))
		}
	}, intact: []string{"zz", "alpha/beta/gamma/deep"}},
	{name: "no records", set: func(v *volume) { v.put16(nodeOf(v.Catalog, 1)+10, 0) }, fails: true},
	{name: "65535 records", set: func(v *volume) { v.put16(nodeOf(v.Catalog, 1)+10, 65535) }, fails: true},
	{name: "records at 0", set: func(v *volume) { v.put16(nodeOf(v.Catalog, 1)+int64(v.Catalog.NodeSize)-4, 0) }, fails: true},
	{name: "records overlap", set: func(v *volume) { v.put16(nodeOf(v.Catalog, 1)+int64(v.Catalog.NodeSize)-4, 14) }, fails: true},
	{name: "records past the node", set: func(v *volume) { v.put16(nodeOf(v.Catalog, 1)+int64(v.Catalog.NodeSize)-4, 65535) }, fails: true},
	{name: "a key past its record", set: func(v *volume) { v.put16(v.entry("zz").Off, 65535) }, fails: true},
	{name: "a name past its key", set: func(v *volume) { v.put16(v.entry("zz").Off+6, 65535) }, fails: true},
	{name: "keys out of order", set: func(v *volume) { v.Image[v.entry("other").Off+9] = '!' }, fails: true},
	{name: "a key of another folder", set: func(v *volume) { v.put32(v.entry("other").Off+2, 1) }, fails: true},
	{name: "index keys out of order", set: func(v *volume) { v.put32(index(v.Catalog)[1].Off+2, 1<<32-1) }, fails: true},
	{name: "unknown records", set: func(v *volume) { v.put16(v.entry("other").Data, 77) }, fails: true, intact: []string{"alpha/beta/gamma/deep", "zz"}},

	{name: "root folder is a file", set: func(v *volume) { v.put16(v.entry("Traps").Data, 2) }, fails: true},
	{name: "no root thread", set: func(v *volume) { v.put16(v.thread("Traps").Data, 1) }, fails: true},
	{name: "a folder in itself", set: func(v *volume) { v.put32(v.entry("gamma").Data+8, v.id("alpha")) }, fails: true, intact: []string{"zz"}},
	{name: "the root in a folder", set: func(v *volume) { v.put32(v.entry("gamma").Data+8, 2) }, fails: true, intact: []string{"zz"}},
	{name: "the root's parent in a folder", set: func(v *volume) { v.put32(v.entry("gamma").Data+8, 1) }, fails: true, intact: []string{"zz"}},
	{name: "a folder in two places", set: func(v *volume) { v.put32(v.entry("other").Data+8, v.id("alpha")) }, fails: true, intact: []string{"alpha/beta/gamma/deep"}},
	{name: "a thread to elsewhere", set: func(v *volume) { v.put32(v.thread("other").Data+4, 12345) }, intact: []string{"other/file in other"}},
	{name: "no thread", set: func(v *volume) { v.put16(v.thread("other").Data, 9) }, fails: true},
	{name: "valence lies", set: func(v *volume) { v.put32(v.entry("other").Data+4, 1<<32-1) }, intact: []string{"other/file in other"}},
	{name: "a file claims to be a folder", set: func(v *volume) { v.put16(v.entry("zz").Data+42, 0o040755) }, intact: []string{"zz"}},
	{name: "a folder claims to be a link", set: func(v *volume) { v.put16(v.entry("other").Data+42, 0o120755) }, intact: []string{"other/file in other"}},

	{name: "a hard link to nothing", set: func(v *volume) { v.put32(v.entry("link").Data+44, 7) }, fails: true, intact: []string{"link two"}},
	{name: "a folder link to nothing", set: func(v *volume) { v.put32(v.entry("folder link").Data+44, 7) }, fails: true, intact: []string{"folder link two/in a linked folder"}},
	{name: "a folder link inside its folder", set: func(v *volume) {
		link, file := v.entry("folder link"), v.entry("in a linked folder")
		copy(v.Image[file.Data:file.Data+248], v.Image[link.Data:link.Data+248])
	}, fails: true, intact: []string{"zz"}},
	{name: "a link to a link", set: func(v *volume) {
		for _, r := range v.Catalog.Records {
			if strings.HasPrefix(string(r.Key[min(6, len(r.Key)):]), "\x00i\x00N\x00o\x00d\x00e") && r.Height == 1 {
				copy(v.Image[r.Data+48:], "hlnkhfs+")
			}
		}
	}, intact: []string{"zz"}},

	{name: "a file of 2^64-1 bytes", set: func(v *volume) { v.put64(v.entry("zz").Data+88, 1<<64-1) }, fails: true},
	{name: "a file of 2^63-1 bytes", set: func(v *volume) { v.put64(v.entry("zz").Data+88, 1<<63-1) }, fails: true},
	{name: "a link of 2^40 bytes", set: func(v *volume) { v.put64(v.entry("symlink").Data+88, 1<<40) }, fails: true, intact: []string{"zz"}},
	{name: "a file past the volume", set: func(v *volume) { v.put32(v.entry("zz").Data+104, 1<<31) }, fails: true, intact: []string{"split"}},
	{name: "no overflow tree", set: func(v *volume) { v.put64(v.Header+192, 0) }, fails: true, intact: []string{"zz"}},
	{name: "overflow in a circle", set: func(v *volume) {
		for _, r := range v.Extents.Records {
			v.put32(r.Off+8, 8)
		}
	}, fails: true, intact: []string{"zz"}},
	{name: "overflow of no blocks", set: func(v *volume) {
		for _, r := range v.Extents.Records {
			if r.Height == 1 {
				v.put32(r.Data+4, 0)
			}
		}
	}, fails: true, intact: []string{"zz"}},
	{name: "overflow of another file", set: func(v *volume) {
		for _, r := range v.Extents.Records {
			v.put32(r.Off+4, 12345)
		}
	}, fails: true, intact: []string{"zz"}},

	{name: "an attribute of 2^32-1 bytes", set: func(v *volume) {
		for _, r := range v.Attributes.Records {
			if r.Height == 1 && v.get32(r.Data) == 0x10 {
				v.put32(r.Data+12, 1<<32-1)
			}
		}
	}, fails: true, intact: []string{"marked", "zz"}},
	{name: "an attribute of unknown type", set: func(v *volume) {
		for _, r := range v.Attributes.Records {
			if r.Height == 1 {
				v.put32(r.Data, 0x11)
			}
		}
	}, fails: true, intact: []string{"marked", "zz"}},
	{name: "an attribute of 2^62 bytes", set: func(v *volume) {
		for _, r := range v.Attributes.Records {
			if r.Height == 1 && v.get32(r.Data) == 0x20 {
				v.put64(r.Data+8, 1<<62)
			}
		}
	}, fails: true, intact: []string{"marked", "packed"}},
	{name: "no extents of attributes", set: func(v *volume) {
		for _, r := range v.Attributes.Records {
			if r.Height == 1 && v.get32(r.Data) == 0x30 {
				v.put32(r.Data, 0x31)
			}
		}
	}, fails: true, intact: []string{"marked", "packed"}},
	{name: "a compressed file of 2^63 bytes", set: func(v *volume) {
		for _, r := range v.Attributes.Records {
			if r.Height == 1 && v.get32(r.Data) == 0x10 && string(v.Image[r.Data+16:r.Data+20]) == "fpmc" {
				v.put32(r.Data+28, 0xFF)
			}
		}
	}, fails: true, intact: []string{"zz"}},
	{name: "attributes tree past the volume", set: func(v *volume) { v.put32(v.Header+368, 1<<32-1) }, fails: true, intact: []string{"zz", "marked"}},
}

// contents are those of trapTree.
func contents(root *hfsvol.Entry) map[string][]byte {
	all := map[string][]byte{}
	for path, e := range hfsvol.Walk(root) {
		all[path] = e.Content()
	}
	return all
}

// TestTraps goes through damaged volumes. What is not damaged must be readable.
func TestTraps(t *testing.T) {
	root, o := trapTree()
	want := contents(root)
	for _, tt := range traps {
		t.Run(tt.name, func(t *testing.T) {
			v := &volume{hfsvol.Write(root, o)}
			tt.set(v)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			failed := inspect(t, v.Image)
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
				t.Errorf("%d bytes were allocated", took)
			}
			if (failed > 0) != tt.fails {
				t.Errorf("%d errors", failed)
			}
			if len(tt.intact) == 0 {
				return
			}
			fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range tt.intact {
				if data, err := fsys.ReadFile(path); err != nil || !bytes.Equal(data, want[path]) {
					t.Errorf("%q: %q, want %q; %v", path, data, want[path], err)
				}
			}
		})
	}
}

// TestCut cuts a volume off. What was there can be read.
func TestCut(t *testing.T) {
	root, o := trapTree()
	v := hfsvol.Write(root, o)
	for n := 0; n < len(v.Image); n += 1000 {
		inspect(t, v.Image[:n])
	}
}

// TestClassicHostile bends numbers of HFS volumes: of the header, and of the trees' nodes.
func TestClassicHostile(t *testing.T) {
	for _, name := range []string{"hfs-extents", "hfs-gsos"} {
		t.Run(name, func(t *testing.T) {
			s := sample{image: samples + "fs/" + name + ".img.gz", tsv: samples + "fs/" + name}
			if _, err := os.Stat(s.image); err != nil {
				t.Skip("no samples")
			}
			r, size := s.disk(t)
			disk := make([]byte, size)
			if _, err := r.ReadAt(disk, 0); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if inspect(t, disk) > 0 {
				t.Fatal("the volume as it is can't be read")
			}
			const header, node = 1024, 512
			places := [][2]int{{header, 162}} // of what is bent, and its length
			mdb := disk[header:]
			block := int(binary.BigEndian.Uint32(mdb[0x14:]))
			for _, extents := range []int{0x86, 0x96} {
				for i := extents; i < extents+12; i += 4 {
					at := int(binary.BigEndian.Uint16(mdb[0x1C:]))*512 + int(binary.BigEndian.Uint16(mdb[i:]))*block
					for end := at + int(binary.BigEndian.Uint16(mdb[i+2:]))*block; at < end; at += node {
						if n := int(binary.BigEndian.Uint16(disk[at+10:])); n > 0 { // one that is in use
							places = append(places, [2]int{at, 64}, [2]int{at, node}, [2]int{at + node - 2*n - 2, 2*n + 2})
						}
					}
				}
			}
			if len(places) < 10 {
				t.Fatalf("%d places", len(places))
			}
			random := rand.New(rand.NewPCG(1, uint64(size)))
			failed, count := 0, dmgtest.Times(1500, 200, 50)
			for range count {
				var edits []string
				undo := func() {}
				for range 1 + random.IntN(3) {
					p := places[random.IntN(len(places))]
					if random.IntN(4) == 0 {
						p = places[0]
					}
					at := p[0] + random.IntN(p[1])&^1
					value := []uint16{0, 1, 2, 0x7F, 0x7FFF, 0x8000, 0xFFFF, uint16(random.Uint32())}[random.IntN(8)]
					was, before := binary.BigEndian.Uint16(disk[at:]), undo
					undo = func() { binary.BigEndian.PutUint16(disk[at:], was); before() }
					binary.BigEndian.PutUint16(disk[at:], value)
					edits = append(edits, fmt.Sprintf("%#x at %#x", value, at))
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				if inspect(t, disk) > 0 {
					failed++
				}
				undo()
				runtime.ReadMemStats(&after)
				if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
					t.Errorf("%d bytes were allocated", took)
				}
				if t.Failed() {
					t.Fatal(edits)
				}
			}
			if failed == 0 || failed == count {
				t.Errorf("%d of %d volumes have errors", failed, count)
			}
		})
	}
}

// FuzzVolume bends bytes of a volume's header, trees and records. Everything that is
// listed must be found by its name, or be refused as damage.
func FuzzVolume(f *testing.F) {
	var all []*hfsvol.Volume
	root, o := trapTree()
	all = append(all, hfsvol.Write(root, o))
	for _, s := range hfsvol.Samples() {
		switch s.Name {
		case "names", "hfsx", "folding", "links", "decmpfs", "overflow", "attributes", "deep-trees", "wrapper", "full-journal", "nodes-across-extents", "node-512":
			if v := hfsvol.Write(s.Root, s.Options); len(v.Image) < 4<<20 {
				all = append(all, v)
			}
		}
	}
	for i := range all {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte{1, 0, 0, 0, 0xFF, 2, 0, 1, 0, 0x80})
		f.Add(uint8(i), []byte{0, 0, 40, 0, 1, 3, 0, 3, 1, 7, 4, 0, 9, 2, 1})
	}
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		v := all[int(which)%len(all)]
		image := bytes.Clone(v.Image)
		for n := 0; len(edits) >= 5 && n < 64; n++ {
			at, value := place(v, edits[0], binary.BigEndian.Uint16(edits[1:]), edits[3]), edits[4]
			if at >= 0 && at < int64(len(image)) {
				image[at] = value
			}
			edits = edits[5:]
		}
		inspect(t, image)
	})
}

// place turns numbers into the place of a byte that matters.
func place(v *hfsvol.Volume, part uint8, n uint16, off uint8) int64 {
	trees := []hfsvol.Tree{v.Catalog, v.Catalog, v.Extents, v.Attributes}
	tree := trees[part/8%4]
	switch part % 8 {
	case 0:
		return v.Header + int64(n%512)
	case 1:
		return v.Copy + int64(n%512)
	case 2: // a node's header
		if len(tree.Nodes) > 0 {
			return tree.Nodes[int(n)%len(tree.Nodes)] + int64(off%64)
		}
	case 3: // a node's offsets
		if len(tree.Nodes) > 0 {
			return tree.Nodes[int(n)%len(tree.Nodes)] + int64(tree.NodeSize) - 1 - int64(off%32)
		}
	case 4, 5: // a key
		if len(tree.Records) > 0 {
			return tree.Records[int(n)%len(tree.Records)].Off + int64(off)
		}
	case 6, 7: // a record's data
		if len(tree.Records) > 0 {
			return tree.Records[int(n)%len(tree.Records)].Data + int64(off)
		}
	}
	return -1
}

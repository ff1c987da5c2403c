package apfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/internal/apfstest"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// pattern is n bytes that differ from block to block.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>12)
	}
	return b
}

// sparse is pattern with a hole from 16 to 80 KiB.
func sparse() []byte {
	b := pattern(131072)
	clear(b[16384 : 16384+65536])
	return b
}

// someFiles is a bit of everything.
func someFiles() []*apfstest.File {
	hello := apfstest.Text("hello.txt", "hello, world\n")
	hello.Xattrs = []apfstest.Xattr{
		{Name: "com.example.short", Data: []byte("short")},
		{Name: "com.example.empty"},
		{Name: "com.example.long", Data: pattern(10000), Stream: true},
		{Name: "com.apple.ResourceFork", Data: pattern(300), Stream: true},
	}
	hello.UID, hello.GID, hello.Mode = 501, 20, 0o104751
	hello.Modified = time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	big := &apfstest.File{Name: "big", Data: pattern(100_000)}
	return []*apfstest.File{
		hello, big,
		{Name: "fragments", Data: pattern(300_001), Fragment: 1},
		{Name: "sparse", Data: sparse(), Holes: []apfstest.Hole{{Off: 16384, Len: 65536}}},
		{Name: "clone", CloneOf: big},
		{Name: "copy", Share: big},
		{Name: "empty"},
		{Name: "another name of hello", LinkTo: hello},
		apfstest.Dir("folder",
			apfstest.Dir("deeper", &apfstest.File{Name: "third name", LinkTo: hello}, apfstest.Text("deep", "deep")),
			apfstest.Dir("none")),
		apfstest.Link("link", "folder/deeper/deep"),
		apfstest.Text("Gr\u00fc\u00dfe", "umlauts, composed"),
		apfstest.Text("cafe\u0301", "an accent, decomposed"),
		apfstest.Text("ЁЖ", "Cyrillic"),
		{Name: "pipe", Mode: 0o010644},
		{Name: "device", Mode: 0o020600, Rdev: 0x1000003},
	}
}

// manyFiles are n small files in one folder, besides someFiles.
func manyFiles(n int) []*apfstest.File {
	root := someFiles()
	folder := apfstest.Dir("many")
	for i := range n {
		folder.Children = append(folder.Children, apfstest.Text(fmt.Sprintf("File %d", i), fmt.Sprint("number ", i)))
	}
	return append(root, folder)
}

// written is a container of the project's own writer.
type written struct {
	name      string
	container apfstest.Container
	password  string
	// apfsck is what the checker says that it does not support; "" where it accepts the
	// container, "-" where it has reason to complain: the writer leaves old checkpoints
	// empty, and knows the extent references of the live volume only.
	apfsck string
}

func vol(root []*apfstest.File, change ...func(*apfstest.Volume)) []*apfstest.Volume {
	v := &apfstest.Volume{Name: "Volume", Root: root}
	for _, c := range change {
		c(v)
	}
	return []*apfstest.Volume{v}
}

// snapshots are of a volume in which files came, changed and went. What did not change is
// the same inode.
func snapshots(v *apfstest.Volume) {
	kept := apfstest.Text("kept", "the same in all")
	v.Root = append(v.Root, kept, apfstest.Text("changed", "third"), apfstest.Text("new", "third"))
	v.Snapshots = []apfstest.Snapshot{
		{Name: "first", XID: 7, Root: []*apfstest.File{kept, apfstest.Text("changed", "first"), apfstest.Text("gone", "first")}},
		{Name: "second", XID: 31, Root: append(manyFiles(50), kept, apfstest.Text("changed", "second")), Created: time.Unix(12345, 678)},
	}
}

func users(list ...apfstest.User) func(*apfstest.Volume) {
	return func(v *apfstest.Volume) { v.Users = list }
}

func containers() []written {
	deep := func(v *apfstest.Volume) { v.MaxKeys = 3 }
	sealed := func(v *apfstest.Volume) { v.Sealed = true }
	list := []written{
		{name: "plain", container: apfstest.Container{Volumes: vol(someFiles())}},
		{name: "case-sensitive", container: apfstest.Container{Volumes: vol(append(someFiles(), apfstest.Text("HELLO.TXT", "other case")),
			func(v *apfstest.Volume) { v.CaseSensitive = true })}},
		{name: "exact names", container: apfstest.Container{Volumes: vol(append(someFiles(), apfstest.Text("Gru\u0308\u00dfe", "decomposed")),
			func(v *apfstest.Volume) { v.Exact = true })}},
		{name: "no files", container: apfstest.Container{Volumes: vol(nil)}},
		{name: "no volumes", container: apfstest.Container{}},
		{name: "many files", container: apfstest.Container{Volumes: vol(manyFiles(500))}},
		{name: "deep trees", container: apfstest.Container{MaxKeys: 3, Volumes: vol(manyFiles(60), deep)}},
		{name: "deep trees and snapshots", container: apfstest.Container{MaxKeys: 3, Volumes: vol(manyFiles(40), deep, snapshots)}, apfsck: "-"},
		{name: "snapshots", container: apfstest.Container{Volumes: vol(someFiles(), snapshots)}, apfsck: "-"},
		{name: "shown as of a snapshot", container: apfstest.Container{Volumes: vol(someFiles(), snapshots, func(v *apfstest.Volume) { v.ShowSnapshot = 2 })}, apfsck: "Root from snapshot"},
		{name: "several volumes", container: apfstest.Container{Volumes: []*apfstest.Volume{
			{Name: "Same", Role: 1, Root: someFiles()},
			{Name: "Same", Role: 1 << 6, Root: manyFiles(100)},
			{Name: "With/slash", Role: 0x10, CaseSensitive: true, Root: someFiles()},
		}}},
		{name: "sealed", container: apfstest.Container{Volumes: vol(someFiles(), sealed)}},
		{name: "sealed, deep", container: apfstest.Container{MaxKeys: 3, Volumes: vol(manyFiles(60), sealed, deep)}},
		{name: "sealed, as of a snapshot", container: apfstest.Container{Volumes: vol(someFiles(), snapshots, sealed, func(v *apfstest.Volume) { v.ShowSnapshot = 1 })}, apfsck: "Root from snapshot"},
		{name: "encrypted", container: apfstest.Container{Volumes: vol(manyFiles(100), users(apfstest.User{Password: "secret"}))}, password: "secret", apfsck: "Software encryption"},
		{name: "encrypted, last user", container: apfstest.Container{Volumes: vol(someFiles(), snapshots,
			users(apfstest.User{Password: "a"}, apfstest.User{Password: "b", Iterations: 5}, apfstest.User{Password: "p\u00e4\u00df", Iterations: 20000}))}, password: "p\u00e4\u00df", apfsck: "Software encryption"},
		{name: "encrypted, other tweaks", container: apfstest.Container{Volumes: vol(someFiles(), users(apfstest.User{Password: "x"}),
			func(v *apfstest.Volume) { v.CryptoID = 1 << 40 })}, password: "x", apfsck: "Software encryption"},
		{name: "encrypted, converted", container: apfstest.Container{Volumes: vol(someFiles(), users(apfstest.User{Password: "x"}),
			func(v *apfstest.Volume) { v.Converted = true })}, password: "x", apfsck: "Software encryption"},
		{name: "encrypted, blocks of 8192", container: apfstest.Container{BlockSize: 8192, Volumes: vol(someFiles(), users(apfstest.User{Password: "x"}))}, password: "x", apfsck: "Block size other than 4096"},
		{name: "compact", container: apfstest.Container{Compact: true, Volumes: vol(someFiles())}, apfsck: "-"},
		{name: "ring that wraps", container: apfstest.Container{Ring: 9, Newest: 8, Old: 2, Volumes: vol(someFiles())}, apfsck: "-"},
		{name: "stale block 0", container: apfstest.Container{Newest: 4, Old: 2, StaleBlock0: true, Volumes: vol(someFiles())}, apfsck: "-"},
		{name: "torn block 0", container: apfstest.Container{Newest: 2, Old: 1, TornBlock0: true, Volumes: vol(someFiles())}, apfsck: "-"},
		{name: "unfinished write", container: apfstest.Container{Newest: 2, Old: 1, Unfinished: true, Volumes: vol(someFiles())}, apfsck: "-"},
	}
	for _, size := range []int{8192, 16384, 65536} {
		list = append(list, written{name: fmt.Sprint("blocks of ", size), container: apfstest.Container{BlockSize: size, Volumes: vol(blockFiles(size))}, apfsck: "Block size other than 4096"})
	}
	return list
}

// blockFiles is someFiles with holes of whole blocks.
func blockFiles(size int) []*apfstest.File {
	list := someFiles()
	for _, f := range list {
		if f.Name == "sparse" {
			f.Data = pattern(size * 4)
			clear(f.Data[size : 3*size])
			f.Holes = []apfstest.Hole{{Off: int64(size), Len: int64(size)}, {Off: 2 * int64(size), Len: int64(size), Missing: true}}
		}
	}
	return list
}

func open(t testing.TB, d *apfstest.Disk, password string) []*apfs.Volume {
	t.Helper()
	c, err := apfs.New(d, d.Size, &apfs.Options{Password: password})
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Volumes()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestWritten(t *testing.T) {
	for _, w := range containers() {
		t.Run(w.name, func(t *testing.T) {
			list := open(t, w.container.Write(), w.password)
			if len(list) != len(w.container.Volumes) {
				t.Fatalf("%d volumes, want %d", len(list), len(w.container.Volumes))
			}
			for i, v := range w.container.Volumes {
				checkWritten(t, list[i], v)
			}
		})
	}
}

func checkWritten(t *testing.T, v *apfs.Volume, want *apfstest.Volume) {
	t.Helper()
	if v.Name != want.Name || v.CaseSensitive != (want.CaseSensitive || want.Exact) || v.Sealed != want.Sealed || v.Encrypted != (want.Users != nil) {
		t.Errorf("volume %q, case-sensitive %t, sealed %t, encrypted %t", v.Name, v.CaseSensitive, v.Sealed, v.Encrypted)
	}
	if roles := map[uint16]string{0: "", 1: "system", 1 << 6: "data", 0x10: "preboot"}; v.Role != roles[want.Role] {
		t.Errorf("role %q, want %#x", v.Role, want.Role)
	}
	root := want.Root
	if want.ShowSnapshot > 0 {
		root = want.Snapshots[want.ShowSnapshot-1].Root
	}
	fsys, err := v.FS()
	if err != nil {
		t.Fatal(err)
	}
	compareFiles(t, fsys, root)
	list, err := v.Snapshots()
	if err != nil || len(list) != len(want.Snapshots) {
		t.Fatalf("%d snapshots, %v", len(list), err)
	}
	for i, s := range want.Snapshots {
		if list[i].Name != s.Name || list[i].XID != s.XID || !s.Created.IsZero() && !list[i].Created.Equal(s.Created) {
			t.Errorf("snapshot %q %d %s", list[i].Name, list[i].XID, list[i].Created)
		}
		fsys, err := list[i].FS()
		if err != nil {
			t.Fatal(err)
		}
		compareFiles(t, fsys, s.Root)
	}
}

// compareFiles compares a volume with what was written.
func compareFiles(t *testing.T, fsys *apfs.FS, root []*apfstest.File) {
	t.Helper()
	want := map[string]*apfstest.File{".": apfstest.Dir(".")}
	links := make(map[*apfstest.File]uint32)
	var add func(prefix string, list []*apfstest.File)
	add = func(prefix string, list []*apfstest.File) {
		for _, f := range list {
			target := f
			if f.LinkTo != nil {
				target = f.LinkTo
			}
			links[target]++
			want[prefix+f.Name] = target
			add(prefix+f.Name+"/", f.Children)
		}
	}
	add("", root)
	stored := make(map[string]string) // as it is given out → as it was written
	for p := range want {
		stored[norm.NFC.String(p)] = p
	}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f := want[p]
		if f == nil {
			f = want[stored[p]]
		}
		if f == nil {
			t.Errorf("%q was not written", p)
			return nil
		}
		delete(want, stored[p])
		delete(want, p)
		compareFile(t, fsys, p, d, f, links[f])
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Errorf("walk: %v; %d files missing", err, len(want))
	}
}

// The resource fork of a compressed file is hidden, also where the content is not in it.
func TestCompressedXattrs(t *testing.T) {
	header := []byte("fpmc\x09\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\xccabc")
	list := []apfstest.Xattr{
		{Name: "com.apple.ResourceFork", Data: []byte("a fork"), Stream: true},
		{Name: "com.apple.decmpfs", Data: header},
		{Name: "com.example.other", Data: []byte("seen")},
	}
	all := []string{"com.apple.ResourceFork", "com.apple.decmpfs", "com.example.other"}
	damaged := slices.Clone(list)
	damaged[1].Data = header[:7]
	v := open(t, (&apfstest.Container{Volumes: vol([]*apfstest.File{
		{Name: "packed", Flags: 0x20, Xattrs: list},
		{Name: "plain", Data: []byte("x"), Xattrs: list},
		{Name: "damaged", Flags: 0x20, Xattrs: damaged},
	})}).Write(), "")[0]
	fsys, err := v.FS()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"packed": all[2:], "plain": all, "damaged": all} {
		if names, err := fsys.ListXattr(name); err != nil || !slices.Equal(names, want) {
			t.Errorf("%s: %q, %v, want %q", name, names, err, want)
		}
		if fork, err := fsys.Xattr(name, all[0]); err != nil || string(fork) != "a fork" {
			t.Errorf("%s: %q, %v", name, fork, err)
		}
	}
	for name, want := range map[string]int64{"packed": 0, "plain": 6} {
		info, err := fsys.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*apfs.Stat); st.ResourceFork != want || st.Compressed != (want == 0) {
			t.Errorf("%s: %+v", name, st)
		}
	}
	if _, err := fsys.Lstat("damaged"); !errors.Is(err, apfs.ErrFormat) {
		t.Error(err)
	}
}

func compareFile(t *testing.T, fsys *apfs.FS, p string, d fs.DirEntry, f *apfstest.File, links uint32) {
	t.Helper()
	info, err := d.Info()
	if err != nil {
		t.Errorf("%s: %v", p, err)
		return
	}
	if again, err := fsys.Lstat(p); err != nil || fs.FormatFileInfo(again) != fs.FormatFileInfo(info) {
		t.Errorf("%s: Lstat %v, %v, the folder %v", p, again, err, info)
	}
	st := info.Sys().(*apfs.Stat)
	if p != "." && (st.UID != f.UID || st.GID != f.GID || st.Rdev != f.Rdev || st.Flags != f.Flags || !f.Modified.IsZero() && !info.ModTime().Equal(f.Modified)) {
		t.Errorf("%s: %+v, want %+v", p, st, f)
	}
	if !info.IsDir() && st.Links != links {
		t.Errorf("%s: %d links, want %d", p, st.Links, links)
	}
	for _, x := range f.Xattrs {
		if data, err := fsys.Xattr(p, x.Name); err != nil || !bytes.Equal(data, x.Data) {
			t.Errorf("%s: attribute %s of %d bytes, %v", p, x.Name, len(data), err)
		}
	}
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		if target, err := fsys.ReadLink(p); err != nil || target != f.Target {
			t.Errorf("%s: target %q, %v, want %q", p, target, err, f.Target)
		}
	case 0:
		want := f.Data
		if f.CloneOf != nil {
			want = f.CloneOf.Data
		} else if f.Share != nil {
			want = f.Share.Data
		}
		if f.Mode&0o4000 != 0 != (info.Mode()&fs.ModeSetuid != 0) {
			t.Errorf("%s: mode %v", p, info.Mode())
		}
		if data, err := fsys.ReadFile(p); err != nil || !bytes.Equal(data, want) || info.Size() != int64(len(want)) {
			t.Errorf("%s: %d bytes, %v, want %d", p, len(data), err, len(want))
		}
		readPieces(t, fsys, p, want)
	}
}

// readPieces reads a file in pieces that begin and end anywhere.
func readPieces(t *testing.T, fsys *apfs.FS, p string, want []byte) {
	t.Helper()
	f, err := fsys.Open(p)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for off := 0; off < len(want); off += 1 + off/2 {
		for _, n := range []int{1, 511, 4096, 5000, len(want)} {
			buf := make([]byte, n)
			got, err := f.(io.ReaderAt).ReadAt(buf, int64(off))
			if end := min(off+n, len(want)); !bytes.Equal(buf[:got], want[off:end]) || (err == io.EOF) != (off+n > len(want)) || err != nil && err != io.EOF {
				t.Errorf("%s: %d bytes at %d: %d, %v", p, n, off, got, err)
			}
		}
	}
}

func TestWrittenFS(t *testing.T) {
	dmgtest.NotEmulated(t)
	names := []string{"plain", "sealed", "case-sensitive", "exact names", "deep trees", "encrypted", "blocks of 16384"}
	if dmgtest.Part() {
		names = names[:2]
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			list := containers()
			w := list[slices.IndexFunc(list, func(w written) bool { return w.name == name })]
			fsys, err := open(t, w.container.Write(), w.password)[0].FS()
			if err != nil {
				t.Fatal(err)
			}
			checkFS(t, fsys, "hello.txt", "folder/deeper/deep", "folder/deeper/third name", "sparse")
		})
	}
}

func TestAtOnce(t *testing.T) {
	dmgtest.NotEmulated(t)
	for _, name := range []string{"deep trees and snapshots", "sealed, deep", "encrypted"} {
		t.Run(name, func(t *testing.T) {
			list := containers()
			w := list[slices.IndexFunc(list, func(w written) bool { return w.name == name })]
			d := w.container.Write()
			fsys, err := open(t, d, w.password)[0].FS()
			if err != nil {
				t.Fatal(err)
			}
			want := digest(t, fsys)
			v := open(t, d, w.password)[0]
			var wg sync.WaitGroup
			for range 16 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					fsys, err := v.FS()
					if err != nil {
						t.Error(err)
						return
					}
					if got := digest(t, fsys); got != want {
						t.Errorf("digest %s, want %s", got, want)
					}
				}()
			}
			wg.Wait()
		})
	}
}

func TestNames(t *testing.T) {
	files := []*apfstest.File{
		apfstest.Text("Stra\u00dfe", "1"), apfstest.Text("CAFE\u0301", "2"), apfstest.Text("\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2", "3"),
		apfstest.Text("\u1e9b\u0323", "4"), apfstest.Text("\ufb03", "5"), apfstest.Text("a\u0345\u0301b", "6"), apfstest.Text("\uac00\u11a8", "7"),
		apfstest.Text("plain", "8"), apfstest.Text("a:b", "9"), apfstest.Text("back\\slash", "10"), apfstest.Text("%u0041", "11"),
		apfstest.Text("\U0001f600", "12"), apfstest.Text("\U00010400", "13"),
	}
	find := func(folded bool) map[string]string {
		m := map[string]string{
			"Stra\u00dfe": "1", "Caf\u00e9": "", "CAF\u00c9": "2", "CAFE\u0301": "2", "\u1e9b\u0323": "4", "\u1e9b\u0323\u0323": "",
			"\ufb03": "5", "a\u0301\u0345b": "6", "\u00e1\u0345b": "6", "\uac01": "7", "\u1100\u1161\u11a8": "7", "plain": "8", "plain ": "", "a:b": "9",
			"back%u005Cslash": "10", "%u0025u0041": "11", "\U0001f600": "12", "\U00010400": "13", "A": "",
		}
		if folded {
			for k, v := range map[string]string{
				"STRASSE": "1", "strasse": "1", "stra\u1e9ee": "1", "Caf\u00e9": "2", "\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3": "3",
				"\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3": "3", "\u1e69": "4", "s\u0307\u0323": "4", "FFI": "5", "ffi": "5", "ff\u0131": "",
				"PLAIN": "8", "pLaIn": "8", "\U00010428": "13",
			} {
				m[k] = v
			}
		}
		return m
	}
	for _, folded := range []bool{true, false} {
		d := (&apfstest.Container{Volumes: vol(files, func(v *apfstest.Volume) { v.CaseSensitive = !folded })}).Write()
		fsys, err := open(t, d, "")[0].FS()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range find(folded) {
			data, err := fsys.ReadFile(name)
			if string(data) != want || want == "" && !errors.Is(err, fs.ErrNotExist) || want != "" && err != nil {
				t.Errorf("folded %t: %+q is %q, %v, want %q", folded, name, data, err, want)
			}
		}
		list, err := fsys.ReadDir(".")
		if err != nil || len(list) != len(files) {
			t.Errorf("%d entries, %v", len(list), err)
		}
		for _, e := range list {
			if _, err := fsys.Stat(e.Name()); err != nil || !norm.NFC.IsNormalString(e.Name()) {
				t.Errorf("%+q: %v", e.Name(), err)
			}
		}
	}
}

// Several names of a folder have one hash, also on both sides of a node's end.
func TestNamesOfOneHash(t *testing.T) {
	var files []*apfstest.File
	byHash := make(map[uint32][]string)
	for i := 0; len(files) < 40; i++ {
		name := fmt.Sprint("n", i)
		k := apfstest.NameHash(name, true)
		byHash[k] = append(byHash[k], name)
		if n := len(byHash[k]); n == 3 || n == 4 {
			for _, name := range byHash[k][max(0, 3*(n-3)):] {
				files = append(files, apfstest.Text(name, name))
			}
		}
	}
	for _, keys := range []int{0, 3, 2} {
		d := (&apfstest.Container{Volumes: vol(files, func(v *apfstest.Volume) { v.MaxKeys = keys })}).Write()
		fsys, err := open(t, d, "")[0].FS()
		if err != nil {
			t.Fatal(err)
		}
		compareFiles(t, fsys, files)
		for _, f := range files {
			if data, err := fsys.ReadFile(strings.ToUpper(f.Name)); err != nil || string(data) != f.Name {
				t.Errorf("%d keys: %s is %q, %v", keys, f.Name, data, err)
			}
		}
	}
}

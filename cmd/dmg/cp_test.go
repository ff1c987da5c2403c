package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/hfsplus"
)

// copyOf copies paths of a file system by a copier of its own.
func copyOf(t *testing.T, files fs.FS, c cpCmd, dest string, paths ...string) (string, error) {
	t.Helper()
	return copyWith(t, context.Background(), files, c, dest, paths...)
}

func copyWith(t *testing.T, ctx context.Context, files fs.FS, c cpCmd, dest string, paths ...string) (string, error) {
	t.Helper()
	c.Image = "image.dmg"
	var errOut bytes.Buffer
	std := &stdio{out: io.Discard, err: &errOut}
	d, err := newDestination(dest, c.Image, len(paths) > 1)
	if err != nil {
		return "", err
	}
	err = c.copy(ctx, std, files, d, paths)
	return errOut.String(), err
}

// tree returns what is in a folder of this system, a line each.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			fmt.Fprintf(&b, "%s/ %03o\n", rel, info.Mode().Perm())
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(name)
			fmt.Fprintf(&b, "%s -> %s\n", rel, target)
		default:
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if len(data) > 20 {
				data = []byte(fmt.Sprintf("%d bytes", len(data)))
			}
			fmt.Fprintf(&b, "%s %03o %s\n", rel, info.Mode().Perm(), data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var date = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

func file(content string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(content), Mode: 0o644, ModTime: date}
}

func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777, ModTime: date}
}

func app() fstest.MapFS {
	same := &hfsplus.Stat{ID: 77, Links: 3, Accessed: date.Add(time.Hour)}
	two := file("two names")
	two.Sys = same
	return fstest.MapFS{
		"A.app":                    {Mode: fs.ModeDir | 0o555, ModTime: date},
		"A.app/Contents":           {Mode: fs.ModeDir | 0o755, ModTime: date},
		"A.app/Contents/Info":      file("info"),
		"A.app/Contents/run":       {Data: []byte("run"), Mode: 0o755 | fs.ModeSetuid, ModTime: date},
		"A.app/Contents/two":       two,
		"A.app/Contents/again":     two,
		"A.app/Contents/Current":   link("Info"),
		"A.app/out":                link("/etc/passwd"),
		"A.app/up":                 link("../../.."),
		"A.app/secret":             {Data: []byte("x"), Mode: 0, ModTime: date},
		"A.app/pipe":               {Mode: fs.ModeNamedPipe | 0o644},
		"A.app/null":               {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666},
		"A.app/Contents/third/two": two,
		"big":                      {Data: bytes.Repeat([]byte("0123456789abcdef"), 800_000), Mode: 0o600, ModTime: date},
		"holes":                    {Data: make([]byte, 9<<20+5), Mode: 0o600, ModTime: date},
		"empty":                    file(""),
		"read me":                  file("hello"),
	}
}

const appTree = `A.app/ 555
A.app/Contents/ 755
A.app/Contents/Current -> Info
A.app/Contents/Info 644 info
A.app/Contents/again 644 two names
A.app/Contents/run 755 run
A.app/Contents/third/ 555
A.app/Contents/third/two 644 two names
A.app/Contents/two 644 two names
A.app/out -> /etc/passwd
A.app/secret 000 x
A.app/up -> ../../..
`

const rest = `big 600 12800000 bytes
empty 644 
holes 600 9437189 bytes
read me 644 hello
`

// skipModes skips a test where files have no modes, and no symbolic links without rights.
func skipModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	skipModes(t)
	for _, tt := range []struct {
		name  string
		paths []string
		dest  string // a name in a folder that has a folder "dir", with a file "old"
		c     cpCmd
		want  string // in the folder
		err   string
		told  string
	}{
		{"into a folder", []string{"A.app"}, "dir", cpCmd{}, "dir/ 755\n" + indent("dir/", appTree) + "dir/old 644 old\n", "", ""},
		{"by a new name", []string{"A.app/Contents/"}, "new", cpCmd{}, "dir/ 755\ndir/old 644 old\nnew/ 755\nnew/Current -> Info\nnew/Info 644 info\nnew/again 644 two names\nnew/run 755 run\nnew/third/ 555\nnew/third/two 644 two names\nnew/two 644 two names\n", "", ""},
		{"a file by a new name", []string{"/read me"}, "copy", cpCmd{}, "copy 644 hello\ndir/ 755\ndir/old 644 old\n", "", ""},
		{"all", []string{"."}, "new", cpCmd{}, "dir/ 755\ndir/old 644 old\nnew/ 555\n" + indent("new/", appTree+rest), "", ""},
		{"all into a folder", []string{""}, "dir", cpCmd{}, "dir/ 755\n" + indent("dir/", appTree+"big 600 12800000 bytes\nempty 644 \nholes 600 9437189 bytes\nold 644 old\nread me 644 hello\n"), "", ""},
		{"several", []string{"empty", "./A.app/Contents/Current", "read me"}, "dir", cpCmd{}, "dir/ 755\ndir/Current -> Info\ndir/empty 644 \ndir/old 644 old\ndir/read me 644 hello\n", "", ""},
		{"what is left out", []string{"A.app/pipe", "A.app/null"}, "dir", cpCmd{}, "dir/ 755\ndir/old 644 old\n", "", "dmg: A.app/pipe: left out: it is a fifo\ndmg: A.app/null: left out: it is a device\n"},
		{"quietly", []string{"A.app/pipe"}, "dir", cpCmd{Quiet: true}, "dir/ 755\ndir/old 644 old\n", "", ""},

		{"over a file", []string{"empty"}, "dir/old", cpCmd{}, "dir/ 755\ndir/old 644 old\n", "DEST/old exists: -f overwrites it", ""},
		{"over a file, by force", []string{"A.app/Contents/run"}, "dir/old", cpCmd{Force: true}, "dir/ 755\ndir/old 755 run\n", "", ""},
		{"a folder over a file", []string{"A.app"}, "dir/old", cpCmd{Force: true}, "dir/ 755\ndir/old 644 old\n", "DEST/old exists and is a file, but a folder is to be copied there", ""},
		{"several by a new name", []string{"empty", "A.app"}, "new", cpCmd{}, "dir/ 755\ndir/old 644 old\n", "is no folder: several files can only be copied into one that exists", ""},
		{"into a folder that isn't there", []string{"empty"}, "new/", cpCmd{}, "dir/ 755\ndir/old 644 old\n", "is no folder that exists: leave out the slash, and it is the copy's name", ""},
		{"two of one name", []string{"A.app/Contents/two", "A.app/Contents/third/two"}, "dir", cpCmd{Force: true}, "dir/ 755\ndir/old 644 old\n", "A.app/Contents/two and A.app/Contents/third/two have one name", ""},
		{"a path twice", []string{"empty", "A.app", "/empty"}, "dir", cpCmd{Force: true}, "dir/ 755\ndir/old 644 old\n", `empty is to be copied twice`, ""},
		{"all, and more", []string{"empty", "."}, "dir", cpCmd{}, "dir/ 755\ndir/old 644 old\n", `"." is all that is in the volume: leave out the other paths`, ""},
		{"no such path", []string{"nothing"}, "dir", cpCmd{}, "dir/ 755\ndir/old 644 old\n", `image.dmg: the volume has no file or folder "nothing": dmg ls lists what there is`, ""},
		{"one path that is not there", []string{"empty", "nothing"}, "dir", cpCmd{KeepGoing: true}, "dir/ 755\ndir/old 644 old\n", `image.dmg: the volume has no file or folder "nothing": dmg ls lists what there is`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "dir")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o644)); err != nil {
				t.Fatal(err)
			}
			dest := filepath.Join(root, tt.dest)
			if strings.HasSuffix(tt.dest, "/") {
				dest += "/"
			}
			told, err := copyOf(t, app(), tt.c, dest, tt.paths...)
			if want := strings.ReplaceAll(tt.err, "DEST", dir); (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			if tt.told != "" && told != tt.told || tt.c.Quiet && told != "" {
				t.Errorf("told %q, want %q", told, tt.told)
			}
			if got, _ := strings.CutPrefix(tree(t, root), "./ 755\n"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func indent(by, lines string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		b.WriteString(by + line)
	}
	return b.String()
}

// TestCopyFacts: contents, times and links are as in the volume, and holes take no room.
func TestCopyFacts(t *testing.T) {
	skipModes(t)
	dest := filepath.Join(t.TempDir(), "new")
	files := app()
	if _, err := copyOf(t, files, cpCmd{}, dest, "."); err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		at := filepath.Join(dest, name)
		info, err := os.Lstat(at)
		if f.Mode&(fs.ModeNamedPipe|fs.ModeDevice) != 0 {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if !info.ModTime().Equal(date) {
			t.Errorf("%s: %v", name, info.ModTime())
		}
		if info.Mode()&fs.ModeSetuid != 0 {
			t.Errorf("%s is setuid", name)
		}
		if f.Mode.IsRegular() {
			if data, err := os.ReadFile(at); err != nil || !bytes.Equal(data, f.Data) {
				t.Errorf("%s: %v, %d bytes", name, err, len(data))
			}
		}
	}
	var same []fs.FileInfo
	for _, name := range []string{"two", "again", "third/two"} {
		info, err := os.Lstat(filepath.Join(dest, "A.app/Contents", name))
		if err != nil {
			t.Fatal(err)
		}
		same = append(same, info)
	}
	if !os.SameFile(same[0], same[1]) || !os.SameFile(same[0], same[2]) {
		t.Error("names of one file are several files")
	}
}

// A fakeRoot is a file system whose root has entries of any names. Each stands for a path of
// another. Of those of one name, the first link is what ReadLink finds, and the first that is
// none what Open finds.
type fakeRoot struct {
	fs.FS
	list [][2]string // path, name
}

func (f fakeRoot) find(name string, links bool) string {
	first, more, _ := strings.Cut(name, "/")
	for _, e := range f.list {
		info, err := fs.Lstat(f.FS, e[0])
		if e[1] == first && err == nil && (info.Mode().Type() == fs.ModeSymlink) == (links && more == "") {
			return path.Join(e[0], more)
		}
	}
	return name
}

func (f fakeRoot) Open(name string) (fs.File, error) {
	open, err := f.FS.Open(f.find(name, false))
	if name == "." && err == nil {
		var list []fs.DirEntry
		for _, e := range f.list {
			info, err := fs.Lstat(f.FS, e[0])
			if err != nil {
				return nil, err
			}
			list = append(list, renamed{fs.FileInfoToDirEntry(info), e[1]})
		}
		return &fakeOpen{open, list}, nil
	}
	return open, err
}

func (f fakeRoot) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(f.FS, name) } // of the root
func (f fakeRoot) ReadLink(name string) (string, error)   { return fs.ReadLink(f.FS, f.find(name, true)) }

type fakeOpen struct {
	fs.File
	list []fs.DirEntry
}

func (f *fakeOpen) ReadDir(n int) ([]fs.DirEntry, error) {
	n = min(n, len(f.list))
	list := f.list[:n]
	if f.list = f.list[n:]; n == 0 {
		return nil, io.EOF
	}
	return list, nil
}

// renamed is an entry by another name.
type renamed struct {
	fs.DirEntry
	name string
}

func (r renamed) Name() string { return r.name }

// TestCopyHostile: names and links that try to leave the destination write nothing outside
// of it, nor do names that are there twice write through a link.
func TestCopyHostile(t *testing.T) {
	skipModes(t)
	files := fstest.MapFS{
		"file": file("evil"), "abs": link("OUTSIDE"), "rel": link("../outside"), "in": link("sub"), "here": link("."),
		"dir/file": file("evil"), "sub/x": file("x"),
	}
	for _, tt := range []struct {
		name    string
		entries [][2]string // of the root: what, and by which name
		want    string      // in the destination
		status  int
	}{
		{"up", [][2]string{{"file", "../outside/file"}, {"file", ".."}, {"dir", ".."}, {"file", "/tmp/x"}, {"file", ""}, {"file", "."}, {"file", "a\x00b"}, {"file", "ok"}}, "ok 644 evil\n", statusMisuse},
		{"a link, then a file", [][2]string{{"abs", "a"}, {"file", "a"}}, "a -> OUTSIDE\n", statusMisuse},
		{"a link, then a folder", [][2]string{{"abs", "a"}, {"dir", "a"}}, "a -> OUTSIDE\n", statusMisuse},
		{"a relative link, then a folder", [][2]string{{"rel", "a"}, {"dir", "a"}}, "a -> ../outside\n", statusMisuse},
		{"a link inside, then a folder", [][2]string{{"sub", "sub"}, {"in", "a"}, {"dir", "a"}}, "a -> sub\nsub/ 555\nsub/x 644 x\n", statusMisuse},
		{"a folder, then a link", [][2]string{{"dir", "a"}, {"abs", "a"}}, "a/ 555\na/file 644 evil\n", statusMisuse},
		{"a folder twice", [][2]string{{"dir", "a"}, {"sub", "a"}}, "a/ 555\na/file 644 evil\n", statusMisuse},
		{"a file twice", [][2]string{{"file", "a"}, {"file", "a"}}, "a 644 evil\n", statusMisuse},
		{"a link to its own folder", [][2]string{{"here", "a"}, {"dir", "a"}}, "a -> .\n", statusMisuse},
	} {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " force ", force), func(t *testing.T) {
				root := t.TempDir()
				outside, dest := filepath.Join(root, "outside"), filepath.Join(root, "dest")
				if err := errors.Join(os.Mkdir(outside, 0o755), os.Mkdir(dest, 0o755)); err != nil {
					t.Fatal(err)
				}
				files["abs"] = link(outside)
				told, err := copyOf(t, fakeRoot{files, tt.entries}, cpCmd{KeepGoing: true, Force: force}, dest, ".")
				if statusOf(err) != tt.status || told == "" {
					t.Errorf("%v, %q", err, told)
				}
				if got := tree(t, outside); got != "./ 755\n" {
					t.Errorf("outside:\n%s", got)
				}
				want := "./ 755\n" + strings.ReplaceAll(tt.want, "OUTSIDE", outside)
				if got := tree(t, dest); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

// TestCopyThroughLinks: links that are in the destination already aren't written through.
func TestCopyThroughLinks(t *testing.T) {
	skipModes(t)
	for _, force := range []bool{false, true} {
		root := t.TempDir()
		outside, dest := filepath.Join(root, "outside"), filepath.Join(root, "dest")
		err := errors.Join(os.Mkdir(outside, 0o755), os.Mkdir(dest, 0o755), os.Symlink(outside, filepath.Join(dest, "A.app")),
			os.WriteFile(filepath.Join(outside, "file"), []byte("precious"), 0o600), os.Symlink(filepath.Join(outside, "file"), filepath.Join(dest, "empty")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = copyOf(t, app(), cpCmd{KeepGoing: true, Force: force}, dest, "A.app", "empty")
		if err == nil {
			t.Error("no error")
		}
		if got := tree(t, outside); got != "./ 755\nfile 600 precious\n" {
			t.Errorf("outside:\n%s", got)
		}
		info, err := os.Lstat(filepath.Join(dest, "empty"))
		if err != nil || info.Mode().IsRegular() != force {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// A badFile fails at a byte.
type badFile struct {
	fs.File
	at  int64
	err error
}

func (f badFile) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.at {
		return 0, &fs.PathError{Op: "read", Path: "bad", Err: f.err}
	}
	return f.File.(io.ReaderAt).ReadAt(p, off)
}

type badFS struct {
	fstest.MapFS
	bad map[string]badFile
}

func (f badFS) Open(name string) (fs.File, error) {
	open, err := f.MapFS.Open(name)
	if b, ok := f.bad[name]; ok && err == nil {
		b.File = open
		return b, nil
	}
	return open, err
}

// TestCopyDamaged: what can't be read as a whole is not there in the end, and only
// --keep-going copies what comes behind it.
func TestCopyDamaged(t *testing.T) {
	t.Parallel()
	skipModes(t)
	damage := fmt.Errorf("hfsplus: %w", hfsplus.ErrFormat)
	for _, name := range []string{"big", "read me", "A.app/Contents/again"} {
		for _, keep := range []bool{false, true} {
			files := badFS{app(), map[string]badFile{name: {at: 5 << 20, err: damage}}}
			if name != "big" {
				files.bad[name] = badFile{err: damage}
			}
			dest := filepath.Join(t.TempDir(), "new")
			told, err := copyOf(t, files, cpCmd{KeepGoing: keep, Quiet: true}, dest, ".")
			if !errors.Is(err, hfsplus.ErrFormat) || statusOf(err) != statusDamaged {
				t.Errorf("%s, keep going %v: %v, status %d", name, keep, err, statusOf(err))
			}
			if keep != strings.Contains(told, "image.dmg: "+name+": hfsplus: ") {
				t.Errorf("%s, keep going %v: told %q", name, keep, told)
			}
			if _, err := os.Lstat(filepath.Join(dest, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, keep going %v: %v", name, keep, err)
			}
			got := tree(t, dest)
			if strings.Contains(got, ".part") {
				t.Errorf("%s, keep going %v: %s", name, keep, got)
			}
			if want := strings.Count(appTree+rest, "\n"); keep && strings.Count(got, "\n") != want { // but for one, and with the folder
				t.Errorf("%s: got %s", name, got)
			}
		}
	}
}

// TestCopyReplaced: a file that can't be copied does not cost the one that was there.
func TestCopyReplaced(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(dest, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := badFS{app(), map[string]badFile{"read me": {err: hfsplus.ErrFormat}}}
	if _, err := copyOf(t, files, cpCmd{Force: true}, dest, "read me"); err == nil {
		t.Error("no error")
	}
	if got := tree(t, filepath.Dir(dest)); !strings.HasSuffix(got, "old 644 old\n") || strings.Count(got, "\n") != 2 {
		t.Errorf("%s", got)
	}
}

// TestCopyOverSocket: what is neither a file nor a link isn't replaced. Of /dev/null there is
// one.
func TestCopyOverSocket(t *testing.T) {
	skipModes(t)
	dest, err := os.MkdirTemp("", "dmg") // the name of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dest)
	name := filepath.Join(dest, "empty")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	alias := filepath.Join(dest, "alias")
	if err := os.Symlink(name, alias); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		dest:  name + " exists and is a socket, but a file is to be copied there",
		name:  name + " is a socket: dmg cat can write a file to it",
		alias: alias + " is a socket: dmg cat can write a file to it",
	} {
		_, err = copyOf(t, app(), cpCmd{Force: true}, to, "empty")
		if err == nil || err.Error() != want || statusOf(err) != statusMisuse {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if info, err := os.Lstat(name); err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("%v, %v", info, err)
	}
}

// TestCopyErrorNames: an error of writing has the whole name.
func TestCopyErrorNames(t *testing.T) {
	skipModes(t)
	long := strings.Repeat("n", 300) // file systems of Unix have names of up to 255 bytes
	for kind, f := range map[string]*fstest.MapFile{"file": file("text"), "link": link("a"), "folder": {Mode: fs.ModeDir | 0o755}} {
		dest := filepath.Join(t.TempDir(), "new")
		_, err := copyOf(t, fstest.MapFS{"a/" + long: f}, cpCmd{}, dest, ".")
		if want := "write " + filepath.Join(dest, "a", long) + ": "; err == nil || !strings.HasPrefix(err.Error(), want) || statusOf(err) != statusIO {
			t.Errorf("a %s: %v, status %d, want %s", kind, err, statusOf(err), want)
		}
	}
}

// TestCopyLinkOntoItself: a hard link that is already there as the same file leaves no
// temporary name.
func TestCopyLinkOntoItself(t *testing.T) {
	skipModes(t)
	dest := t.TempDir()
	k := &copier{cpCmd: &cpCmd{Force: true}}
	var err error
	if k.root, err = os.OpenRoot(dest); err != nil {
		t.Fatal(err)
	}
	defer k.root.Close()
	if err := errors.Join(os.WriteFile(filepath.Join(dest, "a"), []byte("text"), 0o644), os.Link(filepath.Join(dest, "a"), filepath.Join(dest, "b"))); err != nil {
		t.Fatal(err)
	}
	if err := k.place(&folder{}, "b", func(name string) error { return k.root.Link("a", name) }); err != nil {
		t.Error(err)
	}
	if got := tree(t, dest); !strings.HasSuffix(got, "\na 644 text\nb 644 text\n") || strings.Count(got, "\n") != 3 {
		t.Errorf("%s", got)
	}
}

// TestCopyInterrupted leaves no file that is not complete.
func TestCopyInterrupted(t *testing.T) {
	skipModes(t)
	ctx, cancel := context.WithCancel(context.Background())
	files := badFS{app(), map[string]badFile{"big": {at: 1 << 40}}}
	hook := hookFS{files, func(name string) {
		if name == "big" {
			cancel()
		}
	}}
	dest := filepath.Join(t.TempDir(), "new")
	_, err := copyWith(t, ctx, hook, cpCmd{}, dest, ".")
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	got := tree(t, dest)
	if strings.Contains(got, ".part") || strings.Contains(got, "big") {
		t.Errorf("%s", got)
	}
}

type hookFS struct {
	badFS
	opened func(name string)
}

func (f hookFS) Open(name string) (fs.File, error) {
	f.opened(name)
	return f.badFS.Open(name)
}

// TestCopyDeep: folders without end come to one.
func TestCopyDeep(t *testing.T) {
	t.Parallel()
	skipModes(t)
	files := fstest.MapFS{strings.Repeat("d/", 600) + "file": file("x")}
	dest := filepath.Join(t.TempDir(), "new")
	_, err := copyOf(t, files, cpCmd{}, dest, ".")
	if err == nil || !strings.Contains(err.Error(), "512 deep") {
		t.Error(err)
	}
}

// linkedDirs has folders that have several names: each leads to two of the next one, as
// damaged or hostile volumes may have it.
type linkedDirs struct{ depth int }

func (f linkedDirs) Open(name string) (fs.File, error) {
	depth := strings.Count(name, "/") + 1
	if name == "." {
		depth = 0
	}
	info := linkedDir{depth}
	var list []fs.DirEntry
	if depth < f.depth {
		for _, n := range []string{"a", "b"} {
			list = append(list, renamed{fs.FileInfoToDirEntry(linkedDir{depth + 1}), n})
		}
	}
	return &fakeOpen{linkedOpen{info}, list}, nil
}

type linkedDir struct{ depth int }

func (d linkedDir) Name() string       { return strconv.Itoa(d.depth) }
func (d linkedDir) Size() int64        { return 0 }
func (d linkedDir) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (d linkedDir) ModTime() time.Time { return date }
func (d linkedDir) IsDir() bool        { return true }
func (d linkedDir) Sys() any           { return &hfsplus.Stat{ID: uint64(d.depth), Links: 2} }

type linkedOpen struct{ info fs.FileInfo }

func (f linkedOpen) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f linkedOpen) Read([]byte) (int, error)   { return 0, io.EOF }
func (f linkedOpen) Close() error               { return nil }

// TestCopyLinkedFolders: 40 folders have a trillion paths.
func TestCopyLinkedFolders(t *testing.T) {
	skipModes(t)
	dest := filepath.Join(t.TempDir(), "new")
	told, err := copyOf(t, linkedDirs{40}, cpCmd{}, dest, ".")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(tree(t, dest), "\n"); n < 80 || n > 2000 {
		t.Errorf("%d folders", n)
	}
	if !strings.Contains(told, "further name of a folder") {
		t.Errorf("%q", told)
	}
}

// manifest is a sample's list of files: path, type, size, SHA-256, mode, time, target.
func manifest(t *testing.T, name string) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(samples + "fs/" + name + ".tsv")
	if err != nil {
		t.Skip("no samples")
	}
	rows := make(map[string][]string)
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "path\t") {
			continue
		}
		cols := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cols) > 9 && strings.Contains(cols[9], "hidden") || strings.HasPrefix(cols[0], `\x00`) {
			continue
		}
		rows[norm.NFC.String(cols[0])] = cols
	}
	return rows
}

// timeGrain returns what times of files are told to the multiple of, here:
// some file systems keep seconds, and QEMU's emulation of s390x tells no more.
func timeGrain(t *testing.T) time.Duration {
	name := filepath.Join(t.TempDir(), "time")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1e9, 123456789)
	if err := os.Chtimes(name, when, when); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, grain := range []time.Duration{1, 100, time.Microsecond, time.Millisecond, time.Second} {
		if info.ModTime().Equal(when.Truncate(grain)) {
			return grain
		}
	}
	t.Fatalf("%v became %v", when, info.ModTime())
	return 0
}

// TestCopySamples copies what Apple's tools wrote, all of it, as the manifest says.
func TestCopySamples(t *testing.T) {
	t.Parallel()
	skipModes(t)
	for _, name := range []string{"hfsplus-app", "hfsplus-basic", "hfsplus-journaled", "hfsplus-2007", "hfsx", "apfs-app", "apfs-basic", "apfs-tree"} {
		t.Run(name, func(t *testing.T) {
			want := manifest(t, name)
			grain := timeGrain(t)
			dest := filepath.Join(t.TempDir(), "new")
			if got := dmgRun(t, "cp", samples+"fs/"+name+".dmg", ".", dest); got.status != 0 || got.out != "" || got.errOut != "" {
				t.Fatalf("%+v", got)
			}
			found := 0
			err := filepath.WalkDir(dest, func(at string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				found++
				rel, _ := filepath.Rel(dest, at)
				row := want[rel]
				if row == nil {
					t.Errorf("%s is not in the manifest", rel)
					return nil
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				kind := map[fs.FileMode]string{fs.ModeDir: "dir", fs.ModeSymlink: "symlink"}[d.Type()]
				if kind == "" {
					kind = "file"
				}
				if kind != row[1] && !(kind == "file" && row[1] == "hardlink") {
					t.Errorf("%s is a %s, want %s", rel, kind, row[1])
				}
				mode, _ := strconv.ParseUint(row[4], 8, 32)
				if kind != "symlink" && row[1] != "hardlink" && uint64(info.Mode().Perm()) != mode&0o777 {
					t.Errorf("%s: mode %v, want %s", rel, info.Mode(), row[4])
				}
				if when, err := time.Parse(time.RFC3339, row[5]); err != nil || row[1] != "hardlink" && !info.ModTime().Equal(when.Truncate(grain)) {
					t.Errorf("%s: %v, want %s", rel, info.ModTime(), row[5])
				}
				switch kind {
				case "symlink":
					if target, err := os.Readlink(at); err != nil || target != row[6] {
						t.Errorf("%s -> %s, %v, want %s", rel, target, err, row[6])
					}
				case "file":
					data, err := os.ReadFile(at)
					if err != nil {
						return err
					}
					if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row[3] {
						t.Errorf("%s: %d bytes of another SHA-256", rel, len(data))
					}
				}
				return nil
			})
			if err != nil || found != len(want) {
				t.Errorf("%d files and folders, %v, want %d", found, err, len(want))
			}
		})
	}
}

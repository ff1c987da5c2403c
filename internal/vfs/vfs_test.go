package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// A mem is a node in memory.
type mem struct {
	id       uint64
	mode     fs.FileMode
	data     string // content, or target
	names    []string
	children []*mem
	err      error // of Content, Target, or behind the last entry
}

func (m *mem) ID() uint64        { return m.id }
func (m *mem) Type() fs.FileMode { return m.mode.Type() }

func (m *mem) Info() (Info, error) {
	return Info{Size: int64(len(m.data)), Mode: m.mode, ModTime: time.Unix(1e9, 0), Sys: m.id}, nil
}

func (m *mem) Lookup(name string) (Node, error) {
	if i := slices.Index(m.names, name); i >= 0 {
		return m.children[i], nil
	}
	return nil, fs.ErrNotExist
}

func (m *mem) Entries() Entries { return &memEntries{m, 0} }

type memEntries struct {
	dir *mem
	i   int
}

func (e *memEntries) Next() (Entry, error) {
	if e.i == len(e.dir.names) {
		if e.dir.err != nil {
			return Entry{}, e.dir.err
		}
		return Entry{}, io.EOF
	}
	e.i++
	return Entry{e.dir.names[e.i-1], e.dir.children[e.i-1]}, nil
}

func (m *mem) Target() (string, error)   { return m.data, m.err }
func (m *mem) Content() (Content, error) { return strings.NewReader(m.data), m.err }

var lastID uint64

func newMem(mode fs.FileMode, data string) *mem {
	lastID++
	return &mem{id: lastID, mode: mode, data: data}
}

// put adds a node, and the directories that lead to it.
func (m *mem) put(path string, n *mem) {
	elem, rest, more := strings.Cut(path, "/")
	i := slices.Index(m.names, elem)
	if i < 0 {
		child := n
		if more {
			child = newMem(fs.ModeDir|0o755, "")
		}
		m.names, m.children = append(m.names, elem), append(m.children, child)
		i = len(m.names) - 1
	}
	if more {
		m.children[i].put(rest, n)
	}
}

func file0(data string) *mem   { return newMem(0o644, data) }
func link(target string) *mem  { return newMem(fs.ModeSymlink|0o777, target) }
func newTree() (*FS, *mem)     { r := newMem(fs.ModeDir|0o755, ""); return New(r), r }
func manyLinks(n int) []string { return slices.Repeat([]string{"here"}, n) }

func TestFSTest(t *testing.T) {
	f, r := newTree()
	r.put("b/c/d.txt", file0("content\n"))
	r.put("a", file0(""))
	r.put("b/big", file0(strings.Repeat("0123456789", 1000)))
	r.put("b/link", link("c/d.txt"))
	r.put("z", link("/b/../b/./c//"))
	if err := fstest.TestFS(f, "a", "b/c/d.txt", "b/big", "b/link", "z"); err != nil {
		t.Error(err)
	}
	var _ interface {
		fs.ReadDirFS
		fs.StatFS
		fs.ReadFileFS
		ReadLink(string) (string, error) // as fs.ReadLinkFS of Go 1.25 has them
		Lstat(string) (fs.FileInfo, error)
	} = f
}

// TestPaths reads a file through links, which never leave the volume.
func TestPaths(t *testing.T) {
	f, r := newTree()
	r.put("dir/file", file0("in dir"))
	r.put("file", file0("in root"))
	r.put("etc/passwd", file0("ours"))
	r.put("dir/sub/up", link("../file"))
	r.put("dir/sub/out", link("../../../../../../etc/passwd"))
	r.put("dir/sub/abs", link("/etc/passwd"))
	r.put("dir/sub/top", link("/"))
	r.put("dir/sub/slash", link("../file/"))
	r.put("dir/sub/dot", link("../file/."))
	r.put("dir/sub/below", link("../file/x"))
	r.put("dir/sub/dirslash", link("..//"))
	r.put("dir/sub/none", link("nothing"))
	r.put("dir/sub/empty", link(""))
	r.put("dir/sub/nul", link("../file\x00"))
	r.put("sub", link("dir/sub")) // .. of a link's target is the target's parent
	r.put("here", link("."))
	r.put("self", link("self"))
	r.put("ping", link("pong"))
	r.put("pong", link("ping/x"))
	r.put("grow", link("grow/grow"))
	failing := errors.New("failing")
	r.put("bad", link("file"))
	r.children[len(r.children)-1].err = failing
	r.put("unreadable", file0("x"))
	r.children[len(r.children)-1].err = failing

	tests := []struct {
		path, want string
		err        error
	}{
		{"dir/file", "in dir", nil},
		{"dir/sub/up", "in dir", nil},
		{"sub/up", "in dir", nil},
		{"dir/sub/out", "ours", nil},
		{"dir/sub/abs", "ours", nil},
		{"sub/top/file", "in root", nil},
		{"dir/sub/dirslash/file", "in dir", nil},
		{strings.Join(manyLinks(40), "/") + "/file", "in root", nil},
		{strings.Join(manyLinks(41), "/") + "/file", "", ErrLoop},
		{"dir/sub/slash", "", fs.ErrNotExist},
		{"dir/sub/dot", "", fs.ErrNotExist},
		{"dir/sub/below", "", fs.ErrNotExist},
		{"dir/sub/none", "", fs.ErrNotExist},
		{"dir/sub/empty", "", fs.ErrNotExist},
		{"dir/sub/nul", "", fs.ErrNotExist},
		{"dir/file/x", "", fs.ErrNotExist},
		{"self", "", ErrLoop},
		{"ping", "", ErrLoop},
		{"grow", "", ErrLoop},
		{"bad", "", failing},
		{"unreadable", "", failing},
		{"dir", "", errDir},
		{"sub/top", "", errDir},
		{"", "", fs.ErrInvalid},
		{"/file", "", fs.ErrInvalid},
		{"dir/../file", "", fs.ErrInvalid},
		{"dir/", "", fs.ErrInvalid},
	}
	for _, tt := range tests {
		data, err := f.ReadFile(tt.path)
		var pe *fs.PathError
		if string(data) != tt.want || !errors.Is(err, tt.err) || err != nil && (!errors.As(err, &pe) || pe.Path != tt.path) {
			t.Errorf("ReadFile(%.40q) = %q, %v; want %q, %v", tt.path, data, err, tt.want, tt.err)
		}
		if tt.err != nil && tt.err != errDir {
			if _, err := f.Open(tt.path); !errors.Is(err, tt.err) {
				t.Errorf("Open(%.40q): %v, want %v", tt.path, err, tt.err)
			}
		}
	}
	if target, err := f.ReadLink("sub/out"); target != "../../../../../../etc/passwd" || err != nil {
		t.Errorf("ReadLink: %q, %v", target, err)
	}
	if _, err := f.ReadLink("file"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadLink of a file: %v", err)
	}
	for name, want := range map[string]fs.FileMode{"self": fs.ModeSymlink, "sub": fs.ModeSymlink, "sub/top": fs.ModeSymlink, "dir": fs.ModeDir} {
		if info, err := f.Lstat(name); err != nil || info.Mode().Type() != want {
			t.Errorf("Lstat(%q): %v, %v", name, info, err)
		}
	}
	if info, err := f.Stat("sub/top"); err != nil || !info.IsDir() || info.Name() != "top" {
		t.Errorf("Stat: %v, %v", info, err)
	}
}

// TestDirectoryInItself walks directories that are entries of themselves.
func TestDirectoryInItself(t *testing.T) {
	f, r := newTree()
	r.put("a/b/file", file0("x"))
	a := r.children[0]
	a.put("b/again", a)
	r.put("root", r)
	r.put("twice", a) // two names of a directory are no circle
	var walked, failed []string
	err := fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		walked = append(walked, path)
		if err != nil {
			if !errors.Is(err, ErrLoop) {
				t.Error(err)
			}
			failed = append(failed, path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if want := []string{"a/b/again", "root", "twice/b/again"}; !slices.Equal(failed, want) {
		t.Errorf("failed %q, want %q; walked %q", failed, want, walked)
	}
	for _, name := range []string{"a/b/again", "root"} {
		if info, err := f.Lstat(name); err != nil || !info.IsDir() {
			t.Errorf("Lstat(%q): %v, %v", name, info, err)
		}
		for _, name := range []string{name, name + "/a"} {
			if _, err := f.Open(name); !errors.Is(err, ErrLoop) {
				t.Errorf("Open(%q): %v", name, err)
			}
		}
		if _, err := f.ReadDir(name); !errors.Is(err, ErrLoop) {
			t.Errorf("ReadDir(%q): %v", name, err)
		}
	}
	if data, err := f.ReadFile("twice/b/file"); string(data) != "x" || err != nil {
		t.Errorf("a directory's second name: %q, %v", data, err)
	}
}

// A large is a directory of any number of entries.
type large struct {
	mem
	n int
}

type largeEntries struct {
	dir *large
	i   int
}

func (l *large) Entries() Entries { return &largeEntries{l, 0} }

func (e *largeEntries) Next() (Entry, error) {
	if e.i == e.dir.n {
		return Entry{}, io.EOF
	}
	e.i++
	return Entry{fmt.Sprint(e.i), &e.dir.mem}, nil
}

func TestLargeDirectory(t *testing.T) {
	n := 300_000
	f := New(&large{*newMem(fs.ModeDir, ""), n})
	d, err := f.Open(".")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count := 0
	for {
		list, err := d.(fs.ReadDirFile).ReadDir(1000)
		count += len(list)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); count != n || grown > 4<<20 {
		t.Errorf("%d entries of %d, the heap grew by %d", count, n, grown)
	}
	list, err := f.ReadDir(".")
	if err != nil || len(list) != n || !slices.IsSortedFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) {
		t.Errorf("%d entries, %v", len(list), err)
	}
}

func TestReadDirError(t *testing.T) {
	f, r := newTree()
	r.put("a", file0(""))
	r.put("b", file0(""))
	r.err = errors.New("damaged")
	if list, err := f.ReadDir("."); len(list) != 2 || !errors.Is(err, r.err) {
		t.Errorf("FS.ReadDir: %v, %v", list, err)
	}
	for _, n := range []int{-1, 1, 3} {
		d, err := f.Open(".")
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for err == nil {
			var list []fs.DirEntry
			list, err = d.(fs.ReadDirFile).ReadDir(n)
			count += len(list)
		}
		if count != 2 || !errors.Is(err, r.err) {
			t.Errorf("ReadDir(%d): %d entries, %v", n, count, err)
		}
	}
	if _, err := f.ReadDir("a"); !errors.Is(err, errNotDir) {
		t.Errorf("ReadDir of a file: %v", err)
	}
}

// A short has less than its size says.
type short struct {
	*bytes.Reader
	size int64
}

func (s short) Size() int64 { return s.size }

func TestShortContent(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 3<<20)
	got, err := ReadAll(short{bytes.NewReader(data), 1 << 62}, 1<<62)
	if err != io.ErrUnexpectedEOF || !bytes.Equal(got, data) || cap(got) > 8<<20 {
		t.Errorf("ReadAll: %d bytes in %d, %v", len(got), cap(got), err)
	}
	f := &file{content: short{bytes.NewReader(data), 1 << 62}}
	n, err := f.WriteTo(io.Discard)
	if n != int64(len(data)) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
}

func TestFile(t *testing.T) {
	f, r := newTree()
	data := strings.Repeat("0123456789", 300_000)
	r.put("f", file0(data))
	h, err := f.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	file := h.(interface {
		fs.File
		io.ReaderAt
		io.Seeker
		io.WriterTo
	})
	if off, err := file.Seek(-7, io.SeekEnd); off != int64(len(data))-7 || err != nil {
		t.Errorf("Seek: %d, %v", off, err)
	}
	if _, err := file.Seek(-1, io.SeekStart); err == nil {
		t.Error("Seek to -1")
	}
	if _, err := file.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("ReadAt -1")
	}
	if n, err := file.ReadAt(make([]byte, 10), int64(len(data))-3); n != 3 || err != io.EOF {
		t.Errorf("ReadAt over the end: %d, %v", n, err)
	}
	var buf bytes.Buffer
	if n, err := file.WriteTo(&buf); n != 7 || err != nil || buf.String() != "3456789" {
		t.Errorf("WriteTo: %d, %v, %q", n, err, buf.String())
	}
	file.Seek(5, io.SeekStart)
	buf.Reset()
	if n, err := file.WriteTo(&buf); n != int64(len(data))-5 || err != nil || buf.String() != data[5:] {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if _, err := file.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := file.WriteTo(&buf); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("WriteTo after Close: %v", err)
	}
}

func TestNames(t *testing.T) {
	for name, plain := range map[string]bool{
		"a": true, "a b": true, "%": true, "100%": true, "%u": false, "%u00e9": true, "%u00E9": false,
		"x%u12": true, "%u%u%u0041": false, "%%u": true, "..": false, ".": false, "": false, "...": true,
		"a/b": false, `a\b`: false, "a\x00": false, "a\xff": false, "Icon\r": true, "a:b": true,
	} {
		if IsPlain(name) != plain {
			t.Errorf("IsPlain(%q) = %v", name, !plain)
		}
	}
	name := string(AppendEscape([]byte("a%u"), 0xD8F0)) + "b"
	if name != "a%u%uD8F0b" {
		t.Error(name)
	}
	before, unit, after, ok := CutEscape(name)
	if before != "a%u" || unit != 0xD8F0 || after != "b" || !ok {
		t.Error(before, unit, after, ok)
	}
}

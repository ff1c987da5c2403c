// Package vfs serves the files of a volume as an [fs.FS].
//
// A file system implements [Node]. This package does what is the same for all of
// them: it walks paths by the rules of io/fs, follows symbolic links without ever
// leaving the volume, lists directories, and reads files.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A Node is a file, a directory or a symbolic link of a volume. Its methods may be
// called by many goroutines at once. Their errors need not name the path.
type Node interface {
	// ID is the same for all names of one file or directory, and no other's.
	ID() uint64

	// Type is the type bits of the node's mode, those of Info. A node knows it
	// from the directory's entry.
	Type() fs.FileMode

	// Info says what Stat returns, except for the name.
	Info() (Info, error)

	// Lookup returns the entry of a directory that has the name. It finds each name
	// that Entries gives out, and may find an entry by other spellings, too. The
	// error is [fs.ErrNotExist] if there is none.
	Lookup(name string) (Node, error)

	// Entries returns the entries of a directory, from the first one on.
	Entries() Entries

	// Target returns where a symbolic link leads to. It refuses to read targets of
	// more than MaxTarget bytes.
	Target() (string, error)

	// Content returns the content of what is neither a directory nor a symbolic
	// link. That of a device, a pipe or a socket is empty.
	Content() (Content, error)
}

// Info is what a volume knows about a node.
type Info struct {
	Size    int64       // in bytes
	Mode    fs.FileMode // with the type
	ModTime time.Time
	Sys     any // what FileInfo.Sys returns
}

// Entries gives out a directory's entries in the volume's order. It holds a bounded
// part of the directory. One goroutine uses it at a time.
type Entries interface {
	// Next returns the next entry. The error is [io.EOF] behind the last one.
	Next() (Entry, error)
}

// An Entry is a name in a directory. The name is a valid path element of io/fs,
// without a backslash, and no other entry of the directory has it.
type Entry struct {
	Name string
	Node Node
}

// Content is the content of a file. Its methods may be called by many goroutines at
// once.
type Content interface {
	io.ReaderAt
	Size() int64
}

const (
	// MaxTarget is how long a symbolic link's target may be, in bytes. That is
	// PATH_MAX of Linux. macOS allows 1024.
	MaxTarget = 4096

	// maxLinks is how many symbolic links one path may lead through, as in Linux.
	// macOS allows 32.
	maxLinks = 40

	// maxEntries is how many entries FS.ReadDir sorts. With each it holds some 150
	// bytes.
	maxEntries = 1 << 22
)

var (
	// ErrLoop is the class of errors about paths that lead through more than 40
	// symbolic links, or through a directory that contains itself.
	ErrLoop = errors.New("links or directories lead in a circle")

	// ErrTooLarge is the class of errors about what would take too much memory.
	ErrTooLarge = errors.New("too large to hold in memory")

	errDir    = errors.New("is a directory")
	errNotDir = errors.New("not a directory")
	errOffset = errors.New("negative offset")
)

// An FS serves a volume as an [fs.FS]. It implements [fs.ReadDirFS], [fs.StatFS],
// [fs.ReadFileFS] and the ReadLinkFS of Go 1.25. All methods may be called by many
// goroutines at once. Errors are of type [*fs.PathError].
//
// A directory that contains itself can be looked at by Lstat, Stat and Lookup.
// Everything behind it, Open and ReadDir return [ErrLoop]. So a walk ends there.
type FS struct {
	root Node

	// last is the directory in which a path was looked up last. A program that goes
	// through a directory looks up one path after the other there.
	last atomic.Pointer[place]

	listings listings
}

// A place is the walk that a directory's path leads to.
type place struct {
	path string
	walk walk
}

// New returns the volume with this root directory.
func New(root Node) *FS { return &FS{root: root} }

// Open opens a file or a directory, and follows symbolic links. A file is an
// [io.ReaderAt], an [io.Seeker] and an [io.WriterTo], a directory an
// [fs.ReadDirFile].
func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.open("open", name)
	if err != nil {
		return nil, err
	}
	if n.Type().IsDir() {
		return &dir{handle: handle{path: name, node: n}, fs: f, entries: n.Entries()}, nil
	}
	c, err := n.Content()
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &file{handle: handle{path: name, node: n}, content: c}, nil
}

// ReadDir lists a directory, sorted by name. It holds the whole list in memory, and
// so refuses a directory of more than 4,194,304 entries with [ErrTooLarge]. ReadDir
// of the opened directory, which does not sort, can list that in pieces.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.open("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.Type().IsDir() {
		return nil, pathError("readdir", name, errNotDir)
	}
	entries, err := readDir(n.Entries(), maxEntries+1)
	if len(entries) > maxEntries {
		entries, err = entries[:maxEntries], ErrTooLarge
	}
	slices.SortFunc(entries, func(a, b *dirEntry) int { return strings.Compare(a.entry.Name, b.entry.Name) })
	f.listings.keep(n, entries)
	if err != nil && err != io.EOF {
		return dirEntries(entries), pathError("readdir", name, err)
	}
	return dirEntries(entries), nil
}

// ReadFile returns the content of a file. It follows symbolic links.
func (f *FS) ReadFile(name string) ([]byte, error) {
	n, err := f.open("open", name)
	if err != nil {
		return nil, err
	}
	if n.Type().IsDir() {
		return nil, pathError("read", name, errDir)
	}
	c, err := n.Content()
	if err != nil {
		return nil, pathError("open", name, err)
	}
	data, err := ReadAll(c, c.Size())
	if err != nil {
		return data, pathError("read", name, err)
	}
	return data, nil
}

// Stat describes a file. It follows symbolic links.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

// Lstat describes a file. It does not follow a symbolic link in the path's last
// element.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f *FS) stat(op, name string, follow bool) (fs.FileInfo, error) {
	n, err := f.Lookup(op, name, follow)
	if err != nil {
		return nil, err
	}
	return newFileInfo(op, name, n)
}

// ReadLink returns the target of a symbolic link as it is stored.
func (f *FS) ReadLink(name string) (string, error) {
	n, err := f.Lookup("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.Type() != fs.ModeSymlink {
		return "", pathError("readlink", name, fs.ErrInvalid)
	}
	target, err := n.Target()
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return target, nil
}

// Lookup returns the node at a path, for the method op. If follow is false, it does
// not follow a symbolic link in the path's last element.
func (f *FS) Lookup(op, name string, follow bool) (Node, error) {
	n, _, err := f.walk(op, name, follow)
	return n, err
}

// open is Lookup for what reads the content of a directory, too.
func (f *FS) open(op, name string) (Node, error) {
	n, looped, err := f.walk(op, name, true)
	if looped {
		return nil, pathError(op, name, ErrLoop)
	}
	return n, err
}

// walk returns the node at a path, and whether it is a directory that contains itself.
func (f *FS) walk(op, name string, follow bool) (n Node, looped bool, err error) {
	if !fs.ValidPath(name) {
		return nil, false, pathError(op, name, fs.ErrInvalid)
	}
	dir, base := ".", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, base = name[:i], name[i+1:]
	}
	w, err := f.directory(dir)
	if err == nil {
		n, looped, err = w.end(base, follow)
	}
	if err != nil {
		return nil, false, pathError(op, name, err)
	}
	return n, looped, nil
}

// directory walks to a directory, which may turn out to be a file.
func (f *FS) directory(name string) (walk, error) {
	if last := f.last.Load(); last != nil && last.path == name {
		return last.walk, nil
	}
	w := walk{fs: f, at: []Node{f.root}}
	if err := w.to(name, true); err != nil {
		return w, err
	}
	w.at = slices.Clip(w.at) // so that all who go on from here have their own
	f.last.Store(&place{name, w})
	return w, nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

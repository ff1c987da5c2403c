// Package appinfo finds the applications and installer packages in a file system, and says
// what they are: name, version, architectures, and who signed them.
//
// It reads folders, property lists, the headers of programs and the tables of contents of
// packages, and nothing else. What it reads is untrusted: every file has a limit, and nothing
// recurses deeper than a constant.
package appinfo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/go-dmg/dmg/internal/readat"
)

// The kinds of items.
const (
	App     = "app"     // a bundle whose name ends in .app
	Package = "package" // a file or bundle whose name ends in .pkg or .mpkg
)

// What an item says of its signature.
const (
	Signed   = "signed"   // with certificates, which nobody has checked
	AdHoc    = "ad hoc"   // by hashes alone
	Unsigned = "unsigned" // without a signature
)

// Item is an application or an installer package. What it doesn't say is empty.
type Item struct {
	Path      string // in the file system
	Kind      string
	Name      string // as users see it
	ID        string // such as "com.example.app"
	Version   string // as users see it
	Build     string
	MinSystem string // the oldest version of macOS that it is for

	// Architectures are those of the program, as lipo names them, or those that a package says
	// that it is for.
	Architectures []string

	Signature string // one of the constants; empty if it isn't known
	TeamID    string // as the signature says

	// Err is why some of this isn't known: ErrContent, or an error of the file system.
	Err error
}

// ErrContent means that a file of an item is missing, or not what it is to be.
var ErrContent = errors.New("not a complete application or package")

// contentError is an ErrContent that says more.
type contentError struct {
	path string
	msg  string
}

// Error returns the path and what is wrong.
func (e *contentError) Error() string { return e.path + ": " + e.msg }

// Is reports whether target is ErrContent.
func (e *contentError) Is(target error) bool { return target == ErrContent }

// Finder looks for items.
type Finder struct {
	FS     fs.FS
	Nested bool // those inside of applications, too

	// Folder returns what identifies a folder, under whichever name. A damaged volume may have
	// folders in themselves, and in each other under several names, which makes any number of
	// paths: each is looked into once. It may be nil. If ok is false, nothing is known of the
	// folder.
	Folder func(fs.FileInfo) (id uint64, ok bool)

	// Missed is called with the error of a folder that can't be read. The others go on.
	Missed func(error)

	seen    map[uint64]bool
	folders int
	paths   []string
}

// Limits of a search. A whole macOS has some 400,000 folders, 1,500 applications with the nested
// ones, and paths of 1,024 bytes.
const (
	maxDepth   = 512
	maxPath    = 4 << 10 // bytes
	maxFolders = 1 << 20
	maxItems   = 10_000
	maxText    = 512 // bytes: no longer name, identifier or version is taken
	batch      = 256 // entries of a folder that are held at a time
)

// Find calls found with each item below a folder, sorted by path. It stops at the first error of
// found, when ctx is done, or if there is too much to go through.
func (f *Finder) Find(ctx context.Context, root string, found func(Item) error) error {
	f.seen, f.folders, f.paths = make(map[uint64]bool), 0, nil
	if kind := kindOf(root, true); kind != "" {
		f.paths = append(f.paths, root)
	}
	if len(f.paths) == 0 || f.Nested {
		if err := f.folder(ctx, root, 0); err != nil {
			return err
		}
	}
	slices.Sort(f.paths)
	for _, p := range f.paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := found(f.item(p)); err != nil {
			return err
		}
	}
	return nil
}

// kindOf returns what an entry is by its name, "" if it is none.
func kindOf(name string, dir bool) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".app":
		if dir {
			return App
		}
	case ".pkg", ".mpkg":
		return Package
	}
	return ""
}

// folder looks into a folder.
func (f *Finder) folder(ctx context.Context, name string, depth int) error {
	switch f.folders++; {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case f.folders > maxFolders:
		return fmt.Errorf("more than %d folders", maxFolders)
	case depth > maxDepth:
		f.miss(&fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("folders more than %d deep in each other", maxDepth)})
		return nil
	}
	file, err := f.FS.Open(name)
	if err != nil {
		f.miss(err)
		return nil
	}
	defer file.Close()
	dir, ok := file.(fs.ReadDirFile)
	if !ok {
		f.miss(&fs.PathError{Op: "readdir", Path: name, Err: errors.ErrUnsupported})
		return nil
	}
	for {
		entries, err := dir.ReadDir(batch)
		for _, e := range entries {
			if err := f.entry(ctx, name, e, depth); err != nil {
				return err
			}
		}
		if err != nil {
			if err != io.EOF {
				f.miss(err)
			}
			return nil
		}
	}
}

func (f *Finder) miss(err error) {
	if f.Missed != nil {
		f.Missed(err)
	}
}

// entry takes an entry of a folder, and looks into it if items may be there.
func (f *Finder) entry(ctx context.Context, folder string, e fs.DirEntry, depth int) error {
	if !e.IsDir() && !e.Type().IsRegular() {
		return nil // links lead to what is listed by itself, or to other volumes
	}
	kind := kindOf(e.Name(), e.IsDir())
	if kind == "" && !e.IsDir() {
		return nil
	}
	full := path.Join(folder, e.Name())
	if len(full) > maxPath {
		f.miss(&fs.PathError{Op: "open", Path: full[:maxPath], Err: fmt.Errorf("a path of more than %d bytes", maxPath)})
		return nil
	}
	if kind != "" {
		if len(f.paths) == maxItems {
			return fmt.Errorf("more than %d applications and packages", maxItems)
		}
		f.paths = append(f.paths, full)
	}
	if !e.IsDir() || kind == Package || kind == App && !f.Nested {
		return nil
	}
	if f.Folder != nil {
		info, err := e.Info()
		if err != nil {
			f.miss(err)
			return nil
		}
		if id, ok := f.Folder(info); ok {
			if f.seen[id] {
				return nil
			}
			f.seen[id] = true
		}
	}
	return f.folder(ctx, full, depth+1)
}

// item reads what is at the path.
func (f *Finder) item(name string) Item {
	it := Item{Path: name, Kind: kindOf(name, true), Name: strings.TrimSuffix(path.Base(name), path.Ext(name))}
	info, err := fs.Stat(f.FS, name)
	switch {
	case err != nil:
		it.Err = err
	case info.IsDir():
		f.bundle(&it)
	default:
		f.flatPackage(&it)
	}
	for _, text := range []*string{&it.Name, &it.ID, &it.Version, &it.Build, &it.MinSystem, &it.TeamID} {
		if len(*text) > maxText {
			*text = ""
		}
	}
	it.Architectures = slices.DeleteFunc(it.Architectures, func(a string) bool { return len(a) > maxText })
	return it
}

// open opens a regular file as an io.ReaderAt.
func (f *Finder) open(name string) (r io.ReaderAt, size int64, closer io.Closer, err error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, 0, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &contentError{name, "no regular file"}
	}
	r, ok := file.(io.ReaderAt)
	if err == nil && !ok {
		err = &fs.PathError{Op: "read", Path: name, Err: errors.ErrUnsupported}
	}
	if err != nil {
		file.Close()
		return nil, 0, nil, err
	}
	return r, info.Size(), file, nil
}

// readFile reads a file that has no more than limit bytes.
func (f *Finder) readFile(name string, limit int64) ([]byte, error) {
	r, size, closer, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	if size > limit {
		return nil, &contentError{name, fmt.Sprintf("%d bytes, more than %d", size, limit)}
	}
	b := make([]byte, size)
	if _, err := readat.Full(r, b, 0); err != nil {
		return nil, err
	}
	return b, nil
}

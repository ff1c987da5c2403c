// Package location is about where an image lies: a name in the operating system's file
// system or in any other, beside which there may be the image's other files.
package location

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
)

// Location is a name in a file system. It is all that opening an image needs to know of
// either.
type Location struct {
	FS   fs.FS  // has the name, and beside it an image's other files
	Name string // in FS

	bundle func() (fs.FS, io.Closer, error)
	around func() string
}

// OpenBundle opens the directory of that name, of which the closer closes what is open.
func (l Location) OpenBundle() (fs.FS, io.Closer, error) { return l.bundle() }

// Around returns the sparse bundle of which the name is a part, "" if it is none.
func (l Location) Around() string { return l.around() }

// Named gives an error of the file system the file's name, if it hasn't any.
func (l Location) Named(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return err
	}
	return &fs.PathError{Op: "open", Path: l.Name, Err: err}
}

// In is a valid name in fsys.
func In(fsys fs.FS, name string) Location {
	return Location{
		FS:   fsys,
		Name: name,
		bundle: func() (fs.FS, io.Closer, error) {
			sub, err := fs.Sub(fsys, name)
			return sub, io.NopCloser(nil), err
		},
		around: func() string {
			up := bundleAround(name, func(name string) (fs.FileInfo, error) { return fs.Stat(fsys, name) })
			if up == "" {
				return ""
			}
			return path.Join(name, up)
		},
	}
}

// System is a name in the operating system's file system. Links must not lead out of
// a bundle: it is as untrusted as any image.
func System(name string) Location {
	fsys := systemFS{name, filepath.Dir(name), filepath.Base(name)}
	return Location{
		FS:   fsys,
		Name: fsys.base,
		bundle: func() (fs.FS, io.Closer, error) {
			root, err := os.OpenRoot(name)
			if err != nil {
				return nil, nil, err
			}
			return root.FS(), root, nil
		},
		around: func() string {
			abs, err := filepath.Abs(name)
			if err != nil {
				return ""
			}
			up := bundleAround(filepath.ToSlash(abs), func(name string) (fs.FileInfo, error) {
				return os.Stat(filepath.FromSlash(name))
			})
			if up == "" {
				return ""
			}
			return filepath.Join(name, up)
		},
	}
}

// systemFS is the directory of a file. Unlike os.DirFS it also has files whose names are not
// UTF-8, and its errors have the file's name as the caller gave it.
type systemFS struct{ file, dir, base string }

// path returns the operating system's name.
func (s systemFS) path(name string) string {
	if name == s.base {
		return s.file
	}
	return filepath.Join(s.dir, name)
}

// Open implements fs.FS.
func (s systemFS) Open(name string) (fs.File, error) { return os.Open(s.path(name)) }

// Stat implements fs.StatFS.
func (s systemFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(s.path(name)) }

// bundleAround returns the way from a file or directory up to the sparse bundle of which it
// is a part, "" if it is none. A band looks like a raw disk that was cut off, and a token
// like an encrypted image.
func bundleAround(name string, stat func(string) (fs.FileInfo, error)) string {
	up := ".."
	switch parent := path.Base(path.Dir(name)); path.Base(name) {
	case "bands", "mapped", "token", "lock", "Info.plist", "Info.bckup":
	default:
		if _, err := strconv.ParseUint(path.Base(name), 16, 64); err != nil || parent != "bands" && parent != "mapped" {
			return ""
		}
		up = "../.."
	}
	bundle := path.Join(name, up)
	if st, err := stat(path.Join(bundle, "bands")); err != nil || !st.IsDir() {
		return ""
	}
	for _, info := range []string{"Info.plist", "Info.bckup"} {
		if st, err := stat(path.Join(bundle, info)); err == nil && st.Mode().IsRegular() {
			return up
		}
	}
	return ""
}

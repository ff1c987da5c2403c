package dmg

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/sparse"
)

// Open opens the disk image called name in the operating system's file system: a file, a
// block device, the directory that is a sparse bundle, or any file of an image that was
// split, whose other files must be in the same directory. Close the [Image] when it is no
// longer needed. [OpenFS] does the same in any [fs.FS], [NewImage] with any [io.ReaderAt].
//
// The error is of one of the classes that the package comment lists, or the file system's.
func Open(name string, opts *Options) (*Image, error) {
	return open(systemLocation(name), opts)
}

// OpenFS opens the disk image called name in fsys, as [Open] does in the operating system's
// file system: a file, a directory that is a sparse bundle, or any file of an image that
// was split. The name must satisfy [fs.ValidPath]; "." is fsys itself, if that is a bundle.
//
// The files of fsys must be an [io.ReaderAt], as those of [os.DirFS], [os.Root.FS] and
// [embed.FS] are. Those of [archive/zip.Reader] are not: OpenFS returns [ErrUnsupported], and
// [NewImage] reads an image that the archive stores without compression.
//
// Reads call fsys and its files concurrently, until the Image is closed. OpenFS follows
// links if fsys does. A hostile sparse bundle may have links: open its directory with
// [os.OpenRoot], or use Open, which lets none lead out of the bundle.
func OpenFS(fsys fs.FS, name string, opts *Options) (*Image, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return open(fsLocation(fsys, name), opts)
}

func open(l location, opts *Options) (*Image, error) {
	u := opts.unlocker()
	c, err := l.open(u)
	if err != nil {
		return nil, err
	}
	return newImage(c, u, opts)
}

// A location is a name in a file system. It is all that opening needs to know of either.
type location struct {
	fsys   fs.FS                            // has the name, and beside it an image's other files
	name   string                           // in fsys
	bundle func() (fs.FS, io.Closer, error) // the directory of that name
	around func() string                    // the bundle of which the name is a part; "" if it is none
}

// fsLocation is a valid name in fsys.
func fsLocation(fsys fs.FS, name string) location {
	return location{
		fsys: fsys,
		name: name,
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

// systemLocation is a name in the operating system's file system. Links must not lead out of
// a bundle: it is as untrusted as any image.
func systemLocation(name string) location {
	fsys := systemFS{name, filepath.Dir(name), filepath.Base(name)}
	return location{
		fsys: fsys,
		name: fsys.base,
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

// open opens the file or the sparse bundle.
func (l location) open(u *crypt.Unlocker) (container, error) {
	f, err := l.fsys.Open(l.name)
	if err != nil {
		return container{}, l.named(err)
	}
	c, err := l.take(f, u)
	if err != nil || c.r == nil {
		f.Close() // of a bundle, it is the directory
	}
	return c, err
}

// named gives an error of the file system the file's name, if it hasn't any.
func (l location) named(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return err
	}
	return &fs.PathError{Op: "open", Path: l.name, Err: err}
}

// take makes a container of the open file f.
func (l location) take(f fs.File, u *crypt.Unlocker) (container, error) {
	if bundle := l.around(); bundle != "" {
		return container{}, &FormatError{Section: "file", Msg: fmt.Sprintf("a part of a sparse bundle: open the bundle's directory instead, %s", bundle)}
	}
	info, err := f.Stat()
	if err != nil {
		return container{}, l.named(err)
	}
	if info.IsDir() {
		return l.openBundle(u)
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return container{}, fmt.Errorf("%w: %s: the file system's files (%T) are no io.ReaderAt: copy the file to where it can be read at any offset, or into memory, and use NewImage", ErrUnsupported, l.name, f)
	}
	c := container{r: r, size: info.Size(), location: l, closers: []io.Closer{f}}
	if s, ok := f.(io.Seeker); ok && !info.Mode().IsRegular() { // a block device has a size, but not there
		c.size, err = s.Seek(0, io.SeekEnd)
	}
	if err == nil && c.size < 0 {
		err = fmt.Errorf("size %d is negative", c.size)
	}
	if err != nil {
		return container{}, l.named(err)
	}
	return c, nil
}

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

// openBundle opens the sparse bundle that the directory is.
func (l location) openBundle(u *crypt.Unlocker) (container, error) {
	dir, root, err := l.bundle()
	if err != nil {
		return container{}, l.named(err)
	}
	b, err := sparse.OpenBundle(dir, func(token io.ReaderAt, size int64) (sparse.Decrypter, error) {
		c, err := u.Unlock(token, size)
		if err != nil {
			return nil, err
		}
		return func(r io.ReaderAt, size int64) sparse.Sized { return c.Reader(r, size) }, nil
	})
	if err != nil {
		root.Close()
		// To the caller this would say that there is nothing of that name.
		if path := (*fs.PathError)(nil); errors.Is(err, fs.ErrNotExist) && errors.As(err, &path) {
			err = &FormatError{Section: "directory", Msg: "no sparse bundle, because it lacks " + path.Path}
		}
		return container{}, wrapError(err)
	}
	c := container{size: b.Size(), location: l, closers: []io.Closer{root, b}}
	c.note(b.Defects())
	if b.Encrypted() {
		c.layers = append(c.layers, "encrypted")
	}
	c.layers = append(c.layers, "sparse bundle")
	c.disk, c.extents, c.format = b, b.Extents(), "UDSB"
	return c, nil
}

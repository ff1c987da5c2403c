package imagetest

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// countedFS counts the files that are open.
type countedFS struct {
	fs.FS
	open atomic.Int64
}

func (c *countedFS) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return &countedDir{f.(fs.ReadDirFile), c}, nil
	}
	return &countedFile{f, f.(io.ReaderAt), c}, nil
}

type countedFile struct {
	fs.File
	io.ReaderAt
	fs *countedFS
}

func (f *countedFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

type countedDir struct {
	fs.ReadDirFile
	fs *countedFS
}

func (d *countedDir) Close() error {
	d.fs.open.Add(-1)
	return d.ReadDirFile.Close()
}

// mapFS returns the files under a directory, in memory.
func mapFS(t *testing.T, dir string) fstest.MapFS {
	t.Helper()
	m := make(fstest.MapFS)
	fsys := os.DirFS(dir)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		m[name] = &fstest.MapFile{Data: data, Mode: 0o444}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Every kind of image opens from every kind of file system, at its root and below, and
// leaves no file open.
func TestOpenFS(t *testing.T) {
	for _, w := range wrappedImages {
		t.Run(w.name, func(t *testing.T) {
			disk, file := w.image(t)
			dir, base := filepath.Split(file)
			up, sub := filepath.Split(filepath.Clean(dir))
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			memory := mapFS(t, dir)
			for _, tt := range []struct {
				name string
				fsys fs.FS
				file string
			}{
				{"os.DirFS", os.DirFS(dir), base},
				{"os.DirFS above", os.DirFS(up), path.Join(sub, base)},
				{"os.Root", root.FS(), base},
				{"MapFS", memory, base},
			} {
				fsys := &countedFS{FS: tt.fsys}
				im, err := dmg.OpenFS(fsys, tt.file, &w.opts)
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
					continue
				}
				checkWrapped(t, im, &w)
				CheckDisk(t, im, int64(len(disk)), SumOf(disk))
				for range 2 {
					if err := im.Close(); err != nil {
						t.Errorf("%s: Close: %v", tt.name, err)
					}
				}
				// This fails after everything was opened.
				if _, err := dmg.OpenFS(fsys, tt.file, &dmg.Options{Password: w.opts.Password, MemoryLimit: -1}); err == nil {
					t.Errorf("%s: opens with a negative limit", tt.name)
				}
				if n := fsys.open.Load(); n != 0 {
					t.Errorf("%s: %d files are open", tt.name, n)
				}
			}
		})
	}
}

// A bundle may be the file system itself.
func TestOpenFSRoot(t *testing.T) {
	disk := thinDisk()
	dir := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: bandSize})
	for name, fsys := range map[string]fs.FS{"os.DirFS": os.DirFS(dir), "MapFS": mapFS(t, dir)} {
		im, err := dmg.OpenFS(fsys, ".", nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		CheckDisk(t, im, int64(len(disk)), SumOf(disk))
		im.Close()
	}
}

// zipped returns an archive that has the images of testdata.
func zipped(t *testing.T, method uint16) *zip.Reader {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.CreateHeader(&zip.FileHeader{Name: "images/good-zlib.dmg", Method: method})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../../testdata/good-zlib.dmg")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var errBare = errors.New("the tape is torn")

// brokenFS fails at a stage of opening, with an error that does not name the file.
type brokenFS struct {
	fstest.MapFS
	stage string
}

func (b brokenFS) Open(name string) (fs.File, error) {
	if b.stage == "open" {
		return nil, errBare
	}
	f, err := b.MapFS.Open(name)
	if err != nil {
		return nil, err
	}
	return brokenFile{f, f.(io.ReaderAt), b.stage}, nil
}

type brokenFile struct {
	fs.File
	io.ReaderAt
	stage string
}

func (b brokenFile) Stat() (fs.FileInfo, error) {
	if b.stage == "stat" {
		return nil, errBare
	}
	info, err := b.File.Stat()
	return sizedInfo{info, b.stage == "size"}, err
}

type sizedInfo struct {
	fs.FileInfo
	negative bool
}

func (s sizedInfo) Size() int64 {
	if s.negative {
		return -1
	}
	return s.FileInfo.Size()
}

// Every error of OpenFS says which file it is about, and keeps its cause.
func TestOpenFSErrors(t *testing.T) {
	dir := dmgtest.SparseBundle(t, bandDisk(), dmgtest.BundleOptions{BandSize: 4096})
	bundle := mapFS(t, filepath.Dir(dir))
	inside := filepath.Base(dir)
	image := fstest.MapFS{"a/x.dmg": {Data: dmgtest.Image(t, bandDisk(), dmgtest.Options{})}}
	first := fstest.MapFS{"a/x.dmg": {Data: segments(t, containerDisk(), inUDZO, 3)[0]}}
	broken := func(stage string) fs.FS { return brokenFS{image, stage} }
	for _, tt := range []struct {
		name string
		fsys fs.FS
		file string
		err  error
		say  []string
	}{
		{"slash", image, "/a/x.dmg", fs.ErrInvalid, []string{"/a/x.dmg"}},
		{"slash at the end", image, "a/", fs.ErrInvalid, []string{"a/"}},
		{"parent", image, "../x.dmg", fs.ErrInvalid, []string{"../x.dmg"}},
		{"dot", image, "./a/x.dmg", fs.ErrInvalid, []string{"./a/x.dmg"}},
		{"empty name", image, "", fs.ErrInvalid, []string{"open"}},
		{"not UTF-8", image, "im\xE4ge.dmg", fs.ErrInvalid, nil},
		{"none", image, "a/y.dmg", fs.ErrNotExist, []string{"a/y.dmg"}},
		{"directory", image, "a", dmg.ErrFormat, []string{"no sparse bundle", "Info.plist"}},
		{"root", image, ".", dmg.ErrFormat, []string{"no sparse bundle", "Info.plist"}},
		{"band", bundle, inside + "/bands/0", dmg.ErrFormat, []string{"a part of a sparse bundle", "instead, " + inside}},
		{"bands", bundle, inside + "/bands", dmg.ErrFormat, []string{"a part of a sparse bundle", "instead, " + inside}},
		{"band at the root", mapFS(t, dir), "bands/0", dmg.ErrFormat, []string{"a part of a sparse bundle", "instead, ."}},
		{"segment missing", first, "a/x.dmg", dmg.ErrFormat, []string{"a/x.002.dmgpart", "missing"}},
		{"deflated in a zip", zipped(t, zip.Deflate), "images/good-zlib.dmg", dmg.ErrUnsupported, []string{"images/good-zlib.dmg", "io.ReaderAt", "NewImage"}},
		{"stored in a zip", zipped(t, zip.Store), "images/good-zlib.dmg", dmg.ErrUnsupported, []string{"images/good-zlib.dmg", "io.ReaderAt", "NewImage"}},
		{"fails to open", broken("open"), "a/x.dmg", errBare, []string{"a/x.dmg"}},
		{"fails to say its size", broken("stat"), "a/x.dmg", errBare, []string{"a/x.dmg"}},
		{"negative size", broken("size"), "a/x.dmg", nil, []string{"a/x.dmg", "negative"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im, err := dmg.OpenFS(tt.fsys, tt.file, nil)
			if err == nil {
				im.Close()
				t.Fatal("it opens")
			}
			if tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
			for _, say := range tt.say {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%q, want %q in it", err, say)
				}
			}
		})
	}
}

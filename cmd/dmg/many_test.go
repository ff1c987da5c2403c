package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// manyEntries is a file system whose root has n pipes, and which notes how much memory is
// in use while they are listed.
type manyEntries struct {
	n    int
	most *uint64
}

func (f manyEntries) Open(name string) (fs.File, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &manyOpen{linkedOpen{rootInfo{}}, f, 0}, nil
}

type rootInfo struct{}

func (rootInfo) Name() string       { return "." }
func (rootInfo) Size() int64        { return 0 }
func (rootInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (rootInfo) ModTime() time.Time { return date }
func (rootInfo) IsDir() bool        { return true }
func (rootInfo) Sys() any           { return nil }

type manyOpen struct {
	linkedOpen
	fs manyEntries
	at int
}

func (f *manyOpen) ReadDir(n int) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	for ; f.at < f.fs.n && len(list) < n; f.at++ {
		if f.at%50_000 == 49_999 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			*f.fs.most = max(*f.fs.most, m.HeapAlloc)
		}
		list = append(list, fs.FileInfoToDirEntry(pipe(f.at)))
	}
	if len(list) == 0 {
		return nil, io.EOF
	}
	return list, nil
}

type pipe int

func (p pipe) Name() string       { return fmt.Sprint("pipe ", int(p)) }
func (p pipe) Size() int64        { return 0 }
func (p pipe) Mode() fs.FileMode  { return fs.ModeNamedPipe | 0o644 }
func (p pipe) ModTime() time.Time { return date }
func (p pipe) IsDir() bool        { return false }
func (p pipe) Sys() any           { return nil }

// TestManyEntries: a folder of 300,000 entries takes no more memory than a usual one.
func TestManyEntries(t *testing.T) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	for _, what := range []string{"ls", "cp"} {
		most := uint64(0)
		n := 300_000
		if dmgtest.Part() {
			n = 100_000
		}
		files := manyEntries{n, &most}
		std := &stdio{out: io.Discard, err: io.Discard}
		var err error
		if what == "ls" {
			err = (&lsCmd{Long: true}).list(std, files)
		} else {
			var dest destination
			if dest, err = newDestination(filepath.Join(t.TempDir(), "new"), "image.dmg", false); err == nil {
				err = (&cpCmd{Quiet: true}).copy(context.Background(), std, files, dest, []string{"."})
			}
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if used := int64(most) - int64(m.HeapAlloc); most == 0 || used > 16<<20 {
			t.Errorf("%s: %d bytes in use", what, used)
		}
	}
}

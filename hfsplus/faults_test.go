package hfsplus_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// readEverything lists, describes and reads all of a volume, and returns the first
// error that is none of the volume's own.
func readEverything(fsys *hfsplus.FS) (string, error) {
	var b strings.Builder
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %d\n", path, info.Mode(), info.Size())
		names, err := fsys.ListXattr(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			value, err := fsys.Xattr(path, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %x\n", name, value)
		}
		switch d.Type() {
		case fs.ModeSymlink:
			target, err := fsys.ReadLink(path)
			fmt.Fprintln(&b, target)
			return err
		case 0:
			data, err := fsys.ReadFile(path)
			fmt.Fprintf(&b, "%x\n", data)
			return err
		}
		return nil
	})
	return b.String(), err
}

// TestSourceFaults makes one read after the other fail. The error must be the
// source's, and the next try must succeed.
func TestSourceFaults(t *testing.T) {
	root, o := trapTree()
	o.Journal = hfsvol.FullJournal
	v := hfsvol.Write(root, o)
	size := int64(len(v.Image))
	fsys, err := hfsplus.New(bytes.NewReader(v.Image), size)
	if err != nil {
		t.Fatal(err)
	}
	want, err := readEverything(fsys)
	if err != nil || !strings.Contains(want, "alpha/beta/gamma/deep") {
		t.Fatalf("read %q, %v", want, err)
	}
	failing := errors.New("the network is down")
	ahead := 0
	for call := int64(1); ; call++ {
		r := &dmgtest.FailAt{R: bytes.NewReader(v.Image), Call: call, Err: failing}
		fsys, err := hfsplus.New(r, size)
		if err != nil {
			if !errors.Is(err, failing) || errors.Is(err, hfsplus.ErrFormat) {
				t.Fatalf("call %d: New: %v", call, err)
			}
			continue
		}
		got, err := readEverything(fsys)
		if r.Calls() < call { // none failed
			break
		}
		if err == nil {
			ahead++ // reading ahead failed, and that was not needed
			got, err = readEverything(fsys)
		} else if !errors.Is(err, failing) || errors.Is(err, hfsplus.ErrFormat) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("call %d: %v", call, err)
		} else {
			got, err = readEverything(fsys)
		}
		if err != nil || got != want {
			t.Errorf("call %d: after that: %d bytes, want %d; %v", call, len(got), len(want), err)
		}
	}
	if ahead > 10 {
		t.Errorf("%d errors were passed over", ahead)
	}
	_, err = hfsplus.New(dmgtest.Short{R: bytes.NewReader(v.Image), Max: 100}, size)
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, hfsplus.ErrFormat) {
		t.Errorf("short reads: %v", err)
	}
	fsys, err = hfsplus.New(dmgtest.EagerEOF{R: bytes.NewReader(v.Image), Size: size}, size)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readEverything(fsys); err != nil || got != want {
		t.Errorf("with io.EOF beside the last byte: %v", err)
	}
}

// TestDirectoryFault lists a folder on whose reading fails once, with an open file.
func TestDirectoryFault(t *testing.T) {
	root := hfsvol.Dir("Faults")
	for i := range 200 {
		root.Children = append(root.Children, hfsvol.File(fmt.Sprintf("%03d", i), nil))
	}
	v := hfsvol.Write(root, hfsvol.Options{MaxRecords: 3})
	failing := errors.New("failing")
	met := 0
	for call := int64(4); call < 30; call++ {
		r := &dmgtest.FailAt{R: bytes.NewReader(v.Image), Call: call, Err: failing}
		fsys, err := hfsplus.New(r, int64(len(v.Image)))
		if err != nil {
			continue
		}
		d, err := fsys.Open(".")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		failed := 0
		for {
			list, err := d.(fs.ReadDirFile).ReadDir(4)
			for _, e := range list {
				names = append(names, e.Name())
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				if failed++; !errors.Is(err, failing) {
					t.Error(err)
				}
			}
		}
		met += failed
		if failed > 1 || len(names) != 200 || names[0] != "000" || names[199] != "199" {
			t.Errorf("call %d: %d names, %d errors", call, len(names), failed)
		}
	}
	if met < 3 {
		t.Errorf("%d errors", met)
	}
}

// TestTogether reads volumes by 16 goroutines at once.
func TestTogether(t *testing.T) {
	dmgtest.NotEmulated(t)
	root, o := trapTree()
	v := hfsvol.Write(root, o)
	open := map[string]func() *hfsplus.FS{
		"written": func() *hfsplus.FS {
			fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
			if err != nil {
				t.Fatal(err)
			}
			return fsys
		},
	}
	if list, _ := filepath.Glob(samples + "fs/hfs*"); len(list) > 0 {
		for _, s := range allSamples(t) {
			if info, err := os.Stat(s.image); !dmgtest.Part() || err == nil && info.Size() < 250_000 {
				open[s.name()] = func() *hfsplus.FS { fsys, _ := s.open(t); return fsys }
			}
		}
	}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			want, err := readEverything(open())
			if err != nil {
				t.Fatal(err)
			}
			fsys := open()
			var wg sync.WaitGroup
			for range 16 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					if got, err := readEverything(fsys); err != nil || got != want {
						t.Errorf("%d bytes, want %d; %v", len(got), len(want), err)
					}
				}()
			}
			wg.Wait()
		})
	}
}

// TestReadsFew opens an image of 58 MB and reads a file of 5 KB among 800.
func TestReadsFew(t *testing.T) {
	dmgtest.NotEmulated(t)
	root := hfsvol.Dir("App", hfsvol.Dir("Test.app", hfsvol.Dir("Contents")))
	contents := root.Children[0].Children[0]
	r := dmgtest.Text(1, 58<<20)
	for i := range 20 {
		dir := hfsvol.Dir(fmt.Sprintf("dir%d", i))
		for j := range 40 {
			size, n := int64(73_000), int64(i*40+j)
			if n == 400 {
				size = 5000
			}
			data := make([]byte, size)
			if _, err := r.ReadAt(data, n*73_000); err != nil {
				t.Fatal(err)
			}
			dir.Children = append(dir.Children, hfsvol.File(fmt.Sprintf("file%d", n), data))
		}
		contents.Children = append(contents.Children, dir)
	}
	// The catalog begins a chunk: Apple's tools place it near the volume's start.
	const chunk = dmgtest.DefaultChunk * 512
	catalog := hfsvol.Write(root, hfsvol.Options{}).Catalog.Nodes[0]
	contents.Children = append(contents.Children, hfsvol.File("pad", make([]byte, chunk-catalog%chunk)))
	v := hfsvol.Write(root, hfsvol.Options{})
	image := dmgtest.Image(t, v.Image, dmgtest.Options{ChunkSectors: dmgtest.DefaultChunk})
	c := &dmgtest.Counter{R: bytes.NewReader(image)}
	im, err := dmg.NewImage(c, int64(len(image)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	fsys, err := hfsplus.New(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	data, err := fs.ReadFile(fsys, "Test.app/Contents/dir10/file400")
	if err != nil || len(data) != 5000 {
		t.Fatal(len(data), err)
	}
	t.Logf("%d calls, %d bytes of %d", c.Calls(), c.Bytes(), len(image))
	if c.Calls() > 6 || c.Bytes() > 400<<10 {
		t.Errorf("%d calls, %d bytes", c.Calls(), c.Bytes())
	}
}

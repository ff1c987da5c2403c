package hfsplus_test

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// pathOf is the path that the package has for one of hfsvol's.
func pathOf(path string) string {
	return strings.ReplaceAll(norm.NFC.String(path), `\`, "%u005C")
}

// TestWritten reads volumes such as Apple's tools could write, and no sample shows.
func TestWritten(t *testing.T) {
	for _, s := range hfsvol.Samples() {
		if s.Large && dmgtest.Slowed() {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			v := hfsvol.Write(s.Root, s.Options)
			fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			for path, e := range hfsvol.Walk(s.Root) {
				want = append(want, pathOf(path))
				compareEntry(t, fsys, pathOf(path), e)
			}
			err = fs.WalkDir(fsys, ".", func(path string, _ fs.DirEntry, err error) error {
				got = append(got, path)
				return err
			})
			slices.Sort(want)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%d paths, want %d; %v", len(got), len(want), err)
			}
			if !s.Large && len(v.Image) < 4<<20 {
				checkFS(t, fsys, slices.DeleteFunc(want, func(path string) bool { return path == "." })...)
			}
		})
	}
}

func compareEntry(t *testing.T, fsys *hfsplus.FS, path string, e *hfsvol.Entry) {
	info, err := fsys.Lstat(path)
	if err != nil {
		t.Error(err)
		return
	}
	st := info.Sys().(*hfsplus.Stat)
	if info.IsDir() != e.Dir || !e.Dir && info.Mode().Type()&^fs.ModeSymlink == 0 && info.Size() != int64(len(e.Content())) {
		t.Errorf("%q: %v, %d bytes, want %d", path, info.Mode(), info.Size(), len(e.Content()))
	}
	if path != "." && st.UID != e.Owner || st.Compressed != (e.Shown != nil) || st.ResourceFork != int64(len(e.Rsrc)) && !st.Compressed {
		t.Errorf("%q: %+v", path, st)
	}
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		if target, err := fsys.ReadLink(path); err != nil || target != string(e.Data) {
			t.Errorf("%q leads to %q, %v", path, target, err)
		}
	case info.Mode().IsRegular():
		if data, err := fsys.ReadFile(path); err != nil || !bytes.Equal(data, e.Content()) {
			t.Errorf("%q: %d bytes differ from the %d written: %v", path, len(data), len(e.Content()), err)
		}
	}
	for _, x := range e.Xattrs {
		value, err := fsys.Xattr(path, x.Name)
		if err != nil || !bytes.Equal(value, x.Data) {
			t.Errorf("%q, %s: %d bytes differ from the %d written: %v", path, x.Name, len(value), len(x.Data), err)
		}
	}
	if len(e.Rsrc) > 0 {
		value, err := fsys.Xattr(path, "com.apple.ResourceFork")
		if err != nil || !bytes.Equal(value, e.Rsrc) {
			t.Errorf("%q: resource fork of %d bytes differs from the %d written: %v", path, len(value), len(e.Rsrc), err)
		}
	}
}

package hfsplus_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// givenPath is a path as an FS gives it out.
func givenPath(path string) string {
	return norm.NFC.String(strings.ReplaceAll(path, "\\", "%u005C"))
}

// TestWritten reads all that hfsvol writes, also what no sample of Apple's has.
func TestWritten(t *testing.T) {
	dmgtest.NotRaced(t)
	all := hfsvol.Samples()
	if !dmgtest.Part() {
		all = append(all, hfsvol.Large())
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			v := hfsvol.Write(s.Root, s.Options)
			fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
			if err != nil {
				t.Fatal(err)
			}
			checkVolume(t, fsys, s, v)
			got, listed := make(map[string]bool), make(map[string]int)
			err = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
				got[path] = true
				listed[path]++
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			ids := make(map[uint64]*hfsvol.Entry)
			bad := 0
			for path, e := range hfsvol.Walk(s.Root) {
				path = givenPath(path)
				if !got[path] {
					t.Errorf("%q is not listed", path)
					bad++
				}
				delete(got, path)
				if !t.Run("", func(t *testing.T) { checkEntry(t, fsys, path, e, ids) }) {
					bad++
				}
				if bad > 10 {
					t.Fatal("and so on")
				}
			}
			for path := range got {
				t.Errorf("%q is listed, but was not written", path)
			}
			// TestFS opens all names, and so does not like links that lead nowhere.
			all := slices.DeleteFunc(slices.Sorted(maps.Keys(listed)), func(name string) bool { return name == "." })
			if len(all) < 1000 && listed["broken"] == 0 {
				if err := fstest.TestFS(fsys, all...); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func checkVolume(t *testing.T, fsys *hfsplus.FS, s hfsvol.Sample, v *hfsvol.Volume) {
	got := fsys.Volume()
	if want := s.Root.Name; got.Name != want || got.BlockSize != int64(v.BlockSize) || got.Blocks != int64(v.Blocks) {
		t.Errorf("volume is %+v, want %s, %d blocks of %d", got, want, v.Blocks, v.BlockSize)
	}
	o := s.Options
	if (got.Type == hfsplus.HFSX) != o.HFSX || got.CaseSensitive != (o.HFSX && !o.FoldedHFSX) || got.Wrapped != o.Wrapper || got.Clean == o.Dirty || got.Journaled != (o.Journal != 0) {
		t.Errorf("volume is %+v, written as %+v", got, o)
	}
	if dirty, err := fsys.Dirty(); err != nil || dirty != (o.Journal == hfsvol.FullJournal) {
		t.Errorf("Dirty: %v, %v", dirty, err)
	}
}

// checkEntry compares a file or folder with what was written.
func checkEntry(t *testing.T, fsys *hfsplus.FS, path string, e *hfsvol.Entry, ids map[uint64]*hfsvol.Entry) {
	info, err := fsys.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*hfsplus.Stat)
	if other := ids[st.ID]; st.ID != uint64(e.ID) || other != nil && other != e {
		t.Errorf("%q has id %d, want %d", path, st.ID, e.ID)
	}
	ids[st.ID] = e
	if info.IsDir() != e.Dir || st.UID != e.Owner || st.GID != e.Group || st.Flags&0xFF != uint32(e.OwnerFlags) || st.Rdev != e.Special {
		t.Errorf("%q is %v, %+v", path, info, st)
	}
	at := int64(e.Time)
	if at == 0 {
		at = hfsvol.Time
	}
	if got := info.ModTime().Unix() + 2082844800; got != at+1 {
		t.Errorf("%q was modified at %d, want %d", path, got, at+1)
	}
	if e.Mode != 0 && info.Mode().Perm() != fs.FileMode(e.Mode&0o777) {
		t.Errorf("%q has mode %v, want %o", path, info.Mode(), e.Mode)
	}
	checkXattrs(t, fsys, path, e)
	switch {
	case e.Dir:
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err := fsys.ReadLink(path); err != nil || target != string(e.Data) || e.Type != "slnk" {
			t.Errorf("%q leads to %q, %v; want %q", path, target, err, e.Data)
		}
	default:
		want := e.Content()
		got, err := fsys.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) || info.Size() != int64(len(want)) {
			t.Fatalf("%q: %d bytes, %v; want %d, %d by Stat", path, len(got), err, len(want), info.Size())
		}
		checkReads(t, fsys, path, want)
	}
}

// checkReads reads here and there.
func checkReads(t *testing.T, fsys *hfsplus.FS, path string, want []byte) {
	f, err := fsys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rnd := rand.New(rand.NewPCG(1, uint64(len(want))))
	for range 20 {
		off := rnd.IntN(len(want) + 1)
		p := make([]byte, rnd.IntN(min(len(want)-off, 5000)+1))
		n, err := f.(io.ReaderAt).ReadAt(p, int64(off))
		if n != len(p) || err != nil || !bytes.Equal(p, want[off:off+n]) {
			t.Fatalf("%q: %d bytes at %d: %d, %v", path, len(p), off, n, err)
		}
	}
}

func checkXattrs(t *testing.T, fsys *hfsplus.FS, path string, e *hfsvol.Entry) {
	want := make(map[string][]byte)
	for _, x := range e.Xattrs {
		if x.Name != "com.apple.decmpfs" || e.Shown == nil {
			want[x.Name] = x.Data
		}
	}
	if len(e.Rsrc) > 0 && e.Shown == nil {
		want["com.apple.ResourceFork"] = e.Rsrc
	}
	names, err := fsys.ListXattr(path)
	if err != nil {
		t.Fatalf("%q: %v", path, err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "com.apple.FinderInfo" })
	if len(names) != len(want) {
		t.Errorf("%q has attributes %q, want %d", path, names, len(want))
	}
	for _, name := range names {
		value, err := fsys.Xattr(path, name)
		if w, found := want[name]; !found || err != nil || !bytes.Equal(value, w) {
			t.Errorf("%q: attribute %q has %d bytes, %v; want %d", path, name, len(value), err, len(w))
		}
	}
	if _, err := fsys.Xattr(path, "com.example.not.there"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q: an attribute that isn't there: %v", path, err)
	}
}

// TestWrittenLookup finds names by every spelling that the volume takes for them,
// and no others.
func TestWrittenLookup(t *testing.T) {
	all := hfsvol.Samples()
	for _, tt := range []struct {
		sample, name string
		found        string // content, "" if there is none
	}{
		{"folding", "readme", "1"}, {"folding", "README", "1"}, {"folding", "readme ", ""},
		{"folding", "σαν", "5"}, {"folding", "ΣΑΝ", "5"}, {"folding", "ПРИВЕТ", "6"}, {"folding", "æTHER", "7"},
		{"folding", "ⴀ", ""}, {"folding", "ა", "9"}, {"folding", "ABC", "10"}, {"folding", "\u200cabc", "10"},
		{"folding", "ij", ""}, {"folding", "alph", ""}, {"folding", "alphaa", ""},
		{"hfsx-folded", "rEADME", "1"}, {"hfsx-folded", "a\u200db\u200dc", "10"},
		{"hfsx", "Readme", "1"}, {"hfsx", "README", "a"}, {"hfsx", "readme", "b"}, {"hfsx", "rEADME", ""},
		{"hfsx", "abc", "d"}, {"hfsx", "ab\u200dc", "10"}, {"hfsx", "ABC", ""},
		{"names", "été", "4"}, {"names", "e\u0301te\u0301", "4"}, {"names", "ÉTÉ", "4"}, {"names", "Å", "5"}, {"names", "\u212b", ""},
		{"names", "한", "6"}, {"names", "forward:slash", "1"}, {"names", "FORWARD:SLASH", "1"}, {"names", "a:b/c:d", "12"},
		{"names", strings.Repeat("N", 255), "8"}, {"names", strings.Repeat("n", 256), ""}, {"names", "-RF", "14"},
	} {
		t.Run(fmt.Sprintf("%s/%.20q", tt.sample, tt.name), func(t *testing.T) {
			s := all[slices.IndexFunc(all, func(s hfsvol.Sample) bool { return s.Name == tt.sample })]
			v := hfsvol.Write(s.Root, s.Options)
			fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := fsys.ReadFile(tt.name)
			if string(got) != tt.found || (tt.found == "") != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %q, %v; want %q", got, err, tt.found)
			}
		})
	}
}

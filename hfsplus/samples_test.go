package hfsplus_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

const samples = "../../shared/samples/"

// disk opens an image, or unpacks a disk.
func (s sample) disk(t testing.TB) (io.ReaderAt, int64) {
	if !strings.HasSuffix(s.image, ".gz") {
		im, err := dmg.Open(s.image, &dmg.Options{Password: s.password})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { im.Close() })
		return im, im.Size()
	}
	data := dmgtest.Unpack(t, s.image)
	return bytes.NewReader(data), int64(len(data))
}

// open opens the volume of the manifest.
func (s sample) open(t testing.TB) (*hfsplus.FS, *dmgtest.VolumeManifest) {
	m := dmgtest.ReadVolumeManifest(t, s.tsv)
	r, size := s.disk(t)
	fsys, err := hfsplus.New(io.NewSectionReader(r, m.Offset, size-m.Offset), size-m.Offset)
	if err != nil {
		t.Fatal(err)
	}
	return fsys, m
}

// A sample is an image with its password, and the manifest of its volume.
type sample struct{ image, password, tsv string }

func (s sample) name() string { return filepath.Base(s.image) }

// allSamples returns all images that have a manifest.
func allSamples(t testing.TB) []sample {
	var found []sample
	images, _ := filepath.Glob(samples + "fs/hfs*")
	for _, image := range images {
		if base, ok := strings.CutSuffix(image, ".dmg"); ok {
			found = append(found, sample{image: image, tsv: base})
		}
		if base, ok := strings.CutSuffix(image, ".img.gz"); ok {
			found = append(found, sample{image: image, tsv: base})
		}
	}
	others, _ := filepath.Glob(samples + "fs/others/*.tsv")
	for _, tsv := range others {
		base, isXattrs := strings.CutSuffix(tsv, ".xattrs.tsv")
		if isXattrs {
			continue
		}
		base = strings.TrimSuffix(base, ".tsv")
		dir, name, _ := strings.Cut(filepath.Base(base), "-")
		s := findImage(t, dir, name)
		s.tsv = base
		found = append(found, s)
	}
	if len(others) == 0 {
		t.Skip("no samples")
	}
	return found
}

func findImage(t testing.TB, dir, name string) sample {
	list, err := os.ReadFile(samples + "MANIFEST.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(list), "\n") {
		f := strings.Split(line, "\t")
		if base := filepath.Base(f[0]); strings.HasPrefix(f[0], dir+"/") && strings.TrimSuffix(base, filepath.Ext(base)) == name {
			return sample{image: samples + f[0], password: strings.TrimPrefix(f[1], "-")}
		}
	}
	t.Fatalf("no image %s/%s", dir, name)
	return sample{}
}

// given is a manifest's path as the package gives it out.
func given(path string) string {
	return strings.ReplaceAll(norm.NFC.String(path), "\x00", "%u0000")
}

// TestSamples compares all volumes with their manifests.
func TestSamples(t *testing.T) {
	for _, s := range allSamples(t) {
		t.Run(s.name(), func(t *testing.T) {
			t.Parallel()
			fsys, m := s.open(t)
			compareVolume(t, fsys, m)
			compareFiles(t, fsys, m)
			compareXattrs(t, fsys, m)
		})
	}
}

func compareVolume(t *testing.T, fsys *hfsplus.FS, m *dmgtest.VolumeManifest) {
	v := fsys.Volume()
	kind := string(v.Type)
	if v.Wrapped {
		kind += " in an HFS wrapper"
	}
	if v.Type != hfsplus.HFS {
		kind += map[bool]string{true: " case-sensitive", false: " case-insensitive"}[v.CaseSensitive]
	}
	if v.Journaled {
		kind += " journaled"
	}
	dirty, err := fsys.Dirty()
	if err != nil {
		t.Error(err)
	}
	if dirty {
		kind += " dirty"
	}
	want := fmt.Sprintf("%s block %d, ", kind, v.BlockSize)
	counts := fmt.Sprintf(", %d files %d folders, volume '%s'", v.Files, v.Folders, v.Name)
	if !strings.HasPrefix(m.About, want) || !strings.HasSuffix(m.About, counts) {
		t.Errorf("the volume is\n%q…%q, the manifest says\n%q", want, counts, m.About)
	}
	if v.Created.Year() < 2000 || v.Modified.Year() < 2000 || v.Blocks == 0 || v.Free > v.Blocks {
		t.Errorf("%+v", v)
	}
}

// compareFiles compares everything that is listed with the manifest, and the reverse.
func compareFiles(t *testing.T, fsys *hfsplus.FS, m *dmgtest.VolumeManifest) {
	found := map[string]fs.DirEntry{}
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
		}
		found[path] = d
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	ids := map[string]uint64{} // of hard links, by what they lead to
	for _, row := range m.Files {
		path := given(row.Path)
		d, info := found[path], fs.FileInfo(nil)
		delete(found, path)
		if row.Hidden() {
			if d != nil {
				t.Errorf("%q is listed", path)
			}
			if _, err := fsys.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q is hidden: %v", path, err)
			}
			continue
		}
		if d == nil {
			t.Errorf("%q is not listed", path)
			continue
		}
		info, err := d.Info()
		if err != nil {
			t.Error(err)
			continue
		}
		compareInfo(t, fsys, path, row, info, ids)
		compareContent(t, fsys, path, row)
		// As it is stored, and in another case.
		stored, err := fsys.Lstat(strings.ReplaceAll(row.Path, "\x00", "%u0000"))
		if err != nil || stored.Sys().(*hfsplus.Stat).ID != info.Sys().(*hfsplus.Stat).ID {
			t.Errorf("Lstat(%q): %v, %v", row.Path, stored, err)
		}
		upper := asciiUpper(path)
		if _, err = fsys.Lstat(upper); (err == nil) == fsys.Volume().CaseSensitive && upper != path {
			t.Errorf("Lstat(%q): %v", upper, err)
		}
	}
	for path := range found {
		t.Errorf("%q is listed, and not in the manifest", path)
	}
}

func asciiUpper(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}

func compareInfo(t *testing.T, fsys *hfsplus.FS, path string, row dmgtest.VolumeFile, info fs.FileInfo, ids map[string]uint64) {
	st := info.Sys().(*hfsplus.Stat)
	want := fs.FileMode(0)
	switch row.Type {
	case "dir":
		want = fs.ModeDir
	case "symlink":
		want = fs.ModeSymlink
	}
	if info.Mode().Type() != want {
		t.Errorf("%q: %v, want a %s", path, info.Mode(), row.Type)
	}
	if row.Mode == "-" { // HFS has none
		row.Mode = map[string]string{"dir": "040755", "file": "0100644"}[row.Type]
	}
	if mode, err := strconv.ParseUint(row.Mode, 8, 32); err != nil || mode != 0 && uint64(info.Mode().Perm()) != mode&0o777 {
		t.Errorf("%q: %v, want %s", path, info.Mode(), row.Mode)
	}
	for bit, set := range map[uint64]fs.FileMode{0o1000: fs.ModeSticky, 0o2000: fs.ModeSetgid, 0o4000: fs.ModeSetuid} {
		if mode, _ := strconv.ParseUint(row.Mode, 8, 32); (mode&bit != 0) != (info.Mode()&set != 0) {
			t.Errorf("%q: %v, want %s", path, info.Mode(), row.Mode)
		}
	}
	if !info.IsDir() && info.Size() != row.Size {
		t.Errorf("%q: %d bytes, want %d", path, info.Size(), row.Size)
	}
	if mtime := info.ModTime().Format(time.RFC3339); mtime != row.Time || !st.Modified.Equal(info.ModTime()) {
		t.Errorf("%q: %s, want %s", path, mtime, row.Time)
	}
	if row.Type == "symlink" {
		if target, err := fsys.ReadLink(path); err != nil || target != row.Target {
			t.Errorf("%q leads to %q, want %q; %v", path, target, row.Target, err)
		}
	}
	if st.Compressed != row.Compressed() {
		t.Errorf("%q: compressed %v: %s", path, st.Compressed, row.Notes)
	}
	if row.Rsrc >= 0 && row.Rsrc != st.ResourceFork && !st.Compressed {
		t.Errorf("%q: resource fork of %d bytes, want %d", path, st.ResourceFork, row.Rsrc)
	}
	if row.Type != "hardlink" {
		if st.Links != 1 && row.Type != "dir" {
			t.Errorf("%q has %d links", path, st.Links)
		}
		return
	}
	inode, links, _ := strings.Cut(row.Notes, ", ")
	if n, _ := strconv.Atoi(strings.Fields(links)[0]); st.Links != uint32(n) {
		t.Errorf("%q has %d links: %s", path, st.Links, row.Notes)
	}
	if id, ok := ids[inode]; ok && id != st.ID {
		t.Errorf("%q is file %d and %d", path, id, st.ID)
	}
	ids[inode] = st.ID
}

func compareContent(t *testing.T, fsys *hfsplus.FS, path string, row dmgtest.VolumeFile) {
	if row.Type != "file" && row.Type != "hardlink" {
		return
	}
	data, err := fsys.ReadFile(path)
	if sum := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || sum != row.Sum {
		t.Errorf("%q: SHA-256 %s, want %s; %v", path, sum, row.Sum, err)
	}
}

func compareXattrs(t *testing.T, fsys *hfsplus.FS, m *dmgtest.VolumeManifest) {
	for _, row := range m.Files {
		if row.Hidden() {
			continue
		}
		path, want := given(row.Path), []string{}
		st := stat(t, fsys, path)
		for _, x := range m.Xattrs[row.Path] {
			name := x.Name
			value, err := fsys.Xattr(path, name)
			if sum := fmt.Sprintf("%x", sha256.Sum256(value)); err != nil || int64(len(value)) != x.Size || sum != x.Sum {
				t.Errorf("%q, %s: %d bytes of SHA-256 %s, want %d of %s; %v", path, name, len(value), sum, x.Size, x.Sum, err)
			}
			hidden := strings.HasPrefix(name, "com.apple.system.") || st.Compressed && (name == "com.apple.decmpfs" || name == "com.apple.ResourceFork")
			if !hidden {
				want = append(want, name)
			}
		}
		names, err := fsys.ListXattr(path)
		if err != nil {
			t.Error(err)
		}
		if i := slices.Index(names, "com.apple.FinderInfo"); i >= 0 {
			names = slices.Delete(names, i, i+1)
			value, err := fsys.Xattr(path, "com.apple.FinderInfo")
			if err != nil || !bytes.Equal(value, st.FinderInfo[:]) {
				t.Errorf("%q: Finder info %x, %v", path, value, err)
			}
		} else if strings.Contains(row.Notes, "FinderInfo") {
			t.Errorf("%q has no Finder info: %v", path, st.FinderInfo)
		}
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%q has the attributes %q, want %q", path, names, want)
		}
		if _, err := fsys.Xattr(path, "com.apple.nothing"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: an attribute that isn't there: %v", path, err)
		}
	}
}

func stat(t *testing.T, fsys *hfsplus.FS, path string) *hfsplus.Stat {
	t.Helper()
	info, err := fsys.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*hfsplus.Stat)
}

// TestFSTest runs the test of io/fs over all volumes. It reads every file byte by
// byte, so that large ones take seconds.
func TestFSTest(t *testing.T) {
	for _, s := range allSamples(t) {
		if info, err := os.Stat(s.image); dmgtest.Part() && (err != nil || info.Size() > 250_000 && info.Mode().IsRegular()) {
			continue
		}
		t.Run(s.name(), func(t *testing.T) {
			t.Parallel()
			fsys, m := s.open(t)
			var paths []string
			for _, row := range m.Files {
				if row.Path != "." && !row.Hidden() {
					paths = append(paths, given(row.Path))
				}
			}
			checkFS(t, fsys, paths...)
		})
	}
}

// checkFS runs fstest.TestFS, which expects of any file system that all symbolic
// links can be opened. A link to /Applications leads nowhere, or to itself.
func checkFS(t *testing.T, fsys *hfsplus.FS, paths ...string) {
	err := fstest.TestFS(fsys, paths...)
	if err == nil {
		return
	}
	list, ok := errors.Unwrap(err).(interface{ Unwrap() []error })
	if !ok {
		t.Fatal(err)
	}
	for _, err := range list.Unwrap() {
		var pe *fs.PathError
		if errors.As(err, &pe) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, hfsplus.ErrLoop)) {
			if info, err := fsys.Lstat(pe.Path); err == nil && info.Mode().Type() == fs.ModeSymlink {
				continue
			}
		}
		t.Error(err)
	}
}

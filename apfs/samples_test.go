package apfs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

const samples = "../../shared/samples/fs"

// samplePassword opens apfs-encrypted.
const samplePassword = "hunter2hunter2"

// sampleNames lists the APFS images that Apple's tools wrote.
func sampleNames(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(samples, "apfs-*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range all {
		if strings.HasSuffix(name, ".dmg") || strings.HasSuffix(name, ".img.gz") {
			names = append(names, filepath.Base(name))
		}
	}
	if len(names) == 0 {
		t.Skip("no samples")
	}
	if len(names) < 10 {
		t.Fatalf("%d samples", len(names))
	}
	return names
}

// sampleDisk returns the container in a sample. The manifest says where in the disk it is.
func sampleDisk(t testing.TB, name string) *io.SectionReader {
	t.Helper()
	at, file := readManifest(t, name).Offset, filepath.Join(samples, name)
	if !strings.HasSuffix(name, ".gz") {
		im, err := dmg.Open(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { im.Close() })
		return io.NewSectionReader(im, at, im.Size()-at)
	}
	data := dmgtest.Unpack(t, file)
	return io.NewSectionReader(bytes.NewReader(data), at, int64(len(data))-at)
}

// readManifest returns the manifest of a sample, or of a snapshot in it: NAME.dmg.snapXID.
func readManifest(t testing.TB, name string) *dmgtest.VolumeManifest {
	t.Helper()
	name = strings.NewReplacer(".dmg", "", ".img.gz", "").Replace(name)
	return dmgtest.ReadVolumeManifest(t, filepath.Join(samples, name))
}

func sampleVolume(t testing.TB, name string) *apfs.Volume {
	t.Helper()
	d := sampleDisk(t, name)
	c, err := apfs.New(d, d.Size(), &apfs.Options{Password: samplePassword})
	if err != nil {
		t.Fatal(err)
	}
	volumes, err := c.Volumes()
	if err != nil || len(volumes) != 1 {
		t.Fatalf("%d volumes, %v", len(volumes), err)
	}
	return volumes[0]
}

func sampleFS(t testing.TB, name string) *apfs.FS {
	t.Helper()
	fsys, err := sampleVolume(t, name).FS()
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

func TestSamples(t *testing.T) {
	for _, name := range sampleNames(t) {
		t.Run(name, func(t *testing.T) {
			v := sampleVolume(t, name)
			manifest := readManifest(t, name)
			checkVolume(t, v, manifest)
			fsys, err := v.FS()
			if err != nil {
				t.Fatal(err)
			}
			checkFiles(t, fsys, manifest)
			checkXattrs(t, fsys, manifest)
		})
	}
}

// checkVolume compares a volume with the manifest's comment.
func checkVolume(t *testing.T, v *apfs.Volume, manifest *dmgtest.VolumeManifest) {
	t.Helper()
	var files, dirs, links, snapshots int
	_, rest, _ := strings.Cut(manifest.About, "; volume ")
	name, rest, _ := strings.Cut(rest, ", ")
	compare, rest, _ := strings.Cut(rest, ", ")
	_, counts, _ := strings.Cut(rest, ", flags ")
	_, counts, _ = strings.Cut(counts, ", ")
	if _, err := fmt.Sscanf(counts, "%d files %d dirs %d symlinks %d snapshots", &files, &dirs, &links, &snapshots); err != nil {
		t.Fatalf("%q: %v", counts, err)
	}
	list, err := v.Snapshots()
	if err != nil || len(list) != snapshots {
		t.Errorf("%d snapshots, %v, want %d", len(list), err, snapshots)
	}
	if "'"+v.Name+"'" != name || v.CaseSensitive != (compare != "case-insensitive") || v.Role != "" || v.Sealed ||
		v.Files != uint64(files) || v.Folders != uint64(dirs) || v.Symlinks != uint64(links) || v.Others != 0 {
		t.Errorf("volume %s, case-sensitive %t, role %q, %d files, %d folders, %d symlinks; want %s, %s, %s", v.Name, v.CaseSensitive, v.Role, v.Files, v.Folders, v.Symlinks, name, compare, counts)
	}
}

// checkFiles compares all files with a manifest.
func checkFiles(t *testing.T, fsys *apfs.FS, manifest *dmgtest.VolumeManifest) {
	t.Helper()
	want := make(map[string]bool)
	for _, row := range manifest.Files {
		p := norm.NFC.String(row.Path)
		want[p] = true
		checkFile(t, fsys, p, row)
	}
	if len(want) < 2 {
		t.Fatalf("manifest of %d rows", len(want))
	}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !want[p] {
			t.Errorf("%s is not in the manifest", p)
		}
		delete(want, p)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("walk: %v, missing %v", err, want)
	}
}

func checkFile(t *testing.T, fsys *apfs.FS, p string, row dmgtest.VolumeFile) {
	t.Helper()
	info, err := fsys.Lstat(p)
	if err != nil {
		t.Errorf("%s: %v", p, err)
		return
	}
	mode, err := strconv.ParseUint(row.Mode, 8, 16)
	if err != nil {
		t.Fatal(err)
	}
	types := map[uint64]fs.FileMode{0o04: fs.ModeDir, 0o10: 0, 0o12: fs.ModeSymlink}
	if got := info.Mode(); got.Type() != types[mode>>12] || uint64(got.Perm()) != mode&0o777 {
		t.Errorf("%s: mode %v, want %s", p, got, row.Mode)
	}
	if want, err := time.Parse(time.RFC3339Nano, row.Time); err != nil || !info.ModTime().Equal(want) {
		t.Errorf("%s: modified %s, want %s", p, info.ModTime(), row.Time)
	}
	st := info.Sys().(*apfs.Stat)
	if row.Compressed() != st.Compressed {
		t.Errorf("%s: compressed: %t", p, st.Compressed)
	} else if row.Rsrc >= 0 && !st.Compressed && st.ResourceFork != row.Rsrc {
		t.Errorf("%s: resource fork of %d bytes, want %d", p, st.ResourceFork, row.Rsrc)
	}
	if (row.Type == "hardlink") != (st.Links > 1) {
		t.Errorf("%s: %d links", p, st.Links)
	}
	if info.IsDir() {
		return
	}
	if info.Size() != row.Size {
		t.Errorf("%s: %d bytes, want %d", p, info.Size(), row.Size)
	}
	if row.Type == "symlink" {
		if target, err := fsys.ReadLink(p); err != nil || target != row.Target {
			t.Errorf("%s: target %q, %v, want %q", p, target, err, row.Target)
		}
		return
	}
	data, err := fsys.ReadFile(p)
	if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != row.Sum {
		t.Errorf("%s: %d bytes of sum %x, %v", p, len(data), sum, err)
	}
}

// checkXattrs compares all attributes with a manifest, and those that are listed with what
// macOS shows.
func checkXattrs(t *testing.T, fsys *apfs.FS, manifest *dmgtest.VolumeManifest) {
	t.Helper()
	listed := make(map[string][]string)
	for stored, list := range manifest.Xattrs {
		p := norm.NFC.String(stored)
		info, err := fsys.Lstat(p)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, x := range list {
			data, err := fsys.Xattr(p, x.Name)
			if sum := sha256.Sum256(data); err != nil || hex.EncodeToString(sum[:]) != x.Sum || int64(len(data)) != x.Size {
				t.Errorf("%s: attribute %s: %d bytes, %v", p, x.Name, len(data), err)
			}
			hidden := info.Sys().(*apfs.Stat).Compressed && (x.Name == "com.apple.decmpfs" || x.Name == "com.apple.ResourceFork")
			if !hidden && x.Name != "com.apple.fs.symlink" && x.Name != "com.apple.system.Security" {
				listed[p] = append(listed[p], x.Name)
			}
		}
	}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		got, err := fsys.ListXattr(p)
		slices.Sort(listed[p])
		if err != nil || !slices.Equal(got, listed[p]) {
			t.Errorf("%s: attributes %v, %v, want %v", p, got, err, listed[p])
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSampleSnapshots(t *testing.T) {
	sampleNames(t)
	const name = "apfs-snapshots.dmg"
	list, err := sampleVolume(t, name).Snapshots()
	if err != nil || len(list) != 2 {
		t.Fatalf("%d snapshots, %v", len(list), err)
	}
	for _, s := range list {
		t.Run(fmt.Sprint(s.XID), func(t *testing.T) {
			base := fmt.Sprintf("%s.snap%d", name, s.XID)
			manifest := readManifest(t, base)
			want := fmt.Sprintf("snapshot '%s' of xid %d, made %s;", s.Name, s.XID, s.Created.Format(time.RFC3339Nano))
			if !strings.HasPrefix(manifest.About, want) {
				t.Errorf("%s, want %.150s", want, manifest.About)
			}
			fsys, err := s.FS()
			if err != nil {
				t.Fatal(err)
			}
			checkFiles(t, fsys, manifest)
			checkXattrs(t, fsys, manifest)
			checkFS(t, fsys, "foo.txt", ".DS_Store")
		})
	}
}

func TestSamplesFS(t *testing.T) {
	names := sampleNames(t)
	if dmgtest.Part() {
		names = []string{"apfs-tree.dmg", "apfs-rsrc.img.gz", "apfs-case-sensitive.dmg"}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			var files []string
			for _, row := range readManifest(t, name).Files {
				if row.Path != "." {
					files = append(files, norm.NFC.String(row.Path))
				}
			}
			checkFS(t, sampleFS(t, name), files...)
		})
	}
}

// checkFS runs fstest.TestFS, which complains of links that lead out of the volume: these
// can't be opened.
func checkFS(t *testing.T, fsys *apfs.FS, files ...string) {
	t.Helper()
	err := fstest.TestFS(fsys, files...)
	var list interface{ Unwrap() []error }
	if errors.As(err, &list) {
		for _, err := range list.Unwrap() {
			var e *fs.PathError
			if errors.As(err, &e) {
				if target, _ := fsys.ReadLink(e.Path); strings.HasPrefix(target, "/") && e.Op == "open" {
					continue
				}
			}
			t.Error(err)
		}
		return
	}
	if err != nil {
		t.Error(err)
	}
}

func TestSamplePassword(t *testing.T) {
	sampleNames(t)
	d := sampleDisk(t, "apfs-encrypted.img.gz")
	for _, tt := range []struct {
		password string
		want     error
	}{{"", apfs.ErrNoPassword}, {"hunter2hunter3", apfs.ErrWrongPassword}, {samplePassword, nil}} {
		c, err := apfs.New(d, d.Size(), &apfs.Options{Password: tt.password})
		if err != nil {
			t.Fatal(err)
		}
		volumes, err := c.Volumes()
		if err != nil || len(volumes) != 1 || !volumes[0].Encrypted {
			t.Fatalf("%v, %v", volumes, err)
		}
		if _, err := volumes[0].FS(); !errors.Is(err, tt.want) || errors.Is(err, apfs.ErrPassword) != (tt.want != nil) {
			t.Errorf("with password %q: %v, want %v", tt.password, err, tt.want)
		}
	}
}

// What sixteen goroutines read is what one reads.
func TestSamplesAtOnce(t *testing.T) {
	dmgtest.NotEmulated(t)
	for _, name := range []string{"apfs-app.dmg", "apfs-encrypted.img.gz"} {
		t.Run(name, func(t *testing.T) {
			sampleNames(t)
			fsys := sampleFS(t, name)
			want := digest(t, fsys)
			var wg sync.WaitGroup
			fsys = sampleFS(t, name)
			for range 16 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					if got := digest(t, fsys); got != want {
						t.Errorf("digest %s, want %s", got, want)
					}
				}()
			}
			wg.Wait()
		})
	}
}

// digest sums all that a volume has.
func digest(t *testing.T, fsys fs.FS) string {
	h := sha256.New()
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(h, p, fs.FormatFileInfo(info))
		if d.Type().IsRegular() {
			f, err := fsys.Open(p)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

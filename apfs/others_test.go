package apfs_test

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/internal/apfstest"
)

// tool skips the test where a program is missing.
func tool(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/sbin/", "/usr/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	t.Skip("no " + name)
	return ""
}

// The checker of apfsprogs accepts what this project's writer makes, so that tests don't
// prove that reader and writer share their mistakes.
func TestApfsck(t *testing.T) {
	apfsck := tool(t, "apfsck")
	for _, w := range containers() {
		if w.apfsck == "-" {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "container")
			if err := w.container.Write().WriteFile(name); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(apfsck, "-u", name).CombinedOutput()
			if w.apfsck != "" {
				if want := w.apfsck + ": not supported.\n"; string(out) != want {
					t.Errorf("%v: %s, want %s", err, out, want)
				}
			} else if err != nil || len(out) > 0 {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// mkapfs of apfsprogs makes empty containers.
func TestMkapfs(t *testing.T) {
	mkapfs := tool(t, "mkapfs")
	for _, tt := range []struct {
		args      []string
		sensitive bool
		name      string
	}{
		{[]string{"-L", "Label", "-U", "00112233-4455-6677-8899-aabbccddeeff"}, false, "Label"},
		{[]string{"-s"}, true, "untitled"},
	} {
		name := filepath.Join(t.TempDir(), "container")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, 1<<30); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(mkapfs, append(tt.args, name)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c, err := apfs.New(f, 1<<30, nil)
		if err != nil {
			t.Fatal(err)
		}
		if id := hex.EncodeToString(c.UUID[:]); !tt.sensitive && id != "00112233445566778899aabbccddeeff" {
			t.Errorf("UUID %s", id)
		}
		list, err := c.Volumes()
		if err != nil || len(list) != 1 {
			t.Fatalf("%d volumes, %v", len(list), err)
		}
		if v := list[0]; v.Name != tt.name || v.CaseSensitive != tt.sensitive || v.Files != 0 {
			t.Errorf("volume %q, case-sensitive %t, %d files", v.Name, v.CaseSensitive, v.Files)
		}
		fsys, err := list[0].FS()
		if err != nil {
			t.Fatal(err)
		}
		checkFS(t, fsys)
		if list, err := fsys.ReadDir("."); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
	}
}

// TestSevenZip compares with 7-Zip, another reader. The containers have none of what it is
// known to get wrong: it reports clones as an unsupported feature, reads block 0 for holes,
// and takes the oldest version of each object, so that it shows the state of the oldest
// snapshot.
func TestSevenZip(t *testing.T) {
	sevenZip := tool(t, "7zz")
	for _, name := range []string{"plain", "case-sensitive", "many files", "deep trees", "sealed", "sealed, deep"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := find(t, name)
			for _, f := range w.container.Volumes[0].Root {
				f.Holes, f.CloneOf = nil, nil
			}
			d := w.container.Write()
			fsys, err := open(t, d, "")[0].FS()
			if err != nil {
				t.Fatal(err)
			}
			out := sevenZipFiles(t, sevenZip, d)
			if n := compareSevenZip(t, fsys, out); n < 15 {
				t.Errorf("%d files", n)
			}
		})
	}
}

// What 7-Zip gets wrong is right here: this says that both look at the same thing.
func TestSevenZipDiffers(t *testing.T) {
	sevenZip := tool(t, "7zz")
	for name, differ := range map[string]string{"plain": "sparse", "snapshots": "changed"} {
		w := find(t, name)
		d := w.container.Write()
		fsys, err := open(t, d, "")[0].FS()
		if err != nil {
			t.Fatal(err)
		}
		out := sevenZipFiles(t, sevenZip, d)
		theirs, err := os.ReadFile(filepath.Join(out, differ))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := fsys.ReadFile(differ)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case string(theirs) == string(ours):
			t.Logf("7-Zip reads %q of %q as it should by now", differ, name)
		case name == "plain":
			if !bytes.Equal(theirs[16384:16384+4096], d.Bytes()[:4096]) {
				t.Error("7-Zip has something else than block 0 in a hole")
			}
		case string(theirs) != "first":
			t.Errorf("7-Zip has %q", theirs)
		}
	}
}

// sevenZipFiles extracts a container.
func sevenZipFiles(t *testing.T, sevenZip string, d *apfstest.Disk) string {
	t.Helper()
	dir := t.TempDir()
	image, out := filepath.Join(dir, "container.apfs"), filepath.Join(dir, "out")
	if err := d.WriteFile(image); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(sevenZip, "x", "-tAPFS", "-snld", "-y", "-o"+out, image).CombinedOutput(); err != nil && !bytes.Contains(said, []byte("Unsupported feature")) {
		t.Fatalf("%v: %s", err, said)
	}
	return out
}

// compareSevenZip compares names, types, contents and attributes, which 7-Zip extracts as
// files with a colon in their names. It returns how many files there were.
func compareSevenZip(t *testing.T, fsys *apfs.FS, dir string) int {
	t.Helper()
	n := 0
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		their := filepath.Join(dir, p)
		if name, attr, ok := strings.Cut(p, ":"); ok {
			theirs, err := os.ReadFile(their)
			if ours, err2 := fsys.Xattr(norm.NFC.String(name), attr); err != nil || err2 != nil || string(ours) != string(theirs) {
				t.Errorf("%s: %d bytes, 7-Zip %d; %v, %v", p, len(ours), len(theirs), err, err2)
			}
			return nil
		}
		info, err := fsys.Lstat(norm.NFC.String(p))
		switch {
		case err != nil:
			t.Errorf("%s: %v", p, err)
		case info.IsDir() != d.IsDir():
			t.Errorf("%s: %v, 7-Zip %v", p, info.Mode(), d.Type())
		case info.Mode().IsRegular():
			theirs, err := os.ReadFile(their)
			if ours, err2 := fsys.ReadFile(norm.NFC.String(p)); err != nil || err2 != nil || string(ours) != string(theirs) {
				t.Errorf("%s: %d bytes, 7-Zip %d; %v, %v", p, len(ours), len(theirs), err, err2)
			}
		case info.Mode().Type() == fs.ModeSymlink:
			theirs, err := os.Readlink(their)
			if ours, err2 := fsys.ReadLink(p); err != nil || err2 != nil || ours != theirs {
				t.Errorf("%s: %s, 7-Zip %s; %v, %v", p, ours, theirs, err, err2)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		_, err = os.Lstat(filepath.Join(dir, p))
		_, err2 := os.Lstat(filepath.Join(dir, norm.NFD.String(p)))
		if err != nil && err2 != nil {
			t.Errorf("%s: 7-Zip does not have it", p)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

func find(t *testing.T, name string) written {
	t.Helper()
	for _, w := range containers() {
		if w.name == name {
			return w
		}
	}
	t.Fatal("no container " + name)
	return written{}
}

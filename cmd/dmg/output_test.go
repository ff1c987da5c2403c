package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// madeOutput is an output with content, ready to be committed.
func madeOutput(t *testing.T, name string, force bool, content string) *output {
	t.Helper()
	o, err := newOutput(name, "", force)
	if err == nil {
		err = o.create(int64(len(content)))
	}
	if err == nil {
		_, err = o.f.WriteAt([]byte(content), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.discard)
	return o
}

func noLink(oldname, newname string) error {
	return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: syscall.EPERM}
}

// TestCommit has a file that appears at the output's name while it is written, on
// file systems with hard links and without.
func TestCommit(t *testing.T) {
	for _, links := range []bool{true, false} {
		for _, tt := range []struct {
			name   string
			force  bool
			before bool // there is a file when the output is begun
			during bool // and when it is complete
			ok     bool
		}{
			{"nothing there", false, false, false, true},
			{"made meanwhile", false, false, true, false},
			{"made meanwhile, by force", true, false, true, true},
			{"there, by force", true, true, true, true},
			{"removed meanwhile", true, true, false, true},
		} {
			t.Run(fmt.Sprintf("%s, links %v", tt.name, links), func(t *testing.T) {
				dir := t.TempDir()
				name := filepath.Join(dir, "out")
				write := func(is bool) {
					if err := os.RemoveAll(name); err != nil {
						t.Fatal(err)
					}
					if is {
						if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
				write(tt.before)
				o := madeOutput(t, name, tt.force, "new")
				if !links {
					o.link = noLink
				}
				write(tt.during)
				err := o.commit()
				o.discard()
				want := "new"
				if !tt.ok {
					want = "precious"
					if err == nil || err.Error() != existsError(name).Error() {
						t.Errorf("commit: %v, want %v", err, existsError(name))
					}
				} else if err != nil {
					t.Errorf("commit: %v", err)
				}
				if b, err := os.ReadFile(name); err != nil || string(b) != want {
					t.Errorf("%q (%v), want %q", b, err, want)
				}
				wantFiles(t, dir, "out")
			})
		}
	}
}

// TestCommitSyncs sees what is stored before what.
func TestCommitSyncs(t *testing.T) {
	for _, force := range []bool{false, true} {
		dir := t.TempDir()
		name := filepath.Join(dir, "out")
		o := madeOutput(t, name, force, "new")
		var synced []string
		o.fsync = func(f *os.File) error {
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			what := "file"
			if info.IsDir() {
				what = "directory"
			}
			if _, err := os.Stat(name); err == nil {
				what += " with its name"
			}
			if _, err := os.Stat(o.temp); err == nil && o.temp != "" {
				what += " with a temporary name"
			}
			synced = append(synced, what)
			return f.Sync()
		}
		if err := o.commit(); err != nil {
			t.Fatal(err)
		}
		want := []string{"file with a temporary name", "directory with its name"}
		if runtime.GOOS == "windows" {
			want = want[:1]
		}
		if !slices.Equal(synced, want) {
			t.Errorf("force %v: synced %q, want %q", force, synced, want)
		}
	}
}

// TestSyncFails has disks that can't store, and file systems that can't say.
func TestSyncFails(t *testing.T) {
	for _, tt := range []struct {
		err error
		ok  bool
	}{
		{syscall.EIO, false},
		{syscall.ENOSPC, false},
		{syscall.EINVAL, true},
		{errors.ErrUnsupported, true},
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, "out")
		o := madeOutput(t, name, false, "new")
		o.fsync = func(f *os.File) error { return &fs.PathError{Op: "sync", Path: f.Name(), Err: tt.err} }
		if err := o.commit(); (err == nil) != tt.ok || err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%v: commit returns %v", tt.err, err)
		}
		o.discard()
		if tt.ok {
			wantFiles(t, dir, "out")
		} else {
			wantEmptyDir(t, dir)
		}
	}
}

// TestLongNames has names up to the longest that file systems allow.
func TestLongNames(t *testing.T) {
	const image = images + "good-zlib.dmg"
	want := string(zlibDisk(t))
	for _, base := range []string{
		strings.Repeat("n", 241), strings.Repeat("n", 242), strings.Repeat("n", 255),
		strings.Repeat("ü", 127), strings.Repeat("日", 85), "x" + strings.Repeat("𝔵", 63),
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, base)
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Logf("%d bytes: %v", len(base), err) // more than this file system allows
			continue
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if got := dmgRun(t, "extract", image, name); got != (result{}) {
			t.Errorf("%d bytes: %+v", len(base), got)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != want {
			t.Errorf("%d bytes: file of %d bytes (%v)", len(base), len(b), err)
		}
		wantFiles(t, dir, base)
	}
}

// TestTempName has names whose temporary ones must be short, and text.
func TestTempName(t *testing.T) {
	for name, want := range map[string]string{
		"disk.img":                  "disk.img",
		filepath.Join("a", "b"):     filepath.Join("a", "b"),
		strings.Repeat("x", 100):    strings.Repeat("x", 100),
		strings.Repeat("x", 101):    strings.Repeat("x", 100),
		strings.Repeat("日", 60):     strings.Repeat("日", 33),
		strings.Repeat("\x80", 200): strings.Repeat("\x80", 96),
		filepath.Join(strings.Repeat("d/", 200), strings.Repeat("é", 100)): filepath.Join(strings.Repeat("d/", 200), strings.Repeat("é", 50)),
	} {
		got := tempName(name)
		if cut := len(got) - len(".00000000.part"); cut < 0 || got[:cut] != want || !strings.HasSuffix(got, ".part") {
			t.Errorf("%.40q: %q, want %q and a number", name, got, want)
		}
	}
}

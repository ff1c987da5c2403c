package location_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-dmg/dmg/internal/location"
)

// A file of a bundle knows the bundle, in the operating system's file system and in others,
// and no other file does.
func TestAround(t *testing.T) {
	files := fstest.MapFS{
		"x.sparsebundle/Info.plist":  {},
		"x.sparsebundle/token":       {},
		"x.sparsebundle/bands/0":     {},
		"x.sparsebundle/bands/1f":    {},
		"x.sparsebundle/bands/other": {},
		"y/bands/0":                  {}, // no Info.plist
		"z/Info.plist":               {}, // no bands
		"token":                      {},
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"x.sparsebundle/Info.plist":  "x.sparsebundle",
		"x.sparsebundle/token":       "x.sparsebundle",
		"x.sparsebundle/bands":       "x.sparsebundle",
		"x.sparsebundle/bands/0":     "x.sparsebundle",
		"x.sparsebundle/bands/1f":    "x.sparsebundle",
		"x.sparsebundle/bands/other": "",
		"x.sparsebundle":             "",
		"y/bands/0":                  "",
		"z/Info.plist":               "",
		"token":                      "",
	} {
		if got := location.In(files, name).Around(); got != want {
			t.Errorf("In %s: %q, want %q", name, got, want)
		}
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if got := location.System(filepath.Join(dir, name)).Around(); got != want {
			t.Errorf("System %s: %q, want %q", name, got, want)
		}
	}
}

// Errors have the name that the caller gave, once.
func TestNamed(t *testing.T) {
	l := location.In(fstest.MapFS{}, "a.dmg")
	bare, named := errors.New("torn"), &fs.PathError{Op: "open", Path: "b.dmg", Err: fs.ErrNotExist}
	if err := l.Named(bare); !errors.Is(err, bare) || !strings.Contains(err.Error(), "a.dmg") {
		t.Error(err)
	}
	if err := l.Named(named); err != error(named) {
		t.Error(err)
	}
	name := filepath.Join(t.TempDir(), "none.dmg")
	s := location.System(name)
	if _, err := s.FS.Open(s.Name); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
		t.Error(err)
	}
}

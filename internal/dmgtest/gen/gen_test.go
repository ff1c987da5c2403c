package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

const dir = "../../../testdata"

// The directory holds what the generator writes, and of images nothing else.
func TestTestdata(t *testing.T) {
	dmgtest.NotRaced(t)
	files, err := testdata()
	if err != nil {
		t.Fatal(err)
	}
	again, err := testdata()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if !bytes.Equal(again[name], want) {
			t.Errorf("%s comes out different a second time", name)
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator writes: run go generate, or mend it", name)
		}
		if len(want) > 200<<10 {
			t.Errorf("%s has %d bytes: too large for a repository", name, len(want))
		}
	}
	for _, pattern := range []string{"*.dmg", containerDir + "*"} {
		images, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range images {
			name, err := filepath.Rel(dir, path)
			if err != nil || files[filepath.ToSlash(name)] == nil {
				t.Errorf("%s is not the generator's", path)
			}
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// TestFoldersInCircles has folders that are in each other, or each in many others,
// listed and copied: there would be no end of paths.
func TestFoldersInCircles(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	t.Parallel()
	n := 0
	for h := range hfsvol.Hostile() {
		many := strings.Contains(h.Name, "each has all") // of a thousand
		if h.Class != "folders" || many && dmgtest.Part() {
			continue
		}
		n++
		name := filepath.Join(t.TempDir(), "image.dmg")
		if err := os.WriteFile(name, h.Image(), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := dmgRun(t, "ls", "-R", name); strings.Count(got.out, "\n") > 600_000 {
			t.Errorf("%s: %d lines", h.Name, strings.Count(got.out, "\n"))
		}
		if many {
			continue // half a million folders
		}
		dmgRun(t, "cp", "--keep-going", name, ".", filepath.Join(t.TempDir(), "to"))
	}
	if n == 0 {
		t.Error("no volumes")
	}
}

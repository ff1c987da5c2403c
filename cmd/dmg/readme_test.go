//go:build unix

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// The README's commands do what they are to, one after the other in a folder that has
// nothing but an image and a damaged one, which is what their names say. Those that need a
// program that is not here are left out.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	dmgtest.NotEmulated(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	exe := dmgtest.Self(t).Path
	bin, dir, cache := t.TempDir(), t.TempDir(), t.TempDir()
	image := read(t, "good-apfs.dmg")
	volume := hfsvol.Write(hfsvol.Dir("Damaged", hfsvol.File("file", []byte("whole")), hfsvol.File("large", dmgtest.Random(1, 200<<10).Bytes())), hfsvol.Options{})
	damaged := dmgtest.Image(t, volume.Image, dmgtest.Options{ChunkSectors: 64})
	copy(damaged[len(damaged)/2:], make([]byte, 100))
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asCommand, exe)
	for name, content := range map[string][]byte{
		filepath.Join(bin, "dmg"): []byte(script), filepath.Join(dir, "Installer.dmg"): image, filepath.Join(dir, "damaged.dmg"): damaged,
	} {
		if err := os.WriteFile(name, content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	n := 0
	for _, block := range regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(string(readme), -1) {
		for line := range strings.Lines(block[1]) {
			line, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ ")
			if !ok {
				t.Errorf("%q is no command", line)
			}
			missing := ""
			for _, tool := range []string{"xxd", "qemu-img", "nbdinfo"} {
				if _, err := exec.LookPath(tool); err != nil && strings.Contains(line, tool) {
					missing = tool
				}
			}
			if n++; missing != "" {
				t.Logf("there is no %s for %q", missing, line)
				continue
			}
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "https://example.com", server.URL))
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "XDG_CACHE_HOME="+cache, "HOME="+cache)
			var out, errOut strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errOut
			want := 0
			if strings.Contains(line, "damaged.dmg") || strings.Contains(line, "*.dmg") {
				want = statusDamaged
			}
			err := cmd.Run()
			if status := cmd.ProcessState.ExitCode(); status != want || want == 0 && errOut.Len() > 0 {
				t.Errorf("%s: %v, want status %d\n%s%s", line, err, want, out.String(), errOut.String())
			}
		}
	}
	if n < 15 {
		t.Errorf("%d commands", n)
	}
	for _, name := range []string{"Hello.app/Contents/Info.plist", "disk.img", "rescued.img", "volume.img", "map.svg", "damaged.svg", "rescued/file"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Two hundred images at once, of which some are damaged, encrypted, missing or no images at
// all: each gets its line, and none keeps the others from theirs.
func TestVerifySeveral(t *testing.T) {
	t.Parallel()
	disk := dmgtest.Text(1, 64<<10).Bytes()
	whole := dmgtest.Image(t, disk, dmgtest.Options{})
	damaged := append([]byte(nil), whole...)
	damaged[len(damaged)/4] ^= 1
	secret := dmgtest.Encryption{Password: "right"}.Image(whole)
	dir := t.TempDir()
	var args []string
	want := make(map[string]string)
	for i := range 200 {
		name := filepath.Join(dir, fmt.Sprintf("%03d.dmg", i))
		content, result := whole, "good 0"
		switch {
		case i%50 == 7:
			content, result = damaged, "damaged 1"
		case i%50 == 8:
			content, result = disk, "error 3"
		case i == 9:
			content = secret
		case i == 10:
			content, result = dmgtest.Encryption{Password: "other"}.Image(whole), "error 4"
		case i == 0:
			content, result = nil, "error 5"
		}
		if args = append(args, name); content != nil {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want[name] = result
	}
	verify := func(args ...string) result {
		return dmgRunWith(t, "wrong\nright\n", append([]string{"verify", "--password-file", "-"}, args...)...)
	}
	got := verify(append(args, "--json")...)
	lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
	if got.status != statusDamaged || len(lines) != 200 {
		t.Fatalf("status %d, %d lines, %q", got.status, len(lines), got.errOut)
	}
	for i, line := range lines {
		var v verifyJSON
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.Image != args[i] {
			t.Fatalf("line %d: %v, %s", i, err, line)
		}
		if got := fmt.Sprint(v.Result, " ", v.Status); got != want[v.Image] {
			t.Errorf("%s: %s, want %s", v.Image, got, want[v.Image])
		}
		if v.Status == 0 && len(v.Checksums) != 3 {
			t.Errorf("%s: checksums %+v", v.Image, v.Checksums)
		}
	}
	if told := strings.Split(strings.TrimSpace(got.errOut), "\n"); len(told) != 11 || told[10] != "dmg: something is wrong with 10 of 200 images" {
		t.Errorf("told %q", told)
	}

	// The status is that of the first that is not damaged, if none is.
	for _, tt := range []struct {
		images []int
		status int
	}{{[]int{1, 2}, 0}, {[]int{1, 8, 10, 0}, 3}, {[]int{10, 8}, 4}, {[]int{0, 1}, 5}, {[]int{0, 7, 8}, 1}} {
		var args []string
		for _, i := range tt.images {
			args = append(args, filepath.Join(dir, fmt.Sprintf("%03d.dmg", i)))
		}
		got := verify(args...)
		if got.status != tt.status {
			t.Errorf("%v: status %d, want %d; %q", tt.images, got.status, tt.status, got.errOut)
		}
		for _, name := range args {
			if is := want[name]; (is[:5] != "error") != strings.Contains(got.out, name+":\n") {
				t.Errorf("%v: of %s, which is %s, %q", tt.images, name, is, got.out)
			}
		}
	}
	if got := dmgRun(t, append([]string{"verify", "--password-file", "none"}, args...)...); got.status != statusPassword || strings.Count(got.errOut, "\n") != 1 {
		t.Errorf("no password file: %d, %q", got.status, got.errOut)
	}
}

func TestInfoSeveral(t *testing.T) {
	t.Parallel()
	args := []string{"info", images + "good-zlib.dmg", images + "none.dmg", images + "bad-plist-range.dmg", images + "good-apfs.dmg"}
	got := dmgRun(t, args...)
	want := dmgRun(t, "info", args[1]).out + "\n" + dmgRun(t, "info", args[4]).out
	if got.status != statusDamaged || got.out != want {
		t.Errorf("status %d, %s", got.status, got.out)
	}
	got = dmgRun(t, append(args, "--json")...)
	lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n")
	if got.status != statusDamaged || len(lines) != 4 || strings.Count(got.errOut, "\n") != 3 {
		t.Fatalf("%+v", got)
	}
	for i, status := range []int{0, statusIO, statusDamaged, 0} {
		var f failedJSON
		if err := json.Unmarshal([]byte(lines[i]), &f); err != nil || f.Image != args[i+1] || f.Status != status || (f.Error != "") != (status != 0) {
			t.Errorf("line %d: %v, %s", i, err, lines[i])
		}
	}
}

// The hashes are those of what cat writes.
func TestInfoHash(t *testing.T) {
	t.Parallel()
	const image = images + "good-zlib.dmg"
	var info imageInfo
	got := dmgRun(t, "info", "--json", "--hash", "sha256,md5", image)
	if err := json.Unmarshal([]byte(got.out), &info); err != nil || got.errOut != "" {
		t.Fatalf("%v, %+v", err, got)
	}
	disk := []byte(dmgRun(t, "cat", image).out)
	check := func(of string, hashes map[string]string, b []byte) {
		md := md5.Sum(b)
		if want := map[string]string{"sha256": sum(b), "md5": hex.EncodeToString(md[:])}; fmt.Sprint(hashes) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", of, hashes, want)
		}
	}
	check("disk", info.Hashes, disk)
	for _, p := range info.Partitions {
		check(p.Name, p.Hashes, disk[p.Offset:p.Offset+p.Length])
	}
	text := dmgRun(t, "info", "--hash=sha256", image).out
	for _, want := range []string{"sha256 of disk: " + sum(disk), "sha256 of partition 2: " + info.Partitions[2].Hashes["sha256"]} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(dmgRun(t, "info", "--json", image).out, "hashes") {
		t.Error("hashes that nobody asked for")
	}
	// What can't be decoded has none.
	if got := dmgRun(t, "info", "--hash", "sha1", images+"bad-stream.dmg"); got.status != statusDamaged || got.out != "" {
		t.Errorf("a damaged image: %+v", got)
	}
}

// Partitions may overlap, and the disk may come in pieces of any length.
func TestDiskHasher(t *testing.T) {
	disk := dmgtest.Random(1, 1000).Bytes()
	ranges := []diskRange{{0, 1000}, {0, 0}, {0, 1}, {10, 300}, {100, 100}, {200, 800}, {999, 1}, {1000, 0}}
	for _, step := range []int{1, 7, 100, 1000} {
		w := &diskHasher{progress: func(int64) {}}
		var all []*rangeHash
		for _, r := range ranges {
			all = append(all, &rangeHash{r, hashes["sha256"]()})
		}
		w.ranges = append(w.ranges, all...)
		for off := 0; off < len(disk); off += step {
			if _, err := w.Write(disk[off:min(off+step, len(disk))]); err != nil {
				t.Fatal(err)
			}
		}
		for _, h := range all {
			if got, want := hex.EncodeToString(h.Sum(nil)), sum(disk[h.off:h.end()]); got != want {
				t.Errorf("step %d, %v: %s, want %s", step, h.diskRange, got, want)
			}
		}
	}
}

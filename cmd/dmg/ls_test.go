package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestLsSamples lists what Apple's tools wrote, as the manifest says.
func TestLsSamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hfsplus-app", "hfsplus-basic", "hfsplus-xattrs", "hfsx", "apfs-app", "apfs-basic", "apfs-snapshots"} {
		t.Run(name, func(t *testing.T) {
			want := manifest(t, name)
			delete(want, ".")
			image := samples + "fs/" + name + ".dmg"
			got := dmgRun(t, "ls", "-R", "--json", image)
			if got.status != 0 || got.errOut != "" {
				t.Fatalf("%d, %q", got.status, got.errOut)
			}
			var paths []string
			for line := range strings.Lines(got.out) {
				var f fileJSON
				if err := json.Unmarshal([]byte(line), &f); err != nil {
					t.Fatal(err)
				}
				paths = append(paths, f.Path)
				row := want[f.Path]
				if row == nil {
					t.Errorf("%s is not in the manifest", f.Path)
					continue
				}
				kind := row[1]
				if kind == "hardlink" {
					kind = "file"
					if f.Links < 2 {
						t.Errorf("%s: %d links", f.Path, f.Links)
					}
				}
				if f.Type != kind {
					t.Errorf("%s is a %s, want %s", f.Path, f.Type, kind)
				}
				if size, err := strconv.ParseInt(row[2], 10, 64); err == nil && f.Size != size {
					t.Errorf("%s has %d bytes, want %d", f.Path, f.Size, size)
				}
				mode, _ := strconv.ParseUint(row[4], 8, 32)
				if got, err := strconv.ParseUint(f.Mode, 8, 32); row[1] != "hardlink" && (err != nil || got != mode&0o7777) {
					t.Errorf("%s: mode %s, want %s", f.Path, f.Mode, row[4])
				}
				if when, err := time.Parse(time.RFC3339Nano, row[5]); err != nil || row[1] != "hardlink" && (f.Modified == nil || f.Modified.Truncate(time.Second) != when.Truncate(time.Second)) {
					t.Errorf("%s: %v, want %s", f.Path, f.Modified, row[5])
				}
				if kind == "symlink" && (f.Target == nil || *f.Target != row[6]) {
					t.Errorf("%s -> %v, want %s", f.Path, f.Target, row[6])
				}
			}
			if len(paths) != len(want) {
				t.Errorf("%d paths, want %d", len(paths), len(want))
			}
			// The text has the same in the same order.
			var text []string
			for line := range strings.Lines(dmgRun(t, "ls", "-R", image).out) {
				text = append(text, strings.TrimRight(line, "/\n"))
			}
			for i := range paths {
				if i >= len(text) || text[i] != printable(paths[i]) {
					t.Fatalf("line %d is not %s", i, paths[i])
				}
			}
		})
	}
}

func TestLs(t *testing.T) {
	image := samples + "fs/hfsplus-basic.dmg"
	if _, err := os.Stat(image); err != nil {
		t.Skip("no samples")
	}
	app := samples + "fs/hfsplus-app.dmg"
	t.Setenv(passwordVar, "")
	for _, tt := range []struct {
		args   []string
		out    string
		status int
		errOut string
	}{
		{[]string{"ls", image, "dir1"}, "nested/\n", 0, ""},
		{[]string{"ls", image, "/dir1/nested/"}, "deep.txt\n", 0, ""},
		{[]string{"ls", image, "dir1/nested/deep.txt"}, "dir1/nested/deep.txt\n", 0, ""},
		{[]string{"ls", "-R", image, "dir1"}, "dir1/nested/\ndir1/nested/deep.txt\n", 0, ""},
		{[]string{"ls", "-l", image, "link-to-hello"}, "lrwxr-xr-x@   1   501    20            9 2026-07-27 20:00:44 link-to-hello -> hello.txt\n", 0, ""},
		{[]string{"ls", "-l", app, "Applications"}, "lrwxr-xr-x    1   501    20           13 2015-09-05 13:10:49 Applications -> /Applications\n", 0, ""},
		{[]string{"ls", app, "Applications"}, "Applications\n", 0, ""},
		{[]string{"cat", app, "Applications"}, "", statusMisuse, "dmg: " + app + ": Applications is a symbolic link to /Applications, which is outside of the image: on a Mac it is the Mac's own\n"},
		{[]string{"ls", image, "DIR1/Nested"}, "deep.txt\n", 0, ""}, // as the volume compares names
		{[]string{"ls", image, "../dir1"}, "nested/\n", 0, ""},
		{[]string{"ls", image, "none"}, "", statusMisuse, "dmg: " + image + ": the volume has no file or folder \"none\": dmg ls lists what there is\n"},
		{[]string{"ls", image, "hello.txt/x"}, "", statusMisuse, "dmg: " + image + ": the volume has no file or folder \"hello.txt/x\": dmg ls lists what there is\n"},
		{[]string{"ls", image, "-p", "HFSTEST", "dir1"}, "nested/\n", 0, ""},
		{[]string{"ls", image, "-p", "hfst", "dir1"}, "nested/\n", 0, ""},
		{[]string{"ls", image, "-p", "HFS+", "dir1"}, "nested/\n", 0, ""},
		{[]string{"ls", image, "-p", "Apple_HFS", "dir1"}, "nested/\n", 0, ""},
		{[]string{"ls", image, "-p", "4", "dir1"}, "nested/\n", 0, ""},
		{[]string{"ls", image, "-p", "3"}, "", statusMisuse, "dmg: " + image + ": partition 3 has no file system: see dmg info\n"},
		{[]string{"ls", image, "-p", "9"}, "", statusMisuse, "dmg: " + image + ": no partition 9: there are 0 to 7; see dmg info\n"},
		{[]string{"ls", image, "-p", "NTFS"}, "", statusMisuse, "dmg: " + image + ": no volume or partition with files has the name or type \"NTFS\": see dmg info\n"},
		{[]string{"ls", "../../testdata/good-zlib.dmg"}, "", statusUnsupported, "dmg: ../../testdata/good-zlib.dmg: unsupported: no file system was found on the disk\n"},
		{[]string{"ls", samples + "hdiutil/fat32_mbr.dmg"}, "", statusUnsupported, "dmg: " + samples + "hdiutil/fat32_mbr.dmg: unsupported: the disk has no volume whose files can be read, but FAT32 (partition 1)\n"},
		{[]string{"ls", samples + "hdiutil/fat32_mbr.dmg", "-p", "FAT32"}, "", statusUnsupported, "dmg: " + samples + "hdiutil/fat32_mbr.dmg: unsupported: the files of FAT32 (partition 1) can't be read\n"},

		{[]string{"cat", image, "hello.txt"}, "hello from apfs\n", 0, ""},
		{[]string{"cat", image, "link-to-hello", "/hello.txt"}, "hello from apfs\nhello from apfs\n", 0, ""},
		{[]string{"cat", image, "hello.txt", "-o", "6", "-n", "4"}, "from", 0, ""},
		{[]string{"cat", image, "hello.txt", "-o", "16"}, "", 0, ""},
		{[]string{"cat", image, "hello.txt", "-o", "6", "-n", "1G"}, "from apfs\n", 0, ""},
		{[]string{"cat", image, "empty.txt"}, "", 0, ""},
		{[]string{"cat", image, "-p", "HFSTEST", "hello.txt"}, "hello from apfs\n", 0, ""},
		{[]string{"cat", image, "hello.txt", "-o", "17"}, "", statusMisuse, "dmg: " + image + ": hello.txt: offset 17 is past the end of the file, which has 16 bytes\n"},
		{[]string{"cat", image, "hello.txt", "empty.txt", "-n", "1"}, "", statusMisuse, "dmg: --offset and --length are for one file: give one path\n"},
		{[]string{"cat", image, "dir1"}, "", statusMisuse, "dmg: " + image + ": dir1 is a folder: dmg ls lists it, dmg cp copies it\n"},
		{[]string{"cat", image, "none"}, "", statusMisuse, "dmg: " + image + ": the volume has no file or folder \"none\": dmg ls lists what there is\n"},
		{[]string{"cp", image, "hello.txt"}, "", statusMisuse, "dmg: no destination: give it last, such as . for this folder\nTry \"dmg --help\".\n"},
		{[]string{"cp", image, "hello.txt", ""}, "", statusMisuse, "dmg: the destination's name is empty\nTry \"dmg --help\".\n"},
		{[]string{"cp", image, "hello.txt", image}, "", statusMisuse, "dmg: " + image + " belongs to the image: give another name\n"},
		{[]string{"extract", image, "-", "-p", "HFSTEST", "-f"}, "", 0, ""},
	} {
		got := dmgRun(t, tt.args...)
		if tt.args[0] == "extract" {
			if want := dmgRun(t, "extract", image, "-", "-p", "4", "-f"); got.status != 0 || got.out != want.out || len(got.out) == 0 {
				t.Errorf("%q: status %d, %d bytes", tt.args, got.status, len(got.out))
			}
			continue
		}
		if got.out != tt.out || got.status != tt.status || got.errOut != tt.errOut {
			t.Errorf("%q: %+v\nwant %d %q %q", tt.args, got, tt.status, tt.out, tt.errOut)
		}
	}
}

// unpacked returns a sample that is packed with gzip.
func unpacked(t *testing.T, name string) []byte {
	t.Helper()
	return bytes.Clone(dmgtest.Unpack(t, samples+"fs/"+name))
}

// TestSeveralVolumes: a disk with two volumes, and a third that can't be read.
func TestSeveralVolumes(t *testing.T) {
	t.Parallel()
	disk := make([]byte, 64*sectorSize)
	disk[510], disk[511] = 0x55, 0xAA
	for i, volume := range [][]byte{unpacked(t, "hfsplus-abslink.img.gz"), unpacked(t, "hfsplus-rsrc.img.gz"), append(make([]byte, 4086), "SWAPSPACE2"...)} {
		e := disk[446+16*i:]
		e[4] = 0xAF
		binary.LittleEndian.PutUint32(e[8:], uint32(len(disk)/sectorSize))
		binary.LittleEndian.PutUint32(e[12:], uint32(len(volume)/sectorSize))
		disk = append(disk, volume...)
	}
	image := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(image, dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 2048}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		status int
		want   string // in the output
	}{
		{"", statusMisuse, `several volumes: HFS+ "GOTEST" (partition 1), HFS+ "hfsplus_test" (partition 2); choose one with -p`},
		{"GOTEST", 0, "fox.txt"},
		{"gotest", 0, "fox.txt"},
		{"1", 0, "fox.txt"},
		{"hfsplus_test", 0, "a_directory/"},
		{"2", 0, "a_directory/"},
		{"HFS+", statusMisuse, `"HFS+" fits HFS+ "GOTEST" (partition 1), HFS+ "hfsplus_test" (partition 2): give a name that only one has`},
		{"swap", statusUnsupported, "the files of Linux swap (partition 3) can't be read"},
		{"3", statusUnsupported, "the files of Linux swap (partition 3) can't be read"},
	} {
		args := []string{"ls", image}
		if tt.name != "" {
			args = append(args, "-p", tt.name)
		}
		if got := dmgRun(t, args...); got.status != tt.status || !strings.Contains(got.out+got.errOut, tt.want) {
			t.Errorf("%q: %+v, want %d %q", tt.name, got, tt.status, tt.want)
		}
	}
	info := imageInfoOf(t, image)
	var names []string
	for _, v := range info.Volumes {
		names = append(names, v.Type+" "+v.Name+" "+strconv.Itoa(*v.Partition))
	}
	if want := []string{"HFS+ GOTEST 1", "HFS+ hfsplus_test 2", "Linux swap  3"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// TestLsDamaged: a folder that can't be read hides no other.
func TestLsDamaged(t *testing.T) {
	var out, errOut bytes.Buffer
	c := &lsCmd{imageArg: imageArg{"image.dmg"}, Recursive: true}
	files := openFails{app(), "A.app/Contents"}
	err := c.list(&stdio{out: &out, err: &errOut}, files)
	if status := statusOf(err); status != statusDamaged || !strings.Contains(errOut.String(), "image.dmg: A.app/Contents: damaged") {
		t.Errorf("%v, status %d, %q", err, status, errOut.String())
	}
	if !strings.Contains(out.String(), "A.app/secret\n") || strings.Contains(out.String(), "Info") || !strings.Contains(out.String(), "read me\n") {
		t.Errorf("%s", out.String())
	}
}

// openFails is a file system one path of which can't be opened.
type openFails struct {
	fs.FS
	path string
}

func (f openFails) Open(name string) (fs.File, error) {
	if name == f.path {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errDamaged}
	}
	return f.FS.Open(name)
}

type damagedError struct{}

func (damagedError) Error() string { return "damaged" }

var errDamaged = damagedError{}

// TestModeString has modes as ls prints them.
func TestModeString(t *testing.T) {
	for _, tt := range []struct {
		mode fs.FileMode
		want string
	}{
		{0o644, "-rw-r--r--"},
		{fs.ModeDir | 0o755 | fs.ModeSticky, "drwxr-xr-t"},
		{fs.ModeSymlink | 0o777, "lrwxrwxrwx"},
		{0o4755&0o777 | fs.ModeSetuid, "-rwsr-xr-x"},
		{0o644 | fs.ModeSetgid | fs.ModeSetuid | fs.ModeSticky, "-rwSr-Sr-T"},
		{fs.ModeNamedPipe, "p---------"},
		{fs.ModeSocket | 0o600, "srw-------"},
		{fs.ModeDevice | 0o660, "brw-rw----"},
		{fs.ModeDevice | fs.ModeCharDevice | 0o666, "crw-rw-rw-"},
	} {
		if got := modeString(tt.mode); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.mode, got, tt.want)
		}
	}
}

// TestWindowsNames has names that are others on Windows, or none.
func TestWindowsNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "a b": true, ".hidden": true, "ünïcødé": true,
		"a:b": false, `a\b`: false, "a.": false, "a ": false, "Icon\r": false, "what?": false, "a*": false,
		"": false, ".": false, "..": false, "a/b": false, "a\x00": false,
	} {
		if err := checkName(name, true); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{"a:b": true, `a\b`: true, "Icon\r": true, "": false, "..": false, "a/b": false} {
		if err := checkName(name, false); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestInfoVolumes: info says which volumes there are, and what is wrong with them.
func TestInfoVolumes(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	dirty := filepath.Join(t.TempDir(), "dirty.img")
	if err := os.WriteFile(dirty, unpacked(t, "hfsplus-dirty.img.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.img")
	disk := unpacked(t, "hfsplus-rsrc.img.gz")
	clear(disk[1024+272 : 1024+352]) // the catalog's fork, and in the copy
	clear(disk[len(disk)-1024+272 : len(disk)-1024+352])
	if err := os.WriteFile(damaged, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(t.TempDir(), "locked.img")
	if err := os.WriteFile(locked, unpacked(t, "apfs-encrypted.img.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ image, want string }{
		{samples + "fs/hfsplus-app.dmg", "          2   32768  9404416  3.4 MiB    161  HFS+  Sparkle Test App\n"},
		{dirty, "\nnot unmounted: Test HFS Plus Volume has changes in its journal, without which it is read\n"},
		{damaged, "\ndamaged: HFS+: hfsplus: "},
		{locked, "APFS, encrypted  "},
		{samples + "hdiutil/fat32_mbr.dmg", "          1     512  34634752     -      -  FAT32  (unnamed)\n"},
	} {
		if got := dmgRun(t, "info", tt.image); got.status != 0 || got.errOut != "" || !strings.Contains(got.out, tt.want) {
			t.Errorf("%s: %+v, want %q", tt.image, got, tt.want)
		}
	}
	got := dmgRun(t, "ls", locked)
	if want := "locked.img: APFS \"Enc\" is encrypted, and no terminal to ask for the password: give --password-file FILE or set DMG_PASSWORD\n"; got.status != statusPassword || !strings.HasSuffix(got.errOut, want) {
		t.Errorf("%+v, want %q", got, want)
	}
	for _, args := range [][]string{{"ls"}, {"cat", "secret.txt"}, {"cp", "secret.txt", t.TempDir()}} {
		args = slices.Insert(args, 1, "--password-file", "-", locked)
		got := dmgRunWith(t, "wrong", args...)
		if want := "locked.img: APFS \"Enc\": apfs: encrypted volume: wrong password (password from standard input)\n"; got.status != statusPassword || !strings.HasSuffix(got.errOut, want) {
			t.Errorf("%q: %+v, want %q", args, got, want)
		}
		if got = dmgRunWith(t, "hunter2hunter2", args...); got.status != 0 || got.errOut != "" || got.out == "" && args[0] != "cp" {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// TestSnapshots reads a volume as it was.
func TestSnapshots(t *testing.T) {
	image := samples + "fs/apfs-snapshots.dmg"
	if _, err := os.Stat(image); err != nil {
		t.Skip("no samples")
	}
	const (
		first  = "com.bombich.ccc.D7B2D286-3CE0-40B9-9797-EBF108ADAD30.2021-03-01-203433"
		second = "com.bombich.ccc.6AE4815C-1F9A-4D5E-86E1-19078BE01958.2021-03-01-203509"
	)
	for snapshot, name := range map[string]string{first: "apfs-snapshots.snap10", second: "apfs-snapshots.snap22", "203433": "apfs-snapshots.snap10"} {
		want := manifest(t, name)
		got := dmgRun(t, "ls", "-R", "--json", "--snapshot", snapshot, image)
		if got.status != 0 || got.errOut != "" {
			t.Fatalf("%+v", got)
		}
		for line := range strings.Lines(got.out) {
			var f fileJSON
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatal(err)
			}
			row := want[f.Path]
			if delete(want, f.Path); row == nil || f.Type == "file" && strconv.FormatInt(f.Size, 10) != row[2] {
				t.Errorf("%s: %+v, want %q", snapshot, f, row)
			}
			if f.Type != "file" {
				continue
			}
			dest := filepath.Join(t.TempDir(), "copy")
			cat, cp := dmgRun(t, "cat", "--snapshot", snapshot, image, f.Path), dmgRun(t, "cp", "--snapshot", snapshot, image, f.Path, dest)
			copied, err := os.ReadFile(dest)
			if sum := fmt.Sprintf("%x", sha256.Sum256(copied)); cat.status != 0 || cp.status != 0 || err != nil || sum != row[3] || cat.out != string(copied) {
				t.Errorf("%s: %s: sum %s, %v, %d bytes of cat, %s%s", snapshot, f.Path, sum, err, len(cat.out), cat.errOut, cp.errOut)
			}
		}
		delete(want, ".")
		if len(want) > 0 {
			t.Errorf("%s lacks %v", snapshot, want)
		}
	}
	for _, tt := range []struct {
		args   []string
		errOut string
	}{
		{[]string{"ls", image, "--snapshot", "none"}, image + `: APFS "source" (partition 4) has no snapshot "none", but "` + first + `", "` + second + `"`},
		{[]string{"ls", image, "--snapshot", "bombich"}, image + `: "bombich" fits the snapshots "` + first + `", "` + second + `": give a name that only one has`},
		{[]string{"ls", samples + "fs/hfsx.dmg", "--snapshot", "x"}, samples + `fs/hfsx.dmg: HFSX "test-disk-image-hfsp-c" (partition 4) has no snapshots`},
		{[]string{"cat", image, "--snapshot", "203433"}, "--snapshot is for files: give the path of one"},
	} {
		if got := dmgRun(t, tt.args...); got.status != statusMisuse || got.out != "" || got.errOut != "dmg: "+tt.errOut+"\n" {
			t.Errorf("%q: %+v, want %q", tt.args, got, tt.errOut)
		}
	}
	text := "snapshot of source, 2021-03-02 04:37:25: " + first + "\nsnapshot of source, 2021-03-02 04:39:09: " + second + "\n"
	if got := dmgRun(t, "info", image); !strings.Contains(got.out, text) {
		t.Errorf("%s, want %s", got.out, text)
	}
	list := imageInfoOf(t, image).Volumes[0].Snapshots
	if len(list) != 2 || list[0].Name != first || list[1].Name != second || list[1].Created.Format(time.RFC3339Nano) != "2021-03-02T04:39:09.993517944Z" {
		t.Errorf("%+v", list)
	}
}

// TestPrintSnapshots: of very many, the newest are printed.
func TestPrintSnapshots(t *testing.T) {
	v := volumeInfo{Name: "v", Snapshots: make([]snapshotInfo, 150)}
	v.Snapshots[149].Name = "last\n"
	var out strings.Builder
	v.printSnapshots(&out)
	if got := out.String(); strings.Count(got, "\n") != 101 || !strings.HasPrefix(got, "snapshots of v: 50 older ones, which --json lists\n") || !strings.HasSuffix(got, "snapshot of v, at no known time: last\\x0a\n") {
		t.Errorf("%q", got)
	}
}

// TestLsLinkedFolders: 40 folders have a trillion paths.
func TestLsLinkedFolders(t *testing.T) {
	var out, errOut bytes.Buffer
	c := &lsCmd{imageArg: imageArg{"image.dmg"}, Recursive: true}
	if err := c.list(&stdio{out: &out, err: &errOut}, linkedDirs{40}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n < 80 || n > 4000 {
		t.Errorf("%d lines", n)
	}
}

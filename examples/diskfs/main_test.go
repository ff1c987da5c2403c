package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// contents are the files of the tests' file systems, by name.
func contents() map[string][]byte {
	return map[string][]byte{
		"HELLO.TXT":                       []byte("Hello from inside a disk image.\n"),
		"EMPTY":                           {},
		"docs/A name too long for DOS.md": dmgtest.Text(1, 10_000).Bytes(),
		"docs/deep/random.bin":            dmgtest.Random(2, 300_001).Bytes(),
	}
}

// makeFAT makes a file system of size bytes with the given files, by go-diskfs's
// own writer.
func makeFAT(t *testing.T, kind filesystem.Type, size int64, files map[string][]byte) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fat.img")
	d, err := diskfs.Create(name, size, diskfs.SectorSizeDefault)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fat, err := d.CreateFilesystem(disk.FilesystemSpec{FSType: kind, VolumeLabel: "TEST"})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if dir := path.Dir(name); dir != "." {
			if err := fat.Mkdir(dir); err != nil {
				t.Fatal(err)
			}
		}
		f, err := fat.OpenFile(name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil && len(data) > 0 {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// imageFile is an image whose second partition is of the given type, after a first
// one of a sector. A chunk has so many sectors, 0: each partition is one.
func imageFile(t *testing.T, kind string, fat []byte, chunk int64) string {
	t.Helper()
	img := dmgtest.Image(t, append(make([]byte, dmgtest.SectorSize), fat...), dmgtest.Options{
		Codecs:       []dmgtest.Method{dmgtest.Zlib, dmgtest.LZFSE, dmgtest.Bzip2},
		ChunkSectors: chunk,
		Partitions:   []dmgtest.Partition{{Name: "Master Boot Record (MBR : 0)", Sectors: 1}, {Name: "TEST (" + kind + " : 1)", First: 1}},
	})
	return writeFile(t, "test.dmg", img)
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// output is what run writes.
func output(t *testing.T, image string, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	if err := run(&b, image, names...); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// checkFiles compares the list, and every file, with what was put into the file
// system.
func checkFiles(t *testing.T, image string, files map[string][]byte) {
	t.Helper()
	var got, want []string
	for line := range strings.Lines(output(t, image)) {
		var size int
		var date, clock, name string
		if _, err := fmt.Sscanf(line, "%d %s %s %q\n", &size, &date, &clock, &name); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, fmt.Sprint(name, " ", size))
	}
	for name, data := range files {
		want = append(want, fmt.Sprint(name, " ", len(data)))
		if s := output(t, image, name); s != string(data) {
			t.Errorf("%s has %d bytes, want %d, or other ones", name, len(s), len(data))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

func TestFAT(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind filesystem.Type
		dmg  string // the type as Apple's tools name it
		size int64
	}{
		{"FAT12", filesystem.TypeFat12, "DOS_FAT_12", 1440 << 10},
		{"FAT16", filesystem.TypeFat16, "Windows_FAT_16", 16 << 20},
		{"FAT32", filesystem.TypeFat32, "DOS_FAT_32", 40 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := contents()
			fat := makeFAT(t, tt.kind, tt.size, files)
			t.Run("in a partition", func(t *testing.T) { checkFiles(t, imageFile(t, tt.dmg, fat, 128), files) })
			t.Run("alone", func(t *testing.T) { checkFiles(t, writeFile(t, "test.img", fat), files) })
		})
	}
}

// A file is read without most of the disk being decoded, though all of it is one
// chunk.
func TestDecodesLittle(t *testing.T) {
	files := map[string][]byte{"FIRST.TXT": dmgtest.Text(1, 1000).Bytes()}
	fat := makeFAT(t, filesystem.TypeFat16, 16<<20, files)
	copy(fat[8<<20:], dmgtest.Random(3, 8<<20).Bytes()) // space that is free
	im, err := dmg.Open(imageFile(t, "DOS_FAT_16", fat, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	part, err := findFAT(im)
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := openFAT(part)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := write(&got, part, fsys, "FIRST.TXT"); err != nil || !bytes.Equal(got.Bytes(), files["FIRST.TXT"]) {
		t.Errorf("%q, %v", &got, err)
	}
	if n := im.Stats().BytesDecoded; n > 1<<20 {
		t.Errorf("decoded %d bytes", n)
	}
}

func TestErrors(t *testing.T) {
	files := map[string][]byte{"A.TXT": []byte("a")}
	fat := makeFAT(t, filesystem.TypeFat12, 720<<10, files)
	for _, tt := range []struct {
		name  string
		image string
		args  []string
		want  string
	}{
		{"no such image", filepath.Join(t.TempDir(), "none.dmg"), nil, "none.dmg"},
		{"no such file", imageFile(t, "DOS_FAT_12", fat, 16), []string{"B.TXT"}, "B.TXT"},
		{"no such folder", imageFile(t, "DOS_FAT_12", fat, 16), []string{"b/A.TXT"}, "b"},
		{"a folder", imageFile(t, "DOS_FAT_12", makeFAT(t, filesystem.TypeFat12, 720<<10, contents()), 16), []string{"docs"}, "is a directory"},
		{"other partitions only", imageFile(t, "Apple_HFS", fat, 16), nil, "no FAT partition"},
		{"no file system", imageFile(t, "DOS_FAT_12", make([]byte, 720<<10), 16), nil, "FAT12"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := run(&b, tt.image, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) || b.Len() > 0 {
				t.Errorf("error %v, want one about %q; wrote %q", err, tt.want, &b)
			}
		})
	}
}

// What is damaged in a file is an error, and no zeros; the rest can be read.
func TestDamage(t *testing.T) {
	files := map[string][]byte{"A.TXT": dmgtest.Text(4, 100<<10).Bytes(), "B.TXT": dmgtest.Text(5, 1000).Bytes()}
	name := imageFile(t, "DOS_FAT_12", makeFAT(t, filesystem.TypeFat12, 720<<10, files), 16)
	img, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	im, err := dmg.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	disk := make([]byte, im.Size())
	if _, err := im.ReadAt(disk, 0); err != nil {
		t.Fatal(err)
	}
	at := int64(bytes.Index(disk, files["A.TXT"][50<<10:51<<10]))
	for c := range im.Chunks() {
		if c.Offset <= at && at < c.Offset+c.Length {
			clear(img[c.DataOffset+c.DataLength/2:][:8])
		}
	}
	damaged := writeFile(t, "damaged.dmg", img)
	var chunk *dmg.ChunkError
	if err := run(io.Discard, damaged, "A.TXT"); !errors.As(err, &chunk) {
		t.Errorf("A.TXT: %v", err)
	}
	if got := output(t, damaged, "B.TXT"); got != string(files["B.TXT"]) {
		t.Errorf("B.TXT: %q", got)
	}
}

// An image by Apple's tools.
func TestSample(t *testing.T) {
	image := "../../../shared/samples/hdiutil/fat32_mbr.dmg"
	if _, err := os.Stat(image); err != nil {
		t.Skip(err)
	}
	const app = "raqote-winit.app/Contents/"
	for _, want := range []string{`617  2022-04-19 20:21:54  "` + app + `Info.plist"`, `4380984  2022-04-19 19:32:38  "` + app + `MacOS/raqote-winit"`} {
		if got := output(t, image); !strings.Contains(got, want) {
			t.Errorf("listed\n%s, want %s", got, want)
		}
	}
	if got := output(t, image, app+"Info.plist"); !strings.HasPrefix(got, "<?xml") || len(got) != 617 {
		t.Errorf("Info.plist is %q", got)
	}
	if got := output(t, image, app+"Resources/AppIcon.icns"); !strings.HasPrefix(got, "icns") || len(got) != 49980 {
		t.Errorf("AppIcon.icns has %d bytes", len(got))
	}
}

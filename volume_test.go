package dmg_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
	"github.com/go-dmg/dmg/internal/imagetest"
)

// hfsHeader is a volume header of so many blocks of 4 KiB, without trees.
func hfsHeader(blocks uint32) string {
	b := make([]byte, 512)
	copy(b, "H+\x00\x04")
	binary.BigEndian.PutUint32(b[40:], 4096)
	binary.BigEndian.PutUint32(b[44:], blocks)
	binary.BigEndian.PutUint32(b[48:], blocks/4)
	binary.BigEndian.PutUint32(b[32:], 7)
	return string(b)
}

// entry is an entry of a boot record, in sectors.
func entry(kind byte, start, count uint32) string {
	b := []byte{0, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(b[8:], start)
	binary.LittleEndian.PutUint32(b[12:], count)
	return string(b)
}

const swapMark = "SWAPSPACE2"

var volumeTests = []struct {
	name  string
	disk  map[int]string // of 1 MiB, by offset
	parts []dmgtest.Partition
	want  []string // type, partition, offset, length
}{
	{"nothing", nil, []dmgtest.Partition{{}}, nil},
	{"a bare disk", map[int]string{1024: hfsHeader(256)}, nil, []string{"HFS+ -1 0 1048576"}},
	{"a shorter file system", map[int]string{1024: hfsHeader(100)}, nil, []string{"HFS+ -1 0 409600"}},
	{"one that exceeds the disk", map[int]string{1024: hfsHeader(1 << 31)}, nil, []string{"HFS+ -1 0 1048576"}},
	{"a table over the whole disk", map[int]string{1024: hfsHeader(256)}, []dmgtest.Partition{{Name: "whole disk (unknown partition : 0)"}}, []string{"HFS+ 0 0 1048576"}},
	{"other types than there are", map[int]string{446: entry(0x0C, 64, 640) + entry(0xAF, 704, 1000), 510: "\x55\xAA", 64*512 + 4086: swapMark, 704*512 + 1024: hfsHeader(50)}, nil,
		[]string{"Linux swap 0 32768 327680", "HFS+ 1 360448 204800"}},
	{"partitions in a table over the whole disk", map[int]string{446: entry(0xAF, 64, 640), 510: "\x55\xAA", 64*512 + 1024: hfsHeader(80)}, []dmgtest.Partition{{Name: "whole disk (unknown partition : 0)"}},
		[]string{"HFS+ 1 32768 327680"}},
	{"the same place twice", map[int]string{446: entry(0xAF, 64, 640) + entry(0x83, 64, 100), 510: "\x55\xAA", 64*512 + 1024: hfsHeader(80)}, nil,
		[]string{"HFS+ 0 32768 327680"}},
	{"free space that isn't", map[int]string{1024 + 512*512: hfsHeader(10)}, []dmgtest.Partition{{Name: "a", Sectors: 512}, {Name: " (Apple_Free : 1)", First: 512}},
		[]string{"HFS+ 1 262144 40960"}},
	{"a disc in a partition and beside it", map[int]string{446: entry(0xAF, 256, 640), 510: "\x55\xAA", 32768: "\x01CD001\x01", 32768 + 128: "\x00\x08", 32768 + 2048: "\xFFCD001\x01", 256*512 + 1024: hfsHeader(80)}, nil,
		[]string{"ISO 9660 -1 0 1048576", "HFS+ 0 131072 327680"}},
}

func volumeDisk(at map[int]string) []byte {
	disk := make([]byte, 1<<20)
	for off, b := range at {
		copy(disk[off:], b)
	}
	return disk
}

func TestVolumes(t *testing.T) {
	for _, tt := range volumeTests {
		t.Run(tt.name, func(t *testing.T) {
			image := volumeDisk(tt.disk) // a raw image, if no block tables are asked for
			if tt.parts != nil {
				image = dmgtest.Image(t, image, dmgtest.Options{Partitions: tt.parts})
			}
			im, err := dmg.NewImage(bytes.NewReader(image), int64(len(image)), nil)
			if err != nil {
				t.Fatal(err)
			}
			vs, err := im.Volumes()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range vs {
				got = append(got, fmt.Sprint(v.Type, " ", v.Partition, " ", v.Offset, " ", v.Length))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if again, err := im.Volumes(); err != nil || !slices.Equal(again, vs) {
				t.Errorf("again: %v, %v", again, err)
			}
		})
	}
}

// TestVolumesManyPartitions: an image that names any number of partitions takes no time
// for it.
func TestVolumesManyPartitions(t *testing.T) {
	parts := make([]dmgtest.Partition, 2000)
	for i := range parts {
		parts[i] = dmgtest.Partition{Name: fmt.Sprintf("p (Apple_HFS : %d)", i), First: int64(i), Sectors: 1}
	}
	image := dmgtest.Image(t, make([]byte, 1<<20), dmgtest.Options{Partitions: parts})
	im, err := dmg.NewImage(bytes.NewReader(image), int64(len(image)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if vs, err := im.Volumes(); err != nil || len(vs) > 0 {
		t.Errorf("%v, %v", vs, err)
	}
	if n := im.Stats().BytesRead; n > 16<<20 {
		t.Errorf("%d bytes read", n)
	}
}

// R8. An error of the source is passed on, and the next call tries again.
func TestVolumesSourceFaults(t *testing.T) {
	disk := volumeDisk(volumeTests[5].disk)
	image := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 32})
	fault := errors.New("fault")
	failed := 0
	for call := int64(1); ; call++ {
		src := &dmgtest.FailAt{R: bytes.NewReader(image), Call: call, Err: fault}
		im, err := dmg.NewImage(src, int64(len(image)), nil)
		if err != nil {
			continue
		}
		opened := src.Calls()
		vs, err := im.Volumes()
		if src.Calls() == opened || src.Calls() < call {
			break
		}
		if err != nil {
			failed++
			if !errors.Is(err, fault) || vs != nil {
				t.Errorf("call %d: %v, %v", call, vs, err)
			}
		}
		if vs, err := im.Volumes(); err != nil || len(vs) == 0 {
			t.Errorf("call %d, then: %v, %v", call, vs, err)
		}
	}
	if failed == 0 {
		t.Error("no read failed")
	}
}

// TestVolumesDamaged: what can't be decoded hides no file system elsewhere.
func TestVolumesDamaged(t *testing.T) {
	disk := volumeDisk(map[int]string{446: entry(0x0C, 64, 640) + entry(0xAF, 704, 1000), 510: "\x55\xAA", 704*512 + 1024: hfsHeader(50)})
	copy(disk[64*512:], dmgtest.Random(1, 200<<10).Bytes())
	l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: 64})
	if err != nil {
		t.Fatal(err)
	}
	image := l.Bytes()
	im, err := dmg.NewImage(bytes.NewReader(image), int64(len(image)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for c := range im.Chunks() {
		if c.Offset >= 64*512 && c.Offset < 128<<10 && c.DataLength > 0 {
			for i := range image[c.DataOffset:][:c.DataLength] {
				image[c.DataOffset+int64(i)] ^= 0x55
			}
		}
	}
	vs, err := im.Volumes()
	if err != nil || len(vs) != 1 || vs[0].Type != "HFS+" || vs[0].Used != 50*4096-12*4096 || vs[0].Files != 7 || vs[0].BlockSize != 4096 {
		t.Errorf("%+v, %v", vs, err)
	}
}

// TestVolumesTogether: all callers see the same, and each volume has one FS.
func TestVolumesTogether(t *testing.T) {
	image := dmgtest.Image(t, volumeDisk(volumeTests[5].disk), dmgtest.Options{})
	im, err := dmg.NewImage(bytes.NewReader(image), int64(len(image)), nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	all := make([][]dmg.Volume, 16)
	for i := range all {
		wg.Go(func() {
			vs, err := im.Volumes()
			if err != nil {
				t.Error(err)
			}
			all[i] = vs
		})
	}
	wg.Wait()
	for i := range all {
		if !slices.Equal(all[i], all[0]) {
			t.Errorf("%v, %v", all[i], all[0])
		}
	}
}

// TestUnsupportedFS: an error says what is there.
func TestUnsupportedFS(t *testing.T) {
	for _, tt := range []struct {
		disk map[int]string
		want string
	}{
		{nil, "no file system was found"},
		{map[int]string{4086: swapMark, 1024: "\x01\x00\x00\x00", 1052: "two\nlines"}, `but Linux swap "two\nlines"`},
	} {
		image := dmgtest.Image(t, volumeDisk(tt.disk), dmgtest.Options{})
		im, err := dmg.NewImage(bytes.NewReader(image), int64(len(image)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := im.FS(); !errors.Is(err, dmg.ErrUnsupported) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
		vs, err := im.Volumes()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vs {
			if _, err := v.FS(); !errors.Is(err, dmg.ErrUnsupported) || !strings.Contains(err.Error(), v.Type) {
				t.Error(err)
			}
		}
	}
}

// openSample opens a sample of samples/fs, packed or not.
func openSample(t *testing.T, name string, opts *dmg.Options) *dmg.Image {
	t.Helper()
	file := filepath.Join(imagetest.Samples(), "fs", name)
	image, err := os.ReadFile(file)
	if err != nil {
		t.Skip("no samples")
	}
	if strings.HasSuffix(name, ".gz") {
		image = dmgtest.Unpack(t, file)
	}
	im, err := dmg.NewImage(bytes.NewReader(image), int64(len(image)), opts)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// TestVolumeSamples has the volumes that Apple's tools wrote, and reads all that is in one.
func TestVolumeSamples(t *testing.T) {
	for _, tt := range []struct {
		name, kind, volume string
		files              int64 // as the volume says
		entries            int   // with folders, links and the root, but for what is hidden
	}{
		{"hfsplus-app.dmg", "HFS+", "Sparkle Test App", 161, 233},
		{"hfsplus-basic.dmg", "HFS+", "HFSTEST", 12, 15},
		{"hfsx.dmg", "HFSX", "test-disk-image-hfsp-c", 3, 4},
		{"hfs-wrapped.img.gz", "HFS+", "NESTVOL", 2, 0},
		{"hfsplus-apm.img.gz", "HFS+", "APMTest", 1, 0},
		{"apfs-app.dmg", "APFS", "SparkleTest", 154, 232},
		{"apfs-basic.dmg", "APFS", "ACCEPT", 9, 15},
		{"apfs-old-block0.img.gz", "APFS", "untitled", 1, 0},
		{"hfs-extents.img.gz", "HFS", "ManyExtents", 4, 0},
		{"hfs-gsos.img.gz", "HFS", "HFS - GS/OS", 13, 17},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := openSample(t, tt.name, nil)
			vs, err := im.Volumes()
			if err != nil || len(vs) != 1 {
				t.Fatalf("%v, %v", vs, err)
			}
			if v := vs[0]; v.Type != tt.kind || v.Name != tt.volume || v.Files != tt.files || v.Encrypted || v.Role != "" {
				t.Errorf("%+v", v)
			}
			if vs[0].Partition >= 0 {
				if p := im.Partitions()[vs[0].Partition]; vs[0].Offset < p.Offset || vs[0].Offset+vs[0].Length > p.Offset+p.Length {
					t.Errorf("%+v is not in %+v", vs[0], p)
				}
			}
			files, err := im.FS()
			if err != nil {
				t.Fatal(err)
			}
			same, err := vs[0].FS()
			if err != nil || same != files {
				t.Errorf("FS of the image and of its volume: %v, %v, %v", files, same, err)
			}
			n := 0
			err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
				if n++; err != nil || !d.Type().IsRegular() {
					return err
				}
				_, err = fs.ReadFile(files, name)
				return err
			})
			if err != nil || n == 0 || tt.entries > 0 && n != tt.entries {
				t.Errorf("%d entries, %v, want %d", n, err, tt.entries)
			}
		})
	}
}

// TestVolumeFS has an FS keep to what io/fs asks for.
func TestVolumeFS(t *testing.T) {
	for _, name := range []string{"hfsx.dmg", "apfs-case-sensitive.dmg"} {
		files, err := openSample(t, name, nil).FS()
		if err != nil {
			t.Fatal(err)
		}
		if err := fstest.TestFS(files, "file-a.txt", "file-b.txt"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := files.(fs.ReadLinkFS); !ok {
			t.Errorf("%s: no links", name)
		}
		f, err := files.Open("file-a.txt")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.(interface {
			io.ReaderAt
			io.Seeker
		}); !ok {
			t.Errorf("%s: %T", name, f)
		}
		f.Close()
	}
}

// TestVolumeFSTogether: whoever opens a volume first, all have the same FS.
func TestVolumeFSTogether(t *testing.T) {
	im := openSample(t, "hfsplus-app.dmg", nil)
	all := make([]fs.FS, 16)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			files, err := im.FS()
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = files
			for _, name := range []string{"SparkleTestCodeSignApp.app/Contents/Info.plist", ".DS_Store"} {
				if _, err := fs.ReadFile(files, name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, files := range all {
		if files != all[0] {
			t.Error("several FS of one volume")
		}
	}
}

// TestVolumeEncrypted: a volume's password is the one of Options.
func TestVolumeEncrypted(t *testing.T) {
	for _, tt := range []struct {
		password string
		err      error
	}{{"hunter2hunter2", nil}, {"", dmg.ErrNoPassword}, {"hunter3", dmg.ErrWrongPassword}} {
		im := openSample(t, "apfs-encrypted.img.gz", &dmg.Options{Password: tt.password})
		vs, err := im.Volumes()
		if err != nil || len(vs) != 1 || !vs[0].Encrypted || vs[0].Type != "APFS" || vs[0].Name == "" {
			t.Fatalf("%+v, %v", vs, err)
		}
		if _, err := im.FS(); !errors.Is(err, tt.err) || tt.err != nil && !errors.Is(err, dmg.ErrPassword) {
			t.Errorf("%q: %v", tt.password, err)
		}
		if text := fmt.Sprintf("%+v %#v", im, im); tt.password != "" && strings.Contains(text, tt.password) {
			t.Error("printing an Image prints the password")
		}
	}
}

// TestVolumeSnapshots lists snapshots, which show their files as they were.
func TestVolumeSnapshots(t *testing.T) {
	im := openSample(t, "apfs-snapshots.dmg", nil)
	v, err := im.Volume()
	if err != nil {
		t.Fatal(err)
	}
	list, err := v.Snapshots()
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	again, err := v.Snapshots()
	if err != nil || !slices.Equal(list, again) {
		t.Errorf("again: %v, %v", again, err)
	}
	live, err := v.FS()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[fs.FS]bool{live: true}
	for i, s := range list {
		manifest := dmgtest.ReadVolumeManifest(t, filepath.Join(imagetest.Samples(), "fs", []string{"apfs-snapshots.snap10", "apfs-snapshots.snap22"}[i]))
		if made := fmt.Sprintf("snapshot '%s' of xid", s.Name); !strings.HasPrefix(manifest.About, made) || !strings.Contains(manifest.About, s.Created.Format(time.RFC3339Nano)) {
			t.Errorf("%s, made %v; want %.150s", s, s.Created, manifest.About)
		}
		if want := fmt.Sprintf("snapshot %q of APFS %q (partition 4)", s.Name, v.Name); s.String() != want {
			t.Errorf("%s, want %s", s, want)
		}
		files, err := s.FS()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := again[i].FS(); err != nil || same != files || seen[files] {
			t.Errorf("%s: %v, %v; seen %v", s, same, err, seen[files])
		}
		seen[files] = true
		for _, f := range manifest.Files {
			if f.Type != "file" {
				continue
			}
			data, err := fs.ReadFile(files, f.Path)
			if sum := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || sum != f.Sum {
				t.Errorf("%s: %s: %d bytes of sum %s, %v", s, f.Path, len(data), sum, err)
			}
		}
		found := 0
		err = fs.WalkDir(files, ".", func(string, fs.DirEntry, error) error { found++; return nil })
		if err != nil || found != len(manifest.Files) {
			t.Errorf("%s: %d entries, %v, want %d", s, found, err, len(manifest.Files))
		}
	}
	if v, err = openSample(t, "hfsx.dmg", nil).Volume(); err != nil {
		t.Fatal(err)
	}
	if list, err := v.Snapshots(); err != nil || list != nil {
		t.Errorf("HFSX: %v, %v", list, err)
	}
	if list, err := (dmg.Volume{}).Snapshots(); err != nil || list != nil {
		t.Errorf("no volume: %v, %v", list, err)
	}
	if _, err := (dmg.Snapshot{}).FS(); !errors.Is(err, dmg.ErrUnsupported) {
		t.Errorf("no snapshot: %v", err)
	}
}

// TestVolumeDamaged: a volume whose structures are damaged is listed, and its FS says so.
func TestVolumeDamaged(t *testing.T) {
	disk := volumeDisk(map[int]string{1024: hfsHeader(256)}) // without a catalog
	im, err := dmg.NewImage(bytes.NewReader(disk), int64(len(disk)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.FS(); !errors.Is(err, dmg.ErrFormat) || !errors.Is(err, hfsplus.ErrFormat) || !strings.Contains(err.Error(), "HFS+: ") {
		t.Error(err)
	}
	disk = volumeDisk(map[int]string{24: "\x01\x00\x00\x80", 32: "NXSB\x00\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"})
	im, err = dmg.NewImage(bytes.NewReader(disk), int64(len(disk)), nil)
	if err != nil {
		t.Fatal(err)
	}
	vs, err := im.Volumes()
	if err != nil || len(vs) != 1 || vs[0].Type != "APFS" {
		t.Fatalf("%+v, %v", vs, err)
	}
	if _, err := vs[0].FS(); !errors.Is(err, dmg.ErrFormat) && !errors.Is(err, dmg.ErrChecksum) {
		t.Error(err)
	}
}

// TestVolumeLostHeader: a volume whose header is lost is found by the copy, and read.
func TestVolumeLostHeader(t *testing.T) {
	v := hfsvol.Write(hfsvol.Dir("Lost", hfsvol.File("file", []byte("content"))), hfsvol.Options{})
	clear(v.Image[v.Header:][:512])
	sectors := int64(len(v.Image) / 512)
	disk := append(make([]byte, 64*512), v.Image...)
	copy(disk[446:], entry(0xAF, 64, uint32(sectors)))
	copy(disk[510:], "\x55\xAA")
	im, err := dmg.NewImage(bytes.NewReader(disk), int64(len(disk)), nil)
	if err != nil {
		t.Fatal(err)
	}
	vs, err := im.Volumes()
	if err != nil || len(vs) != 1 || vs[0].Name != "Lost" || vs[0].Type != "HFS+" || vs[0].Offset != 64*512 {
		t.Fatalf("%+v, %v", vs, err)
	}
	files, err := vs[0].FS()
	if err != nil {
		t.Fatal(err)
	}
	if data, err := fs.ReadFile(files, "file"); string(data) != "content" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

// R8. A volume that the source let fail once can be read the next time.
func TestVolumeFSSourceFaults(t *testing.T) {
	for name, open := range map[string]func(*dmg.Image) (fs.FS, error){
		"hfsplus-basic.dmg": (*dmg.Image).FS,
		"apfs-basic.dmg":    (*dmg.Image).FS,
		"apfs-snapshots.dmg": func(im *dmg.Image) (fs.FS, error) {
			v, err := im.Volume()
			if err != nil {
				return nil, err
			}
			list, err := v.Snapshots()
			if err != nil {
				return nil, err
			}
			return list[1].FS()
		},
	} {
		image, err := os.ReadFile(filepath.Join(imagetest.Samples(), "fs", name))
		if err != nil {
			t.Skip("no samples")
		}
		fault := errors.New("fault")
		failed := 0
		for call := int64(1); ; call++ {
			src := &dmgtest.FailAt{R: bytes.NewReader(image), Call: call, Err: fault}
			im, err := dmg.NewImage(src, int64(len(image)), nil)
			if err != nil {
				continue
			}
			read := func() ([]byte, error) {
				files, err := open(im)
				if err != nil {
					return nil, err
				}
				if name == "apfs-snapshots.dmg" {
					return fs.ReadFile(files, "foo.txt")
				}
				return fs.ReadFile(files, "dir1/nested/deep.txt")
			}
			_, err = read()
			if src.Calls() < call {
				break
			}
			if err != nil {
				failed++
				if !errors.Is(err, fault) || errors.Is(err, dmg.ErrFormat) {
					t.Errorf("%s, call %d: %v", name, call, err)
				}
			}
			if data, err := read(); err != nil || len(data) == 0 {
				t.Errorf("%s, call %d, then: %q, %v", name, call, data, err)
			}
		}
		if failed == 0 {
			t.Errorf("%s: no read failed", name)
		}
	}
}

// TestSeveralVolumes: of two volumes FS takes none.
func TestSeveralVolumes(t *testing.T) {
	disk := volumeDisk(map[int]string{446: entry(0xAF, 64, 640) + entry(0xAF, 704, 1000), 510: "\x55\xAA", 64*512 + 1024: hfsHeader(80), 704*512 + 1024: hfsHeader(50)})
	im, err := dmg.NewImage(bytes.NewReader(disk), int64(len(disk)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.FS(); !errors.Is(err, dmg.ErrSeveralVolumes) || !strings.Contains(err.Error(), "HFS+ (partition 0), HFS+ (partition 1)") {
		t.Error(err)
	}
}

// R5. One file of 5 KB among 800, and a list of them all, take a few reads of an image whose
// chunks are as hdiutil writes them.
func TestVolumeReadsLittle(t *testing.T) {
	dmgtest.Long(t)
	if deflate.Forced > 0 {
		t.Skip("several cores decode what is hardly worth it")
	}
	xorriso, err := exec.LookPath("xorriso")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	want := dmgtest.Text(1, 5000).Bytes()
	for i := range 800 {
		name := filepath.Join(dir, "files", fmt.Sprintf("App.app/Contents/dir%d/file%d", i/40, i%40))
		data := want
		if i != 447 {
			data = dmgtest.Text(uint64(i), int64(1000+i*91%60_000)).Bytes()
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	iso := filepath.Join(dir, "disk")
	cmd := exec.Command(xorriso, "-as", "mkisofs", "-quiet", "-hfsplus", "-V", "TEST", "-o", iso, filepath.Join(dir, "files"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	disk, err := os.ReadFile(iso)
	if err != nil {
		t.Fatal(err)
	}
	image := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: dmgtest.DefaultChunk})
	open := func() (*dmgtest.Counter, *dmg.Image) {
		src := &dmgtest.Counter{R: bytes.NewReader(image)}
		im, err := dmg.NewImage(src, int64(len(image)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return src, im
	}
	src, im := open()
	files, err := im.FS()
	if err != nil {
		t.Fatal(err)
	}
	got, err := fs.ReadFile(files, "App.app/Contents/dir11/file7")
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	t.Logf("a file: %d bytes in %d reads", src.Bytes(), src.Calls())
	if src.Bytes() > 400<<10 || src.Calls() > 6 {
		t.Errorf("a file took %d bytes in %d reads", src.Bytes(), src.Calls())
	}
	src, im = open()
	if files, err = im.FS(); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = fs.WalkDir(files, ".", func(_ string, d fs.DirEntry, err error) error {
		n++
		return err
	})
	t.Logf("a list: %d bytes in %d reads", src.Bytes(), src.Calls())
	if err != nil || n != 823 || src.Bytes() > 400<<10 || src.Calls() > 8 {
		t.Errorf("a list of %d, %v, took %d bytes in %d reads", n, err, src.Bytes(), src.Calls())
	}
}

package fsname

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
	"github.com/go-dmg/dmg/internal/partition"
)

// made are file systems that others' programs make. FILE stands for a file of that many
// bytes, all zeros, DIR for a folder with a file in it.
var made = []struct {
	kind, label string
	size        int64
	command     string
	blkid       string // its type there, if blkid knows it
}{
	{"FAT12", "FLOPPY", 1440 << 10, "mkfs.vfat -n FLOPPY FILE", "vfat"},
	{"FAT12", "", 1440 << 10, "mkfs.vfat FILE", "vfat"},
	{"FAT16", "SIXTEEN", 32 << 20, "mkfs.vfat -F 16 -n SIXTEEN FILE", "vfat"},
	{"FAT32", "THIRTY TWO", 64 << 20, "mkfs.vfat|-F|32|-n|THIRTY TWO|FILE", "vfat"},
	{"FAT32", "BIG", 600 << 20, "mkfs.vfat -s 8 -n BIG FILE", "vfat"},
	{"FAT32", "SECTORS", 300 << 20, "mkfs.vfat -S 4096 -F 32 -s 1 -n SECTORS FILE", "vfat"},
	{"exFAT", "Größe 11", 32 << 20, "mkfs.exfat|-L|Größe 11|FILE", "exfat"},
	{"exFAT", "", 32 << 20, "mkfs.exfat FILE", "exfat"},
	{"NTFS", "Fenster äöü", 32 << 20, "mkntfs|-q|-F|-f|-L|Fenster äöü|FILE", "ntfs"},
	{"NTFS", "", 32 << 20, "mkntfs -q -F -f -c 65536 FILE", "ntfs"},
	{"ext2", "second", 8 << 20, "mke2fs -q -F -t ext2 -L second FILE", "ext2"},
	{"ext3", "third", 16 << 20, "mke2fs -q -F -t ext3 -L third FILE", "ext3"},
	{"ext4", "sixteen chars 16", 16 << 20, "mke2fs|-q|-F|-t|ext4|-L|sixteen chars 16|FILE", "ext4"},
	{"ext4", "", 16 << 20, "mke2fs -q -F -t ext4 -b 4096 FILE", "ext4"},
	{"ext journal", "", 8 << 20, "mke2fs -q -F -O journal_dev FILE", "jbd"},
	{"XFS", "twelve chars", 320 << 20, "mkfs.xfs|-q|-f|-L|twelve chars|FILE", "xfs"},
	{"Btrfs", "butter", 120 << 20, "mkfs.btrfs -q -f -L butter FILE", "btrfs"},
	{"Linux swap", "paging", 1 << 20, "mkswap -q -L paging FILE", "swap"},
	{"Linux swap", "pages of 16k", 1 << 20, "mkswap|-q|-p|16384|-L|pages of 16k|FILE", ""},
	{"Linux swap", "pages of 64k", 1 << 20, "mkswap|-q|-p|65536|-L|pages of 64k|FILE", ""},
	{"F2FS", "", 64 << 20, "mkfs.f2fs -q FILE", "f2fs"},
	{"SquashFS", "", 0, "mksquashfs DIR FILE -quiet -no-progress", "squashfs"},
	{"EROFS", "", 0, "mkfs.erofs --quiet FILE DIR", "erofs"},
	{"ISO 9660", "DISC_ONE", 0, "xorriso -as mkisofs -quiet -V DISC_ONE -o FILE DIR", "iso9660"},
	{"ISO 9660", "Disc of Joliet", 0, "xorriso|-as|mkisofs|-quiet|-J|-V|Disc of Joliet|-o|FILE|DIR", "iso9660"},
	{"HFS+ ISO 9660", "Hybrid One", 0, "xorriso|-as|mkisofs|-quiet|-hfsplus|-V|Hybrid One|-o|FILE|DIR", ""},
	{"UDF", "Plain ASCII", 16 << 20, "mkudffs|--utf8|-b|2048|-l|Plain ASCII|FILE", "udf"},
	{"UDF", "Größe", 16 << 20, "mkudffs|--utf8|-b|512|-l|Größe|FILE", "udf"},
	{"UDF", "日本", 16 << 20, "mkudffs|--utf8|-b|4096|-l|日本|FILE", "udf"},
	{"HFS", "Old Mac", 1440 << 10, "hformat|-l|Old Mac|FILE", "hfs"},
}

// run runs the command and returns the file.
func run(t *testing.T, command string, size int64) string {
	t.Helper()
	dir := t.TempDir()
	file, folder := filepath.Join(dir, "image"), filepath.Join(dir, "folder")
	args := strings.FieldsFunc(command, func(r rune) bool { return r == '|' })
	if len(args) == 1 {
		args = strings.Fields(command)
	}
	name, err := exec.LookPath(args[0])
	if err != nil {
		name = "/usr/sbin/" + args[0]
		if _, err := os.Stat(name); err != nil {
			t.Skipf("there is no %s", args[0])
		}
	}
	for i, a := range args {
		switch a {
		case "FILE":
			args[i] = file
		case "DIR":
			args[i] = folder
		}
	}
	if err := os.Mkdir(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "file"), []byte("content"), 0o666); err != nil {
		t.Fatal(err)
	}
	if size > 0 {
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return file
}

// kinds are the types found, in order.
func kinds(found []FileSystem) string {
	var all []string
	for _, fs := range found {
		all = append(all, fs.Type)
	}
	return strings.Join(all, " ")
}

// TestMade names what others' programs make, as blkid does, and reads little for it.
func TestMade(t *testing.T) {
	for _, tt := range made {
		t.Run(tt.kind+" "+tt.label, func(t *testing.T) {
			t.Parallel()
			name := run(t, tt.command, tt.size)
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			src := &dmgtest.Counter{R: f}
			found, err := probeAll(src, info.Size())
			if err != nil || kinds(found) != tt.kind || found[0].Label != tt.label {
				t.Fatalf("%+v, %v, want %s %q", found, err, tt.kind, tt.label)
			}
			if src.Bytes() > 100<<10 || src.Calls() > 24 {
				t.Errorf("%d bytes in %d reads", src.Bytes(), src.Calls())
			}
			for _, fs := range found {
				if fs.Length <= 0 || fs.Length > info.Size()-fs.Offset || fs.Used > fs.Length {
					t.Errorf("%+v of %d bytes", fs, info.Size())
				}
				if tt.size > 0 && fs.Length < tt.size*9/10 {
					t.Errorf("%+v of %d bytes", fs, tt.size)
				}
			}
			if tt.blkid == "" {
				return
			}
			out, err := exec.Command("/usr/sbin/blkid", "-p", "-o", "value", "-s", "TYPE", name).Output()
			if errors.Is(err, os.ErrNotExist) {
				t.Skip("there is no blkid")
			}
			if got := strings.TrimSpace(string(out)); err != nil || got != tt.blkid {
				t.Errorf("blkid: %q, %v, want %q", got, err, tt.blkid)
			}
			label, _ := exec.Command("/usr/sbin/blkid", "-p", "-o", "value", "-s", "LABEL", name).Output()
			if got := strings.TrimSpace(string(label)); got != tt.label && tt.blkid != "hfs" { // it takes HFS's for another
				t.Errorf("blkid: label %q, want %q", got, tt.label)
			}
		})
	}
}

// probeAll looks at partitions and at the disk, as callers do.
func probeAll(r io.ReaderAt, size int64) ([]FileSystem, error) {
	table, err := partition.Read(r, size)
	if err != nil {
		return nil, err
	}
	var all []FileSystem
	for _, p := range table.Partitions {
		found, err := Probe(io.NewSectionReader(r, p.Offset, p.Length), p.Length)
		if err != nil {
			return nil, err
		}
		for _, fs := range found {
			fs.Offset += p.Offset
			all = append(all, fs)
		}
	}
	found, err := Probe(r, size)
	return append(all, found...), err
}

// samples are disks of Apple's, in packed files.
var samples = []struct{ file, kind, label string }{
	{"apfs-content.img.gz", "APFS", ""},
	{"apfs-rsrc.img.gz", "APFS", ""},
	{"hfs-extents.img.gz", "HFS", "ManyExtents"},
	{"hfs-gsos.img.gz", "HFS", "HFS - GS/OS"},
	{"hfs-wrapped.img.gz", "HFS+", "NESTVOL"},
	{"hfsplus-abslink.img.gz", "HFS+", "GOTEST"},
	{"hfsplus-apm.img.gz", "HFS+", "APMTest"},
	{"hfsplus-compressed.img.gz", "HFS+", "Disk Image"},
	{"hfsplus-dirty.img.gz", "HFS+", "Test HFS Plus Volume"},
	{"hfsplus-many.img.gz", "HFS+", "Many"},
	{"hfsplus-rsrc.img.gz", "HFS+", "hfsplus_test"},
	{"hfsx-alias.img.gz", "HFSX", "zcash4mac"},
}

func TestSamples(t *testing.T) {
	for _, tt := range samples {
		t.Run(tt.file, func(t *testing.T) {
			disk := dmgtest.Unpack(t, "../../../shared/samples/fs/"+tt.file)
			found, err := probeAll(bytes.NewReader(disk), int64(len(disk)))
			if err != nil || kinds(found) != tt.kind || found[0].Label != tt.label {
				t.Errorf("%+v, %v, want %s %q", found, err, tt.kind, tt.label)
			}
		})
	}
}

// other are disks that programs on Debian don't make: each a few bytes at places.
var other = []struct {
	name string
	size int
	at   map[int]string
	want string
}{
	{"nothing", 1 << 20, nil, ""},
	{"a boot record", 1 << 20, map[int]string{0: "\xEB\x3C\x90", 510: "\x55\xAA"}, ""},
	{"MFS", 400 << 10, map[int]string{1024: "\xD2\xD7", 1024 + 12: "\x00\x03\x00\x04\x00\x0C\x01\x87\x00\x00\x04\x00", 1024 + 28: "\x00\x10", 1024 + 36: "\x06System"}, "MFS System"},
	{"ProDOS", 800 << 10, map[int]string{1024 + 2: "\x03\x00\xF5USERS", 1024 + 35: "\x27\x0D", 1024 + 41: "\x40\x06"}, "ProDOS USERS"},
	{"HPFS", 1 << 20, map[int]string{8192: "\x49\xE8\x95\xF9\xC5\xE9\x53\xFA"}, "HPFS "},
	{"JFS", 1 << 20, map[int]string{32768: "JFS1"}, "JFS "},
	{"ReiserFS", 1 << 20, map[int]string{65588: "ReIsEr2Fs"}, "ReiserFS "},
	{"ReFS", 1 << 20, map[int]string{3: "ReFS\x00\x00\x00\x00"}, "ReFS "},
	{"LVM", 1 << 20, map[int]string{512: "LABELONE", 536: "LVM2 001"}, "LVM "},
	{"LUKS", 1 << 20, map[int]string{0: "LUKS\xBA\xBE"}, "LUKS  encrypted"},
	{"BitLocker", 1 << 20, map[int]string{3: "-FVE-FS-"}, "BitLocker  encrypted"},
	{"CoreStorage", 1 << 20, map[int]string{8: "\x01\x00\x10\x00", 88: "CS\x01\x00\x00\x00"}, "CoreStorage "},
	{"UFS, big-endian", 1 << 20, map[int]string{8192 + 1372: "\x00\x01\x19\x54"}, "UFS "},
	{"UFS2", 1 << 20, map[int]string{65536 + 1372: "\x19\x01\x54\x19"}, "UFS2 "},
	{"HFS+ of no blocks", 1 << 20, map[int]string{1024: "H+\x00\x04", 1024 + 40: "\x00\x00\x10\x00"}, ""},
	{"HFS+ of blocks of 4097", 1 << 20, map[int]string{1024: "H+\x00\x04", 1024 + 40: "\x00\x00\x10\x01\x00\x00\x01"}, ""},
	{"HFS+ of 2^63 bytes", 1 << 20, map[int]string{1024: "H+\x00\x04", 1024 + 40: "\x80\x00\x00\x00\xFF\xFF\xFF\xFF"}, "HFS+ "},
	{"HFS+ with a catalog past the end", 1 << 20, map[int]string{1024: "H+\x00\x04", 1024 + 40: "\x00\x00\x10\x00\x00\x00\x01\x00", 1024 + 288: "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"}, "HFS+ "},
	{"HFS around nothing", 1 << 20, map[int]string{1024: "BD", 1024 + 0x12: "\x01\x00\x00\x00\x02\x00", 1024 + 0x7C: "H+\xFF\xFF\xFF\xFF"}, "HFS "},
	{"APFS", 1 << 20, map[int]string{24: "\x01\x00\x00\x80", 32: "NXSB\x00\x10\x00\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"}, "APFS "},
}

func (fs FileSystem) String() string {
	s := fs.Type + " " + fs.Label
	if fs.Encrypted {
		s += " encrypted"
	}
	return s
}

func TestOthers(t *testing.T) {
	for _, tt := range other {
		t.Run(tt.name, func(t *testing.T) {
			disk := make([]byte, tt.size)
			for at, b := range tt.at {
				copy(disk[at:], b)
			}
			found, err := Probe(bytes.NewReader(disk), int64(len(disk)))
			got := ""
			if len(found) > 0 {
				got = found[0].String()
			}
			if err != nil || len(found) > 1 || got != tt.want {
				t.Fatalf("%v, %v, want %q", found, err, tt.want)
			}
			// A source's error is passed on, at whichever read it happens.
			fault := errors.New("fault")
			for call := int64(1); ; call++ {
				src := &dmgtest.FailAt{R: bytes.NewReader(disk), Call: call, Err: fault}
				_, err := Probe(src, int64(len(disk)))
				if src.Calls() < call {
					break
				}
				if !errors.Is(err, fault) {
					t.Errorf("call %d: %v", call, err)
				}
			}
		})
	}
}

// TestLostHeader: a volume whose header is lost is named by the copy, if that is the copy of
// what is looked at.
func TestLostHeader(t *testing.T) {
	root := hfsvol.Dir("Lost", hfsvol.File("file", []byte("content")))
	for _, tt := range []struct {
		name   string
		opts   hfsvol.Options
		change func(v *hfsvol.Volume, disk []byte) []byte
		want   string
	}{
		{"HFS+", hfsvol.Options{}, nil, "HFS+ Lost"},
		{"HFSX", hfsvol.Options{HFSX: true, BlockSize: 512}, nil, "HFSX Lost"},
		{"in a wrapper", hfsvol.Options{Wrapper: true, BlockSize: 8192}, nil, "HFS+ Lost"},
		{"a header of another version", hfsvol.Options{}, func(v *hfsvol.Volume, disk []byte) []byte {
			copy(disk[v.Header:], "H+\x00\x09")
			return disk
		}, "HFS+ Lost"},
		{"the space does not end with a block", hfsvol.Options{}, func(v *hfsvol.Volume, disk []byte) []byte {
			return append(disk[:v.Copy:v.Copy], append(make([]byte, 1536), disk[v.Copy:]...)...)
		}, "HFS+ Lost"},
		{"the volume of a last partition", hfsvol.Options{}, func(v *hfsvol.Volume, disk []byte) []byte {
			return append(make([]byte, 4096), disk...)
		}, ""},
		{"a leftover", hfsvol.Options{}, func(v *hfsvol.Volume, disk []byte) []byte {
			clear(disk[v.Catalog.Nodes[0]:][:v.Catalog.NodeSize])
			return disk
		}, ""},
		{"another file system", hfsvol.Options{}, func(v *hfsvol.Volume, disk []byte) []byte {
			copy(disk[3:], "-FVE-FS-")
			return disk
		}, "BitLocker  encrypted"},
		{"no copy", hfsvol.Options{}, func(v *hfsvol.Volume, disk []byte) []byte {
			clear(disk[v.Copy:])
			return disk
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := hfsvol.Write(root, tt.opts)
			disk := v.Image
			clear(disk[v.Header:][:512])
			if tt.change != nil {
				disk = tt.change(v, disk)
			}
			found, err := Probe(bytes.NewReader(disk), int64(len(disk)))
			got := ""
			if len(found) > 0 {
				got = found[0].String()
			}
			if err != nil || len(found) > 1 || got != tt.want {
				t.Fatalf("%+v, %v, want %q", found, err, tt.want)
			}
			if strings.HasPrefix(tt.want, "HFS") && (found[0].Offset != v.Offset || found[0].Length > int64(len(disk))-v.Offset || found[0].Used <= 0) {
				t.Errorf("%+v", found[0])
			}
		})
	}
}

// FuzzProbe: what is found lies on the disk, any disk has an answer, and it is the same
// where the source returns its end early.
func FuzzProbe(f *testing.F) {
	for _, tt := range other {
		disk := make([]byte, 68<<10)
		for at, b := range tt.at {
			copy(disk[at:], b)
		}
		f.Add(disk)
	}
	lost := hfsvol.Write(hfsvol.Dir("x"), hfsvol.Options{BlockSize: 512})
	clear(lost.Image[lost.Header:][:512])
	f.Add(lost.Image)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		size := int64(len(data))
		src := &dmgtest.Counter{R: bytes.NewReader(data)}
		found, err := Probe(src, size)
		if err != nil {
			t.Fatal(err)
		}
		if src.Bytes() > 64<<10 || src.Calls() > 150 {
			t.Fatalf("%d bytes in %d reads", src.Bytes(), src.Calls())
		}
		for _, fs := range found {
			if fs.Type == "" || fs.Offset < 0 || fs.Length < 0 || fs.Length > size-fs.Offset || fs.BlockSize < 0 || fs.Used < -1 || fs.Files < -1 {
				t.Fatalf("%+v of %d bytes", fs, size)
			}
		}
		again, err := Probe(dmgtest.EagerEOF{R: bytes.NewReader(data), Size: size}, size)
		if err != nil || !slices.Equal(again, found) {
			t.Fatalf("%v, %v, then %v", found, err, again)
		}
	})
}

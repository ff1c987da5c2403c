package imagetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

type mbrPart struct {
	kind         byte
	first, count uint32
}

// mbrDisk is 1 MiB with a master boot record.
func mbrDisk(parts ...mbrPart) []byte {
	disk := dmgtest.Random(20, 1<<20).Bytes()
	clear(disk[446:4096])
	disk[510], disk[511] = 0x55, 0xAA
	for i, p := range parts {
		e := disk[446+16*i:]
		e[4] = p.kind
		binary.LittleEndian.PutUint32(e[8:], p.first)
		binary.LittleEndian.PutUint32(e[12:], p.count)
	}
	return disk
}

// gptDisk is 1 MiB with a GUID partition table (UEFI specification, chapter
// 5.3) of two partitions, at 40 and at 1000.
func gptDisk() []byte {
	disk := mbrDisk(mbrPart{0xEE, 1, 2047})
	le := binary.LittleEndian
	array := make([]byte, 128*128)
	for i, p := range []struct {
		guid, name  string
		first, last uint64
	}{
		{"\x00SFH\x00\x00\xaa\x11\xaa\x11\x000eC\xec\xac", "Daten \u00fc", 40, 999},
		{"\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7", "", 1000, 1999},
	} {
		e := array[128*i:]
		copy(e, p.guid)
		e[16] = byte(i + 1) // its own GUID
		le.PutUint64(e[32:], p.first)
		le.PutUint64(e[40:], p.last)
		for j, c := range utf16.Encode([]rune(p.name)) {
			le.PutUint16(e[56+2*j:], c)
		}
	}
	copy(disk[1024:], array)
	h := disk[512:1024]
	clear(h)
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return disk
}

// apmDisk is 1 MiB with an Apple partition map (Inside Macintosh: Devices,
// chapter 3) of the map itself, a partition, and free space.
func apmDisk() []byte {
	disk := dmgtest.Random(21, 1<<20).Bytes()
	clear(disk[:64*512])
	copy(disk, "ER\x02\x00")
	be := binary.BigEndian
	for i, p := range []struct {
		name, kind   string
		first, count uint32
	}{{"Apple", "Apple_partition_map", 1, 63}, {"Macintosh HD", "Apple_HFS", 64, 1900}, {"", "Apple_Free", 1964, 84}} {
		e := disk[512*(i+1):]
		copy(e, "PM")
		be.PutUint32(e[4:], 3)
		be.PutUint32(e[8:], p.first)
		be.PutUint32(e[12:], p.count)
		copy(e[16:48], p.name)
		copy(e[48:80], p.kind)
	}
	return disk
}

// marked is a disk of n bytes with a signature.
func marked(n, at int, magic string) []byte {
	disk := dmgtest.Text(22, int64(n)).Bytes()
	copy(disk[at:], magic)
	return disk
}

type namedRange struct {
	name, kind     string
	offset, length int64
}

var (
	mbrParts = []namedRange{{"", "Apple_HFS", 8 * 512, 1000 * 512}, {"", "DOS_FAT_32", 1008 * 512, 100 * 512}}
	gptParts = []namedRange{{"Daten \u00fc", "Apple_HFS", 40 * 512, 960 * 512}, {"", "Microsoft Basic Data", 1000 * 512, 1000 * 512}}
	apmParts = []namedRange{{"Apple", "Apple_partition_map", 512, 63 * 512}, {"Macintosh HD", "Apple_HFS", 64 * 512, 1900 * 512}}
)

var rawTests = []struct {
	name   string
	disk   []byte
	format string // "" if it is none
	parts  []namedRange
}{
	{"MBR", mbrDisk(mbrPart{0xAF, 8, 1000}, mbrPart{0x0B, 1008, 100}), "UDRW", mbrParts},
	{"MBR past the end", mbrDisk(mbrPart{0xAF, 8, 1 << 31}, mbrPart{0x0B, math.MaxUint32, math.MaxUint32}), "UDRW", nil},
	{"GPT", gptDisk(), "UDRW", gptParts},
	{"APM", apmDisk(), "UDRW", apmParts},
	{"HFS+", marked(5000, 1024, "H+"), "UDRW", nil},
	{"HFSX", marked(5000, 1024, "HX"), "UDRW", nil},
	{"HFS", marked(5000, 1024, "BD"), "UDRW", nil},
	{"APFS", marked(5000, 32, "NXSB"), "UDRW", nil},
	{"ISO 9660", marked(40000, 32769, "CD001"), "UDTO", nil},
	{"the shortest", marked(512, 510, "\x55\xAA"), "UDRW", nil},
	{"empty", nil, "", nil},
	{"one byte", []byte("s"), "", nil},
	{"zeros", make([]byte, 100_000), "", nil},
	{"text", dmgtest.Text(23, 100_000).Bytes(), "", nil},
	{"random", dmgtest.Random(24, 100_000).Bytes(), "", nil},
	{"a mark cut short", []byte("NXSB" + strings.Repeat("x", 507) + "\x55"), "", nil},
}

func TestRawDisks(t *testing.T) {
	for _, tt := range rawTests {
		t.Run(tt.name, func(t *testing.T) {
			im, err := dmg.Open(writeFile(t, tt.disk), nil)
			if tt.format == "" {
				if !errors.Is(err, dmg.ErrFormat) {
					t.Fatalf("%v, want ErrFormat", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			checkWrapped(t, im, &wrapped{format: tt.format})
			CheckDisk(t, im, int64(len(tt.disk)), SumOf(tt.disk))
			checkPartitions(t, im, tt.disk, tt.parts)
			for c := range im.Chunks() {
				if c.Method != dmg.Raw || c.Partition != -1 || c.DataOffset != c.Offset {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

// checkPartitions compares the partitions, and what each of them reads.
func checkPartitions(t *testing.T, im *dmg.Image, disk []byte, want []namedRange) {
	t.Helper()
	var got []namedRange
	for _, p := range im.Partitions() {
		got = append(got, namedRange{p.Name, p.Type, p.Offset, p.Length})
		b, err := io.ReadAll(p.Section())
		if err != nil || !bytes.Equal(b, disk[p.Offset:p.Offset+p.Length]) {
			t.Errorf("partition at %d: %d bytes that differ, %v", p.Offset, len(b), err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("partitions\n%+v, want\n%+v", got, want)
	}
}

// The partition table inside a sparse disk is found as well.
func TestSparsePartitions(t *testing.T) {
	disk := gptDisk()
	im, err := dmg.Open(writeFile(t, dmgtest.SparseImage(disk, dmgtest.SparseOptions{BandSectors: 8, Shuffle: true})), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	checkPartitions(t, im, disk, gptParts)
	im, err = dmg.Open(dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: bandSize}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	checkPartitions(t, im, disk, gptParts)
}

// Block tables without names get those of the disk's partition table, where
// their ranges are the same.
func TestNamelessTables(t *testing.T) {
	for _, tt := range []struct {
		name   string
		disk   []byte
		tables []dmgtest.Partition
		want   []namedRange
	}{
		{"GPT", gptDisk(), []dmgtest.Partition{{First: 0, Sectors: 40}, {First: 40, Sectors: 960}, {First: 1000, Sectors: 1000}, {First: 2000, Sectors: 48}}, []namedRange{
			{"", "", 0, 40 * 512}, gptParts[0], gptParts[1], {"", "", 2000 * 512, 48 * 512},
		}},
		{"APM", apmDisk(), []dmgtest.Partition{{Name: "DDM (DDM : 0)", Sectors: 1}, {First: 1, Sectors: 63}, {First: 64, Sectors: 1900}}, []namedRange{
			{"DDM (DDM : 0)", "DDM", 0, 512}, apmParts[0], apmParts[1],
		}},
		{"another range", gptDisk(), []dmgtest.Partition{{First: 0, Sectors: 41}, {First: 41, Sectors: 959}, {First: 1000}}, []namedRange{
			{"", "", 0, 41 * 512}, {"", "", 41 * 512, 959 * 512}, {"", "", 1000 * 512, 1048 * 512}, gptParts[0], gptParts[1],
		}},
		{"named", gptDisk(), []dmgtest.Partition{{Name: "x", First: 0, Sectors: 40}, {Name: "mine (Apple_UFS : 1)", First: 40, Sectors: 960}, {Name: "rest (y : 2)", First: 1000}}, []namedRange{
			{"x", "", 0, 40 * 512}, {"mine (Apple_UFS : 1)", "Apple_UFS", 40 * 512, 960 * 512}, {"rest (y : 2)", "y", 1000 * 512, 1048 * 512}, gptParts[1],
		}},
		{"named, and all types known", gptDisk(), []dmgtest.Partition{{Name: "x (y : 0)", First: 0, Sectors: 40}, {Name: "mine (Apple_UFS : 1)", First: 40, Sectors: 960}}, []namedRange{
			{"x (y : 0)", "y", 0, 40 * 512}, {"mine (Apple_UFS : 1)", "Apple_UFS", 40 * 512, 960 * 512},
		}},
		{"names without types", gptDisk(), []dmgtest.Partition{{Name: "part 0", First: 0, Sectors: 40}, {Name: "part 1", First: 40, Sectors: 960}, {Name: "part 2 (unknown partition : 2)", First: 1000}}, []namedRange{
			{"part 0", "", 0, 40 * 512}, {"part 1", "Apple_HFS", 40 * 512, 960 * 512}, {"part 2 (unknown partition : 2)", "", 1000 * 512, 1048 * 512}, gptParts[1],
		}},
		{"one table and a GPT", gptDisk(), []dmgtest.Partition{{Name: "whole disk (unknown partition : 0)"}}, []namedRange{
			{"whole disk (unknown partition : 0)", "", 0, 2048 * 512}, gptParts[0], gptParts[1],
		}},
		{"one table and an APM", apmDisk(), []dmgtest.Partition{{Name: "disk image"}}, []namedRange{
			{"disk image", "", 0, 2048 * 512}, apmParts[0], apmParts[1],
		}},
		{"one table and an MBR", mbrDisk(mbrPart{0x0C, 8, 1000}), []dmgtest.Partition{{Name: "whole disk (unknown partition : 0)"}}, []namedRange{
			{"whole disk (unknown partition : 0)", "", 0, 2048 * 512}, {"", "Windows_FAT_32", 8 * 512, 1000 * 512},
		}},
		{"one nameless table", gptDisk(), []dmgtest.Partition{{}}, []namedRange{{"", "", 0, 2048 * 512}, gptParts[0], gptParts[1]}},
		{"no table", containerDisk(), []dmgtest.Partition{{First: 0, Sectors: 40}}, []namedRange{{"", "", 0, 40 * 512}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := dmgtest.Image(t, tt.disk, dmgtest.Options{ChunkSectors: 64, Partitions: tt.tables})
			im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
			if err != nil {
				t.Fatal(err)
			}
			checkPartitions(t, im, tt.disk, tt.want)
		})
	}
}

// rawDisk has a boot record.
func rawDisk() []byte { return mbrDisk(mbrPart{0xAF, 8, 1000}) }

package partition

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

const (
	hfsGUID = "\x00SFH\x00\x00\xaa\x11\xaa\x11\x000eC\xec\xac"
	newGUID = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
)

// gptEntryBytes makes an entry of 128 bytes.
func gptEntryBytes(guid, name string, first, last uint64) []byte {
	b := make([]byte, 128)
	copy(b, guid)
	binary.LittleEndian.PutUint64(b[32:], first)
	binary.LittleEndian.PutUint64(b[40:], last)
	for i, c := range utf16.Encode([]rune(name)) {
		binary.LittleEndian.PutUint16(b[56+2*i:], c)
	}
	return b
}

// gptDisk makes a disk with a GUID table at both ends.
func gptDisk(sector, sectors int, entries ...[]byte) []byte {
	disk := make([]byte, sector*sectors)
	array := make([]byte, 128*128)
	copy(array, bytes.Join(entries, nil))
	room := len(array) / sector
	disk[510], disk[511], disk[450] = 0x55, 0xAA, 0xEE
	binary.LittleEndian.PutUint32(disk[454:], 1)
	binary.LittleEndian.PutUint32(disk[458:], uint32(sectors-1))
	for _, place := range [][2]int{{1, 2}, {sectors - 1, sectors - 1 - room}} {
		copy(disk[place[1]*sector:], array)
		h := disk[place[0]*sector:][:sector]
		copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
		binary.LittleEndian.PutUint64(h[24:], uint64(place[0]))
		binary.LittleEndian.PutUint64(h[72:], uint64(place[1]))
		binary.LittleEndian.PutUint32(h[80:], 128)
		binary.LittleEndian.PutUint32(h[84:], 128)
		sealGPT(h, array)
	}
	return disk
}

// sealGPT writes the checksums.
func sealGPT(h, array []byte) {
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
}

type mbr struct {
	sector       int
	kind         byte
	start, count uint32
}

// mbrDisk makes a disk with records in the sectors named.
func mbrDisk(sectors int, entries ...mbr) []byte {
	disk := make([]byte, sectors*512)
	used := map[int]int{}
	for _, e := range entries {
		b := disk[e.sector*512:][:512]
		b[510], b[511] = 0x55, 0xAA
		p := b[mbrTable+16*used[e.sector]:]
		used[e.sector]++
		p[4] = e.kind
		binary.LittleEndian.PutUint32(p[8:], e.start)
		binary.LittleEndian.PutUint32(p[12:], e.count)
	}
	return disk
}

type apm struct {
	kind, name   string
	start, count uint32
}

// apmDisk makes a disk with a partition map in blocks of a size.
func apmDisk(block, blocks int, entries ...apm) []byte {
	disk := make([]byte, block*blocks)
	copy(disk, "ER")
	binary.BigEndian.PutUint16(disk[2:], uint16(block))
	for i, e := range entries {
		b := disk[(i+1)*block:]
		copy(b, "PM")
		binary.BigEndian.PutUint32(b[4:], uint32(len(entries)))
		binary.BigEndian.PutUint32(b[8:], e.start)
		binary.BigEndian.PutUint32(b[12:], e.count)
		copy(b[16:48], e.name)
		copy(b[48:80], e.kind)
	}
	return disk
}

var (
	twoGPT = [][]byte{gptEntryBytes(newGUID, "Zweite \U0001f4be", 100, 199), gptEntryBytes(hfsGUID, "disk image", 40, 99)}
	threes = []apm{{"Apple_partition_map", "Apple", 1, 63}, {"Apple_HFS", "disk image", 64, 100}, {"Apple_Free", "", 164, 36}}
)

// patch returns disk with bytes written at a place.
func patch(disk []byte, at int, b ...byte) []byte {
	disk = bytes.Clone(disk)
	copy(disk[at:], b)
	return disk
}

// reseal changes the first GUID table's header and makes its checksums right.
func reseal(disk []byte, at int, b ...byte) []byte {
	disk = patch(disk, 512+at, b...)
	sealGPT(disk[512:1024], disk[1024:][:128*128])
	return disk
}

var tableTests = []struct {
	name string
	disk []byte
	want Table
}{
	{"nothing", make([]byte, 1<<20), Table{}},
	{"empty", nil, Table{}},
	{"short", make([]byte, 100), Table{}},

	{"GPT", gptDisk(512, 300, twoGPT...), gptTable(512)},
	{"GPT of 4096", gptDisk(4096, 300, twoGPT...), gptTable(4096)},
	{"GPT, empty", gptDisk(512, 300), Table{Scheme: "GPT", Partitions: []Partition{}}},
	{"GPT, header damaged", patch(gptDisk(512, 300, twoGPT...), 512+20, 1), gptTable(512)},
	{"GPT, entries damaged", patch(gptDisk(512, 300, twoGPT...), 1024+60, 1), gptTable(512)},
	{"GPT, both damaged", patch(patch(gptDisk(512, 300, twoGPT...), 512, 'X'), 299*512, 'X'), Table{}},
	{"GPT, header in the wrong place", reseal(gptDisk(512, 300, twoGPT...), 24, 2), gptTable(512)},
	{"GPT, long header", reseal(gptDisk(512, 300, twoGPT...), 12, 1, 2, 0, 0), gptTable(512)},
	{"GPT, huge header", reseal(gptDisk(512, 300, twoGPT...), 12, 255, 255, 255, 255), gptTable(512)},
	{"GPT, 2^32-1 entries", reseal(gptDisk(512, 300, twoGPT...), 80, 255, 255, 255, 255), gptTable(512)},
	{"GPT, entries of 0", reseal(gptDisk(512, 300, twoGPT...), 84, 0), gptTable(512)},
	{"GPT, entries of 2^32-8", reseal(gptDisk(512, 300, twoGPT...), 84, 0xF8, 255, 255, 255), gptTable(512)},
	{"GPT, entries past the end", reseal(gptDisk(512, 300, twoGPT...), 72, 255, 255, 255, 255, 255, 255, 255, 127), gptTable(512)},
	{"GPT, entries at the end", reseal(gptDisk(512, 300, twoGPT...), 72, 0x2B, 1), gptTable(512)},
	{"GPT, partitions that don't fit", gptDisk(512, 300,
		gptEntryBytes(hfsGUID, "backwards", 50, 49),
		gptEntryBytes(hfsGUID, "past the end", 50, 300),
		gptEntryBytes(hfsGUID, "all", 0, 1<<64-1),
		gptEntryBytes(hfsGUID, "wraps", 1<<64-1, 1<<64-1),
		gptEntryBytes(hfsGUID, "last", 299, 299),
	), Table{Scheme: "GPT", Partitions: []Partition{{"last", "Apple_HFS", 299 * 512, 512}}}},

	{"APM", apmDisk(512, 200, threes...), apmTable(512)},
	{"APM of 2048", apmDisk(2048, 200, threes...), apmTable(2048)},
	{"APM without a driver descriptor", patch(apmDisk(512, 200, threes...), 0, 0, 0), apmTable(512)},
	{"APM of 512 under blocks of 2048", patch(apmDisk(512, 200, threes...), 2, 8, 0), apmTable(512)},
	{"APM, more entries than there are", patch(apmDisk(512, 200, threes...), 512+6, 1, 0), apmTable(512)},
	{"APM, 2^32-1 entries", patch(apmDisk(512, 200, threes...), 512+4, 255, 255, 255, 255), Table{}},
	{"APM, no entries", patch(apmDisk(512, 200, threes...), 512+4, 0, 0, 0, 0), Table{}},
	{"APM, partitions that don't fit", apmDisk(512, 200,
		apm{"Apple_HFS", "past the end", 100, 101}, apm{"Apple_HFS", "empty", 100, 0},
		apm{"Apple_HFS", "far", 1<<32 - 1, 1<<32 - 1}, apm{"Apple_HFS", "bad \xFF name that fills its field", 199, 1},
	), Table{Scheme: "APM", Partitions: []Partition{{"bad \uFFFD name that fills its field", "Apple_HFS", 199 * 512, 512}}}},

	{"MBR", mbrDisk(300, mbr{0, 0x0C, 100, 50}, mbr{0, 0xAF, 10, 20}, mbr{0, 0xA5, 200, 100}), Table{Scheme: "MBR", Partitions: []Partition{
		{"", "Apple_HFS", 10 * 512, 20 * 512}, {"", "Windows_FAT_32", 100 * 512, 50 * 512}, {"", "FreeBSD", 200 * 512, 100 * 512}}}},
	{"MBR, types", mbrDisk(300, mbr{0, 0x27, 10, 10}, mbr{0, 0xEF, 20, 10}, mbr{0, 0x42, 30, 10}, mbr{0, 0x77, 40, 10}), Table{Scheme: "MBR", Partitions: []Partition{
		{"", "Windows_RE", 10 * 512, 10 * 512}, {"", "EFI", 20 * 512, 10 * 512}, {"", "Windows_LDM", 30 * 512, 10 * 512}, {"", "0x77", 40 * 512, 10 * 512}}}},
	{"MBR with logical partitions", mbrDisk(300, mbr{0, 0x83, 1, 9}, mbr{0, 0x05, 10, 290},
		mbr{10, 0x06, 1, 9}, mbr{10, 0x05, 10, 20}, mbr{20, 0x06, 2, 5}, mbr{20, 0x05, 100, 20}, mbr{110, 0x07, 1, 1},
	), Table{Scheme: "MBR", Partitions: []Partition{{"", "Linux", 512, 9 * 512}, {"", "DOS_FAT_16", 11 * 512, 9 * 512},
		{"", "DOS_FAT_16", 22 * 512, 5 * 512}, {"", "Windows_NTFS", 111 * 512, 512}}}},
	{"MBR, chain that loops", mbrDisk(300, mbr{0, 0x05, 10, 290}, mbr{10, 0x06, 1, 1}, mbr{10, 0x05, 10, 9}, mbr{20, 0x06, 1, 1}, mbr{20, 0x05, 0, 9}),
		Table{Scheme: "MBR", Partitions: []Partition{{"", "DOS_FAT_16", 11 * 512, 512}, {"", "DOS_FAT_16", 21 * 512, 512}}}},
	{"MBR, chain past the end", mbrDisk(300, mbr{0, 0x0F, 10, 290}, mbr{10, 0x06, 1, 1}, mbr{10, 0x05, 1<<32 - 1, 9}),
		Table{Scheme: "MBR", Partitions: []Partition{{"", "DOS_FAT_16", 11 * 512, 512}}}},
	{"MBR, partitions that don't fit", mbrDisk(300, mbr{0, 0x83, 299, 2}, mbr{0, 0x83, 1<<32 - 1, 1<<32 - 1}, mbr{0, 0x83, 5, 0}, mbr{0, 0, 5, 5}), Table{}},
	{"MBR, only protective", mbrDisk(300, mbr{0, 0xEE, 1, 299}), Table{}},
	{"boot sector of a file system", patch(mbrDisk(300, mbr{0, 0x20, 10, 20}), mbrTable, 'm'), Table{}},
}

// TestGPTTypes reads each type from a table, as its specification writes it.
func TestGPTTypes(t *testing.T) {
	names := make(map[string]string)
	for guid, name := range gptTypes {
		if other := names[name]; other != "" {
			t.Errorf("%s and %s are both %s", guid, other, name)
		}
		names[name] = guid
		b, err := hex.DecodeString(strings.ReplaceAll(guid, "-", ""))
		if err != nil || len(b) != 16 || strings.ToUpper(guid) != guid {
			t.Fatalf("%s: %v", guid, err)
		}
		slices.Reverse(b[:4])
		slices.Reverse(b[4:6])
		slices.Reverse(b[6:8])
		disk := gptDisk(512, 300, gptEntryBytes(string(b), "x", 40, 99))
		got, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err != nil || len(got.Partitions) != 1 || got.Partitions[0].Type != name {
			t.Errorf("%s: %+v, %v, want %s", guid, got, err, name)
		}
	}
	for name, guid := range map[string]string{
		"EFI": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "Apple_APFS": "7C3457EF-0000-11AA-AA11-00306543ECAC",
		"Linux LVM": "E6D6D379-F507-44C2-A23C-238F2A3DF928", "BIOS Boot": "21686148-6449-6E6F-744E-656564454649",
	} {
		if names[name] != guid {
			t.Errorf("%s is %s, want %s", name, names[name], guid)
		}
	}
}

func gptTable(sector int64) Table {
	return Table{Scheme: "GPT", Partitions: []Partition{
		{"disk image", "Apple_HFS", 40 * sector, 60 * sector},
		{"Zweite \U0001f4be", "04030201-0605-0807-090A-0B0C0D0E0F10", 100 * sector, 100 * sector},
	}}
}

func apmTable(block int64) Table {
	return Table{Scheme: "APM", Partitions: []Partition{{"Apple", "Apple_partition_map", block, 63 * block}, {"disk image", "Apple_HFS", 64 * block, 100 * block}}}
}

func TestRead(t *testing.T) {
	for _, tt := range tableTests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := Read(bytes.NewReader(tt.disk), int64(len(tt.disk)))
			runtime.ReadMemStats(&after)
			got.End = 0 // TestEnd has it
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("%d bytes allocated", n)
			}
		})
	}
}

// TestEnd has disks of which some was cut off.
func TestEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		disk []byte
		cut  int // sectors that are left
		want int64
	}{
		{"GPT", gptDisk(512, 300, twoGPT...), 300, 200},
		{"GPT, cut", gptDisk(512, 300, twoGPT...), 150, 200},
		{"GPT, an entry of all sectors", gptDisk(512, 300, gptEntryBytes(hfsGUID, "", 0, 1<<64-1), twoGPT[1]), 300, 100},
		{"APM", apmDisk(512, 200, threes...), 200, 164},
		{"APM, cut", apmDisk(512, 200, threes...), 70, 164},
		{"MBR", mbrDisk(300, mbr{0, 0x0C, 100, 50}), 300, 150},
		{"MBR, cut", mbrDisk(300, mbr{0, 0x0C, 100, 50}), 10, 150},
		{"MBR with logical partitions, cut", mbrDisk(300, mbr{0, 0x05, 10, 290}, mbr{10, 0x06, 1, 9}), 5, 300},
		{"MBR, only protective", mbrDisk(300, mbr{0, 0xEE, 1, 1<<32 - 1}), 300, 0},
		{"no table", make([]byte, 300*512), 300, 0},
	} {
		got, err := Read(bytes.NewReader(tt.disk[:tt.cut*512]), int64(tt.cut)*512)
		if err != nil || got.End != tt.want*512 {
			t.Errorf("%s: %d, %v, want %d", tt.name, got.End, err, tt.want*512)
		}
	}
}

// A source's error is passed on, and only that is an error.
func TestFaults(t *testing.T) {
	fault := errors.New("fault")
	for _, tt := range tableTests {
		for call := int64(1); ; call++ {
			src := &dmgtest.FailAt{R: bytes.NewReader(tt.disk), Call: call, Err: fault}
			_, err := Read(src, int64(len(tt.disk)))
			if src.Calls() < call {
				break
			}
			if !errors.Is(err, fault) {
				t.Errorf("%s, call %d: %v", tt.name, call, err)
			}
		}
		for n := 0; n < len(tt.disk); n += 511 {
			if _, err := Read(bytes.NewReader(tt.disk[:n]), int64(n)); err != nil {
				t.Errorf("%s, first %d bytes: %v", tt.name, n, err)
			}
		}
	}
}

// TestSample reads the table that hdiutil made.
func TestSample(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("../../../shared/samples/encrypted/raw_v2_aes256.dmg"))
	if err != nil {
		t.Skip("no samples")
	}
	r, err := crypt.Open(bytes.NewReader(data), int64(len(data)), crypt.Keys{Password: "vilefault"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(r, r.Size())
	want := Table{Scheme: "GPT", Partitions: []Partition{{"disk image", "Apple_HFS", 40 * 512, 48 * 512}}, End: 88 * 512}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

// FuzzRead: partitions are on the disk, in order, and the same when the source
// returns its end early.
func FuzzRead(f *testing.F) {
	for _, tt := range tableTests {
		if len(tt.disk) < 200<<10 {
			f.Add(tt.disk)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		size := int64(len(data))
		table, err := Read(bytes.NewReader(data), size)
		if err != nil {
			t.Fatal(err)
		}
		if (table.Scheme == "") != (table.Partitions == nil) {
			t.Fatalf("%+v", table)
		}
		last := int64(0)
		for _, p := range table.Partitions {
			if p.Offset < last || p.Length <= 0 || p.Length > size-p.Offset || p.Type == "Apple_Free" {
				t.Fatalf("%+v on %d bytes after %d", p, size, last)
			}
			last = p.Offset
		}
		again, err := Read(dmgtest.EagerEOF{R: bytes.NewReader(data), Size: size}, size)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(table) {
			t.Fatalf("%+v, %v, then %+v", table, err, again)
		}
	})
}

// A disk that is a volume by itself is not read at its end, where others may have the copy
// of their table: in a compressed image that takes a chunk more.
func TestVolumeAlone(t *testing.T) {
	for _, tt := range []struct {
		mark string
		at   int
		end  bool // is read
	}{{"H+", 1024, false}, {"HX", 1024, false}, {"BD", 1024, false}, {"NXSB", 32, false}, {"h+", 1024, true}, {"", 0, true}} {
		disk := make([]byte, 300*512)
		copy(disk[tt.at:], tt.mark)
		src := &endReads{bytes.NewReader(disk), 0}
		if got, err := Read(src, int64(len(disk))); err != nil || got.Partitions != nil {
			t.Errorf("%q: %+v, %v", tt.mark, got, err)
		}
		if (src.n > 0) != tt.end {
			t.Errorf("%q at %d: %d reads of the second half, want some: %v", tt.mark, tt.at, src.n, tt.end)
		}
	}
}

// endReads counts the reads of a source's second half.
type endReads struct {
	*bytes.Reader
	n int
}

func (e *endReads) ReadAt(p []byte, off int64) (int, error) {
	if off >= e.Size()/2 {
		e.n++
	}
	return e.Reader.ReadAt(p, off)
}

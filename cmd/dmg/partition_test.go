package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestInnerPartitions has a partition inside a table over the whole disk found by its
// type, and verify speak of the tables only.
func TestInnerPartitions(t *testing.T) {
	disk := dmgtest.Text(1, 64*sectorSize).Bytes()
	clear(disk[446:512])
	disk[510], disk[511] = 0x55, 0xAA
	for i, kind := range []byte{0x0C, 0xAF} {
		e := disk[446+16*i:]
		e[4] = kind
		binary.LittleEndian.PutUint32(e[8:], uint32(8+16*i))
		binary.LittleEndian.PutUint32(e[12:], 16)
	}
	image := dmgtest.File(t, bytes.NewReader(disk), int64(len(disk)), dmgtest.Options{})
	for _, tt := range []struct {
		name string
		from int // sector
	}{{"1", 8}, {"2", 24}, {"fat", 8}, {"FAT32", 8}, {"Apple_HFS", 24}, {"hfs", 24}} {
		if got := dmgRun(t, "extract", "-p", tt.name, image, "-"); got.out != string(disk[tt.from*sectorSize:][:16*sectorSize]) {
			t.Errorf("%s: %d bytes that are not the partition's, %s", tt.name, len(got.out), got.errOut)
		}
	}
	got := dmgRun(t, "extract", "-p", "_", image, "-")
	if got.status != statusMisuse || !strings.Contains(got.errOut, "fits partitions 1 2") {
		t.Errorf("%+v", got)
	}
	got = dmgRun(t, "verify", image)
	if got.status != 0 || strings.Contains(got.out, "no checksum") || strings.Contains(got.out, "unnamed") {
		t.Errorf("%+v", got)
	}
}

// TestVerifyLostTable has verify say what a block table costs that can't be read.
func TestVerifyLostTable(t *testing.T) {
	disk := dmgtest.Text(1, 64*sectorSize).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{Partitions: []dmgtest.Partition{{Name: "one", Sectors: 32}, {Name: "two", First: 32}}})
	if err != nil {
		t.Fatal(err)
	}
	l.Tables[0].Magic[0] = 'M'
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(image, l.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got := dmgRun(t, "verify", image)
	for _, want := range []string{"lost: ", "sectors 0-31", "can't be checked"} {
		if got.status != 1 || !strings.Contains(got.out, want) {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}

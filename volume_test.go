package dmg_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
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

var _ = filepath.Join
var _ fs.FS

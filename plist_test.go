package dmg

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// farTail is a source of zeros that ends in tail.
type farTail struct {
	zeros int64
	tail  []byte
}

func (f *farTail) size() int64 { return f.zeros + int64(len(f.tail)) }

func (f *farTail) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(f.zeros-off, int64(len(p)))))
	clear(p[:n])
	n += copy(p[n:], f.tail[max(0, min(off+int64(n)-f.zeros, int64(len(f.tail)))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// rawDisk is an image of n raw chunks of a sector each, with a data fork of zeros
// and so many spaces in its property list.
func rawDisk(n, spaces int, data int64) *farTail {
	table := dmgtest.NewTable("", 0, int64(n))
	for i := range n {
		table.Chunks = append(table.Chunks, dmgtest.Chunk{Method: dmgtest.Raw, Sector: uint64(i), Sectors: 1, Length: sectorSize})
	}
	table.Count = uint32(n)
	xml := dmgtest.Plist([]dmgtest.Resource{{Type: "blkx", Data: table.Bytes()}})
	xml = bytes.Replace(xml, []byte("<data>"), append([]byte("<data>"), bytes.Repeat([]byte(" "), spaces)...), 1)
	k := dmgtest.NewKoly()
	k.DataLength, k.PlistOffset, k.PlistLength, k.Sectors = uint64(data), uint64(data), uint64(len(xml)), uint64(n)
	return &farTail{data, append(xml, k.Bytes()...)}
}

// TestLongList opens images of disks so large that their property lists are long,
// and refuses such lists in small images.
func TestLongList(t *testing.T) {
	dmgtest.Native(t)
	const (
		usualList = 32 << 20
		long      = usualList + 1<<20
		listShare = 16
	)
	for _, tt := range []struct {
		name   string
		spaces int
		data   int64
		opens  bool
	}{
		{"usual", usualList - 1<<20, sectorSize, true},
		{"long", long, sectorSize, false},
		{"long in a large image", long, (long + 1<<20) * listShare, true},
	} {
		src := rawDisk(100, tt.spaces, tt.data)
		im, err := NewImage(src, src.size(), nil)
		if (err == nil) != tt.opens || err != nil && !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && (im.Size() != 100*sectorSize || len(im.chunks) != 100) {
			t.Errorf("%s: %d bytes in %d chunks", tt.name, im.Size(), len(im.chunks))
		}
	}
}

// TestListMemory counts what opening allocates: the list once, in which the tables
// are decoded, and the chunk map.
func TestListMemory(t *testing.T) {
	dmgtest.Native(t)
	const n = 100_000
	src := rawDisk(n, 0, sectorSize)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	im, err := NewImage(src, src.size(), nil)
	runtime.ReadMemStats(&after)
	if err != nil || len(im.chunks) != n {
		t.Fatalf("%d chunks, %v", len(im.chunks), err)
	}
	want := uint64(len(src.tail)) + n*48
	if got := after.TotalAlloc - before.TotalAlloc; got > want+256<<10 {
		t.Errorf("%d bytes allocated, want %d", got, want)
	}
}

// TestListWithoutTables has a list that lacks the block tables taken for damaged, not
// for one of an empty disk: then the resource fork has them, if there is one.
func TestListWithoutTables(t *testing.T) {
	disk := dmgtest.Text(1, 64<<10).Bytes()
	for _, meta := range []dmgtest.Meta{dmgtest.PlistOnly, dmgtest.PlistAndRsrc} {
		for _, key := range []string{"blkx", "resource-fork"} {
			l, err := dmgtest.Build(disk, dmgtest.Options{Meta: meta, ChunkSectors: 32})
			if err != nil {
				t.Fatal(err)
			}
			l.Plist = bytes.Replace(l.Plist, []byte("<key>"+key), []byte("<key>B"+key[1:]), 1)
			b := l.Bytes()
			im, err := NewImage(bytes.NewReader(b), int64(len(b)), nil)
			if meta == dmgtest.PlistOnly {
				if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "no blkx") {
					t.Errorf("no %s: %v", key, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("no %s, but a resource fork: %v", key, err)
				continue
			}
			got := make([]byte, len(disk))
			if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
				t.Errorf("no %s, but a resource fork: %v, or other bytes", key, err)
			}
		}
	}
}

// TestListFault has the source fail where the list is. That says nothing about the
// list: the resource fork, whose names may differ, does not stand in for it.
func TestListFault(t *testing.T) {
	l, err := dmgtest.Build(dmgtest.Text(1, 64<<10).Bytes(), dmgtest.Options{Meta: dmgtest.PlistAndRsrc, ChunkSectors: 32})
	if err != nil {
		t.Fatal(err)
	}
	l.Plist = append(l.Plist, bytes.Repeat([]byte(" "), 64<<10)...)
	l.Koly.PlistLength = uint64(len(l.Plist))
	b := l.Bytes()
	broken := errors.New("connection reset")
	src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if off == int64(l.Koly.PlistOffset) {
			return 0, broken
		}
		return bytes.NewReader(b).ReadAt(p, off)
	})
	if _, err := NewImage(src, int64(len(b)), nil); !errors.Is(err, broken) {
		t.Errorf("%v, want the source's error", err)
	}
}

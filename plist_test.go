package dmg

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/plistguard"
)

// list is a property list with the given block tables' data elements.
func list(data ...string) []byte {
	var b strings.Builder
	b.WriteString("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array>")
	for _, d := range data {
		b.WriteString("<dict><key>Data</key>" + d + "<key>Name</key><string>n</string></dict>")
	}
	b.WriteString("</array></dict></dict></plist>")
	return []byte(b.String())
}

// TestPlistData has the same bytes come of a data element however it is written.
func TestPlistData(t *testing.T) {
	for _, d := range []string{"<data>YWJj</data>", "<data>\n\t\tYW\n\t\tJj\n</data>", "<data ><![CDATA[YWJj]]></data>", "<data><!-- x -->YWJj</data>", "<data>YW&#74;j</data>", "<!-- <data> --><data>YWJj</data>", "<!-- <data>AAAA</data> --><data>YWJj</data>", "<!-- </data> --><data>YWJj</data>"} {
		tables, err := parsePlist(list("<data>AAAA</data>", d, "<data>BBBB</data>"))
		if err != nil || len(tables) != 3 || string(tables[1].data) != "abc" {
			t.Errorf("%s: %v, %v", d, tables, err)
		}
	}
}

// TestPlistOffset wants the offset of an error to be the property list's, whatever
// was lifted out before it.
func TestPlistOffset(t *testing.T) {
	long := "<data>" + strings.Repeat("A", 1000) + "</data>"
	for _, before := range []string{"", "<data>", long, long + long + "<data></data>" + long} {
		xml := "<plist>" + before + strings.Repeat(long, 20)
		at := int64(len(xml))
		_, err := parsePlist([]byte(xml + "< >" + long))
		var bad *FormatError
		if !errors.As(err, &bad) || bad.Offset != at {
			t.Errorf("%.20s: %v, want byte %d", before, err, at)
		}
	}
	xml := "<plist>" + long + "<!--" + strings.Repeat(" ", plistguard.MaxLen)
	_, err := parsePlist([]byte(xml))
	if err == nil || !strings.Contains(err.Error(), "beside its data") {
		t.Errorf("a long comment: %v", err)
	}
}

// TestPlistManyData would take minutes if what is behind a data element were
// looked at for each.
func TestPlistManyData(t *testing.T) {
	dmgtest.Native(t)
	const n = 300_000
	for _, xml := range []string{
		"<!--" + strings.Repeat("<data>", n) + strings.Repeat(" ", 12*n) + "</data>-->",
		"<!--" + strings.Repeat("<data>", n) + "-->" + strings.Repeat(" ", 6*n),
		"<!--" + strings.Repeat("<data>&", n) + "</data>-->",
		"<!--" + strings.Repeat("<data></data>", n/2) + "-->",
		"<!--" + strings.Repeat("</data>", n) + "-->",
	} {
		_, err := parsePlist(append([]byte(xml), list("<data>AAAA</data>")...))
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	}
}

func TestDecodeBase64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 4, 3071, 3072, 3073, 6143, 6144, 6145, 100_000} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(r.Uint32())
		}
		var b []byte
		for _, c := range []byte(base64.StdEncoding.EncodeToString(want)) {
			if r.IntN(30) == 0 {
				b = append(b, "\n\t\t"...)
			}
			b = append(b, c)
		}
		got, err := decodeBase64(b)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d bytes, %v", n, len(got), err)
		}
	}
	full := strings.Repeat("A", 4<<10)
	for _, s := range []string{"A", "AA", "AAA", "=", "AA=", "A===", "AA==A", "AA==AAAA", full + "A", full[1:], full[1:] + "==", full[2:] + "==" + full, full[1:] + "=" + full, full + "-" + full} {
		_, want := base64.StdEncoding.DecodeString(s)
		if _, err := decodeBase64([]byte(s)); err == nil || err != want {
			t.Errorf("%.10q of %d: %v, want %v", s, len(s), err, want)
		}
	}
}

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
	const long = usualList + 1<<20
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

func TestListLimit(t *testing.T) {
	for _, tt := range []struct {
		size  int64
		limit uint64
	}{{0, 32 << 20}, {512 << 20, 32 << 20}, {800 << 20, 50 << 20}, {1<<63 - 1, maxList}} {
		if got := listLimit(tt.size); got != tt.limit {
			t.Errorf("%d bytes: %d, want %d", tt.size, got, tt.limit)
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

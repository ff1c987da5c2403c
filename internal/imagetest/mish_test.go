package imagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

const sector = dmgtest.SectorSize

// tablesDisk is a disk of 48 sectors, none of which is zeros, in three tables of
// four chunks. The second table's are zlib and raw, by turns.
func tablesDisk(t testing.TB, o dmgtest.Options) ([]byte, *dmgtest.Layout) {
	t.Helper()
	disk := dmgtest.Text(1, 48*sector).Bytes()
	o.ChunkSectors = 4
	o.Codecs = []dmgtest.Method{dmgtest.Zlib, dmgtest.Raw}
	o.Partitions = []dmgtest.Partition{{Name: "one", Sectors: 16}, {Name: "two (Apple_HFS : 2)", First: 16, Sectors: 16}, {Name: "three", First: 32}}
	l, err := dmgtest.Build(disk, o)
	if err != nil {
		t.Fatal(err)
	}
	return disk, l
}

// ranges are of sectors, from and to before.
type ranges [][2]int

func (r ranges) has(i int) bool {
	return slices.ContainsFunc(r, func(r [2]int) bool { return r[0] <= i && i < r[1] })
}

// cutTable leaves n bytes of a table.
func cutTable(l *dmgtest.Layout, table, n int) {
	for i := range l.Tables {
		data := l.Tables[i].Bytes()
		if i == table {
			data = data[:n]
		}
		l.Extra = append(l.Extra, dmgtest.Resource{Type: "blkx", ID: i, Name: l.Tables[i].Name, CFName: l.Tables[i].Name, Data: data})
	}
	l.Tables = nil
}

// badTables are images of which one thing is wrong, and what that costs.
var badTables = []struct {
	name   string
	bend   func(l *dmgtest.Layout) // before it is sealed
	lost   ranges                  // sectors that can't be read
	defect string                  // what the first one says
	master bool                    // the master checksum can't be checked, or isn't right
}{
	{"bad magic", func(l *dmgtest.Layout) { l.Tables[1].Magic[0] = 'M' }, ranges{{16, 32}}, `mish 1 at byte 0: bad magic "Mish" (table "two (Apple_HFS : 2)")`, true},
	{"version 2", func(l *dmgtest.Layout) { l.Tables[1].Version = 2 }, ranges{{16, 32}}, "version 2", true},
	{"a disk of 2^63 sectors", func(l *dmgtest.Layout) { l.Tables[1].Sectors = 1 << 63 }, ranges{{16, 32}}, "more than a disk can have", true},
	{"no header", func(l *dmgtest.Layout) { cutTable(l, 1, 0) }, ranges{{16, 32}}, "short header", true},
	{"half a header", func(l *dmgtest.Layout) { cutTable(l, 0, 203) }, ranges{{0, 16}}, "short header", true},
	{"the last table's header", func(l *dmgtest.Layout) { cutTable(l, 2, 100) }, ranges{{32, 48}}, "mish 2", true},
	{"header without entries", func(l *dmgtest.Layout) { l.Tables[1].Chunks = nil }, ranges{{16, 32}}, "5 chunks, room for 0", false},
	{"two entries and a half", func(l *dmgtest.Layout) {
		l.Tables[1].Chunks, l.Tables[1].Junk = l.Tables[1].Chunks[:2], make([]byte, 20)
	}, ranges{{24, 32}}, "5 chunks, room for 2", false},
	{"all but the terminator", func(l *dmgtest.Layout) { l.Tables[1].Chunks = l.Tables[1].Chunks[:4] }, nil, "5 chunks, room for 4", false},
	{"too many chunks", func(l *dmgtest.Layout) { l.Tables[1].Count = math.MaxUint32 }, nil, "4294967295 chunks, room for 5", false},

	{"chunk after the disk", func(l *dmgtest.Layout) { l.Tables[1].Chunks[1].Sector = 1 << 40 }, ranges{{20, 24}}, "reaches beyond the table's sectors 16-31", false},
	{"chunk after the largest disk", func(l *dmgtest.Layout) { l.Tables[1].Chunks[1].Sector = 1 << 60 }, ranges{{20, 24}}, "chunk 1: sectors", false},
	{"chunk whose end wraps", func(l *dmgtest.Layout) { l.Tables[1].Chunks[1].Sectors = math.MaxUint64 - 2 }, ranges{{20, 24}}, "chunk 1: sectors", false},
	{"chunk in the next table", func(l *dmgtest.Layout) { l.Tables[1].Chunks[1].Sector = 17 }, ranges{{20, 24}}, "reaches beyond", false},
	{"chunk that is too long", func(l *dmgtest.Layout) { l.Tables[2].Chunks[1].Sectors = 1 << 30 }, ranges{{36, 40}}, "reaches beyond", false},
	{"chunk before its place", func(l *dmgtest.Layout) { l.Tables[1].Chunks[2].Sector-- }, ranges{{20, 28}}, "overlaps", false},
	{"chunk at another's place", func(l *dmgtest.Layout) { l.Tables[1].Chunks[2].Sector = 0 }, ranges{{16, 20}, {24, 28}}, "overlaps", false},
	{"zeros over the rest", func(l *dmgtest.Layout) { l.Tables[1].Chunks[1] = dmgtest.Chunk{Sector: 4, Sectors: 12} }, ranges{{20, 32}}, "overlaps", false},
	{"chunk twice", func(l *dmgtest.Layout) {
		t := &l.Tables[1]
		t.Chunks, t.Count = slices.Insert(t.Chunks, 1, t.Chunks[0]), t.Count+1
	}, nil, "is there twice", false},

	{"data after the file", func(l *dmgtest.Layout) { l.Tables[1].Chunks[1].Offset = 1 << 40 }, ranges{{20, 24}}, "chunk 1: data at 1099511627776+2048 outside the file", false},
	{"data of 2^40 bytes", func(l *dmgtest.Layout) { l.Tables[1].Chunks[0].Length = 1 << 40 }, nil, "chunk 0: data", false},
	{"offset that wraps", func(l *dmgtest.Layout) { l.Tables[1].Chunks[1].Offset = math.MaxUint64 - 100 }, ranges{{20, 24}}, "chunk 1: data", false},
	{"offsets that wrap", func(l *dmgtest.Layout) { l.Tables[1].DataOffset = math.MaxUint64 }, ranges{{16, 32}}, "chunk 0: data", false},
	{"no data", func(l *dmgtest.Layout) { l.Tables[1].Chunks[0].Length = 0 }, ranges{{16, 20}}, "", false},

	{"table over another", func(l *dmgtest.Layout) { l.Tables[1].First = 0 }, ranges{{0, 32}}, "overlaps", false},
	{"table twice", func(l *dmgtest.Layout) { l.Tables = append(l.Tables, l.Tables[1]) }, nil, "is there twice", true},
}

// TestBadTables has the rest of an image read in which a block table is damaged. What
// it costs can't be read, and never comes as zeros.
func TestBadTables(t *testing.T) {
	for _, tt := range badTables {
		for _, meta := range []dmgtest.Meta{dmgtest.PlistOnly, dmgtest.ResourceOnly} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, meta), func(t *testing.T) {
				disk, l := tablesDisk(t, dmgtest.Options{Meta: meta, Prefix: 512})
				tt.bend(l)
				im := openLayout(t, l)
				if got := im.Defects(); (len(got) > 0) != (tt.defect != "") || len(got) > 0 && !strings.Contains(got[0].Error(), tt.defect) {
					t.Errorf("Defects = %q, want %q", got, tt.defect)
				}
				checkLost(t, im, disk, tt.lost)
				checkVerify(t, im, tt.lost != nil || tt.master)
			})
		}
	}
}

func openLayout(t *testing.T, l *dmgtest.Layout) *dmg.Image {
	t.Helper()
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	im, err := newImage(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func newImage(b []byte) (*dmg.Image, error) {
	return dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
}

// checkLost reads each sector, and wants an error from those that are lost.
func checkLost(t *testing.T, im *dmg.Image, disk []byte, lost ranges) {
	t.Helper()
	if im.Size() != int64(len(disk)) {
		t.Errorf("Size = %d, want %d", im.Size(), len(disk))
	}
	CheckChunks(t, im)
	for i := range len(disk) / sector {
		got := make([]byte, sector)
		_, err := im.ReadAt(got, int64(i)*sector)
		var chunk *dmg.ChunkError
		switch {
		case lost.has(i):
			if !errors.Is(err, dmg.ErrFormat) || !errors.As(err, &chunk) {
				t.Errorf("sector %d: %v, want a ChunkError of class ErrFormat", i, err)
			}
		case err != nil || !bytes.Equal(got, disk[i*sector:][:sector]):
			t.Errorf("sector %d: %v, or other bytes", i, err)
		}
	}
	var out bytes.Buffer
	want := disk
	if lost != nil {
		want = disk[:lost[0][0]*sector]
	}
	_, err := im.WriteTo(&out)
	if !bytes.Equal(out.Bytes(), want) || (lost != nil) != errors.Is(err, dmg.ErrFormat) || lost == nil && err != nil {
		t.Errorf("WriteTo: %d bytes, want %d, or other ones: %v", out.Len(), len(want), err)
	}
}

// checkVerify wants Verify to say that something can't be checked, if that is so, and
// not to find anything else wrong.
func checkVerify(t *testing.T, im *dmg.Image, fails bool) {
	t.Helper()
	err := im.Verify(context.Background(), nil)
	if (err != nil) != fails {
		t.Fatalf("Verify: %v, want an error: %v", err, fails)
	}
	if err == nil {
		return
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("Verify: %v", err)
	}
	for _, err := range joined.Unwrap() {
		var sum *dmg.ChecksumError
		if errors.As(err, &sum) && sum.Got != nil && sum.Part != "data fork" {
			t.Errorf("Verify compares what it can't know: %v", err)
		}
	}
}

// TestNoTable refuses an image of whose tables nothing is left.
func TestNoTable(t *testing.T) {
	for _, bend := range []func(*dmgtest.Table){
		func(t *dmgtest.Table) { t.Magic[0] = 'M' },
		func(t *dmgtest.Table) { t.DataOffset = math.MaxUint64 },
		func(t *dmgtest.Table) { t.Chunks, t.Count = nil, 5 },
	} {
		_, l := tablesDisk(t, dmgtest.Options{})
		for i := range l.Tables {
			bend(&l.Tables[i])
		}
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
		im, err := newImage(l.Bytes())
		var format *dmg.FormatError
		if !errors.As(err, &format) || format.Section != "mish 0" {
			t.Errorf("%v, %v, want the error of the first table", im, err)
		}
	}
}

// TestTwoLists has the tables taken from the list that is better.
func TestTwoLists(t *testing.T) {
	const data = "<data>\n\t\t\t\tb"
	for _, tt := range []struct {
		name string
		bend func(l *dmgtest.Layout) // after it is sealed
		lost ranges
	}{
		{"base64 of one table", func(l *dmgtest.Layout) {
			l.Plist = bytes.Replace(l.Plist, []byte(data), []byte(data[:len(data)-1]+"!"), 1)
		}, nil},
		{"magic of one table", func(l *dmgtest.Layout) {
			l.Plist = bytes.Replace(l.Plist, []byte(data), []byte(data[:len(data)-1]+"c"), 1)
		}, nil},
		{"both, the list more", func(l *dmgtest.Layout) {
			l.Plist = bytes.ReplaceAll(l.Plist, []byte(data), []byte(data[:len(data)-1]+"c"))
			l.Rsrc[256+4] = 'M'
		}, ranges{{0, 16}}},
		{"both, the fork more", func(l *dmgtest.Layout) {
			l.Plist = bytes.Replace(l.Plist, []byte(data), []byte(data[:len(data)-1]+"c"), 1)
			l.Rsrc = bytes.ReplaceAll(l.Rsrc, []byte("mish"), []byte("Mish"))
		}, ranges{{0, 16}}},
		{"the fork, not looked at", func(l *dmgtest.Layout) { l.Rsrc = bytes.ReplaceAll(l.Rsrc, []byte("mish"), []byte("Mish")) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk, l := tablesDisk(t, dmgtest.Options{Meta: dmgtest.PlistAndRsrc})
			before := bytes.Clone(append(l.Plist, l.Rsrc...))
			tt.bend(l)
			if bytes.Equal(before, append(l.Plist, l.Rsrc...)) {
				t.Fatal("nothing is bent")
			}
			im, err := newImage(l.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			checkLost(t, im, disk, tt.lost)
			if (len(im.Defects()) > 0) != (tt.name != "the fork, not looked at") {
				t.Errorf("Defects = %v", im.Defects())
			}
		})
	}
}

// TestBadBase64 has a table read up to the first character that is not base64.
func TestBadBase64(t *testing.T) {
	disk, l := tablesDisk(t, dmgtest.Options{})
	at := bytes.LastIndex(l.Plist, []byte("</data>"))
	for at -= 1; l.Plist[at] <= ' '; at-- {
	}
	l.Plist[at-2*40*4/3-8] = '!' // in the last chunk's entry
	im, err := newImage(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	checkLost(t, im, disk, ranges{{44, 48}})
	if got := im.Defects(); len(got) != 1 || !strings.Contains(got[0].Error(), `illegal base64 data at input byte`) || !strings.Contains(got[0].Error(), `"three"`) {
		t.Errorf("Defects = %v", got)
	}
}

// TestBentTables bends one number of a table that covers its part of the disk, to
// any other. A sector is then read right or not at all, unless the image says of it
// what can't be known to be wrong: that it is in no table, or that its data is
// elsewhere.
func TestBentTables(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	opened, read, lost := 0, 0, 0
	images := dmgtest.Times(20_000, 1200, 150)
	for range images {
		disk, l := tablesDisk(t, dmgtest.Options{})
		table := &l.Tables[rnd.IntN(3)]
		c := &table.Chunks[rnd.IntN(4)]
		v := []uint64{rnd.Uint64N(64), rnd.Uint64N(64), rnd.Uint64(), 1 << rnd.IntN(64)}[rnd.IntN(4)]
		var what string
		switch rnd.IntN(6) {
		case 0:
			what, c.Sector = "sector", v
		case 1:
			what, c.Sectors = "sectors", max(c.Sectors, v) // else there is a gap
		case 2:
			what, table.Sectors = "table's sectors", v
		case 3:
			what, table.Count = "count", max(table.Count, uint32(v))
		case 4:
			what, table.Magic[rnd.IntN(4)] = "magic", byte(v)
		case 5:
			what, c.Offset = "offset", uint64(len(l.Data)+16384)+v>>1
		}
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
		im, err := newImage(l.Bytes())
		if err != nil {
			t.Errorf("%s is %#x: %v", what, v, err)
			continue
		}
		opened++
		for i := range len(disk) / sector {
			got := make([]byte, sector)
			switch _, err := im.ReadAt(got, int64(i)*sector); {
			case err == nil && bytes.Equal(got, disk[i*sector:][:sector]):
				read++
			case errors.Is(err, dmg.ErrFormat), errors.Is(err, dmg.ErrChecksum):
				lost++
			default:
				t.Errorf("%s is %#x: sector %d: %v, or other bytes", what, v, i, err)
			}
		}
	}
	if opened < images || lost < images*5/6 || read < 20*lost/3 {
		t.Errorf("%d images opened, %d sectors read, %d lost", opened, read, lost)
	}
	t.Logf("%d images opened, %d sectors read, %d lost", opened, read, lost)
}

// TestShortCounts has tables whose headers say too few sectors, which other readers
// don't look at.
func TestShortCounts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		bend  func(l *dmgtest.Layout)
		lost  ranges
		parts []int64 // sectors of the partitions
	}{
		{"one fewer", func(l *dmgtest.Layout) { l.Tables[1].Sectors-- }, nil, []int64{16, 16, 16}},
		{"none", func(l *dmgtest.Layout) { l.Tables[1].Sectors = 0 }, nil, []int64{16, 16, 16}},
		{"none in any", func(l *dmgtest.Layout) { l.Tables[0].Sectors, l.Tables[1].Sectors, l.Tables[2].Sectors = 0, 0, 0 }, nil, []int64{16, 16, 16}},
		{"in the last, and in koly", func(l *dmgtest.Layout) { l.Tables[2].Sectors, l.Koly.Sectors = 9, 41 }, nil, []int64{16, 16, 16}},
		{"in the last, without a terminator", func(l *dmgtest.Layout) {
			l.Tables[2].Sectors = 9
			l.Tables[2].Chunks, l.Tables[2].Count = l.Tables[2].Chunks[:4], 4
		}, nil, []int64{16, 16, 16}},
		{"in the last, koly says nothing", func(l *dmgtest.Layout) {
			l.Tables[2].Sectors, l.Koly.Sectors = 9, 0
			l.Tables[2].Chunks, l.Tables[2].Count = l.Tables[2].Chunks[:4], 4
		}, nil, []int64{16, 16, 16}},
		{"and a chunk in another table", func(l *dmgtest.Layout) { l.Tables[0].Sectors, l.Tables[0].Chunks[3].Sectors = 12, 8 }, ranges{{12, 16}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk, l := tablesDisk(t, dmgtest.Options{})
			tt.bend(l)
			im := openLayout(t, l)
			if len(im.Defects()) == 0 {
				t.Error("no defect")
			}
			if tt.parts == nil { // its last chunk is not where any table is
				if _, err := im.ReadAt(make([]byte, 4*sector), 16*sector); err != nil {
					t.Errorf("the next table: %v", err)
				}
				return
			}
			checkLost(t, im, disk, tt.lost)
			checkVerify(t, im, false)
			for i, p := range im.Partitions() {
				if p.Length != tt.parts[i]*sector {
					t.Errorf("partition %d has %d sectors, want %d", i, p.Length/sector, tt.parts[i])
				}
			}
		})
	}
}

// TestKolySectors has the tables say how large the disk is where koly says what no
// disk can be.
func TestKolySectors(t *testing.T) {
	for _, n := range []uint64{1 << 54, 1 << 60, math.MaxUint64} {
		disk, l := tablesDisk(t, dmgtest.Options{})
		l.Koly.Sectors = n
		im := openLayout(t, l)
		checkLost(t, im, disk, nil)
		if got := im.Defects(); len(got) != 1 || !strings.Contains(got[0].Error(), "koly") {
			t.Errorf("%d: Defects = %v", n, got)
		}
	}
}

// TestManyBadTables has errors for at most 100 of what is wrong, and takes neither
// the memory nor the time of more.
func TestManyBadTables(t *testing.T) {
	dmgtest.Native(t)
	many, tables := uint64(dmgtest.Times(200_000, 200_000, 20_000)), int64(dmgtest.Times(5_000, 5_000, 500))
	good := dmgtest.NewTable("good", 0, 1, dmgtest.Chunk{Method: dmgtest.Zero, Sectors: 1})
	entries := func(entry func(i uint64) dmgtest.Chunk) []dmgtest.Table {
		table := dmgtest.NewTable("many", 1, int64(2*many))
		for i := range many {
			table.Chunks = append(table.Chunks, entry(i))
		}
		table.Count = uint32(many)
		return []dmgtest.Table{good, table}
	}
	each := func(bend func(i int64, t *dmgtest.Table)) []dmgtest.Table {
		all := []dmgtest.Table{good}
		for i := range tables {
			t := dmgtest.NewTable("bad", 2*i+2, 1, dmgtest.Chunk{Method: dmgtest.Raw, Sectors: 1, Length: sector})
			bend(i, &t)
			all = append(all, t)
		}
		return all
	}
	for _, tt := range []struct {
		name   string
		tables []dmgtest.Table
	}{
		{"entries at once", entries(func(i uint64) dmgtest.Chunk { return dmgtest.Chunk{Method: dmgtest.Raw, Sectors: many, Length: 1} })},
		{"entries in pairs", entries(func(i uint64) dmgtest.Chunk {
			return dmgtest.Chunk{Method: dmgtest.Raw, Sector: i / 2 * 3, Sectors: 1 + i%2, Length: 1}
		})},
		{"entries twice", entries(func(i uint64) dmgtest.Chunk { return dmgtest.Chunk{Method: dmgtest.Raw, Sector: i / 2 * 2, Sectors: 1} })},
		{"entries after the file", entries(func(i uint64) dmgtest.Chunk {
			return dmgtest.Chunk{Method: dmgtest.Zlib, Sector: 2 * i, Sectors: 1, Offset: math.MaxUint64 - i, Length: 1}
		})},
		{"entries after the table", entries(func(i uint64) dmgtest.Chunk {
			return dmgtest.Chunk{Method: dmgtest.Zlib, Sector: 4*many - 2*i, Sectors: 1, Length: 1}
		})},
		{"entries after the table, at once", entries(func(i uint64) dmgtest.Chunk {
			return dmgtest.Chunk{Method: dmgtest.Zlib, Sector: i, Sectors: 3 * many, Length: 1}
		})},
		{"entries after any disk, and gaps", entries(func(i uint64) dmgtest.Chunk {
			return dmgtest.Chunk{Method: dmgtest.Zlib, Sector: 2*i + i%2*(1<<60), Sectors: 1, Length: 1}
		})},
		{"tables without a header", each(func(i int64, t *dmgtest.Table) { t.Magic[0] = 0 })},
		{"tables by turns", each(func(i int64, t *dmgtest.Table) { t.Magic[0] ^= byte(i % 2) })},
		{"tables over each other", each(func(i int64, t *dmgtest.Table) { t.First, t.Sectors, t.Chunks[0].Sectors = 5, 10, uint64(1+i) })},
		{"tables in each other", each(func(i int64, t *dmgtest.Table) { t.Sectors, t.Chunks[0].Sectors = uint64(2*(tables-i)), 1<<62 })},
		{"tables that are short", each(func(i int64, t *dmgtest.Table) { t.Sectors, t.Chunks[0].Sectors = 0, 2 })},
		{"tables that are too short", each(func(i int64, t *dmgtest.Table) { t.Sectors, t.Chunks[0].Sectors = 1, 3 })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &dmgtest.Layout{Tables: tt.tables, Data: dmgtest.Text(1, 64*sector).Bytes(), Koly: dmgtest.NewKoly()}
			if tt.name == "tables without a header" {
				l.Koly.Sectors = 100 // no table says how large the disk is
			}
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			b := l.Bytes()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			begun := time.Now()
			im, err := newImage(b)
			took := time.Since(begun)
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			// The list, in which the tables are decoded, and the chunk map, which grows
			// when holes are closed, and is copied then.
			most := uint64(len(l.Plist)) + 4*48*many + 16<<20
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("%d MiB allocated for a list of %d", got>>20, len(l.Plist)>>20)
			}
			if took > 5*time.Second {
				t.Errorf("opening takes %v", took)
			}
			if n := len(im.Defects()); n == 0 || n > 100 {
				t.Errorf("%d defects", n)
			}
			CheckChunks(t, im)
			if _, err := im.WriteTo(io.Discard); !errors.Is(err, dmg.ErrFormat) && tt.name != "tables that are short" && tt.name != "entries twice" {
				t.Errorf("WriteTo: %v", err)
			}
			t.Logf("%v, %d MiB allocated", took, (after.TotalAlloc-before.TotalAlloc)>>20)
		})
	}
}

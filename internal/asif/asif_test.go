package asif

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// model serves sectors of an image at their plainest: it goes from the header to each.
type model struct {
	b                                []byte
	size, chunk, block, perGroup, nC int64
	dir                              int64
}

func newModel(b []byte) *model {
	m := &model{b: b}
	m.block = int64(binary.BigEndian.Uint16(b[0x44:]))
	m.chunk = int64(binary.BigEndian.Uint32(b[0x40:]))
	m.size = m.number(0x30) * m.block
	m.perGroup = 4 * m.block
	m.nC = m.chunk / (8 * (m.perGroup + 1))
	m.dir = m.number(0x10)
	if other := m.number(0x18); binary.BigEndian.Uint64(b[other:]) > binary.BigEndian.Uint64(b[m.dir:]) {
		m.dir = other
	}
	return m
}

// number is -1 outside the file.
func (m *model) number(at int64) int64 {
	if at < 0 || at > int64(len(m.b))-8 {
		return -1
	}
	return int64(binary.BigEndian.Uint64(m.b[at:]))
}

// kinds of sectors
const (
	hole = iota
	stored
	bad
)

// sector returns the kind of the sector at off of the disk, and where it is stored.
func (m *model) sector(off int64) (kind int, at int64) {
	c := off / m.chunk
	most := m.number(0x38) * m.block
	reach := m.perGroup * m.nC
	t := c / reach
	if t*reach*m.chunk >= most {
		return bad, 0
	}
	table := m.number(m.dir + 8 + 8*t)
	inFile := func(chunk int64) bool { return chunk >= 0 && chunk <= int64(len(m.b))/m.chunk }
	switch {
	case m.dir+8+8*t > int64(len(m.b))-8, !inFile(table):
		return bad, 0
	case table == 0:
		return hole, 0
	}
	group := table*m.chunk + c%reach/m.perGroup*8*(m.perGroup+1)
	if group+8*(m.perGroup+1) > int64(len(m.b)) {
		return bad, 0
	}
	v := uint64(m.number(group + 8*(c%m.perGroup)))
	state, reserved, chunk := v>>62, v>>55&127, int64(v&(1<<55-1))
	data := chunk*m.chunk + off%m.chunk
	switch {
	case reserved != 0, (state == 0 || state == 2) != (chunk == 0), !inFile(chunk):
		return bad, 0
	case chunk == 0:
		return hole, 0
	}
	if state == 3 {
		bitmap := m.number(group + 8*m.perGroup)
		sectors := m.chunk / m.block
		s := c%m.perGroup*sectors + off%m.chunk/m.block
		if bitmap <= 0 || !inFile(bitmap) || bitmap*m.chunk+((c%m.perGroup+1)*sectors+3)/4 > int64(len(m.b)) {
			return bad, 0
		}
		switch m.b[bitmap*m.chunk+s/4] >> (s % 4 * 2) & 3 {
		case 0:
			return hole, 0
		case 1:
		default:
			return bad, 0
		}
	}
	if data >= int64(len(m.b)) {
		return bad, 0
	}
	return stored, data
}

// read reads within a sector.
func (m *model) read(p []byte, off int64) (ok bool) {
	kind, at := m.sector(off)
	clear(p)
	if kind == stored {
		return copy(p, m.b[min(at+off%m.block, int64(len(m.b))):]) == len(p)
	}
	return kind == hole
}

func open(t testing.TB, b []byte) *Disk {
	t.Helper()
	d, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// images are made of all that a writer can do.
func images() map[string]dmgtest.ASIF {
	text := dmgtest.Text(1, 300_000).Bytes()
	holes := bytes.Clone(text)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		at := rnd.IntN(len(holes))
		clear(holes[at:min(len(holes), at+rnd.IntN(20_000))])
	}
	for at := 100_000; at < 140_000; at += 1024 { // every other sector
		clear(holes[at/512*512:][:512])
	}
	const far = 64 << 20 // where the second table begins
	spread := map[int64][]byte{0: holes, far - 32<<10: text[:65536], 5 * far: holes[50_000:]}
	return map[string]dmgtest.ASIF{
		"empty":        {Size: 1 << 20},
		"nothing":      {Size: 0, MaxSize: 1 << 20},
		"blank 1 TiB":  {Size: 1 << 40},
		"text":         {Size: 300_032, Data: map[int64][]byte{0: text}},
		"holes":        {Size: 300_032, Data: map[int64][]byte{0: holes}, Garbage: true},
		"whole":        {Size: 300_032, Data: map[int64][]byte{0: holes}, Whole: true},
		"sectors 4096": {Size: 303_104, Block: 4096, Chunk: 1 << 20, Data: map[int64][]byte{0: holes}, Garbage: true},
		"tables":       {Size: 6 * far, MaxSize: 1 << 40, Data: spread, Garbage: true, Second: true},
		"small chunks": {Size: 300_032, Chunk: 33 * 512, Data: map[int64][]byte{0: holes}, Garbage: true},
		"groups":       {Size: 200 << 20, Chunk: 64 << 10, Data: map[int64][]byte{128<<20 - 64<<10: holes, 0: text}, Garbage: true},
	}
}

// TestImages reads what the writer of these tests makes, in all ways.
func TestImages(t *testing.T) {
	for name, a := range images() {
		t.Run(name, func(t *testing.T) {
			b, _ := a.Bytes()
			d := open(t, b)
			if d.Size() != a.Size || len(d.Defects()) > 0 {
				t.Fatalf("%d bytes, defects %v", d.Size(), d.Defects())
			}
			if n, err := d.ReadAt(make([]byte, 1), d.Size()); n != 0 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
			if _, err := d.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
				t.Errorf("at -1: %v", err)
			}
			for off, p := range a.Data {
				checkRange(t, d, off, append(bytes.Clone(p), make([]byte, min(50_000, d.Size()-off-int64(len(p))))...))
			}
			checkExtents(t, d, newModel(b), a.Data)
		})
	}
}

// checkRange reads a range of the disk at once, in pieces, and at random.
func checkRange(t *testing.T, d *Disk, off int64, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := d.ReadAt(got, off); n != len(got) || err != nil && err != io.EOF || !bytes.Equal(got, want) {
		t.Errorf("%d bytes at %d: %d, %v", len(want), off, n, err)
	}
	if err := iotest.TestReader(io.NewSectionReader(d, off+90_000, 20_000), want[90_000:110_000]); err != nil {
		t.Error(err)
	}
	rnd := rand.New(rand.NewPCG(1, uint64(off)))
	for range 200 {
		at := rnd.IntN(len(want))
		p := make([]byte, rnd.IntN(min(len(want)-at, 20_000)+1))
		if n, err := d.ReadAt(p, off+int64(at)); n != len(p) || err != nil || !bytes.Equal(p, want[at:at+n]) {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), at, n, err)
		}
	}
}

// checkExtents compares the extents with the model's sectors: all of those near data.
func checkExtents(t *testing.T, d *Disk, m *model, data map[int64][]byte) {
	t.Helper()
	off := int64(0)
	var last *Extent
	for x := range d.Extents {
		if x.Offset != off || x.Length <= 0 || x.Err != nil || last != nil && last.joins(&x) {
			t.Fatalf("%+v follows %+v", x, last)
		}
		last = &x
		off += x.Length
		for s := x.Offset; s < min(off, x.Offset+400_000); s += m.block {
			kind, at := m.sector(s)
			if (kind == hole) != x.Hole || kind == bad || kind == stored && at != x.DataOffset+s-x.Offset {
				t.Fatalf("sector at %d is %d, %d in %+v", s, kind, at, x)
			}
		}
	}
	if off != d.Size() {
		t.Errorf("the extents end at %d of %d", off, d.Size())
	}
}

// TestTogether reads from 16 goroutines, with fewer pages than the tables have.
func TestTogether(t *testing.T) {
	a := images()["tables"]
	b, _ := a.Bytes()
	d := open(t, b)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(3, uint64(i)))
			for range 100 {
				for off, want := range a.Data {
					at := rnd.IntN(len(want))
					p := make([]byte, rnd.IntN(min(len(want)-at, 50_000)+1))
					if n, err := d.ReadAt(p, off+int64(at)); err != nil || !bytes.Equal(p, want[at:at+n]) {
						t.Errorf("%d bytes at %d: %d, %v", len(p), off+int64(at), n, err)
						return
					}
				}
			}
		}()
	}
	wg.Wait()
}

// TestSharedFetches: goroutines that want the same tables fetch them once, and one that
// waits for another whose source fails or panics tries for itself.
func TestSharedFetches(t *testing.T) {
	a := images()["holes"]
	b, _ := a.Bytes()
	for _, fault := range []string{"", "fails", "panics"} {
		var mu sync.Mutex
		calls := make(map[int64]int)
		slow := readerFunc(func(p []byte, off int64) (int, error) {
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			page := len(p) == pageLen
			if page {
				calls[off]++
			}
			first := page && calls[off] == 1
			mu.Unlock()
			switch {
			case first && fault == "fails":
				return 0, errSource
			case first && fault == "panics":
				panic(errSource)
			}
			return bytes.NewReader(b).ReadAt(p, off)
		})
		d, err := Open(slow, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		failed := 0
		for range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer func() {
					if v := recover(); v != nil {
						mu.Lock()
						failed++
						mu.Unlock()
					}
				}()
				p := make([]byte, 100)
				if _, err := d.ReadAt(p, 0); err != nil {
					mu.Lock()
					failed++
					mu.Unlock()
				} else if !bytes.Equal(p, a.Data[0][:100]) {
					t.Error("wrong bytes")
				}
			}()
		}
		wg.Wait()
		pages := len(calls)
		for off, n := range calls {
			if fault == "" && n > 1 {
				t.Errorf("the page at %d is fetched %d times", off, n)
			}
		}
		if pages < 2 || fault == "" && failed > 0 || failed > 2*pages+2 {
			t.Errorf("source %q: %d pages, %d readers fail", fault, pages, failed)
		}
	}
}

// TestMemory reads a large image here and there: of its tables little is kept, and a read
// whose tables are known is one call.
func TestMemory(t *testing.T) {
	a := dmgtest.ASIF{Size: 8 << 40, Chunk: 32 << 10, Data: map[int64][]byte{}}
	for i := range int64(200) { // of 131,072 tables, that is as many pages
		a.Data[i*32<<30] = []byte("here")
	}
	b, _ := a.Bytes()
	counter := &dmgtest.Counter{R: bytes.NewReader(b)}
	d, err := Open(counter, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	for i := range int64(200) {
		if _, err := d.ReadAt(p, i*32<<30); err != nil || string(p[:4]) != "here" || p[4] != 0 {
			t.Fatalf("at %d TiB/32: %q, %v", i, p[:5], err)
		}
	}
	if n := len(d.pages.mu.byOffset); n > maxPages || n != len(d.pages.mu.clock) {
		t.Errorf("%d pages are kept, %d in the clock", n, len(d.pages.mu.clock))
	}
	before := counter.Calls()
	if _, err := d.ReadAt(p[:512], 199*32<<30); err != nil {
		t.Fatal(err)
	}
	if n := counter.Calls() - before; n != 1 {
		t.Errorf("a warm read takes %d calls", n)
	}
}

// TestBridge reads short holes with what is around them, and not long ones.
func TestBridge(t *testing.T) {
	p := dmgtest.Text(1, 128<<10).Bytes()
	clear(p[1024:2048])
	clear(p[10_240:30_720])
	a := dmgtest.ASIF{Size: 128 << 10, Chunk: 128 << 10, Data: map[int64][]byte{0: p}, Garbage: true}
	b, _ := a.Bytes()
	counter := &dmgtest.Counter{R: bytes.NewReader(b)}
	d, err := Open(counter, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(p))
	d.ReadAt(got[:1], 0) // the tables
	before := counter.Calls()
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, p) {
		t.Fatal("wrong bytes, ", err)
	}
	if n := counter.Calls() - before; n != 2 {
		t.Errorf("%d calls for two runs of data", n)
	}
}

// put changes a number of an image.
func put(b []byte, at int64, v uint64, width int) []byte {
	b = bytes.Clone(b)
	for i := range width {
		b[at+int64(width-1-i)] = byte(v >> (8 * i))
	}
	return b
}

// TestHeaders: what the header can't have is refused by name.
func TestHeaders(t *testing.T) {
	good, _ := images()["holes"].Bytes()
	for _, tt := range []struct {
		name  string
		at    int64
		v     uint64
		width int
		say   string
	}{
		{"magic", 0, 'S', 1, "not an ASIF"},
		{"version 2", 4, 2, 4, "of version 1"},
		{"header of 1024", 8, 1024, 4, "of version 1"},
		{"a directory outside", 0x10, uint64(len(good)) - 7, 8, "directory"},
		{"the other directory at 2^63", 0x18, 1 << 63, 8, "directory"},
		{"a directory at 2^64-1", 0x10, 1<<64 - 1, 8, "directory"},
		{"more sectors than there can be", 0x30, 1 << 50, 8, "sectors of a disk that could have"},
		{"2^64-1 sectors at most", 0x38, 1<<64 - 1, 8, "18446744073709551615 sectors"},
		{"2^54 sectors at most", 0x38, 1 << 54, 8, "sectors"},
		{"chunks of 0", 0x40, 0, 4, "chunks of 0 bytes"},
		{"chunks of 513", 0x40, 513, 4, "chunks of 513 bytes"},
		{"chunks of 64 MiB and a sector", 0x40, 64<<20 + 512, 4, "chunks of"},
		{"chunks of 4 GiB", 0x40, 1<<32 - 512, 4, "chunks of"},
		{"chunks without room for a group", 0x40, 16 << 10, 4, "no room for a group"},
		{"sectors of 0", 0x44, 0, 2, "sectors of 0 bytes"},
		{"sectors of 511", 0x44, 511, 2, "sectors of 511 bytes"},
		{"sectors of 65024", 0x44, 65024, 2, "chunks of"},
		{"segments", 0x46, 1, 2, "number that is 0"},
	} {
		b := put(good, tt.at, tt.v, tt.width)
		_, err := Open(bytes.NewReader(b), int64(len(b)))
		wrong := (*FormatError)(nil)
		if !errors.As(err, &wrong) || !strings.Contains(fmt.Sprint(err), tt.say) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for n := range 512 {
		if _, err := Open(bytes.NewReader(good[:n]), int64(n)); err == nil {
			t.Errorf("cut to %d bytes, it opens", n)
		}
	}
	if d := open(t, put(good, 0x5F, 1, 1)); len(d.Defects()) != 1 {
		t.Errorf("a layer over another has defects %v", d.Defects())
	}
}

// TestEntries: what is wrong with one entry is refused with what it covers, and no more.
func TestEntries(t *testing.T) {
	a := dmgtest.ASIF{Size: 4 * 32 << 10, Data: map[int64][]byte{0: dmgtest.Text(1, 100_000).Bytes()}}
	good, parts := a.Bytes()
	group := parts.Tables[0]
	const chunk = 32 << 10
	file := uint64(len(good))
	for _, tt := range []struct {
		name     string
		b        []byte
		from, to int64 // that can't be read
		say      string
	}{
		{"state 0 with a chunk", put(good, group, 5, 8), 0, chunk, "entry 0x5"},
		{"state 2 with a chunk", put(good, group, 2<<62|5, 8), 0, chunk, "entry 0x8000000000000005"},
		{"state 1 without", put(good, group+8, 1<<62, 8), chunk, 2 * chunk, "entry 0x4000000000000000"},
		{"state 3 without", put(good, group+8, 3<<62, 8), chunk, 2 * chunk, "entry 0xc000000000000000"},
		{"reserved bits", put(good, group, 0x7f80000000000005, 8), 0, chunk, "entry 0x7f80000000000005"},
		{"chunk behind the file", put(good, group, 1<<62|file/chunk, 8), 0, chunk, "outside the file"},
		{"chunk 2^55-1", put(good, group, 1<<62|1<<55-1, 8), 0, chunk, "outside the file"},
		{"table behind the file", put(good, parts.Dirs[0]+8, file/chunk, 8), 0, 4 * chunk, "outside the file"},
		{"table 2^64-1", put(good, parts.Dirs[0]+8, 1<<64-1, 8), 0, 4 * chunk, "outside the file"},
		{"no bitmap", put(good, group+parts.Group-8, 0, 8), 3 * chunk, 4 * chunk, "bitmap entry 0x0"},
		{"bitmap behind the file", put(good, group+parts.Group-8, file/chunk, 8), 3 * chunk, 4 * chunk, "outside the file"},
		{"bitmap 2^63", put(good, group+parts.Group-8, 1<<63, 8), 3 * chunk, 4 * chunk, "bitmap entry 0x8000000000000000"},
		{"sector state 2", put(good, parts.Bitmaps[0]+3*16, 2|1<<2|1<<4|1<<6, 1), 3 * chunk, 3*chunk + 512, "sector state 2"},
		{"sector state 3", put(good, parts.Bitmaps[0]+3*16, 1|3<<2|1<<4|1<<6, 1), 3*chunk + 512, 3*chunk + 1024, "sector state 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, m := open(t, tt.b), newModel(tt.b)
			for off := int64(0); off < d.Size(); off += 512 {
				p, want := make([]byte, 512), make([]byte, 512)
				n, err := d.ReadAt(p, off)
				damaged := off >= tt.from && off < tt.to
				if m.read(want, off) == damaged {
					t.Fatalf("the model reads at %d: %v", off, !damaged)
				}
				if wrong := (*FormatError)(nil); damaged && (n > 0 || !errors.As(err, &wrong) || !strings.Contains(wrong.Error(), tt.say)) {
					t.Fatalf("at %d: %d, %v; want %q", off, n, err, tt.say)
				}
				if !damaged && (err != nil || !bytes.Equal(p, want)) {
					t.Fatalf("at %d: %v", off, err)
				}
			}
			for x := range d.Extents {
				if (x.Err != nil) != (x.Offset >= tt.from && x.Offset < tt.to) || x.Err != nil && (x.Offset != tt.from && x.Offset%chunk != 0) {
					t.Errorf("%+v", x)
				}
			}
		})
	}
}

// TestCut: of an image that was cut off, what is there can be read.
func TestCut(t *testing.T) {
	a := dmgtest.ASIF{Size: 100 << 20, Data: map[int64][]byte{0: dmgtest.Text(1, 100_000).Bytes(), 64 << 20: dmgtest.Text(2, 5000).Bytes()}}
	good, _ := a.Bytes()
	for cut := len(good); cut > 33<<10; cut -= 7777 {
		d, m := open(t, good[:cut]), newModel(good[:cut])
		for _, start := range []int64{0, 64 << 20} {
			for off := start; off < start+140_000; off += 1000 {
				p, want := make([]byte, 100), make([]byte, 100)
				off := off / 512 * 512
				n, err := d.ReadAt(p, off)
				if ok := m.read(want, off); ok != (err == nil) || !bytes.Equal(p[:n], want[:n]) {
					t.Fatalf("cut to %d, at %d: %d, %v; the model %v", cut, off, n, err, ok)
				}
			}
		}
	}
}

// TestCutBitmap: the last chunk of an image is a bitmap, of which less and less is there.
// Where a chunk's sectors are no multiple of four, chunks share bytes of the bitmap.
func TestCutBitmap(t *testing.T) {
	const chunk = 33 * 512
	p := dmgtest.Text(1, 5*chunk-700).Bytes()
	for c := range 5 { // each has a hole
		clear(p[c*chunk+2000:][:3000])
	}
	good, parts := dmgtest.ASIF{Size: 5 * chunk, Chunk: chunk, Data: map[int64][]byte{0: p}}.Bytes()
	// The bitmap is moved to the end.
	at := parts.Tables[0] + parts.Group - 8
	bitmap := int64(len(good))
	good = append(good, good[parts.Bitmaps[0]:][:chunk]...)
	binary.BigEndian.PutUint64(good[at:], uint64(bitmap/chunk))
	for cut := bitmap; cut < bitmap+50; cut++ {
		checkModel(t, open(t, good[:cut]), newModel(good[:cut]))
	}
}

// TestShared: tables and chunks that are used over and over take no more time than the
// file is long.
func TestShared(t *testing.T) {
	a := dmgtest.ASIF{Size: 1 << 50, Chunk: 1 << 20, Data: map[int64][]byte{0: []byte("x")}}
	b, parts := a.Bytes()
	tables := int64(1<<50) / (63 * 2048 << 20)
	table := uint64(parts.Tables[0] >> 20)
	for t := range tables { // the same, each
		binary.BigEndian.PutUint64(b[parts.Dirs[0]+8+8*t:], table)
	}
	for _, entry := range []uint64{0, 2 << 62, 1<<62 | table, 3<<62 | table} {
		for at := parts.Tables[0]; at < parts.Tables[0]+63*parts.Group; at += 8 {
			binary.BigEndian.PutUint64(b[at:], entry)
		}
		d := open(t, b)
		n, end := 0, int64(0)
		var last error
		for x := range d.Extents {
			n++
			end, last = x.Offset+x.Length, x.Err
		}
		if end != d.Size() || last == nil || !strings.Contains(last.Error(), "more than once") || n > len(b)/512 {
			t.Errorf("entries %#x: %d extents to %d, %v", entry, n, end, last)
		}
	}
}

// errSource is a source's own error.
var errSource = errors.New("the source fails")

// TestSource: a source's error is passed on, and not kept.
func TestSource(t *testing.T) {
	a := images()["holes"]
	b, _ := a.Bytes()
	for fail := range int64(8) {
		calls := int64(0)
		src := readerFunc(func(p []byte, off int64) (int, error) {
			if calls++; calls-1 == fail {
				return 0, errSource
			}
			return bytes.NewReader(b).ReadAt(p, off)
		})
		d, err := Open(src, int64(len(b)))
		if fail < 3 {
			if !errors.Is(err, errSource) {
				t.Errorf("call %d fails: Open returns %v", fail, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, d.Size())
		if n, err := d.ReadAt(got, 0); !errors.Is(err, errSource) || n == len(got) {
			t.Errorf("call %d fails: %d, %v", fail, n, err)
		}
		if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got[:300_000], append(a.Data[0], make([]byte, 512)...)[:300_000]) {
			t.Errorf("after that: %v", err)
		}
	}
	calls := 0
	d, err := Open(readerFunc(func(p []byte, off int64) (int, error) {
		if calls++; calls > 3 {
			return 0, errSource
		}
		return bytes.NewReader(b).ReadAt(p, off)
	}), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for x := range d.Extents {
		if !errors.Is(x.Err, errSource) || x.Length != d.Size() {
			t.Errorf("%+v", x)
		}
	}
}

type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// FuzzASIF holds the reader to this: of any image it reads what the model reads, sector by
// sector and in long reads; and its extents are the disk, in order.
func FuzzASIF(f *testing.F) {
	// A small image with parts bent: where, and what is written there.
	a := dmgtest.ASIF{Size: 4 * 16896, Chunk: 16896, Garbage: true, Data: map[int64][]byte{}}
	p := dmgtest.Text(1, 60_000).Bytes()
	clear(p[1000:5000])
	clear(p[20_000:50_000])
	a.Data[0] = p
	good, parts := a.Bytes()
	bend := func(at int64, v uint64) []byte {
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(at)), v)
	}
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{}, uint32(20_000))
	for i := range int64(4) {
		f.Add(bend(parts.Tables[0]+8*i, 3<<62|5), uint32(0))
		f.Add(bend(parts.Dirs[0]+8*i, 1), uint32(0))
	}
	f.Add(bend(parts.Tables[0]+parts.Group-8, 2), uint32(0))
	f.Add(bend(parts.Bitmaps[0], 0x1122334455667788), uint32(0))
	f.Add(bend(0x30, 1000), uint32(0))
	f.Add(append(bend(0x30, 1000), bend(0x38, 1<<40)...), uint32(0))
	f.Fuzz(func(t *testing.T, bends []byte, cut uint32) {
		b := bytes.Clone(good)
		for ; len(bends) >= 12; bends = bends[12:] {
			at := int64(binary.BigEndian.Uint32(bends)) % int64(len(b)-8)
			copy(b[at:], bends[4:12])
		}
		b = b[:len(b)-int(cut%uint32(len(b)))]
		d, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if wrong := (*FormatError)(nil); !errors.As(err, &wrong) {
				t.Fatal(err)
			}
			return
		}
		checkModel(t, d, newModel(b))
	})
}

// checkModel compares the first and the last part of a disk with the model.
func checkModel(t *testing.T, d *Disk, m *model) {
	const most = 100 << 10
	if d.Size() != m.size {
		t.Fatalf("%d bytes, the model %d", d.Size(), m.size)
	}
	for _, start := range []int64{0, max(0, d.Size()-most) / m.block * m.block} {
		end := min(d.Size(), start+most)
		long := make([]byte, end-start)
		n, longErr := d.ReadAt(long, start)
		right := 0
		for off := start; off < end; off += m.block {
			want, got := make([]byte, m.block), make([]byte, m.block)
			ok := m.read(want, off)
			k, err := d.ReadAt(got, off)
			if wrong := (*FormatError)(nil); ok != (err == nil) || err != nil && !errors.As(err, &wrong) || !bytes.Equal(got[:k], want[:k]) {
				t.Fatalf("at %d: %d, %v; the model %v", off, k, err, ok)
			}
			if right == int(off-start) {
				right += k
				if from := off - start; !bytes.Equal(long[from:min(int64(n), from+int64(k))], want[:max(0, min(int64(k), int64(n)-from))]) {
					t.Fatalf("a long read differs at %d", off)
				}
			}
		}
		if n != right || (longErr == nil) != (right == len(long)) {
			t.Fatalf("a long read has %d bytes and %v, short ones %d", n, longErr, right)
		}
	}
	off, count := int64(0), 0
	for x := range d.Extents {
		kind, at := m.sector(x.Offset / m.block * m.block)
		more := x.Err != nil && strings.Contains(x.Err.Error(), "more than once")
		if x.Offset != off || x.Length <= 0 || !more && ((kind == bad) != (x.Err != nil) && kind != stored || (kind == hole) != x.Hole || kind == stored && x.Err == nil && at+x.Offset%m.block != x.DataOffset) {
			t.Fatalf("%+v at %d, the model %d at %d", x, off, kind, at)
		}
		off += x.Length
		if count++; count > 1000+len(m.b)/4 {
			t.Fatalf("more extents than %d", count)
		}
	}
	if off != d.Size() {
		t.Fatalf("the extents end at %d of %d", off, d.Size())
	}
}

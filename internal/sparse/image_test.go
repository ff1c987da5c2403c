package sparse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// writeImage writes disk as a sparse image, its bands in a shuffled order with
// rooms left free, those that are zeros left out.
func writeImage(disk []byte, bandSize int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var numbers []uint32
	for n := 0; n*bandSize < len(disk); n++ {
		b := disk[n*bandSize : min(len(disk), (n+1)*bandSize)]
		if len(bytes.Trim(b, "\x00")) > 0 {
			numbers = append(numbers, uint32(n+1))
		}
		if rnd.IntN(20) == 0 {
			numbers = append(numbers, 0)
		}
	}
	// Runs stay together, as real writers leave them.
	for range len(numbers) / 10 {
		i, j := rnd.IntN(len(numbers)), rnd.IntN(len(numbers))
		numbers[i], numbers[j] = numbers[j], numbers[i]
	}
	be := binary.BigEndian
	out := make([]byte, nodeLen)
	copy(out, imageMark)
	be.PutUint32(out[4:], 3)
	be.PutUint32(out[8:], uint32(bandSize/sector))
	be.PutUint32(out[0x10:], uint32(len(disk)/sector))
	be.PutUint64(out[0x1C:], uint64(len(disk)/sector))
	at, first, link := 0, headerBands, 0x14
	for i := uint32(1); ; i++ {
		room := (nodeLen - first) / 4
		here := numbers[:min(room, len(numbers))]
		numbers = numbers[len(here):]
		for slot, n := range here {
			be.PutUint32(out[at+first+slot*4:], n)
			b := make([]byte, bandSize)
			if n > 0 {
				copy(b, disk[int(n-1)*bandSize:])
			}
			out = append(out, b...)
		}
		if len(numbers) == 0 {
			return out
		}
		next := len(out)
		be.PutUint64(out[at+link:], uint64(next))
		out = append(out, make([]byte, nodeLen)...)
		copy(out[next:], imageMark)
		be.PutUint32(out[next+4:], i)
		at, first, link = next, nodeBands, 0x0C
	}
}

// sparseDisk is size bytes in which every third stretch is zeros.
func sparseDisk(size int) []byte {
	disk := dmgtest.Random(7, int64(size)).Bytes()
	for i := 0; i < size; i += 48 << 10 {
		clear(disk[i:min(size, i+16<<10)])
	}
	return disk
}

func openImage(data []byte) (*Image, error) {
	return OpenImage(bytes.NewReader(data), int64(len(data)))
}

// checkDisk reads all of r, in one piece, in many from several goroutines, and
// along its extents, and compares with disk.
func checkDisk(t *testing.T, r Sized, extents func(func(Extent) bool), disk []byte) {
	t.Helper()
	if r.Size() != int64(len(disk)) {
		t.Fatalf("Size = %d, want %d", r.Size(), len(disk))
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<62))
	if err != nil || !bytes.Equal(got, disk) {
		t.Fatalf("%d bytes that differ, %v", len(got), err)
	}
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(g, 2))
			for range 100 {
				off, n := rnd.IntN(len(disk)+100), rnd.IntN(1<<rnd.IntN(18))
				p := bytes.Repeat([]byte{0xA5}, n)
				got, err := r.ReadAt(p, int64(off))
				want := min(n, max(len(disk)-off, 0))
				if got != want || (err == nil) != (got == n) || err != nil && err != io.EOF || !bytes.Equal(p[:got], disk[min(off, len(disk)):][:got]) {
					t.Errorf("ReadAt of %d at %d = %d, %v", n, off, got, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	at := int64(0)
	for e := range extents {
		if e.Offset != at || e.Length <= 0 || e.Offset+e.Length > int64(len(disk)) {
			t.Fatalf("extent %+v after %d", e, at)
		}
		if e.Hole && len(bytes.Trim(disk[at:at+e.Length], "\x00")) > 0 {
			t.Fatalf("data in hole %+v", e)
		}
		at += e.Length
	}
	if at != int64(len(disk)) {
		t.Fatalf("extents end at %d of %d", at, len(disk))
	}
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("ReadAt(-1): %v", err)
	}
}

func TestImage(t *testing.T) {
	for _, tt := range []struct{ size, bandSize int }{
		{0, 4096}, {512, 4096}, {4096, 4096}, {100 * sector, 1024},
		{1 << 20, 8 << 10}, {1<<20 + 512, 128 << 10}, {1008 * 512, 512}, {1009 * 512, 512}, {1 << 20, 1 << 20},
		{3 << 20, 1024}, // 4 nodes
	} {
		t.Run(fmt.Sprintf("%d/%d", tt.size, tt.bandSize), func(t *testing.T) {
			disk := sparseDisk(tt.size)
			if tt.size == 0 {
				m, err := openImage(writeImage(disk, tt.bandSize, 0))
				if err != nil || m.Size() != 0 {
					t.Fatal(err)
				}
				return
			}
			data := writeImage(disk, tt.bandSize, 1)
			m, err := openImage(data)
			if err != nil {
				t.Fatal(err)
			}
			checkDisk(t, m, m.Extents(), disk)
			for e := range m.Extents() {
				if !e.Hole && !bytes.Equal(data[e.DataOffset:][:e.Length], disk[e.Offset:][:e.Length]) {
					t.Fatalf("extent %+v is elsewhere", e)
				}
			}
		})
	}
}

// Bands stored in one piece are read in one call, and only what was asked for.
func TestImageSource(t *testing.T) {
	disk := dmgtest.Random(3, 1<<20).Bytes()
	data := make([]byte, nodeLen, nodeLen+len(disk))
	copy(data, writeImage(make([]byte, 1<<20), 4096, 0)[:headerBands])
	for i := range 256 {
		binary.BigEndian.PutUint32(data[headerBands+i*4:], uint32(i+1))
	}
	src := &dmgtest.Counter{R: bytes.NewReader(append(data, disk...))}
	m, err := OpenImage(src, int64(nodeLen+len(disk)))
	if err != nil || src.Bytes() != nodeLen {
		t.Fatalf("%d bytes read to open, %v", src.Bytes(), err)
	}
	src.Reset()
	p := make([]byte, 700_000)
	if _, err := m.ReadAt(p, 1234); err != nil || !bytes.Equal(p, disk[1234:][:len(p)]) {
		t.Fatal("other bytes", err)
	}
	if src.Calls() != 1 || src.Bytes() != int64(len(p)) {
		t.Errorf("%d bytes in %d calls", src.Bytes(), src.Calls())
	}
	if got := testing.AllocsPerRun(100, func() { m.ReadAt(p[:4096], 77) }); got != 0 {
		t.Errorf("%v allocations a read", got)
	}
}

func put(b []byte, at, size int, v uint64) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], v)
	copy(b[at:], n[8-size:])
}

// hostileImages are bent copies of fullImage.
var hostileImages = []struct {
	name     string
	at, size int
	value    uint64
	err      error  // nil: a *FormatError
	msg      string // part of the message
}{
	{"mark", 0, 4, 0, nil, "not a sparse image"},
	{"version", 4, 4, 2, ErrUnsupported, "version 2"},
	{"no band size", 8, 4, 0, nil, "0 sectors"},
	{"2^63 sectors", 0x1C, 8, 1 << 63, nil, "9223372036854775808 sectors"},
	{"2^55 sectors", 0x1C, 8, 1 << 55, nil, "sectors"},
}

// node2 is where the second node of fullImage is.
const node2 = nodeLen + headerCount*1024

const headerCount = (nodeLen - headerBands) / 4

// damagedImages are bent copies of fullImage that open.
var damagedImages = []struct {
	name     string
	at, size int
	value    uint64
	msg      string // of the first defect
	from, to int    // the bands that can't be read; to 0: all from there on
}{
	{"band past the disk", headerBands, 4, 3073, "band 3072 past the end of the disk", -1, -1},
	{"band 2^32-1", headerBands, 4, 1<<32 - 1, "band 4294967294 past the end of the disk", -1, -1},
	{"band twice", headerBands, 4, 7, "band 6 stored twice", 6, 7},
	{"node at -1", 0x14, 8, 1<<64 - 1, "no index node at -1", headerCount, 0},
	{"node is the header", 0x14, 8, 1, "no index node at 1", headerCount, 0},
	{"node in the bands", 0x14, 8, 8192, "no index node at 8192", headerCount, 0},
	{"node past the end", 0x14, 8, 1 << 40, "no index node at", headerCount, 0},
	{"node that isn't", 0x14, 8, node2 + 512, "no index node at", headerCount, 0},
	{"node without its mark", node2, 4, 0, "no index node at", headerCount, 0},
	{"node loop", node2 + 0x0C, 8, node2, "no index node at", headerCount + 1010, 0},
	{"node back to the header", node2 + 0x0C, 8, 4096, "no index node at 4096", headerCount + 1010, 0},
	{"no next node", node2 + 0x0C, 8, 0, "", -1, -1},
}

// fullImage has no free rooms and three nodes.
func fullImage() []byte {
	disk := bytes.Repeat([]byte{1}, 3<<20)
	data := make([]byte, nodeLen)
	copy(data, writeImage(disk[:1024], 1024, 0)[:headerBands])
	put(data, 0x10, 4, 3<<20/sector)
	put(data, 0x1C, 8, 3<<20/sector)
	at, first, link, n := 0, headerBands, 0x14, 1
	for n <= 3<<10 {
		for i := first; i < nodeLen && n <= 3<<10; i += 4 {
			put(data, at+i, 4, uint64(n))
			n++
			data = append(data, disk[:1024]...)
		}
		if n > 3<<10 {
			break
		}
		next := len(data)
		put(data, at+link, 8, uint64(next))
		data = append(data, append([]byte(imageMark), make([]byte, nodeLen-4)...)...)
		at, first, link = next, nodeBands, 0x0C
	}
	return data
}

func TestHostileImages(t *testing.T) {
	good := fullImage()
	if _, err := openImage(good); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, data []byte, class error, msg string) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := openImage(data)
		runtime.ReadMemStats(&after)
		var format *FormatError
		if class == nil && !errors.As(err, &format) || class != nil && !errors.Is(err, class) || !strings.Contains(fmt.Sprint(err), msg) {
			t.Errorf("%v, want %v with %q", err, class, msg)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%d bytes allocated", n)
		}
	}
	for _, tt := range hostileImages {
		t.Run(tt.name, func(t *testing.T) {
			data := bytes.Clone(good)
			put(data, tt.at, tt.size, tt.value)
			check(t, data, tt.err, tt.msg)
		})
	}
	t.Run("short", func(t *testing.T) {
		for n := 0; n <= nodeLen; n += 512 {
			check(t, good[:n], nil, "")
		}
	})
	t.Run("one band a thousand times", func(t *testing.T) {
		data := bytes.Clone(good[:node2])
		put(data, 0x14, 8, 0)
		for i := range headerCount {
			put(data, headerBands+4*i, 4, 1)
		}
		check(t, data, nil, "band 0 stored twice")
	})
}

// TestDamagedImages tests that damage of an index is no larger than it is.
func TestDamagedImages(t *testing.T) {
	for _, tt := range damagedImages {
		t.Run(tt.name, func(t *testing.T) {
			data := fullImage()
			put(data, tt.at, tt.size, tt.value)
			m, err := openImage(data)
			if err != nil {
				t.Fatal(err)
			}
			if d := m.Defects(); tt.msg == "" && len(d) > 0 || tt.msg != "" && (len(d) != 1 || !strings.Contains(d[0].Error(), tt.msg)) {
				t.Errorf("defects %v, want %q", d, tt.msg)
			}
			if tt.to == 0 {
				tt.to = 3 << 10
			}
			p := make([]byte, 1024)
			for n := range 3 << 10 {
				got, err := m.ReadAt(p, int64(n)*1024)
				if n >= tt.from && n < tt.to {
					var format *FormatError
					if got != 0 || !errors.As(err, &format) {
						t.Fatalf("band %d: %d, %v, want an error", n, got, err)
					}
				} else if err != nil {
					t.Fatalf("band %d: %v", n, err)
				}
			}
			checkExtents(t, m)
		})
	}
}

// checkExtents tests that extents cover the disk, and read as they say.
func checkExtents(t *testing.T, m *Image) {
	t.Helper()
	at := int64(0)
	for e := range m.Extents() {
		if e.Offset != at || e.Length <= 0 || e.Length > m.Size()-at || e.Stored < 0 || e.Stored > e.Length || e.Hole && e.Stored > 0 {
			t.Fatalf("extent %+v after %d", e, at)
		}
		p := make([]byte, min(e.Length, 1<<20))
		want := int64(len(p))
		if !e.Hole {
			want = min(want, e.Stored)
		}
		if n, err := m.ReadAt(p, at); int64(n) != want || (err != nil) != (want < int64(len(p))) {
			t.Fatalf("extent %+v: ReadAt of %d = %d, %v", e, len(p), n, err)
		}
		at += e.Length
	}
	if at != m.Size() {
		t.Fatalf("extents end at %d of %d", at, m.Size())
	}
}

// TestCutImages cuts an image anywhere: what is there can be read, and what isn't
// can't.
func TestCutImages(t *testing.T) {
	disk := dmgtest.Random(4, 16*4096).Bytes()
	data := dmgtest.SparseImage(disk, dmgtest.SparseOptions{BandSectors: 8, NodeIDs: 6})
	whole, err := openImage(data)
	if err != nil || len(whole.Defects()) > 0 {
		t.Fatal(err, whole.Defects())
	}
	for n := nodeLen + 1; n < len(data); n += 511 {
		m, err := openImage(data[:n])
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		// Bands stand in order, three nodes of six, six and four. What a node's cut
		// takes with it is what that node and those behind it list.
		const room = 6*4096 + nodeLen
		have := n/room*6*4096 + min(6*4096, max(0, n%room-nodeLen))
		got := make([]byte, len(disk))
		var format *FormatError
		if k, err := m.ReadAt(got, 0); k != have || have < len(disk) && !errors.As(err, &format) || !bytes.Equal(got[:k], disk[:k]) {
			t.Fatalf("cut at %d: ReadAt = %d, %v, want %d", n, k, err, have)
		}
		for off := 0; off < len(disk); off += 1000 {
			p := make([]byte, 100)
			k, err := m.ReadAt(p, int64(off))
			if !bytes.Equal(p[:k], disk[off:][:k]) || (err == nil) != (k == min(100, len(disk)-off)) {
				t.Fatalf("cut at %d: ReadAt at %d = %d, %v", n, off, k, err)
			}
			if want := max(0, min(100, have-off)); k != want {
				t.Fatalf("cut at %d: ReadAt at %d = %d, want %d", n, off, k, want)
			}
		}
		if d := m.Defects(); len(d) == 0 || !strings.Contains(d[0].Error(), "cut off") && !strings.Contains(d[0].Error(), "no index node") {
			t.Fatalf("cut at %d: defects %v", n, d)
		}
		checkExtents(t, m)
	}
}

// The last band may end where the disk does.
func TestShortLastBand(t *testing.T) {
	disk := bytes.Repeat([]byte{5}, 4096+512)
	data := make([]byte, nodeLen)
	copy(data, writeImage(disk, 4096, 0)[:headerBands])
	put(data, headerBands, 4, 1)
	put(data, headerBands+4, 4, 2)
	m, err := openImage(append(data, disk...))
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, m, m.Extents(), disk)
}

// The older count of sectors serves where the newer one isn't there.
func TestOldSectorCount(t *testing.T) {
	data := writeImage(sparseDisk(64<<10), 4096, 0)
	put(data, 0x1C, 8, 0)
	if m, err := openImage(data); err != nil || m.Size() != 64<<10 {
		t.Errorf("%v, %v", m, err)
	}
}

// A source's errors are passed on, with what was read before, and not remembered.
func TestImageFaults(t *testing.T) {
	fault := errors.New("fault")
	disk := sparseDisk(1 << 20)
	data := writeImage(disk, 4096, 3)
	m, err := openImage(data)
	if err != nil {
		t.Fatal(err)
	}
	for call := int64(1); ; call++ {
		src := &dmgtest.FailAt{R: bytes.NewReader(data), Call: call, Err: fault}
		m.src = src
		p := make([]byte, 600_000)
		n, err := m.ReadAt(p, 99)
		if src.Calls() < call {
			break
		}
		if !errors.Is(err, fault) || n == len(p) || !bytes.Equal(p[:n], disk[99:99+n]) {
			t.Fatalf("call %d: %d, %v", call, n, err)
		}
		if _, err := m.ReadAt(p, 99); err != nil || !bytes.Equal(p, disk[99:99+len(p)]) {
			t.Fatalf("after call %d failed: %v", call, err)
		}
	}
	m.src = dmgtest.Short{R: bytes.NewReader(data), Max: 1000}
	checkDisk(t, m, m.Extents(), disk)
	m.src = bytes.NewReader(data[:len(data)/2])
	if _, err := m.ReadAt(make([]byte, 1<<20), 0); err != io.ErrUnexpectedEOF {
		t.Errorf("cut source: %v", err)
	}
	for call := int64(1); call <= 1; call++ {
		src := &dmgtest.FailAt{R: bytes.NewReader(data), Call: call, Err: fault}
		if _, err := OpenImage(src, int64(len(data))); !errors.Is(err, fault) {
			t.Errorf("OpenImage: %v", err)
		}
	}
}

// FuzzImage: what opens has extents that cover the disk, and reads the same in
// any order as along them.
func FuzzImage(f *testing.F) {
	f.Add(writeImage(sparseDisk(64<<10), 4096, 1), int64(1000), uint16(5000))
	f.Add(writeImage(sparseDisk(4096), 512, 1), int64(0), uint16(1))
	f.Add(writeImage(nil, 512, 1), int64(0), uint16(1))
	f.Add(fullImage()[:8192+1024], int64(0), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, off int64, n uint16) {
		m, err := openImage(data)
		if err != nil {
			return
		}
		if len(m.bands) > len(data)/4 {
			t.Fatalf("%d bands in %d bytes", len(m.bands), len(data))
		}
		p := make([]byte, n)
		off &= 1<<62 - 1
		got, err := m.ReadAt(p, off)
		want := max(min(m.Size()-off, int64(n)), 0)
		var format *FormatError
		if damaged := errors.As(err, &format); damaged != (int64(got) < want) || damaged && len(m.Defects()) == 0 || !damaged && err != nil && err != io.EOF {
			t.Fatalf("ReadAt of %d at %d = %d, %v, want %d", n, off, got, err, want)
		}
		at := int64(0)
		for e := range m.Extents() {
			if e.Offset != at || e.Length <= 0 || e.Length > m.Size()-at {
				t.Fatalf("extent %+v after %d", e, at)
			}
			at += e.Length
			if e.Stored < e.Length && !e.Hole && len(m.Defects()) == 0 {
				t.Fatalf("extent %+v without a defect", e)
			}
			from, to := max(e.Offset, off), min(at, off+int64(got))
			if from >= to {
				continue
			}
			want := make([]byte, to-from)
			if !e.Hole {
				copy(want, data[e.DataOffset+from-e.Offset:])
			}
			if !bytes.Equal(p[from-off:to-off], want) {
				t.Fatalf("extent %+v reads otherwise", e)
			}
		}
		if at != m.Size() {
			t.Fatalf("extents end at %d of %d", at, m.Size())
		}
	})
}

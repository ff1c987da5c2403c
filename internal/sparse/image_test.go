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
	{"huge bands", 8, 4, 1<<32 - 1, nil, "past the end"},
	{"2^63 sectors", 0x1C, 8, 1 << 63, nil, "9223372036854775808 sectors"},
	{"2^55 sectors", 0x1C, 8, 1 << 55, nil, "sectors"},
	{"band past the disk", headerBands, 4, 3073, nil, "band 3072 past the end of the disk"},
	{"band 2^32-1", headerBands, 4, 1<<32 - 1, nil, "band 4294967294 past the end of the disk"},
	{"node at -1", 0x14, 8, 1<<64 - 1, nil, "node at -1"},
	{"node is the header", 0x14, 8, 1, nil, "node at 1"},
	{"node in the bands", 0x14, 8, 8192, nil, "node at 8192"},
	{"node past the end", 0x14, 8, 1 << 40, nil, "node at"},
	{"node that isn't", 0x14, 8, 0x1000 + 1008*1024 + 512, nil, "no index node"},
	{"node loop", 0x1000 + 1008*1024 + 0x0C, 8, 0x1000 + 1008*1024, nil, "node at"},
	{"node back to the header", 0x1000 + 1008*1024 + 0x0C, 8, 4096, nil, "node at 4096"},
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
	t.Run("band twice", func(t *testing.T) {
		data := bytes.Clone(good)
		put(data, headerBands, 4, 7)
		check(t, data, nil, "band 6 stored twice")
	})
	t.Run("cut", func(t *testing.T) {
		for n := 0; n < len(good); n += 509 {
			check(t, good[:n], nil, "")
		}
		check(t, good[:len(good)-1], nil, "band 3071 past the end of the file")
	})
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
		if len(m.bands) > len(data)/sector {
			t.Fatalf("%d bands in %d bytes", len(m.bands), len(data))
		}
		p := make([]byte, n)
		off &= 1<<62 - 1
		got, err := m.ReadAt(p, off)
		if want := max(min(m.Size()-off, int64(n)), 0); int64(got) != want || err != nil && err != io.EOF {
			t.Fatalf("ReadAt of %d at %d = %d, %v, want %d", n, off, got, err, want)
		}
		at := int64(0)
		for e := range m.Extents() {
			if e.Offset != at || e.Length <= 0 || e.Length > m.Size()-at {
				t.Fatalf("extent %+v after %d", e, at)
			}
			at += e.Length
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

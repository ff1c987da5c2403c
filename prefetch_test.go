package dmg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// haulTests are images, and how many calls of the source their whole disk takes at
// most, with the default limit.
func haulTests() []struct {
	name    string
	disk    []byte
	options dmgtest.Options
	calls   int
} {
	disk := dmgtest.Mixed(7, fewer[int64](6<<20, 2)).Bytes()
	zeros := bytes.Clone(disk)
	for off := 96 << 10; off < len(zeros); off += 256 << 10 {
		clear(zeros[off : off+64<<10])
	}
	every := []dmgtest.Method{dmgtest.Zlib, dmgtest.Raw, dmgtest.Bzip2, dmgtest.LZFSE, dmgtest.LZMA, dmgtest.ADC}
	const many = 1 << 10 // as many as there are
	return []struct {
		name    string
		disk    []byte
		options dmgtest.Options
		calls   int
	}{
		{"zlib", disk, dmgtest.Options{ChunkSectors: 64}, 6},
		{"all methods", disk, dmgtest.Options{ChunkSectors: 64, Codecs: every}, 8},
		{"zeros between", zeros, dmgtest.Options{ChunkSectors: 64, Codecs: every}, 8},
		{"gaps", disk, dmgtest.Options{ChunkSectors: 64, Trailing: 5000}, 8},
		{"raw", disk, dmgtest.Options{ChunkSectors: 64, Codecs: every[1:2]}, 8},
		{"one raw chunk", disk, dmgtest.Options{Codecs: every[1:2]}, 8},
		{"LZMA", disk, dmgtest.Options{ChunkSectors: 512, Codecs: every[4:5]}, 6},
		{"shuffled", disk, dmgtest.Options{ChunkSectors: 64, Codecs: every, Shuffle: true, Seed: 1}, many},
		{"two partitions", disk, dmgtest.Options{ChunkSectors: 64, Codecs: every, Partitions: []dmgtest.Partition{{First: 100, Sectors: 2000}, {First: 2500}}}, 8},
	}
}

// All ways through the disk give its bytes in few calls, fetch nothing twice, and
// leave no memory taken: with much memory, with little, and encrypted.
func TestPrefetch(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	withCores(t)
	for _, tt := range haulTests() {
		t.Run(tt.name, func(t *testing.T) {
			file := dmgtest.Image(t, tt.disk, tt.options)
			for _, limit := range []int64{0, 8 << 20, 9 << 20} {
				for _, password := range []string{"", "secret"} {
					if dmgtest.Part() && (limit > 8<<20 || (limit > 0) == (password == "")) {
						continue // each has its ways in one of the two that are left
					}
					stored := file
					if password != "" {
						stored = dmgtest.Encryption{Password: password, BlockSize: 512}.Image(file)
					}
					src := &dmgtest.Counter{R: bytes.NewReader(stored)}
					im, err := NewImage(src, int64(len(stored)), &Options{Password: password, MemoryLimit: limit})
					if err != nil {
						t.Fatal(err)
					}
					lost := int64(0) // what may be fetched in vain: all prefetches, if there is not enough memory
					if limit > 0 {
						im.mu.Lock()
						lost = im.prefetchSizeLocked() * int64(runtime.GOMAXPROCS(0)+1)
						im.mu.Unlock()
					}
					disk := holes(im, tt.disk)
					for range 2 {
						src.Reset()
						var b bytes.Buffer
						if _, err := im.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), disk) {
							t.Fatalf("WriteTo with a limit of %d: %v, or wrong bytes", limit, err)
						}
						if limit == 0 && src.Calls() > tt.calls || src.Bytes() > int64(len(stored))*106/100+lost {
							t.Errorf("WriteTo with a limit of %d: %d calls for %d bytes of %d", limit, src.Calls(), src.Bytes(), len(stored))
						}
					}
					before := runtime.NumGoroutine()
					w := newRecorder(im.Size())
					if err := im.Extract(context.Background(), w, nil); err != nil {
						t.Fatal(err)
					}
					w.check(t, im, disk, im.Size(), false)
					checkIdle(t, im, before)
					if err := im.Verify(context.Background(), nil); err != nil {
						t.Error(err)
					}
					checkAtRest(t, &im.engine)
				}
			}
		})
	}
}

// holes returns the disk with zeros where the image stores nothing.
func holes(im *Image, disk []byte) []byte {
	disk = bytes.Clone(disk)
	at := int64(0)
	for _, c := range im.chunks {
		clear(disk[at:c.Offset])
		at = c.end()
	}
	return disk
}

// What came before the source failed is delivered, up to the chunk that it failed
// in, and the error is the source's.
func TestHaulFaults(t *testing.T) {
	withCores(t)
	methods := []dmgtest.Method{dmgtest.Zlib, dmgtest.Raw, dmgtest.LZMA, dmgtest.LZFSE}
	disk := dmgtest.Mixed(7, 3<<20).Bytes()
	file := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 64, Codecs: methods})
	var bad int64 // byte that can't be read
	src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if off <= bad && bad < off+int64(len(p)) {
			return copy(p, file[off:bad]), errSource
		}
		return copy(p, file[off:]), nil
	})
	bad = -1
	im := newTestImage(t, src, len(file), 0)
	for k := 0; k < len(im.chunks); k += 7 {
		c := &im.chunks[k]
		if c.Method.zeros() {
			continue
		}
		bad = c.DataOffset + c.DataLength/2
		var b bytes.Buffer
		n, err := im.WriteTo(&b)
		var damaged *ChunkError
		if !errors.Is(err, errSource) || errors.As(err, &damaged) {
			t.Fatalf("%v: %v, want %v", c, err, errSource)
		}
		if n < c.Offset || n > c.end() || !bytes.Equal(b.Bytes(), disk[:n]) {
			t.Errorf("%v: %d bytes written, or wrong ones", c, n)
		}
		w := newRecorder(im.Size())
		checkStopped(t, im, w, disk, im.Extract(context.Background(), w, nil), errSource)
	}
	bad = -1
	if err := im.Verify(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

// A decoder that has room only without prefetches gets it.
func TestPrefetchGiveWay(t *testing.T) {
	withCores(t)
	disk := dmgtest.Mixed(8, 2<<20).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: 64, Codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Raw, dmgtest.LZFSE}})
	if err != nil {
		t.Fatal(err)
	}
	table := &l.Tables[0]
	for _, k := range []int{20, 21, 50} {
		c := &table.Chunks[k]
		stream := xzStream(t, disk[c.Sector*sectorSize:][:c.Sectors*sectorSize], xz.WriterConfig{DictCap: 8 << 20})
		c.Method, c.Offset, c.Length = dmgtest.LZMA, uint64(len(l.Data)), uint64(len(stream))
		l.Data = append(l.Data, stream...)
	}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	ti := testImage{disk, l.Bytes()}
	probe := ti.open(t, 0, nil)
	limit := leastLimit(t, probe)
	for range 3 {
		im := ti.open(t, limit, nil)
		var wg sync.WaitGroup
		for range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if _, err := im.WriteTo(io.Discard); err != nil {
					t.Error(err)
				}
			}()
		}
		within(t, "writing", wg.Wait)
	}
	im := ti.open(t, memoryFor(t, probe, &probe.chunks[20])-1, nil)
	if _, err := im.WriteTo(io.Discard); !errors.Is(err, ErrMemoryLimit) {
		t.Errorf("a byte less than a decoder: %v, want ErrMemoryLimit", err)
	}
}

var wholeTests = []struct {
	unit, size       int64
	off, end         int64
	wantOff, wantEnd int64
}{
	{0, 0, 5, 10, 5, 10},
	{512, 5000, 0, 512, 0, 512},
	{512, 5000, 5, 10, 0, 512},
	{512, 5000, 600, 1025, 512, 1536},
	{512, 5000, 600, 4999, 512, 5000}, // the last block is cut
	{1536, 5000, 1537, 3072, 1536, 3072},
}

func TestWhole(t *testing.T) {
	for _, tt := range wholeTests {
		s := countingSource{unit: tt.unit, size: tt.size}
		if off, end := s.alignToUnit(tt.off, tt.end); off != tt.wantOff || end != tt.wantEnd {
			t.Errorf("%+v: %d, %d", tt, off, end)
		}
	}
}

package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// lzmaImage stores a disk in one .xz chunk as a writer of that set-up makes it.
func lzmaImage(t *testing.T, disk []byte, c xz.WriterConfig, bend func(stream []byte)) testImage {
	t.Helper()
	var b bytes.Buffer
	w, err := c.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(disk); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if bend != nil {
		bend(b.Bytes())
	}
	sectors := int64(len(disk)) / sectorSize
	l := &dmgtest.Layout{Data: b.Bytes(), Koly: dmgtest.NewKoly()}
	l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, sectors, dmgtest.Chunk{
		Method: dmgtest.LZMA, Sectors: uint64(sectors), Length: uint64(b.Len()),
	})}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return testImage{disk, l.Bytes()}
}

// What a decoder takes of the limit follows from the dictionary that the
// stream names, and is what its Reader gets.
func TestLZMAMemory(t *testing.T) {
	disk := dmgtest.Text(1, 200<<10).Bytes()
	for _, dict := range []int{4 << 10, 64 << 10, 1 << 20, 3 << 20, 8 << 20} {
		t.Run(fmt.Sprint(dict>>10, "KiB"), func(t *testing.T) {
			ti := lzmaImage(t, disk, xz.WriterConfig{DictCap: dict}, nil)
			im := ti.open(t, 0, nil)
			memory, err := decoderMemory(countingSource{bytes.NewReader(ti.file), new(counters)}, &im.chunks[0])
			if err != nil || memory < int64(dict) || memory > int64(dict)*3/2+xzFixed+fetchBuffer {
				t.Fatalf("a dictionary of %d bytes: %d, %v", dict, memory, err)
			}
			im = ti.open(t, memory, nil)
			ti.wayThrough(t, im, 10_000)
			im = ti.open(t, memory-1, nil)
			if _, err := im.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrMemoryLimit) {
				t.Errorf("one byte less: %v, want ErrMemoryLimit", err)
			}
		})
	}
}

// A header that names a dictionary of 4 GiB costs none of it.
func TestLZMAHugeDictionary(t *testing.T) {
	disk := dmgtest.Text(1, 64<<10).Bytes()
	probe := lzmaImage(t, disk, xz.WriterConfig{DictCap: 4 << 10}, nil)
	// The stream's header is 12 bytes, then size, flags, and the filter: 0x21,
	// the length of its properties, the dictionary.
	const dictionary = 12 + 2 + 2
	stream := probe.file[probe.open(t, 0, nil).chunks[0].DataOffset:]
	if stream[dictionary-2] != 0x21 {
		t.Fatal("the writer's header is not what the test thinks")
	}
	for size := range byte(255) {
		if size == stream[dictionary] {
			continue
		}
		ti := testImage{disk, bytes.Clone(probe.file)}
		im := ti.open(t, 0, nil)
		head := ti.file[im.chunks[0].DataOffset:]
		head[dictionary] = size
		// The header's CRC is wrong now, which only a decoder would notice.
		if _, err := im.ReadAt(make([]byte, 1), 0); err == nil {
			t.Fatalf("dictionary %d: no error", size)
		} else if size >= 30 && size <= 40 && !errors.Is(err, ErrMemoryLimit) {
			t.Errorf("dictionary %d: %v, want ErrMemoryLimit", size, err)
		}
		if used := im.mu.account.total(); used > DefaultMemoryLimit {
			t.Fatalf("dictionary %d: %d bytes are taken", size, used)
		}
	}
}

// The header of a chunk that is no .xz file says nothing about memory; reading
// it does no harm, at any length.
func TestLZMAHeader(t *testing.T) {
	good := lzmaImage(t, dmgtest.Text(1, 64<<10).Bytes(), xz.WriterConfig{DictCap: 1 << 20}, nil)
	c := good.open(t, 0, nil).chunks[0]
	head := good.file[c.DataOffset:][:76]
	for n := range head {
		got := xzDictionary(head[12:max(12, n)])
		if want := xzDictionary(head[12:]); n > 16 && got != want || n <= 16 && got != 0 && got != want {
			t.Errorf("%d bytes of a header: dictionary %d, want %d", n, got, want)
		}
	}
	for _, tt := range []struct {
		name string
		head []byte
		want byte
	}{
		{"empty", nil, 0},
		{"no filter", []byte{2, 0}, 0},
		{"LZMA2", []byte{2, 0, 0x21, 1, 22, 0, 0, 0}, 22},
		{"both sizes", []byte{4, 0xC0, 0x80, 0x01, 0x7F, 0x21, 1, 22, 0, 0}, 22},
		{"another filter before", []byte{4, 1, 0x03, 1, 0, 0x21, 1, 23, 0}, 23},
		{"properties that go on and on", []byte{4, 1, 0x03, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0x21, 1, 23, 0}, 0},
		{"a number without an end", bytes.Repeat([]byte{0xFF}, 64), 0},
		{"two properties", []byte{2, 0, 0x21, 2, 22, 22}, 0},
	} {
		if got := xzDictionary(tt.head); got != tt.want {
			t.Errorf("%s: dictionary %d, want %d", tt.name, got, tt.want)
		}
	}
}

// A chunk that is damaged anywhere in its blocks can't be read to the end, and
// a source's error is its own.
func TestLZMADamage(t *testing.T) {
	disk := dmgtest.Text(3, 256<<10).Bytes()
	for _, at := range []float64{0, 0.1, 0.5, 0.8} {
		ti := lzmaImage(t, disk, xz.WriterConfig{DictCap: 64 << 10}, func(stream []byte) {
			stream[int(float64(len(stream))*at)] ^= 0x55
		})
		im := ti.open(t, 0, nil)
		_, err := io.Copy(io.Discard, io.NewSectionReader(im, 0, im.Size()))
		var chunk *ChunkError
		if !errors.As(err, &chunk) || !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
			t.Errorf("damage at %v of the stream: %v", at, err)
		}
	}
}

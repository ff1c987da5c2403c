package dmg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// lzmaImage stores a disk in one .xz chunk as a writer of that set-up makes it.
func lzmaImage(t *testing.T, disk []byte, c xz.WriterConfig, bend func(stream []byte)) testImage {
	t.Helper()
	stream := xzStream(t, disk, c)
	if bend != nil {
		bend(stream)
	}
	return chunkImage(t, disk, stream)
}

// xzStream compresses a disk.
func xzStream(t *testing.T, disk []byte, c xz.WriterConfig) []byte {
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
	return b.Bytes()
}

// chunkImage stores a disk in one chunk, which is that stream.
func chunkImage(t *testing.T, disk, stream []byte) testImage {
	t.Helper()
	sectors := int64(len(disk)) / sectorSize
	l := &dmgtest.Layout{Data: stream, Koly: dmgtest.NewKoly()}
	l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, sectors, dmgtest.Chunk{
		Method: dmgtest.LZMA, Sectors: uint64(sectors), Length: uint64(len(stream)),
	})}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return testImage{disk, l.Bytes()}
}

// memoryFor returns the memory of a decoder for c.
func memoryFor(t *testing.T, im *Image, c *Chunk) int64 {
	t.Helper()
	if c.Method != LZMA {
		return decoderMemory(c.Method)
	}
	head := make([]byte, min(c.DataLength, xzHead))
	if _, err := im.src.r.ReadAt(head, c.DataOffset); err != nil {
		t.Fatal(err)
	}
	return xzMemory(head)
}

// What a decoder takes of the limit follows from the dictionary that the
// stream names, and is what its Reader gets.
func TestLZMAMemory(t *testing.T) {
	disk := dmgtest.Text(1, 200<<10).Bytes()
	for _, dict := range []int{4 << 10, 64 << 10, 1 << 20, 3 << 20, 8 << 20} {
		t.Run(fmt.Sprint(dict>>10, "KiB"), func(t *testing.T) {
			ti := lzmaImage(t, disk, xz.WriterConfig{DictCap: dict}, nil)
			im := ti.open(t, 0, nil)
			memory := memoryFor(t, im, &im.chunks[0])
			if memory < int64(dict) || memory > int64(dict)*3/2+xzFixed+fetchBuffer {
				t.Fatalf("a dictionary of %d bytes: %d", dict, memory)
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

// What stands behind the data of an .xz stream is looked at: padding, check, index
// and footer, whose every bit counts.
func TestLZMAEnd(t *testing.T) {
	disk := dmgtest.Text(4, 2<<10).Bytes()
	for _, check := range []byte{xz.None, xz.CRC32, xz.CRC64, xz.SHA256} {
		stream := xzStream(t, disk, xz.WriterConfig{DictCap: 64 << 10, CheckSum: check, NoCheckSum: check == xz.None})
		index := len(stream) - xzFooter - 4*(1+int(binary.LittleEndian.Uint32(stream[len(stream)-8:])))
		end := index - map[byte]int{xz.CRC32: 4, xz.CRC64: 8, xz.SHA256: 32}[check]
		for at := end; at < len(stream); at++ {
			bent := bytes.Clone(stream)
			bent[at] ^= 1 << (at % 8)
			checkEnd(t, fmt.Sprintf("check %d, byte %d of %d", check, at, len(stream)), disk, bent, ErrChecksum)
			if at%4 == 0 {
				checkEnd(t, fmt.Sprintf("check %d, cut to %d of %d", check, at, len(stream)), disk, stream[:at], ErrChecksum)
			}
		}
		// LZMA decodes any byte to something: only the check tells.
		if check != xz.None {
			bent := bytes.Clone(stream)
			bent[end-200] ^= 1
			checkEnd(t, fmt.Sprintf("check %d, data", check), disk, bent, nil)
		}
		// Garbage behind the stream is none of its business, even if it begins as
		// padding does.
		for _, garbage := range []string{"", "\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x00\x00", "\x00garbage", "garbage", string(stream[:50]), strings.Repeat("\x00", 300_001)} {
			checkEnd(t, fmt.Sprintf("check %d, %.20q behind", check, garbage), disk, append(bytes.Clone(stream), garbage...), errNone)
		}
		checkEnd(t, "a stream that goes on", disk[:1024], stream, errNone)
	}
}

// errNone stands for no error.
var errNone = errors.New("none")

// checkEnd reads a disk that is one .xz chunk, at once and piece by piece. The
// read that gets to its end must fail with the error, any if it is nil.
func checkEnd(t *testing.T, name string, disk, stream []byte, want error) {
	t.Helper()
	ti := chunkImage(t, disk, stream)
	im := ti.open(t, 0, nil)
	p := make([]byte, len(disk))
	right := func(n int, err error) bool {
		switch want {
		case errNone:
			return n == len(p) && (err == nil || err == io.EOF)
		case nil:
			return err != nil && err != io.EOF
		}
		var chunk *ChunkError
		return n < len(p) && errors.Is(err, want) && errors.As(err, &chunk)
	}
	if n, err := im.ReadAt(p, 0); !right(n, err) || want == errNone && !bytes.Equal(p, disk) {
		t.Errorf("%s: %d bytes, %v; want %v", name, n, err, want)
	}
	p = p[:512]
	if n, err := ti.open(t, 0, nil).ReadAt(p, int64(len(disk)-len(p))); !right(n, err) {
		t.Errorf("%s: the last sector: %d bytes, %v; want %v", name, n, err, want)
	}
	if _, err := im.WriteTo(io.Discard); (err == nil) != (want == errNone) {
		t.Errorf("%s: WriteTo: %v, want %v", name, err, want)
	}
}

// The end of a stream costs no more than a look at it, however long it goes on.
func TestLZMALongEnd(t *testing.T) {
	disk := dmgtest.Text(4, 2<<10).Bytes()
	stream := xzStream(t, disk, xz.WriterConfig{DictCap: 64 << 10})
	im := chunkImage(t, disk, append(stream, make([]byte, 8<<20)...)).open(t, 0, nil)
	if n, err := im.ReadAt(make([]byte, len(disk)), 0); n < len(disk) {
		t.Error(err)
	}
	if got := im.Stats().SourceBytes; got > 2<<20 {
		t.Errorf("%d bytes were fetched", got)
	}
}

package imagetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// A directory that is no sparse bundle is there, and is no image.
func TestDirectories(t *testing.T) {
	half := dmgtest.SparseBundle(t, thinDisk(), dmgtest.BundleOptions{BandSize: bandSize})
	if err := os.RemoveAll(filepath.Join(half, "bands")); err != nil {
		t.Fatal(err)
	}
	for name, say := range map[string]string{t.TempDir(): "lacks Info.plist", half: "lacks bands"} {
		_, err := dmg.Open(name, nil)
		if !errors.Is(err, dmg.ErrFormat) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), say) {
			t.Errorf("%v, want ErrFormat with %q", err, say)
		}
	}
	if _, err := dmg.Open(filepath.Join(t.TempDir(), "x.dmg"), nil); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, dmg.ErrFormat) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
}

// openReads are the source's reads that opening may take. Each is a round trip
// where the source is remote.
var openReads = []struct {
	name  string
	most  int
	plist int // bytes of property list at least
	make  func(t *testing.T) []byte
}{
	{"small plist", 4, 0, func(t *testing.T) []byte { return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 2048}) }},
	{"plist of 200 KB", 4, 200_000, func(t *testing.T) []byte {
		return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 1, Zeros: dmgtest.ZeroKeep, Codecs: []dmgtest.Method{dmgtest.Raw}})
	}},
	{"resource fork", 4, 0, func(t *testing.T) []byte {
		return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 64, Meta: dmgtest.ResourceOnly})
	}},
	{"koly first", 5, 0, func(t *testing.T) []byte {
		return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 64, KolyFirst: true})
	}},
	{"v2", 4, 0, func(t *testing.T) []byte {
		return dmgtest.Encryption{Password: secret}.Image(dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 2048}))
	}},
	{"v1", 4, 0, func(t *testing.T) []byte {
		return dmgtest.Encryption{Password: secret, Version: 1}.Image(dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 2048}))
	}},
	{"v2, plist of 200 KB", 8, 200_000, func(t *testing.T) []byte {
		return dmgtest.Encryption{Password: secret}.Image(dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 1, Zeros: dmgtest.ZeroKeep, Codecs: []dmgtest.Method{dmgtest.Raw}}))
	}},
	{"sparse image of a node", 5, 0, func(*testing.T) []byte { return dmgtest.SparseImage(gptDisk(), dmgtest.SparseOptions{BandSectors: 16}) }},
	{"raw", 5, 0, func(*testing.T) []byte { return gptDisk() }},
}

// bigDisk is much larger than what is read ahead of a file's ends.
func bigDisk() []byte { return dmgtest.Mixed(30, 2<<20).Bytes() }

func TestOpenReads(t *testing.T) {
	t.Parallel()
	for _, tt := range openReads {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.make(t)
			if tt.plist > 0 {
				tail := bytes.LastIndex(b, []byte("koly"))
				if tail > 0 {
					if n := binary.BigEndian.Uint64(b[tail+0xE0:]); n < uint64(tt.plist) {
						t.Fatalf("a property list of %d bytes, want %d", n, tt.plist)
					}
				}
			}
			src := &dmgtest.Counter{R: bytes.NewReader(b)}
			if _, err := dmg.NewImage(src, int64(len(b)), &dmg.Options{Password: secret}); err != nil {
				t.Fatal(err)
			}
			if src.Calls() > tt.most {
				t.Errorf("%d reads, want at most %d: %v", src.Calls(), tt.most, src.Ranges())
			}
			t.Logf("%d reads, %d bytes", src.Calls(), src.Bytes())
		})
	}
}

// TestOpenPartitionsInManyChunks opens a disk whose partition table says that it goes
// on through a thousand chunks, each a bzip2 block of random bytes.
func TestOpenPartitionsInManyChunks(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	t.Parallel()
	const n, block = 1024, 4096
	entry := make([]byte, block)
	copy(entry, "PM")
	binary.BigEndian.PutUint32(entry[4:], n)
	data, err := dmgtest.Compress(dmgtest.Bzip2, 9, append(entry, dmgtest.Random(1, 890_000).Bytes()...))
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, block)
	copy(first, "ER")
	binary.BigEndian.PutUint16(first[2:], block)
	table := dmgtest.NewTable("", 0, (n+1)*8, dmgtest.Chunk{Method: dmgtest.Raw, Sectors: 8, Length: block})
	for i := range uint64(n) {
		table.Chunks = append(table.Chunks, dmgtest.Chunk{Method: dmgtest.Bzip2, Sector: (i + 1) * 8, Sectors: 8, Offset: block, Length: uint64(len(data))})
	}
	table.Count = n + 1
	l := &dmgtest.Layout{Tables: []dmgtest.Table{table}, Data: append(first, data...), Koly: dmgtest.NewKoly()}
	l.Koly.Sectors = (n + 1) * 8
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	b := l.Bytes()
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := im.Stats().BytesDecoded; got > n/10*512 {
		t.Errorf("opening decoded %d bytes, in as many blocks as there are sectors in these", got)
	}
}

// TestOpenLargeList opens an encrypted image whose property list is decrypted by
// several goroutines, all of which come to the file's last bytes at once.
func TestOpenLargeList(t *testing.T) {
	t.Parallel()
	const block = 1 << 20
	disk := dmgtest.Text(1, 64<<10).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}})
	if err != nil {
		t.Fatal(err)
	}
	l.Data = append(l.Data, make([]byte, block+32-len(l.Data))...)
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	l.Plist = append(l.Plist, bytes.Repeat([]byte(" "), 3*block+64-len(l.Data)-len(l.Plist))...)
	l.Koly.PlistLength = uint64(len(l.Plist)) + dmgtest.KolyLen
	b := dmgtest.Encryption{Password: "x", BlockSize: block}.Image(l.Bytes())
	b = append(b, make([]byte, 32<<10)...)[:0x1E000+3*block-24+32<<10] // the trailer straddles where the last 32 KiB begin
	for range 20 {
		im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &dmg.Options{Password: "x"})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(disk))
		if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
			t.Fatalf("%v, or other bytes", err)
		}
	}
}

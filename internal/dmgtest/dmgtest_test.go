package dmgtest

import (
	"bytes"
	"compress/bzip2"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/ulikunitz/xz"
)

var layouts = []struct {
	name string
	o    Options
}{
	{"zero value", Options{}},
	{"raw", Options{Codecs: []Method{Raw}, ChunkSectors: 100}},
	{"zlib", Options{Codecs: []Method{Zlib}, ChunkSectors: 64, Level: 9}},
	{"bzip2", Options{Codecs: []Method{Bzip2}, ChunkSectors: 64, Level: 1}},
	{"lzma", Options{Codecs: []Method{LZMA}, ChunkSectors: 64}},
	{"adc", Options{Codecs: []Method{ADC}, ChunkSectors: 64}},
	{"lzfse", Options{Codecs: []Method{LZFSE}, ChunkSectors: 64}},
	{"lzfse in small chunks", Options{Codecs: []Method{LZFSE}, ChunkSectors: 4}},
	{"round robin of all", Options{Codecs: []Method{Zlib, LZFSE, Raw, Bzip2, LZMA, ADC}, ChunkSectors: 64}},
	{"round robin", Options{Codecs: []Method{Zlib, Raw, Bzip2, LZMA}, ChunkSectors: 64}},
	{"keep zeros", Options{ChunkSectors: 64, Zeros: ZeroKeep}},
	{"merge zeros", Options{ChunkSectors: 64, MergeZeros: true}},
	{"ignore", Options{ChunkSectors: 64, Zeros: ZeroIgnore, MergeZeros: true}},
	{"comments", Options{ChunkSectors: 64, Comments: true}},
	{"prefix", Options{ChunkSectors: 64, Prefix: 4096}},
	{"table offset", Options{ChunkSectors: 64, TableOffset: true, Partitions: halves}},
	{"shuffle", Options{ChunkSectors: 64, Shuffle: true, Partitions: halves}},
	{"shuffle with table offset", Options{ChunkSectors: 64, Shuffle: true, TableOffset: true, Prefix: 7, Partitions: halves}},
	{"trailing", Options{Codecs: []Method{Zlib, Raw, Bzip2, ADC, LZFSE}, ChunkSectors: 64, Trailing: 13}},
	{"resource fork", Options{ChunkSectors: 64, Meta: ResourceOnly, Partitions: halves}},
	{"plist and resource fork", Options{ChunkSectors: 64, Meta: PlistAndRsrc, Partitions: halves}},
	{"tail", Options{ChunkSectors: 64, Tail: 511}},
	{"koly first", Options{ChunkSectors: 64, KolyFirst: true}},
	{"sums", Options{ChunkSectors: 64, DataSum: MD5, TableSum: SHA1, MasterSum: SHA256}},
	{"no sums", Options{ChunkSectors: 64, DataSum: NoSum, TableSum: NoSum, MasterSum: NoSum}},
}

// halves are two partitions that cover the test disk, half a MiB and a bit.
var halves = []Partition{{Name: "first", Sectors: 500}, {Name: "second", First: 500}}

// testDisk ends inside a sector.
func testDisk() []byte {
	return Join(Mixed(1, 320<<10), Zeros(150<<10), Text(2, 60<<10+17)).Bytes()
}

// The reader of these tests follows a layout's own fields through the bytes
// of the image, so that it sees what the package wrote and not what it meant.
func TestLayouts(t *testing.T) {
	NotRaced(t)
	disk := testDisk()
	for _, row := range layouts {
		t.Run(row.name, func(t *testing.T) {
			l, err := Build(disk, row.o)
			if err != nil {
				t.Fatal(err)
			}
			img := l.Bytes()
			want := append(bytes.Clone(disk), make([]byte, -len(disk)&(SectorSize-1))...)
			got := decode(t, img, l)
			if own := !slices.ContainsFunc(row.o.Codecs, noDecoder); own && !bytes.Equal(got, want) {
				t.Errorf("decodes to other %d bytes than the %d given", len(got), len(want))
			}
			checkKoly(t, img, row.o)
			var streamed bytes.Buffer
			// One byte a read is no different from all at once.
			if _, err := Write(&streamed, oneByte(disk), int64(len(disk)), row.o); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(streamed.Bytes(), img) {
				t.Error("Write differs from Build")
			}
		})
	}
}

// oneByte is a source whose reads through io.SectionReader come piecemeal.
func oneByte(b []byte) io.ReaderAt {
	r := bytes.NewReader(b)
	return ReaderAtFunc(func(p []byte, off int64) (int, error) {
		return r.ReadAt(p[:min(len(p), 4097)], off)
	})
}

// decode reads the chunks of an image with the standard library's codecs.
func decode(t *testing.T, img []byte, l *Layout) []byte {
	disk := make([]byte, l.Koly.Sectors*SectorSize)
	for i := range l.Tables {
		tab := &l.Tables[i]
		if int(tab.Count) != len(tab.Chunks) {
			t.Errorf("table %d says %d chunks, has %d", i, tab.Count, len(tab.Chunks))
		}
		summed := crc32.NewIEEE()
		undecoded := slices.ContainsFunc(tab.Chunks, func(c Chunk) bool { return noDecoder(c.Method) })
		for _, c := range tab.Chunks {
			off, n := tab.span(c)
			data := disk[off : off+n]
			if c.Length > 0 {
				at := l.Koly.DataOffset + tab.DataOffset + c.Offset
				decodeChunk(t, c.Method, img[at:at+c.Length], data)
			}
			if c.Method != Ignore {
				summed.Write(data)
			}
		}
		if sum := tab.Checksum; !undecoded && sum.Type == CRC32 && binary.BigEndian.Uint32(sum.Data[:]) != summed.Sum32() {
			t.Errorf("table %d: checksum %x, data %x", i, sum.Data[:4], summed.Sum32())
		}
	}
	return disk
}

func noDecoder(m Method) bool { return m == ADC || m == LZFSE }

func decodeChunk(t *testing.T, m Method, stored, data []byte) {
	if noDecoder(m) {
		return // no decoder here: TestOthers reads them
	}
	r, err := newDecoder(m, bytes.NewReader(stored))
	if err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	if _, err := io.ReadFull(r, data); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
}

func newDecoder(m Method, r io.Reader) (io.Reader, error) {
	switch m {
	case Raw:
		return r, nil
	case Zlib:
		return zlib.NewReader(r)
	case Bzip2:
		return bzip2.NewReader(r), nil
	case LZMA:
		return xz.NewReader(r)
	}
	return nil, errors.New("no decoder")
}

// checkKoly reads the trailer at the offsets that the format gives.
func checkKoly(t *testing.T, img []byte, o Options) {
	k := img[len(img)-o.Tail-KolyLen:]
	if o.KolyFirst {
		k = img
	}
	be := binary.BigEndian
	if string(k[:4]) != "koly" || be.Uint32(k[8:]) != KolyLen {
		t.Fatalf("koly begins %x", k[:12])
	}
	data := img[be.Uint64(k[0x18:]):][:be.Uint64(k[0x20:])]
	if o.DataSum == 0 && be.Uint32(k[0x58:]) != crc32.ChecksumIEEE(data) {
		t.Error("wrong checksum of the data fork")
	}
	rsrc := img[be.Uint64(k[0x28:]):][:be.Uint64(k[0x30:])]
	xml := img[be.Uint64(k[0xD8:]):][:be.Uint64(k[0xE0:])]
	if o.Meta != ResourceOnly && (!bytes.HasPrefix(xml, []byte("<?xml")) || !bytes.HasSuffix(xml, []byte("</plist>\n"))) {
		t.Error("the plist is elsewhere")
	}
	if o.Meta != PlistOnly && be.Uint32(rsrc[4:])+be.Uint32(rsrc[12:]) != uint32(len(rsrc)) {
		t.Error("the resource fork is elsewhere")
	}
	if be.Uint32(k[0x1E8:]) != 1 || be.Uint64(k[0x1EC:]) != uint64(len(testDisk())+511)/512 {
		t.Errorf("variant and sectors: %x", k[0x1E8:0x1F4])
	}
}

// TestOthers lets 7-Zip, which shares nothing with this package, test and
// read the images.
func TestOthers(t *testing.T) {
	NotRaced(t)
	sevenZip, err := exec.LookPath("7zz")
	if err != nil {
		t.Skip("7-Zip is not installed")
	}
	disk := testDisk()
	disk = append(disk, make([]byte, -len(disk)&(SectorSize-1))...)
	for _, row := range layouts {
		t.Run(row.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "image.dmg")
			if err := os.WriteFile(name, Image(t, disk, row.o), 0o666); err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			cmd := exec.Command(sevenZip, "x", "-so", "-tdmg", name)
			cmd.Stderr = &errs
			got, err := cmd.Output()
			// Of bytes after a stream's end it complains, and reads on.
			if err != nil && row.o.Trailing == 0 {
				t.Errorf("%v\n%s", err, errs.Bytes())
			}
			if !bytes.Equal(got, disk) {
				t.Errorf("7-Zip gives other %d bytes than the %d of the disk", len(got), len(disk))
			}
		})
	}
}

// A test's bent field arrives in the image as it was set, and only Seal
// touches what follows from it.
func TestBend(t *testing.T) {
	l, err := Build(Text(1, 4096).Bytes(), Options{ChunkSectors: 4})
	if err != nil {
		t.Fatal(err)
	}
	plain := l.Bytes()
	l.Tables[0].Chunks[1].Offset = math.MaxUint64
	l.Tables[0].Count = 7
	if !bytes.Equal(l.Bytes(), plain) {
		t.Error("a table changed the image without Seal")
	}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	l.Koly.DataLength = 1<<63 + 1
	img := l.Bytes()
	if got := binary.BigEndian.Uint64(img[len(img)-KolyLen+0x20:]); got != 1<<63+1 {
		t.Errorf("data length %#x", got)
	}
	mish := l.Tables[0].Bytes()
	if len(mish) != MishLen+ChunkLen*len(l.Tables[0].Chunks) {
		t.Errorf("table of %d bytes", len(mish))
	}
	if n, off := binary.BigEndian.Uint32(mish[0xC8:]), binary.BigEndian.Uint64(mish[0xCC+ChunkLen+24:]); n != 7 || off != math.MaxUint64 {
		t.Errorf("count %d, offset %#x", n, off)
	}
	if !bytes.Contains(img, Plist(l.resources())) {
		t.Error("the plist is not that of the bent table")
	}
}

func TestSums(t *testing.T) {
	const ieee = "123456789" // its CRC is in every list of CRCs
	c, err := Sum(CRC32, []byte(ieee))
	if err != nil || fmt.Sprintf("%x", c.value()) != "cbf43926" {
		t.Errorf("CRC-32 %x, %v", c.value(), err)
	}
	for _, n := range []int64{0, 1, 7, 512, 1 << 20, 12345678} {
		s, _ := newSum(CRC32)
		s.Write([]byte(ieee))
		s.zeros(n)
		if want := crc32.ChecksumIEEE(append([]byte(ieee), make([]byte, n)...)); s.crc != want {
			t.Errorf("%d zeros: %x, want %x", n, s.crc, want)
		}
	}
	sizes := map[SumType]uint32{0: 32, CRC32: 32, MD5: 128, SHA1b: 160, SHA1: 160, SHA256: 256, SHA384: 384, SHA512: 512, NoSum: 0}
	for kind, bits := range sizes {
		if c, err := Sum(kind, []byte(ieee)); err != nil || c.Bits != bits || (c.Data == [128]byte{}) != (bits == 0) {
			t.Errorf("type %d: %d bits, %v", kind, c.Bits, err)
		}
		if c, _ := Sum(kind, nil); c.Data != [128]byte{} {
			t.Errorf("type %d: of nothing %x", kind, c.value())
		}
	}
	if _, err := Sum(99, nil); err == nil {
		t.Error("type 99 is known")
	}
}

// Contents read in any pieces are the same bytes, and of the kind they say.
func TestContent(t *testing.T) {
	all := map[string]Content{
		"zeros":  Zeros(10_001),
		"random": Random(3, 10_001),
		"text":   Text(3, 10_001),
		"mixed":  Mixed(3, 5<<20+3),
		"join":   Join(Text(1, 1000), Zeros(0), Random(1, 999), Zeros(3000), Text(2, 1)),
	}
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			whole := c.Bytes()
			if int64(len(whole)) != c.Size() {
				t.Fatalf("%d bytes of %d", len(whole), c.Size())
			}
			if err := iotest.TestReader(io.NewSectionReader(c, 0, min(c.Size(), 20_000)), whole[:min(c.Size(), 20_000)]); err != nil {
				t.Error(err)
			}
			for off := int64(0); off < c.Size(); off += 769 {
				p := make([]byte, 1+off%1500)
				n, _ := c.ReadAt(p, off)
				if !bytes.Equal(p[:n], whole[off:off+int64(n)]) {
					t.Fatalf("other bytes at %d", off)
				}
				zero := len(bytes.Trim(p[:n], "\x00")) == 0
				if c.ZeroRange(off, int64(n)) && !zero {
					t.Fatalf("says that %d bytes at %d are zeros", n, off)
				}
			}
		})
	}
	ratios := []struct {
		c      Content
		lo, hi float64 // compressed over plain size
	}{
		{Random(1, 1<<16), 1, 1.01},
		{Text(1, 1<<16), 0.2, 0.45},
		{Zeros(1 << 16), 0, 0.01},
		{Mixed(1, 4<<20), 0.2, 0.6},
	}
	for _, row := range ratios {
		z, err := Compress(Zlib, 0, row.c.Bytes())
		if r := float64(len(z)) / float64(row.c.Size()); err != nil || r < row.lo || r > row.hi {
			t.Errorf("%v: compresses to %.2f, %v", row.c.runs[0].kind, r, err)
		}
	}
	if bytes.Equal(Random(1, 64).Bytes(), Random(2, 64).Bytes()) || bytes.Equal(Text(1, 64).Bytes(), Text(2, 64).Bytes()) {
		t.Error("seeds make no difference")
	}
}

// A disk of 16 TiB that is zeros but for a word takes neither time nor space.
func TestHugeZeros(t *testing.T) {
	disk := Join(Zeros(1<<44), Text(1, 512), Zeros(1<<40))
	var b bytes.Buffer
	l, err := Write(&b, disk, disk.Size(), Options{ChunkSectors: 1 << 17, MergeZeros: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Tables[0].Chunks) != 4 || b.Len() > 1<<20 {
		t.Errorf("%d chunks, %d bytes", len(l.Tables[0].Chunks), b.Len())
	}
}

func TestPartitionErrors(t *testing.T) {
	for _, p := range []Partition{{First: 9}, {Sectors: 9}, {First: 8, Sectors: 1}, {First: -1}, {Sectors: -1}, {First: 1, Sectors: math.MaxInt64}} {
		if _, err := Build(make([]byte, 8*SectorSize), Options{Partitions: []Partition{p}}); err == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	src := bytes.NewReader([]byte("0123456789"))
	rows := []struct {
		name string
		r    io.ReaderAt
		off  int64
		want string
		err  error
	}{
		{"first call", &FailAt{R: src, Call: 2, Err: boom}, 0, "0123", nil},
		{"fails", &FailAt{R: src, Call: 1, Err: boom}, 0, "", boom},
		{"short", Short{R: src, Max: 3}, 0, "012", nil},
		{"short with error", Short{R: src, Max: 3, Err: boom}, 1, "123", boom},
		{"not short", Short{R: src, Max: 4, Err: boom}, 1, "1234", nil},
		{"eager", EagerEOF{src, 10}, 6, "6789", io.EOF},
		{"not yet eager", EagerEOF{src, 10}, 5, "5678", nil},
		{"slow", Slow{src, 1}, 0, "0123", nil},
	}
	for _, row := range rows {
		p := make([]byte, 4)
		n, err := row.r.ReadAt(p, row.off)
		if string(p[:n]) != row.want || err != row.err {
			t.Errorf("%s: %q, %v", row.name, p[:n], err)
		}
	}
	once, sticky := &FailAt{R: src, Call: 2, Err: boom}, &FailAt{R: src, Call: 2, Err: boom, Sticky: true}
	for i := range 4 {
		_, err1 := once.ReadAt(make([]byte, 1), 0)
		_, err2 := sticky.ReadAt(make([]byte, 1), 0)
		if (err1 != nil) != (i == 1) || (err2 != nil) != (i >= 1) {
			t.Errorf("call %d: %v, %v", i+1, err1, err2)
		}
	}
	c := &Counter{R: src}
	c.ReadAt(make([]byte, 4), 8)
	if c.Calls() != 1 || c.Bytes() != 2 || c.Ranges()[0] != (Range{8, 4}) {
		t.Errorf("%d calls, %d bytes, %v", c.Calls(), c.Bytes(), c.Ranges())
	}
	if c.Reset(); c.Calls() != 0 || c.Bytes() != 0 {
		t.Error("Reset forgot to forget")
	}
}

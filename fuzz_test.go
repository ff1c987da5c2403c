package dmg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-dmg/dmg/internal/blkx"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// seedImages adds the images in testdata, whole, and one of each raw disk.
func seedImages(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.dmg")
	if err != nil || len(files) == 0 {
		f.Fatal("no images in testdata: ", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, mark := range diskMarks {
		b := make([]byte, mark.offset+512)
		copy(b[mark.offset:], mark.magic)
		f.Add(b)
	}
	for _, b := range containerSeeds(f) {
		f.Add(b)
	}
	f.Add(dmgtest.Signing{Identifier: "x", PageBits: 12}.Image(dmgtest.Image(f, dmgtest.Random(1, 9000).Bytes(), dmgtest.Options{Extra: []dmgtest.Resource{
		{Type: "LPic", ID: 5000, Data: make([]byte, 10)}, {Type: "TEXT", ID: 5000, Data: []byte("text")}, {Type: "STR#", ID: 5000, Data: []byte("\x00\x01\x01x")},
	}})))
}

const (
	fuzzPassword   = "x"
	fuzzIterations = 10
)

// containerSeeds are a small image in each container that is a file, and in
// containers inside containers.
func containerSeeds(tb testing.TB) [][]byte {
	tb.Helper()
	disk := dmgtest.Join(dmgtest.Text(1, 3000), dmgtest.Zeros(3000), dmgtest.Random(2, 1500)).Bytes()
	udif := dmgtest.Image(tb, disk, dmgtest.Options{ChunkSectors: 4})
	thin := dmgtest.SparseImage(disk, dmgtest.SparseOptions{BandSectors: 1})
	nodes := dmgtest.SparseImage(disk, dmgtest.SparseOptions{BandSectors: 1, NodeIDs: 3, Shuffle: true})
	asif, _ := dmgtest.ASIF{Size: 2 * 16896, Chunk: 16896, Data: map[int64][]byte{0: disk}, Garbage: true}.Bytes()
	boot := append(make([]byte, 510), "\x55\xAA"...)
	seeds := [][]byte{
		thin, nodes, asif,
		dmgtest.IM4P{Payload: boot, Keybag: []byte{}}.Bytes(),
		dmgtest.IM4P{Payload: udif, IMG4: true}.Bytes(),
		dmgtest.IM4P{Payload: lzfseenc.Encode(lzfseenc.V2, boot), Compressed: true, Algorithm: 1, Size: 512}.Bytes(),
	}
	for _, e := range []dmgtest.Encryption{
		{Version: 1, KeyBits: 128, BlockSize: 512},
		{BlockSize: 512},
		{KeyBits: 128, AESWrap: true, Decoys: 2},
	} {
		e.Password, e.Iterations, e.DataOffset = fuzzPassword, fuzzIterations, 512
		for _, inner := range [][]byte{udif, thin, append(make([]byte, 32), "NXSB"...)} {
			seeds = append(seeds, e.Image(inner))
		}
	}
	return seeds
}

// slow reports whether the header of an encrypted image asks for so much key
// derivation that the fuzzer would get nowhere.
func slow(b []byte) bool {
	number := func(at uint64) uint64 {
		if at > uint64(len(b)) || len(b)-int(at) < 4 {
			return 0
		}
		return uint64(binary.BigEndian.Uint32(b[at:]))
	}
	if bytes.HasSuffix(b, []byte("cdsaencr")) && number(uint64(len(b))-1276+0x30) > fuzzIterations {
		return true
	}
	for i := range min(number(0x48), 64) {
		record := number(0x4C+20*i+4)<<32 | number(0x4C+20*i+8)
		if string(b[:8]) == "encrcdsa" && record < uint64(len(b)) && number(record+8) > fuzzIterations {
			return true
		}
	}
	return false
}

// FuzzOpen opens anything as an image. If it opens, its chunks cover the disk,
// and a byte is the same however it is read: by one reader in small steps, by
// another in one, cold or warm.
func FuzzOpen(f *testing.F) {
	seedImages(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if slow(b) {
			return
		}
		checkOpen(t, func(opts *Options) (*Image, error) { return NewImage(bytes.NewReader(b), int64(len(b)), opts) })
	})
}

// FuzzOpenFiles opens images of several files: a sparse bundle, of its list,
// token and two bands, or three segments.
func FuzzOpenFiles(f *testing.F) {
	disk := dmgtest.Random(1, 3000).Bytes()
	for _, e := range []dmgtest.Encryption{{}, {BlockSize: 512}, {Version: 1, BlockSize: 512}} {
		o := dmgtest.BundleOptions{BandSize: 2048}
		if e.BlockSize > 0 {
			e.Password, e.Iterations, e.DataOffset = fuzzPassword, fuzzIterations, 512
			o.Token, o.Encrypt = e.Token(len(disk)), e.Band
		}
		var files [][]byte
		name := dmgtest.SparseBundle(f, disk, o)
		for _, file := range bundleFiles {
			b, err := os.ReadFile(filepath.Join(name, file))
			if err != nil {
				f.Fatal(err)
			}
			files = append(files, b)
		}
		f.Add(true, files[0], files[1], files[2], files[3])
	}
	l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: 2, Codecs: []dmgtest.Method{dmgtest.Raw}})
	if err != nil {
		f.Fatal(err)
	}
	files := l.Segments((len(l.Data) + 2) / 3)
	f.Add(false, files[0], files[1], files[2], []byte(nil))
	f.Fuzz(func(t *testing.T, bundle bool, a, b, c, d []byte) {
		files := [][]byte{a, b, c, d}
		if slices.ContainsFunc(files, slow) {
			return
		}
		dir := t.TempDir()
		name, names := dir, bundleFiles
		if !bundle {
			name, names = filepath.Join(dir, segmentFiles[0]), segmentFiles
		}
		if err := os.Mkdir(filepath.Join(dir, "bands"), 0o777); err != nil {
			t.Fatal(err)
		}
		for i, file := range names {
			if err := os.WriteFile(filepath.Join(dir, file), files[i], 0o666); err != nil {
				t.Fatal(err)
			}
		}
		checkOpen(t, func(opts *Options) (*Image, error) { return Open(name, opts) })
	})
}

var (
	bundleFiles  = []string{"Info.plist", "token", "bands/0", "bands/1"}
	segmentFiles = []string{"x.dmg", "x.002.dmgpart", "x.003.dmgpart"}
)

// checkOpen opens the same image twice and compares the two.
func checkOpen(t *testing.T, open func(*Options) (*Image, error)) {
	opts := &Options{MemoryLimit: 16 << 20, Password: fuzzPassword}
	im, err := open(opts)
	if err != nil {
		if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrPassword) {
			t.Fatalf("an error without a class: %v", err)
		}
		return
	}
	defer im.Close()
	end := int64(0)
	for c := range im.Chunks() {
		if c.Offset != end || c.Length <= 0 {
			t.Fatalf("chunk at %d of %d bytes follows %d", c.Offset, c.Length, end)
		}
		end += c.Length
	}
	if end != im.Size() {
		t.Fatalf("chunks end at %d, the disk at %d", end, im.Size())
	}
	if im.Format() == "" || len(im.Layers()) == 0 {
		t.Fatalf("format %q in layers %q", im.Format(), im.Layers())
	}
	for _, p := range im.Partitions() {
		if p.Offset < 0 || p.Length < 0 || p.Offset > im.Size()-p.Length {
			t.Fatalf("partition at %d of %d bytes on a disk of %d", p.Offset, p.Length, im.Size())
		}
	}

	ofImage := func(err error) bool {
		return err == nil || errors.Is(err, ErrFormat) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrChecksum)
	}
	if _, err := im.Licenses(); !ofImage(err) {
		t.Fatalf("Licenses: an error without a class: %v", err)
	}
	signature, err := im.Signature()
	if signature != nil {
		err = signature.VerifyContent(context.Background())
	}
	if !ofImage(err) {
		t.Fatalf("Signature: an error without a class: %v", err)
	}

	other, err := open(opts)
	if err != nil {
		t.Fatal("opens once, then not: ", err)
	}
	defer other.Close()
	checkReads(t, im, other)
}

// checkReads reads the beginning of two readers of one disk in different ways.
func checkReads(t *testing.T, im, other *Image) {
	const most = 1 << 20
	whole := make([]byte, min(im.Size(), most))
	n, err := readPrefix(other, whole, len(whole))
	again := make([]byte, len(whole))
	k, errAgain := readPrefix(im, again, 5000)
	// Only damage that is noticed at the end of a longer read may make
	// one of them shorter.
	if (err == nil) != (errAgain == nil) && !errors.Is(err, ErrChecksum) && !errors.Is(errAgain, ErrChecksum) {
		t.Fatalf("in one read %d, %v; in steps %d, %v", n, err, k, errAgain)
	}
	if n = min(n, k); !bytes.Equal(whole[:n], again[:n]) {
		t.Fatal("bytes differ by how they are read")
	}
	if k, _ = readPrefix(im, again, 777); k >= n && !bytes.Equal(whole[:n], again[:n]) {
		t.Fatal("bytes differ when they are read again")
	}
}

// readPrefix fills p from the start of the disk in steps.
func readPrefix(r io.ReaderAt, p []byte, step int) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = r.ReadAt(p[n:min(len(p), n+step)], int64(n))
		n += k
	}
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return n, err
}

// FuzzMish decodes anything as a block table. What it accepts lies within the
// table, the disk and the file.
func FuzzMish(f *testing.F) {
	for _, name := range []string{"good-zlib.dmg", "good-mixed.dmg", "bad-wrapped-offset.dmg", "bad-wrapped-sectors.dmg"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		r := bytes.NewReader(b)
		k, err := findKoly(r, r.Size())
		if err != nil {
			f.Fatal(err)
		}
		tables, err := k.plistTables(r, r.Size(), r.Size())
		if err != nil {
			f.Fatal(err)
		}
		for _, table := range tables {
			f.Add(table.Data, uint64(0), int64(len(b)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, dataFork uint64, size int64) {
		if size < 0 {
			return
		}
		p := tableParser{dataFork: dataFork, dataSize: size}
		// Twice, so that the tables' chunks overlap.
		tables := p.parse([]blkx.Resource{{Data: b}, {Data: b}})
		if err := tables.damage(); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("an error without a class: %v", err)
		}
		table := tables.tables[0]
		first, end := int64(table.first)*sectorSize, int64(table.end())*sectorSize
		if len(tables.chunks) > 2*(2*len(b)/entryLen)+3 {
			t.Fatalf("%d chunks from %d bytes", len(tables.chunks), len(b))
		}
		at := int64(0)
		for _, c := range tables.chunks {
			if c.Offset < at {
				t.Fatalf("%v begins before %d", c, at)
			}
			at = c.end()
			if c.Partition < 0 && c == missing(c.Offset, at, -1) && tables.damage() != nil {
				continue // whose it is isn't known
			}
			if c.Offset < first || c.Length <= 0 || c.end() > end || c.end() < c.Offset || c.Partition < 0 || c.Partition > 1 {
				t.Fatalf("%v outside the table's %d-%d", c, first, end)
			}
			if c.DataOffset < 0 || c.DataLength < 0 || c.DataOffset > size-c.DataLength {
				t.Fatalf("%v: data at %d+%d outside the file's %d", c, c.DataOffset, c.DataLength, size)
			}
		}
	})
}

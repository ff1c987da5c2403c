package dmg

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
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
}

// FuzzOpen opens anything as an image. If it opens, its chunks cover the disk,
// and a byte is the same however it is read: by one reader in small steps, by
// another in one, cold or warm.
func FuzzOpen(f *testing.F) {
	seedImages(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		opts := &Options{MemoryLimit: 16 << 20}
		im, err := NewImage(bytes.NewReader(b), int64(len(b)), opts)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrPassword) {
				t.Fatalf("an error without a class: %v", err)
			}
			return
		}
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
		im.Format()
		im.Partitions()

		other, err := NewImage(bytes.NewReader(b), int64(len(b)), opts)
		if err != nil {
			t.Fatal("opens once, then not: ", err)
		}
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
	})
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

// FuzzPlist decodes anything as the property list. The stack is kept so small
// that a document which recurses ends the process, as it would with the usual
// limit if it were larger.
func FuzzPlist(f *testing.F) {
	debug.SetMaxStack(600 << 10)
	f.Add(dmgtest.Plist([]dmgtest.Resource{
		{Type: "blkx", Name: "disk image (Apple_HFS : 1)", Data: make([]byte, mishLen)},
		{Type: "blkx", ID: 1, Name: "\xff", CFName: "x", Data: []byte("mish")},
		{Type: "plst", Data: make([]byte, 10)},
	}))
	f.Add([]byte("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>bGlmdGVkIDA=</data></dict></array></dict></dict></plist>"))
	f.Add([]byte("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>A</data></dict></array></dict></dict></plist>"))
	f.Add([]byte("<data>"))
	f.Add(bytes.Repeat([]byte("<array>"), 50))
	f.Fuzz(func(t *testing.T, b []byte) {
		size := len(b)
		tables, err := parsePlist(b)
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("an error without a class: %v", err)
		}
		for _, table := range tables {
			if len(table.data) > size {
				t.Fatalf("%d bytes of data from %d", len(table.data), size)
			}
		}
	})
}

// FuzzFork decodes anything as a resource fork.
func FuzzFork(f *testing.F) {
	fork, err := dmgtest.ResourceFork([]dmgtest.Resource{
		{Type: "blkx", Name: "one", Data: []byte("mish")},
		{Type: "plst", Data: make([]byte, 10)},
		{Type: "blkx", ID: 1, Name: "two", Data: nil},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fork)
	f.Fuzz(func(t *testing.T, b []byte) {
		tables, err := parseFork(b)
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Fatalf("an error without a class: %v", err)
		}
		for _, table := range tables {
			if len(table.data) > len(b) {
				t.Fatalf("%d bytes of data from %d", len(table.data), len(b))
			}
		}
	})
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
		tables, err := k.blockTables(r, r.Size())
		if err != nil {
			f.Fatal(err)
		}
		for _, table := range tables {
			f.Add(table.data, uint64(0), int64(len(b)))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, dataFork uint64, size int64) {
		if size < 0 {
			return
		}
		p := tableParser{dataFork: dataFork, dataSize: size}
		table, err := p.parse(resource{data: b}, 3)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("an error without a class: %v", err)
			}
			return
		}
		first, end := int64(table.first)*sectorSize, int64(table.first+table.count)*sectorSize
		if len(p.chunks) > len(b)/entryLen {
			t.Fatalf("%d chunks from %d bytes", len(p.chunks), len(b))
		}
		for _, c := range p.chunks {
			if c.Offset < first || c.Length <= 0 || c.end() > end || c.end() < c.Offset || c.Partition != 3 {
				t.Fatalf("%v outside the table's %d-%d", c, first, end)
			}
			if c.DataOffset < 0 || c.DataLength < 0 || c.DataOffset > size-c.DataLength {
				t.Fatalf("%v: data at %d+%d outside the file's %d", c, c.DataOffset, c.DataLength, size)
			}
		}
	})
}

package imagetest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// faults is where files are that others wrote or that are too odd for the writer
// here. Tests of them are skipped where the files are absent.
const faults = "../../../shared/samples/faults"

// faultFile returns the name of one of those.
func faultFile(t *testing.T, name string) string {
	t.Helper()
	name = filepath.Join(faults, name)
	if _, err := os.Stat(name); err != nil {
		t.Skip(err)
	}
	return name
}

// faultSum is the SHA-256 of the disk of 65,536 bytes in these files.
const faultSum = "74f553f37d1e6a2e83b3c4f337a4ecf59eec004669ab53fdf67df9033827aaf7"

// span is a range of a disk, in bytes.
type span struct{ from, to int }

// A damaged image opens, though some of its disk is missing.
type damagedImage struct {
	name   string
	file   func(t *testing.T, disk []byte) string // makes it, and returns the name to open
	disk   func() []byte
	size   int    // of the disk, if it isn't all of it
	lost   []span // of the disk
	defect string // in the first of the defects; "" if there is none
}

// cutFile makes a file of n bytes less, or n bytes if n is above zero.
func cutFile(n int, make func(testing.TB, []byte) string) func(*testing.T, []byte) string {
	return func(t *testing.T, disk []byte) string {
		name := make(t, disk)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if n < 0 {
			n += len(b)
		}
		write(t, name, b[:n])
		return name
	}
}

// bandDisk is 16 bands of 4 KiB, none of zeros, with a boot record.
func bandDisk() []byte { return mbrDisk(mbrPart{0xAF, 8, 100})[:16*4096] }

var bands = dmgtest.SparseOptions{BandSectors: 8}

func raw(t testing.TB, disk []byte) string { return writeFile(t, disk) }

// bent makes a sparse image with a number changed.
func bent(at int, v uint64, n int) func(*testing.T, []byte) string {
	return func(t *testing.T, disk []byte) string {
		return writeFile(t, put(dmgtest.SparseImage(disk, dmgtest.SparseOptions{BandSectors: 8, KeepZeros: true}), at, v, n))
	}
}

var damagedImages = []damagedImage{
	{name: "sparse image, half of a band", file: cutFile(-2048, sparse(bands)), disk: bandDisk,
		lost: []span{{15*4096 + 2048, 16 * 4096}}, defect: "cut off: 2048 bytes in 1 of its bands are missing"},
	{name: "sparse image, all but a band", file: cutFile(2*4096, sparse(bands)), disk: bandDisk,
		lost: []span{{4096, 16 * 4096}}, defect: "cut off: 61440 bytes in 15 of its bands"},
	{name: "sparse image, all but a byte", file: cutFile(4097, sparse(bands)), disk: bandDisk,
		lost: []span{{1, 16 * 4096}}, defect: "cut off"},
	{name: "sparse image, an index node", file: cutFile(4*4096+100, sparse(dmgtest.SparseOptions{BandSectors: 8, NodeIDs: 3})), disk: bandDisk,
		lost: []span{{3 * 4096, 16 * 4096}}, defect: "no index node"},
	{name: "sparse image, a link to nowhere", file: bent(0x14, 1<<40, 8), disk: bandDisk, defect: "no index node"},
	{name: "sparse image, a band twice", file: bent(0x44, 1, 4), disk: func() []byte { d := bandDisk(); clear(d[4096:8192]); return d },
		lost: []span{{0, 4096}}, defect: "band 0 stored twice"},

	{name: "v2 sparse image", file: cutFile(-2048, sparse(bands, dmgtest.Encryption{})), disk: bandDisk,
		lost: []span{{15*4096 + 2048, 16 * 4096}}, defect: "2048 bytes are missing"},
	{name: "v2 raw", file: cutFile(-10_000, encryptRaw(dmgtest.Encryption{})), disk: bandDisk,
		lost: []span{{(16*4096 - 10_000) &^ 15, 16 * 4096}}, defect: "10000 bytes are missing"},
	{name: "v2 raw, small blocks", file: cutFile(-1, encryptRaw(dmgtest.Encryption{BlockSize: 512})), disk: bandDisk,
		lost: []span{{16*4096 - 16, 16 * 4096}}, defect: "16 bytes are missing"},
	{name: "v1 raw", file: func(t *testing.T, disk []byte) string {
		b := dmgtest.Encryption{Version: 1, Password: secret}.Image(disk)
		return writeFile(t, slices.Concat(b[:5*4096+8], b[len(disk):]))
	}, disk: bandDisk, lost: []span{{5 * 4096, 16 * 4096}}, defect: "cut off: 45056 bytes are missing"},

	{name: "raw, its partition", file: cutFile(40_000, raw), disk: bandDisk, size: 40_000, defect: "its partitions reach to byte 55296, the disk only to 40000"},
	{name: "raw, behind its partition", file: cutFile(60_000, raw), disk: bandDisk, size: 60_000},
	{name: "raw, of a GUID table", file: cutFile(600_000, raw), disk: gptDisk, size: 600_000, defect: "its partitions reach to byte 1024000"},

	{name: "bundle, a directory as a band", file: func(t *testing.T, disk []byte) string {
		name := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 4096})
		remove(t, filepath.Join(name, "bands/5"))
		if err := os.Mkdir(filepath.Join(name, "bands/5"), 0o777); err != nil {
			t.Fatal(err)
		}
		return name
	}, disk: bandDisk, lost: []span{{5 * 4096, 6 * 4096}}, defect: "bands/5"},
	{name: "bundle, an encrypted one's", file: func(t *testing.T, disk []byte) string {
		e := dmgtest.Encryption{Password: secret}
		name := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 4096, Token: e.Token(len(disk)), Encrypt: e.Band})
		remove(t, filepath.Join(name, "bands/f"))
		if err := os.Mkdir(filepath.Join(name, "bands/f"), 0o777); err != nil {
			t.Fatal(err)
		}
		return name
	}, disk: bandDisk, lost: []span{{15 * 4096, 16 * 4096}}, defect: "bands/f"},
	{name: "bundle, a short band", file: func(t *testing.T, disk []byte) string {
		name := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 4096})
		write(t, filepath.Join(name, "bands/5"), disk[5*4096:][:1000]) // what it lacks is zeros, as the format has it
		return name
	}, disk: func() []byte { d := bandDisk(); clear(d[5*4096+1000 : 6*4096]); return d }},
}

// TestCutRawChunks opens an image of raw chunks, with a boot record in the first, that
// lacks its trailer.
func TestCutRawChunks(t *testing.T) {
	disk := bandDisk()
	b := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 32, Codecs: []dmgtest.Method{dmgtest.Raw}})
	for _, n := range []int{len(b) - 1, len(b) - 500, len(b) - 600} {
		im, err := dmg.NewImage(bytes.NewReader(b[:n]), int64(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(disk))
		if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
			t.Errorf("%v, or other bytes", err)
		}
		if d := im.Defects(); im.Format() != "UDRW" || len(d) != 1 || !strings.Contains(d[0].Error(), "trailer is missing") {
			t.Errorf("%s with the defects %v", im.Format(), d)
		}
	}
}

// TestDamagedImages opens images of which some is missing. The rest can be read, what
// is missing can't, and Defects says so.
func TestDamagedImages(t *testing.T) {
	for _, tt := range damagedImages {
		t.Run(tt.name, func(t *testing.T) {
			disk := tt.disk()
			im, err := dmg.Open(tt.file(t, disk), &dmg.Options{Password: secret})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			if tt.size > 0 {
				disk = disk[:tt.size]
			}
			checkDamaged(t, im, disk, tt.lost)
			switch d := im.Defects(); {
			case tt.defect == "":
				if len(d) > 0 {
					t.Errorf("defects %v", d)
				}
			case len(d) == 0 || !strings.Contains(d[0].Error(), tt.defect) || !errors.Is(d[0], dmg.ErrFormat):
				t.Errorf("defects %v, want ErrFormat with %q", d, tt.defect)
			}
		})
	}
}

// checkDamaged reads the disk in small reads and large ones. Those that come to
// something lost fail there, as damage of a chunk.
func checkDamaged(t *testing.T, im *dmg.Image, disk []byte, lost []span) {
	t.Helper()
	if im.Size() != int64(len(disk)) {
		t.Fatalf("Size = %d, want %d", im.Size(), len(disk))
	}
	left := func(off int) int { // bytes from off on to what is lost
		for _, s := range lost {
			if off < s.to {
				return max(0, s.from-off)
			}
		}
		return len(disk) - off
	}
	for _, step := range []int{100, 4096, 10_000, len(disk)} {
		p := make([]byte, step)
		for off := 0; off < len(disk); off += step {
			want := min(step, len(disk)-off, left(off))
			n, err := im.ReadAt(p, int64(off))
			if n != want || !bytes.Equal(p[:n], disk[off:off+n]) {
				t.Fatalf("ReadAt of %d at %d = %d, %v, want %d", step, off, n, err, want)
			}
			var damaged *dmg.ChunkError
			if whole := want == min(step, len(disk)-off); whole && err != nil && err != io.EOF || !whole && (!errors.As(err, &damaged) || !errors.Is(err, dmg.ErrFormat)) {
				t.Fatalf("ReadAt of %d at %d: %v", step, off, err)
			}
		}
	}
	var all bytes.Buffer
	if _, err := im.WriteTo(&all); (err != nil) != (len(lost) > 0) || !bytes.Equal(all.Bytes(), disk[:left(0)]) {
		t.Errorf("WriteTo: %d bytes, %v, want %d", all.Len(), err, left(0))
	}
}

// A band that may not be read is no damage, and fails alone.
func TestForbiddenBand(t *testing.T) {
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("may read everything")
	}
	disk := bandDisk()
	name := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 4096})
	if err := os.Chmod(filepath.Join(name, "bands/5"), 0); err != nil {
		t.Fatal(err)
	}
	im, err := dmg.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	p := make([]byte, len(disk))
	if n, err := im.ReadAt(p, 0); n != 5*4096 || !errors.Is(err, os.ErrPermission) || errors.Is(err, dmg.ErrFormat) || !bytes.Equal(p[:n], disk[:n]) {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	if n, err := im.ReadAt(p[:10*4096], 6*4096); n != 10*4096 || err != nil || !bytes.Equal(p[:n], disk[6*4096:]) {
		t.Errorf("ReadAt behind it = %d, %v", n, err)
	}
}

func TestFaultCutSparseImage(t *testing.T) {
	im, err := dmg.Open(faultFile(t, "cut.sparseimage"), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, im.Size())
	n, err := im.ReadAt(p, 0)
	if im.Size() != 65536 || n < 15*4096 || n == len(p) || !errors.Is(err, dmg.ErrFormat) {
		t.Errorf("ReadAt of %d = %d, %v", im.Size(), n, err)
	}
	// The same disk is in a file that is whole.
	whole, err := dmg.Open(faultFile(t, "segments/disk.001.dmg"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	q := make([]byte, n)
	if _, err := whole.ReadAt(q, 0); err != nil || !bytes.Equal(p[:n], q) {
		t.Errorf("%v, or other bytes", err)
	}
	if d := im.Defects(); len(d) != 1 || !strings.Contains(d[0].Error(), "cut off") {
		t.Errorf("defects %v", d)
	}
}

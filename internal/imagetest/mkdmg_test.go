package imagetest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// mkdmg is a second writer of images, in Python, which shares no code with
// this project.
const mkdmg = "../../../shared/tools/mkdmg.py"

var mkdmgTests = []struct {
	args string // what mkdmg is called with, beside the files' names
	gaps [][2]int64
}{
	{args: ""},
	{args: "--codec raw --chunk 100"},
	{args: "--codec zlib --level 0 --chunk 64"},
	{args: "--codec zlib --level 1 --chunk 256"},
	{args: "--codec zlib --level 9 --chunk 1"},
	{args: "--codec bzip2 --level 1 --chunk 512"},
	{args: "--codec bzip2 --level 9 --chunk 2048"},
	{args: "--codec lzma --chunk 256"},
	{args: "--codec adc --chunk 256"},
	{args: "--codec lzfse --chunk 256"},
	{args: "--codec zlib,bzip2,lzma,raw,adc --chunk 64"},

	{args: "--codec raw --chunk 0"},
	{args: "--codec zlib --chunk 0"},
	{args: "--codec bzip2 --chunk 0"},
	{args: "--codec lzma --chunk 0"},
	{args: "--codec adc --chunk 0"},
	{args: "--codec lzfse --chunk 0"},

	{args: "--chunk 64 --keep-zero"},
	{args: "--chunk 64 --ignore"},
	{args: "--chunk 64 --prefix 4096"},
	{args: "--chunk 64 --prefix 777 --codec raw"},
	{args: "--chunk 64 --blkx-offset"},
	{args: "--chunk 64 --shuffle"},
	{args: "--chunk 64 --comments"},
	{args: "--chunk 64 --rsrc-only"},
	{args: "--chunk 64 --no-data-checksum"},
	{args: "--chunk 64 --trailing 1 --codec zlib,bzip2,adc,lzma"},
	{args: "--chunk 64 --trailing 4000 --codec zlib,bzip2,adc,lzma"},
	{args: "--chunk 0 --trailing 100000"},

	{args: "--part 0:64 --part 64:0 --chunk 64"},
	{args: "--part 64:0 --part 0:64 --chunk 0"},
	{args: "--part 1:1 --part 100:1000 --chunk 64", gaps: [][2]int64{{0, 1}, {2, 100}, {1100, -1}}},
	{args: "--part 1700:400 --part 0:1000 --chunk 0 --codec bzip2", gaps: [][2]int64{{1000, 1700}, {2100, -1}}},
	{args: "--part 5:1500 --part 2000:0 --chunk 33 --codec zlib,raw --ignore --rsrc-only", gaps: [][2]int64{{0, 5}, {1505, 2000}}},

	{args: "--part 0:64 --part 64:0 --chunk 77 --blkx-offset --shuffle --prefix 4096 --comments --codec zlib,raw,bzip2"},
	{args: "--part 0:1500 --part 1500:0 --chunk 64 --blkx-offset --shuffle --prefix 1 --comments --codec zlib,bzip2,lzma,raw,adc --trailing 9"},
	{args: "--part 0:1500 --part 1500:0 --chunk 64 --blkx-offset --comments --rsrc-only --ignore --codec zlib,bzip2,lzma,raw,adc"},
	{args: "--part 7:1500 --part 1507:700 --chunk 0 --shuffle --blkx-offset --rsrc-only --prefix 512 --codec bzip2,zlib --trailing 7 --no-data-checksum",
		gaps: [][2]int64{{0, 7}, {2207, -1}}},
}

// TestMkdmg reads what the other writer wrote, with every option it has.
func TestMkdmg(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	if _, err := os.Stat(mkdmg); err != nil {
		t.Skip("no second writer: ", err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no Python: ", err)
	}
	raw, disk := mkdmgDisk(t)
	for i, row := range mkdmgTests {
		if dmgtest.Part() && i%4 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(row.args, " ", "_"), func(t *testing.T) {
			if strings.Contains(row.args, "lzfse") && os.Getenv("LZFSE_LIB") == "" {
				t.Skip("LZFSE_LIB names no liblzfse")
			}
			t.Parallel()
			want := bytes.Clone(disk)
			for _, g := range row.gaps {
				if g[1] < 0 {
					g[1] = int64(len(want)) / 512
				}
				clear(want[g[0]*512 : g[1]*512])
			}
			image := filepath.Join(t.TempDir(), "image.dmg")
			args := append([]string{mkdmg, raw, image}, strings.Fields(row.args)...)
			if out, err := exec.Command(python, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			readAll(t, image, want)
			readHere(t, image, want)
		})
	}
}

// mkdmgDisk writes a disk of 1.1 MB with areas of zeros, which ends inside a
// sector. It returns the file's name and the bytes in whole sectors.
func mkdmgDisk(t *testing.T) (name string, disk []byte) {
	t.Helper()
	disk = dmgtest.Join(dmgtest.Mixed(1, 512<<10), dmgtest.Zeros(400<<10), dmgtest.Text(2, 200<<10+100)).Bytes()
	name = filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(name, disk, 0o666); err != nil {
		t.Fatal(err)
	}
	return name, append(disk, make([]byte, -len(disk)&511)...)
}

// readAll reads the image from its start to its end.
func readAll(t *testing.T, name string, want []byte) {
	t.Helper()
	im, err := dmg.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	if im.Size() != int64(len(want)) {
		t.Fatalf("%d bytes, want %d", im.Size(), len(want))
	}
	var got bytes.Buffer
	n, err := im.WriteTo(&got)
	if n != int64(len(want)) || err != nil {
		t.Errorf("WriteTo: %d bytes of %d, %v", n, len(want), err)
	}
	if err := sameBytes(got.Bytes(), want); err != nil {
		t.Error("WriteTo: ", err)
	}
}

// readHere reads short ranges all over an image that nothing was read of
// before, so that most of them resume somewhere.
func readHere(t *testing.T, name string, want []byte) {
	t.Helper()
	im, err := dmg.Open(name, &dmg.Options{MemoryLimit: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		off := rng.IntN(len(want))
		p := make([]byte, 1+rng.IntN(10_000))
		n, err := im.ReadAt(p, int64(off))
		wantN, wantErr := len(p), error(nil)
		if off+len(p) > len(want) {
			wantN, wantErr = len(want)-off, io.EOF
		}
		if n != wantN || err != wantErr && !(err == io.EOF && off+n == len(want)) {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", len(p), off, n, err)
		}
		if err := sameBytes(p[:n], want[off:off+n]); err != nil {
			t.Fatalf("ReadAt(%d, %d): %v", len(p), off, err)
		}
	}
}

// sameBytes says where two slices differ first.
func sameBytes(got, want []byte) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	return nil
}

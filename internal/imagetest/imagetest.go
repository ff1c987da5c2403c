// Package imagetest has tests of whole images: containers, damage, failing sources, and
// hostile images. Its functions compare an image's disk with what it has to be.
package imagetest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg"
)

// root is the module's own directory, in which go.mod is.
var root = sync.OnceValue(func() string {
	dir := "."
	for range 8 {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Join(dir, "..")
	}
	panic("no go.mod above the working directory")
})

// Samples is the directory of images that Apple's tools wrote. Most checkouts have none.
func Samples() string { return filepath.Join(root(), "../shared/samples") }

// Sample is a row of the samples' MANIFEST.tsv.
type Sample struct {
	File, Password string
	Size           int64
	Sum            string // SHA-256 of the disk
}

// ReadManifest returns the samples. It skips the test where there are none.
func ReadManifest(t testing.TB) []Sample {
	t.Helper()
	f, err := os.Open(filepath.Join(Samples(), "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no samples: ", err)
	}
	defer f.Close()
	var rows []Sample
	s := bufio.NewScanner(f)
	for s.Scan() {
		col := strings.Split(s.Text(), "\t")
		if len(col) != 4 {
			t.Fatalf("MANIFEST.tsv: %q", s.Text())
		}
		size, err := strconv.ParseInt(col[2], 10, 64)
		if err != nil {
			continue // the heading
		}
		password := strings.TrimPrefix(col[1], "-")
		rows = append(rows, Sample{col[0], password, size, col[3]})
	}
	if len(rows) == 0 {
		t.Fatal("MANIFEST.tsv has no rows")
	}
	return rows
}

// SumOf returns the SHA-256 of a disk, in hexadecimal.
func SumOf(disk []byte) string {
	sum := sha256.Sum256(disk)
	return hex.EncodeToString(sum[:])
}

// ReadInSteps reads the whole disk in order.
func ReadInSteps(t testing.TB, im *dmg.Image, step int) []byte {
	t.Helper()
	disk := make([]byte, im.Size())
	for off := 0; off < len(disk); off += step {
		p := disk[off:min(len(disk), off+step)]
		if n, err := im.ReadAt(p, int64(off)); n != len(p) || err != nil {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", len(p), off, n, err)
		}
	}
	return disk
}

// ReadInPieces reads the whole disk in pieces of random length and order, from
// many goroutines.
func ReadInPieces(t testing.TB, im *dmg.Image, readers int) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	disk := make([]byte, im.Size())
	type piece struct{ off, end int }
	var pieces []piece
	for off := 0; off < len(disk); {
		end := min(len(disk), off+1+rng.IntN(100_000))
		pieces = append(pieces, piece{off, end})
		off = end
	}
	rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	var wg sync.WaitGroup
	for i := range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := i; k < len(pieces); k += readers {
				p := disk[pieces[k].off:pieces[k].end]
				if n, err := im.ReadAt(p, int64(pieces[k].off)); n != len(p) || err != nil {
					t.Errorf("ReadAt(%d, %d) = %d, %v", len(p), pieces[k].off, n, err)
				}
			}
		}()
	}
	wg.Wait()
	return disk
}

// CheckDisk compares what an image's readers give with the SHA-256 of its disk.
func CheckDisk(t testing.TB, im *dmg.Image, size int64, sum string) {
	t.Helper()
	CheckDiskWith(t, im, size, sum, nil)
}

// CheckDiskWith is CheckDisk for a disk whose reading as a whole ends with an error.
func CheckDiskWith(t testing.TB, im *dmg.Image, size int64, sum string, whole error) {
	t.Helper()
	if im.Size() != size {
		t.Errorf("Size = %d, want %d", im.Size(), size)
	}
	if got := SumOf(ReadInSteps(t, im, 1<<20)); got != sum {
		t.Errorf("in steps: SHA-256 %s, want %s", got, sum)
	}
	if got := SumOf(ReadInPieces(t, im, 16)); got != sum {
		t.Errorf("in pieces: SHA-256 %s, want %s", got, sum)
	}
	h := sha256.New()
	if n, err := im.WriteTo(h); n != size || !errors.Is(err, whole) {
		t.Errorf("WriteTo = %d, %v, want %d, %v", n, err, size, whole)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		t.Errorf("WriteTo: SHA-256 %s, want %s", got, sum)
	}
	CheckChunks(t, im)
}

// CheckChunks tests that the chunks cover the disk from end to end.
func CheckChunks(t testing.TB, im *dmg.Image) {
	t.Helper()
	off := int64(0)
	for c := range im.Chunks() {
		if c.Offset != off || c.Length <= 0 {
			t.Fatalf("%v at %d, %d bytes: want one at %d", c, c.Offset, c.Length, off)
		}
		if p := c.Partition; p < -1 || p >= len(im.Partitions()) {
			t.Fatalf("%v: partition %d of %d", c, p, len(im.Partitions()))
		}
		off += c.Length
	}
	if off != im.Size() {
		t.Errorf("chunks end at %d, the disk at %d", off, im.Size())
	}
}

// OpenTest opens an image of testdata until the test ends.
func OpenTest(t testing.TB, name string, opts *dmg.Options) *dmg.Image {
	t.Helper()
	im, err := dmg.Open(filepath.Join(root(), "testdata", name), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := im.Close(); err != nil {
			t.Error(err)
		}
	})
	return im
}

// SHA-256 and size of the disks in testdata.
const (
	FullDisk = "ef5a0155dc7b21303cdad93c4b8719b09c259b6a33cc9a5cdb1e967aec3a156f"
	GapsDisk = "7fa27ea8520282bf98b727473a0ffdde7ecf205365289efe4f0dda0e71cadf69"
	DiskSize = 135168
)

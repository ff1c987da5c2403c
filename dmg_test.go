package dmg_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg"
)

const samples = "../shared/samples"

// sample is a row of the samples' MANIFEST.tsv.
type sample struct {
	file, password string
	size           int64
	sum            string // SHA-256 of the disk
}

func readManifest(t *testing.T) []sample {
	t.Helper()
	f, err := os.Open(filepath.Join(samples, "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no samples: ", err)
	}
	defer f.Close()
	var rows []sample
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
		rows = append(rows, sample{col[0], password, size, col[3]})
	}
	if len(rows) == 0 {
		t.Fatal("MANIFEST.tsv has no rows")
	}
	return rows
}

func sumOf(t *testing.T, disk []byte) string {
	t.Helper()
	sum := sha256.Sum256(disk)
	return hex.EncodeToString(sum[:])
}

// readInSteps reads the whole disk in order.
func readInSteps(t *testing.T, im *dmg.Image, step int) []byte {
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

// readInPieces reads the whole disk in pieces of random length and order, from
// many goroutines.
func readInPieces(t *testing.T, im *dmg.Image, readers int) []byte {
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

func TestSamples(t *testing.T) {
	for _, s := range readManifest(t) {
		if !strings.HasPrefix(s.file, "hdiutil/") {
			continue
		}
		t.Run(s.file, func(t *testing.T) {
			im, err := dmg.Open(filepath.Join(samples, s.file), &dmg.Options{Password: s.password})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			if im.Size() != s.size {
				t.Errorf("Size = %d, want %d", im.Size(), s.size)
			}
			if got := sumOf(t, readInSteps(t, im, 1<<20)); got != s.sum {
				t.Errorf("in steps: SHA-256 %s, want %s", got, s.sum)
			}
			if got := sumOf(t, readInPieces(t, im, 16)); got != s.sum {
				t.Errorf("in pieces: SHA-256 %s, want %s", got, s.sum)
			}
			h := sha256.New()
			if n, err := im.WriteTo(h); n != s.size || err != nil {
				t.Errorf("WriteTo = %d, %v", n, err)
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != s.sum {
				t.Errorf("WriteTo: SHA-256 %s, want %s", got, s.sum)
			}
		})
	}
}

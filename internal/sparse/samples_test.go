package sparse_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/sparse"
)

const samples = "../../../shared/samples"

// TestSamples reads what Apple's tools wrote, all of it encrypted.
func TestSamples(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(samples, "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no samples")
	}
	seen := 0
	for line := range strings.Lines(string(list)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 || !strings.HasPrefix(f[0], "sparse/") {
			continue
		}
		seen++
		t.Run(f[0], func(t *testing.T) {
			r := openSample(t, filepath.Join(samples, filepath.FromSlash(f[0])), crypt.Keys{Password: f[1]})
			sum := sha256.New()
			if _, err := io.Copy(sum, io.NewSectionReader(r, 0, r.Size())); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(sum.Sum(nil)); got != f[3] {
				t.Errorf("%d bytes with sum %s, want %s of %s", r.Size(), got, f[2], f[3])
			}
		})
	}
	if seen < 4 {
		t.Errorf("%d samples", seen)
	}
}

func openSample(t *testing.T, name string, keys crypt.Keys) sparse.Sized {
	t.Helper()
	if strings.HasSuffix(name, "bundle") {
		b, err := sparse.OpenBundle(os.DirFS(name), func(r io.ReaderAt, size int64) (sparse.Decrypter, error) {
			c, err := crypt.Unlock(r, size, keys)
			if err != nil {
				return nil, err
			}
			return func(r io.ReaderAt, size int64) sparse.Sized { return c.Reader(r, size) }, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := crypt.Open(bytes.NewReader(data), int64(len(data)), keys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sparse.OpenImage(r, r.Size())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

package crypt_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/crypt"
)

const samples = "../../../shared/samples"

// sample is an encrypted image that Apple's tools wrote.
type sample struct {
	file, password, sum string
	size                string
}

// encrypted lists the rows of the manifest whose file, or token, is encrypted.
func encrypted(t *testing.T) []sample {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(samples, "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no samples")
	}
	var all []sample
	for line := range strings.Lines(string(list)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) == 4 && f[1] != "-" && f[0] != "file" {
			all = append(all, sample{file: f[0], password: f[1], size: f[2], sum: f[3]})
		}
	}
	if len(all) < 12 {
		t.Fatalf("%d encrypted samples", len(all))
	}
	return all
}

// open opens a sample, a sparse bundle by its token and first band.
func (s sample) open(t *testing.T, keys crypt.Keys) (*crypt.Reader, error) {
	t.Helper()
	name := filepath.Join(samples, filepath.FromSlash(s.file))
	if !strings.HasSuffix(name, ".sparsebundle") {
		data := readFile(t, name)
		return crypt.Open(bytes.NewReader(data), int64(len(data)), keys)
	}
	token, band := readFile(t, filepath.Join(name, "token")), readFile(t, filepath.Join(name, "bands", "0"))
	c, err := crypt.Unlock(bytes.NewReader(token), int64(len(token)), keys)
	if err != nil {
		return nil, err
	}
	return c.Reader(bytes.NewReader(band), int64(len(band))), nil
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What is inside shows that it was decrypted right: a raw disk by its SHA-256,
// others by the marks of their formats at both ends.
func TestSamples(t *testing.T) {
	for _, s := range encrypted(t) {
		t.Run(s.file, func(t *testing.T) {
			r, err := s.open(t, crypt.Keys{Password: s.password})
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case strings.HasPrefix(string(data), "sprs"):
			case len(data) >= 512 && string(data[len(data)-512:len(data)-508]) == "koly":
			default:
				if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != s.sum {
					t.Errorf("%d bytes with sum %x, want %s of %s", len(data), sum, s.size, s.sum)
				}
			}
		})
	}
}

func TestSamplesRefuse(t *testing.T) {
	for _, s := range encrypted(t) {
		t.Run(s.file, func(t *testing.T) {
			for password, want := range map[string]error{"": crypt.ErrNoPassword, "x" + s.password: crypt.ErrWrongPassword} {
				_, err := s.open(t, crypt.Keys{Password: password})
				if !errors.Is(err, want) || !errors.Is(err, crypt.ErrPassword) {
					t.Errorf("with password %q: %v, want %v", password, err, want)
				}
			}
		})
	}
}

package aea_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/aea"
)

const (
	samples = "../../../shared/samples/aea"
	limit   = 64 << 20
)

// sampleKey opens those of the made samples that have a symmetric key.
var sampleKey, _ = hex.DecodeString("00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f")

// sample is an archive with what opens it.
type sample struct {
	file  string
	keys  aea.Keys
	size  int64
	sum   string // SHA-256 of the content
	fails string // part of the error, of one that is bad
}

// appleSamples were written by Apple's tools.
var appleSamples = []sample{
	{file: "password_xz.aea", keys: aea.Keys{Password: "whatisgoingonforeveroneday!"}, size: 2506564, sum: "dcc81dfa9803a5fe2a1036f8568fada61fca6979851e1d754efb7a413c254e77"},
	{file: "signed_small.shortcut", size: 6732, sum: "0460d2a0b5a95f74de0e81c7deaf261d20d5545787d683537e10f4e47ee7f136"},
	{file: "signed_large.shortcut", size: 145299, sum: "d9ef4fa5a9ef884dfa459f589ed9dab1594505ce25cb6b3f0138528620a2e63b"},
}

// faults are what must be refused in the bad samples.
var faults = map[string]string{
	"bad_cluster_bit.aea":    "cluster 1 at byte 4271: its header's MAC does not match",
	"bad_codec.aea":          "codec '?' of segment 0",
	"bad_packed_0.aea":       "segment 0 at byte 2492: 16384 bytes of content in 0",
	"bad_per_cluster_4g.aea": "have no room in an archive of 2723 bytes",
	"bad_plain_2g.aea":       "segment 0 at byte 2492: 2147483647 bytes of content, not 16384",
	"bad_segment_4g.aea":     "limit",
	"bad_segment_bit.aea":    "segment 3 at",
	"bad_size_2e60.aea":      "have no room in an archive of 2723 bytes",
	"bad_sum.aea":            "checksum",
}

// allSamples returns those of Apple's tools and those of the manifest.
func allSamples(t *testing.T) []sample {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(samples, "made", "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no samples")
	}
	all := appleSamples
	for line := range strings.Lines(string(list)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 5 || f[0] == "file" {
			continue
		}
		s := sample{file: filepath.Join("made", f[0]), sum: f[4]}
		if strings.HasPrefix(f[0], "bad_") {
			if s.fails = faults[f[0]]; s.fails == "" {
				t.Errorf("%s: not in the table of faults", f[0])
			}
		} else if s.size, err = strconv.ParseInt(f[3], 10, 64); err != nil {
			t.Fatal(err)
		}
		for with := range strings.SplitSeq(f[2], ", ") {
			switch name, is := strings.CutPrefix(with, "password "); {
			case is:
				s.keys.Password = name
			case with == "key" || with == "or key":
				s.keys.Key = sampleKey
			default:
				switch k := readKey(t, filepath.Join("made", with)).(type) {
				case interface{ Public() crypto.PublicKey }:
					s.keys.PrivateKey = k
				default:
					s.keys.PublicKey = k
				}
			}
		}
		if s.keys.Key != nil && s.keys.PrivateKey != nil {
			byKey := s
			byKey.keys.PrivateKey = nil
			all = append(all, byKey)
			s.keys.Key = nil
		}
		all = append(all, s)
	}
	if len(all) < 30 {
		t.Fatalf("%d samples", len(all))
	}
	return all
}

// readKey reads a key in PEM.
func readKey(t *testing.T, name string) any {
	t.Helper()
	block, _ := pem.Decode(readFile(t, name))
	if block == nil {
		t.Fatalf("%s: no PEM", name)
	}
	if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
		return key
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(samples, name)
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no samples")
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSamples(t *testing.T) {
	for _, s := range allSamples(t) {
		name := s.file
		if s.keys.PrivateKey != nil {
			name += " by private key"
		}
		t.Run(name, func(t *testing.T) {
			data := readFile(t, s.file)
			got, err := readAll(data, s.keys)
			if s.fails != "" {
				if err == nil || !strings.Contains(err.Error(), s.fails) {
					t.Errorf("error %v, want one that says %q", err, s.fails)
				}
				checkClass(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(got); int64(len(got)) != s.size || hex.EncodeToString(sum[:]) != s.sum {
				t.Errorf("%d bytes with SHA-256 %x, want %d with %s", len(got), sum, s.size, s.sum)
			}
		})
	}
}

// readAll returns the whole content, as far as it can be read.
func readAll(data []byte, keys aea.Keys) ([]byte, error) {
	r, err := aea.Open(bytes.NewReader(data), int64(len(data)), keys, limit)
	if err != nil {
		return nil, err
	}
	defer r.CompareSums()()
	return io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
}

// checkClass checks that an archive's error has a class.
func checkClass(t *testing.T, err error) {
	t.Helper()
	var format *aea.FormatError
	for _, class := range []error{aea.ErrChecksum, aea.ErrMemory, aea.ErrPassword, aea.ErrUnsupported} {
		if errors.Is(err, class) {
			return
		}
	}
	if !errors.As(err, &format) {
		t.Errorf("error %v (%T) of no class", err, err)
	}
}

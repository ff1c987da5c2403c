package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const samples = "../../../shared/samples/"

// A sample is an image that Apple's tools wrote.
type sample struct{ file, password, size, sum string }

// sampleImages reads the samples' manifest, and skips the test where there are
// none.
func sampleImages(t *testing.T) []sample {
	t.Helper()
	f, err := os.Open(samples + "MANIFEST.tsv")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	var all []sample
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if c := strings.Split(lines.Text(), "\t"); len(c) == 4 && c[0] != "file" && c[1] == "-" {
			all = append(all, sample{c[0], c[1], c[2], c[3]})
		}
	}
	if len(all) == 0 {
		t.Fatal("an empty manifest")
	}
	return all
}

// wantEmptyDir fails if a command left a file behind.
func wantEmptyDir(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left behind", e.Name())
	}
}

func TestExtract(t *testing.T) {
	for image, want := range sums(t) {
		t.Run(image, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "disk.img")
			if got := dmgRun(t, "extract", images+image, out); got != (result{}) {
				t.Fatalf("to a file: %+v", got)
			}
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if got := sum(b); got != want {
				t.Errorf("file of %d bytes has sum %s, want %s", len(b), got, want)
			}
			for _, args := range [][]string{
				{"extract", images + image, "-"},
				{"extract", "--keep-going", images + image, "-"},
				{"cat", images + image},
			} {
				got := dmgRun(t, args...)
				if got.status != 0 || got.errOut != "" || sum([]byte(got.out)) != want {
					t.Errorf("%v: status %d, %q, %d bytes with sum %s", args, got.status, got.errOut, len(got.out), sum([]byte(got.out)))
				}
			}
		})
	}
}

// TestSamples extracts what Apple's tools wrote.
func TestSamples(t *testing.T) {
	for _, s := range sampleImages(t) {
		t.Run(s.file, func(t *testing.T) {
			if s.password != "-" {
				t.Setenv(passwordVar, s.password)
			}
			got := dmgRun(t, "extract", samples+s.file, "-")
			if got.status != 0 || got.errOut != "" || sum([]byte(got.out)) != s.sum {
				t.Errorf("status %d, %q, %d bytes with sum %s, want %s bytes with %s",
					got.status, got.errOut, len(got.out), sum([]byte(got.out)), s.size, s.sum)
			}
		})
	}
}

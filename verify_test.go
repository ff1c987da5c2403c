package dmg_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Every image that says what it should be is it.
func TestVerifySamples(t *testing.T) {
	for _, s := range readManifest(t) {
		t.Run(s.file, func(t *testing.T) {
			im, err := dmg.Open(filepath.Join(samples, s.file), &dmg.Options{Password: s.password})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			if err := im.Verify(context.Background(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

var verifyTests = []struct {
	file string // in testdata
	part string // of the only ChecksumError, "" if there is none
	lost int    // chunks that can't be read
}{
	{file: "good-zlib.dmg"},
	{file: "good-mixed.dmg"},
	{file: "good-ignore.dmg"},
	{file: "good-sums.dmg"},
	{file: "good-no-sums.dmg"},
	{file: "good-gaps.dmg"},
	{file: "good-rsrc-only.dmg"},
	{file: "bad-data-sum.dmg", part: "data fork"},
	{file: "bad-table-sum.dmg", part: "partition 2"},
	{file: "bad-stream.dmg", part: "partition 2", lost: 1},
	{file: "bad-short-chunk.dmg", part: "partition 2", lost: 1},
}

func TestVerify(t *testing.T) {
	for _, tt := range verifyTests {
		t.Run(tt.file, func(t *testing.T) {
			im := openTest(t, tt.file, nil)
			var done, total int64
			err := im.Verify(context.Background(), func(d, n int64) {
				if d < done || d > n {
					t.Errorf("progress goes from %d to %d of %d", done, d, n)
				}
				done, total = d, n
			})
			if done != total || total < im.Size() {
				t.Errorf("progress ends at %d of %d", done, total)
			}
			var sums []*dmg.ChecksumError
			lost := 0
			for _, err := range flatten(err) {
				var c *dmg.ChecksumError
				var chunk *dmg.ChunkError
				switch {
				case errors.As(err, &chunk):
					lost++
				case errors.As(err, &c):
					sums = append(sums, c)
				default:
					t.Errorf("another error: %v", err)
				}
			}
			if lost != tt.lost {
				t.Errorf("%d chunks are lost, want %d: %v", lost, tt.lost, err)
			}
			if tt.part == "" && len(sums) > 0 {
				t.Errorf("checksum errors: %v", err)
			}
			found := false
			for _, c := range sums {
				found = found || strings.HasPrefix(c.Part, tt.part)
			}
			if tt.part != "" && (!found || !errors.Is(err, dmg.ErrChecksum)) {
				t.Errorf("%v: no checksum error for %q", err, tt.part)
			}
		})
	}
}

// flatten returns what errors.Join joined.
func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// One flipped bit in any kind of chunk is found, and the chunk or its partition
// named.
func TestVerifyFlippedBit(t *testing.T) {
	methods := []dmgtest.Method{dmgtest.Raw, dmgtest.ADC, dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZFSE, dmgtest.LZMA}
	disk := dmgtest.Text(3, 64<<10).Bytes()
	for _, m := range methods {
		t.Run(m.String(), func(t *testing.T) {
			l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{m}, ChunkSectors: 32})
			if err != nil {
				t.Fatal(err)
			}
			c := l.Tables[0].Chunks[1]
			l.Data[c.Offset+c.Length/2] ^= 4
			b := l.Bytes()
			im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
			if err != nil {
				t.Fatal(err)
			}
			err = im.Verify(context.Background(), nil)
			parts := ""
			for _, err := range flatten(err) {
				var c *dmg.ChecksumError
				if errors.As(err, &c) {
					parts += c.Part + ";"
				}
			}
			if !strings.Contains(parts, "data fork") || !strings.Contains(parts, "partition 0") {
				t.Errorf("%v: want the data fork and partition 0", err)
			}
		})
	}
}

// A disk of 16 GiB that is nearly all zeros takes no time.
func TestVerifyZeros(t *testing.T) {
	disk := dmgtest.Join(dmgtest.Text(1, 1<<20), dmgtest.Zeros(16<<30), dmgtest.Text(2, 1<<20))
	var b bytes.Buffer
	if _, err := dmgtest.Write(&b, disk, disk.Size(), dmgtest.Options{ChunkSectors: 2048, MergeZeros: true}); err != nil {
		t.Fatal(err)
	}
	im, err := dmg.NewImage(bytes.NewReader(b.Bytes()), int64(b.Len()), nil)
	if err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for range 3 {
		start := time.Now()
		if err := im.Verify(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	t.Logf("verified %d bytes in %v", im.Size(), best)
	if best > time.Second {
		t.Errorf("verifying %d bytes took %v", im.Size(), best)
	}
}

func TestVerifyCancel(t *testing.T) {
	im := openTest(t, "good-mixed.dmg", nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := im.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v, want context.Canceled", err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := im.Extract(ctx, f, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Extract: %v, want context.Canceled", err)
	}
	if err := im.BuildIndex(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("BuildIndex: %v, want context.Canceled", err)
	}
}

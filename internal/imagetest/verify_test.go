package imagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Every image that says what it should be is it.
func TestVerifySamples(t *testing.T) {
	for _, s := range ReadManifest(t) {
		t.Run(s.File, func(t *testing.T) {
			im, err := dmg.Open(filepath.Join(Samples(), s.File), &dmg.Options{Password: s.Password})
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
			im := OpenTest(t, tt.file, nil)
			progress, end := dmgtest.CheckProgress(t, im.Size())
			err := im.Verify(context.Background(), &dmg.VerifyOptions{Progress: progress})
			end()
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

// Checksums lists what Verify compares, and nothing else.
func TestChecksums(t *testing.T) {
	disk := dmgtest.Random(1, 512<<10).Bytes()
	build := func(bend func(l *dmgtest.Layout)) []byte {
		l, err := dmgtest.Build(disk, sumsOptions(dmgtest.SHA1))
		if err != nil {
			t.Fatal(err)
		}
		bend(l)
		return l.Bytes()
	}
	raw := bytes.Clone(disk)
	copy(raw[510:], "\x55\xAA")
	for _, tt := range []struct {
		name string
		file []byte
		want string // parts and algorithms
	}{
		{"all", build(func(*dmgtest.Layout) {}),
			`data fork -1 SHA-1, partition 0 "start" 0 SHA-1, partition 1 "free" 1 SHA-1, partition 2 "end" 2 SHA-1, master -1 SHA-1`},
		{"not of a table", build(func(l *dmgtest.Layout) {
			l.Tables[1].Checksum = dmgtest.Checksum{}
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
		}), `data fork -1 SHA-1, partition 0 "start" 0 SHA-1, partition 2 "end" 2 SHA-1, master -1 SHA-1`},
		{"unknown, or too short", build(func(l *dmgtest.Layout) { l.Koly.DataSum.Type = 3; l.Koly.MasterSum.Bits = 152 }),
			`partition 0 "start" 0 SHA-1, partition 1 "free" 1 SHA-1, partition 2 "end" 2 SHA-1`},
		{"no UDIF", raw, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im, err := dmg.NewImage(bytes.NewReader(tt.file), int64(len(tt.file)), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range im.Checksums() {
				got = append(got, fmt.Sprintf("%s %d %s", c.Part, c.Partition, c.Algorithm))
				if len(c.Sum) != 20 {
					t.Errorf("%s: checksum of %d bytes", c.Part, len(c.Sum))
				}
				clear(c.Sum) // must not be the image's own
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("checksums of %s, want %s", got, tt.want)
			}
			if err := im.Verify(context.Background(), nil); err != nil {
				t.Error(err)
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
	im := OpenTest(t, "good-mixed.dmg", nil)
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

// verifyParts verifies an image, and returns the parts whose checksums do not
// hold.
func verifyParts(t *testing.T, im *dmg.Image) (parts []string) {
	t.Helper()
	progress, end := dmgtest.CheckProgress(t, im.Size())
	for _, err := range flatten(im.Verify(context.Background(), &dmg.VerifyOptions{Progress: progress})) {
		var sum *dmg.ChecksumError
		if !errors.As(err, &sum) || !errors.Is(err, dmg.ErrChecksum) {
			t.Errorf("another error: %v", err)
			continue
		}
		parts = append(parts, sum.Part)
	}
	end()
	return parts
}

// sumsOptions has tables in no order, with gaps in and between them, one of them
// of free space alone.
func sumsOptions(kind dmgtest.SumType) dmgtest.Options {
	return dmgtest.Options{
		ChunkSectors: 64,
		Partitions: []dmgtest.Partition{
			{Name: "end", First: 1000},
			{Name: "free", First: 512, Sectors: 256},
			{Name: "start", First: 3, Sectors: 509},
		},
		Zeros:     dmgtest.ZeroIgnore,
		DataSum:   kind,
		TableSum:  kind,
		MasterSum: kind,
	}
}

var bentSums = []struct {
	part string // prefix of what is named, "" for nothing
	bend func(l *dmgtest.Layout) error
}{
	{"", func(*dmgtest.Layout) error { return nil }},
	{`partition 2 "end"`, func(l *dmgtest.Layout) error { l.Tables[0].Checksum.Data[0] ^= 1; return l.Seal() }},
	{`partition 1 "free"`, func(l *dmgtest.Layout) error { l.Tables[1].Checksum.Data[0] ^= 1; return l.Seal() }},
	{`partition 0 "start"`, func(l *dmgtest.Layout) error { l.Tables[2].Checksum.Data[3] ^= 128; return l.Seal() }},
	{"data fork", func(l *dmgtest.Layout) error { l.Koly.DataSum.Data[3] ^= 1; return nil }},
	{"master", func(l *dmgtest.Layout) error { l.Koly.MasterSum.Data[1] ^= 1; return nil }},
}

// TestVerifySums has checksums of all types, each of them wrong in turn.
func TestVerifySums(t *testing.T) {
	t.Parallel()
	disk := dmgtest.Join(dmgtest.Text(1, 256<<10), dmgtest.Zeros(200<<10), dmgtest.Mixed(2, 200<<10)).Bytes()
	for _, kind := range []dmgtest.SumType{dmgtest.CRC32, dmgtest.MD5, dmgtest.SHA1b, dmgtest.SHA1, dmgtest.SHA256, dmgtest.SHA384, dmgtest.SHA512} {
		for _, bent := range bentSums {
			t.Run(fmt.Sprintf("type %d, %s", kind, bent.part), func(t *testing.T) {
				l, err := dmgtest.Build(disk, sumsOptions(kind))
				if err != nil {
					t.Fatal(err)
				}
				if err := bent.bend(l); err != nil {
					t.Fatal(err)
				}
				b := l.Bytes()
				im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
				if err != nil {
					t.Fatal(err)
				}
				parts := verifyParts(t, im)
				if bent.part == "" && len(parts) > 0 || bent.part != "" && !slices.Equal(parts, []string{bent.part}) {
					t.Errorf("checksums of %q don't hold, want %q", parts, bent.part)
				}
			})
		}
	}
}

// TestVerifyContainers has images inside containers, and a disk that stores no
// checksum. With wrong bytes in the data, the data fork and the partition are
// named all the same.
func TestVerifyContainers(t *testing.T) {
	disk := dmgtest.Text(1, 256<<10).Bytes()
	copy(disk[510:], "\x55\xAA")
	raw := dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}}
	rsrc := raw
	rsrc.Meta = dmgtest.ResourceOnly
	file := func(t *testing.T, b []byte) string {
		name := filepath.Join(t.TempDir(), "image.dmg")
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	tests := []struct {
		name  string
		o     dmgtest.Options
		sums  bool
		write func(t *testing.T, l *dmgtest.Layout) string
	}{
		{"plist", raw, true, func(t *testing.T, l *dmgtest.Layout) string { return file(t, l.Bytes()) }},
		{"resource fork", rsrc, true, func(t *testing.T, l *dmgtest.Layout) string { return file(t, l.Bytes()) }},
		{"segments", raw, true, func(t *testing.T, l *dmgtest.Layout) string {
			return dmgtest.SegmentFiles(t, l.Segments(100_000))
		}},
		{"encrypted", raw, true, func(t *testing.T, l *dmgtest.Layout) string {
			return file(t, dmgtest.Encryption{Password: "secret"}.Image(l.Bytes()))
		}},
		{"raw", raw, false, func(t *testing.T, l *dmgtest.Layout) string { return file(t, l.Data) }},
	}
	for _, tt := range tests {
		for _, damaged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, damaged %v", tt.name, damaged), func(t *testing.T) {
				l, err := dmgtest.Build(disk, tt.o)
				if err != nil {
					t.Fatal(err)
				}
				if damaged {
					l.Data[200_000] ^= 1
				}
				im, err := dmg.Open(tt.write(t, l), &dmg.Options{Password: "secret"})
				if err != nil {
					t.Fatal(err)
				}
				defer im.Close()
				want := 0
				if damaged && tt.sums {
					want = 2
				}
				if parts := verifyParts(t, im); len(parts) != want {
					t.Errorf("checksums of %q don't hold, want %d", parts, want)
				}
			})
		}
	}
}

// A hole as large as a disk can be takes no longer than another.
func TestVerifyHuge(t *testing.T) {
	l, err := dmgtest.Build(dmgtest.Text(1, 64<<10).Bytes(), dmgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.Koly.Sectors = 1<<54 - 1
	b := l.Bytes()
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	calls := 0
	if err := im.Verify(context.Background(), &dmg.VerifyOptions{Progress: func(int64, int64) { calls++ }}); err != nil {
		t.Error(err)
	}
	if err := im.Extract(context.Background(), nowhere{}, &dmg.ExtractOptions{Sparse: true}); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second || calls < 100 {
		t.Errorf("%d bytes took %v, progress was called %d times", im.Size(), took, calls)
	}
}

// nowhere is a disk that forgets.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

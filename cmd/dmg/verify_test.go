package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// A part without a checksum is not called good, unlike those beside it.
func TestVerifyUnchecked(t *testing.T) {
	l, err := dmgtest.Build(dmgtest.Text(1, 256<<10).Bytes(), dmgtest.Options{
		Partitions: []dmgtest.Partition{{Name: "one", Sectors: 256}, {Name: "two", First: 256}},
		DataSum:    dmgtest.NoSum,
		MasterSum:  dmgtest.NoSum,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Tables[1].Checksum = dmgtest.Checksum{}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(name, l.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	got := dmgRun(t, "verify", "-q", name)
	want := `part +result +name
0 +good +one
1 +readable, no checksum stored +two
`
	if got.status != 0 || got.errOut != "" || !regexp.MustCompile(`^`+want+`$`).MatchString(got.out) {
		t.Errorf("status %d, %q, output:\n%s", got.status, got.errOut, got.out)
	}
}

// An image is not damaged for what keeps a command from reading it.
func TestVerifyPrevented(t *testing.T) {
	const lzma = images + "good-lzma.dmg"
	image, _ := oneChunk(t, dmgtest.Bzip2)
	forgeIndex(t, image)
	for _, tt := range []struct {
		args []string
		want string // in standard error
	}{
		{[]string{"verify", "--memory-limit", "64k", lzma}, `dmg: \S+good-lzma.dmg: lzma chunk at sectors .*; give it more with --memory-limit\n`},
		{[]string{"map", "--verify", "--memory-limit", "64k", lzma}, `dmg: \S+good-lzma.dmg: lzma chunk at sectors .*; give it more with --memory-limit\n`},
		{[]string{"verify", image}, `dmg: \S+image.dmg: bzip2 chunk at sectors .*; leave it out with --no-index\n`},
		{[]string{"map", "--verify", image}, `dmg: \S+image.dmg: bzip2 chunk at sectors .*; leave it out with --no-index\n`},
		{[]string{"extract", "-p", "0", image, "-"}, `dmg: \S+image.dmg: bzip2 chunk at sectors [^;]*; leave it out with --no-index\n`},
		{[]string{"extract", "--keep-going", image, filepath.Join(t.TempDir(), "x")}, `dmg: \S+image.dmg: .*; leave it out with --no-index\n`},
	} {
		got := dmgRun(t, tt.args...)
		if got.status != statusMisuse || !regexp.MustCompile(`^`+tt.want+`$`).MatchString(got.errOut) {
			t.Errorf("%v: status %d, %q, want %q", tt.args, got.status, got.errOut, tt.want)
		}
		if tt.args[0] != "extract" && got.out != "" {
			t.Errorf("%v: tells of damage:\n%s", tt.args, got.out)
		}
	}
}

// forgeIndex makes an index of an image that has a checkpoint which is none.
func forgeIndex(t *testing.T, image string) {
	t.Helper()
	name := image + ".dmgidx"
	b := makeIndex(t, image, name)
	body := b[:len(b)-sha256.Size]
	body[len(body)-68] ^= 1
	sum := sha256.Sum256(body)
	if err := os.WriteFile(name, append(body, sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyCovered has partitions whose checksum is that of the data fork, and a disk
// without the checksums that others cover. Nothing is to be said of them but good.
func TestVerifyCovered(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sums  dmgtest.Options
		parts []string
	}{
		{"all", dmgtest.Options{}, []string{"data fork", "0", "1", "master"}},
		{"tables", dmgtest.Options{DataSum: dmgtest.NoSum}, []string{"0", "1", "master"}},
		{"tables only", dmgtest.Options{DataSum: dmgtest.NoSum, MasterSum: dmgtest.NoSum}, []string{"0", "1"}},
		{"data fork only", dmgtest.Options{TableSum: dmgtest.NoSum, MasterSum: dmgtest.NoSum}, []string{"data fork", "0", "1"}},
	} {
		disk := dmgtest.Text(1, 256<<10)
		tt.sums.Partitions = []dmgtest.Partition{{Name: "one", Sectors: 256}, {Name: "two", First: 256}}
		got := dmgRun(t, "verify", dmgtest.File(t, disk, disk.Size(), tt.sums))
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		if got.status != statusOK || got.errOut != "" || len(lines) != len(tt.parts)+1 {
			t.Errorf("%s: %+v", tt.name, got)
			continue
		}
		for i, part := range tt.parts {
			if !regexp.MustCompile("^" + part + " +good( +one| +two)?$").MatchString(lines[i+1]) {
				t.Errorf("%s: line %q, want that %s is good", tt.name, lines[i+1], part)
			}
		}
	}
}

// TestVerifySamples has what Apple's tools wrote: nothing is wrong with it, and no line
// says that anything might be.
func TestVerifySamples(t *testing.T) {
	dmgtest.NotRaced(t)
	line := regexp.MustCompile(`^(part|data fork|disk|master|\d+) +(result +name|good( +\S.*)?|readable, no checksum stored( +\S.*)?)$`)
	for _, s := range sampleImages(t) {
		t.Run(s.file, func(t *testing.T) {
			if s.password != "-" {
				t.Setenv(passwordVar, s.password)
			}
			got := dmgRun(t, "verify", samples+s.file)
			if got.status != statusOK || got.errOut != "" {
				t.Errorf("status %d, %q", got.status, got.errOut)
			}
			udif := slices.Contains(imageInfoOf(t, samples+s.file).Layers, "UDIF")
			for l := range strings.Lines(got.out) {
				l = strings.TrimSpace(l)
				if !line.MatchString(l) || udif && strings.Contains(l, "readable,") {
					t.Errorf("line %q", l)
				}
			}
		})
	}
}

// TestFindings sorts what Verify returns.
func TestFindings(t *testing.T) {
	chunkAt := func(sector, sectors int64, err error) error {
		return &dmg.ChunkError{Chunk: dmg.Chunk{Method: dmg.Bzip2, Offset: sector * 512, Length: sectors * 512}, Err: err}
	}
	bad := func(err error) error { return chunkAt(0, 1, err) }
	block := bad(dmg.ErrChecksum)
	memory, index, source := bad(fmt.Errorf("x: %w", dmg.ErrMemoryLimit)), bad(dmg.ErrIndex), errors.New("fault")
	sum := &dmg.ChecksumError{Part: "data fork", Partition: -1, Got: []byte{1}}
	unread := &dmg.ChecksumError{Part: "partition 0"}
	codec := chunkAt(8, 1, dmg.ErrUnsupported)
	for _, tt := range []struct {
		err, want error
		text      string // all that is said
		status    int
		places    [numLosses]int
	}{
		{nil, nil, "", statusOK, [numLosses]int{}},
		{errors.Join(sum), nil, "damaged: 1 wrong checksum, 0 unreadable chunks", statusDamaged, [numLosses]int{}},
		{errors.Join(sum, block, block, block, unread), nil, "damaged: 1 wrong checksum, 1 unreadable chunk", statusDamaged, [numLosses]int{1, 0}},
		{errors.Join(block, block, chunkAt(1, 1, dmg.ErrFormat), unread), nil, "damaged: 0 wrong checksums, 2 unreadable chunks", statusDamaged, [numLosses]int{1, 0}},
		{errors.Join(block, chunkAt(2, 1, dmg.ErrFormat), unread), nil, "damaged: 0 wrong checksums, 2 unreadable chunks", statusDamaged, [numLosses]int{2, 0}},
		{errors.Join(codec, unread), nil, "1 chunk not checked: compression not supported (bzip2)", statusUnsupported, [numLosses]int{0, 1}},
		{errors.Join(block, codec, chunkAt(9, 5, dmg.ErrUnsupported), unread), nil,
			"damaged: 0 wrong checksums, 1 unreadable chunk, 2 chunks not checked", statusDamaged, [numLosses]int{1, 1}},
		{errors.Join(sum, block, memory, unread), memory, "", 0, [numLosses]int{}},
		{errors.Join(sum, index), index, "", 0, [numLosses]int{}},
		{source, source, "", 0, [numLosses]int{}},
	} {
		f := newFindingsOf(make([]dmg.Partition, 1), nil, 1<<20, true)
		if err := f.add(tt.err); err != tt.want {
			t.Errorf("%v: returned %v, want %v", tt.err, err, tt.want)
		}
		if tt.want != nil {
			continue
		}
		err, got := f.err("x"), ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "x: ")
		}
		if got != tt.text {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.text)
		}
		if status := report(&stdio{err: io.Discard}, err); status != tt.status {
			t.Errorf("%v: status %d, want %d", tt.err, status, tt.status)
		}
		if places := [numLosses]int{f.losses[lossDamage].places, f.losses[lossCodec].places}; places != tt.places {
			t.Errorf("%v: %v places, want %v", tt.err, places, tt.places)
		}
	}
}

// TestFindingsMerge has lost chunks side by side, and more places than are kept.
func TestFindingsMerge(t *testing.T) {
	f := newFindingsOf([]dmg.Partition{{Name: "p", Length: 1 << 30}}, nil, 1<<30, true)
	seen := 0
	f.eachChunk = func(dmg.Chunk) { seen++ }
	const chunks = 10 * maxRanges
	for i := range int64(chunks) {
		at := i * 8
		if i >= 100 {
			at += i / 2 * 8 // pairs, with room between them
		}
		if err := f.add(&dmg.ChunkError{Chunk: dmg.Chunk{Method: dmg.Zlib, Offset: at * sectorSize, Length: 8 * sectorSize}, Err: dmg.ErrFormat}); err != nil {
			t.Fatal(err)
		}
	}
	lines := f.lines()
	places := 1 + (chunks-100)/2
	for i, want := range map[int]string{
		0:         "lost: sectors 0-799 (zlib, 100 chunks): the first: not a valid disk image",
		1:         "lost: sectors 1200-1215 (zlib, 2 chunks): the first: not a valid disk image",
		maxRanges: fmt.Sprintf("lost: and %d places more; %d bytes in all", places-maxRanges, chunks*8*sectorSize),
	} {
		if i >= len(lines) || lines[i] != want {
			t.Errorf("line %d of %d is not %q", i, len(lines), want)
		}
	}
	if len(lines) != maxRanges+1 || seen != chunks || f.losses[lossDamage].chunks != chunks {
		t.Errorf("%d lines, %d chunks of %d", len(lines), seen, chunks)
	}
}

// TestFindingsAreLinear has as many partitions as damaged chunks. If each asked for all
// others, this would take minutes.
func TestFindingsAreLinear(t *testing.T) {
	const n = 200_000
	f := newFindingsOf(make([]dmg.Partition, n), nil, n*sectorSize, true)
	for i := range n {
		err := errors.Join(
			&dmg.ChunkError{Chunk: dmg.Chunk{Method: dmg.Zlib, Offset: int64(i) * 2 * sectorSize, Length: sectorSize, Partition: i}, Err: dmg.ErrFormat},
			&dmg.ChecksumError{Part: "partition", Partition: i, Algorithm: "CRC-32", Got: []byte{1}},
		)
		if err := f.add(err); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := f.print(io.Discard); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("printing took %v", d)
	}
}

// TestFindingsByPlace has a disk without block tables, on which only places tell what
// partition a chunk is in.
func TestFindingsByPlace(t *testing.T) {
	parts := []dmg.Partition{{Name: "a", Offset: 0, Length: 1 << 20}, {Name: "b", Offset: 1 << 20, Length: 1 << 20}, {Name: "c", Offset: 2 << 20, Length: 1 << 20}}
	f := newFindingsOf(parts, nil, 4<<20, false)
	if err := f.add(&dmg.ChunkError{Chunk: dmg.Chunk{Offset: 2<<20 - 512, Length: 1024, Partition: -1}, Err: dmg.ErrFormat}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"damaged", readOnly, "damaged", "damaged"} { // of the disk, then of the partitions
		if got := f.result(&f.parts[i]); got != want {
			t.Errorf("part %s: %q, want %q", f.parts[i].label, got, want)
		}
	}
}

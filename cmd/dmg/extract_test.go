package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
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
		if c := strings.Split(lines.Text(), "\t"); len(c) == 4 && c[0] != "file" {
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
	dmgtest.NotEmulated(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for image, want := range sums(t) {
		if image == "bad-table-sum.dmg" {
			continue // TestKeepGoing has it
		}
		t.Run(image, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "disk.img")
			if got := dmgRun(t, "extract", "--password-file", password, images+image, out); got != (result{}) {
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
				got := dmgRun(t, append(args, "--password-file", password)...)
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
			if size, err := strconv.Atoi(s.size); dmgtest.Raced() && (err != nil || size > 8<<20) {
				t.Skip("too large for the race detector")
			}
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

// zlibDisk is the disk of good-zlib.dmg.
func zlibDisk(t *testing.T) []byte {
	t.Helper()
	got := dmgRun(t, "cat", images+"good-zlib.dmg")
	if got.status != 0 || sum([]byte(got.out)) != sums(t)["good-zlib.dmg"] {
		t.Fatalf("cat: status %d, %s", got.status, got.errOut)
	}
	return []byte(got.out)
}

func imageInfoOf(t *testing.T, image string) imageInfo {
	t.Helper()
	var info imageInfo
	d := json.NewDecoder(strings.NewReader(dmgRun(t, "info", "--json", image).out))
	d.DisallowUnknownFields()
	if err := d.Decode(&info); err != nil {
		t.Fatal(err)
	}
	return info
}

func TestPartition(t *testing.T) {
	t.Parallel()
	const image = images + "good-zlib.dmg"
	disk, info := zlibDisk(t), imageInfoOf(t, image)
	for _, tt := range []struct {
		name  string
		index int
	}{
		{"0", 0},
		{"2", 2},
		{info.Partitions[1].Name, 1},
		{info.Partitions[2].Name, 2},
		{"apple_hfs", 2},
		{"DDM", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := info.Partitions[tt.index]
			want := disk[p.Offset : p.Offset+p.Length]
			out := filepath.Join(t.TempDir(), "part.img")
			if got := dmgRun(t, "extract", "-p", tt.name, image, out); got != (result{}) {
				t.Fatalf("%+v", got)
			}
			if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, want) {
				t.Errorf("file of %d bytes is not the partition's %d (%v)", len(b), len(want), err)
			}
			if got := dmgRun(t, "extract", "-p", tt.name, image, "-"); got.out != string(want) {
				t.Errorf("standard output of %d bytes is not the partition's %d", len(got.out), len(want))
			}
		})
	}
}

// TestPartitionNames has names that several partitions have, or begin with.
func TestPartitionNames(t *testing.T) {
	disk := dmgtest.Text(1, 8*sectorSize)
	image := dmgtest.File(t, disk, disk.Size(), dmgtest.Options{Partitions: []dmgtest.Partition{
		{Name: "Data", Sectors: 2}, {Name: "Data 2", First: 2, Sectors: 2}, {Name: "EFI", First: 4, Sectors: 2}, {Name: "EFI", First: 6},
	}})
	want := disk.Bytes()[:2*sectorSize]
	if got := dmgRun(t, "cat", image, "-p", "Data"); got != (result{out: string(want)}) {
		t.Errorf("%+v", got)
	}
	for name, want := range map[string]string{
		"data": `"data" fits partitions 0 1: give a number`,
		"EFI":  `"EFI" fits partitions 2 3: give a number`,
		"EF":   `"EF" fits partitions 2 3: give a number`,
	} {
		if got := dmgRun(t, "cat", image, "-p", name); got != (result{status: statusMisuse, errOut: "dmg: " + image + ": " + want + "\n"}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestPartitionTypes has a raw disk whose partitions have types beside names.
func TestPartitionTypes(t *testing.T) {
	disk := gptDisk([]string{"EFI System Partition", "Data", "more data", "apple_apfs"})
	types := []string{
		"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "48465300-0000-11AA-AA11-00306543ECAC",
		"48465300-0000-11AA-AA11-00306543ECAC", "7C3457EF-0000-11AA-AA11-00306543ECAC",
	}
	setTypes(t, disk, types)
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	info := imageInfoOf(t, image)
	for i, want := range []string{"EFI", "Apple_HFS", "Apple_HFS", "Apple_APFS"} {
		if got := info.Partitions[i].Type; got != want {
			t.Errorf("partition %d: type %q, want %q", i, got, want)
		}
	}
	if got := dmgRun(t, "info", image); !regexp.MustCompile(`\n +1 +\d+ +512 +512 B +Apple_HFS +Data\n`).MatchString(got.out) {
		t.Errorf("info prints\n%s", got.out)
	}
	for name, want := range map[string]int{"efi": 0, "EFI": 0, "Data": 1, "more": 2, "Apple_APFS": 3, "apple_apfs": 3, "e_apfs": 3, "2": 2} {
		p := info.Partitions[want]
		if got := dmgRun(t, "cat", image, "-p", name); got != (result{out: string(disk[p.Offset : p.Offset+p.Length])}) {
			t.Errorf("-p %s is not partition %d: %q", name, want, got.errOut)
		}
	}
	for name, want := range map[string]string{
		"apple_hfs": `"apple_hfs" fits partitions 1 2: give a number`,
		"data":      `"data" fits partitions 1 2: give a number`,
		"a":         `"a" fits partitions 0 1 2 3: give a number`,
		"le_hf":     `"le_hf" fits partitions 1 2: give a number`,
		"NTFS":      `no partition has the name or type "NTFS": there are 0 to 3; see dmg info`,
		"-1":        `no partition -1: there are 0 to 3; see dmg info`,
	} {
		if got := dmgRun(t, "cat", image, "--partition="+name); got != (result{status: statusMisuse, errOut: "dmg: " + image + ": " + want + "\n"}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// setTypes gives the partitions of a disk from gptDisk their types.
func setTypes(t *testing.T, disk []byte, types []string) {
	t.Helper()
	le := binary.LittleEndian
	array := disk[2*sectorSize:][:128*128]
	for i, s := range types {
		b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(b[:4])
		slices.Reverse(b[4:6])
		slices.Reverse(b[6:8])
		copy(array[i*128:], b)
	}
	h := disk[sectorSize:]
	le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	le.PutUint32(h[16:], 0)
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
}

// TestExtractRefuses has an output that is there already.
func TestExtractRefuses(t *testing.T) {
	const image = images + "good-zlib.dmg"
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("precious"), 0o640); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy.dmg")
	b, err := os.ReadFile(image)
	if err == nil {
		err = os.WriteFile(copied, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string // of standard error
	}{
		{"existing file", []string{image, old}, statusMisuse, "dmg: " + old + " exists: -f overwrites it\n"},
		{"existing folder", []string{image, dir}, statusMisuse, "dmg: " + dir + " is a directory: give the name of a file\n"},
		{"missing folder", []string{image, filepath.Join(dir, "none", "x")}, statusIO, "dmg: create " + filepath.Join(dir, "none", "x") + ": " + syscall.ENOENT.Error() + "\n"},
		{"folder by force", []string{"-f", image, dir}, statusMisuse, "dmg: " + dir + " is a directory: give the name of a file\n"},
		{"the image itself", []string{copied, copied}, statusMisuse, "dmg: " + copied + " belongs to the image: give another name\n"},
		{"the image itself by force", []string{"-f", copied, copied}, statusMisuse, "dmg: " + copied + " belongs to the image: give another name\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := dmgRun(t, append([]string{"extract"}, tt.args...)...)
			if want := (result{status: tt.status, errOut: tt.want}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	for _, args := range [][]string{{"extract", image, ""}, {"info", ""}} {
		if got := dmgRun(t, args...); got.status != statusMisuse || !strings.Contains(got.errOut, "name is empty") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != "precious" {
		t.Errorf("the file is now %.20q (%v)", b, err)
	}
	if got := dmgRun(t, "extract", "-f", image, old); got != (result{}) {
		t.Errorf("by force: %+v", got)
	}
	if b, err := os.ReadFile(old); err != nil || !bytes.Equal(b, zlibDisk(t)) {
		t.Errorf("by force: %d bytes (%v)", len(b), err)
	}
	if info, err := os.Stat(old); err != nil || info.Mode().Perm()&0o077 != 0o040 && os.PathSeparator == '/' {
		t.Errorf("by force: mode %v (%v)", info.Mode(), err)
	}
}

// TestOutputInImage has outputs that would take the place of an image's files.
func TestOutputInImage(t *testing.T) {
	t.Parallel()
	disk := dmgtest.Text(1, 3<<20).Bytes()
	bundle := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 1 << 20})
	split := filepath.Join(t.TempDir(), "split.dmg")
	for _, name := range []string{"split.dmg", "split.002.dmgpart", "split.003.dmgpart"} {
		b, err := os.ReadFile(images + "containers/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(filepath.Dir(split), name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	links := t.TempDir()
	link := func(name, to string) string {
		name = filepath.Join(links, name)
		if err := os.Symlink(to, name); err != nil {
			t.Skip(err)
		}
		return name
	}
	segment := dmgtest.SegmentName(split, 3)
	for _, tt := range []struct{ image, out string }{
		{bundle, filepath.Join(bundle, "bands", "1")},
		{bundle, filepath.Join(bundle, "bands", "ff")}, // a hole
		{bundle, filepath.Join(bundle, "token")},
		{bundle + "/", link("band", filepath.Join(bundle, "bands", "1"))},
		{link("bundle", bundle), filepath.Join(bundle, "bands", "1")},
		{bundle, filepath.Join(link("bands", filepath.Join(bundle, "bands")), "1")},
		{bundle, link("inside", filepath.Join(bundle, "bands")) + "/../new"},
		{bundle, link("inside2", filepath.Join(bundle, "bands")) + "/../token"},
		{split, segment},
		{split, link("segment", segment)},
	} {
		for _, args := range [][]string{{"extract", "-f", tt.image, tt.out}, {"map", "-f", tt.image, "-o", tt.out}, {"index", "-f", tt.image, "-o", tt.out}} {
			want := result{status: statusMisuse, errOut: "dmg: " + tt.out + " belongs to the image: give another name\n"}
			if got := dmgRun(t, args...); got != want {
				t.Errorf("%q: %+v, want %+v", args, got, want)
			}
		}
	}
	if got := dmgRun(t, "cat", bundle); got.out != string(disk) {
		t.Errorf("the bundle has changed: %d bytes, %q", len(got.out), got.errOut)
	}
	if got := dmgRun(t, "cat", split); got.status != statusOK {
		t.Errorf("the split image has changed: %q", got.errOut)
	}
	// Segments under other names are found by what is in them.
	renamed := filepath.Join(t.TempDir(), "one")
	for i, name := range []string{split, dmgtest.SegmentName(split, 2), segment} {
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(filepath.Dir(renamed), []string{"one", "two", "three"}[i]), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"two", "three"} {
		out := filepath.Join(filepath.Dir(renamed), name)
		want := result{status: statusMisuse, errOut: "dmg: " + out + " belongs to the image: give another name\n"}
		if got := dmgRun(t, "extract", "-f", renamed, out); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// Beside an image is not in it.
	for _, image := range []string{bundle, split} {
		out := filepath.Join(filepath.Dir(image), "other.002.dmgpart")
		for range 2 {
			if got := dmgRun(t, "extract", "-f", image, out); got != (result{}) {
				t.Errorf("%s: %+v", out, got)
			}
		}
	}
}

// TestAppendToImage has an image's own file as standard output.
func TestAppendToImage(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"split.dmg", "split.002.dmgpart", "split.003.dmgpart"} {
		b, err := os.ReadFile(images + "containers/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "split.dmg")
	for name, want := range map[string]int{"split.dmg": statusMisuse, "split.003.dmgpart": statusMisuse, "other": statusOK} {
		for _, args := range [][]string{{"cat", image}, {"extract", image, "-"}, {"map", image, "-o", "-"}, {"info", image}} {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			var errOut bytes.Buffer
			status := run(context.Background(), args, strings.NewReader(""), f, &errOut)
			f.Close()
			if said := errOut.String() == "dmg: "+image+": standard output is a file of the image\n"; status != want || said != (want == statusMisuse) {
				t.Errorf("%v >> %s: status %d, %q", args, name, status, errOut.String())
			}
		}
	}
}

// TestNamesOfBytes has files whose names are no text in UTF-8.
func TestNamesOfBytes(t *testing.T) {
	dir := t.TempDir()
	image, out := filepath.Join(dir, "image\xE4.dmg"), filepath.Join(dir, "disk\xFF.img")
	b, err := os.ReadFile(images + "good-zlib.dmg")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Skip(err) // a file system of UTF-8 only
	}
	if got := dmgRun(t, "extract", image, out); got != (result{}) {
		t.Fatalf("%+v", got)
	}
	if got := dmgRun(t, "index", image, "-o", out+"x"); got.status != statusOK {
		t.Fatalf("%+v", got)
	}
	wantFiles(t, dir, "disk\xFF.img", "disk\xFF.imgx", "image\xE4.dmg")
}

// TestNoHalfFile has extracts that fail in the middle.
func TestNoHalfFile(t *testing.T) {
	for _, tt := range []struct {
		image  string
		status int
		ctx    func() context.Context
	}{
		{"bad-stream.dmg", statusDamaged, context.Background},
		{"unsupported-1990s.dmg", statusUnsupported, context.Background},
		{"good-zlib.dmg", statusInterrupted, func() context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx
		}},
	} {
		t.Run(tt.image, func(t *testing.T) {
			dir := t.TempDir()
			var errOut bytes.Buffer
			status := run(tt.ctx(), []string{"extract", images + tt.image, filepath.Join(dir, "disk.img")}, strings.NewReader(""), io.Discard, &errOut)
			if status != tt.status || strings.Count(errOut.String(), "\n") != 1 {
				t.Errorf("status %d, %q", status, errOut.String())
			}
			wantEmptyDir(t, dir)
		})
	}
}

// A listedRange is a line of extract --keep-going, or of its JSON.
type listedRange struct {
	kind        string
	off, length int64
}

// listedRanges returns the ranges of which extract --keep-going told as text, rounded to
// sectors, and the lines that were none.
func listedRanges(t *testing.T, errOut string) (all []listedRange, rest []string) {
	t.Helper()
	for line := range strings.Lines(errOut) {
		var kind string
		var first, last, bytes int64
		if n, _ := fmt.Sscanf(line, "dmg: %s sectors %d-%d (%d byte", &kind, &first, &last, &bytes); n < 4 {
			rest = append(rest, strings.TrimSpace(line))
			continue
		}
		if length := (last + 1 - first) * sectorSize; bytes > length || bytes <= length-2*sectorSize {
			t.Errorf("%d bytes in %q", bytes, line)
		}
		all = append(all, listedRange{kind, first * sectorSize, (last + 1 - first) * sectorSize})
	}
	return all, rest
}

func TestKeepGoing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		image string
		kinds []string
		said  string
	}{
		{"bad-stream.dmg", []string{"doubtful"}, "8192 bytes in 1 place were written but may be wrong"},
		{"bad-short-chunk.dmg", []string{"lost"}, "4096 bytes in 1 place can't be read and were written as zeros"},
		{"bad-table-sum.dmg", []string{"doubtful", "doubtful"}, " were written but may be wrong"},
		{"unsupported-1990s.dmg", []string{"lost", "lost", "lost", "lost"}, "32768 bytes in 4 places can't be read and were written as zeros"},
	} {
		t.Run(tt.image, func(t *testing.T) {
			want, out := zlibDisk(t), filepath.Join(t.TempDir(), "disk.img")
			got := dmgRun(t, "extract", "--keep-going", images+tt.image, out)
			ranges, rest := listedRanges(t, got.errOut)
			if got.status != statusDamaged || len(rest) != 1 || !strings.Contains(rest[0], tt.said) {
				t.Errorf("status %d, %q", got.status, got.errOut)
			}
			disk, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			masked := slices.Clone(disk)
			for _, r := range ranges {
				kinds = append(kinds, r.kind)
				from, to := min(int64(len(want)), r.off), min(int64(len(want)), r.off+r.length)
				clear(want[from:to])
				clear(masked[from:to])
				if r.kind == "lost" && r.length > sectorSize && len(bytes.Trim(disk[from:to], "\x00")) > 0 {
					t.Errorf("%+v is not zeros", r)
				}
			}
			if !slices.Equal(kinds, tt.kinds) {
				t.Errorf("lists %v, want %v", kinds, tt.kinds)
			}
			if n := min(len(want), len(disk)); !bytes.Equal(masked[:n], want[:n]) || n < len(want) {
				t.Errorf("bytes that were not named are wrong")
			}
			if got := dmgRun(t, "extract", "--keep-going", images+tt.image, "-"); got.status != statusDamaged || got.out != string(disk) {
				t.Errorf("standard output differs from the file: status %d, %d bytes", got.status, len(got.out))
			}
			if got := dmgRun(t, "extract", images+tt.image, out+"2"); got.status == statusOK || !strings.Contains(got.errOut, "; --keep-going ") {
				t.Errorf("without --keep-going: %+v", got)
			}
			wantFiles(t, filepath.Dir(out), "disk.img")
		})
	}
}

// badSum is an image whose only partition begins at sector 1 and has a chunk with a wrong
// Adler-32, and then another chunk.
func badSum(t *testing.T, size, chunk int) (image string, disk []byte) {
	t.Helper()
	disk = dmgtest.Text(1, int64(size)).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: int64(chunk / sectorSize), Partitions: []dmgtest.Partition{{First: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	clear(disk[:sectorSize]) // which no table covers
	bad := l.Tables[0].Chunks[0]
	l.Data[bad.Offset+bad.Length-1] ^= 1
	image = filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(image, l.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return image, disk
}

// TestKeepGoingLargeChunk has a wrong checksum at the end of a chunk that is longer than
// any buffer: all of it is written, and all of it is doubtful, whatever the output is.
func TestKeepGoingLargeChunk(t *testing.T) {
	t.Parallel()
	const size, chunk = 3 << 20, 5 << 19
	image, disk := badSum(t, size, chunk)
	for _, tt := range []struct {
		args []string
		want []byte
	}{
		{nil, disk},
		{[]string{"-p", "0"}, disk[sectorSize:]},
	} {
		for _, to := range []string{filepath.Join(t.TempDir(), "disk.img"), "-"} {
			got := dmgRun(t, append([]string{"extract", "--keep-going", image, to}, tt.args...)...)
			ranges, rest := listedRanges(t, got.errOut)
			said := fmt.Sprintf("dmg: %s: %d bytes in 1 place were written but may be wrong", image, chunk)
			if want := []listedRange{{"doubtful", sectorSize, chunk}}; got.status != statusDamaged || !slices.Equal(ranges, want) || !slices.Equal(rest, []string{said}) {
				t.Errorf("%v to %s: status %d, %q", tt.args, to, got.status, got.errOut)
			}
			written := []byte(got.out)
			if to != "-" {
				var err error
				if written, err = os.ReadFile(to); err != nil {
					t.Error(err)
				}
			}
			if !bytes.Equal(written, tt.want) {
				t.Errorf("%v to %s: %d bytes differ from the disk", tt.args, to, len(written))
			}
		}
	}
}

// TestExtractTableSum has a partition that is wrong, though all of it can be read. Other
// partitions are not affected.
func TestExtractTableSum(t *testing.T) {
	disk := dmgtest.Text(1, 64*sectorSize).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{
		Codecs:     []dmgtest.Method{dmgtest.Raw},
		Partitions: []dmgtest.Partition{{Name: "one", Sectors: 32}, {Name: "two", First: 32}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Data[l.Tables[1].Chunks[0].Offset+5] ^= 1
	disk[32*sectorSize+5] ^= 1
	dir := t.TempDir()
	image := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(image, l.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	for _, args := range [][]string{{out}, {"-p", "1", out}, {"-p", "two", out}} {
		got := dmgRun(t, append([]string{"extract", image}, args...)...)
		if got.status != statusDamaged || !strings.Contains(got.errOut, `partition 1 "two": CRC-32 is `) || !strings.HasSuffix(got.errOut, "; --keep-going keeps the file, and lists what may be wrong\n") {
			t.Errorf("%q: %+v", args, got)
		}
		wantEmptyDir(t, dir)
	}
	got := dmgRun(t, "extract", image, "-")
	if got.status != statusDamaged || got.out != string(disk) || !strings.Contains(got.errOut, `everything was written, but some of it is wrong: partition 1 "two"`) {
		t.Errorf("to standard output: status %d, %d bytes, %q", got.status, len(got.out), got.errOut)
	}
	if got := dmgRun(t, "extract", "-p", "0", image, "-"); got != (result{out: string(disk[:32*sectorSize])}) {
		t.Errorf("the other partition: %+v", got)
	}
	got = dmgRun(t, "extract", "--keep-going", image, out)
	ranges, _ := listedRanges(t, got.errOut)
	if want := []listedRange{{"doubtful", 32 * sectorSize, 32 * sectorSize}}; got.status != statusDamaged || !slices.Equal(ranges, want) {
		t.Errorf("--keep-going: %+v", got)
	}
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, disk) {
		t.Errorf("--keep-going wrote %d bytes (%v)", len(b), err)
	}
}

// TestExtractJSON has the list of damage as scripts get it.
func TestExtractJSON(t *testing.T) {
	t.Parallel()
	const chunk = 16 << 10
	image, disk := badSum(t, 3*chunk, chunk)
	out := filepath.Join(t.TempDir(), "out")
	got := dmgRun(t, "extract", "--keep-going", "--json", image, out)
	want := regexp.MustCompile(`^{"kind":"doubtful","offset":512,"length":16384,"error":"zlib chunk at sectors 1-32: checksum mismatch: [^"]*"}
{"kind":"total","length":49152,"lost":0,"doubtful":16384}
$`)
	if got.status != statusDamaged || !want.MatchString(got.out) || strings.Count(got.errOut, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, disk) {
		t.Errorf("%d bytes (%v)", len(b), err)
	}
	if got := dmgRun(t, "extract", "--json", images+"good-zlib.dmg", out+"2"); got != (result{out: `{"kind":"total","length":135168,"lost":0,"doubtful":0}` + "\n"}) {
		t.Errorf("an image without damage: %+v", got)
	}
	if got := dmgRun(t, "extract", "--json", image, out+"3"); got.status != statusDamaged || got.out != "" {
		t.Errorf("without --keep-going: %+v", got)
	}
	if got := dmgRun(t, "extract", "--json", image, "-"); got.status != statusMisuse || got.out != "" || !strings.Contains(got.errOut, "give a file for the disk") {
		t.Errorf("with the disk on standard output: %+v", got)
	}
	// The list can't be written: nothing is kept as if it had been.
	var errOut bytes.Buffer
	broken := &failingWriter{5, &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}}
	status := run(context.Background(), []string{"extract", "--keep-going", "--json", image, out + "4"}, strings.NewReader(""), broken, &errOut)
	if status != statusIO || errOut.String() != "dmg: write /dev/stdout: "+syscall.ENOSPC.Error()+"\n" {
		t.Errorf("a full standard output: status %d, %q", status, errOut.String())
	}
	wantFiles(t, filepath.Dir(out), "out", "out2")
}

// TestFaultSamples extracts images that others read wrongly.
func TestFaultSamples(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, sum, kind, says string }{
		{"zlib-adler.dmg", "74f553f37d1e6a2e83b3c4f337a4ecf59eec004669ab53fdf67df9033827aaf7", "doubtful", "Adler-32"},
		{"raw-flipped.dmg", "eee21f39af99fcee888aa6f75096e323a179969d383029484938e1fb4cb4adde", "doubtful", "partition 0"},
		{"bzip2-flipped.dmg", "43a102b5fccd45b2d66b96e40b343fc5e47dcea1385e31fd7f3ebd66e1cb7be5", "doubtful", "bzip2 block"},
		{"cut.sparseimage", "", "lost", "missing from the file"},
		{"keepgoing-unlisted-garbage.dmg", "", "doubtful", "decodes to less"},
	} {
		image := samples + "faults/" + tt.file
		if _, err := os.Stat(image); err != nil {
			t.Skip(err)
		}
		got := dmgRun(t, "extract", "--keep-going", image, "-")
		if got.status != statusDamaged || tt.sum != "" && sum([]byte(got.out)) != tt.sum {
			t.Errorf("%s: status %d, %d bytes with sum %s", tt.file, got.status, len(got.out), sum([]byte(got.out)))
		}
		if !strings.Contains(got.errOut, "dmg: "+tt.kind+" sectors ") || !strings.Contains(got.errOut, tt.says) {
			t.Errorf("%s: says %q", tt.file, got.errOut)
		}
		if got := dmgRun(t, "extract", image, filepath.Join(t.TempDir(), "x")); got.status != statusDamaged || !strings.Contains(got.errOut, tt.says) {
			t.Errorf("%s without --keep-going: %+v", tt.file, got)
		}
	}
}

func TestCat(t *testing.T) {
	disk := zlibDisk(t)
	size := fmt.Sprint(len(disk))
	for _, tt := range []struct {
		args     string
		from, to int
	}{
		{"", 0, len(disk)},
		{"-n 0", 0, 0},
		{"-n 1", 0, 1},
		{"-o 1 -n 1", 1, 2},
		{"--offset 0x7fff --length 0x2", 0x7fff, 0x8001},
		{"--offset 64s --length 4k", 64 * 512, 64*512 + 4096},
		{"--offset=63s --length=1s", 63 * 512, 64 * 512},
		{"-o 32K", 32768, len(disk)},
		{"-o " + size, len(disk), len(disk)},
		{"-o 64s -n 1T", 64 * 512, len(disk)},
		{"-p 1 -n 1", 512, 513},
		{"-p 1 -o 62s", 63 * 512, 64 * 512},
		{"-p 1 -o 63s", 64 * 512, 64 * 512},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got := dmgRun(t, append([]string{"cat", images + "good-zlib.dmg"}, strings.Fields(tt.args)...)...)
			if got.status != 0 || got.errOut != "" || got.out != string(disk[tt.from:tt.to]) {
				t.Errorf("status %d, %q, %d bytes, want those from %d to %d", got.status, got.errOut, len(got.out), tt.from, tt.to)
			}
		})
	}
}

// TestCatLong has ranges about as long as what cat reads at once, and a partition whose
// checksum does not hold.
func TestCatLong(t *testing.T) {
	const size = 3 * smallRange
	disk := dmgtest.Text(1, size).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}})
	if err != nil {
		t.Fatal(err)
	}
	l.Data[l.Tables[0].Chunks[0].Offset+5] ^= 1
	disk[5] ^= 1
	image := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(image, l.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ off, n, status int }{
		{0, smallRange, statusOK},
		{7, smallRange + 1, statusOK},
		{size - smallRange, smallRange, statusOK},
		{size - smallRange - 1, size, statusOK},
		{0, size - 1, statusOK},
		{0, size, statusDamaged},
	} {
		got := dmgRun(t, "cat", image, "-o", fmt.Sprint(tt.off), "-n", fmt.Sprint(tt.n))
		if got.status != tt.status || got.out != string(disk[tt.off:min(size, tt.off+tt.n)]) || strings.Contains(got.errOut, image+": partition 0") != (tt.status != statusOK) {
			t.Errorf("%d bytes at %d: status %d, %d bytes, %q", tt.n, tt.off, got.status, len(got.out), got.errOut)
		}
	}
}

// TestEmptyPartition has a partition without sectors, which is not the rest of the disk.
func TestEmptyPartition(t *testing.T) {
	disk := dmgtest.Text(1, 8*sectorSize).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{Partitions: []dmgtest.Partition{{Name: "one", Sectors: 4}, {Name: "two", First: 4}}})
	if err != nil {
		t.Fatal(err)
	}
	empty := l.Tables[1]
	empty.Name, empty.First, empty.Sectors, empty.Count = "empty", 2, 0, 0
	empty.Chunks, empty.Checksum = nil, dmgtest.Checksum{}
	l.Tables = append(l.Tables, empty)
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(image, l.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if info := imageInfoOf(t, image); len(info.Partitions) != 3 {
		t.Fatalf("partitions %+v", info.Partitions)
	}
	out := filepath.Join(t.TempDir(), "out")
	for _, args := range [][]string{{"extract", "-p", "empty", image, "-"}, {"cat", "-p", "empty", image}, {"extract", "-p", "empty", "--keep-going", image, out}} {
		if got := dmgRun(t, args...); got != (result{}) {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if info, err := os.Stat(out); err != nil || info.Size() != 0 {
		t.Errorf("file of %d bytes (%v)", info.Size(), err)
	}
}

// A failingWriter is a standard output that breaks after some bytes.
type failingWriter struct {
	left int
	err  error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.left -= n
	if n < len(p) {
		return n, w.err
	}
	return n, nil
}

func TestBrokenOutput(t *testing.T) {
	const image = images + "good-zlib.dmg"
	for _, args := range [][]string{
		{"info", image},
		{"info", "--json", image},
		{"cat", image},
		{"extract", image, "-"},
		{"extract", "--keep-going", image, "-"},
		{"extract", "-p", "2", image, "-"},
		{"completion", "bash"},
		{"--help"},
		{"--version"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			for _, tt := range []struct {
				err    error
				status int
				errOut string
			}{
				{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}, statusPipe, ""},
				{&os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}, statusIO, "dmg: write /dev/stdout: " + syscall.ENOSPC.Error() + "\n"},
			} {
				var errOut bytes.Buffer
				status := run(context.Background(), args, strings.NewReader(""), &failingWriter{5, tt.err}, &errOut)
				if status != tt.status || errOut.String() != tt.errOut {
					t.Errorf("%v: status %d, %q; want %d, %q", tt.err, status, errOut.String(), tt.status, tt.errOut)
				}
			}
		})
	}
}

package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
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
	t.Parallel()
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
	t.Parallel()
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

// damagedChunk is a result of Verify: a chunk that can't be read.
func damagedChunk(sector, sectors int64, lost bool, err error) dmg.VerifyResult {
	c := dmg.Chunk{Method: dmg.Bzip2, Offset: sector * sectorSize, Length: sectors * sectorSize}
	d := dmg.Damage{Offset: c.Offset, Length: c.Length, Lost: lost, Err: &dmg.ChunkError{Chunk: c, Err: err}}
	return dmg.VerifyResult{Damage: &d, Err: d.Err}
}

// wrongSum is a result of Verify: a checksum that does not hold.
func wrongSum(e *dmg.ChecksumError) dmg.VerifyResult {
	return dmg.VerifyResult{Checksum: &dmg.Checksum{Part: e.Part, Partition: e.Partition, Algorithm: e.Algorithm, Sum: e.Want}, Err: e}
}

// TestFindings sorts results of Verify, which may come in any order.
func TestFindings(t *testing.T) {
	sum := wrongSum(&dmg.ChecksumError{Part: "data fork", Partition: -1, Got: []byte{1}})
	unread := wrongSum(&dmg.ChecksumError{Part: "partition 0"})
	good := dmg.VerifyResult{Checksum: &dmg.Checksum{Part: "master", Partition: -1}}
	lost := damagedChunk(0, 1, true, dmg.ErrFormat)
	next := damagedChunk(1, 1, true, dmg.ErrFormat)
	apart := damagedChunk(3, 1, true, dmg.ErrFormat)
	doubt := damagedChunk(2, 1, false, dmg.ErrChecksum)
	codec := damagedChunk(8, 1, true, dmg.ErrUnsupported)
	for _, tt := range []struct {
		results []dmg.VerifyResult
		text    string // all that is said
		status  int
		places  [numLosses]int
	}{
		{nil, "", statusOK, [numLosses]int{}},
		{[]dmg.VerifyResult{good}, "", statusOK, [numLosses]int{}},
		{[]dmg.VerifyResult{sum, good}, "damaged: 1 wrong checksum", statusDamaged, [numLosses]int{}},
		{[]dmg.VerifyResult{sum, lost, unread}, "damaged: 1 wrong checksum, 512 bytes lost", statusDamaged, [numLosses]int{isLost: 1}},
		{[]dmg.VerifyResult{lost, next, unread}, "damaged: 1024 bytes lost", statusDamaged, [numLosses]int{isLost: 1}},
		{[]dmg.VerifyResult{apart, next, lost}, "damaged: 1536 bytes lost", statusDamaged, [numLosses]int{isLost: 2}},
		{[]dmg.VerifyResult{apart, doubt, next, lost}, "damaged: 1536 bytes lost, 512 bytes doubtful", statusDamaged, [numLosses]int{isLost: 2, isDoubtful: 1}},
		{[]dmg.VerifyResult{doubt}, "damaged: 512 bytes doubtful", statusDamaged, [numLosses]int{isDoubtful: 1}},
		{[]dmg.VerifyResult{codec, unread}, "512 bytes not checked: unsupported compression (bzip2)", statusUnsupported, [numLosses]int{isUnsupported: 1}},
		{[]dmg.VerifyResult{damagedChunk(9, 5, true, dmg.ErrUnsupported), lost, codec}, "damaged: 512 bytes lost, 3072 bytes not checked", statusDamaged, [numLosses]int{isLost: 1, isUnsupported: 1}},
	} {
		f := newFindingsOf(make([]dmg.Partition, 1), nil, 1<<20, true)
		for _, r := range tt.results {
			f.add(r)
		}
		err, got := f.err("x"), ""
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "x: ")
		}
		if got != tt.text {
			t.Errorf("%q, want %q", got, tt.text)
		}
		if status := report(&stdio{err: io.Discard}, err); status != tt.status {
			t.Errorf("%s: status %d, want %d", tt.text, status, tt.status)
		}
		var places [numLosses]int
		for kind := range places {
			places[kind] = f.losses[kind].places()
		}
		if places != tt.places {
			t.Errorf("%s: %v places, want %v", tt.text, places, tt.places)
		}
	}
}

// TestVerifyErrors tells what is wrong with an image from what keeps Verify from finding
// that.
func TestVerifyErrors(t *testing.T) {
	bad := func(err error) error { return &dmg.ChunkError{Err: err} }
	sum := &dmg.ChecksumError{Part: "master"}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, true},
		{errors.Join(sum), true},
		{errors.Join(sum, bad(dmg.ErrFormat), bad(dmg.ErrUnsupported), fmt.Errorf("%w: 7 more places", dmg.ErrFormat)), true},
		{fmt.Errorf("%w: 7 more checksums", dmg.ErrChecksum), true},
		{bad(fmt.Errorf("x: %w", dmg.ErrMemoryLimit)), false},
		{errors.Join(sum, bad(dmg.ErrIndex)), false},
		{errors.New("fault"), false},
		{context.Canceled, false},
	} {
		if got := isOfImage(tt.err); got != tt.want {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
}

// TestFindingsMerge has lost chunks side by side, and more places than are kept, in
// several orders.
func TestFindingsMerge(t *testing.T) {
	t.Parallel()
	const chunks = 40 * maxRanges
	var all []dmg.VerifyResult
	for i := range int64(chunks) {
		at := i * 8
		if i >= 100 {
			at += i / 2 * 8 // pairs, with room between them
		}
		all = append(all, damagedChunk(at, 8, true, dmg.ErrFormat))
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, order := range map[string]func(){
		"in order":  func() {},
		"backwards": func() { slices.Reverse(all) },
		"by workers": func() { // each with a share of the disk
			var out []dmg.VerifyResult
			for i := range 8 {
				for j := i; j < chunks; j += 8 {
					out = append(out, all[j])
				}
			}
			all = out
		},
		"shuffled": func() { rnd.Shuffle(chunks, func(i, j int) { all[i], all[j] = all[j], all[i] }) },
	} {
		slices.SortFunc(all, func(a, b dmg.VerifyResult) int { return cmp.Compare(a.Damage.Offset, b.Damage.Offset) })
		order()
		f := newFindingsOf([]dmg.Partition{{Name: "p", Length: 1 << 40}}, nil, 1<<40, true)
		seen := int64(0)
		f.eachRange = func(r diskRange) { seen += r.length }
		for _, r := range all {
			f.add(r)
			if n := len(f.losses[isLost].ranges); n > keptRanges+unsortedRest {
				t.Fatalf("%s: %d ranges are kept", name, n)
			}
		}
		lines := f.lines()
		for i, want := range []string{
			"lost: sectors 0-799 (bzip2, 100 chunks): the first: not a valid disk image",
			"lost: sectors 1200-1215 (bzip2, 2 chunks): the first: not a valid disk image",
			"lost: sectors 1224-1239 (bzip2, 2 chunks): the first: not a valid disk image",
		} {
			if i >= len(lines) || lines[i] != want {
				t.Errorf("%s: line %d of %d is not %q", name, i, len(lines), want)
			}
		}
		if len(lines) != maxRanges+1 || seen != chunks*8*sectorSize {
			t.Fatalf("%s: %d lines, %d bytes", name, len(lines), seen)
		}
		// Those that are not kept may be counted apart.
		var more, bytes int64
		if _, err := fmt.Sscanf(lines[maxRanges], "lost: and %d ranges more; %d bytes in all", &more, &bytes); err != nil {
			t.Fatal(err)
		}
		if places := more + maxRanges; places < 1+(chunks-100)/2 || places > chunks || bytes != chunks*8*sectorSize {
			t.Errorf("%s: %d places, %d bytes", name, places, bytes)
		}
	}
}

// TestDamageListOverlaps has ranges that share bytes, as those of block tables may: no
// byte counts twice.
func TestDamageListOverlaps(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		ranges := []dmg.Damage{{Offset: 0, Length: 2048}, {Offset: 512, Length: 512}, {Offset: 1024, Length: 2048}}
		var l damageList
		for _, i := range order {
			d := ranges[i]
			d.Err = &dmg.ChecksumError{Part: "partition"}
			l.add(newDamagedRange(d))
		}
		if l.bytes() != 3072 || l.places() != 1 {
			t.Errorf("%v: %d bytes in %d places", order, l.bytes(), l.places())
		}
	}
}

// TestFindingsAreLinear has as many partitions as damaged chunks. If each asked for all
// others, this would take minutes.
func TestFindingsAreLinear(t *testing.T) {
	t.Parallel()
	n := 200_000
	if dmgtest.Part() {
		n = 50_000
	}
	f := newFindingsOf(make([]dmg.Partition, n), nil, int64(n)*sectorSize, true)
	for i := range n {
		r := damagedChunk(int64(i)*2, 1, true, nil)
		r.Damage.Err = &dmg.ChunkError{Chunk: dmg.Chunk{Method: dmg.Zlib, Offset: r.Damage.Offset, Length: sectorSize, Partition: i}, Err: dmg.ErrFormat}
		f.add(r)
		f.add(wrongSum(&dmg.ChecksumError{Part: "partition", Partition: i, Algorithm: "CRC-32", Got: []byte{1}}))
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
	d := dmg.Damage{Offset: 2<<20 - 512, Length: 1024, Lost: true, Err: &dmg.ChunkError{Chunk: dmg.Chunk{Offset: 2<<20 - 512, Length: 1024, Partition: -1}, Err: dmg.ErrFormat}}
	f.add(dmg.VerifyResult{Damage: &d, Err: d.Err})
	for i, want := range []string{"damaged", readOnly, "damaged", "damaged"} { // of the disk, then of the partitions
		if got := f.result(&f.parts[i]); got != want {
			t.Errorf("part %s: %q, want %q", f.parts[i].label, got, want)
		}
	}
}

// TestVerifyJSON has what scripts get.
func TestVerifyJSON(t *testing.T) {
	sum := `{"part":"[^"]+(\\"[^"]*\\")?","partition":(-1|\d+),"algorithm":"CRC-32","stored":"[0-9a-f]{8}","computed":("[0-9a-f]{8}","good":(true|false)|null,"good":false)}`
	for _, tt := range []struct {
		image  string
		status int
		result string
		sums   int
		rest   string
	}{
		{"good-zlib.dmg", statusOK, "good", 5, `"wrong_checksums":0,"lost":0,"doubtful":0,"unsupported":0,"ranges":\[\],"more_ranges":0,"defects":\[\]`},
		{"bad-stream.dmg", statusDamaged, "damaged", 5, `"wrong_checksums":1,"lost":0,"doubtful":8192,"unsupported":0,` +
			`"ranges":\[{"kind":"doubtful","offset":40960,"length":8192,"error":"[^"]*"}\],"more_ranges":0,"defects":\[\]`},
		{"good-no-sums.dmg", statusOK, "readable", 0, `"wrong_checksums":0,"lost":0,"doubtful":0,"unsupported":0,"ranges":\[\],"more_ranges":0,"defects":\[\]`},
		{"unsupported-1990s.dmg", statusUnsupported, "unsupported", 5, `"wrong_checksums":0,"lost":0,"doubtful":0,"unsupported":32768,` +
			`"ranges":\[({"kind":"unsupported","offset":\d+,"length":8192,"error":"[^"]*"},?){4}\],"more_ranges":0,"defects":\[\]`},
		{"none.dmg", statusIO, "error", 0, `"wrong_checksums":0,"lost":0,"doubtful":0,"unsupported":0,"ranges":\[\],"more_ranges":0,"defects":\[\],"error":"open [^"]*none.dmg: [^"]*"`},
	} {
		got := dmgRun(t, "verify", "--json", images+tt.image)
		want := fmt.Sprintf(`^{"image":"%s","result":"%s","status":%d,"checksums":\[(%s,?){%d}\],%s}\n$`,
			regexp.QuoteMeta(images+tt.image), tt.result, tt.status, sum, tt.sums, tt.rest)
		if got.status != tt.status || !regexp.MustCompile(want).MatchString(got.out) {
			t.Errorf("%s: status %d, %q, output:\n%s", tt.image, got.status, got.errOut, got.out)
		}
	}
	var errOut bytes.Buffer
	broken := &failingWriter{5, &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}}
	status := run(context.Background(), []string{"verify", "--json", images + "good-zlib.dmg"}, strings.NewReader(""), broken, &errOut)
	if status != statusIO || errOut.String() != "dmg: write /dev/stdout: "+syscall.ENOSPC.Error()+"\n" {
		t.Errorf("a full standard output: status %d, %q", status, errOut.String())
	}
}

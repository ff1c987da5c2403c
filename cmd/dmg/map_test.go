package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-dmg/dmg"
)

// chunksOf makes chunks that follow each other, from "METHOD LENGTH STORED" in
// sectors, separated by commas. That of a hole is "hole".
func chunksOf(t testing.TB, text string) []dmg.Chunk {
	t.Helper()
	methods := map[string]dmg.Method{
		"zero": dmg.Zero, "ignore": dmg.Ignore, "raw": dmg.Raw, "adc": dmg.ADC, "zlib": dmg.Zlib,
		"bzip2": dmg.Bzip2, "lzfse": dmg.LZFSE, "lzma": dmg.LZMA, "lzh": 0x80000003,
	}
	var chunks []dmg.Chunk
	off := int64(0)
	for _, s := range strings.Split(text, ",") {
		var method string
		var length, stored int64
		if n, _ := fmt.Sscan(s, &method, &length, &stored); n < 2 {
			t.Fatalf("%q is no chunk", s)
		}
		c := dmg.Chunk{Method: methods[method], Offset: off, Length: length * sectorSize, DataLength: stored * sectorSize}
		if method == "hole" {
			c.Partition = -1
		}
		chunks = append(chunks, c)
		off += c.Length
	}
	return chunks
}

func sizeOf(chunks []dmg.Chunk) int64 {
	last := chunks[len(chunks)-1]
	return last.Offset + last.Length
}

// cellsText is a word a cell: its letter, how full it is, its shade. A ! is damage,
// and cells of one chunk, that are drawn as one, have a - between them.
func cellsText(cells []cell) string {
	var b strings.Builder
	for i, c := range cells {
		if i > 0 && c == cells[i-1] {
			b.WriteByte('-')
		} else if i > 0 {
			b.WriteByte(' ')
		}
		if c.fill == 0 {
			b.WriteString(lineLooks[c.empty.look].letter)
		} else {
			fmt.Fprintf(&b, "%s%d%d", lineLooks[c.data.look].letter, c.fill, c.shade)
		}
		if c.bad {
			b.WriteByte('!')
		}
	}
	return b.String()
}

var layOutTests = []struct {
	name   string
	chunks string
	cell   int64 // sectors
	bad    []int // chunks
	want   string
}{
	{name: "one chunk", chunks: "zlib 8 3", cell: 2, want: "z41-z41-z41-z41"},
	{name: "one sector", chunks: "raw 1 1", cell: 16, want: "r43"},
	{name: "ten chunks and methods",
		chunks: "zlib 2 1,zlib 2 1,bzip2 4 1,lzfse 2 2,lzma 2 0,adc 2 2,raw 2 2,zero 2,ignore 2,lzh 2 1",
		cell:   2, want: "z41 z41 b40-b40 f43 x40 a43 r43 . - ?41"},
	{name: "the last cell is short", chunks: "zlib 3 1,zlib 2 2", cell: 4, want: "z41 z43"},
	{name: "hole at the start", chunks: "hole 4,zlib 4 1", cell: 2, want: "_-_ z40-z40"},
	{name: "hole at the end", chunks: "zlib 4 1,hole 4", cell: 2, want: "z40-z40 _-_"},
	{name: "free space and zeros differ from holes", chunks: "hole 2,zero 2,ignore 2", cell: 2, want: "_ . -"},
	{name: "a sector among zeros is seen", chunks: "zero 31,lzma 1 1,zero 32", cell: 32, want: "x13 ."},
	{name: "as full as stored", chunks: "zero 7,raw 1 1,zero 5,raw 3 3,zero 3,raw 5 5,zero 1,raw 7 7", cell: 8, want: "r13 r23 r33 r43"},
	{name: "most of what is stored", chunks: "zlib 2 2,bzip2 3 3,zlib 2 0,zero 9", cell: 16, want: "z22"},
	{name: "shades", chunks: "zlib 4 1,zlib 4 2,zlib 4 3,zlib 4 4,zlib 4 9,zlib 4 0", cell: 4, want: "z40 z41 z42 z43 z43 z40"},
	{name: "a chunk's share of its data", chunks: "zlib 8 8,zlib 8 0", cell: 16, want: "z41"},
	{name: "damage", chunks: "zlib 4 4,zlib 4 4,zlib 4 4", cell: 2, bad: []int{1}, want: "z43-z43 z43!-z43! z43-z43"},
	{name: "damage in a part of cells", chunks: "zlib 3 3,zlib 1 1,zlib 2 2,zlib 6 6", cell: 4, bad: []int{1, 2}, want: "z43! z43! z43"},
}

func TestLayOut(t *testing.T) {
	for _, tt := range layOutTests {
		t.Run(tt.name, func(t *testing.T) {
			chunks := chunksOf(t, tt.chunks)
			cells := layOut(slices.Values(chunks), sizeOf(chunks), tt.cell*sectorSize)
			for _, i := range tt.bad {
				mark(cells, tt.cell*sectorSize, diskRange{chunks[i].Offset, chunks[i].Length})
			}
			if got := cellsText(cells); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// The cells of random disks are what counting sector by sector makes of them.
func TestLayOutBySectors(t *testing.T) {
	methods := []string{"hole", "zero", "ignore", "raw", "zlib", "lzma", "lzh"}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var text []string
		for range 1 + rnd.IntN(40) {
			text = append(text, fmt.Sprintf("%s %d 0", methods[rnd.IntN(len(methods))], 1+rnd.IntN(20)))
		}
		chunks := chunksOf(t, strings.Join(text, ","))
		cellSize := int64(1 + rnd.IntN(30))
		var want []string
		for at := int64(0); at < sizeOf(chunks)/sectorSize; at += cellSize {
			var sectors [numLooks]int
			stored, all := 0, 0
			for i := at; i < at+cellSize; i++ {
				for _, c := range chunks {
					if c.Offset <= i*sectorSize && i*sectorSize < c.Offset+c.Length {
						sectors[lookOf(c)]++
						all++
						if lookOf(c).stored() {
							stored++
						}
					}
				}
			}
			commonest := func(looks []int) int { return slices.Index(looks, slices.Max(looks)) }
			if stored == 0 {
				want = append(want, lineLooks[commonest(sectors[:raw])].letter)
			} else {
				l := int(raw) + commonest(sectors[raw:])
				want = append(want, fmt.Sprintf("%s%d0", lineLooks[l].letter, (stored*fillLevels+all-1)/all))
			}
		}
		got := strings.ReplaceAll(cellsText(layOut(slices.Values(chunks), sizeOf(chunks), cellSize*sectorSize)), "-", " ")
		if want := strings.ReplaceAll(strings.Join(want, " "), "-", " "); got != want {
			t.Fatalf("%s in cells of %d:\n%s, want\n%s", text, cellSize, got, want)
		}
	}
}

// manyChunks are as many chunks of 16 sectors of all methods.
func manyChunks(n int) iter.Seq[dmg.Chunk] {
	methods := []dmg.Method{dmg.Zlib, dmg.Zero, dmg.Bzip2, dmg.ADC, dmg.LZFSE, dmg.LZMA, dmg.Raw, dmg.Ignore, dmg.LZMA + 1}
	return func(yield func(dmg.Chunk) bool) {
		for i := range n {
			c := dmg.Chunk{Method: methods[i*7919%len(methods)], Offset: int64(i) * 8192, Length: 8192, DataLength: int64(i) % 8192}
			if !yield(c) {
				return
			}
		}
	}
}

func TestLayOutManyChunks(t *testing.T) {
	const n = 200_000
	g := newGrid(n * 8192)
	cells := layOut(manyChunks(n), g.size, g.cellSize)
	if len(cells) > maxCells || len(cells) <= maxCells/2 {
		t.Fatalf("%d cells", len(cells))
	}
	for i, c := range cells {
		if c.fill == 0 {
			t.Errorf("cell %d is empty", i)
		}
	}
	// One of the dozens of chunks in a cell.
	bad := diskRange{123_456 * 8192, 8192}
	mark(cells, g.cellSize, bad)
	want := int(bad.off / g.cellSize)
	for i, c := range cells {
		if c.bad != (i == want) {
			t.Errorf("cell %d: damaged is %v", i, c.bad)
		}
	}
}

// A disk as large as can be has three chunks that are not zeros.
func TestLayOutHugeDisk(t *testing.T) {
	const size = math.MaxInt64 / sectorSize * sectorSize
	g := newGrid(size)
	chunk := func(m dmg.Method, off, length int64) dmg.Chunk {
		return dmg.Chunk{Method: m, Offset: off, Length: length, DataLength: length}
	}
	const middle = 5000 << 50
	chunks := []dmg.Chunk{
		chunk(dmg.Raw, 0, 512),
		chunk(dmg.Zero, 512, middle-512),
		chunk(dmg.Zlib, middle, 1<<50), // a cell
		chunk(dmg.Zero, middle+1<<50, size-512-(middle+1<<50)),
		chunk(dmg.LZMA, size-512, 512),
	}
	cells := layOut(slices.Values(chunks), size, g.cellSize)
	if len(cells) != maxCells || g.cellSize != 1<<50 || g.rows() != maxRows {
		t.Fatalf("%d cells of %d in %d rows", len(cells), g.cellSize, g.rows())
	}
	mark(cells, g.cellSize, diskRange{chunks[4].Offset, chunks[4].Length})
	for i, c := range cells {
		got, want := cellsText([]cell{c}), map[int]string{0: "r13", 5000: "z43", maxCells - 1: "x13!"}[i]
		if want == "" {
			want = "."
		}
		if got != want {
			t.Errorf("cell %d: %s, want %s", i, got, want)
		}
	}
}

func TestNewGrid(t *testing.T) {
	for _, tt := range []struct {
		size, cell   int64
		cols, height int
	}{
		{0, 512, 32, 0},
		{1, 512, 32, 24},
		{512, 512, 32, 24},
		{513, 512, 32, 24},
		{512 << 9, 512, 32, 384},
		{512<<9 + 1, 512, 64, 108},
		{2048 << 9, 512, 64, 384},
		{2048<<9 + 1, 512, 128, 102},
		{8192 << 9, 512, 128, 384},
		{8192<<9 + 1, 1024, 128, 198},
		{math.MaxInt64, 1 << 50, 128, 384},
	} {
		g := newGrid(tt.size)
		if g.cellSize != tt.cell || g.cols != tt.cols || g.height() != tt.height {
			t.Errorf("%d bytes: cells of %d, %d columns, height %d; want %d, %d, %d", tt.size, g.cellSize, g.cols, g.height(), tt.cell, tt.cols, tt.height)
		}
	}
}

func TestMapPartitions(t *testing.T) {
	many := make([]dmg.Partition, 40)
	for i := range many {
		many[i] = dmg.Partition{Offset: int64(i) * 100, Length: int64(1 + i%20)}
	}
	for _, tt := range []struct {
		name    string
		all     []dmg.Partition
		want    string // index:offset+length, the last of those shown
		shown   int
		omitted int
	}{
		{"none", nil, "", 0, 0},
		{"in order", []dmg.Partition{{Offset: 50, Length: 10}, {Offset: 0, Length: 50}}, "0:50+10", 2, 0},
		{"empty", []dmg.Partition{{Offset: 0, Length: 10}, {Offset: 10}}, "0:0+10", 1, 0},
		{"past the end", []dmg.Partition{{Offset: 10, Length: 5000}, {Offset: 9000, Length: 10}}, "0:10+3990", 1, 0},
		{"overflow", []dmg.Partition{{Offset: 10, Length: math.MaxInt64}}, "0:10+3990", 1, 0},
		{"too many", many, "39:3900+20", maxPartitions, 8},
	} {
		shown, omitted := mapPartitions(tt.all, 4000)
		last := ""
		if n := len(shown); n > 0 {
			last = fmt.Sprintf("%d:%d+%d", shown[n-1].index, shown[n-1].off, shown[n-1].length)
		}
		if last != tt.want || len(shown) != tt.shown || omitted != tt.omitted {
			t.Errorf("%s: %d shown, last %s, %d omitted", tt.name, len(shown), last, omitted)
		}
		if !slices.IsSortedFunc(shown, func(a, b mapPartition) int { return int(a.off - b.off) }) {
			t.Errorf("%s: not in disk order: %v", tt.name, shown)
		}
	}
}

func TestBounds(t *testing.T) {
	m := diskMap{grid: grid{size: 1000, cellSize: 10, cols: 32, pixels: 24}}
	for _, r := range []diskRange{{0, 1}, {1, 99}, {100, 205}, {400, 600}} {
		m.partitions = append(m.partitions, mapPartition{diskRange: r})
	}
	// The first ends in the cell that it begins in, the third before a gap, the last with the disk.
	if got, want := fmt.Sprint(m.bounds()), "[0 10 30 40]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		places []int
		end    int
		want   string
	}{
		{nil, 100, "[]"},
		{[]int{0, 50, 90}, 100, "[0 50 90]"},
		{[]int{0, 0, 0, 90}, 100, "[0 10 20 90]"},
		{[]int{40, 40, 45, 52}, 100, "[40 50 60 70]"},
		{[]int{0, 95, 98, 100}, 100, "[0 80 90 100]"},
		{[]int{5, 5, 5, 5}, 10, "[0 10 20 30]"}, // no room
	} {
		if got := fmt.Sprint(spread(tt.places, 10, tt.end)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.places, got, tt.want)
		}
	}
}

func TestRoundSize(t *testing.T) {
	for _, tt := range []struct {
		n, unit int64
		want    string
	}{
		{0, 512, "0"}, {512, 512, "512 B"}, {1536, 512, "1536 B"}, {1024, 1024, "1 KiB"}, {1 << 20, 1 << 10, "1024 KiB"},
		{48 << 20, 16 << 20, "48 MiB"}, {1 << 62, 1 << 60, "4 EiB"}, {15 << 59, 1 << 59, "7680 PiB"},
	} {
		if got := roundSize(tt.n, tt.unit); got != tt.want {
			t.Errorf("%d by %d: %s, want %s", tt.n, tt.unit, got, tt.want)
		}
	}
}

func TestShortened(t *testing.T) {
	for _, tt := range []struct {
		s, want string
	}{
		{"", ""}, {"12345678", "12345678"}, {"123456789", "1234567…"}, {"123456 89", "123456…"},
		{"漢字漢字", "漢字漢字"}, {"漢字漢字漢", "漢字漢…"}, {"a\x00b", `a\x00b`}, {"\u202eabcdef", `\u202ea…`},
	} {
		if got := shortened(tt.s, 8); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.s, got, tt.want)
		}
	}
}

// elements reads the document with a strict parser, and counts its elements.
func elements(t testing.TB, svg []byte) (n int, text string) {
	t.Helper()
	if !utf8.Valid(svg) {
		t.Fatal("not UTF-8")
	}
	for _, r := range string(svg) {
		if r < ' ' && r != '\n' || r == 0x7F || r >= 0x202A && r <= 0x202E {
			t.Fatalf("%U in the document", r)
		}
	}
	dec := xml.NewDecoder(strings.NewReader(string(svg)))
	var all strings.Builder
	for {
		switch token, err := dec.Token(); {
		case err == io.EOF:
			return n, all.String()
		case err != nil:
			t.Fatalf("%v at byte %d", err, dec.InputOffset())
		default:
			switch x := token.(type) {
			case xml.StartElement:
				n++
				if !slices.Contains([]string{"svg", "title", "style", "defs", "pattern", "path", "text", "g"}, x.Name.Local) {
					t.Errorf("element %s", x.Name.Local)
				}
			case xml.CharData:
				all.Write(x)
			}
		}
	}
}

// A worst case: no two neighbours look the same, every second cell is damaged, and
// every label there can be is long.
func worstMap() *diskMap {
	const size = maxCells * 4096
	m := &diskMap{name: strings.Repeat("<", 300), format: "UDZO", grid: newGrid(size), found: newFindingsOf(make([]dmg.Partition, 5000), nil, size, true), omitted: 1000}
	for i := range maxCells {
		c := cell{data: stretch{raw + look(i%7), i}, fill: 1 + i%3, shade: i / 7 % 4, empty: stretch{ignore + look(i%2), i}, bad: i%2 == 0}
		m.cells = append(m.cells, c)
	}
	for l := range numLooks {
		m.totals[l] = methodInfo{Chunks: math.MaxInt64, Bytes: math.MaxInt64, Stored: math.MaxInt64}
	}
	m.methods = []string{"0xffffffff", "0xfffffffe", "0xfffffffd", "0xfffffffc"}
	for i := range maxPartitions {
		m.partitions = append(m.partitions, mapPartition{i, strings.Repeat("]]>\x00&\xff\u202e", 100), diskRange{int64(i) * 5 * 4096, 5 * 4096}})
	}
	for i := range 5000 {
		chunk := &dmg.ChunkError{
			Chunk: dmg.Chunk{Partition: i, Offset: int64(i) * 2 * sectorSize, Length: sectorSize},
			Err:   fmt.Errorf("%s", strings.Repeat("<\x1b", 500)),
		}
		sum := &dmg.ChecksumError{Part: strings.Repeat("\n", 1000), Partition: i, Got: []byte{0}}
		m.found.add(dmg.VerifyResult{Damage: &dmg.Damage{Offset: chunk.Chunk.Offset, Length: sectorSize, Lost: true, Err: chunk}, Err: chunk})
		m.found.add(dmg.VerifyResult{Checksum: new(dmg.Checksum), Err: sum})
	}
	return m
}

func TestMapBounded(t *testing.T) {
	t.Parallel()
	svg := worstMap().svg()
	n, text := elements(t, svg)
	t.Logf("%d elements, %d bytes", n, len(svg))
	if n > 600 || len(svg) > 300<<10 {
		t.Errorf("%d elements, %d bytes", n, len(svg))
	}
	for _, want := range []string{"and 1000 smaller ones", "and 5977 more", "0xffffffff, 0xfffffffe, 0xfffffffd, …", `]]>\x00&\xff\u202e`} {
		if !strings.Contains(text, want) {
			t.Errorf("it doesn't say %q", want)
		}
	}
}

func TestMapOfManyChunks(t *testing.T) {
	t.Parallel()
	const n = 200_000
	m := &diskMap{grid: newGrid(n * 8192)}
	m.cells = layOut(manyChunks(n), m.grid.size, m.grid.cellSize)
	svg := m.svg()
	if n, _ := elements(t, svg); n > 250 || len(svg) > 200<<10 {
		t.Errorf("%d elements, %d bytes", n, len(svg))
	}
}

// All images make well-formed documents, and every partition's name is there.
func TestMapTestdata(t *testing.T) {
	t.Parallel()
	var names []string
	for _, pattern := range []string{"good-*.dmg", "unsupported-*.dmg", "containers/*.sparseimage"} {
		found, err := filepath.Glob(images + pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	if len(names) < 20 {
		t.Fatalf("%d images", len(names))
	}
	for _, name := range names {
		im, err := dmg.Open(name, &dmg.Options{Password: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		_, text := elements(t, newDiskMap(im, name).svg())
		for _, p := range im.Partitions() {
			if !strings.Contains(text, "\n"+printable(p.Name)+"\n") { // the whole name is a title
				t.Errorf("%s: no partition %q", name, p.Name)
			}
		}
		im.Close()
	}
}

// What --verify found is said above the picture.
func TestMapVerdict(t *testing.T) {
	for image, want := range map[string]string{
		"good-zlib.dmg":                "verified: no damage",
		"good-no-sums.dmg":             "readable; no checksum is stored",
		"bad-table-sum.dmg":            "damaged: 1 wrong checksum",
		"bad-stream.dmg":               "damaged: 1 wrong checksum, 8192 bytes doubtful",
		"containers/nodes.sparseimage": "readable; no checksum is stored",
		"unsupported-1990s.dmg":        "32768 bytes not checked: unsupported compression (kencode, rle, lzh, …)",
	} {
		_, text := elements(t, []byte(dmgRun(t, "map", "--verify", images+image).out))
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%s: no word of %q", image, want)
		}
		if _, text = elements(t, []byte(dmgRun(t, "map", images+image).out)); strings.Contains(text, want) {
			t.Errorf("%s: %q without --verify", image, want)
		}
	}
}

func TestMapToFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "map.svg")
	const good, bad = images + "good-zlib.dmg", images + "bad-stream.dmg"
	want := dmgRun(t, "map", good).out
	if got := dmgRun(t, "map", good, "-o", name); got != (result{}) {
		t.Fatalf("%+v", got)
	}
	wantFile(t, name, want)

	if got := dmgRun(t, "map", bad, "-o", name); got.status != statusMisuse || !strings.Contains(got.errOut, "exists: -f overwrites it") {
		t.Errorf("over a file: %+v", got)
	}
	wantFile(t, name, want)

	// Damage is an error, but the picture of it is what was asked for.
	got := dmgRun(t, "map", bad, "-f", "--verify", "--out="+name)
	if got.status != 1 || !strings.Contains(got.errOut, "damaged: 1 wrong checksum, 8192 bytes doubtful") {
		t.Errorf("with damage: %+v", got)
	}
	wantFile(t, name, dmgRun(t, "map", bad, "--verify", "-o", "-").out)

	if got := dmgRun(t, "map", images+"none.dmg", "-o", filepath.Join(dir, "no.svg")); got.status != statusIO {
		t.Errorf("of nothing: %+v", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func wantFile(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want || len(want) == 0 {
		t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
	}
}

func TestPrintLine(t *testing.T) {
	open := func(name string) *dmg.Image {
		im, err := dmg.Open(images+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { im.Close() })
		return im
	}
	for _, tt := range []struct {
		image string
		style lineStyle
		want  string
	}{
		{"good-zlib.dmg", lineStyle{width: 11}, "map: |zzzzzz..zz.|\n      . zero, z zlib; each 12.0 KiB\n"},
		{"good-zlib.dmg", lineStyle{width: 1}, "map: |z|\n      z zlib; each 132.0 KiB\n"},
		{"good-gaps.dmg", lineStyle{width: 6}, "map: |zz__zz|\n      _ in no table, z zlib; each 22.0 KiB\n"},
		{"unsupported-1990s.dmg", lineStyle{width: 11}, "map: |zzz???..zz.|\n      . zero, z zlib, ? unsupported; each 12.0 KiB\n"},
		{"good-zlib.dmg", lineStyle{6, true}, "map: |" + "\x1b[94m░\x1b[0m\x1b[94m▒\x1b[0m\x1b[94m▒\x1b[0m\x1b[90m·\x1b[0m\x1b[94m▒\x1b[0m\x1b[94m░\x1b[0m" +
			"|\n      \x1b[90m·\x1b[0m zero, \x1b[94m█\x1b[0m zlib; each 22.0 KiB, denser where less compressed\n"},
	} {
		var b strings.Builder
		if err := printLine(&b, open(tt.image), tt.style); err != nil || b.String() != tt.want {
			t.Errorf("%s, %+v: %v\n%s\nwant\n%s", tt.image, tt.style, err, &b, tt.want)
		}
	}
}

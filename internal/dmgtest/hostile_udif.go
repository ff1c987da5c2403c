package dmgtest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// small is a disk of 24 sectors in chunks of two, in all the ways that there
// are: a layout as an honest writer makes it.
func small(o Options) *Layout {
	disk := Join(Text(1, 22*SectorSize), Zeros(2*SectorSize)).Bytes()
	o.Codecs = []Method{Raw, Zlib, Bzip2, ADC, LZFSE, LZMA}
	o.ChunkSectors = 2
	o.Comments = true
	o.Partitions = []Partition{{"one (Apple_HFS : 1)", 0, 12}, {"two (Apple_Free : 2)", 12, 12}}
	l, err := Build(disk, o)
	must(err)
	return l
}

// metas are the ways in which the tables may be stored.
var metas = []struct {
	name string
	Options
}{
	{"plist", Options{}},
	{"fork", Options{Meta: ResourceOnly}},
	{"both", Options{Meta: PlistAndRsrc, Prefix: 512, TableOffset: true}},
	{"first", Options{KolyFirst: true}},
}

// kolys bends the trailer.
func (b *bender) kolys() {
	for _, meta := range metas {
		l := small(meta.Options)
		bend(&l.Koly, func(what string) { b.give(l.Bytes(), "%s/%s", meta.name, what) })
	}
	l := small(Options{})
	image := l.Bytes()
	koly := image[len(image)-KolyLen:]
	for _, n := range []int{0, 1, 4, 8, 12, 511} {
		b.give(bytes.Clone(koly[:n]), "only %d bytes of it", n)
		b.give(append(bytes.Clone(image), koly[:n]...), "%d bytes of it twice", n)
	}
	b.give(bytes.Clone(koly), "alone")
	b.give(bytes.Repeat([]byte("koly"), 1<<10), "magic only")
	b.give(bytes.Repeat(koly[:16], 100), "heads only")
	b.give(bytes.Repeat(koly, 4), "four of it")
	signed := Signing{Identifier: "x"}.Image(image)
	b.give(signed, "signed")
	for _, at := range []int{kolySignature, kolySignature + 8} {
		bendWord(signed, len(signed)-KolyLen+at, 8, func(image []byte, n uint64) { b.give(image, "signed, %#x=%#x", at, n) })
	}
	for n := 0; n < len(image); n += 61 {
		b.give(append(bytes.Clone(image[:n]), koly...), "%d bytes before it", n)
		b.give(bytes.Clone(image[:n]), "cut at %d", n)
	}
}

// mishes bends the tables' heads and an entry of each kind.
func (b *bender) mishes() {
	for _, meta := range metas[:3] {
		l := small(meta.Options)
		t := &l.Tables[0]
		bend(&t.TableHead, func(what string) { b.seal(l, "%s/head.%s", meta.name, what) })
	}
	l := small(Options{TableOffset: true})
	for i := range l.Tables {
		for k := range l.Tables[i].Chunks {
			c := &l.Tables[i].Chunks[k]
			name := fmt.Sprintf("table %d/chunk %d %v", i, k, c.Method)
			bend(c, func(what string) { b.seal(l, "%s.%s", name, what) })
		}
	}
}

// wraps are pairs of numbers that are added or multiplied somewhere, chosen for
// the sum to wrap, or to wrap around to the right one.
func (b *bender) wraps() {
	l := small(Options{Meta: PlistAndRsrc, TableOffset: true, Prefix: 1024})
	k, t := &l.Koly, &l.Tables[0]
	c := &t.Chunks[2]
	for _, p := range []struct {
		name string
		x, y *uint64
	}{
		{"table first+sectors", &t.First, &t.Sectors},
		{"table first+chunk first", &t.First, &c.Sector},
		{"chunk first+sectors", &c.Sector, &c.Sectors},
		{"chunk offset+length", &c.Offset, &c.Length},
		{"table data+chunk offset", &t.DataOffset, &c.Offset},
		{"koly data+table data", &k.DataOffset, &t.DataOffset},
		{"koly data+length", &k.DataOffset, &k.DataLength},
		{"koly fork+length", &k.RsrcOffset, &k.RsrcLength},
		{"koly plist+length", &k.PlistOffset, &k.PlistLength},
		{"koly running+data", &k.RunningOffset, &k.DataOffset},
	} {
		x, y := *p.x, *p.y
		for _, pair := range wrapping(8, x, y) {
			*p.x, *p.y = pair[0], pair[1]
			must(l.Seal())
			*p.x, *p.y = pair[0], pair[1] // those that Seal has set
			b.give(l.Bytes(), "%s/%#x+%#x", p.name, pair[0], pair[1])
			*p.x, *p.y = x, y
		}
	}
}

// withTables is an image with the given bytes as its tables, as they are.
func withTables(l *Layout, meta Meta, tables ...[]byte) *Layout {
	bent := *l
	bent.Tables, bent.Extra, bent.Meta = nil, nil, meta
	for i, t := range tables {
		bent.Extra = append(bent.Extra, Resource{Type: "blkx", ID: i, Name: "cut", Data: t})
	}
	must(bent.Seal())
	return &bent
}

// cuts are tables that are shorter than their count says, at every length.
func (b *bender) cuts() {
	l := small(Options{})
	for _, meta := range []struct {
		name string
		Meta
	}{{"plist", PlistOnly}, {"fork", ResourceOnly}} {
		table := l.Tables[0].Bytes()
		for n := range len(table) {
			b.give(withTables(l, meta.Meta, table[:n]).Bytes(), "%s/table of %d bytes", meta.name, n)
		}
		fork := withTables(l, meta.Meta, table)
		for n := range fork.Koly.RsrcLength {
			bent := *fork
			bent.Koly.RsrcLength = n
			b.give(bent.Bytes(), "fork of %d bytes", n)
		}
		for n := uint64(0); n < fork.Koly.PlistLength; n += 7 {
			bent := *fork
			bent.Koly.PlistLength = n
			b.give(bent.Bytes(), "plist of %d bytes", n)
		}
	}
}

// one is an image of one table with the chunks given, over some data.
func one(sectors int64, data []byte, chunks ...Chunk) *Layout {
	l := &Layout{Data: data, Koly: NewKoly(), Tables: []Table{NewTable("one", 0, sectors, chunks...)}}
	l.Koly.Sectors = uint64(sectors)
	must(l.Seal())
	return l
}

// repeated is a number of chunks of k sectors, one after the other on the disk,
// that share one range of data.
func repeated(n int, m Method, k uint64, data []byte) *Layout {
	chunks := make([]Chunk, n)
	for i := range chunks {
		chunks[i] = Chunk{Method: m, Sector: uint64(i) * k, Sectors: k, Length: uint64(len(data))}
	}
	return one(int64(n)*int64(k), data, chunks...)
}

func compress(m Method, data []byte) []byte {
	z, err := Compress(m, 0, data)
	must(err)
	return z
}

// chunks are tables whose chunks don't fit together.
func (b *bender) chunks() {
	l := small(Options{})
	right := l.Tables[0].Chunks
	end := right[len(right)-1]
	for _, c := range []struct {
		name   string
		chunks []Chunk
	}{
		{"none", nil},
		{"end only", []Chunk{end}},
		{"end first", slices.Insert(slices.Clone(right), 0, end)},
		{"end in the middle", slices.Insert(slices.Clone(right), 3, end)},
		{"no end", right[:len(right)-1]},
		{"two ends", append(slices.Clone(right), end)},
		{"backwards", reversed(right)},
		{"first left out", right[2:]},
		{"one left out", slices.Delete(slices.Clone(right), 3, 4)},
		{"one twice", slices.Insert(slices.Clone(right), 3, right[2])},
		{"all twice", slices.Concat(right[:len(right)-1], right)},
		{"overlap by a sector", slices.Insert(slices.Clone(right), 3, Chunk{Method: Zero, Sector: right[2].Sector + 1, Sectors: 1})},
		{"one over all", slices.Insert(slices.Clone(right), 1, Chunk{Method: Zero, Sectors: l.Tables[0].Sectors})},
		{"empty ones", slices.Insert(slices.Clone(right), 2, Chunk{Method: Zlib}, Chunk{Method: Raw, Sector: 5}, Chunk{Method: Zero, Sector: 1 << 63}, Chunk{Method: Bzip2, Offset: math.MaxUint64})},
		{"one past the table", append(slices.Clone(right), Chunk{Method: Zero, Sector: l.Tables[0].Sectors, Sectors: 1})},
		{"one after the end", append(slices.Clone(right), Chunk{Method: Zero, Sectors: 1})},
	} {
		bent := small(Options{})
		bent.Tables[0].Chunks, bent.Tables[0].Count = c.chunks, uint32(len(c.chunks))
		b.seal(bent, "%s", c.name)
	}
	const many = 100_000
	sector := Text(2, SectorSize).Bytes()
	for _, m := range []Method{Zero, Ignore, Raw, Zlib, Bzip2, ADC, LZFSE, LZMA, KenCode} {
		b.give(repeated(many, m, 1, compress(m, sector)).Bytes(), "%d %v of one range", many, m)
	}
	for _, m := range []Method{Zlib, Bzip2, ADC, LZFSE} {
		mib := compress(m, Text(3, 1<<20).Bytes())
		b.give(repeated(many, m, 2048, mib).Bytes(), "%d %v of one range, a MiB each", many, m)
	}
	l = repeated(many, Raw, 1, sector)
	slices.Reverse(l.Tables[0].Chunks)
	b.seal(l, "%d backwards", many)
	for i := range l.Tables[0].Chunks {
		l.Tables[0].Chunks[i].Sector = uint64(i/2) * 2
	}
	b.seal(l, "%d in pairs", many)
	for i := range l.Tables[0].Chunks {
		l.Tables[0].Chunks[i].Sector = 0
		l.Tables[0].Chunks[i].Sectors = many
	}
	b.seal(l, "%d each over all", many)
	for i := range l.Tables[0].Chunks {
		l.Tables[0].Chunks[i].Sectors = 0
	}
	b.seal(l, "%d empty", many)
	for i := range l.Tables[0].Chunks {
		l.Tables[0].Chunks[i] = Chunk{Method: Comment, Sector: uint64(i)}
	}
	b.seal(l, "%d comments", many)
	const wide = 1 << 54 / many
	l = repeated(many, Zero, wide, nil)
	b.seal(l, "%d that fill the largest disk", many)
	for i := range l.Tables[0].Chunks {
		l.Tables[0].Chunks[i].Sectors = 1
	}
	b.seal(l, "%d with gaps on the largest disk", many)
}

func reversed(chunks []Chunk) []Chunk {
	chunks = slices.Clone(chunks)
	slices.Reverse(chunks)
	return chunks
}

// tables are block tables that don't fit together.
func (b *bender) tables() {
	zero := func(n uint64) Chunk { return Chunk{Method: Zero, Sectors: n} }
	build := func(sectors uint64, tables ...Table) *Layout {
		l := one(0, Text(4, 4096).Bytes())
		l.Tables, l.Koly.Sectors = tables, sectors
		return l
	}
	b.seal(build(24), "none")
	b.seal(build(24, NewTable("", 0, 24, zero(24)), NewTable("", 0, 24, zero(24))), "two of one place")
	b.seal(build(24, NewTable("", 0, 24), NewTable("", 0, 24, zero(24))), "an empty one over another")
	b.seal(build(24, NewTable("", 12, 12, zero(12)), NewTable("", 0, 12, zero(12))), "backwards")
	b.seal(build(24, NewTable("", 0, 13, zero(12)), NewTable("", 12, 12, zero(12))), "overlap by an unused sector")
	b.seal(build(1, NewTable("", 0, 24, zero(24))), "a disk smaller than its table")
	for _, n := range []int64{1<<54 - 1, 1 << 53, 1 << 32} {
		for _, kind := range []SumType{CRC32, MD5, SHA512} {
			t := NewTable("", 0, n, zero(uint64(n)))
			t.Checksum.Type, t.Checksum.Bits = kind, 32
			if kind != CRC32 {
				t.Checksum.Bits = 512
			}
			b.seal(build(uint64(n), t), "a checksum of type %d over %d zeros", kind, n)
			t.Chunks, t.Count = nil, 0
			b.seal(build(uint64(n), t), "a checksum of type %d over a gap of %d", kind, n)
		}
	}
	const many = 10_000 // each is three tags and more of the plist
	rows := []struct {
		name  string
		table func(i int) Table
	}{
		{"empty ones", func(int) Table { return NewTable("", 0, 0) }},
		{"nested ones", func(i int) Table { return NewTable("", int64(i), 2*int64(many-i)) }},
		{"of one sector each", func(i int) Table { return NewTable("", int64(i), 1, zero(1)) }},
		{"over the whole disk each", func(int) Table { return NewTable("", 0, 1<<54-1) }},
		{"with gaps", func(i int) Table { return NewTable("", int64(i)<<40, 1<<39, zero(1)) }},
	}
	for _, row := range rows {
		l := build(many)
		for i := range many {
			t := row.table(i)
			t.Checksum.Type, t.Checksum.Bits = MD5, 128
			l.Tables = append(l.Tables, t)
		}
		b.seal(l, "%d %s", many, row.name)
	}
}

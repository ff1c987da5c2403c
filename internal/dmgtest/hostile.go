package dmgtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/go-dmg/dmg/internal/dmgtest/adcenc"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// HostileImage is an image made to harm its reader.
type HostileImage struct {
	Name  string // of its own: the class, what is bent, and to what
	Class string // what it aims at, such as "koly" or "bomb"
	Image []byte
	Rest  [][]byte    // the further files of an image that is split; see SegmentName
	Dir   []NamedFile // what is in a sparse bundle, which has no Image
	Index []byte      // saved checkpoints for an image that is sound
}

// NamedFile is a file of a directory.
type NamedFile struct {
	Name string // with slashes
	Data []byte
}

// HostilePassword opens those of the hostile images that are encrypted.
const HostilePassword = "hostile"

// Hostile makes hostile images, the same ones every time: each field of each
// structure bent to the numbers at which arithmetic breaks, structures that lie
// about each other, and data that decodes to far more, or far more slowly, than
// its size lets expect. Most are a few kilobytes, the bombs up to 32 MiB. Classes to
// leave out are not made, for some take long.
func Hostile(leaveOut ...string) iter.Seq[HostileImage] {
	return func(yield func(HostileImage) bool) {
		b := &bender{yield: yield, given: make(map[string]bool)}
		for _, class := range hostileClasses {
			if b.class = class.name; !b.stopped && !slices.Contains(leaveOut, class.name) {
				class.give(b)
			}
		}
	}
}

var hostileClasses = []struct {
	name string
	give func(*bender)
}{
	{"koly", (*bender).kolys},
	{"mish", (*bender).mishes},
	{"wrap", (*bender).wraps},
	{"cut", (*bender).cuts},
	{"chunks", (*bender).chunks},
	{"tables", (*bender).tables},
	{"plist", (*bender).plists},
	{"plist size", (*bender).longPlists},
	{"fork", (*bender).forks},
	{"encrypted", (*bender).encrypted},
	{"sparse", (*bender).sparse},
	{"bundle", (*bender).bundles},
	{"segments", (*bender).segments},
	{"raw", (*bender).raw},
	{"stream", (*bender).streams},
	{"xz", (*bender).xz},
	{"bomb", (*bender).bombs},
	{"slow", (*bender).slow},
}

// HostileClasses are the classes of Hostile's images, and "index", that of
// HostileIndexes, in the order in which they come.
func HostileClasses() []string {
	var names []string
	for _, class := range hostileClasses {
		names = append(names, class.name)
	}
	return append(names, "index")
}

// A bender gives the images of one class after the other.
type bender struct {
	class   string
	yield   func(HostileImage) bool
	given   map[string]bool // names: two ways of bending may lead to the same
	stopped bool
}

func (b *bender) give(image []byte, name string, args ...any) {
	b.giveFiles(image, nil, name, args...)
}

func (b *bender) giveFiles(image []byte, rest [][]byte, name string, args ...any) {
	b.giveImage(HostileImage{Image: image, Rest: rest}, name, args...)
}

func (b *bender) giveImage(h HostileImage, name string, args ...any) {
	h.Class, h.Name = b.class, b.class+"/"+fmt.Sprintf(name, args...)
	if !b.stopped && !b.given[h.Name] {
		b.given[h.Name] = true
		b.stopped = !b.yield(h)
	}
}

// seal gives the image that l is with its tables as they are now.
func (b *bender) seal(l *Layout, name string, args ...any) {
	must(l.Seal())
	b.give(l.Bytes(), name, args...)
}

// numbers are those at which arithmetic of a width breaks: the ends of signed
// and unsigned types, those of sectors whose bytes no longer fit (2^54, 2^55),
// and the neighbours of the right one.
func numbers(width int, right uint64) []uint64 {
	top := uint64(1)<<(width*8-1)<<1 - 1
	all := []uint64{0, 1, top>>1 - 1, top >> 1, top>>1 + 1, top - 1, top, right - 1, right + 1, right * 2}
	if width == 8 {
		all = append(all, 1<<31, 1<<32-1, 1<<32, 1<<54-1, 1<<54, 1<<55, -right)
	}
	for i := range all {
		all[i] &= top
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(v uint64) bool { return v == right })
}

// fields calls f for each number in the struct that v points to, and puts back
// what it was. Of byte arrays the first and the last are numbers.
func fields(v any, f func(name string, field reflect.Value)) {
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Array:
			walk(name+".0", v.Index(0))
			walk(fmt.Sprintf("%s.%d", name, v.Len()-1), v.Index(v.Len()-1))
		default:
			f(name[1:], v)
		}
	}
	walk("", reflect.ValueOf(v).Elem())
}

// bend calls give with each number of the struct that v points to bent in turn.
func bend(v any, give func(what string)) {
	fields(v, func(name string, field reflect.Value) {
		right := field.Uint()
		for _, n := range numbers(int(field.Type().Size()), right) {
			field.SetUint(n)
			give(fmt.Sprintf("%s=%#x", name, n))
		}
		field.SetUint(right)
	})
}

// bendWord calls give with copies of image in which the big-endian number of
// some bytes at an offset is bent.
func bendWord(image []byte, at, width int, give func(image []byte, n uint64)) {
	w := word{at, width, false}
	for _, n := range numbers(width, w.of(image)) {
		give(w.put(image, n), n)
	}
}

// A word is a number in an image: where it is, how many bytes it has, and whether
// the lowest comes first.
type word struct {
	at, width int
	little    bool
}

func (w word) of(image []byte) uint64 {
	var b [8]byte
	copy(b[8-w.width:], image[w.at:w.at+w.width])
	if w.little {
		slices.Reverse(b[8-w.width:])
	}
	return binary.BigEndian.Uint64(b[:])
}

// put returns a copy of the image in which the number is n.
func (w word) put(image []byte, n uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	if w.little {
		slices.Reverse(b[8-w.width:])
	}
	image = bytes.Clone(image)
	copy(image[w.at:], b[8-w.width:])
	return image
}

// bendPair calls give with copies of image in which two numbers are bent whose
// sum or product a reader forms.
func bendPair(image []byte, x, y word, give func(image []byte, what string)) {
	for _, p := range wrapping(min(x.width, y.width), x.of(image), y.of(image)) {
		give(y.put(x.put(image, p[0]), p[1]), fmt.Sprintf("%#x=%#x, %#x=%#x", x.at, p[0], y.at, p[1]))
	}
}

// wrapping are pairs of numbers of a width whose sum wraps, or wraps around to
// that of the right ones, x and y.
func wrapping(width int, x, y uint64) [][2]uint64 {
	top := uint64(1)<<(width*8-1)<<1 - 1
	half := top >> 1
	all := [][2]uint64{
		{top, 1}, {1, top}, {top, top}, {half + 1, half + 1}, {half, 1}, {1, half}, {half, half},
		{top - y + 1, y}, {x, top - x + 1}, {top - y + 2, y},
		{x + 5, y - x - 5 + x}, {x - (half + 1), y + half + 1}, {x - 512, y + 512},
	}
	if width == 8 { // sectors whose bytes wrap
		all = append(all, [][2]uint64{{1 << 55, y}, {x, 1 << 55}, {1<<54 - 1, 1}, {1 << 54, 1 << 54}, {1 << 55, 1 << 55}, {x + 1<<55, y - 1<<55}}...)
	}
	for i := range all {
		all[i][0] &= top
		all[i][1] &= top
	}
	return all
}

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

// withPlist is an image with that property list.
func withPlist(xml string) []byte {
	l := one(2, Text(5, 1024).Bytes(), Chunk{Method: Raw, Sectors: 2, Length: 1024})
	l.Plist = []byte(xml)
	l.Koly.PlistLength = uint64(len(xml))
	return l.Bytes()
}

// blkx is a property list with that as the array of block tables.
func blkx(array string) string {
	return plistHead + "<dict><key>resource-fork</key><dict><key>blkx</key>" + array + "</dict></dict></plist>"
}

// entry is a property list with that as its one block table.
func entry(dict string) string { return blkx("<array>" + dict + "</array>") }

// data is a property list with that in its one block table's data element.
func data(content string) string {
	return entry("<dict><key>Data</key><data>" + content + "</data></dict>")
}

// goodTable is the table of withPlist's disk in base64.
func goodTable() string {
	t := NewTable("", 0, 2, Chunk{Method: Raw, Sectors: 2, Length: 1024})
	return base64.StdEncoding.EncodeToString(t.Bytes())
}

// plists are bent as XML, as base64 and as property lists.
func (b *bender) plists() {
	good := goodTable()
	row := "<dict><key>Attributes</key><string>0x0050</string><key>CFName</key><string>n</string><key>Data</key><data>" + good +
		"</data><key>ID</key><string>0</string><key>Name</key><string>n</string></dict>"
	for i, part := range []string{"0", "1", "2", "3", "=", "==", "===", "====", "A", "AA", "AA=", "A===", "AAAA=", "AAA", " ", "\n\n", "\x00", "é", "-_-_", "A\x00AA", "A A A A", "&#65;AAA", "&amp;", "<!-- x -->", "<![CDATA[AAAA]]>", "<![CDATA[]]>"} {
		b.give(withPlist(data(part)), "data %d %q", i, part)
		b.give(withPlist(data(good+part)), "data and %d %q", i, part)
		b.give(withPlist(data(part+good)), "data after %d %q", i, part)
	}
	for n := range 16 {
		b.give(withPlist(data(good[:len(good)-n])), "data without its last %d", n)
	}
	for _, key := range []string{"Attributes", "CFName", "Data", "ID", "Name"} {
		at := strings.Index(row, "<key>"+key)
		next := at + 5 + strings.Index(row[at+5:]+"<key>", "<key>")
		next = min(next, len(row)-len("</dict>"))
		field := row[at:next]
		b.give(withPlist(entry(row[:at]+row[next:])), "without %s", key)
		b.give(withPlist(entry(row[:next]+field+row[next:])), "%s twice", key)
		for _, v := range []string{"<integer>1</integer>", "<integer>99999999999999999999</integer>", "<integer>-0x8000000000000000</integer>", "<real>nan</real>", "<real>1e999999999</real>", "<true/>", "<array/>", "<dict/>", "<string/>", "<data/>", "<date>x</date>", "<foo/>", "<key>x</key>", "", "x"} {
			b.give(withPlist(entry(row[:at]+"<key>"+key+"</key>"+v+row[next:])), "%s is %s", key, v)
		}
	}
	for _, name := range []string{"\xff\xfe", "\xc0\x80", "\xed\xa0\x80", "\xef\xbf\xbf", "\x00", "\x01\x1f", "&#0;", "&#xFFFFFFFF;", "&#x110000;", "&lt;&gt;", "&nbsp;", "&a;", "&", "&#;", "]]>", strings.Repeat("n", 1<<20), strings.Repeat("&amp;", 1<<18)} {
		b.give(withPlist(entry("<dict><key>Name</key><string>"+name+"</string><key>Data</key><data>"+good+"</data></dict>")), "name %.20q of %d", name, len(name))
	}
	for _, v := range []string{"", "x", "<dict/>", "<array/>", "<true/>", "<string>x</string>", "<data/>", "<integer>1</integer>", "<array>x</array>", "<array><true/></array>", "<array><array/></array>", "<array><data>" + good + "</data></array>", "<array><dict/></array>", "<array>" + row, "<array>" + row + "</dict></array>", "<array>" + row + "</array><key>blkx</key><array>" + row + "</array>", "<array>" + row + "</array></dict><key>resource-fork</key><dict><key>blkx</key><array>" + row + "</array>"} {
		b.give(withPlist(blkx(v)), "blkx is %.40s of %d", v, len(v))
	}
	for i, v := range documents {
		b.give(withPlist(v), "document %d %.40q", i, v)
	}
	b.give(withPlist("\xef\xbb\xbf"+entry(row)), "byte order mark")
	b.give(withPlist(entry(row)+"\x00\x00<"), "junk after it")
	b.give(withPlist(strings.ToUpper(entry(row))), "capitals")
}

// documents are no property lists, or ones of a kind that no image has.
var documents = []string{
	"", " ", "\x00", "<", ">", "<>", "</", "<?", "<!", "<!-", "<!--", "<![CDATA[", "<plist", "<plist>", "<plist/>", "<plist></plist>", "<dict/>", "<plist><dict/></plist>",
	"bplist00", "bplist00\xd1\x01\x02", "bplist00" + strings.Repeat("\xff", 43), "bplist00\xaf\x13\x7f\xff\xff\xff\xff\xff\xff\xff" + strings.Repeat("\x00", 24) + "\x00\x00\x00\x01", "((((((((", "{a=b;}", "<[AAAA]>", "<*I1>",
	"\xff\xfe<\x00p\x00", "\xfe\xff\x00<\x00p", "<?xml version=\"9.9\" encoding=\"UTF-7\"?><plist/>", "<?xml encoding=\"EBCDIC\"?><plist><dict/></plist>",
	`<!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><plist><string>&c;</string></plist>`,
	`<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]><plist><string>&a;</string></plist>`,
	`<!DOCTYPE plist SYSTEM "file:///dev/zero"><plist><dict/></plist>`,
	"<plist><dict><key>resource-fork</key></dict></plist>", "<plist><dict><key/></dict></plist>", "<plist><dict><true/></dict></plist>", "<plist><array/></plist>",
	"<plist><dict><key>resource-fork</key><string>x</string></dict></plist>", "<plist><dict><key>resource-fork</key><array/></dict></plist>", "<plist><plist><dict/></plist></plist>",
}

// longPlists are property lists that are small for what they make a reader do,
// or just large.
func (b *bender) longPlists() {
	nest := func(tag string, n int) string {
		return strings.Repeat("<"+tag+">", n) + strings.Repeat("</"+tag+">", n)
	}
	for _, tag := range []string{"array", "dict", "plist", "string", "key", "x"} {
		for _, n := range []int{12, 17, 100, 10_000} {
			b.give(withPlist(entry(nest(tag, n))), "%d of %s nested", n, tag)
		}
	}
	for _, s := range []struct {
		name, unit string
		size       int
	}{
		{"arrays open", "<array>", 5 << 20},
		{"empty dicts", "<dict/>", 8 << 20},
		{"empty dicts as many as may be", "<dict/>", 7 * 65_000},
		{"keys", "<key>x</key><true/>", 8 << 20},
		{"comments", "<!-- -->", 8 << 20},
		{"long comment", "x", 8 << 20},
		{"CDATA", "<![CDATA[x]]>", 8 << 20},
		{"entities", "&amp;", 8 << 20},
		{"spaces", " ", 31 << 20},
		{"data opened", "<data>", 4 << 20},
		{"data opened and an entity", "<data>&", 4 << 20},
		{"data closed", "</data>", 4 << 20},
		{"too many spaces", " ", 33 << 20},
	} {
		text := strings.Repeat(s.unit, s.size/len(s.unit))
		if s.name == "long comment" {
			text = "<!--" + text + "-->"
		}
		b.give(withPlist(entry(text)), "%s, %d bytes", s.name, s.size)
		if strings.HasPrefix(s.name, "data ") {
			b.give(withPlist(entry("<!--"+text+strings.Repeat(" ", 27<<20)+"</data>-->")), "%s in a comment that is long", s.name)
		}
	}
	for _, n := range []int{4 << 10, 5 << 10, 1 << 20} {
		b.give(withPlist(entry("<dict"+strings.Repeat(" ", n)+"/>")), "tag of %d", n)
		b.give(withPlist(entry(`<dict a="`+strings.Repeat("x", n)+`"/>`)), "attribute of %d", n)
	}
	chunk := Chunk{Method: Zero, Sectors: 1}
	for _, n := range []int{100_000, 500_000} {
		t := NewTable("", 0, int64(n))
		t.Chunks, t.Count = slices.Repeat([]Chunk{chunk}, n), uint32(n)
		for i := range t.Chunks {
			t.Chunks[i].Sector = uint64(i)
		}
		b.give(withPlist(data(base64.StdEncoding.EncodeToString(t.Bytes()))), "table of %d chunks", n)
	}
	b.give(withPlist(data(strings.Repeat("A", 31<<20))), "data of 31 MiB")
	b.give(withPlist(strings.Replace(data(strings.Repeat("A", 31<<20)), "<data>", "<data >", 1)), "odd data of 31 MiB")
	b.give(withPlist(entry("<dict><key>Name</key><string>"+strings.Repeat("x", 31<<20)+"</string></dict>")), "name of 31 MiB")

	// Every name for the content of a data element that a reader may have put
	// aside, so that many small elements stand for one large one.
	var rows strings.Builder
	mark := base64.StdEncoding.EncodeToString([]byte("lifted 0"))
	for range 16_000 {
		rows.WriteString("<dict><key>Data</key><data ><![CDATA[" + mark + "]]></data></dict>")
	}
	first := "<dict><key>Data</key><data>" + strings.Repeat("A", 4<<20) + "</data></dict>"
	b.give(withPlist(entry(first+rows.String())), "16000 names for one datum of 3 MiB")
}

// forks bends the resource fork byte by byte up to the last reference: header,
// first datum's length, map, type list and references.
func (b *bender) forks() {
	l := small(Options{Meta: ResourceOnly})
	fork := l.Rsrc
	be := binary.BigEndian
	dataAt, mapAt := int(be.Uint32(fork)), int(be.Uint32(fork[4:]))
	types := mapAt + int(be.Uint16(fork[mapAt+24:]))
	refs := types + int(be.Uint16(fork[types+8:]))
	bent := func(at, width int, name string) {
		bendWord(fork, at, width, func(fork []byte, n uint64) {
			l := *l
			l.Rsrc = fork
			b.give(l.Bytes(), "%s=%#x", name, n)
		})
	}
	for at := 0; at < 16; at += 4 {
		bent(at, 4, fmt.Sprintf("header %d", at))
		bent(mapAt+at, 4, fmt.Sprintf("header's copy %d", at))
	}
	bent(dataAt, 4, "datum length")
	for _, f := range []struct {
		name      string
		at, width int
	}{
		{"type list", mapAt + 24, 2}, {"name list", mapAt + 26, 2}, {"type count", types, 2},
		{"type", types + 2, 4}, {"reference count", types + 6, 2}, {"reference list", types + 8, 2},
		{"id", refs, 2}, {"name", refs + 2, 2}, {"attributes", refs + 4, 1}, {"datum", refs + 5, 3}, {"handle", refs + 8, 4},
		{"second name", refs + 14, 2}, {"second datum", refs + 17, 3},
	} {
		bent(f.at, f.width, f.name)
	}
	for _, size := range []int{0, 204, 64 << 10, 1 << 20, 8 << 20} {
		l := *l
		l.Rsrc = sharedFork(size)
		l.Koly.RsrcLength = uint64(len(l.Rsrc))
		b.give(l.Bytes(), "65536 references to one datum of %d", size)
	}
	wide := *l
	wide.Rsrc = append(bytes.Clone(fork), make([]byte, 33<<20)...)
	wide.Koly.RsrcLength = uint64(len(wide.Rsrc))
	b.give(wide.Bytes(), "33 MiB")
}

// sharedFork is a resource fork in which 65536 references are to one datum, a
// table of that many bytes.
func sharedFork(size int) []byte {
	n := max(0, size-MishLen) / ChunkLen
	t := NewTable("", 0, int64(n), slices.Repeat([]Chunk{{Method: Zero, Sectors: 1}}, n)...)
	for i := range t.Chunks {
		t.Chunks[i].Sector = uint64(i)
	}
	datum := t.Bytes()[:min(size, len(t.Bytes()))]
	be := binary.BigEndian
	data := append(be.AppendUint32(nil, uint32(len(datum))), datum...)
	lists := append([]byte{0, 0}, "blkx\xff\xff\x00\x0a"...)
	lists = append(lists, make([]byte, 12<<16)...)
	return joinFork(data, lists, nil)
}

// encrypted bends the words of both kinds of encryption header, and what is in
// the image that they hide.
func (b *bender) encrypted() {
	inner := small(Options{})
	e := Encryption{Password: HostilePassword, Iterations: 10, BlockSize: 512, DataOffset: 1536}
	for _, aesWrap := range []bool{false, true} {
		e.AESWrap = aesWrap
		image := e.Image(inner.Bytes())
		for at := 8; at < 0x4C+20+v2BlobAt+8; at += 4 {
			bendWord(image, at, 4, func(image []byte, n uint64) {
				b.give(image, "v2, AES wrap %v, word %#x=%#x", aesWrap, at, n)
			})
		}
		for _, at := range []int{0x38, 0x40, 0x50, 0x58} {
			bendWord(image, at, 8, func(image []byte, n uint64) {
				b.give(image, "v2, AES wrap %v, %#x=%#x", aesWrap, at, n)
			})
		}
		record := 0x4C + 20
		for _, p := range [][2]word{
			{{0x40, 8, false}, {0x38, 8, false}},                                    // where the data is
			{{0x50, 8, false}, {0x58, 8, false}},                                    // where a key's record is
			{{record + 0x0C, 4, false}, {record + 0x30, 4, false}},                  // salt and vector
			{{record + v2BlobAt - 4, 4, false}, {record + v2BlobAt - 20, 4, false}}, // wrapped key, and bits of what wraps it
		} {
			bendPair(image, p[0], p[1], func(image []byte, what string) { b.give(image, "v2, AES wrap %v, %s", aesWrap, what) })
		}
		for n := 0; n < 1536; n += 97 {
			b.give(image[:n], "v2, AES wrap %v, cut at %d", aesWrap, n)
		}
	}
	e.AESWrap, e.Version = false, 1
	image := e.Image(inner.Bytes())
	trailer := len(image) - v1Len
	var words []int
	for at := 0x10; at < 0x60; at += 4 {
		words = append(words, at)
	}
	for rec := range 3 {
		for at := 0; at < 48; at += 4 {
			words = append(words, 0x60+rec*v1RecordLen+at)
		}
	}
	for at := 0x4E8; at < v1Len; at += 4 {
		words = append(words, at)
	}
	for _, at := range words {
		bendWord(image, trailer+at, 4, func(image []byte, n uint64) { b.give(image, "v1, word %#x=%#x", at, n) })
	}
	bendWord(image, trailer+0x4E8, 8, func(image []byte, n uint64) { b.give(image, "v1, 0x4e8=%#x", n) })
	bendPair(image, word{trailer + 0x4EC, 4, false}, word{trailer + 0x10, 4, false}, func(image []byte, what string) { b.give(image, "v1, size and block size %s", what) })
	e.Version = 2
	b.decoys(e, inner)
	for what, bent := range map[string]func(*Layout){
		"a disk of 2^54-1 sectors": func(l *Layout) { l.Koly.Sectors = 1<<54 - 1 },
	} {
		l := small(Options{})
		bent(l)
		b.give(e.Image(l.Bytes()), "v2, inside %s", what)
	}
	twice := e.Image(e.Image(inner.Bytes()))
	b.give(twice, "v2 in v2")
	for range 20 {
		twice = e.Image(twice)
	}
	b.give(twice, "v2 in v2, 22 times")
}

// decoys are headers with many keys, each of which asks for much work.
func (b *bender) decoys(e Encryption, inner *Layout) {
	for _, keys := range []int{2, 64, 1000} {
		for _, iterations := range []uint32{100_000, 9_999_999, 1<<31 - 1, math.MaxUint32} {
			e.Decoys, e.DataOffset = keys, 0
			image := e.Image(inner.Bytes())
			for i := range keys {
				put32(image[0x4C+20*(keys+1)+v2RecordLen*i+8:], iterations)
			}
			b.give(image, "v2, %d keys of %d iterations", keys+1, iterations)
		}
	}
}

// sparse bends the nodes of a sparse image.
func (b *bender) sparse() {
	disk := Text(6, 64<<10).Bytes()
	image := SparseImage(disk, SparseOptions{BandSectors: 16, NodeIDs: 2})
	second := int(binary.BigEndian.Uint64(image[0x14:]))
	for _, node := range []int{0, second} {
		for at := 0; at < 0x48; at += 4 {
			bendWord(image, node+at, 4, func(image []byte, n uint64) { b.give(image, "node at %d, word %#x=%#x", node, at, n) })
		}
		for _, at := range []int{0x0C, 0x14, 0x1C} {
			bendWord(image, node+at, 8, func(image []byte, n uint64) { b.give(image, "node at %d, %#x=%#x", node, at, n) })
		}
		for _, next := range []int{node, 0, 4096, second, second + 512, len(image), len(image) - 4096, len(image) - 1} {
			for _, at := range []int{0x0C, 0x14} {
				bent := bytes.Clone(image)
				binary.BigEndian.PutUint64(bent[node+at:], uint64(next))
				b.give(bent, "node at %d, %#x, next at %d", node, at, next)
			}
		}
	}
	for _, p := range [][2]word{
		{{0x08, 4, false}, {sparseIDsAt, 4, false}},   // band size and a band's place
		{{0x08, 4, false}, {0x10, 4, false}},          // and the disk's
		{{0x10, 4, false}, {0x20, 4, false}},          // the disk's, twice
		{{0x14, 8, false}, {second + 0x0C, 8, false}}, // links
	} {
		bendPair(image, p[0], p[1], func(image []byte, what string) { b.give(image, "%s", what) })
	}
	full := bytes.Clone(image)
	for i := range sparseFirst {
		binary.BigEndian.PutUint32(full[sparseIDsAt+4*i:], uint32(i+1))
	}
	b.give(full, "more bands than there is file")
	for i := range sparseFirst {
		binary.BigEndian.PutUint32(full[sparseIDsAt+4*i:], 1)
	}
	b.give(full, "one band a thousand times")
	for n := 0; n < len(image); n += 509 {
		b.give(image[:n], "cut at %d", n)
	}
	b.give(slices.Concat(image[:4096], bytes.Repeat(image[second:second+4096], 2000)), "nodes only")
}

// bundles bends the property list of a sparse bundle, its token, and its bands.
func (b *bender) bundles() {
	const bandSize, size = 4096, 5*4096 - 512
	disk := Text(6, size).Bytes()
	files := func(info string, token []byte) []NamedFile {
		all := []NamedFile{{"Info.plist", []byte(info)}, {"token", token}}
		for i := range 3 { // the others are holes
			all = append(all, NamedFile{fmt.Sprintf("bands/%x", 2*i), bandOf(disk, 2*i, bandSize)})
		}
		return all
	}
	give := func(all []NamedFile, name string, args ...any) {
		b.giveImage(HostileImage{Dir: all}, name, args...)
	}
	good := fmt.Sprintf(bundleInfo, bandSize, size)
	for _, f := range []struct{ key, right string }{
		{"band-size", "<integer>4096</integer>"}, {"size", fmt.Sprintf("<integer>%d</integer>", size)},
		{"bundle-backingstore-version", "<integer>1</integer>"}, {"diskimage-bundle-type", "<string>com.apple.diskimage.sparsebundle</string>"},
	} {
		field := "<key>" + f.key + "</key>\n\t" + f.right
		for _, n := range numbers(8, bandSize) {
			for _, v := range []string{fmt.Sprintf("<integer>%d</integer>", n), fmt.Sprintf("<integer>-%d</integer>", n), fmt.Sprintf("<string>%d</string>", n)} {
				give(files(strings.Replace(good, field, "<key>"+f.key+"</key>"+v, 1), nil), "%s is %s", f.key, v)
			}
		}
		for _, v := range []string{"<integer>99999999999999999999</integer>", "<integer>0x7FFFFFFFFFFFFFFF</integer>", "<integer/>", "<real>4096.5</real>", "<real>1e999</real>", "<real>nan</real>", "<true/>", "<array/>", "<dict/>", "<data/>", "<date>x</date>", ""} {
			give(files(strings.Replace(good, field, "<key>"+f.key+"</key>"+v, 1), nil), "%s is %s", f.key, v)
		}
		give(files(strings.Replace(good, field, "", 1), nil), "without %s", f.key)
		give(files(strings.Replace(good, field, field+field, 1), nil), "%s twice", f.key)
	}
	for _, p := range wrapping(8, bandSize, size) {
		give(files(fmt.Sprintf(bundleInfo, p[0], p[1]), nil), "bands of %#x for a disk of %#x", p[0], p[1])
	}
	for i, v := range documents {
		give(files(v, nil), "document %d %.40q", i, v)
	}
	for n := 0; n < len(good); n += 13 {
		give(files(good[:n], nil), "Info.plist cut at %d", n)
	}
	b.bands(files(good, nil), give)
	b.tokens(func(token []byte) []NamedFile { return files(good, token) }, size, give)
}

// bands are files of other names and sizes than those of bands.
func (b *bender) bands(files []NamedFile, give func([]NamedFile, string, ...any)) {
	long := bytes.Repeat([]byte("long"), 64<<10)
	for _, name := range []string{"bands/00", "bands/1", "bands/A", "bands/-1", "bands/+1", "bands/0x1", "bands/5", "bands/7fffffffffffffff", "bands/8000000000000000", "bands/ffffffffffffffff", "bands/10000000000000000", "bands/1/2", "bands/" + strings.Repeat("f", 200), "Info.bckup", "lock"} {
		give(append(slices.Clip(files), NamedFile{name, long}), "and %.40s", name)
	}
	for i, f := range files {
		give(slices.Delete(slices.Clone(files), i, i+1), "without %s", f.Name)
		for _, n := range []int{0, 1, 511, len(f.Data) + 1} {
			bent := slices.Clone(files)
			bent[i].Data = append(bytes.Clone(f.Data), 0)[:min(n, len(f.Data)+1)]
			give(bent, "%s of %d bytes", f.Name, len(bent[i].Data))
		}
		bent := slices.Clone(files)
		bent[i].Data = long
		give(bent, "%s of %d bytes", f.Name, len(long))
		bent[i] = NamedFile{f.Name + "/x", nil}
		give(bent, "%s a directory", f.Name)
	}
	many := slices.Clone(files)
	for i := range 500 {
		many = append(many, NamedFile{fmt.Sprintf("bands/%x", int64(1)<<40+int64(i)), nil})
	}
	give(many, "500 bands past the end")
}

// tokens are encryption headers that have no data of their own.
func (b *bender) tokens(files func(token []byte) []NamedFile, size int, give func([]NamedFile, string, ...any)) {
	for _, version := range []int{1, 2} {
		e := Encryption{Password: HostilePassword, Version: version, Iterations: 10, BlockSize: 512, DataOffset: 1536}
		token := e.Token(size)
		for n := 0; n <= len(token); n += 199 {
			give(files(token[:n]), "token of version %d cut at %d", version, n)
		}
		words := []word{{0x34, 4, false}, {0x38, 8, false}, {0x40, 8, false}, {0x48, 4, false}, {0x50, 8, false}, {0x58, 8, false}}
		if version == 1 {
			words = []word{{0x10, 4, false}, {0x30, 4, false}, {0x34, 4, false}, {0x4E8, 8, false}, {0x4F0, 4, false}}
		}
		for _, w := range words {
			bendWord(token, w.at, w.width, func(token []byte, n uint64) {
				give(files(token), "token of version %d, %#x=%#x", version, w.at, n)
			})
		}
	}
}

// segments bends what the files of a split image say of each other.
func (b *bender) segments() {
	l, err := Build(Random(7, 24*SectorSize).Bytes(), Options{Codecs: []Method{Raw, Zlib}, ChunkSectors: 2})
	must(err)
	files := l.Segments(4096)
	give := func(bent [][]byte, name string, args ...any) {
		if len(bent) > 0 {
			b.giveFiles(bent[0], bent[1:], name, args...)
		}
	}
	for i, file := range files {
		koly := len(file) - KolyLen
		with := func(koly []byte, what string) {
			bent := slices.Clone(files)
			bent[i] = append(bytes.Clone(file[:len(file)-KolyLen]), koly...)
			give(bent, "file %d, %s", i+1, what)
		}
		var k Koly
		_, err := binary.Decode(file[koly:], binary.BigEndian, &k)
		must(err)
		bend(&k, func(what string) { with(k.Bytes(), what) })
		for _, p := range [][2]word{
			{{0x10, 8, false}, {0x20, 8, false}}, // running offset, data length
			{{0x18, 8, false}, {0x20, 8, false}}, // data offset, length
			{{0x10, 8, false}, {0x18, 8, false}},
			{{0x38, 4, false}, {0x3C, 4, false}}, // number, count
		} {
			bendPair(file[koly:], p[0], p[1], with)
		}
		give(slices.Delete(slices.Clone(files), i, i+1), "without file %d", i+1)
		bent := slices.Clone(files)
		bent[i] = files[(i+1)%len(files)]
		give(bent, "file %d is the next", i+1)
		bent[i] = nil
		give(bent, "file %d is empty", i+1)
		bent[i] = file[:len(file)/2]
		give(bent, "file %d is cut", i+1)
		bent[i] = file[koly:]
		give(bent, "file %d has no data", i+1)
	}
	slices.Reverse(files[1:])
	give(files, "backwards")
}

// raw bends the partition tables of raw disks.
func (b *bender) raw() {
	for _, d := range rawDisks() {
		for at := d.from; at < d.to; at += d.width {
			give := func(disk []byte, what string) {
				if d.seal != nil {
					d.seal(disk)
				}
				b.give(disk, "%s, %s", d.name, what)
			}
			w := word{at, d.width, d.little}
			for _, n := range numbers(d.width, w.of(d.disk)) {
				give(w.put(d.disk, n), fmt.Sprintf("%d=%#x", at, n))
			}
			if y := (word{at + d.width, d.width, d.little}); y.at < d.to { // starts stand before their counts or ends
				bendPair(d.disk, w, y, give)
			}
		}
	}
	full := bytes.Repeat([]byte{0xFF}, 64<<10)
	for _, mark := range []struct {
		at    int
		magic string
	}{{0, "ER"}, {510, "\x55\xAA"}, {512, "EFI PART"}, {1024, "H+"}, {32, "NXSB"}, {32769, "CD001"}} {
		bent := bytes.Clone(full)
		copy(bent[mark.at:], mark.magic)
		b.give(bent, "%q and ones", mark.magic)
		b.give(bent[:mark.at+len(mark.magic)], "%q at the end", mark.magic)
	}
}

// rawDisk is a disk with the range in which its partition table is.
type rawDisk struct {
	name            string
	disk            []byte
	from, to, width int
	little          bool
	seal            func(disk []byte) // nil: no checksum
}

func rawDisks() []rawDisk {
	const size = 64 << 10
	be, le := binary.BigEndian, binary.LittleEndian
	apm := make([]byte, size)
	copy(apm, "ER\x02\x00")
	for i := range 3 {
		e := apm[512*(i+1):]
		copy(e, "PM")
		be.PutUint32(e[4:], 3)
		be.PutUint32(e[8:], uint32(10*i+4))
		be.PutUint32(e[12:], 10)
		copy(e[16:], "name")
		copy(e[48:], "Apple_HFS")
	}
	mbr := make([]byte, size)
	copy(mbr[510:], "\x55\xAA")
	for i, kind := range []byte{0x0B, 0x05, 0xAF, 0x0F} {
		e := mbr[446+16*i:]
		e[4] = kind
		le.PutUint32(e[8:], uint32(8*i+8))
		le.PutUint32(e[12:], 8)
	}
	// An extended partition whose next record is itself.
	copy(mbr[16*512+446:], mbr[446:512])
	gpt := make([]byte, size)
	copy(gpt[510:], "\x55\xAA")
	gpt[450] = 0xEE
	h := gpt[512:]
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], size/512-1)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], size/512-34)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	for i := range 2 {
		e := gpt[1024+128*i:]
		copy(e, "0123456789abcdef0123456789abcdef")
		le.PutUint64(e[32:], uint64(40+8*i))
		le.PutUint64(e[40:], uint64(47+8*i))
	}
	sealGPT(gpt)
	return []rawDisk{
		{"APM", apm, 512, 512 + 16, 4, false, nil},
		{"APM, second", apm, 1024, 1024 + 16, 4, false, nil},
		{"MBR", mbr, 446, 510, 4, true, nil},
		{"GPT", gpt, 512 + 8, 512 + 92, 4, true, sealGPT},
		{"GPT, long words", gpt, 512 + 24, 512 + 56, 8, true, sealGPT},
		{"GPT, entries", gpt, 512 + 72, 512 + 88, 8, true, sealGPT},
		{"GPT entry", gpt, 1024 + 32, 1024 + 48, 8, true, sealGPT},
		{"GPT, header's sum", gpt, 512 + 16, 512 + 20, 4, true, nil},
		{"GPT, entries' sum", gpt, 512 + 88, 512 + 92, 4, true, nil},
	}
}

// sealGPT makes the checksums of a table right, without which nothing else in it
// is believed (UEFI 2.10, 5.3.2).
func sealGPT(disk []byte) {
	le := binary.LittleEndian
	h := disk[SectorSize:]
	at, n := le.Uint64(h[72:]), uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:]))
	if size := uint64(len(disk)); at < size/SectorSize && n <= size-at*SectorSize {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(disk[at*SectorSize:][:n]))
	}
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:min(le.Uint32(h[12:]), SectorSize)]))
}

// compressions are the methods whose chunks are streams.
var compressions = []Method{Zlib, Bzip2, ADC, LZFSE, LZMA}

// stream gives an image of one chunk that says to hold that many sectors.
func (b *bender) stream(m Method, sectors int64, data []byte, name string, args ...any) {
	if b.stopped {
		return
	}
	c := Chunk{Method: m, Sectors: uint64(sectors), Length: uint64(len(data))}
	b.give(one(sectors, data, c).Bytes(), "%v, "+name, append([]any{m}, args...)...)
}

// streams are compressed data that are damaged, or of another length than the
// chunk says.
func (b *bender) streams() {
	const sectors = 16
	plain := Text(8, sectors*SectorSize).Bytes()
	for _, m := range compressions {
		z := compress(m, plain)
		for _, n := range []int64{1, sectors - 1, sectors + 1, 1000 * sectors, 1 << 31, 1<<54 - 1} {
			b.stream(m, n, z, "%d sectors of %d", n, sectors)
		}
		for _, other := range compressions {
			if other != m {
				b.stream(other, sectors, z, "that is %v", m)
			}
		}
		for _, tail := range []string{"\x00", "\xff", "x", strings.Repeat("\x00", 4096), string(z)} {
			b.stream(m, sectors, append(bytes.Clone(z), tail...), "then %d bytes %.2x", len(tail), tail)
			b.stream(m, sectors+1, append(bytes.Clone(z), tail...), "a sector short, then %d bytes %.2x", len(tail), tail)
		}
		for n := 0; n < len(z); n += 1 + n/48 {
			b.stream(m, sectors, z[:n], "cut at %d", n)
		}
		for at := 0; at < len(z); at += 1 + at/32 {
			for _, v := range []byte{0, 0xFF, z[at] ^ 1, z[at] ^ 0x80} {
				bent := bytes.Clone(z)
				bent[at] = v
				b.stream(m, sectors, bent, "byte %d is %#x", at, v)
			}
		}
		for _, v := range []byte{0, 0x55, 0xFF} {
			b.stream(m, sectors, bytes.Repeat([]byte{v}, 64<<10), "all %#x", v)
		}
		b.stream(m, sectors, Random(9, 64<<10).Bytes(), "random")
		b.stream(m, sectors, append(z[:min(20, len(z)):20], Random(9, 64<<10).Bytes()...), "random after its start")
	}
	b.references()
}

// references are copies from before the start of what was decoded.
func (b *bender) references() {
	b.stream(ADC, 1, adcenc.Copy(nil, 67, 1), "first thing a copy")
	b.stream(ADC, 1, adcenc.Copy(adcenc.Literals(nil, []byte("x")), 3, 2), "copy from before the start")
	b.stream(ADC, 1, adcenc.Copy(adcenc.Literals(nil, []byte("x")), 67, 1<<16), "farthest copy")
	for _, kind := range []lzfseenc.Kind{lzfseenc.V1, lzfseenc.V2} {
		for _, t := range []lzfseenc.Triple{{L: 1, M: 511, D: 2}, {L: 0, M: 512, D: 1}, {L: 4, M: 508, D: lzfseenc.MaxD}, {L: 0, M: 512}, {L: lzfseenc.MaxL, M: 512, D: 1}} {
			var w lzfseenc.Writer
			w.Triples(kind, []byte("abcd"), []lzfseenc.Triple{t}, 512)
			b.stream(LZFSE, 1, w.Close(), "block %c of %+v", kind, t)
		}
	}
	// One fixed block: a match of 3 bytes, its distance code, the end.
	for code := range uint64(32) {
		w := &lowBits{out: []byte{0x78, 0x9C}}
		w.put(0b011, 3)
		w.code(1, 7)
		w.code(code, 5)
		w.put(0, 13+7) // whatever extra bits the distance has, and the end
		b.stream(Zlib, 1, w.bytes(), "distance code %d first", code)
	}
}

// lowBits packs bits as deflate does, from the lowest of the first byte up.
type lowBits struct {
	out []byte
	acc uint64
	n   uint
}

func (w *lowBits) put(v uint64, n uint) {
	w.acc |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
}

// code writes a Huffman code, whose highest bit comes first.
func (w *lowBits) code(v uint64, n uint) {
	for ; n > 0; n-- {
		w.put(v>>(n-1)&1, 1)
	}
}

func (w *lowBits) bytes() []byte {
	w.put(0, 7)
	return w.out
}

// The parts of an .xz file without a check (The .xz File Format 1.2): stream
// header, and a block header whose one filter is LZMA2.
const xzHead = "\xFD7zXZ\x00\x00\x00\xFF\x12\xD9\x41"

// xzBlockHead is a block header with these bytes after its size, and the CRC-32
// that makes a reader believe them.
func xzBlockHead(content ...byte) []byte {
	for (len(content)+1)%4 != 0 {
		content = append(content, 0)
	}
	h := append([]byte{byte((len(content) + 1) / 4)}, content...)
	return binary.LittleEndian.AppendUint32(h, crc32.ChecksumIEEE(h))
}

// xz bends the headers of .xz files, whose CRCs are right nevertheless.
func (b *bender) xz() {
	z := compress(LZMA, Text(8, 16*SectorSize).Bytes())
	head := len(xzHead)
	body := z[head+int(z[head]+1)*4:]
	block := func(content ...byte) []byte {
		return slices.Concat([]byte(xzHead), xzBlockHead(content...), body)
	}
	for d := range 256 {
		b.stream(LZMA, 16, block(0, 0x21, 1, byte(d)), "dictionary %d", d)
	}
	for _, content := range [][]byte{
		{}, {0}, {0, 0x21}, {0, 0x21, 0}, {0, 0x21, 1}, {0, 0x21, 2, 0, 0}, {0, 0x21, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1},
		{0, 0x03, 1, 0}, {0, 0x04, 0}, {0x3F, 0x21, 1, 22}, {3, 0x21, 1, 22, 0x21, 1, 22, 0x21, 1, 22, 0x21, 1, 22}, {1, 0x03, 1, 255, 0x21, 1, 40},
		{0x40, 0, 0x21, 1, 22}, {0x40, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0x21, 1, 22},
		{0x80, 0, 0x21, 1, 22}, {0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x21, 1, 22},
		{1, 0x21, 1, 0, 0x21, 1, 40}, {0, 0xA1, 0, 1, 22}, {0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
	} {
		b.stream(LZMA, 16, block(content...), "block header %x", content)
	}
	for control := range 256 {
		lzma2 := slices.Concat([]byte(xzHead), xzBlockHead(0, 0x21, 1, 22), []byte{byte(control), 0xFF, 0xFF, 0xFF, 0xFF, 0x5D}, body)
		b.stream(LZMA, 16, lzma2, "control byte %#x", control)
	}
	// The first block asks for little, the second for everything.
	empty := slices.Concat(xzBlockHead(0, 0x21, 1, 0), make([]byte, 4))
	b.stream(LZMA, 16, slices.Concat([]byte(xzHead), empty, xzBlockHead(0, 0x21, 1, 40), body), "second dictionary of 4 GiB")
}

// zeros256 is what bzip2 -9 makes of 256 MiB of zeros.
const zeros256 = `QlpoOTFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZDgni3wFfjkAAwAAACCAAMIBNRkKgJakKgJcxQVkmU1kO
CeLfAV+OQADAAAAIIAAwgE1GQqAlqQqAlzFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZDgni3wFfjkAAwAAA
CCAAMIBNRkKgJakKgJcxQVkmU1kezuTbASo/wADABAAIIAAwzAUppqqoSRsAIkjxdyRThQkGsXyvAA==`

// HostileIndexes bends the saved checkpoints of an image that is sound, whatever
// their format, as long as a SHA-256 of the rest ends it: that is always right,
// so that what is bent is looked at.
func HostileIndexes(image, index []byte) iter.Seq[HostileImage] {
	return func(yield func(HostileImage) bool) {
		b := &bender{class: "index", yield: yield, given: make(map[string]bool)}
		body := index[:len(index)-sha256.Size]
		give := func(body []byte, name string, args ...any) {
			sum := sha256.Sum256(body)
			b.giveImage(HostileImage{Image: image, Index: append(slices.Clip(body), sum[:]...)}, name, args...)
		}
		b.indexBytes(body, give)
		b.indexWords(body, give)
		for n := 0; n < len(body); n += 1 + n/64 {
			give(body[:n], "cut at %d", n)
			give(slices.Concat(body[:n], body[n:], body[n:]), "from %d twice", n)
			give(slices.Concat(body[:n], body[min(n+1, len(body)):]), "without byte %d", n)
			give(slices.Concat(body[:n], []byte{0}, body[n:]), "a zero more at %d", n)
		}
		give(append(bytes.Clone(body), make([]byte, 1<<20)...), "then zeros")
		give(append(bytes.Clone(body), Random(10, 1<<20).Bytes()...), "then anything")
	}
}

// indexHead is how much of an index is bent in every way. What comes after is
// compressed, mostly, and bent in one way at each place.
const indexHead = 160

func (b *bender) indexBytes(body []byte, give func([]byte, string, ...any)) {
	for at := range body {
		values := []byte{0, 1, 0x7F, 0x80, 0xFE, 0xFF, body[at] - 1, body[at] + 1, body[at] ^ 0x80}
		if at >= indexHead {
			values = values[at%len(values):][:1]
		}
		for _, v := range values {
			give(word{at, 1, false}.put(body, uint64(v)), "byte %d is %#x", at, v)
		}
	}
}

func (b *bender) indexWords(body []byte, give func([]byte, string, ...any)) {
	for at := 0; at+8 <= len(body) && !b.stopped; at++ {
		w := word{at, 8 >> (at / 4 % 2), at/8%2 == 1 && at >= indexHead}
		ns := numbers(w.width, w.of(body))
		if at >= indexHead {
			ns = ns[at%len(ns):][:1]
		}
		for _, n := range ns {
			give(w.put(body, n), "%d bytes at %d, lowest first %v, are %#x", w.width, at, w.little, n)
		}
		if next := at + w.width; at < indexHead && at%4 == 0 && next+8 <= len(body) {
			bendPair(body, w, word{next, w.width, false}, func(body []byte, what string) { give(body, "%d bytes each, %s", w.width, what) })
		}
	}
}

const mib = 1 << 20 / SectorSize // sectors

// bombs decode to far more than they are.
func (b *bender) bombs() {
	bz, err := base64.StdEncoding.DecodeString(zeros256)
	must(err)
	deflate := compress(Zlib, make([]byte, 256<<20))
	xz := compress(LZMA, make([]byte, 16<<20))
	adc := adcenc.Literals(nil, []byte("x"))
	for range 64 << 20 / 67 {
		adc = adcenc.Copy(adc, 67, 1)
	}
	triples := slices.Repeat([]lzfseenc.Triple{{L: 0, M: lzfseenc.MaxM, D: 1}}, lzfseenc.MaxMatches)
	triples[0].L = 1
	var lz lzfseenc.Writer
	for range 3 {
		lz.Triples(lzfseenc.V2, []byte("x"), triples, 1+lzfseenc.MaxMatches*lzfseenc.MaxM)
	}
	for _, z := range []struct {
		m    Method
		size int64 // MiB that it decodes to, at least
		data []byte
	}{{Bzip2, 256, bz}, {Zlib, 256, deflate}, {ADC, 63, adc}, {LZFSE, 64, lz.Close()}, {LZFSE, 16, lzfseenc.Encode(lzfseenc.LZVN, make([]byte, 16<<20))}, {LZMA, 16, xz}} {
		b.stream(z.m, z.size*mib, z.data, "%d bytes to %d MiB", len(z.data), z.size)
		b.stream(z.m, 1, z.data, "%d bytes of which a sector is wanted", len(z.data))
		b.stream(z.m, 1<<54-1, z.data, "%d bytes to all there can be", len(z.data))
		if b.stopped {
			return
		}
		b.give(repeated(1000, z.m, uint64(z.size)*mib, z.data).Bytes(), "%v, a thousand of %d bytes", z.m, len(z.data))
	}
}

// slow are data that keep a decoder at work and give it nothing.
func (b *bender) slow() {
	const size = 10 << 20
	fill := func(head string, unit []byte) []byte {
		return append([]byte(head), bytes.Repeat(unit, size/len(unit))...)
	}
	dynamic := emptyDynamic()
	for _, z := range []struct {
		m    Method
		name string
		data []byte
	}{
		{Zlib, "empty stored blocks", fill("\x78\x9C", []byte{0, 0, 0, 0xFF, 0xFF})},
		{Zlib, "empty fixed blocks", fill("\x78\x9C", []byte{0x02, 0x08, 0x20, 0x80, 0x00})},
		{Zlib, "empty dynamic blocks", fill("\x78\x9C", dynamic)},
		{Bzip2, "empty streams", fill("", []byte("BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"))},
		{Bzip2, "block magics", fill("BZh9", []byte("\x31\x41\x59\x26\x53\x59"))},
		{Bzip2, "blocks of nothing", fill("BZh9", tinyBlock(false))},
		{Bzip2, "blocks of a byte", fill("BZh9", tinyBlock(true))},
		{LZFSE, "empty stored blocks", fill("", []byte("bvx-\x00\x00\x00\x00"))},
		{LZFSE, "empty LZVN blocks", fill("", []byte("bvxn\x00\x00\x00\x00\x08\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"))},
		{LZFSE, "empty blocks", fill("", emptyLZFSE())},
		{LZFSE, "ends", fill("", []byte("bvx$"))},
		{LZMA, "empty blocks", fill(xzHead, slices.Concat(xzBlockHead(0, 0x21, 1, 0), make([]byte, 4)))},
		{LZMA, "empty blocks of 8 MiB dictionary", fill(xzHead, slices.Concat(xzBlockHead(0, 0x21, 1, 22), make([]byte, 4)))},
		{LZMA, "stream headers", fill("", []byte(xzHead))},
		{LZMA, "empty streams", fill("", emptyXZ())},
		{LZMA, "stream padding", fill(string(emptyXZ()), make([]byte, 4))},
		{ADC, "copies of what is not there", fill("", []byte{0x40, 0, 0})},
	} {
		b.stream(z.m, mib, z.data, "10 MB of %s", z.name)
	}
	small := tinyBlock(true)
	b.stream(Bzip2, int64(size/len(small))/SectorSize, fill("BZh9", small), "10 MB of blocks of a byte, all of them wanted")
}

// emptyDynamic is a dynamic block of deflate with nothing in it but its codes,
// filled up to a byte by a stored block of nothing (RFC 1951, section 3.2.7).
func emptyDynamic() []byte {
	w := new(lowBits)
	w.put(0b100, 3) // dynamic
	w.put(0, 5+5)   // 257 lengths, 1 distance
	w.put(18-4, 4)  // code lengths up to that of 1
	order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1}
	for _, s := range order {
		if s == 18 || s == 1 {
			w.put(1, 3) // a bit each: 1 is 0, 18 is 1
		} else {
			w.put(0, 3)
		}
	}
	w.put(1, 1)
	w.put(138-11, 7)
	w.put(1, 1)
	w.put(118-11, 7) // 256 lengths of 0
	w.put(0, 1)      // the end's length is 1
	w.put(0, 1)      // and so is the distance's
	w.put(0, 1)      // the end
	w.put(0, 3)      // stored
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
	return append(w.out, 0, 0, 0xFF, 0xFF)
}

// tinyBlock is a bzip2 block of one zero byte, or of none, repeated until it
// ends with a byte.
func tinyBlock(full bool) []byte {
	w := new(highBits)
	for i := 0; i == 0 || w.n != 0; i++ {
		w.put(0x314159265359, 48)
		crc := uint64(0)
		if full {
			crc = uint64(crcOfZero())
		}
		w.put(crc, 32)
		w.put(0, 1+24)    // not randomized, first row
		w.put(0x8000, 16) // bytes 0 to 15 are in use:
		w.put(0x8000, 16) // 0 is
		w.put(2, 3)       // tables
		w.put(1, 15)      // selector
		w.put(0, 1)       // the first table
		for range 2 {
			w.put(1, 5)     // RUNA has 1 bit,
			w.put(0, 1)     //
			w.put(0b100, 3) // RUNB 2,
			w.put(0, 1)     // and the end 2
		}
		if full {
			w.put(0, 1) // RUNA: once
		}
		w.put(0b11, 2)
	}
	return w.out
}

// crcOfZero is bzip2's CRC-32 of one zero byte: highest bit first.
func crcOfZero() uint32 {
	crc := uint32(0xFF) << 24
	for range 8 {
		crc = crc<<1 ^ 0x04C11DB7&-(crc>>31)
	}
	return ^(crc ^ 0xFFFFFF00)
}

// highBits packs bits as bzip2 does, from the highest of the first byte down.
type highBits struct {
	out []byte
	acc uint64
	n   uint
}

func (w *highBits) put(v uint64, n uint) {
	for ; n > 0; n-- {
		w.acc = w.acc<<1 | v>>(n-1)&1
		if w.n++; w.n == 8 {
			w.out = append(w.out, byte(w.acc))
			w.acc, w.n = 0, 0
		}
	}
}

// emptyLZFSE is a bvx2 block without a triple.
func emptyLZFSE() []byte {
	var w lzfseenc.Writer
	w.Triples(lzfseenc.V2, nil, nil, 0)
	return w.Close()[:w.Len()]
}

// emptyXZ is an .xz file without a block: header, index of none, footer.
func emptyXZ() []byte {
	le := binary.LittleEndian
	index := le.AppendUint32(nil, crc32.ChecksumIEEE(make([]byte, 4)))
	foot := make([]byte, 6)
	return slices.Concat([]byte(xzHead), make([]byte, 4), index,
		le.AppendUint32(nil, crc32.ChecksumIEEE(foot)), foot, []byte("YZ"))
}

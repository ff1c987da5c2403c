package dmg

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/go-dmg/dmg/internal/blkx"
)

const (
	mishLen     = 204
	mishVersion = 1
	entryLen    = 40
)

// maxSectors is the size of the largest disk whose bytes an int64 counts.
const maxSectors = math.MaxInt64 / sectorSize

// table is what a block table says about its part of the disk, in sectors.
type table struct {
	name         string
	first, count uint64
	total        uint64   // where the terminator says that it ends, from first on
	sum          checksum // over the decoded sectors

	lost    bool // its header can't be read, so that nothing is known of its part
	partial bool // an entry can't be used: sectors without a chunk may have been that entry's
	longer  bool // its entries reach beyond the sectors that its header says
	shared  bool // some of its sectors are in another chunk, too: its checksum can't be computed
}

// end returns the sector behind the table's part.
func (t *table) end() uint64 { return t.first + t.count }

// blockTables are an image's block tables and their chunks.
//
// Damage must not cost more than it touches, and must not give a wrong byte: the
// image opens with what is right, and what is wrong becomes raw chunks without
// data, which can't be read. What can't be read are
//   - a chunk's data outside the file,
//   - the sectors of a table that none of its chunks has, if an entry can't be used,
//   - the sectors that no table has, if a table's header can't be read or tables
//     overlap,
//   - chunks that overlap: it can't be told which is right.
type blockTables struct {
	tables  []table
	chunks  []Chunk // disjoint and in order; Partition is the table's index
	sectors uint64  // of the disk

	adrift  bool    // sectors without a table may be those of one: it is lost, or where another is
	damaged int     // tables
	defects []error // what is wrong with them, maxDefects at most
}

// damage returns the first defect, nil if there is none.
func (b *blockTables) damage() error {
	if len(b.defects) == 0 {
		return nil
	}
	return b.defects[0]
}

// readable reports whether there is anything to be read of the disk.
func (b *blockTables) readable() bool {
	return len(b.defects) == 0 || slices.ContainsFunc(b.chunks, func(c Chunk) bool {
		return c.Method.zeros() || c.DataLength > 0
	})
}

// note keeps what is wrong with a table, or with chunks. It is not made where there
// are too many.
func (b *blockTables) note(section string, at int64, msg func() string) {
	b.damaged++
	if len(b.defects) < maxDefects {
		b.defects = append(b.defects, &FormatError{Section: section, Offset: at, Msg: msg()})
	}
}

// A tableParser reads the block tables of an image.
type tableParser struct {
	dataFork uint64 // offset of the data fork in the image
	dataSize int64  // bytes in which chunk data may lie
	sectors  uint64 // of the disk, as koly says; 0 if it doesn't
}

// parse reads block tables and fits their chunks together.
func (p tableParser) parse(resources []blkx.Resource) *blockTables {
	b := &blockTables{tables: make([]table, 0, len(resources)), sectors: p.sectors}
	entries := 0
	for _, res := range resources {
		entries += len(res.Data) / entryLen
	}
	b.chunks = make([]Chunk, 0, entries)
	var beyond []Chunk
	for i, res := range resources {
		e := entryParser{tableParser: p, index: i, chunks: b.chunks, beyond: beyond}
		e.parse(res)
		b.chunks, beyond = e.chunks, e.beyond
		if e.faults > 0 {
			b.note(fmt.Sprintf("mish %d", i), int64(e.at), func() string { return e.complaint(res.Name) })
		}
		b.adrift = b.adrift || e.table.lost
		b.tables = append(b.tables, e.table)
	}
	sortChunks(b.chunks)
	b.settle()
	b.takeBeyond(beyond, p.sectors)
	for i := range b.tables {
		b.sectors = max(b.sectors, b.tables[i].end())
	}
	b.closeHoles()
	return b
}

// entryParser reads one table.
type entryParser struct {
	tableParser
	table  table
	index  int
	base   uint64  // what chunk offsets are relative to,
	wraps  bool    // or that is beyond 64 bits
	chunks []Chunk // of this table and those before it
	beyond []Chunk // likewise, that reach beyond their tables' sectors

	faults int
	at     int // of the first, in bytes
	msg    string
}

// fault notes that something is wrong at a byte of the table. What it is is asked
// for once: there may be millions of it.
func (e *entryParser) fault(at int, msg func() string) {
	if e.faults++; e.faults == 1 {
		e.at, e.msg = at, msg()
	}
}

// complaint says what is wrong with the table of that name.
func (e *entryParser) complaint(name string) string {
	msg := e.msg
	if e.faults > 1 {
		msg += fmt.Sprintf(", and %d entries more", e.faults-1)
	}
	return fmt.Sprintf("%s (table %q)", msg, name)
}

// parse reads a 204-byte header, then the entries.
func (e *entryParser) parse(res blkx.Resource) {
	e.table.name = res.Name
	if res.Err != nil {
		e.fault(len(res.Data), res.Err.Error)
	}
	n, ok := e.header(res.Data)
	if !ok {
		e.table = table{name: res.Name, lost: true}
		return
	}
	b := readBuf(res.Data[mishLen:])
	room := len(b) / entryLen
	if uint64(n) > uint64(room) {
		e.fault(0xC8, func() string { return fmt.Sprintf("%d chunks, room for %d", n, room) })
	}
	for i := range int(min(int64(n), int64(room))) {
		if e.entry(b.sub(entryLen), i) {
			return
		}
	}
	if int64(n) > int64(room) {
		e.table.partial = true // and the end is in what is missing
	}
}

// header reads the header. It returns how many entries there are, and false if
// nothing of it can be believed.
func (e *entryParser) header(data []byte) (n uint32, ok bool) {
	bad := func(at int, format string, args ...any) (uint32, bool) {
		e.fault(at, func() string { return fmt.Sprintf(format, args...) })
		return 0, false
	}
	if len(data) < mishLen {
		return bad(len(data), "short header")
	}
	if string(data[:4]) != "mish" {
		return bad(0, "bad magic %q", data[:4])
	}
	b := readBuf(data[4:])
	if v := b.uint32(); v != mishVersion {
		return bad(4, "version %d", v)
	}
	t := &e.table
	t.first, t.count = b.uint64(), b.uint64()
	base := b.uint64()
	b.sub(8 + 24) // buffers needed, descriptor, reserved
	t.sum = parseChecksum(b.sub(checksumLen))
	n = b.uint32()
	if t.first > maxSectors || t.count > maxSectors-t.first {
		return bad(8, "sectors %d+%d are more than a disk can have", t.first, t.count)
	}
	var carry uint64
	e.base, carry = bits.Add64(e.dataFork, base, 0)
	e.wraps = carry != 0
	return n, true
}

// entry reads an entry and keeps it if it stands for any bytes. It reports whether
// the entry ends the table.
func (e *entryParser) entry(b readBuf, i int) (end bool) {
	method := Method(b.uint32())
	b.sub(4) // comment
	first, count := b.uint64(), b.uint64()
	data := extent{b.uint64(), b.uint64()}
	at, t := mishLen+i*entryLen, &e.table
	switch {
	case method == entryEnd:
		t.total = first
		return true
	case method == entryComment || count == 0:
		return false
	case first > maxSectors-t.first || count > maxSectors-t.first-first:
		e.fault(at, func() string {
			return fmt.Sprintf("chunk %d: sectors %d+%d are more than a disk can have", i, first, count)
		})
		t.partial = true
		return false
	}
	c := Chunk{
		Method:    method,
		Offset:    int64(t.first+first) * sectorSize,
		Length:    int64(count) * sectorSize,
		Partition: e.index,
	}
	if !method.zeros() {
		var whole bool
		if c.DataOffset, c.DataLength, whole = e.data(data); !whole {
			e.fault(at, func() string {
				return fmt.Sprintf("chunk %d: data at %d+%d outside the file of %d bytes", i, data.off, data.length, e.dataSize)
			})
		}
	}
	if first+count > t.count {
		if e.beyond == nil {
			e.beyond = make([]Chunk, 0, cap(e.chunks)-len(e.chunks))
		}
		e.beyond = append(e.beyond, c)
	} else {
		e.chunks = append(e.chunks, c)
	}
	return false
}

// data returns the place of an entry's data in the file, as far as it is there, and
// whether all of it is.
func (e *entryParser) data(x extent) (off, length int64, whole bool) {
	var carry uint64
	x.off, carry = bits.Add64(x.off, e.base, 0)
	size := uint64(e.dataSize)
	if e.wraps || carry != 0 || x.off > size {
		return e.dataSize, 0, false
	}
	n := min(x.length, size-x.off)
	return int64(x.off), int64(n), n == x.length
}

// sortChunks sorts by place, and chunks of one place so that equal ones are
// neighbours.
func sortChunks(chunks []Chunk) {
	order := func(a, b Chunk) int {
		if c := cmp.Compare(a.Offset, b.Offset); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.Length, b.Length), cmp.Compare(a.Method, b.Method),
			cmp.Compare(a.DataOffset, b.DataOffset), cmp.Compare(a.DataLength, b.DataLength), cmp.Compare(a.Partition, b.Partition))
	}
	if !slices.IsSortedFunc(chunks, order) {
		slices.SortFunc(chunks, order)
	}
}

// same reports whether two chunks are the same but for their tables.
func same(a, b Chunk) bool {
	b.Partition = a.Partition
	return a == b
}

// missing is a range of the disk that can't be read.
func missing(off, end int64, table int) Chunk {
	return Chunk{Method: Raw, Offset: off, Length: end - off, Partition: table}
}

// settle makes the sorted chunks disjoint. Of equal ones it leaves one. Where others
// overlap, one at least is not where it belongs, and where that begins is not known:
// all that hang together become one that can't be read, and what their tables have
// no chunks for can't be read either.
func (b *blockTables) settle() {
	kept := b.chunks[:0]
	for i := 0; i < len(b.chunks); {
		c, end, clash := b.chunks[i], b.chunks[i].end(), -1
		for i++; i < len(b.chunks) && b.chunks[i].Offset < end; i++ {
			next := b.chunks[i]
			if same(c, next) {
				b.twice(c, next)
				continue
			}
			if clash < 0 {
				clash = i
				b.note("chunk map", next.Offset, func() string {
					return fmt.Sprintf("%v overlaps %v: neither can be read", next, c)
				})
			}
			b.adrift = b.adrift || c.Partition != next.Partition
			for _, t := range [2]*table{&b.tables[c.Partition], &b.tables[next.Partition]} {
				t.partial, t.shared = true, true
			}
			end = max(end, next.end())
		}
		if clash >= 0 {
			c = missing(c.Offset, end, c.Partition)
		}
		kept = append(kept, c)
	}
	b.chunks = kept
}

// twice notes that a chunk is in the image twice.
func (b *blockTables) twice(c, again Chunk) {
	t := &b.tables[again.Partition]
	if again.Partition != c.Partition {
		t.shared = true
	}
	if !t.partial {
		b.note("chunk map", c.Offset, func() string { return fmt.Sprintf("%v is there twice", c) })
	}
}

// takeBeyond takes the chunks that reach beyond the sectors that their tables'
// headers say. Other readers don't look at that number, and there are images where
// it is too small. So the table is as long as its entries, unless the entry seems to
// be what is wrong: it overlaps something, or reaches beyond what the terminator and
// koly say.
func (b *blockTables) takeBeyond(beyond []Chunk, sectors uint64) {
	if len(beyond) == 0 {
		return
	}
	sortChunks(beyond)
	parts := newTableRanges(b.tables)
	taken := beyond[:0]
	for i := 0; i < len(beyond); {
		c, end, alone := beyond[i], beyond[i].end(), true
		for i++; i < len(beyond) && beyond[i].Offset < end; i++ {
			if next := beyond[i]; !same(c, next) || c.Partition != next.Partition {
				alone = false
				end = max(end, next.end())
				b.refuse(next)
			}
		}
		t := &b.tables[c.Partition]
		last := uint64(c.end()) / sectorSize
		limit := max(sectors, t.first+min(t.total, maxSectors))
		if alone && (sectors == 0 || last <= limit) && !parts.others(t.end(), last, c.Partition) && !b.covers(c) {
			taken = append(taken, c)
		} else {
			b.refuse(c)
		}
	}
	b.lengthen(taken)
}

// refuse notes that a chunk beyond its table's sectors is not taken.
func (b *blockTables) refuse(c Chunk) {
	t := &b.tables[c.Partition]
	if !t.partial {
		b.note(fmt.Sprintf("mish %d", c.Partition), 0x10, func() string {
			return fmt.Sprintf("%v reaches beyond the table's sectors %d-%d (table %q)", c, t.first, t.end()-1, t.name)
		})
	}
	t.partial = true
}

// covers reports whether a chunk that has been settled has some of c's sectors.
func (b *blockTables) covers(c Chunk) bool {
	i, _ := slices.BinarySearchFunc(b.chunks, c.Offset, func(c Chunk, off int64) int { return cmp.Compare(c.end()-1, off) })
	return i < len(b.chunks) && b.chunks[i].Offset < c.end()
}

// lengthen adds chunks from beyond their tables' sectors. Unless the terminator is
// there, too, the number may be right, and such a chunk at a wrong place.
func (b *blockTables) lengthen(taken []Chunk) {
	for _, c := range taken {
		t := &b.tables[c.Partition]
		if !t.longer {
			b.note(fmt.Sprintf("mish %d", c.Partition), 0x10, func() string {
				return fmt.Sprintf("%d sectors, but %v (table %q)", t.count, c, t.name)
			})
		}
		t.longer = true
		t.count = max(t.count, uint64(c.end())/sectorSize-t.first)
	}
	for i := range b.tables {
		if t := &b.tables[i]; t.longer && t.total < t.count {
			t.partial = true
		}
	}
	if len(taken) > 0 {
		b.chunks = append(b.chunks, taken...)
		sortChunks(b.chunks)
	}
}

// tableRanges answers which tables' ranges share sectors with another.
type tableRanges []tableRange

type tableRange struct {
	first uint64
	// Of the ranges up to this one: where the two end that end last, and whose the
	// first of them is.
	end, second uint64
	table       int
}

func newTableRanges(tables []table) tableRanges {
	var all tableRanges
	for i := range tables {
		if t := &tables[i]; t.count > 0 {
			all = append(all, tableRange{first: t.first, end: t.end(), table: i})
		}
	}
	slices.SortFunc(all, func(a, b tableRange) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.table, b.table))
	})
	for i := 1; i < len(all); i++ {
		r, prev := &all[i], all[i-1]
		if r.end > prev.end {
			r.second = prev.end
		} else {
			r.end, r.table, r.second = prev.end, prev.table, max(prev.second, r.end)
		}
	}
	return all
}

// others reports whether a table other than that of the given index has any of the
// sectors from first to before end.
func (a tableRanges) others(first, end uint64, table int) bool {
	i, _ := slices.BinarySearchFunc(a, end, func(r tableRange, end uint64) int { return cmp.Compare(r.first, end) })
	if i == 0 {
		return false
	}
	r := a[i-1]
	if r.table == table {
		return r.second > first
	}
	return r.end > first
}

// closeHoles makes chunks that can't be read of what would read as zeros only
// because a table, or an entry, is damaged.
func (b *blockTables) closeHoles() {
	unknown := b.unknown()
	n := 0
	b.holes(unknown, func(Chunk) { n++ })
	if n == 0 {
		return
	}
	chunks := append(make([]Chunk, 0, len(b.chunks)+n), b.chunks...)
	b.holes(unknown, func(c Chunk) { chunks = append(chunks, c) })
	b.chunks = chunks
	sortChunks(b.chunks)
}

// holes calls add with what no chunk has of the ranges.
func (b *blockTables) holes(ranges []Chunk, add func(Chunk)) {
	i := 0
	for _, r := range ranges {
		at, end := r.Offset, r.end()
		for i < len(b.chunks) && b.chunks[i].end() <= at {
			i++
		}
		for ; i < len(b.chunks) && b.chunks[i].Offset < end; i++ {
			if c := &b.chunks[i]; at < c.Offset {
				add(missing(at, c.Offset, r.Partition))
			}
			if at = b.chunks[i].end(); at >= end {
				break // it may reach into the next range
			}
		}
		if at < end {
			add(missing(at, end, r.Partition))
		}
	}
}

// unknown returns the ranges of the disk of which what no chunk has is not known,
// disjoint and in order: partial tables, and if a table is adrift what the others
// don't have.
func (b *blockTables) unknown() []Chunk {
	if !b.adrift && !slices.ContainsFunc(b.tables, func(t table) bool { return t.partial }) {
		return nil
	}
	order := make([]int, 0, len(b.tables))
	for i := range b.tables {
		if !b.tables[i].lost {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(b.tables[i].first, b.tables[j].first) })
	var ranges []Chunk
	add := func(from, to uint64, table int) {
		if from < to {
			ranges = append(ranges, missing(int64(from)*sectorSize, int64(to)*sectorSize, table))
		}
	}
	var all, partial uint64 // the sectors up to which tables, and partial tables, reach
	for _, i := range order {
		t := &b.tables[i]
		if b.adrift {
			add(all, t.first, -1)
		}
		all = max(all, t.end())
		if t.partial {
			add(max(t.first, partial), t.end(), i)
			partial = max(partial, t.end())
		}
	}
	if b.adrift {
		add(all, b.sectors, -1)
	}
	return ranges
}

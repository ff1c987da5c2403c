// Package dmgtest writes Apple disk images for tests: whole ones of any
// layout, and bent ones, field by field.
//
// It shares no code with the reader and knows nothing of it, so that the two
// can't be wrong in the same way. There are two levels. [Build], [Write],
// [Image] and [File] turn the bytes of a disk into an image as [Options] say,
// with right checksums. What Build returns is the lower level: a [Layout],
// whose tables, chunks and koly are plain structs that a test bends before
// it takes the [Layout.Bytes].
//
//	l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: 64})
//	l.Tables[0].Chunks[1].Offset = math.MaxUint64 // a bent chunk,
//	err = l.Seal()                                // in plist and sums
//	l.Koly.DataLength++                           // and a bent trailer
//	img := l.Bytes()
//
// The package also has contents that cost no memory ([Content]), and sources
// that count, fail, stall or stop short ([Counter] and its neighbours).
//
// The same options and disk give the same bytes, on every machine.
package dmgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// SectorSize is the unit, in bytes, of every sector number in an image.
const SectorSize = 512

// DefaultChunk is the sectors of a chunk as hdiutil writes them: 1 MiB.
const DefaultChunk = 2048

// Options say how a disk becomes an image. The zero value is one partition
// in one zlib chunk, with a plist and CRC-32 sums.
type Options struct {
	Codecs       []Method    // one a chunk, in turn; none: Zlib
	Level        int         // of zlib and bzip2, 1 to 9; 0: the codec's own
	ChunkSectors int64       // sectors a chunk; 0: one chunk a partition
	Partitions   []Partition // one block table each; none: the whole disk

	Zeros      ZeroMode // what becomes of a chunk that is all zeros
	MergeZeros bool     // neighbouring zero or ignore chunks become one
	Comments   bool     // comment chunks around each table's others

	Prefix      int64 // bytes of garbage before the data fork
	TableOffset bool  // chunk offsets count from a data offset in the table
	Shuffle     bool  // chunk data stands in no order in the data fork
	Trailing    int   // bytes of garbage after each stream, in the chunk's length
	Tail        int   // bytes of garbage after koly
	KolyFirst   bool  // koly at offset 0, as Disk Copy 6.5 wrote it

	Meta  Meta       // where the block tables are
	Extra []Resource // beside the block tables: plst, cSum, size, …

	DataSum   SumType // of the data fork; zero: CRC-32
	TableSum  SumType // of every table; zero: CRC-32
	MasterSum SumType // of the tables' sums; zero: CRC-32

	Seed uint64 // of the shuffle and the garbage
}

// Partition is a run of sectors that has a block table of its own. Sectors
// of the disk that no partition covers are not stored.
type Partition struct {
	Name    string
	First   int64 // sector
	Sectors int64 // 0: to the end of the disk
}

// ZeroMode is what becomes of a chunk that is all zeros.
type ZeroMode int

const (
	ZeroFill   ZeroMode = iota // a zero chunk
	ZeroIgnore                 // an ignore chunk
	ZeroKeep                   // compressed as any other
)

// Meta is where the block tables are.
type Meta int

const (
	PlistOnly    Meta = iota // in the XML plist, as hdiutil writes them now
	ResourceOnly             // in a resource fork, as before Mac OS X 10.2
	PlistAndRsrc             // in both
)

// Build makes the image of disk in memory. A disk that ends inside a sector
// is filled up with zeros.
func Build(disk []byte, o Options) (*Layout, error) {
	p, err := newPlan(bytes.NewReader(disk), int64(len(disk)), o)
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	fork, err := p.store(&data)
	if err != nil {
		return nil, err
	}
	l := p.layout()
	l.Data = data.Bytes()
	return l, l.seal(fork)
}

// Write writes the image of the size bytes of disk to w, and holds no more
// than a chunk of it: nothing at all of raw, zlib, bzip2 and LZMA chunks.
// The Layout it returns lacks the Data.
func Write(w io.Writer, disk io.ReaderAt, size int64, o Options) (*Layout, error) {
	p, err := newPlan(disk, size, o)
	if err != nil {
		return nil, err
	}
	l := p.layout()
	if o.KolyFirst {
		// koly speaks of what comes after it: go once through for nothing.
		fork, err := p.store(io.Discard)
		if err != nil {
			return nil, err
		}
		l.Tables = p.tables
		if err := l.seal(fork); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(l.head()); err != nil {
		return nil, err
	}
	fork, err := p.store(w)
	if err != nil {
		return nil, err
	}
	if err := l.seal(fork); err != nil {
		return nil, err
	}
	_, err = w.Write(l.rest())
	return l, err
}

// Image is Build and Bytes for a test, which it ends at an error.
func Image(tb testing.TB, disk []byte, o Options) []byte {
	tb.Helper()
	l, err := Build(disk, o)
	if err != nil {
		tb.Fatalf("dmgtest: %v", err)
	}
	return l.Bytes()
}

// File is Write into a file of the test's temporary directory; it returns
// the file's name.
func File(tb testing.TB, disk io.ReaderAt, size int64, o Options) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "image.dmg")
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = Write(f, disk, size, o)
	if err := errors.Join(err, f.Close()); err != nil {
		tb.Fatalf("dmgtest: %v", err)
	}
	return name
}

// A plan is an image whose chunks are known, but not yet where their data is.
type plan struct {
	o      Options
	disk   source
	total  int64 // sectors of the disk
	tables []Table
	pieces []piece // the chunks with data, in the data fork's order
}

// A piece is a chunk that has data in the data fork.
type piece struct{ table, chunk int }

func newPlan(disk io.ReaderAt, size int64, o Options) (*plan, error) {
	if o.Tail < 0 || o.Tail >= SectorSize {
		return nil, fmt.Errorf("%d bytes after koly: readers look no further than 511", o.Tail)
	}
	if len(o.Codecs) == 0 {
		o.Codecs = []Method{Zlib}
	}
	if len(o.Partitions) == 0 {
		o.Partitions = []Partition{{Name: "whole disk (unknown partition : 0)"}}
	}
	p := &plan{o: o, disk: source{disk, size}, total: (size + SectorSize - 1) / SectorSize}
	for i, part := range o.Partitions {
		if err := p.addTable(i, part); err != nil {
			return nil, fmt.Errorf("partition %d: %w", i, err)
		}
	}
	if o.Shuffle {
		shuffle(p.pieces, o.Seed)
	}
	return p, nil
}

// shuffle is the same for a seed on every machine.
func shuffle[E any](s []E, seed uint64) {
	for i := len(s) - 1; i > 0; i-- {
		j := int(mix(seed+uint64(i)) % uint64(i+1))
		s[i], s[j] = s[j], s[i]
	}
}

// addTable cuts a partition into chunks and takes its checksum.
func (p *plan) addTable(i int, part Partition) error {
	if part.Sectors == 0 {
		part.Sectors = p.total - part.First
	}
	if part.First < 0 || part.Sectors < 0 || part.First > p.total || part.Sectors > p.total-part.First {
		return fmt.Errorf("sectors %d+%d are not all on a disk of %d", part.First, part.Sectors, p.total)
	}
	t := NewTable(part.Name, part.First, part.Sectors)
	t.Descriptor = uint32(i)
	if p.o.Comments {
		t.Chunks = append(t.Chunks, Chunk{Method: Comment, Comment: commentBegin})
	}
	sum, err := newSum(p.o.TableSum)
	if err != nil {
		return err
	}
	step := p.o.ChunkSectors
	if step <= 0 {
		step = max(part.Sectors, 1)
	}
	for at := int64(0); at < part.Sectors; at += step {
		c := Chunk{Sector: uint64(at), Sectors: uint64(min(step, part.Sectors-at))}
		if err := p.addChunk(&t, i, c, sum); err != nil {
			return err
		}
	}
	if p.o.Comments {
		t.Chunks = append(t.Chunks, Chunk{Method: Comment, Comment: commentEnd, Sector: uint64(part.Sectors)})
	}
	t.Chunks = append(t.Chunks, Chunk{Method: End, Sector: uint64(part.Sectors)})
	t.Count = uint32(len(t.Chunks))
	t.Checksum = sum.checksum()
	p.tables = append(p.tables, t)
	return nil
}

// addChunk settles the method of chunk c of table i, and adds what it decodes
// to the table's sum: an ignore chunk adds nothing.
func (p *plan) addChunk(t *Table, i int, c Chunk, sum *sum) error {
	off, n := t.span(c)
	zero := false
	if p.o.Zeros != ZeroKeep {
		var err error
		if zero, err = p.disk.allZero(off, n); err != nil {
			return err
		}
	}
	if zero {
		c.Method = Zero
		if p.o.Zeros == ZeroIgnore {
			c.Method = Ignore
		} else {
			sum.zeros(n)
		}
		last := len(t.Chunks) - 1
		if p.o.MergeZeros && last >= 0 && t.Chunks[last].Method == c.Method {
			t.Chunks[last].Sectors += c.Sectors
			return nil
		}
		t.Chunks = append(t.Chunks, c)
		return nil
	}
	c.Method = p.o.Codecs[len(p.pieces)%len(p.o.Codecs)]
	p.pieces = append(p.pieces, piece{i, len(t.Chunks)})
	t.Chunks = append(t.Chunks, c)
	_, err := io.Copy(sum, p.disk.section(off, n))
	return err
}

// store writes the data fork and notes in the tables where each chunk is.
func (p *plan) store(w io.Writer) (fork, error) {
	sum, err := newSum(p.o.DataSum)
	if err != nil {
		return fork{}, err
	}
	out := &tally{w: io.MultiWriter(w, sum)}
	for i, at := range p.pieces {
		t := &p.tables[at.table]
		c := &t.Chunks[at.chunk]
		off, n := t.span(*c)
		start := out.n
		if err := encode(out, c.Method, p.o.Level, p.disk.section(off, n), n); err != nil {
			return fork{}, fmt.Errorf("%v chunk %d: %w", c.Method, at.chunk, err)
		}
		// Raw data has no end of its own: garbage there would be a wrong length.
		if c.Method != Raw {
			if _, err := out.Write(Random(p.o.Seed+uint64(i), int64(p.o.Trailing)).Bytes()); err != nil {
				return fork{}, err
			}
		}
		c.Offset, c.Length = uint64(start), uint64(out.n-start)
	}
	for i := range p.tables {
		p.tables[i].relocate(out.n, p.o.TableOffset)
	}
	return fork{out.n, sum.checksum()}, nil
}

// layout is the image but for what the data fork decides.
func (p *plan) layout() *Layout {
	l := &Layout{
		Tables:    p.tables,
		Extra:     p.o.Extra,
		Meta:      p.o.Meta,
		MasterSum: p.o.MasterSum,
		DataSum:   p.o.DataSum,
		KolyFirst: p.o.KolyFirst,
		Prefix:    Random(p.o.Seed+1, p.o.Prefix).Bytes(),
		Tail:      Random(p.o.Seed+2, int64(p.o.Tail)).Bytes(),
		Koly:      NewKoly(),
	}
	l.Koly.Sectors = uint64(p.total)
	return l
}

// A source is the disk, as if it had zeros after its end.
type source struct {
	r    io.ReaderAt
	size int64
}

// section reads n bytes at off.
func (s source) section(off, n int64) io.Reader {
	stored := max(0, min(n, s.size-off))
	return io.MultiReader(io.NewSectionReader(s.r, off, stored), bytes.NewReader(make([]byte, n-stored)))
}

// allZero tells whether n bytes at off are zeros, without reading them where
// the disk knows that of itself.
func (s source) allZero(off, n int64) (bool, error) {
	if z, ok := s.r.(interface{ ZeroRange(off, n int64) bool }); ok && z.ZeroRange(off, min(n, s.size-off)) {
		return true, nil
	}
	r := s.section(off, n)
	buf := make([]byte, min(n, 1<<20))
	for {
		k, err := r.Read(buf)
		if len(bytes.TrimLeft(buf[:k], "\x00")) > 0 {
			return false, nil
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// tally counts what goes through it.
type tally struct {
	w io.Writer
	n int64
}

func (c *tally) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

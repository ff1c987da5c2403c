package dmg

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strconv"
)

const sectorSize = 512

// Method is how a chunk's bytes are stored: the type field of its entry in
// the block table.
type Method uint32

// The methods that can be read. Other values stand for methods that cannot,
// such as the KenCode, RLE and LZH compression of the 1990s.
const (
	Zero   Method = 0          // zeros, nothing stored
	Raw    Method = 1          // stored as they are
	Ignore Method = 2          // free space of the disk, reads as zeros
	ADC    Method = 0x80000004 // Apple Data Compression
	Zlib   Method = 0x80000005 // a zlib stream, RFC 1950
	Bzip2  Method = 0x80000006 // a bzip2 stream
	LZFSE  Method = 0x80000007 // an LZFSE stream
	LZMA   Method = 0x80000008 // an .xz file
)

// Entry types that say nothing about bytes, and methods known by name only.
const (
	entryComment Method = 0x7FFFFFFE
	entryEnd     Method = 0xFFFFFFFF
	kenCode      Method = 0x80000001
	rle          Method = 0x80000002
	lzh          Method = 0x80000003
)

var methodNames = map[Method]string{
	Zero:    "zero",
	Raw:     "raw",
	Ignore:  "ignore",
	ADC:     "adc",
	Zlib:    "zlib",
	Bzip2:   "bzip2",
	LZFSE:   "lzfse",
	LZMA:    "lzma",
	kenCode: "kencode",
	rle:     "rle",
	lzh:     "lzh",
}

// String returns the method's name in lower case, or its number in
// hexadecimal if it has none.
func (m Method) String() string {
	if s, ok := methodNames[m]; ok {
		return s
	}
	return "0x" + strconv.FormatUint(uint64(m), 16)
}

// zeros reports whether a chunk of method m is all zeros and has no data.
func (m Method) zeros() bool { return m == Zero || m == Ignore }

// compressed reports whether m is a compression that this package decodes.
func (m Method) compressed() bool { return m >= ADC && m <= LZMA }

// forward reports whether streams of method m can only be decoded from their start.
func (m Method) forward() bool { return m == ADC || m == LZFSE || m == LZMA }

// Chunk is a run of the disk's bytes that is stored in one way. All offsets
// and lengths are in bytes.
type Chunk struct {
	Method     Method // how the bytes are stored
	Offset     int64  // on the disk
	Length     int64  // on the disk
	DataOffset int64  // of the stored bytes in the image, after decryption and joining of segments
	DataLength int64  // of the stored bytes; 0 for Zero and Ignore
	Partition  int    // index in Image.Partitions, -1 in none
}

// end returns the disk offset just after c.
func (c *Chunk) end() int64 { return c.Offset + c.Length }

// streamLen returns how many bytes of a compressed chunk's data are decoded at most.
// No encoder makes more of a chunk than a little above its length. But a chunk may
// claim megabytes of blocks of nothing, and a million others the same.
func (c *Chunk) streamLen() int64 {
	more := int64(16 << 10)
	switch c.Method { // a chunk may end in a block, all of which is needed
	case Bzip2:
		more += 1 << 20
	case LZFSE:
		more += 128 << 10
	}
	return min(c.DataLength, 2*min(c.Length, math.MaxInt64/4)+more)
}

// streamEnd returns where in the image they end.
func (c *Chunk) streamEnd() int64 { return c.DataOffset + c.streamLen() }

// String returns the method and the place of c, as error messages name it.
func (c Chunk) String() string {
	return fmt.Sprintf("%v chunk at sectors %d-%d", c.Method, c.Offset/sectorSize, max(c.Offset, c.end()-1)/sectorSize)
}

// A chunkMap is the disk's chunks sorted by offset. They do not overlap, and
// what lies between them reads as zeros.
type chunkMap struct {
	chunks []Chunk
	size   int64 // of the disk
}

// newChunkMap sorts the chunks and refuses overlaps. Every chunk must have a
// length above zero and end within size.
func newChunkMap(chunks []Chunk, size int64) (chunkMap, error) {
	byOffset := func(a, b Chunk) int { return cmp.Compare(a.Offset, b.Offset) }
	if !slices.IsSortedFunc(chunks, byOffset) {
		slices.SortFunc(chunks, byOffset)
	}
	for i := 1; i < len(chunks); i++ {
		if prev, c := &chunks[i-1], &chunks[i]; prev.end() > c.Offset {
			return chunkMap{}, &FormatError{
				Section: "chunk map",
				Offset:  c.Offset,
				Msg:     fmt.Sprintf("%v overlaps %v", c, prev),
			}
		}
	}
	return chunkMap{chunks, size}, nil
}

// length returns how many bytes of the disk are in chunks of a method.
func (m *chunkMap) length(method Method) (n int64) {
	for i := range m.chunks {
		if m.chunks[i].Method == method {
			n += m.chunks[i].Length
		}
	}
	return n
}

// find returns the index of the first chunk that ends after off.
func (m *chunkMap) find(off int64) int {
	return sort.Search(len(m.chunks), func(i int) bool { return m.chunks[i].end() > off })
}

// gap returns the hole that starts at off and ends before chunk i.
func (m *chunkMap) gap(off int64, i int) Chunk {
	end := m.size
	if i < len(m.chunks) {
		end = m.chunks[i].Offset
	}
	return Chunk{Method: Zero, Offset: off, Length: end - off, Partition: -1}
}

// all yields the chunks and the holes between them in disk order.
func (m *chunkMap) all() iter.Seq[Chunk] {
	return func(yield func(Chunk) bool) {
		off := int64(0)
		for i, c := range m.chunks {
			if off < c.Offset && !yield(m.gap(off, i)) {
				return
			}
			if !yield(c) {
				return
			}
			off = c.end()
		}
		if off < m.size {
			yield(m.gap(off, len(m.chunks)))
		}
	}
}

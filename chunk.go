package dmg

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/go-dmg/dmg/internal/adc"
	"github.com/go-dmg/dmg/internal/indexfile"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/xz"
)

const sectorSize = 512

// Method is how a chunk's bytes are stored: the type field of the chunk's entry in the
// block table. In JSON and other text it is its name.
type Method uint32

// The methods that can be read. Reading a chunk of another method, such as the KenCode, RLE
// and LZH compression of the 1990s, returns [ErrUnsupported].
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

// methodInfo says what can be done with chunks of a method. A further compression is a
// row in methods, a case in newCodec, and a codec in a file of its own.
type methodInfo struct {
	name   string // in lower case
	format string // as hdiutil calls images of it; "" if it doesn't

	compressed bool           // it is a compression that is decoded here
	memory     int64          // that its decoders take, in bytes; 0 if that is up to the data
	resume     int64          // that they take besides, of chunks longer than spacing
	slack      int64          // a block of it may have so many bytes more than is decoded of it
	records    indexfile.Kind // what is kept for checkpoints, from which decoding is resumed
	spacing    int64          // how far apart these lie at least, in bytes
	forward    bool           // chunks are decoded from their start as a rule: fetches are generous
	spans      bool           // whole-disk work is cut at checkpoints, and may be of parts of a chunk
	blocks     bool           // a decoder holds a whole block, which is checked, and can go to and fro in it
	summed     bool           // every stream has a checksum of all its bytes
	trailer    bool           // there may be one, behind the last byte
}

var methods = map[Method]methodInfo{
	Zero:    {name: "zero"},
	Raw:     {name: "raw"},
	Ignore:  {name: "ignore"},
	ADC:     {name: "adc", format: "UDCO", compressed: true, memory: adc.Memory, resume: adc.PointMemory, records: indexfile.Stream, spacing: windowSpacing, forward: true, spans: true},
	Zlib:    {name: "zlib", format: "UDZO", compressed: true, memory: zlibMemory, records: indexfile.Zlib, spacing: minSpacing, spans: true, summed: true, trailer: true},
	Bzip2:   {name: "bzip2", format: "UDBZ", compressed: true, memory: bzip2Memory, slack: 1 << 20, records: indexfile.Bzip2, spacing: minSpacing, blocks: true, summed: true},
	LZFSE:   {name: "lzfse", format: "ULFO", compressed: true, memory: lzfse.Memory, resume: lzfse.PointMemory, slack: 128 << 10, records: indexfile.Stream, spacing: windowSpacing, forward: true, spans: true},
	LZMA:    {name: "lzma", format: "ULMO", compressed: true, records: indexfile.Stream, spacing: xzShort, forward: true, spans: true, trailer: true},
	kenCode: {name: "kencode"},
	rle:     {name: "rle"},
	lzh:     {name: "lzh"},
}

// newCodec returns the codec of a compression, which takes so much memory if that is up
// to the data.
func newCodec(m Method, memory int64, s *store, h host) codec {
	switch m {
	case ADC:
		return newStreamCodec(s, new(adc.Reader))
	case LZFSE:
		return newStreamCodec(s, new(lzfse.Reader))
	case LZMA:
		return newStreamCodec(s, xz.NewStreams(memory))
	case Bzip2:
		return newBzip2Codec(s, h)
	}
	return newZlibCodec(s, h)
}

// checkpoints reports whether decoding is resumed from checkpoints.
func (i methodInfo) checkpoints() bool { return i.records != indexfile.None }

// info returns the method's row.
func (m Method) info() methodInfo { return methods[m] }

// String returns the method's name in lower case, or its number in
// hexadecimal if it has none.
func (m Method) String() string {
	if s := methods[m].name; s != "" {
		return s
	}
	return "0x" + strconv.FormatUint(uint64(m), 16)
}

// MarshalText implements [encoding.TextMarshaler] with the name that String returns. It
// has no errors.
func (m Method) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] for what MarshalText returns. Of
// anything else it returns an error, and leaves m as it is.
func (m *Method) UnmarshalText(text []byte) error {
	s := string(text)
	for method, info := range methods {
		if info.name == s {
			*m = method
			return nil
		}
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
	if err != nil || Method(n).String() != s {
		return fmt.Errorf("dmg: %q is not the name of a method, such as %q, or its number, such as %q", s, Zlib, Method(0x80000009))
	}
	*m = Method(n)
	return nil
}

// zeros reports whether a chunk of method m is all zeros and has no data.
func (m Method) zeros() bool { return m == Zero || m == Ignore }

// compressed reports whether m is a compression that this package decodes.
func (m Method) compressed() bool { return m >= ADC && m <= LZMA }

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
	// A chunk may end in a block, all of which is needed.
	more := 16<<10 + c.Method.info().slack
	return min(c.DataLength, 2*min(c.Length, math.MaxInt64/4)+more)
}

// streamEnd returns where in the image they end.
func (c *Chunk) streamEnd() int64 { return c.DataOffset + c.streamLen() }

// String returns the method and the sectors of c, as error messages name them. A sector
// has 512 bytes.
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

// checkpointed returns how many bytes of the disk are in zlib chunks, and how many in chunks
// of LZFSE and ADC that are long enough for checkpoints.
func (m *chunkMap) checkpointed() (zlib, windowed int64) {
	for i := range m.chunks {
		switch c := &m.chunks[i]; {
		case c.Method == Zlib:
			zlib += c.Length
		case (c.Method == LZFSE || c.Method == ADC) && c.Length > windowSpacing:
			windowed += c.Length
		}
	}
	return zlib, windowed
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

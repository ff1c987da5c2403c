package dmgtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Method is how a chunk is stored, as the number in its entry.
type Method uint32

const (
	Zero    Method = 0          // reads as zeros, no data
	Raw     Method = 1          // its own bytes
	Ignore  Method = 2          // free space: reads as zeros, in no checksum
	Comment Method = 0x7FFFFFFE // no sectors, no data
	KenCode Method = 0x80000001 // of the 1990s, no reader knows it
	RLE     Method = 0x80000002 // likewise
	LZH     Method = 0x80000003 // likewise
	ADC     Method = 0x80000004
	Zlib    Method = 0x80000005
	Bzip2   Method = 0x80000006
	LZFSE   Method = 0x80000007
	LZMA    Method = 0x80000008 // a whole .xz container
	End     Method = 0xFFFFFFFF // the last entry of a table
)

var methodNames = map[Method]string{
	Zero: "zero", Raw: "raw", Ignore: "ignore", Comment: "comment", KenCode: "kencode", RLE: "rle", LZH: "lzh",
	ADC: "adc", Zlib: "zlib", Bzip2: "bzip2", LZFSE: "lzfse", LZMA: "lzma", End: "end",
}

func (m Method) String() string {
	if s, ok := methodNames[m]; ok {
		return s
	}
	return fmt.Sprintf("method %#x", uint32(m))
}

// The comments that Apple's tools write, as text.
const (
	commentBegin = 0x2B626567 // +beg
	commentEnd   = 0x2B656E64 // +end
)

// Lengths in bytes of what an image's metadata is made of.
const (
	KolyLen  = 512
	MishLen  = 204 // the head of a block table
	ChunkLen = 40
)

// Koly is the image's trailer, field for field: 512 bytes, big-endian.
type Koly struct {
	Magic           [4]byte
	Version         uint32
	HeaderSize      uint32
	Flags           uint32
	RunningOffset   uint64 // where a segment's data starts in the joined data fork
	DataOffset      uint64
	DataLength      uint64
	RsrcOffset      uint64
	RsrcLength      uint64
	Segment         uint32 // from 1
	Segments        uint32
	SegmentID       [16]byte
	DataSum         Checksum
	PlistOffset     uint64
	PlistLength     uint64
	Reserved1       [64]byte
	SignatureOffset uint64
	SignatureLength uint64
	Reserved2       [40]byte
	MasterSum       Checksum
	Variant         uint32 // 1 device, 2 partition
	Sectors         uint64
	Reserved3       [12]byte
}

// NewKoly is a trailer with everything in it that does not depend on the
// image.
func NewKoly() Koly {
	k := Koly{Magic: [4]byte{'k', 'o', 'l', 'y'}, Version: 4, HeaderSize: KolyLen, Flags: 1, Segment: 1, Segments: 1, Variant: 1}
	for i := range k.SegmentID {
		k.SegmentID[i] = byte(i)
	}
	return k
}

// Bytes are the 512 bytes as they stand in an image.
func (k *Koly) Bytes() []byte { return pack(k) }

// Table is a block table: the head's fields, its chunks, and the name of the
// resource that holds it. Nothing is computed when it is written: Count, say,
// may differ from the number of Chunks.
type Table struct {
	Name string // also the resource's CFName
	TableHead
	Chunks []Chunk
	Junk   []byte // after the chunks
}

// TableHead is the head of a block table, field for field: 204 bytes.
type TableHead struct {
	Magic      [4]byte
	Version    uint32
	First      uint64 // sector of the disk
	Sectors    uint64
	DataOffset uint64 // added to every chunk's
	Buffers    uint32 // sectors a reader should have room for
	Descriptor uint32
	Reserved   [24]byte
	Checksum   Checksum
	Count      uint32 // of chunks
}

// Chunk is an entry of a block table, field for field: 40 bytes.
type Chunk struct {
	Method  Method
	Comment uint32
	Sector  uint64 // from the table's first
	Sectors uint64
	Offset  uint64 // from the data fork's start and the table's data offset
	Length  uint64 // bytes stored
}

// NewTable is a table of the given chunks, without a checksum.
func NewTable(name string, first, sectors int64, chunks ...Chunk) Table {
	t := Table{Name: name, Chunks: chunks}
	t.Magic = [4]byte{'m', 'i', 's', 'h'}
	t.Version = 1
	t.First, t.Sectors = uint64(first), uint64(sectors)
	t.Buffers = 2056
	t.Count = uint32(len(chunks))
	return t
}

// Bytes are the table as it stands in its resource.
func (t *Table) Bytes() []byte {
	b := pack(&t.TableHead)
	for i := range t.Chunks {
		b = append(b, pack(&t.Chunks[i])...)
	}
	return append(b, t.Junk...)
}

// span is where the chunk is on the disk, in bytes.
func (t *Table) span(c Chunk) (off, n int64) {
	return int64(t.First+c.Sector) * SectorSize, int64(c.Sectors) * SectorSize
}

// relocate moves the smallest offset of the table's chunks to its data
// offset, or back, and puts the terminator at the data fork's end.
func (t *Table) relocate(end int64, byTable bool) {
	base := uint64(end)
	for _, c := range t.Chunks {
		if c.Length > 0 {
			base = min(base, c.Offset)
		}
	}
	if !byTable {
		base = 0
	}
	t.DataOffset = base
	for i := range t.Chunks {
		c := &t.Chunks[i]
		if c.Method == End {
			c.Offset = uint64(end)
		}
		if c.Length > 0 || c.Method == End {
			c.Offset -= base
		}
	}
}

// Layout is an image as a tree of structs that tests may bend. [Layout.Seal]
// computes what follows from the rest, Bytes computes nothing.
type Layout struct {
	Prefix []byte // before the data fork
	Data   []byte // the data fork
	Tables []Table
	Extra  []Resource // beside the block tables
	Meta   Meta       // which of Rsrc and Plist Seal makes

	Rsrc  []byte // the resource fork; made by Seal
	Plist []byte // the XML; made by Seal
	Koly  Koly   // offsets, lengths and sums are Seal's
	Tail  []byte // after koly

	KolyFirst          bool // koly is at offset 0 instead
	DataSum, MasterSum SumType
}

// Seal makes Rsrc and Plist from Tables and Extra, and the offsets, lengths
// and checksums of Koly. The tables stay as they are, their checksums too.
func (l *Layout) Seal() error {
	sum, err := newSum(l.DataSum)
	if err != nil {
		return err
	}
	sum.Write(l.Data)
	return l.seal(fork{int64(len(l.Data)), sum.checksum()})
}

// A fork is what koly has to know of the data fork.
type fork struct {
	length int64
	sum    Checksum
}

func (l *Layout) seal(data fork) error {
	l.Rsrc, l.Plist = nil, nil
	all := l.resources()
	if l.Meta != PlistOnly {
		var err error
		if l.Rsrc, err = ResourceFork(all); err != nil {
			return err
		}
	}
	if l.Meta != ResourceOnly {
		l.Plist = Plist(all)
	}
	master, err := newSum(l.MasterSum)
	if err != nil {
		return err
	}
	for _, t := range l.Tables {
		master.Write(t.Checksum.value())
	}
	k := &l.Koly
	k.MasterSum, k.DataSum = master.checksum(), data.sum
	at := uint64(len(l.Prefix))
	if l.KolyFirst {
		at += KolyLen
	}
	k.DataOffset, k.DataLength = at, uint64(data.length)
	k.RsrcOffset, k.RsrcLength = place(at+k.DataLength, l.Rsrc)
	k.PlistOffset, k.PlistLength = place(at+k.DataLength+k.RsrcLength, l.Plist)
	return nil
}

// place is an offset and length for b, 0 and 0 where there is none of it.
func place(at uint64, b []byte) (off, n uint64) {
	if len(b) == 0 {
		return 0, 0
	}
	return at, uint64(len(b))
}

func (l *Layout) resources() []Resource {
	var all []Resource
	for i := range l.Tables {
		t := &l.Tables[i]
		all = append(all, Resource{Type: "blkx", ID: i, Name: t.Name, CFName: t.Name, Attributes: 0x50, Data: t.Bytes()})
	}
	return append(all, l.Extra...)
}

// Bytes are the image, as the fields stand.
func (l *Layout) Bytes() []byte {
	return bytes.Join([][]byte{l.head(), l.Data, l.rest()}, nil)
}

// head is what stands before the data fork.
func (l *Layout) head() []byte {
	if l.KolyFirst {
		return append(l.Koly.Bytes(), l.Prefix...)
	}
	return l.Prefix
}

// rest is what stands after the data fork.
func (l *Layout) rest() []byte {
	b := append(bytes.Clone(l.Rsrc), l.Plist...)
	if !l.KolyFirst {
		b = append(b, l.Koly.Bytes()...)
	}
	return append(b, l.Tail...)
}

// pack writes a struct of fixed size, big-endian and without gaps.
func pack(v any) []byte {
	b, err := binary.Append(nil, binary.BigEndian, v)
	if err != nil {
		panic(err) // a field without a size: not a matter of values
	}
	return b
}

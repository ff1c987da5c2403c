package dmgtest

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
)

// ASIF is an image in the format of that name, of which only what is in Data is stored.
type ASIF struct {
	Size    int64 // of the disk, bytes
	MaxSize int64 // that it could have; 0 stands for Size, to the next chunk
	Chunk   int64 // bytes; 0 stands for 32 KiB
	Block   int64 // bytes of a sector; 0 stands for 512

	Data    map[int64][]byte // by its place on the disk, a multiple of Chunk
	Whole   bool             // no bitmaps: chunks are stored whole
	Garbage bool             // sectors that a bitmap leaves out hold 0xEE
	Second  bool             // the second directory counts, and the first points at nothing that is there
}

// ASIFParts says where the parts of an image are, in bytes.
type ASIFParts struct {
	Dirs           [2]int64
	Tables         []int64 // those that there are
	Group          int64   // bytes of one in a table
	Bitmaps, Datas []int64 // chunks
}

// Bytes writes the image.
func (a ASIF) Bytes() ([]byte, ASIFParts) {
	if a.Chunk == 0 {
		a.Chunk = 32 << 10
	}
	if a.Block == 0 {
		a.Block = SectorSize
	}
	if a.MaxSize == 0 {
		a.MaxSize = (a.Size + a.Chunk - 1) / a.Chunk * a.Chunk
	}
	perGroup := 4 * a.Block
	parts := ASIFParts{Group: 8 * (perGroup + 1)}
	reach := a.Chunk / parts.Group * perGroup // chunks that a table covers
	tables := (a.MaxSize + reach*a.Chunk - 1) / (reach * a.Chunk)
	dirLen := (8 + 8*tables + a.Block - 1) / a.Block * a.Block
	parts.Dirs = [2]int64{512, 512 + dirLen}

	b := make([]byte, (512+2*dirLen+a.Chunk-1)/a.Chunk*a.Chunk)
	grow := func() int64 { // the number of a new chunk
		b = append(b, make([]byte, a.Chunk)...)
		return int64(len(b))/a.Chunk - 1
	}
	put := func(at, v int64) { binary.BigEndian.PutUint64(b[at:], uint64(v)) }
	copy(b, "shdw")
	binary.BigEndian.PutUint32(b[4:], 1)
	binary.BigEndian.PutUint32(b[8:], 512)
	put(0x10, parts.Dirs[0])
	put(0x18, parts.Dirs[1])
	put(0x30, a.Size/a.Block)
	put(0x38, a.MaxSize/a.Block)
	binary.BigEndian.PutUint32(b[0x40:], uint32(a.Chunk))
	binary.BigEndian.PutUint16(b[0x44:], uint16(a.Block))
	active, stale := parts.Dirs[0], parts.Dirs[1]
	put(active, 7)
	put(stale, 6)
	if a.Second {
		active, stale = stale, active
		put(active, 7)
		put(stale, 6)
		for t := range tables {
			put(stale+8+8*t, 1<<40)
		}
	}
	for _, off := range slices.Sorted(maps.Keys(a.Data)) {
		for data, c := a.Data[off], off/a.Chunk; len(data) > 0; c++ {
			p := data[:min(a.Chunk, int64(len(data)))]
			data = data[len(p):]
			entry := active + 8 + 8*(c/reach)
			if binary.BigEndian.Uint64(b[entry:]) == 0 {
				table := grow()
				put(entry, table)
				parts.Tables = append(parts.Tables, table*a.Chunk)
			}
			table := int64(binary.BigEndian.Uint64(b[entry:])) * a.Chunk
			group := table + c%reach/perGroup*parts.Group
			a.store(put, grow, func() []byte { return b }, &parts, group, c%perGroup, p)
		}
	}
	return b, parts
}

// store writes chunk i of a group.
func (a *ASIF) store(put func(at, v int64), grow func() int64, file func() []byte, parts *ASIFParts, group, i int64, p []byte) {
	sectors := a.Chunk / a.Block
	p = append(bytes.Clone(p), make([]byte, a.Chunk-int64(len(p)))...)
	zero := make([]byte, a.Block)
	var stored []int64
	for s := range sectors {
		if sector := p[s*a.Block:][:a.Block]; !bytes.Equal(sector, zero) {
			stored = append(stored, s)
		} else if a.Garbage && !a.Whole {
			copy(sector, bytes.Repeat([]byte{0xEE}, len(sector)))
		}
	}
	if len(stored) == 0 {
		put(group+8*i, -1<<63) // discarded
		return
	}
	chunk := grow()
	copy(file()[chunk*a.Chunk:], p)
	parts.Datas = append(parts.Datas, chunk*a.Chunk)
	if a.Whole || int64(len(stored)) == sectors {
		put(group+8*i, 1<<62|chunk)
		return
	}
	put(group+8*i, -1<<62|chunk)
	at := group + parts.Group - 8
	bitmap := int64(binary.BigEndian.Uint64(file()[at:]))
	if bitmap == 0 {
		bitmap = grow()
		put(at, bitmap)
		parts.Bitmaps = append(parts.Bitmaps, bitmap*a.Chunk)
	}
	for _, s := range stored {
		s += i * sectors
		file()[bitmap*a.Chunk+s/4] |= 1 << (s % 4 * 2)
	}
}

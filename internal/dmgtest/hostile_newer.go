package dmgtest

import (
	"bytes"
	"encoding/binary"

	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// asif bends the header, directories, tables and bitmaps of a small ASIF image.
func (b *bender) asif() {
	const chunk = 33 * 512 // the least that has room for a group
	disk := Text(6, 3*chunk).Bytes()
	clear(disk[1024:5120])
	image, parts := ASIF{Size: 6 * chunk, MaxSize: 1 << 40, Chunk: chunk, Data: map[int64][]byte{0: disk[:len(disk)-700], 5 * chunk: disk[:100]}, Garbage: true}.Bytes()
	table, bitmap := int(parts.Tables[0]), int(parts.Bitmaps[0])
	for _, w := range []word{
		{4, 4, false}, {8, 4, false}, {0xC, 4, false}, {0x10, 8, false}, {0x18, 8, false}, {0x30, 8, false}, {0x38, 8, false},
		{0x40, 4, false}, {0x44, 2, false}, {0x46, 2, false}, {0x48, 8, false}, {0x50, 8, false}, {0x58, 8, false},
		{int(parts.Dirs[0]), 8, false}, {int(parts.Dirs[0]) + 8, 8, false}, {int(parts.Dirs[0]) + 16, 8, false}, {int(parts.Dirs[1]), 8, false},
		{table, 8, false}, {table + 8, 8, false}, {table + 40, 8, false}, {table + int(parts.Group) - 8, 8, false}, {bitmap, 8, false},
	} {
		bendWord(image, w.at, w.width, func(image []byte, n uint64) { b.give(image, "%#x=%#x", w.at, n) })
	}
	for _, p := range [][2]word{
		{{0x30, 8, false}, {0x38, 8, false}}, // sectors, and how many there could be
		{{0x38, 8, false}, {0x40, 4, false}}, // and bytes of a chunk
		{{0x40, 4, false}, {0x44, 2, false}}, // of a chunk and a sector
		{{0x10, 8, false}, {0x18, 8, false}}, // directories
	} {
		bendPair(image, p[0], p[1], func(image []byte, what string) { b.give(image, "%s", what) })
	}
	for n := 0; n < len(image); n += 5003 {
		b.give(image[:n], "cut at %d", n)
	}
	b.entries(image, parts, 1<<40/chunk)
}

// entries are tables whose entries are all the same, and as many tables as there can be.
func (b *bender) entries(image []byte, parts ASIFParts, chunks int64) {
	const chunk = 33 * 512
	put := func(at int64, v uint64) { binary.BigEndian.PutUint64(image[at:], v) }
	put(0x30, 1<<40/512) // the disk is as large as it could be
	table, data, bitmap := uint64(parts.Tables[0]/chunk), uint64(parts.Datas[0]/chunk), uint64(parts.Bitmaps[0]/chunk)
	for t := range chunks / 2048 {
		put(parts.Dirs[0]+8+8*t, table)
	}
	for _, entry := range []uint64{0, 2 << 62, 1<<62 | data, 1<<62 | table, 3<<62 | data, 3<<62 | bitmap, 1 << 62, 2<<62 | data, 1<<55 | data} {
		for at := parts.Tables[0]; at < parts.Tables[0]+parts.Group-8; at += 8 {
			put(at, entry)
		}
		if entry>>62 != 3 {
			b.give(bytes.Clone(image), "shared tables, entries %#x", entry)
			continue
		}
		for _, states := range []byte{0x00, 0x55, 0x11, 0xAA, 0x1B} {
			copy(image[parts.Bitmaps[0]:], bytes.Repeat([]byte{states}, chunk))
			b.give(bytes.Clone(image), "shared tables, entries %#x, bitmap %#x", entry, states)
		}
		for _, of := range []uint64{table, uint64(parts.Dirs[0] / chunk), 1 << 40} {
			put(parts.Tables[0]+parts.Group-8, of)
			b.give(bytes.Clone(image), "shared tables, entries %#x, bitmap is chunk %#x", entry, of)
		}
		put(parts.Tables[0]+parts.Group-8, bitmap)
	}
}

// im4p bends each byte around a payload, and lies about its compression.
func (b *bender) im4p() {
	disk := Text(6, 3000).Bytes()
	copy(disk[510:], "\x55\xAA")
	stream := lzfseenc.Encode(lzfseenc.V2, disk)
	for _, f := range []struct {
		name string
		file IM4P
	}{
		{"stored", IM4P{Payload: disk, Keybag: []byte{}, Properties: true}},
		{"IMG4", IM4P{Payload: disk, IMG4: true, Long: true}},
		{"LZFSE", IM4P{Payload: stream, Compressed: true, Algorithm: 1, Size: int64(len(disk))}},
	} {
		image := f.file.Bytes()
		payload := bytes.Index(image, f.file.Payload)
		for at := range image {
			if at == payload {
				at += len(f.file.Payload)
			}
			if at < payload || at >= payload+len(f.file.Payload) {
				bendWord(image, at, 1, func(image []byte, n uint64) { b.give(image, "%s, %#x=%#x", f.name, at, n) })
			}
		}
		for n := 0; n < len(image); n += 301 {
			b.give(image[:n], "%s, cut at %d", f.name, n)
		}
	}
	for _, size := range numbers(8, uint64(len(disk))) {
		if int64(size) >= 0 {
			b.give(IM4P{Payload: stream, Compressed: true, Algorithm: 1, Size: int64(size)}.Bytes(), "LZFSE of %d bytes", size)
		}
	}
	b.give(IM4P{Payload: append(stream[:len(stream)-4:len(stream)-4], bytes.Repeat([]byte("bvx-\x00\x00\x00\x00"), 1<<20)...)}.Bytes(), "a million blocks of nothing")
	for _, kind := range lzfseenc.Kinds {
		b.give(IM4P{Payload: lzfseenc.Encode(kind, append(bytes.Clone(disk), make([]byte, 8<<20)...))}.Bytes(), "8 MiB of zeros as bvx%c", kind)
		for at := range 40 {
			bent := lzfseenc.Encode(kind, disk)
			bent[at] ^= 0xFF
			b.give(IM4P{Payload: bent}.Bytes(), "bvx%c, byte %d", kind, at)
		}
	}
	inner := IM4P{Payload: disk}.Bytes()
	for range 20 {
		inner = IM4P{Payload: inner, IMG4: true}.Bytes()
	}
	b.give(inner, "20 times")
}

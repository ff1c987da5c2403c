package dmgtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/go-dmg/dmg/internal/dmgtest/adcenc"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

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

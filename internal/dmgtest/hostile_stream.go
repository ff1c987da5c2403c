package dmgtest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/go-dmg/dmg/internal/dmgtest/adcenc"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

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

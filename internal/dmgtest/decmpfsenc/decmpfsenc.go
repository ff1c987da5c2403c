// Package decmpfsenc writes, for tests, the attributes and resource forks of files that
// HFS+ and APFS store compressed. It shares no code with the reader.
package decmpfsenc

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"math/rand/v2"

	"github.com/go-dmg/dmg/internal/dmgtest/lzbitmapenc"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// HeaderLen is the length of the attribute's header.
const HeaderLen = 16

// An Encoding is a way to write a chunk.
type Encoding struct {
	Name         string
	Inline, Fork uint32 // the types that have it: in the attribute, and in the fork
	Chunk        func(p []byte) []byte
}

// Encodings are all that there are. The names of those that compress are the
// compression's.
var Encodings = []Encoding{
	{"stored", 1, 10, bytes.Clone},
	{"stored behind CC", 9, 10, behind(0xCC)},
	{"zlib", 3, 4, func(p []byte) []byte {
		var w bytes.Buffer
		z := zlib.NewWriter(&w)
		z.Write(p)
		z.Close()
		return w.Bytes()
	}},
	{"zlib stored", 3, 4, behind(0xFF)},
	{"zlib stored, another marker", 3, 4, behind(0x0F)},
	{"lzvn", 7, 8, encodeLZVN},
	{"lzvn stored", 7, 8, behind(0x06)},
	{"lzvn with bytes behind", 7, 8, func(p []byte) []byte { return append(encodeLZVN(p), "\xe1\x70\xdf garbage"...) }},
	{"lzfse", 11, 12, func(p []byte) []byte { return lzfseenc.Encode(lzfseenc.V2, p) }},
	{"lzfse bvx1", 11, 12, func(p []byte) []byte { return lzfseenc.Encode(lzfseenc.V1, p) }},
	{"lzfse bvxn", 11, 12, func(p []byte) []byte { return lzfseenc.Encode(lzfseenc.LZVN, p) }},
	{"lzfse bvx-", 11, 12, func(p []byte) []byte { return lzfseenc.Encode(lzfseenc.Stored, p) }},
	{"lzfse stored", 11, 12, behind(0xFF)},
	{"lzbitmap", 13, 14, lzbitmapenc.Encode},
	{"lzbitmap stored", 13, 14, behind(0xFF)},
	{"lzbitmap with bytes behind", 13, 14, func(p []byte) []byte { return append(lzbitmapenc.Encode(p), "garbage"...) }},
}

func behind(marker byte) func(p []byte) []byte {
	return func(p []byte) []byte { return append([]byte{marker}, p...) }
}

// encodeLZVN takes the codes out of a bvxn block.
func encodeLZVN(p []byte) []byte {
	b := lzfseenc.Encode(lzfseenc.LZVN, p)
	return b[12 : len(b)-len("bvx$")]
}

// Attribute writes the attribute.
func Attribute(kind uint32, size uint64, data []byte) []byte {
	b := append([]byte("fpmc"), make([]byte, HeaderLen-4)...)
	binary.LittleEndian.PutUint32(b[4:], kind)
	binary.LittleEndian.PutUint64(b[8:], size)
	return append(b, data...)
}

// Inline writes a file into an attribute.
func Inline(kind uint32, content []byte, chunk func(p []byte) []byte) []byte {
	return Attribute(kind, uint64(len(content)), chunk(content))
}

// Fork writes a file into a fork. A table of offsets gets some entries more
// than it needs.
func Fork(kind uint32, content []byte, spare int, chunk func(p []byte) []byte) (attr, fork []byte) {
	var data []byte
	ends := []int{0}
	for rest := content; len(rest) > 0; rest = rest[min(65536, len(rest)):] {
		data = append(data, chunk(rest[:min(65536, len(rest))])...)
		ends = append(ends, len(data))
	}
	attr = Attribute(kind, uint64(len(content)), nil)
	chunks := len(ends) - 1
	if kind != 4 {
		table := 4 * (len(ends) + spare)
		for _, end := range ends {
			fork = binary.LittleEndian.AppendUint32(fork, uint32(table+end))
		}
		return attr, append(append(fork, make([]byte, 4*spare)...), data...)
	}
	table := 4 + 8*chunks
	const at, mapLen = 0x100, 50
	fork = binary.BigEndian.AppendUint32(fork, at)
	fork = binary.BigEndian.AppendUint32(fork, uint32(at+4+table+len(data)))
	fork = binary.BigEndian.AppendUint32(fork, uint32(4+table+len(data)))
	fork = binary.BigEndian.AppendUint32(fork, mapLen)
	fork = append(fork, make([]byte, at-len(fork))...)
	fork = binary.BigEndian.AppendUint32(fork, uint32(table+len(data)))
	fork = binary.LittleEndian.AppendUint32(fork, uint32(chunks))
	for k := range chunks {
		fork = binary.LittleEndian.AppendUint32(fork, uint32(table+ends[k]))
		fork = binary.LittleEndian.AppendUint32(fork, uint32(ends[k+1]-ends[k]))
	}
	return attr, append(append(fork, data...), make([]byte, mapLen)...)
}

// Text is content that gets shorter, and is not the same anywhere.
func Text(n int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		if len(b) > 40 && rnd.IntN(3) > 0 {
			from := rnd.IntN(len(b) - 32)
			b = append(b, b[from:from+3+rnd.IntN(29)]...)
		} else {
			b = binary.BigEndian.AppendUint32(b, rnd.Uint32())
		}
	}
	return b[:n]
}

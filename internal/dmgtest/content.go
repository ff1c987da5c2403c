package dmgtest

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Content is what a disk holds, made up as it is read: it takes no memory
// however large it is. The same seed gives the same bytes everywhere. It is
// an io.ReaderAt, and safe for concurrent use.
type Content struct {
	runs []run
	size int64
}

// A run is a stretch of a content. Bytes are made from their distance to the
// run's start.
type run struct {
	end  int64 // in the content
	seed uint64
	kind kind
}

type kind int

const (
	zeros kind = iota
	random
	text
	mixed
)

// Zeros is n zeros.
func Zeros(n int64) Content { return Content{[]run{{n, 0, zeros}}, n} }

// Random is n bytes that no codec makes smaller.
func Random(seed uint64, n int64) Content { return Content{[]run{{n, seed, random}}, n} }

// Text is n bytes of words, which codecs make three to four times smaller.
func Text(seed uint64, n int64) Content { return Content{[]run{{n, seed, text}}, n} }

// Mixed is n bytes like those of a disk: areas of 32 KiB of text (half),
// random bytes and zeros (a quarter each), and the third MiB of every four
// is all zeros.
func Mixed(seed uint64, n int64) Content { return Content{[]run{{n, seed, mixed}}, n} }

// Join is contents one after the other.
func Join(all ...Content) Content {
	var c Content
	for _, a := range all {
		for _, r := range a.runs {
			r.end += c.size
			c.runs = append(c.runs, r)
		}
		c.size += a.size
	}
	return c
}

// Size is the content's length in bytes.
func (c Content) Size() int64 { return c.size }

// Bytes is the content in memory.
func (c Content) Bytes() []byte {
	b := make([]byte, c.size)
	c.fill(b, 0)
	return b
}

// ReadAt implements io.ReaderAt.
func (c Content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= c.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-off))
	c.fill(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ZeroRange tells, without making them, that n bytes at off are zeros. It
// may say false of zeros.
func (c Content) ZeroRange(off, n int64) bool {
	for i := c.find(off); n > 0; i++ {
		if i == len(c.runs) || c.runs[i].kind != zeros {
			return false
		}
		n -= c.runs[i].end - off
		off = c.runs[i].end
	}
	return true
}

func (c Content) reader() io.Reader { return io.NewSectionReader(c, 0, c.size) }

// find is the index of the run that holds the byte at off.
func (c Content) find(off int64) int {
	i, _ := slices.BinarySearchFunc(c.runs, off+1, func(r run, off int64) int { return int(min(max(r.end-off, -1), 1)) })
	return i
}

// fill makes the bytes of p, which lie within the content.
func (c Content) fill(p []byte, off int64) {
	for i := c.find(off); len(p) > 0; i++ {
		r := c.runs[i]
		start := int64(0)
		if i > 0 {
			start = c.runs[i-1].end
		}
		n := min(int64(len(p)), r.end-off)
		r.fill(p[:n], off-start)
		p, off = p[n:], off+n
	}
}

func (r run) fill(p []byte, off int64) {
	switch r.kind {
	case zeros:
		clear(p)
	case random:
		fillRandom(p, r.seed, off)
	case text:
		fillText(p, r.seed, off)
	case mixed:
		fillMixed(p, r.seed, off)
	}
}

// mix is splitmix64: a good 64-bit hash of its argument.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// fillRandom makes every eight bytes from their number.
func fillRandom(p []byte, seed uint64, off int64) {
	seed = mix(seed)
	var word [8]byte
	for len(p) > 0 {
		v := mix(seed + uint64(off/8))
		if off%8 == 0 && len(p) >= 8 {
			binary.LittleEndian.PutUint64(p, v)
			p, off = p[8:], off+8
			continue
		}
		binary.LittleEndian.PutUint64(word[:], v)
		n := copy(p, word[off%8:])
		p, off = p[n:], off+int64(n)
	}
}

// textLen is how many bytes of text are made at once, from their number: a
// read in the middle of a large text need not make all that comes before.
const textLen = 256

var words = [...]string{
	"the ", "of ", "and ", "to ", "a ", "in ", "is ", "it ", "sector ", "chunk ", "table ", "partition ", "offset ", "length ",
	"image ", "disk ", "was ", "for ", "on ", "are ", "with ", "as ", "be ", "at ", "one ", "have ", "this ", "from ", "or ", "had ",
	"by ", "not ", "word ", "but ", "what ", "some ", "we ", "can ", "out ", "other ", "were ", "all ", "there ", "when ", "up ",
	"use ", "your ", "how ", "said ", "an ", "each ", "she ", "which ", "do ", "their ", "time ", "if ", "will ", "way ", "about ",
	"many ", "then ", "them.\n", "would.\n",
}

func fillText(p []byte, seed uint64, off int64) {
	seed = mix(seed)
	for len(p) > 0 {
		line := textLine(mix(seed + uint64(off/textLen)))
		n := copy(p, line[off%textLen:])
		p, off = p[n:], off+int64(n)
	}
}

func textLine(state uint64) (line [textLen]byte) {
	for n := 0; n < textLen; {
		state = mix(state)
		// The smaller of two draws: some words are more frequent.
		n += copy(line[n:], words[min(state%64, state>>32%64)])
	}
	return line
}

func fillMixed(p []byte, seed uint64, off int64) {
	const area = 32 << 10
	for len(p) > 0 {
		n := min(int64(len(p)), area-off%area)
		switch pick := mix(seed^mix(uint64(off/area))) % 4; {
		case off>>20&3 == 2 || pick == 0:
			clear(p[:n])
		case pick == 1:
			fillRandom(p[:n], seed, off)
		default:
			fillText(p[:n], seed, off)
		}
		p, off = p[n:], off+n
	}
}

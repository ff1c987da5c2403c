package deflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// bitWriter writes a DEFLATE stream by its tokens and keeps the output that
// they stand for.
type bitWriter struct {
	buf []byte
	acc uint64
	n   uint
	out []byte
	lit code
	dst code
}

// code is a canonical Huffman code, bits reversed as the stream has them.
type code struct {
	lens  []byte
	codes []uint16
}

func newCode(lens []byte) code {
	c := code{lens, make([]uint16, len(lens))}
	next := 0
	for n := 1; n <= 15; n++ {
		next <<= 1
		for i, l := range lens {
			if int(l) == n {
				c.codes[i] = bits.Reverse16(uint16(next)) >> (16 - n)
				next++
			}
		}
	}
	return c
}

func (w *bitWriter) bits(v uint64, n uint) {
	w.acc |= v << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.buf = append(w.buf, byte(w.acc))
		w.acc >>= 8
	}
}

func (w *bitWriter) align() {
	if w.n > 0 {
		w.bits(0, 8-w.n)
	}
}

func (w *bitWriter) symbol(c code, s int) { w.bits(uint64(c.codes[s]), uint(c.lens[s])) }

func (w *bitWriter) stored(final uint64, p []byte) {
	w.bits(final, 3)
	w.align()
	w.bits(uint64(len(p))|uint64(^uint16(len(p)))<<16, 32)
	w.buf = append(w.buf, p...)
	w.out = append(w.out, p...)
}

func (w *bitWriter) fixed(final uint64) {
	w.bits(final|1<<1, 3)
	lens := make([]byte, 320)
	for i := range lens {
		lens[i] = 8
		switch {
		case i >= 288:
			lens[i] = 5
		case i >= 256 && i < 280:
			lens[i] = 7
		case i >= 144 && i < 256:
			lens[i] = 9
		}
	}
	w.lit, w.dst = newCode(lens[:288]), newCode(lens[288:])
}

// dynamic writes a block header for codes of these lengths, without repeats.
func (w *bitWriter) dynamic(final uint64, lit, dst []byte) {
	w.bits(final|2<<1, 3)
	w.bits(uint64(len(lit)-257), 5)
	w.bits(uint64(len(dst)-1), 5)
	w.bits(19-4, 4)
	clen := make([]byte, 19)
	for i := range clen {
		clen[i] = 4
		if i >= 13 {
			clen[i] = 5
		}
	}
	for _, i := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		w.bits(uint64(clen[i]), 3)
	}
	c := newCode(clen)
	for _, l := range append(append([]byte{}, lit...), dst...) {
		w.symbol(c, int(l))
	}
	w.lit, w.dst = newCode(lit), newCode(dst)
}

func (w *bitWriter) literal(b byte) {
	w.symbol(w.lit, int(b))
	w.out = append(w.out, b)
}

var lengthBase = []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
var distBase = []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}

func (w *bitWriter) match(length, dist int) {
	i := len(lengthBase) - 1
	for lengthBase[i] > length {
		i--
	}
	w.symbol(w.lit, 257+i)
	if i >= 8 && i < 28 {
		w.bits(uint64(length-lengthBase[i]), uint(i-4)/4)
	}
	i = len(distBase) - 1
	for distBase[i] > dist {
		i--
	}
	w.symbol(w.dst, i)
	if i >= 4 {
		w.bits(uint64(dist-distBase[i]), uint(i-2)/2)
	}
	for range length {
		w.out = append(w.out, w.out[len(w.out)-dist])
	}
}

// tokens writes literals and matches of all kinds until n bytes are out.
func (w *bitWriter) tokens(r *rand.Rand, n int) {
	for n += len(w.out); len(w.out) < n; {
		if len(w.out) == 0 || r.IntN(3) == 0 {
			w.literal(byte(r.ExpFloat64() * 20))
			continue
		}
		// Small distances and lengths as often as large ones.
		dist := 1 + r.IntN(min(len(w.out), 1<<r.IntN(16)))
		w.match(min(258, 3+r.IntN(1<<r.IntN(9))), min(dist, WindowSize))
	}
}

func (w *bitWriter) end() { w.symbol(w.lit, 256) }

// flat are complete codes of nearly equal lengths, and deep ones have lengths
// up to 15, so that subtables of several widths are needed.
func flat() (lit, dst []byte) {
	lit, dst = make([]byte, 286), make([]byte, 30)
	for i := range lit {
		lit[i] = 8
		if i >= 226 {
			lit[i] = 9
		}
	}
	for i := range dst {
		dst[i] = 5
		if i < 2 {
			dst[i] = 4
		}
	}
	return lit, dst
}

func deep(r *rand.Rand) (lit, dst []byte) { return randomCode(r, 286), randomCode(r, 30) }

// randomCode splits random leaves of a tree until it has n of them.
func randomCode(r *rand.Rand, n int) []byte {
	lens := []byte{1, 1}
	for len(lens) < n {
		i := r.IntN(len(lens))
		if r.IntN(2) == 0 {
			i = len(lens) - 1
		}
		if lens[i] < 15 {
			lens[i]++
			lens = append(lens, lens[i])
		}
	}
	r.Shuffle(n, func(i, j int) { lens[i], lens[j] = lens[j], lens[i] })
	return lens
}

type stream struct {
	name string
	raw  []byte // DEFLATE
	want []byte
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1951)) }

// mixed is text, noise, zeros and repeats.
func mixed(n int) []byte {
	r := newRand(1)
	var b []byte
	for len(b) < n {
		switch r.IntN(4) {
		case 0:
			b = append(b, english(r, 1+r.IntN(20000))...)
		case 1:
			for range r.IntN(3000) {
				b = append(b, byte(r.Uint32()))
			}
		case 2:
			b = append(b, make([]byte, r.IntN(5000))...)
		case 3:
			if len(b) > 0 {
				p := b[r.IntN(len(b)):]
				b = append(b, p[:min(len(p), 4000)]...)
			}
		}
	}
	return b[:n]
}

// english is text of words and letters as frequent as in English, made up.
func english(r *rand.Rand, n int) []byte {
	const letters = "etaoinshrdlcumwfgypbvkjxqz"
	var words [2000]string
	w := newRand(2)
	for i := range words {
		var s []byte
		for range 1 + w.IntN(4) + i/300 {
			s = append(s, letters[min(int(w.ExpFloat64()*6), 25)])
		}
		words[i] = string(s)
	}
	var b []byte
	for len(b) < n {
		b = append(b, words[min(int(r.ExpFloat64()*250), len(words)-1)]...)
		switch k := r.IntN(60); {
		case k < 4:
			b = append(b, ", "...)
		case k < 7:
			b = append(b, ".\n"...)
		default:
			b = append(b, ' ')
		}
	}
	return b[:n]
}

func goFlate(t testing.TB, p []byte, level int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(p)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ownStreams are the ones written by bitWriter.
func ownStreams(size int) []stream {
	var all []stream
	add := func(name string, f func(w *bitWriter, r *rand.Rand)) {
		w := &bitWriter{}
		f(w, newRand(3))
		w.align()
		all = append(all, stream{name, w.buf, w.out})
	}
	add("empty", func(w *bitWriter, r *rand.Rand) { w.fixed(1); w.end() })
	add("fixed", func(w *bitWriter, r *rand.Rand) { w.fixed(1); w.tokens(r, size); w.end() })
	add("stored", func(w *bitWriter, r *rand.Rand) {
		p := mixed(size)
		for len(p) > 0 {
			n := min(len(p), r.IntN(65536))
			w.stored(0, p[:n])
			p = p[n:]
		}
		w.stored(1, nil)
	})
	add("stored and matches", func(w *bitWriter, r *rand.Rand) {
		for len(w.out) < size {
			for range r.IntN(6) {
				w.stored(0, mixed(r.IntN([]int{65536, 16 << 10, 8 << 10}[r.IntN(3)])))
			}
			if len(w.out) > 0 {
				w.fixed(0)
				for range r.IntN(4) {
					dist := min(len(w.out), WindowSize)
					w.match(3+r.IntN(256), dist-r.IntN(min(dist, 1000)))
				}
				w.end()
			}
		}
		w.stored(1, nil)
	})
	add("runs", func(w *bitWriter, r *rand.Rand) {
		w.fixed(1)
		for len(w.out) < size {
			dist := 1 + r.IntN(8)
			for range dist {
				w.literal(byte(r.IntN(2)))
			}
			for range r.IntN(40) {
				w.match(258, dist)
			}
		}
		w.end()
	})
	add("one block", func(w *bitWriter, r *rand.Rand) {
		lit, dst := flat()
		w.dynamic(1, lit, dst)
		w.tokens(r, size)
		w.end()
	})
	add("small blocks", func(w *bitWriter, r *rand.Rand) {
		for len(w.out) < size {
			switch r.IntN(4) {
			case 0:
				w.stored(0, mixed(r.IntN(300)))
				continue
			case 1:
				w.fixed(0)
			default:
				lit, dst := deep(r)
				w.dynamic(0, lit, dst)
			}
			w.tokens(r, r.IntN(5000))
			w.end()
		}
		w.stored(1, nil)
	})
	add("no distance code", func(w *bitWriter, r *rand.Rand) {
		lit := randomCode(r, 257)
		w.dynamic(1, lit, []byte{0})
		for range size / 2 {
			w.literal(byte(r.Uint32()))
		}
		w.end()
	})
	add("one distance code", func(w *bitWriter, r *rand.Rand) {
		w.dynamic(1, randomCode(r, 286), []byte{0, 0, 1})
		w.out = append(w.out, 0, 0, 0)
		w.out = w.out[:0]
		for i := range size / 8 {
			w.literal(byte(i))
			if i > 3 {
				w.match(3+r.IntN(10), 3)
			}
		}
		w.end()
	})
	return all
}

// tools compress standard input to standard output, in gzip's format.
var tools = []struct {
	name   string
	levels []string
	args   []string
}{
	{"libdeflate-gzip", strings.Fields("-1 -2 -3 -4 -5 -6 -7 -8 -9 -10 -11 -12"), []string{"-c"}},
	{"igzip", strings.Fields("-0 -1 -2 -3"), []string{"-c"}},
	{"pigz", strings.Fields("-0 -1 -6 -9 -11"), []string{"-c", "-n"}},
	{"7zz", strings.Fields("-mx=1 -mx=5 -mx=9"), []string{"a", "-tgzip", "-si", "-so", "-bd", "x"}},
}

// toolStreams are the ones of the compressors at hand.
func toolStreams(t testing.TB, p []byte) []stream {
	var all []stream
	for _, tool := range tools {
		path, err := exec.LookPath(tool.name)
		if err != nil {
			continue
		}
		for _, level := range tool.levels {
			cmd := exec.Command(path, append([]string{}, append(tool.args, level)...)...)
			cmd.Stdin = bytes.NewReader(p)
			gz, err := cmd.Output()
			if err != nil {
				t.Logf("%s %s: %v", tool.name, level, err)
				continue
			}
			all = append(all, stream{tool.name + level, gunzip(t, gz), p})
		}
	}
	return append(all, zlibStreams(t, p)...)
}

// zlibStreams are those of zlib itself, through python3.
func zlibStreams(t testing.TB, p []byte) []stream {
	path, err := exec.LookPath("python3")
	if err != nil {
		return nil
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), p, 0o600); err != nil {
		t.Fatal(err)
	}
	const script = `
import sys, zlib
p = open(sys.argv[1] + "/in", "rb").read()
for level in range(10):
	for mem, strategy in ((8, 0), (1, 0)) if level != 6 else ((8, 0), (1, 0), (9, 4), (9, 2), (9, 3)):
		c = zlib.compressobj(level, zlib.DEFLATED, -15, mem, strategy)
		open("%s/%d-%d-%d" % (sys.argv[1], level, mem, strategy), "wb").write(c.compress(p) + c.flush())
`
	if out, err := exec.Command(path, "-c", script, dir).CombinedOutput(); err != nil {
		t.Logf("python3: %v: %s", err, out)
		return nil
	}
	files, _ := filepath.Glob(dir + "/*-*")
	var all []stream
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, stream{"zlib " + filepath.Base(f), raw, p})
	}
	return all
}

// gunzip strips the header and the trailer of RFC 1952.
func gunzip(t testing.TB, gz []byte) []byte {
	if len(gz) < 18 || gz[0] != 0x1F || gz[1] != 0x8B || gz[3]&^8 != 0 {
		t.Fatalf("gzip header % x", gz[:min(10, len(gz))])
	}
	flags, gz := gz[3], gz[10:len(gz)-8]
	if flags&8 != 0 {
		gz = gz[bytes.IndexByte(gz, 0)+1:]
	}
	return gz
}

var made struct {
	sync.Once
	all []stream
}

// streams are all small ones, made once.
func streams(t testing.TB) []stream {
	made.Do(func() { made.all = makeStreams(t) })
	return made.all
}

func makeStreams(t testing.TB) []stream {
	size := 200_000
	switch {
	case dmgtest.Raced():
		size = 70_000
	case dmgtest.Part():
		size = 100_000
	}
	all := ownStreams(size)
	p := mixed(size)
	for level := -2; level <= 9; level++ {
		all = append(all, stream{fmt.Sprintf("compress/flate %d", level), goFlate(t, p, level), p})
	}
	return append(all, toolStreams(t, p)...)
}

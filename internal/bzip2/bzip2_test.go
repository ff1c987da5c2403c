package bzip2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"testing/iotest"

	dsnet "github.com/dsnet/compress/bzip2"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// compress makes a stream with dsnet's Writer.
func compress(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := dsnet.NewWriter(&out, &dsnet.WriterConfig{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// tool runs a program as a filter and skips the test where there is none.
func tool(t testing.TB, in []byte, args ...string) ([]byte, error) {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	return cmd.Output()
}

// libbz2 decodes z with libbz2, if that is there.
func libbz2(z []byte) (out []byte, ok bool) {
	if _, err := exec.LookPath("bzip2"); err != nil {
		return nil, false
	}
	cmd := exec.Command("bzip2", "-dc")
	cmd.Stdin = bytes.NewReader(z)
	out, err := cmd.Output()
	if err != nil {
		out = nil
	}
	return out, true
}

// words makes n bytes of text that compresses like prose.
func words(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	list := make([][]byte, 4000)
	for i := range list {
		list[i] = make([]byte, 1+rng.IntN(9))
		for j := range list[i] {
			list[i][j] = "etaoinshrdlucmfwypvbgkjqxz"[min(rng.IntN(26), rng.IntN(26))]
		}
	}
	var p []byte
	for len(p) < n {
		p = append(p, list[min(rng.IntN(len(list)), rng.IntN(len(list)))]...)
		p = append(p, ' ')
	}
	return p[:n]
}

// mixed makes n bytes of everything: text, noise, runs of all lengths, and
// stretches that repeat.
func mixed(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 2))
	text := words(1<<16, seed)
	var p []byte
	for len(p) < n {
		k := 1 + rng.IntN(3000)
		switch rng.IntN(5) {
		case 0:
			at := rng.IntN(len(text) - k)
			p = append(p, text[at:at+k]...)
		case 1:
			for range k {
				p = append(p, byte(rng.Uint32()))
			}
		case 2:
			p = append(p, bytes.Repeat([]byte{byte(rng.Uint32())}, k)...)
		case 3:
			for range k / 8 {
				p = append(p, bytes.Repeat([]byte{byte(rng.Uint32() & 3)}, 1+rng.IntN(9))...)
			}
		case 4:
			at := rng.IntN(len(p) + 1)
			p = append(p, p[at:min(at+k, len(p))]...)
		}
	}
	return p[:n]
}

// player decodes whole streams, one after the other.
type player struct {
	s   Stream
	b   Block
	x   Text
	buf [64 << 10]byte
}

func decode(r io.Reader) ([]byte, error) { return new(player).play(r) }

func (d *player) play(r io.Reader) (out []byte, err error) {
	d.s.Reset(r)
	for {
		if err := d.s.Next(&d.b); err == io.EOF {
			return out, nil
		} else if err != nil {
			return out, err
		}
		d.b.Unwind(&d.x)
		crc := uint32(0)
		for c := d.x.Start(); ; {
			n, err := d.x.Read(&c, d.buf[:])
			crc = UpdateCRC(crc, d.buf[:n])
			out = append(out, d.buf[:n]...)
			if err == io.EOF {
				break
			} else if err != nil {
				return out, err
			}
		}
		if crc != d.b.CRC() || crc != d.x.CRC() {
			return out, ErrChecksum
		}
	}
}

// mark is a place in a stream that decoding can go on from.
type mark struct {
	off    int // in the output
	point  Point
	cursor []byte
}

// marks decodes a stream in odd pieces and returns a mark at each.
func marks(t *testing.T, z []byte) []mark {
	t.Helper()
	var (
		s   Stream
		b   Block
		x   Text
		buf = make([]byte, 7001)
		out []mark
		off int
	)
	s.Reset(bytes.NewReader(z))
	for {
		err := s.Next(&b)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Unwind(&x)
		for c := x.Start(); err == nil; {
			p, _ := c.AppendBinary(nil)
			out = append(out, mark{off, b.Point(), p})
			var n int
			n, err = x.Read(&c, buf[:1+off%len(buf)])
			off += n
		}
		if err != io.EOF {
			t.Fatal(err)
		}
	}
}

// check decodes z in every way and compares each with want.
func check(t *testing.T, z, want []byte) {
	t.Helper()
	got, err := decode(bytes.NewReader(z))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("decoded %d bytes to others than the %d compressed", len(got), len(want))
	}
	checkBlocks(t, z, want)
	checkCursors(t, z, want, marks(t, z))
}

// checkBlocks resumes at every block, as a worker does that knows nothing but
// the block's magic, and joins the blocks by where they end.
func checkBlocks(t *testing.T, z, want []byte) {
	t.Helper()
	var (
		s   Stream
		b   Block
		p   Point
		buf = make([]byte, 100_003)
		off int
	)
	for {
		s.Resume(bytes.NewReader(z[p.In>>3:]), p)
		at, err := s.Peek()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		bit, kind, ok := FindBlock(z, int(at.In))
		if !ok || kind != KindBlock || int64(bit) != at.In {
			t.Fatalf("FindBlock from %d: %d, %v, %v", at.In, bit, kind, ok)
		}
		s.Resume(bytes.NewReader(z[at.In>>3:]), Point{In: at.In, Level: maxLevel})
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		for c, err := b.Start(), error(nil); err == nil; {
			var n int
			n, err = b.Read(&c, buf)
			if !bytes.HasPrefix(want[off:], buf[:n]) {
				t.Fatalf("block at bit %d, from byte %d: other bytes", at.In, off)
			}
			off += n
		}
		if p, ok = at.After(&b); !ok {
			t.Fatalf("block at bit %d does not follow %v", b.Point().In, at)
		}
	}
	if off != len(want) {
		t.Errorf("blocks decode to %d bytes, want %d", off, len(want))
	}
}

// checkCursors reads at 200 offsets, from the mark before each.
func checkCursors(t *testing.T, z, want []byte, marks []mark) {
	t.Helper()
	var (
		s   Stream
		b   Block
		x   Text
		at  = Point{In: -1}
		buf [500]byte
		rng = rand.New(rand.NewPCG(3, 3))
	)
	if len(marks) == 0 {
		return
	}
	for i := range 200 {
		// In order, so that blocks need not be decoded 200 times.
		m := marks[(i*len(marks)+rng.IntN(len(marks)))/200]
		if m.point != at {
			at = m.point
			s.Resume(iotest.HalfReader(bytes.NewReader(z[at.In>>3:])), at)
			if err := s.Next(&b); err != nil {
				t.Fatal(err)
			}
			b.Unwind(&x)
		}
		var c Cursor
		if err := c.UnmarshalBinary(m.cursor); err != nil {
			t.Fatal(err)
		}
		d := c
		n, err := b.Read(&c, buf[:])
		if !bytes.HasPrefix(want[m.off:], buf[:n]) || err == nil && n < len(buf) {
			t.Fatalf("Block.Read at %d, %+v: %d other bytes, %v", m.off, d, n, err)
		}
		// A Text takes the cursor on from there, the Block from the start.
		k, err := x.Read(&c, buf[:])
		if !bytes.HasPrefix(want[m.off+n:], buf[:k]) || err == nil && k < len(buf) {
			t.Fatalf("Text.Read at %d, %+v: %d other bytes, %v", m.off+n, c, k, err)
		}
		if int(c.Out-d.Out) != n+k {
			t.Fatalf("cursor moved from %d to %d with %d bytes read", d.Out, c.Out, n+k)
		}
	}
}

func TestStreams(t *testing.T) {
	dmgtest.NotRaced(t)
	size := 1_000_000
	if dmgtest.Part() {
		size = 150_000
	}
	data := []struct {
		name string
		p    []byte
	}{
		{"words", words(size, 1)},
		{"mixed", mixed(size, 1)},
		{"zeros", make([]byte, size)},
		{"period", bytes.Repeat([]byte("abcdefg\x00\x00\x00\x00\x00\x00\x00"), size/14)},
		{"byte", []byte{7}},
		{"four", []byte("aaaa")},
		{"none", nil},
	}
	writers := [][]string{
		{"bzip2", "-1"}, {"bzip2", "-2"}, {"bzip2", "-3"}, {"bzip2", "-4"}, {"bzip2", "-5"},
		{"bzip2", "-6"}, {"bzip2", "-7"}, {"bzip2", "-8"}, {"bzip2", "-9"},
		{"lbzip2", "-n2"}, {"pbzip2", "-p2", "-b1"}, {"dsnet", "1"}, {"dsnet", "9"},
	}
	if dmgtest.Raced() {
		writers = writers[8:]
	}
	for _, w := range writers {
		for _, d := range data {
			t.Run(fmt.Sprint(w[0], w[1], "/", d.name), func(t *testing.T) {
				if w[0] == "dsnet" {
					check(t, compress(t, d.p, int(w[1][0]-'0')), d.p)
					return
				}
				z, err := tool(t, d.p, append(w, "-c")...)
				if err != nil {
					t.Fatal(err)
				}
				check(t, z, d.p)
			})
		}
	}
}

// TestJoined decodes streams that stand one after the other, and what is after
// them.
func TestJoined(t *testing.T) {
	one, two := compress(t, words(150_000, 1), 1), compress(t, []byte("two"), 9)
	empty := stream(3)
	all := bytes.Join([][]byte{one, empty, empty, two}, nil)
	want := append(words(150_000, 1), "two"...)
	tests := []struct {
		name string
		rest string
		err  error // compress/bzip2 refuses bytes that are no stream; bzip2 ignores them
	}{
		{name: "nothing"},
		{name: "zeros", rest: "\x00\x00\x00"},
		{name: "garbage", rest: "garbage after the end"},
		{name: "almost", rest: "BZ0"},
		{name: "level", rest: "BZh0"},
		{name: "cut header", rest: "BZ", err: io.ErrUnexpectedEOF},
		{name: "cut level", rest: "BZh", err: io.ErrUnexpectedEOF},
		{name: "cut magic", rest: "BZh9\x31\x41", err: io.ErrUnexpectedEOF},
		{name: "no magic", rest: "BZh9garbage", err: ErrCorrupt},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			z := append(bytes.Clone(all), test.rest...)
			if test.err == nil {
				check(t, z, want)
				return
			}
			got, err := decode(bytes.NewReader(z))
			if !errors.Is(err, test.err) || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v; want %d bytes, %v", len(got), err, len(want), test.err)
			}
		})
	}
}

// TestEndStream ends streams behind some of their blocks, whatever follows.
func TestEndStream(t *testing.T) {
	one := compress(t, words(250_000, 1), 1) // three blocks
	two := compress(t, []byte("two"), 9)
	bent := bytes.Clone(one)
	bent[len(bent)-3] ^= 1 // the stream's CRC
	bad := bytes.Clone(one)
	bad[len(bad)-10] ^= 0xFF // the magic before it
	tests := []struct {
		name   string
		z      []byte
		blocks int // that are decoded before
		any    bool
		ended  bool
		err    error
	}{
		{"behind the last block", one, 3, false, true, nil},
		{"before the last block", one, 2, false, false, nil},
		{"before all blocks", one, 0, false, false, nil},
		{"no block", stream(1), 0, false, true, nil},
		{"another stream", append(bytes.Clone(one), two...), 3, false, true, nil},
		{"another stream's header, cut", append(bytes.Clone(one), two[:2]...), 3, false, true, nil},
		{"another stream's magic, cut", append(bytes.Clone(one), two[:7]...), 3, false, true, nil},
		{"another stream, damaged", append(bytes.Clone(one), "BZh9garbage"...), 3, false, true, nil},
		{"garbage", append(bytes.Clone(one), "garbage"...), 3, false, true, nil},
		{"within the second stream", append(bytes.Clone(two), one...), 3, false, false, nil},
		{"behind the second stream", append(bytes.Clone(two), one...), 4, false, true, nil},
		{"wrong CRC", bent, 3, false, false, ErrChecksum},
		{"wrong CRC of no matter", bent, 3, true, true, nil},
		{"wrong CRC, further on", bent, 2, false, false, nil},
		{"neither a block nor the end", bad, 3, false, false, ErrCorrupt},
		{"neither a block nor the end, any CRC", bad, 3, true, false, ErrCorrupt},
		{"no stream", []byte("garbage"), 0, false, false, ErrCorrupt},
		{"nothing", nil, 0, false, false, io.ErrUnexpectedEOF},
		{"cut before the magic", one[:len(one)-10], 3, false, false, io.ErrUnexpectedEOF},
		{"cut in the magic", one[:len(one)-6], 3, false, false, io.ErrUnexpectedEOF},
		{"cut in the CRC", one[:len(one)-1], 3, false, false, io.ErrUnexpectedEOF},
		{"cut in the CRC of no matter", one[:len(one)-1], 3, true, false, io.ErrUnexpectedEOF},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, fails := range []bool{false, true} {
				var r io.Reader = bytes.NewReader(test.z)
				want := test.err
				if fails { // where the data ends
					r = io.MultiReader(r, iotest.ErrReader(errSource))
					if want == io.ErrUnexpectedEOF {
						want = errSource
					}
				}
				var s, peeked Stream
				var b Block
				s.Reset(r)
				for range test.blocks {
					if err := s.Next(&b); err != nil {
						t.Fatal(err)
					}
				}
				at := s.Point()
				for range 2 {
					ended, err := s.EndStream(!test.any)
					if ended != test.ended || (err == nil) != (want == nil) || !errors.Is(err, want) {
						t.Fatalf("%v, %v; want %v, %v", ended, err, test.ended, want)
					}
				}
				if test.err != nil {
					if err := s.Next(&b); !errors.Is(err, want) {
						t.Errorf("afterwards Next has %v, want %v", err, want)
					}
					continue
				}
				if test.any || fails {
					continue
				}
				// Peek goes on as it would have done without.
				p, err := s.Peek()
				peeked.Resume(bytes.NewReader(test.z[at.In/8:]), at)
				q, err2 := peeked.Peek()
				if p != q || fmt.Sprint(err) != fmt.Sprint(err2) {
					t.Errorf("Peek: %v, %v; want %v, %v", p, err, q, err2)
				}
				if err == io.EOF {
					if ended, err := s.EndStream(true); !ended || err != nil {
						t.Errorf("behind the last stream: %v, %v", ended, err)
					}
				}
			}
		})
	}
}

// magicBlock is a block whose codes are bytes: 254 bytes occur, so there are 256
// symbols of 8 bits each. Among them are the magics.
func magicBlock(n int) *spec {
	rng := rand.New(rand.NewPCG(4, 4))
	b := &spec{used: 254}
	for len(b.symbols) < n {
		for range rng.IntN(100) {
			b.symbols = append(b.symbols, 2+rng.IntN(253))
		}
		b.symbols = append(b.symbols, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59)
		b.symbols = append(b.symbols, 0x17, 0x72, 0x45, 0x38, 0x50, 0x90)
	}
	b.symbols = append(b.symbols, 255)
	b.origin = n / 2
	b.crc = crcBitwise(textbook(b.used, b.symbols, b.origin))
	return b
}

// TestMagicInside has blocks whose data look like the starts of others.
func TestMagicInside(t *testing.T) {
	b := magicBlock(60_000)
	want := textbook(b.used, b.symbols, b.origin)
	z := stream(1, b, b, b)
	want = bytes.Repeat(want, 3)
	check(t, z, want)

	// What FindBlock finds either fails, or is not where a block ended.
	var s Stream
	var x Block
	genuine, fake := 0, 0
	next := Point{In: 32, Level: 1}
	for bit := 0; ; bit++ {
		var kind Kind
		var ok bool
		if bit, kind, ok = FindBlock(z, bit); !ok {
			break
		}
		if kind != KindBlock {
			continue
		}
		s.Resume(bytes.NewReader(z[bit>>3:]), Point{In: int64(bit), Level: 1})
		err := s.Next(&x)
		if int64(bit) == next.In {
			if err != nil {
				t.Fatal(err)
			}
			genuine++
			next, _ = next.After(&x)
			continue
		}
		fake++
		if err == nil {
			if _, ok := next.After(&x); ok {
				t.Errorf("block at bit %d joined", bit)
			}
		} else if !errors.Is(err, ErrCorrupt) && err != io.ErrUnexpectedEOF {
			t.Errorf("at bit %d: %v", bit, err)
		}
	}
	if genuine != 3 || fake < 2000 {
		t.Errorf("found %d genuine blocks and %d others", genuine, fake)
	}
}

// noRuns makes text in which no byte follows itself, of the bytes below used.
func noRuns(n, used int) []byte {
	rng := rand.New(rand.NewPCG(5, 5))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.IntN(used/2)*2 + i&1)
	}
	return p
}

func TestScrambled(t *testing.T) {
	for _, n := range []int{1, 616, 617, 618, 619, 5000, 90_000} {
		// Bits are flipped in pairs of bytes 2k and 2k+1, so runs of two come
		// of it at most; the 512 distances repeat after 278,000 bytes.
		want := noRuns(n, 20)
		z := stream(9, scrambled(want, 20))
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			check(t, z, want)
			got, err := tool(t, z, "bzip2", "-dc")
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("libbz2 decodes it to %d other bytes, %v", len(got), err)
			}
		})
	}
	if dmgtest.Part() {
		return
	}
	want := noRuns(600_000, 20)
	check(t, stream(9, scrambled(want, 20)), want)
}

// TestOdd has blocks that no ordinary encoder writes. What libbz2 makes of each
// is what decode has to.
func TestOdd(t *testing.T) {
	text := []int{2, 3, 2, 3, 3, 2, 3, 2} // of 3 bytes: 5 symbols
	odd := func(edit func(*spec)) []byte {
		b := &spec{used: 3, symbols: append(text, 4), origin: 2}
		edit(b)
		if b.crc == 0 {
			b.crc = crcBitwise(textbook(b.used, b.symbols, b.origin))
		}
		return stream(1, b)
	}
	tests := []struct {
		name string
		z    []byte
		err  error
	}{
		{name: "plain", z: odd(func(*spec) {})},
		{name: "incomplete code", z: odd(func(b *spec) { b.lengths = []uint8{3, 3, 3, 3, 3} })},
		{name: "lone long codes", z: odd(func(b *spec) { b.lengths = []uint8{20, 20, 19, 18, 17} })},
		{name: "full code", z: odd(func(b *spec) { b.lengths = []uint8{2, 2, 2, 3, 3} })},
		{name: "too many codes", z: odd(func(b *spec) { b.lengths = []uint8{3, 2, 2, 2, 2} })},
		{name: "18003 selectors", z: odd(func(b *spec) { b.selectors = 18003 })},
		{name: "32767 selectors", z: odd(func(b *spec) { b.selectors = 32767 })},
		{name: "origin at the end", z: odd(func(b *spec) { b.origin, b.crc = 8, 1 }), err: ErrCorrupt},
		{name: "origin beyond", z: odd(func(b *spec) { b.origin, b.crc = 1<<24-1, 1 }), err: ErrCorrupt},
		{name: "no text", z: odd(func(b *spec) { b.symbols, b.origin, b.crc = []int{4}, 0, 1 }), err: ErrCorrupt},
		{name: "no length after four", z: odd(func(b *spec) {
			b.symbols, b.crc = []int{1, 0, 4}, crcBitwise(make([]byte, 4))
		}), err: ErrCorrupt},
		{name: "run beyond the block", z: odd(func(b *spec) {
			b.symbols, b.crc = append(bytesToInts(make([]byte, 17)), 4), 1
		}), err: ErrCorrupt},
		{name: "endless run", z: odd(func(b *spec) {
			b.symbols, b.crc = append(bytesToInts(make([]byte, 4000)), 4), 1
		}), err: ErrCorrupt},
		{name: "block checksum", z: odd(func(b *spec) { b.crc = 1 }), err: ErrChecksum},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := decode(bytes.NewReader(test.z))
			if !errors.Is(err, test.err) {
				t.Fatalf("%v, want %v", err, test.err)
			}
			want, err := tool(t, test.z, "bzip2", "-dc")
			if (err != nil) != (test.err != nil) || err == nil && !bytes.Equal(got, want) {
				t.Errorf("decoded to %x, libbz2 to %x, %v", got, want, err)
			}
		})
	}
}

func bytesToInts(p []byte) []int {
	out := make([]int, len(p))
	for i, c := range p {
		out[i] = int(c)
	}
	return out
}

// TestLevel has blocks as long as their level allows, and longer by one.
func TestLevel(t *testing.T) {
	for _, n := range []int{99_999, 100_000, 100_001, 100_300, 150_000} {
		b := &spec{used: 2}
		for range n {
			b.symbols = append(b.symbols, 2)
		}
		b.symbols = append(b.symbols, 3)
		var s Stream
		var x Block
		for level := 1; level <= 2; level++ {
			s.Reset(bytes.NewReader(stream(level, b)))
			err := s.Next(&x)
			if n <= level*100_000 && (err != nil || x.Len() != n) {
				t.Errorf("block of %d in level %d: %d, %v", n, level, x.Len(), err)
			}
			if n > level*100_000 && (!errors.Is(err, ErrCorrupt) || x.Len() != 0) {
				t.Errorf("block of %d in level %d: %d, %v", n, level, x.Len(), err)
			}
		}
	}
}

// TestSources decodes from sources that deliver in every way they may.
func TestSources(t *testing.T) {
	want := mixed(120_000, 9)
	z := compress(t, want, 1)
	z = append(z, z...)
	want = append(want, want...)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader,
		"half":     iotest.HalfReader,
		"data err": iotest.DataErrReader,
		"one byte with its error": func(r io.Reader) io.Reader {
			return iotest.DataErrReader(iotest.OneByteReader(r))
		},
	} {
		if got, err := decode(wrap(bytes.NewReader(z))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := decode(iotest.ErrReader(nil)); err != io.ErrNoProgress {
		t.Errorf("nothing, again and again: %v", err)
	}
}

// failing fails after n bytes.
type failing struct {
	r    io.Reader
	n    int
	with bool // the last bytes come with the error
}

var errSource = errors.New("source failed")

func (f *failing) Read(p []byte) (int, error) {
	if f.n == 0 {
		return 0, errSource
	}
	n, err := f.r.Read(p[:min(len(p), f.n)])
	if f.n -= n; f.n == 0 && f.with {
		err = errSource
	}
	return n, err
}

// TestShort cuts data at every byte, where the source ends and where it fails.
func TestShort(t *testing.T) {
	z := compress(t, mixed(600, 10), 1)
	half := len(z)
	z = append(z, z...)
	var d player
	for n := range z {
		got, err := d.play(bytes.NewReader(z[:n]))
		if n == half && err != nil || n != half && err != io.ErrUnexpectedEOF {
			t.Fatalf("%d of %d bytes: %v", n, len(z), err)
		}
		for _, with := range []bool{false, true} {
			part, err := d.play(&failing{r: bytes.NewReader(z), n: n, with: with && n > 0})
			if err != errSource || !bytes.Equal(part, got) {
				t.Fatalf("source fails after %d of %d bytes: %d bytes, %v", n, len(z), len(part), err)
			}
		}
	}
}

// TestDamage flips every bit: nothing may pass as undamaged and be other bytes.
func TestDamage(t *testing.T) {
	dmgtest.NotRaced(t)
	want := mixed(700, 11)
	z := compress(t, want, 1)
	var d player
	passed := 0
	for bit := range len(z) * 8 {
		z[bit>>3] ^= 0x80 >> (bit & 7)
		got, err := d.play(bytes.NewReader(z))
		switch {
		case err == nil:
			// The level, padding, and codes that no group uses.
			passed++
			if !bytes.Equal(got, want) {
				t.Errorf("bit %d flipped: %d other bytes", bit, len(got))
			}
			if ref, ok := libbz2(z); ok && !bytes.Equal(ref, want) {
				t.Errorf("bit %d flipped: libbz2 decodes %d bytes", bit, len(ref))
			}
		case err != io.ErrUnexpectedEOF && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrChecksum):
			t.Errorf("bit %d flipped: %v", bit, err)
		}
		z[bit>>3] ^= 0x80 >> (bit & 7)
	}
	t.Log(passed, "bits of", len(z)*8, "mean nothing")
}

func TestFindBlock(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for round := range 3000 {
		p := make([]byte, rng.IntN(64))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		at, kind := -1, KindNone
		if last := len(p)*8 - 48; last >= 0 && round%8 > 0 {
			at, kind = rng.IntN(last+1), KindBlock
			magic := uint64(blockMagic)
			if rng.IntN(2) == 0 {
				kind, magic = KindEnd, endMagic
			}
			for i := range 48 {
				bit := at + i
				p[bit>>3] &^= 0x80 >> (bit & 7)
				p[bit>>3] |= byte(magic>>(47-i)&1) << (7 - bit&7)
			}
		}
		for from := -1; from <= len(p)*8; from++ {
			bit, k, ok := FindBlock(p, from)
			if found := at >= 0 && from <= at; ok != found || ok && (bit != at || k != kind) {
				t.Fatalf("from %d of %d bytes: %d, %v, %v; want %d, %v", from, len(p), bit, k, ok, at, kind)
			}
		}
	}
}

func TestUpdateCRC(t *testing.T) {
	p := mixed(1000, 7)
	for n := range p {
		if got, want := UpdateCRC(UpdateCRC(0, p[:n/3]), p[n/3:n]), crcBitwise(p[:n]); got != want {
			t.Fatalf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
	if got := UpdateCRC(0, []byte("123456789")); got != 0xFC891918 {
		t.Errorf("check value %#x", got) // CRC-32/BZIP2 in the catalogues
	}
}

func TestPositions(t *testing.T) {
	points := []struct {
		p  Point
		ok bool
	}{
		{Point{}, true},
		{Point{In: 32, Level: 9, CRC: 1}, true},
		{Point{In: 1<<63 - 1, Level: 1}, true},
		{Point{In: 800}, true},
		{Point{In: -8}, false},
		{Point{In: 801}, false},
		{Point{In: 8, CRC: 1}, false},
		{Point{In: 8, Level: 10}, false},
		{Point{In: 8, Level: -1}, false},
	}
	for _, test := range points {
		raw, _ := test.p.AppendBinary(nil)
		var q Point
		err := q.UnmarshalBinary(raw)
		if test.ok != (err == nil) || test.ok && q != test.p {
			t.Errorf("%+v: %+v, %v", test.p, q, err)
		}
		var s Stream
		s.Resume(bytes.NewReader(nil), test.p)
		if _, err := s.Peek(); test.ok == (err == ErrCursor) {
			t.Errorf("%+v: Peek has %v", test.p, err)
		}
	}
	cursors := []struct {
		c  Cursor
		ok bool
	}{
		{Cursor{}, true},
		{Cursor{Out: maxOut, Pos: 900_000, Row: 899_999, Skip: 1023}, true},
		{Cursor{run: run{last: 9, equal: 4}}, true},
		{Cursor{run: run{last: 9, pending: 255}}, true},
		{Cursor{run: run{last: 9, equal: 1, pending: 255}}, false},
		{Cursor{run: run{equal: 5}}, false},
		{Cursor{Out: maxOut + 1}, false},
		{Cursor{Pos: 900_001}, false},
		{Cursor{Row: 900_000}, false},
		{Cursor{Pos: 7, Skip: 8}, false},
		{Cursor{Pos: 2000, Skip: 1024}, false},
	}
	for _, test := range cursors {
		raw, _ := test.c.AppendBinary(nil)
		var c Cursor
		if err := c.UnmarshalBinary(raw); test.ok != (err == nil) || test.ok && c != test.c {
			t.Errorf("%+v: %+v, %v", test.c, c, err)
		}
		if (&c).UnmarshalBinary(raw[1:]) != ErrCursor {
			t.Error("short cursor accepted")
		}
	}
	var b Block
	var x Text
	for _, c := range []Cursor{{Pos: 1}, {Row: 1, Pos: 1}} {
		if _, err := b.Read(&c, make([]byte, 1)); err != ErrCursor {
			t.Errorf("empty block, %+v: %v", c, err)
		}
		if _, err := x.Read(&c, make([]byte, 1)); err != ErrCursor {
			t.Errorf("empty text, %+v: %v", c, err)
		}
	}
}

// TestAllocs decodes a stream over and over with the same Stream, Block and
// Text.
func TestAllocs(t *testing.T) {
	if dmgtest.Raced() {
		t.Skip("the race detector allocates")
	}
	z := compress(t, mixed(300_000, 8), 1)
	var (
		s   Stream
		b   Block
		x   Text
		r   bytes.Reader
		buf = make([]byte, 10_000)
	)
	r.Reset(z)
	s.Reset(&r)
	s.NextRanked(&b)
	span := []Cursor{b.Start(), b.EndCursor()}
	n := testing.AllocsPerRun(5, func() {
		r.Reset(z)
		for s.Reset(&r); s.NextRanked(&b) == nil; {
			b.UnwindSpan(&x, span)
			c := b.Start()
			b.Read(&c, buf)
			b.Unwind(&x)
			for c, err := x.Start(), error(nil); err == nil; {
				_, err = x.Read(&c, buf)
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

package lzbitmap

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/lzbitmapenc"
)

// The pairs that libzbitmap is tested with: others' data, and no part of the repository.
const vectors = "../../../shared/samples/aea/lzbitmap.tar.gz"

const tools = "../../../shared/tools"

// model decodes a stream at its plainest: bit by bit. It returns what it made before a
// fault.
func model(src []byte, most int) (out []byte, ok bool) {
	if !bytes.HasPrefix(src, []byte(Magic)) {
		return nil, false
	}
	src = src[4:]
	number := func(b []byte, at, n int) (v int) {
		for i := range n {
			v |= int(b[at+i]) << (8 * i)
		}
		return v
	}
	for {
		if len(src) < 6 {
			return out, false
		}
		size, n := number(src, 0, 3), number(src, 3, 3)
		if n == 0 {
			return out, true
		}
		if n > 32768 || size > len(src) || n > most-len(out) {
			return out, false
		}
		c := src[:size]
		src = src[size:]
		if size == n+6 {
			out = append(out, c[6:]...)
			continue
		}
		if size < 32 {
			return out, false
		}
		part := []int{15, number(c, 6, 3), number(c, 9, 3), number(c, 12, 3), size - 17}
		if !slices.IsSorted(part) {
			return out, false
		}
		ends := slices.Clone(part[1:])
		take := func(i, n int) int { // the next number of a part, or -1
			if part[i]+n > ends[i] {
				return -1
			}
			part[i] += n
			return number(c, part[i]-n, n)
		}
		var ops []int
		for {
			b := take(3, 1)
			if b < 0 {
				break
			}
			ops = append(ops, b&15, b>>4)
		}
		bit := func(at int) int { return int(c[size-17+at/8]) >> (at % 8) & 1 }
		period := 8
		for start := len(out); n > 0; {
			if len(ops) == 0 || ops[0] == 15 {
				return out[:start], false
			}
			op, times := ops[0], 1
			ops = ops[1:]
			if n > 8 && len(ops) > 0 && ops[0] == 15 {
				times = 4
				for {
					ops = ops[1:]
					if len(ops) == 0 {
						return out[:start], false
					}
					times += ops[0]
					if ops[0] != 15 {
						break
					}
				}
				ops = ops[1:]
			}
			for ; times > 0 && n > 0; times-- {
				mask, length := 0, op
				if op < 3 {
					mask = take(2, 1)
				} else {
					for i := range 8 {
						mask |= bit(10*(op-3)+i) << i
					}
					length = bit(10*(op-3)+8) | bit(10*(op-3)+9)<<1
				}
				if length > 0 {
					period = take(1, length)
				}
				if mask < 0 || period < 0 || length == 3 {
					return out[:start], false
				}
				for i := 0; i < 8 && n > 0; i++ {
					b := 0
					if mask>>i&1 == 1 {
						b = take(0, 1)
					} else if period == 0 || period > len(out) {
						b = -1
					} else {
						b = int(out[len(out)-period])
					}
					if b < 0 {
						return out[:start], false
					}
					out = append(out, byte(b))
					n--
				}
			}
			if n == 0 && !slices.Equal(part[:3], ends[:3]) {
				return out[:start], false
			}
		}
	}
}

// check decodes a stream to where there is room, just enough of it, and too little.
func check(t *testing.T, stream, want []byte) {
	t.Helper()
	if got, ok := model(stream, len(want)); !ok || !bytes.Equal(got, want) {
		t.Errorf("the model makes %d bytes of it, %v", len(got), ok)
	}
	for _, room := range []int{0, 1, 1000} {
		dst := bytes.Repeat([]byte{0xEE}, len(want)+room)
		n, err := Decode(dst, append(bytes.Clone(stream), "garbage"[:min(room, 7)]...))
		if err != nil || !bytes.Equal(dst[:n], want) {
			t.Fatalf("with room for %d bytes more: %d of %d bytes, %v", room, n, len(want), err)
		}
		if bytes.Count(dst[n:], []byte{0xEE}) != room {
			t.Error("what follows the content is written to")
		}
	}
	if len(want) == 0 {
		return
	}
	wantCorrupt(t, make([]byte, len(want)-1), stream)
	for _, cut := range []int{1, 6, 7, len(stream) / 2, len(stream) - 1} {
		if cut < len(stream) {
			wantCorrupt(t, make([]byte, len(want)), stream[:len(stream)-cut])
		}
	}
}

func wantCorrupt(t *testing.T, dst, stream []byte) {
	t.Helper()
	n, err := Decode(dst, stream)
	if corrupt := (*CorruptError)(nil); !errors.As(err, &corrupt) || n > len(dst) || corrupt.Offset > int64(len(stream)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestSamples decodes what Apple's library, or libzbitmap, wrote.
func TestSamples(t *testing.T) {
	f, err := os.Open(vectors)
	if os.IsNotExist(err) {
		t.Skip("no samples here")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			files[h.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pairs := 0
	for name, stream := range files {
		number, ok := strings.CutSuffix(name, "-compressed")
		if !ok {
			continue
		}
		pairs++
		t.Run(number, func(t *testing.T) { check(t, stream, files[number+"-original"]) })
	}
	if pairs < 17 {
		t.Errorf("%d pairs", pairs)
	}
}

// contents are what is encoded, and decoded again.
func contents() map[string][]byte {
	all := map[string][]byte{"empty": nil, "zeros": make([]byte, 100_000)}
	for _, n := range []int{1, 7, 8, 9, 32, 32767, 32768, 32769, 3*32768 + 5} {
		all[fmt.Sprint("text of ", n)] = dmgtest.Text(1, int64(n)).Bytes()
	}
	all["random"] = dmgtest.Random(2, 40_000).Bytes()
	all["mixed"] = dmgtest.Mixed(3, 150_000).Bytes()
	// Of a period of 300, an operation copies what earlier chunks have.
	all["long period"] = bytes.Repeat(dmgtest.Random(4, 300).Bytes(), 400)
	return all
}

func TestEncoded(t *testing.T) {
	for name, p := range contents() {
		t.Run(name, func(t *testing.T) { check(t, lzbitmapenc.Encode(p), p) })
	}
}

// TestMkaea decodes what a writer in Python makes.
func TestMkaea(t *testing.T) {
	dmgtest.Native(t)
	all := contents()
	p := slices.Concat(all["zeros"][:40_000], all["text of 32769"], all["random"], all["long period"][:70_000])
	check(t, dmgtest.MkaeaEncode(t, tools, "lzbitmap", p), p)
}

// packedChunk assembles a packed chunk, and an end behind it.
func packedChunk(content int, literals, periods, masks, ops, table string) string {
	u24 := func(n int) string { return string([]byte{byte(n), byte(n >> 8), byte(n >> 16)}) }
	o1 := 15 + len(literals)
	o2 := o1 + len(periods)
	o3 := o2 + len(masks)
	size := o3 + len(ops) + 17
	table += strings.Repeat("\x00", 17-len(table))
	return Magic + u24(size) + u24(content) + u24(o1) + u24(o2) + u24(o3) + literals + periods + masks + ops + table + "\x06\x00\x00\x00\x00\x00"
}

const letters = "abcdefghijklmnopqrstuvwxyz"

var vectorTests = []struct {
	name, stream string
	want         string // or
	fault        string
}{
	{"stored", Magic + "\x09\x00\x00\x03\x00\x00abc" + "\x06\x00\x00\x00\x00\x00", "abc", ""},
	{"length of the last chunk", Magic + "\x00\x00\x00\x00\x00\x00", "", ""},
	{"literals", packedChunk(8, letters[:8], "", "\xFF", "\x00", ""), "abcdefgh", ""},
	{"fewer than a group", packedChunk(3, "abc", "", "\x07", "\x00", ""), "abc", ""},
	{"bits of the mask beyond the end", packedChunk(3, "abc", "", "\xFF", "\x00", ""), "abc", ""},
	{"first period", packedChunk(16, letters[:8], "", "\xFF\x00", "\x00", ""), "abcdefghabcdefgh", ""},
	{"some literals", packedChunk(16, letters[:10], "", "\xFF\x81", "\x00", ""), "abcdefghibcdefgj", ""},
	{"period of a byte", packedChunk(16, letters[:8], "\x03", "\xFF\x00", "\x10", ""), "abcdefghfghfghfg", ""},
	{"period of two bytes", packedChunk(16, letters[:8], "\x02\x00", "\xFF\x00", "\x20", ""), "abcdefghghghghgh", ""},
	{"period stays", packedChunk(24, letters[:8], "\x01", "\xFF\x00\x00", "\x10\x00", ""), "abcdefghhhhhhhhhhhhhhhhh", ""},
	{"table", packedChunk(16, letters[:8], "\x02", "\xFF", "\x40", "\x00\x00\x04"), "abcdefghghghghgh", ""},                                       // entry 1: no literals, a byte
	{"last of the table", packedChunk(8, "a", "\x01", "", "\x0E", strings.Repeat("\x00", 13)+"\x40\x40"), "aaaaaaaa", ""},                         // the first byte a literal, and a period's byte
	{"repeated", packedChunk(40, letters[:8], "", "\xFF\x00\x00\x00\x00", "\x00\x0F", ""), strings.Repeat("abcdefgh", 5), ""},                     // the second operation, four times
	{"long repetition", packedChunk(8*24, letters[:8], "", "\xFF", "\x30\xFF\x04", ""), strings.Repeat("abcdefgh", 24), ""},                       // 4 + 15 + 4
	{"repetition beyond the end", packedChunk(8*5, letters[:8], "", "\xFF", "\x30\xFF\x04", ""), strings.Repeat("abcdefgh", 5), ""},               //
	{"repetition of the last group", packedChunk(8, letters[:8], "", "\xFF", "\xF0", ""), "abcdefgh", ""},                                         // not read as one
	{"behind the end", packedChunk(8, letters[:8], "", "\xFF", "\x00\x11\x22", ""), "abcdefgh", ""},                                               // as Apple's encoder leaves it
	{"period before the start, of literals", packedChunk(8, letters[:8], "\xFF", "\xFF", "\x01", ""), "abcdefgh", ""},                             //
	{"period in an earlier chunk", Magic + "\x09\x00\x00\x03\x00\x00abc" + packedChunk(8, "", "\x03", "\x00", "\x01", "")[4:], "abcabcabcab", ""}, //

	{"empty", "", "", "signature"},
	{"other", "ZBM\x08", "", "signature"},
	{"cut in a header", Magic + "\x09\x00\x00\x03\x00", "", "cut off"},
	{"cut in a stored chunk", Magic + "\x09\x00\x00\x03\x00\x00ab", "", "cut off"},
	{"without end", Magic + "\x09\x00\x00\x03\x00\x00abc", "", "cut off"},
	{"large chunk", Magic + "\x07\x80\x00\x01\x80\x00" + strings.Repeat("x", 32769), "", "32 KiB"},
	{"no room for a header", Magic + "\x1F\x00\x00\x01\x00\x00" + strings.Repeat("x", 60), "", "room for its header"},
	{"longer than expected", packedChunk(1001, "", "", "", "", ""), "", "longer than expected"},
	{"literals before the header's end", strings.Replace(packedChunk(8, letters[:8], "", "\xFF", "\x00", ""), "\x17", "\x0E", 1), "", "overlap"},
	{"parts backwards", strings.Replace(packedChunk(8, letters[:8], "", "\xFF", "\x00", ""), "\x18", "\x16", 1), "", "overlap"},
	{"operations in the table", strings.Replace(packedChunk(8, letters[:8], "", "\xFF", "\x00", ""), "\x18", "\x1A", 1), "", "overlap"},
	{"no operations", packedChunk(8, letters[:8], "", "\xFF", "", ""), "", "operations end"},
	{"too few operations", packedChunk(40, letters[:8], "", "\xFF", "\x30", ""), "", "operations end"},
	{"repetition of nothing", packedChunk(16, letters[:8], "", "\xFF", "\x0F", ""), "", "of nothing"},
	{"repetition of a repetition", packedChunk(80, letters[:8], "", "\xFF", "\x30\x0F\x0F", ""), "", "of nothing"},
	{"count without end", packedChunk(8*100, letters[:8], "", "\xFF", "\x30\xFF\xFF", ""), "", "within a count"},
	{"no mask", packedChunk(16, letters[:8], "", "\xFF", "\x00", ""), "", "too few masks"},
	{"no period", packedChunk(16, letters[:8], "", "\xFF\x00", "\x10", ""), "", "too few periods"},
	{"half a period", packedChunk(16, letters[:8], "\x01", "\xFF\x00", "\x20", ""), "", "too few periods"},
	{"period of three bytes", packedChunk(16, letters[:8], "\x01\x00\x00", "\xFF", "\x30", "\x00\x03"), "", "three bytes"},
	{"no literal", packedChunk(8, letters[:7], "", "\xFF", "\x00", ""), "", "too few literals"},
	{"period of 0", packedChunk(16, letters[:8], "\x00", "\xFF\x00", "\x10", ""), "", "back before the start"},
	{"period before the start", packedChunk(16, letters[:8], "\x09", "\xFF\x00", "\x10", ""), "", "back before the start"},
	{"period before the start, partly", packedChunk(16, letters[:8]+"x", "\x09", "\xFF\x80", "\x10", ""), "", "back before the start"},
	{"first period before the start", packedChunk(8, "", "", "\x00", "\x00", ""), "", "back before the start"},
	{"too many literals", packedChunk(8, letters[:9], "", "\xFF", "\x00", ""), "", "more literals"},
	{"too many masks", packedChunk(8, letters[:8], "", "\xFF\x00", "\x00", ""), "", "more literals"},
	{"too many periods", packedChunk(8, letters[:8], "\x01", "\xFF", "\x00", ""), "", "more literals"},
}

func TestVectors(t *testing.T) {
	for _, tt := range vectorTests {
		t.Run(tt.name, func(t *testing.T) {
			dst := make([]byte, 1000)
			if tt.name == "large chunk" {
				dst = make([]byte, 100_000)
			}
			n, err := Decode(dst, []byte(tt.stream))
			if tt.fault == "" && (err != nil || string(dst[:n]) != tt.want) || !strings.Contains(fmt.Sprint(err), tt.fault) {
				t.Errorf("%q, %v; want %q, %q", dst[:n], err, tt.want, tt.fault)
			}
			if _, ok := model([]byte(tt.stream), len(dst)); ok != (tt.fault == "") {
				t.Errorf("the model: %v", ok)
			}
		})
	}
}

// FuzzLZBITMAP holds the decoder to this: of any input it makes what the model makes, or
// both refuse it; and the input, taken for plain data, comes back.
func FuzzLZBITMAP(f *testing.F) {
	for _, tt := range vectorTests {
		if len(tt.stream) < 1000 {
			f.Add([]byte(tt.stream))
		}
	}
	f.Add(lzbitmapenc.Encode(dmgtest.Text(1, 3000).Bytes()))
	f.Add(lzbitmapenc.Encode(bytes.Repeat([]byte(letters), 300)))
	dst := make([]byte, 64<<10)
	f.Fuzz(func(t *testing.T, data []byte) {
		want, ok := model(data, len(dst))
		n, err := Decode(dst, data)
		if (err == nil) != ok || ok && !bytes.Equal(dst[:n], want) {
			t.Fatalf("%d bytes and %v, the model %d and %v", n, err, len(want), ok)
		}
		if err != nil && !bytes.Equal(dst[:n], want) {
			t.Fatalf("%d bytes before %v, the model %d", n, err, len(want))
		}
		out := make([]byte, len(data))
		if n, err := Decode(out, lzbitmapenc.Encode(data)); err != nil || !bytes.Equal(out[:n], data) {
			t.Fatalf("%d bytes of %d come back, %v", n, len(data), err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"zeros", "mixed", "long period"} {
		p := contents()[name]
		b.Run(name, func(b *testing.B) {
			stream := lzbitmapenc.Encode(p)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(p, stream); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

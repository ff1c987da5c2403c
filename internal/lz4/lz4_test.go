package lz4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/lz4enc"
)

const tools = "../../../shared/tools"

// modelBlock decodes a block byte by byte, behind what is in out.
func modelBlock(out, src []byte, most int) (_ []byte, ok bool) {
	next := func() int {
		if len(src) == 0 {
			return -1
		}
		b := src[0]
		src = src[1:]
		return int(b)
	}
	length := func(n int) int {
		for b := 255; n >= 15 && b == 255; n += b {
			if b = next(); b < 0 || n > most {
				return 1 << 30
			}
		}
		return n
	}
	for {
		token := next()
		if token < 0 {
			return out, false
		}
		n := length(token >> 4)
		if n > len(src) || n > most-len(out) {
			return out, false
		}
		out = append(out, src[:n]...)
		if src = src[n:]; len(src) == 0 {
			return out, true
		}
		distance := next() | next()<<8
		n = length(token&15) + 4
		if distance <= 0 || distance > len(out) || n > most-len(out) {
			return out, false
		}
		for range n {
			out = append(out, out[len(out)-distance])
		}
	}
}

// model decodes a stream, or else a block.
func model(src []byte, most int) ([]byte, bool) {
	var out []byte
	ok := true
	for rest := src; len(rest) >= 4; {
		mark := string(rest[:4])
		if mark == "bv4$" {
			return out, ok
		}
		header := map[string]int{"bv41": 12, "bv4-": 8}[mark]
		if header == 0 || len(rest) < header {
			break
		}
		length, n := int64(binary.LittleEndian.Uint32(rest[4:])), int64(binary.LittleEndian.Uint32(rest[header-4:]))
		if n > int64(len(rest)-header) {
			break
		}
		data := rest[header:][:n]
		rest = rest[header:][n:]
		switch {
		case !ok: // only the end is looked for
		case length > int64(most-len(out)):
			ok = false
		case mark == "bv4-":
			out = append(out, data...)
		default:
			end := len(out) + int(length)
			out, ok = modelBlock(out, data, end)
			ok = ok && len(out) == end
		}
	}
	if bytes.HasPrefix(src, []byte("bv4")) {
		out, ok = modelBlock(nil, src, most)
		if !ok {
			out = nil
		}
		return out, ok
	}
	return modelBlock(nil, src, most)
}

// check decodes src to where there is room, just enough of it, and too little.
func check(t *testing.T, src, want []byte) {
	t.Helper()
	if got, ok := model(src, len(want)); !ok || !bytes.Equal(got, want) {
		t.Errorf("the model makes %d bytes of it, %v", len(got), ok)
	}
	for _, room := range []int{0, 1, 1000} {
		dst := bytes.Repeat([]byte{0xEE}, len(want)+room)
		n, err := Decode(dst, src)
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
	dst := make([]byte, len(want)-1)
	n, err := Decode(dst, src)
	if corrupt := (*CorruptError)(nil); !errors.As(err, &corrupt) || n > len(dst) || corrupt.Offset > int64(len(src)) {
		t.Errorf("with too little room: %d bytes, %v", n, err)
	}
}

func contents() map[string][]byte {
	all := map[string][]byte{"empty": nil, "zeros": make([]byte, 200_000)}
	for _, n := range []int{1, 12, 13, 18, 65535, 65536, 65537} {
		all[fmt.Sprint("text of ", n)] = dmgtest.Text(1, int64(n)).Bytes()
	}
	all["random"] = dmgtest.Random(2, 70_000).Bytes()
	all["mixed"] = dmgtest.Mixed(3, 200_000).Bytes()
	all["far"] = bytes.Repeat(dmgtest.Random(4, 60_000).Bytes(), 4)
	return all
}

func TestEncoded(t *testing.T) {
	for name, p := range contents() {
		t.Run(name, func(t *testing.T) {
			check(t, lz4enc.Block(p), p)
			for _, linked := range []bool{false, true} {
				for _, n := range []int{1000, 1 << 16} {
					stream := lz4enc.Stream(p, n, linked)
					check(t, stream, p)
					check(t, append(stream, "garbage"...), p)
					for _, cut := range []int{1, 4, 5, len(stream) / 2} {
						if n, err := Decode(make([]byte, len(p)), stream[:max(0, len(stream)-cut)]); err == nil && n == len(p) && n > 0 {
							t.Errorf("without %d bytes of %d, all of it", cut, len(stream))
						}
					}
				}
			}
		})
	}
}

// TestMkaea decodes what a writer in Python makes.
func TestMkaea(t *testing.T) {
	dmgtest.Native(t)
	all := contents()
	p := slices.Concat(all["zeros"], all["text of 65537"], all["random"], all["far"])
	for _, function := range []string{"lz4_frames", "lz4_block"} {
		check(t, dmgtest.MkaeaEncode(t, tools, function, p), p)
	}
}

// frames are block headers as they are written.
func packedFrame(content int, block string) string {
	b := binary.LittleEndian.AppendUint32([]byte("bv41"), uint32(content))
	return string(binary.LittleEndian.AppendUint32(b, uint32(len(block)))) + block
}

func storedFrame(p string) string {
	return string(binary.LittleEndian.AppendUint32([]byte("bv4-"), uint32(len(p)))) + p
}

var vectorTests = []struct {
	name, src string
	want      string // or
	fault     string
}{
	{"end", "bv4$", "", ""},
	{"stored", storedFrame("abc") + "bv4$", "abc", ""},
	{"packed", packedFrame(3, "\x30abc") + "bv4$", "abc", ""},
	{"stored and packed", storedFrame("abc") + packedFrame(2, "\x20xy") + "bv4$", "abcxy", ""},
	{"match in the block before", storedFrame("abc") + packedFrame(5, "\x01\x03\x00\x00") + "bv4$", "abcabcab", ""},
	{"block of nothing", packedFrame(0, "\x00") + "bv4$", "", ""},
	{"behind the end", storedFrame("abc") + "bv4$bv41", "abc", ""},
	{"block", "\x30abc", "abc", ""},
	{"block with a match", "\x3Fabc\x03\x00\x01\x10x", "abc" + strings.Repeat("abc", 6) + "abx", ""},
	{"match of a byte", "\x10a\x01\x00\x00", "aaaaa", ""},
	{"long literals", "\xF0\xFF\x01" + strings.Repeat("x", 271), strings.Repeat("x", 271), ""},
	{"long match", "\x1Fa\x01\x00\xFF\x00\x00", strings.Repeat("a", 1+4+15+255), ""},
	{"block like a stream", "bv41\x00\x00\x04\x00", "", "cut off"}, // 6 literals, and no distance

	{"nothing", "", "", "ends before its last literals"},
	{"mark cut", "bv4", "", "cut off"},
	{"header cut", "bv41\x00\x00\x00\x00\x00", "", "cut off"},
	{"stored cut", storedFrame("abc")[:10], "", "cut off"},
	{"packed cut", packedFrame(3, "\x30abc")[:14], "", "cut off"},
	{"no end", storedFrame("abc"), "", "cut off"},
	{"no frame", storedFrame("abc") + "bv40....", "", "no header"},
	{"length of 4 GiB", "bv4-\xFF\xFF\xFF\xFFabc", "", "cut off"},
	{"block of 4 GiB", "bv41\x03\x00\x00\x00\xFF\xFF\xFF\xFF\x30abc", "", "cut off"},
	{"content of 4 GiB", "bv41\xFF\xFF\xFF\xFF\x04\x00\x00\x00\x30abcbv4$", "", "longer than expected"},
	{"block too short", packedFrame(4, "\x30abc") + "bv4$", "", "less than its length"},
	{"block too long", packedFrame(2, "\x30abc") + "bv4$", "", "literals go beyond"},
	{"match into the next block", packedFrame(6, "\x30abc\x03\x00") + storedFrame("abc") + "bv4$", "", "match goes beyond"},
	{"no last literals", "\x31abc\x03\x00", "", "last literals"},
	{"literals cut", "\x40abc", "", "literals go beyond"},
	{"length of literals cut", "\xF0\xFF", "", "literals go beyond"},
	{"distance cut", "\x30abc\x03", "", "cut off"},
	{"length of a match cut", "\x3Fabc\x03\x00\xFF", "", "match goes beyond"},
	{"distance of 0", "\x30abc\x00\x00\x00", "", "back before the start"},
	{"distance before the start", "\x30abc\x04\x00\x00", "", "back before the start"},
	{"match of 2 MB", "\x3Fabc\x03\x00" + strings.Repeat("\xFF", 8000), "", "match goes beyond"},
	{"literals of 2 MB", "\xF0" + strings.Repeat("\xFF", 8000), "", "literals go beyond"},
}

func TestVectors(t *testing.T) {
	for _, tt := range vectorTests {
		t.Run(tt.name, func(t *testing.T) {
			dst := make([]byte, 1000)
			n, err := Decode(dst, []byte(tt.src))
			if tt.fault == "" && (err != nil || string(dst[:n]) != tt.want) || !strings.Contains(fmt.Sprint(err), tt.fault) {
				t.Errorf("%q, %v; want %q, %q", dst[:n], err, tt.want, tt.fault)
			}
			if _, ok := model([]byte(tt.src), len(dst)); ok != (tt.fault == "") {
				t.Errorf("the model: %v", ok)
			}
		})
	}
}

// FuzzLZ4 holds the decoder to this: of any input it makes what the model makes, or both
// refuse it; and the input, taken for plain data, comes back.
func FuzzLZ4(f *testing.F) {
	for _, tt := range vectorTests {
		if len(tt.src) < 1000 {
			f.Add([]byte(tt.src))
		}
	}
	f.Add(lz4enc.Stream(dmgtest.Text(1, 3000).Bytes(), 1000, true))
	f.Add(lz4enc.Block(dmgtest.Text(1, 3000).Bytes()))
	dst := make([]byte, 64<<10)
	f.Fuzz(func(t *testing.T, data []byte) {
		want, ok := model(data, len(dst))
		n, err := Decode(dst, data)
		if (err == nil) != ok || ok && !bytes.Equal(dst[:n], want) {
			t.Fatalf("%d bytes and %v, the model %d and %v", n, err, len(want), ok)
		}
		out := make([]byte, len(data))
		for _, src := range [][]byte{lz4enc.Block(data), lz4enc.Stream(data, 100, true), lz4enc.Stream(data, 1000, false)} {
			if n, err := Decode(out, src); err != nil || !bytes.Equal(out[:n], data) {
				t.Fatalf("%d bytes of %d come back, %v", n, len(data), err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"zeros", "mixed", "far"} {
		p := contents()[name]
		b.Run(name, func(b *testing.B) {
			src := lz4enc.Stream(p, 1<<20, false)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(p, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

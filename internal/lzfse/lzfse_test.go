package lzfse

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
	"github.com/go-dmg/dmg/internal/readat"
)

// decode reads all of r in steps of the given size. It checks on the way what
// Decode promises: full slices while there are bytes, bytes or an error but not
// both, and the same error again.
func decode(t testing.TB, z *Reader, r io.Reader, step int) ([]byte, error) {
	t.Helper()
	var out []byte
	z.Reset(r)
	short := false
	for {
		p, err := z.Decode(step)
		if (len(p) == 0) == (err == nil) {
			t.Fatalf("Decode returned %d bytes and error %v", len(p), err)
		}
		if err != nil {
			if _, again := z.Decode(step); again != err {
				t.Fatalf("second error is %v, first was %v", again, err)
			}
			return out, err
		}
		if short || len(p) > step {
			t.Fatalf("Decode(%d) returned %d bytes, after a short slice: %v", step, len(p), short)
		}
		short = len(p) < step
		out = append(out, p...)
	}
}

// wantError reports whether err is of the class want stands for: a
// *CorruptError for errCorrupt, else exactly want.
func wantError(err, want error) bool {
	if want == errCorrupt {
		var c *CorruptError
		return errors.As(err, &c)
	}
	return err == want
}

var errCorrupt = errors.New("a CorruptError")

var vectorTests = []struct {
	file string // in testdata; its README says how each was made
	size int
	sum  string // SHA-256 of the decoded bytes, its start
}{
	{"stored.lzfse", 1000, "dc02e6658aa4cacc"},
	{"lzvn.lzfse", 10240, "1d79259e5c1a7580"},
	{"v1.lzfse", 10240, "1d79259e5c1a7580"},
	{"v2.lzfse", 10240, "1d79259e5c1a7580"},
	{"mixed.lzfse", 5000, "548ce520f7080829"},
	{"zeros.lzfse", 1048576, "30e14955ebf13522"},
}

func TestVectors(t *testing.T) {
	var z Reader
	for _, tt := range vectorTests {
		t.Run(tt.file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(t, &z, bytes.NewReader(b), MaxDecode)
			if err != io.EOF {
				t.Fatal(err)
			}
			sum := sha256.Sum256(got)
			if s := hex.EncodeToString(sum[:8]); s != tt.sum || len(got) != tt.size {
				t.Errorf("decoded to %d bytes, SHA-256 %s…; want %d, %s…", len(got), s, tt.size, tt.sum)
			}
		})
	}
}

// bvxn makes a stream of one bvxn block from codes in hexadecimal.
func bvxn(raw int, codes string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(codes, " ", ""))
	if err != nil {
		panic(err)
	}
	return "bvxn" + le32(raw) + le32(len(b)) + string(b) + "bvx$"
}

func le32(n int) string { return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}) }

const lzvnEnd = "06 00000000000000"

var streamTests = []struct {
	name   string
	stream string
	want   string
	err    error
}{
	{"nothing", "", "", io.ErrUnexpectedEOF},
	{"end only", "bvx$", "", io.EOF},
	{"bytes after the end", "bvx$bvx-", "", io.EOF},
	{"part of a magic", "bvx", "", io.ErrUnexpectedEOF},
	{"unknown magic", "bvx3", "", errCorrupt},
	{"no magic", "\x00\x00\x00\x00", "", errCorrupt},

	{"stored", "bvx-" + le32(3) + "abcbvx$", "abc", io.EOF},
	{"stored, twice", "bvx-" + le32(3) + "abcbvx-" + le32(1) + "dbvx$", "abcd", io.EOF},
	{"stored, empty", "bvx-" + le32(0) + "bvx$", "", io.EOF},
	{"stored, no end mark", "bvx-" + le32(3) + "abc", "abc", io.ErrUnexpectedEOF},
	{"stored, cut", "bvx-" + le32(4) + "abc", "abc", io.ErrUnexpectedEOF},
	{"stored, 4 GiB declared", "bvx-" + le32(-1) + "abc", "abc", io.ErrUnexpectedEOF},

	{"lzvn, empty", bvxn(0, lzvnEnd), "", io.EOF},
	{"lzvn, short literals", bvxn(3, "E3 616263"+lzvnEnd), "abc", io.EOF},
	{"lzvn, long literals", bvxn(17, "E001 6162636465666768696a6b6c6d6e6f7071"+lzvnEnd), "abcdefghijklmnopq", io.EOF},
	{"lzvn, nothing codes", bvxn(1, "0E 16 E1 61 0E"+lzvnEnd), "a", io.EOF},
	{"lzvn, small distance", bvxn(6, "E1 61 8002 6263"+lzvnEnd), "abcbcb", io.EOF},
	{"lzvn, small distance with three literals", bvxn(6, "C003 616263"+lzvnEnd), "abcabc", io.EOF},
	{"lzvn, medium distance", bvxn(3+34, "A7 0F00 E0"+lzvnEnd), "", errCorrupt},
	{"lzvn, medium distance with literals", bvxn(3+8, "B9 0D00 616263"+lzvnEnd), "abcabcabcab", io.EOF},
	{"lzvn, large distance", bvxn(6, "C7 0300 616263"+lzvnEnd), "abcabc", io.EOF},
	{"lzvn, distance before, with a literal", bvxn(10, "C003 616263 46 64"+lzvnEnd), "abcabcdbcd", io.EOF},
	{"lzvn, short match", bvxn(8, "C003 616263 F2"+lzvnEnd), "abcabcab", io.EOF},
	{"lzvn, long match", bvxn(4+16, "4001 61 F000"+lzvnEnd), strings.Repeat("a", 20), io.EOF},

	{"lzvn, distance before, none yet", bvxn(4, "46 61"+lzvnEnd), "", errCorrupt},
	{"lzvn, match, none yet", bvxn(2, "E1 61 F1"+lzvnEnd), "a", errCorrupt},
	{"lzvn, distance 0", bvxn(4, "4000 61"+lzvnEnd), "", errCorrupt},
	{"lzvn, before the start", bvxn(4, "4002 61"+lzvnEnd), "", errCorrupt},
	{"lzvn, unused code 1E", bvxn(0, "1E"+lzvnEnd), "", errCorrupt},
	{"lzvn, unused code 70", bvxn(0, "70"+lzvnEnd), "", errCorrupt},
	{"lzvn, unused code DF", bvxn(0, "DF"+lzvnEnd), "", errCorrupt},
	{"lzvn, more than declared", bvxn(2, "E3 616263"+lzvnEnd), "", errCorrupt},
	{"lzvn, less than declared", bvxn(4, "E3 616263"+lzvnEnd), "abc", errCorrupt},
	{"lzvn, no end code", bvxn(3, "E3 616263"), "abc", errCorrupt},
	{"lzvn, code cut by the block", bvxn(3, "E3 6162"), "", errCorrupt},
	{"lzvn, end code cut by the block", bvxn(3, "E3 616263 06 0000"), "abc", errCorrupt},
	{"lzvn, bytes after the end code", bvxn(3, "E3 616263"+lzvnEnd+"00"), "abc", errCorrupt},
	{"lzvn, end code not zero", bvxn(3, "E3 616263 06 00000000000001"), "abc", errCorrupt},
	{"lzvn, no payload", bvxn(0, ""), "", errCorrupt},
	{"lzvn, distances don't outlive a block", strings.TrimSuffix(bvxn(6, "C003 616263"+lzvnEnd), "bvx$") +
		bvxn(3, "F3"+lzvnEnd), "abcabc", errCorrupt},
}

func TestStreams(t *testing.T) {
	var z Reader
	for _, tt := range streamTests {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, MaxDecode} {
				got, err := decode(t, &z, strings.NewReader(tt.stream), step)
				if string(got) != tt.want || !wantError(err, tt.err) {
					t.Errorf("step %d: got %q, %v; want %q, %v", step, got, err, tt.want, tt.err)
				}
			}
		})
	}
}

// triples makes a stream of one block.
func triples(kind lzfseenc.Kind, literals string, raw int, tr ...triple) []byte {
	var w lzfseenc.Writer
	addTriples(&w, kind, literals, raw, tr...)
	return w.Close()
}

func addTriples(w *lzfseenc.Writer, kind lzfseenc.Kind, literals string, raw int, tr ...triple) {
	var list []lzfseenc.Triple
	for _, t := range tr {
		list = append(list, lzfseenc.Triple{L: t.l, M: t.m, D: t.d})
	}
	w.Triples(kind, []byte(literals), list, raw)
}

type triple struct{ l, m, d int }

// tripleTests are blocks whose entropy coding is right, whatever they spell.
var tripleTests = []struct {
	name     string
	literals string
	raw      int
	triples  []triple
	want     string
	err      error
}{
	{"empty", "", 0, nil, "", io.EOF},
	{"literals", "abc", 3, []triple{{3, 0, 1}}, "abc", io.EOF},
	{"match", "abc", 9, []triple{{3, 6, 3}}, "abcabcabc", io.EOF},
	{"distance before", "abcd", 12, []triple{{3, 3, 3}, {1, 5, 0}}, "abcabcdbcdbc", io.EOF},
	{"longest match and literals", strings.Repeat("x", 315), 315 + 2359,
		[]triple{{315, 2359, 1}}, strings.Repeat("x", 315+2359), io.EOF},
	{"no distance before", "abc", 6, []triple{{3, 3, 0}}, "", errCorrupt},
	{"before the start", "abc", 6, []triple{{3, 3, 4}}, "", errCorrupt},
	{"before the start, later", "abc", 9, []triple{{3, 3, 3}, {0, 3, 7}}, "abcabc", errCorrupt},
	{"largest distance", "abc", 6, []triple{{3, 3, 262139}}, "", errCorrupt},
	{"literals missing", "abcd", 5, []triple{{5, 0, 1}}, "", errCorrupt},
	{"size too small", "abc", 8, []triple{{3, 6, 3}}, "", errCorrupt},
	{"size too large", "abc", 10, []triple{{3, 6, 3}}, "abcabcabc", errCorrupt},
	{"size larger than possible", "abcd", 4 + 2359 + 1, []triple{{3, 6, 3}}, "", errCorrupt},
	{"size without triples", "", 1, nil, "", errCorrupt},
	{"too many triples", "a", 10001, make([]triple, 10001), "", errCorrupt},
	{"too many literals", strings.Repeat("a", 40004), 1, []triple{{1, 0, 1}}, "", errCorrupt},
}

func TestTriples(t *testing.T) {
	var z Reader
	for _, tt := range tripleTests {
		for _, kind := range []lzfseenc.Kind{lzfseenc.V1, lzfseenc.V2} {
			t.Run(fmt.Sprintf("%s/bvx%c", tt.name, kind), func(t *testing.T) {
				stream := triples(kind, tt.literals, tt.raw, tt.triples...)
				for _, step := range []int{1, MaxDecode} {
					got, err := decode(t, &z, bytes.NewReader(stream), step)
					if string(got) != tt.want || !wantError(err, tt.err) {
						t.Errorf("step %d: got %d bytes, %v; want %d, %v", step, len(got), err, len(tt.want), tt.err)
					}
				}
			})
		}
	}
}

// headerTests change single fields of a good block of 8 literals and a match.
var headerTests = []struct {
	name string
	kind lzfseenc.Kind
	at   int
	to   string
}{
	{"payload size", lzfseenc.V1, 8, le32(0)},
	{"literals not a multiple of four", lzfseenc.V1, 12, le32(7)},
	{"number of literals", lzfseenc.V1, 12, le32(-4)},
	{"fewer literals", lzfseenc.V1, 12, le32(4)},
	{"more literals", lzfseenc.V1, 12, le32(12)},
	{"number of matches", lzfseenc.V1, 16, le32(-1)},
	{"more matches", lzfseenc.V1, 16, le32(2)},
	{"literal bits too low", lzfseenc.V1, 28, le32(-8)},
	{"literal bits too high", lzfseenc.V1, 28, le32(1)},
	{"literal state", lzfseenc.V1, 34, "\x00\x04"},
	{"triple bits too low", lzfseenc.V1, 40, le32(-8)},
	{"triple bits too high", lzfseenc.V1, 40, le32(1)},
	{"L state", lzfseenc.V1, 44, "\x40\x00"},
	{"M state", lzfseenc.V1, 46, "\x40\x00"},
	{"D state", lzfseenc.V1, 48, "\x00\x01"},
	{"L frequency", lzfseenc.V1, 50, "\x01"},
	{"M frequency", lzfseenc.V1, 90, "\x01"},
	{"D frequency", lzfseenc.V1, 130, "\x01"},
	{"literal frequency", lzfseenc.V1, 258, "\x01"},
	{"huge frequency", lzfseenc.V1, 768, "\xFF\xFF"},
	{"header size 0", lzfseenc.V2, 24, le32(0)},
	{"header without frequencies", lzfseenc.V2, 24, le32(32)},
	{"header one longer", lzfseenc.V2, 24, "\x00"},
	{"header size huge", lzfseenc.V2, 24, le32(-1)},
	{"literal bits out of range", lzfseenc.V2, 15, "\xF0"},
	{"triple bits out of range", lzfseenc.V2, 23, "\xF0"},
	{"D state out of range", lzfseenc.V2, 31, "\xFF"},
}

func TestHeaders(t *testing.T) {
	var z Reader
	for _, tt := range headerTests {
		t.Run(tt.name, func(t *testing.T) {
			good := triples(tt.kind, "abcdefgh", 16, triple{8, 8, 8})
			if _, err := decode(t, &z, bytes.NewReader(good), 100); err != io.EOF {
				t.Fatalf("before the change: %v", err)
			}
			bad := bytes.Clone(good)
			copy(bad[tt.at:], tt.to)
			if bytes.Equal(bad, good) {
				t.Fatal("no change")
			}
			// Whatever the header asks for is there.
			bad = append(bad, make([]byte, 1<<20)...)
			got, err := decode(t, &z, bytes.NewReader(bad), 100)
			if !strings.HasPrefix("abcdefghabcdefgh", string(got)) || !wantError(err, errCorrupt) {
				t.Errorf("got %q, %v; want a CorruptError", got, err)
			}
		})
	}
}

// TestCorruptOffset checks that the error says where.
func TestCorruptOffset(t *testing.T) {
	var z Reader
	stream := "bvx-" + le32(200000) + strings.Repeat("a", 200000) + "bvx?"
	_, err := decode(t, &z, strings.NewReader(stream), MaxDecode)
	var c *CorruptError
	if !errors.As(err, &c) || c.Offset != 200008 {
		t.Errorf("got %v, want one at offset 200008", err)
	}
}

// scaled makes sizes smaller where the race detector makes work slower.
func scaled(n int) int {
	if dmgtest.Raced() {
		return n / 8
	}
	return n
}

func randomBytes(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

func someText(n int) (p []byte) {
	rng := rand.New(rand.NewPCG(3, 4))
	for len(p) < n {
		p = fmt.Appendf(p, "line %d: %x\n", rng.IntN(1000), rng.IntN(1<<20))
	}
	return p[:n]
}

// samples are plain data of different kinds.
func samples() map[string][]byte {
	rng := rand.New(rand.NewPCG(5, 6))
	var runs, far []byte
	for size := scaled(1 << 20); len(runs) < size; {
		runs = append(runs, bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(5000))...)
	}
	// Each piece is found again at about the largest distances, of bvx2 blocks
	// and of bvxn blocks.
	random := randomBytes(maxDistance + 20)
	for range 2 {
		far = append(far, random[:maxDistance-20+rng.IntN(40)]...)
	}
	far = append(far, random[:20000]...)
	far = append(far, random[:65520+rng.IntN(30)]...)
	far = append(far, random[:65520+rng.IntN(30)]...)
	skewed := make([]byte, 100<<10)
	for i := range skewed {
		skewed[i] = byte(rng.ExpFloat64() * 3)
	}
	return map[string][]byte{
		"random": random[:100<<10], "zeros": make([]byte, scaled(1<<20)),
		"text": someText(scaled(700 << 10)), "runs": runs, "far": far, "skewed": skewed,
	}
}

func TestRoundTrip(t *testing.T) {
	dmgtest.NotRaced(t)
	var z Reader
	for name, plain := range samples() {
		for _, kind := range lzfseenc.Kinds {
			t.Run(fmt.Sprintf("%s/bvx%c", name, kind), func(t *testing.T) {
				stream := lzfseenc.Encode(kind, plain)
				for _, step := range []int{4097, MaxDecode} {
					got, err := decode(t, &z, bytes.NewReader(stream), step)
					if err != io.EOF || !bytes.Equal(got, plain) {
						t.Fatalf("step %d: %d bytes, %v; want %d", step, len(got), err, len(plain))
					}
				}
			})
		}
	}
}

func TestRoundTripTiny(t *testing.T) {
	var z Reader
	text := []byte("to be or not to be, that is the question; to be, to be, to be...")
	for _, plain := range [][]byte{text, make([]byte, 64)} {
		for n := range 65 {
			for _, kind := range lzfseenc.Kinds {
				got, err := decode(t, &z, bytes.NewReader(lzfseenc.Encode(kind, plain[:n])), 7)
				if err != io.EOF || !bytes.Equal(got, plain[:n]) {
					t.Errorf("bvx%c, %d bytes: got %q, %v", kind, n, got, err)
				}
			}
		}
	}
}

// mixed is a stream of blocks of all kinds whose matches reach into each other,
// and what it decodes to.
func mixed(size int) (stream, plain []byte) {
	text := someText(20000)
	var w lzfseenc.Writer
	for i := 0; len(plain) < size; i++ {
		p := text[i*37%5000:]
		p = p[:min(len(p), size-len(plain), 1+i*i*13%9000)]
		w.Add(lzfseenc.Kinds[i*5/3%4], p)
		plain = append(plain, p...)
	}
	return w.Close(), plain
}

func TestMixed(t *testing.T) {
	var z Reader
	stream, plain := mixed(scaled(1 << 20))
	got, err := decode(t, &z, bytes.NewReader(stream), 1000)
	if err != io.EOF || !bytes.Equal(got, plain) {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, len(plain))
	}
}

// TestLargestDistance copies from exactly 262,139 bytes back, wherever the
// window is in the buffer, and finds one more refused.
func TestLargestDistance(t *testing.T) {
	random := randomBytes(maxDistance)
	for _, before := range []int{0, 1, 100000, 262144, 500000} {
		var w lzfseenc.Writer
		plain := append(make([]byte, before), random...)
		w.Add(lzfseenc.Stored, plain)
		addTriples(&w, lzfseenc.V2, "", 4000, triple{0, 2000, maxDistance}, triple{0, 2000, 0})
		plain = append(plain, random[:4000]...)
		var z Reader
		for _, step := range []int{1000, MaxDecode} {
			got, err := decode(t, &z, bytes.NewReader(w.Close()), step)
			if err != io.EOF || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes before, step %d: got %d bytes, %v", before, step, len(got), err)
			}
		}
	}
	var w lzfseenc.Writer
	w.Add(lzfseenc.Stored, random[1:])
	addTriples(&w, lzfseenc.V2, "", 2000, triple{0, 2000, maxDistance})
	var z Reader
	if _, err := decode(t, &z, bytes.NewReader(w.Close()), MaxDecode); !wantError(err, errCorrupt) {
		t.Errorf("one byte short: %v", err)
	}
}

const maxDistance = 262139

var bareTests = []struct {
	name  string
	size  int64
	codes string // hexadecimal
	want  string
	err   error
}{
	{"empty", 0, lzvnEnd, "", io.EOF},
	{"literals", 3, "E3 616263" + lzvnEnd, "abc", io.EOF},
	{"match", 6, "C003 616263" + lzvnEnd, "abcabc", io.EOF},
	{"bytes after the end code", 3, "E3 616263" + lzvnEnd + "E1 61 70 DF", "abc", io.EOF},
	{"two end codes", 3, "E3 616263" + lzvnEnd + lzvnEnd, "abc", io.EOF},
	{"more than declared", 2, "E3 616263" + lzvnEnd, "", errCorrupt},
	{"less than declared", 4, "E3 616263" + lzvnEnd, "abc", errCorrupt},
	{"end code not zero", 3, "E3 616263 06 00000000000001", "abc", errCorrupt},
	{"end code cut", 3, "E3 616263 06 0000", "abc", io.ErrUnexpectedEOF},
	{"no end code", 3, "E3 616263", "abc", io.ErrUnexpectedEOF},
	{"code cut", 3, "E3 6162", "", io.ErrUnexpectedEOF},
	{"nothing", 3, "", "", io.ErrUnexpectedEOF},
	{"negative size", -1, "E3 616263" + lzvnEnd, "", errCorrupt},
	{"before the start", 4, "4002 61" + lzvnEnd, "", errCorrupt},
}

// TestBareLZVN decodes codes without a block, after a stream of blocks: nothing of
// that must be left.
func TestBareLZVN(t *testing.T) {
	var z Reader
	for _, tt := range bareTests {
		t.Run(tt.name, func(t *testing.T) {
			codes, err := hex.DecodeString(strings.ReplaceAll(tt.codes, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []int{1, MaxDecode} {
				z.Reset(strings.NewReader(bvxn(6, "C003 616263"+lzvnEnd)))
				if _, err := z.Decode(4); err != nil {
					t.Fatal(err)
				}
				z.ResetLZVN(iotest.HalfReader(bytes.NewReader(codes)), tt.size)
				var got []byte
				for err = nil; err == nil; {
					var p []byte
					p, err = z.Decode(step)
					got = append(got, p...)
				}
				if string(got) != tt.want || !wantError(err, tt.err) {
					t.Errorf("in steps of %d: %q, %v; want %q, %v", step, got, err, tt.want, tt.err)
				}
			}
		})
	}
}

// TestTruncated cuts a stream everywhere: what comes out is right, and the end
// is noticed.
func TestTruncated(t *testing.T) {
	var z Reader
	stream, plain := mixed(20000)
	for n := range stream {
		got, err := decode(t, &z, bytes.NewReader(stream[:n]), 5000)
		if err != io.ErrUnexpectedEOF || !bytes.HasPrefix(plain, got) {
			t.Fatalf("cut at %d of %d: %d bytes, %v", n, len(stream), len(got), err)
		}
		if n == len(stream)-4 && len(got) != len(plain) {
			t.Errorf("without the end mark: %d bytes of %d", len(got), len(plain))
		}
	}
}

// TestBitFlips checks that damage leads to an error or other bytes and never
// further, and that the size of the steps makes no difference.
func TestBitFlips(t *testing.T) {
	var z Reader
	stream, plain := mixed(6000)
	flips := 3
	if dmgtest.Part() {
		flips = 1
	}
	for i := range len(stream) * flips {
		bad := bytes.Clone(stream)
		bad[i/flips] ^= 1 << (i % flips)
		got, err := decode(t, &z, bytes.NewReader(bad), MaxDecode)
		if len(got) > 1<<20 {
			t.Fatalf("flip %d: %d bytes from %d", i, len(got), len(plain))
		}
		again, err2 := decode(t, &z, bytes.NewReader(bad), 100)
		if !bytes.Equal(got, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("flip %d: %d bytes, %v in large steps; %d bytes, %v in small ones", i, len(got), err, len(again), err2)
		}
	}
}

func TestSources(t *testing.T) {
	var z Reader
	stream, plain := mixed(100000)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte":      iotest.OneByteReader,
		"halves":        iotest.HalfReader,
		"data with EOF": iotest.DataErrReader,
		"gaps":          func(r io.Reader) io.Reader { return &gapReader{r: r} },
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(t, &z, wrap(bytes.NewReader(stream)), 1000)
			if err != io.EOF || !bytes.Equal(got, plain) {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(plain))
			}
			got, err = io.ReadAll(iotest.OneByteReader(resetTo(&z, wrap(bytes.NewReader(stream)))))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("Read: got %d bytes, %v; want %d", len(got), err, len(plain))
			}
		})
	}
}

func resetTo(z *Reader, r io.Reader) *Reader {
	z.Reset(r)
	return z
}

// gapReader returns nothing every other time.
type gapReader struct {
	r   io.Reader
	odd bool
}

func (g *gapReader) Read(p []byte) (int, error) {
	if g.odd = !g.odd; g.odd {
		return 0, nil
	}
	return g.r.Read(p[:min(len(p), 100)])
}

// failAt fails at the k-th call, and returns 100 bytes at the others.
type failAt struct {
	r    io.Reader
	k    int
	n    int // returned together with the error
	err  error
	call int
}

func (f *failAt) Read(p []byte) (int, error) {
	if f.call++; f.call >= f.k {
		n, _ := f.r.Read(p[:min(len(p), f.n)])
		return n, f.err
	}
	return f.r.Read(p[:min(len(p), 100)])
}

func TestSourceErrors(t *testing.T) {
	var z Reader
	stream, plain := mixed(20000)
	for _, want := range []error{errors.New("disk on fire"), io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		for _, n := range []int{0, 50} {
			for k := 1; k <= len(stream)/100; k++ {
				r := &failAt{r: bytes.NewReader(stream), k: k, n: n, err: want}
				got, err := decode(t, &z, r, 3000)
				if err != want || !bytes.HasPrefix(plain, got) {
					t.Fatalf("call %d: %d bytes, %v; want %v", k, len(got), err, want)
				}
			}
		}
	}
}

func TestNoProgress(t *testing.T) {
	var z Reader
	r := io.MultiReader(strings.NewReader("bvx-"+le32(5)+"abc"), &failAt{r: strings.NewReader("")})
	got, err := decode(t, &z, r, 100)
	if string(got) != "abc" || err != io.ErrNoProgress {
		t.Errorf("got %q, %v", got, err)
	}
}

type lyingReader int

func (n lyingReader) Read(p []byte) (int, error) { return int(n), nil }

func TestBadCounts(t *testing.T) {
	var z Reader
	for _, n := range []int{-1, 1 << 30} {
		if _, err := decode(t, &z, lyingReader(n), 100); err != readat.ErrCount {
			t.Errorf("count %d: %v", n, err)
		}
	}
}

func TestNeverReset(t *testing.T) {
	var z Reader
	if p, err := z.Decode(1); len(p) != 0 || err != io.ErrUnexpectedEOF {
		t.Errorf("got %q, %v", p, err)
	}
	if _, err := decode(t, &z, nil, 1); err != io.ErrUnexpectedEOF {
		t.Errorf("nil source: %v", err)
	}
}

func TestDecodeMax(t *testing.T) {
	var z Reader
	z.Reset(bytes.NewReader(lzfseenc.Encode(lzfseenc.V2, make([]byte, 5*MaxDecode))))
	for _, tt := range []struct{ max, want int }{
		{1, 1}, {MaxDecode, MaxDecode}, {0, MaxDecode}, {-1, MaxDecode}, {MaxDecode + 1, MaxDecode}, {MaxDecode, MaxDecode - 1},
	} {
		p, err := z.Decode(tt.max)
		if len(p) != tt.want || cap(p) != len(p) || err != nil {
			t.Errorf("Decode(%d): %d bytes, capacity %d, %v; want %d", tt.max, len(p), cap(p), err, tt.want)
		}
	}
	if n, err := z.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil): %d, %v", n, err)
	}
}

// countReader counts what is read of an endless repetition.
type countReader struct {
	unit []byte
	at   int64
}

func (c *countReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.unit[c.at%int64(len(c.unit))]
		c.at++
	}
	return len(p), nil
}

// TestBombs decodes the start of streams that give much for little or never
// give anything, and checks how much input that takes.
func TestBombs(t *testing.T) {
	zeros := lzfseenc.Encode(lzfseenc.V2, make([]byte, scaled(8<<20)))
	zeros = zeros[:len(zeros)-4]
	var z Reader
	for _, tt := range []struct {
		name  string
		unit  []byte
		most  int64 // bytes of input
		limit int   // of output
	}{
		{"zeros", zeros, 256 << 10, scaled(64 << 20)},
		{"stored 4 GiB", []byte("bvx-" + le32(-1)), 65 << 20, scaled(64 << 20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := &countReader{unit: tt.unit}
			z.Reset(src)
			for n := 0; n < tt.limit; {
				p, err := z.Decode(MaxDecode)
				if err != nil {
					t.Fatal(err)
				}
				n += len(p)
			}
			if src.at > tt.most {
				t.Errorf("took %d bytes of input, want at most %d", src.at, tt.most)
			}
		})
	}
}

// TestEmptyBlocks: blocks that decode to nothing are passed in time with the
// input, and without recursion.
func TestEmptyBlocks(t *testing.T) {
	size := scaled(4 << 20)
	var z Reader
	for _, kind := range lzfseenc.Kinds {
		var w lzfseenc.Writer
		w.Add(kind, nil)
		unit := w.Close()
		unit = unit[:len(unit)-4]
		src := io.LimitReader(&countReader{unit: unit}, int64(size/len(unit)*len(unit)))
		got, err := decode(t, &z, src, 100)
		if len(got) != 0 || err != io.ErrUnexpectedEOF {
			t.Errorf("bvx%c: %d bytes, %v", kind, len(got), err)
		}
	}
	nothing := "bvxn" + le32(1) + le32(-1) + strings.Repeat("\x0E", size)
	if got, err := decode(t, &z, strings.NewReader(nothing), 100); len(got) != 0 || err != io.ErrUnexpectedEOF {
		t.Errorf("codes for nothing: %d bytes, %v", len(got), err)
	}
}

func TestAllocations(t *testing.T) {
	stream, _ := mixed(100000)
	src := bytes.NewReader(stream)
	var z Reader
	z.Reset(src)
	n := testing.AllocsPerRun(10, func() {
		src.Reset(stream)
		z.Reset(src)
		for {
			if _, err := z.Decode(5000); err != nil {
				if err != io.EOF {
					t.Fatal(err)
				}
				return
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a stream, want none", n)
	}
}

func TestMemory(t *testing.T) {
	if got := int64(reflect.TypeFor[memory]().Size()); got != Memory || Memory > 1<<20 {
		t.Errorf("memory is %d bytes, Memory says %d", got, Memory)
	}
}

// TestConcurrent has the race detector look for state that Readers share.
func TestConcurrent(t *testing.T) {
	stream, plain := mixed(50000)
	done := make(chan error)
	for range 4 {
		go func() {
			var z Reader
			z.Reset(bytes.NewReader(stream))
			got, err := io.ReadAll(&z)
			if err == nil && !bytes.Equal(got, plain) {
				err = errors.New("wrong bytes")
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

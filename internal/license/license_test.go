package license

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// lpic is a list of regions: the default one, and of each region the text and whether it is
// in two bytes.
func lpic(byDefault int16, entries ...[3]int16) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(byDefault))
	b = binary.BigEndian.AppendUint16(b, uint16(len(entries)))
	for _, e := range entries {
		for _, v := range e {
			b = binary.BigEndian.AppendUint16(b, uint16(v))
		}
	}
	return b
}

// words is an STR#.
func words(all ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(all)))
	for _, s := range all {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

func TestParse(t *testing.T) {
	all := Parse(map[string][]Resource{
		"LPic": {{5000, lpic(3, [3]int16{0, 2, 0}, [3]int16{3, 1, 0}, [3]int16{14, 3, 1}, [3]int16{51, 9, 1}, [3]int16{0, 2, 0})}},
		"TEXT": {{5001, []byte("F\x9fr Sie\rzwei")}, {5002, []byte("For you\r\n")}, {5003, []byte("\x93\xfa\x96\x7b\x8c\xea")}},
		"RTF ": {{5001, []byte(`{\rtf1 not this}`)}},
		"STR#": {{5001, words("Deutsch", "Akzeptieren", "Ablehnen")}, {5003, words("\x93\xfa\x96\x7b\x8c\xea")}},
	})
	want := []Agreement{
		{Region: 0, Encoding: "MacRoman", Text: "For you\n"},
		{Region: 3, Encoding: "MacRoman", Text: "Für Sie\nzwei", Default: true, Words: []string{"Deutsch", "Akzeptieren", "Ablehnen"}},
		{Region: 14, Encoding: "MacJapanese", Text: "日本語", Words: []string{"日本語"}},
	}
	languages := []string{"en-US", "de", "ja"}
	if len(all) != len(want) {
		t.Fatalf("%+v", all)
	}
	for i, a := range all {
		w := want[i]
		if a.Region != w.Region || a.Encoding != w.Encoding || a.Text != w.Text || a.Default != w.Default || !slices.Equal(a.Words, w.Words) || a.Language() != languages[i] {
			t.Errorf("%+v\nwant %+v", a, w)
		}
	}
}

func TestParseOdd(t *testing.T) {
	many := make([][3]int16, 1000)
	text := []Resource{{5000, []byte("a")}, {5001, []byte("b")}}
	for _, tt := range []struct {
		name      string
		resources map[string][]Resource
		want      string // texts
	}{
		{"nothing", nil, ""},
		{"no list", map[string][]Resource{"TEXT": {{5001, []byte("b")}, {5000, []byte("a")}, {128, []byte("x")}}, "RTF ": {{5002, []byte(`{\rtf1 c}`)}, {5000, nil}}}, "a b c"},
		{"an empty list", map[string][]Resource{"LPic": {{5000, lpic(0)}}, "TEXT": text}, "a b"},
		{"a short list", map[string][]Resource{"LPic": {{5000, lpic(0, [3]int16{0, 1, 0})[:9]}}, "TEXT": text}, "a b"},
		{"more entries than there are", map[string][]Resource{"LPic": {{5000, []byte{0, 0, 0x7F, 0xFF, 0, 0, 0, 1, 0, 0}}}, "TEXT": text}, "b"},
		{"a negative count", map[string][]Resource{"LPic": {{5000, []byte{0, 0, 0xFF, 0xFF, 0, 0, 0, 1, 0, 0}}}, "TEXT": text}, "a b"},
		{"a thousand entries", map[string][]Resource{"LPic": {{5000, lpic(0, many...)}}, "TEXT": text}, "a"},
		{"a text that isn't there", map[string][]Resource{"LPic": {{5000, lpic(0, [3]int16{0, 7, 0}, [3]int16{0, 0, 0})}}, "TEXT": text}, "a"},
		{"a long text", map[string][]Resource{"TEXT": {{5000, make([]byte, maxData+1)}, {5001, []byte("b")}}}, "b"},
		{"words that are cut", map[string][]Resource{"TEXT": text[:1], "STR#": {{5000, words("English", "Agree")[:11]}}}, "a"},
	} {
		all := Parse(tt.resources)
		var texts []string
		defaults := 0
		for _, a := range all {
			texts = append(texts, a.Text)
			if a.Default {
				defaults++
			}
		}
		if got := strings.Join(texts, " "); got != tt.want || defaults != min(1, len(all)) {
			t.Errorf("%s: %q, %d by default, want %q", tt.name, got, defaults, tt.want)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		region     int
		in         string
		text, name string
	}{
		{0, "\xd2x\xd3 \xa9", "“x” ©", "MacRoman"},
		{0, "“x” ©", "“x” ©", "UTF-8"},
		{0, "\xEF\xBB\xBFx", "x", "UTF-8"},
		{42, "\x8a", "ä", "MacCentralEuropean"},
		{20, "\xc1", "Ν", "MacGreek"},
		{24, "\xdc", "İ", "MacTurkish"},
		{49, "\x8f\xf0\xe8\xe2\xe5\xf2", "Привет", "MacCyrillic"},
		{14, "日本語", "日本語", "UTF-8"},
		{52, "\xcd\xac\xd2\xe2", "同意", "GB2312"},
		{53, "\xa6\x50\xb7\x4e", "同意", "Big5"},
		{51, "\xb5\xbf\xc0\xc7", "동의", "MacKorean"},
		{13, "a\xe0", "a\uFFFD", "MacHebrew"},
		{-1, "\x8a", "ä", "MacRoman"},
		{30000, "\x8a", "ä", "MacRoman"},
	} {
		if text, name := encodingOf(tt.region, false).decode([]byte(tt.in)); text != tt.text || name != tt.name {
			t.Errorf("%d, %x: %q in %s, want %q in %s", tt.region, tt.in, text, name, tt.text, tt.name)
		}
	}
	if text, name := encodingOf(30000, true).decode([]byte("a\x8a")); text != "a\uFFFD" || name != "unknown" {
		t.Errorf("two bytes of an unknown region: %q in %s", text, name)
	}
	for id, r := range regions {
		if r.language == "" || r.encoding.name == "" || r.encoding.high != nil && len(r.encoding.high) != 128 {
			t.Errorf("region %d: %s, %d characters", id, r.language, len(r.encoding.high))
		}
	}
}

func TestRTF(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{\rtf1\ansi\ansicpg1252\cocoartf2639
{\fonttbl\f0\fswiss\fcharset0 Helvetica;}
{\colortbl;\red255\green255\blue255;}
{\*\expandedcolortbl;;}
\pard\tx566\pardirnatural
\f0\fs24 \cf0 Agree \{now\}\
or \b not\b0 .\par
caf\'e9 \u8220 ?x\u8221 ?}`, "Agree {now}\nor not.\ncafé “x”"},
		{`{\rtf1\ansi\ansicpg932 \'93\'fa\'96\'7b}`, "日本"},
		{`{\rtf1\mac \'8a}`, "ä"},
		{`{\rtf1\uc2 \u-10179 ??\u-8694 ??a}`, "\U0001F60A" + "a"},
		{`{\rtf1 a\tab b\~c\_d\'zz\'}`, "a\tb\u00a0c-d"},
		{`{\rtf1 a{\*\x b}{\pict 00ff}c\bin3 }}}d`, "acd"},
		{`}}}a\`, "a"},
		{strings.Repeat("{", 2000) + "a", ""},
		{``, ""},
	} {
		if got := rtfText([]byte(tt.in)); got != tt.want {
			t.Errorf("%.40q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

// FuzzParse reads anything as resources. What comes out is text, and not much longer.
func FuzzParse(f *testing.F) {
	f.Add(lpic(0, [3]int16{0, 0, 0}), []byte("text"), []byte(`{\rtf1 \u1234 \'e9}`), words("a", "b"))
	f.Add(lpic(14, [3]int16{14, 0, 1}), []byte("\x93\xfa"), []byte(""), words("\x93"))
	f.Fuzz(func(t *testing.T, list, text, rich, strs []byte) {
		all := Parse(map[string][]Resource{
			"LPic": {{5000, list}}, "TEXT": {{5000, text}}, "RTF ": {{5001, rich}}, "STR#": {{5000, strs}, {5001, strs}},
		})
		if len(all) > maxAgreements {
			t.Fatalf("%d agreements", len(all))
		}
		for _, a := range all {
			for _, s := range append(a.Words, a.Text) {
				if !utf8.ValidString(s) {
					t.Fatalf("%q is no UTF-8", s)
				}
			}
			if len(a.Text) > 4*len(a.Data) {
				t.Fatalf("%d bytes of text from %d", len(a.Text), len(a.Data))
			}
		}
	})
}

package plistguard

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"howett.net/plist"
)

// inUTF16 encodes a document with a byte order mark or without.
func inUTF16(s string, order binary.AppendByteOrder, mark bool) string {
	if mark {
		s = "\uFEFF" + s
	}
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

var lenientTests = []struct {
	name   string
	before string // what stands before the root element
	text   string // of a string in it
	want   string
}{
	{"plain", "", "disk image", "disk image"},
	{"Apple's", apple[:strings.Index(apple, "<plist")], "disk image", "disk image"},
	{"document type alone", "<!DOCTYPE plist>", "x", "x"},
	{"byte order mark", byteOrderMark + `<?xml version="1.0"?>`, "\u00fc", "\u00fc"},
	{"space first", "\n " + `<?xml version="1.0"?>`, "x", "x"},
	{"UTF8", `<?xml version="1.0" encoding="UTF8"?>`, "\u00fc", "\u00fc"},
	{"utf-8", `<?xml version='1.0' encoding='utf-8' standalone='yes'?>`, "\u00fc", "\u00fc"},
	{"US-ASCII", `<?xml version="1.0" encoding="US-ASCII"?>`, "x", "x"},
	{"US-ASCII that is UTF-8", `<?xml version="1.0" encoding="US-ASCII"?>`, "\u00fc", "\u00fc"},
	{"version 1.1", `<?xml version="1.1" encoding="UTF-8"?>`, "x", "x"},
	{"ISO-8859-1", `<?xml version="1.0" encoding="ISO-8859-1"?>`, "Gr\xFC\xDFe\xA0\x80", "Gr\u00fc\u00dfe\u00a0\u0080"},
	{"latin1", `<?xml version="1.0" encoding = "latin1" ?>`, "\xFC", "\u00fc"},
	{"windows-1252", `<?xml version="1.0" encoding="Windows-1252"?>`, "\x80\xFC", "\u20ac\u00fc"},
	{"MacRoman", `<?xml version="1.0" encoding="MacRoman"?>`, "Gr\x9F\xA7e\xDB\xF0\xFF", "Gr\u00fc\u00dfe\u20ac\uf8ff\u02c7"},
	{"x-mac-roman", `<?xml version="1.0" encoding="x-mac-roman"?>`, "\x80", "\u00c4"},
	{"macintosh", `<?xml version="1.0" encoding="macintosh"?>`, "\x80", "\u00c4"},
	{"an encoding that nobody knows", `<?xml version="1.0" encoding="Shift_JIS"?>`, "a\x83b", "a?b"},
	{"text before the root", `<?xml version="1.1"?>0`, "x", "x"},
	{"no encoding", `<?xml version="1.0" encoding=""?>`, "x", "x"},
	{"an encoding without quotes", `<?xml version="1.0" encoding=latin1?>`, "x", "x"},
	{"encoding at the end", `<?xml version="1.0" encoding?>`, "x", "x"},

	{"ill-formed UTF-8", "", "a\xFF\xC0b\xED\xA0\x80", "a??b???"},
	{"control characters", "", "a\x00\x01\x1Fb\tc", "a???b\tc"},
	{"no characters", "", "\uFFFE\uFFFFx", "??x"},
	{"U+FFFD itself", "", "\uFFFD", "\uFFFD"},
	{"references", "", "&#65;&#x42;&#x1F4BE;&amp;&lt;&gt;&quot;&apos;", "AB\U0001F4BE&<>\"'"},
	{"reference to NUL", "", "a&#0;b&#x0;&#00;", "a?b??"},
	{"references to no characters", "", "&#1;&#xD800;&#xFFFE;&#x110000;&#99999999;", "?????"},
	{"entities of HTML", "", "&nbsp;&auml;", "&nbsp;&auml;"},
	{"ampersands", "", "A&B & C&;&#;&#x;&#xg;&", "A&B & C&;&#;&#x;&#xg;&"},
	{"CDATA", "", "<![CDATA[a & b &#0; <c> \x00]]>&#0;", "a & b &#0; <c> ??"},
	{"a comment", "", "<!-- & &#0; \x00 -->x", "x"},
}

func TestLenient(t *testing.T) {
	for _, tt := range lenientTests {
		t.Run(tt.name, func(t *testing.T) {
			doc := tt.before + "<plist><dict><key>k</key><string>" + tt.text + "</string></dict></plist>"
			checkLenient(t, doc, tt.want)
			if utf8.ValidString(doc) && !strings.HasPrefix(doc, byteOrderMark) {
				for _, mark := range []bool{true, false} {
					if mark || doc[0] == '<' {
						checkLenient(t, inUTF16(doc, binary.BigEndian, mark), tt.want)
						checkLenient(t, inUTF16(doc, binary.LittleEndian, mark), tt.want)
					}
				}
			}
		})
	}
}

func checkLenient(t *testing.T, doc, want string) {
	t.Helper()
	clean, err := Lenient([]byte(doc))
	if err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	var v map[string]string
	if _, err := plist.Unmarshal(clean, &v); err != nil || v["k"] != want {
		t.Errorf("%q is %q: %q, %v, want %q", doc, clean, v["k"], err, want)
	}
}

// TestLenientLong refuses what becomes too long.
func TestLenientLong(t *testing.T) {
	for _, tt := range []struct {
		text string
		err  string
	}{
		{strings.Repeat("\x80", MaxLen/2-100), ""}, // two bytes each
		{strings.Repeat("\x80", MaxLen/2), "4 MiB"},
		{strings.Repeat("&", MaxLen/2), "4 MiB"},
		{strings.Repeat("\xFF", MaxLen-100), "4 MiB"},
	} {
		clean, err := Lenient([]byte(`<?xml encoding="MacRoman"?><plist>` + tt.text + `</plist>`))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) || len(clean) > MaxLen+8 {
			t.Errorf("%d bytes of %q: %d bytes, %v", len(tt.text), tt.text[:1], len(clean), err)
		}
	}
	// A tag that becomes an instruction would hide those in it from the guard.
	if _, err := Lenient([]byte("<plist><\xEF>" + nested(15, "array") + "</a></plist>")); err == nil {
		t.Error("accepts a tag of no characters")
	}
}

// TestUTF16Surrogates decodes halves of pairs, and what ends inside a unit.
func TestUTF16Surrogates(t *testing.T) {
	for in, want := range map[string]string{
		"\xFE\xFF\x00a\xD8\x3D\xDC\xBE\x00b":         "\uFEFFa\U0001F4BEb",
		"\xFE\xFF\xD8\x3D\x00b\xDC\xBE\x00c\xD8\x3D": "\uFEFF\uFFFDb\uFFFDc\uFFFD",
		"\xFF\xFEa\x00b":                             "\uFEFFa",
		"\x00<\x00a":                                 "<a",
		"<a":                                         "<a",
		"":                                           "",
	} {
		if got := UTF8([]byte(in)); string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMacRoman(t *testing.T) {
	for in, want := range map[string]string{"": "", "disk": "disk", "Gr\x9F\xA7e": "Gr\u00fc\u00dfe", "Gr\u00fc\u00dfe": "Gr\u00fc\u00dfe"} {
		if got := MacRoman([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzLenient: what comes out passes the guard, is UTF-8, and is to a strict parser
// what went in, if that was XML.
func FuzzLenient(f *testing.F) {
	for _, tt := range lenientTests {
		f.Add([]byte(tt.before + "<plist><string>" + tt.text + "</string></plist>"))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		before, ok := text(doc)
		clean, err := Lenient(bytes.Clone(doc))
		if err != nil {
			return
		}
		if !utf8.Valid(clean) {
			t.Fatalf("%q", clean)
		}
		if err := Check(clean); err != nil {
			t.Fatalf("%q: %v", clean, err)
		}
		if after, _ := text(clean); ok && after != before {
			t.Fatalf("%q became %q", before, after)
		}
	})
}

// text returns the names and texts of a document in UTF-8, up to the end of its root,
// and whether that is reached.
func text(doc []byte) (string, bool) {
	var b strings.Builder
	d := xml.NewDecoder(bytes.NewReader(doc))
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return b.String(), err == io.EOF && depth == 0 && b.Len() > 0
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			b.WriteString("<" + token.Name.Local + ">")
		case xml.EndElement:
			if depth--; depth == 0 {
				return b.String(), true
			}
		case xml.CharData:
			if depth > 0 {
				b.Write(token)
			}
		}
	}
}

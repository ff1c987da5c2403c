package plistguard

import (
	"bytes"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"howett.net/plist"
)

const apple = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>size</key><integer>65536</integer></dict></plist>
`

func nested(n int, tag string) string {
	return strings.Repeat("<"+tag+">", n) + strings.Repeat("</"+tag+">", n)
}

var checkTests = []struct {
	name string
	xml  string
	err  string // part of the message; empty: accepted
	at   int64
}{
	{name: "Apple's", xml: apple},
	{name: "BOM and spaces", xml: "\xEF\xBB\xBF \r\n\t" + apple},
	{name: "junk after the root", xml: apple + "\x00<"},
	{name: "no prolog", xml: `<plist/>`},
	{name: "ill-formed UTF-8 in text", xml: "<plist><string>\xFF\xFE</string></plist>"},
	{name: "'>' in an attribute", xml: `<plist a='>' b=">"><string a="/>"/></plist>`},
	{name: "tags in a comment", xml: `<plist><!-- <a><a></b> --><true/></plist>`},
	{name: "comment that ends late", xml: `<!--><a>--><plist/>`},
	{name: "tags in CDATA", xml: `<plist><string><![CDATA[</a></a><a>]]></string></plist>`},
	{name: "tags in an instruction", xml: `<?x <a> ?><plist><?y </a>?></plist>`},
	{name: "depth 16", xml: nested(16, "array")},
	{name: "16 and empty ones inside 15", xml: strings.Repeat("<array>", 15) + "<a/><a/><a></a>" + strings.Repeat("</array>", 15)},
	{name: "65536 tags", xml: "<array>" + strings.Repeat("<a/>", maxTags-1) + "</array>"},
	{name: "tag of 4 KiB", xml: "<a" + strings.Repeat(" ", maxTag-4) + "/>"},

	{name: "empty", xml: "", err: "not XML"},
	{name: "spaces", xml: "  ", err: "not XML", at: 2},
	{name: "BOM alone", xml: "\xEF\xBB\xBF", err: "not XML", at: 3},
	{name: "BOM after a space", xml: " \xEF\xBB\xBF<plist/>", err: "not XML", at: 1},
	{name: "binary", xml: "bplist00\x80", err: "not XML"},
	{name: "OpenStep", xml: "((((((", err: "not XML"},
	{name: "OpenStep in UTF-16", xml: " \x00(\x00", err: "not XML", at: 1},
	{name: "XML in UTF-16", xml: "<\x00a\x00", err: "without a name"},
	{name: "GNUstep data", xml: "<[AAAA]>", err: "without a name"},
	{name: "GNUstep number", xml: "<*I1>", err: "without a name"},
	{name: "depth 17", xml: nested(17, "array"), err: "deeper", at: 16 * 7},
	{name: "empty element at depth 17", xml: strings.Repeat("<array>", 16) + "<a/>", err: "deeper", at: 16 * 7},
	{name: "4 MB of arrays", xml: strings.Repeat("<array>", MaxLen/7), err: "deeper", at: 16 * 7},
	{name: "depth hidden by a comment", xml: strings.Repeat("<array><!--</array>-->", 17), err: "deeper", at: 16 * 22},
	{name: "depth hidden by CDATA", xml: strings.Repeat("<array><![CDATA[</array>]]>", 17), err: "deeper", at: 16 * 27},
	{name: "depth hidden by an instruction", xml: strings.Repeat("<array><?x </array>?>", 17), err: "deeper", at: 16 * 21},
	{name: "depth hidden by an attribute", xml: strings.Repeat(`<array a="/>">`, 17), err: "deeper", at: 16 * 14},
	{name: "65537 tags", xml: "<array>" + strings.Repeat("<a/>", maxTags), err: "more than 65536", at: 7 + 4*(maxTags-1)},
	{name: "4 MB of dicts", xml: "<plist><array>" + strings.Repeat("<dict/>", MaxLen/7-10), err: "more than 65536", at: 14 + 7*(maxTags-2)},
	{name: "tag longer than 4 KiB", xml: "<a" + strings.Repeat(" ", maxTag) + "/>", err: "4 KiB"},
	{name: "4 MiB", xml: strings.Repeat(" ", MaxLen-len("<plist/>")) + "<plist/>"},
	{name: "longer", xml: strings.Repeat(" ", MaxLen-len("<plist/>")+1) + "<plist/>", err: "4 MiB", at: MaxLen},
	{name: "internal subset", xml: `<!DOCTYPE plist [<!ENTITY a "b">]><plist/>`, err: `'['`, at: 16},
	{name: "declaration in the type", xml: `<!DOCTYPE plist <!ENTITY a "b">><plist/>`, err: `'<'`, at: 16},
	{name: "entity declaration", xml: `<!ENTITY a "b"><plist/>`, err: "declaration"},
	{name: "late document type", xml: `<plist><!DOCTYPE plist></plist>`, err: "document type", at: 7},
	{name: "end tag alone", xml: "</plist>", err: "without its element"},
	{name: "quote in an end tag", xml: `<a></a ">">`, err: "inside a tag", at: 7},
	{name: "'<' in a tag", xml: "<a <b>", err: `'<'`, at: 3},
	{name: "unfinished tag", xml: "<plist", err: "unfinished tag"},
	{name: "unfinished attribute", xml: `<plist a=">`, err: "unfinished tag"},
	{name: "unfinished comment", xml: "<plist><!--->", err: "unfinished comment", at: 7},
	{name: "unfinished CDATA", xml: "<plist><![CDATA[]>", err: "unfinished CDATA", at: 7},
	{name: "unfinished instruction", xml: "<?xml ", err: "unfinished processing"},
	{name: "unfinished root", xml: "<plist><a></a>", err: "ends inside", at: 14},
	{name: "no root", xml: `<?xml version="1.0"?>`, err: "ends inside", at: 21},
	{name: "bare '<'", xml: `<`, err: "without a name"},
}

func TestCheck(t *testing.T) {
	for _, tt := range checkTests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check([]byte(tt.xml))
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.Msg, tt.err) || e.Offset != tt.at {
				t.Fatalf("Check = %v, want %q at %d", err, tt.err, tt.at)
			}
		})
	}
}

// Every prefix of a document is refused, up to the one that closes the root.
func TestCheckPrefixes(t *testing.T) {
	whole := strings.LastIndexByte(apple, '>') + 1
	for n := range apple {
		if err := Check([]byte(apple[:n])); (err == nil) != (n >= whole) {
			t.Errorf("Check of %d bytes = %v", n, err)
		}
	}
}

func TestSamples(t *testing.T) {
	files, _ := filepath.Glob("../../../shared/samples/sparse/*/Info.plist")
	if len(files) == 0 {
		t.Skip("no samples")
	}
	for _, file := range files {
		xml, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(xml); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// decode is what the guard protects: a decoder that guesses the format and
// recurses.
func decode(xml []byte) error {
	var v any
	_, err := plist.Unmarshal(xml, &v)
	return err
}

// TestDecodeDeepest shows that the deepest and widest documents that pass leave
// the decoder within the stack the fuzz target gives it.
func TestDecodeDeepest(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(600 << 10))
	for _, xml := range []string{
		nested(maxDepth, "array"),
		strings.Repeat("<dict><key>k</key>", maxDepth-1) + "<true/>" + strings.Repeat("</dict>", maxDepth-1),
		"<array>" + strings.Repeat("<dict/>", maxTags-1) + "</array>",
	} {
		if err := Check([]byte(xml)); err != nil {
			t.Fatal(err)
		}
		if err := decode([]byte(xml)); err != nil {
			t.Error(err)
		}
	}
}

// FuzzCheck: what passes the guard is decoded on a small stack (a document that
// recurses ends the process), and a strict parser finds no more in it than the
// guard allows.
func FuzzCheck(f *testing.F) {
	debug.SetMaxStack(600 << 10)
	for _, tt := range checkTests {
		if len(tt.xml) < 1<<10 {
			f.Add([]byte(tt.xml))
		}
	}
	f.Fuzz(func(t *testing.T, xml []byte) {
		err := Check(xml)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > int64(len(xml)) {
				t.Fatalf("Check = %#v", err)
			}
			return
		}
		_ = decode(xml) // may fail, must return
		if depth, tags := measure(xml); depth > maxDepth || tags > maxTags {
			t.Fatalf("passed with %d tags, %d deep", tags, depth)
		}
	})
}

// measure counts elements with encoding/xml, up to the end of the root or the
// first error.
func measure(data []byte) (deepest, tags int) {
	d := xml.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return deepest, tags
		}
		switch token.(type) {
		case xml.StartElement:
			tags++
			depth++
			deepest = max(deepest, depth)
		case xml.EndElement:
			if depth--; depth == 0 {
				return deepest, tags
			}
		}
	}
}

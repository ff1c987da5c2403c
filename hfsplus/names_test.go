package hfsplus_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

func write(t testing.TB, root *hfsvol.Entry, o hfsvol.Options) (*hfsplus.FS, *hfsvol.Volume) {
	t.Helper()
	v := hfsvol.Write(root, o)
	fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
	if err != nil {
		t.Fatal(err)
	}
	return fsys, v
}

var nameTests = []struct {
	stored string
	want   string
	units  []uint16 // in place of stored
}{
	{stored: "plain", want: "plain"},
	{stored: "a/b", want: "a:b"},
	{stored: "a:b", want: "a%u003Ab"},
	{stored: "a:/", want: "a%u003A:"},
	{stored: `back\slash`, want: "back%u005Cslash"},
	{stored: ".", want: "%u002E"},
	{stored: "..", want: "%u002E%u002E"},
	{stored: "...", want: "..."},
	{stored: "%", want: "%"},
	{stored: "%u", want: "%u0025%u0075"},
	{stored: "%U0041", want: "%U0041"},
	{stored: "%u0041", want: "%u0025u0041"},
	{stored: "%u0041\u0301", want: "%u0025u0041\u0301"},
	{stored: "%u00%u", want: "%u00%u"},
	{stored: "%u00e9", want: "%u00e9"},
	{stored: "nul\x00", want: "nul%u0000"},
	{stored: "\x00\x00\x00\x00other data", want: "%u0000%u0000%u0000%u0000other data"},
	{stored: "C\u0301", want: "\u0106"},
	{stored: "cafe\u0301", want: "café"},
	{stored: "\u00e8", want: "\u00e8"},                      // composed, as no Mac stores it
	{stored: "e\u0302", want: "\u00ea"},                     // both: the decomposed one has the name
	{stored: "\u00ea", want: "%u00EA"},                      //
	{stored: "A\u0308o", want: "\u00c4o"},                   //
	{stored: "\u00e4o", want: "%u00E4o"},                    // would be found as Äo
	{stored: "x\u0301\u0323", want: "x%u0301%u0323"},        // marks in the wrong order
	{stored: "x\u2000", want: "x\u2000"},                    // EN QUAD stays, which NFC replaces
	{stored: "\u2260\u0338", want: "\u2260\u0338"},          // a character that is not decomposed
	{stored: "\uf900", want: "\uf900"},                      // a compatibility ideograph
	{stored: "\u1112\u1161\u11ab", want: "\ud55c"},          // Hangul
	{stored: "\u1b06", want: "\u1b06"},                      // composed since Unicode 5.0
	{stored: "\u0958", want: "%u0958"},                      // never composed, and not decomposed here
	{stored: "\u0301", want: "\u0301"},                      // a mark alone
	{stored: "\x01\r\x7f", want: "\x01\r\x7f"},              //
	{stored: "emoji 😀", want: "emoji 😀"},                    //
	{units: []uint16{0xD800}, want: "%uD800"},               //
	{units: []uint16{0xDC00, 0xD800}, want: "%uDC00%uD800"}, //
	{units: []uint16{'e', 0x301, 0xD800}, want: "\u00e9%uD800"},
	{units: []uint16{0xFFFF}, want: "\uffff"},
	{units: []uint16{0, 0x0301}, want: "%u0000\u0301"},
	{units: []uint16{'\\', 0x0301}, want: "%u005C%u0301"}, // else the escape's C would be composed with it
	{units: []uint16{}, want: "%u"},
}

// TestNames lists names that io/fs or Unicode make difficult, and opens each.
func TestNames(t *testing.T) {
	dir := hfsvol.Dir("d")
	want := map[string]string{} // content by name
	for i, tt := range nameTests {
		e := hfsvol.File(tt.stored, fmt.Append(nil, i))
		e.Units = tt.units
		dir.Children = append(dir.Children, e)
		if _, ok := want[tt.want]; ok {
			t.Fatalf("two rows for %q", tt.want)
		}
		want[tt.want] = fmt.Sprint(i)
	}
	for _, o := range []hfsvol.Options{{}, {HFSX: true}} {
		fsys, _ := write(t, hfsvol.Dir("Names", dir), o)
		list, err := fsys.ReadDir("d")
		if err != nil {
			t.Error(err)
		}
		got := map[string]bool{}
		for _, d := range list {
			got[d.Name()] = true
			data, err := fsys.ReadFile("d/" + d.Name())
			w := want[d.Name()]
			if o.HFSX && d.Name() == "\u00e4o" { // no other has it where cases differ
				w = want["%u00E4o"]
			}
			if err != nil || string(data) != w || w == "" {
				t.Errorf("HFSX %v: %q has content %q, want %q; %v", o.HFSX, d.Name(), data, w, err)
			}
			if !fs.ValidPath(d.Name()) || strings.ContainsAny(d.Name(), `\/`) {
				t.Errorf("%q is no name", d.Name())
			}
		}
		if len(got) != len(nameTests) {
			t.Errorf("%d names of %d", len(got), len(nameTests))
		}
		checkFS(t, fsys, "d/plain")
	}
}

// TestLookup finds names by other spellings, and not by others.
func TestLookup(t *testing.T) {
	root := hfsvol.Dir("Lookup", hfsvol.File("Cafe\u0301", []byte("1")), hfsvol.File("stra\u00dfe", []byte("2")),
		hfsvol.Dir("Dir", hfsvol.File("F/F", []byte("3"))), hfsvol.File("ab\u200dc", []byte("4")))
	tests := []struct {
		name, folded, exact string // contents, "" if there is none
	}{
		{"Caf\u00e9", "1", "1"},
		{"Cafe\u0301", "1", "1"},
		{"CAF\u00c9", "1", ""},
		{"caf\u00e9", "1", ""},
		{"Caf%u00E9", "", ""},
		{"Cafe%u0301", "1", "1"},
		{"Cafe", "", ""},
		{"stra\u00dfe", "2", "2"},
		{"strasse", "", ""},
		{"Dir/F:F", "3", "3"},
		{"dir/f:f", "3", ""},
		{"dir/f%u002Ff", "3", ""},
		{"abc", "4", ""},
		{"ab\u200dc", "4", "4"},
		{"a\u200eb\u200dc", "4", ""},
		{"%u", "", ""},
		{"Dir/%u", "", ""},
		{strings.Repeat("x", 256), "", ""},
		{strings.Repeat("x", 1<<20), "", ""},
	}
	for _, o := range []hfsvol.Options{{}, {HFSX: true}, {HFSX: true, FoldedHFSX: true}} {
		fsys, _ := write(t, root, o)
		for _, tt := range tests {
			want := tt.folded
			if o.HFSX && !o.FoldedHFSX {
				want = tt.exact
			}
			data, err := fsys.ReadFile(tt.name)
			if string(data) != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%+v: %.40q has %q, want %q; %v", o, tt.name, data, want, err)
			}
		}
	}
}

// TestFoldedAlike lists two names that differ in case alone, which the volume should
// not have.
func TestFoldedAlike(t *testing.T) {
	fsys, v := write(t, hfsvol.Dir("Alike", hfsvol.File("aaa", []byte("1")), hfsvol.File("bbb", []byte("2")), hfsvol.File("ccc", []byte("3"))), hfsvol.Options{})
	_ = fsys
	for _, r := range v.Catalog.Records { // bbb becomes AAA
		if r.Height == 1 && len(r.Key) == 12 && string(r.Key[6:]) == "\x00b\x00b\x00b" {
			copy(v.Image[r.Off+8:], "\x00A\x00A\x00A")
		}
	}
	fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	list, err := fsys.ReadDir(".")
	for _, d := range list {
		data, err := fsys.ReadFile(d.Name())
		got = append(got, d.Name()+string(data))
		if err != nil {
			t.Error(err)
		}
	}
	if want := []string{"AAA2", "aaa1", "ccc3"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, want %q; %v", got, want, err)
	}
	if data, err := fsys.ReadFile("Aaa"); string(data) != "1" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

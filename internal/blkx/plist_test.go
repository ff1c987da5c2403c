package blkx

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/plistguard"
)

// list is a property list with the given block tables' data elements.
func list(data ...string) []byte {
	var b strings.Builder
	b.WriteString("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array>")
	for _, d := range data {
		b.WriteString("<dict><key>Data</key>" + d + "<key>Name</key><string>n</string></dict>")
	}
	b.WriteString("</array></dict></dict></plist>")
	return []byte(b.String())
}

// TestPlistData has the same bytes come of a data element however it is written.
func TestPlistData(t *testing.T) {
	for _, d := range []string{"<data>YWJj</data>", "<data>\n\t\tYW\n\t\tJj\n</data>", "<data ><![CDATA[YWJj]]></data>", "<data><!-- x -->YWJj</data>", "<data>YW&#74;j</data>", "<!-- <data> --><data>YWJj</data>", "<!-- <data>AAAA</data> --><data>YWJj</data>", "<!-- </data> --><data>YWJj</data>"} {
		tables, err := ParsePlist(list("<data>AAAA</data>", d, "<data>BBBB</data>"))
		if err != nil || len(tables) != 3 || string(tables[1].Data) != "abc" {
			t.Errorf("%s: %v, %v", d, tables, err)
		}
	}
}

// TestPlistOffset wants the offset of an error to be the property list's, whatever
// was lifted out before it.
func TestPlistOffset(t *testing.T) {
	long := "<data>" + strings.Repeat("A", 1000) + "</data>"
	for _, before := range []string{"", "<data>", long, long + long + "<data></data>" + long} {
		xml := "<plist>" + before + strings.Repeat(long, 20)
		at := int64(len(xml))
		_, err := ParsePlist([]byte(xml + "< >" + long))
		var bad *Error
		if !errors.As(err, &bad) || bad.Offset != at {
			t.Errorf("%.20s: %v, want byte %d", before, err, at)
		}
	}
	xml := "<plist>" + long + "<!--" + strings.Repeat(" ", plistguard.MaxLen)
	_, err := ParsePlist([]byte(xml))
	if err == nil || !strings.Contains(err.Error(), "beside its data") {
		t.Errorf("a long comment: %v", err)
	}
}

// TestPlistManyData would take minutes if what is behind a data element were
// looked at for each.
func TestPlistManyData(t *testing.T) {
	dmgtest.Native(t)
	const n = 300_000
	for _, xml := range []string{
		"<!--" + strings.Repeat("<data>", n) + strings.Repeat(" ", 12*n) + "</data>-->",
		"<!--" + strings.Repeat("<data>", n) + "-->" + strings.Repeat(" ", 6*n),
		"<!--" + strings.Repeat("<data>&", n) + "</data>-->",
		"<!--" + strings.Repeat("<data></data>", n/2) + "-->",
		"<!--" + strings.Repeat("</data>", n) + "-->",
	} {
		_, err := ParsePlist(append([]byte(xml), list("<data>AAAA</data>")...))
		var at *Error
		if err != nil && !errors.As(err, &at) {
			t.Error(err)
		}
	}
}

func TestDecodeBase64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 4, 3071, 3072, 3073, 6143, 6144, 6145, 100_000} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(r.Uint32())
		}
		var b []byte
		for _, c := range []byte(base64.StdEncoding.EncodeToString(want)) {
			if r.IntN(30) == 0 {
				b = append(b, "\n\t\t"...)
			}
			b = append(b, c)
		}
		got, err := decodeBase64(b)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d bytes, %v", n, len(got), err)
		}
	}
	full := strings.Repeat("A", 4<<10)
	for _, s := range []string{"A", "AA", "AAA", "=", "AA=", "A===", "AA==A", "AA==AAAA", full + "A", full[1:], full[1:] + "==", full[2:] + "==" + full, full[1:] + "=" + full, full + "-" + full} {
		_, want := base64.StdEncoding.DecodeString(s)
		if _, err := decodeBase64([]byte(s)); err == nil || err != want {
			t.Errorf("%.10q of %d: %v, want %v", s, len(s), err, want)
		}
	}
}

func TestPlistLimit(t *testing.T) {
	for _, tt := range []struct {
		size  int64
		limit uint64
	}{{0, 32 << 20}, {512 << 20, 32 << 20}, {800 << 20, 50 << 20}, {1<<63 - 1, maxList}} {
		if got := PlistLimit(tt.size); got != tt.limit {
			t.Errorf("%d bytes: %d, want %d", tt.size, got, tt.limit)
		}
	}
}

// FuzzPlist decodes anything as the property list. The stack is kept so small
// that a document which recurses ends the process, as it would with the usual
// limit if it were larger.
func FuzzPlist(f *testing.F) {
	defer debug.SetMaxStack(debug.SetMaxStack(600 << 10)) // other tests run after it
	f.Add(dmgtest.Plist([]dmgtest.Resource{
		{Type: "blkx", Name: "disk image (Apple_HFS : 1)", Data: make([]byte, 204)},
		{Type: "blkx", ID: 1, Name: "\xff", CFName: "x", Data: []byte("mish")},
		{Type: "plst", Data: make([]byte, 10)},
	}))
	f.Add([]byte("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>bGlmdGVkIDA=</data></dict></array></dict></dict></plist>"))
	f.Add([]byte("<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>A</data></dict></array></dict></dict></plist>"))
	f.Add([]byte("<data>"))
	f.Add(bytes.Repeat([]byte("<array>"), 50))
	f.Fuzz(func(t *testing.T, b []byte) {
		size := len(b)
		others, err := PlistResources(bytes.Clone(b), "plst", "blkx", "none")
		for _, all := range others {
			for _, r := range all {
				if len(r.Data) > size || r.ID != int(int16(r.ID)) {
					t.Fatalf("resource %d of %d bytes in a list of %d", r.ID, len(r.Data), size)
				}
			}
		}
		if tables, terr := ParsePlist(bytes.Clone(b)); terr == nil && err == nil && len(tables) < len(others["blkx"]) {
			t.Fatalf("%d tables, %d resources", len(tables), len(others["blkx"]))
		}
		tables, err := ParsePlist(b)
		var at *Error
		if err != nil && (!errors.As(err, &at) || at.Offset < 0) {
			t.Fatalf("an error without a place in the list: %v", err)
		}
		for _, table := range tables {
			if len(table.Data) > size {
				t.Fatalf("%d bytes of data in a list of %d", len(table.Data), size)
			}
		}
	})
}

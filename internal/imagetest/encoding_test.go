package imagetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// utf16LE is s in UTF-16, little-endian, with a byte order mark.
func utf16LE(s []byte) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune("\uFEFF" + string(s))) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

// TestPlistEncodings has images opened whose property lists are in other encodings
// than Apple's, or in none, and their names decoded.
func TestPlistEncodings(t *testing.T) {
	const declaration = `<?xml version="1.0" encoding="UTF-8"?>`
	disk := dmgtest.Text(1, 64<<10).Bytes()
	for _, tt := range []struct {
		name, declared string // "" without a declaration
		stored, want   string // a partition's name
		change         func([]byte) []byte
	}{
		{"UTF8", `<?xml version="1.0" encoding="UTF8"?>`, "Größe", "Größe", nil},
		{"US-ASCII", `<?xml version="1.0" encoding="US-ASCII"?>`, "disk", "disk", nil},
		{"ISO-8859-1", `<?xml version="1.0" encoding="ISO-8859-1"?>`, "Gr\xF6\xDFe", "Größe", nil},
		{"MacRoman", `<?xml version="1.0" encoding="MacRoman"?>`, "Gr\x9A\xA7e", "Größe", nil},
		{"XML 1.1", `<?xml version="1.1" encoding="UTF-8"?>`, "Größe", "Größe", nil},
		{"no declaration", "", "Größe", "Größe", nil},
		{"byte order mark", "\xEF\xBB\xBF" + declaration, "Größe", "Größe", nil},
		{"UTF-16", `<?xml version="1.0" encoding="UTF-16"?>`, "Größe", "Größe", utf16LE},
		{"NUL", declaration, "disk&#0;", "disk?", nil},
		{"an ampersand", declaration, "A&B", "A&B", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: 16, Partitions: []dmgtest.Partition{{Name: "NAME (Apple_HFS : 1)"}}})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(l.Plist, []byte(declaration)) {
				t.Fatalf("%.80q", l.Plist)
			}
			l.Plist = append([]byte(tt.declared), l.Plist[len(declaration):]...)
			l.Plist = bytes.ReplaceAll(l.Plist, []byte("NAME"), []byte(tt.stored))
			if tt.change != nil {
				l.Plist = tt.change(l.Plist)
			}
			l.Koly.PlistLength = uint64(len(l.Plist))
			for _, before := range []int{0, 128} {
				im, err := newImage(append(make([]byte, before), l.Bytes()...))
				if err != nil {
					t.Fatal(err)
				}
				CheckDisk(t, im, int64(len(disk)), SumOf(disk))
				if p := im.Partitions(); len(p) != 1 || p[0].Name != tt.want+" (Apple_HFS : 1)" || p[0].Type != "Apple_HFS" {
					t.Errorf("%+v, want %q", p, tt.want)
				}
			}
		})
	}
}

// TestForkNames has the names in a resource fork decoded from Mac OS Roman.
func TestForkNames(t *testing.T) {
	for stored, want := range map[string]string{"Gr\x9A\xA7e": "Größe", "Größe": "Größe", "disk": "disk"} {
		b := dmgtest.Image(t, dmgtest.Text(1, 4096).Bytes(), dmgtest.Options{Meta: dmgtest.ResourceOnly, Partitions: []dmgtest.Partition{{Name: stored}}})
		im, err := newImage(b)
		if err != nil {
			t.Fatal(err)
		}
		if p := im.Partitions(); len(p) != 1 || p[0].Name != want {
			t.Errorf("%q: %+v, want %q", stored, p, want)
		}
	}
}

// TestBundleEncodings has a sparse bundle opened whose Info.plist is in another
// encoding.
func TestBundleEncodings(t *testing.T) {
	disk := rawDisk()
	for _, declared := range []string{`encoding="UTF8"`, `encoding="MacRoman"`, ""} {
		name := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: bandSize})
		info := filepath.Join(name, "Info.plist")
		b, err := os.ReadFile(info)
		if err != nil || !bytes.Contains(b, []byte(`encoding="UTF-8"`)) {
			t.Fatalf("%q, %v", b, err)
		}
		write(t, info, bytes.Replace(b, []byte(`encoding="UTF-8"`), []byte(declared), 1))
		im, err := dmg.Open(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		CheckDisk(t, im, int64(len(disk)), SumOf(disk))
		im.Close()
	}
}

// TestPlistSample is an image whose property list says that it is in UTF8.
func TestPlistSample(t *testing.T) {
	im, err := dmg.Open(filepath.Join(Samples(), "faults", "plist-utf8.dmg"), nil)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	h := sha256.New()
	if _, err := im.WriteTo(h); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != "74f553f37d1e6a2e83b3c4f337a4ecf59eec004669ab53fdf67df9033827aaf7" {
		t.Error(got)
	}
}

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// readDouble reads an AppleDouble file as copyfile.c of macOS does, apart from what it
// doesn't look at.
func readDouble(b []byte) (map[string][]byte, error) {
	be := binary.BigEndian
	if len(b) < 82 || be.Uint32(b) != 0x00051607 || be.Uint32(b[4:]) != 0x00020000 || be.Uint16(b[24:]) != 2 ||
		be.Uint32(b[26:]) != 9 || be.Uint32(b[30:]) != 50 || be.Uint32(b[38:]) != 2 {
		return nil, fmt.Errorf("header %x", b[:min(len(b), 82)])
	}
	all := make(map[string][]byte)
	infoLen, fork, forkLen := be.Uint32(b[34:]), be.Uint32(b[42:]), be.Uint32(b[46:])
	if 50+infoLen != fork || int(fork+forkLen) != len(b) {
		return nil, fmt.Errorf("entries 50+%d, %d+%d of %d", infoLen, fork, forkLen, len(b))
	}
	if !bytes.Equal(b[50:82], make([]byte, 32)) {
		all["com.apple.FinderInfo"] = b[50:82]
	}
	if forkLen > 0 {
		all["com.apple.ResourceFork"] = b[fork:]
	}
	if infoLen == 32 {
		return all, nil
	}
	if string(b[84:88]) != "ATTR" || be.Uint32(b[92:]) != fork {
		return nil, fmt.Errorf("attributes' header %x", b[84:120])
	}
	start, length := be.Uint32(b[96:]), be.Uint32(b[100:])
	if start+length != fork {
		return nil, fmt.Errorf("values %d+%d, fork %d", start, length, fork)
	}
	at := 120
	for range be.Uint16(b[118:]) {
		off, n, nameLen := be.Uint32(b[at:]), be.Uint32(b[at+4:]), int(b[at+10])
		name := string(b[at+11 : at+11+nameLen])
		if off < start || off+n > fork || !strings.HasSuffix(name, "\x00") {
			return nil, fmt.Errorf("%q at %d+%d", name, off, n)
		}
		all[strings.TrimSuffix(name, "\x00")] = b[off : off+n]
		at = (at + 11 + nameLen + 3) &^ 3
	}
	if at > int(start) {
		return nil, fmt.Errorf("entries end at %d, values begin at %d", at, start)
	}
	return all, nil
}

// TestXattrs copies all attributes, and compares them with the manifest's SHA-256.
func TestXattrs(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	for _, name := range []string{"hfsplus-basic.dmg", "hfsplus-rsrc.img.gz", "apfs-basic.dmg", "apfs-rsrc.img.gz", "hfsx-alias.img.gz"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := samples + "fs/" + name
			if strings.HasSuffix(name, ".gz") {
				image = filepath.Join(t.TempDir(), "image.img")
				if err := os.WriteFile(image, unpacked(t, name), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			base, _, _ := strings.Cut(name, ".")
			list, err := os.ReadFile(samples + "fs/" + base + ".xattrs.tsv")
			if err != nil {
				t.Skip("no samples")
			}
			dest := filepath.Join(t.TempDir(), "new")
			if got := dmgRun(t, "cp", "--xattrs", image, ".", dest); got.status != 0 || got.errOut != "" {
				t.Fatalf("%+v", got)
			}
			sums, found := make(map[string]string), 0
			for line := range strings.Lines(string(list)) {
				if cols := strings.Split(strings.TrimSpace(line), "\t"); len(cols) == 5 {
					sums[norm.NFC.String(strings.NewReplacer(`\x0D`, "\r", `\x0d`, "\r").Replace(cols[0]))+"\t"+cols[1]] = cols[4]
				}
			}
			im, err := dmg.Open(image, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			files, err := im.FS()
			if err != nil {
				t.Fatal(err)
			}
			err = filepath.WalkDir(dest, func(at string, d fs.DirEntry, err error) error {
				if err != nil || !strings.HasPrefix(d.Name(), "._") {
					return err
				}
				b, err := os.ReadFile(at)
				if err != nil {
					return err
				}
				attrs, err := readDouble(b)
				if err != nil {
					t.Errorf("%s: %v", at, err)
				}
				rel, _ := filepath.Rel(dest, filepath.Join(filepath.Dir(at), strings.TrimPrefix(d.Name(), "._")))
				for a, value := range attrs {
					sum := sha256.Sum256(value)
					if want := sums[rel+"\t"+a]; want != "" {
						found++
						if hex.EncodeToString(sum[:]) != want {
							t.Errorf("%s: %s has another SHA-256", rel, a)
						}
					} else if a != "com.apple.FinderInfo" { // it is no attribute on the disk
						t.Errorf("%s: %s is not in the manifest", rel, a)
					}
				}
				names, err := files.(xattrFS).ListXattr(rel)
				if err != nil || len(names) != len(attrs) {
					t.Errorf("%s has %q, %v, but %d attributes were copied", rel, names, err, len(attrs))
				}
				return nil
			})
			if err != nil || found == 0 {
				t.Errorf("%v, %d attributes", err, found)
			}
		})
	}
}

// someXattrs are the attributes of the file x.
type someXattrs map[string]string

func (s someXattrs) ListXattr(string) ([]string, error) {
	var names []string
	for name := range s {
		names = append(names, name)
	}
	return names, nil
}

func (s someXattrs) OpenXattr(_, attr string) (*io.SectionReader, error) {
	return io.NewSectionReader(strings.NewReader(s[attr]), 0, int64(len(s[attr]))), nil
}

// TestAppleDouble has what is at the edge of the format, and beyond.
func TestAppleDouble(t *testing.T) {
	many := make(someXattrs)
	for i := range 3000 {
		many[fmt.Sprintf("user.attribute number %d", i)] = "x"
	}
	for _, tt := range []struct {
		name  string
		attrs someXattrs
		ok    bool
	}{
		{"none", nil, true},
		{"Finder information", someXattrs{finderAttr: strings.Repeat("f", 32)}, true},
		{"Finder information of another length", someXattrs{finderAttr: "f"}, true},
		{"a resource fork", someXattrs{forkAttr: "rsrc"}, true},
		{"all", someXattrs{forkAttr: "rsrc", finderAttr: strings.Repeat("f", 32), "a": "", "bcd": strings.Repeat("v", 100_000)}, true},
		{"the longest name", someXattrs{strings.Repeat("n", 127): "v"}, true},
		{"too long a name", someXattrs{strings.Repeat("n", 128): "v"}, false},
		{"too many", many, false},
	} {
		d, err := newAppleDouble(tt.attrs, "x")
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if d == nil {
			continue
		}
		var b bytes.Buffer
		if err := d.write(&b); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		got, err := readDouble(b.Bytes())
		if err != nil || len(got) != len(tt.attrs) {
			t.Errorf("%s: %d attributes, %v", tt.name, len(got), err)
		}
		for name, value := range tt.attrs {
			if string(got[name]) != value {
				t.Errorf("%s: %s has %d bytes, want %d", tt.name, name, len(got[name]), len(value))
			}
		}
	}
}

// attrFS is a file system in which every file of a name that begins with x has an extended
// attribute.
type attrFS struct{ fstest.MapFS }

func (attrFS) ListXattr(name string) ([]string, error) {
	if strings.HasPrefix(path.Base(name), "x") {
		return []string{"com.example.a"}, nil
	}
	return nil, nil
}

func (attrFS) OpenXattr(name, attr string) (*io.SectionReader, error) {
	return io.NewSectionReader(strings.NewReader("value of "+name), 0, int64(len("value of "+name))), nil
}

// A file of the volume whose name begins with ._ is not replaced by attributes.
func TestXattrsClash(t *testing.T) {
	files := attrFS{fstest.MapFS{
		"._x1": file("precious 1"), "x1": file("one"), "x2": file("two"),
		"dir/x3": file("three"), "dir/._x3": file("precious 3"), "dir/x4": file("four"), "other/._x4": file("precious 4"),
	}}
	for _, tt := range []struct {
		paths  []string
		told   []string // files whose attributes have no place
		double []string // files that are attributes
	}{
		{[]string{"."}, []string{"x1", "dir/x3"}, []string{"._x2", "dir/._x4"}},
		{[]string{"x1"}, nil, []string{"._x1"}},
		{[]string{"x1", "._x1"}, []string{"x1"}, nil},
		{[]string{"dir/x4", "other/._x4"}, []string{"dir/x4"}, nil},
		{[]string{"dir"}, []string{"dir/x3"}, []string{"dir/._x4"}},
	} {
		for _, force := range []bool{false, true} {
			dest := t.TempDir()
			for i := range 2 { // the second time, the files are there already
				told, _ := copyOf(t, files, cpCmd{KeepGoing: true, Force: force, Xattrs: true}, dest, tt.paths...)
				for _, name := range tt.told {
					if i > 0 && !force {
						break // the file itself is not replaced
					}
					if !strings.Contains(told, "the extended attributes of "+name+" have no place") {
						t.Errorf("%q: nothing is told of %s: %q", tt.paths, name, told)
					}
				}
			}
			var double []string
			_ = filepath.WalkDir(dest, func(name string, d fs.DirEntry, err error) error {
				if b, err := os.ReadFile(name); err == nil && !d.IsDir() && strings.HasPrefix(d.Name(), "._") {
					rel, _ := filepath.Rel(dest, name)
					if _, err := readDouble(b); err == nil {
						double = append(double, filepath.ToSlash(rel))
					} else if !strings.HasPrefix(string(b), "precious") {
						t.Errorf("%q: %s is %q", tt.paths, rel, b)
					}
				}
				return err
			})
			if fmt.Sprint(double) != fmt.Sprint(tt.double) {
				t.Errorf("%q, force %v: attributes in %q, want %q", tt.paths, force, double, tt.double)
			}
		}
	}
}

package appinfo

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

const appPlist = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>CFBundleName</key><string>Foo</string><key>CFBundleIdentifier</key><string>com.example.foo</string>
<key>CFBundleShortVersionString</key><string> 1.2 </string><key>CFBundleVersion</key><integer>345</integer>
<key>CFBundleExecutable</key><string>foo</string><key>Other</key><array><dict/></array>
</dict></plist>`

// slice is a program of one processor.
func slice(order binary.AppendByteOrder, cpu, subtype uint32, s *dmgtest.Signing) dmgtest.Program {
	return dmgtest.Program{Order: order, CPU: cpu, Subtype: subtype, Signing: s}
}

// archiveFile is a file in an archive.
type archiveFile struct{ name, data, style string }

// archive is a xar archive.
func archive(extra string, files ...archiveFile) []byte {
	var toc, heap bytes.Buffer
	toc.WriteString(`<?xml version="1.0" encoding="UTF-8"?><xar><toc>` + extra)
	for _, f := range files {
		data := []byte(f.data)
		if f.style == "application/x-gzip" {
			data = deflate(data)
		}
		name, end := f.name, ""
		if folder, base, ok := strings.Cut(name, "/"); ok {
			fmt.Fprintf(&toc, "<file id=\"9\"><name>%s</name><type>directory</type>", folder)
			name, end = base, "</file>"
		}
		fmt.Fprintf(&toc, `<file id="1"><data><length>%d</length><offset>%d</offset><size>%d</size><encoding style=%q/></data><name>%s</name></file>%s`,
			len(data), heap.Len(), len(f.data), f.style, name, end)
		heap.Write(data)
	}
	toc.WriteString("</toc></xar>")
	return xarOf(toc.Bytes(), heap.Bytes())
}

// xarOf is an archive of a table of contents.
func xarOf(toc, heap []byte) []byte {
	packed := deflate(toc)
	b := []byte("xar!\x00\x1C\x00\x01")
	b = binary.BigEndian.AppendUint64(b, uint64(len(packed)))
	b = binary.BigEndian.AppendUint64(b, uint64(len(toc)))
	b = append(b, 0, 0, 0, 1)
	return slices.Concat(b, packed, heap)
}

func deflate(b []byte) []byte {
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// binaryInfo is a binary property list: a dictionary of texts.
func binaryInfo(pairs ...string) []byte {
	b := []byte("bplist00")
	var table []byte
	add := func(data ...byte) {
		table = binary.BigEndian.AppendUint16(table, uint16(len(b)))
		b = append(b, data...)
	}
	n := len(pairs) / 2
	dict := []byte{0xDF, 0x10, byte(n)}
	for i := range n {
		dict = append(dict, byte(1+2*i))
	}
	for i := range n {
		dict = append(dict, byte(2+2*i))
	}
	add(dict...)
	for _, s := range pairs {
		units := utf16.Encode([]rune(s))
		switch {
		case len(units) == len(s) && len(s) < 15:
			add(append([]byte{0x50 | byte(len(s))}, s...)...)
		case len(units) == len(s):
			add(append([]byte{0x5F, 0x10, byte(len(s))}, s...)...)
		default:
			text := []byte{0x6F, 0x10, byte(len(units))}
			for _, u := range units {
				text = binary.BigEndian.AppendUint16(text, u)
			}
			add(text...)
		}
	}
	at := len(b)
	b = append(b, table...)
	b = append(b, 0, 0, 0, 0, 0, 0, 2, 1)
	for _, v := range []int{1 + 2*n, 0, at} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

var (
	signer  = dmgtest.NewSigner("Developer ID Application: Test (ABCDE12345)", "ABCDE12345")
	byTeam  = &dmgtest.Signing{Identifier: "com.example.foo", TeamID: "TEAM000001", Signer: signer}
	byChain = &dmgtest.Signing{Identifier: "com.example.foo", Signer: signer}
	adHoc   = &dmgtest.Signing{Identifier: "com.example.foo"}
)

const distributionXML = `<?xml version="1.0" encoding="utf-8"?><installer-gui-script minSpecVersion="2">
<title>Big Installer</title><options customize="never" hostArchitectures="arm64, x86_64"/>
<script>function f() { return a &lt; b; }</script>
<volume-check><allowed-os-versions><os-version min="10.13"/></allowed-os-versions></volume-check>
<pkg-ref id="com.example.big.part"><bundle-version/></pkg-ref>
<pkg-ref id="com.example.big.part" version="3.1" installKBytes="4">#part.pkg</pkg-ref>
</installer-gui-script>`

// volume has an item of each kind.
var volume = sync.OnceValue(makeVolume)

func makeVolume() fstest.MapFS {
	file := func(b []byte) *fstest.MapFile { return &fstest.MapFile{Data: b} }
	cert := base64.StdEncoding.EncodeToString(signer.Chain[0].Raw)
	signature := `<signature style="RSA"><KeyInfo><X509Data><X509Certificate>` + "\n" + cert[:60] + "\n" + cert[60:] + `</X509Certificate><X509Certificate>x</X509Certificate></X509Data></KeyInfo></signature>`
	return fstest.MapFS{
		"Foo.app/Contents/Info.plist":                  file([]byte(appPlist)),
		"Foo.app/Contents/MacOS/foo":                   file(dmgtest.FatProgram(slice(binary.LittleEndian, 7|is64, 3, byTeam), slice(binary.LittleEndian, 12|is64, 0x80000002, byTeam))),
		"Foo.app/Contents/Helpers/In.app/Contents/x":   file(nil),
		"Tools/Old.app/Contents/Info.plist":            file([]byte(strings.Replace(appPlist, "<dict>", "<dict><key>LSMinimumSystemVersion</key><real>10.5</real>", 1))),
		"Tools/Old.app/Contents/MacOS/foo":             file(slice(binary.BigEndian, 18|is64, 0, byChain).Bytes()),
		"Tools/Phone.APP/Info.plist":                   file(binaryInfo("CFBundleDisplayName", "Phöne", "CFBundleVersion", "7", "MinimumOSVersion", "15.0", "CFBundleIdentifier", "com.example.phone", "Else", "x")),
		"Tools/Phone.APP/Phone":                        file(slice(binary.LittleEndian, 12|is64, 0, adHoc).Bytes()),
		"Tools/script.app/Contents/Info.plist":         file([]byte("<plist><dict/></plist>")),
		"Tools/script.app/Contents/MacOS/script":       file([]byte("#!/bin/sh\n")),
		"Tools/plain.app/Contents/Info.plist":          file([]byte("<plist><dict/></plist>")),
		"Tools/plain.app/Contents/MacOS/plain":         file(slice(binary.LittleEndian, 7, 3, nil).Bytes()),
		"Packages/big.pkg":                             file(archive(signature, archiveFile{"Distribution", distributionXML, "application/x-gzip"}, archiveFile{"part.pkg/PackageInfo", "<pkg-info identifier='no'/>", ""})),
		"Packages/one.pkg":                             file(archive("", archiveFile{"PackageInfo", `<pkg-info identifier="com.example.one" version="9"><payload/></pkg-info>`, "application/octet-stream"})),
		"Packages/two.pkg":                             file(archive("", archiveFile{"Distribution", "<installer-script><title/></installer-script>", ""}, archiveFile{"part.pkg/PackageInfo", `<pkg-info identifier="com.example.two" version="8"/>`, "application/x-gzip"})),
		"Packages/bundle.mpkg/Contents/Info.plist":     file([]byte(appPlist)),
		"Packages/bundle.mpkg/Contents/Packages/x.pkg": file(nil),
		"Packages/link.pkg":                            {Mode: fs.ModeSymlink, Data: []byte("one.pkg")},
		"Broken/empty.app/x":                           file(nil),
		"Broken/loop.app/Contents/Info.plist":          file([]byte(strings.Replace(appPlist, "<string>foo<", "<string>../../../../Foo.app/Contents/MacOS/foo<", 1))),
		"Broken/nothing.app/Contents/Info.plist":       file([]byte(appPlist)),
		"Broken/java.app/Contents/Info.plist":          file([]byte(appPlist)),
		"Broken/java.app/Contents/MacOS/foo":           file([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x34aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")),
		"Broken/deep.app/Contents/Info.plist":          file([]byte("<plist>" + strings.Repeat("<array>", 100_000))),
		"Broken/large.app/Contents/Info.plist":         file(make([]byte, maxInfo+1)),
		"Broken/no.pkg":                                file([]byte("PK\x03\x04")),
		"Broken/bomb.pkg":                              file(xarOf(make([]byte, maxTable+1), nil)),
		"Broken/nested.pkg":                            file(xarOf([]byte("<xar><toc>"+strings.Repeat("<file>", 10_000)), nil)),
		"Broken/part.pkg":                              file(archive("", archiveFile{"Distribution", strings.Repeat(" ", 2<<20), "application/x-gzip"})),
		"Broken/neither.pkg":                           file(archive("", archiveFile{"Payload", "x", ""})),
		"readme.app.txt":                               file(nil),
	}
}

func TestFind(t *testing.T) {
	want := []Item{
		{Path: "Broken/bomb.pkg", Kind: Package, Name: "bomb", Err: ErrContent},
		{Path: "Broken/deep.app", Kind: App, Name: "deep", Err: ErrContent},
		{Path: "Broken/empty.app", Kind: App, Name: "empty", Err: ErrContent},
		{Path: "Broken/java.app", Kind: App, Name: "Foo", ID: "com.example.foo", Version: "1.2", Build: "345", Err: ErrContent},
		{Path: "Broken/large.app", Kind: App, Name: "large", Err: ErrContent},
		{Path: "Broken/loop.app", Kind: App, Name: "Foo", ID: "com.example.foo", Version: "1.2", Build: "345", Err: ErrContent},
		{Path: "Broken/neither.pkg", Kind: Package, Name: "neither", Signature: Unsigned, Err: ErrContent},
		{Path: "Broken/nested.pkg", Kind: Package, Name: "nested", Err: ErrContent},
		{Path: "Broken/no.pkg", Kind: Package, Name: "no", Err: ErrContent},
		{Path: "Broken/nothing.app", Kind: App, Name: "Foo", ID: "com.example.foo", Version: "1.2", Build: "345", Err: ErrContent},
		{Path: "Broken/part.pkg", Kind: Package, Name: "part", Signature: Unsigned, Err: ErrContent},
		{Path: "Foo.app", Kind: App, Name: "Foo", ID: "com.example.foo", Version: "1.2", Build: "345", MinSystem: "11.2", Architectures: []string{"x86_64", "arm64e"}, Signature: Signed, TeamID: "TEAM000001"},
		{Path: "Packages/big.pkg", Kind: Package, Name: "Big Installer", ID: "com.example.big.part", Version: "3.1", MinSystem: "10.13", Architectures: []string{"arm64", "x86_64"}, Signature: Signed, TeamID: "ABCDE12345"},
		{Path: "Packages/bundle.mpkg", Kind: Package, Name: "Foo", ID: "com.example.foo", Version: "1.2", Build: "345"},
		{Path: "Packages/one.pkg", Kind: Package, Name: "one", ID: "com.example.one", Version: "9", Signature: Unsigned},
		{Path: "Packages/two.pkg", Kind: Package, Name: "two", ID: "com.example.two", Version: "8", Signature: Unsigned},
		{Path: "Tools/Old.app", Kind: App, Name: "Foo", ID: "com.example.foo", Version: "1.2", Build: "345", MinSystem: "10.5", Architectures: []string{"ppc64"}, Signature: Signed, TeamID: "ABCDE12345"},
		{Path: "Tools/Phone.APP", Kind: App, Name: "Phöne", ID: "com.example.phone", Build: "7", MinSystem: "11.2", Architectures: []string{"arm64"}, Signature: AdHoc},
		{Path: "Tools/plain.app", Kind: App, Name: "plain", MinSystem: "11.2", Architectures: []string{"i386"}, Signature: Unsigned},
		{Path: "Tools/script.app", Kind: App, Name: "script"},
	}
	for _, nested := range []bool{false, true} {
		var got []Item
		f := Finder{FS: volume(), Nested: nested, Missed: func(err error) { t.Error(err) }}
		err := f.Find(context.Background(), ".", func(it Item) error {
			if nested && strings.HasPrefix(it.Path, "Foo.app/") {
				if it.Path != "Foo.app/Contents/Helpers/In.app" {
					t.Errorf("%+v", it)
				}
				return nil
			}
			got = append(got, it)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("%d items, want %d", len(got), len(want))
		}
		for i := range min(len(got), len(want)) {
			g, w := got[i], want[i]
			if !errors.Is(g.Err, w.Err) {
				t.Errorf("%s: %v", g.Path, g.Err)
			}
			g.Err, w.Err = nil, nil
			if fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", w) {
				t.Errorf("%+v\nwant %+v", g, w)
			}
		}
	}
}

// failing is a file system in which a path can't be opened.
type failing struct {
	fstest.MapFS
	path string
	err  error
}

func (f failing) Open(name string) (fs.File, error) {
	if name == f.path {
		return nil, f.err
	}
	return f.MapFS.Open(name)
}

// Stat would open files by fstest's own way.
func (f failing) Stat(name string) (fs.FileInfo, error) { return fs.Stat(f.MapFS, name) }

// ReadFile and others of fstest's methods must not get around Open.
func (f failing) ReadFile(name string) ([]byte, error) { return nil, errors.ErrUnsupported }

// An error of the file system is none of the item's content.
func TestFindFails(t *testing.T) {
	fault := errors.New("fault")
	whole := maps.Clone(volume())
	maps.DeleteFunc(whole, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "Broken/") }) // which take long
	for _, p := range []string{"Foo.app/Contents/Info.plist", "Foo.app/Contents/MacOS/foo", "Packages/big.pkg"} {
		f := Finder{FS: failing{whole, p, fault}, Missed: func(err error) { t.Error(err) }}
		n := 0
		err := f.Find(context.Background(), ".", func(it Item) error {
			if strings.HasPrefix(p, it.Path) {
				if n++; !errors.Is(it.Err, fault) || errors.Is(it.Err, ErrContent) {
					t.Errorf("%s: %v", p, it.Err)
				}
			}
			return nil
		})
		if err != nil || n != 1 {
			t.Errorf("%s: %v, %d times", p, err, n)
		}
	}
	var missed error
	f := Finder{FS: failing{whole, "Tools", fault}, Missed: func(err error) { missed = err }}
	n := 0
	if err := f.Find(context.Background(), ".", func(Item) error { n++; return nil }); err != nil || !errors.Is(missed, fault) || n < 5 {
		t.Errorf("a folder: %v, %v, %d items", err, missed, n)
	}
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if err := f.Find(ctx, ".", func(Item) error { return nil }); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	if err := f.Find(context.Background(), ".", func(Item) error { return why }); !errors.Is(err, why) {
		t.Errorf("an error of the caller: %v", err)
	}
}

// A folder that has several names is looked into once.
func TestFindOnce(t *testing.T) {
	files := fstest.MapFS{}
	name := ""
	for i := range 8 {
		name += fmt.Sprintf("d%d/", i)
	}
	files[name+"x.pkg"] = &fstest.MapFile{}
	files["other/d7/y.pkg"] = &fstest.MapFile{}
	looked := 0
	f := Finder{FS: files, Folder: func(info fs.FileInfo) (uint64, bool) {
		looked++
		return 7, info.Name() == "d7"
	}}
	n := 0
	if err := f.Find(context.Background(), ".", func(Item) error { n++; return nil }); err != nil || n != 1 || looked != 10 {
		t.Errorf("%v, %d items, %d folders", err, n, looked)
	}
}

// FuzzProgram reads anything as a program.
func FuzzProgram(f *testing.F) {
	f.Add(slice(binary.LittleEndian, 7|is64, 3, byTeam).Bytes())
	f.Add(slice(binary.BigEndian, 18, 3, byChain).Bytes())
	f.Add(dmgtest.FatProgram(slice(binary.LittleEndian, 7, 3, nil), slice(binary.LittleEndian, 12, 9, adHoc)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzItem(t, fstest.MapFS{
			"a.app/Contents/Info.plist": {Data: []byte(appPlist)},
			"a.app/Contents/MacOS/foo":  {Data: b},
		})
	})
}

// FuzzInfo reads anything as an Info.plist.
func FuzzInfo(f *testing.F) {
	f.Add([]byte(appPlist))
	list := binaryInfo("CFBundleName", "a", "CFBundleVersion", "ä")
	f.Add(list)
	loop := bytes.Replace(list, []byte("\xDF\x10\x02\x01\x03\x02\x04"), []byte("\xDF\x10\x02\x01\x03\x00\x00"), 1) // its values are itself
	f.Add(loop)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzItem(t, fstest.MapFS{"a.app/Contents/Info.plist": {Data: b}})
	})
}

// FuzzPackage reads anything as a package, and as the table of contents of one.
func FuzzPackage(f *testing.F) {
	f.Add(volume()["Packages/big.pkg"].Data)
	f.Add([]byte("<xar><toc><file><name>PackageInfo</name><data><length>4</length><offset>0</offset></data></file></toc></xar>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzItem(t, fstest.MapFS{"a.pkg": {Data: b}})
		fuzzItem(t, fstest.MapFS{"a.pkg": {Data: xarOf(b, b)}})
	})
}

// fuzzItem finds the one item that there is. What is wrong with it is its content.
func fuzzItem(t *testing.T, files fstest.MapFS) {
	f := Finder{FS: files, Missed: func(err error) { t.Fatal(err) }}
	n := 0
	err := f.Find(context.Background(), ".", func(it Item) error {
		if n++; it.Err != nil && !errors.Is(it.Err, ErrContent) {
			t.Fatalf("an error of the file system: %v", it.Err)
		}
		return nil
	})
	if err != nil || n != 1 {
		t.Fatalf("%v, %d items", err, n)
	}
}

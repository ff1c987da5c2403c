package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// signedApp is an application whose program, of two processors, has size bytes.
func signedApp(name string, size int) *hfsvol.Entry {
	signing := &dmgtest.Signing{Identifier: "com.example.foo", TeamID: "ABCDE12345", PageBits: 12, Time: time.Unix(1.7e9, 0),
		Signer: dmgtest.NewSigner("Developer ID Application: Example (ABCDE12345)", "ABCDE12345")}
	half := dmgtest.Program{CPU: 0x01000007, Subtype: 3, Size: size / 32 * 16, Data: dmgtest.Random(1, int64(size/2-500)).Bytes(), Signing: signing}
	other := half
	other.CPU, other.Subtype = 0x0100000C, 0
	info := "<plist><dict><key>CFBundleName</key><string>Foo</string><key>CFBundleIdentifier</key><string>com.example.foo</string>" +
		"<key>CFBundleShortVersionString</key><string>1.2</string><key>CFBundleVersion</key><string>34\x1b[1m</string><key>CFBundleExecutable</key><string>foo</string></dict></plist>"
	info = strings.ReplaceAll(info, "\x1b", "\u202e") // XML has no controls, but this
	return hfsvol.Dir(name, hfsvol.Dir("Contents",
		hfsvol.File("Info.plist", []byte(info)),
		hfsvol.Dir("MacOS", hfsvol.File("foo", dmgtest.FatProgram(half, other))),
		hfsvol.Dir("Library", hfsvol.Dir("Helper.app", hfsvol.File("x", nil)))))
}

// appImage is an image of a volume in zlib chunks of 1 MiB.
func appImage(t *testing.T, entries ...*hfsvol.Entry) []byte {
	t.Helper()
	v := hfsvol.Write(hfsvol.Dir("Installer", entries...), hfsvol.Options{CatalogRoom: 128})
	return dmgtest.Image(t, v.Image, dmgtest.Options{ChunkSectors: dmgtest.DefaultChunk, Level: 1})
}

func TestApp(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.dmg")
	none := filepath.Join(t.TempDir(), "none.dmg")
	for name, img := range map[string][]byte{
		name: appImage(t, signedApp("Foo.app", 64<<10), hfsvol.Dir("Tools", hfsvol.Dir("empty.app"))),
		none: appImage(t, hfsvol.Dir("Folder")),
	} {
		if err := os.WriteFile(name, img, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	const foo = "Foo.app: Foo 1.2 (34\\u202e[1m)\n" +
		"    id             com.example.foo\n" +
		"    needs          macOS 11.2\n" +
		"    architectures  x86_64, arm64\n" +
		"    signed by      team ABCDE12345\n"
	const empty = "Tools/empty.app: empty\n    not read       Tools/empty.app: no Info.plist\n"
	const helper = "Foo.app/Contents/Library/Helper.app: Helper\n    not read       Foo.app/Contents/Library/Helper.app: no Info.plist\n"
	missing := images + "none.dmg"
	for _, tt := range []struct {
		args   []string
		out    string
		status int
		errOut string // the beginning
	}{
		{[]string{"app", name}, foo + empty, 0, ""},
		{[]string{"app", "--nested", name}, foo + helper + empty, 0, ""},
		{[]string{"app", none}, "", 0, "dmg: " + none + ": no application and no installer package is on the volume\n"},
		{[]string{"app", name, none}, name + ": " + foo + name + ": " + empty, 0, "dmg: " + none + ": no application"},
		{[]string{"app", missing, name}, name + ": " + foo + name + ": " + empty, statusIO, "dmg: open " + missing},
		{[]string{"app", images + "good-zlib.dmg"}, "", statusUnsupported, "dmg: " + images + "good-zlib.dmg: unsupported: no file system"},
		{[]string{"app", "--index", "x", name, none}, "", statusMisuse, "dmg: --index is for one image"},
		{[]string{"app", name, "-p", "9"}, "", statusMisuse, "dmg: " + name + ": no partition 9"},
	} {
		got := dmgRun(t, tt.args...)
		if got.status != tt.status || got.out != tt.out || !strings.HasPrefix(got.errOut, tt.errOut) || (tt.errOut == "") != (got.errOut == "") {
			t.Errorf("%v: %d, %q, %q\nwant %d, %q, %q", tt.args, got.status, got.out, got.errOut, tt.status, tt.out, tt.errOut)
		}
	}
	got := dmgRun(t, "app", "--json", missing, none, name)
	var lines []map[string]any
	for line := range strings.Lines(got.out) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, v)
	}
	if len(lines) != 3 || lines[0]["status"] != float64(statusIO) || len(lines[1]["items"].([]any)) != 0 || got.status != statusIO {
		t.Fatalf("%d, %q", got.status, got.out)
	}
	items := lines[2]["items"].([]any)
	first := items[0].(map[string]any)
	if first["team"] != "ABCDE12345" || first["signature"] != "signed" || first["build"] != "34\u202e[1m" || first["min_system"] != "11.2" || len(first["architectures"].([]any)) != 2 || first["error"] != nil {
		t.Errorf("%v", first)
	}
	// The help names every field.
	help := appCmd{}.Help()
	for key := range first {
		if !strings.Contains(help, key) {
			t.Errorf("the help has no %s", key)
		}
	}
}

// Damage on the disk is told, and what can be read of the rest is there.
func TestAppDamaged(t *testing.T) {
	v := hfsvol.Write(hfsvol.Dir("Installer", hfsvol.File("pad", dmgtest.Random(3, 3<<20).Bytes()), signedApp("Foo.app", 4<<20)), hfsvol.Options{CatalogRoom: 128})
	l, err := dmgtest.Build(v.Image, dmgtest.Options{ChunkSectors: dmgtest.DefaultChunk, Level: 1})
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(v.Image, []byte("\xfa\xde\x0c\xc0")) // the first program's signature
	img := l.Bytes()
	img[l.Tables[0].Chunks[at>>20].Offset] ^= 0xFF
	name := filepath.Join(t.TempDir(), "a.dmg")
	if err := os.WriteFile(name, img, 0o666); err != nil {
		t.Fatal(err)
	}
	got := dmgRun(t, "app", "--json", name)
	var found appJSON
	if err := json.Unmarshal([]byte(got.out), &found); err != nil {
		t.Fatal(err)
	}
	if got.status != statusDamaged || len(found.Items) != 1 || !strings.Contains(got.errOut, "Foo.app/Contents/MacOS/foo") || !strings.HasSuffix(got.errOut, ": not everything could be read: 1 error\n") {
		t.Fatalf("%d, %s%s", got.status, got.out, got.errOut)
	}
	if it := found.Items[0]; it.ID != "com.example.foo" || len(it.Architectures) != 2 || it.Team != "" || !strings.Contains(it.Error, "zlib") {
		t.Errorf("%+v", it)
	}
}

// What it costs to look for applications, far away: the metadata, and the starts and ends of
// what the program has in it.
func TestAppRequests(t *testing.T) {
	dmgtest.Long(t)
	size := 58 << 20
	if dmgtest.Slowed() {
		size = 8 << 20
	}
	s := newSite(t, map[string][]byte{"/Installer.dmg": appImage(t, signedApp("Foo.app", size/4), hfsvol.File("Manual.pdf", dmgtest.Random(2, int64(size*3/4)).Bytes()))})
	got := dmgRun(t, "app", "--json", s.URL+"/Installer.dmg")
	requests, n := s.cost()
	t.Logf("%d requests, %d bytes: %q", len(requests), n, requests)
	if got.status != 0 || !strings.Contains(got.out, `"team":"ABCDE12345"`) {
		t.Errorf("%d, %s%s", got.status, got.out, got.errOut)
	}
	if len(requests) > 8 || n > 3<<20 {
		t.Errorf("%d requests and %d bytes", len(requests), n)
	}
}

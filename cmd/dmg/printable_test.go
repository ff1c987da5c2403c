package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, <a> & ü 日本 😀 e\u0301": "plain text, <a> & ü 日本 😀 e\u0301",
		"\x1b[31m":           `\x1b[31m`,
		"\x00\t\n\r\x7f":     `\x00\x09\x0a\x0d\x7f`,
		"\u0080\u009b\u009f": `\u0080\u009b\u009f`,
		"\u202a\u202e":       `\u202a\u202e`,
		"\u2066\u2069":       `\u2066\u2069`,
		"\u200e\u200f\u061c": `\u200e\u200f\u061c`,
		"\u2028\u2029":       `\u2028\u2029`,
		"\u200b\u2060\ufeff": `\u200b\u2060\ufeff`,
		"\u00ad\u180e":       `\u00ad\u180e`,
		"\u115f\u3164\u034f": `\u115f\u3164\u034f`,
		"\ufff9\ue000\uffff": `\ufff9\ue000\uffff`,
		"\U000e0041":         `\U000e0041`,
		"\U00100000":         `\U00100000`,
		"\xff\xc3":           `\xff\xc3`,
		"\xed\xa0\x80":       `\xed\xa0\x80`, // a surrogate
		"\u00a0":             `\u00a0`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%+q: %s, want %s", in, got, want)
		}
	}
}

// hostileText are names that no output may have as they are.
var hostileText = []string{
	"esc\x1b[31m", "c1\u009b31m", "del\x7f", "rtl\u202efdp", "isolate\u2066x\u2069", "mark\u200f\u061c", "line\u2028para\u2029",
	"zero\u200bwidth\ufeff", "tag\U000e0041", "filler\u3164", "new\nline", "tab\tbed", "soft\u00ad",
}

// wantPrintable fails for every character of an output that is no text.
func wantPrintable(t *testing.T, what, s string) {
	t.Helper()
	for i, r := range s {
		bad := unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) ||
			unicode.Is(unicode.Cc, r) && r != '\n' || r == '\u3164' ||
			r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd")
		if bad {
			t.Errorf("%s: %U at byte %d: %+q", what, r, i, s[max(0, i-20):min(len(s), i+20)])
		}
	}
}

// gptDisk is a disk with a GUID partition table whose partitions have the names.
func gptDisk(names []string) []byte {
	const first, entries, each = 34, 128, 128
	disk := make([]byte, (first+len(names)+33)*sectorSize)
	le := binary.LittleEndian
	array := disk[2*sectorSize:][:entries*each]
	for i, name := range names {
		e := array[i*each:]
		e[0], e[16] = 1, byte(i+1)
		le.PutUint64(e[32:], uint64(first+i))
		le.PutUint64(e[40:], uint64(first+i))
		for j, u := range utf16.Encode([]rune(name)) {
			le.PutUint16(e[56+2*j:], u)
		}
	}
	h := disk[sectorSize:]
	copy(h, "EFI PART")
	le.PutUint32(h[8:], 1<<16)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[40:], first)
	le.PutUint64(h[48:], uint64(first+len(names)-1))
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], entries)
	le.PutUint32(h[84:], each)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return disk
}

// TestHostileNames has names, of partitions and of files, that are commands to a
// terminal. What they are is told, and nothing of them is done.
func TestHostileNames(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw.img")
	if err := os.WriteFile(raw, gptDisk(hostileText), 0o600); err != nil {
		t.Fatal(err)
	}
	var parts []dmgtest.Partition
	for i, name := range hostileText {
		name = strings.ReplaceAll(name, "\x1b", "\u009b") // which XML allows
		name = fmt.Sprintf("%s (%[1]s : %d)", name, i)    // a name and a type, as hdiutil has it
		parts = append(parts, dmgtest.Partition{Name: name, First: int64(i), Sectors: 1})
	}
	disk := dmgtest.Text(1, int64(len(parts)*sectorSize))
	udif := dmgtest.File(t, disk, disk.Size(), dmgtest.Options{Partitions: parts, ChunkSectors: 1})
	damaged := dmgtest.File(t, disk, disk.Size(), dmgtest.Options{Partitions: parts, ChunkSectors: 1})
	b, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 * len(parts) {
		b[i] ^= 0x55
	}
	if err := os.WriteFile(damaged, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var images = []string{raw, udif, damaged}
	for _, name := range hostileText {
		name = filepath.Join(dir, name+".dmg")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			continue // this file system allows no such name
		}
		images = append(images, name)
	}
	cut := filepath.Join(dir, "cut\u202e\u009b.img")
	if err := os.WriteFile(cut, gptDisk(hostileText)[:(34+len(hostileText)/2)*sectorSize], 0o600); err == nil {
		images = append(images, cut) // of which every command warns
	}
	for _, image := range images {
		for _, args := range [][]string{
			{"info", image}, {"info", "--json", image}, {"verify", image}, {"map", image}, {"map", "--verify", image},
			{"extract", image, filepath.Join(dir, "x")}, {"extract", "--keep-going", "-f", image, filepath.Join(dir, "x")},
			{"index", "-v", image}, {"cat", "-v", "-n", "0", image}, {"cat", image, "-p", "none"}, {"cat", image, "-p", "e"},
			{"cat", image, "-p", image}, {"info", image + "x"}, {"extract", image, image}, {"index", "-f", "--password-file", image, image},
			{image}, {"info", image, image}, {"cat", image, "--offset", image}, {"--" + image},
		} {
			got := dmgRun(t, args...)
			what := fmt.Sprintf("%+q", args)
			wantPrintable(t, what+" to standard output", got.out)
			wantPrintable(t, what+" to standard error", got.errOut)
		}
	}
	for i, p := range imageInfoOf(t, raw).Partitions {
		if p.Name != hostileText[i] {
			t.Errorf("JSON has the name %+q for %+q", p.Name, hostileText[i])
		}
	}
}

// TestJSONText has all characters, which JSON is to have with their values.
func TestJSONText(t *testing.T) {
	t.Parallel()
	var all []rune
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if dmgtest.Part() && r > 0x30000 && r < 0xE0000 { // no character is there
			continue
		}
		if utf8.ValidRune(r) {
			all = append(all, r)
		}
	}
	want := []string{string(all), "ill-formed \xff"}
	var b strings.Builder
	if err := writeJSON(&b, want); err != nil {
		t.Fatal(err)
	}
	wantPrintable(t, "JSON", b.String())
	var got []string
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != "ill-formed \ufffd" {
		t.Error("other values come out than went in")
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

const images = "../../testdata/"

// asCommand is the environment variable that makes the test's program the
// command itself.
const asCommand = "DMG_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Unsetenv(passwordVar)
	os.Setenv(heapVar, "off") // tests run beside each other in one process
	os.Exit(m.Run())
}

// A result is what a run of the command did.
type result struct {
	status      int
	out, errOut string
}

// dmgRun runs the command in this process, without a terminal.
func dmgRun(t *testing.T, args ...string) result {
	t.Helper()
	return dmgRunWith(t, "", args...)
}

func dmgRunWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	status := run(context.Background(), args, strings.NewReader(stdin), &out, &errOut)
	return result{status, out.String(), errOut.String()}
}

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(string(want), "\r\n", "\n"); got != want {
		t.Errorf("%s differs: run with -update and look at the difference\ngot:\n%s\nwant:\n%s", name, got, want)
	}
}

// sums are the SHA-256 of the disks of the images in testdata, as its README
// says.
func sums(t *testing.T) map[string]string {
	t.Helper()
	readme, err := os.ReadFile(images + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*`([0-9a-f]{64})` \\|$").FindAllStringSubmatch(string(readme), -1) {
		m[row[1]] = row[2]
	}
	if len(m) < 10 {
		t.Fatalf("README.md names %d images", len(m))
	}
	return m
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// commandTests are what goes to the standard streams. Golden files hold what
// is longer than a line.
var commandTests = []struct {
	name   string
	args   string
	status int
	golden string // of standard output
	errOut string // regexp for all of standard error
}{
	{name: "no arguments", status: 2, errOut: `Usage: dmg <command>(.|\n)*`},
	{name: "help", args: "--help", golden: "help.txt"},
	{name: "help of info", args: "info --help", golden: "help-info.txt"},
	{name: "help of extract", args: "extract --help", golden: "help-extract.txt"},
	{name: "info of a license and a signature", args: "info ../../testdata/good-license.dmg", golden: "info-license.txt"},
	{name: "the license", args: "info --license ../../testdata/good-license.dmg", golden: "license.txt"},
	{name: "the signature as JSON", args: "info --json --signature ../../testdata/good-license.dmg", golden: "info-license.json"},
	{name: "applications", args: "app ../../testdata/good-apfs.dmg", golden: "app.txt"},
	{name: "help of app", args: "app --help", golden: "help-app.txt"},
	{name: "help of cat", args: "cat --help", golden: "help-cat.txt"},
	{name: "help of ls", args: "ls --help", golden: "help-ls.txt"},
	{name: "help of cp", args: "cp --help", golden: "help-cp.txt"},
	{name: "help of verify", args: "verify --help", golden: "help-verify.txt"},
	{name: "help of map", args: "map --help", golden: "help-map.txt"},
	{name: "help of index", args: "index --help", golden: "help-index.txt"},
	{name: "help of nbd", args: "nbd --help", golden: "help-nbd.txt"},
	{name: "help of completion", args: "completion --help", golden: "help-completion.txt"},
	{name: "unknown command", args: "inf", status: 2, errOut: `dmg: no command is named "inf", did you mean "info"\? The commands are info, ls, cp, .*, version\nTry "dmg --help".\n`},
	{name: "command forgotten", args: "x.dmg", status: 2, errOut: `dmg: no command is named "x.dmg". The commands are info, ls, cp, .*, version\nTry "dmg --help".\n`},
	{name: "help command", args: "help", golden: "help.txt"},
	{name: "help command of extract", args: "help extract", golden: "help-extract.txt"},
	{name: "help command of nothing", args: "help x.dmg", status: 2, errOut: `dmg: no command is named "x.dmg". The commands are info, .*\nTry "dmg --help".\n`},
	{name: "unknown flag", args: "info --colour x", status: 2, errOut: `dmg: unknown flag --colour\nTry "dmg info --help".\n`},
	{name: "missing argument", args: "extract x.dmg", status: 2, errOut: `dmg: missing argument "<out>"\nTry "dmg extract --help".\n`},
	{name: "missing arguments", args: "extract", status: 2, errOut: `dmg: missing argument "<image> <out>"\nTry "dmg extract --help".\n`},
	{name: "missing value", args: "cat x.dmg --length", status: 2, errOut: `dmg: --length needs a value\nTry "dmg cat --help".\n`},
	{name: "missing text", args: "cat x.dmg -p", status: 2, errOut: `dmg: --partition needs a value\nTry "dmg cat --help".\n`},
	{name: "too many arguments", args: "map x.dmg y.dmg", status: 2, errOut: `dmg: unexpected argument y.dmg\nTry "dmg map --help".\n`},
	{name: "standard input", args: "info -", status: 2, errOut: `dmg: an image can't be read from standard input, .*: save it to a file, or give its URL\n`},
	{name: "an unknown hash", args: "info --hash crc32 x.dmg", status: 2, errOut: `dmg: --hash must be one of .*\nTry "dmg info --help".\n`},
	{name: "an index for several", args: "verify --index x x.dmg y.dmg", status: 2, errOut: `dmg: --index is for one image: .*\n`},
	{name: "bad size", args: "cat x.dmg --length 1q", status: 2, errOut: `dmg: --length: "1q" is no size: .*\nTry "dmg cat --help".\n`},
	{name: "negative size", args: "cat x.dmg --offset=-1", status: 2, errOut: `dmg: --offset: "-1" is negative: give a number of bytes from 0 on\nTry "dmg cat --help".\n`},
	{name: "negative size, a word of its own", args: "cat x.dmg --offset -1", status: 2, errOut: `dmg: --offset: "-1" is negative: give a number of bytes from 0 on\nTry "dmg cat --help".\n`},
	{name: "negative size, short", args: "cat x.dmg -n-0x10", status: 2, errOut: `dmg: --length: "-0x10" is negative: give a number of bytes from 0 on\nTry "dmg cat --help".\n`},
	{name: "a flag for a number", args: "cat x.dmg --length --offset", status: 2, errOut: `dmg: --length: "--offset" is no size: .*\nTry "dmg cat --help".\n`},
	{name: "a flag for a name", args: "cat x.dmg -p -v", status: 2, errOut: `dmg: --partition needs a value: if that is "-v", give --partition=-v\nTry "dmg cat --help".\n`},
	{name: "two addresses", args: "nbd x.dmg --socket s --listen l", status: 2, errOut: `dmg: --socket and --listen can't be used together\nTry "dmg nbd --help".\n`},
	{name: "index and none", args: "cat x.dmg --index i --no-index", status: 2, errOut: `dmg: --index and --no-index can't be used together\nTry "dmg cat --help".\n`},
	{name: "unknown shell", args: "completion tcsh", status: 2, errOut: `dmg: <shell> must be one of "bash","zsh","fish" but got "tcsh"\nTry "dmg completion --help".\n`},
	{name: "missing image", args: "info ../../testdata/none.dmg", status: 5, errOut: `dmg: open ../../testdata/none.dmg: .*\n`},
	{name: "no image", args: "info main.go", status: 3, errOut: `dmg: main.go: file at byte 0: .*\n`},
	{name: "a folder", args: "info testdata", status: 3, errOut: `dmg: .*testdata.*\n`},
	{name: "property list outside", args: "info ../../testdata/bad-plist-range.dmg", status: 1, errOut: `dmg: ../../testdata/bad-plist-range.dmg: .* outside the file\n`},
	{name: "damaged table", args: "extract -q ../../testdata/bad-overlap.dmg -", status: 1, errOut: `(dmg: warning: .*\n)*dmg: ../../testdata/bad-overlap.dmg: .* missing from the file; .*\n`},

	{name: "info of zlib", args: "info ../../testdata/good-zlib.dmg", golden: "info-zlib.txt"},
	{name: "info of gaps", args: "info ../../testdata/good-gaps.dmg", golden: "info-gaps.txt"},
	{name: "info of mixed", args: "info ../../testdata/good-mixed.dmg", golden: "info-mixed.txt"},
	{name: "info of names", args: "info ../../testdata/good-names.dmg", golden: "info-names.txt"},
	{name: "info of unknown methods", args: "info ../../testdata/unsupported-1990s.dmg", golden: "info-1990s.txt"},
	{name: "info of a volume", args: "info ../../testdata/good-apfs.dmg", golden: "info-apfs.txt"},
	{name: "JSON of a volume", args: "info --json ../../testdata/good-apfs.dmg", golden: "info-apfs.json"},
	{name: "ls", args: "ls ../../testdata/good-apfs.dmg", golden: "ls.txt"},
	{name: "ls -lR", args: "ls -lR ../../testdata/good-apfs.dmg", golden: "ls-long.txt"},
	{name: "ls --json", args: "ls -R --json ../../testdata/good-apfs.dmg Hello.app/Contents", golden: "ls.json"},
	{name: "cat of a file", args: "cat ../../testdata/good-apfs.dmg Hello.app/Contents/Info.plist", golden: "cat-file.txt"},
	{name: "cat of no file", args: "cat ../../testdata/good-apfs.dmg Hello.app/none", status: 2,
		errOut: `dmg: ../../testdata/good-apfs.dmg: the volume has no file or folder "Hello.app/none": dmg ls lists what there is\n`},
	{name: "cat of a folder", args: "cat ../../testdata/good-apfs.dmg Hello.app", status: 2,
		errOut: `dmg: ../../testdata/good-apfs.dmg: Hello.app is a folder: dmg ls lists it, dmg cp copies it\n`},
	{name: "ls of no volume", args: "ls ../../testdata/good-zlib.dmg", status: 3,
		errOut: `dmg: ../../testdata/good-zlib.dmg: unsupported: no file system was found on the disk\n`},
	{name: "cp without a destination", args: "cp ../../testdata/good-apfs.dmg .", status: 2,
		errOut: `dmg: no destination: give it last, such as . for this folder\nTry "dmg --help".\n`},
	{name: "JSON of mixed", args: "info --json ../../testdata/good-mixed.dmg", golden: "info-mixed.json"},
	{name: "JSON of names", args: "info --json ../../testdata/good-names.dmg", golden: "info-names.json"},

	{name: "verify zlib", args: "verify ../../testdata/good-zlib.dmg", golden: "verify-zlib.txt"},
	{name: "verify without sums", args: "verify ../../testdata/good-no-sums.dmg", golden: "verify-no-sums.txt"},
	{name: "verify a sparse image", args: "verify ../../testdata/containers/nodes.sparseimage", golden: "verify-sparse.txt"},
	{name: "verify names", args: "verify ../../testdata/good-names.dmg", golden: "verify-names.txt"},
	{name: "verify a wrong table sum", args: "verify ../../testdata/bad-table-sum.dmg", status: 1, golden: "verify-table-sum.txt",
		errOut: `dmg: ../../testdata/bad-table-sum.dmg: damaged: [12] wrong checksums?\n`},
	{name: "verify a wrong data sum", args: "verify ../../testdata/bad-data-sum.dmg", status: 1, golden: "verify-data-sum.txt",
		errOut: `dmg: ../../testdata/bad-data-sum.dmg: damaged: 1 wrong checksum\n`},
	{name: "verify a damaged chunk", args: "verify ../../testdata/bad-stream.dmg", status: 1, golden: "verify-stream.txt",
		errOut: `dmg: ../../testdata/bad-stream.dmg: damaged: 1 wrong checksum, 8192 bytes doubtful\n`},
	{name: "verify unknown methods", args: "verify ../../testdata/unsupported-1990s.dmg", status: 3, golden: "verify-1990s.txt",
		errOut: `dmg: ../../testdata/unsupported-1990s.dmg: 32768 bytes not checked: unsupported compression \(kencode, rle, lzh, …\)\n`},

	{name: "map of mixed", args: "map ../../testdata/good-mixed.dmg", golden: "map-mixed.svg"},
	{name: "map of names", args: "map --verify ../../testdata/good-names.dmg", golden: "map-names.svg"},
	{name: "map of a damaged chunk", args: "map --verify --quiet ../../testdata/bad-stream.dmg", status: 1, golden: "map-stream.svg",
		errOut: `dmg: ../../testdata/bad-stream.dmg: damaged: 1 wrong checksum, 8192 bytes doubtful\n`},

	{name: "verbose", args: "cat -v ../../testdata/good-zlib.dmg -o 64s -n 1", golden: "cat-verbose.txt",
		errOut: `dmg: read 1 B of the disk; decoded \d.* B; fetched \d.* of the image in \d+ reads\n`},
	{name: "offset past the end", args: "cat ../../testdata/good-zlib.dmg --offset 1G", status: 2,
		errOut: `dmg: ../../testdata/good-zlib.dmg: offset 1073741824 is past the end of the disk, which has \d+ bytes\n`},
	{name: "offset past a partition", args: "cat ../../testdata/good-zlib.dmg -p 0 -o 1M", status: 2, errOut: `dmg: .* past the end of the partition, .*\n`},
	{name: "partition out of range", args: "cat ../../testdata/good-zlib.dmg -p 3", status: 2,
		errOut: `dmg: ../../testdata/good-zlib.dmg: no partition 3: there are 0 to 2; see dmg info\n`},
	{name: "unknown partition", args: "cat ../../testdata/good-zlib.dmg -p NTFS", status: 2, errOut: `dmg: .*no partition has the name or type "NTFS": .*\n`},
	{name: "ambiguous partition", args: "cat ../../testdata/good-zlib.dmg -p apple", status: 2, errOut: `dmg: .*"apple" fits partitions 1 2: give a number\n`},
	{name: "unreadable chunk", args: "extract ../../testdata/bad-stream.dmg -", status: 1, errOut: `dmg: ../../testdata/bad-stream.dmg: zlib chunk at sectors .*; --keep-going extracts the rest\n`},
	{name: "no password file", args: "info --password-file none ../../testdata/good-zlib.dmg", status: 4, errOut: `dmg: .*password file: open none: .*\n`},
	{name: "empty password file", args: "info --password-file - ../../testdata/good-zlib.dmg", status: 4, errOut: `dmg: .*password file: empty\n`},
	{name: "no such index", args: "info --index none ../../testdata/good-zlib.dmg", status: 5, errOut: `dmg: open none: .*\n`},
	{name: "memory limit", args: "extract --memory-limit 1k ../../testdata/good-lzma.dmg -", status: 2, errOut: `dmg: ../../testdata/good-lzma.dmg: .*; give it more with --memory-limit\n`},
}

func TestCommands(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	for _, tt := range commandTests {
		t.Run(tt.name, func(t *testing.T) {
			got := dmgRun(t, strings.Fields(tt.args)...)
			if got.status != tt.status {
				t.Errorf("status %d, want %d", got.status, tt.status)
			}
			if !regexp.MustCompile(`^` + tt.errOut + `$`).MatchString(got.errOut) {
				t.Errorf("standard error %q, want %q", got.errOut, tt.errOut)
			}
			if tt.golden != "" {
				golden(t, tt.golden, got.out)
			}
		})
	}
}

// Every exit status, as every help lists them. Interrupts by a signal are in
// TestExtractInterrupted and its neighbours.
func TestStatuses(t *testing.T) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	secret := encryptedImage(t, "x")
	for _, tt := range []struct {
		status int
		args   string
	}{
		{0, "verify ../../testdata/good-zlib.dmg"},
		{1, "verify ../../testdata/bad-stream.dmg"},
		{2, "verify --colour x.dmg"},
		{2, "cat ../../testdata/good-zlib.dmg -p 99"},
		{3, "verify main.go"},
		{3, "verify ../../testdata/unsupported-1990s.dmg"},
		{4, "verify " + secret},
		{5, "verify none.dmg"},
		{130, "verify ../../testdata/good-zlib.dmg"},
	} {
		ctx := context.Background()
		if tt.status == 130 {
			ctx = done
		}
		if got := run(ctx, strings.Fields(tt.args), strings.NewReader(""), io.Discard, io.Discard); got != tt.status {
			t.Errorf("%s: status %d, want %d", tt.args, got, tt.status)
		}
	}
	parser, err := newParser(io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(commandNames(parser.Model), "") {
		help := dmgRun(t, strings.Fields(name+" --help")...).out
		for _, status := range []int{0, 1, 2, 3, 4, 5, 130} {
			if !regexp.MustCompile(fmt.Sprintf(`(?s)Exit status:.*\n +%d  +[a-z]`, status)).MatchString(help) {
				t.Errorf("the help of %q does not tell of status %d", name, status)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		if got := dmgRun(t, arg); got != (result{out: version() + "\n"}) {
			t.Errorf("%s: %+v", arg, got)
		}
	}
}

// A flag whose value is empty is not one that is not given.
func TestEmptyFlags(t *testing.T) {
	const image = images + "good-zlib.dmg"
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a server would not end
	for _, args := range [][]string{
		{"extract", image, "-", "-p", ""},
		{"cat", image, "--partition="},
		{"cat", image, "--index", ""},
		{"cat", image, "--length", ""},
		{"info", image, "--password-file", ""},
		{"map", image, "-o", ""},
		{"index", image, "-o", ""},
		{"nbd", image, "--socket", ""},
		{"nbd", image, "--listen="},
	} {
		var out, errOut bytes.Buffer
		status := run(ctx, args, strings.NewReader(""), &out, &errOut)
		if status != statusMisuse || out.Len() > 0 || !strings.HasPrefix(errOut.String(), "dmg: --") {
			t.Errorf("%q: status %d, %q, %d bytes", args, status, errOut.String(), out.Len())
		}
	}
}

// TestCutShort has raw disks, of which nothing but their partition table says how
// long they were.
func TestCutShort(t *testing.T) {
	disk := make([]byte, 100*sectorSize)
	copy(disk[510:], "\x55\xAA")
	entry := disk[446:]
	entry[4] = 0x0C
	binary.LittleEndian.PutUint32(entry[8:], 10)
	binary.LittleEndian.PutUint32(entry[12:], 90)
	image := filepath.Join(t.TempDir(), "disk.img")
	for _, sectors := range []int{100, 99, 5} {
		if err := os.WriteFile(image, disk[:sectors*sectorSize], 0o600); err != nil {
			t.Fatal(err)
		}
		defect, warning := "", ""
		if sectors < 100 {
			defect = fmt.Sprintf("disk at byte %[1]d: cut short: its partitions reach to byte 51200, the disk only to %[1]d", sectors*sectorSize)
			warning = fmt.Sprintf("dmg: warning: %s: %s\n", image, defect)
		}
		for _, args := range [][]string{{"extract", image, "-"}, {"cat", image}, {"map", image}} {
			if got := dmgRun(t, args...); got.status != statusOK || got.errOut != warning {
				t.Errorf("%d sectors: %v: status %d, %q, want %q", sectors, args, got.status, got.errOut, warning)
			}
		}
		got := dmgRun(t, "info", image)
		if got.status != statusOK || got.errOut != "" || strings.Contains(got.out, "\ndamaged: "+defect+"\n") != (defect != "") {
			t.Errorf("%d sectors: info: status %d, %q, %q", sectors, got.status, got.errOut, got.out)
		}
		want := statusOK
		if defect != "" {
			want = statusDamaged
		}
		got = dmgRun(t, "verify", image)
		if got.status != want || strings.Contains(got.out, "\ndamaged: "+defect+"\n") != (defect != "") {
			t.Errorf("%d sectors: verify: status %d, %q, %q", sectors, got.status, got.errOut, got.out)
		}
		info := imageInfoOf(t, image)
		if (defect != "") != (len(info.Defects) > 0) || defect != "" && info.Defects[0] != defect {
			t.Errorf("%d sectors: defects %q, want %q", sectors, info.Defects, defect)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// imageCopy copies an image from testdata into a folder of its own, where an
// index may be put beside it.
func imageCopy(t *testing.T, image string) string {
	t.Helper()
	b, err := os.ReadFile(images + image)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), filepath.Base(image))
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// makeIndex runs dmg index and returns what it wrote.
func makeIndex(t *testing.T, image, file string, args ...string) []byte {
	t.Helper()
	got := dmgRun(t, append([]string{"index", image}, args...)...)
	line := regexp.MustCompile("^" + regexp.QuoteMeta(file) + `: [0-9.]+ \w+, [0-9]+ checkpoints?\n$`)
	if got.status != statusOK || got.errOut != "" || !line.MatchString(got.out) {
		t.Fatalf("%+v", got)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantFiles fails if a folder holds other files than these.
func wantFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("files %q, want %q", got, names)
	}
}

func TestIndex(t *testing.T) {
	image := imageCopy(t, "good-one-chunk.dmg")
	file := image + ".dmgidx"
	got := dmgRun(t, "index", image)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The larger partition has 102,400 bytes: three multiples of 32 KiB.
	want := result{out: fmt.Sprintf("%s: %d B, 3 checkpoints\n", file, len(b))}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if ix, err := dmg.ReadIndex(bytes.NewReader(b)); err != nil {
		t.Error(err)
	} else if im, err := dmg.Open(image, &dmg.Options{Index: ix}); err != nil {
		t.Error(err)
	} else {
		im.Close()
	}
	other := filepath.Join(t.TempDir(), "other")
	if !bytes.Equal(makeIndex(t, image, other, "-o", other), b) {
		t.Error("a second index differs")
	}
	if got := dmgRun(t, "index", image, "-o", "-"); got != (result{out: string(b)}) {
		t.Errorf("standard output: status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
	}
	if !bytes.Equal(makeIndex(t, image, file), b) { // it is an index, so that no -f is needed
		t.Error("an index written over another differs")
	}
	wantFiles(t, filepath.Dir(image), "good-one-chunk.dmg", "good-one-chunk.dmg.dmgidx")
}

// TestIndexUseless has images without a place to remember.
func TestIndexUseless(t *testing.T) {
	for _, name := range []string{"good-zlib.dmg", "good-lzma.dmg", "good-raw.dmg"} {
		image := imageCopy(t, name)
		got := dmgRun(t, "index", image)
		if got.status != statusOK || !strings.HasSuffix(got.out, ", 0 checkpoints: the image has no use for an index\n") {
			t.Errorf("%s: %+v", name, got)
		}
		if got := dmgRun(t, "cat", image); sum([]byte(got.out)) != sums(t)[name] || got.errOut != "" {
			t.Errorf("%s: with the index: status %d, %q, %d bytes", name, got.status, got.errOut, len(got.out))
		}
	}
}

func TestIndexRefuses(t *testing.T) {
	image := imageCopy(t, "good-one-chunk.dmg")
	dir := filepath.Dir(image)
	file := image + ".dmgidx"
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		status int
		errOut string
	}{
		{[]string{image}, statusMisuse, "dmg: " + file + " exists: -f overwrites it\n"},
		{[]string{image, "-o", dir}, statusMisuse, "dmg: " + dir + " is a directory: give the name of a file\n"},
		{[]string{image, "-f", "-o", dir}, statusMisuse, "dmg: " + dir + " is a directory: give the name of a file\n"},
		{[]string{image, "-o", image}, statusMisuse, "dmg: " + image + " belongs to the image: give another name\n"},
		{[]string{image, "-f", "-o", image}, statusMisuse, "dmg: " + image + " belongs to the image: give another name\n"},
		{[]string{image, "-o", filepath.Join(dir, "none", "x")}, statusIO, "dmg: create " + filepath.Join(dir, "none", "x") + ": " + syscall.ENOENT.Error() + "\n"},
		{[]string{""}, statusMisuse, "dmg: the image's name is empty\nTry \"dmg --help\".\n"},
	} {
		got := dmgRun(t, append([]string{"index"}, tt.args...)...)
		if want := (result{status: tt.status, errOut: tt.errOut}); got != want {
			t.Errorf("%q: got %+v, want %+v", tt.args, got, want)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is now %.20q (%v)", b, err)
	}
	makeIndex(t, image, file, "-f")
	wantFiles(t, dir, "good-one-chunk.dmg", "good-one-chunk.dmg.dmgidx")
}

// TestNoHalfIndex has indexes that are not finished.
func TestNoHalfIndex(t *testing.T) {
	image := imageCopy(t, "good-one-chunk.dmg")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var errOut bytes.Buffer
	if status := run(ctx, []string{"index", image}, strings.NewReader(""), io.Discard, &errOut); status != statusInterrupted || errOut.String() != "dmg: interrupted\n" {
		t.Errorf("status %d, %q", status, errOut.String())
	}
	wantFiles(t, filepath.Dir(image), "good-one-chunk.dmg")
}

// TestIndexMode: what an image's readers may not all know, the index doesn't
// tell them.
func TestIndexMode(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("no permissions")
	}
	secret := encryptedImage(t, "x")
	for _, tt := range []struct {
		image string
		mode  os.FileMode
		most  os.FileMode
	}{
		{imageCopy(t, "good-one-chunk.dmg"), 0o755, 0o644},
		{imageCopy(t, "good-one-chunk.dmg"), 0o440, 0o640},
		{imageCopy(t, "good-one-chunk.dmg"), 0o600, 0o600},
		{secret, 0o644, 0o600},
		{secret, 0o644, 0o600}, // over what is there
	} {
		t.Setenv(passwordVar, "x")
		if err := os.Chmod(tt.image, tt.mode); err != nil {
			t.Fatal(err)
		}
		if got := dmgRun(t, "index", tt.image); got.status != statusOK {
			t.Fatalf("%+v", got)
		}
		info, err := os.Stat(tt.image + ".dmgidx")
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got&^tt.most != 0 || got&0o600 != 0o600 {
			t.Errorf("image %v: index %v, want %v less the umask", tt.mode, got, tt.most)
		}
		if err := os.Chmod(tt.image+".dmgidx", 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIndexName has the names that folders can be given by.
func TestIndexName(t *testing.T) {
	dir := t.TempDir()
	bundle := filepath.Join(dir, "a.sparsebundle")
	if err := os.MkdirAll(filepath.Join(bundle, "bands"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(bundle, "bands"))
	// Where the folder was reached by a link, as on macOS, Getwd has another name for it.
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		"x.dmg":      "x.dmg.dmgidx",
		"a/x.dmg":    filepath.Join("a", "x.dmg.dmgidx"),
		bundle:       bundle + ".dmgidx",
		bundle + "/": bundle + ".dmgidx",
		".":          cwd + ".dmgidx",
		"..":         filepath.Dir(cwd) + ".dmgidx",
		"../":        filepath.Dir(cwd) + ".dmgidx",
	} {
		if got := indexName(image); got != want {
			t.Errorf("%q: %q, want %q", image, got, want)
		}
	}
}

// oneChunk writes an image whose disk is one large chunk, without an index.
func oneChunk(t *testing.T, m dmgtest.Method) (image string, disk []byte) {
	t.Helper()
	size := int64(2 << 20)
	content := dmgtest.Text(1, size)
	return dmgtest.File(t, content, size, dmgtest.Options{Codecs: []dmgtest.Method{m}, ChunkSectors: size / sectorSize}), content.Bytes()
}

// decoded is the number that -v says, in bytes at most.
func decoded(t *testing.T, errOut string) float64 {
	t.Helper()
	var n float64
	var unit string
	_, after, _ := strings.Cut(errOut, "; decoded ")
	if _, err := fmt.Sscanf(after, "%f %s", &n, &unit); err != nil {
		t.Fatalf("%q: %v", errOut, err)
	}
	switch unit {
	case "B;":
		return n
	case "KiB;":
		return n * (1 << 10)
	case "MiB;":
		return n * (1 << 20)
	}
	t.Fatalf("unit %q", unit)
	return 0
}

func TestIndexUsed(t *testing.T) {
	t.Parallel()
	for _, m := range []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2} {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			t.Parallel()
			if dmgtest.Raced() && m == dmgtest.Bzip2 {
				t.Skip("the command's part is the same for zlib")
			}
			image, disk := oneChunk(t, m)
			file := filepath.Join(t.TempDir(), "moved")
			makeIndex(t, image, image+".dmgidx")
			makeIndex(t, image, file, "-o", file)
			cat := func(args ...string) result {
				got := dmgRun(t, append([]string{"cat", "-v", image, "-o", fmt.Sprint(len(disk) - 100)}, args...)...)
				if got.status != statusOK || got.out != string(disk[len(disk)-100:]) {
					t.Errorf("%v: %+v", args, got)
				}
				return got
			}
			without := cat("--no-index").errOut
			if strings.Contains(without, "index") || decoded(t, without) < float64(len(disk))*0.95 {
				t.Errorf("without: %q", without)
			}
			for _, tt := range []struct {
				name string
				args []string
			}{
				{image + ".dmgidx", nil},
				{file, []string{"--index", file}},
			} {
				got := cat(tt.args...).errOut
				if !strings.HasPrefix(got, "dmg: using the index "+tt.name+"\n") || decoded(t, got) > decoded(t, without)/3 {
					t.Errorf("with: %q, without: %q", got, without)
				}
			}
			for _, args := range [][]string{{"extract", image, "-"}, {"cat", image}, {"cat", "--no-index", image}} {
				if got := dmgRun(t, args...); got != (result{out: string(disk)}) {
					t.Errorf("%v: status %d, %q, %d bytes", args, got.status, got.errOut, len(got.out))
				}
			}
			for _, args := range [][]string{{"extract", "-v", image, "-"}, {"verify", "-v", image}, {"info", "-v", image}} {
				if got := dmgRun(t, args...); got.status != statusOK || strings.Count(got.errOut, "using the index") != 1 {
					t.Errorf("%v: status %d, %q", args, got.status, got.errOut)
				}
			}
		})
	}
}

// TestIndexServed reads from a server that has an index.
func TestIndexServed(t *testing.T) {
	t.Parallel()
	image, disk := oneChunk(t, dmgtest.Zlib)
	makeIndex(t, image, image+".dmgidx")
	uri, said := serveVerbosely(t, image, "-v", "--listen", "127.0.0.1:0")
	if want := "dmg: using the index " + image + ".dmgidx\n"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
	if got, want := nbdcopy(t, uri), sha256.Sum256(disk); got != fmt.Sprintf("%x", want) {
		t.Errorf("sum %s, want %x", got, want)
	}
}

// TestBadIndex has files that are no index, or not the image's.
func TestBadIndex(t *testing.T) {
	t.Parallel()
	image := imageCopy(t, "good-one-chunk.dmg")
	disk := dmgRun(t, "cat", image).out
	good := makeIndex(t, image, image+".dmgidx")
	file := image + ".dmgidx"
	other, _ := oneChunk(t, dmgtest.Zlib)
	foreign := makeIndex(t, other, other+".dmgidx")
	flipped := bytes.Clone(good)
	flipped[100] ^= 1
	for _, tt := range []struct {
		name  string
		write func(t *testing.T) error
		want  string // a part of the error
	}{
		{"damaged", func(t *testing.T) error { return os.WriteFile(file, flipped, 0o600) }, "its checksum is wrong"},
		{"cut", func(t *testing.T) error { return os.WriteFile(file, good[:50], 0o600) }, "cut short"},
		{"empty", func(t *testing.T) error { return os.WriteFile(file, nil, 0o600) }, "cut short"},
		{"foreign", func(t *testing.T) error { return os.WriteFile(file, foreign, 0o600) }, "of another image, or of this one before it changed"},
		{"no index", func(t *testing.T) error { return os.WriteFile(file, bytes.Repeat([]byte("x"), 1000), 0o600) }, "no index file"},
		{"folder", func(t *testing.T) error { return os.Mkdir(file, 0o700) }, ""},
		{"unreadable", func(t *testing.T) error { return unreadable(t, file, good) }, ""},
		{"link to itself", func(t *testing.T) error { return os.Symlink(file, file) }, ""},
		{"dangling link", func(t *testing.T) error { return os.Symlink(file+"2", file) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			if err := tt.write(t); err != nil {
				t.Fatal(err)
			}
			if got := dmgRun(t, "cat", image); got != (result{out: disk}) {
				t.Errorf("ignored: status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
			}
			got := dmgRun(t, "cat", "-v", image)
			warning := regexp.MustCompile("^dmg: warning: .*" + regexp.QuoteMeta(file) + ": .*" + tt.want + ".*; going on without it; dmg index -f " + regexp.QuoteMeta(image) + " makes a new one\n")
			// A link to nowhere is as good as no index.
			if got.status != statusOK || got.out != disk || warning.MatchString(got.errOut) == (tt.name == "dangling link") {
				t.Errorf("ignored: status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
			}
			got = dmgRun(t, "cat", "--index", file, image)
			failure := regexp.MustCompile("^dmg: .*" + regexp.QuoteMeta(file) + ": .*" + tt.want + ".*\n$")
			if (got.status != statusMisuse && got.status != statusIO) || got.out != "" || !failure.MatchString(got.errOut) || strings.Contains(got.errOut, image+": ") {
				t.Errorf("named: status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
			}
			if got := dmgRun(t, "cat", "-v", "--no-index", image); got.out != disk || strings.Contains(got.errOut, "index") {
				t.Errorf("not used: status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
			}
		})
	}
}

// unreadable writes a file that its user may not read.
func unreadable(t *testing.T, name string, b []byte) error {
	if err := os.WriteFile(name, b, 0o200); err != nil {
		return err
	}
	if f, err := os.Open(name); err == nil {
		f.Close()
		t.Skip("this user may read everything")
	}
	return nil
}

// TestIndexEncrypted has a password, which must be read once only: standard
// input has it once.
func TestIndexEncrypted(t *testing.T) {
	plain, disk := oneChunk(t, dmgtest.Zlib)
	b, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "secret.dmg")
	if err := os.WriteFile(image, dmgtest.Encryption{Password: "x"}.Image(b), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := dmgRunWith(t, "x\n", "index", "--password-file", "-", image); got.status != statusOK {
		t.Fatalf("%+v", got)
	}
	for _, tt := range []struct {
		change func() error
		said   string
	}{
		{func() error { return nil }, "dmg: using the index "},
		{func() error {
			foreign := imageCopy(t, "good-one-chunk.dmg")
			return os.WriteFile(image+".dmgidx", makeIndex(t, foreign, foreign+".dmgidx"), 0o600)
		}, "dmg: warning: " + image + ".dmgidx: not a valid index for this image: it is of another image, or of this one before it changed; going on without it; "},
	} {
		if err := tt.change(); err != nil {
			t.Fatal(err)
		}
		got := dmgRunWith(t, "x\n", "cat", "-v", "--password-file", "-", image)
		if got.status != statusOK || got.out != string(disk) || !strings.HasPrefix(got.errOut, tt.said) {
			t.Errorf("status %d, %q, %d bytes; want %q", got.status, got.errOut, len(got.out), tt.said)
		}
		got = dmgRunWith(t, "y\n", "cat", "-v", "--password-file", "-", image)
		if got.status != statusPassword || strings.Contains(got.errOut, "index") {
			t.Errorf("wrong password: %+v", got)
		}
	}
}

// TestIndexSamples indexes what Apple's tools encrypted, and bundles.
func TestIndexSamples(t *testing.T) {
	for _, s := range sampleImages(t) {
		if !strings.HasPrefix(s.file, "encrypted/ud") && !strings.HasSuffix(s.file, "bundle") {
			continue
		}
		t.Run(s.file, func(t *testing.T) {
			t.Setenv(passwordVar, s.password)
			image := filepath.Join(t.TempDir(), filepath.Base(s.file))
			if err := copyImage(image, samples+s.file); err != nil {
				t.Fatal(err)
			}
			if got := dmgRun(t, "index", image+string(os.PathSeparator)); strings.HasSuffix(s.file, "bundle") != (got.status == statusOK) {
				t.Fatalf("as a folder: %+v", got)
			}
			if got := dmgRun(t, "index", image); got.status != statusOK || got.errOut != "" {
				t.Fatalf("%+v", got)
			}
			wantFiles(t, filepath.Dir(image), filepath.Base(image), filepath.Base(image)+".dmgidx")
			got := dmgRun(t, "cat", "-v", image)
			if sum([]byte(got.out)) != s.sum || !strings.HasPrefix(got.errOut, "dmg: using the index "+image+".dmgidx\n") {
				t.Errorf("status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
			}
		})
	}
}

// copyImage copies a file or a folder.
func copyImage(to, from string) error {
	if info, err := os.Stat(from); err != nil || info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

func TestIndexJSON(t *testing.T) {
	t.Parallel()
	image, _ := oneChunk(t, dmgtest.Zlib)
	got := dmgRun(t, "index", "--json", image)
	var v indexJSON
	if err := json.Unmarshal([]byte(got.out), &v); err != nil || got.status != 0 || got.errOut != "" || strings.Count(got.out, "\n") != 1 {
		t.Fatalf("%v, %+v", err, got)
	}
	info, err := os.Stat(image + indexExt)
	if err != nil || v != (indexJSON{image, image + indexExt, info.Size(), v.Checkpoints}) || v.Checkpoints < 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if got := dmgRun(t, "index", "--json", image, "-o", "-"); got.status != statusMisuse || got.out != "" {
		t.Errorf("both on standard output: %+v", got)
	}
}

package hfsvol

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// The same tree gives the same bytes, also when it is written again.
func TestSame(t *testing.T) {
	again := Samples()
	for i, s := range Samples() {
		v, w := Write(s.Root, s.Options), Write(again[i].Root, again[i].Options)
		x := Write(s.Root, s.Options)
		if !bytes.Equal(v.Image, w.Image) || !bytes.Equal(v.Image, x.Image) {
			t.Errorf("%s: different bytes", s.Name)
		}
		if !bytes.Equal(v.Image[v.Header:][:headerSize], v.Image[v.Copy:][:headerSize]) {
			t.Errorf("%s: no copy of the header", s.Name)
		}
		for _, tree := range []Tree{v.Catalog, v.Extents, v.Attributes} {
			for _, r := range tree.Records {
				if n := int(v.Image[r.Off])<<8 | int(v.Image[r.Off+1]); n != len(r.Key) {
					t.Fatalf("%s: key at %#x has %d bytes, want %d", s.Name, r.Off, n, len(r.Key))
				}
			}
		}
	}
}

// tool skips the test where a program is missing.
func tool(t *testing.T, name string) {
	t.Helper()
	dmgtest.Native(t)
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("no %s here", name)
	}
}

// output runs a program.
func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%.1500s\n%.500s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}

func imageFile(t *testing.T, s Sample) string {
	name := filepath.Join(t.TempDir(), "image.hfs")
	if err := os.WriteFile(name, Write(s.Root, s.Options).Image, 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// shown is what a program shows of an entry; or its name alone.
type shown struct {
	name    bool
	content []byte
}

// compare holds what a program reads against what was written. Of some entries it
// does not understand the content, and some hidden ones it may have.
func compare(t *testing.T, got map[string]shown, root *Entry, not func(e *Entry) bool, hidden func(name string) bool) {
	t.Helper()
	bad, n := 0, 0
	wrong := func(format string, args ...any) {
		if bad++; bad <= 10 {
			t.Errorf(format, args...)
		}
	}
	for name, e := range Walk(root) {
		g, found := got[name]
		if control := strings.NewReplacer("\r", "^", "\n", "^").Replace(name); !found && control != name {
			name = control // as The Sleuth Kit shows them
			g, found = got[name]
		}
		n++
		switch {
		case name == ".":
		case !found:
			wrong("%q is missing", name)
		case !g.name && !not(e) && !bytes.Equal(g.content, e.Content()):
			wrong("%q has %d other bytes than the %d written", name, len(g.content), len(e.Content()))
		}
		delete(got, name)
	}
	for name := range got {
		if !hidden(name) {
			wrong("%q was not written", name)
		}
	}
	if n < 1 || bad > 10 {
		t.Errorf("%d of %d names differ", bad, n)
	}
}

// toolSamples are those that programs read.
func toolSamples() []Sample {
	if dmgtest.Part() {
		return slices.DeleteFunc(Samples(), func(s Sample) bool { return s.Sizes })
	}
	return append(Samples(), Large())
}

// What 7-Zip 26.02 does not read, or says is unsupported.
var (
	notSevenZip = map[string]string{
		"overflow-leaves": "extents records of one file in two leaves are an error to it",
		"links":           "hard links are empty files to it",
		"names":           "it changes names that other systems don't have",
	}
	saysSevenZip = map[string]string{
		"Attributes": "records 0x30 of attributes",
		"Compressed": "LZFSE, LZBITMAP, type 1, a marker in type 10, bytes behind LZVN codes",
	}
)

// TestSevenZip has 7-Zip take all files out of all samples.
func TestSevenZip(t *testing.T) {
	tool(t, "7zz")
	for _, s := range toolSamples() {
		if notSevenZip[s.Name] != "" {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out, err := exec.Command("7zz", "x", "-tHFS", "-snld", "-sns-", "-y", "-o"+dir, imageFile(t, s)).CombinedOutput()
			if err != nil && saysSevenZip[s.Root.Name] == "" {
				t.Fatalf("%v: %s", err, out)
			}
			base := filepath.Join(dir, s.Root.Name)
			got := make(map[string]shown)
			err = filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				name, _ := filepath.Rel(base, path)
				g := shown{name: d.IsDir()}
				switch {
				case d.Type() == fs.ModeSymlink:
					target, err := os.Readlink(path)
					g.content = []byte(strings.TrimPrefix(target, dir))
					if err != nil {
						return err
					}
				case d.Type().IsRegular():
					g.content, err = os.ReadFile(path)
				}
				got[name] = g
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			not := func(e *Entry) bool {
				absolute := e.Type == "slnk" && e.Data[0] == '/' // made relative to dir
				return absolute || e.Shown != nil && (strings.Contains(e.Name, "lzfse") || strings.Contains(e.Name, "lzbitmap") || strings.Contains(e.Name, "-stored-") && e.Name < "2" || strings.Contains(e.Name, "bytes-behind"))
			}
			compare(t, got, s.Root, not, func(name string) bool { return strings.HasPrefix(name, ".journal") })
		})
	}
}

// TestSleuthKit has The Sleuth Kit list all samples and read their files.
func TestSleuthKit(t *testing.T) {
	tool(t, "fls")
	for _, s := range toolSamples() {
		if s.Name == "deep-folders" { // it does not descend into more than 128
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			image := imageFile(t, s)
			got := make(map[string]shown)
			lines, most := 0, dmgtest.Times(200, 80, 10)
			for line := range bytes.Lines(output(t, "fls", "-r", "-p", "-f", "hfs", image)) {
				// r/r 16:	name
				kind, name, found := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":\t")
				if !found || len(kind) < 5 {
					t.Fatalf("fls says %q", line)
				}
				lines++
				id := kind[4:]
				g := shown{name: kind[0] == 'd' || lines > most}
				if !g.name {
					g.content, _ = exec.Command("icat", "-f", "hfs", image, id).Output()
				}
				got[name] = g
			}
			// It reads no file that has an attribute in a fork.
			not := func(e *Entry) bool {
				return slices.ContainsFunc(e.Xattrs, func(x Xattr) bool { return x.Fork }) ||
					e.Shown != nil && !strings.Contains(e.Name, "zlib") && !strings.Contains(e.Name, "lzvn")
			}
			compare(t, got, s.Root, not, func(name string) bool {
				return strings.HasPrefix(name, ".journal") || strings.HasPrefix(name, "^^^^HFS+ Private Data") ||
					strings.HasPrefix(name, ".HFS+ Private Directory Data") || strings.HasPrefix(name, "$")
			})
		})
	}
}

package dmg_test

import (
	"bytes"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every test that docs/SECURITY.md names is one of this repository's, and each
// known failure has one.
func TestSecurityTable(t *testing.T) {
	doc, err := os.ReadFile("docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	_, table, found := bytes.Cut(doc, []byte("| failure | tests |\n|---|---|\n"))
	rows := 0
	for row := range strings.Lines(string(table)) {
		if !strings.HasPrefix(row, "|") {
			break
		}
		rows++
		if cells := strings.Split(row, " | "); len(cells) != 2 || !named.MatchString(cells[1]) {
			t.Errorf("no test in %q", row)
		}
	}
	if !found || rows < 20 {
		t.Fatalf("a table of %d known failures", rows)
	}
	tests := testNames(t)
	for _, name := range named.FindAllSubmatch(doc, -1) {
		if !tests[string(name[1])] {
			t.Errorf("%s is named, but there is none", name[1])
		}
	}
}

// testNames returns the names of all tests and fuzz targets of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "testdata"}, d.Name()):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(name)
		for _, f := range function.FindAllSubmatch(source, -1) {
			names[string(f[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

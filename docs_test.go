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
	named := regexp.MustCompile("`(?:[a-z]+\\.)?((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
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

// docs/DESIGN.md lists the files of this package and the packages below internal, and no
// others.
func TestDesignHouse(t *testing.T) {
	doc, err := os.ReadFile("docs/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	_, house, found := strings.Cut(string(doc), "## The house\n\n```\n")
	house, _, ended := strings.Cut(house, "\n```\n")
	if !found || !ended {
		t.Fatal("no list of files")
	}
	listed := regexp.MustCompile(`(?m)^  \w+\.go\b|\binternal/\w+`).FindAllString(house, -1)
	var want []string
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			want = append(want, "  "+name)
		}
	}
	if entries, err = os.ReadDir("internal"); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		want = append(want, "internal/"+e.Name())
	}
	slices.Sort(listed)
	slices.Sort(want)
	for _, name := range want {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not listed", name)
		}
	}
	for i, name := range listed {
		if !slices.Contains(want, name) {
			t.Errorf("%s is listed, but there is none", name)
		}
		if i > 0 && listed[i-1] == name {
			t.Errorf("%s is listed twice", name)
		}
	}
}

// Each rule of the contract in docs/DESIGN.md names its tests, and a test that says in
// its comment which rule it holds is named there.
func TestDesignContract(t *testing.T) {
	doc, err := os.ReadFile("docs/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:[a-z]+\\.)?((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	tests := testNames(t)
	for _, name := range named.FindAllSubmatch(doc, -1) {
		if !tests[string(name[1])] {
			t.Errorf("%s is named, but there is none", name[1])
		}
	}
	rules := make(map[string]string)
	for _, text := range strings.Split(string(doc), "\n\n") {
		if m := regexp.MustCompile(`^\*\*(R\d+)\. `).FindStringSubmatch(text); m != nil {
			rules[m[1]] = text
			if !named.MatchString(text) {
				t.Errorf("%s names no test", m[1])
			}
		}
	}
	if len(rules) < 11 {
		t.Fatalf("%d rules", len(rules))
	}
	holds := regexp.MustCompile(`(?m)^// (R\d+)\b.*\n(?://.*\n)*func (Test\w+)\(`)
	var names []string
	for _, pattern := range []string{"*_test.go", "internal/*/*_test.go"} {
		found, err := fs.Glob(os.DirFS("."), pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	said := 0
	for _, name := range names {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range holds.FindAllSubmatch(source, -1) {
			if said++; !strings.Contains(rules[string(m[1])], "`"+string(m[2])+"`") {
				t.Errorf("%s says that it holds %s, which does not name it", m[2], m[1])
			}
		}
	}
	if said < 10 {
		t.Errorf("only %d tests say which rule they hold", said)
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

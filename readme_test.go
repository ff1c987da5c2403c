package dmg_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// readmeProgram is a program around one of the README's examples, which all use
// some of these packages.
const readmeProgram = `package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/httpfile"
	"howett.net/plist"
)

var (
	_ httpfile.File
	_ fs.FS
	_ plist.Decoder
	_ context.Context
	_ = errors.Is
	_ = fmt.Println
	_ = log.Fatal
	_ http.Handler
	_ *os.File
	_ time.Time
)

func example(ctx context.Context, im *dmg.Image, file *os.File) {
EXAMPLE
}

func main() { example(context.Background(), nil, nil) }
`

// The README's examples compile, in a module of their own.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllSubmatch(readme, -1)
	if len(examples) < 4 {
		t.Fatalf("%d examples", len(examples))
	}
	text := ""
	for _, m := range examples {
		// One that opens an image does so in a scope of its own.
		text += "{\n" + string(m[1]) + "}\n"
	}
	vetModule(t, strings.Replace(readmeProgram, "EXAMPLE", text, 1))
}

// What the documents link to is there.
func TestDocumentLinks(t *testing.T) {
	names, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "testdata/README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`).FindAllSubmatch(text, -1) {
			link := string(m[1])
			if strings.Contains(link, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), link)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

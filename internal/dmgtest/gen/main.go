// Gen writes the repository's testdata directory: disk images made by
// package dmgtest, and a README that says how each was made. It writes the
// same bytes every time.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
)

//go:generate go run . -o ../../../testdata

func main() {
	log.SetFlags(0)
	dir := flag.String("o", "testdata", "the `directory` to write to")
	flag.Parse()
	files, err := testdata()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(*dir, containerDir), 0o777); err != nil {
		log.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(*dir, name), data, 0o666); err != nil {
			log.Fatal(err)
		}
	}
}

// testdata makes every file of the directory, by name.
func testdata() (map[string][]byte, error) {
	files := map[string][]byte{}
	plain, err := table(files, images)
	if err != nil {
		return nil, err
	}
	wrapped, err := table(files, containers)
	if err != nil {
		return nil, err
	}
	files["README.md"] = []byte(fmt.Sprintf(readme, plain, password, wrapped))
	return files, nil
}

// table makes images, and the rows of the README about them.
func table(files map[string][]byte, images []image) (string, error) {
	var rows strings.Builder
	for _, im := range images {
		data, err := im.build(im.disk)
		if err != nil {
			return "", fmt.Errorf("%s: %w", im.name, err)
		}
		files[im.name] = data
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", im.name, im.how, decoded(im.disk))
	}
	return rows.String(), nil
}

// decoded is the README's word on what an image holds.
func decoded(disk []byte) string {
	if disk == nil {
		return "–"
	}
	return fmt.Sprintf("%d, `%x`", len(disk), sha256.Sum256(disk))
}

const readme = `# Test images

Made by the project's own writer, ` + "`internal/dmgtest`" + `. To write them again, byte for byte the same:

	go generate ./internal/dmgtest/gen

` + "`good-`" + ` images open and read to the end. ` + "`unsupported-`" + ` images open, and reading what they say of themselves below gives
an error of the class ErrUnsupported. ` + "`bad-`" + ` images are damaged: they don't open, or open and can't be read or verified, as said below.
The disk has three partitions as hdiutil names them, text, bytes that don't compress, and zeros; chunks have 16 sectors where
nothing else is said. The last column is the decoded disk's length in bytes and SHA-256; what no chunk covers is zeros.

| image | how it was made | decoded disk |
|---|---|---|
%s
In ` + "`containers/`" + ` more is around the disk. The password of all that is encrypted there is ` + "`%s`" + `.

| image | how it was made | decoded disk |
|---|---|---|
%s
` + "`fuzz/`" + ` holds fuzz corpora and inputs that once failed.
`

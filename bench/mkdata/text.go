package main

import (
	"bytes"
	"fmt"
	"html"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// text collects English from the Go tree, in the order of the file names: what
// stands in comments and documents, paragraph by paragraph, each once.
func (m *maker) text() ([]byte, error) {
	t := textCollector{seen: make(map[string]bool)}
	err := filepath.WalkDir(m.goroot, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || len(t.out) >= textSize {
			return err
		}
		return t.file(name)
	})
	if err != nil {
		return nil, err
	}
	if len(t.out) == 0 {
		return nil, fmt.Errorf("no text in %s", m.goroot)
	}
	return repeat(t.out, textSize), nil // once, if the tree has enough
}

var (
	comment   = regexp.MustCompile(`(?m)(?:^[ \t]*//[ \t]?.*\n)+`)
	slashes   = regexp.MustCompile(`(?m)^[ \t]*//[ \t]?`)
	tag       = regexp.MustCompile(`(?s)<[^>]*>`)
	blankLine = regexp.MustCompile(`\n[ \t]*\n`)
)

type textCollector struct {
	seen map[string]bool
	out  []byte
}

// file adds the paragraphs of a file, if it is of a kind that has any.
func (t *textCollector) file(name string) error {
	ext := filepath.Ext(name)
	switch ext {
	case ".go", ".md", ".html", ".txt":
	default:
		return nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	switch ext {
	case ".go":
		for _, c := range comment.FindAll(data, -1) {
			t.paragraphs(slashes.ReplaceAll(c, nil))
		}
	case ".html":
		t.paragraphs([]byte(html.UnescapeString(string(tag.ReplaceAll(data, nil)))))
	default:
		t.paragraphs(data)
	}
	return nil
}

func (t *textCollector) paragraphs(data []byte) {
	for _, p := range blankLine.Split(string(data), -1) {
		if isEnglish(p) && !t.seen[p] {
			t.seen[p] = true
			t.out = append(append(t.out, p...), "\n\n"...)
		}
	}
}

// isEnglish tells prose from tables, code and numbers: by its length, and by
// how many of its characters are the five that are most frequent in English.
func isEnglish(p string) bool {
	if len(p) < 60 {
		return false
	}
	frequent := 0
	for _, c := range []string{"e", "t", "a", "o", " "} {
		frequent += bytes.Count([]byte(p), []byte(c))
	}
	return 16*frequent > 5*len(p)
}

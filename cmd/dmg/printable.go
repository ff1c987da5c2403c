package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Names in an image are untrusted, and so are errors that quote them. Control
// characters command a terminal, others turn the direction of the text around them
// or can't be seen. All that a command prints of such a text goes through printable,
// oneLine or escapeJSON.

// isPrintable reports whether a character can be shown as it is. Format characters
// (Cf), controls (Cc), separators other than the space, and what has no assigned
// meaning can't; neither can letters and marks that are drawn as nothing.
func isPrintable(r rune) bool {
	return unicode.IsPrint(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// printable is s with all escaped that is not to be printed.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case isPrintable(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xFFFF:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// oneLine is an error's text without the package's name, which every line on
// standard error begins with anyway, and with joined errors on one line.
func oneLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		line = strings.TrimPrefix(line, "dmg: ")
		lines[i] = strings.ReplaceAll(line, ": dmg: ", ": ")
	}
	return printable(strings.Join(lines, "; "))
}

// writeJSON writes v as a line of JSON in which nothing is raw that printable escapes. All
// such characters are in strings, and an escaped one has the same value there.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // names have ampersands, and this is no web page
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeJSON(b.String()))
	return err
}

// escapeJSON escapes in JSON what printable escapes.
func escapeJSON(text string) string {
	var escaped strings.Builder
	for _, r := range text {
		switch high, low := utf16.EncodeRune(r); {
		case r == '\n' || isPrintable(r):
			escaped.WriteRune(r)
		case high == utf8.RuneError:
			fmt.Fprintf(&escaped, `\u%04x`, r)
		default:
			fmt.Fprintf(&escaped, `\u%04x\u%04x`, high, low)
		}
	}
	return escaped.String()
}

package hfsplus

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/internal/vfs"
)

// Names are stored as UTF-16, decomposed, and given out as UTF-8, composed. (In HFS
// they are composed, as all accented characters of Mac OS Roman are.) A slash
// of a stored name is a colon in a path, as macOS has it.

// maxName is the length of the longest name, in UTF-16 units.
const maxName = 255

// asGiven is a normalization form: none.
const asGiven norm.Form = -1

// encodeName turns a name in a path into what a volume stores in a form, big-endian.
func encodeName(name string, form norm.Form) []byte {
	if name == vfs.Empty {
		return []byte{}
	}
	return encode(strings.ReplaceAll(name, ":", "/"), form)
}

// encode turns UTF-8 with escapes into UTF-16.
func encode(s string, form norm.Form) []byte {
	units := make([]byte, 0, 2*len(s))
	for {
		before, unit, after, escape := vfs.CutEscape(s)
		if form != asGiven {
			before = normalize(form, before)
		}
		for _, r := range before {
			units = appendRune(units, r)
		}
		if !escape {
			return units
		}
		units = be.AppendUint16(units, unit)
		s = after
	}
}

func appendRune(units []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return be.AppendUint16(be.AppendUint16(units, uint16(high)), uint16(low))
	}
	return be.AppendUint16(units, uint16(r))
}

// normalize brings a name into a form, except for the characters that Apple's
// volume format leaves alone.
func normalize(form norm.Form, s string) string {
	if isASCII(s) {
		return s
	}
	kept := strings.IndexFunc(s, isKept)
	if kept < 0 {
		return form.String(s)
	}
	var b strings.Builder
	for ; kept >= 0; kept = strings.IndexFunc(s, isKept) {
		b.WriteString(form.String(s[:kept]))
		_, size := utf8.DecodeRuneInString(s[kept:])
		b.WriteString(s[kept : kept+size])
		s = s[kept+size:]
	}
	b.WriteString(form.String(s))
	return b.String()
}

// isKept reports whether HFS+ never decomposes a character: TN1150, "Unicode
// Subtleties".
func isKept(r rune) bool {
	return r >= 0x2000 && r <= 0x2FFF || r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FAFF
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// decodeName turns a stored name into one for a path. If exact is true, encodeName
// returns the stored name for it. Else it is not certain whose name it is: the
// volume doesn't store it in the form that macOS gives it.
func decodeName(units []byte, form norm.Form) (name string, exact bool) {
	if name, ok := decodeASCII(units); ok {
		return name, true
	}
	name = normalize(norm.NFC, colons(decode(units, isForbidden)))
	switch name {
	case "":
		return vfs.Empty, true
	case vfs.Empty, ".", "..":
		return decode(units, func(uint16) bool { return true }), true
	}
	return name, string(encodeName(name, form)) == string(units)
}

// colons is what slashes become. Stored colons are escaped.
func colons(name string) string { return strings.ReplaceAll(name, "/", ":") }

// decodeASCII decodes names as nearly all are.
func decodeASCII(units []byte) (string, bool) {
	if len(units) == 0 || len(units) > 2*maxName {
		return "", false
	}
	var buf [maxName]byte
	for i := 0; i < len(units); i += 2 {
		c := units[i+1]
		if units[i] != 0 || c >= utf8.RuneSelf || c == '%' || isForbidden(uint16(c)) {
			return "", false
		}
		if c == '/' {
			c = ':'
		}
		buf[i/2] = c
	}
	name := string(buf[:len(units)/2])
	return name, name != "." && name != ".."
}

// escapeName decodes a name such that it is no other's: all that isn't ASCII is
// escaped.
func escapeName(units []byte) string {
	return colons(decode(units, func(u uint16) bool { return isForbidden(u) || u >= utf8.RuneSelf }))
}

// isForbidden reports whether a path can't have a unit: a NUL, a backslash, or a
// colon, which stands for a slash.
func isForbidden(u uint16) bool { return u == 0 || u == '\\' || u == ':' }

// decode turns UTF-16 into UTF-8. It escapes halves of surrogate pairs, what looks
// like an escape, and those units that escape returns true for.
func decode(units []byte, escape func(uint16) bool) string {
	dst := make([]byte, 0, len(units))
	for ; len(units) >= 2; units = units[2:] {
		u := be.Uint16(units)
		if utf16.IsSurrogate(rune(u)) && len(units) >= 4 && !escape(u) {
			if r := utf16.DecodeRune(rune(u), rune(be.Uint16(units[2:]))); r != utf8.RuneError {
				dst = utf8.AppendRune(dst, r)
				units = units[2:]
				continue
			}
		}
		if utf16.IsSurrogate(rune(u)) || escape(u) || looksEscaped(units) {
			dst = vfs.AppendEscape(dst, u)
		} else {
			dst = utf8.AppendRune(dst, rune(u))
		}
	}
	return string(dst)
}

// looksEscaped reports whether units begin as an escape does.
func looksEscaped(units []byte) bool {
	if len(units) < 2*len("%u0000") || be.Uint16(units) != '%' {
		return false
	}
	var text [6]byte
	for i := range text {
		if units[2*i] != 0 {
			return false
		}
		text[i] = units[2*i+1]
	}
	before, _, _, found := vfs.CutEscape(string(text[:]))
	return found && before == ""
}

package vfs

import (
	"io/fs"
	"strconv"
	"strings"
)

// Volumes hold names that io/fs can't express, such as "..", or one with a NUL or
// with half a surrogate pair. These are given out with escapes: "%u" and four upper
// case hexadecimal digits stand for one unit of the name as the volume stores it, a
// UTF-16 code unit or a byte. A name that looks escaped on the volume is given out
// with its percent sign escaped. So no two names become the same one.

// Empty is how a name of length 0 is given out.
const Empty = "%u"

// IsPlain reports whether a name can be given out without escapes.
func IsPlain(name string) bool {
	if name == Empty || name == "." || !fs.ValidPath(name) || strings.ContainsAny(name, "/\\\x00") {
		return false
	}
	_, _, _, found := CutEscape(name)
	return !found
}

// AppendEscape appends the escape of a unit.
func AppendEscape(dst []byte, unit uint16) []byte {
	const digits = "0123456789ABCDEF"
	return append(dst, '%', 'u', digits[unit>>12], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
}

// CutEscape cuts a name around its first escape.
func CutEscape(name string) (before string, unit uint16, after string, found bool) {
	for i := 0; ; i += 2 {
		j := strings.Index(name[i:], "%u")
		if j < 0 {
			return name, 0, "", false
		}
		if i += j; len(name) >= i+6 && isHex(name[i+2:i+6]) {
			u, _ := strconv.ParseUint(name[i+2:i+6], 16, 16)
			return name[:i], uint16(u), name[i+6:], true
		}
	}
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

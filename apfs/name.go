package apfs

import (
	"hash/crc32"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/internal/vfs"
)

// naming is how a volume compares names.
type naming struct {
	// hashed means that names which look alike are the same, and that directory entries
	// are found by a hash. Volumes without it compare names byte by byte.
	hashed bool
	fold   bool // case does not matter
}

// canonical returns the form in which names are compared and hashed: NFD; and where case
// does not matter, the canonical caseless form, which is D145 in chapter 3 of the Unicode
// standard.
//
// The tables need not be those with which a volume was written. macOS refuses to create a
// name with a character that its version of Unicode doesn't have; it began with 9.0 and has
// gone on since. Unicode promises that the forms of a character's first version are those
// of all later ones. So only names with characters newer than the tables here may have
// another form on a Mac; lookup takes care of them.
func (nm naming) canonical(name string) string {
	if !nm.hashed {
		return name
	}
	ascii, upper := true, false
	for i := range len(name) {
		ascii = ascii && name[i] < utf8.RuneSelf
		upper = upper || 'A' <= name[i] && name[i] <= 'Z'
	}
	switch {
	case ascii && (!nm.fold || !upper):
		return name
	case ascii:
		return strings.ToLower(name)
	case !nm.fold:
		return norm.NFD.String(name)
	}
	folded := make([]rune, 0, len(name))
	for _, r := range norm.NFD.String(name) {
		folded = appendFold(folded, r)
	}
	return norm.NFD.String(string(folded))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hash returns the 22 bits by which a directory finds a name in canonical form: CRC-32C of
// its UTF-32, without the inversion at the end.
func hash(canonical string) uint32 {
	buf := make([]byte, 0, 512)
	for _, r := range canonical {
		buf = le.AppendUint32(buf, uint32(r))
	}
	return ^crc32.Checksum(buf, castagnoli) & (1<<22 - 1)
}

// given returns a stored name as the volume gives it out: in NFC where the volume doesn't
// tell the forms apart, and with escapes where io/fs has no way to say it. Macs write no
// name that needs any.
func (nm naming) given(name string) string {
	if nm.hashed {
		name = norm.NFC.String(name)
	}
	if utf8.ValidString(name) && vfs.IsPlain(name) {
		return name
	}
	if name == "" {
		return vfs.Empty
	}
	var out []byte
	whole := name == "." || name == ".." || name == vfs.Empty // the name, not a byte of it, says something else
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if _, _, _, escape := vfs.CutEscape(name[i:min(i+6, len(name))]); escape && name[i] == '%' || whole || r == utf8.RuneError && n == 1 || r == '/' || r == '\\' || r == 0 {
			out = vfs.AppendEscape(out, uint16(name[i]))
			i++
			continue
		}
		out = append(out, name[i:i+n]...)
		i += n
	}
	return string(out)
}

// stored undoes the escapes of given.
func stored(given string) string {
	if given == vfs.Empty {
		return ""
	}
	before, unit, after, found := vfs.CutEscape(given)
	if !found {
		return given
	}
	out := []byte(before)
	for found {
		if unit > 0xFF {
			return given // no escape of a byte: nothing has this name
		}
		out = append(out, byte(unit))
		before, unit, after, found = vfs.CutEscape(after)
		out = append(out, before...)
	}
	return string(out)
}

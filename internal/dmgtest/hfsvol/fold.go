package hfsvol

import (
	"cmp"
	"fmt"
	"unicode"
)

// fold maps a unit of a name as HFS+ does for comparison; 0 means that the unit is
// left out. It knows the scripts that tests use, and panics at a unit of another
// script that has lower case.
func fold(u uint16) uint16 {
	switch {
	case u == 0:
		return 0xFFFF
	case u >= 0x200C && u <= 0x200F, u >= 0x202A && u <= 0x202E, u >= 0x206A && u <= 0x206F, u == 0xFEFF:
		return 0
	case u >= 'A' && u <= 'Z', u == 0xC6, u == 0xD0, u == 0xD8, u == 0xDE, // Latin
		u >= 0x391 && u <= 0x3A9, // Greek
		u >= 0x410 && u <= 0x42F: // Cyrillic
		return u + 32
	case u >= 0x10A0 && u <= 0x10C5: // Georgian
		return u + 48
	case u < 0x80, u >= 0xD800 && u < 0xE000,
		u == 0xC5, u == 0x212B: // they have a decomposition
		return u
	case unicode.ToLower(rune(u)) != rune(u):
		panic(fmt.Sprintf("hfsvol: case folding of U+%04X is not known here", u))
	}
	return u
}

// compareNames orders names in a folder.
func compareNames(a, b []uint16, binary bool) int {
	if binary {
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				return cmp.Compare(a[i], b[i])
			}
		}
		return cmp.Compare(len(a), len(b))
	}
	for {
		var x, y uint16
		x, a = nextFolded(a)
		y, b = nextFolded(b)
		if x != y || x == 0 {
			return cmp.Compare(x, y)
		}
	}
}

// nextFolded returns the first folded unit that is not left out, or 0 at the end.
func nextFolded(a []uint16) (uint16, []uint16) {
	for len(a) > 0 {
		u := fold(a[0])
		a = a[1:]
		if u != 0 {
			return u, a
		}
	}
	return 0, nil
}

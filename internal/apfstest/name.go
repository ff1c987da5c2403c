package apfstest

import (
	"hash/crc32"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// NameHash is the hash of a name in a directory entry's key, 22 bits. It folds by another
// table than the reader.
func NameHash(name string, fold bool) uint32 {
	name = norm.NFD.String(name)
	if fold {
		folded, folder := "", cases.Fold()
		for _, r := range name {
			if '\u13A0' <= r && r <= '\u13F5' {
				folded += string(r) // the package gets Cherokee the wrong way round
			} else {
				folded += folder.String(string(r))
			}
		}
		name = norm.NFD.String(folded)
	}
	crc := uint32(0)
	crc = ^crc
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, r := range name {
		for shift := 0; shift < 32; shift += 8 {
			crc = table[byte(crc)^byte(r>>shift)] ^ crc>>8
		}
	}
	return crc & 0x3FFFFF
}

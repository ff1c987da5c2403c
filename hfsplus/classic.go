package hfsplus

import (
	"bytes"
	"cmp"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// HFS, the file system before HFS+ (Inside Macintosh: Files, chapter 2). Its trees
// have the same nodes with shorter keys and records. Each node is turned into one of
// HFS+ when it is read, so that all else is the same for both.

// classicNodeSize is the size of all nodes, in bytes.
const classicNodeSize = 512

// openClassic is openVolume for HFS.
func (v *volume) openClassic(mdb []byte) (*volume, error) {
	err := v.parseMDB(mdb)
	if err == nil {
		return v, nil
	}
	if at := v.size - headerOffset; at >= headerOffset+headerLen {
		if err := readFull(v.r, mdb, at); err != nil {
			return nil, err
		}
		if be.Uint16(mdb) == sigHFS && v.parseMDB(mdb) == nil {
			return v, nil
		}
	}
	return nil, err
}

// parseMDB decodes a master directory block, which is the volume header of HFS.
func (v *volume) parseMDB(b []byte) error {
	v.kind = HFS
	v.block, v.blocks = int64(be.Uint32(b[0x14:])), uint32(be.Uint16(b[0x12:]))
	if v.block == 0 || v.block%512 != 0 {
		return formatError("master directory block", headerOffset, "blocks of %d bytes", v.block)
	}
	v.first = int64(be.Uint16(b[0x1C:])) * 512
	v.attributes = uint32(be.Uint16(b[0x0A:])) & attrUnmounted
	v.created, v.modified, v.backedUp = be.Uint32(b[2:]), be.Uint32(b[6:]), be.Uint32(b[0x40:])
	v.files, v.folders, v.free = be.Uint32(b[0x54:]), be.Uint32(b[0x58:]), uint32(be.Uint16(b[0x22:]))
	copy(v.finderInfo[:], b[0x5C:])
	v.extents = forkData{size: uint64(be.Uint32(b[0x82:])), extents: classicExtents(b[0x86:])}
	v.catalog = forkData{size: uint64(be.Uint32(b[0x92:])), extents: classicExtents(b[0x96:])}
	return nil
}

// classicExtents decodes the three extents of a record.
func classicExtents(b []byte) (e extents) {
	for i := range 3 {
		e[i] = extent{uint32(be.Uint16(b[4*i:])), uint32(be.Uint16(b[4*i+2:]))}
	}
	return e
}

// appendExtents is the reverse of parseExtents.
func appendExtents(b []byte, e extents) []byte {
	for _, x := range e {
		b = be.AppendUint32(be.AppendUint32(b, x.start), x.count)
	}
	return b
}

// A classicKind is how the keys and the data of a tree of HFS become those of HFS+.
type classicKind struct {
	valid func(key []byte) bool
	key   func(key []byte) []byte
	data  func(data []byte) []byte // of a leaf's record; nil if it is none
}

var classicCatalog = classicKind{
	valid: func(key []byte) bool { return len(key) >= 6 && 6+int(key[5]) <= len(key) },
	key: func(key []byte) []byte {
		return catalogKey(be.Uint32(key[1:]), fromRoman(key[6:6+int(key[5])]))
	},
	data: classicRecord,
}

var classicExtentsTree = classicKind{
	valid: func(key []byte) bool { return len(key) >= 7 },
	key: func(key []byte) []byte {
		return extentsKey(key[0], be.Uint32(key[1:]), uint32(be.Uint16(key[5:])))
	},
	data: func(data []byte) []byte {
		if len(data) < 12 {
			return nil
		}
		return appendExtents(nil, classicExtents(data))
	},
}

// classicRecord turns a record of the catalog into that of HFS+. A record that is
// too short becomes one that is too short.
func classicRecord(b []byte) []byte {
	kind := uint8(0)
	if len(b) > 0 {
		kind = b[0]
	}
	out := make([]byte, 0, fileRecordLen)
	out = append(out, 0, kind)
	switch {
	case kind == folderRecord && len(b) >= 70:
		out = out[:folderRecordLen]
		putClassicDates(out, b[6:], b[10:], b[14:], b[18:])
		copy(out[48:64], b[22:])
		copy(out[64:80], b[38:])
	case kind == fileRecord && len(b) >= 102:
		out = out[:fileRecordLen]
		putClassicDates(out, b[20:], b[44:], b[48:], b[52:])
		if b[2]&1 != 0 { // locked
			out[41] = flagImmutable
		}
		copy(out[48:64], b[4:])
		copy(out[64:80], b[56:])
		be.PutUint64(out[88:], uint64(be.Uint32(b[26:])))
		appendExtents(out[:104], classicExtents(b[74:]))
		be.PutUint64(out[168:], uint64(be.Uint32(b[36:])))
		appendExtents(out[:184], classicExtents(b[86:]))
	case (kind == folderThread || kind == fileThread) && len(b) >= 15 && 15+int(b[14]) <= len(b):
		units := fromRoman(b[15 : 15+int(b[14])])
		out = append(out, 0, 0)
		out = append(out, b[10:14]...)
		out = be.AppendUint16(out, uint16(len(units)/2))
		out = append(out, units...)
	}
	return out
}

// putClassicDates copies the identifier, and the dates of creation, modification and
// backup.
func putClassicDates(out, id, created, modified, backedUp []byte) {
	copy(out[8:12], id)
	copy(out[12:16], created)
	copy(out[16:20], modified)
	copy(out[28:32], backedUp)
}

// convert turns a node, whose records were checked, into one of HFS+.
func (k *classicKind) convert(n *bnode, t *tree) (*bnode, error) {
	data := append(make([]byte, 0, 4*classicNodeSize), n.data[:nodeHeader]...)
	offsets := make([]uint16, 0, n.n+1)
	for i := range n.n {
		offsets = append(offsets, uint16(len(data)))
		key, value := n.record(i)
		key = k.key(key)
		data = be.AppendUint16(data, uint16(len(key)))
		data = append(data, key...)
		if n.height == 1 {
			value = k.data(value)
		}
		data = append(data, value...)
		data = append(data, make([]byte, len(data)&1)...)
	}
	offsets = append(offsets, uint16(len(data)))
	for i := range offsets {
		data = be.AppendUint16(data, offsets[len(offsets)-1-i])
	}
	n = &bnode{data: data, number: n.number, t: t}
	return n, n.check()
}

// fromRoman turns a name in Mac OS Roman into UTF-16.
func fromRoman(name []byte) []byte {
	units := make([]byte, 0, 2*len(name))
	for _, c := range name {
		units = appendRune(units, charmap.Macintosh.DecodeByte(c))
	}
	return units
}

// romanOrder is the order in which HFS has names, that of the system's RelString
// routine (Inside Macintosh: Text, chapter 5). The characters of a word are equal.
// Control characters come before them. All others follow, in the order of Mac OS
// Roman. The catalogs of HFS samples are in this order.
const romanOrder = `! " “ ” « » # $ % & ' ‘ ’ ( ) * + , - . / 0 1 2 3 4 5 6 7 8 9 : ; < = > ? @ ` +
	"Aa àÀ Ää ãÃ Åå Ææ ` á â ª Bb Cc Çç Dd Ee Éé è ê ë Ff Gg Hh Ii í ì î ï Jj Kk Ll Mm " +
	"Nn Ññ Oo Öö õÕ Øø Œœ ó ò ô º Pp Qq Rr Ss ß Tt Uu Üü ú ù û Vv Ww Xx Yy ÿ Zz"

// romanRanks returns the places of units in romanOrder.
var romanRanks = sync.OnceValue(func() map[uint16]int {
	ranks := map[uint16]int{' ': 1, 0xA0: 1}
	for i, word := range strings.Fields(romanOrder) {
		for _, r := range word {
			ranks[uint16(r)] = 2 + i
		}
	}
	for c := range 256 {
		u := uint16(charmap.Macintosh.DecodeByte(byte(c)))
		if _, ok := ranks[u]; !ok && c < ' ' {
			ranks[u] = c - ' '
		} else if !ok {
			ranks[u] = 1000 + c
		}
	}
	return ranks
})

// compareRoman is the order of HFS, for keys that have become HFS+'s. Units that Mac
// OS Roman doesn't have, which only a name that is looked up can have, come last.
func compareRoman(a, b []byte) int {
	if c := bytes.Compare(a[:4], b[:4]); c != 0 {
		return c
	}
	a, b = keyName(a), keyName(b)
	ranks := romanRanks()
	rank := func(u uint16) int {
		if r, ok := ranks[u]; ok {
			return r
		}
		return utf8.MaxRune + int(u)
	}
	for ; len(a) >= 2 && len(b) >= 2; a, b = a[2:], b[2:] {
		if c := cmp.Compare(rank(be.Uint16(a)), rank(be.Uint16(b))); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

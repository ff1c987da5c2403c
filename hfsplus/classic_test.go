package hfsplus

import (
	"bytes"
	"testing"
)

// classicNode makes a node of HFS of keys and data in turn.
func classicNode(kind int8, height uint8, records ...[]byte) []byte {
	b := make([]byte, classicNodeSize)
	b[8], b[9] = byte(kind), height
	be.PutUint16(b[10:], uint16(len(records)/2))
	at := nodeHeader
	for i := 0; i <= len(records); i += 2 {
		be.PutUint16(b[classicNodeSize-i-2:], uint16(at))
		if i == len(records) {
			break
		}
		b[at] = byte(len(records[i]))
		at += 1 + copy(b[at+1:], records[i])
		at += at & 1
		at += copy(b[at:], records[i+1])
		at += at & 1
	}
	return b
}

// TestClassicOrder compares names as HFS sorts them.
func TestClassicOrder(t *testing.T) {
	names := []string{"", "\x01", " ", "a b", "a!", "a\"", "a#", "aa", "\xCBb", "\x80b", "\x87", "Ba", "bb", "Z", "[", "_", "{", "\xA0", "\xFF"}
	for i, a := range names {
		for j, b := range names {
			x, y := catalogKey(1, fromRoman([]byte(a))), catalogKey(1, fromRoman([]byte(b)))
			if c := compareRoman(x, y); c < 0 != (i < j) || c == 0 != (i == j) {
				t.Errorf("%q, %q: %d", a, b, c)
			}
		}
	}
	for _, same := range [][2]string{{"README", "readme"}, {"\x80", "\x8A"}, {"a\xCAb", "a b"}, {"\xCF", "\xCE"}} {
		x, y := catalogKey(1, fromRoman([]byte(same[0]))), catalogKey(1, fromRoman([]byte(same[1])))
		if c := compareRoman(x, y); c != 0 {
			t.Errorf("%q: %d", same, c)
		}
	}
	unknown := catalogKey(1, encode("\u4e00", asGiven))
	if x := catalogKey(1, fromRoman([]byte{0xFF})); compareRoman(x, unknown) >= 0 || compareRoman(unknown, x) <= 0 {
		t.Error("what Mac OS Roman doesn't have is not last")
	}
}

// FuzzClassicNode reads any bytes as a node of HFS. What becomes of it is a sound
// node of HFS+.
func FuzzClassicNode(f *testing.F) {
	file := make([]byte, 102)
	file[0] = fileRecord
	folder := make([]byte, 70)
	folder[0] = folderRecord
	thread := append([]byte{folderThread, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4}, "name"...)
	f.Add(true, classicNode(-1, 1, []byte("\x00\x00\x00\x00\x02\x00"), thread, []byte("\x00\x00\x00\x00\x02\x03abc"), file, []byte("\x00\x00\x00\x00\x02\x03b\x8Ec"), folder))
	f.Add(true, classicNode(0, 2, append([]byte("\x00\x00\x00\x00\x02\x03abc"), make([]byte, 28)...), []byte{0, 0, 0, 1}))
	f.Add(false, classicNode(-1, 1, []byte("\x00\x00\x00\x00\x10\x00\x05"), make([]byte, 12), []byte("\xFF\x00\x00\x00\x10\x00\x05"), make([]byte, 12)))
	v := &volume{block: 512}
	f.Fuzz(func(t *testing.T, catalog bool, data []byte) {
		kind := keyKind{classic: &classicExtentsTree, valid: validExtentsKey, compare: compareExtents}
		stored := &tree{fork: v.newFork(forkData{}, nil), nodeSize: classicNodeSize, maxKey: 7}
		if catalog {
			kind = keyKind{classic: &classicCatalog, valid: validCatalogKey, compare: compareRoman}
			stored.maxKey = 37
		}
		stored.keys = keyKind{short: true, valid: kind.classic.valid}
		n := &bnode{data: append(bytes.Clone(data), make([]byte, classicNodeSize)...)[:classicNodeSize], t: stored}
		err := n.check()
		if err == nil {
			n, err = kind.classic.convert(n, &tree{fork: stored.fork, keys: kind, nodeSize: classicNodeSize, varKeys: true})
		}
		if err != nil {
			if !isFormat(err) {
				t.Error(err)
			}
			return
		}
		if n.n != int(be.Uint16(data[10:])) || len(n.data) > 8*classicNodeSize {
			t.Errorf("%d records in %d bytes", n.n, len(n.data))
		}
		for i := range n.n {
			key, value := n.record(i)
			if !kind.valid(key) || catalog && n.height == 1 && recordLen(value) > len(value) && len(value) > 2 {
				t.Errorf("record %d: key %x, data %x", i, key, value)
			}
			if j := n.search(key); j > i {
				t.Errorf("record %d is found at %d", i, j)
			}
		}
	})
}

package appinfo

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// binaryMagic begins a binary property list, as CFBinaryPList.c in Apple's CoreFoundation has
// it: objects, a table of their offsets, and a trailer of 32 bytes. Numbers are big-endian.
const binaryMagic = "bplist0"

var errBinary = errors.New("damaged binary property list")

// binaryList is a list whose table has been found to be in it.
type binaryList struct {
	b       []byte
	table   []byte
	offSize int
	refSize int
	count   uint64
}

// parseBinary returns the texts and whole numbers that a list's dictionary has for some keys. It
// looks at nothing else, so that it does not recurse: a list may contain itself.
func parseBinary(b []byte, keys []string) (map[string]string, error) {
	const trailerLen = 32
	if len(b) < len(binaryMagic)+1+trailerLen {
		return nil, errBinary
	}
	t := b[len(b)-trailerLen:]
	l := binaryList{b: b[:len(b)-trailerLen], offSize: int(t[6]), refSize: int(t[7]), count: binary.BigEndian.Uint64(t[8:])}
	top, at := binary.BigEndian.Uint64(t[16:]), binary.BigEndian.Uint64(t[24:])
	if l.offSize < 1 || l.offSize > 8 || l.refSize < 1 || l.refSize > 8 || at > uint64(len(l.b)) || l.count > (uint64(len(l.b))-at)/uint64(l.offSize) {
		return nil, errBinary
	}
	l.table = l.b[at:]
	dict, n, ok := l.object(top, 0xD)
	if !ok || n > uint64(len(dict)/(2*l.refSize)) {
		return nil, errBinary
	}
	info := make(map[string]string)
	for i := range int(n) {
		k, ok := l.text(number(dict[i*l.refSize:][:l.refSize]))
		if !ok || !slices.Contains(keys, k) {
			continue
		}
		if v, ok := l.text(number(dict[(int(n)+i)*l.refSize:][:l.refSize])); ok {
			info[k] = strings.TrimSpace(v)
		}
	}
	return info, nil
}

// number reads a number of up to eight bytes.
func number(b []byte) uint64 {
	v := uint64(0)
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// object returns an object's content and everything behind it, and the count in its head, if it
// is of the type.
func (l *binaryList) object(ref uint64, kind byte) (content []byte, n uint64, ok bool) {
	if ref >= l.count {
		return nil, 0, false
	}
	at := number(l.table[int(ref)*l.offSize:][:l.offSize])
	if at >= uint64(len(l.b)) || l.b[at]>>4 != kind {
		return nil, 0, false
	}
	content, n = l.b[at+1:], uint64(l.b[at]&0xF)
	if n == 0xF && kind != 1 { // the count is an integer of its own
		if len(content) == 0 || content[0]>>4 != 1 {
			return nil, 0, false
		}
		size := 1 << (content[0] & 0xF)
		if size > 8 || size > len(content)-1 {
			return nil, 0, false
		}
		n, content = number(content[1:1+size]), content[1+size:]
	}
	return content, n, true
}

// text returns a string, or an integer as one.
func (l *binaryList) text(ref uint64) (string, bool) {
	if b, n, ok := l.object(ref, 5); ok && n <= uint64(len(b)) {
		return string(b[:n]), true
	}
	if b, n, ok := l.object(ref, 6); ok && n <= uint64(len(b)/2) {
		units := make([]uint16, n)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(b[2*i:])
		}
		return string(utf16.Decode(units)), true
	}
	if b, n, ok := l.object(ref, 1); ok && n <= 3 && 1<<n <= len(b) {
		return strconv.FormatInt(int64(number(b[:1<<n])), 10), true
	}
	return "", false
}

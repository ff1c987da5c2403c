package plistguard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Lenient returns a document that Check accepts as a strict decoder takes it: in
// UTF-8, of XML 1.0, and with question marks for what is no character in XML. A wrong
// name is not worth an image. It writes to xml.
//
// UTF-16, ISO 8859-1, Windows-1252 and Mac OS Roman are decoded. A document in any
// other encoding is taken for UTF-8: its markup is ASCII, and its names are lost.
func Lenient(xml []byte) ([]byte, error) {
	xml = UTF8(xml)
	if err := Check(xml); err != nil {
		return nil, err
	}
	c := cleaner{in: bytes.TrimPrefix(xml, []byte(byteOrderMark))}
	c.high = charsets[blankDeclaration(c.in)]
	xml = c.clean()
	// It may be longer now, and a byte that was replaced may have been in a tag.
	return xml, Check(xml)
}

const byteOrderMark = "\xEF\xBB\xBF"

// UTF8 returns a document in UTF-16 in UTF-8, and any other as it is. Whether it is in
// UTF-16 is seen at its first bytes, as XML's appendix F says.
func UTF8(xml []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(xml, []byte("\xFE\xFF")), bytes.HasPrefix(xml, []byte("\x00<")):
		order = binary.BigEndian
	case bytes.HasPrefix(xml, []byte("\xFF\xFE")), bytes.HasPrefix(xml, []byte("<\x00")):
		order = binary.LittleEndian
	default:
		return xml
	}
	out := make([]byte, 0, len(xml)/2+utf8.UTFMax)
	for len(xml) > 1 {
		r := rune(order.Uint16(xml))
		xml = xml[2:]
		if utf16.IsSurrogate(r) && len(xml) > 1 {
			if pair := utf16.DecodeRune(r, rune(order.Uint16(xml))); pair != utf8.RuneError {
				r, xml = pair, xml[2:]
			}
		}
		out = utf8.AppendRune(out, r) // of half a pair it makes U+FFFD
	}
	return out
}

// blankDeclaration overwrites what the XML declaration says, if there is one, with
// spaces, and returns the encoding that it names as letters and digits in lower case.
// The declaration stays, so that the document goes on beginning as XML does.
func blankDeclaration(xml []byte) string {
	start := bytes.TrimLeft(xml, " \t\r\n")
	end := bytes.Index(start, []byte("?>"))
	if !bytes.HasPrefix(start, []byte("<?xml")) || end < len("<?xml") {
		return ""
	}
	content := start[len("<?xml"):end]
	_, after, found := bytes.Cut(content, []byte("encoding"))
	var name []byte
	after = bytes.TrimLeft(after, " \t\r\n=")
	if found && len(after) > 0 && (after[0] == '"' || after[0] == '\'') {
		value, _, _ := bytes.Cut(after[1:], after[:1])
		for _, c := range bytes.ToLower(value) {
			if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
				name = append(name, c)
			}
		}
	}
	for i := range content {
		content[i] = ' '
	}
	return string(name)
}

// charset is what the bytes from 0x80 on stand for.
type charset *[128]rune

// charsets are encodings by their names. UTF-8 is not among them, nor is ASCII, whose
// writers mean UTF-8.
var charsets = map[string]charset{
	"iso88591": latin1, "latin1": latin1, "l1": latin1, "iso885911987": latin1,
	"windows1252": windows1252, "cp1252": windows1252,
	"macroman": macRoman, "xmacroman": macRoman, "macintosh": macRoman, "xmacintosh": macRoman, "mac": macRoman,
}

var (
	latin1      = charsetOf("")
	windows1252 = charsetOf("\u20ac\u0081\u201aƒ\u201e…\u2020\u2021ˆ\u2030Š\u2039Œ\u008dŽ\u008f\u0090‘’“”•–—˜\u2122š\u203aœ\u009džŸ")
	macRoman    = charsetOf("ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü\u2020°¢£§•¶ß®©\u2122´¨\u2260ÆØ\u221e±\u2264\u2265¥µ\u2202\u2211\u220fπ\u222bªºΩæø¿¡¬\u221aƒ\u2248\u2206«»…\u00a0ÀÃÕŒœ–—“”‘’÷\u25caÿŸ\u2044\u20ac\u2039\u203a\ufb01\ufb02\u2021·\u201a\u201e\u2030ÂÊÁËÈÍÎÏÌÓÔ\uf8ffÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ")
)

// charsetOf is a character set that begins with the given characters from 0x80 on, and
// goes on as Unicode does.
func charsetOf(characters string) charset {
	var c [128]rune
	for i := range c {
		c[i] = rune(0x80 + i)
	}
	copy(c[:], []rune(characters))
	return &c
}

// MacRoman decodes a name of classic Mac OS. One that is UTF-8 stays: not all that
// write such names know better.
func MacRoman(name []byte) string {
	if utf8.Valid(name) {
		return string(name)
	}
	var out []byte
	for _, c := range name {
		out = appendByte(out, c, macRoman)
	}
	return string(out)
}

func appendByte(out []byte, c byte, high charset) []byte {
	if c < utf8.RuneSelf {
		return append(out, c)
	}
	return utf8.AppendRune(out, high[c-utf8.RuneSelf])
}

// cleaner copies a document.
type cleaner struct {
	in   []byte
	at   int
	out  []byte
	high charset // nil for UTF-8
}

// clean returns the copy, or of one that is too long what makes it so.
func (c *cleaner) clean() []byte {
	c.out = make([]byte, 0, len(c.in)+len(c.in)/16)
	for c.at < len(c.in) && len(c.out) <= MaxLen {
		switch rest := c.in[c.at:]; {
		case rest[0] == '&':
			c.reference()
		case bytes.HasPrefix(rest, []byte("<!--")):
			c.verbatim("-->")
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			c.verbatim("]]>")
		default:
			c.character()
		}
	}
	return c.out
}

// verbatim copies what has no references in it, up to its end.
func (c *cleaner) verbatim(end string) {
	n := bytes.Index(c.in[c.at:], []byte(end))
	if n < 0 {
		n = len(c.in) - c.at
	}
	for end := c.at + n; c.at < end; {
		c.character()
	}
}

// character copies a character, or a question mark for one that XML doesn't allow.
func (c *cleaner) character() {
	b := c.in[c.at]
	switch {
	case b < utf8.RuneSelf:
		c.at++
		if !allowed(rune(b)) {
			b = '?'
		}
		c.out = append(c.out, b)
		return
	case c.high != nil:
		c.at++
		c.out = appendByte(c.out, b, c.high)
		return
	}
	r, n := utf8.DecodeRune(c.in[c.at:])
	if r == utf8.RuneError && n == 1 || !allowed(r) {
		c.out = append(c.out, '?')
	} else {
		c.out = append(c.out, c.in[c.at:c.at+n]...)
	}
	c.at += n
}

// reference copies a reference, or what it stands for if XML has none of it: a
// question mark, or an ampersand that is no reference at all.
func (c *cleaner) reference() {
	const longest = 16
	rest := c.in[c.at+1 : min(len(c.in), c.at+longest)]
	name, _, found := bytes.Cut(rest, []byte(";"))
	number, numeric := bytes.CutPrefix(name, []byte("#"))
	switch {
	case found && numeric && digits(number):
		if r, ok := character(number); ok {
			c.out = fmt.Appendf(c.out, "&#%d;", r)
		} else {
			c.out = append(c.out, '?')
		}
	case found && (string(name) == "amp" || string(name) == "lt" || string(name) == "gt" || string(name) == "quot" || string(name) == "apos"):
		c.out = append(append(append(c.out, '&'), name...), ';')
	default:
		c.out = append(c.out, "&amp;"...)
		c.at++
		return
	}
	c.at += len("&") + len(name) + len(";")
}

// digits reports whether a numeric reference has a number.
func digits(number []byte) bool {
	hex := bytes.HasPrefix(number, []byte("x"))
	number = bytes.TrimPrefix(number, []byte("x"))
	for _, b := range number {
		if !('0' <= b && b <= '9' || hex && ('a' <= b && b <= 'f' || 'A' <= b && b <= 'F')) {
			return false
		}
	}
	return len(number) > 0
}

// character returns the character of a numeric reference, if XML allows it.
func character(number []byte) (rune, bool) {
	base := 10
	if number[0] == 'x' {
		base, number = 16, number[1:]
	}
	n, err := strconv.ParseUint(string(number), base, 21)
	return rune(n), err == nil && allowed(rune(n))
}

// allowed reports whether XML 1.0 allows a character: its section 2.2.
func allowed(r rune) bool {
	switch {
	case r < ' ':
		return r == '\t' || r == '\n' || r == '\r'
	case r < 0xD800:
		return true
	}
	return 0xE000 <= r && r <= 0xFFFD || 0x10000 <= r && r <= utf8.MaxRune
}

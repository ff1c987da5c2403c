package license

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	xenc "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// codePages are the encodings that a document's \ansicpg may name.
var codePages = map[int]xenc.Encoding{
	437: charmap.CodePage437, 850: charmap.CodePage850, 874: charmap.Windows874, 932: japanese.ShiftJIS, 936: simplifiedchinese.GBK,
	949: korean.EUCKR, 950: traditionalchinese.Big5, 1250: charmap.Windows1250, 1251: charmap.Windows1251, 1252: charmap.Windows1252,
	1253: charmap.Windows1253, 1254: charmap.Windows1254, 1255: charmap.Windows1255, 1256: charmap.Windows1256,
	1257: charmap.Windows1257, 1258: charmap.Windows1258, 10000: charmap.Macintosh, 10007: charmap.MacintoshCyrillic,
}

// silent are destinations whose text is none of the document's.
var silent = map[string]bool{
	"fonttbl": true, "colortbl": true, "stylesheet": true, "info": true, "pict": true, "object": true, "header": true, "footer": true,
	"headerl": true, "headerr": true, "headerf": true, "footerl": true, "footerr": true, "footerf": true, "footnote": true, "listtable": true,
	"listoverridetable": true, "xe": true, "tc": true, "themedata": true, "filetbl": true, "revtbl": true,
}

// spoken are control words that stand for text.
var spoken = map[string]string{
	"par": "\n", "line": "\n", "sect": "\n", "page": "\n", "row": "\n", "cell": "\t", "tab": "\t", "emdash": "—", "endash": "–",
	"lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•", "emspace": " ", "enspace": " ",
}

// rtf is a document of rich text (Microsoft's RTF specification) on its way to plain text.
type rtf struct {
	b     []byte
	out   strings.Builder
	bytes []byte // characters of the code page, which may have two bytes
	units []uint16
	page  xenc.Encoding
	skip  int // characters to pass over, which stand for a \u before them
	groups
}

// groups are what braces keep apart.
type groups struct {
	silent bool
	after  int // how many characters stand for a \u
	outer  []group
}

// maxGroups is how many braces may be open.
const maxGroups = 1000

type group struct {
	silent bool
	after  int
}

// rtfText returns the text of a document, without its styles.
func rtfText(b []byte) string {
	r := &rtf{b: b, page: charmap.Windows1252, groups: groups{after: 1}}
	for len(r.b) > 0 {
		c := r.b[0]
		r.b = r.b[1:]
		switch c {
		case '{':
			r.flush()
			if len(r.outer) == maxGroups {
				return r.out.String()
			}
			r.outer = append(r.outer, group{r.silent, r.after})
		case '}':
			r.flush()
			r.skip = 0
			if n := len(r.outer); n > 0 {
				r.silent, r.after = r.outer[n-1].silent, r.outer[n-1].after
				r.outer = r.outer[:n-1]
			}
		case '\\':
			r.control()
		case '\r', '\n', 0:
		default:
			r.character(c)
		}
	}
	r.flush()
	return r.out.String()
}

// character takes a byte of the code page.
func (r *rtf) character(c byte) {
	switch {
	case r.skip > 0:
		r.skip--
	case !r.silent:
		if len(r.units) > 0 {
			r.flush()
		}
		r.bytes = append(r.bytes, c)
	}
}

// say takes text that a control stands for.
func (r *rtf) say(s string) {
	if r.skip > 0 {
		r.skip--
	} else if !r.silent {
		r.flush()
		r.out.WriteString(s)
	}
}

// flush writes the characters that have come together.
func (r *rtf) flush() {
	if len(r.bytes) > 0 {
		s, err := r.page.NewDecoder().Bytes(r.bytes)
		if err != nil {
			s = []byte(string(utf8.RuneError))
		}
		r.out.Write(s)
		r.bytes = r.bytes[:0]
	}
	if len(r.units) > 0 {
		r.out.WriteString(string(utf16.Decode(r.units)))
		r.units = r.units[:0]
	}
}

// control takes what follows a backslash.
func (r *rtf) control() {
	n := 0
	for n < len(r.b) && (r.b[n]|0x20) >= 'a' && (r.b[n]|0x20) <= 'z' {
		n++
	}
	if n == 0 {
		r.symbol()
		return
	}
	word := string(r.b[:n])
	start := n
	if n < len(r.b) && r.b[n] == '-' {
		n++
	}
	for n < len(r.b) && r.b[n] >= '0' && r.b[n] <= '9' {
		n++
	}
	number, err := strconv.Atoi(string(r.b[start:n]))
	if n < len(r.b) && r.b[n] == ' ' {
		n++
	}
	r.b = r.b[n:]
	r.word(word, number, err == nil)
}

// symbol takes a control of one character.
func (r *rtf) symbol() {
	if len(r.b) == 0 {
		return
	}
	c := r.b[0]
	r.b = r.b[1:]
	switch c {
	case '\'':
		if len(r.b) < 2 {
			return
		}
		if v, err := strconv.ParseUint(string(r.b[:2]), 16, 8); err == nil {
			r.character(byte(v))
		}
		r.b = r.b[2:]
	case '*':
		r.silent = true // a destination that not all programs know
	case '\r', '\n':
		r.say("\n")
	case '~':
		r.say("\u00a0")
	case '_':
		r.say("-")
	case '\\', '{', '}':
		r.character(c)
	}
}

// word takes a control word, with its number if it has one.
func (r *rtf) word(word string, number int, numbered bool) {
	switch {
	case silent[word]:
		r.silent = true
	case spoken[word] != "":
		r.say(spoken[word])
	case word == "ansicpg" && codePages[number] != nil:
		r.page = codePages[number]
	case word == "mac":
		r.page = charmap.Macintosh
	case word == "uc" && numbered:
		r.after = max(0, min(number, 16))
	case word == "u" && numbered && !r.silent:
		if len(r.bytes) > 0 {
			r.flush()
		}
		r.units = append(r.units, uint16(number))
		r.skip = r.after
	case word == "bin" && numbered:
		r.b = r.b[min(max(0, number), len(r.b)):]
	}
}

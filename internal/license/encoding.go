package license

import (
	"bytes"
	"strings"
	"unicode/utf8"

	xenc "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

// An encoding is one of the classic Mac OS. It has a table of its own, or one of x/text, which
// may lack a few characters. One that has neither reads only what is ASCII.
type encoding struct {
	name     string
	xtext    xenc.Encoding
	high     []rune // of the bytes from 0x80 on
	twoBytes bool
}

const utf8Name = "UTF-8"

var (
	roman      = encoding{name: "MacRoman", xtext: charmap.Macintosh}
	centralEur = encoding{name: "MacCentralEuropean", high: []rune(macCentralEuropean)}
	cyrillic   = encoding{name: "MacCyrillic", xtext: charmap.MacintoshCyrillic}
	greek      = encoding{name: "MacGreek", high: []rune(macGreek)}
	turkish    = encoding{name: "MacTurkish", high: []rune(macTurkish)}
	icelandic  = encoding{name: "MacIcelandic", high: []rune(macIcelandic)}
	croatian   = encoding{name: "MacCroatian", high: []rune(macCroatian)}
	romanian   = encoding{name: "MacRomanian", high: []rune(macRomanian)}
	arabic     = encoding{name: "MacArabic", high: []rune(macArabic)}
	hebrew     = encoding{name: "MacHebrew"}
	thai       = encoding{name: "MacThai"}
	other      = encoding{name: "unknown"}
	japaneseE  = encoding{name: "MacJapanese", xtext: japanese.ShiftJIS, twoBytes: true}
	koreanE    = encoding{name: "MacKorean", xtext: korean.EUCKR, twoBytes: true}
	simplified = encoding{name: "GB2312", xtext: simplifiedchinese.GBK, twoBytes: true} // GBK has all of GB2312
	big5       = encoding{name: "Big5", xtext: traditionalchinese.Big5, twoBytes: true}
)

// A region is one of the classic Mac OS.
type region struct {
	language string // BCP 47
	encoding encoding
}

// regions are those of Script.h in Apple's Carbon headers, with what they are written in.
var regions = map[int]region{
	0: {"en-US", roman}, 1: {"fr", roman}, 2: {"en-GB", roman}, 3: {"de", roman}, 4: {"it", roman}, 5: {"nl", roman},
	6: {"nl-BE", roman}, 7: {"sv", roman}, 8: {"es", roman}, 9: {"da", roman}, 10: {"pt-PT", roman}, 11: {"fr-CA", roman},
	12: {"nb", roman}, 13: {"he", hebrew}, 14: {"ja", japaneseE}, 15: {"en-AU", roman}, 16: {"ar", arabic}, 17: {"fi", roman},
	18: {"fr-CH", roman}, 19: {"de-CH", roman}, 20: {"el", greek}, 21: {"is", icelandic}, 22: {"mt", roman}, 23: {"el-CY", greek},
	24: {"tr", turkish}, 25: {"hr", croatian}, 33: {"hi", other}, 34: {"ur", arabic}, 35: {"tr", turkish}, 36: {"it-CH", roman},
	37: {"en", roman}, 39: {"ro", romanian}, 40: {"grc", greek}, 41: {"lt", centralEur}, 42: {"pl", centralEur}, 43: {"hu", centralEur},
	44: {"et", centralEur}, 45: {"lv", centralEur}, 46: {"se", other}, 47: {"fo", icelandic}, 48: {"fa", arabic}, 49: {"ru", cyrillic},
	50: {"ga", roman}, 51: {"ko", koreanE}, 52: {"zh-CN", simplified}, 53: {"zh-TW", big5}, 54: {"th", thai}, 56: {"cs", centralEur},
	57: {"sk", centralEur}, 60: {"bn", other}, 61: {"be", cyrillic}, 62: {"uk", cyrillic}, 64: {"el", greek}, 65: {"sr", cyrillic},
	66: {"sl", croatian}, 67: {"mk", cyrillic}, 68: {"hr", croatian}, 70: {"de", roman}, 71: {"pt-BR", roman}, 72: {"bg", cyrillic},
	73: {"ca", roman}, 75: {"gd", roman}, 76: {"gv", roman}, 77: {"br", roman}, 79: {"cy", roman}, 82: {"en-CA", roman},
	84: {"hy", other}, 85: {"ka", other}, 86: {"es-419", roman}, 91: {"fr", roman}, 92: {"de-AT", roman}, 97: {"vi", other},
	98: {"fr-BE", roman}, 100: {"en-SG", roman}, 101: {"nn", roman}, 102: {"af", roman}, 103: {"eo", other}, 107: {"kl", icelandic},
	108: {"en-IE", roman},
}

// encodingOf returns what a region's texts are written in.
func encodingOf(region int, twoBytes bool) encoding {
	r, ok := regions[region]
	switch {
	case !ok && twoBytes:
		return other
	case !ok:
		return roman
	}
	return r.encoding
}

// decode returns a text in UTF-8, and what it was in: makers of images have put UTF-8 there,
// too. Characters that can't be read become U+FFFD.
func (e encoding) decode(b []byte) (text, name string) {
	isUTF8 := utf8.Valid(b) && bytes.ContainsFunc(b, func(r rune) bool { return r >= utf8.RuneSelf })
	if isUTF8 && !e.twoBytes {
		return string(bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))), utf8Name
	}
	var out strings.Builder
	switch {
	case e.xtext != nil:
		s, err := e.xtext.NewDecoder().Bytes(b)
		if isUTF8 && (err != nil || bytes.ContainsRune(s, utf8.RuneError)) {
			return string(b), utf8Name // a text in two bytes is hardly ever UTF-8 by chance, but may be
		}
		return string(s), e.name
	default:
		for _, c := range b {
			switch {
			case c < utf8.RuneSelf:
				out.WriteByte(c)
			case e.high != nil:
				out.WriteRune(e.high[c-utf8.RuneSelf])
			default:
				out.WriteRune(utf8.RuneError)
			}
		}
	}
	return out.String(), e.name
}

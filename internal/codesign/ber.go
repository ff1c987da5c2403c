package codesign

import "errors"

// errBER means that a CMS message is not what ASN.1 allows, or more than this package takes.
var errBER = errors.New("code signature: damaged CMS message")

// Tags of ASN.1, with the bit that says that an element is made of others.
const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagOID      = 0x06
	tagUTCTime  = 0x17
	tagTime     = 0x18
	tagSequence = 0x30
	tagSet      = 0x31
	tagContext0 = 0xA0 // [0], of several
)

// maxNesting is how deep elements of indefinite length may lie in each other.
const maxNesting = 16

// element is an element of ASN.1's basic encoding rules (X.690). The messages that codesign
// makes have indefinite lengths, which encoding/asn1 does not read.
type element struct {
	tag     byte
	full    []byte // with its header, and its end if its length is indefinite
	content []byte
}

// next returns the element that begins b, and what is behind it.
func next(b []byte) (e element, rest []byte, err error) { return nextIn(b, maxNesting) }

func nextIn(b []byte, depth int) (e element, rest []byte, err error) {
	if len(b) < 2 || b[0]&0x1F == 0x1F || depth == 0 { // no tag of CMS has more than a byte
		return element{}, nil, errBER
	}
	e.tag = b[0]
	length, header := int64(b[1]), 2
	switch {
	case b[1] == 0x80 && e.tag&0x20 != 0:
		return indefinite(b, depth)
	case b[1] > 0x84 || b[1] == 0x80 || len(b) < 2+int(b[1]&0x7F) && b[1] > 0x80:
		return element{}, nil, errBER
	case b[1] > 0x80:
		length = 0
		for _, c := range b[2 : 2+b[1]&0x7F] {
			length = length<<8 | int64(c)
		}
		header += int(b[1] & 0x7F)
	}
	if length > int64(len(b)-header) {
		return element{}, nil, errBER
	}
	end := header + int(length)
	e.full, e.content = b[:end], b[header:end]
	return e, b[end:], nil
}

// indefinite returns an element that ends with two zeros behind the elements that it is made
// of.
func indefinite(b []byte, depth int) (e element, rest []byte, err error) {
	rest = b[2:]
	for len(rest) < 2 || rest[0] != 0 || rest[1] != 0 {
		if _, rest, err = nextIn(rest, depth-1); err != nil {
			return element{}, nil, err
		}
	}
	n := len(b) - len(rest)
	return element{b[0], b[:n+2], b[2:n]}, rest[2:], nil
}

// A list is what is left of the elements that another one is made of. After an error it is
// empty, and says so in the end.
type list struct {
	b   []byte
	err error
}

// take takes the next element, which must have the tag.
func (l *list) take(tag byte) element {
	e, ok := l.optional(tag)
	if !ok && l.err == nil {
		l.err = errBER
	}
	return e
}

// optional takes the next element if it has the tag.
func (l *list) optional(tag byte) (element, bool) {
	if l.err != nil || len(l.b) == 0 || l.b[0] != tag {
		return element{}, false
	}
	e, rest, err := next(l.b)
	l.b, l.err = rest, err
	return e, err == nil
}

// any takes the next element, if there is one.
func (l *list) any() (element, bool) {
	if l.err != nil || len(l.b) == 0 {
		return element{}, false
	}
	return l.optional(l.b[0])
}

// in makes a list of what an element is made of, once l has had no error.
func (l *list) in(e element) *list { return &list{e.content, l.err} }

// Package plistguard decides whether an XML property list from an untrusted
// image may be handed to a decoder that recurses and allocates as the document
// tells it to.
//
// It is a scanner, not a parser: it finds the edges of tags, comments, CDATA
// sections, processing instructions and the document type, and counts. Where it
// is laxer than a strict XML decoder (names in end tags, characters in text) the
// decoder fails on what the guard let through, which is harmless: every document
// a strict decoder accepts is divided by both in the same way.
package plistguard

import (
	"bytes"
	"fmt"
)

// MaxLen is the most bytes of XML that Check accepts.
const MaxLen = 4 << 20

// The other limits. Real images stay far below all of them: a block table is one
// <data> element however many chunks it has, so an image of 200,000 chunks has
// about a dozen tags, eight of them nested, and without what is in these elements
// some kilobytes.
const (
	maxDepth = 16      // open elements: a recursive decoder's stack
	maxTags  = 1 << 16 // start tags: a decoder's allocations
	maxTag   = 4 << 10 // bytes of one tag, or of the document type
)

// Error says what is refused and where in the document it is.
type Error struct {
	Offset int64 // in bytes
	Msg    string
}

func (e *Error) Error() string {
	return fmt.Sprintf("property list at %d: %s", e.Offset, e.Msg)
}

// Check reports whether xml can be decoded in bounded stack and memory. It reads
// up to the end of the root element; what follows is ignored, as stored lengths
// may cover a byte or two of junk. An error is an *Error.
//
// The document must be XML in an ASCII superset: a decoder that guesses formats
// would take anything else for a binary or OpenStep property list, whose parsers
// recurse without limit.
func Check(xml []byte) error {
	if len(xml) > MaxLen {
		return &Error{MaxLen, "longer than 4 MiB"}
	}
	s := scanner{data: xml}
	s.pos = len(xml) - len(bytes.TrimLeft(bytes.TrimPrefix(xml, []byte("\xEF\xBB\xBF")), " \t\r\n"))
	if s.pos == len(xml) || xml[s.pos] != '<' {
		return s.fail(s.pos, "not XML")
	}
	for {
		if err := s.next(); err != nil {
			return err
		}
		if s.tags > 0 && s.depth == 0 {
			return nil
		}
	}
}

// scanner walks the document without recursion.
type scanner struct {
	data  []byte
	pos   int // of the next byte to look at
	depth int // elements open
	tags  int // start tags seen
}

func (s *scanner) fail(at int, msg string) error { return &Error{int64(at), msg} }

// next skips text up to the next markup and the markup itself. Text needs no
// look: '<' can't be in it, and entities expand to one character each where no
// document type declares more.
func (s *scanner) next() error {
	i := bytes.IndexByte(s.data[s.pos:], '<')
	if i < 0 {
		return s.fail(len(s.data), "ends inside an element or before the first")
	}
	s.pos += i
	rest := s.data[s.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("<!--")):
		return s.skip("<!--", "-->", "comment")
	case bytes.HasPrefix(rest, []byte("<![CDATA[")):
		return s.skip("<![CDATA[", "]]>", "CDATA section")
	case bytes.HasPrefix(rest, []byte("<?")):
		return s.skip("<?", "?>", "processing instruction")
	case bytes.HasPrefix(rest, []byte("<!DOCTYPE")):
		return s.doctype()
	case bytes.HasPrefix(rest, []byte("<!")):
		return s.fail(s.pos, "a declaration")
	case bytes.HasPrefix(rest, []byte("</")):
		return s.endTag()
	}
	return s.startTag()
}

// skip passes over markup that ends with the first closing mark after its
// opening one. Its content nests nothing.
func (s *scanner) skip(opening, closing, what string) error {
	i := bytes.Index(s.data[s.pos+len(opening):], []byte(closing))
	if i < 0 {
		return s.fail(s.pos, "unfinished "+what)
	}
	s.pos += len(opening) + i + len(closing)
	return nil
}

// doctype accepts the document type Apple's writers put in, an external
// identifier alone. An internal subset could declare entities.
func (s *scanner) doctype() error {
	if s.tags > 0 {
		return s.fail(s.pos, "a document type inside the document")
	}
	end, err := s.tagEnd("[<")
	if err != nil {
		return err
	}
	s.pos = end + 1
	return nil
}

func (s *scanner) startTag() error {
	if s.pos+1 == len(s.data) || !nameStart(s.data[s.pos+1]) {
		return s.fail(s.pos, "a tag without a name")
	}
	end, err := s.tagEnd("<")
	if err != nil {
		return err
	}
	if s.tags++; s.tags > maxTags {
		return s.fail(s.pos, "more than 65536 elements")
	}
	// An empty element nests for a decoder as any other does: it counts while
	// it is looked at.
	if s.depth == maxDepth {
		return s.fail(s.pos, "nested deeper than 16")
	}
	if s.data[end-1] != '/' {
		s.depth++
	}
	s.pos = end + 1
	return nil
}

func (s *scanner) endTag() error {
	end, err := s.tagEnd("<\"'")
	if err != nil {
		return err
	}
	if s.depth == 0 {
		return s.fail(s.pos, "an end tag without its element")
	}
	s.depth--
	s.pos = end + 1
	return nil
}

// tagEnd finds the '>' that ends the tag at pos: one outside quotes, since an
// attribute's value may hold '>'. A byte of refused outside quotes, or '<' inside
// them, ends the document instead.
func (s *scanner) tagEnd(refused string) (int, error) {
	tag := s.data[s.pos:min(len(s.data), s.pos+maxTag)]
	var quote byte
	for i, c := range tag[1:] {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '>':
			return s.pos + 1 + i, nil
		case bytes.IndexByte([]byte(refused), c) >= 0:
			return 0, s.fail(s.pos+1+i, fmt.Sprintf("%q inside a tag", c))
		case c == '"' || c == '\'':
			quote = c
		}
	}
	if len(tag) == maxTag {
		return 0, s.fail(s.pos, "a tag longer than 4 KiB")
	}
	return 0, s.fail(s.pos, "unfinished tag")
}

// nameStart reports whether an element's name can begin with c. Bytes from 0x80
// on are the decoder's to judge.
func nameStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == ':' || c >= 0x80
}

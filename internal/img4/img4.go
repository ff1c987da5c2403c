// Package img4 finds the payload in Apple's firmware files: IM4P, and IMG4 around it. Both
// are ASN.1 in DER. A restore RAM disk is the payload of one.
//
//	SEQUENCE { IA5String "IMG4", the IM4P, … }
//	SEQUENCE { IA5String "IM4P", IA5String type, IA5String description, OCTET STRING payload,
//	           … }
//
// What follows the payload may be, in any order, an OCTET STRING of keys for devices, if the
// payload is encrypted, and a SEQUENCE { INTEGER algorithm, INTEGER size } of its
// compression. docs/FORMAT.md says what was checked.
//
// The package reads a few headers, wherever their lengths lead, and no payload.
package img4

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/readat"
)

// Of DER, ITU-T X.690: tags.
const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagIA5      = 0x16
	tagSequence = 0x30
)

const (
	// HeaderLen is how many bytes of a file Is looks at.
	HeaderLen = 12

	maxHeader = 6 // bytes of an element's tag and length
	maxParts  = 8 // behind the payload, as many are looked at
	nameLen   = 4
)

// FormatError is a file that can't be right.
type FormatError struct {
	Offset int64 // in the file, bytes
	Msg    string
}

func (e *FormatError) Error() string { return fmt.Sprintf("firmware file at %d: %s", e.Offset, e.Msg) }

// Compression is how a payload is stored.
type Compression int

// The compressions that are known.
const (
	None  Compression = iota
	LZFSE             // an LZFSE stream
	LZSS              // with a header that begins with "complzss"
	Other             // of an algorithm that isn't known
)

// Payload is what is in a file.
type Payload struct {
	Layers      []string // that lead to it: IMG4 and IM4P
	Type        string   // four letters, such as "rdsk" of a RAM disk
	Off, Length int64    // in the file, bytes
	Encrypted   bool     // for devices: no password or key of a user's opens it
	Compression Compression
	Size        int64 // to which it is decompressed, 0 if the file doesn't say
}

// Is reports whether a file that begins with b, HeaderLen bytes or all there are, is one.
func Is(b []byte) bool {
	e, ok := parseElement(b, math.MaxInt64)
	if !ok || e.tag != tagSequence || int64(len(b)) < e.off+2+nameLen {
		return false
	}
	b = b[e.off:]
	return b[0] == tagIA5 && b[1] == nameLen && (string(b[2:6]) == "IM4P" || string(b[2:6]) == "IMG4")
}

// Find returns the payload of the file in the first size bytes of r. The error is a
// [*FormatError] or r's own.
func Find(r io.ReaderAt, size int64) (*Payload, error) {
	f := file{r, size}
	head := make([]byte, min(HeaderLen, size))
	if _, err := readat.Full(r, head, 0); err != nil {
		return nil, err
	}
	if !Is(head) {
		return nil, damaged(0, "no IM4P or IMG4")
	}
	outer, err := f.element(0, size, tagSequence)
	if err != nil {
		return nil, err
	}
	p := new(Payload)
	name, at, err := f.text(outer.off, outer.end)
	if err == nil && name == "IMG4" {
		p.Layers = append(p.Layers, name)
		if outer, err = f.element(at, outer.end, tagSequence); err != nil {
			return nil, err
		}
		name, at, err = f.text(outer.off, outer.end)
	}
	switch {
	case err != nil:
		return nil, err
	case name != "IM4P":
		return nil, damaged(outer.off, "%q where IM4P is to be", name)
	}
	p.Layers = append(p.Layers, name)
	if p.Type, at, err = f.text(at, outer.end); err != nil {
		return nil, err
	}
	description, err := f.element(at, outer.end, tagIA5)
	if err != nil {
		return nil, err
	}
	data, err := f.element(description.end, outer.end, tagOctets)
	if err != nil {
		return nil, err
	}
	p.Off, p.Length = data.off, data.end-data.off
	if err := f.rest(p, data.end, outer.end); err != nil {
		return nil, err
	}
	return p, f.look(p)
}

func damaged(off int64, format string, args ...any) error {
	return &FormatError{off, fmt.Sprintf(format, args...)}
}

// file is the file.
type file struct {
	r    io.ReaderAt
	size int64
}

// An element is one of DER's: where its content is.
type element struct {
	tag      byte
	off, end int64
}

// parseElement reads the header that b begins with, of an element that ends before end. Of
// an element in b, off and end count from b's start.
func parseElement(b []byte, end int64) (element, bool) {
	if len(b) < 2 {
		return element{}, false
	}
	e := element{tag: b[0], off: 2}
	n := int64(b[1])
	if more := int(b[1]) - 0x80; more >= 0 {
		if more == 0 || more > 4 || len(b) < 2+more {
			return element{}, false
		}
		var word [4]byte
		copy(word[4-more:], b[2:2+more])
		n = int64(binary.BigEndian.Uint32(word[:]))
		e.off += int64(more)
	}
	e.end = e.off + n
	return e, e.end <= end
}

// element reads the header of the element at a place, which is in another that ends at end.
func (f *file) element(at, end int64, tag byte) (element, error) {
	b := make([]byte, min(maxHeader, end-at))
	if _, err := readat.Full(f.r, b, at); err != nil {
		return element{}, err
	}
	e, ok := parseElement(b, end-at)
	switch {
	case !ok && end == f.size && e.end > end-at:
		return element{}, damaged(at, "the file is cut off: %d bytes are missing", e.end-(end-at))
	case !ok:
		return element{}, damaged(at, "an element without end, or longer than what it is in")
	case tag != 0 && e.tag != tag:
		return element{}, damaged(at, "element of kind %#x where %#x is to be", e.tag, tag)
	}
	return element{e.tag, at + e.off, at + e.end}, nil
}

// text reads a string of four letters, and returns where it ends.
func (f *file) text(at, end int64) (string, int64, error) {
	e, err := f.element(at, end, tagIA5)
	if err != nil {
		return "", 0, err
	}
	if e.end-e.off != nameLen {
		return "", 0, damaged(at, "name of %d bytes", e.end-e.off)
	}
	var b [nameLen]byte
	_, err = readat.Full(f.r, b[:], e.off)
	return string(b[:]), e.end, err
}

// rest reads what follows the payload.
func (f *file) rest(p *Payload, at, end int64) error {
	for range maxParts {
		if at == end {
			return nil
		}
		e, err := f.element(at, end, 0)
		if err != nil {
			return err
		}
		switch e.tag {
		case tagOctets:
			p.Encrypted = p.Encrypted || e.end > e.off
		case tagSequence:
			if err := f.compression(p, e); err != nil {
				return err
			}
		}
		at = e.end
	}
	return nil
}

// compression reads how the payload is compressed.
func (f *file) compression(p *Payload, e element) error {
	algorithm, at, err := f.integer(e.off, e.end)
	if err != nil {
		return err
	}
	size, _, err := f.integer(at, e.end)
	if err != nil {
		return err
	}
	switch algorithm {
	case 0:
	case 1:
		p.Compression, p.Size = LZFSE, size
	default:
		p.Compression = Other
	}
	return nil
}

// integer reads a number that is not negative.
func (f *file) integer(at, end int64) (int64, int64, error) {
	e, err := f.element(at, end, tagInteger)
	if err != nil {
		return 0, 0, err
	}
	n := e.end - e.off
	if n < 1 || n > 8 {
		return 0, 0, damaged(at, "number of %d bytes", n)
	}
	var b [8]byte
	if _, err := readat.Full(f.r, b[8-n:], e.off); err != nil {
		return 0, 0, err
	}
	v := binary.BigEndian.Uint64(b[:])
	if b[8-n] >= 0x80 {
		return 0, 0, damaged(at, "negative number")
	}
	return int64(v), e.end, nil
}

// look finds out by its first bytes how a payload is compressed that isn't said to be.
func (f *file) look(p *Payload) error {
	var b [8]byte
	start := b[:min(int64(len(b)), p.Length)]
	if _, err := readat.Full(f.r, start, p.Off); err != nil {
		return err
	}
	switch {
	case p.Compression != None:
	case string(start) == "complzss":
		p.Compression = LZSS
	case len(start) > 4 && string(start[:3]) == "bvx":
		p.Compression = LZFSE
	}
	return nil
}

package blkx

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"

	"howett.net/plist"

	"github.com/go-dmg/dmg/internal/plistguard"
)

// How long a property list may be: usualList in any image, and in a large one
// listShare of it. A chunk has 40 bytes in it, in base64 with its indentation 61. A
// megabyte in a chunk is the most that Apple's tools write, and zlib makes at least
// 1 KB of it.
const (
	usualList = 32 << 20
	listShare = 16
	maxList   = min(512<<20, math.MaxInt>>4) // 9 million chunks
)

// PlistLimit returns how long the property list of an image may be, in bytes. The
// image's files have size bytes together.
func PlistLimit(size int64) uint64 { return uint64(min(max(usualList, size/listShare), maxList)) }

// IsPlist reports whether b looks like the beginning of an XML document, in UTF-16
// perhaps. The list's length is of no account.
func IsPlist(b []byte, _ uint64) bool {
	for _, mark := range []string{"\xEF\xBB\xBF", "\xFE\xFF", "\xFF\xFE"} {
		b = bytes.TrimPrefix(b, []byte(mark))
	}
	b = bytes.TrimLeft(b, " \t\r\n\x00")
	return len(b) > 1 && b[0] == '<' && bytes.IndexByte([]byte("?!p\x00"), b[1]) >= 0
}

// ParsePlist decodes the block tables of an XML property list. It decodes only what
// it asks for: resources of other types come in shapes of their own and must not fail
// the image. It writes to xml, and the tables' data lies there. An error is an *Error.
func ParsePlist(xml []byte) ([]Resource, error) {
	var list struct {
		Fork struct {
			Blkx []struct {
				CFName string
				Name   string
				Data   []byte
			} `plist:"blkx"`
		} `plist:"resource-fork"`
	}
	lifted, err := decodePlist(xml, &list)
	if err != nil {
		return nil, err
	}
	if len(list.Fork.Blkx) == 0 {
		return nil, plistError(0, "no blkx resources")
	}
	tables := make([]Resource, len(list.Fork.Blkx))
	for i, b := range list.Fork.Blkx {
		name := b.Name
		if name == "" {
			name = b.CFName
		}
		data, err := lifted.data(b.Data)
		tables[i] = Resource{Name: name, Data: data, Err: err}
	}
	return tables, nil
}

// PlistResources returns the resources of the given types, by type. A resource that is not
// what a resource is in such a list is left out, or lacks what can't be read. PlistResources
// writes to xml, and the resources' data lies there. An error is an *Error.
func PlistResources(xml []byte, types ...string) (map[string][]Resource, error) {
	var list struct {
		Fork map[string]any `plist:"resource-fork"`
	}
	lifted, err := decodePlist(xml, &list)
	if err != nil {
		return nil, err
	}
	found := make(map[string][]Resource)
	for _, kind := range types {
		all, _ := list.Fork[kind].([]any)
		for _, r := range all {
			dict, _ := r.(map[string]any)
			v, ok := dict["Data"].([]byte)
			if !ok {
				continue
			}
			data, err := lifted.data(v)
			name, _ := dict["Name"].(string)
			found[kind] = append(found[kind], Resource{ID: plistID(dict["ID"]), Name: name, Data: data, Err: err})
		}
	}
	return found, nil
}

// plistID returns a resource's number, which hdiutil writes as a string, 0 if it is none.
func plistID(v any) int {
	id, err := strconv.ParseInt(fmt.Sprint(v), 10, 16)
	if err != nil {
		return 0
	}
	return int(id)
}

func plistError(at int64, msg string) error {
	return &Error{Section: "plist", Offset: at, Msg: msg}
}

// decodePlist decodes the property list into v, with marks in place of its data.
func decodePlist(xml []byte, v any) (liftedData, error) {
	doc, lifted := liftData(plistguard.UTF8(xml))
	if len(doc) > plistguard.MaxLen {
		return nil, plistError(lifted.offset(plistguard.MaxLen), fmt.Sprintf("more than %d bytes beside its data", plistguard.MaxLen))
	}
	doc, err := plistguard.Lenient(doc)
	var at *plistguard.Error
	switch {
	case errors.As(err, &at):
		return nil, plistError(lifted.offset(at.Offset), at.Msg)
	case err != nil:
		return nil, plistError(0, err.Error())
	}
	if _, err := plist.Unmarshal(doc, v); err != nil {
		return nil, plistError(0, err.Error())
	}
	return lifted, nil
}

// liftedData is the content of a property list's data elements.
type liftedData []liftedDatum

type liftedDatum struct {
	base64 []byte // with white space; nil once it is decoded
	length int    // of base64
	at     int    // of the mark in its place, in the document
}

// liftMark begins what stands in the document for lifted data, before its
// index. An image that forges one gets at data of its own.
const liftMark = "lifted "

// liftData returns the document without the content of its data elements, which
// have their index instead. The block tables are nearly all of a large property
// list, and the decoder takes four times their size in memory and 50 ns a byte
// for what it would otherwise do to them. Nor can a damaged element that nobody
// asks for fail the document then. A document that the guard would find too long
// ends where it is.
func liftData(xml []byte) (doc []byte, lifted liftedData) {
	add := func(p []byte) {
		doc = append(doc, p[:min(len(p), plistguard.MaxLen+1-len(doc))]...)
	}
	for len(doc) <= plistguard.MaxLen {
		before, rest, ok := bytes.Cut(xml, []byte("<data>"))
		if !ok {
			break
		}
		add(xml[:len(before)+len("<data>")])
		// What ends in other markup, such as a CDATA section, or has an entity is no
		// plain base64, but the decoder's business.
		content := rest[:max(0, bytes.IndexByte(rest, '<'))]
		xml = rest
		if bytes.HasPrefix(rest[len(content):], []byte("</data>")) && bytes.IndexByte(content, '&') < 0 {
			mark := fmt.Sprintf("%s%d", liftMark, len(lifted))
			lifted = append(lifted, liftedDatum{content, len(content), len(doc)})
			add([]byte(base64.StdEncoding.EncodeToString([]byte(mark))))
			xml = rest[len(content):]
		}
	}
	add(xml)
	return doc, lifted
}

// offset returns the place in the property list of a byte of the document.
func (l liftedData) offset(at int64) int64 {
	n := int64(0)
	for i, d := range l {
		mark := int64(base64.StdEncoding.EncodedLen(len(liftMark) + len(strconv.Itoa(i))))
		if at < int64(d.at)+mark {
			break
		}
		n += int64(d.length) - mark
	}
	return at + n
}

// data returns the bytes of a data element that was decoded to v. Each is
// returned once: thousands of forged places could ask for the same megabytes.
func (l liftedData) data(v []byte) ([]byte, error) {
	index, ok := bytes.CutPrefix(v, []byte(liftMark))
	if !ok {
		return v, nil
	}
	i, err := strconv.Atoi(string(index))
	if err != nil || i < 0 || i >= len(l) || l[i].base64 == nil {
		return v, nil
	}
	b := l[i].base64
	l[i].base64 = nil
	return decodeBase64(b)
}

// decodeBase64 decodes b, which may have white space in it, in its own memory. With
// an error it returns what is before the first fault.
func decodeBase64(b []byte) ([]byte, error) {
	packed := b[:0]
	for _, c := range b {
		if c > ' ' {
			packed = append(packed, c)
		}
	}
	var block [3 << 10]byte
	n := 0
	for at := 0; at < len(packed); at += 4 << 10 {
		next := packed[at:min(len(packed), at+4<<10)]
		k, err := base64.StdEncoding.Decode(block[:], next)
		if err == nil && k < len(block) && at+len(next) < len(packed) {
			err = base64.CorruptInputError(len(next)) // it ended in padding
		}
		n += copy(b[n:], block[:k])
		if bad, ok := err.(base64.CorruptInputError); ok {
			return b[:n], bad + base64.CorruptInputError(at)
		}
	}
	return b[:n], nil
}

// Package license reads the license agreement that a disk image shows before it is mounted:
// resources of its property list or resource fork, as Apple's "Software License Agreements for
// UDIF" kit made them, and hdiutil udifrez adds them.
//
// The resource LPic 5000 lists regions of the classic Mac OS, each with the number of its text,
// counted from 5000, and whether that is in an encoding of two bytes. The text is the resource
// TEXT, or RTF with a space, of that number; styl has the styles of a TEXT, and STR# the
// words of the dialog. Numbers are big-endian.
//
// What is damaged is left out: an agreement is words for a person. Resources come from
// untrusted images. What Parse allocates is a small multiple of their length.
package license

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// Types are the types of the resources that Parse looks at.
var Types = []string{"LPic", "TEXT", "RTF ", "STR#"}

// Agreement is the agreement in one language.
type Agreement struct {
	Region   int    // of the classic Mac OS, as in LPic; -1 if the image doesn't say
	Default  bool   // what a user sees whose language is none of those that there are
	Data     []byte // as stored
	RTF      bool   // Data is a document of rich text
	Encoding string // of Data, as its characters were read
	Text     string // in UTF-8, its lines ending in \n

	// Words are those of the dialog: the language's name in itself, "Agree", "Disagree",
	// "Print", "Save…", and what to do. There may be more or fewer, and none.
	Words []string
}

// Language returns the BCP 47 tag of the agreement's language, "" if it isn't known.
func (a *Agreement) Language() string { return regions[a.Region].language }

// base is the number from which the texts' numbers count.
const base = 5000

// maxAgreements bounds how many agreements there are. Apple's kit has 15.
const maxAgreements = 256

// Resource is a resource of any type.
type Resource struct {
	ID   int
	Data []byte
}

// Parse returns the agreements, by type of their resources, in the order of the list of
// regions. An image without one has none.
func Parse(resources map[string][]Resource) []Agreement {
	list, defaultRegion := entries(find(resources["LPic"], base))
	if len(list) == 0 {
		list = unlisted(resources)
	}
	var all []Agreement
	for _, e := range list[:min(len(list), maxAgreements)] {
		if a, ok := e.agreement(resources); ok {
			all = append(all, a)
		}
	}
	if i := slices.IndexFunc(all, func(a Agreement) bool { return a.Region == defaultRegion }); i >= 0 {
		all[i].Default = true
	} else if len(all) > 0 {
		all[0].Default = true
	}
	return all
}

// maxData is how long a resource may be, in bytes. Real texts have some 10 KB, with pictures in
// them some 100.
const maxData = 1 << 20

// find returns the data of the resource of that number, nil if there is none, or one that is
// too long.
func find(all []Resource, id int) []byte {
	i := slices.IndexFunc(all, func(r Resource) bool { return r.ID == id })
	if i < 0 || len(all[i].Data) > maxData {
		return nil
	}
	return all[i].Data
}

// An entry is a line of the list of regions.
type entry struct {
	region   int
	id       int // of the text
	twoBytes bool
}

// entries reads an LPic. Of entries with the same text the first one counts.
func entries(lpic []byte) (list []entry, defaultRegion int) {
	const headLen, entryLen = 4, 6
	if len(lpic) < headLen {
		return nil, -1
	}
	i16 := func(off int) int { return int(int16(binary.BigEndian.Uint16(lpic[off:]))) }
	for off := headLen; len(list) < min(i16(2), maxAgreements) && off+entryLen <= len(lpic); off += entryLen {
		e := entry{i16(off), base + i16(off+2), i16(off+4) != 0}
		if !slices.ContainsFunc(list, func(o entry) bool { return o.id == e.id }) {
			list = append(list, e)
		} else if len(lpic) > headLen+maxAgreements*entryLen {
			break // so many of the same are no agreement
		}
	}
	return list, i16(0)
}

// unlisted makes entries of an image that has texts, but no list.
func unlisted(resources map[string][]Resource) []entry {
	var list []entry
	for _, kind := range []string{"TEXT", "RTF "} {
		for _, r := range resources[kind] {
			if r.ID >= base && len(list) < maxAgreements && !slices.ContainsFunc(list, func(e entry) bool { return e.id == r.ID }) {
				list = append(list, entry{region: -1, id: r.ID})
			}
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.id, b.id) })
	return list
}

// agreement reads the text and the words of an entry. It reports whether there is a text.
func (e entry) agreement(resources map[string][]Resource) (Agreement, bool) {
	a := Agreement{Region: e.region, Data: find(resources["TEXT"], e.id)}
	if a.Data == nil {
		a.Data, a.RTF = find(resources["RTF "], e.id), true
	}
	if a.Data == nil {
		return a, false
	}
	enc := encodingOf(e.region, e.twoBytes)
	if a.RTF {
		a.Encoding = "RTF"
		a.Text = rtfText(a.Data)
	} else {
		a.Text, a.Encoding = enc.decode(a.Data)
		a.Text = lines(a.Text)
		if a.Encoding == utf8Name {
			enc = encoding{name: utf8Name}
		}
	}
	for _, s := range pascalStrings(find(resources["STR#"], e.id)) {
		word, _ := enc.decode(s)
		a.Words = append(a.Words, lines(word))
	}
	return a, true
}

// lines ends lines in \n, which classic Mac OS ends in \r.
func lines(s string) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)
}

// maxWords is how many strings of an STR# are read. The dialog has nine.
const maxWords = 32

// pascalStrings reads an STR#: a count, and strings that a byte with their length begins.
func pascalStrings(b []byte) [][]byte {
	if len(b) < 2 {
		return nil
	}
	n := min(int(binary.BigEndian.Uint16(b)), maxWords)
	var all [][]byte
	for b = b[2:]; len(all) < n && len(b) > 0 && int(b[0]) < len(b); {
		end := 1 + int(b[0])
		all = append(all, b[1:end])
		b = b[end:]
	}
	return all
}

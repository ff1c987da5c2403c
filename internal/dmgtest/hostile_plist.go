package dmgtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// withPlist is an image with that property list.
func withPlist(xml string) []byte {
	l := one(2, Text(5, 1024).Bytes(), Chunk{Method: Raw, Sectors: 2, Length: 1024})
	l.Plist = []byte(xml)
	l.Koly.PlistLength = uint64(len(xml))
	return l.Bytes()
}

// blkx is a property list with that as the array of block tables.
func blkx(array string) string {
	return plistHead + "<dict><key>resource-fork</key><dict><key>blkx</key>" + array + "</dict></dict></plist>"
}

// entry is a property list with that as its one block table.
func entry(dict string) string { return blkx("<array>" + dict + "</array>") }

// data is a property list with that in its one block table's data element.
func data(content string) string {
	return entry("<dict><key>Data</key><data>" + content + "</data></dict>")
}

// goodTable is the table of withPlist's disk in base64.
func goodTable() string {
	t := NewTable("", 0, 2, Chunk{Method: Raw, Sectors: 2, Length: 1024})
	return base64.StdEncoding.EncodeToString(t.Bytes())
}

// plists are bent as XML, as base64 and as property lists.
func (b *bender) plists() {
	good := goodTable()
	row := "<dict><key>Attributes</key><string>0x0050</string><key>CFName</key><string>n</string><key>Data</key><data>" + good +
		"</data><key>ID</key><string>0</string><key>Name</key><string>n</string></dict>"
	for i, part := range []string{"0", "1", "2", "3", "=", "==", "===", "====", "A", "AA", "AA=", "A===", "AAAA=", "AAA", " ", "\n\n", "\x00", "é", "-_-_", "A\x00AA", "A A A A", "&#65;AAA", "&amp;", "<!-- x -->", "<![CDATA[AAAA]]>", "<![CDATA[]]>"} {
		b.give(withPlist(data(part)), "data %d %q", i, part)
		b.give(withPlist(data(good+part)), "data and %d %q", i, part)
		b.give(withPlist(data(part+good)), "data after %d %q", i, part)
	}
	for n := range 16 {
		b.give(withPlist(data(good[:len(good)-n])), "data without its last %d", n)
	}
	for _, key := range []string{"Attributes", "CFName", "Data", "ID", "Name"} {
		at := strings.Index(row, "<key>"+key)
		next := at + 5 + strings.Index(row[at+5:]+"<key>", "<key>")
		next = min(next, len(row)-len("</dict>"))
		field := row[at:next]
		b.give(withPlist(entry(row[:at]+row[next:])), "without %s", key)
		b.give(withPlist(entry(row[:next]+field+row[next:])), "%s twice", key)
		for _, v := range []string{"<integer>1</integer>", "<integer>99999999999999999999</integer>", "<integer>-0x8000000000000000</integer>", "<real>nan</real>", "<real>1e999999999</real>", "<true/>", "<array/>", "<dict/>", "<string/>", "<data/>", "<date>x</date>", "<foo/>", "<key>x</key>", "", "x"} {
			b.give(withPlist(entry(row[:at]+"<key>"+key+"</key>"+v+row[next:])), "%s is %s", key, v)
		}
	}
	for _, name := range []string{"\xff\xfe", "\xc0\x80", "\xed\xa0\x80", "\xef\xbf\xbf", "\x00", "\x01\x1f", "&#0;", "&#xFFFFFFFF;", "&#x110000;", "&lt;&gt;", "&nbsp;", "&a;", "&", "&#;", "]]>", strings.Repeat("n", 1<<20), strings.Repeat("&amp;", 1<<18)} {
		b.give(withPlist(entry("<dict><key>Name</key><string>"+name+"</string><key>Data</key><data>"+good+"</data></dict>")), "name %.20q of %d", name, len(name))
	}
	for _, v := range []string{"", "x", "<dict/>", "<array/>", "<true/>", "<string>x</string>", "<data/>", "<integer>1</integer>", "<array>x</array>", "<array><true/></array>", "<array><array/></array>", "<array><data>" + good + "</data></array>", "<array><dict/></array>", "<array>" + row, "<array>" + row + "</dict></array>", "<array>" + row + "</array><key>blkx</key><array>" + row + "</array>", "<array>" + row + "</array></dict><key>resource-fork</key><dict><key>blkx</key><array>" + row + "</array>"} {
		b.give(withPlist(blkx(v)), "blkx is %.40s of %d", v, len(v))
	}
	for i, v := range documents {
		b.give(withPlist(v), "document %d %.40q", i, v)
	}
	b.give(withPlist("\xef\xbb\xbf"+entry(row)), "byte order mark")
	b.give(withPlist(entry(row)+"\x00\x00<"), "junk after it")
	b.give(withPlist(strings.ToUpper(entry(row))), "capitals")
}

// documents are no property lists, or ones of a kind that no image has.
var documents = []string{
	"", " ", "\x00", "<", ">", "<>", "</", "<?", "<!", "<!-", "<!--", "<![CDATA[", "<plist", "<plist>", "<plist/>", "<plist></plist>", "<dict/>", "<plist><dict/></plist>",
	"bplist00", "bplist00\xd1\x01\x02", "bplist00" + strings.Repeat("\xff", 43), "bplist00\xaf\x13\x7f\xff\xff\xff\xff\xff\xff\xff" + strings.Repeat("\x00", 24) + "\x00\x00\x00\x01", "((((((((", "{a=b;}", "<[AAAA]>", "<*I1>",
	"\xff\xfe<\x00p\x00", "\xfe\xff\x00<\x00p", "<?xml version=\"9.9\" encoding=\"UTF-7\"?><plist/>", "<?xml encoding=\"EBCDIC\"?><plist><dict/></plist>",
	`<!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><plist><string>&c;</string></plist>`,
	`<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]><plist><string>&a;</string></plist>`,
	`<!DOCTYPE plist SYSTEM "file:///dev/zero"><plist><dict/></plist>`,
	"<plist><dict><key>resource-fork</key></dict></plist>", "<plist><dict><key/></dict></plist>", "<plist><dict><true/></dict></plist>", "<plist><array/></plist>",
	"<plist><dict><key>resource-fork</key><string>x</string></dict></plist>", "<plist><dict><key>resource-fork</key><array/></dict></plist>", "<plist><plist><dict/></plist></plist>",
}

// longPlists are property lists that are small for what they make a reader do,
// or just large.
func (b *bender) longPlists() {
	nest := func(tag string, n int) string {
		return strings.Repeat("<"+tag+">", n) + strings.Repeat("</"+tag+">", n)
	}
	for _, tag := range []string{"array", "dict", "plist", "string", "key", "x"} {
		for _, n := range []int{12, 17, 100, 10_000} {
			b.give(withPlist(entry(nest(tag, n))), "%d of %s nested", n, tag)
		}
	}
	for _, s := range []struct {
		name, unit string
		size       int
	}{
		{"arrays open", "<array>", 5 << 20},
		{"empty dicts", "<dict/>", 8 << 20},
		{"empty dicts as many as may be", "<dict/>", 7 * 65_000},
		{"keys", "<key>x</key><true/>", 8 << 20},
		{"comments", "<!-- -->", 8 << 20},
		{"long comment", "x", 8 << 20},
		{"CDATA", "<![CDATA[x]]>", 8 << 20},
		{"entities", "&amp;", 8 << 20},
		{"spaces", " ", 31 << 20},
		{"data opened", "<data>", 4 << 20},
		{"data opened and an entity", "<data>&", 4 << 20},
		{"data closed", "</data>", 4 << 20},
		{"too many spaces", " ", 33 << 20},
	} {
		text := strings.Repeat(s.unit, s.size/len(s.unit))
		if s.name == "long comment" {
			text = "<!--" + text + "-->"
		}
		b.give(withPlist(entry(text)), "%s, %d bytes", s.name, s.size)
		if strings.HasPrefix(s.name, "data ") {
			b.give(withPlist(entry("<!--"+text+strings.Repeat(" ", 27<<20)+"</data>-->")), "%s in a comment that is long", s.name)
		}
	}
	for _, n := range []int{4 << 10, 5 << 10, 1 << 20} {
		b.give(withPlist(entry("<dict"+strings.Repeat(" ", n)+"/>")), "tag of %d", n)
		b.give(withPlist(entry(`<dict a="`+strings.Repeat("x", n)+`"/>`)), "attribute of %d", n)
	}
	chunk := Chunk{Method: Zero, Sectors: 1}
	for _, n := range []int{100_000, 500_000} {
		t := NewTable("", 0, int64(n))
		t.Chunks, t.Count = slices.Repeat([]Chunk{chunk}, n), uint32(n)
		for i := range t.Chunks {
			t.Chunks[i].Sector = uint64(i)
		}
		b.give(withPlist(data(base64.StdEncoding.EncodeToString(t.Bytes()))), "table of %d chunks", n)
	}
	b.give(withPlist(data(strings.Repeat("A", 31<<20))), "data of 31 MiB")
	b.give(withPlist(strings.Replace(data(strings.Repeat("A", 31<<20)), "<data>", "<data >", 1)), "odd data of 31 MiB")
	b.give(withPlist(entry("<dict><key>Name</key><string>"+strings.Repeat("x", 31<<20)+"</string></dict>")), "name of 31 MiB")

	// Every name for the content of a data element that a reader may have put
	// aside, so that many small elements stand for one large one.
	var rows strings.Builder
	mark := base64.StdEncoding.EncodeToString([]byte("lifted 0"))
	for range 16_000 {
		rows.WriteString("<dict><key>Data</key><data ><![CDATA[" + mark + "]]></data></dict>")
	}
	first := "<dict><key>Data</key><data>" + strings.Repeat("A", 4<<20) + "</data></dict>"
	b.give(withPlist(entry(first+rows.String())), "16000 names for one datum of 3 MiB")
}

// forks bends the resource fork byte by byte up to the last reference: header,
// first datum's length, map, type list and references.
func (b *bender) forks() {
	l := small(Options{Meta: ResourceOnly})
	fork := l.Rsrc
	be := binary.BigEndian
	dataAt, mapAt := int(be.Uint32(fork)), int(be.Uint32(fork[4:]))
	types := mapAt + int(be.Uint16(fork[mapAt+24:]))
	refs := types + int(be.Uint16(fork[types+8:]))
	bent := func(at, width int, name string) {
		bendWord(fork, at, width, func(fork []byte, n uint64) {
			l := *l
			l.Rsrc = fork
			b.give(l.Bytes(), "%s=%#x", name, n)
		})
	}
	for at := 0; at < 16; at += 4 {
		bent(at, 4, fmt.Sprintf("header %d", at))
		bent(mapAt+at, 4, fmt.Sprintf("header's copy %d", at))
	}
	bent(dataAt, 4, "datum length")
	for _, f := range []struct {
		name      string
		at, width int
	}{
		{"type list", mapAt + 24, 2}, {"name list", mapAt + 26, 2}, {"type count", types, 2},
		{"type", types + 2, 4}, {"reference count", types + 6, 2}, {"reference list", types + 8, 2},
		{"id", refs, 2}, {"name", refs + 2, 2}, {"attributes", refs + 4, 1}, {"datum", refs + 5, 3}, {"handle", refs + 8, 4},
		{"second name", refs + 14, 2}, {"second datum", refs + 17, 3},
	} {
		bent(f.at, f.width, f.name)
	}
	for _, size := range []int{0, 204, 64 << 10, 1 << 20, 8 << 20} {
		l := *l
		l.Rsrc = sharedFork(size)
		l.Koly.RsrcLength = uint64(len(l.Rsrc))
		b.give(l.Bytes(), "65536 references to one datum of %d", size)
	}
	wide := *l
	wide.Rsrc = append(bytes.Clone(fork), make([]byte, 33<<20)...)
	wide.Koly.RsrcLength = uint64(len(wide.Rsrc))
	b.give(wide.Bytes(), "33 MiB")
}

// sharedFork is a resource fork in which 65536 references are to one datum, a
// table of that many bytes.
func sharedFork(size int) []byte {
	n := max(0, size-MishLen) / ChunkLen
	t := NewTable("", 0, int64(n), slices.Repeat([]Chunk{{Method: Zero, Sectors: 1}}, n)...)
	for i := range t.Chunks {
		t.Chunks[i].Sector = uint64(i)
	}
	datum := t.Bytes()[:min(size, len(t.Bytes()))]
	be := binary.BigEndian
	data := append(be.AppendUint32(nil, uint32(len(datum))), datum...)
	lists := append([]byte{0, 0}, "blkx\xff\xff\x00\x0a"...)
	lists = append(lists, make([]byte, 12<<16)...)
	return joinFork(data, lists, nil)
}

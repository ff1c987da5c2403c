package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-dmg/dmg/internal/apfstest"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// An image is a file of testdata.
type image struct {
	name  string
	how   string
	disk  []byte // what it decodes to; nil where it is not to be read
	build func(disk []byte) ([]byte, error)
}

var images = []image{
	good("raw", "raw chunks", options(dmgtest.Raw)),
	good("zlib", "zlib chunks, as UDZO", options(dmgtest.Zlib)),
	good("bzip2", "bzip2 chunks, as UDBZ", options(dmgtest.Bzip2)),
	good("lzma", "LZMA chunks, as ULMO", options(dmgtest.LZMA)),
	good("lzfse", "LZFSE chunks, as ULFO: `bvx2` blocks, but `bvxn` in the first partition of one sector", options(dmgtest.LZFSE)),
	good("lzfse-short", "LZFSE chunks of 7 sectors, which makes all blocks `bvxn`", options(dmgtest.LZFSE), chunk(7)),
	good("adc", "ADC chunks, as UDCO", options(dmgtest.ADC)),
	good("one-chunk", "each partition one zlib chunk", options(dmgtest.Zlib), chunk(0)),
	good("mixed", "all methods in turn, shuffled, each table with a data offset, comments, 4096 bytes before the data fork, "+
		"plist and resource fork, resources beside the block tables", options(codecs...), everything),
	good("rsrc-only", "block tables only in a resource fork, beside other resources", options(dmgtest.ADC), func(o *dmgtest.Options) {
		o.Meta, o.Extra = dmgtest.ResourceOnly, others
	}),
	good("koly-first", "koly at offset 0", options(dmgtest.ADC), func(o *dmgtest.Options) { o.KolyFirst = true }),
	good("tail", "511 bytes of garbage after koly", options(dmgtest.Zlib), func(o *dmgtest.Options) { o.Tail = 511 }),
	good("trailing", "13 bytes of garbage after each stream, in the chunk's length", options(codecs...), func(o *dmgtest.Options) {
		o.Codecs = slices.DeleteFunc(slices.Clone(o.Codecs), func(m dmgtest.Method) bool { return m == dmgtest.LZMA })
		o.Trailing = 13
	}),
	good("ignore", "zeros as ignore chunks, neighbours merged", options(dmgtest.Zlib), func(o *dmgtest.Options) {
		o.Zeros, o.MergeZeros = dmgtest.ZeroIgnore, true
	}),
	good("sums", "checksums SHA-256 (data fork), SHA-1 (tables), MD5 (master)", options(dmgtest.Zlib), func(o *dmgtest.Options) {
		o.DataSum, o.TableSum, o.MasterSum = dmgtest.SHA256, dmgtest.SHA1, dmgtest.MD5
	}),
	good("no-sums", "no checksums", options(dmgtest.Zlib), func(o *dmgtest.Options) {
		o.DataSum, o.TableSum, o.MasterSum = dmgtest.NoSum, dmgtest.NoSum, dmgtest.NoSum
	}),
	good("names", "partitions whose names are ill-formed UTF-8, markup, and empty", options(dmgtest.Zlib), func(o *dmgtest.Options) {
		for i, name := range []string{"caf\xe9 \xff\xfe", "<a> & </a>", ""} {
			o.Partitions[i].Name = name
		}
	}),
	gaps(),
	files(),
	license(),
	bent("unsupported-1990s", "the first three chunks of the last partition are KenCode, RLE and LZH, the fourth is of the unknown "+
		"type 0x80000009: each can't be read; the rest can", func(l *dmgtest.Layout) {
		for i, m := range []dmgtest.Method{dmgtest.KenCode, dmgtest.RLE, dmgtest.LZH, dmgtest.LZMA + 1} {
			last(l).Chunks[i].Method = m
		}
	}),
	bent("bad-cut-table", "the last partition's table ends 20 bytes before its last chunk entry does", func(l *dmgtest.Layout) {
		t := last(l)
		whole := t.Bytes()
		t.Junk = whole[len(whole)-dmgtest.ChunkLen : len(whole)-20]
		t.Chunks = t.Chunks[:len(t.Chunks)-1]
	}),
	bent("bad-chunk-count", "the last partition's table says it has 2³²-1 chunks", func(l *dmgtest.Layout) { last(l).Count = math.MaxUint32 }),
	bent("bad-overlap", "the last partition's third chunk begins one sector early, inside the second", func(l *dmgtest.Layout) {
		last(l).Chunks[2].Sector--
		last(l).Chunks[2].Sectors++
	}),
	bent("bad-chunk-sectors", "the last partition's second chunk ends far outside the disk", func(l *dmgtest.Layout) {
		last(l).Chunks[1].Sectors = 1 << 40
	}),
	bent("bad-wrapped-sectors", "the last partition's second chunk has 2⁶⁴-8 sectors, so that its end wraps to before its start",
		func(l *dmgtest.Layout) { last(l).Chunks[1].Sectors = math.MaxUint64 - 7 }),
	bent("bad-data-range", "the data of the last partition's second chunk is after the end of the file", func(l *dmgtest.Layout) {
		last(l).Chunks[1].Offset = 1 << 40
	}),
	bent("bad-wrapped-offset", "the last partition's second chunk has its data at 2⁶⁴-4, so that its end wraps", func(l *dmgtest.Layout) {
		last(l).Chunks[1].Offset = math.MaxUint64 - 3
	}),
	bent("bad-short-chunk", "the last partition's fourth chunk says 8 sectors more than its stream has; the zero chunk after it gives way",
		func(l *dmgtest.Layout) {
			c := last(l).Chunks[3:5]
			c[0].Sectors += 8
			c[1].Sector += 8
			c[1].Sectors -= 8
		}),
	bent("bad-stream", "a byte in the middle of the last partition's second chunk is another; the sums are not", func(l *dmgtest.Layout) {
		c := last(l).Chunks[1]
		l.Data[c.Offset+c.Length/2] ^= 0x55
	}, resum),
	readable(bent("bad-table-sum", "the last partition's checksum is another: everything can be read, but not verified", func(l *dmgtest.Layout) {
		last(l).Checksum.Data[0] ^= 1
	})),
	readable(bent("bad-data-sum", "the data fork's checksum is another: everything can be read, but not verified", func(*dmgtest.Layout) {},
		func(l *dmgtest.Layout) { l.Koly.DataSum.Data[3] ^= 1 })),
	bent("bad-nested-plist", "a plist of 2,000 nested arrays", func(*dmgtest.Layout) {}, func(l *dmgtest.Layout) {
		const depth = 2000
		nested := "<plist><dict><key>resource-fork</key>" + strings.Repeat("<array>", depth) + strings.Repeat("</array>", depth) + "</dict></plist>"
		l.Plist = []byte(nested)
		l.Koly.PlistLength = uint64(len(nested))
	}),
	bent("bad-plist-range", "koly's plist offset and length wrap", func(*dmgtest.Layout) {}, func(l *dmgtest.Layout) {
		l.Koly.PlistOffset = math.MaxUint64 - 100
	}),
}

var codecs = []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZMA, dmgtest.LZFSE, dmgtest.ADC, dmgtest.Raw}

// wholeDisk is 132 KiB, no multiple of 16 sectors, with zeros at the end and
// across chunks. The third partition begins with four chunks of data; the
// fifth is zeros.
func wholeDisk() []byte {
	return dmgtest.Join(
		dmgtest.Text(1, 512), // the first two partitions
		dmgtest.Zeros(20<<10),
		dmgtest.Text(2, 63*512-20<<10),
		dmgtest.Text(3, 30<<10), // the third
		dmgtest.Zeros(40<<10),
		dmgtest.Random(4, 2500),
		dmgtest.Text(5, 12<<10-2500),
		dmgtest.Zeros(18<<10),
	).Bytes()
}

// options are those of a disk of three partitions.
func options(methods ...dmgtest.Method) dmgtest.Options {
	return dmgtest.Options{
		Codecs:       methods,
		ChunkSectors: 16,
		Partitions: []dmgtest.Partition{
			{Name: "Driver Descriptor Map (DDM : 0)", Sectors: 1},
			{Name: "Apple (Apple_partition_map : 1)", First: 1, Sectors: 63},
			{Name: "disk image (Apple_HFS : 2)", First: 64},
		},
	}
}

// others are resources as old images have beside the block tables.
var others = []dmgtest.Resource{
	{Type: "plst", Name: "", Attributes: 0x50, Data: make([]byte, 1032)},
	{Type: "cSum", ID: 128, Name: "checksum", Data: []byte{0, 1, 0, 2, 0x12, 0x34, 0x56, 0x78}},
	{Type: "STR#", ID: 5000, Name: "strings", Attributes: 0x20, Data: []byte("\x00\x02\x05hello\x05world")},
	{Type: "size", Name: "", Data: []byte{0, 0, 0, 0}},
}

func chunk(sectors int64) func(*dmgtest.Options) {
	return func(o *dmgtest.Options) { o.ChunkSectors = sectors }
}

func everything(o *dmgtest.Options) {
	o.ChunkSectors = 5
	o.Shuffle, o.TableOffset, o.Comments, o.MergeZeros = true, true, true, true
	o.Prefix = 4096
	o.Meta, o.Extra = dmgtest.PlistAndRsrc, others
}

// good is an image of the whole disk.
func good(name, how string, o dmgtest.Options, changes ...func(*dmgtest.Options)) image {
	for _, change := range changes {
		change(&o)
	}
	return image{"good-" + name + ".dmg", how, wholeDisk(), func(disk []byte) ([]byte, error) {
		l, err := dmgtest.Build(disk, o)
		if err != nil {
			return nil, err
		}
		return l.Bytes(), nil
	}}
}

// files is an image of an APFS container with an application.
func license() image {
	o := options(dmgtest.Zlib)
	o.Extra = []dmgtest.Resource{
		{Type: "LPic", ID: 5000, Data: []byte("\x00\x00\x00\x02" + "\x00\x00\x00\x00\x00\x00" + "\x00\x03\x00\x01\x00\x00")},
		{Type: "TEXT", ID: 5000, Data: []byte("\xD2As is\xD3, without a warranty.\r")},
		{Type: "RTF ", ID: 5001, Data: []byte(`{\rtf1\ansi\ansicpg1252 Ohne Gew\'e4hr.\par}`)},
		{Type: "STR#", ID: 5000, Data: []byte("\x00\x03\x07English\x05Agree\x08Disagree")},
	}
	return image{"good-license.dmg", "zlib chunks; a license agreement in English and, as rich text, in German; signed ad hoc, with something that stands for a notarization ticket",
		wholeDisk(), func(disk []byte) ([]byte, error) {
			l, err := dmgtest.Build(disk, o)
			if err != nil {
				return nil, err
			}
			return dmgtest.Signing{Identifier: "com.example.license", Ticket: []byte("no ticket")}.Image(l.Bytes()), nil
		}}
}

func files() image {
	plist := `<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0">
<dict>
	<key>CFBundleIdentifier</key>
	<string>com.example.hello</string>
	<key>CFBundleVersion</key>
	<string>1.2.3</string>
</dict>
</plist>
`
	run := apfstest.Text("hello", "#!/bin/sh\necho hello\n")
	run.Mode = 0o100755
	root := []*apfstest.File{
		apfstest.Text("Read me.txt", "An application to try dmg with.\n"),
		apfstest.Link("Applications", "/Applications"),
		apfstest.Dir("Hello.app", apfstest.Dir("Contents", apfstest.Text("Info.plist", plist), apfstest.Dir("MacOS", run))),
	}
	date(root)
	c := apfstest.Container{Volumes: []*apfstest.Volume{{Name: "Hello", Root: root}}}
	o := dmgtest.Options{
		ChunkSectors: dmgtest.DefaultChunk, Zeros: dmgtest.ZeroIgnore, MergeZeros: true,
		Partitions: []dmgtest.Partition{{Name: "disk image (Apple_APFS : 0)"}},
	}
	return image{"good-apfs.dmg", "an APFS volume, with an application", c.Write().Bytes(), func(disk []byte) ([]byte, error) {
		l, err := dmgtest.Build(disk, o)
		if err != nil {
			return nil, err
		}
		return l.Bytes(), nil
	}}
}

// date gives all files the same date.
func date(list []*apfstest.File) {
	for _, f := range list {
		f.Modified, f.UID, f.GID = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), 501, 20
		date(f.Children)
	}
}

// gaps is an image that stores less than the disk: two partitions, out of
// order, and a table that lacks a chunk in its middle.
func gaps() image {
	o := options(dmgtest.Zlib)
	o.Partitions = []dmgtest.Partition{{Name: "late", First: 180, Sectors: 60}, {Name: "early", First: 10, Sectors: 50}}
	disk := wholeDisk()
	for _, hole := range [][2]int{{0, 10}, {60, 180}, {196, 212}, {240, len(disk) / dmgtest.SectorSize}} {
		clear(disk[hole[0]*dmgtest.SectorSize : hole[1]*dmgtest.SectorSize])
	}
	return image{"good-gaps.dmg", "partitions of sectors 180–239 and 10–59 in this order; of the first the second chunk is missing", disk,
		func(disk []byte) ([]byte, error) {
			l, err := dmgtest.Build(disk, o)
			if err != nil {
				return nil, err
			}
			t := &l.Tables[0]
			if t.Chunks[1].Method != dmgtest.Zero {
				return nil, errors.New("the chunk that goes is not zeros")
			}
			t.Chunks = slices.Delete(t.Chunks, 1, 2)
			t.Count--
			if err := l.Seal(); err != nil {
				return nil, err
			}
			return l.Bytes(), nil
		}}
}

// bent is a zlib image with something changed in its tables, and, with the
// further functions, after the rest was made to fit.
func bent(name, how string, tables func(*dmgtest.Layout), sealed ...func(*dmgtest.Layout)) image {
	return image{name + ".dmg", how, nil, func([]byte) ([]byte, error) {
		disk := wholeDisk()
		l, err := dmgtest.Build(disk, options(dmgtest.Zlib))
		if err != nil {
			return nil, err
		}
		tables(l)
		if err := l.Seal(); err != nil {
			return nil, err
		}
		for _, change := range sealed {
			change(l)
		}
		b := l.Bytes()
		// Not to take a good image for a bad one.
		if plain, err := dmgtest.Build(disk, options(dmgtest.Zlib)); err != nil || bytes.Equal(b, plain.Bytes()) {
			return nil, fmt.Errorf("nothing is bent (%w)", err)
		}
		return b, nil
	}}
}

// readable says that a bent image still decodes to the whole disk.
func readable(im image) image {
	im.disk = wholeDisk()
	return im
}

// resum gives koly the checksums of the data fork before it was changed.
func resum(l *dmgtest.Layout) {
	plain, err := dmgtest.Build(wholeDisk(), options(dmgtest.Zlib))
	if err == nil {
		l.Koly.DataSum = plain.Koly.DataSum
	}
}

func last(l *dmgtest.Layout) *dmgtest.Table { return &l.Tables[len(l.Tables)-1] }

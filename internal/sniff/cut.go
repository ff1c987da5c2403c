package sniff

import (
	"bytes"
	"compress/bzip2"
	"compress/zlib"
	"io"

	"github.com/go-dmg/dmg/internal/adc"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/readat"
	"github.com/go-dmg/dmg/internal/xz"
)

var cutOff = Kind{
	What: "begins like a disk image, but the trailer that ends one is missing",
	Do:   "the file is cut off (an incomplete download?)",
}

// EndsLikeUDIF reports whether a file whose last bytes these are ends like a UDIF
// image but for the trailer's last bytes: with a property list of block tables, or
// with the trailer's first bytes.
func EndsLikeUDIF(tail []byte) bool {
	for _, mark := range []string{"koly\x00\x00\x00\x04\x00\x00\x02\x00", "<key>blkx</key>", "<key>CFName</key>"} {
		if bytes.Contains(tail, []byte(mark)) {
			return true
		}
	}
	return false
}

// hasMetadata reports whether the file is a UDIF image but for its end.
func (f *file) hasMetadata() bool {
	// Such a list may be a file by itself, or on a page.
	return !bytes.HasPrefix(f.head, []byte("<")) && EndsLikeUDIF(f.tail)
}

const (
	// most is how much of a compressed stream is read: a bzip2 block of random
	// bytes is a little shorter.
	most = 1 << 20

	// begin is how much of it is decoded: as far as the marks of disks reach.
	begin = 34 << 10
)

// codecs are the compressions of disk images, which begin with the first chunk's
// stream. The last has no signature. Files of the others but zlib are usual by
// themselves: what is in one that isn't the start of a disk is anything.
var codecs = []struct {
	magic  string
	alone  Kind // if the content is no disk
	decode func(r io.Reader, p []byte) int
}{
	{"x", cutOff, decodeZlib},
	{"BZh", Kind{"a bzip2 file", "decompress it with bunzip2 and open what comes out; a disk image that is cut off may look the same", false}, decodeBzip2},
	{"\xFD7zXZ\x00", Kind{"an xz file", "decompress it with xz -d and open what comes out; a disk image that is cut off may look the same", false}, decodeXZ},
	{"bvx", Kind{"an LZFSE file", "decompress it first and open what comes out; a disk image that is cut off may look the same", false}, decodeLZFSE},
	{"", Kind{}, decodeADC},
}

// compressed recognizes a disk image that was cut off by its first chunk, or a
// compressed file.
func (f *file) compressed() (Kind, bool, error) {
	for _, c := range codecs {
		if !bytes.HasPrefix(f.head, []byte(c.magic)) {
			continue
		}
		// An error of the source is no damage of the stream.
		src := &source{r: io.NewSectionReader(f.r, 0, min(f.size, most))}
		p := make([]byte, begin)
		n := c.decode(src, p)
		if src.err != nil {
			return Kind{}, false, src.err
		}
		switch {
		case isDisk(p[:n]):
			return cutOff, true, nil
		case n >= 512 && c.alone != (Kind{}), c.magic != "x" && c.magic != "":
			return c.alone, true, nil
		}
	}
	return Kind{}, false, nil
}

// isDisk reports whether b begins like a disk, or like a part of one that writers put
// first: with a boot record, a driver descriptor, a partition table, or a file system.
func isDisk(b []byte) bool {
	for _, mark := range []struct {
		offset int
		bytes  string
	}{
		{510, "\x55\xAA"}, {0, "ER\x02\x00"}, {0, "ER\x08\x00"}, {512, "EFI PART"}, {512, "PM\x00\x00"}, {0, "EFI PART"}, {0, "PM\x00\x00"},
		// The entries of a GUID table, by the type of the first: Apple's, EFI, Microsoft's.
		{4, "\x00\x00\xAA\x11\xAA\x11\x00\x30\x65\x43\xEC\xAC"}, {0, "\x28\x73\x2A\xC1\x1F\xF8\xD2\x11"}, {0, "\xA2\xA0\xD0\xEB\xE5\xB9\x33\x44"},
		{1024, "H+\x00"}, {1024, "HX\x00"}, {1024, "BD"}, {32, "NXSB"}, {32769, "CD001"},
	} {
		if len(b) > mark.offset && bytes.HasPrefix(b[mark.offset:], []byte(mark.bytes)) {
			return true
		}
	}
	return false
}

// source keeps the error of a source.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := readat.Some(s.r, p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// decodeZlib fills p, or as much of it as the stream has.
func decodeZlib(r io.Reader, p []byte) int {
	z, err := zlib.NewReader(r)
	if err != nil {
		return 0
	}
	n, _ := io.ReadFull(z, p)
	return n
}

func decodeBzip2(r io.Reader, p []byte) int {
	n, _ := io.ReadFull(bzip2.NewReader(r), p)
	return n
}

// decoder is what the decoders of the other compressions have in common.
type decoder interface {
	Reset(io.Reader)
	Decode(max int) ([]byte, error)
}

func decode(z decoder, r io.Reader, p []byte) (n int) {
	z.Reset(r)
	for n < len(p) {
		b, err := z.Decode(len(p) - n)
		if err != nil {
			break
		}
		n += copy(p[n:], b)
	}
	return n
}

func decodeXZ(r io.Reader, p []byte) int    { return decode(xz.NewReader(xz.Memory(begin)), r, p) }
func decodeLZFSE(r io.Reader, p []byte) int { return decode(new(lzfse.Reader), r, p) }
func decodeADC(r io.Reader, p []byte) int   { return decode(new(adc.Reader), r, p) }

// Package decmpfs reads files that HFS+ and APFS store compressed.
//
// macOS compresses a file's content in place ("decmpfs", from Mac OS X 10.6 on). The
// file then has an empty data fork, the BSD flag UF_COMPRESSED, and an attribute
// named com.apple.decmpfs. The attribute tells the kind of compression and the
// content's size. It holds the content too, if that is short; else the resource fork
// does, in chunks of 64 KiB.
//
//	type    content in
//	1       attribute        stored
//	3, 4    attribute, fork  zlib
//	5                        not there
//	7, 8    attribute, fork  LZVN
//	9, 10   attribute, fork  stored
//	11, 12  attribute, fork  LZFSE
//	13, 14  attribute, fork  LZBITMAP
//
// Apple describes the format nowhere. What is read here was checked on files that
// macOS wrote, but for types 1, 10, 13 and 14, which are read as other readers do.
// Type 5 is refused, as are all others. The package does not encode.
package decmpfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// AttrName is the attribute's name.
	AttrName = "com.apple.decmpfs"

	// HeaderLen is the length of the attribute's header in bytes: as much as
	// ParseHeader looks at.
	HeaderLen = 16

	// MaxAttr is the longest attribute that New takes, in bytes. A caller need not
	// read more of one. macOS writes no more than 3,802.
	MaxAttr = 128 << 10

	// Memory is the most that one File holds between reads, in bytes, besides its
	// attribute. Each call of ReadAt that decodes has a decoder besides, of a megabyte.
	Memory int64 = maxInline

	// chunkLen is how many bytes a chunk decodes to; the last one has the rest.
	chunkLen = 64 << 10

	// maxInline is the longest content that an attribute may decode to. macOS
	// writes a chunk at most.
	maxInline = 1 << 20
)

// The classes of errors, for errors.Is. An error of the fork that is being read is
// of none of them: it is passed on.
var (
	ErrFormat      = errors.New("damaged compressed file")
	ErrChecksum    = errors.New("compressed file does not match its checksum")
	ErrUnsupported = errors.New("compression of the file is not supported")
)

// An Error says what is wrong with a compressed file, and where.
type Error struct {
	Class  error  // ErrFormat, ErrChecksum or ErrUnsupported
	Offset int64  // in the content, bytes: where the chunk starts; -1 if it is about the whole file
	Msg    string // what is wrong
	Err    error  // the decoder's error, if it found the fault
}

func (e *Error) Error() string {
	s := "decmpfs: " + e.Class.Error()
	if e.Offset >= 0 {
		s += fmt.Sprintf(", chunk at byte %d", e.Offset)
	}
	s += ": " + e.Msg
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap makes an Error one of its class, and of the decoder's.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Err}
}

func damaged(off int64, format string, args ...any) error {
	return &Error{Class: ErrFormat, Offset: off, Msg: fmt.Sprintf(format, args...)}
}

// A Header is what the attribute says about the file.
type Header struct {
	Type uint32 // see the package's comment
	Size int64  // of the content, bytes
}

// ParseHeader reads the header that the attribute starts with: enough to tell the
// size of a file without reading its content. Any type passes, also one that New
// refuses. The error is of class ErrFormat.
func ParseHeader(attr []byte) (Header, error) {
	if len(attr) < HeaderLen {
		return Header{}, damaged(-1, "attribute of %d bytes has no header", len(attr))
	}
	if string(attr[:4]) != "fpmc" {
		return Header{}, damaged(-1, "attribute starts with %q, not with fpmc", attr[:4])
	}
	size := binary.LittleEndian.Uint64(attr[8:])
	if size > math.MaxInt64 {
		return Header{}, damaged(-1, "size of %d bytes", size)
	}
	return Header{Type: binary.LittleEndian.Uint32(attr[4:]), Size: int64(size)}, nil
}

// Supported reports whether New takes files of this type.
func (h Header) Supported() bool { return kinds[h.Type].codec != nil }

// A kind is what a type stands for.
type kind struct {
	name  string
	codec func(d *decoder, c *chunk) error // nil: refused
	table *table                           // of chunks in the fork; nil: the attribute has the content
}

// kinds has all known types.
var kinds = map[uint32]kind{
	1:  {name: "stored", codec: (*decoder).stored},
	3:  {name: "zlib", codec: (*decoder).zlib},
	4:  {name: "zlib", codec: (*decoder).zlib, table: &resourceTable},
	5:  {name: "content kept elsewhere"},
	7:  {name: "LZVN", codec: (*decoder).lzvn},
	8:  {name: "LZVN", codec: (*decoder).lzvn, table: &offsetTable},
	9:  {name: "stored", codec: (*decoder).marked},
	10: {name: "stored", codec: (*decoder).mayBeMarked, table: &offsetTable},
	11: {name: "LZFSE", codec: (*decoder).lzfse},
	12: {name: "LZFSE", codec: (*decoder).lzfse, table: &offsetTable},
	13: {name: "LZBITMAP", codec: (*decoder).lzbitmap},
	14: {name: "LZBITMAP", codec: (*decoder).lzbitmap, table: &offsetTable},
}

// New opens a compressed file. attr is the whole attribute, which must not change
// as long as the File is in use. fork and forkSize are the file's resource fork; of
// a file that keeps its content in the attribute they may be nil and 0. New reads
// nothing of the fork.
//
// The error is of class ErrFormat or ErrUnsupported.
func New(attr []byte, fork io.ReaderAt, forkSize int64) (*File, error) {
	return new(Pool).New(attr, fork, forkSize)
}

// New is the function of that name, for a File that takes its decoders from p.
func (p *Pool) New(attr []byte, fork io.ReaderAt, forkSize int64) (*File, error) {
	h, err := ParseHeader(attr)
	if err != nil {
		return nil, err
	}
	kind, known := kinds[h.Type]
	f := &File{pool: p, kind: kind, size: h.Size, inline: attr[HeaderLen:], fork: fork, forkSize: max(0, forkSize)}
	switch {
	case !known:
		return nil, &Error{Class: ErrUnsupported, Offset: -1, Msg: fmt.Sprintf("type %d", h.Type)}
	case kind.codec == nil:
		return nil, &Error{Class: ErrUnsupported, Offset: -1, Msg: fmt.Sprintf("type %d, %s", h.Type, kind.name)}
	case len(attr) > MaxAttr:
		return nil, damaged(-1, "attribute of %d bytes", len(attr))
	case fork == nil:
		f.forkSize = 0
	}
	if kind.table != nil {
		f.chunkLen = chunkLen
		if err := f.checkTable(); err != nil {
			return nil, err
		}
		return f, nil
	}
	f.chunkLen = max(1, h.Size) // there is one chunk
	if h.Size > maxInline {
		return nil, damaged(-1, "%d bytes of content in an attribute of %d", h.Size, len(attr))
	}
	return f, nil
}

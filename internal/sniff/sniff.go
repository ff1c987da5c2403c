// Package sniff says what a file is that no disk image was found in: a web page, an
// archive, a disk image of another format, or a disk image whose end is missing.
//
// It is asked last, when nothing that opens has been found: a signature of a few
// bytes must not refuse a disk.
package sniff

import (
	"bytes"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// Kind is what a file was found to be.
type Kind struct {
	What string // the file is, such as "an HTML page"
	Do   string // what its owner can do

	// Image means a disk image, or what disk images are packed in, of a format
	// that isn't read. Other files are none, or damaged.
	Image bool
}

// String returns both sentences as an error has them.
func (k Kind) String() string {
	if k.Do == "" {
		return k.What
	}
	return k.What + ": " + k.Do
}

// edge is how much is looked at of a file's beginning and of its end, in bytes.
const edge = 64 << 10

// file is the file with its ends.
type file struct {
	r          io.ReaderAt
	size       int64
	head, tail []byte
}

// Identify returns what the size bytes of r are. It reads the first and last 64 KiB
// and, if the file begins with a compressed stream, a megabyte of that. The only
// error is r's.
func Identify(r io.ReaderAt, size int64) (k Kind, ok bool, err error) {
	f := &file{r: r, size: size, head: make([]byte, min(edge, size)), tail: make([]byte, min(edge, size))}
	if _, err := readat.Full(r, f.head, 0); err != nil {
		return Kind{}, false, err
	}
	if _, err := readat.Full(r, f.tail, size-int64(len(f.tail))); err != nil {
		return Kind{}, false, err
	}
	if size == 0 {
		return Kind{What: "an empty file", Do: "if it was downloaded, download it again"}, true, nil
	}
	// A name in a trailer says more than the first bytes do: a disk image may
	// begin with anything.
	if f.hasMetadata() {
		return cutOff, true, nil
	}
	for _, m := range magics {
		if m.matches(f) {
			return m.Kind, true, nil
		}
	}
	for _, look := range looks {
		if k, ok := look(f); ok {
			return k, true, nil
		}
	}
	return f.compressed()
}

// magic is a signature at a place.
type magic struct {
	offset int64
	bytes  string
	Kind
}

func (m *magic) matches(f *file) bool {
	return int64(len(f.head)) >= m.offset && bytes.HasPrefix(f.head[m.offset:], []byte(m.bytes))
}

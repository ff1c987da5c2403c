package decmpfs

import (
	"encoding/binary"
	"fmt"

	"github.com/go-dmg/dmg/internal/readat"
)

// A table finds chunk k in the fork.
type table struct {
	find  func(f *File, k int64) (extent, error)
	head  int64 // the least that the fork has besides the chunks' entries, bytes
	entry int64 // of one chunk, bytes
}

var (
	resourceTable = table{(*File).inResource, resourceHeaderLen + resourceLenLen + countLen, entryLen}
	offsetTable   = table{(*File).byOffsets, offsetLen, offsetLen}
)

const (
	// windowLen is how many bytes of the fork are read at a time for its table, from a
	// multiple of this on, and kept. A number that the end cuts is there too.
	windowLen = 4 << 10
	windowEnd = resourceHeaderLen

	offsetLen = 4 // of an entry of types 8, 10, 12 and 14

	// A resource file (Inside Macintosh: More Macintosh Toolbox, 1-121) starts with
	// four big-endian words: the offsets of the data and the map, and their lengths.
	// Data is a row of resources, each behind its length. In a fork of type 4 there
	// is one: a little-endian count of chunks, and an offset and a length for each,
	// from the count on.
	resourceHeaderLen = 16
	resourceLenLen    = 4
	countLen          = 4
	entryLen          = 8
)

// extent is where in the fork a chunk is stored.
type extent struct{ off, n int64 }

// window is what is known of a fork.
type window struct {
	base  int64  // type 4: where the count is, once it is known
	count int64  // type 4: of the chunks in the table
	off   int64  // in the fork, of p
	p     []byte // windowLen + windowEnd bytes at most
}

// chunks is how many chunks the content has by its size.
func (f *File) chunks() int64 {
	n := f.size / f.chunkLen
	if f.size%f.chunkLen > 0 {
		n++
	}
	return n
}

// checkTable refuses a size for which the fork is too short to have a table.
func (f *File) checkTable() error {
	n := f.chunks()
	if n > 0 && f.forkSize < f.kind.table.head+n*f.kind.table.entry {
		return damaged(-1, "resource fork of %d bytes is too short for the table of %d chunks", f.forkSize, n)
	}
	return nil
}

// inResource finds a chunk by the table of type 4.
func (f *File) inResource(k int64) (extent, error) {
	base, count, err := f.openTable()
	if err != nil {
		return extent{}, err
	}
	content := k * f.chunkLen
	if count < f.chunks() {
		return extent{}, damaged(content, "table of %d chunks for %d", count, f.chunks())
	}
	entry, err := f.peek(base+countLen+k*entryLen, entryLen)
	if err != nil {
		return extent{}, err
	}
	off, n := int64(binary.LittleEndian.Uint32(entry[:])), int64(binary.LittleEndian.Uint32(entry[4:]))
	if off < countLen+count*entryLen || off+n > f.forkSize-base {
		return extent{}, damaged(content, "%d bytes at %d of a resource of %d", n, off, f.forkSize-base)
	}
	return extent{base + off, n}, nil
}

// openTable finds the table of type 4, and checks that it is inside the fork.
func (f *File) openTable() (base, count int64, err error) {
	f.mu.Lock()
	base, count = f.mu.window.base, f.mu.window.count
	f.mu.Unlock()
	if base > 0 {
		return base, count, nil
	}
	head, err := f.peek(0, resourceHeaderLen)
	if err != nil {
		return 0, 0, err
	}
	data := int64(binary.BigEndian.Uint32(head[:]))
	base = data + resourceLenLen
	if data < resourceHeaderLen || base+countLen > f.forkSize {
		return 0, 0, damaged(-1, "resource data at %d of a fork of %d bytes", data, f.forkSize)
	}
	word, err := f.peek(base, countLen)
	if err != nil {
		return 0, 0, err
	}
	count = int64(binary.LittleEndian.Uint32(word[:]))
	if countLen+count*entryLen > f.forkSize-base {
		return 0, 0, damaged(-1, "table of %d chunks in a resource of %d bytes", count, f.forkSize-base)
	}
	f.mu.Lock()
	f.mu.window.base, f.mu.window.count = base, count
	f.mu.Unlock()
	return base, count, nil
}

// byOffsets finds a chunk by the table of types 8, 10, 12 and 14: offsets in the fork, of
// which the first is the table's own length. A chunk ends where the next one starts.
// The table may have more entries than there are chunks, and zeros in them.
func (f *File) byOffsets(k int64) (extent, error) {
	least := (f.chunks() + 1) * offsetLen
	entry, err := f.peek(k*offsetLen, 2*offsetLen)
	if err != nil {
		return extent{}, err
	}
	off, end := int64(binary.LittleEndian.Uint32(entry[:])), int64(binary.LittleEndian.Uint32(entry[4:]))
	if off < least || end < off || end > f.forkSize {
		return extent{}, damaged(k*f.chunkLen, "bytes %d to %d of a fork of %d bytes, whose table has %d", off, end, f.forkSize, least)
	}
	return extent{off, end - off}, nil
}

// peek reads n bytes of the fork, 16 at most, and keeps what is around them: of a
// short file that is all. The caller has checked that they are inside the fork.
func (f *File) peek(off, n int64) (b [16]byte, err error) {
	if f.seen(b[:n], off) {
		return b, nil
	}
	start := off - off%windowLen
	p := make([]byte, min(windowLen+windowEnd, f.forkSize-start))
	m, err := readat.Full(f.fork, p, start)
	if start+int64(m) < off+n {
		return b, forkError(err, n, off)
	}
	copy(b[:n], p[off-start:])
	f.mu.Lock()
	f.mu.window.off, f.mu.window.p = start, p[:m]
	f.mu.Unlock()
	return b, nil
}

// seen fills b from the window, if that has all of it.
func (f *File) seen(b []byte, off int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &f.mu.window
	if off < w.off || off-w.off > int64(len(w.p)-len(b)) {
		return false
	}
	copy(b, w.p[off-w.off:])
	return true
}

// forkError is the error of a read of the fork. A fork that ends before its size is
// cut off, which is its source's fault and not the file's.
func forkError(err error, n, off int64) error {
	return fmt.Errorf("decmpfs: resource fork, %d bytes at %d: %w", n, off, err)
}

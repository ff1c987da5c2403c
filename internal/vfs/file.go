package vfs

import (
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"sync/atomic"
	"time"
)

// A handle is what an open file and an open directory have in common.
type handle struct {
	path   string
	node   Node
	closed atomic.Bool
}

func (h *handle) Stat() (fs.FileInfo, error) {
	if h.closed.Load() {
		return nil, h.error("stat", fs.ErrClosed)
	}
	return newFileInfo("stat", h.path, h.node)
}

func (h *handle) Close() error {
	if h.closed.Swap(true) {
		return h.error("close", fs.ErrClosed)
	}
	return nil
}

// error wraps an error, except for the end.
func (h *handle) error(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return pathError(op, h.path, err)
}

// A file is an open file. ReadAt may be called by many goroutines at once, also
// beside the other methods. The methods that use the offset may not.
type file struct {
	handle
	content Content
	off     int64
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.readAt("read", p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.error("read", errOffset)
	}
	return f.readAt("read", p, off)
}

func (f *file) readAt(op string, p []byte, off int64) (int, error) {
	if f.closed.Load() {
		return 0, f.error(op, fs.ErrClosed)
	}
	if len(p) == 0 {
		return 0, nil
	}
	size := f.content.Size()
	if off >= size {
		return 0, io.EOF
	}
	short := int64(len(p)) > size-off
	if short {
		p = p[:size-off]
	}
	n, err := f.content.ReadAt(p, off)
	switch {
	case n == len(p) && short:
		err = io.EOF
	case n == len(p):
		err = nil
	case err == nil || err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, f.error(op, err)
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	if f.closed.Load() {
		return 0, f.error("seek", fs.ErrClosed)
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += f.content.Size()
	default:
		return 0, f.error("seek", fs.ErrInvalid)
	}
	if offset < 0 { // or too large
		return 0, f.error("seek", errOffset)
	}
	f.off = offset
	return offset, nil
}

// maxCopy is how much WriteTo reads at a time: enough for a remote source, and a
// multiple of the chunks of compressed files.
const maxCopy = 1 << 20

// WriteTo writes the rest of the file.
func (f *file) WriteTo(w io.Writer) (int64, error) {
	var buf []byte
	var written int64
	for {
		left := f.content.Size() - f.off
		if f.closed.Load() || left <= 0 {
			break
		}
		if buf == nil {
			buf = make([]byte, min(left, maxCopy))
		}
		// Later reads begin at a multiple of maxCopy.
		n, err := f.readAt("read", buf[:min(left, int64(len(buf)), maxCopy-f.off%maxCopy)], f.off)
		m, werr := w.Write(buf[:n])
		f.off += int64(m)
		written += int64(m)
		if werr == nil && m < n {
			werr = io.ErrShortWrite
		}
		if werr != nil {
			return written, werr
		}
		if err != nil {
			return written, err
		}
	}
	if f.closed.Load() {
		return written, f.error("read", fs.ErrClosed)
	}
	return written, nil
}

// ReadAll reads all of r, which has size bytes. The memory that it takes grows with
// what r delivers, not by what size says.
func ReadAll(r io.ReaderAt, size int64) ([]byte, error) {
	data := make([]byte, 0, max(0, min(size, maxCopy)))
	for off := int64(0); off < size; {
		// As much again as there is, and a megabyte at least.
		end := off + min(size-off, max(off, maxCopy))
		if end > math.MaxInt { // on 32 bits
			return data, ErrTooLarge
		}
		data = slices.Grow(data, int(end-off))[:end]
		n, err := r.ReadAt(data[off:], off)
		if off += int64(n); off < end {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return data[:off], err
		}
	}
	return data, nil
}

// A dir is an open directory. One goroutine uses it at a time.
type dir struct {
	handle
	fs      *FS
	entries Entries
}

func (d *dir) Read([]byte) (int, error) { return 0, d.error("read", errDir) }

// ReadDir lists the next entries, in the volume's order.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed.Load() {
		return nil, d.error("readdir", fs.ErrClosed)
	}
	entries, err := readDir(d.entries, n)
	if err == io.EOF && (n <= 0 || len(entries) > 0) {
		err = nil
	}
	list := dirEntries(entries)
	d.fs.listings.keep(d.node, entries)
	return list, d.error("readdir", err)
}

// readDir returns the next n entries, or all if n is not positive. The error says
// why there are not more.
func readDir(entries Entries, n int) ([]*dirEntry, error) {
	var list []*dirEntry
	var block []dirEntry // of the next ones: one allocation is for several
	for n <= 0 || len(list) < n {
		e, err := entries.Next()
		if err != nil {
			return list, err
		}
		if len(block) == 0 {
			block = make([]dirEntry, min(len(list)+1, 16))
		}
		block[0].entry = e
		list, block = append(list, &block[0]), block[1:]
	}
	return list, nil
}

// dirEntries returns a list of its own, which is never nil.
func dirEntries(entries []*dirEntry) []fs.DirEntry {
	list := make([]fs.DirEntry, len(entries))
	for i, e := range entries {
		list[i] = e
	}
	return list
}

type dirEntry struct{ entry Entry }

func (e *dirEntry) Name() string               { return e.entry.Name }
func (e *dirEntry) IsDir() bool                { return e.Type().IsDir() }
func (e *dirEntry) Type() fs.FileMode          { return e.entry.Node.Type() }
func (e *dirEntry) Info() (fs.FileInfo, error) { return newFileInfo("lstat", e.Name(), e.entry.Node) }
func (e *dirEntry) String() string             { return fs.FormatDirEntry(e) }

type fileInfo struct {
	name string
	info Info
}

// newFileInfo describes a node by the name with which it was asked for.
func newFileInfo(op, name string, n Node) (fs.FileInfo, error) {
	info, err := n.Info()
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return &fileInfo{name: path.Base(name), info: info}, nil
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.info.Size }
func (i *fileInfo) Mode() fs.FileMode  { return i.info.Mode }
func (i *fileInfo) ModTime() time.Time { return i.info.ModTime }
func (i *fileInfo) IsDir() bool        { return i.info.Mode.IsDir() }
func (i *fileInfo) Sys() any           { return i.info.Sys }
func (i *fileInfo) String() string     { return fs.FormatFileInfo(i) }

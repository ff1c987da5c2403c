package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// AppleDouble is RFC 1740's, with extended attributes as macOS adds them: copyfile.c and
// xnu's vfs_xattr.c, from which these numbers are. All are big-endian.
//
//	0   magic u32, version u32, 16 bytes of filler, count of entries u16
//	26  entries: id u32, offset u32, length u32
//	50  entry 9: 32 bytes of Finder information, 2 of padding, and then
//	84  "ATTR", tag u32, total size u32, start of values u32, their length u32, 12 reserved,
//	    flags u16, count of attributes u16
//	120 an attribute each: offset u32, length u32, flags u16, length of the name u8, name with
//	    a NUL; padded to 4
//	... the values
//	... entry 2: the resource fork
const (
	doubleMagic   = 0x00051607
	doubleVersion = 0x00020000
	finderEntry   = 9
	forkEntry     = 2
	finderOffset  = 50
	finderLen     = 32
	attrHeader    = 84
	attrTable     = 120
	attrFixed     = 11 // of an attribute's entry

	// maxAttrs bounds the attributes of one file, in bytes of their entries: macOS
	// reads no more.
	maxAttrs = 64 << 10

	finderAttr = "com.apple.FinderInfo"
	forkAttr   = "com.apple.ResourceFork"
)

// sideFile copies what a file has besides its content, if the user wants it.
func (k *copier) sideFile(in *folder, from, to string) {
	files, ok := k.files.(xattrFS)
	if !k.Xattrs || !ok || k.ctx.Err() != nil {
		return
	}
	d, err := newAppleDouble(files, from)
	if err != nil {
		k.fail(inVolume(k.Image, err))
		return
	}
	if d == nil {
		return
	}
	side := path.Join(path.Dir(to), "._"+path.Base(to))
	if k.hasSide(in, from) {
		k.fail(refusal(fmt.Sprintf("%s: the extended attributes of %s have no place: %s is a file of the volume itself; copy without --xattrs",
			k.Image, from, path.Join(path.Dir(from), path.Base(side)))))
		return
	}
	if err := k.writeSide(in, side, d); err != nil {
		k.fail(k.at(side, err))
	}
}

// hasSide reports whether the volume itself has something that is copied to the name of the
// file beside another.
func (k *copier) hasSide(in *folder, from string) bool {
	name := "._" + path.Base(from)
	if in.parent == nil && slices.ContainsFunc(k.sources, func(s source) bool { return s.path == from }) {
		// The user named this file, and the destination gets only the files that the user named.
		return slices.ContainsFunc(k.sources, func(s source) bool { return path.Base(s.path) == name })
	}
	_, err := fs.Lstat(k.files, path.Join(path.Dir(from), name))
	return err == nil
}

// writeSide writes the file beside, complete or not at all.
func (k *copier) writeSide(in *folder, name string, d *appleDouble) error {
	return k.place(in, name, func(name string) error {
		f, err := k.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(f, 64<<10)
		if err = d.write(w); err == nil {
			err = w.Flush()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			k.root.Remove(name)
		}
		return err
	})
}

// An appleDouble is what the file beside another has.
type appleDouble struct {
	path   string
	finder [finderLen]byte
	attrs  []attr
	fork   *io.SectionReader // nil if there is none
}

type attr struct {
	name  string
	value *io.SectionReader
}

// newAppleDouble returns what a file has besides its content; nil if that is nothing.
func newAppleDouble(files xattrFS, name string) (*appleDouble, error) {
	names, err := files.ListXattr(name)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	d := &appleDouble{path: name}
	size := int64(attrTable)
	for _, a := range names {
		r, err := files.OpenXattr(name, a)
		if err != nil {
			return nil, err
		}
		switch {
		case a == forkAttr:
			d.fork = r
		case a == finderAttr && r.Size() == finderLen:
			if _, err := r.ReadAt(d.finder[:], 0); err != nil && err != io.EOF {
				return nil, err
			}
		default:
			if size += attrLen(a); len(a) > 127 || size > maxAttrs {
				return nil, &fs.PathError{Op: "listxattr", Path: name, Err: fmt.Errorf("its extended attributes don't fit into an AppleDouble file: %w", errors.ErrUnsupported)}
			}
			d.attrs = append(d.attrs, attr{a, r})
		}
	}
	return d, nil
}

// attrLen is the length of an attribute's entry, in bytes.
func attrLen(name string) int64 { return (attrFixed + int64(len(name)) + 1 + 3) &^ 3 }

// write writes the file.
func (d *appleDouble) write(w io.Writer) error {
	start := int64(attrTable) // of the values
	total := int64(0)
	for _, a := range d.attrs {
		start += attrLen(a.name)
		total += a.value.Size()
	}
	end, forkLen := int64(finderOffset+finderLen), int64(0)
	if len(d.attrs) > 0 {
		end = start + total
	}
	if d.fork != nil {
		forkLen = d.fork.Size()
	}
	if end+forkLen > 1<<32-1 {
		return volumeError{&fs.PathError{Op: "getxattr", Path: d.path, Err: fmt.Errorf("its extended attributes don't fit into an AppleDouble file: %w", errors.ErrUnsupported)}}
	}
	b := binary.BigEndian.AppendUint32(nil, doubleMagic)
	put := func(vs ...int64) {
		for _, v := range vs {
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		}
	}
	put(doubleVersion)
	b = append(b, "Mac OS X        "...)
	b = binary.BigEndian.AppendUint16(b, 2)
	put(finderEntry, finderOffset, end-finderOffset, forkEntry, end, forkLen)
	b = append(b, d.finder[:]...)
	if len(d.attrs) > 0 {
		b = append(b, 0, 0)
		b = append(b, "ATTR"...)
		put(0, end, start, total, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(d.attrs)))
		at := start
		for _, a := range d.attrs {
			put(at, a.value.Size())
			b = append(b, 0, 0, byte(len(a.name)+1))
			b = append(b, a.name...)
			b = append(b, 0)
			for len(b)%4 > 0 {
				b = append(b, 0)
			}
			at += a.value.Size()
		}
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	for _, a := range d.attrs {
		if err := d.copy(w, a.value); err != nil {
			return err
		}
	}
	if d.fork != nil {
		return d.copy(w, d.fork)
	}
	return nil
}

// copy copies a value.
func (d *appleDouble) copy(w io.Writer, from *io.SectionReader) error {
	n, err := io.Copy(w, onlyReader{from})
	if err == nil && n < from.Size() {
		err = volumeError{&fs.PathError{Op: "getxattr", Path: d.path, Err: io.ErrUnexpectedEOF}}
	}
	return err
}

// onlyReader marks errors of reading: others are of the file that is written.
type onlyReader struct{ r io.Reader }

// Read implements io.Reader.
func (r onlyReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = volumeError{err}
	}
	return n, err
}

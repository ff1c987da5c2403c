// Package fsname names the file systems on a disk or a partition by what is on it,
// whatever a partition table says.
//
// Disks are untrusted. Every number of theirs is checked before it is used as a place,
// nothing is allocated by it, and a file system that doesn't hold together is not
// named.
package fsname

import (
	"io"
	"strings"
	"unicode/utf16"

	"github.com/go-dmg/dmg/internal/readat"
)

// FileSystem is one that was found.
type FileSystem struct {
	// Type is its usual name: "HFS+", "FAT32", "ISO 9660", "ext4", "Linux swap".
	Type string

	Label string // that its owner gave it; may be empty

	// Offset and Length are its place in bytes, within what was looked at.
	Offset, Length int64

	BlockSize int64 // in bytes: its unit of allocation; 0 if it isn't known
	Used      int64 // bytes that are allocated; -1 if that isn't known
	Files     int64 // how many files it has; -1 if that isn't known
	Encrypted bool  // all of it, so that nothing in it can be read without a key
}

// Probe returns the file systems that begin at r's start, or where a wrapper at r's
// start says, the one that a user of macOS would see mounted first: a disc may have ISO
// 9660, UDF and HFS+ in one place. Nothing found is no error: the only error is r's.
//
// It reads 30 KB in three places, for a file system's label a few KB more, and where it finds
// none a sector near the end.
func Probe(r io.ReaderAt, size int64) ([]FileSystem, error) {
	d := &disk{r: r, size: size}
	d.load(0, 16<<10)             // nearly all
	d.load(32<<10-swapMark, 8202) // a page of 32 KiB's end; ISO 9660 and UDF
	d.load(64<<10-swapMark, 2058) // a page of 64 KiB's end; Btrfs, ReiserFS, UFS2
	var found []FileSystem
	for _, look := range []func(*disk) (FileSystem, bool){
		hfs, apfs, mfs, proDOS,
		exFAT, ntfs, fat,
		ext, xfs, btrfs, ufs, swap, marked,
		udf, iso9660,
	} {
		fs, ok := look(d)
		if ok {
			found = append(found, fs)
		}
	}
	if len(found) == 0 { // only then, because it takes a read at the end
		if fs, ok := lostHFSPlus(d); ok {
			found = append(found, fs)
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	for i := range found {
		fs := &found[i]
		// A size of its own may exceed the disk, of which some may be missing.
		if fs.Length <= 0 || fs.Length > size-fs.Offset {
			fs.Length = size - fs.Offset
		}
		fs.Label = strings.ToValidUTF8(fs.Label, "\uFFFD")
	}
	return found, nil
}

// named returns a file system of which only the type is known.
func named(kind string) FileSystem { return FileSystem{Type: kind, Used: -1, Files: -1} }

// maxSize bounds sizes, in bytes: far above any disk's, and far below what overflows.
const maxSize = 1 << 60

// bytesOf is count units in bytes, 0 if no disk has so many.
func bytesOf(count uint64, unit int64) int64 {
	if unit <= 0 || count > uint64(maxSize/unit) {
		return 0
	}
	return int64(count) * unit
}

// usedOf is what is allocated of count units, of which some are free; -1 if that can't be.
func usedOf(count, free uint64, unit int64) int64 {
	if free > count || bytesOf(count, unit) == 0 {
		return -1
	}
	return bytesOf(count-free, unit)
}

// isPower reports whether n is a power of two from low to high.
func isPower(n, low, high int64) bool { return n >= low && n <= high && n&(n-1) == 0 }

// disk is what is looked at.
type disk struct {
	r       io.ReaderAt
	size    int64
	windows []window
	err     error // the source's first
}

// window is a part that was read.
type window struct {
	off int64
	b   []byte
}

// load reads n bytes at off, or as many as there are, for at.
func (d *disk) load(off, n int64) {
	if n = min(n, d.size-off); n <= 0 || d.err != nil {
		return
	}
	b := make([]byte, n)
	if _, d.err = readat.Full(d.r, b, off); d.err == nil {
		d.windows = append(d.windows, window{off, b})
	}
}

// at returns n bytes at off. It returns nil if the disk doesn't have them all, or if
// they can't be read. n is never a disk's own number.
func (d *disk) at(off, n int64) []byte {
	if off < 0 || n > d.size || off > d.size-n || d.err != nil {
		return nil
	}
	for _, w := range d.windows {
		if i := off - w.off; i >= 0 && i+n <= int64(len(w.b)) {
			return w.b[i:][:n:n]
		}
	}
	b := make([]byte, n)
	if _, d.err = readat.Full(d.r, b, off); d.err != nil {
		return nil
	}
	return b
}

// has reports whether the bytes are at off.
func (d *disk) has(off int64, mark string) bool { return string(d.at(off, int64(len(mark)))) == mark }

// text is a label up to its first NUL, without the spaces that fill it up.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimRight(s, " ")
}

// text16 is a label in UTF-16 up to its first NUL.
func text16(b []byte, unit func([]byte) uint16) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := unit(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return strings.TrimRight(string(utf16.Decode(units)), " ")
}

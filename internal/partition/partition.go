// Package partition reads the partition table of a disk: GUID partition table,
// Apple partition map, or master boot record with its logical partitions.
//
// Tables come from untrusted disks. Every entry is checked against the disk and
// what doesn't fit is left out; nothing here fails for what a disk holds.
package partition

import (
	"cmp"
	"io"
	"math"
	"slices"
	"strings"
)

// Table is what a disk's partition table says.
type Table struct {
	Scheme     string // "GPT", "APM" or "MBR"; empty if there is no table
	Partitions []Partition

	// End is where the last entry ends, in bytes from the disk's start, whether or
	// not the disk has all of it: what was cut off a disk is still in its table.
	End int64
}

// Partition is one entry of a table.
type Partition struct {
	Name string // that its owner gave it; may be empty

	// Type is what diskutil calls it, "Apple_HFS" for one, or, where this
	// package knows no name, the table's own: a GUID, or "0x" and a byte.
	Type string

	Offset, Length int64 // in bytes
}

// Read looks for a table on the disk r of size bytes and returns its partitions in
// disk order, free space left out. It reads some kilobytes, a few MiB at most. The only
// error is r's; a disk without a table has the zero Table. So has one with a boot
// record of which no entry fits, but for End.
//
// A GUID table comes first, since it comes with a protective boot record, and a
// boot record last, since any bootable disk may have one. The copy of a GUID table at the
// disk's end is looked for where there is no Apple map: in a compressed image, the end is
// far away.
func Read(r io.ReaderAt, size int64) (Table, error) {
	d := &disk{r: r, size: size}
	for _, scheme := range []struct {
		name string
		read func(*disk) ([]Partition, error)
	}{{"GPT", readGPT}, {"APM", readAPM}, {"GPT", readBackupGPT}, {"MBR", readMBR}} {
		parts, err := scheme.read(d)
		if err != nil {
			return Table{}, err
		}
		if parts != nil {
			slices.SortStableFunc(parts, func(a, b Partition) int { return cmp.Compare(a.Offset, b.Offset) })
			return Table{scheme.name, parts, d.end}, nil
		}
	}
	return Table{End: d.end}, nil
}

// disk is a source whose reads may lie outside of it.
type disk struct {
	r    io.ReaderAt
	size int64
	end  int64 // of the last extent, on the disk or not
}

// read fills p from off. Where the disk doesn't have all of it, ok is false.
func (d *disk) read(p []byte, off int64) (ok bool, err error) {
	if off < 0 || off > d.size-int64(len(p)) {
		return false, nil
	}
	n, err := d.r.ReadAt(p, off)
	if n == len(p) {
		return true, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return false, err
}

// extent makes a byte range of the count units from start on that an entry has. It
// is not ok if it is empty or the disk doesn't have all of it; one that no disk
// could have is not in d.end either.
func (d *disk) extent(start, count uint64, unit int64) (off, length int64, ok bool) {
	units := uint64(math.MaxInt64 / unit)
	if count == 0 || start > units || count > units-start {
		return 0, 0, false
	}
	off, length = int64(start)*unit, int64(count)*unit
	d.end = max(d.end, off+length)
	return off, length, off+length <= d.size
}

// text makes a name of bytes that end with the first zero, if any.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.ToValidUTF8(s, "\uFFFD")
}

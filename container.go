package dmg

import (
	"io"
	"os"
)

// A container is a file that may hold an image, with what is wrapped around it
// taken off.
type container struct {
	r         io.ReaderAt
	size      int64
	format    string // hdiutil's name, if the container is the format
	encrypted bool
	closers   []io.Closer
}

// openFile opens a file of the file system.
func openFile(name string) (container, error) {
	f, err := os.Open(name)
	if err != nil {
		return container{}, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return container{}, err
	}
	return container{r: f, size: info.Size(), closers: []io.Closer{f}}, nil
}

// diskMarks are the signatures that tell a raw disk from any other file.
var diskMarks = []struct {
	offset int64
	magic  string
	format string
}{
	{32769, "CD001", "UDTO"},  // ISO 9660 volume descriptor
	{512, "EFI PART", "UDRW"}, // GUID partition table
	{510, "\x55\xAA", "UDRW"}, // master boot record
	{0, "ER", "UDRW"},         // Apple driver descriptor map
	{1024, "H+", "UDRW"},      // HFS+
	{1024, "HX", "UDRW"},      // HFSX
	{1024, "BD", "UDRW"},      // HFS
	{32, "NXSB", "UDRW"},      // APFS container
}

// rawChunks makes a container that is a disk itself into one raw chunk. A file
// without any sign of a disk is refused: a reader of arbitrary files as disks
// would hide that a file is no image.
func (c *container) rawChunks() ([]Chunk, error) {
	for _, mark := range diskMarks {
		b := make([]byte, len(mark.magic))
		if mark.offset+int64(len(b)) > c.size {
			continue
		}
		if err := readFull(c.r, b, mark.offset); err != nil {
			return nil, err
		}
		if string(b) == mark.magic {
			c.format = mark.format
			return []Chunk{{Method: Raw, Length: c.size, DataLength: c.size, Partition: -1}}, nil
		}
	}
	return nil, &FormatError{Section: "file", Msg: "neither a disk image nor a raw disk"}
}

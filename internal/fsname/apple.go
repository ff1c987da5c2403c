package fsname

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/internal/plistguard"
)

var (
	be = binary.BigEndian
	le = binary.LittleEndian
)

// volumeHeader is where Apple's file systems but APFS have their header, in bytes.
const volumeHeader = 1024

// hfs recognizes HFS+, HFSX and HFS, and an HFS+ volume that HFS is only the wrapper of.
func hfs(d *disk) (FileSystem, bool) {
	if fs, ok := hfsPlusAt(d, 0, volumeHeader); ok {
		return fs, true
	}
	// The master directory block of Inside Macintosh: Files.
	b := d.at(volumeHeader, 162)
	if b == nil || string(b[:2]) != "BD" {
		return FileSystem{}, false
	}
	unit, blocks := int64(be.Uint32(b[0x14:])), uint64(be.Uint16(b[0x12:]))
	if unit == 0 || unit%512 != 0 || blocks == 0 || int(b[0x24]) > 27 {
		return FileSystem{}, false
	}
	first := int64(be.Uint16(b[0x1C:])) * 512
	if string(b[0x7C:0x7E]) == "H+" {
		// TN1150: the wrapper has the volume's extent in blocks of its own.
		start := first + int64(be.Uint16(b[0x7E:]))*unit
		if fs, ok := hfsPlusAt(d, start, start+volumeHeader); ok {
			return fs, true
		}
		if fs, ok := hfsPlusCopy(d, start, min(start+int64(be.Uint16(b[0x80:]))*unit, d.size)); ok {
			return fs, true
		}
	}
	return FileSystem{
		Type:      "HFS",
		Label:     plistguard.MacRoman(b[0x25:][:b[0x24]]),
		Length:    first + bytesOf(blocks, unit) + 1024, // the copy of the block, and the last sector
		BlockSize: unit,
		Used:      usedOf(blocks, uint64(be.Uint16(b[0x22:])), unit),
		Files:     int64(be.Uint32(b[0x54:])),
	}, true
}

// lostHFSPlus recognizes an HFS+ or HFSX volume whose header is lost, by the copy.
func lostHFSPlus(d *disk) (FileSystem, bool) { return hfsPlusCopy(d, 0, d.size) }

// hfsPlusCopy recognizes an HFS+ or HFSX volume by the copy of its header, which is 1024
// bytes before its end (TN1150, "Volume Header"). The copy may be a leftover, or that of
// the last partition: the volume must fill the space, and have its catalog where it says.
func hfsPlusCopy(d *disk, off, end int64) (FileSystem, bool) {
	fs, ok := hfsPlusAt(d, off, end-volumeHeader)
	if rest := end - off - fs.Length; !ok || rest < 0 || rest >= fs.BlockSize {
		return FileSystem{}, false
	}
	catalog := hfsPlusCatalog(d, &fs, d.at(end-volumeHeader, 512)).at(0, 512)
	return fs, catalog != nil && catalog[8] == 1
}

// hfsPlusCatalog returns the catalog of a volume, by its header.
func hfsPlusCatalog(d *disk, fs *FileSystem, header []byte) fork {
	return fork{d: d, volume: fs.Offset, unit: fs.BlockSize, extents: header[272+16:][:64]}
}

// hfsPlusAt recognizes an HFS+ or HFSX volume that begins at off, by its header as TN1150
// has it, or by the copy of that.
func hfsPlusAt(d *disk, off, header int64) (FileSystem, bool) {
	b := d.at(header, 512)
	if b == nil {
		return FileSystem{}, false
	}
	fs := FileSystem{Offset: off}
	switch string(b[:2]) {
	case "H+":
		fs.Type = "HFS+"
	case "HX":
		fs.Type = "HFSX"
	default:
		return FileSystem{}, false
	}
	version, blocks, free := be.Uint16(b[2:]), be.Uint32(b[44:]), be.Uint32(b[48:])
	fs.BlockSize = int64(be.Uint32(b[40:]))
	if version != 4 && version != 5 || !isPower(fs.BlockSize, 512, 1<<31) || blocks == 0 {
		return FileSystem{}, false
	}
	fs.Length = bytesOf(uint64(blocks), fs.BlockSize)
	fs.Used = usedOf(uint64(blocks), uint64(free), fs.BlockSize)
	fs.Files = int64(be.Uint32(b[32:]))
	fs.Label = hfsPlusLabel(d, hfsPlusCatalog(d, &fs, b))
	return fs, true
}

// hfsPlusLabel returns the root folder's name. It is in the catalog's first record: the
// root folder's parent has the least number of all, 1, and no other child.
func hfsPlusLabel(d *disk, catalog fork) string {
	header := catalog.at(0, 512) // of the tree; its node is as long as it says, 512 bytes at least
	if header == nil || header[8] != 1 {
		return ""
	}
	first, node := int64(be.Uint32(header[24:])), int64(be.Uint16(header[32:]))
	if !isPower(node, 512, 1<<15) {
		return ""
	}
	const key, longest = 14, 255 // where the first record is; UTF-16 units
	leaf := catalog.at(first*node, 512)
	if leaf == nil || int8(leaf[8]) != -1 || be.Uint16(leaf[10:]) == 0 || be.Uint32(leaf[key+2:]) != 1 {
		return ""
	}
	n := int(be.Uint16(leaf[key+6:]))
	if n > longest || key+8+2*n > len(leaf) { // a longer name would take a second read
		return ""
	}
	units := make([]uint16, n)
	for i := range units {
		units[i] = be.Uint16(leaf[key+8+2*i:])
	}
	return norm.NFC.String(string(utf16.Decode(units))) // it is stored decomposed
}

// fork is a file of an HFS+ volume, as far as its first eight extents have it.
type fork struct {
	d       *disk
	volume  int64  // where the volume begins
	unit    int64  // bytes of a block
	extents []byte // pairs of a first block and a count of blocks
}

// at returns n bytes at off, or nil if they aren't in one of the extents.
func (f fork) at(off, n int64) []byte {
	for e := f.extents; len(e) > 0 && off >= 0; e = e[8:] {
		length := int64(be.Uint32(e[4:])) * f.unit
		if off < length {
			if n > length-off {
				return nil
			}
			return f.d.at(f.volume+int64(be.Uint32(e))*f.unit+off, n)
		}
		off -= length
	}
	return nil
}

// apfs recognizes an APFS container by its superblock. What volumes it has takes more
// than a look.
func apfs(d *disk) (FileSystem, bool) {
	b := d.at(0, 1304)
	if b == nil || string(b[32:36]) != "NXSB" || le.Uint16(b[24:]) != 1 {
		return FileSystem{}, false
	}
	fs := named("APFS")
	fs.BlockSize = int64(le.Uint32(b[36:]))
	if !isPower(fs.BlockSize, 4096, 65536) {
		return FileSystem{}, false
	}
	fs.Length = bytesOf(le.Uint64(b[40:]), fs.BlockSize)
	return fs, true
}

// mfs recognizes the file system of the first Macintoshes: Inside Macintosh, volume II.
func mfs(d *disk) (FileSystem, bool) {
	b := d.at(volumeHeader, 64)
	if b == nil || string(b[:2]) != "\xD2\xD7" {
		return FileSystem{}, false
	}
	unit, blocks := int64(be.Uint32(b[20:])), uint64(be.Uint16(b[18:]))
	if unit == 0 || unit%512 != 0 || blocks == 0 || int(b[36]) > 27 {
		return FileSystem{}, false
	}
	return FileSystem{
		Type:      "MFS",
		Label:     plistguard.MacRoman(b[37:][:b[36]]),
		Length:    int64(be.Uint16(b[28:]))*512 + bytesOf(blocks, unit),
		BlockSize: unit,
		Used:      usedOf(blocks, uint64(be.Uint16(b[34:])), unit),
		Files:     int64(be.Uint16(b[12:])),
	}, true
}

// proDOS recognizes the file system of the Apple II by the key block of its volume
// directory, which begins with the volume's name.
func proDOS(d *disk) (FileSystem, bool) {
	b := d.at(volumeHeader, 43)
	if b == nil || le.Uint16(b) != 0 || b[4]>>4 != 0xF || b[35] != 0x27 || b[36] != 0x0D {
		return FileSystem{}, false
	}
	name := string(b[5:][:b[4]&0xF])
	if name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ.0123456789") != "" {
		return FileSystem{}, false
	}
	fs := named("ProDOS")
	fs.Label, fs.BlockSize = name, 512
	fs.Length = int64(le.Uint16(b[41:])) * 512
	return fs, true
}

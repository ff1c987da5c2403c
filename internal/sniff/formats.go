package sniff

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// What to do about a file.
const (
	again   = "if it was to be a disk image, download it again"
	unpack  = "unpack it and open the disk image that is in it"
	convert = "convert it to a raw disk or to UDIF first"
)

func archive(what string) Kind   { return Kind{what + ", not a disk image", unpack, false} }
func other(what string) Kind     { return Kind{what + ", not a disk image", again, false} }
func diskImage(what string) Kind { return Kind{what, convert, true} }

// magics are signatures, those that tell most first. gzip and others are of one
// stream, whose content is the image.
var magics = []magic{
	{0, "AEA1", Kind{"an Apple Encrypted Archive (AEA) of an unknown kind", "decrypt it first, with aea on a Mac", true}},
	{0, "AA01", Kind{"an Apple Archive", "unpack it first, with aa on a Mac", true}},
	{0, "YAA1", Kind{"an Apple Archive", "unpack it first, with yaa or aa on a Mac", true}},
	{0, "pbzx", Kind{"a pbzx stream of an installer package", unpack, true}},
	{0, "shdw", Kind{"an ASIF disk image of another version than macOS 26 writes", "convert it with diskutil image on a Mac", true}},
	{0, "QFI\xFB", diskImage("a QCOW2 disk image of QEMU")},
	{0, "KDMV", diskImage("a VMDK disk image of VMware")},
	{0, "COWD", diskImage("a VMDK disk image of VMware")},
	{0, "# Disk DescriptorFile", Kind{"the description of a VMDK disk image of VMware", "open the flat file that it names", true}},
	{0, "conectix", diskImage("a VHD disk image of Virtual PC")},
	{0, "vhdxfile", diskImage("a VHDX disk image of Hyper-V")},
	{64, "\x7F\x10\xDA\xBE", diskImage("a VDI disk image of VirtualBox")},
	{0, "WithoutFreeSpace", diskImage("an HDD disk image of Parallels")},
	{0, "WithouFreSpacExt", diskImage("an HDD disk image of Parallels")},
	{0, "MSWIM\x00\x00\x00", diskImage("a WIM image of Windows")},
	{0, "EVF\x09\x0D\x0A\xFF\x00", diskImage("an EnCase (E01) disk image")},
	{0, "CISO", diskImage("a compressed ISO (CISO) disk image")},
	{0, "\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00", Kind{"the image of a CD in sectors of 2352 bytes", "convert it to an ISO image first", true}},
	{0, "hsqs", diskImage("a SquashFS image")},

	{0, "\x1F\x8B", Kind{"a gzip file", "decompress it with gunzip and open what comes out", false}},
	{0, "\x1F\x9D", Kind{"a compress (.Z) file", "decompress it with uncompress and open what comes out", false}},
	{0, "\x28\xB5\x2F\xFD", Kind{"a Zstandard file", "decompress it with unzstd and open what comes out", false}},
	{0, "\x04\x22\x4D\x18", Kind{"an LZ4 file", "decompress it with unlz4 and open what comes out", false}},
	{0, "LZIP", Kind{"an lzip file", "decompress it with lzip -d and open what comes out", false}},
	{0, "PK\x03\x04", archive("a ZIP archive")},
	{0, "PK\x05\x06", archive("an empty ZIP archive")},
	{0, "7z\xBC\xAF\x27\x1C", archive("a 7-Zip archive")},
	{0, "Rar!\x1A\x07", archive("a RAR archive")},
	{0, "xar!", archive("an installer package or another xar archive")},
	{257, "ustar", archive("a tar archive")},
	{0, "070701", archive("a cpio archive")},
	{0, "070707", archive("a cpio archive")},
	{0, "!<arch>\n", archive("an ar archive")},
	{0, "SIT!", archive("a StuffIt archive")},
	{0, "StuffIt", archive("a StuffIt archive")},
	{0, "(This file must be converted with BinHex", Kind{"a BinHex file", "decode it first and open what comes out", false}},

	{0, "version https://git-lfs.github.com/spec/", Kind{"a pointer of Git LFS in place of the file", "fetch the file with git lfs pull", false}},
	{0, "%PDF", other("a PDF document")},
	{0, "\x7FELF", other("an ELF executable")},
	{0, "\xFE\xED\xFA\xCE", other("a Mach-O executable")},
	{0, "\xFE\xED\xFA\xCF", other("a Mach-O executable")},
	{0, "\xCE\xFA\xED\xFE", other("a Mach-O executable")},
	{0, "\xCF\xFA\xED\xFE", other("a Mach-O executable")},
	{0, "\xCA\xFE\xBA\xBE", other("a universal Mach-O executable or a Java class")},
	{0, "MZ", other("a Windows executable")},
	{0, "\x89PNG\r\n\x1A\n", other("a PNG picture")},
	{0, "\xFF\xD8\xFF", other("a JPEG picture")},
	{0, "GIF8", other("a GIF picture")},
	{0, "SQLite format 3\x00", other("an SQLite database")},
	{0, "bplist0", other("a binary property list")},
	{0, "Salted__", Kind{"a file encrypted by openssl", "decrypt it first", false}},
	{0, "age-encryption.org/", Kind{"a file encrypted by age", "decrypt it first", false}},
	{0, "\x89DMGIDX\n", Kind{"the index of an image", "open the image itself", false}},
}

// looks recognize what no signature at a place does, in this order.
var looks = []func(*file) (Kind, bool){
	(*file).zeros,
	(*file).firmware,
	(*file).macBinary,
	(*file).appleDouble,
	(*file).diskCopy42,
	(*file).text,
}

func (f *file) zeros() (Kind, bool) {
	return Kind{"zeros, as far as can be seen", "a download that has not begun, or an empty disk without a partition table; " + again, false},
		len(bytes.Trim(f.head, "\x00")) == 0 && len(bytes.Trim(f.tail, "\x00")) == 0
}

// firmware recognizes Apple's IM4P and IMG4: DER sequences that begin with a name.
func (f *file) firmware() (Kind, bool) {
	b := f.head[:min(len(f.head), 16)]
	for _, name := range []string{"IM4P", "IMG4"} {
		if len(b) > 2 && b[0] == 0x30 && bytes.Contains(b, []byte("\x16\x04"+name)) {
			return Kind{"an " + name + " file of Apple's firmware", "extract its payload first", true}, true
		}
	}
	return Kind{}, false
}

// What old Disk Copy's files are.
var (
	ndif       = Kind{"an NDIF disk image of Disk Copy 6, which has its block table in the resource fork", "convert it with hdiutil on a Mac of its time", true}
	diskCopy42 = Kind{"a Disk Copy 4.2 disk image", "cut off its header of 84 bytes and what is behind the disk, and open that as a raw disk", true}
)

// macBinary recognizes files of a type that Disk Copy gave them behind a header of
// 128 bytes: a name's length and the name, type and creator at 65.
func (f *file) macBinary() (Kind, bool) {
	b := f.head
	if len(b) < 128 || b[0] != 0 || b[1] == 0 || b[1] > 63 || b[74] != 0 || b[82] != 0 {
		return Kind{}, false
	}
	switch kind, creator := string(b[65:69]), string(b[69:73]); {
	case creator == "dCpy" || kind == "dImg":
		return diskCopy42, true
	case creator == "ddsk" || kind == "rohd" || kind == "hdro" || kind == "hdrd":
		return ndif, true
	}
	return Kind{}, false
}

// appleDouble recognizes what stands beside a file for its resource fork, and that
// fork alone.
func (f *file) appleDouble() (Kind, bool) {
	double := bytes.HasPrefix(f.head, []byte("\x00\x05\x16\x07"))
	single := bytes.HasPrefix(f.head, []byte("\x00\x05\x16\x00"))
	fork := bytes.HasPrefix(f.head, []byte("\x00\x00\x01\x00"))
	switch {
	case (double || single || fork) && (bytes.Contains(f.head, []byte("bcem")) || bytes.Contains(f.tail, []byte("bcem"))):
		return ndif, true
	case double:
		return Kind{"an AppleDouble file, which stands beside the file that it belongs to", "open that, whose name lacks the ._ in front", false}, true
	case single:
		return Kind{"an AppleSingle file", "decode it first and open what comes out", false}, true
	}
	return Kind{}, false
}

// diskCopy42 recognizes a header of 84 bytes by its sizes: name, data and tag sizes at
// 64 and 68, encoding at 80, and 0x0100 at its end.
func (f *file) diskCopy42() (Kind, bool) {
	b := f.head
	if len(b) < 84 || b[0] == 0 || b[0] > 63 || b[80] > 3 || b[82] != 1 || b[83] != 0 {
		return Kind{}, false
	}
	data, tags := int64(binary.BigEndian.Uint32(b[64:])), int64(binary.BigEndian.Uint32(b[68:]))
	return diskCopy42, data > 0 && data%512 == 0 && 84+data+tags <= f.size
}

// text recognizes web pages and other text.
func (f *file) text() (Kind, bool) {
	b := bytes.TrimLeft(bytes.TrimPrefix(f.head, []byte("\xEF\xBB\xBF")), " \t\r\n")
	start := bytes.ToLower(b[:min(len(b), 1024)])
	for _, tag := range []string{"<!doctype html", "<html", "<head", "<body", "<script", "<title", "<meta"} {
		if bytes.HasPrefix(start, []byte(tag)) {
			return page, true
		}
	}
	switch {
	case bytes.HasPrefix(start, []byte("<?xml")) && bytes.Contains(start, []byte("<html")):
		return page, true
	case bytes.HasPrefix(start, []byte("<?xml")) && bytes.Contains(start, []byte("<plist")):
		return other("a property list"), true
	case bytes.HasPrefix(start, []byte("<?xml")):
		return other("an XML document"), true
	case bytes.HasPrefix(start, []byte("#!")):
		return other("a script"), true
	}
	return other("a text file"), isText(f.head)
}

var page = Kind{"an HTML page, not a disk image", "it was saved in place of the image; download that again", false}

// isText reports whether there is nothing in b but text in UTF-8.
func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 && len(b) >= utf8.UTFMax || r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' {
			return false
		}
		b = b[n:]
	}
	return true
}

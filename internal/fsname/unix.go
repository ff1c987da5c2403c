package fsname

// marks are file systems, and what stands in a partition in place of one, that a mark is
// enough to know.
var marks = []struct {
	kind      string
	off       int64
	mark      string
	encrypted bool
}{
	{"F2FS", 1024, "\x10\x20\xF5\xF2", false},
	{"EROFS", 1024, "\xE2\xE1\xF5\xE0", false},
	{"SquashFS", 0, "hsqs", false},
	{"ReiserFS", 64<<10 + 52, "ReIsEr", false},
	{"JFS", 32 << 10, "JFS1", false},
	{"HPFS", 8 << 10, "\x49\xE8\x95\xF9\xC5\xE9\x53\xFA", false},
	{"ReFS", 3, "ReFS\x00\x00\x00\x00", false},
	{"LVM", 512 + 24, "LVM2 001", false},
	{"LUKS", 0, "LUKS\xBA\xBE", true},
	{"BitLocker", 3, "-FVE-FS-", true},
}

// marked recognizes what has a mark, and Apple's CoreStorage, whose own is too short to
// stand alone.
func marked(d *disk) (FileSystem, bool) {
	for _, m := range marks {
		if d.has(m.off, m.mark) {
			fs := named(m.kind)
			fs.Encrypted = m.encrypted
			return fs, true
		}
	}
	if b := d.at(0, 96); b != nil && string(b[88:90]) == "CS" && le.Uint16(b[8:]) == 1 && le.Uint16(b[10:]) == 0x10 {
		return named("CoreStorage"), true
	}
	return FileSystem{}, false
}

// ext recognizes ext2, ext3 and ext4 by the features that need the later ones.
func ext(d *disk) (FileSystem, bool) {
	b := d.at(1024, 512)
	if b == nil || le.Uint16(b[56:]) != 0xEF53 {
		return FileSystem{}, false
	}
	blocks, free := uint64(le.Uint32(b[4:])), uint64(le.Uint32(b[12:]))
	shift := le.Uint32(b[24:])
	if blocks == 0 || shift > 6 {
		return FileSystem{}, false
	}
	const (
		hasJournal = 0x4  // compatible: ext3
		ext3In     = 0x16 // incompatible ones that ext3 knows: file types, recovery, groups of blocks
		ext3RO     = 0x7  // read-only compatible ones that ext3 knows
		journalDev = 0x8
		wide       = 0x80
	)
	compatible, incompatible, readOnly := le.Uint32(b[92:]), le.Uint32(b[96:]), le.Uint32(b[100:])
	fs := named("ext2")
	switch {
	case incompatible&journalDev != 0:
		fs.Type = "ext journal"
	case incompatible&^ext3In != 0 || readOnly&^ext3RO != 0:
		fs.Type = "ext4"
	case compatible&hasJournal != 0:
		fs.Type = "ext3"
	}
	if incompatible&wide != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
		free |= uint64(le.Uint32(b[0x158:])) << 32
	}
	fs.Label, fs.BlockSize = text(b[120:136]), 1024<<shift
	fs.Length = bytesOf(blocks, fs.BlockSize)
	fs.Used = usedOf(blocks, free, fs.BlockSize)
	return fs, true
}

// xfs recognizes XFS.
func xfs(d *disk) (FileSystem, bool) {
	b := d.at(0, 264)
	if b == nil || string(b[:4]) != "XFSB" || !isPower(int64(be.Uint32(b[4:])), 512, 65536) {
		return FileSystem{}, false
	}
	fs := named("XFS")
	fs.BlockSize = int64(be.Uint32(b[4:]))
	fs.Length = bytesOf(be.Uint64(b[8:]), fs.BlockSize)
	fs.Used = usedOf(be.Uint64(b[8:]), be.Uint64(b[144:]), fs.BlockSize)
	fs.Label = text(b[108:120])
	return fs, true
}

// btrfs recognizes Btrfs.
func btrfs(d *disk) (FileSystem, bool) {
	b := d.at(64<<10, 1024)
	if b == nil || string(b[64:72]) != "_BHRfS_M" || !isPower(int64(le.Uint32(b[144:])), 512, 65536) {
		return FileSystem{}, false
	}
	fs := named("Btrfs")
	fs.Label, fs.BlockSize = text(b[299:555]), int64(le.Uint32(b[144:]))
	fs.Length = bytesOf(le.Uint64(b[112:]), 1)
	if used := le.Uint64(b[120:]); used <= le.Uint64(b[112:]) && fs.Length > 0 {
		fs.Used = int64(used)
	}
	return fs, true
}

// ufs recognizes the file system of BSD, which Mac OS X had too, in either byte order.
func ufs(d *disk) (FileSystem, bool) {
	const magic = 1372 // in the superblock
	for _, u := range []struct {
		kind       string
		superblock int64
		mark       string
	}{
		{"UFS", 8 << 10, "\x54\x19\x01\x00"},
		{"UFS", 8 << 10, "\x00\x01\x19\x54"},
		{"UFS2", 64 << 10, "\x19\x01\x54\x19"},
		{"UFS2", 64 << 10, "\x19\x54\x01\x19"},
	} {
		if d.has(u.superblock+magic, u.mark) {
			return named(u.kind), true
		}
	}
	return FileSystem{}, false
}

// swapMark is how many bytes the mark of Linux's swap has, at the end of the first page.
const swapMark = 10

// swap recognizes Linux's swap space by machines with any size of a page.
func swap(d *disk) (FileSystem, bool) {
	for page := int64(4 << 10); page <= 64<<10; page *= 2 {
		old := d.has(page-swapMark, "SWAP-SPACE")
		if !old && !d.has(page-swapMark, "SWAPSPACE2") {
			continue
		}
		fs := named("Linux swap")
		fs.BlockSize = page
		if b := d.at(1024, 44); b != nil && !old && le.Uint32(b) == 1 {
			fs.Label = text(b[28:44])
			fs.Length = bytesOf(uint64(le.Uint32(b[4:]))+1, page) // of the last page's number
		}
		return fs, true
	}
	return FileSystem{}, false
}

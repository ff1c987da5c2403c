package fsname

import "bytes"

// bootSector is the first sector of DOS's file systems and their heirs, as far as they
// have it in common, in bytes: a jump of 3, a name of 8, and then
//
//	11  bytes a sector, u16            17  entries of the root directory, u16
//	13  sectors a cluster, u8          19  sectors, u16; 0 if there are more
//	14  reserved sectors, u16          21  media, u8
//	16  allocation tables, u8          22  sectors of a table, u16; 0 in FAT32
//	                                   32  sectors, u32
//	                                   36  sectors of a table, u32, in FAT32
const bootSector = 512

// fat recognizes FAT12, FAT16 and FAT32. Their boot sector has no mark of its own, and
// other file systems and boot records have the same at its end: so all of its fields
// have to make sense, and the first allocation table has to begin with the media byte.
func fat(d *disk) (FileSystem, bool) {
	b := d.at(0, bootSector)
	if b == nil || b[0] != 0xEB && b[0] != 0xE9 && b[0] != 0 {
		return FileSystem{}, false
	}
	sector, cluster := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, tables, media := int64(le.Uint16(b[14:])), int64(b[16]), b[21]
	entries, sectors, perTable := int64(le.Uint16(b[17:])), int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	wide := perTable == 0 && entries == 0
	if wide {
		perTable = int64(le.Uint32(b[36:]))
	}
	if !isPower(sector, 512, 4096) || !isPower(cluster, 1, 128) || reserved == 0 || tables == 0 || tables > 2 ||
		media < 0xF8 && media != 0xF0 || perTable == 0 || !wide && entries == 0 {
		return FileSystem{}, false
	}
	root := reserved + tables*perTable // a sector; of FAT32 the first cluster
	data := root + (entries*32+sector-1)/sector
	if data >= sectors {
		return FileSystem{}, false
	}
	if table := d.at(reserved*sector, 2); table == nil || table[0] != media || table[1] != 0xFF {
		return FileSystem{}, false
	}
	clusters := (sectors - data) / cluster
	fs := named("FAT32")
	label := b[71:82]
	switch {
	case wide:
		root += (int64(le.Uint32(b[44:])) - 2) * cluster
	case clusters < 4085: // Microsoft's FAT specification: it's their number that tells
		fs.Type, label = "FAT12", b[43:54]
	default:
		fs.Type, label = "FAT16", b[43:54]
	}
	extended := 38 // a mark that the label is there
	if wide {
		extended = 66
	}
	if b[extended] != 0x29 {
		label = nil
	}
	fs.Length, fs.BlockSize = sectors*sector, cluster*sector
	fs.Label = fatLabel(d, root*sector)
	if fs.Label == "" {
		fs.Label = text(label)
	}
	if fs.Label == "NO NAME" {
		fs.Label = ""
	}
	return fs, true
}

// fatLabel returns the label in the root directory, where it goes before the boot
// sector's: one of the first entries, as a rule.
func fatLabel(d *disk, root int64) string {
	const size, attributes, volume, longName = 32, 11, 0x08, 0x0F
	for b := d.at(root, 512); len(b) >= size && b[0] != 0; b = b[size:] {
		if a := b[attributes]; a&volume != 0 && a&longName != longName && b[0] != 0xE5 {
			return text(b[:11])
		}
	}
	return ""
}

// exFAT recognizes exFAT by Microsoft's specification.
func exFAT(d *disk) (FileSystem, bool) {
	b := d.at(0, bootSector)
	if b == nil || string(b[3:11]) != "EXFAT   " || b[108] < 9 || b[108] > 12 || b[109] > 25-b[108] {
		return FileSystem{}, false
	}
	fs := named("exFAT")
	sector := int64(1) << b[108]
	fs.BlockSize = sector << b[109]
	fs.Length = bytesOf(le.Uint64(b[72:]), sector)
	heap, root := int64(le.Uint32(b[88:])), int64(le.Uint32(b[96:]))
	const size, label = 32, 0x83
	for e := d.at(heap*sector+(root-2)*fs.BlockSize, 512); len(e) >= size && e[0] != 0; e = e[size:] {
		if e[0] == label {
			fs.Label = text16(e[2:][:2*min(int(e[1]), 11)], le.Uint16)
			break
		}
	}
	return fs, true
}

// ntfs recognizes NTFS.
func ntfs(d *disk) (FileSystem, bool) {
	b := d.at(0, bootSector)
	if b == nil || string(b[3:11]) != "NTFS    " {
		return FileSystem{}, false
	}
	sector, cluster := int64(le.Uint16(b[11:])), int64(b[13])
	if b[13] > 0x80 && b[13] >= 256-31 { // a power of two
		cluster = 1 << -int8(b[13])
	}
	if !isPower(sector, 256, 4096) || !isPower(cluster, 1, 1<<31) {
		return FileSystem{}, false
	}
	fs := named("NTFS")
	fs.BlockSize = sector * cluster
	fs.Length = bytesOf(le.Uint64(b[40:]), sector)
	record := int64(int8(b[64])) * fs.BlockSize
	if n := -int(int8(b[64])); n > 0 && n < 31 {
		record = 1 << n
	}
	const volume = 3 // number of the record that has the label
	if table := bytesOf(le.Uint64(b[48:]), fs.BlockSize); table > 0 && isPower(record, 512, 4096) {
		fs.Label = ntfsLabel(d.at(table+volume*record, record))
	}
	return fs, true
}

// ntfsLabel returns the volume's name, an attribute of a record of the master file table.
func ntfsLabel(record []byte) string {
	if len(record) < 512 || string(record[:4]) != "FILE" {
		return ""
	}
	record = bytes.Clone(record)
	// The last two bytes of each sector have been put elsewhere: see fixups.
	at, count := int(le.Uint16(record[4:])), int(le.Uint16(record[6:]))
	for i := 1; i < count && i*512 <= len(record) && at+2*i+2 <= len(record); i++ {
		copy(record[i*512-2:i*512], record[at+2*i:])
	}
	const name, longest = 0x60, 256
	for a := int(le.Uint16(record[20:])); a+24 <= len(record); {
		kind, length := le.Uint32(record[a:]), le.Uint32(record[a+4:])
		if length < 24 || length > uint32(len(record)-a) {
			return ""
		}
		if kind == name && record[a+8] == 0 { // resident
			n, from := le.Uint32(record[a+16:]), uint32(le.Uint16(record[a+20:]))
			if n > longest || from+n > length {
				return ""
			}
			return text16(record[a+int(from):][:n], le.Uint16)
		}
		a += int(length)
	}
	return ""
}

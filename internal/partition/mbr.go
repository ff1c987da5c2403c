package partition

import (
	"encoding/binary"
	"fmt"
)

const (
	mbrSector = 512
	mbrTable  = 446 // of four entries of 16 bytes

	// maxLogical bounds the chain of logical partitions.
	maxLogical = 256
)

// mbrEntry is an entry of a boot record, in sectors: status, where it begins in a
// geometry no longer used (3 bytes), type, where it ends, first sector, count.
type mbrEntry struct {
	kind         byte
	start, count uint32
}

// extended reports whether e only encloses logical partitions: the types of DOS,
// Windows 95 and Linux.
func (e mbrEntry) extended() bool { return e.kind == 0x05 || e.kind == 0x0F || e.kind == 0x85 }

// readMBR returns the partitions of the boot record, or nil if there is none: the
// first sector of a file system has the same mark and no entries that make sense.
func readMBR(d *disk) ([]Partition, error) {
	table, err := mbrEntries(d, 0)
	if err != nil {
		return nil, err
	}
	var parts []Partition
	for _, e := range table {
		var more []Partition
		if e.extended() {
			d.extent(uint64(e.start), uint64(e.count), mbrSector) // for d.end: its records may be cut off
			more, err = readLogical(d, e)
			if err != nil {
				return nil, err
			}
		} else if p, ok := e.partition(d, 0); ok {
			more = []Partition{p}
		}
		parts = append(parts, more...)
	}
	return parts, nil
}

// mbrEntries returns the entries of the record in a sector, none if that isn't a
// record. Entries begin with 0 or 0x80.
func mbrEntries(d *disk, sector uint64) ([]mbrEntry, error) {
	var b [mbrSector]byte
	// By 32-bit fields added in 64 bits, the product can't overflow.
	if ok, err := d.read(b[:], int64(sector)*mbrSector); !ok {
		return nil, err
	}
	if b[510] != 0x55 || b[511] != 0xAA {
		return nil, nil
	}
	var table []mbrEntry
	for e := b[mbrTable:510]; len(e) > 0; e = e[16:] {
		if e[0]&^0x80 != 0 {
			return nil, nil
		}
		table = append(table, mbrEntry{e[4], binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])})
	}
	return table, nil
}

// readLogical follows the chain of records in an extended partition. Each has a
// partition, placed from itself, and the next record, placed from the extended
// partition's start. Records go up, so that there is no loop.
func readLogical(d *disk, ext mbrEntry) ([]Partition, error) {
	var parts []Partition
	at := uint64(ext.start)
	for range maxLogical {
		table, err := mbrEntries(d, at)
		if err != nil {
			return nil, err
		}
		// By 32-bit fields added in 64 bits, next can't wrap.
		next := at
		for _, e := range table {
			if e.extended() {
				next = uint64(ext.start) + uint64(e.start)
			} else if p, ok := e.partition(d, at); ok {
				parts = append(parts, p)
			}
		}
		if next <= at {
			break
		}
		at = next
	}
	return parts, nil
}

// partition makes a Partition of an entry placed from a sector on. A protective
// entry stands for a GUID table, which would have been read if it held.
func (e mbrEntry) partition(d *disk, from uint64) (Partition, bool) {
	if e.kind == 0 || e.kind == 0xEE {
		return Partition{}, false
	}
	off, length, ok := d.extent(from+uint64(e.start), uint64(e.count), mbrSector)
	if !ok {
		return Partition{}, false
	}
	name, known := mbrTypes[e.kind]
	if !known {
		name = fmt.Sprintf("0x%02X", e.kind)
	}
	return Partition{Type: name, Offset: off, Length: length}, true
}

// mbrTypes are types as hdiutil names them, and those of other systems in its manner.
var mbrTypes = map[byte]string{
	0x01: "DOS_FAT_12",
	0x04: "DOS_FAT_16_S", // less than 32 MiB
	0x06: "DOS_FAT_16",
	0x07: "Windows_NTFS", // exFAT and HPFS as well
	0x0B: "DOS_FAT_32",
	0x0C: "Windows_FAT_32", // addressed by sector numbers, as 0x0E
	0x0E: "Windows_FAT_16",
	0x11: "Hidden_DOS_FAT_12",
	0x14: "Hidden_DOS_FAT_16_S",
	0x16: "Hidden_DOS_FAT_16",
	0x17: "Hidden_Windows_NTFS",
	0x1B: "Hidden_DOS_FAT_32",
	0x1C: "Hidden_Windows_FAT_32",
	0x1E: "Hidden_Windows_FAT_16",
	0x27: "Windows_RE",
	0x39: "Plan_9",
	0x42: "Windows_LDM",
	0x82: "Linux_Swap",
	0x83: "Linux",
	0x8E: "Linux_LVM",
	0xA5: "FreeBSD",
	0xA6: "OpenBSD",
	0xA7: "NeXTSTEP",
	0xA8: "Apple_UFS",
	0xA9: "NetBSD",
	0xAB: "Apple_Boot",
	0xAC: "Apple_RAID",
	0xAF: "Apple_HFS",
	0xBE: "Solaris_Boot",
	0xBF: "Solaris",
	0xEB: "BFS",
	0xEF: "EFI",
	0xFB: "VMware_VMFS",
	0xFD: "Linux_RAID",
}

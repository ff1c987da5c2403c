package partition

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

// The GUID partition table of the UEFI specification, chapter 5.3.
const (
	gptMark      = "EFI PART"
	gptHeaderLen = 92      // as far as fields are defined
	gptMinEntry  = 128     // bytes of an entry
	gptMaxArray  = 1 << 20 // bytes of all entries; 16 KiB are usual
)

// readGPT tries both sizes of sectors, and the copy at the disk's end where the
// table at its beginning doesn't hold.
func readGPT(d *disk) ([]Partition, error) {
	return readGPTWhere(d, func(int64) int64 { return 1 })
}

// readBackupGPT returns the partitions of the copy at the disk's end, unless the disk as a
// whole is a volume: there is no table then, and the end of a compressed image is far away.
func readBackupGPT(d *disk) ([]Partition, error) {
	if volume, err := isVolume(d); volume || err != nil {
		return nil, err
	}
	return readGPTWhere(d, func(sector int64) int64 { return d.size/sector - 1 })
}

// isVolume reports whether the disk begins like an HFS+, HFSX or HFS volume (Technical Note
// TN1150: the header is at byte 1024), or an APFS container (its superblock's mark is at
// byte 32). On a disk with a GUID table the boot record's code and the table's entries are
// there.
func isVolume(d *disk) (bool, error) {
	buf := make([]byte, 1026)
	if ok, err := d.read(buf, 0); !ok {
		return false, err
	}
	switch string(buf[1024:]) {
	case "H+", "HX", "BD":
		return true, nil
	}
	return string(buf[32:36]) == "NXSB", nil
}

// readGPTWhere reads the table whose header is in a sector that depends on its size.
func readGPTWhere(d *disk, lba func(sector int64) int64) ([]Partition, error) {
	for _, sector := range []int64{512, 4096} {
		parts, err := readGPTAt(d, sector, lba(sector))
		if parts != nil || err != nil {
			return parts, err
		}
	}
	return nil, nil
}

// readGPTAt returns the partitions of the table whose header is sector lba, or nil
// if that isn't one. The header, little-endian:
//
//	0   "EFI PART"            32  sector of the other header
//	8   revision              40  first and last usable sector
//	12  length of the header  56  GUID of the disk
//	16  CRC-32 of the header  72  first sector of the entries
//	24  its own sector        80  their number, size, and CRC-32
func readGPTAt(d *disk, sector, lba int64) ([]Partition, error) {
	buf := make([]byte, sector)
	if ok, err := d.read(buf, lba*sector); !ok {
		return nil, err
	}
	if !gptHeaderOK(buf, lba) {
		return nil, nil
	}
	le := binary.LittleEndian
	first, count, size := le.Uint64(buf[72:]), le.Uint32(buf[80:]), le.Uint32(buf[84:])
	// 32 bits each: the product can't overflow in 64.
	if size < gptMinEntry || size > 4096 || size%8 != 0 || uint64(count)*uint64(size) > gptMaxArray {
		return nil, nil
	}
	if first > uint64(d.size/sector) {
		return nil, nil
	}
	// No more than gptMaxArray, and read only where the disk has it.
	n := int64(count) * int64(size)
	if int64(first)*sector > d.size-n {
		return nil, nil
	}
	array := make([]byte, n)
	if ok, err := d.read(array, int64(first)*sector); !ok {
		return nil, err
	}
	if crc32.ChecksumIEEE(array) != le.Uint32(buf[88:]) {
		return nil, nil
	}
	parts := []Partition{} // not nil: an empty table is a table
	for ; len(array) > 0; array = array[size:] {
		if p, ok := gptEntry(d, array[:size], sector); ok {
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// gptHeaderOK checks the header's mark, place and checksum, which is taken with
// its own field zero.
func gptHeaderOK(b []byte, lba int64) bool {
	le := binary.LittleEndian
	n := le.Uint32(b[12:])
	if string(b[:8]) != gptMark || n < gptHeaderLen || n > uint32(len(b)) || le.Uint64(b[24:]) != uint64(lba) {
		return false
	}
	sum := crc32.ChecksumIEEE(b[:16])
	sum = crc32.Update(sum, crc32.IEEETable, make([]byte, 4))
	sum = crc32.Update(sum, crc32.IEEETable, b[20:n])
	return sum == le.Uint32(b[16:])
}

// gptEntry decodes an entry: type and own GUID, first and last sector (32, 40),
// flags, and a name of 36 UTF-16 units (56). One of type zero is unused.
func gptEntry(d *disk, b []byte, sector int64) (Partition, bool) {
	le := binary.LittleEndian
	first, last := le.Uint64(b[32:]), le.Uint64(b[40:])
	if [16]byte(b) == [16]byte{} || last < first {
		return Partition{}, false
	}
	// All sectors of 2^64 make a count of 0, which extent refuses.
	off, length, ok := d.extent(first, last-first+1, sector)
	if !ok {
		return Partition{}, false
	}
	var name [36]uint16
	for i := range name {
		name[i] = le.Uint16(b[56+2*i:])
	}
	s, _, _ := strings.Cut(string(utf16.Decode(name[:])), "\x00")
	guid := guidString(b)
	if known, ok := gptTypes[guid]; ok {
		guid = known
	}
	return Partition{Name: s, Type: guid, Offset: off, Length: length}, true
}

// guidString writes a GUID as usual: its first three fields are little-endian.
func guidString(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%04X-%012X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// gptTypes are the types of Apple's disks as diskutil names them, and those of other
// systems' that are usual.
var gptTypes = map[string]string{
	"48465300-0000-11AA-AA11-00306543ECAC": "Apple_HFS",
	"7C3457EF-0000-11AA-AA11-00306543ECAC": "Apple_APFS",
	"69646961-6700-11AA-AA11-00306543ECAC": "Apple_APFS_ISC",
	"52637672-7900-11AA-AA11-00306543ECAC": "Apple_APFS_Recovery",
	"426F6F74-0000-11AA-AA11-00306543ECAC": "Apple_Boot",
	"53746F72-6167-11AA-AA11-00306543ECAC": "Apple_CoreStorage",
	"52414944-0000-11AA-AA11-00306543ECAC": "Apple_RAID",
	"52414944-5F4F-11AA-AA11-00306543ECAC": "Apple_RAID_Offline",
	"4C616265-6C00-11AA-AA11-00306543ECAC": "Apple_Label",
	"5265636F-7665-11AA-AA11-00306543ECAC": "Apple_TV_Recovery",
	"55465300-0000-11AA-AA11-00306543ECAC": "Apple_UFS",
	"6A898CC3-1DD2-11B2-99A6-080020736631": "ZFS", // also Solaris's /usr

	"C12A7328-F81F-11D2-BA4B-00A0C93EC93B": "EFI",
	"21686148-6449-6E6F-744E-656564454649": "BIOS Boot",
	"024DEE41-33E7-11D3-9D69-0008C781F39F": "Master Boot Record",

	"EBD0A0A2-B9E5-4433-87C0-68B6B72699C7": "Microsoft Basic Data",
	"E3C9E316-0B5C-4DB8-817D-F92DF00215AE": "Microsoft Reserved",
	"DE94BBA4-06D1-4D40-A16A-BFD50179D6AC": "Windows Recovery",
	"5808C8AA-7E8F-42E0-85D2-E1E90434CFB3": "Microsoft LDM Metadata",
	"AF9B60A0-1431-4F62-BC68-3311714A69AD": "Microsoft LDM Data",
	"E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D": "Microsoft Storage Spaces",

	"0FC63DAF-8483-4772-8E79-3D69D8477DE4": "Linux Filesystem",
	"0657FD6D-A4AB-43C4-84E5-0933C84B4F4F": "Linux Swap",
	"E6D6D379-F507-44C2-A23C-238F2A3DF928": "Linux LVM",
	"A19D880F-05FC-4D3B-A006-743F0F84911E": "Linux RAID",
	"44479540-F297-41B2-9AF7-D131D5F0458A": "Linux Root (x86)",
	"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709": "Linux Root (x86-64)",
	"69DAD710-2CE4-4E3C-B16C-21A1D49ABED3": "Linux Root (ARM)",
	"B921B045-1DF0-41C3-AF44-4C6F280D3FAE": "Linux Root (ARM64)",
	"933AC7E1-2EB4-4F13-B844-0E14E2AEF915": "Linux Home",
	"3B8F8425-20E0-4F3B-907F-1A25A76F98E8": "Linux Server Data",
	"BC13C2FF-59E6-4262-A352-B275FD6F7172": "Linux Extended Boot",
	"CA7D7CCB-63ED-4C53-861C-1742536059CC": "Linux LUKS",

	"83BD6B9D-7F41-11DC-BE0B-001560B84F0F": "FreeBSD Boot",
	"516E7CB4-6ECF-11D6-8FF8-00022D09712B": "FreeBSD Data",
	"516E7CB5-6ECF-11D6-8FF8-00022D09712B": "FreeBSD Swap",
	"516E7CB6-6ECF-11D6-8FF8-00022D09712B": "FreeBSD UFS",
	"516E7CB8-6ECF-11D6-8FF8-00022D09712B": "FreeBSD Vinum",
	"516E7CBA-6ECF-11D6-8FF8-00022D09712B": "FreeBSD ZFS",
	"49F48D32-B10E-11DC-B99B-0019D1879648": "NetBSD Swap",
	"49F48D5A-B10E-11DC-B99B-0019D1879648": "NetBSD FFS",
	"49F48D82-B10E-11DC-B99B-0019D1879648": "NetBSD LFS",
	"49F48DAA-B10E-11DC-B99B-0019D1879648": "NetBSD RAID",
	"824CC7A0-36A8-11E3-890A-952519AD3F61": "OpenBSD Data",

	"6A82CB45-1DD2-11B2-99A6-080020736631": "Solaris Boot",
	"6A85CF4D-1DD2-11B2-99A6-080020736631": "Solaris Root",
	"6A87C46F-1DD2-11B2-99A6-080020736631": "Solaris Swap",
	"FE3A2A5D-4F32-41A7-B725-ACCC3285A309": "ChromeOS Kernel",
	"3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC": "ChromeOS Root",
	"AA31E02A-400F-11DB-9590-000C2911D1B8": "VMware VMFS",
	"42465331-3BA3-10F1-802A-4861696B7521": "Haiku BFS",
}

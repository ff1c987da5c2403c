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
	for _, sector := range []int64{512, 4096} {
		for _, lba := range []int64{1, d.size/sector - 1} {
			parts, err := readGPTAt(d, sector, lba)
			if parts != nil || err != nil {
				return parts, err
			}
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

// gptTypes are the types found on Apple's disks, as diskutil names them.
var gptTypes = map[string]string{
	"48465300-0000-11AA-AA11-00306543ECAC": "Apple_HFS",
	"7C3457EF-0000-11AA-AA11-00306543ECAC": "Apple_APFS",
	"426F6F74-0000-11AA-AA11-00306543ECAC": "Apple_Boot",
	"53746F72-6167-11AA-AA11-00306543ECAC": "Apple_CoreStorage",
	"55465300-0000-11AA-AA11-00306543ECAC": "Apple_UFS",
	"C12A7328-F81F-11D2-BA4B-00A0C93EC93B": "EFI",
	"EBD0A0A2-B9E5-4433-87C0-68B6B72699C7": "Microsoft Basic Data",
	"0FC63DAF-8483-4772-8E79-3D69D8477DE4": "Linux Filesystem",
}

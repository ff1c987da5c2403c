package partition

import "encoding/binary"

// The Apple partition map, "Inside Macintosh: Devices", chapter 3. A driver
// descriptor ("ER") in block 0 tells the size of blocks, and a map entry ("PM") per
// partition, the map itself included, follows from block 1 on.
const (
	apmEntryLen = 512
	apmMaxCount = 1024 // entries; 63 is the usual room for them
)

// readAPM tries the size of blocks that the driver descriptor says, and 512, which
// the map of a hybrid CD has whatever its driver descriptor says.
func readAPM(d *disk) ([]Partition, error) {
	var b [4]byte
	ok, err := d.read(b[:], 0)
	if !ok {
		return nil, err
	}
	sizes := []int64{512}
	if n := int64(binary.BigEndian.Uint16(b[2:])); string(b[:2]) == "ER" && n > 512 && n <= 4096 && n%512 == 0 {
		sizes = []int64{n, 512}
	}
	for _, n := range sizes {
		parts, err := readAPMAt(d, n)
		if parts != nil || err != nil {
			return parts, err
		}
	}
	return nil, nil
}

// readAPMAt returns the partitions of a map of blocks of the given size, or nil if
// there is none. Every entry says how many there are; the first is believed, and
// any that isn't an entry ends the map.
func readAPMAt(d *disk, block int64) ([]Partition, error) {
	var parts []Partition
	count := uint32(1)
	for i := uint32(0); i < count; i++ {
		var b [apmEntryLen]byte
		ok, err := d.read(b[:], (int64(i)+1)*block)
		if err != nil {
			return nil, err
		}
		if !ok || string(b[:2]) != "PM" {
			break
		}
		if i == 0 {
			count = binary.BigEndian.Uint32(b[4:])
			if count == 0 || count > apmMaxCount {
				return nil, nil
			}
			parts = []Partition{}
		}
		if p, ok := apmEntry(d, b[:], block); ok {
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// apmEntry decodes an entry. Free and unused space has entries as well.
func apmEntry(d *disk, b []byte, block int64) (Partition, bool) {
	kind := text(b[48:80])
	if kind == "Apple_Free" || kind == "Apple_Void" {
		return Partition{}, false
	}
	be := binary.BigEndian
	off, length, ok := d.extent(uint64(be.Uint32(b[8:])), uint64(be.Uint32(b[12:])), block)
	return Partition{Name: text(b[16:48]), Type: kind, Offset: off, Length: length}, ok
}

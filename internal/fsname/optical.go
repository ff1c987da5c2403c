package fsname

// The descriptors of discs begin at 32 KiB, a 2,048-byte block each: ECMA-119 and
// ECMA-167.
const (
	discStart = 32 << 10
	discBlock = 2048

	// maxDescriptors bounds how many are looked at: there are four or five.
	maxDescriptors = 32
)

// iso9660 recognizes ISO 9660. Its label is Joliet's, if there is one: that has
// lower case.
func iso9660(d *disk) (FileSystem, bool) {
	fs := named("ISO 9660")
	found := false
	for i := int64(0); i < maxDescriptors; i++ {
		b := d.at(discStart+i*discBlock, 256)
		if b == nil || string(b[1:6]) != "CD001" {
			break
		}
		switch b[0] {
		case 1:
			unit := int64(le.Uint16(b[128:]))
			if found || !isPower(unit, 512, discBlock) {
				continue
			}
			found = true
			fs.BlockSize, fs.Length = unit, bytesOf(uint64(le.Uint32(b[80:])), unit)
			if fs.Label == "" {
				fs.Label = text(b[40:72])
			}
		case 2:
			if e := string(b[88:91]); e == "%/@" || e == "%/C" || e == "%/E" {
				if label := text16(b[40:72], be.Uint16); label != "" {
					fs.Label = label
				}
			}
		case 255:
			return fs, found
		}
	}
	return fs, found
}

// udf recognizes UDF by its entry among the descriptors. A disc with UDF may have ISO
// 9660 as well.
func udf(d *disk) (FileSystem, bool) {
	for _, step := range []int64{discBlock, 2 * discBlock} { // a sector each: they may be of 4,096 bytes
		for i := int64(0); i < maxDescriptors; i++ {
			b := d.at(discStart+i*step, 6)
			if b == nil {
				break
			}
			mark := string(b[1:])
			if mark == "NSR02" || mark == "NSR03" {
				fs := named("UDF")
				fs.Label, fs.BlockSize = udfLogicalVolume(d)
				return fs, true
			}
			if mark != "CD001" && mark != "BEA01" && mark != "BOOT2" && mark != "CDW02" {
				break
			}
		}
	}
	return FileSystem{}, false
}

// udfLogicalVolume returns the label and the size of a block from the descriptor of the
// logical volume. An anchor at block 256 says where the descriptors are.
func udfLogicalVolume(d *disk) (string, int64) {
	const anchor, logical, end = 2, 6, 8
	for _, unit := range []int64{2048, 512, 1024, 4096} {
		b := d.at(256*unit, 32)
		if !isTag(b, anchor) {
			continue
		}
		first := int64(le.Uint32(b[20:]))
		for i := int64(0); i < 16; i++ {
			b := d.at((first+i)*unit, 216)
			if isTag(b, end) || b == nil {
				break
			}
			if !isTag(b, logical) {
				continue
			}
			block := int64(le.Uint32(b[212:]))
			if !isPower(block, 512, 32768) {
				block = 0
			}
			return dString(b[84:212]), block
		}
	}
	return "", 0
}

// isTag reports whether b begins with a tag of that number, whose checksum holds.
func isTag(b []byte, id uint16) bool {
	if len(b) < 16 || le.Uint16(b) != id {
		return false
	}
	sum := -b[4]
	for _, c := range b[:16] {
		sum += c
	}
	return sum == b[4]
}

// dString decodes UDF's text: its last byte is how many of the others it takes, the first
// of which is how many bits a character has.
func dString(b []byte) string {
	n := int(b[len(b)-1])
	if n < 1 || n >= len(b) {
		return ""
	}
	if b[0] == 16 {
		return text16(b[1:n], be.Uint16)
	}
	s := make([]rune, 0, n)
	for _, c := range text(b[1:n]) {
		s = append(s, c)
	}
	return string(s)
}

package dmgtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// raw bends the partition tables of raw disks.
func (b *bender) raw() {
	for _, d := range rawDisks() {
		for at := d.from; at < d.to; at += d.width {
			give := func(disk []byte, what string) {
				if d.seal != nil {
					d.seal(disk)
				}
				b.give(disk, "%s, %s", d.name, what)
			}
			w := word{at, d.width, d.little}
			for _, n := range numbers(d.width, w.of(d.disk)) {
				give(w.put(d.disk, n), fmt.Sprintf("%d=%#x", at, n))
			}
			if y := (word{at + d.width, d.width, d.little}); y.at < d.to { // starts stand before their counts or ends
				bendPair(d.disk, w, y, give)
			}
		}
	}
	full := bytes.Repeat([]byte{0xFF}, 64<<10)
	for _, mark := range []struct {
		at    int
		magic string
	}{{0, "ER"}, {510, "\x55\xAA"}, {512, "EFI PART"}, {1024, "H+"}, {32, "NXSB"}, {32769, "CD001"}} {
		bent := bytes.Clone(full)
		copy(bent[mark.at:], mark.magic)
		b.give(bent, "%q and ones", mark.magic)
		b.give(bent[:mark.at+len(mark.magic)], "%q at the end", mark.magic)
	}
}

// rawDisk is a disk with the range in which its partition table is.
type rawDisk struct {
	name            string
	disk            []byte
	from, to, width int
	little          bool
	seal            func(disk []byte) // nil: no checksum
}

func rawDisks() []rawDisk {
	const size = 64 << 10
	be, le := binary.BigEndian, binary.LittleEndian
	apm := make([]byte, size)
	copy(apm, "ER\x02\x00")
	for i := range 3 {
		e := apm[512*(i+1):]
		copy(e, "PM")
		be.PutUint32(e[4:], 3)
		be.PutUint32(e[8:], uint32(10*i+4))
		be.PutUint32(e[12:], 10)
		copy(e[16:], "name")
		copy(e[48:], "Apple_HFS")
	}
	mbr := make([]byte, size)
	copy(mbr[510:], "\x55\xAA")
	for i, kind := range []byte{0x0B, 0x05, 0xAF, 0x0F} {
		e := mbr[446+16*i:]
		e[4] = kind
		le.PutUint32(e[8:], uint32(8*i+8))
		le.PutUint32(e[12:], 8)
	}
	// An extended partition whose next record is itself.
	copy(mbr[16*512+446:], mbr[446:512])
	gpt := make([]byte, size)
	copy(gpt[510:], "\x55\xAA")
	gpt[450] = 0xEE
	h := gpt[512:]
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], size/512-1)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], size/512-34)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	for i := range 2 {
		e := gpt[1024+128*i:]
		copy(e, "0123456789abcdef0123456789abcdef")
		le.PutUint64(e[32:], uint64(40+8*i))
		le.PutUint64(e[40:], uint64(47+8*i))
	}
	sealGPT(gpt)
	return []rawDisk{
		{"APM", apm, 512, 512 + 16, 4, false, nil},
		{"APM, second", apm, 1024, 1024 + 16, 4, false, nil},
		{"MBR", mbr, 446, 510, 4, true, nil},
		{"GPT", gpt, 512 + 8, 512 + 92, 4, true, sealGPT},
		{"GPT, long words", gpt, 512 + 24, 512 + 56, 8, true, sealGPT},
		{"GPT, entries", gpt, 512 + 72, 512 + 88, 8, true, sealGPT},
		{"GPT entry", gpt, 1024 + 32, 1024 + 48, 8, true, sealGPT},
		{"GPT, header's sum", gpt, 512 + 16, 512 + 20, 4, true, nil},
		{"GPT, entries' sum", gpt, 512 + 88, 512 + 92, 4, true, nil},
	}
}

// sealGPT makes the checksums of a table right, without which nothing else in it
// is believed (UEFI 2.10, 5.3.2).
func sealGPT(disk []byte) {
	le := binary.LittleEndian
	h := disk[SectorSize:]
	at, n := le.Uint64(h[72:]), uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:]))
	if size := uint64(len(disk)); at < size/SectorSize && n <= size-at*SectorSize {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(disk[at*SectorSize:][:n]))
	}
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:min(le.Uint32(h[12:]), SectorSize)]))
}

package bzip2

// crcPoly is that of IEEE 802.3, but bytes go in with their top bit first.
const crcPoly = 0x04C11DB7

// crcTables[k][b] is what byte b does to the CRC k bytes later.
var crcTables = makeCRC()

func makeCRC() *[16][256]uint32 {
	t := new([16][256]uint32)
	for i := range 256 {
		crc := uint32(i) << 24
		for range 8 {
			crc = crc<<1 ^ crcPoly&-(crc>>31)
		}
		t[0][i] = crc
	}
	for k := 1; k < len(t); k++ {
		for i := range 256 {
			crc := t[k-1][i]
			t[k][i] = crc<<8 ^ t[0][crc>>24]
		}
	}
	return t
}

// UpdateCRC adds p to a block's CRC. That of no bytes is 0.
func UpdateCRC(crc uint32, p []byte) uint32 {
	t := crcTables
	crc = ^crc
	for len(p) >= 16 {
		crc = t[15][p[0]^byte(crc>>24)] ^ t[14][p[1]^byte(crc>>16)] ^
			t[13][p[2]^byte(crc>>8)] ^ t[12][p[3]^byte(crc)] ^
			t[11][p[4]] ^ t[10][p[5]] ^ t[9][p[6]] ^ t[8][p[7]] ^
			t[7][p[8]] ^ t[6][p[9]] ^ t[5][p[10]] ^ t[4][p[11]] ^
			t[3][p[12]] ^ t[2][p[13]] ^ t[1][p[14]] ^ t[0][p[15]]
		p = p[16:]
	}
	for _, c := range p {
		crc = crc<<8 ^ t[0][byte(crc>>24)^c]
	}
	return ^crc
}

// combine adds a block's CRC to that of its stream.
func combine(stream, block uint32) uint32 {
	return (stream<<1 | stream>>31) ^ block
}

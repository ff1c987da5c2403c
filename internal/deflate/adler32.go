package deflate

import "encoding/binary"

const (
	adlerMod = 65521 // the largest prime below 2^16

	// adlerRun bytes are summed before a reduction: the sums stay below 2^41.
	adlerRun = 64 << 10

	// adlerBlock bytes are summed in 16-bit lanes: 16 words. The sums of sums
	// are the largest there: 255*(0+1+...+15) = 30600.
	adlerBlock = 128

	lanes = 0x00FF00FF00FF00FF
)

// Adler32 adds p to an Adler-32 checksum (RFC 1950, 8.2). That of nothing is 1.
func Adler32(sum uint32, p []byte) uint32 {
	a, b := uint64(sum&0xFFFF), uint64(sum>>16)
	for len(p) > 0 {
		run := p[:min(len(p), adlerRun)]
		p = p[len(run):]
		for len(run) >= adlerBlock {
			s, t := adlerWords((*[adlerBlock]byte)(run))
			b += a*adlerBlock + t
			a += s
			run = run[adlerBlock:]
		}
		for _, x := range run {
			a += uint64(x)
			b += a
		}
		a %= adlerMod
		b %= adlerMod
	}
	return uint32(b<<16 | a)
}

// adlerWords returns the sum of a block's bytes, and their sum with each byte
// weighted by how many bytes there are from it to the end: what the sum of
// sums gains. It takes 8 bytes at a time, in two words of four lanes.
func adlerWords(p *[adlerBlock]byte) (sum, weighted uint64) {
	var even, odd uint64         // sums of the bytes in each lane
	var evenSums, oddSums uint64 // sums of these before each word
	for i := 0; i <= adlerBlock-32; i += 32 {
		w := binary.LittleEndian.Uint64(p[i:])
		evenSums += even
		oddSums += odd
		even += w & lanes
		odd += w >> 8 & lanes
		w = binary.LittleEndian.Uint64(p[i+8:])
		evenSums += even
		oddSums += odd
		even += w & lanes
		odd += w >> 8 & lanes
		w = binary.LittleEndian.Uint64(p[i+16:])
		evenSums += even
		oddSums += odd
		even += w & lanes
		odd += w >> 8 & lanes
		w = binary.LittleEndian.Uint64(p[i+24:])
		evenSums += even
		oddSums += odd
		even += w & lanes
		odd += w >> 8 & lanes
	}
	// A product's top lane is the sum of the lanes, each times the factor in
	// the opposite place; all of them stay below 2^16. The weights of the
	// even bytes are 8, 6, 4, 2, those of the odd ones are less by one.
	const once, halves = 0x0001_0001_0001_0001, 0x0004_0003_0002_0001
	odds := odd * once >> 48
	sum = even*once>>48 + odds
	weighted = 2*(even*halves>>48+odd*halves>>48) - odds
	const low = 0x0000FFFF_0000FFFF
	before := evenSums + oddSums // at most 61200 in a lane
	before = before&low + before>>16&low
	return sum, weighted + 8*(before&(1<<32-1)+before>>32)
}

// adlerCombine returns the Adler-32 of some bytes and n others behind them, of which these
// are the sums.
func adlerCombine(sum, next uint32, n int64) uint32 {
	// Each byte of the first is n times more in the sum of sums; next began with 1.
	a, b := uint64(sum&0xFFFF), uint64(sum>>16)
	c, d := uint64(next&0xFFFF), uint64(next>>16)
	k := uint64(n % adlerMod)
	return uint32((a+c+adlerMod-1)%adlerMod | (b+d+k*(a+adlerMod-1))%adlerMod<<16)
}

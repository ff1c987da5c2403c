package deflate

import "encoding/binary"

const (
	adlerMod = 65521 // the largest prime below 2^16

	// adlerRun bytes are summed before a reduction: the sums stay below 2^41.
	adlerRun = 64 << 10

	// adlerBlock bytes, 16 words, are summed in 16-bit lanes. The sums of sums
	// are the largest there: 255*(0+1+...+15) = 30600 for one byte of a pair,
	// 61200 for both.
	adlerBlock = 128

	// adlerGroup blocks have their lanes' sums in 16 bits too: 8*16*2*255 = 65280.
	adlerGroup = 8

	oddLanes  = 0x00FF_00FF_00FF_00FF
	evenHalfs = 0x0000_FFFF_0000_FFFF
)

// Adler32 adds p to an Adler-32 checksum (RFC 1950, 8.2). That of nothing is 1.
func Adler32(sum uint32, p []byte) uint32 {
	a, b := uint64(sum&0xFFFF), uint64(sum>>16)
	for len(p) > 0 {
		run := p[:min(len(p), adlerRun)]
		p = p[len(run):]
		if len(run) > adlerBlock {
			n := (len(run) - 1) / adlerBlock * adlerBlock
			s, t := adlerBlocks(run, a)
			a, b = a+s, b+t
			run = run[n:]
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

// adlerBlocks sums all whole blocks of p that have a byte behind them. It returns
// what the two sums of Adler-32 gain, where the first one was a before: the sum of
// the bytes, and the sum of the first sums behind each byte.
//
// A word has bytes x0 to x7. Their sums are kept in lanes of 16 bits, for each
// place of a word on its own. Those of the odd bytes are odd; those of the even
// ones are not, but all, the sum of the words themselves, is even + odd<<8 modulo
// 2^64, from which they follow: to add a word takes one mask. alls and odds are
// the sums of all and odd before each word but the first.
//
// It is written out because the time goes to additions, five a word, and all else
// comes on top. It sums 4 bytes a cycle, where a plain loop sums one.
func adlerBlocks(p []byte, a uint64) (sum, sums uint64) {
	const once = 0x0001_0001_0001_0001 // a product's top lane is the sum of the lanes
	start := a
	var befores, words, places uint64
	for len(p) > adlerBlock {
		var pairs, odd8 uint64 // of the group, by lane
		for n := min(len(p)-1, adlerGroup*adlerBlock) / adlerBlock; n > 0; n-- {
			q := (*[adlerBlock + 1]byte)(p)
			var all, odd, alls, odds uint64
			all += binary.LittleEndian.Uint64(q[0:])
			odd += binary.LittleEndian.Uint64(q[1:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[8:])
			odd += binary.LittleEndian.Uint64(q[9:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[16:])
			odd += binary.LittleEndian.Uint64(q[17:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[24:])
			odd += binary.LittleEndian.Uint64(q[25:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[32:])
			odd += binary.LittleEndian.Uint64(q[33:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[40:])
			odd += binary.LittleEndian.Uint64(q[41:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[48:])
			odd += binary.LittleEndian.Uint64(q[49:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[56:])
			odd += binary.LittleEndian.Uint64(q[57:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[64:])
			odd += binary.LittleEndian.Uint64(q[65:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[72:])
			odd += binary.LittleEndian.Uint64(q[73:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[80:])
			odd += binary.LittleEndian.Uint64(q[81:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[88:])
			odd += binary.LittleEndian.Uint64(q[89:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[96:])
			odd += binary.LittleEndian.Uint64(q[97:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[104:])
			odd += binary.LittleEndian.Uint64(q[105:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[112:])
			odd += binary.LittleEndian.Uint64(q[113:]) & oddLanes
			alls += all
			odds += odd
			all += binary.LittleEndian.Uint64(q[120:])
			odd += binary.LittleEndian.Uint64(q[121:]) & oddLanes

			all += odd - odd<<8 // even + odd from here on
			alls += odds - odds<<8
			pairs += all
			odd8 += odd
			befores += a
			a += all * once >> 48
			words += alls&evenHalfs + alls>>16&evenHalfs
			p = p[adlerBlock:]
		}
		// In its word, x0 counts 8 times, x1 7 times, and so on.
		places += 8*(pairs&0xFFFF) + 6*(pairs>>16&0xFFFF) + 4*(pairs>>32&0xFFFF) + 2*(pairs>>48) - sumLanes(odd8)
	}
	return a - start, befores*adlerBlock + 8*(words&(1<<32-1)+words>>32) + places
}

// sumLanes returns the sum of the 16-bit lanes of x.
func sumLanes(x uint64) uint64 {
	x = x&evenHalfs + x>>16&evenHalfs
	return x&(1<<32-1) + x>>32
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

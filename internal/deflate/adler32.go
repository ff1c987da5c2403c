package deflate

import "encoding/binary"

const (
	adlerMod = 65521 // the largest prime below 2^16

	// adlerRun bytes are summed before a reduction: the sums stay below 2^41.
	adlerRun = 64 << 10

	// adlerBlock bytes, 8 words, are summed at a time, and adlerGroup blocks in
	// 16-bit lanes: the largest are the sums of sums in the blocks,
	// 8*255*(0+1+...+7) = 57120, and those of blocks, 8*255*(0+1+...+7) too.
	adlerBlock = 64
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
func adlerBlocks(p []byte, a uint64) (sum, sums uint64) {
	start := a
	for len(p) > adlerBlock {
		n := min(len(p)-1, adlerGroup*adlerBlock) / adlerBlock * adlerBlock
		all, odd, alls, odds, allBlocks, oddBlocks := adlerLanes(p[:n+1])
		p = p[n:]

		// In its word, x0 counts 8 times, x1 7 times, and so on.
		pairs := all - odd<<8 + odd
		places := 8*(pairs&0xFFFF) + 6*(pairs>>16&0xFFFF) + 4*(pairs>>32&0xFFFF) + 2*(pairs>>48) - sumLanes(odd)
		words := sumPairs(alls-odds<<8) + sumPairs(odds)
		words += adlerBlock / 8 * (sumPairs(allBlocks-oddBlocks<<8) + sumPairs(oddBlocks))
		sums += a*uint64(n) + 8*(words&(1<<32-1)+words>>32) + places
		a += sumLanes(pairs)
	}
	return a - start, sums
}

// adlerLanes sums the blocks of p, a group of them at most, which has a byte behind
// them.
//
// A word has bytes x0 to x7. Their sums are kept in lanes of 16 bits, for each
// place of a word on its own. Those of the odd bytes are odd; those of the even
// ones are not, but all, the sum of the words themselves, is even + odd<<8 modulo
// 2^64, from which they follow: to add a word takes one mask. alls and odds are
// the sums of all and odd before each word of its block; allBlocks and oddBlocks
// are those before each block.
//
// It is written out because the time goes to additions, five a word, and all else
// comes on top. It is on its own because no sum then leaves the registers.
func adlerLanes(p []byte) (allSum, oddSum, alls, odds, allBlocks, oddBlocks uint64) {
	for len(p) > adlerBlock {
		q := (*[adlerBlock + 1]byte)(p)
		p = p[adlerBlock:]
		allBlocks += allSum
		oddBlocks += oddSum
		var all, odd uint64
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
		allSum += all
		oddSum += odd
	}
	return
}

// sumLanes returns the sum of the 16-bit lanes of x.
func sumLanes(x uint64) uint64 {
	x = sumPairs(x)
	return x&(1<<32-1) + x>>32
}

// sumPairs returns the sums of pairs of 16-bit lanes of x, in 32-bit lanes.
func sumPairs(x uint64) uint64 { return x&evenHalfs + x>>16&evenHalfs }

// adlerCombine returns the Adler-32 of some bytes and n others behind them, of which these
// are the sums.
func adlerCombine(sum, next uint32, n int64) uint32 {
	// Each byte of the first is n times more in the sum of sums; next began with 1.
	a, b := uint64(sum&0xFFFF), uint64(sum>>16)
	c, d := uint64(next&0xFFFF), uint64(next>>16)
	k := uint64(n % adlerMod)
	return uint32((a+c+adlerMod-1)%adlerMod | (b+d+k*(a+adlerMod-1))%adlerMod<<16)
}

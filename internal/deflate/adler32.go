package deflate

const (
	adlerMod = 65521 // the largest prime below 2^16

	// adlerRun is how many bytes may be added before a reduction: the most
	// for which 255*n*(n+1)/2 + (n+1)*(adlerMod-1) stays below 2^32.
	adlerRun = 5552
)

// Adler32 adds p to an Adler-32 checksum (RFC 1950, 8.2). That of nothing is 1.
func Adler32(sum uint32, p []byte) uint32 {
	a, b := sum&0xFFFF, sum>>16
	for len(p) > 0 {
		q := p[:min(len(p), adlerRun)]
		p = p[len(q):]
		for _, x := range q {
			a += uint32(x)
			b += a
		}
		a %= adlerMod
		b %= adlerMod
	}
	return b<<16 | a
}

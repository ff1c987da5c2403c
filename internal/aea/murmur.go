package aea

import "encoding/binary"

// MurmurHash64A, the variant of MurmurHash2 for 64-bit machines, with the seed of archives.
const (
	murmurSeed  = 0xE2236FDC26A5F6D2
	murmurMul   = 0xC6A4A7935BD1E995
	murmurShift = 47
)

// murmur is the checksum of bytes that are written to it, of which it must be known from
// the start how many there are.
type murmur struct {
	h    uint64
	rest [8]byte
	n    int // bytes of rest
}

func (m *murmur) reset(length int64) {
	n := uint64(length)
	*m = murmur{h: murmurSeed ^ n*murmurMul}
}

func (m *murmur) block(k uint64) {
	k *= murmurMul
	m.h = (m.h ^ (k^k>>murmurShift)*murmurMul) * murmurMul
}

func (m *murmur) write(b []byte) {
	if m.n > 0 {
		k := copy(m.rest[m.n:], b)
		m.n += k
		b = b[k:]
		if m.n < len(m.rest) {
			return
		}
		m.block(binary.LittleEndian.Uint64(m.rest[:]))
		m.n = 0
	}
	for ; len(b) >= 8; b = b[8:] {
		m.block(binary.LittleEndian.Uint64(b))
	}
	m.n = copy(m.rest[:], b)
}

// sum returns the checksum as archives store it.
func (m *murmur) sum() (sum [8]byte) {
	h := m.h
	if m.n > 0 {
		clear(m.rest[m.n:])
		h = (h ^ binary.LittleEndian.Uint64(m.rest[:])) * murmurMul
	}
	h = (h ^ h>>murmurShift) * murmurMul
	binary.LittleEndian.PutUint64(sum[:], h^h>>murmurShift)
	return sum
}

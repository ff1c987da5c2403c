package nbd

import (
	"math/bits"
	"sync"
)

// headroom is kept free before the data in a buffer, for the header of the answer: header and data then go out in one
// write. A structured data chunk's header is the longest, 28 bytes.
const headroom = 32

// Buffers come in powers of two from minClass to maxRequest.
const (
	minClass = 12
	maxClass = 25
)

// pool holds buffers no request uses. The collector may take them at any time.
type pool [maxClass - minClass + 1]sync.Pool

// class returns which of the pool's sizes holds n bytes, 0 to maxRequest.
func class(n int) int {
	return max(bits.Len(uint(max(n, 1)-1)), minClass) - minClass
}

// classSize is what a buffer for n bytes costs.
func classSize(n int) int64 {
	return 1 << (class(n) + minClass)
}

// take returns a buffer with room for a header and n bytes. Its content is that of some earlier answer: whoever sends
// from it must have written there first.
func (p *pool) take(n int) *[]byte {
	if b, ok := p[class(n)].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, headroom+classSize(n))
	return &b
}

// give takes a buffer back.
func (p *pool) give(b *[]byte) {
	p[class(len(*b)-headroom)].Put(b)
}

// Package budget counts bytes of memory against a limit, by what they are used for. It
// neither allocates nor waits: its owner does, and guards the count with a lock.
package budget

// Use says what bytes are taken for.
type Use int

const (
	Decoders    Use = iota // decoders, at work or idle, with their buffers
	Checkpoints            // what decoders resume from
	Cache                  // decoded data
	Buffers                // decoded data on its way out of a pipeline
	NumUses
)

// Budget is the one count of the memory that a limit bounds. All its numbers are of
// bytes. It is not safe for concurrent use.
type Budget struct {
	Limit    int64
	Used     [NumUses]int64
	Reserved int64 // that Take grants to nobody
}

// Total returns how many bytes are in use.
func (b *Budget) Total() (n int64) {
	for _, used := range b.Used {
		n += used
	}
	return n
}

// Take counts n more bytes for u, and reports true, unless that would exceed the limit
// or take what is reserved.
func (b *Budget) Take(u Use, n int64) bool {
	if n > b.Limit-b.Total()-b.Reserved {
		return false
	}
	b.Used[u] += n
	return true
}

// Release gives back n bytes that were taken for u.
func (b *Budget) Release(u Use, n int64) {
	b.Used[u] -= n
}

// Move counts n bytes that were taken for one use for another.
func (b *Budget) Move(from, to Use, n int64) {
	b.Used[from] -= n
	b.Used[to] += n
}

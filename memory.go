package dmg

// use says what bytes of the memory limit are taken for.
type use int

const (
	useDecoders    use = iota // decoders at work or parked, with their buffers
	useCheckpoints            // what decoders resume from
	useCache                  // decoded data
	numUses
)

// account is the one count of the memory that Options.MemoryLimit bounds, over
// the whole image. Its owner's lock guards it.
type account struct {
	limit int64
	used  [numUses]int64
}

// total returns the bytes in use.
func (a *account) total() (n int64) {
	for _, used := range a.used {
		n += used
	}
	return n
}

// take counts n more bytes for u, unless that would exceed the limit.
func (a *account) take(u use, n int64) bool {
	if n > a.limit-a.total() {
		return false
	}
	a.used[u] += n
	return true
}

// release gives n bytes back.
func (a *account) release(u use, n int64) {
	a.used[u] -= n
}

// move counts n bytes that were taken for one use for another.
func (a *account) move(from, to use, n int64) {
	a.used[from] -= n
	a.used[to] += n
}

// checkpointShare is how much of the limit checkpoints may take before they
// are thinned out. The other half is for decoders and decoded data: it must
// hold at least one decoder, and more checkpoints would not make reads faster
// in proportion, since a read also decodes what was asked for.
func (a *account) checkpointShare() int64 { return a.limit / 2 }

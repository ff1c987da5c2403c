package dmg

import (
	"fmt"
	"math"

	"github.com/go-dmg/dmg/internal/xz"
)

// xzShort is how long a chunk is whose decoder gets a window as long as the chunk,
// whatever dictionary its data asks for: hdiutil's are no longer. To look at longer
// ones first takes a call of the source, which matters little for what is decoded
// from the start on.
const xzShort = 1 << 20

// xzHead bytes of an .xz stream say how long a dictionary it asks for, as a rule.
const xzHead = 76

// xzMemory returns the memory for the decoder of a chunk, for as long a window as
// its dictionary, or as what is decoded of it if that is less. It is the only
// decoder whose memory is up to the image. It may read the source. known is what an
// earlier decoder lacked, or 0.
func xzMemory(src countingSource, c *Chunk, known int64) (int64, error) {
	const excess = 64 << 10                 // as a rule what goes on behind a chunk is less
	window := min(c.Length, 1<<62) + excess // a chunk may say that it has 2^63 bytes
	if c.Length > xzShort {
		head := make([]byte, min(c.DataLength, xzHead))
		if _, err := src.ReadAt(head, c.DataOffset); err != nil {
			return 0, err
		}
		// Where the header isn't understood the decoder will refuse it too.
		window = min(window, xz.Dictionary(head))
	}
	if known > 0 {
		window = max(window, min(known, min(c.Length, 1<<61)+maxExcess(c.Length)))
	}
	memory := xz.Memory(window)
	if memory > math.MaxInt/2 { // where int has 32 bits
		return 0, &ChunkError{*c, fmt.Errorf("%w: its decoder takes %d bytes", ErrMemoryLimit, memory)}
	}
	return memory, nil
}

package deflate

// Refs marks bytes of a full window: bit i%64 of word i/64 stands for byte i.
// The last byte of a window, however short, is number WindowSize-1.
type Refs [WindowSize / 64]uint64

// maxNoted is how many matches the fast loop may make before their references
// are marked, and one more.
const maxNoted = 1024

// Track begins to record which bytes of the present window the output from
// here on refers to. Once WindowSize bytes have been made, later output can't
// refer to them any more and the record is complete.
func (d *Decoder) Track() {
	d.unlend()
	d.low = d.opos
	d.refs = Refs{}
}

// TrackFrom goes on with a record that Track began at byte out of the output, of a decoder
// that has been placed anew since, less than WindowSize behind that.
func (d *Decoder) TrackFrom(out int64) { d.low = d.opos - int(d.Out()-out) }

// Refs copies the record that Track began.
func (d *Decoder) Refs(r *Refs) { *r = d.refs }

// refer marks the bytes before the tracked position among the n from
// buf[src] on.
func (d *Decoder) refer(src, n int) {
	from := uint(WindowSize - (d.low - src))
	d.refs.mark(from, min(from+uint(n), WindowSize))
}

// mark sets bits from to to-1. A match has at most 258 of them: few words.
func (r *Refs) mark(from, to uint) {
	for from < to {
		n := min(to-from, 64-from%64)
		r[from/64%uint(len(r))] |= (1<<n - 1) << (from % 64)
		from += n
	}
}

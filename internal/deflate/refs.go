package deflate

import "github.com/go-dmg/dmg/internal/window"

// Refs marks bytes of a window, as a [window.Refs] does.
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
	window.Refs(d.refs[:]).Mark(from, min(from+uint(n), WindowSize))
}

package deflate

import (
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// unread gives whole bytes of the bit buffer back to in, which still holds
// them before ipos.
func (d *Decoder) unread() {
	d.ipos -= int(d.nbits >> 3)
	d.nbits &= 7
	d.bits &= 1<<d.nbits - 1
}

// avail is the number of whole bytes in hand, those in the bit buffer too.
func (d *Decoder) avail() int { return int(d.nbits>>3) + d.iend - d.ipos }

// ensure reads until n bytes are in hand or the reader fails. The error is not
// the caller's yet: what is in hand may be enough.
func (d *Decoder) ensure(n int) error {
	for d.avail() < n {
		if err := d.more(); err != nil {
			return err
		}
	}
	return nil
}

// more reads once, as much as there is room for.
func (d *Decoder) more() error { return d.moreOf(inLen) }

// moreOf reads once, n bytes at most. It returns no error together with bytes:
// an error waits until its bytes are used up. What was consumed is dropped from
// in.
func (d *Decoder) moreOf(n int) error {
	if d.rerr != nil {
		return d.rerr
	}
	if d.r == nil {
		return io.ErrUnexpectedEOF
	}
	d.unread()
	if d.ipos > inLen/2 || d.ipos == d.iend {
		// The byte that the bit buffer still has bits of stays: a header that
		// begins in it is copied from in.
		s := max(0, d.ipos-1)
		copy(d.in[:], d.in[s:d.iend])
		d.inBase += int64(s)
		d.iend -= s
		d.ipos -= s
	}
	n, err := d.read(d.in[d.iend:min(inLen, d.iend+n)])
	d.iend += n
	d.rerr = err
	if n > 0 {
		return nil
	}
	return err
}

// read reads once, and returns at least one byte or an error, maybe both.
// The end of the source is always too early, seen from here.
func (d *Decoder) read(p []byte) (int, error) {
	n, err := readat.Some(d.r, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// load moves whole bytes into the bit buffer, as many as there are and fit.
func (d *Decoder) load() {
	for d.nbits <= 56 && d.ipos < d.iend {
		d.bits |= uint64(d.in[d.ipos]) << d.nbits
		d.nbits += 8
		d.ipos++
	}
}

// take removes n <= 16 bits. The caller has seen to it that they are there.
func (d *Decoder) take(n uint) uint32 {
	v := uint32(d.bits & (1<<n - 1))
	d.bits >>= n
	d.nbits -= n
	return v
}

package deflate

import "io"

// A Lender is a reader whose bytes can be used where they lie. Of a Lender, what
// Decode returns of stored blocks is its own memory: where all of a stream is
// stored, nothing is copied.
type Lender interface {
	io.Reader

	// Lend returns the next bytes, at least one and at most n, which count as
	// read; or an error. They must stay as they are until Read or Lend is asked
	// for more than is buffered.
	Lend(n int) ([]byte, error)

	// Buffered returns how many bytes Read and Lend can give while what was lent
	// stays as it is.
	Buffered() int
}

// storedHeader reads RFC 1951, 3.2.4: the length and its complement, from the
// next byte boundary on.
func (d *Decoder) storedHeader() (int, error) {
	d.take(d.nbits & 7)
	d.load()
	if d.nbits < 32 {
		return 0, errShort
	}
	n, c := d.take(16), d.take(16)
	if n != ^c&0xFFFF {
		return 0, d.corrupt("stored block's length and its complement differ")
	}
	d.unread()
	return int(n), nil
}

// copyStored copies a stored block, to buf[target] at most. What is not yet
// in hand goes straight from the reader to buf.
func (d *Decoder) copyStored(target int) error {
	d.unread() // nbits is 0 now
	dst := d.buf[d.opos:min(target, d.opos+d.stored)]
	n := copy(dst, d.in[d.ipos:d.iend])
	d.ipos += n
	var err error
	if n < len(dst) {
		n, err = d.readStored(dst, n)
	}
	d.opos += n
	d.stored -= n
	if d.stored == 0 {
		d.end()
	}
	return err
}

// readStored fills dst from n on. in is used up.
func (d *Decoder) readStored(dst []byte, n int) (int, error) {
	d.inBase += int64(d.ipos)
	d.ipos, d.iend = 0, 0
	for n < len(dst) {
		if d.rerr != nil {
			return n, d.rerr
		}
		if d.r == nil {
			return n, d.more()
		}
		k, err := d.read(dst[n:])
		n += k
		d.inBase += int64(k)
		d.rerr = err
	}
	return n, nil
}

// storedHeaderLen is how long a stored block's header is that begins with a byte.
const storedHeaderLen = 5

// minLend is the shortest run worth being lent: what is short is as soon copied.
// maxLent of them are a window, about; zlib's stored blocks have 16 KiB.
const (
	minLend = 4 << 10
	maxLent = 8
)

// loan is output that lies in the source's memory: the runs behind that in buf.
// Later matches may refer to it. So what of it is in the window is copied to buf
// before the source is asked for anything that it has not buffered.
type loan struct {
	runs [maxLent][]byte
	n    int // of them
	size int // in bytes
}

// lend hands out the next bytes of a stored block where they lie in the source,
// max at most. It returns nil if there are none, or none that are worth it; then
// all output is in buf.
func (d *Decoder) lend(max int) []byte {
	if d.state == stHeader && d.avail() == 0 && d.err == nil && (d.loan.n == 0 || d.lender.Buffered() >= storedHeaderLen) {
		if err := d.nextStored(); err != errShort {
			d.err = err
		}
	}
	n := min(max, d.stored)
	if d.state != stStored || n < minLend || d.avail() > 0 || d.err != nil || d.rerr != nil {
		d.unlend()
		return nil
	}
	if d.loan.n > 0 {
		if k := d.lender.Buffered(); k >= minLend && d.loan.n < maxLent {
			n = min(n, k)
		} else {
			d.unlend()
		}
	}
	p, err := d.lender.Lend(n)
	if err != nil || len(p) == 0 || len(p) > n {
		d.unlend()
		return nil // and Read will say why
	}
	d.borrow(p)
	d.inBase += int64(d.ipos + len(p))
	d.ipos, d.iend = 0, 0
	d.stored -= len(p)
	if d.stored == 0 {
		d.end()
	}
	return p
}

// borrow makes p output, and forgets what is no longer in the window.
func (d *Decoder) borrow(p []byte) {
	l := &d.loan
	l.runs[l.n] = p
	l.n++
	l.size += len(p)
	if l.size < WindowSize {
		return
	}
	old := 0
	for ; l.size-len(l.runs[old]) >= WindowSize; old++ {
		d.outBase += int64(len(l.runs[old]))
		l.size -= len(l.runs[old])
	}
	l.n = copy(l.runs[:], l.runs[old:l.n])
	clear(l.runs[l.n:]) // lest it keeps the source's memory from being freed
	d.outBase += int64(d.opos)
	d.opos, d.low = 0, 0
}

// nextStored reads the header of a stored block, and nothing behind it, so that
// what is in the block can be lent. It gives errShort if what follows is not in
// hand, or the header of another block.
func (d *Decoder) nextStored() error {
	for d.avail() < storedHeaderLen {
		if err := d.moreOf(storedHeaderLen - d.avail()); err != nil {
			return errShort
		}
	}
	return d.tryHeader()
}

// Lent reports whether what Decode returned last lies in the source's memory.
func (d *Decoder) Lent() bool { return d.loan.n > 0 }

// Settle ends all that was lent: from now on the source may do as it likes with
// its memory.
func (d *Decoder) Settle() { d.unlend() }

// unlend copies what was lent to buf, as far as it is in the window.
func (d *Decoder) unlend() {
	l := &d.loan
	for _, p := range l.runs[:l.n] {
		skip := max(0, min(len(p), l.size-WindowSize))
		l.size -= len(p)
		if skip > 0 { // what is before it is out of the window too
			d.outBase += int64(d.opos + skip)
			d.opos, d.low = 0, 0
			p = p[skip:]
		}
		if d.opos+len(p) > bufLen {
			d.slide()
		}
		d.opos += copy(d.buf[d.opos:], p)
	}
	d.loan = loan{}
}

package deflate

import (
	"io"
)

// A Symbol is a byte of output, below 256, or a marker: [Marker]+i stands for byte i
// of the window before the place where decoding began, which is WindowSize bytes
// long whatever there is of it.
type Symbol = uint16

// Marker is the first marker. All symbols from it on are markers.
const Marker Symbol = 1 << 15

// MarkerMemory is what a MarkerDecoder holds, in bytes.
const MarkerMemory = Memory + markerLen*2

const (
	// markerLen is the window and room for what a call decodes.
	markerLen = WindowSize + maxMarkers + maxMatch

	// maxMarkers is the most symbols that one call of MarkerDecoder.Decode
	// returns, but for the rest of a match.
	maxMarkers = 32 << 10
)

// A MarkerDecoder decodes a stream from the start of any of its blocks, without the
// window before it: what a match copies from there is not known, and comes out as
// markers, as does what later matches copy of these. Once WindowSize bytes in a row
// have no marker there are none any more.
//
// It is for data behind damage, and for decoding parts of a stream at the same time.
// A [Decoder] is several times as fast. It must not be used by several goroutines at
// once.
type MarkerDecoder struct {
	d     Decoder // its input, and the headers and tables of blocks
	reach int
	gone  int64 // how much output was moved out of buf
	pos   int   // the next symbol goes to buf[pos]
	buf   [markerLen]Symbol
}

// Reset has m decode from a block that begins at bit in of the stream. r delivers the
// stream from byte in/8 on. The window is of WindowSize symbols, where some of it is
// known; nil stands for one of markers, each for its place. An error of r is returned
// as it is.
func (m *MarkerDecoder) Reset(r io.Reader, in int64, window []Symbol) error {
	m.gone, m.pos, m.reach = 0, WindowSize, 0
	if copy(m.buf[:WindowSize], window) == 0 {
		for i := range m.buf[:WindowSize] {
			m.buf[i] = Marker + Symbol(i)
		}
	}
	return m.d.Resume(r, &Checkpoint{In: in}, []byte{0})
}

// In returns the number of bits of the stream that lie before the decoder's place.
func (m *MarkerDecoder) In() int64 { return m.d.In() }

// Out returns the number of symbols decoded since Reset.
func (m *MarkerDecoder) Out() int64 { return m.gone + int64(m.pos) - WindowSize }

// Reach returns how far before its start the matches decoded so far reach, in bytes.
// A stream that has less output before that place is another.
func (m *MarkerDecoder) Reach() int { return m.reach }

// Next goes on to the next block, behind what Decode has not returned of the one at
// hand, and reads its header. It returns io.EOF behind the final block, and else the
// errors of [Decoder.Decode]. After any other error only Reset may follow.
func (m *MarkerDecoder) Next() error {
	for {
		if _, err := m.Decode(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	if m.d.state == stEnd {
		return io.EOF
	}
	return m.d.header()
}

// Decode returns the next symbols of the block at hand, at least one, in a slice that
// is valid until the next call. It returns io.EOF at the block's end, and else the
// errors of [Decoder.Decode]. Symbols before an error are not returned. After any
// other error than io.EOF only Reset may follow.
func (m *MarkerDecoder) Decode() ([]Symbol, error) {
	if m.pos >= WindowSize+maxMarkers {
		copy(m.buf[:WindowSize], m.buf[m.pos-WindowSize:m.pos])
		m.gone += int64(m.pos - WindowSize)
		m.pos = WindowSize
	}
	start := m.pos
	var err error
	for err == nil && m.pos == start {
		switch m.d.state {
		case stHeader, stEnd:
			return nil, io.EOF
		case stStored:
			err = m.stored()
		default:
			err = m.symbols()
		}
	}
	if err != nil {
		return nil, err
	}
	return m.buf[start:m.pos], nil
}

// stored copies what is in hand of a stored block, and reads more if nothing is.
func (m *MarkerDecoder) stored() error {
	d := &m.d
	d.unread() // nbits is 0 now
	if d.ipos == d.iend {
		return d.more()
	}
	n := min(d.stored, d.iend-d.ipos, WindowSize+maxMarkers-m.pos)
	for i, c := range d.in[d.ipos : d.ipos+n] {
		m.buf[m.pos+i] = Symbol(c)
	}
	m.pos += n
	d.ipos += n
	if d.stored -= n; d.stored == 0 {
		d.end()
	}
	return nil
}

// symbols decodes to the end of the block, or until there is no room for more. It
// does what Decoder.careful does, but for a match that reaches back before the start.
func (m *MarkerDecoder) symbols() error {
	d := &m.d
	for m.pos < WindowSize+maxMarkers {
		d.load()
		e, used := lookup(d.lit[:], d.bits, litBits)
		if used > d.nbits {
			if err := d.more(); err != nil {
				return err
			}
			continue
		}
		switch {
		case e&entryLit != 0:
			m.buf[m.pos] = Symbol(e >> entryBase & 0xFF)
			m.pos++
			d.drop(used)
		case e&entryEnd != 0:
			d.drop(used)
			d.end()
			return nil
		case e&entryOdd != 0:
			return d.corrupt(msgLit)
		default:
			if err := m.match(e, used); err != nil {
				return err
			}
		}
	}
	return nil
}

// match reads the distance behind length entry e and makes the match, if all of it
// is in hand. Else it reads more.
func (m *MarkerDecoder) match(e uint32, used uint) error {
	d := &m.d
	length := int(value(e, d.bits>>(used-uint(e&entryDrop))))
	f, n := lookup(d.dist[:], d.bits>>used, distBits)
	if used+n > d.nbits {
		return d.more()
	}
	if f&entryOdd != 0 {
		return d.corrupt(msgDist)
	}
	dist := int(value(f, d.bits>>(used+n-uint(f&entryDrop))))
	d.drop(used + n)
	if m.gone == 0 && dist > m.pos-WindowSize {
		m.reach = max(m.reach, dist-(m.pos-WindowSize))
	}
	for to := m.pos + length; m.pos < to; {
		m.pos += copy(m.buf[m.pos:to], m.buf[m.pos-dist:m.pos])
	}
	return nil
}

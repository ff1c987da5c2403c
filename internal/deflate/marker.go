package deflate

import (
	"encoding/binary"
	"io"
)

// A Symbol is a byte of output, below 256, or a marker: [Marker]+i stands for byte i
// of the window before the place where decoding began, which is WindowSize bytes
// long whatever there is of it.
type Symbol = uint16

// Marker is the first marker. All symbols from it on are markers.
const Marker Symbol = 1 << 15

// Symbols are symbols of two bytes each, the low one first. As bytes, four of them can
// be looked at as one word.
type Symbols []byte

// Len returns the number of symbols.
func (s Symbols) Len() int { return len(s) / symbolLen }

// At returns the symbol at index i.
func (s Symbols) At(i int) Symbol { return binary.LittleEndian.Uint16(s[i*symbolLen:]) }

// MarkerMemory is what a MarkerDecoder holds, in bytes.
const MarkerMemory = Memory + symbolsLen + symbolsSlack

const (
	symbolLen = 2 // bytes

	// windowSymbols is a window, in bytes of symbols.
	windowSymbols = WindowSize * symbolLen

	// symbolsLen is a power of two, as bufLen is. A slide leaves a window, and makes
	// room for three calls.
	symbolsLen   = 4 * windowSymbols
	symbolsSlack = 2 * bufSlack

	// maxMarkers is the most symbols that one call of MarkerDecoder.Decode
	// returns, but for the rest of a match.
	maxMarkers = 32 << 10

	anyMarker = 0x8000_8000_8000_8000 // of four symbols
)

// A MarkerDecoder decodes a stream from the start of any of its blocks, without the
// window before it: what a match copies from there is not known, and comes out as
// markers, as does what later matches copy of these. Once WindowSize bytes in a row
// have no marker there are none any more.
//
// It is for data behind damage, and for decoding parts of a stream at the same time.
// It takes a fifth more time than a [Decoder]. It must not be used by several
// goroutines at once.
type MarkerDecoder struct {
	d     Decoder // its input, and the headers and tables of blocks
	reach int
	gone  int64 // how much output was moved out of buf, in symbols
	pos   int   // the next symbol goes to buf[pos:]
	buf   [symbolsLen + symbolsSlack]byte
}

// Reset has m decode from a block that begins at bit in of the stream. r delivers the
// stream from byte in/8 on. The window is of WindowSize symbols, where some of it is
// known; nil stands for one of markers, each for its place. An error of r is returned
// as it is.
func (m *MarkerDecoder) Reset(r io.Reader, in int64, window []Symbol) error {
	m.gone, m.pos, m.reach = 0, windowSymbols, 0
	for i := range WindowSize {
		v := Marker + Symbol(i)
		if len(window) > 0 {
			v = window[i]
		}
		binary.LittleEndian.PutUint16(m.buf[i*symbolLen:], v)
	}
	return m.d.Resume(r, &Checkpoint{In: in}, []byte{0})
}

// In returns the number of bits of the stream that lie before the decoder's place.
func (m *MarkerDecoder) In() int64 { return m.d.In() }

// Out returns the number of symbols decoded since Reset.
func (m *MarkerDecoder) Out() int64 { return m.gone + int64(m.pos-windowSymbols)/symbolLen }

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
func (m *MarkerDecoder) Decode() (Symbols, error) {
	if m.pos+windowSymbols > symbolsLen {
		copy(m.buf[:windowSymbols], m.buf[m.pos-windowSymbols:m.pos])
		m.gone += int64(m.pos-windowSymbols) / symbolLen
		m.pos = windowSymbols
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
			// The rest of a match must have room too.
			err = m.symbols(min(start+maxMarkers*symbolLen, symbolsLen-maxMatch*symbolLen-2*fastOut))
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
	n := min(d.stored, d.iend-d.ipos, maxMarkers, (symbolsLen-m.pos)/symbolLen)
	for _, c := range d.in[d.ipos : d.ipos+n] {
		binary.LittleEndian.PutUint16(m.buf[m.pos:], Symbol(c))
		m.pos += symbolLen
	}
	d.ipos += n
	if d.stored -= n; d.stored == 0 {
		d.end()
	}
	return nil
}

// symbols decodes to the end of the block, or to buf[target] and the end of a match.
func (m *MarkerDecoder) symbols(target int) error {
	d := &m.d
	for m.pos < target {
		if d.avail() >= fastIn && target-m.pos > fastOut*symbolLen {
			if err := m.fast(target); err != nil || d.state == stHeader || d.state == stEnd {
				return err
			}
			continue
		}
		// As Decoder.careful does.
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
			binary.LittleEndian.PutUint16(m.buf[m.pos:], Symbol(e>>entryBase&0xFF))
			m.pos += symbolLen
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
	src := m.pos - dist*symbolLen
	m.reaches(src)
	for to := m.pos + length*symbolLen; m.pos < to; {
		m.pos += copy(m.buf[m.pos:to], m.buf[src:m.pos])
	}
	return nil
}

// reaches notes that a match begins at buf[src].
func (m *MarkerDecoder) reaches(src int) {
	if m.gone == 0 {
		m.reach = max(m.reach, (windowSymbols-src)/symbolLen)
	}
}

// clean reports whether the last WindowSize symbols have no marker. Where it is false,
// it is soon found to be, as a rule.
func (m *MarkerDecoder) clean() bool {
	for p := m.buf[m.pos-windowSymbols : m.pos]; len(p) >= 32; p = p[:len(p)-32] {
		q := p[len(p)-32:]
		w := binary.LittleEndian.Uint64(q) | binary.LittleEndian.Uint64(q[8:]) |
			binary.LittleEndian.Uint64(q[16:]) | binary.LittleEndian.Uint64(q[24:])
		if w&anyMarker != 0 {
			return false
		}
	}
	return true
}

// plain returns m's decoder where m is, with the last WindowSize symbols, which are
// clean, for a window. It counts output from where m began.
func (m *MarkerDecoder) plain() *Decoder {
	d := &m.d
	for i, p := 0, m.buf[m.pos-windowSymbols:m.pos]; i < WindowSize; i += 4 {
		binary.LittleEndian.PutUint32(d.buf[i:], packWord(binary.LittleEndian.Uint64(p[i*symbolLen:])))
	}
	d.opos, d.outBase, d.low = WindowSize, m.Out()-WindowSize, 0
	return d
}

// packWord makes four bytes of four symbols below 256.
func packWord(w uint64) uint32 {
	w |= w >> 8
	return uint32(w&0xFFFF) | uint32(w>>16)&0xFFFF_0000
}

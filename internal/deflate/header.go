package deflate

import "errors"

const (
	maxLit  = 288 // RFC 1951, 3.2.5: 286 literal/length symbols, and 2 that have fixed codes only
	maxDist = 32  // 30 distance symbols, and 2 that have fixed codes only
	maxClen = 19

	minMatch = 3
	maxMatch = 258

	// maxHeader is the longest dynamic block header without its first 3 bits:
	// 3 counts, 19 lengths of 3 bits, 316 codes of at most 7+7 bits.
	maxHeader = (14 + maxClen*3 + 316*14 + 7) / 8

	// headerIn bytes hold any block header that begins in their first byte.
	headerIn = maxHeader + 2
)

// errShort says that a header goes on behind the bytes in hand.
var errShort = errors.New("deflate: header cut short")

// header reads a block header. It wants all of it in hand first, so that the
// reader's error leaves the decoder in front of it.
func (d *Decoder) header() error {
	if d.lender != nil && d.avail() == 0 {
		if e := d.nextStored(); e != errShort {
			return e
		}
	}
	err := d.ensure(headerIn)
	if e := d.tryHeader(); e != errShort {
		return e
	}
	return err
}

// tryHeader reads a block header, or leaves the decoder in front of it if that
// goes on behind the bytes in hand.
func (d *Decoder) tryHeader() error {
	d.unread()
	ipos, bits, nbits := d.ipos, d.bits, d.nbits
	err := d.parseHeader()
	if err == errShort {
		d.ipos, d.bits, d.nbits = ipos, bits, nbits
	}
	return err
}

// parseHeader reads a block header as in RFC 1951, 3.2.3.
func (d *Decoder) parseHeader() error {
	d.load()
	if d.nbits < 3 {
		return errShort
	}
	final := d.take(1) == 1
	switch d.take(2) {
	case 0:
		n, err := d.storedHeader()
		if err != nil {
			return err
		}
		d.state, d.stored = stStored, n
	case 1:
		d.state = stFixed
		d.fixedTables()
	case 2:
		from := d.inBits()
		if err := d.dynamicTables(); err != nil {
			return err
		}
		d.saveHeader(from)
		d.state = stDynamic
	default:
		return d.corrupt("reserved block type")
	}
	d.final = final
	if d.state == stStored && d.stored == 0 {
		d.end()
	}
	return nil
}

// inBits is the position in in, in bits.
func (d *Decoder) inBits() int { return d.ipos*8 - int(d.nbits) }

// saveHeader keeps the bits from bit from to here, moved to a byte boundary.
func (d *Decoder) saveHeader(from int) {
	n := d.inBits() - from
	p, shift := from/8, from%8
	d.hdrLen = (n + 7) / 8
	for i := range d.hdrLen {
		// in has slack: one byte more than the bits is readable.
		d.hdr[i] = byte((uint(d.in[p+i]) | uint(d.in[p+i+1])<<8) >> shift)
	}
	if n%8 != 0 {
		d.hdr[d.hdrLen-1] &= 1<<(n%8) - 1
	}
}

// fixedTables makes the tables of RFC 1951, 3.2.6, unless they are there.
func (d *Decoder) fixedTables() {
	if d.fixed {
		return
	}
	for i := range d.lens {
		switch {
		case i < 144:
			d.lens[i] = 8
		case i < 256:
			d.lens[i] = 9
		case i < 280:
			d.lens[i] = 7
		case i < maxLit:
			d.lens[i] = 8
		default:
			d.lens[i] = 5
		}
	}
	d.work.build(d.lit[:], litBits, d.lens[:maxLit], litSymbols[:], false)
	d.work.build(d.dist[:], distBits, d.lens[maxLit:], distSymbols[:], false)
	d.fixed = true
}

// clenOrder is the order of the code-length code's lengths, RFC 1951, 3.2.7.
var clenOrder = [maxClen]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamicTables reads the codes of a block, RFC 1951, 3.2.7, and makes their
// tables.
func (d *Decoder) dynamicTables() error {
	d.fixed = false
	d.load()
	if d.nbits < 14 {
		return errShort
	}
	nlit, ndist, nclen := int(d.take(5))+257, int(d.take(5))+1, int(d.take(4))+4
	if nlit > 286 || ndist > 30 {
		return d.corrupt("too many length or distance symbols")
	}
	var clen [maxClen]byte
	for _, sym := range clenOrder[:nclen] {
		if d.load(); d.nbits < 3 {
			return errShort
		}
		clen[sym] = byte(d.take(3))
	}
	if !d.work.build(d.work.clen[:], clenBits, clen[:], clenSymbols[:], true) {
		return d.corrupt("invalid code-length code")
	}
	if err := d.readLens(d.lens[:nlit+ndist]); err != nil {
		return err
	}
	if d.lens[256] == 0 {
		return d.corrupt("no end-of-block code")
	}
	if !d.work.build(d.lit[:], litBits, d.lens[:nlit], litSymbols[:], false) {
		return d.corrupt("invalid literal/length code")
	}
	if !d.work.build(d.dist[:], distBits, d.lens[nlit:nlit+ndist], distSymbols[:], false) {
		return d.corrupt("invalid distance code")
	}
	return nil
}

// readLens reads the run-length coded code lengths.
func (d *Decoder) readLens(lens []byte) error {
	for i := 0; i < len(lens); {
		d.load()
		e := d.work.clen[d.bits&(1<<clenBits-1)]
		used := uint(e & entryDrop)
		if used > d.nbits {
			return errShort
		}
		if e&entryOdd != 0 {
			return d.corrupt("invalid code-length symbol")
		}
		sym := e >> entryBase
		if sym < 16 {
			d.take(used)
			lens[i] = byte(sym)
			i++
			continue
		}
		// 16: the last length 3-6 times; 17, 18: zero 3-10, 11-138 times.
		r := clenRepeats[sym-16]
		if used+uint(r.extra) > d.nbits {
			return errShort
		}
		d.take(used)
		n := int(d.take(uint(r.extra))) + int(r.base)
		if n > len(lens)-i || sym == 16 && i == 0 {
			return d.corrupt("invalid repeat of a code length")
		}
		var v byte
		if sym == 16 {
			v = lens[i-1]
		}
		for range n {
			lens[i] = v
			i++
		}
	}
	return nil
}

var clenRepeats = [3]struct{ extra, base uint8 }{{2, 3}, {3, 3}, {7, 11}}

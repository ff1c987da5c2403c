package deflate

// careful decodes to buf[target] at most, symbol by symbol, and reads as it
// needs bits. A symbol (a match with its distance is one) is consumed when
// all of it is there, so an error of the reader leaves the decoder between
// two symbols.
func (d *Decoder) careful(target int) error {
	for d.opos < target {
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
			d.buf[d.opos] = byte(e >> entryBase)
			d.opos++
			d.drop(used)
		case e&entryEnd != 0:
			d.drop(used)
			d.end()
			return nil
		case e&entryOdd != 0:
			d.drop(used - uint(e&entryDrop)) // as the fast loop, for the same offset
			return d.corrupt(msgLit)
		default:
			if err := d.carefulMatch(target, e, used); err != nil {
				return err
			}
		}
		if d.slack(target) {
			return nil
		}
	}
	return nil
}

// carefulMatch reads the distance behind length entry e and makes the match.
func (d *Decoder) carefulMatch(target int, e uint32, used uint) error {
	length := int(value(e, d.bits>>(used-uint(e&entryDrop))))
	f, n := lookup(d.dist[:], d.bits>>used, distBits)
	if used+n > d.nbits {
		return d.more() // and come again with more bits
	}
	if f&entryOdd != 0 {
		d.drop(used + n - uint(f&entryDrop))
		return d.corrupt(msgDist)
	}
	dist := int(value(f, d.bits>>(used+n-uint(f&entryDrop))))
	d.drop(used + n)
	if dist > d.opos {
		return d.corrupt(msgFar)
	}
	d.mlen, d.mdist = length, dist
	d.match(target)
	return nil
}

// lookup finds the entry for the next code of b, and how many bits it takes
// together with its extra bits.
func lookup(table []uint32, b uint64, main uint) (e uint32, used uint) {
	e = table[b&(1<<main-1)]
	if e&entrySub != 0 {
		b >>= main
		used = main
		e = table[uint64(e>>entryBase)+b&(1<<(e>>entryExtra&15)-1)]
	}
	return e, used + uint(e&entryDrop)
}

// value is the base of an entry plus the extra bits in b, which begins with
// the entry's code.
func value(e uint32, b uint64) uint32 {
	return e>>entryBase + uint32(b&(1<<(e&entryDrop)-1)>>(e>>entryExtra&15))
}

func (d *Decoder) drop(n uint) {
	d.bits >>= n
	d.nbits -= n
}

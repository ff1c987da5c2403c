package deflate

// run makes the longest matches of the same distance, below 8, that follow one
// such just made. A long run of a byte, of zeros as a rule, is nothing but
// these, all of them the same few bits: they are counted first, and then made
// in one go. One by one, a run of zeros takes twice the time.
func (d *Decoder) run(target int) {
	d.load()
	e, n := lookup(d.lit[:], d.bits, litBits)
	if e>>entryBase != maxMatch {
		return
	}
	f, k := lookup(d.dist[:], d.bits>>n, distBits)
	n += k
	if n > d.nbits || f&entryOdd != 0 || int(value(f, d.bits>>(n-uint(f&entryDrop)))) != d.mdist {
		return
	}
	symbol, mask := d.bits&(1<<n-1), uint64(1)<<n-1
	length := 0
	for length+maxMatch <= target-d.opos {
		if d.nbits < n {
			d.load()
		}
		if d.nbits < n || d.bits&mask != symbol {
			break
		}
		d.drop(n)
		length += maxMatch
	}
	if d.mdist == 1 && d.buf[d.opos-1] == 0 {
		clear(d.buf[d.opos : d.opos+length])
		d.opos += length
		return
	}
	d.fill(d.opos-maxMatch/d.mdist*d.mdist, length)
}

// fill makes n bytes of what lies from buf[src] to the position, again and
// again: it is copied, doubled each time.
func (d *Decoder) fill(src, n int) {
	for dst := d.buf[d.opos : d.opos+n]; len(dst) > 0; {
		c := copy(dst, d.buf[src:d.opos])
		d.opos += c
		dst = dst[c:]
	}
}

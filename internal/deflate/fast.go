package deflate

import "encoding/binary"

const (
	fastIn  = 24
	fastOut = 16
)

// fast decodes while input and output have slack.
func (d *Decoder) fast(target int) error {
	d.unread()
	b, n, ip, o := d.bits, d.nbits, uint(d.ipos), uint(d.opos)
	d.ilim, d.olim = uint(d.iend-16), uint(target-fastOut)
	if d.low > 0 {
		d.olim = min(d.olim, o+(maxNoted-4)*minMatch)
	}
	d.noted = 0
	var msg string
	b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
	ip += ^n >> 3 & 7
	n |= 56
	e := d.lit[b&(1<<litBits-1)]
	for ip < d.ilim && o < d.olim {
		if int32(e) < 0 {
			d.buf[o&(bufLen-1)] = byte(e >> entryBase)
			o++
			b >>= e & entryDrop
			n -= uint(e)
			e = d.lit[b&(1<<litBits-1)]
			if int32(e) < 0 {
				d.buf[o&(bufLen-1)] = byte(e >> entryBase)
				o++
				b >>= e & entryDrop
				n -= uint(e)
				e = d.lit[b&(1<<litBits-1)]
				if int32(e) < 0 {
					d.buf[o&(bufLen-1)] = byte(e >> entryBase)
					o++
					b >>= e & entryDrop
					n -= uint(e)
					b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
					ip += ^n >> 3 & 7
					n |= 56
					e = d.lit[b&(1<<litBits-1)]
					continue
				}
			}
			b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
			ip += ^n >> 3 & 7
			n |= 56
		}
		if e&entryOdd != 0 {
			if e&entrySub != 0 {
				b >>= litBits
				n -= litBits
				e = d.lit[(uint64(e>>entryBase)+b&(1<<(e>>entryExtra&15)-1))&(litSize-1)]
				if int32(e) < 0 {
					d.buf[o&(bufLen-1)] = byte(e >> entryBase)
					o++
					b >>= e & entryDrop
					n -= uint(e)
					b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
					ip += ^n >> 3 & 7
					n |= 56
					e = d.lit[b&(1<<litBits-1)]
					continue
				}
			}
			if e&entryOdd != 0 {
				if e&entryEnd == 0 {
					msg = "invalid literal/length symbol"
					break
				}
				b >>= e & entryDrop
				n -= uint(e)
				d.end()
				break
			}
		}
		length := uint(e>>entryBase) + uint(b&(1<<(e&entryDrop)-1)>>(e>>entryExtra&63))
		b >>= e & entryDrop
		n -= uint(e)
		e = d.dist[b&(1<<distBits-1)]
		if e&entryOdd != 0 {
			if e&entrySub != 0 {
				b >>= distBits
				n -= distBits
				e = d.dist[(uint64(e>>entryBase)+b&(1<<(e>>entryExtra&15)-1))&(distSize-1)]
			}
			if e&entryOdd != 0 {
				msg = "invalid distance symbol"
				break
			}
		}
		dist := uint(e>>entryBase) + uint(b&(1<<(e&entryDrop)-1)>>(e>>entryExtra&63))
		b >>= e & entryDrop
		n -= uint(e)
		src := o - dist
		d.mdist = int(dist)
		if int(src) < 0 {
			msg = "distance too far back"
			break
		}
		// A match from before low is noted, others are overwritten: matches
		// are of either kind at random, and a branch would cost ten times this.
		k := d.noted % maxNoted
		d.notes[k] = uint32(src)<<9 | uint32(length)
		d.noted = k + uint(int(src)-d.low)>>63
		b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
		ip += ^n >> 3 & 7
		n |= 56
		e = d.lit[b&(1<<litBits-1)]
		end := o + length
		if dist >= 16 {
			for {
				copy(d.buf[o&(bufLen-1):][:16], d.buf[src&(bufLen-1):][:16])
				o += 16
				src += 16
				if o >= end {
					break
				}
			}
		} else if dist >= 8 {
			for {
				copy(d.buf[o&(bufLen-1):][:8], d.buf[src&(bufLen-1):][:8])
				o += 8
				src += 8
				if o >= end {
					break
				}
			}
		} else {
			v := binary.LittleEndian.Uint64(d.buf[src&(bufLen-1):]) & (1<<(dist*8&63) - 1) * patterns[dist&7]
			step := uint(steps[dist&7])
			for {
				binary.LittleEndian.PutUint64(d.buf[o&(bufLen-1):], v)
				binary.LittleEndian.PutUint64(d.buf[(o+step)&(bufLen-1):], v)
				o += step * 2
				if o >= end {
					break
				}
			}
		}
		o = end
	}
	d.mlen = 0
	if o > uint(target) {
		d.mlen = int(o) - target
		o = uint(target)
	}
	d.bits, d.nbits, d.ipos, d.opos = b, n&63, int(ip), int(o)
	d.unread()
	for _, m := range d.notes[:d.noted%maxNoted] {
		d.refer(int(m>>9), int(m&511))
	}
	if msg != "" {
		return d.corrupt(msg)
	}
	return nil
}

// For a distance d < 8: the factor that repeats d bytes over 8, and the
// largest multiple of d that is at most 8.
var patterns = [8]uint64{0, 0x0101010101010101, 0x0001000100010001, 0x0001000001000001, 0x0000000100000001, 0x0000010000000001, 0x0001000000000001, 0x0100000000000001}
var steps = [8]uint8{8, 8, 8, 6, 8, 5, 6, 7}

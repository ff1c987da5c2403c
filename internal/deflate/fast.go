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
	ilim, olim := uint(d.iend-16), uint(target-fastOut)
	low := uint(d.low)
	var msg string
	for ip < ilim && o < olim {
		b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
		ip += 7 - n>>3&7
		n |= 56
		e := d.lit[b&(1<<litBits-1)]
		if e&entryLits != 0 {
			binary.LittleEndian.PutUint32(d.buf[o&(bufLen-1):], e>>8)
			o += uint(e >> 6 & 3)
			b >>= e & 63
			n -= uint(e & 63)
			e = d.lit[b&(1<<litBits-1)]
			if e&entryLits != 0 {
				binary.LittleEndian.PutUint32(d.buf[o&(bufLen-1):], e>>8)
				o += uint(e >> 6 & 3)
				b >>= e & 63
				n -= uint(e & 63)
				e = d.lit[b&(1<<litBits-1)]
				if e&entryLits != 0 {
					binary.LittleEndian.PutUint32(d.buf[o&(bufLen-1):], e>>8)
					o += uint(e >> 6 & 3)
					b >>= e & 63
					n -= uint(e & 63)
					continue
				}
			}
			b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
			ip += 7 - n>>3&7
			n |= 56
		}
		if e&entryOdd != 0 {
			if e&entrySub != 0 {
				b >>= litBits
				n -= litBits
				e = d.lit[(uint64(e>>entryBase)+b&(1<<(e>>entryExtra&15)-1))&(litSize-1)]
				if e&entryLits != 0 {
					d.buf[o&(bufLen-1)] = byte(e >> 8)
					o++
					b >>= e & 63
					n -= uint(e & 63)
					continue
				}
			}
			if e&entryOdd != 0 {
				if e&entryEnd == 0 {
					msg = "invalid literal/length symbol"
					break
				}
				b >>= e & 63
				n -= uint(e & 63)
				d.end()
				break
			}
		}
		length := uint(e>>entryBase) + uint(b&(1<<(e&63)-1)>>(e>>entryExtra&15))
		b >>= e & 63
		n -= uint(e & 63)
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
		dist := uint(e>>entryBase) + uint(b&(1<<(e&63)-1)>>(e>>entryExtra&15))
		b >>= e & 63
		n -= uint(e & 63)
		src := o - dist
		if int(src) < int(low) {
			if int(src) < 0 {
				msg = "distance too far back"
				break
			}
			d.refer(int(src), int(length))
		}
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
		} else {
			for o < end {
				d.buf[o&(bufLen-1)] = d.buf[src&(bufLen-1)]
				o++
				src++
			}
		}
		o = end
		if o > uint(target) {
			d.mlen, d.mdist = int(o)-target, int(dist)
			o = uint(target)
			break
		}
	}
	d.bits, d.nbits, d.ipos, d.opos = b, n&63, int(ip), int(o)
	d.unread()
	if msg != "" {
		return d.corrupt(msg)
	}
	return nil
}

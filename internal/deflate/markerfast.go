package deflate

import "encoding/binary"

// fast is Decoder.fast for symbols of two bytes: see there. Places in buf are in bytes.
// It makes no check for what is before the window, since that is as long as any match
// reaches.
func (m *MarkerDecoder) fast(target int) error {
	d := &m.d
	d.unread()
	b, n, ip, o := d.bits, d.nbits, uint(d.ipos), uint(m.pos)
	d.ilim, d.olim = uint(d.iend-fastTail), uint(target-fastOut*symbolLen)
	first := o // where the match that reaches back furthest begins
	var msg string

	b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
	ip += ^n >> 3 & 7
	n |= 56
	e := d.lit[b&(1<<litBits-1)]
	for ip < d.ilim && o < d.olim {
		if int32(e) < 0 { // entryLit
			binary.LittleEndian.PutUint16(m.buf[o&(symbolsLen-1):], uint16(e>>entryBase&0xFF))
			o += symbolLen
			b >>= e & entryDrop
			n -= uint(e)
			e = d.lit[b&(1<<litBits-1)]
			if int32(e) < 0 {
				binary.LittleEndian.PutUint16(m.buf[o&(symbolsLen-1):], uint16(e>>entryBase&0xFF))
				o += symbolLen
				b >>= e & entryDrop
				n -= uint(e)
				e = d.lit[b&(1<<litBits-1)]
				if int32(e) < 0 {
					binary.LittleEndian.PutUint16(m.buf[o&(symbolsLen-1):], uint16(e>>entryBase&0xFF))
					o += symbolLen
					b >>= e & entryDrop
					n -= uint(e)
					e = d.lit[b&(1<<litBits-1)]
					b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
					ip += ^n >> 3 & 7
					n |= 56
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
					binary.LittleEndian.PutUint16(m.buf[o&(symbolsLen-1):], uint16(e>>entryBase&0xFF))
					o += symbolLen
					b >>= e & entryDrop
					n -= uint(e)
					e = d.lit[b&(1<<litBits-1)]
					b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
					ip += ^n >> 3 & 7
					n |= 56
					continue
				}
			}
			if e&entryOdd != 0 {
				if e&entryEnd == 0 {
					msg = msgLit
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
				msg = msgDist
				break
			}
		}
		dist := uint(e>>entryBase) + uint(b&(1<<(e&entryDrop)-1)>>(e>>entryExtra&63))
		b >>= e & entryDrop
		n -= uint(e)
		src := o - dist*symbolLen
		first = min(first, src)
		e = d.lit[b&(1<<litBits-1)]
		b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
		ip += ^n >> 3 & 7
		n |= 56

		end := o + length*symbolLen
		if dist >= 16 {
			for {
				p, q := m.buf[o&(symbolsLen-1):][:32], m.buf[src&(symbolsLen-1):][:32]
				copy(p[:16], q)
				copy(p[16:], q[16:])
				o += 32
				src += 32
				if o >= end {
					break
				}
			}
		} else if dist >= 4 {
			for {
				copy(m.buf[o&(symbolsLen-1):][:8], m.buf[src&(symbolsLen-1):][:8])
				o += 8
				src += 8
				if o >= end {
					break
				}
			}
		} else {
			v := binary.LittleEndian.Uint64(m.buf[src&(symbolsLen-1):])
			v = v & (1<<(dist*16&63) - 1) * symbolPatterns[dist&3]
			step := uint(symbolSteps[dist&3])
			for {
				binary.LittleEndian.PutUint64(m.buf[o&(symbolsLen-1):], v)
				binary.LittleEndian.PutUint64(m.buf[(o+step)&(symbolsLen-1):], v)
				o += step * 2
				if o >= end {
					break
				}
			}
		}
		o = end
	}

	d.bits, d.nbits, d.ipos, m.pos = b, n&63, int(ip), int(o)
	d.unread()
	m.reaches(int(first))
	if msg != "" {
		return d.corrupt(msg)
	}
	return nil
}

// For a distance below 4: the factor that repeats so many symbols over 4, and how many
// bytes the largest multiple of the distance in 4 symbols has.
var (
	symbolPatterns = [4]uint64{
		1: 0x0001_0001_0001_0001,
		2: 0x0000_0001_0000_0001,
		3: 0x0001_0000_0000_0001,
	}
	symbolSteps = [4]uint8{0, 8, 8, 6}
)

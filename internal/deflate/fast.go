package deflate

import (
	"encoding/binary"
	"math/bits"
)

const (
	// fastIn bytes in hand are enough for one round of the fast loop: two
	// refills advance by 7 bytes each, and read 8, and one came before it.
	fastIn   = 24
	fastTail = 16

	// fastOut bytes of room are more than the literals of one round; a match
	// may go beyond, into the slack of buf.
	fastOut = 16
)

// fast decodes symbols while there is slack in the input and in the output,
// so that nothing needs to be checked for one bit or byte. It is the hot loop
// of the package and one piece for the compiler's sake: the bit buffer, its
// count and both positions stay in registers, everything else is a field of d
// at a constant distance. The masks on ip, o and src change nothing; they
// show the compiler that the index is in range.
//
// Where the time goes is branches that can't be foreseen: literal or match,
// and how long a match is. So the entry of the next symbol is looked up
// before the bytes of a match are copied, and there is one branch for each
// question at most. Only the low 6 bits of n count: it is reduced where it
// is used, as shifts do for nothing.
func (d *Decoder) fast(target int) error {
	d.unread()
	b, n, ip, o := d.bits, d.nbits, uint(d.ipos), uint(d.opos)
	d.ilim, d.olim = uint(d.iend-fastTail), uint(target-fastOut)
	if d.low > 0 {
		d.olim = min(d.olim, o+(maxNoted-4)*minMatch)
	}
	d.noted = 0
	var msg string
	run := false

	// A refill: at least 56 bits after it. The bits above n are those of the
	// bytes at ip already, and or-ing them in again changes nothing. So all 64
	// bits of b are the stream's, and at least 16 of them remain after a match:
	// an entry is looked up before the refill, which it need not wait for.
	b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
	ip += ^n >> 3 & 7
	n |= 56
	e := d.lit[b&(1<<litBits-1)]
	for ip < d.ilim && o < d.olim {
		if int32(e) < 0 { // entryLit
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
					d.buf[o&(bufLen-1)] = byte(e >> entryBase)
					o++
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

		// 48 bits at most from a length to the end of its distance, 15+5 and
		// 15+13: no refill between them.
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
		src := o - dist
		d.mdist = int(dist)
		if int(src) < 0 {
			msg = msgFar
			break
		}
		// While a window is tracked, a match from before low is noted, the others
		// are overwritten. With a branch in its place, the first pass with
		// checkpoints took 4 % longer: matches are of either kind as they like.
		if d.low > 0 {
			k := d.noted % maxNoted
			d.notes[k] = uint32(src)<<9 | uint32(length)
			d.noted = k + uint(int(src)-d.low)>>(bits.UintSize-1)
		}
		e = d.lit[b&(1<<litBits-1)]
		b |= binary.LittleEndian.Uint64(d.in[ip&(inLen-1):]) << (n & 63)
		ip += ^n >> 3 & 7
		n |= 56

		// Copies of a constant 16 or 8 bytes are one load and one store. Of all
		// matches one in seven is longer than 16 bytes, one in twenty than 32: two
		// copies at once leave fewer branches that can't be foreseen. They share
		// their addresses.
		end := o + length
		if dist >= 16 {
			p, q := d.buf[o&(bufLen-1):][:32], d.buf[src&(bufLen-1):][:32]
			copy(p[:16], q)
			copy(p[16:], q[16:])
			if length > 32 {
				for o += 32; o < end; o += 16 {
					copy(d.buf[o&(bufLen-1):][:16], d.buf[(o-dist)&(bufLen-1):][:16])
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
			// The pattern is repeated in one word, and that is written.
			v := binary.LittleEndian.Uint64(d.buf[src&(bufLen-1):])
			v = v & (1<<(dist*8&63) - 1) * patterns[dist&7]
			step := uint(steps[dist&7])
			for {
				binary.LittleEndian.PutUint64(d.buf[o&(bufLen-1):], v)
				binary.LittleEndian.PutUint64(d.buf[(o+step)&(bufLen-1):], v)
				o += step * 2
				if o >= end {
					break
				}
			}
			if length == maxMatch && e>>entryBase == maxMatch {
				o = end
				run = true
				break
			}
		}
		o = end
	}

	if o > uint(target) { // by the rest of a match, which is made again later
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
	if run && d.mlen == 0 {
		d.run(target)
	}
	return nil
}

const (
	msgLit  = "invalid literal/length symbol"
	msgDist = "invalid distance symbol"
	msgFar  = "distance too far back"
)

// For a distance below 8: the factor that repeats so many bytes over 8 (a
// product wraps), and the largest multiple of the distance in 8.
var (
	patterns = [8]uint64{
		1: 0x0101010101010101,
		2: 0x0001000100010001,
		3: 0x0001000001000001,
		4: 0x0000000100000001,
		5: 0x0000010000000001,
		6: 0x0001000000000001,
		7: 0x0100000000000001,
	}
	steps = [8]uint8{0, 8, 8, 6, 8, 5, 6, 7}
)

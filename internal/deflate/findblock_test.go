package deflate

import (
	"bytes"
	"io"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// start is where a block begins in a stream.
type start struct {
	in    int64 // bits
	out   int64 // bytes
	state state // inside it
}

// starts returns the blocks of a stream, as a Decoder has them.
func starts(t testing.TB, raw []byte) (all []start) {
	t.Helper()
	d := new(Decoder)
	d.Reset(bytes.NewReader(raw))
	for {
		if d.state == stHeader {
			s := start{in: d.In(), out: d.Out()}
			if err := d.header(); err != nil {
				t.Fatal(err)
			}
			s.state = d.state
			if s.state == stHeader || s.state == stEnd { // nothing in it
				s.state = stStored
			}
			all = append(all, s)
			continue
		}
		if d.opos+MaxDecode > bufLen {
			d.slide()
		}
		if err := d.step(d.opos + MaxDecode); err == io.EOF { // no further than the block
			return all
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// findAll finds all there is, in pieces of p so long.
func findAll(p []byte, piece int) (all []int) {
	for base := 0; base < len(p); base += piece {
		end := min(len(p), base+piece+BlockHeaderLen)
		for bit := 0; ; bit++ {
			var ok bool
			if bit, ok = FindBlock(p[base:end], bit, min(piece, len(p)-base)*8); !ok {
				break
			}
			all = append(all, base*8+bit)
		}
	}
	return all
}

// TestFindBlock finds the blocks of streams: all of them but those with the fixed
// codes.
func TestFindBlock(t *testing.T) {
	dmgtest.Long(t)
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			for _, b := range starts(t, s.raw) {
				at := int(b.in)
				if peekBits(s.raw, at)&7 == 0 { // stored, not final
					at += -(at + 3) & 7
				}
				if bit, ok := FindBlock(s.raw, at, at+1); ok != (b.state != stFixed) || ok && bit != at {
					t.Errorf("a block in state %d at bit %d: %d, %v", b.state, at, bit, ok)
				}
			}
		})
	}
}

// TestFindBlockAll compares what is found with what a Decoder takes at each bit.
func TestFindBlockAll(t *testing.T) {
	dmgtest.NotRaced(t)
	var w bitWriter
	w.stored(0, []byte("\x00\x00\x00\xFF\xFF\x01\x00\xFE\xFF\x80\x00\x00\xFF\xFF\x20\x01\x00\xFE\xFF\x1F\x02\x00\xFD\xFF"))
	noise := make([]byte, 40_000)
	r := newRand(21)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	lit, dst := deep(r)
	w.dynamic(0, lit, dst)
	w.end()
	w.stored(1, nil)
	for name, p := range map[string][]byte{
		"text":  goFlate(t, mixed(100_000), 6),
		"own":   w.buf,
		"noise": noise,
		"zeros": make([]byte, 1000),
		"ones":  bytes.Repeat([]byte{0xFF}, 1000),
		"ends":  bytes.Repeat([]byte{0, 0, 0xFF, 0xFF}, 300),
	} {
		if len(p) > 20_000 && dmgtest.Part() {
			p = p[:20_000]
		}
		var want []int
		d := new(Decoder)
		for bit := range len(p) * 8 {
			if d.Resume(bytes.NewReader(p[bit/8:]), &Checkpoint{In: int64(bit)}, []byte{0}) == nil && d.header() == nil && takes(p, bit, d) {
				want = append(want, bit)
			}
		}
		t.Log(name, len(want))
		for _, piece := range []int{len(p), 1000, 1001, 7} {
			if piece == 7 && len(p) > 2000 {
				continue
			}
			got := findAll(p, piece)
			if len(got) != len(want) {
				t.Errorf("%s: %d found, want %d", name, len(got), len(want))
				continue
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s: %d found, want %d", name, got[i], want[i])
				}
			}
		}
	}
}

// takes reports whether FindBlock is to find the block whose header is at a bit of p
// and was read by d.
func takes(p []byte, bit int, d *Decoder) bool {
	typ := peekBits(p, bit) >> 1 & 3
	if typ != 0 {
		return typ == 2
	}
	for i := bit + 3; i%8 != 0; i++ {
		if p[i/8]>>(i%8)&1 != 0 {
			return false
		}
	}
	// One that is not final begins as late as it can.
	return d.final || (bit+3)%8 == 0
}

// BenchmarkFindBlock searches data in which there is nothing to be found, or only
// what is in other data by chance.
func BenchmarkFindBlock(b *testing.B) {
	text := goFlate(b, english(newRand(6), 8<<20), 6)
	noise := make([]byte, 1<<20)
	r := newRand(22)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, s := range []stream{{name: "deflate", raw: text[:1<<20]}, {name: "noise", raw: noise}, {name: "zeros", raw: make([]byte, 1<<20)}} {
		b.Run(s.name, func(b *testing.B) {
			b.SetBytes(1 << 20)
			found := 0
			for b.Loop() {
				found = len(findAll(s.raw, len(s.raw)))
			}
			b.ReportMetric(float64(found), "found")
		})
	}
}

package deflate

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// lender lends from a buffer that it overwrites as soon as a Lender may.
type lender struct {
	raw []byte // to come
	buf []byte
	pos int // in buf
	end int
}

// newLender makes a lender with a buffer of size bytes.
func newLender(raw []byte, size int) *lender { return &lender{raw: raw, buf: make([]byte, size)} }

// reset makes l lend all of raw, without copying it.
func (l *lender) reset(raw []byte) *lender {
	*l = lender{buf: raw, end: len(raw)}
	return l
}

func (l *lender) Lend(n int) ([]byte, error) {
	if n > l.end-l.pos && len(l.raw) > 0 {
		l.fill()
	}
	if l.pos == l.end {
		return nil, io.EOF
	}
	p := l.buf[l.pos:min(l.pos+n, l.end)]
	l.pos += len(p)
	return p, nil
}

// fill moves what is buffered to the front and fills the rest.
func (l *lender) fill() {
	k := copy(l.buf, l.buf[l.pos:l.end])
	n := copy(l.buf[k:], l.raw)
	l.raw = l.raw[n:]
	l.pos, l.end = 0, k+n
	clear(l.buf[l.end:])
}

func (l *lender) Buffered() int { return l.end - l.pos }

func (l *lender) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q, err := l.Lend(len(p))
	return copy(p, q), err
}

// sources are readers of raw that differ in what they can lend: nothing, all, or
// what is in buffers shorter and longer than a window.
var sources = []func(raw []byte) io.Reader{
	func(raw []byte) io.Reader { return bytes.NewReader(raw) },
	func(raw []byte) io.Reader { return new(lender).reset(raw) },
	func(raw []byte) io.Reader { return newLender(raw, 6<<10) },
	func(raw []byte) io.Reader { return newLender(raw, 50_000) },
	func(raw []byte) io.Reader { return newLender(raw, 128<<10) },
}

// TestLent makes sure that stored blocks are lent, not copied, from where a
// window is not in the way.
func TestLent(t *testing.T) {
	w := &bitWriter{}
	for range 20 {
		w.stored(0, mixed(16<<10))
	}
	w.stored(1, nil)
	l, d := new(lender), new(Decoder)
	d.Reset(l.reset(w.buf))
	lent := 0
	for {
		p, err := d.Decode(0)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if end := &p[len(p)-1]; end == &l.buf[l.pos-1] {
			lent += len(p)
		}
	}
	if lent != 20*16<<10 {
		t.Errorf("%d bytes of %d were lent", lent, 20*16<<10)
	}
}

// TestSettle overwrites what was lent, as a source may once it is settled.
func TestSettle(t *testing.T) {
	d := new(Decoder)
	for _, s := range ownStreams(300_000) {
		l := newLender(s.raw, 40_000)
		d.Reset(l)
		for i := 0; ; i++ {
			p, err := d.Decode(1000 + i%5*15_000)
			if err == io.EOF {
				break
			}
			if err != nil || !bytes.Equal(p, s.want[d.Out()-int64(len(p)):d.Out()]) {
				t.Fatalf("%s: wrong bytes before %d, %v", s.name, d.Out(), err)
			}
			if i%3 > 0 {
				d.Settle()
				clear(l.buf[:l.pos])
			}
		}
	}
}

// TestLentAllocs holds the decoder to no allocations where it lends.
func TestLentAllocs(t *testing.T) {
	w := &bitWriter{}
	for range 10 {
		w.stored(0, mixed(30<<10))
	}
	w.stored(1, nil)
	d, l := new(Decoder), newLender(nil, 64<<10)
	if n := testing.AllocsPerRun(10, func() {
		l.raw, l.pos, l.end = w.buf, 0, 0
		d.Reset(l)
		for {
			if _, err := d.Decode(0); err != nil {
				return
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// badLender lends nothing, too much, or an error.
type badLender struct {
	bytes.Reader
	lend func(n int) ([]byte, error)
}

func (b *badLender) Lend(n int) ([]byte, error) { return b.lend(n) }
func (b *badLender) Buffered() int              { return 1 << 20 }

// TestBadLender reads what can't be lent.
func TestBadLender(t *testing.T) {
	w := &bitWriter{}
	for range 3 {
		w.stored(0, mixed(40_000))
	}
	w.stored(1, nil)
	for i, lend := range []func(n int) ([]byte, error){
		func(int) ([]byte, error) { return nil, io.EOF },
		func(int) ([]byte, error) { return nil, nil },
		func(n int) ([]byte, error) { return make([]byte, n+1), nil },
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := &badLender{lend: lend}
			b.Reset(w.buf)
			d := new(Decoder)
			d.Reset(b)
			if got, err := decodeAll(d, 0); err != nil || !bytes.Equal(got, w.out) {
				t.Errorf("%d bytes of %d, %v", len(got), len(w.out), err)
			}
		})
	}
}

// TestRuns decodes runs of every short distance, whole and in parts, and what
// comes after them.
func TestRuns(t *testing.T) {
	dmgtest.NotRaced(t)
	d := new(Decoder)
	for dist := 1; dist <= 9; dist++ {
		for _, first := range []byte{0, 7} {
			w := &bitWriter{}
			lit, dst := flat()
			for _, n := range []int{1, 2, 3, 8, 500} {
				w.dynamic(0, lit, dst)
				for i := range dist {
					w.literal(first * byte(i+1))
				}
				for range n {
					w.match(258, dist)
				}
				w.match(17, dist)
				w.match(258, max(1, dist-1))
				w.end()
				w.fixed(0)
				for range n {
					w.match(258, dist)
				}
				w.end()
			}
			w.stored(1, nil)
			for _, max := range []int{0, 1, 257, 258, 259, 1000, 32768} {
				for i, source := range sources {
					d.Reset(source(w.buf))
					if got, err := decodeAll(d, max); err != nil || !bytes.Equal(got, w.out) {
						t.Fatalf("distance %d, max %d, source %d: %d bytes of %d, %v", dist, max, i, len(got), len(w.out), err)
					}
				}
			}
		}
	}
}

package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

var errEnd = errors.New("end")

// decoder makes size bytes, those of at in steps that its random numbers choose, and
// then fails. Each of its steps looks at the window.
type decoder struct {
	t    *testing.T
	o    Output
	r    *rand.Rand
	size int64
}

// at is the byte at an offset.
func at(off int64) byte { return byte(off*7 + off>>8) }

func (d *decoder) step(limit int) error {
	o := &d.o
	pos := o.Base + int64(o.Wr)
	if o.Wr >= limit || limit+o.Slack > len(o.Buf) {
		d.t.Fatalf("a step to %d from %d, in %d bytes", limit, o.Wr, len(o.Buf))
	}
	for back := 1; back <= min(o.Window, int(pos)); back += 1 + back/4 {
		if o.Buf[o.Wr-back] != at(pos-int64(back)) {
			d.t.Fatalf("%d bytes before %d the window is wrong", back, pos)
		}
	}
	if pos == d.size {
		return errEnd
	}
	n := d.r.IntN(limit - o.Wr + o.Slack + 1) // nothing, too, as where a header is read
	n = int(min(int64(n), d.size-pos))
	for range n {
		o.Buf[o.Wr] = at(o.Base + int64(o.Wr))
		o.Wr++
	}
	if d.r.IntN(2) == 0 && o.Base+int64(o.Wr) == d.size {
		return errEnd // together with the last bytes
	}
	return nil
}

// TestOutput decodes lengths at random and must get them, then the error.
func TestOutput(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		window, slack := r.IntN(100_000), r.IntN(500)
		d := &decoder{t: t, r: r}
		d.o = Output{Buf: make([]byte, window+MaxDecode+slack+r.IntN(100_000)), Window: window, Slack: slack}
		for range 3 {
			d.size = int64(r.IntN(1 << r.IntN(20)))
			d.o.Restart()
			var pos int64
			for {
				max := r.IntN(1<<r.IntN(18)) - 1
				p, err := d.o.Decode(max, d.step)
				if max <= 0 || max > MaxDecode {
					max = MaxDecode
				}
				if want := min(int64(max), d.size-pos); int64(len(p)) != want || (err != nil) != (want == 0) {
					t.Fatalf("%d bytes and %v at %d of %d, want %d", len(p), err, pos, d.size, want)
				}
				for i, c := range p {
					if c != at(pos+int64(i)) {
						t.Fatalf("byte %d is wrong", pos+int64(i))
					}
				}
				pos += int64(len(p))
				if err != nil {
					if _, again := d.o.Decode(0, d.step); err != errEnd || again != errEnd {
						t.Fatalf("%v, and then %v", err, again)
					}
					break
				}
			}
		}
	}
}

// reader is a decoder as an io.Reader.
type reader struct{ d *decoder }

func (r reader) Read(p []byte) (int, error) { return r.d.o.Read(p, r.d.step) }

func TestRead(t *testing.T) {
	const size = 500_000
	d := &decoder{t: t, r: rand.New(rand.NewPCG(3, 4)), size: size}
	d.o = Output{Buf: make([]byte, 200_000), Window: 1000}
	var b bytes.Buffer
	if _, err := io.CopyBuffer(&b, io.LimitReader(reader{d}, size), make([]byte, 100_000)); err != nil || b.Len() != size {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
	for i, c := range b.Bytes() {
		if c != at(int64(i)) {
			t.Fatalf("byte %d is wrong", i)
		}
	}
	if n, err := (reader{d}).Read(nil); n != 0 || err != nil {
		t.Errorf("no room: %d, %v", n, err)
	}
	if n, err := (reader{d}).Read(make([]byte, 1)); n != 0 || err != errEnd {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

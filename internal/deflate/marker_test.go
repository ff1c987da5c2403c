package deflate

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// markers decodes all blocks from here on.
func markers(m *MarkerDecoder) (out []Symbol, err error) {
	for {
		if err := m.Next(); err == io.EOF {
			return out, nil
		} else if err != nil {
			return out, err
		}
		for {
			p, err := m.Decode()
			if (len(p) > 0) == (err != nil) {
				panic("symbols and an error, or neither")
			}
			if err == io.EOF {
				break
			} else if err != nil {
				return out, err
			}
			for i := range p.Len() {
				out = append(out, p.At(i))
			}
		}
	}
}

// TestMarkers decodes streams from each of their blocks on. With the window before
// it, the symbols are the output.
func TestMarkers(t *testing.T) {
	dmgtest.Long(t)
	m := new(MarkerDecoder)
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			all := starts(t, s.raw)
			for i, b := range all {
				if len(all) > 6 && i%(len(all)/6) != 0 {
					continue
				}
				var r io.Reader = bytes.NewReader(s.raw[b.in/8:])
				if i%4 == 1 {
					r = iotest.HalfReader(r)
				}
				if err := m.Reset(r, b.in, nil); err != nil {
					t.Fatal(err)
				}
				got, err := markers(m)
				if err != nil || len(got) != len(s.want)-int(b.out) || m.Out() != int64(len(got)) {
					t.Fatalf("from %d: %d symbols, %v; want %d", b.in, len(got), err, len(s.want)-int(b.out))
				}
				if (m.In()+7)/8 != int64(len(s.raw)) {
					t.Errorf("from %d: the end is at bit %d of %d bytes", b.in, m.In(), len(s.raw))
				}
				window := make([]byte, WindowSize)
				copy(window[max(0, WindowSize-int(b.out)):], s.want[max(0, int(b.out)-WindowSize):b.out])
				first := WindowSize
				for i, v := range got {
					want := Symbol(s.want[int(b.out)+i])
					if v >= Marker {
						first = min(first, int(v-Marker))
						v = Symbol(window[v-Marker])
					}
					if v != want {
						t.Fatalf("from %d: wrong symbol %d", b.in, i)
					}
				}
				if m.Reach() < WindowSize-first || int64(m.Reach()) > b.out {
					t.Errorf("from %d, byte %d: reaches %d, the first marker is %d", b.in, b.out, m.Reach(), first)
				}
				// A window of which some is known.
				known := make([]Symbol, WindowSize)
				for i := range known {
					known[i] = Symbol(window[i])
					if i%3 == 0 {
						known[i] = Marker + Symbol(i)
					}
				}
				m.Reset(bytes.NewReader(s.raw[b.in/8:]), b.in, known)
				again, err := markers(m)
				if err != nil || len(again) != len(got) {
					t.Fatalf("from %d, with a window: %d symbols, %v", b.in, len(again), err)
				}
				for i, v := range got {
					if v >= Marker {
						v = known[v-Marker]
					}
					if again[i] != v {
						t.Fatalf("from %d, with a window: wrong symbol %d", b.in, i)
					}
				}
			}
		})
	}
}

// TestMarkersErrors decodes what is no stream, and from sources that fail.
func TestMarkersErrors(t *testing.T) {
	raw := goFlate(t, mixed(100_000), 6)
	broken := errors.New("broken")
	m := new(MarkerDecoder)
	for n := 0; n < len(raw); n += 1 + n/50 {
		m.Reset(bytes.NewReader(raw[:n]), 0, nil)
		if _, err := markers(m); err != io.ErrUnexpectedEOF {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		m.Reset(io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(broken)), 0, nil)
		if _, err := markers(m); err != broken {
			t.Fatalf("a source that fails after %d bytes: %v", n, err)
		}
	}
	if err := m.Reset(bytes.NewReader(nil), 3, nil); err != io.ErrUnexpectedEOF {
		t.Errorf("no source: %v", err)
	}
	// What is wrong in a vector is so here, but for distances that are too far.
	for _, v := range vectors {
		w := &bitWriter{}
		v.make(w)
		w.align()
		d := new(Decoder)
		d.Reset(bytes.NewReader(w.buf))
		_, want := decodeAll(d, 0)
		m.Reset(bytes.NewReader(w.buf), 0, nil)
		_, err := markers(m)
		var corrupt *CorruptError
		if errors.As(want, &corrupt) && corrupt.Msg == msgFar {
			if m.Reach() == 0 {
				t.Errorf("%s: no reach", v.name)
			}
			continue
		}
		if (err == nil) != (want == nil) || errors.Is(err, ErrCorrupt) != errors.Is(want, ErrCorrupt) {
			t.Errorf("%s: %v, want %v", v.name, err, want)
		}
	}
}

// TestMarkersNext leaves blocks before their ends.
func TestMarkersNext(t *testing.T) {
	raw := goFlate(t, mixed(300_000), 6)
	m := new(MarkerDecoder)
	m.Reset(bytes.NewReader(raw), 0, nil)
	for i, b := range starts(t, raw) {
		if i > 0 && i%2 == 0 {
			if _, err := m.Decode(); err != nil {
				t.Fatal(err)
			}
		}
		err := m.Next()
		if err != nil || m.Out() != b.out {
			t.Fatalf("block %d is at byte %d, %v; want %d", i, m.Out(), err, b.out)
		}
	}
	for range 2 {
		if err := m.Next(); err != io.EOF || m.Out() != 300_000 {
			t.Errorf("behind the last block, at %d: %v", m.Out(), err)
		}
	}
}

func BenchmarkMarkers(b *testing.B) {
	m := new(MarkerDecoder)
	for _, s := range benchData(b) {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(s.want)))
			r := bytes.NewReader(nil)
			for b.Loop() {
				r.Reset(s.raw[ZlibHeaderLen:])
				m.Reset(r, 0, nil)
				for m.Next() == nil {
				}
			}
		})
	}
}

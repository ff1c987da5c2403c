package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/window"
)

// maxFuzzed bounds the output of a fuzzed stream.
const maxFuzzed = 1 << 20

// seeds are small streams of every kind.
func seeds(f *testing.F) [][]byte {
	var all [][]byte
	for _, v := range vectors {
		w := &bitWriter{}
		v.make(w)
		w.align()
		all = append(all, w.buf)
	}
	for _, s := range ownStreams(400) {
		all = append(all, s.raw)
	}
	return append(all, goFlate(f, mixed(3000), 6), goFlate(f, english(newRand(1), 2000), 9))
}

// straight decodes with compress/flate.
func straight(raw []byte) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), maxFuzzed+1))
	if len(out) > maxFuzzed {
		err = io.ErrShortBuffer
	}
	return out, err
}

// FuzzDecode: the same bytes as compress/flate, or an error where it has one.
func FuzzDecode(f *testing.F) {
	for i, s := range seeds(f) {
		f.Add(s, uint16(i*777))
	}
	d := new(Decoder)
	f.Fuzz(func(t *testing.T, raw []byte, max uint16) {
		want, wantErr := straight(raw)
		if wantErr == io.ErrShortBuffer {
			return
		}
		var r io.Reader = bytes.NewReader(raw)
		switch max % 4 {
		case 0:
			r = iotest.OneByteReader(r)
		case 1, 2:
			r = newLender(raw, 1<<(10+max%8))
		}
		d.Reset(r)
		got, err := decodeAll(d, int(max))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, compress/flate: %v", err, wantErr)
		}
		// What is wrong with a header may be seen sooner or later.
		if err == nil && len(got) != len(want) || !bytes.HasPrefix(got, want) && !bytes.HasPrefix(want, got) {
			t.Fatalf("%d bytes, compress/flate: %d, or they differ", len(got), len(want))
		}
		if err != nil && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// FuzzResume: cut anywhere, with a sparse window, is as good as straight.
func FuzzResume(f *testing.F) {
	for i, s := range seeds(f) {
		f.Add(s, uint32(i*13), uint16(i*17))
	}
	d, e := new(Decoder), new(Decoder)
	f.Fuzz(func(t *testing.T, raw []byte, cut uint32, next uint16) {
		d.Reset(bytes.NewReader(raw))
		want, wantErr := decodeLimited(d)
		if len(want) > maxFuzzed {
			return
		}
		off := int(cut % uint32(len(want)+1))
		k := checkpoints(t, d, stream{"", raw, want}, []int{off})[0]
		d.Track()
		for {
			if _, err := d.Decode(0); err != nil {
				break
			}
		}
		var refs Refs
		d.Refs(&refs)
		packed := AppendPackedWindow(nil, k.window, &refs)
		c := viaBinary(t, &k.c)
		// Again a little further on, from a decoder that was itself resumed.
		for _, n := range []int{int(next), MaxDecode} {
			if err := e.Resume(newLender(raw[c.In/8:], 1<<(10+next%8)), c, packed); err != nil {
				t.Fatal(err)
			}
			got, err := decodeSome(e, min(n, len(want)-int(c.Out)))
			if err != nil || !bytes.Equal(got, want[c.Out:e.Out()]) {
				t.Fatalf("at %d: %d bytes, %v", c.Out, len(got), err)
			}
			k = save(e)
			c, packed = &k.c, k.packed()
		}
		for err := error(nil); err == nil; {
			var p []byte
			if p, err = e.Decode(0); err != nil {
				if err != wantErr && err.Error() != wantErr.Error() {
					t.Fatalf("%v at the end, want %v", err, wantErr)
				}
			} else if !bytes.Equal(p, want[int(e.Out())-len(p):e.Out()]) {
				t.Fatalf("wrong bytes before %d", e.Out())
			}
		}
	})
}

// decodeLimited decodes to the error at the end, or somewhat over maxFuzzed.
func decodeLimited(d *Decoder) (out []byte, err error) {
	for len(out) <= maxFuzzed {
		p, err := d.Decode(0)
		if err != nil {
			return out, err
		}
		out = append(out, p...)
	}
	return out, nil
}

// FuzzCheckpoint: any checkpoint is refused or leads to bytes or an error, and
// what Parse takes is what AppendBinary writes.
func FuzzCheckpoint(f *testing.F) {
	d := new(Decoder)
	for _, s := range ownStreams(400) {
		for _, k := range checkpoints(f, d, s, []int{0, len(s.want) / 2, len(s.want)}) {
			p, err := k.c.AppendBinary(nil)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(p, k.window, s.raw[k.c.In/8:])
		}
	}
	f.Fuzz(func(t *testing.T, p, window, raw []byte) {
		var c, again Checkpoint
		rest, err := c.Parse(p)
		if err != nil {
			if !errors.Is(err, ErrCheckpoint) {
				t.Fatal(err)
			}
			return
		}
		q, err := c.AppendBinary(nil)
		if err != nil || len(q) > len(p)-len(rest) {
			t.Fatalf("% x for % x, %v", q, p, err)
		}
		if err := again.UnmarshalBinary(q); err != nil || again.In != c.In || again.Out != c.Out ||
			again.Stored != c.Stored || again.Distance != c.Distance || !bytes.Equal(again.Header, c.Header) {
			t.Fatalf("%+v, want %+v, %v", again, c, err)
		}
		// A fuzzer finds the window's length only for little output.
		full := make([]byte, min(WindowSize, c.Out))
		copy(full, window)
		if err := d.Resume(bytes.NewReader(raw), &c, whole(full)); err != nil {
			if !errors.Is(err, ErrCheckpoint) && err != io.ErrUnexpectedEOF {
				t.Fatal(err)
			}
			return
		}
		if d.In() != c.In || d.Out() != c.Out {
			t.Fatalf("at %d, %d, want %d, %d", d.In(), d.Out(), c.In, c.Out)
		}
		d.Track()
		if _, err := decodeLimited(d); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

// FuzzWindow: refused, or the whole of dst is written.
func FuzzWindow(f *testing.F) {
	var refs Refs
	window.Refs(refs[:]).Mark(WindowSize-50, WindowSize-10)
	window.Refs(refs[:]).Mark(WindowSize-5, WindowSize)
	f.Add(AppendPackedWindow(nil, mixed(60), &refs), uint16(60))
	f.Add(AppendPackedWindow(nil, mixed(60), nil), uint16(60))
	f.Add(AppendPackedWindow(nil, mixed(WindowSize), &refs), uint16(WindowSize))
	f.Fuzz(func(t *testing.T, packed []byte, n uint16) {
		one := bytes.Repeat([]byte{0x11}, int(n))
		two := bytes.Repeat([]byte{0x22}, int(n))
		err := unpackWindow(one, packed)
		if err2 := unpackWindow(two, packed); (err == nil) != (err2 == nil) {
			t.Fatalf("%v, then %v", err, err2)
		}
		if err != nil {
			if !errors.Is(err, ErrCheckpoint) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(one, two) {
			t.Fatal("bytes left as they were")
		}
	})
}

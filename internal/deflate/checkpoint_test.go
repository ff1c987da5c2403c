package deflate

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// saved is a checkpoint with its window.
type saved struct {
	c      Checkpoint
	window []byte
}

func save(d *Decoder) saved {
	var s saved
	d.Checkpoint(&s.c)
	s.window = bytes.Clone(d.Window())
	return s
}

// packed is all of the window.
func (s *saved) packed() []byte { return whole(s.window) }

func whole(window []byte) []byte { return AppendPackedWindow(nil, window, nil) }

// checkpoints decodes a stream and saves a checkpoint at each of the offsets.
func checkpoints(t testing.TB, d *Decoder, s stream, offsets []int) []saved {
	t.Helper()
	var all []saved
	d.Reset(newLender(s.raw, 40_000))
	for _, off := range offsets {
		for d.Out() < int64(off) {
			if _, err := d.Decode(off - int(d.Out())); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, save(d))
	}
	return all
}

// cuts are n random offsets into size bytes, the ends and every step bytes.
func cuts(size, n, step int) []int {
	r := newRand(4)
	all := []int{0, size}
	for range n {
		all = append(all, r.IntN(size+1))
	}
	for i := step; i < size; i += step {
		all = append(all, i)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// viaBinary is c after AppendBinary and Parse.
func viaBinary(t testing.TB, c *Checkpoint) *Checkpoint {
	t.Helper()
	p, err := c.AppendBinary([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	n := &Checkpoint{Header: []byte("used before")}
	rest, err := n.Parse(append(p[1:], "rest"...))
	if err != nil || string(rest) != "rest" {
		t.Fatalf("Parse: %v, rest %q", err, rest)
	}
	return n
}

func TestResume(t *testing.T) {
	n := 1000
	if dmgtest.Part() {
		n = 30
	}
	d, e := new(Decoder), new(Decoder)
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			for i, k := range checkpoints(t, d, s, cuts(len(s.want), n, 16<<10)) {
				c := viaBinary(t, &k.c)
				if err := e.Resume(sources[i%len(sources)](s.raw[c.In/8:]), c, k.packed()); err != nil {
					t.Fatalf("at %d: %v", c.Out, err)
				}
				if e.In() != c.In || e.Out() != c.Out {
					t.Fatalf("at %d: resumed at %d, %d for %d", c.Out, e.In(), e.Out(), c.In)
				}
				want := s.want[c.Out:]
				if i%50 != 0 {
					want = want[:min(len(want), 1000)]
				}
				got, err := decodeSome(e, len(want))
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("at %d: %d bytes of %d, %v", c.Out, len(got), len(want), err)
				}
				if int(e.Out()) == len(s.want) {
					if _, err := e.Decode(0); err != io.EOF {
						t.Fatalf("at %d: %v at the end", c.Out, err)
					}
				}
			}
		})
	}
}

// decodeSome decodes n bytes.
func decodeSome(d *Decoder, n int) ([]byte, error) {
	var out []byte
	for len(out) < n {
		p, err := d.Decode(n - len(out))
		if err != nil {
			return out, err
		}
		out = append(out, p...)
	}
	return out, nil
}

// TestSparseWindow resumes with zeros for the bytes that Refs doesn't name.
func TestSparseWindow(t *testing.T) {
	dmgtest.NotRaced(t)
	dmgtest.Long(t)
	d, e := new(Decoder), new(Decoder)
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			for _, k := range checkpoints(t, d, s, cuts(len(s.want), 20, len(s.want)+1)) {
				if err := e.Resume(newLender(s.raw[k.c.In/8:], 20_000), &k.c, k.packed()); err != nil {
					t.Fatal(err)
				}
				e.Track()
				if _, err := decodeSome(e, min(WindowSize, len(s.want)-int(k.c.Out))); err != nil {
					t.Fatal(err)
				}
				var refs Refs
				e.Refs(&refs)
				for i := range k.window {
					if b := WindowSize - len(k.window) + i; refs[b/64]>>(b%64)&1 == 0 {
						k.window[i] = 0xEE
					}
				}
				if err := e.Resume(bytes.NewReader(s.raw[k.c.In/8:]), &k.c, k.packed()); err != nil {
					t.Fatal(err)
				}
				got, err := decodeAll(e, 0)
				if err != nil || !bytes.Equal(got, s.want[k.c.Out:]) {
					t.Fatalf("at %d: %d bytes, %v", k.c.Out, len(got), err)
				}
			}
		})
	}
}

func TestBadCheckpoint(t *testing.T) {
	dyn := []byte{0xFF}
	w := make([]byte, WindowSize)
	for _, tt := range []struct {
		name   string
		c      Checkpoint
		window []byte
	}{
		{"negative In", Checkpoint{In: -1}, nil},
		{"negative Out", Checkpoint{Out: -1}, nil},
		{"block type", Checkpoint{Block: 4}, nil},
		{"no window", Checkpoint{Out: 5}, nil},
		{"short window", Checkpoint{Out: 1 << 40}, w[1:]},
		{"long window", Checkpoint{Out: 5}, w[:6]},
		{"stored, nothing left", Checkpoint{Block: BlockStored}, nil},
		{"stored, too much left", Checkpoint{Block: BlockStored, Stored: 65536}, nil},
		{"stored, inside a byte", Checkpoint{Block: BlockStored, Stored: 1, In: 9}, nil},
		{"stored bytes in a fixed block", Checkpoint{Block: BlockFixed, Stored: 1}, nil},
		{"match between blocks", Checkpoint{Length: 1, Distance: 1, Out: 1}, w[:1]},
		{"negative length", Checkpoint{Block: BlockFixed, Length: -1, Distance: 1, Out: 1}, w[:1]},
		{"whole match", Checkpoint{Block: BlockFixed, Length: 258, Distance: 1, Out: 1}, w[:1]},
		{"no distance", Checkpoint{Block: BlockFixed, Length: 1, Out: 1}, w[:1]},
		{"distance before the start", Checkpoint{Block: BlockFixed, Length: 1, Distance: 2, Out: 1}, w[:1]},
		{"distance too long", Checkpoint{Block: BlockFixed, Length: 1, Distance: 32769, Out: 1 << 40}, w},
		{"distance only", Checkpoint{Block: BlockFixed, Distance: 1, Out: 1}, w[:1]},
		{"header of a fixed block", Checkpoint{Block: BlockFixed, Header: dyn}, nil},
		{"no header", Checkpoint{Block: BlockDynamic}, nil},
		{"long header", Checkpoint{Block: BlockDynamic, Header: w[:maxHeader+1]}, nil},
		{"short header", Checkpoint{Block: BlockDynamic, Header: dyn}, nil},
		{"header of zeros", Checkpoint{Block: BlockDynamic, Header: w[:100]}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := new(Decoder)
			if err := d.Resume(bytes.NewReader(w), &tt.c, whole(tt.window)); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("Resume: %v", err)
			}
		})
	}
}

// Offsets that are kept elsewhere are put in again.
func TestCheckpointWithoutOffsets(t *testing.T) {
	for _, c := range []Checkpoint{
		{},
		{In: 1 << 40, Out: 1 << 50, Final: true},
		{In: 8, Out: 300, Block: BlockStored, Stored: 1000},
		{In: 77, Out: 65536, Block: BlockFixed, Length: 5, Distance: 400},
		{In: 1<<63 - 1, Out: 1<<63 - 1, Block: BlockDynamic, Header: []byte{1, 2, 3}},
	} {
		want, err := c.AppendBinary([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		short := AppendWithoutOffsets(nil, want[1:])
		if got := AppendWithOffsets([]byte("x"), short, c.In, c.Out); !bytes.Equal(got, want) || len(short) >= len(want)-1 {
			t.Errorf("%+v: %x without, %x again, want %x", c, short, got, want)
		}
	}
	if got := AppendWithOffsets([]byte("x"), nil, 1, 2); string(got) != "x" {
		t.Errorf("%q of nothing", got)
	}
}

package codectest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/adc"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/adcenc"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/stream"
	ourxz "github.com/go-dmg/dmg/internal/xz"
)

// A resumable is a decoder that leaves checkpoints.
type resumable interface {
	Reset(r io.Reader)
	Decode(max int) ([]byte, error)
	Mark(off int64)
	Point(end bool) (stream.Point, bool)
	Resume(r io.Reader, off int64, p *stream.Record) error
	Space() []byte
}

// resumables are all of them.
var resumables = []struct {
	name string
	make func() resumable
}{
	{"adc", func() resumable { return new(adc.Reader) }},
	{"lzfse", func() resumable { return new(lzfse.Reader) }},
	{"xz", func() resumable { return ourxz.NewStreams(ourxz.Memory(8 << 20)) }},
}

// most is how much of a stream is decoded: a few bytes of one can make gigabytes.
const most = 3 << 20

// straight decodes a stream from its start, and leaves checkpoints: the first one wanted at
// byte first of the output, and each spacing bytes behind the one before, but not before
// that is complete. So it returns all that resume needs.
func straight(z resumable, data []byte, rng *rand.Rand, first, spacing int64) (out []byte, points []stream.Point, err error) {
	z.Reset(bytes.NewReader(data))
	z.Mark(first)
	keep := func(end bool) bool {
		p, ok := z.Point(end)
		if ok {
			if rng.IntN(2) == 0 {
				p.Record = stream.Shrink(p.Record)
			}
			p.Record = bytes.Clone(p.Record)
			points = append(points, p)
			z.Mark(max(p.Off+spacing, int64(len(out))+4096))
		}
		return ok
	}
	for len(out) < most {
		p, err := z.Decode(1 + rng.IntN(1<<rng.IntN(17)))
		if out = append(out, p...); err != nil {
			keep(true)
			return out, points, err
		}
		keep(false)
	}
	keep(true)
	return out, points, nil
}

// resumed decodes from a checkpoint on until it has as many bytes as straight had, or fails.
func resumed(z resumable, data []byte, p stream.Point, rng *rand.Rand, n int) (out []byte, err error) {
	var r stream.Record
	if err := r.Parse(append(z.Space()[:0], p.Record...)); err != nil {
		return nil, err
	}
	if r.In > int64(len(data)) || p.In > int64(len(data)) || r.In > p.In {
		return nil, fmt.Errorf("bytes %d to %d of %d of data", r.In, p.In, len(data))
	}
	if err := z.Resume(bytes.NewReader(data[r.In:]), p.Off, &r); err != nil {
		return nil, err
	}
	for len(out) < n {
		b, err := z.Decode(min(n-len(out), 1+rng.IntN(1<<rng.IntN(17))))
		if out = append(out, b...); err != nil {
			return out, err
		}
	}
	return out, nil
}

// checkResume has every checkpoint give what the straight decoder gave, and end as that did.
// It returns the number of checkpoints.
func checkResume(t *testing.T, z, other resumable, data []byte, seed uint64, first, spacing int64) int {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	out, points, want := straight(z, data, rng, first, spacing)
	for _, p := range points {
		if p.Off > int64(len(out)) {
			continue // the decoder was on its way there
		}
		got, err := resumed(other, data, p, rng, len(out)-int(p.Off))
		if err == nil && want != nil {
			_, err = other.Decode(1)
		}
		if message(err) != message(want) {
			t.Errorf("from byte %d: %v, want %v", p.Off, err, want)
		}
		if !bytes.Equal(got, out[p.Off:]) {
			t.Fatalf("from byte %d: %d other bytes than %d", p.Off, len(got), len(out)-int(p.Off))
		}
	}
	return len(points)
}

// message is what an error says but for the offset, which package xz has of the last call.
func message(err error) string {
	text, _, _ := strings.Cut(fmt.Sprint(err), " at offset")
	return text
}

func xzBlocks(c xz.WriterConfig, p []byte) []byte {
	var b bytes.Buffer
	w, err := c.NewWriter(&b)
	if err == nil {
		_, err = w.Write(p)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

// lzfseMixed is a stream of blocks of all kinds, and what it decodes to.
func lzfseMixed(seed uint64, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 3))
	p := dmgtest.Mixed(seed, int64(size)).Bytes()
	var w lzfseenc.Writer
	for len(p) > 0 {
		n := min(len(p), 1+rng.IntN(100_000))
		w.Add(lzfseenc.Kinds[rng.IntN(len(lzfseenc.Kinds))], p[:n])
		p = p[n:]
	}
	return w.Close()
}

// resumeStreams are streams of each codec, of every kind of block.
func resumeStreams(size int) map[string]map[string][]byte {
	text, mixed := dmgtest.Text(1, int64(size)).Bytes(), dmgtest.Mixed(2, int64(size)).Bytes()
	noise, zeros := dmgtest.Random(3, int64(size)).Bytes(), make([]byte, size)
	far := bytes.Clone(noise) // every byte of the window is wanted
	for i := 60_000; i < size; i++ {
		far[i] = far[i-60_000]
	}
	blocks := func(check byte, none bool) xz.WriterConfig {
		return xz.WriterConfig{DictCap: 64 << 10, BlockSize: 50_000, CheckSum: check, NoCheckSum: none}
	}
	small := xzBlocks(blocks(xz.CRC32, false), text[:size/3])
	return map[string]map[string][]byte{
		"adc": {
			"text": adcenc.Encode(text), "mixed": adcenc.Encode(mixed), "noise": adcenc.Encode(noise),
			"zeros": adcenc.Encode(zeros), "far": adcenc.Encode(far),
		},
		"lzfse": {
			"bvx2 text": lzfseenc.Encode(lzfseenc.V2, text), "bvx2 zeros": lzfseenc.Encode(lzfseenc.V2, zeros),
			"bvx2 far": lzfseenc.Encode(lzfseenc.V2, far), "bvx1": lzfseenc.Encode(lzfseenc.V1, mixed),
			"bvxn": lzfseenc.Encode(lzfseenc.LZVN, mixed), "bvxn far": lzfseenc.Encode(lzfseenc.LZVN, far),
			"bvx-": lzfseenc.Encode(lzfseenc.Stored, noise), "all kinds": lzfseMixed(4, size),
		},
		"xz": {
			"CRC-32": xzBlocks(blocks(xz.CRC32, false), mixed), "CRC-64": xzBlocks(blocks(xz.CRC64, false), text),
			"SHA-256": xzBlocks(blocks(xz.SHA256, false), mixed), "none": xzBlocks(blocks(0, true), zeros),
			"streams": bytes.Join([][]byte{small, make([]byte, 8), xzBlocks(blocks(xz.CRC64, false), text), small}, nil),
		},
	}
}

// TestResume goes on from every checkpoint of streams of every kind.
func TestResume(t *testing.T) {
	size := 2_500_000
	if dmgtest.Part() {
		size = 500_000
	}
	all := resumeStreams(size)
	for _, c := range resumables {
		z, other := c.make(), c.make()
		for name, data := range all[c.name] {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				n := 0
				for i, first := range []int64{1, 4097, 100_000, 300_001} {
					n += checkResume(t, z, other, data, uint64(i), first, 4096)
				}
				if n < 4 {
					t.Errorf("%d checkpoints: the test tests nothing", n)
				}
			})
		}
	}
}

// TestResumeCut goes on in streams that end early, and in damaged ones: as the straight
// decoder does.
func TestResumeCut(t *testing.T) {
	dmgtest.Long(t)
	rng := rand.New(rand.NewPCG(7, 7))
	rounds := 8
	if dmgtest.Part() {
		rounds = 2
	}
	all := resumeStreams(700_000)
	for _, c := range resumables {
		z, other := c.make(), c.make()
		for name, data := range all[c.name] {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				for i := range rounds {
					checkResume(t, z, other, data[:rng.IntN(len(data))], uint64(i), 1+rng.Int64N(300_000), 4096)
					bent := bytes.Clone(data)
					bent[rng.IntN(len(bent))] ^= 1 << rng.IntN(8)
					checkResume(t, z, other, bent, uint64(i), 1+rng.Int64N(300_000), 4096)
				}
			})
		}
	}
}

// TestRecordDense keeps as little of a window as later output copies.
func TestRecordDense(t *testing.T) {
	dmgtest.Long(t)
	for _, c := range resumables[:2] {
		z := c.make()
		all := resumeStreams(1_000_000)[c.name]
		names := map[string][2]string{"adc": {"noise", "far"}, "lzfse": {"bvx-", "bvx2 far"}}[c.name]
		for i, name := range names {
			_, points, _ := straight(z, all[name], rand.New(rand.NewPCG(1, 1)), 500_000, 1<<20)
			if len(points) != 1 {
				t.Fatalf("%s %s: %d checkpoints", c.name, name, len(points))
			}
			if n := len(points[0].Record); (n > 40_000) != (i == 1) {
				t.Errorf("%s %s: a record of %d bytes", c.name, name, n)
			}
		}
	}
}

// TestResumeAllocs has decoders allocate nothing when they resume again.
func TestResumeAllocs(t *testing.T) {
	all := resumeStreams(700_000)
	for _, c := range resumables {
		z := c.make()
		data := all[c.name][map[string]string{"adc": "text", "lzfse": "bvx2 text", "xz": "CRC-32"}[c.name]]
		_, points, _ := straight(z, data, rand.New(rand.NewPCG(1, 1)), 300_000, 1<<20)
		if len(points) == 0 {
			t.Fatalf("%s: no checkpoint", c.name)
		}
		p, src := points[0], bytes.NewReader(nil)
		var r stream.Record
		n := testing.AllocsPerRun(20, func() {
			if err := r.Parse(append(z.Space()[:0], p.Record...)); err != nil {
				t.Fatal(err)
			}
			src.Reset(data[r.In:])
			if err := z.Resume(src, p.Off, &r); err != nil {
				t.Fatal(err)
			}
			z.Mark(p.Off + 100_000)
			for range 10 {
				if _, err := z.Decode(20_000); err != nil {
					t.Fatal(err)
				}
				z.Point(false)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// fuzzResume holds decoders to this: in any stream, every checkpoint leads to the bytes and
// the error that the decoder from the start comes to; and a forged record is refused, or
// leads to bytes or an error.
func fuzzResume(f *testing.F, name string) {
	for _, data := range resumeStreams(30_000)[name] {
		f.Add(data, uint64(1), uint16(5000), []byte{})
	}
	for _, c := range resumables {
		if c.name != name {
			continue
		}
		z, other := c.make(), c.make()
		f.Fuzz(func(t *testing.T, data []byte, seed uint64, first uint16, forged []byte) {
			checkResume(t, z, other, data, seed, 1+int64(first), 1)
			var r stream.Record
			if r.Parse(append(z.Space()[:0], forged...)) != nil {
				return
			}
			off := int64(first) + r.Skip
			if err := z.Resume(bytes.NewReader(data), off, &r); err != nil {
				return
			}
			for n := 0; n < most; {
				p, err := z.Decode(0)
				if n += len(p); (len(p) > 0) == (err != nil) {
					t.Fatalf("%d bytes and %v", len(p), err)
				}
				if errors.Is(err, stream.ErrRecord) {
					t.Fatal("a record that was refused too late")
				}
				if err != nil {
					return
				}
			}
		})
	}
}

func FuzzResumeADC(f *testing.F)   { fuzzResume(f, "adc") }
func FuzzResumeLZFSE(f *testing.F) { fuzzResume(f, "lzfse") }
func FuzzResumeXZ(f *testing.F)    { fuzzResume(f, "xz") }

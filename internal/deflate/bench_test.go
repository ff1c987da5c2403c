package deflate

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"hash/adler32"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// benchData are zlib streams: made ones, and the files of the directory that
// DEFLATE_BENCH names.
func benchData(b *testing.B) []stream {
	noise := make([]byte, 8<<20)
	r := newRand(5)
	for i := 0; i < len(noise); i += 8 {
		binary.LittleEndian.PutUint64(noise[i:], r.Uint64())
	}
	var all []stream
	for _, s := range []stream{
		{name: "text", want: english(newRand(6), 8<<20)},
		{name: "mixed", want: mixed(8 << 20)},
		{name: "noise", want: noise},
		{name: "zeros", want: make([]byte, 64<<20)},
	} {
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		w.Write(s.want)
		w.Close()
		all = append(all, stream{s.name, z.Bytes(), s.want})
	}
	if dir := os.Getenv("DEFLATE_BENCH"); dir != "" {
		files, _ := filepath.Glob(dir + "/*")
		all = nil
		for _, f := range files {
			z, err := os.ReadFile(f)
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, stream{name: filepath.Base(f), raw: z})
		}
	}
	return all
}

// BenchmarkDecode decodes the same streams with and without the Adler-32, with
// the checkpoints of a first pass, and with compress/flate.
func BenchmarkDecode(b *testing.B) {
	d, whole := new(Decoder), new(lender)
	for _, s := range benchData(b) {
		raw := s.raw[ZlibHeaderLen:]
		run := func(name string, f func() int64) {
			b.Run(s.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				var n int64
				for b.Loop() {
					n = f()
				}
				b.SetBytes(n)
			})
		}
		decode := func(each func(p []byte)) int64 {
			d.Reset(whole.reset(raw))
			for {
				p, err := d.Decode(0)
				if err == io.EOF {
					return d.Out()
				}
				if err != nil {
					b.Fatal(err)
				}
				each(p)
			}
		}
		run("deflate", func() int64 { return decode(func([]byte) {}) })
		run("adler", func() int64 {
			sum := uint32(1)
			return decode(func(p []byte) { sum = Adler32(sum, p) })
		})
		var c Checkpoint
		var refs Refs
		window, packed := make([]byte, 0, WindowSize), make([]byte, 0, MaxPackedWindow)
		run("checkpoints", func() int64 {
			return decode(func([]byte) {
				d.Refs(&refs)
				packed = AppendPackedWindow(packed[:0], window, &refs)
				d.Checkpoint(&c)
				window = append(window[:0], d.Window()...)
				d.Track()
			})
		})
		run("compress-flate", func() int64 {
			r := flate.NewReader(bytes.NewReader(raw))
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 64<<10))
			return n
		})
	}
}

// BenchmarkResume takes a packed window and decodes 4 KiB behind it.
func BenchmarkResume(b *testing.B) {
	s := benchData(b)[0]
	raw := s.raw[ZlibHeaderLen:]
	d := new(Decoder)
	d.Reset(bytes.NewReader(raw))
	var c Checkpoint
	var refs Refs
	for d.Out() < 1<<20 {
		d.Decode(0)
	}
	d.Checkpoint(&c)
	window := bytes.Clone(d.Window())
	d.Track()
	d.Decode(0)
	d.Refs(&refs)
	packed := AppendPackedWindow(nil, window, &refs)
	r := bytes.NewReader(nil)
	b.ReportMetric(float64(len(packed)+len(c.Header)), "bytes/checkpoint")
	for b.Loop() {
		r.Reset(raw[c.In/8:])
		if err := d.Resume(r, &c, packed); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Decode(4096); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAdler32(b *testing.B) {
	p := make([]byte, 64<<10)
	for i := range p {
		p[i] = byte(i * i)
	}
	b.Run("deflate", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			Adler32(1, p)
		}
	})
	b.Run("hash-adler32", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			adler32.Checksum(p)
		}
	})
}

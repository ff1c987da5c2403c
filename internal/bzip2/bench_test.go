package bzip2

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	dsnet "github.com/dsnet/compress/bzip2"
)

// benchData returns streams by name: made-up text, noise and runs, and the
// files that DMG_BZIP2 lists, separated as in PATH.
func benchData(b *testing.B) map[string][]byte {
	data := map[string][]byte{
		"words": compress(b, words(4_000_000, 1), 9),
		"mixed": compress(b, mixed(4_000_000, 1), 9),
	}
	for _, name := range strings.FieldsFunc(os.Getenv("DMG_BZIP2"), func(r rune) bool { return r == filepath.ListSeparator }) {
		p, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		data[filepath.Base(name)] = p
	}
	return data
}

// whole decodes a stream as one who wants all of it does, checksums included.
func (d *player) whole(z []byte) int64 {
	n := int64(0)
	for d.s.Reset(bytes.NewReader(z)); d.s.Next(&d.b) == nil; {
		d.b.Unwind(&d.x)
		crc := uint32(0)
		for c, err := d.x.Start(), error(nil); err == nil; {
			var k int
			k, err = d.x.Read(&c, d.buf[:])
			crc = UpdateCRC(crc, d.buf[:k])
			n += int64(k)
		}
		if crc != d.b.CRC() {
			return -1
		}
	}
	return n
}

func BenchmarkDecode(b *testing.B) {
	for name, z := range benchData(b) {
		b.Run("ours/"+name, func(b *testing.B) {
			var d player
			b.SetBytes(d.whole(z))
			b.ReportAllocs()
			for b.Loop() {
				d.whole(z)
			}
		})
		b.Run("compress-bzip2/"+name, func(b *testing.B) {
			for b.Loop() {
				n, _ := io.Copy(io.Discard, stdbzip2.NewReader(bytes.NewReader(z)))
				b.SetBytes(n)
			}
		})
		b.Run("dsnet/"+name, func(b *testing.B) {
			for b.Loop() {
				r, _ := dsnet.NewReader(bytes.NewReader(z), nil)
				n, _ := io.Copy(io.Discard, r)
				b.SetBytes(n)
			}
		})
	}
}

// BenchmarkStage times the stages of the first block of each stream; bytes are
// those of its text.
func BenchmarkStage(b *testing.B) {
	for name, z := range benchData(b) {
		var d player
		d.s.Reset(bytes.NewReader(z))
		if err := d.s.Next(&d.b); err != nil {
			b.Fatal(err)
		}
		p := d.b.Point()
		in := z[p.In>>3 : d.b.End()>>3+1]
		d.b.Unwind(&d.x)
		mid := d.x.Start()
		if _, err := io.CopyN(io.Discard, readerFunc(func(q []byte) (int, error) { return d.x.Read(&mid, q) }), int64(d.b.Len()/2)); err != nil {
			b.Fatal(err)
		}
		span := []Cursor{mid, mid}
		if _, err := d.x.Read(&span[1], d.buf[:8192]); err != nil {
			b.Fatal(err)
		}
		var out bytes.Buffer
		out.Grow(1 << 20)
		for c, err := d.x.Start(), error(nil); err == nil; {
			var n int
			n, err = d.x.Read(&c, d.buf[:])
			out.Write(d.buf[:n])
		}
		for stage, run := range map[string]func(){
			"next": func() {
				d.s.Resume(bytes.NewReader(in), p)
				d.s.Next(&d.b)
			},
			"link": func() {
				d.b.link()
			},
			"unwind": func() { d.b.Unwind(&d.x) },
			"read": func() {
				for c, err := d.x.Start(), error(nil); err == nil; {
					_, err = d.x.Read(&c, d.buf[:])
				}
			},
			"crc": func() { UpdateCRC(0, out.Bytes()) },
			"next and 4096 bytes at a cursor": func() {
				d.s.Resume(bytes.NewReader(in), p)
				d.s.Next(&d.b)
				c := mid
				d.b.Read(&c, d.buf[:4096])
			},
			"next and the span of 4096 bytes": func() {
				d.s.Resume(bytes.NewReader(in), p)
				d.s.NextRanked(&d.b)
				d.b.UnwindSpan(&d.x, span)
				c := mid
				d.x.Read(&c, d.buf[:4096])
			},
			"4096 bytes at a cursor": func() {
				if d.x.begin > 0 {
					d.b.Unwind(&d.x)
				}
				c := mid
				d.x.Read(&c, d.buf[:4096])
			},
		} {
			b.Run(name+"/"+stage, func(b *testing.B) {
				b.SetBytes(int64(d.b.Len()))
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
			})
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func BenchmarkFindBlock(b *testing.B) {
	p := mixed(1<<20, 12)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		FindBlock(p, 0)
	}
}

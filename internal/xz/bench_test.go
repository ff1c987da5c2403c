package xz

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ulikunitz/xz"
)

// BenchmarkDecode decodes a megabyte, some bytes a call.
func BenchmarkDecode(b *testing.B) {
	want := mixed(10, 1<<20)
	raw := encode(b, want, xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true})
	zeros := encode(b, make([]byte, 1<<20), xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true})
	z := newReader(1 << 20)
	for _, s := range []struct {
		name string
		raw  []byte
	}{{"mixed", raw}, {"zeros", zeros}} {
		for _, max := range []int{4 << 10, MaxDecode} {
			b.Run(fmt.Sprintf("%s/%dKiB", s.name, max>>10), func(b *testing.B) {
				b.SetBytes(1 << 20)
				b.ReportAllocs()
				r := bytes.NewReader(nil)
				for b.Loop() {
					r.Reset(s.raw)
					z.Reset(r)
					for err := error(nil); err == nil; {
						_, err = z.Decode(max)
					}
				}
			})
		}
	}
}

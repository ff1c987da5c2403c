package asif

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// BenchmarkReadAt reads 4 KiB at random, of a disk that is stored whole and of one whose
// sectors a bitmap tells.
func BenchmarkReadAt(b *testing.B) {
	disk := dmgtest.Random(1, 64<<20).Bytes()
	for _, whole := range []bool{true, false} {
		name := "whole"
		if !whole {
			name = "by sector"
			for at := 0; at < len(disk); at += 1 << 20 {
				clear(disk[at:][:100<<10])
			}
		}
		image, _ := dmgtest.ASIF{Size: 64 << 20, Chunk: 1 << 20, Whole: whole, Data: map[int64][]byte{0: disk}}.Bytes()
		d := open(b, image)
		b.Run(name, func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(1, 2))
			p := make([]byte, 4096)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				off := rnd.Int64N(64<<20-4096) / 512 * 512
				if n, err := d.ReadAt(p, off); err != nil || !bytes.Equal(p[:n], disk[off:][:n]) {
					b.Fatal(err)
				}
			}
		})
	}
}

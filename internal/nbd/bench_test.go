package nbd

import (
	"fmt"
	"io"
	"testing"
)

// BenchmarkRead reads with several requests in flight over one connection.
func BenchmarkRead(b *testing.B) {
	for _, network := range []string{"unix", "tcp"} {
		for _, size := range []int{4 << 10, 256 << 10, 2 << 20} {
			for _, structured := range []bool{false, true} {
				kind := map[bool]string{false: "simple", true: "structured"}[structured]
				b.Run(fmt.Sprintf("%s/%s/%dK", network, kind, size>>10), func(b *testing.B) {
					benchRead(b, network, structured, size)
				})
			}
		}
	}
}

func benchRead(b *testing.B, network string, structured bool, size int) {
	d := newDisk(64 << 20)
	r := serve(b, &Server{Export: d.export()}, network)
	c := r.transmission(b, structured)
	answerLen := simpleLen + size
	if structured {
		answerLen = structuredLen + chunkOffset + size
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		// The socket's buffers and the server's places bound what is in flight.
		for i := range b.N {
			off := uint64(i*size) % uint64(len(d.data)-size)
			if _, err := c.Write(req(cmdRead, 0, uint64(i), off, uint32(size))); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, answerLen)
	for range b.N {
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
	}
}

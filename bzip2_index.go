package dmg

import (
	"compress/bzip2"
	"io"
)

const bzip2Memory = 4 << 20

type bzip2Reader struct {
	z   io.Reader
	buf [maxDecode]byte
}

func (b *bzip2Reader) Reset(r io.Reader) { b.z = bzip2.NewReader(r) }

func (b *bzip2Reader) Decode(max int) ([]byte, error) {
	n, err := io.ReadFull(b.z, b.buf[:max])
	if n > 0 {
		err = nil
	}
	return b.buf[:n], err
}

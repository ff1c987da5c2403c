package xz

import (
	"hash/crc32"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	// inputSize holds the largest LZMA2 chunk, which is needed in one piece.
	inputSize = 1 << 17

	// inputMask stands for a bounds check.
	inputMask = inputSize - 1

	// readAhead is how much is asked of the source at a time.
	readAhead = 32 << 10
)

// input is the compressed stream: a buffer with a source behind it.
type input struct {
	r      io.Reader
	rd, wr int    // buf[rd:wr] is not used yet
	base   int64  // offset of buf[0] in the stream
	sum    uint32 // CRC-32 of what take returned, since it was set to 0
	err    error  // the source's; what follows buf[rd:wr]
	buf    [inputSize]byte
}

func (in *input) reset(r io.Reader) {
	in.r = r
	in.rd, in.wr, in.base, in.err = 0, 0, 0, nil
}

// offset tells where in the stream the next byte is.
func (in *input) offset() int64 { return in.base + int64(in.rd) }

// fill makes at least n bytes available, n at most the longest chunk. If that
// can't be done it returns the reason.
func (in *input) fill(n int) error {
	if in.wr-in.rd >= n {
		return nil
	}
	if in.rd+n > inputSize-readAhead {
		copy(in.buf[:], in.buf[in.rd:in.wr])
		in.base += int64(in.rd)
		in.wr -= in.rd
		in.rd = 0
	}
	for in.wr-in.rd < n {
		if in.err == nil && in.r == nil {
			in.err = io.EOF
		}
		switch {
		case in.err == io.EOF:
			return io.ErrUnexpectedEOF
		case in.err != nil:
			return in.err
		}
		var m int
		m, in.err = readat.Some(in.r, in.buf[in.wr:min(inputSize, max(in.wr+readAhead, in.rd+n))])
		in.wr += m
	}
	return nil
}

// take returns the next n bytes, and adds them to the sum.
func (in *input) take(n int) ([]byte, error) {
	if err := in.fill(n); err != nil {
		return nil, err
	}
	p := in.buf[in.rd : in.rd+n]
	in.rd += n
	in.sum = crc32.Update(in.sum, crc32.IEEETable, p)
	return p, nil
}

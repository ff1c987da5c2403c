package adc

import (
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// inputSize is also how much is asked of the source at a time.
const inputSize = 64 << 10

// input is the compressed stream: a buffer with a source behind it.
type input struct {
	r      io.Reader
	buf    *[inputSize]byte
	rd, wr int   // buf[rd:wr] is not used yet
	base   int64 // offset of buf[0] in the stream
	err    error // the source's; what follows buf[rd:wr]
}

// offset tells where in the stream the next byte is.
func (in *input) offset() int64 { return in.base + int64(in.rd) }

// bytes returns what is buffered.
func (in *input) bytes() []byte { return in.buf[in.rd:in.wr] }

// fill makes at least n bytes available. If that can't be done it returns the
// reason, io.EOF only if nothing is left; what there is remains readable.
func (in *input) fill(n int) error {
	if in.wr-in.rd >= n {
		return nil
	}
	if in.err == nil {
		in.compact()
		in.read(n)
	}
	switch have := in.wr - in.rd; {
	case have >= n:
		return nil
	case have > 0 && in.err == io.EOF:
		return io.ErrUnexpectedEOF
	default:
		return in.err
	}
}

// compact moves the unused bytes to the front.
func (in *input) compact() {
	copy(in.buf[:], in.buf[in.rd:in.wr])
	in.base += int64(in.rd)
	in.wr -= in.rd
	in.rd = 0
}

// read asks the source for bytes until n are there or it fails.
func (in *input) read(n int) {
	if in.r == nil {
		in.err = io.EOF
	}
	for in.wr < n && in.err == nil {
		var m int
		m, in.err = readat.Some(in.r, in.buf[in.wr:])
		in.wr += m
	}
}

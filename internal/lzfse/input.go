package lzfse

import (
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	// inputSize holds the largest payload that is needed in one piece.
	inputSize = inputPad + 96<<10

	// inputPad bytes in front of the next byte are always addressable, so
	// that a bit reader going backwards may load eight bytes at a payload's
	// very start.
	inputPad = 8

	// readAhead is how much is asked of the source at a time.
	readAhead = 64 << 10
)

// input is the compressed stream: a buffer with a source behind it.
type input struct {
	r      io.Reader
	buf    *[inputSize]byte
	rd, wr int   // buf[rd:wr] is not used yet; rd >= inputPad
	base   int64 // offset of buf[inputPad] in the stream
	err    error // the source's; what follows buf[rd:wr]
}

// offset tells where in the stream the next byte is.
func (in *input) offset() int64 { return in.base + int64(in.rd-inputPad) }

// bytes returns what is buffered.
func (in *input) bytes() []byte { return in.buf[in.rd:in.wr] }

// fill makes at least n bytes available, n at most inputSize-inputPad. If that
// can't be done it returns the reason; what there is remains readable.
func (in *input) fill(n int) error {
	if in.wr-in.rd >= n {
		return nil
	}
	if in.err == nil {
		in.compact()
		in.read(n)
	}
	switch {
	case in.wr-in.rd >= n:
		return nil
	case in.err == io.EOF:
		return io.ErrUnexpectedEOF
	default:
		return in.err
	}
}

// compact moves the unused bytes, and the pad before them, to the front.
func (in *input) compact() {
	used := in.rd - inputPad
	copy(in.buf[:], in.buf[used:in.wr])
	in.base += int64(used)
	in.rd -= used
	in.wr -= used
}

// read asks the source for bytes until n are there or it fails.
func (in *input) read(n int) {
	if in.r == nil {
		in.err = io.EOF
	}
	for in.wr-in.rd < n && in.err == nil {
		end := min(in.wr+max(readAhead, n-(in.wr-in.rd)), inputSize)
		var m int
		m, in.err = readat.Some(in.r, in.buf[in.wr:end])
		in.wr += m
	}
}

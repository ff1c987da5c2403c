package adc

import (
	"errors"
	"io"
)

const (
	// inputSize is also how much is asked of the source at a time.
	inputSize = 64 << 10

	// maxEmptyReads is how many times in a row a source may return nothing.
	maxEmptyReads = 100
)

var errBadRead = errors.New("adc: source returned an impossible count")

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
	for empty := 0; in.wr < n && in.err == nil; {
		if in.r == nil {
			in.err = io.EOF
			return
		}
		var m int
		m, in.err = in.r.Read(in.buf[in.wr:])
		if m < 0 || m > len(in.buf)-in.wr {
			in.err = errBadRead
			return
		}
		in.wr += m
		if empty++; m > 0 {
			empty = 0
		}
		if empty == maxEmptyReads && in.err == nil {
			in.err = io.ErrNoProgress
		}
	}
}

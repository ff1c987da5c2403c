// Package adc decodes Apple Data Compression, the compression of UDCO disk
// images.
//
// A stream is a row of codes and nothing else, no header, sizes or checksum:
//
//	1NNNNNNN            N+1 literals follow
//	00NNNNDD DDDDDDDD   copy N+3 bytes from D+1 back
//	01NNNNNN D… D…      copy N+4 bytes from D+1 back, D of 16 bits, high byte first
//
// A copy may overlap itself. It can't reach back more than 64 KiB, so a
// [Reader]'s memory is fixed. A stream has no end mark either: it ends where
// its input does, and one cut between two codes can't be told from a whole one.
package adc

import (
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/stream"
)

const (
	// MaxDecode is the most bytes one call of [Reader.Decode] returns.
	MaxDecode = stream.MaxDecode

	// Memory is what one [Reader] holds from its first Reset on, in bytes.
	Memory int64 = outputSize + inputSize

	// PointMemory is what it holds besides once Mark has been called.
	PointMemory int64 = stream.PointRoom + windowSize + windowSize/8

	windowSize = 64 << 10 // how far back a copy reaches

	// outputSize leaves room after the window for what one call returns, for
	// the longest code, and to move the window to the front less often.
	outputSize = windowSize + MaxDecode + 128<<10 + outputSlack

	// outputSlack is kept free behind the place where decoding stops: a code
	// gives up to 128 bytes, and wide copies write copyOver bytes.
	outputSlack = maxLiterals + copyOver

	maxLiterals = 128
	copyOver    = 32
)

// A CorruptError reports a stream that no encoder writes.
type CorruptError struct {
	Offset int64 // of the faulty code in the compressed stream, bytes
	Msg    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("adc: %s at offset %d", e.Msg, e.Offset)
}

// A Reader decodes one stream after another. Its buffers are allocated by the
// first Reset and used again by the next. It must not be used by several
// goroutines at once.
type Reader struct {
	mem *memory
	in  input

	// dst.Buf is mem.out. Everything before dst.Wr is real output, so that is
	// also how far a copy may reach back.
	dst stream.Output
}

// memory is what a Reader allocates. Its arrays have constant sizes so that the
// compiler can drop bounds checks.
type memory struct {
	out [outputSize]byte
	in  [inputSize]byte
}

// Reset makes z read a new stream from r. What z held of the last one is
// forgotten, the slice that Decode returned last included. The Reader fetches
// up to 64 KiB beyond what it decodes.
func (z *Reader) Reset(r io.Reader) {
	z.allocate()
	z.in = input{r: r, buf: &z.mem.in}
	z.dst.Restart()
}

// allocate allocates the buffers.
func (z *Reader) allocate() {
	if z.mem == nil {
		z.mem = new(memory)
		z.dst = stream.Output{Buf: z.mem.out[:], Window: windowSize, Slack: outputSlack}
	}
}

// Mark asks for a checkpoint at byte off of the output. Point returns it, once a window's
// length is decoded behind it or end says that no more will be.
func (z *Reader) Mark(off int64)                      { z.dst.Mark(off) }
func (z *Reader) Point(end bool) (stream.Point, bool) { return z.dst.Point(end) }

// Space returns a buffer for the record that Resume is to have.
func (z *Reader) Space() []byte {
	z.allocate()
	return z.dst.Space()
}

// Resume makes z go on at byte off of the output, with the record of a checkpoint there; r
// reads on at byte p.In of the stream. The error is stream.ErrRecord.
func (z *Reader) Resume(r io.Reader, off int64, p *stream.Record) error {
	z.Reset(r)
	z.in.base = p.In
	if len(p.State) > 0 {
		return stream.ErrRecord
	}
	return z.dst.Resume(off, p)
}

// Decode returns the next bytes of the decoded stream: max of them, or all that
// are left if the stream has fewer. A max outside 1…MaxDecode means MaxDecode.
// The slice is part of z's window: it is valid until the next call and must not
// be written to.
//
// Either the slice has bytes in it or the error is set, never both. The error
// is io.EOF if the input ends between two codes, io.ErrUnexpectedEOF if it ends
// within one, a [*CorruptError], io.ErrNoProgress if the source keeps returning
// nothing, or the source's own error, unchanged. All bytes before the error are
// returned first, and further calls repeat it.
func (z *Reader) Decode(max int) ([]byte, error) {
	if z.mem == nil {
		return nil, io.EOF // never Reset: no input
	}
	return z.dst.Decode(max, z.step)
}

// Read implements io.Reader over Decode.
func (z *Reader) Read(p []byte) (int, error) {
	if z.mem == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return z.dst.Read(p, z.step)
}

// Package lzfse decodes LZFSE streams, the compression of ULFO disk images.
//
// Apple publishes no specification of the format, only a reference
// implementation; docs/FORMAT.md says what is known and how it was checked. A
// stream is a row of blocks, each introduced by four bytes of magic:
//
//	bvx-  stored bytes
//	bvxn  LZVN: byte codes of literals and matches (small inputs)
//	bvx1  LZ with finite state entropy coding, frequency tables as 16-bit words
//	bvx2  the same, frequency tables in a prefix code (everything else)
//	bvx$  the end of the stream
//
// A match may reach back 262,139 bytes, into earlier blocks as well. That
// distance, not the size of a block or of the stream, decides what a [Reader]
// has to keep: its memory is fixed, whatever the stream declares.
//
// The package is stricter than the reference implementation where that costs
// nothing: bits left over in a payload, frequencies that don't add up and sizes
// that disagree are errors here. All known encoders pass.
package lzfse

import (
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/stream"
)

const (
	// MaxDecode is the most bytes one call of [Reader.Decode] returns.
	MaxDecode = stream.MaxDecode

	// Memory is what one [Reader] holds from its first Reset on, in bytes.
	Memory int64 = outputSize + inputSize + literalSize + tableSize

	// PointMemory is what it holds besides once Mark has been called.
	PointMemory int64 = stream.PointRoom + windowSize + windowSize/8

	// windowSize is how far back a match may reach, rounded up: the largest
	// distance a bvx2 block can spell is 262,139.
	windowSize = 256 << 10

	// outputSize leaves room after the window for what one call returns, and
	// enough more that moving the window to the front stays a rare event.
	outputSize = windowSize + MaxDecode + 192<<10

	// outputSlack is kept free behind the place where decoding stops: the last
	// triple or code may produce maxTriple bytes more, and the wide copies
	// write up to copyOver bytes beyond that.
	outputSlack = maxTriple + copyOver

	copyOver = 32
)

// A CorruptError reports a stream that no encoder writes.
type CorruptError struct {
	Offset int64 // in the compressed stream, bytes: where the faulty part starts
	Msg    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("lzfse: %s at offset %d", e.Msg, e.Offset)
}

// A Reader decodes one stream after another. Its buffers are allocated by the
// first Reset and used again by the next. It must not be used by several
// goroutines at once.
type Reader struct {
	mem *memory
	in  input
	blk block

	// dst.Buf is mem.out. Everything before dst.Wr is real output, so that is
	// also how far a match may reach back.
	dst stream.Output
}

// memory is what a Reader allocates. Its arrays have constant sizes so that the
// compiler can drop bounds checks.
type memory struct {
	out      [outputSize]byte
	in       [inputSize]byte
	literals [literalSize]byte
	tables   tables
}

// Reset makes z read a new stream from r. What z held of the last one is
// forgotten, the slice that Decode returned last included.
//
// The Reader fetches up to 64 KiB beyond what it decodes; it does not give
// bytes after the stream's end back to r.
func (z *Reader) Reset(r io.Reader) {
	z.allocate()
	z.in = input{r: r, buf: &z.mem.in, rd: inputPad, wr: inputPad}
	z.dst.Restart()
	z.blk = block{}
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
// reads on at byte p.In of the stream. The error is stream.ErrRecord if the record is none.
// Inside a block with entropy coding Resume reads the block's header, so errors may be
// those of Decode as well: a [*CorruptError] if the block is not what it was.
func (z *Reader) Resume(r io.Reader, off int64, p *stream.Record) error {
	z.Reset(r)
	z.in.base = p.In
	blk, err := parseBlock(p.State)
	if err != nil {
		return err
	}
	if err := z.dst.Resume(off, p); err != nil {
		return err
	}
	return z.resumeBlock(blk)
}

// ResetLZVN makes z read bare LZVN codes from r, as they are in files that HFS+ and
// APFS store compressed: no block's header, and no end of the stream but the end
// code. The codes must decode to size bytes. What follows the end code is ignored.
func (z *Reader) ResetLZVN(r io.Reader, size int64) {
	z.Reset(r)
	z.blk = block{kind: lzvnBlock, bare: true, rawLeft: size, packLeft: math.MaxInt64}
}

// Decode returns the next bytes of the decoded stream: max of them, or all that
// are left if the stream has fewer. A max outside 1…MaxDecode means MaxDecode.
// The slice is part of z's window: it is valid until the next call and must not
// be written to.
//
// Either the slice has bytes in it or the error is set, never both. The error
// is io.EOF at the end of the stream, io.ErrUnexpectedEOF if the input ends
// before it, a [*CorruptError], io.ErrNoProgress if the source keeps returning
// nothing, or the source's own error, unchanged. All bytes before the error are
// returned first, and further calls repeat it.
func (z *Reader) Decode(max int) ([]byte, error) {
	if z.mem == nil {
		return nil, io.ErrUnexpectedEOF // never Reset: no input
	}
	return z.dst.Decode(max, z.step)
}

// Read implements io.Reader over Decode.
func (z *Reader) Read(p []byte) (int, error) {
	if z.mem == nil && len(p) > 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return z.dst.Read(p, z.step)
}

// corrupt describes a fault in the part of the stream that is read next.
func (z *Reader) corrupt(msg string) error {
	return &CorruptError{Offset: z.in.offset(), Msg: msg}
}

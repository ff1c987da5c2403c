// Package xz decodes .xz files of one LZMA2 filter: the compression of ULMO disk
// images.
//
// The container is described in The .xz File Format, version 1.2.1; LZMA and
// LZMA2 have no specification but their encoders, and are as the LZMA SDK's
// documents and XZ Utils have them. Other filters (delta, branch converters),
// which no maker of disk images uses, are refused by name. A file of several
// streams is read stream by stream.
//
// # Memory
//
// A match may reach back as far as the dictionary is long that a block's header
// names: up to 4 GiB. But it can't reach back further than there is output, so a
// [Reader] has a window as long as it is told to: as the dictionary or as all the
// output that is of interest, whichever is less. A match from beyond it is a
// [WindowError]. [Dictionary] tells the dictionary of a file's first block. A later
// block may ask for a longer one, and then the error says so.
package xz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/stream"
)

// MaxDecode is the most bytes one call of [Reader.Decode] returns.
const MaxDecode = stream.MaxDecode

// ErrWindow is the class of every [WindowError].
var ErrWindow = errors.New("xz: a match from beyond the window")

// A WindowError says that a match reaches back further than the Reader's window.
// The block may be good: a Reader with a window of Window bytes decodes it, and so
// does one whose window is as long as all the output.
type WindowError struct {
	Offset int64 // of the block's header in the input, bytes
	Window int64 // bytes, more than the Reader's
}

func (e *WindowError) Error() string {
	return fmt.Sprintf("%v: the block at offset %d asks for one of %d bytes", ErrWindow, e.Offset, e.Window)
}

// Is makes every WindowError an ErrWindow.
func (e *WindowError) Is(target error) bool { return target == ErrWindow }

// ErrFilter is the class of errors about filters that are not decoded.
var ErrFilter = errors.New("xz: unsupported filter")

// ErrCheck is the class of errors about a checksum that is not that of the data.
var ErrCheck = errors.New("xz: wrong checksum")

// A CorruptError reports a stream that no encoder writes.
type CorruptError struct {
	Offset int64 // in the input, bytes: where it was noticed
	Msg    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("xz: %s at offset %d", e.Msg, e.Offset)
}

// fixed is what a Reader holds beside its window, in bytes, about.
const fixed = inputSize + 32<<10

// Memory returns what a Reader needs for a window, in bytes.
func Memory(window int64) int64 {
	window = (window + 7) &^ 7
	return fixed + window + max(window/8, least)
}

// least is the room in the buffer behind the window: for what one call returns, and
// for moving the window to the front to stay a rare event. An eighth of a long
// window does that.
const least = MaxDecode + 64<<10

// A Reader decodes one stream after another. It must not be used by several
// goroutines at once.
type Reader struct {
	in  input
	dst stream.Output

	next  part // of the stream
	limit int  // of dst.Wr, in the part at hand

	sum    blockSum
	blocks tally // as they are
	block  block
	chunk  chunk
	model  model
	marks
}

// NewReader returns a Reader that takes so many bytes of memory, at once, and has
// as long a window as they allow: see Memory. Reset comes first.
func NewReader(memory int64) *Reader {
	room := memory - fixed
	z := &Reader{dst: stream.Output{
		Buf:    make([]byte, room+copySlack),
		Window: int(min(room/9*8+room%9*8/9, room-least)),
		Slack:  copySlack,
	}}
	z.Reset(nil)
	return z
}

// Reset makes z read a new stream from r. What z held of the last one is
// forgotten, the slice that Decode returned last included.
//
// The Reader fetches up to 64 KiB beyond what it decodes; it does not give bytes
// after the stream's end back to r, nor does it look at them before Next does.
func (z *Reader) Reset(r io.Reader) {
	z.in.reset(r)
	z.dst.Restart()
	z.next, z.blocks, z.block = partStream, tally{}, block{}
	z.Mark(0)
}

// Decode returns the next bytes of the decoded stream: max of them, or all that
// are left if the stream has fewer. A max outside 1…MaxDecode means MaxDecode.
// The slice is part of z's window: it is valid until the next call and must not
// be written to.
//
// Either the slice has bytes in it or the error is set, never both. The error is
// io.EOF behind the stream's footer, io.ErrUnexpectedEOF if the input ends before
// it, a [*CorruptError], a [*WindowError], one of the classes [ErrCheck] and
// [ErrFilter], or the source's own error, unchanged. All bytes before the error are returned
// first, and further calls repeat it.
func (z *Reader) Decode(max int) ([]byte, error) { return z.dst.Decode(max, z.step) }

// Next goes on to the stream behind the one whose end Decode told of with io.EOF,
// and behind the padding between them, which is of zeros in fours (section 2.2).
// It returns io.EOF if no further stream begins there, whatever does, or the
// source's own error. Before that end it does nothing, and returns what has kept
// Decode from it.
func (z *Reader) Next() error {
	if z.dst.Err != io.EOF {
		return z.dst.Err
	}
	in := &z.in
	for in.fill(4) == nil && binary.LittleEndian.Uint32(in.buf[in.rd:]) == 0 {
		in.rd += 4
	}
	switch err := in.fill(len(headerMagic)); {
	case err == io.ErrUnexpectedEOF:
		return io.EOF
	case err != nil:
		return err
	case string(in.buf[in.rd:][:len(headerMagic)]) != headerMagic:
		return io.EOF
	}
	z.next, z.dst.Err, z.blocks = partStream, nil, tally{}
	return nil
}

// part is a part of the stream.
type part uint8

const (
	partStream     part = iota // the stream's header
	partBlock                  // a block's header, or the index and the footer
	partChunk                  // an LZMA2 chunk's header, or the end of them
	partStored                 // in a chunk of bytes as they are
	partCompressed             // in a chunk of LZMA
	partBlockEnd               // padding and check
)

// step goes on with the part that is next, up to limit at most.
func (z *Reader) step(limit int) error {
	z.limit = limit
	switch z.next {
	case partStream:
		return z.streamHeader()
	case partBlock:
		return z.blockHeader()
	case partChunk:
		return z.chunkHeader()
	case partStored:
		return z.stored()
	case partCompressed:
		return z.lzma()
	}
	return z.endBlock()
}

// corrupt describes a fault in the part of the stream that is read next.
func (z *Reader) corrupt(msg string) error {
	return &CorruptError{Offset: z.in.offset(), Msg: msg}
}

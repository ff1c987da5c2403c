package deflate

import (
	"slices"

	"github.com/go-dmg/dmg/internal/window"
)

// MaxPackedWindow is the most bytes a packed window has.
const MaxPackedWindow = WindowSize + window.Excess

// AppendPackedWindow appends the window b without the bytes that refs doesn't mark;
// with nil for refs, all of it. It allocates nothing if dst has
// MaxPackedWindow bytes of room.
//
// refs must be complete: from [Decoder.Refs] after Track at this window and
// WindowSize bytes of output, or all the output there is. Then the packed
// window stays enough wherever later checkpoints are kept or dropped: output
// further on than WindowSize can't refer to the window, so a checkpoint's
// window depends on the WindowSize bytes behind it and on nothing else. A
// checkpoint between two others may go as long as the spans are not shorter.
//
// In 80 MB of source code and binaries the output refers to a tenth of each
// window: 3.1 KB in 300 runs, whether the checkpoints are 64, 128 or 256 KiB
// apart. Measured for each window (on a busy machine):
//
//	full                    32768 B
//	full, Snappy            17100 B    74 µs
//	runs                     3750 B     5 µs
//	runs, Snappy             2700 B    13 µs
//	runs, Huffman (huff0)    2600 B    28 µs
//
// 64 KiB decode in 70 µs, so a second stage would cost 10 % and more of the
// first way through a stream, and a dependency or memory for its tables, for
// a quarter of the size.
func AppendPackedWindow(dst, b []byte, refs *Refs) []byte {
	if refs == nil {
		return window.Append(dst, b, nil)
	}
	return window.Append(slices.Grow(dst, MaxPackedWindow), b, refs[:])
}

// unpackWindow makes dst the window that was packed, which must have been as
// long as dst. packed may be anything: what it says is checked against both.
func unpackWindow(dst, packed []byte) error {
	if err := window.Unpack(dst, packed); err != nil {
		return badCheckpoint(err.Error())
	}
	return nil
}

package dmg

import (
	"io"
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/readat"
)

// counters are the running totals behind Stats.
type counters struct {
	bytesRead    atomic.Int64
	bytesDecoded atomic.Int64
	sourceBytes  atomic.Int64
	sourceReads  atomic.Int64
	cacheHits    atomic.Int64
}

// countingSource is the image's source with its reads counted.
type countingSource struct {
	r io.ReaderAt
	n *counters
}

// ReadAt fills p or fails. The chunk map has been checked against the source's
// size: one that ends earlier now has changed, which is io.ErrUnexpectedEOF.
func (s countingSource) ReadAt(p []byte, off int64) (int, error) {
	n, err := readat.Full(s.r, p, off)
	s.n.sourceReads.Add(1)
	s.n.sourceBytes.Add(int64(n))
	return n, err
}

// Sizes of the reads that fetch compressed data, in bytes. Remote sources are
// slow for each call, and what is fetched in vain is slow everywhere: a fetch
// takes what the reader at work is known to need, and firstFetch where nothing
// is known. For a reader that goes on and on it doubles up to fetchBuffer.
const (
	firstFetch  = 16 << 10
	fetchBuffer = 128 << 10
)

// fetcher reads a chunk's stored bytes in order, for a decoder. An error of the
// source is kept apart from the end of the data, so that it is not taken for
// damage.
type fetcher struct {
	src  countingSource
	off  int64 // of the next byte to fetch in the source
	end  int64 // of the chunk's data in the source
	want int64 // up to which the reader at work needs it, as far as that is known
	size int64 // of the next fetch if nothing is known
	err  error // of the source

	buf  []byte
	r, w int // buf[r:w] is fetched and not yet read
}

// begin places f at byte off of the source. What the reader at work wants has
// been set before, or is set after.
func (f *fetcher) begin(off, end int64) {
	f.off, f.end, f.size = off, end, firstFetch
	f.err = nil
	f.r, f.w = 0, 0
	if f.buf == nil {
		f.buf = make([]byte, fetchBuffer)
	}
}

// skip places f n bytes further on, before anything is read.
func (f *fetcher) skip(n int64) { f.off += n }

// Read implements io.Reader.
func (f *fetcher) Read(p []byte) (int, error) {
	if f.r == f.w {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.buf[f.r:f.w])
	f.r += n
	return n, nil
}

// fill fetches more.
func (f *fetcher) fill() error {
	if f.err != nil {
		return f.err
	}
	if f.off >= f.end {
		return io.EOF
	}
	n := f.want - f.off
	if n <= 0 {
		n = f.size
		f.size = min(2*f.size, fetchBuffer)
	}
	f.r, f.w = 0, 0
	n = min(n, f.end-f.off, fetchBuffer)
	k, err := f.src.ReadAt(f.buf[:n], f.off)
	f.off += int64(k)
	f.w = k
	if k > 0 {
		// What came may be enough. If not, the source is asked again, so that
		// its error is that of the read which needs the rest.
		return nil
	}
	f.err = err
	return err
}

package dmg

import (
	"io"
	"sync/atomic"
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
	n, err := s.r.ReadAt(p, off)
	s.n.sourceReads.Add(1)
	s.n.sourceBytes.Add(int64(n))
	switch {
	case n == len(p):
		return n, nil
	case err == nil:
		err = io.ErrNoProgress // breaks io.ReaderAt's contract
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Sizes of the reads that fetch compressed data, in bytes. Remote sources are
// slow for each call, so the reads of a decoder that goes on grow; but what a
// short read fetches in vain stays below firstFetch.
const (
	firstFetch = 16 << 10
	maxFetch   = 1 << 20
)

// fetcher reads a chunk's stored bytes in order, for a decoder. An error of the
// source is kept apart from the end of the data, so that it is not taken for
// damage.
type fetcher struct {
	src  countingSource
	off  int64 // of the next byte in the source
	end  int64 // of the chunk's data in the source
	want int64 // up to which the reads at hand will need it, as far as known
	err  error // of the source
}

// Read implements io.Reader.
func (f *fetcher) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.off == f.end {
		return 0, io.EOF
	}
	n := min(int64(len(p)), f.end-f.off, max(f.want-f.off, firstFetch))
	k, err := f.src.ReadAt(p[:n], f.off)
	f.off += int64(k)
	if err != nil {
		f.err = err
	}
	return k, err
}

package deflate

import (
	"errors"
	"io"
)

// errNoPiece says that so far ahead there are no more pieces at present.
var errNoPiece = errors.New("deflate: no piece")

// piece is a part of the stream that is read at once, and searched for a block.
type piece struct {
	buf  []byte
	read bool // buf is as it will be
	err  error
}

// pieceOff returns where piece i begins, in bytes of the stream.
func (r *ParallelReader) pieceOff(i int64) int64 {
	s := &r.span
	off := r.from/8 + i*r.pieceLen
	if i == 0 || off >= s.End-s.Off {
		return min(off, s.End-s.Off)
	}
	return max(r.from/8, r.src.Align(s.Off+off)-s.Off)
}

// pieceAt returns the index of the piece that byte off of the stream is in.
func (r *ParallelReader) pieceAt(off int64) int64 {
	i := (off-r.from/8)/r.pieceLen + 1
	for i > 0 && r.pieceOff(i) > off {
		i--
	}
	return i
}

// piece returns the data of piece i. The first to want it reads it.
func (r *ParallelReader) piece(i int64) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.mu.pieces[i]
	if p == nil {
		if i < r.mu.low || len(r.mu.pieces) >= r.maxPieces {
			return nil, errNoPiece
		}
		off, end := r.pieceOff(i), r.pieceOff(i+1)
		p = &piece{buf: r.pieceBuffer(int(end - off))}
		r.mu.pieces[i] = p
		r.readUnlocked(p, off)
		r.wake()
	}
	for !p.read && !r.stopped.Load() {
		r.cond.Wait()
	}
	if !p.read {
		return nil, errNoPiece
	}
	return p.buf, p.err
}

// pieceBuffer returns a buffer of n bytes for a piece.
func (r *ParallelReader) pieceBuffer(n int) []byte {
	if k := len(r.mu.buffers); k > 0 {
		b := r.mu.buffers[k-1]
		r.mu.buffers = r.mu.buffers[:k-1]
		if cap(b) >= n {
			return b[:n]
		}
	}
	return make([]byte, n)
}

// readUnlocked reads a piece without the lock, and has it again when that returns or
// panics. What comes with an error counts as nothing: the reader will come upon the
// error in its place.
func (r *ParallelReader) readUnlocked(p *piece, off int64) {
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		p.read = true
	}()
	buf := p.buf
	p.buf, p.err = buf[:0], errNoPiece // should the source panic
	if len(buf) == 0 {
		p.err = io.EOF
		return
	}
	if _, p.err = r.src.ReadAt(buf, r.span.Off+off); p.err == nil {
		p.buf = buf
	}
}

// dropPieces forgets the pieces before all segments that are yet to be decoded. It is
// called with the lock.
func (r *ParallelReader) dropPieces() {
	low := r.mu.next
	for s := r.mu.first; s != nil; s = s.next {
		if s.state != segReady && s.state != segFailed {
			low = min(low, s.piece)
		}
	}
	r.mu.low = low
	for i, p := range r.mu.pieces {
		if i < low && p.read {
			if cap(p.buf) > 0 {
				r.mu.buffers = append(r.mu.buffers, p.buf[:0])
			}
			delete(r.mu.pieces, i)
		}
	}
}

// pieceReader reads the stream from a place on, as far as there are pieces.
type pieceReader struct {
	r    *ParallelReader
	next int64 // piece
	left []byte
}

// seek goes to byte off of the stream.
func (p *pieceReader) seek(off int64) {
	p.next = p.r.pieceAt(off)
	skip := off - p.r.pieceOff(p.next)
	p.left = nil
	if b, err := p.r.piece(p.next); err == nil {
		p.left = b[min(skip, int64(len(b))):]
		p.next++
	} else {
		p.next = -1
	}
}

// Read implements io.Reader.
func (p *pieceReader) Read(b []byte) (int, error) {
	for len(p.left) == 0 {
		if p.next < 0 {
			return 0, errNoPiece
		}
		var err error
		if p.left, err = p.r.piece(p.next); err != nil {
			return 0, err
		}
		p.next++
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

package decmpfs

import (
	"errors"
	"io"
	"sync"
)

// cachedChunks is how many decoded chunks a File keeps: two, for a reader at either
// end of a file, or two readers.
const cachedChunks = 2

// A File is the content of a compressed file. A read decodes the chunks that it
// touches, each whole, and the last ones stay. Its methods may be called by several
// goroutines at once; those that want parts of the same chunk decode it once. A read
// of a whole chunk decodes it to where it is wanted, and leaves none behind.
type File struct {
	pool     *Pool
	kind     kind
	size     int64
	chunkLen int64  // of content in all chunks but the last
	inline   []byte // the attribute behind its header
	fork     io.ReaderAt
	forkSize int64

	mu struct {
		sync.Mutex
		chunks [cachedChunks]*flight // the one used last comes first
		window window
	}
}

// A flight is a chunk that is decoded, or about to be.
type flight struct {
	k    int64
	done chan struct{} // closed when p and err are set
	p    []byte
	err  error
}

// Size returns the length of the content in bytes, as the attribute has it.
func (f *File) Size() int64 { return f.size }

// ReadAt implements io.ReaderAt. The bytes before an error are right. The error is
// io.EOF at the content's end; of class ErrFormat or ErrChecksum if what is stored is
// damaged; and the fork's own otherwise, wrapped. None of them is kept: the next read
// tries again.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("decmpfs: read at a negative offset")
	}
	for n < len(p) {
		if off >= f.size {
			return n, io.EOF
		}
		m, err := f.readChunk(p[n:], off)
		n += m
		off += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readChunk reads from one chunk, from an offset in the content on.
func (f *File) readChunk(p []byte, off int64) (int, error) {
	k := off / f.chunkLen
	start := k * f.chunkLen
	length := min(f.chunkLen, f.size-start)
	fl, mine := f.board(k, off == start && int64(len(p)) >= length)
	if fl == nil { // all of a chunk that nobody has: no copy need stay
		q, err := f.decode(p[:0:length], k)
		return len(q), err
	}
	if mine {
		f.fly(fl, length)
	} else {
		<-fl.done
	}
	if fl.err != nil {
		return 0, fl.err
	}
	return copy(p, fl.p[off-start:]), nil
}

// board returns the flight of a chunk, and whether the caller has to fly it. It
// returns none for a chunk that is wanted whole and isn't there.
func (f *File) board(k int64, whole bool) (fl *flight, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chunks := &f.mu.chunks
	for i, fl := range chunks {
		if fl != nil && fl.k == k {
			copy(chunks[1:i+1], chunks[:i])
			chunks[0] = fl
			return fl, false
		}
	}
	if whole {
		return nil, true
	}
	fl = &flight{k: k, done: make(chan struct{}), err: errAborted}
	copy(chunks[1:], chunks[:])
	chunks[0] = fl
	return fl, true
}

// errAborted is what readers get who wait for one that panics: the fork may.
var errAborted = errors.New("decmpfs: another read of the same chunk was aborted")

// fly decodes a chunk for all who wait for it. One that failed is forgotten.
func (f *File) fly(fl *flight, length int64) {
	defer func() {
		if fl.err != nil {
			f.mu.Lock()
			for i := range f.mu.chunks {
				if f.mu.chunks[i] == fl {
					f.mu.chunks[i] = nil
				}
			}
			f.mu.Unlock()
		}
		close(fl.done)
	}()
	// A chunk may be less than the attribute says: memory comes with what decodes.
	fl.p, fl.err = f.decode(make([]byte, 0, min(length, chunkLen)), fl.k)
}

// decode appends chunk k to dst. It returns the whole chunk, or an error.
func (f *File) decode(dst []byte, k int64) ([]byte, error) {
	d := f.pool.get()
	defer f.pool.put(d)
	start := k * f.chunkLen
	c := &chunk{off: start, want: int(min(f.chunkLen, f.size-start)), dst: dst, src: f.inline}
	if f.kind.table != nil {
		e, err := f.kind.table.find(f, k)
		if err != nil {
			return nil, err
		}
		if c.src, err = d.fetch(f, e); err != nil {
			return nil, err
		}
	}
	if err := f.kind.codec(d, c); err != nil {
		return nil, err
	}
	return c.dst, nil
}

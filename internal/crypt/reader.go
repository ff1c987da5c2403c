package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	aesBlock = aes.BlockSize

	// bufLen is a worker's ciphertext: 128 KiB, and what an AES block cut by an edge
	// takes more. Reads up to that take one call of the source whatever their
	// alignment.
	bufLen = 128<<10 + 4*aesBlock

	// step is how much is decrypted in place at a time: small enough that its
	// copy stays in the processor's first cache.
	step = 8 << 10

	// A read of splitLen or more is decrypted by several workers, each at least
	// pieceLen. One of twice callLen is also fetched by several, each at least
	// callLen: less in a call would cost more than it gains where the source is
	// remote.
	splitLen = 256 << 10
	pieceLen = 128 << 10
	callLen  = 1 << 20
)

// Cipher decrypts data under one image's keys. Its methods may be called
// concurrently.
type Cipher struct {
	aes       cipher.Block
	blockSize int64
	workers   sync.Pool // of *worker
}

func newCipher(aesKey, hmacKey []byte, blockSize int64) (*Cipher, error) {
	block, err := aes.NewCipher(aesKey)
	if err != nil {
		return nil, err
	}
	c := &Cipher{aes: block, blockSize: blockSize}
	c.workers.New = func() any { return newWorker(c, hmacKey) }
	return c, nil
}

// BlockSize returns the bytes of one block.
func (c *Cipher) BlockSize() int64 { return c.blockSize }

// Reader decrypts r, size bytes whose blocks are numbered from 0. A last part of
// an AES block can't be decrypted and isn't served.
func (c *Cipher) Reader(r io.ReaderAt, size int64) *Reader {
	return &Reader{c: c, src: r, size: max(size, 0) &^ (aesBlock - 1)}
}

// Format keeps keys out of whatever is printed.
func (c *Cipher) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// String keeps keys out of whatever is printed.
func (*Cipher) String() string { return "crypt.Cipher{…}" }

// GoString keeps keys out of whatever is printed.
func (c *Cipher) GoString() string { return c.String() }

// Reader serves decrypted data. Its methods may be called concurrently.
type Reader struct {
	c    *Cipher
	src  io.ReaderAt
	base int64 // of block 0 in src
	size int64 // of the data that src has

	missing int64 // bytes of data that src lacks
}

// Size returns the bytes of data that there are.
func (r *Reader) Size() int64 { return r.size }

// Missing returns how many more bytes of data the header says there are, which were
// cut off.
func (r *Reader) Missing() int64 { return r.missing }

// BlockSize returns the bytes that are encrypted as one.
func (r *Reader) BlockSize() int64 { return r.c.blockSize }

// Format keeps keys out of whatever is printed.
func (r Reader) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// String keeps keys out of whatever is printed.
func (Reader) String() string { return "crypt.Reader{…}" }

// GoString keeps keys out of whatever is printed.
func (r Reader) GoString() string { return r.String() }

// ReadAt implements io.ReaderAt. It reads from the source what it decrypts and at
// most 46 bytes more, in one call where the read is short or begins and ends at
// edges of blocks, else in two; a read of two megabytes or more is several. It
// decrypts whole AES blocks only. A source that ends early gives
// io.ErrUnexpectedEOF; its other errors are passed on.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("crypt: negative offset")
	}
	if off >= r.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	var eof error
	if rest := r.size - off; int64(len(p)) > rest {
		p, eof = p[:rest], io.EOF
	}
	n, err := r.read(p, off)
	if err == nil {
		err = eof
	}
	return n, err
}

func (r *Reader) read(p []byte, off int64) (int, error) {
	// Pooled: a worker's IVs are keyed once, its buffer allocated once.
	w := r.c.workers.Get().(*worker)
	defer r.c.workers.Put(w)
	if n := parts(len(p), callLen); n > 1 {
		return w.share(r, p, off, n)
	}
	return w.read(r, p, off)
}

// parts returns into how many parts, of at least that many bytes, n are worth
// splitting.
func parts(n, least int) int { return max(1, min(n/least, runtime.GOMAXPROCS(0))) }

// worker is one decryption under way. CBC needs, for each AES block, the
// ciphertext before it: prev holds that of the block at pos.
type worker struct {
	c    *Cipher
	ivs  *ivMaker
	prev [aesBlock]byte
	one  [aesBlock]byte // plaintext of a block that p takes a part of
	buf  [bufLen]byte   // ciphertext

	// rest is the ciphertext behind that in the part's own bytes, in which it lies
	// shifted.
	rest [3 * aesBlock]byte

	part part
	team []*worker      // that share a read with this one, first of all
	wait sync.WaitGroup // for them
	work func()         // does part; made once, since each go statement would make it anew
}

// part is what a worker does for one that shares a read.
type part struct {
	r    *Reader // nil if the ciphertext is there
	p    []byte
	off  int64
	span span
	done *sync.WaitGroup
	n    int
	err  error
}

func newWorker(c *Cipher, hmacKey []byte) *worker {
	w := &worker{c: c, ivs: newIVMaker(hmacKey)}
	w.work = func() {
		p := &w.part
		if p.r != nil {
			p.n, p.err = w.read(p.r, p.p, p.off)
		} else {
			w.decryptPart(p.p, p.span)
		}
		p.done.Done()
	}
	return w
}

// share reads p in n parts at once. They meet at edges of blocks, where a worker
// needs nothing of what is before.
func (w *worker) share(r *Reader, p []byte, off int64, n int) (int, error) {
	for from, to := range w.c.edges(len(p), off, n) {
		w.hire(part{r: r, p: p[from:to], off: off + int64(from)})
	}
	w.dispatch()
	// What comes after the first error is not counted, right as it may be.
	total, err := 0, error(nil)
	for _, m := range w.team {
		if err == nil {
			total, err = total+m.part.n, m.part.err
		}
	}
	w.dismiss()
	return total, err
}

// edges yields where the parts of n bytes from off on begin and end.
func (c *Cipher) edges(n int, off int64, parts int) iter.Seq2[int, int] {
	before := int(off % c.blockSize) // in the block in which they begin
	size := int(c.blockSize)
	each := (n/parts + size - 1) / size * size
	return func(yield func(from, to int) bool) {
		for from, i := 0, 1; from < n; i++ {
			to := min(i*each-before, n)
			if i == parts {
				to = n
			}
			if !yield(from, to) {
				return
			}
			from = to
		}
	}
}

// hire adds a worker to the team, for a part.
func (w *worker) hire(p part) *worker {
	m := w.c.workers.Get().(*worker)
	p.done = &w.wait
	m.part = p
	w.team = append(w.team, m)
	return m
}

// dispatch has the team do its parts.
func (w *worker) dispatch() {
	w.wait.Add(len(w.team))
	for _, m := range w.team {
		go m.work()
	}
	w.wait.Wait()
}

// dismiss gives the team back.
func (w *worker) dismiss() {
	for i, m := range w.team {
		m.part = part{}
		w.c.workers.Put(m)
		w.team[i] = nil
	}
	w.team = w.team[:0]
}

// span is the ciphertext that a read takes: from the AES block on in which it
// begins, with the one before where no block of the image begins there.
type span struct {
	pos  int64 // of the first AES block to decrypt
	lead int   // bytes of ciphertext before it
	skip int   // bytes of it that are not asked for
	size int   // lead and all AES blocks
}

func (c *Cipher) span(n int, off int64) span {
	s := span{pos: off &^ (aesBlock - 1)}
	s.skip = int(off - s.pos)
	if s.pos%c.blockSize != 0 {
		s.lead = aesBlock
	}
	s.size = s.lead + (s.skip+n+aesBlock-1)&^(aesBlock-1)
	return s
}

// read fills p from off, both within the data: through buf if that has room for
// all, else through p itself.
func (w *worker) read(r *Reader, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s := w.c.span(len(p), off)
	if s.size <= bufLen {
		return w.buffered(r, p, s)
	}
	return w.inPlace(r, p, s)
}

// buffered reads into buf and decrypts into p.
func (w *worker) buffered(r *Reader, p []byte, s span) (int, error) {
	got, err := readat.Full(r.src, w.buf[:s.size], r.base+s.pos-int64(s.lead))
	src := w.buf[:got&^(aesBlock-1)]
	if len(src) <= s.lead {
		return 0, err
	}
	copy(w.prev[:], src[:s.lead])
	return w.emit(p, src[s.lead:], s.pos, s.skip), err
}

// inPlace reads ciphertext into p and decrypts it there. Where an edge of p cuts
// an AES block, or its start one of the image's, there is more of it than p takes:
// the source is called again for these few bytes.
func (w *worker) inPlace(r *Reader, p []byte, s span) (int, error) {
	at := r.base + s.pos - int64(s.lead)
	got, err := readat.Full(r.src, p, at)
	if more := s.size - len(p); err == nil && more > 0 {
		var k int
		k, err = readat.Full(r.src, w.rest[:more], at+int64(len(p)))
		got += k
	}
	got &^= aesBlock - 1 // part of an AES block can't be decrypted
	if got <= s.lead {
		return 0, err
	}
	n := min(len(p), got-s.lead-s.skip)
	if cut := len(p) - n; cut > 0 {
		copy(w.rest[min(cut, len(w.rest)):], w.rest[:])
		copy(w.rest[:], p[n:])
	}
	copy(w.prev[:], p[:s.lead])
	if k := parts(n, pieceLen); n >= splitLen && k > 1 && w.part.r == nil {
		w.decryptShared(p[:n], s, k)
	} else {
		w.decryptPart(p[:n], s)
	}
	return n, err
}

// decryptShared decrypts p in n parts at once, as decryptPart does.
func (w *worker) decryptShared(p []byte, s span, n int) {
	shift := s.lead + s.skip
	off := s.pos + int64(s.skip)
	for from, to := range w.c.edges(len(p), off, n) {
		m := w.hire(part{p: p[from:to], span: s})
		if from == 0 {
			m.prev = w.prev
		} else {
			m.part.span = span{pos: off + int64(from), lead: shift}
		}
		// The next part's plaintext will stand where the end of this one's
		// ciphertext is now.
		copy(m.rest[copy(m.rest[:shift], p[to:]):], w.rest[:])
	}
	w.dispatch()
	w.dismiss()
}

// decryptPart decrypts p in place. Its ciphertext begins s.lead bytes on in p, and
// what p has no room for is in rest.
func (w *worker) decryptPart(p []byte, s span) {
	at, pos, skip := s.lead, s.pos, s.skip
	for done := 0; done < len(p); skip = 0 {
		n := copy(w.buf[:step], p[min(at, len(p)):])
		if n < step {
			n += copy(w.buf[n:step], w.rest[max(0, at-len(p)):])
		}
		n &^= aesBlock - 1
		done += w.emit(p[done:], w.buf[:n], pos, skip)
		at, pos = at+n, pos+int64(n)
	}
}

// emit decrypts src, from pos on, into p without its first skip bytes and returns
// how many bytes of p that made.
func (w *worker) emit(p, src []byte, pos int64, skip int) int {
	done := 0
	// A block that p begins inside of can't be decrypted into p.
	if skip > 0 {
		w.decrypt(w.one[:], src[:aesBlock], pos)
		done = copy(p, w.one[skip:])
		src, pos = src[aesBlock:], pos+aesBlock
	}
	whole := min((len(p)-done)&^(aesBlock-1), len(src))
	w.decrypt(p[done:done+whole], src[:whole], pos)
	done += whole
	src, pos = src[whole:], pos+int64(whole)
	// Nor one that it ends inside of.
	if done < len(p) && len(src) > 0 {
		w.decrypt(w.one[:], src[:aesBlock], pos)
		done += copy(p[done:], w.one[:])
	}
	return done
}

// decrypt turns src, whole AES blocks from pos on, into dst, which must not
// overlap it. Decrypting all AES blocks first and then taking the ciphertext
// before each off is half as fast again as the standard library's CBC mode, which
// does both per block.
func (w *worker) decrypt(dst, src []byte, pos int64) {
	block := w.c.aes
	for len(src) > 0 {
		at := pos % w.c.blockSize
		n := int(min(int64(len(src)), w.c.blockSize-at))
		for i := 0; i < n; i += aesBlock {
			block.Decrypt(dst[i:i+aesBlock], src[i:i+aesBlock])
		}
		// Each block of the image starts its own chain.
		iv := w.prev[:]
		if at == 0 {
			iv = w.ivs.iv(uint32(pos / w.c.blockSize))
		}
		subtle.XORBytes(dst[:aesBlock], dst[:aesBlock], iv)
		subtle.XORBytes(dst[aesBlock:n], dst[aesBlock:n], src)
		copy(w.prev[:], src[n-aesBlock:n])
		dst, src, pos = dst[n:], src[n:], pos+int64(n)
	}
}

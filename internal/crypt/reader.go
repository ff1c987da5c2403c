package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	aesBlock = aes.BlockSize

	// bufLen is a worker's ciphertext: 128 KiB, as much as is fetched at once by
	// readers of compressed data, and what an AES block cut by an edge takes more.
	// Reads up to that take one call of the source whatever their alignment.
	bufLen = 128<<10 + 4*aesBlock

	// step is how much is decrypted in place at a time: small enough that its
	// copy stays in the processor's first cache.
	step = 8 << 10

	// A read of splitLen or more is decrypted by several workers, each at least
	// pieceLen.
	splitLen = 256 << 10
	pieceLen = 128 << 10
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
	c.workers.New = func() any { return &worker{c: c, ivs: newIVMaker(hmacKey)} }
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
	size int64 // of the data
}

// Size returns the bytes of data.
func (r *Reader) Size() int64 { return r.size }

// BlockSize returns the bytes that are encrypted as one.
func (r *Reader) BlockSize() int64 { return r.c.blockSize }

// Format keeps keys out of whatever is printed.
func (r Reader) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// String keeps keys out of whatever is printed.
func (Reader) String() string { return "crypt.Reader{…}" }

// GoString keeps keys out of whatever is printed.
func (r Reader) GoString() string { return r.String() }

// ReadAt implements io.ReaderAt. It reads from the source what it decrypts and at
// most 46 bytes more, and decrypts whole AES blocks only. A source that ends early
// gives io.ErrUnexpectedEOF; its other errors are passed on.
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
	if len(p) >= splitLen {
		if n := min(len(p)/pieceLen, runtime.GOMAXPROCS(0)); n > 1 {
			return r.split(p, off, n)
		}
	}
	// Pooled: the worker's IVs are keyed once, its buffer allocated once.
	w := r.c.workers.Get().(*worker)
	defer r.c.workers.Put(w)
	return w.read(r, p, off)
}

// split reads p in n pieces at once. They meet at edges of blocks, where a worker
// needs nothing of what is before.
func (r *Reader) split(p []byte, off int64, n int) (int, error) {
	size := r.c.blockSize
	each := (int64(len(p))/int64(n) + size - 1) / size * size
	type result struct {
		n   int
		err error
	}
	// Each goroutine writes its own result, and all end before split does.
	results := make([]result, n)
	piece := func(i int) (from, to int64) {
		edge := func(i int) int64 {
			return min(max((off/size*size)+int64(i)*each-off, 0), int64(len(p)))
		}
		if i == n-1 {
			return edge(i), int64(len(p))
		}
		return edge(i), edge(i + 1)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			from, to := piece(i)
			w := r.c.workers.Get().(*worker)
			defer r.c.workers.Put(w)
			results[i].n, results[i].err = w.read(r, p[from:to], off+from)
		}()
	}
	wg.Wait()
	// What comes after the first error is not counted, right as it may be.
	total := 0
	for _, res := range results {
		total += res.n
		if res.err != nil {
			return total, res.err
		}
	}
	return total, nil
}

// worker is one decryption under way. CBC needs, for each AES block, the
// ciphertext before it: prev holds that of the block at pos.
type worker struct {
	c    *Cipher
	ivs  *ivMaker
	prev [aesBlock]byte
	one  [aesBlock]byte // plaintext of a block that p takes a part of
	buf  [bufLen]byte   // ciphertext
}

// read fills p from off, both within the data. Ciphertext goes through buf where
// an edge of p cuts an AES block or all of it fits, else directly into p, so that
// it takes at most three calls of the source.
func (w *worker) read(r *Reader, p []byte, off int64) (int, error) {
	done, chained := 0, false
	for done < len(p) {
		pos, rest := off+int64(done), p[done:]
		var n int
		var err error
		if pos%aesBlock == 0 && len(rest) > bufLen && (chained || pos%w.c.blockSize == 0) {
			n, err = w.direct(r, rest[:len(rest)&^(aesBlock-1)], pos)
		} else {
			n, err = w.buffered(r, rest, pos, chained)
		}
		done += n
		if err != nil {
			return done, err
		}
		chained = true
	}
	return done, nil
}

// direct reads ciphertext into p, whole AES blocks, and decrypts it there.
func (w *worker) direct(r *Reader, p []byte, pos int64) (int, error) {
	got, err := readat.Full(r.src, p, r.base+pos)
	got &^= aesBlock - 1 // part of an AES block can't be decrypted
	for done := 0; done < got; done += step {
		part := p[done:min(done+step, got)]
		src := w.buf[:copy(w.buf[:], part)]
		w.decrypt(part, src, pos+int64(done))
	}
	return got, err
}

// buffered reads as much as fits buf. Where neither an edge of a block nor an
// earlier part gives the ciphertext before, it fetches that with the rest.
func (w *worker) buffered(r *Reader, p []byte, off int64, chained bool) (int, error) {
	pos := off &^ (aesBlock - 1)
	skip := int(off - pos)
	lead := 0
	if pos%w.c.blockSize != 0 && !chained {
		lead = aesBlock
	}
	want := min(lead+(skip+len(p)+aesBlock-1)&^(aesBlock-1), bufLen)
	got, err := readat.Full(r.src, w.buf[:want], r.base+pos-int64(lead))
	src := w.buf[:got&^(aesBlock-1)]
	if len(src) <= lead {
		return 0, err
	}
	copy(w.prev[:], src[:lead])
	return w.emit(p, src[lead:], pos, skip), err
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

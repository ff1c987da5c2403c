package dmg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/mikelolasagasti/xz"
)

// xzFixed is what an xz.Reader takes besides its dictionary, with the output
// buffer of its xzReader.
const xzFixed = maxDecode + 64<<10

// xzHeader is the length of a stream's header (The .xz File Format 1.2, section
// 2.1.1), and xzHead that of all that says how large a dictionary is, as a rule.
const (
	xzHeader = 12
	xzHead   = xzHeader + 64
)

// xzMemory returns the memory for the decoder of a chunk whose data begins with
// head, from the dictionary size in the header of its first block. It is the only
// decoder whose memory is up to the image.
func xzMemory(head []byte) int64 {
	// Where the header isn't understood the decoder will refuse it too.
	bits := byte(0)
	if head = head[:min(len(head), xzHead)]; len(head) > xzHeader {
		bits = min(xzDictionary(head[xzHeader:]), 40)
	}
	return int64(2|bits&1)<<(bits/2+11) + xzFixed + fetchBuffer
}

// peek returns the memory for the decoder of LZMA chunk i, and the decoder if it
// can be had at once, with what was fetched to find that out: a reader that wants
// to get to byte end of the chunk needs it anyway. It gives up the lock meanwhile.
func (e *engine) peek(i int, end int64) (d *decoder, memory int64, err error) {
	c := &e.chunks[i]
	n := min(c.DataLength, xzHead)
	for _, parked := range e.mu.parked {
		if parked.fetch.has(c.DataOffset, c.DataOffset+n) {
			return nil, xzMemory(parked.fetch.fetched(c.DataOffset)), nil
		}
	}
	var space [xzHead]byte
	head := space[:n]
	if d = e.shell(c); d != nil {
		f := &d.fetch
		in, _ := e.input(i, end)
		f.begin(c.DataOffset, c.DataOffset+c.DataLength)
		follows := f.follows(c.DataOffset)
		f.want, f.guess, f.most, f.onward, f.beyond = c.DataOffset+in, false, 0, follows, 0
		if follows {
			f.beyond = e.joined(i, math.MaxInt64)
		}
		e.mu.Unlock()
		err = f.peek(head)
		if !follows {
			f.size = 0 // who begins here has not come from the chunk before
		}
	} else {
		e.mu.Unlock()
		_, err = e.src.ReadAt(head, c.DataOffset)
	}
	memory = xzMemory(head)
	e.mu.Lock()
	if d != nil && (err != nil || !e.furnish(d, memory)) {
		e.clear(d)
		d = nil
	}
	return d, memory, err
}

// shell returns something to fetch c's first bytes with: a decoder at rest, or what
// is to become one if there is memory; else nil.
func (e *engine) shell(c *Chunk) *decoder {
	a := &e.mu.account
	if k := e.reusable(c, 0); k >= 0 {
		// The next will be as large as the others.
		d := e.mu.parked[k]
		few := a.used[useDecoders]+d.memory <= a.limit/4 && len(e.mu.parked) < maxParked
		if d.chunk < 0 || !few {
			e.unpark(k)
			d.chunk, d.once = -1, false
			return d
		}
	}
	// Where memory is short it is likely to be fetched in vain.
	if a.used[useDecoders] > a.limit/2 || !e.takeCached(fetchBuffer) {
		return nil
	}
	return &decoder{chunk: -1, method: LZMA, memory: fetchBuffer, count: &e.count, fetch: fetcher{src: e.src}}
}

// furnish makes a shell a decoder of so much memory, if there is.
func (e *engine) furnish(d *decoder, memory int64) bool {
	if d.codec != nil {
		return d.memory >= memory
	}
	a := &e.mu.account
	more := memory - fetchBuffer
	if more > a.limit-a.total()+a.used[useCache] || !e.takeCached(more) {
		return false
	}
	d.memory += more
	e.collect(more)
	d.codec = e.newCodec(LZMA, memory)
	return true
}

// clear puts a shell away.
func (e *engine) clear(d *decoder) {
	if d.codec != nil {
		d.fetch.forget()
		d.pos = d.length
		e.park(d, nil)
		return
	}
	e.mu.account.release(useDecoders, d.memory)
	e.dropped(d.memory)
	e.wake()
}

// xzDictionary returns the encoded dictionary size of the LZMA2 filter in a
// block header, 0 if it isn't there (The .xz File Format 1.2, section 3.1).
func xzDictionary(head []byte) byte {
	if len(head) < 2 {
		return 0
	}
	filters, sizes := int(head[1]&3)+1, int(head[1]>>6&1+head[1]>>7)
	head = head[2:]
	for range sizes {
		_, n := binary.Uvarint(head)
		head = head[max(0, n):]
	}
	const lzma2 = 0x21
	for range filters {
		id, n := binary.Uvarint(head)
		head = head[max(0, n):]
		size, n := binary.Uvarint(head)
		head = head[max(0, n):]
		if id == lzma2 && size == 1 && len(head) > 0 {
			return head[0]
		}
		head = head[min(size, uint64(len(head))):]
	}
	return 0
}

// xzReader adapts an xz.Reader to forward.
type xzReader struct {
	z   *xz.Reader
	in  xzInput
	err error
	buf []byte
}

func newXZReader(memory int64) *xzReader {
	// NewReader only fails for what it reads, and it reads nothing yet.
	z, _ := xz.NewReader(nil, uint32(min(memory-xzFixed-fetchBuffer, 1<<32-1)))
	return &xzReader{z: z, buf: make([]byte, maxDecode)}
}

func (x *xzReader) Reset(r io.Reader) {
	x.in = xzInput{r: r}
	// One stream: a chunk has no more, and millions of empty ones would cost
	// time without giving bytes.
	x.err = x.z.Reset(&x.in)
	x.z.Multistream(false)
}

func (x *xzReader) Decode(max int) ([]byte, error) {
	if x.err != nil {
		return nil, x.err
	}
	n, err := io.ReadFull(x.z, x.buf[:min(max, len(x.buf))])
	switch {
	case n > 0:
		return x.buf[:n], nil
	case err == xz.ErrMemlimit:
		return nil, fmt.Errorf("%w: a later block of the .xz file has a larger dictionary than the first", ErrUnsupported)
	}
	return nil, err
}

// finish reads on to the stream's end, where the xz.Reader checks the block's
// check, the index and the footer. Like zlib's it gives up if that takes long.
func (x *xzReader) finish() error {
	x.in.limit(maxExcess)
	for excess := 0; excess <= maxExcess; {
		b, err := x.Decode(maxDecode)
		switch {
		case err == io.EOF, err == errExcess, err == xz.ErrData && x.in.oddPadding():
			return nil
		case err != nil:
			return err
		}
		excess += len(b)
	}
	return nil
}

// errExcess is what xzInput says when it has given all it may.
var errExcess = errors.New("too much behind the last sector")

// xzInput is the input of an xz.Reader. It knows the last bytes it gave, to tell
// damage from garbage behind the stream.
type xzInput struct {
	r       io.Reader
	last    []byte         // of the latest Read; the xz.Reader leaves them as they are
	before  [xzFooter]byte // what came before these
	limited bool
	left    int // bytes, which counts if limited
}

// limit lets it give n more bytes.
func (x *xzInput) limit(n int) { x.limited, x.left = true, n }

// Read implements io.Reader.
func (x *xzInput) Read(p []byte) (int, error) {
	if x.limited {
		if x.left == 0 {
			return 0, errExcess
		}
		p = p[:min(len(p), x.left)]
	}
	var before [xzFooter]byte
	k := min(len(x.last), xzFooter)
	copy(before[:], x.before[k:])
	copy(before[xzFooter-k:], x.last[len(x.last)-k:]) // which the next line overwrites
	n, err := x.r.Read(p)
	if n > 0 {
		x.before, x.last = before, p[:n]
		x.left -= n
	}
	return n, err
}

// xzFooter is the length of a stream's footer (The .xz File Format 1.2, section
// 2.1.2): CRC-32 of the next six bytes, size of the index, flags, "YZ".
const xzFooter = 12

// oddPadding reports whether the last bytes have a footer with zeros behind it that
// are no padding: that comes in multiples of four bytes (section 2.2), which the
// xz.Reader takes as seriously as what is in the stream.
func (x *xzInput) oddPadding() bool {
	for b := slices.Concat(x.before[:], x.last); len(b) > xzFooter; b = b[1:] {
		if string(b[10:12]) != "YZ" || crc32.ChecksumIEEE(b[4:10]) != binary.LittleEndian.Uint32(b) {
			continue
		}
		rest := b[xzFooter:]
		if zeros := len(rest) - len(bytes.TrimLeft(rest, "\x00")); zeros%4 != 0 {
			return true
		}
	}
	return false
}

package bzip2

import (
	"io"
	"sync"
)

// Pieces of the data, in bytes.
const (
	scanLen   = 512 << 10 // is read and searched for blocks at once
	blockData = 1 << 20   // is the most that a worker is given of a block; hardly any has more
	blockTail = 512       // stands behind the next block's magic: decoders look that far
	searchLen = 4 << 20   // is searched for the next block: none has more data, unless it is made to
)

// WorkerMemory is what each worker of a ParallelReader holds, in bytes, without what the
// readers hold that Tail makes: what it decodes with, its block as found in the data, and
// a text, and a part of one that waits to be read. ParallelMemory is what the workers have
// together: the data that they search, and further texts.
const (
	WorkerMemory   = BlockMemory + TextMemory + TextMemory/workersAText + StreamMemory + blockData
	ParallelMemory = scanMemory + moreTexts*TextMemory
	scanMemory     = blockData + scanLen
)

// There are as many texts as workers, for what these are making, and some for what is
// made and waits for its turn: one for so many workers, and so many more. Blocks take
// about the same time, so that they are made about in order.
const (
	workersAText = 4
	moreTexts    = 2
)

// ParallelSource is where a ParallelReader reads its data.
type ParallelSource struct {
	io.ReaderAt // whose ReadAt fills its buffer or fails

	// Align returns the last offset up to off, in bytes, where a read had better end and
	// the next begin. It may be called by many goroutines at once.
	Align func(off int64) int64

	// Tail returns a function for one worker. That returns a reader of bytes off to end
	// of the source, which is not used any more when the function is called again.
	Tail func() (open func(off, end int64) io.Reader)
}

// Span is the part of some data in which a ParallelReader decodes blocks. The data begins
// at byte Off of the source and has Length bytes. The other offsets are in the data.
type Span struct {
	Off, Length int64
	From        int64 // where the first block is looked for
	Last        int64 // from where on blocks are of no use
	End         int64 // up to where blocks are looked for, and a little further

	// Fetched, unless it is nil, takes what is read to be searched, from byte off of the
	// source on. It is called by one goroutine at a time.
	Fetched func(b []byte, off int64)
}

// end returns where the data ends, in the source.
func (s *Span) end() int64 { return s.Off + s.Length }

// ParallelReader decodes the coming blocks of bzip2 streams on several cores. It finds
// blocks by the 48 bits that they begin with. These may turn up inside a block by chance
// or by design, which is a false start: what is decoded there is thrown away, because the
// block before doesn't end there. One goroutine takes the blocks in order, and then stops
// the workers. It can start the ParallelReader again, in other data too.
type ParallelReader struct {
	team  []*worker
	texts chan *Text // that are free

	span        Span
	stop        chan struct{}
	workers     sync.WaitGroup
	scan        scanner
	found       chan *found // in the order in which they stand in the data
	head        *found      // taken from found, and yet to be used
	falseStarts int         // blocks that were decoded where there are none
}

// maxFalseStarts is how many there may be before the reader does without the workers:
// 32 bytes inside a genuine block can be one of 900,000 bytes, whose decoding takes
// twenty milliseconds. In 2^48 bits of other data there is one.
const maxFalseStarts = 8

// found is a place that looks like a block's start, and what it decodes to.
type found struct {
	in   int64 // in bits
	done chan struct{}
	text *Text
	ok   bool
}

// worker is what one core decodes with.
type worker struct {
	stream Stream
	block  Block
	data   []byte    // of the block, and a little more; or its beginning
	left   []byte    // of data, yet to be read
	tail   io.Reader // reads on behind data
	open   func(off, end int64) io.Reader
}

// Read implements io.Reader.
func (w *worker) Read(p []byte) (int, error) {
	if len(w.left) == 0 {
		return w.tail.Read(p)
	}
	n := copy(p, w.left)
	w.left = w.left[n:]
	return n, nil
}

// NewParallelReader returns a ParallelReader of so many workers, at rest.
func NewParallelReader(src ParallelSource, workers int) *ParallelReader {
	texts := workers + workers/workersAText + moreTexts
	r := &ParallelReader{texts: make(chan *Text, texts)}
	r.scan.src = src
	for range workers {
		r.team = append(r.team, &worker{open: src.Tail()})
	}
	for range texts {
		r.texts <- new(Text)
	}
	return r
}

// Workers returns how many workers there are.
func (r *ParallelReader) Workers() int { return len(r.team) }

// Start has the workers decode what looks like a block of the span. From its beginning on
// some data has been fetched. After Start there must be a Stop.
func (r *ParallelReader) Start(span Span, fetched []byte) {
	r.span, r.stop, r.head, r.falseStarts = span, make(chan struct{}), nil, 0
	r.scan.begin(span, fetched)
	r.found = make(chan *found, cap(r.texts)) // never full: a worker needs a text before it searches
	r.workers.Add(len(r.team))
	for _, w := range r.team {
		go func() {
			defer r.workers.Done()
			for r.work(w) {
			}
		}()
	}
	go func() {
		r.workers.Wait()
		close(r.found)
	}()
}

// Stop ends the workers and waits for them.
func (r *ParallelReader) Stop() {
	close(r.stop)
	if f := r.head; f != nil {
		<-f.done
		r.texts <- f.text
	}
	for f := range r.found {
		<-f.done // what it holds is set behind its place in the queue
		r.texts <- f.text
	}
	r.scan.fetched = nil // r may be kept
}

// work decodes one block. It reports whether there may be more.
func (r *ParallelReader) work(w *worker) bool {
	var text *Text
	select {
	case text = <-r.texts:
	case <-r.stop:
		return false
	}
	f := r.search(w)
	if f == nil {
		r.texts <- text
		return false
	}
	f.text = text
	w.left = w.data
	w.tail = w.open(r.span.Off+f.in/8+int64(len(w.data)), r.span.end())
	w.stream.Resume(w, Point{In: f.in, Level: 9})
	if w.stream.Next(&w.block) == nil && !r.stopped() {
		w.block.Unwind(text)
		f.ok = true
	}
	close(f.done)
	return true
}

// stopped reports whether the reader wants no more.
func (r *ParallelReader) stopped() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// search finds the next place that looks like a block's start, and queues it.
// The worker gets the data up to the next such place.
func (r *ParallelReader) search(w *worker) *found {
	r.scan.Lock()
	defer r.scan.Unlock()
	if r.stopped() {
		return nil
	}
	in, ok := r.scan.next(r.stop)
	if !ok || in/8+1 >= r.scan.last {
		return nil
	}
	if w.data == nil {
		w.data = make([]byte, 0, blockData)
	}
	w.data = append(w.data[:0], r.scan.data(r.stop)...)
	f := &found{in: in, done: make(chan struct{})}
	r.found <- f
	return f
}

// Take exchanges spare for the text of the block at point p. It is nil if the
// workers don't have that block: what stands there is no block, or a damaged
// one, or one of a smaller level, and the caller has to decode it itself. So it has to
// decode all others after too many false starts.
func (r *ParallelReader) Take(p Point, spare *Text) *Text {
	for !r.GaveUp() {
		if r.head == nil {
			r.head = <-r.found
		}
		f := r.head
		if f == nil || f.in > p.In {
			return nil
		}
		r.head = nil
		<-f.done
		if f.in == p.In && f.ok {
			if _, ok := p.AfterText(f.text); ok {
				r.texts <- spare
				return f.text
			}
		}
		r.texts <- f.text
		if f.in == p.In {
			return nil
		}
		r.falseStarts++
	}
	return nil
}

// GaveUp reports whether there were so many false starts that Take returns no text any
// more.
func (r *ParallelReader) GaveUp() bool { return r.falseStarts >= maxFalseStarts }

// scanner searches data for block starts.
type scanner struct {
	sync.Mutex
	src      ParallelSource
	off, end int64 // of what is yet to be read, in the source
	last     int64 // offset in the data from which on blocks are of no use
	base     int64 // offset in the data of buf[0]
	found    int64 // offset in the data of the last block found, or where the search began
	buf      []byte
	bit      int // of buf, where the search goes on
	keep     int // of buf: what is before this bit is of no use
	fetched  func(b []byte, off int64)
}

// begin makes the beginning of the span the first to be searched, some of which has been
// fetched.
func (s *scanner) begin(span Span, fetched []byte) {
	if s.buf == nil {
		s.buf = make([]byte, 0, scanMemory)
	}
	s.off, s.end = span.Off+span.From, min(span.Off+span.End+blockTail, span.end())
	s.base, s.found, s.last = span.From, span.From, span.Last
	s.bit, s.keep = 0, 0
	s.fetched = span.Fetched
	fetched = fetched[:min(int64(len(fetched)), max(0, s.end-s.off))]
	s.buf = append(s.buf[:0], fetched...)
	s.off += int64(len(fetched))
}

// next goes behind the next block's magic, and returns its place in bits from
// the start of the data. The search ends when stop is closed, and where
// there has been no block for long: the reader will find out why.
func (s *scanner) next(stop <-chan struct{}) (in int64, ok bool) {
	for {
		s.keep = s.bit
		bit, kind, ok := FindBlock(s.buf, s.bit)
		switch {
		case ok && kind == KindBlock:
			s.bit, s.keep = bit+magicLen, bit
			s.found = s.base + int64(bit/8)
			return s.base*8 + int64(bit), true
		case ok:
			s.bit = bit + 1
		default:
			s.bit = max(s.bit, len(s.buf)*8-magicLen+1)
			s.keep = s.bit
			if s.base+int64(len(s.buf))-s.found > searchLen || !s.fill(stop) {
				return 0, false
			}
		}
	}
}

// data returns the data of the block that next found: from the byte in which its
// magic begins to a little behind the next magic, but no more than blockData. It
// is valid until the next call.
func (s *scanner) data(stop <-chan struct{}) []byte {
	bit, _, ok := FindBlock(s.buf, s.bit)
	for !ok && len(s.buf)-s.keep/8 < blockData {
		s.bit = max(s.bit, len(s.buf)*8-magicLen+1)
		if !s.fill(stop) {
			break
		}
		bit, _, ok = FindBlock(s.buf, s.bit)
	}
	to := len(s.buf)
	if ok {
		s.bit = bit
		if (bit+magicLen)/8+blockTail > len(s.buf) {
			s.fill(stop)
		}
		to = min((s.bit+magicLen)/8+blockTail, len(s.buf))
	}
	from := s.keep / 8
	return s.buf[from:min(to, from+blockData)]
}

// fill reads more data, behind what is of use of the old. It reports whether
// there was more. An error of the source ends the search like the end of the
// data: the reader will come upon it in its place.
func (s *scanner) fill(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return false
	default:
	}
	drop := s.keep / 8
	s.buf = append(s.buf[:0], s.buf[drop:]...)
	s.base += int64(drop)
	s.bit -= 8 * drop
	s.keep -= 8 * drop
	n := min(int64(cap(s.buf)-len(s.buf)), scanLen, s.end-s.off)
	if n <= 0 {
		return false
	}
	// The next read is to begin where it had better.
	if end := s.src.Align(s.off + n); end > s.off && s.off+n < s.end {
		n = end - s.off
	}
	k, err := s.src.ReadAt(s.buf[len(s.buf):][:n], s.off)
	if err != nil {
		return false
	}
	if s.fetched != nil {
		s.fetched(s.buf[len(s.buf):][:k], s.off)
	}
	s.buf = s.buf[:len(s.buf)+k]
	s.off += int64(k)
	return true
}

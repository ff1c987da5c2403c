package dmg

import (
	"runtime"
	"sync"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/bzip2"
)

// aheadFrom is how many bytes a bzip2 decoder must have before it for several
// cores to be put to work on them.
const aheadFrom = 4 << 20

// Pieces of a chunk's data, in bytes.
const (
	scanLen   = 512 << 10 // is read and searched for blocks at once
	blockData = 1 << 20   // is the most that a worker is given of a block; hardly any has more
	blockTail = 512       // stands behind the next block's magic: decoders look that far
	searchLen = 4 << 20   // is searched for the next block: none has more data, unless it is made to
)

// aheadMemory is what each worker of an ahead holds: what it decodes with, its
// block as found in the data, a buffer to fetch more, and two texts, one that is
// being read and one that is made meanwhile. aheadShared is what they search.
const (
	aheadMemory = bzip2.BlockMemory + 2*bzip2.TextMemory + bzip2.StreamMemory + blockData + fetchBuffer
	aheadShared = blockData + scanLen
)

// ahead decodes the coming blocks of a bzip2 chunk on several cores. Blocks are
// found by the 48 bits that they begin with. These may turn up inside a block by
// chance or by design: what is decoded there is thrown away, because the block
// before doesn't end there. One reader takes the blocks in order, and then stops
// the workers; the ahead can be started again, in another chunk too.
type ahead struct {
	team   []*aheadWorker
	memory int64 // accounted for

	chunk   *Chunk
	stop    chan struct{}
	workers sync.WaitGroup
	scan    scanner
	found   chan *found // in the order in which they stand in the data
	head    *found      // taken from found, and yet to be used
	vain    int         // blocks that were decoded where there are none
}

// maxVain is how many blocks may be decoded in vain before the reader does without
// the workers: 32 bytes inside a genuine block can be one of 900,000 bytes, whose
// decoding takes twenty milliseconds. In 2^48 bits of other data there is one.
const maxVain = 8

// found is a place that looks like a block's start, and what it decodes to.
type found struct {
	in   int64 // in bits
	done chan struct{}
	text *bzip2.Text
	ok   bool
	free chan<- *bzip2.Text // to give the text back
}

// aheadWorker is what one core decodes with.
type aheadWorker struct {
	stream bzip2.Stream
	block  bzip2.Block
	data   []byte  // of the block, and a little more; or its beginning
	left   []byte  // of data, yet to be read
	fetch  fetcher // reads on behind data
	texts  chan *bzip2.Text
}

// Read implements io.Reader.
func (w *aheadWorker) Read(p []byte) (int, error) {
	if len(w.left) == 0 {
		return w.fetch.Read(p)
	}
	n := copy(p, w.left)
	w.left = w.left[n:]
	return n, nil
}

// newAhead returns an ahead of so many workers, at rest.
func newAhead(src countingSource, workers int) *ahead {
	a := &ahead{memory: aheadShared + int64(workers)*aheadMemory}
	a.scan.src = src
	for range workers {
		w := &aheadWorker{fetch: fetcher{src: src}, texts: make(chan *bzip2.Text, 2)}
		w.texts <- new(bzip2.Text)
		w.texts <- new(bzip2.Text)
		a.team = append(a.team, w)
	}
	return a
}

// start has the workers decode what looks like a block of chunk c between bytes
// at and end of its data, of which the first have been fetched.
func (a *ahead) start(c *Chunk, at, end int64, fetched []byte) {
	a.chunk, a.stop, a.head, a.vain = c, make(chan struct{}), nil, 0
	a.scan.begin(c, at, end, fetched)
	a.found = make(chan *found, 2*len(a.team)) // never full: a worker needs a text before it searches
	a.workers.Add(len(a.team))
	for _, w := range a.team {
		go func() {
			defer a.workers.Done()
			for a.work(w) {
			}
		}()
	}
	go func() {
		a.workers.Wait()
		close(a.found)
	}()
}

// rest ends the workers and waits for them.
func (a *ahead) rest() {
	close(a.stop)
	if f := a.head; f != nil {
		<-f.done
		f.free <- f.text
	}
	for f := range a.found {
		<-f.done // what it holds is set behind its place in the queue
		f.free <- f.text
	}
}

// work decodes one block. It reports whether there may be more.
func (a *ahead) work(w *aheadWorker) bool {
	var text *bzip2.Text
	select {
	case text = <-w.texts:
	case <-a.stop:
		return false
	}
	f := a.search(w)
	if f == nil {
		w.texts <- text
		return false
	}
	f.text, f.free = text, w.texts
	w.left = w.data
	w.fetch.begin(a.chunk.DataOffset+f.in/8+int64(len(w.data)), a.chunk.streamEnd())
	w.stream.Resume(w, bzip2.Point{In: f.in, Level: 9})
	if w.stream.Next(&w.block) == nil && !a.stopped() {
		w.block.Unwind(text)
		f.ok = true
	}
	close(f.done)
	return true
}

// stopped reports whether the reader wants no more.
func (a *ahead) stopped() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

// search finds the next place that looks like a block's start, and queues it.
// The worker gets the data up to the next such place.
func (a *ahead) search(w *aheadWorker) *found {
	a.scan.Lock()
	defer a.scan.Unlock()
	if a.stopped() {
		return nil
	}
	in, ok := a.scan.next(a.stop)
	if !ok || in/8+1 >= a.scan.last {
		return nil
	}
	if w.data == nil {
		w.data = make([]byte, 0, blockData)
	}
	w.data = append(w.data[:0], a.scan.data(a.stop)...)
	f := &found{in: in, done: make(chan struct{})}
	a.found <- f
	return f
}

// take exchanges spare for the text of the block at point p. It is nil if the
// workers don't have that block: what stands there is no block, or a damaged
// one, or one of a smaller level, and it has to be decoded in its place. So have all
// others once too much was decoded in vain.
func (a *ahead) take(p bzip2.Point, spare *bzip2.Text) *bzip2.Text {
	for a.vain < maxVain {
		if a.head == nil {
			a.head = <-a.found
		}
		f := a.head
		if f == nil || f.in > p.In {
			return nil
		}
		a.head = nil
		<-f.done
		if f.in == p.In && f.ok {
			if _, ok := p.AfterText(f.text); ok {
				f.free <- spare
				return f.text
			}
		}
		f.free <- f.text
		if f.in == p.In {
			return nil
		}
		a.vain++
	}
	return nil
}

// scanner searches a chunk's data for block starts.
type scanner struct {
	sync.Mutex
	src      countingSource
	off, end int64 // of what is yet to be read, in the source
	last     int64 // offset in the chunk's data from which on blocks are of no use
	base     int64 // offset in the chunk's data of buf[0]
	found    int64 // offset in the chunk's data of the last block found, or where the search began
	buf      []byte
	bit      int // of buf, where the search goes on
	keep     int // of buf: what is before this bit is of no use
}

// begin makes bytes at and following of chunk c's data the first to be searched,
// of which some have been fetched, and those up to end the last.
func (s *scanner) begin(c *Chunk, at, end int64, fetched []byte) {
	if s.buf == nil {
		s.buf = make([]byte, 0, aheadShared)
	}
	s.off, s.end = c.DataOffset+at, min(c.DataOffset+end+blockTail, c.streamEnd())
	s.base, s.found, s.last = at, at, end-codecsLook
	s.bit, s.keep = 0, 0
	fetched = fetched[:min(int64(len(fetched)), max(0, s.end-s.off))]
	s.buf = append(s.buf[:0], fetched...)
	s.off += int64(len(fetched))
}

// magicLen is the length of a magic, in bits.
const magicLen = 48

// next goes behind the next block's magic, and returns its place in bits from
// the start of the chunk's data. The search ends when stop is closed, and where
// there has been no block for long: the reader will find out why.
func (s *scanner) next(stop <-chan struct{}) (in int64, ok bool) {
	for {
		s.keep = s.bit
		bit, kind, ok := bzip2.FindBlock(s.buf, s.bit)
		switch {
		case ok && kind == bzip2.KindBlock:
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
	bit, _, ok := bzip2.FindBlock(s.buf, s.bit)
	for !ok && len(s.buf)-s.keep/8 < blockData {
		s.bit = max(s.bit, len(s.buf)*8-magicLen+1)
		if !s.fill(stop) {
			break
		}
		bit, _, ok = bzip2.FindBlock(s.buf, s.bit)
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
	// The next read is to begin where a block of an encrypted source does.
	if end, _ := s.src.alignToUnit(s.off+n, s.off+n); end > s.off && s.off+n < s.end {
		n = end - s.off
	}
	k, err := s.src.ReadAt(s.buf[len(s.buf):][:n], s.off)
	if err != nil {
		return false
	}
	s.buf = s.buf[:len(s.buf)+k]
	s.off += int64(k)
	return true
}

// parallelReader puts other cores to work on the coming blocks of d's bzip2 chunk, from
// byte at of its data on and as far as the reader at work needs them: as many
// cores as there are, if memory allows for two at least. It waits for none.
func (e *engine) parallelReader(d *decoder, at int64) *ahead {
	const least = 2
	cores := runtime.GOMAXPROCS(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.mu.idleParallel
	e.mu.idleParallel = nil
	if a == nil {
		workers := int(min(int64(cores), (e.idle()-aheadShared)/aheadMemory))
		memory := aheadShared + int64(workers)*aheadMemory
		if workers < least || !e.takeNow(memory) {
			return nil
		}
		a = newAhead(e.src, workers)
	}
	c := &e.chunks[d.chunk]
	end, _ := e.input(d.chunk, d.until)
	a.start(c, at, end, d.fetch.fetched(c.DataOffset+at))
	return a
}

// endParallel stops what parallelReader started, and keeps it for the next.
func (e *engine) endParallel(a *ahead) {
	a.rest()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.idleParallel == nil {
		e.mu.idleParallel = a
	} else {
		e.mu.account.Release(budget.Decoders, a.memory)
	}
	e.wake()
}

// idle returns how much memory parallelReader may take: what is free, and what is
// cached, but for an eighth of the limit. Readers that have a decoder keep it.
func (e *engine) idle() int64 {
	a := &e.mu.account
	return a.Limit - a.Limit/8 - a.Total() + a.Used[budget.Cache]
}

package dmg

import (
	"sync"

	"github.com/go-dmg/dmg/internal/bzip2"
)

// aheadFrom is how many bytes a bzip2 decoder must have before it for several
// cores to be put to work on them.
const aheadFrom = 4 << 20

// scanLen is the piece of a chunk's data that is searched for blocks at once.
const scanLen = 256 << 10

// aheadMemory is what each worker of an ahead holds: what it decodes with, its
// block as found in the data, and two texts, one that is being read and one
// that is made meanwhile.
const aheadMemory = bzip2.BlockMemory + 2*bzip2.TextMemory + bzip2.StreamMemory + fetchBuffer + scanLen

// ahead decodes the coming blocks of a bzip2 chunk on several cores. Blocks are
// found by the 48 bits that they begin with. These may turn up inside a block by
// chance or by design: what is decoded there is thrown away, because the block
// before doesn't end there. One reader takes the blocks in order.
type ahead struct {
	chunk   *Chunk
	stop    chan struct{}
	workers sync.WaitGroup
	memory  int64 // accounted for

	scan  scanner
	found chan *found // in the order in which they stand in the data
	head  *found      // taken from found, and yet to be used
}

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
	fetch  fetcher
	texts  chan *bzip2.Text
}

// newAhead starts workers that decode what looks like a block of chunk c from
// byte at of its data on.
func newAhead(src countingSource, c *Chunk, at int64, workers int) *ahead {
	a := &ahead{chunk: c, stop: make(chan struct{})}
	a.scan = scanner{src: src, off: c.DataOffset + at, end: c.DataOffset + c.DataLength, base: at}
	texts := 2 * workers
	a.found = make(chan *found, texts) // never full: a worker needs a text before it searches
	a.workers.Add(workers)
	for range workers {
		w := &aheadWorker{fetch: fetcher{src: src}, texts: make(chan *bzip2.Text, 2)}
		w.texts <- new(bzip2.Text)
		w.texts <- new(bzip2.Text)
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
	return a
}

// close ends the workers and waits for them.
func (a *ahead) close() {
	close(a.stop)
	for range a.found {
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
	f := a.search()
	if f == nil {
		return false
	}
	f.text, f.free = text, w.texts
	w.fetch.begin(a.chunk.DataOffset+f.in/8, a.chunk.DataOffset+a.chunk.DataLength)
	w.fetch.want, w.fetch.size = 0, fetchBuffer
	w.stream.Resume(&w.fetch, bzip2.Point{In: f.in, Level: 9})
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
func (a *ahead) search() *found {
	a.scan.Lock()
	defer a.scan.Unlock()
	for !a.stopped() {
		in, ok := a.scan.next()
		if ok {
			f := &found{in: in, done: make(chan struct{})}
			a.found <- f
			return f
		}
		if !a.scan.fill() {
			break
		}
	}
	return nil
}

// take exchanges spare for the text of the block at point p. It is nil if the
// workers don't have that block: what stands there is no block, or a damaged
// one, or one of a smaller level, and it has to be decoded in its place.
func (a *ahead) take(p bzip2.Point, spare *bzip2.Text) *bzip2.Text {
	for {
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
	}
}

// scanner searches a chunk's data for block starts.
type scanner struct {
	sync.Mutex
	src      countingSource
	off, end int64 // of what is yet to be read, in the source
	base     int64 // offset in the chunk's data of buf[0]
	buf      []byte
	bit      int // of buf, where the search goes on
}

// magicBytes is the length of a block's magic, at any bit.
const magicBytes = 7

// next returns the place of the next block start in buf, in bits from the start
// of the chunk's data.
func (s *scanner) next() (in int64, ok bool) {
	for {
		bit, kind, ok := bzip2.FindBlock(s.buf, s.bit)
		if !ok {
			return 0, false
		}
		s.bit = bit + 1
		if kind == bzip2.KindBlock {
			return s.base*8 + int64(bit), true
		}
	}
}

// fill reads more data, behind the last bytes, in which a magic may begin. It
// reports whether there was more. An error of the source ends the search like
// the end of the data: the reader will come upon it in its place.
func (s *scanner) fill() bool {
	if s.off == s.end {
		return false
	}
	keep := min(len(s.buf), magicBytes)
	drop := len(s.buf) - keep
	if s.buf == nil {
		s.buf = make([]byte, 0, scanLen+magicBytes)
	}
	s.buf = append(s.buf[:0], s.buf[drop:]...)
	s.base += int64(drop)
	s.bit = max(0, s.bit-8*drop)
	n := min(scanLen, s.end-s.off)
	k, err := s.src.ReadAt(s.buf[keep:keep+int(n)], s.off)
	if err != nil {
		return false
	}
	s.buf = s.buf[:keep+k]
	s.off += int64(k)
	return true
}

package nbd

import (
	"context"
	"math/bits"
	"slices"
	"sync"
)

const (
	// maxInFlight is how many requests of a connection are worked on at once. QEMU sends no more than 16; what
	// other clients send beyond it waits in the socket.
	maxInFlight = 16

	// maxBuffer is the longest buffer there is. Simple replies that fit in it are read once; longer ones twice.
	maxBuffer = 2 << 20

	// reserve is the buffer that each connection can have at any time, whatever others hold.
	reserve = 32 << 10

	// requestCost is what a request is counted for besides its buffer: its goroutine's stack, which the disk's
	// ReadAt makes grow.
	requestCost = 16 << 10

	// shareDivisor bounds what one connection may hold: as much as this part of what it leaves to others. The
	// first connection gets a fifth of the memory, and fifty that take no answers leave something for the next.
	shareDivisor = 4

	// headroom is kept free before the data in a buffer, for the header of the answer: header and data then go out
	// in one write. A structured data chunk's header is the longest, 28 bytes.
	headroom = 32
)

// Buffers come in powers of two from 2^minClass to maxBuffer.
const (
	minClass   = 12
	maxClass   = 21
	numClasses = maxClass - minClass + 1
)

// class returns which size of buffers holds n bytes, 0 to maxBuffer.
func class(n int) int {
	return max(bits.Len(uint(max(n, 1)-1)), minClass) - minClass
}

// classSize is the length of the buffers of a class, without their headroom.
func classSize(class int) int64 {
	return 1 << (class + minClass)
}

// memory shares a number of bytes out among the requests of all connections, and holds the buffers that no request
// uses. The buffers together, used or not, never exceed limit and a reserve for each connection.
type memory struct {
	limit int64

	mu struct {
		sync.Mutex
		used    int64                // of limit, by requests
		free    [numClasses][][]byte // buffers no request uses
		kept    int64                // bytes in free; used + kept is at most limit
		waiting []*waiter            // for memory; the longest first, at most one of each connection
	}
}

// share is what a connection's requests hold. The memory's lock guards it.
type share struct {
	inFlight int
	held     int64 // of the memory's limit
}

// lease is a request's part of the memory.
type lease struct {
	share *share
	class int
	taken int64  // of the memory's limit; 0: the connection's reserve
	buf   []byte // headroom and classSize(class) bytes; content is that of earlier answers
	lost  bool   // somebody may still write to buf: it must not be used again
}

// waiter is a request that waits.
type waiter struct {
	share *share
	want  int
	ready chan *lease // has room for one
}

func newMemory(limit int64) *memory { return &memory{limit: limit} }

// acquire waits for one of a connection's places and for a buffer of n bytes. The buffer may be a shorter one: a
// connection that has no request in flight takes what it can have at once. Callers work in pieces then. It fails only
// when ctx is done.
func (m *memory) acquire(ctx context.Context, s *share, n int) (*lease, error) {
	m.mu.Lock()
	l := m.grant(s, n)
	if l != nil {
		m.mu.Unlock()
		return l.withBuffer(), nil
	}
	w := &waiter{s, n, make(chan *lease, 1)}
	m.mu.waiting = append(m.mu.waiting, w)
	m.mu.Unlock()
	select {
	case l := <-w.ready:
		return l.withBuffer(), nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	if i := slices.Index(m.mu.waiting, w); i >= 0 {
		m.mu.waiting = slices.Delete(m.mu.waiting, i, i+1)
	}
	m.mu.Unlock()
	select {
	case l := <-w.ready: // came between the two
		m.release(l)
	default:
	}
	return nil, ctx.Err()
}

// grant gives a request its memory if it can have that now, nil if not. The caller holds the lock.
func (m *memory) grant(s *share, n int) *lease {
	if s.inFlight >= maxInFlight {
		return nil
	}
	l := &lease{share: s, class: class(min(n, maxBuffer))}
	for ; !m.fits(s, l.cost()); l.class-- {
		switch {
		case s.inFlight > 0:
			return nil // the connection goes on in any case: it can wait for its own
		case classSize(l.class) <= reserve:
			s.inFlight++
			l.buf = m.takeFree(l.class)
			return l
		}
	}
	l.taken = l.cost()
	s.inFlight++
	s.held += l.taken
	m.mu.used += l.taken
	l.buf = m.takeFree(l.class)
	m.dropFree()
	return l
}

// fits tells whether a connection may take n bytes more.
func (m *memory) fits(s *share, n int64) bool {
	return s.held+n <= (m.limit-m.mu.used-n)/shareDivisor
}

// release takes a request's memory back and hands it to those who wait.
func (m *memory) release(l *lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.share.inFlight--
	l.share.held -= l.taken
	m.mu.used -= l.taken
	if size := classSize(l.class); !l.lost && l.buf != nil && m.mu.used+m.mu.kept+size <= m.limit {
		m.mu.free[l.class] = append(m.mu.free[l.class], l.buf)
		m.mu.kept += size
	}
	l.buf = nil
	m.mu.waiting = slices.DeleteFunc(m.mu.waiting, func(w *waiter) bool {
		granted := m.grant(w.share, w.want)
		if granted != nil {
			w.ready <- granted
		}
		return granted != nil
	})
}

// takeFree returns a buffer that no request uses, nil if there is none of the class. The caller holds the lock.
func (m *memory) takeFree(class int) []byte {
	free := m.mu.free[class]
	if len(free) == 0 {
		return nil
	}
	b := free[len(free)-1]
	free[len(free)-1] = nil
	m.mu.free[class] = free[:len(free)-1]
	m.mu.kept -= classSize(class)
	return b
}

// dropFree leaves unused buffers to the collector, the longest first, until used and unused ones keep the limit. The
// caller holds the lock.
func (m *memory) dropFree() {
	for c := numClasses - 1; c >= 0; c-- {
		for m.mu.used+m.mu.kept > m.limit && len(m.mu.free[c]) > 0 {
			m.takeFree(c)
		}
	}
}

// dropAll leaves all unused buffers to the collector.
func (m *memory) dropAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.free, m.mu.kept = [numClasses][][]byte{}, 0
}

// cost is what the lease counts for.
func (l *lease) cost() int64 { return classSize(l.class) + requestCost }

// withBuffer makes the buffer, outside the lock, where no free one was found.
func (l *lease) withBuffer() *lease {
	if l.buf == nil {
		l.buf = make([]byte, headroom+classSize(l.class))
	}
	return l
}

// size is how many bytes of data the buffer holds.
func (l *lease) size() int64 { return classSize(l.class) }

// message returns the buffer's part for a message of head and n bytes.
func (l *lease) message(head, n int64) []byte {
	return l.buf[headroom-head : headroom+n]
}

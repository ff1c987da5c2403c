package nbd

import (
	"slices"
	"sync"
)

const (
	// maxReads is how many reads of the disk run at once, over all connections. It lets slow storage work on many,
	// and keeps a small read from sharing the processors with hundreds of long ones.
	maxReads = 32

	// readCost is what a read counts for in bytes, besides those it reads.
	readCost = 4 << 10

	// credit is how much a connection may have before others when it comes back: what it did without meanwhile,
	// but no more than this.
	credit = readPiece
)

// gate lets maxReads reads run at once. Of the connections whose reads wait, the one that has had least goes next
// (start-time fair queueing, with a credit): a connection that asks for less than its part need not wait for those that
// ask for more, and none of them starves.
type gate struct {
	mu struct {
		sync.Mutex
		running int
		clock   int64   // what the connection had had whose read began last
		lines   []*line // those with reads that wait
	}
}

// line is a connection at the gate. The gate's lock guards it.
type line struct {
	had     int64 // bytes, compared with the clock
	waiting []turn
}

// turn is a read that waits.
type turn struct {
	n     int
	begin chan struct{} // closed when it may
}

// enter waits until a read of n bytes may run.
func (g *gate) enter(l *line, n int) {
	g.mu.Lock()
	if len(l.waiting) == 0 {
		l.had = max(l.had, g.mu.clock-credit)
	}
	if g.mu.running < maxReads {
		g.mu.running++
		g.begin(l, n)
		g.mu.Unlock()
		return
	}
	t := turn{n, make(chan struct{})}
	if len(l.waiting) == 0 {
		g.mu.lines = append(g.mu.lines, l)
	}
	l.waiting = append(l.waiting, t)
	g.mu.Unlock()
	<-t.begin
}

// begin counts a read that begins. The caller holds the lock.
func (g *gate) begin(l *line, n int) {
	g.mu.clock = max(g.mu.clock, l.had)
	l.had += int64(n) + readCost
}

// leave ends a read, and lets another one run in its place.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.mu.lines) == 0 {
		g.mu.running--
		return
	}
	next := 0
	for i, l := range g.mu.lines {
		if l.had < g.mu.lines[next].had {
			next = i
		}
	}
	l := g.mu.lines[next]
	t := l.waiting[0]
	if l.waiting = l.waiting[1:]; len(l.waiting) == 0 {
		g.mu.lines = slices.Delete(g.mu.lines, next, next+1)
	}
	g.begin(l, t.n)
	close(t.begin)
}

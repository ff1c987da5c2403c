package nbd

import "sync"

// maxReads is how many reads of the disk run at once, over all connections. It lets slow storage work on many, and
// keeps a small read from sharing the processors with hundreds of long ones.
const maxReads = 32

// gate lets maxReads reads run at once. The connections whose reads wait take turns, one read each: a connection that
// asks for much delays another one by a read for each busy connection, not by all that it has asked for.
type gate struct {
	mu struct {
		sync.Mutex
		running int
		turns   []*line // connections with reads that wait; the next first
	}
}

// line holds a connection's reads that wait. The gate's lock guards it.
type line struct {
	waiting []chan struct{}
}

// enter waits until a read of the connection may run.
func (g *gate) enter(l *line) {
	g.mu.Lock()
	if g.mu.running < maxReads {
		g.mu.running++
		g.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	if len(l.waiting) == 0 {
		g.mu.turns = append(g.mu.turns, l)
	}
	l.waiting = append(l.waiting, turn)
	g.mu.Unlock()
	<-turn
}

// leave ends a read, and lets the next one run in its place.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.mu.turns) == 0 {
		g.mu.running--
		return
	}
	l := g.mu.turns[0]
	g.mu.turns = g.mu.turns[1:]
	close(l.waiting[0])
	l.waiting = l.waiting[1:]
	if len(l.waiting) > 0 {
		g.mu.turns = append(g.mu.turns, l)
	}
}

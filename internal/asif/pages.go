package asif

import (
	"sync"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	// Memory is how many bytes of directories, tables and bitmaps a Disk keeps at most.
	Memory = pageLen * maxPages

	pageLen  = 16 << 10
	maxPages = 64
)

// pages are parts of the file that were read lately.
type pages struct {
	mu struct {
		sync.Mutex
		byOffset map[int64]*page
		flights  map[int64]*flight // by offset
		hand     int               // of the clock that finds a page to give up
		clock    []*page
	}
}

// A page is a part of the file. Its bytes never change.
type page struct {
	off  int64
	b    []byte
	used bool // since the hand came by
}

// A flight is one reader's fetching of a page that others may wait for.
type flight struct {
	done chan struct{} // closed when b is set, or the fetch has failed
	b    []byte        // nil if it has
}

// read returns what is in the file from off on, which is in it, to the end of a page.
// Readers that want one page fetch it once.
func (c *pages) read(d *Disk, off int64) ([]byte, error) {
	start := off - off%pageLen
	for {
		b, f, mine := c.find(start)
		switch {
		case b != nil:
			return b[off-start:], nil
		case mine:
			b, err := c.fetch(d, start, f)
			if err != nil {
				return nil, err
			}
			return b[off-start:], nil
		}
		if <-f.done; f.b != nil {
			return f.b[off-start:], nil
		}
		// The source's error was another reader's. This one tries for itself.
	}
}

// find returns the page at off, or the flight of whoever fetches it: the caller, if it is
// the caller's.
func (c *pages) find(off int64) (b []byte, f *flight, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.mu
	if p := m.byOffset[off]; p != nil {
		p.used = true
		return p.b, nil, false
	}
	if f = m.flights[off]; f != nil {
		return nil, f, false
	}
	if m.flights == nil {
		m.byOffset, m.flights = make(map[int64]*page), make(map[int64]*flight)
	}
	f = &flight{done: make(chan struct{})}
	m.flights[off] = f
	return nil, f, true
}

// fetch reads the page at off, and ends the flight, also if the source panics.
func (c *pages) fetch(d *Disk, off int64, f *flight) (b []byte, err error) {
	defer func() {
		c.mu.Lock()
		delete(c.mu.flights, off)
		if f.b != nil {
			c.keepLocked(&page{off: off, b: f.b})
		}
		c.mu.Unlock()
		close(f.done)
	}()
	b = make([]byte, min(pageLen, d.fileSize-off))
	if _, err := readat.Full(d.src, b, off); err != nil {
		return nil, err
	}
	f.b = b
	return b, nil
}

// keepLocked gives a page the place of one that was not used for a while. It is called with
// the lock.
func (c *pages) keepLocked(p *page) {
	m := &c.mu
	m.byOffset[p.off] = p
	if len(m.clock) < maxPages {
		m.clock = append(m.clock, p)
		return
	}
	for m.clock[m.hand].used {
		m.clock[m.hand].used = false
		m.hand = (m.hand + 1) % maxPages
	}
	delete(m.byOffset, m.clock[m.hand].off)
	m.clock[m.hand] = p
	m.hand = (m.hand + 1) % maxPages
}

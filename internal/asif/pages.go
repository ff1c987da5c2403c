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
		hand     int // of the clock that finds a page to give up
		clock    []*page
	}
}

// A page is a part of the file. Its bytes never change.
type page struct {
	off  int64
	b    []byte
	used bool // since the hand came by
}

// read returns what is in the file from off on, which is in it, to the end of a page.
func (c *pages) read(d *Disk, off int64) ([]byte, error) {
	start := off - off%pageLen
	if p := c.find(start); p != nil {
		return p.b[off-start:], nil
	}
	p := &page{off: start, b: make([]byte, min(pageLen, d.fileSize-start))}
	if _, err := readat.Full(d.src, p.b, start); err != nil {
		return nil, err
	}
	c.keep(p)
	return p.b[off-start:], nil
}

func (c *pages) find(off int64) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.mu.byOffset[off]
	if p != nil {
		p.used = true
	}
	return p
}

// keep gives a page the place of one that was not used for a while.
func (c *pages) keep(p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.mu
	if m.byOffset == nil {
		m.byOffset = make(map[int64]*page)
	}
	if m.byOffset[p.off] != nil {
		return // another reader was first
	}
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

package nbd

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestClasses(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, statusBuffer, reserve, 1 << 20, 1<<20 + 1, maxBuffer} {
		size := classSize(class(n))
		if size < int64(n) || n > 4096 && size >= 2*int64(n) || size > maxBuffer {
			t.Errorf("buffer of %d bytes for %d", size, n)
		}
	}
	if classSize(numClasses-1) != maxBuffer {
		t.Errorf("the longest class has %d bytes", classSize(numClasses-1))
	}
}

// check fails unless the memory's counts agree with each other and the limit holds.
func (m *memory) check(t *testing.T, shares []*share) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var held, kept int64
	for _, s := range shares {
		held += s.held
		if s.inFlight < 0 || s.inFlight > maxInFlight || s.inFlight == 0 && s.held != 0 {
			t.Errorf("share of %d bytes, %d in flight", s.held, s.inFlight)
		}
	}
	for c, free := range m.mu.free {
		kept += int64(len(free)) * classSize(c)
	}
	if held != m.mu.used || kept != m.mu.kept || held < 0 || held+kept > m.limit {
		t.Errorf("held %d, counted %d; kept %d, counted %d; limit %d", held, m.mu.used, kept, m.mu.kept, m.limit)
	}
}

// TestMemoryCounts has many connections take and give back buffers of all sizes, some of them giving up while they
// wait. All ends, and the counts hold all the time.
func TestMemoryCounts(t *testing.T) {
	for _, limit := range []int64{0, 1 << 16, 1 << 20, 8 << 20} {
		m := newMemory(limit)
		shares := make([]*share, 20)
		var wg sync.WaitGroup
		for i := range shares {
			shares[i] = new(share)
			for j := range 3 { // in the server one goroutine acquires for a connection; here they compete
				wg.Add(1)
				go func() {
					defer wg.Done()
					rng := rand.New(rand.NewPCG(uint64(i), uint64(j)))
					for range 300 {
						ctx, cancel := context.WithCancel(context.Background())
						if rng.IntN(4) == 0 {
							time.AfterFunc(time.Duration(rng.IntN(100))*time.Microsecond, cancel)
						}
						l, err := m.acquire(ctx, shares[i], 1<<rng.IntN(24))
						if err == nil {
							if int64(len(l.buf)) != headroom+l.size() {
								t.Errorf("buffer of %d bytes, want %d", len(l.buf), l.size())
							}
							l.buf[0]++ // the race detector sees a buffer used twice
							l.lost = rng.IntN(8) == 0
							m.release(l)
						}
						cancel()
					}
				}()
			}
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			case <-time.After(time.Millisecond):
			}
			m.check(t, shares)
		}
		if m.mu.used != 0 || len(m.mu.waiting) != 0 {
			t.Errorf("limit %d: at the end %d bytes are held, %d wait", limit, m.mu.used, len(m.mu.waiting))
		}
		if m.dropAll(); m.mu.kept != 0 {
			t.Errorf("%d bytes kept", m.mu.kept)
		}
	}
}

// TestShares has connections take all they can, one after the other, and keep it. Each gets something.
func TestShares(t *testing.T) {
	for _, size := range []int{4096, readPiece, maxBuffer} {
		m := newMemory(defaultMemory)
		for i := range 256 {
			s := new(share)
			n := 0
			for ; ; n++ {
				m.mu.Lock()
				l := m.grant(s, size)
				m.mu.Unlock()
				if l == nil {
					break
				}
				if l.size() < min(int64(size), reserve) {
					t.Errorf("connection %d: buffer of %d bytes", i, l.size())
				}
			}
			if n == 0 || s.held > defaultMemory/(shareDivisor+1) {
				t.Errorf("connection %d: %d requests, %d bytes", i, n, s.held)
			}
			if i == 0 && n < min(maxInFlight, defaultMemory/(shareDivisor+1)/(size+requestCost)) {
				t.Errorf("the first has only %d requests of %d bytes in flight", n, size)
			}
		}
		if m.mu.used > m.limit {
			t.Errorf("%d bytes used of %d", m.mu.used, m.limit)
		}
	}
}

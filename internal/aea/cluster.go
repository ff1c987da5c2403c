package aea

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/readat"
)

// position is what it takes to read a cluster's header, and to know that it is the right one.
type position struct {
	at  int64 // in the archive
	mac [macLen]byte
}

// positionLen is about what a position takes, in bytes.
const positionLen = 8 + macLen

// table is a cluster's header, authenticated and decrypted.
type table struct {
	cluster int64
	raw     []byte  // entries, the next header's MAC, the segments' MACs
	start   int64   // where the segments begin
	ends    []int64 // of the segments, from start on
	next    position
	used    int64 // when; see tables.clock
}

// tables are the clusters' headers, as far as they are known. The Reader's lock guards it.
type tables struct {
	// known are the positions of every stride-th cluster, from the first on: as many as
	// there is memory for. Where a cluster begins is known by the lengths of all segments
	// before it only.
	known  []position
	stride int64

	cached  []*table // least recently used: the lowest used
	clock   int64
	loading bool // one reader walks on; others wait until it has loaded a table
}

// tableMemory returns how many bytes a table takes.
func (g *geometry) tableMemory() int64 {
	const overhead = 256
	return g.headerLen + 8*g.segments + overhead
}

// find returns a cached table, nil if there is none.
func (t *tables) find(cluster int64) *table {
	for _, c := range t.cached {
		if c.cluster == cluster {
			t.clock++
			c.used = t.clock
			return c
		}
	}
	return nil
}

// nearest returns the last cluster up to the given one whose position is known.
func (t *tables) nearest(cluster int64) (int64, position) {
	i := min(cluster/t.stride, int64(len(t.known))-1)
	at, p := i*t.stride, t.known[i]
	for _, c := range t.cached {
		if c.cluster+1 > at && c.cluster+1 <= cluster {
			at, p = c.cluster+1, c.next
		}
	}
	return at, p
}

// note keeps the position of a cluster, if those before are known. At most max are kept.
func (t *tables) note(cluster int64, p position, max int) {
	if cluster != int64(len(t.known))*t.stride {
		return
	}
	if len(t.known) >= max {
		half := t.known[:0]
		for i := 0; i < len(t.known); i += 2 {
			half = append(half, t.known[i])
		}
		t.known = half
		if t.stride *= 2; cluster != int64(len(t.known))*t.stride {
			return
		}
	}
	t.known = append(t.known, p)
}

// tableLocked returns the header of a cluster. It is called with the lock, which it lets go
// while it reads the source.
func (r *Reader) tableLocked(cluster int64) (*table, error) {
	t := &r.mu.tables
	for {
		if c := t.find(cluster); c != nil {
			return c, nil
		}
		if !t.loading {
			break
		}
		r.mu.loaded.Wait()
	}
	t.loading = true
	defer func() {
		t.loading = false
		r.mu.loaded.Broadcast()
	}()
	for at, p := t.nearest(cluster); ; at++ {
		c := t.find(at)
		if c == nil {
			r.makeTableRoomLocked()
			var err error
			if c, err = r.readTableUnlocked(at, p); err != nil {
				r.releaseTableLocked()
				return nil, err
			}
			t.clock++
			c.used = t.clock
			t.cached = append(t.cached, c)
			if at+1 < r.g.clusters {
				t.note(at+1, c.next, r.maxKnown)
			}
			r.mu.loaded.Broadcast()
		}
		if at == cluster {
			return c, nil
		}
		p = c.next
	}
}

// makeTableRoomLocked takes memory for a further table, that of the table used longest ago
// if need be.
func (r *Reader) makeTableRoomLocked() {
	t, need := &r.mu.tables, r.g.tableMemory()
	for {
		if int64(len(t.cached)+1)*need <= r.tableShare && r.mu.account.Take(budget.Checkpoints, need) {
			return
		}
		if len(t.cached) > 0 {
			i := 0
			for k, c := range t.cached {
				if c.used < t.cached[i].used {
					i = k
				}
			}
			t.cached = slices.Delete(t.cached, i, i+1)
			r.releaseTableLocked()
		} else if !r.mu.cache.Shrink() {
			// Room for one is left to tables, so that this is only as long as readers
			// hold pages.
			r.mu.account.Used[budget.Checkpoints] += need
			return
		}
	}
}

func (r *Reader) releaseTableLocked() {
	r.mu.account.Release(budget.Checkpoints, r.g.tableMemory())
}

// readTableUnlocked reads a header without the lock.
func (r *Reader) readTableUnlocked(cluster int64, p position) (*table, error) {
	r.mu.Unlock()
	defer r.mu.Lock()
	return r.readTable(cluster, p)
}

// readTable reads a header, authenticates it and takes it apart.
func (r *Reader) readTable(cluster int64, p position) (*table, error) {
	g := r.g
	section := fmt.Sprintf("cluster %d", cluster)
	if p.at > g.have-g.headerLen {
		return nil, r.outside(section, p.at, g.headerLen)
	}
	raw := make([]byte, g.headerLen)
	if _, err := readat.Full(r.src, raw, p.at); err != nil {
		return nil, err
	}
	above, err := r.main.clusterKey(uint32(cluster))
	if err != nil {
		return nil, err
	}
	k, err := r.main.header(above)
	if err != nil {
		return nil, err
	}
	entries := raw[:g.segments*(8+g.sumLen)]
	bound := raw[len(entries):]
	if !k.verify(p.mac[:], entries, bound) {
		return nil, &sumError{section, p.at, "its header's MAC does not match"}
	}
	if err := k.decrypt(entries); err != nil {
		return nil, err
	}
	t := &table{cluster: cluster, raw: raw, start: p.at + g.headerLen, ends: make([]int64, g.used(cluster))}
	end := int64(0)
	for i := range t.ends {
		end += int64(binary.LittleEndian.Uint32(entries[int64(i)*(8+g.sumLen)+4:]))
		t.ends[i] = end
	}
	if t.next.at = t.start + end; t.next.at < 0 {
		t.next.at = math.MaxInt64 // is in no file
	}
	copy(t.next.mac[:], bound)
	return t, nil
}

// outside is the error for what is not in the file: cut off, or never there.
func (r *Reader) outside(section string, at, n int64) error {
	msg := fmt.Sprintf("%d bytes are outside the archive of %d", n, r.g.end)
	if r.g.have < r.g.end {
		msg = fmt.Sprintf("cut off: the archive has %d bytes, the file %d of them", r.g.end, r.g.have)
	}
	return &FormatError{section, at, msg}
}

// entry is a segment as its cluster's header has it.
type entry struct {
	at     int64 // in the archive
	packed int64
	plain  int64
	mac    [macLen]byte
	sum    [32]byte // as long as the archive's checksums are
}

// entry returns a segment of the cluster. The header is authentic, which does not make it
// right: the error is a FormatError of the segment alone.
func (t *table) entry(r *Reader, segment int64) (e entry, err error) {
	g := r.g
	i := segment - t.cluster*g.segments
	b := t.raw[i*(8+g.sumLen):]
	plain := int64(binary.LittleEndian.Uint32(b))
	e.packed = int64(binary.LittleEndian.Uint32(b[4:]))
	e.plain = g.plain(segment)
	e.at = t.start + t.ends[i] - e.packed
	copy(e.sum[:g.sumLen], b[8:])
	copy(e.mac[:], t.raw[g.segments*(8+g.sumLen)+macLen+i*macLen:])
	section := func() string { return fmt.Sprintf("segment %d", segment) }
	switch {
	case plain != e.plain:
		return e, &FormatError{section(), e.at, fmt.Sprintf("%d bytes of content, not %d", plain, e.plain)}
	case e.packed == 0 || e.packed > e.plain:
		return e, &FormatError{section(), e.at, fmt.Sprintf("%d bytes of content in %d", plain, e.packed)}
	case e.at > g.have-e.packed || e.at < 0:
		return e, r.outside(section(), e.at, e.packed)
	}
	return e, nil
}

// lookUp appends the entries of segments of one cluster, from first up to end, as far as they
// are right and make up maxPacked bytes at most, but the first one in any case.
func (r *Reader) lookUp(entries []entry, first, end, maxPacked int64) ([]entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, err := r.tableLocked(first / r.g.segments)
	if err != nil {
		return entries, err
	}
	total := int64(0)
	for s := first; s < end; s++ {
		e, err := t.entry(r, s)
		if err != nil && s == first {
			return entries, err
		}
		if total += e.packed; err != nil || total > maxPacked && s > first {
			break
		}
		entries = append(entries, e)
	}
	return entries, nil
}

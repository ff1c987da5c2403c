package aea

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"sync"
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/pagecache"
	"github.com/go-dmg/dmg/internal/readat"
)

// Sizes in bytes.
const (
	// leastFetch is how much a worker can fetch in one call, of segments that follow each
	// other: a call for each small segment would be slow where the source is remote.
	leastFetch = 512 << 10

	// aheadMost is how much content is decoded at most that a reader has not asked for, who
	// goes on where an earlier one stopped: many small segments are fetched at once.
	aheadMost = 512 << 10
	runs      = 16 // that are remembered, of as many readers

	// A read of this much or less is cached though it takes whole segments. A longer one
	// goes straight to the caller's buffer, unless others wait for the same segment.
	cachedRead = 256 << 10
)

// Reader serves the content of an archive. Its methods may be called concurrently.
//
// A read decodes whole segments: each at once into the caller's buffer, or into pages that
// are kept for later reads. Readers of one segment decode it once. Readers of different
// ones don't wait for each other, as long as there is memory for their workers.
type Reader struct {
	src     io.ReaderAt
	g       *geometry
	main    *mainKey
	profile uint32

	reserved   int64 // bytes of memory that it takes at most
	workers    int   // at most
	tableShare int64 // of the memory, for clusters' headers
	maxKnown   int   // positions of clusters

	view    *pagecache.View // of mu.cache, without the lock
	compare atomic.Int32    // calls of CompareSums that have not been stopped
	_       [128]byte       // reads of cached pages use what is above, and what is below changes
	count   counters

	mu struct {
		sync.Mutex
		account budget.Budget
		cache   pagecache.Cache
		flights []*flight
		runs    [runs]run // where flights ended
		nextRun int       // the one that is replaced next
		tables  tables
		loaded  sync.Cond // a table has been loaded, or could not be
		idle    []*worker
		made    int       // workers
		free    sync.Cond // a worker is idle
	}
}

// counters are what Stats returns. Hits are counted in lanes, or all cores would wait for
// one cache line.
type counters struct {
	decoded atomic.Int64
	hits    [pagecache.Lanes]struct {
		n atomic.Int64
		_ [120]byte
	}
}

// Stats are what a Reader has done, and what memory it takes now, in bytes.
type Stats struct {
	Decoded int64
	Hits    int64 // times that a read found decoded data
	Cached  int64 // decoded data that is kept
	Memory  int64 // all that counts
}

// Open opens the archive r of size bytes with those of the keys that its profile asks for.
// The Reader takes up to about half of limit bytes of memory, more where segments are
// large: Reserved says how much. Deriving a key from a password takes memory up to limit
// meanwhile.
func Open(r io.ReaderAt, size int64, keys Keys, limit int64) (*Reader, error) {
	p, err := parsePrologue(r, size)
	if err != nil {
		return nil, err
	}
	main, err := p.unlock(keys, limit)
	if err != nil {
		return nil, err
	}
	g, err := parseRoot(p, size)
	if err != nil {
		return nil, err
	}
	a := &Reader{src: r, g: g, main: main, profile: p.profile}
	if err := a.shareMemory(limit); err != nil {
		return nil, err
	}
	a.mu.cache.Init(&a.mu.account)
	a.view = a.mu.cache.View()
	a.mu.loaded.L, a.mu.free.L = &a.mu, &a.mu
	first := position{at: g.first}
	copy(first.mac[:], p.firstMAC)
	a.mu.tables.known, a.mu.tables.stride = []position{first}, 1
	return a, nil
}

// workerMemory returns how many bytes a worker takes.
func (g *geometry) workerMemory() int64 {
	return g.fetchLen() + codecMemory(g.codec, g.segment)
}

// fetchLen returns how many bytes a worker can fetch at once.
func (g *geometry) fetchLen() int64 { return max(g.segment, leastFetch) }

// shareMemory decides what the Reader takes of the limit.
func (r *Reader) shareMemory(limit int64) error {
	g := r.g
	worker, table := g.workerMemory(), g.tableMemory()
	const pages = 4 * pagecache.PageSize
	least := worker + 2*table + pages
	if g.all == 0 {
		least = 0
	}
	if least > budget.ShareArchiveMost.Of(limit) || least > math.MaxInt/2 {
		return fmt.Errorf("%w: its segments of %d bytes, %d in a cluster, take %d bytes, the limit is %d; a limit of %d MiB will do",
			ErrMemory, g.segment, g.segments, least, limit, (least/3*4+1<<21)>>20)
	}
	// More than there are cores: where the source is remote, workers wait for it.
	const most = 64
	// No more than it takes to keep all of a short content.
	all := min(g.all, 1<<30) * ((min(g.segment, g.size)+pagecache.PageSize-1)/pagecache.PageSize + 1) * pagecache.PageSize
	useful := least + min(g.all, most)*worker + min(g.clusters, 1<<20)*table + all/3*4 + pages
	r.reserved = max(least, min(budget.ShareArchive.Of(limit), useful))
	r.workers = int(max(1, min(most, r.reserved/2/max(1, worker))))
	r.tableShare = max(2*table, r.reserved/8)
	r.maxKnown = int(max(16, min(r.reserved/16/positionLen, 1<<24)))
	r.mu.account.Limit = r.reserved
	known := min(g.clusters, int64(r.maxKnown)) * positionLen
	r.mu.account.Used[budget.Checkpoints] = min(known, r.reserved/16)
	return nil
}

// Size returns how many bytes of content the archive has.
func (r *Reader) Size() int64 { return r.g.size }

// Segment returns how many bytes of content are decoded as one.
func (r *Reader) Segment() int64 { return r.g.segment }

// Encrypted reports whether the archive is encrypted, and not only signed.
func (r *Reader) Encrypted() bool { return r.profile != profileSigned }

// Reserved returns how many bytes of memory the Reader takes at most.
func (r *Reader) Reserved() int64 { return r.reserved }

// Format keeps keys out of whatever is printed.
func (r *Reader) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// String keeps keys out of whatever is printed.
func (*Reader) String() string { return "aea.Reader{…}" }

// GoString keeps keys out of whatever is printed.
func (r *Reader) GoString() string { return r.String() }

// Stats returns the counters so far.
func (r *Reader) Stats() (s Stats) {
	s.Decoded = r.count.decoded.Load()
	for i := range r.count.hits {
		s.Hits += r.count.hits[i].n.Load()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Cached, s.Memory = r.mu.account.Used[budget.Cache], r.mu.account.Total()
	return s
}

// Missing returns how many bytes of content can't be read since the file is cut off. For
// that it reads the headers of all clusters of such a file. The error is the source's.
func (r *Reader) Missing() (int64, error) {
	if r.g.have == r.g.end {
		return 0, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.g.clusters {
		t, err := r.tableLocked(c)
		first := c * r.g.segments
		for s := first; err == nil && s < first+r.g.used(c); s++ {
			if e, _ := t.entry(r, s); e.at > r.g.have-e.packed {
				err, first = r.outside("", 0, 0), s
			}
		}
		var format *FormatError
		switch {
		case errors.As(err, &format), errors.Is(err, ErrChecksum):
			return r.g.size - first*r.g.segment, nil
		case err != nil:
			return 0, err
		}
	}
	return 0, nil
}

// id is a segment to the cache and to flights: what has its checksum compared is apart from
// what has not.
type id struct {
	segment  int64
	compared bool
}

// place returns under which key of the cache the pages are, and from which offset on: on some
// machines an int has no more than 31 bits for a segment's number.
func (d id) place() (chunk int, base int64) {
	const bits = 30
	chunk = int(d.segment & (1<<bits - 1))
	if d.compared {
		chunk |= 1 << bits
	}
	return chunk, d.segment >> bits << 32
}

// CompareSums has all segments that are read from now on have the checksums of their content
// compared, until stop is called. Otherwise a read compares the MAC alone, which says the
// same of the bytes that are stored: the checksum takes as long as a half of decoding.
func (r *Reader) CompareSums() (stop func()) {
	r.compare.Add(1)
	return func() { r.compare.Add(-1) }
}

// ReadAt implements io.ReaderAt. The bytes before an error are right. A segment that is
// damaged, or is not what its MAC or checksum says, is an error of that segment alone: a
// FormatError, or one that Is ErrChecksum. A source that ends early gives
// io.ErrUnexpectedEOF; its other errors are passed on.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("aea: negative offset")
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= r.g.size {
		return 0, io.EOF
	}
	atEnd := int64(len(p)) > r.g.size-off
	if atEnd {
		p = p[:r.g.size-off]
	}
	for n < len(p) && err == nil {
		var k int
		k, err = r.step(p[n:], off+int64(n))
		n += k
	}
	if err == nil && atEnd {
		err = io.EOF
	}
	return n, err
}

// step reads some of p: what a cached page has, or as much as one flight decodes.
func (r *Reader) step(p []byte, off int64) (int, error) {
	d := id{off / r.g.segment, r.compare.Load() > 0}
	in := off - d.segment*r.g.segment
	mine := p[:min(int64(len(p)), r.g.plain(d.segment)-in)]
	chunk, base := d.place()
	lane := pagecache.Lane(p)
	if n := r.view.Copy(mine, chunk, base+in, lane); n > 0 {
		r.count.hits[lane%pagecache.Lanes].n.Add(1)
		return n, nil
	}
	pg, f := r.cachedOrFlight(d, in, off+int64(len(p)))
	if pg != nil {
		n := copy(mine, pg.From(base+in))
		r.count.hits[lane%pagecache.Lanes].n.Add(1)
		r.mu.Lock()
		r.mu.cache.Unpin(pg)
		r.mu.Unlock()
		return n, nil
	}
	return r.fly(f, p, off)
}

// A flight is one reader's decoding of segments that follow each other. Others who want one
// of them wait.
type flight struct {
	first, end int64 // segments
	compared   bool
	ahead      int64 // segments behind those that the reader wants
	waiting    int
	moved      sync.Cond
	entries    []entry
}

// run is where a flight ended, and how many segments it decoded ahead.
type run struct{ end, ahead int64 }

// aheadLocked returns how many segments a reader of a few bytes gets ahead who begins at a
// segment: twice as many as the flight that ended there.
func (r *Reader) aheadLocked(segment int64) int64 {
	for i, last := range r.mu.runs {
		if last.end == segment && segment > 0 {
			r.mu.runs[i] = run{}
			return min(2*last.ahead+1, aheadMost/r.g.segment)
		}
	}
	return 0
}

// maxRun is how many segments a flight has at most.
const maxRun = 64

// cachedOrFlight returns the page with byte in of a segment, pinned, or a new flight of that
// segment and those behind it that the reader wants and nobody has: up to byte stop of the
// content, in one cluster.
func (r *Reader) cachedOrFlight(d id, in, stop int64) (*pagecache.Page, *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	chunk, base := d.place()
	for {
		if pg := r.mu.cache.Pin(chunk, base+in); pg != nil {
			return pg, nil
		}
		f := r.flightLocked(d)
		if f == nil {
			break
		}
		f.waiting++
		f.moved.Wait()
		f.waiting--
	}
	ahead := int64(0)
	if stop-d.segment*r.g.segment <= cachedRead {
		ahead = r.aheadLocked(d.segment)
	}
	last := min((stop-1)/r.g.segment+1+ahead, d.segment+maxRun, (d.segment/r.g.segments+1)*r.g.segments, r.g.all)
	f := &flight{first: d.segment, end: d.segment + 1, compared: d.compared}
	for ; f.end < last; f.end++ {
		next := id{f.end, d.compared}
		if chunk, base := next.place(); r.mu.cache.Has(chunk, base/pagecache.PageSize) || r.flightLocked(next) != nil {
			break
		}
	}
	f.moved.L, f.ahead = &r.mu, ahead
	r.mu.flights = append(r.mu.flights, f)
	return nil, f
}

// flightLocked returns the flight that decodes a segment, nil if there is none.
func (r *Reader) flightLocked(d id) *flight {
	for _, f := range r.mu.flights {
		if f.first <= d.segment && d.segment < f.end && f.compared == d.compared {
			return f
		}
	}
	return nil
}

// landLocked ends a flight up to a segment: those behind it will be decoded by others.
func (r *Reader) landLocked(f *flight, end int64) {
	f.end = min(f.end, end)
	if f.first >= f.end {
		for i, other := range r.mu.flights {
			if other == f {
				last := len(r.mu.flights) - 1
				r.mu.flights[i] = r.mu.flights[last]
				r.mu.flights[last] = nil
				r.mu.flights = r.mu.flights[:last]
				break
			}
		}
	}
	if f.waiting > 0 {
		f.moved.Broadcast()
	}
}

// fly decodes what f is for, into p, whose first byte is byte off of the content. Should the
// source panic, others don't wait for the flight or its worker.
func (r *Reader) fly(f *flight, p []byte, off int64) (n int, err error) {
	var w *worker
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if w != nil {
			w.dropPagesLocked()
			r.mu.idle = append(r.mu.idle, w)
			r.mu.free.Signal()
		}
		r.landLocked(f, f.first)
	}()
	if f.entries, err = r.lookUp(f.entries, f.first, f.end, r.g.fetchLen()); err != nil {
		return 0, err
	}
	w = r.takeWorker(f)
	first := f.first
	got, failed := w.fetch(f.entries)
	for i := range f.entries {
		e := &f.entries[i]
		segment := first + int64(i)
		in := max(0, off-segment*r.g.segment)
		mine := p[n:min(int64(len(p)), int64(n)+e.plain-in)]
		from := e.at - f.entries[0].at
		if from+e.packed > got {
			err = failed
		} else {
			keep := len(p) <= cachedRead || int64(len(mine)) < e.plain
			err = w.segment(f, segment, e, w.packed[from:from+e.packed], mine, in, keep)
		}
		if err != nil && len(mine) == 0 {
			return n, nil // it is about what was decoded ahead: the next reader will meet it
		}
		if err != nil {
			return n, err
		}
		n += len(mine)
	}
	return n, nil
}

// A worker fetches and decodes segments, one flight's at a time.
type worker struct {
	r      *Reader
	packed []byte
	decoder
	out output
}

// takeWorker returns a worker for the flight, now that it is known which segments it gets.
// It waits until one is idle, or there is memory for another.
func (r *Reader) takeWorker(f *flight) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.landLocked(f, f.first+int64(len(f.entries)))
	r.mu.runs[r.mu.nextRun] = run{f.end, f.ahead}
	r.mu.nextRun = (r.mu.nextRun + 1) % runs
	for {
		if n := len(r.mu.idle); n > 0 {
			w := r.mu.idle[n-1]
			r.mu.idle[n-1] = nil
			r.mu.idle = r.mu.idle[:n-1]
			return w
		}
		if r.mu.made < r.workers && (r.takeMemoryLocked(r.g.workerMemory()) || r.mu.made == 0) {
			r.mu.made++
			w := &worker{r: r, packed: make([]byte, r.g.fetchLen()), decoder: decoder{codec: r.g.codec, segment: r.g.segment}}
			w.out.sha = sha256.New()
			return w
		}
		r.mu.free.Wait()
	}
}

// takeMemoryLocked takes memory for a worker, that of cached pages if need be.
func (r *Reader) takeMemoryLocked(n int64) bool {
	for !r.mu.account.Take(budget.Decoders, n) {
		if !r.mu.cache.Shrink() {
			return false
		}
	}
	return true
}

// fetch reads segments that follow each other. It returns how many bytes it got, and the
// source's error if these are not all.
func (w *worker) fetch(entries []entry) (int64, error) {
	last := entries[len(entries)-1]
	at := entries[0].at
	n, err := readat.Full(w.r.src, w.packed[:last.at+last.packed-at], at)
	return int64(n), err
}

// segment decodes one segment, whose bytes from byte in on go to p. It is cached if keep is
// set, or others wait for it. Its error is of the segment alone.
func (w *worker) segment(f *flight, segment int64, e *entry, packed, p []byte, in int64, keep bool) error {
	r := w.r
	section := func() string { return fmt.Sprintf("segment %d", segment) }
	above, err := r.main.clusterKey(uint32(segment / r.g.segments))
	if err != nil {
		return err
	}
	k, err := r.main.segment(above, uint32(segment%r.g.segments))
	if err != nil {
		return err
	}
	if !k.verify(e.mac[:], packed, nil) {
		return &sumError{section(), e.at, "its MAC does not match"}
	}
	if err := k.decrypt(packed); err != nil {
		return err
	}
	sum := byte(sumNone)
	if f.compared {
		sum = r.g.sum
	}
	d := id{segment, f.compared}
	w.out.begin(sum, e.plain, p, in)
	if keep {
		w.openPages(d, e.plain, in)
	}
	err = w.decode(packed, e.plain, &w.out)
	r.count.decoded.Add(w.out.pos)
	switch {
	case errors.Is(err, ErrUnsupported):
		return fmt.Errorf("%w of %s", err, section())
	case err != nil:
		return &FormatError{section(), e.at, "it does not decode: " + err.Error()}
	case !w.out.matches(e.sum[:]):
		return &sumError{section(), e.at, "its checksum does not match"}
	}
	w.publish(f, d, e.plain, p)
	return nil
}

// openPages opens pages for a segment: from that on which the reader wants first, and as many
// as there is memory for.
func (w *worker) openPages(d id, plain, in int64) {
	r := w.r
	chunk, base := d.place()
	n := int((plain-1)/pagecache.PageSize) + 1
	if cap(w.out.pages) < n {
		w.out.pages = make([]*pagecache.Page, n)
	}
	w.out.pages = w.out.pages[:n]
	first := int(in / pagecache.PageSize)
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range n {
		i := (first + k) % n
		off := base + int64(i)*pagecache.PageSize
		if r.mu.cache.Has(chunk, off/pagecache.PageSize) {
			continue
		}
		if w.out.pages[i] = r.mu.cache.Open(chunk, off); w.out.pages[i] == nil {
			return
		}
	}
}

// publish seals the pages of a segment that has turned out right, and ends the flight for
// those who wait for it. If they do, and it was decoded for the caller alone, it is cached
// now.
func (w *worker) publish(f *flight, d id, plain int64, p []byte) {
	r := w.r
	if len(w.out.pages) == 0 && int64(len(p)) == plain {
		r.mu.Lock()
		waiting := f.waiting > 0
		r.mu.Unlock()
		if waiting {
			w.openPages(d, plain, 0)
			w.out.copyPages(p, 0)
		}
	}
	_, base := d.place()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, pg := range w.out.pages {
		if pg != nil {
			r.mu.cache.Seal(pg, base+min(int64(i+1)*pagecache.PageSize, plain))
		}
		w.out.pages[i] = nil
	}
	w.out.pages = w.out.pages[:0]
	if f.first = d.segment + 1; f.first < f.end && f.waiting > 0 {
		f.moved.Broadcast()
	}
}

// dropPagesLocked gives up pages of a segment that was not decoded well.
func (w *worker) dropPagesLocked() {
	for i, pg := range w.out.pages {
		if pg != nil {
			w.r.mu.cache.Discard(pg)
		}
		w.out.pages[i] = nil
	}
	w.out.pages = w.out.pages[:0]
	w.out.p = nil
}

// output takes a segment's content: for the caller, for the cache, and for the checksum.
type output struct {
	p     []byte // the caller's, from byte in of the segment on
	in    int64
	pos   int64 // bytes taken so far
	kind  byte  // of checksum
	sha   hash.Hash
	mur   murmur
	pages []*pagecache.Page // nil where a page is not to be kept
}

func (o *output) begin(sum byte, plain int64, p []byte, in int64) {
	o.p, o.in, o.pos, o.kind = p, in, 0, sum
	switch sum {
	case sumSHA256:
		o.sha.Reset()
	case sumMurmur:
		o.mur.reset(plain)
	}
}

// put implements sink.
func (o *output) put(b []byte) {
	switch o.kind {
	case sumSHA256:
		o.sha.Write(b)
	case sumMurmur:
		o.mur.write(b)
	}
	if skip := max(0, o.in-o.pos); skip < int64(len(b)) {
		if at := o.pos + skip - o.in; at < int64(len(o.p)) {
			copy(o.p[at:], b[skip:])
		}
	}
	o.copyPages(b, o.pos)
	o.pos += int64(len(b))
}

// copyPages puts b, from byte at of the segment on, into the pages that are to be kept.
func (o *output) copyPages(b []byte, at int64) {
	for len(b) > 0 && len(o.pages) > 0 {
		n := min(int64(len(b)), pagecache.PageSize-at%pagecache.PageSize)
		if pg := o.pages[at/pagecache.PageSize]; pg != nil {
			pg.Put(b[:n], at)
		}
		b, at = b[n:], at+n
	}
}

// matches reports whether all that was taken has that checksum, if it is to be compared.
func (o *output) matches(sum []byte) bool {
	switch o.kind {
	case sumSHA256:
		var got [sha256.Size]byte
		return string(o.sha.Sum(got[:0])) == string(sum)
	case sumMurmur:
		got := o.mur.sum()
		return string(got[:]) == string(sum[:len(got)])
	}
	return true
}

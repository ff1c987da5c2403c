package dmg

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"slices"
	"sync"
	"sync/atomic"
)

// ChecksumError says that the checksum which an image stores over a part of it does not
// match the part, or that the part can't be read. It Is [ErrChecksum].
type ChecksumError struct {
	Part      string // "data fork", "master", "partition" with its index and name, or "block table" if that can't be read
	Partition int    // index in Image.Partitions, -1 for other parts
	Algorithm string // such as "CRC-32"
	Want, Got Digest // stored and computed; Got is nil if the part can't be read
}

// Error returns the part, and the checksum as computed and as stored.
func (e *ChecksumError) Error() string {
	if e.Got == nil {
		return fmt.Sprintf("dmg: %s: checksum can't be checked: some of it is damaged", e.Part)
	}
	return fmt.Sprintf("dmg: %s: %s is %x, stored is %x", e.Part, e.Algorithm, e.Got, e.Want)
}

// Is reports whether target is ErrChecksum.
func (e *ChecksumError) Is(target error) bool { return target == ErrChecksum }

// sumKinds are the types of checksums in UDIF images. Others are passed over, as
// type 0 is, which stands for none.
var sumKinds = map[uint32]struct {
	name string
	size int
	make func() hash.Hash
}{
	2: {"CRC-32", crc32.Size, func() hash.Hash { return new(zeroCRC) }},
	4: {"MD5", md5.Size, md5.New},
	5: {"SHA-1", sha1.Size, sha1.New},
	6: {"SHA-1", sha1.Size, sha1.New},
	7: {"SHA-256", sha256.Size, sha256.New},
	8: {"SHA-384", sha512.Size384, sha512.New384},
	9: {"SHA-512", sha512.Size, sha512.New},
}

// hashAllowed reports whether a hash may be used: with GODEBUG=fips140=only, MD5 and
// SHA-1 panic.
func hashAllowed(newHash func() hash.Hash) (ok bool) {
	defer func() { recover() }()
	h := newHash()
	h.Write([]byte{0})
	h.Sum(nil)
	return true
}

// check is a stored checksum and what has been computed towards it.
type check struct {
	err  ChecksumError // as it will be if the checksum does not hold
	hash hash.Hash
	any  bool // something was added
}

// newCheck returns nil if c is of a type that can't be checked.
func newCheck(part string, partition int, c checksum) *check {
	kind, ok := sumKinds[c.kind]
	if !ok || len(c.sum) < kind.size || !hashAllowed(kind.make) {
		return nil
	}
	return &check{
		err:  ChecksumError{Part: part, Partition: partition, Algorithm: kind.name, Want: c.sum[:kind.size]},
		hash: kind.make(),
	}
}

// crc returns the check's CRC-32, nil if it is another hash.
func (c *check) crc() *zeroCRC {
	z, _ := c.hash.(*zeroCRC)
	return z
}

func (c *check) add(b []byte) {
	c.hash.Write(b)
	c.any = true
}

// zeros adds n zeros: at once for CRC-32, byte by byte for what is made to
// withstand such things.
func (c *check) zeros(ctx context.Context, n int64) error {
	c.any = true
	if z := c.crc(); z != nil {
		z.zeros(n)
		return nil
	}
	for ; n > 0; n -= int64(len(zeroBytes)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.hash.Write(zeroBytes[:min(n, int64(len(zeroBytes)))])
	}
	return nil
}

// result returns the error if the checksum does not hold. That of nothing, as of
// a table of free space alone, is stored as 0, whatever the type.
func (c *check) result(readable bool) error {
	if readable {
		c.err.Got = c.hash.Sum(nil)
		if bytes.Equal(c.err.Got, c.err.Want) {
			return nil
		}
		if !c.any && len(bytes.Trim(c.err.Want, "\x00")) == 0 {
			return nil
		}
	}
	return &c.err
}

// tableSums compares the checksums of the block tables that a run reads as a whole.
// Workers sum their tasks, and the sums are combined; a table whose checksum is no
// CRC-32 is summed in the order of the disk instead.
type tableSums struct {
	chunks  []Chunk
	parts   []span     // of the disk, that have a table
	tables  []tableSum // by partition
	shared  []bool     // by partition: it overlaps another
	inOrder bool       // a table is summed in order
	anew    func() *tableSums

	// The partition in which the last hole ended, of those that were claimed, and of
	// those that were delivered.
	claimed, delivered int
}

// span is a range of the disk, in bytes.
type span struct{ from, to int64 }

// tableSum is the checksum of one table. What counts towards it is the table's sectors
// but free space: so hdiutil has it. Other writers count free space as zeros, so a
// CRC-32 holds if it is right either way.
type tableSum struct {
	check *check // nil if nothing is compared
	used  runningSum
	all   runningSum  // with free space
	bad   atomic.Bool // something could not be read
}

// runningSum is a CRC-32 of bytes that are summed in pieces and in any order.
type runningSum struct {
	length int64 // bytes
	next   int64 // of these, that are claimed
	sum    atomic.Uint32
}

// claim gives the next n bytes a place.
func (s *runningSum) claim(n int64) (at int64) {
	s.next += n
	return s.next - n
}

// add adds the CRC-32 of the n bytes at a place.
func (s *runningSum) add(crc uint32, at, n int64) {
	crc = multiply(zeroPower(s.length-at-n), crc)
	for {
		old := s.sum.Load()
		if s.sum.CompareAndSwap(old, old^crc) {
			return
		}
	}
}

// taskSum is the CRC-32 of a task's bytes.
type taskSum struct {
	table    *tableSum // nil if there is none
	parallel bool      // the task is summed by itself
	at, all  int64     // of the first byte, in either sum of the table
	n        int64     // bytes so far
	crc      uint32
}

// newTableSums returns the checksums of tables that lie within from and to of the disk;
// nil if there are none.
func (im *Image) newTableSums(from, to int64) *tableSums {
	if im.koly == nil {
		return nil
	}
	checks := im.tableChecks()
	s := &tableSums{chunks: im.chunks, tables: make([]tableSum, len(checks))}
	s.anew = func() *tableSums { return im.newTableSums(from, to) }
	for _, p := range im.tablePartitions() {
		s.parts = append(s.parts, span{p.Offset, p.Offset + p.Length})
	}
	s.shared = overlapping(s.parts)
	any := false
	for i, c := range checks {
		p := &s.parts[i]
		if c != nil && p.from >= from && p.to <= to {
			s.tables[i].check = c
			s.inOrder = s.inOrder || c.crc() == nil
			any = true
		}
	}
	if !any {
		return nil
	}
	for t, i := range im.order {
		if i >= 0 && im.tables[t].shared { // some of what it covers is another's
			s.tables[i].bad.Store(true)
		}
	}
	for off, i := int64(0), im.find(0); off < im.size; i++ {
		if i == len(im.chunks) || off < im.chunks[i].Offset {
			hole := im.gap(off, i)
			s.gap(&s.claimed, off, hole.Length, func(t *tableSum, n int64) error { t.grow(n, false); return nil })
		}
		if i == len(im.chunks) {
			break
		}
		c := &im.chunks[i]
		if t := s.of(i); t != nil {
			t.grow(c.Length, c.Method == Ignore)
		}
		off = c.end()
	}
	s.claimed = 0
	return s
}

// of returns what chunk i counts towards; nil if nothing is compared.
func (s *tableSums) of(i int) *tableSum {
	if part := s.chunks[i].Partition; part >= 0 && s.tables[part].check != nil {
		return &s.tables[part]
	}
	return nil
}

// gap calls f with each table that has some of the n zeros at byte off of the disk in
// its range, and how many. Holes come in order, and part is where the last one ended. A
// table that overlaps another has none: whose they are can't be told, and there may be
// thousands of tables.
func (s *tableSums) gap(part *int, off, n int64, f func(t *tableSum, n int64) error) error {
	end := off + n
	for ; *part < len(s.parts) && s.parts[*part].from < end; *part++ {
		p := &s.parts[*part]
		t := &s.tables[*part]
		if from, to := max(off, p.from), min(end, p.to); t.check != nil && from < to && !s.shared[*part] {
			if err := f(t, to-from); err != nil {
				return err
			}
		}
		if p.to > end {
			break
		}
	}
	return nil
}

// claim gives t its place in its table's sum. Tasks are claimed in order.
func (s *tableSums) claim(t *task) {
	if s == nil {
		return
	}
	n := t.end - t.off
	if t.chunk < 0 {
		s.gap(&s.claimed, t.off, n, func(t *tableSum, n int64) error {
			if !t.inOrder() {
				t.addZeros(n, false)
			}
			return nil
		})
		return
	}
	switch table := s.of(t.chunk); {
	case table == nil:
	case table.inOrder():
		t.sum.table = table
	case t.zero:
		table.addZeros(n, s.chunks[t.chunk].Method == Ignore)
	default:
		t.sum = taskSum{table: table, parallel: true, at: table.used.claim(n), all: table.all.claim(n)}
	}
}

// inOrder reports whether the table is summed in the order of the disk.
func (t *tableSum) inOrder() bool { return t.check.crc() == nil }

// grow counts n more bytes of the table, which may be free space.
func (t *tableSum) grow(n int64, free bool) {
	if t.all.length += n; !free {
		t.used.length += n
	}
}

// addZeros adds the next n bytes of the table, which are zeros.
func (t *tableSum) addZeros(n int64, free bool) {
	var z zeroCRC
	z.zeros(n)
	if t.all.add(z.sum, t.all.claim(n), n); !free {
		t.used.add(z.sum, t.used.claim(n), n)
	}
}

// add adds bytes of the task.
func (t *taskSum) add(b []byte) {
	if t.parallel {
		t.crc = crc32.Update(t.crc, crc32.IEEETable, b)
		t.n += int64(len(b))
	}
}

// end combines the task's sum with the others of its table.
func (t *taskSum) end() {
	if !t.parallel || t.n == 0 {
		return
	}
	t.table.used.add(t.crc, t.at, t.n)
	if t.table.all.length > t.table.used.length {
		t.table.all.add(t.crc, t.all, t.n)
	}
}

// spoil says that some of the task can't be read.
func (t *taskSum) spoil() {
	if t.table != nil {
		t.table.bad.Store(true)
	}
}

// end takes the sum of a task that was delivered.
func (s *tableSums) end(t *task) {
	if s != nil {
		t.sum.end()
	}
}

// data adds a task's bytes if they are summed in order.
func (s *tableSums) data(t *task, b []byte) {
	if s != nil && s.inOrder {
		if table := s.of(t.chunk); table != nil && table.inOrder() {
			table.check.add(b)
		}
	}
}

// zeros adds zeros if they are summed in order.
func (s *tableSums) zeros(ctx context.Context, t *task, off, n int64) error {
	switch {
	case s == nil || !s.inOrder:
		return nil
	case t.chunk < 0:
		return s.gap(&s.delivered, off, n, func(t *tableSum, n int64) error {
			if !t.inOrder() {
				return nil
			}
			return t.check.zeros(ctx, n)
		})
	case s.chunks[t.chunk].Method == Zero:
		if table := s.of(t.chunk); table != nil && table.inOrder() {
			return table.check.zeros(ctx, n)
		}
	}
	return nil
}

// results calls f with each table that was compared, and the error if its checksum does
// not hold or could not be computed.
func (s *tableSums) results(f func(partition int, c *check, err error) error) error {
	if s == nil {
		return nil
	}
	for i := range s.tables {
		t := &s.tables[i]
		if t.check == nil {
			continue
		}
		if z := t.check.crc(); z != nil {
			z.sum, t.check.any = t.used.sum.Load(), t.used.length > 0
			if all := t.all.sum.Load(); t.all.length > t.used.length && binary.BigEndian.Uint32(t.check.err.Want) == all {
				z.sum = all
			}
		}
		if err := f(i, t.check, t.check.result(!t.bad.Load())); err != nil {
			return err
		}
	}
	return nil
}

// sourceSum is the CRC-32 of a range of the source, summed as it is fetched: of what a
// worker fetches it sums what no other has. What nobody has fetched is left at the end. A
// nil sourceSum sums nothing. It is safe for concurrent use.
type sourceSum struct {
	span // in the source
	sum  runningSum
	n    atomic.Int64 // bytes that are claimed
	mu   struct {
		sync.Mutex
		claimed []span // in order; no two of them touch
	}
}

// maxClaimed is how many ranges of a source that are not joined a sourceSum keeps. An
// image may have its chunks' data in any order, and there is more to sum at the end then.
const maxClaimed = 1 << 10

func newSourceSum(from, length int64) *sourceSum {
	return &sourceSum{span: span{from, from + length}, sum: runningSum{length: length}}
}

// add sums those of the bytes b, from byte off of the source on, that were not yet.
func (s *sourceSum) add(b []byte, off int64) {
	if s == nil {
		return
	}
	from, to := max(off, s.from), min(off+int64(len(b)), s.to)
	if from >= to {
		return
	}
	var few [4]span
	for _, p := range s.claim(few[:0], span{from, to}) {
		crc := crc32.ChecksumIEEE(b[p.from-off : p.to-off])
		s.sum.add(crc, p.from-s.from, p.to-p.from)
	}
}

// claim appends to dst those parts of p that nobody has claimed, and claims them.
func (s *sourceSum) claim(dst []span, p span) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.mu.claimed
	i, _ := slices.BinarySearchFunc(all, p.from, func(c span, from int64) int { return cmp.Compare(c.to, from) })
	end := i // of those that touch p
	whole, at := p, p.from
	for ; end < len(all) && all[end].from <= p.to; end++ {
		c := all[end]
		if at < c.from {
			dst = append(dst, span{at, c.from})
		}
		at = max(at, c.to)
		whole = span{min(whole.from, c.from), max(whole.to, c.to)}
	}
	if at < p.to {
		dst = append(dst, span{at, p.to})
	}
	if i == end && len(all) >= maxClaimed {
		return nil
	}
	s.mu.claimed = slices.Replace(all, i, end, whole)
	for _, p := range dst {
		s.n.Add(p.to - p.from)
	}
	return dst
}

// rest returns what nobody has claimed, in order.
func (s *sourceSum) rest() (rest []span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.from
	for _, c := range s.mu.claimed {
		if at < c.from {
			rest = append(rest, span{at, c.from})
		}
		at = c.to
	}
	if at < s.to {
		rest = append(rest, span{at, s.to})
	}
	return rest
}

// zeroCRC is a CRC-32 (IEEE) to which any number of zeros can be added at once.
type zeroCRC struct{ sum uint32 }

func (z *zeroCRC) Write(p []byte) (int, error) {
	z.sum = crc32.Update(z.sum, crc32.IEEETable, p)
	return len(p), nil
}

func (z *zeroCRC) Sum(b []byte) []byte { return binary.BigEndian.AppendUint32(b, z.sum) }
func (z *zeroCRC) Reset()              { z.sum = 0 }
func (z *zeroCRC) Size() int           { return crc32.Size }
func (z *zeroCRC) BlockSize() int      { return 1 }

// zeros adds n zeros. The register is a polynomial over GF(2), and a zero byte
// multiplies it by x^8 modulo the CRC's polynomial: n of them by x^(8n).
func (z *zeroCRC) zeros(n int64) { z.sum = ^multiply(zeroPower(n), ^z.sum) }

// zeroPower returns x^(8n).
func zeroPower(n int64) uint32 {
	power := zeroPowers()
	product := uint32(1) << 31 // bits are reflected: the highest is x^0
	for i := 0; n > 0; n >>= 1 {
		if n&1 != 0 {
			product = multiply(power[i], product)
		}
		i++
	}
	return product
}

// zeroPowers returns x^(8·2^i) for all i.
var zeroPowers = sync.OnceValue(func() *[63]uint32 {
	var p [63]uint32
	p[0] = 1 << (31 - 8)
	for i := 1; i < len(p); i++ {
		p[i] = multiply(p[i-1], p[i-1])
	}
	return &p
})

// multiply returns a·b modulo the CRC's polynomial.
func multiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			product ^= b
		}
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return product
}

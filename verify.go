package dmg

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"math"
	"sync"
)

// ChecksumError is a part of an image whose stored checksum does not hold. It Is
// ErrChecksum.
type ChecksumError struct {
	Part      string // "data fork", "master", "partition" with its index and name, or "block table" if that can't be read
	Partition int    // index in Image.Partitions, -1 for other parts
	Algorithm string // such as "CRC-32"
	Want, Got []byte // stored and computed; Got is nil if the part can't be read
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

// check is a stored checksum and what has been computed towards it.
type check struct {
	err  ChecksumError // as it will be if the checksum does not hold
	hash hash.Hash
	any  bool // something was added
}

// newCheck returns nil if c is of a type that can't be checked.
func newCheck(part string, partition int, c checksum) *check {
	kind, ok := sumKinds[c.kind]
	if !ok || len(c.sum) < kind.size {
		return nil
	}
	return &check{
		err:  ChecksumError{Part: part, Partition: partition, Algorithm: kind.name, Want: c.sum[:kind.size]},
		hash: kind.make(),
	}
}

func (c *check) add(b []byte) {
	c.hash.Write(b)
	c.any = true
}

// zeros adds n zeros: at once for CRC-32, byte by byte for what is made to
// withstand such things.
func (c *check) zeros(ctx context.Context, n int64) error {
	c.any = true
	if z, ok := c.hash.(*zeroCRC); ok {
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

// Checksum is a checksum that the image stores over a part of it.
type Checksum struct {
	Part      string // as in ChecksumError
	Partition int    // index in Image.Partitions, -1 for other parts
	Algorithm string // such as "CRC-32"
	Sum       []byte // as stored
}

// Checksums returns the checksums that Verify compares, in the order in which it
// does: of the data fork, of partitions, and the master checksum, as far as they
// are stored and of a known type. Of parts without one, Verify finds damage only
// where their compression notices it; an image that is no UDIF has none at all. It
// is safe for concurrent use.
func (im *Image) Checksums() []Checksum {
	if im.koly == nil {
		return nil
	}
	checks := append([]*check{im.dataForkCheck()}, im.tableChecks()...)
	checks = append(checks, im.masterCheck())
	var sums []Checksum
	for _, c := range checks {
		if c != nil {
			sums = append(sums, Checksum{c.err.Part, c.err.Partition, c.err.Algorithm, bytes.Clone(c.err.Want)})
		}
	}
	return sums
}

// dataForkCheck returns nil if there is nothing to check, as the next two do. The
// image must be a UDIF.
func (im *Image) dataForkCheck() *check { return newCheck("data fork", -1, im.koly.dataSum) }

func (im *Image) masterCheck() *check { return newCheck("master", -1, im.koly.masterSum) }

// tableChecks returns the checks of all tables, by partition.
func (im *Image) tableChecks() []*check {
	var checks []*check
	for range im.tablePartitions() {
		checks = append(checks, nil)
	}
	for t, i := range im.order {
		if i >= 0 {
			checks[i] = newCheck(im.partLabel(i), i, im.tables[t].sum)
		}
	}
	return checks
}

// Verify checks every checksum that the image stores, and those in its
// compressed data: over the data fork as it is stored, over each partition's
// decoded sectors, and the master checksum over these. It goes through all even
// if some don't hold; the error then joins a *ChecksumError for each of them, and for
// each block table that can't be read (errors.Is ErrChecksum), and a *ChunkError for each chunk that can't be
// decoded, which says what sectors are lost. An image without checksums
// verifies if it decodes: Checksums says what there is to compare.
//
// progress, if not nil, is called now and then, from one goroutine at a time,
// with bytes of the disk and of the data fork. Verify stops when ctx is done, or
// at the first error of the source.
func (im *Image) Verify(ctx context.Context, progress func(done, total int64)) error {
	v := verifier{im: im, ctx: ctx, total: im.size, damaged: make(map[int]bool)}
	if im.koly != nil && im.dataForkCheck() != nil {
		v.total += min(im.dataFork.length, math.MaxInt64-im.size)
	}
	if progress != nil {
		v.progress = progress
	}
	for _, step := range []func() error{v.dataFork, v.disk, v.master} {
		if err := step(); err != nil {
			return err
		}
	}
	return errors.Join(v.errs...)
}

// verifier is the state of one Verify.
type verifier struct {
	im          *Image
	ctx         context.Context
	done, total int64
	progress    func(done, total int64)

	tables  []*check     // by partition; nil if there is nothing to check
	shared  []bool       // by partition: it overlaps another
	damaged map[int]bool // partitions of which a chunk can't be decoded
	part    int          // the partition in which the last hole ended
	errs    []error      // of the image
}

// note keeps an error of the image, if it is one.
func (v *verifier) note(err error) {
	if err != nil {
		v.errs = append(v.errs, err)
	}
}

func (v *verifier) count(n int64) {
	v.done += min(n, v.total-v.done) // the total may be less than all there is, where that has 64 bits
	if v.progress != nil {
		v.progress(v.done, v.total)
	}
}

// dataFork checks the stored bytes.
func (v *verifier) dataFork() error {
	im := v.im
	if im.koly == nil {
		return nil
	}
	c := im.dataForkCheck()
	if c == nil {
		return nil
	}
	buf, giveBack := im.readBuffer()
	defer giveBack()
	for off := int64(0); off < im.dataFork.length; {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		n, err := im.src.ReadAt(buf[:min(int64(len(buf)), im.dataFork.length-off)], im.dataFork.off+off)
		if err != nil {
			return err
		}
		c.add(buf[:n])
		off += int64(n)
		v.count(int64(n))
	}
	v.note(c.result(true))
	return nil
}

// disk decodes all chunks, and checks the tables' checksums.
func (v *verifier) disk() error {
	im := v.im
	if im.koly != nil { // else the partitions are not block tables
		v.tables = im.tableChecks()
		v.shared = overlapping(im.tablePartitions())
	}
	for t, i := range im.order {
		if i >= 0 && im.tables[t].shared {
			v.damaged[i] = true
		}
	}
	before := v.done
	p := pipeline{
		e:        &im.engine,
		ordered:  true,
		data:     v.data,
		zeros:    v.zeros,
		lost:     v.lost,
		progress: func(done, _ int64) { v.count(done - (v.done - before)) },
	}
	if _, err := p.run(v.ctx); err != nil {
		return err
	}
	for i, c := range v.tables {
		if c != nil {
			v.note(c.result(!v.damaged[i]))
		}
	}
	for t, i := range im.order {
		if i < 0 {
			v.note(&ChecksumError{Part: fmt.Sprintf("block table %d %q", t, im.tables[t].name), Partition: -1})
		}
	}
	return nil
}

// partLabel names a partition in an error.
func (im *Image) partLabel(i int) string {
	if name := im.partitions[i].Name; name != "" {
		return fmt.Sprintf("partition %d %q", i, name)
	}
	return fmt.Sprintf("partition %d", i)
}

// data adds a chunk's bytes to its table's checksum.
func (v *verifier) data(i int, _ int64, b []byte) error {
	if c := v.check(i); c != nil {
		c.add(b)
	}
	return nil
}

// zeros adds those of zero chunks, and of gaps in a table. Free space is not part
// of a checksum.
func (v *verifier) zeros(ctx context.Context, i int, off, n int64) error {
	if i < 0 {
		return v.gap(ctx, off, n)
	}
	if c := v.check(i); c != nil && v.im.chunks[i].Method == Zero {
		return c.zeros(ctx, n)
	}
	return nil
}

// gap adds n zeros at byte off of the disk to the tables in whose range they
// lie. Holes come in order. A table that overlaps another has none: whose they
// are can't be told, and there may be thousands of tables.
func (v *verifier) gap(ctx context.Context, off, n int64) error {
	parts := v.im.tablePartitions()
	end := off + n
	for ; v.part < len(parts) && parts[v.part].Offset < end; v.part++ {
		p := &parts[v.part]
		pend := p.Offset + p.Length
		c := v.tables[v.part]
		if from, to := max(off, p.Offset), min(end, pend); c != nil && from < to && !v.shared[v.part] {
			if err := c.zeros(ctx, to-from); err != nil {
				return err
			}
		}
		if pend > end {
			break
		}
	}
	return nil
}

// overlapping returns for each of the partitions, which are sorted by offset,
// whether it shares bytes with another.
func overlapping(parts []Partition) []bool {
	shared := make([]bool, len(parts))
	last := -1 // the one that ends last of those before
	for i, p := range parts {
		if p.Length == 0 {
			continue
		}
		if last >= 0 && p.Offset < parts[last].Offset+parts[last].Length {
			// Whatever else i shares bytes with shares bytes with last, too.
			shared[i], shared[last] = true, true
		}
		if last < 0 || p.Offset+p.Length > parts[last].Offset+parts[last].Length {
			last = i
		}
	}
	return shared
}

// check returns what chunk i counts towards.
func (v *verifier) check(i int) *check {
	if i < 0 || v.im.chunks[i].Partition < 0 {
		return nil
	}
	return v.tables[v.im.chunks[i].Partition]
}

// lost notes a chunk that can't be decoded.
func (v *verifier) lost(i int, err *ChunkError) error {
	v.note(err)
	if part := v.im.chunks[i].Partition; part >= 0 {
		v.damaged[part] = true
	}
	return nil
}

// master checks the checksum over the tables' checksums, which are taken in the
// order in which the image has the tables.
func (v *verifier) master() error {
	im := v.im
	if im.koly == nil {
		return nil
	}
	c := im.masterCheck()
	if c == nil {
		return nil
	}
	known := true
	for _, t := range im.tables {
		c.add(t.sum.sum)
		known = known && !t.lost
	}
	v.note(c.result(known))
	return nil
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
func (z *zeroCRC) zeros(n int64) {
	power := zeroPowers()
	reg := ^z.sum
	for i := 0; n > 0; n >>= 1 {
		if n&1 != 0 {
			reg = multiply(power[i], reg)
		}
		i++
	}
	z.sum = ^reg
}

// zeroPowers returns x^(8·2^i) for all i.
var zeroPowers = sync.OnceValue(func() *[63]uint32 {
	var p [63]uint32
	p[0] = 1 << (31 - 8) // bits are reflected: the highest is x^0
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

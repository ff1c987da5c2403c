package dmg

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/go-dmg/dmg/internal/codesign"
	"github.com/go-dmg/dmg/internal/readat"
)

// Digest is the value of a checksum, most significant byte first. In JSON and other text it
// is hexadecimal; %x prints it so.
type Digest []byte

// MarshalText implements [encoding.TextMarshaler]. It has no errors.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] for hexadecimal digits of either
// case.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("dmg: digest: %w", err)
	}
	*d = b
	return nil
}

// Checksum is a checksum that the image stores over a part of it. [Image.Checksums] lists
// them.
type Checksum struct {
	Part      string // as in ChecksumError
	Partition int    // index in Image.Partitions, -1 for other parts
	Algorithm string // such as "CRC-32"
	Sum       Digest // as stored
}

// Checksums returns the checksums that [Image.Verify] compares, in the order in which it
// does: of the data fork, of partitions, and the master checksum, if the image stores them
// and their type is known. In a part without a checksum, Verify finds only damage that the
// part's compression notices. An image that is no UDIF has no checksums. The caller may
// change what is returned.
func (im *Image) Checksums() []Checksum {
	if im.koly == nil {
		return nil
	}
	checks := append([]*check{im.dataForkCheck()}, im.tableChecks()...)
	checks = append(checks, im.masterCheck())
	var sums []Checksum
	for _, c := range checks {
		if c != nil {
			sums = append(sums, *c.stored())
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
	checks := make([]*check, len(im.tablePartitions()))
	for t, i := range im.order {
		if i >= 0 {
			checks[i] = newCheck(im.partLabel(i), i, im.tables[t].sum)
		}
	}
	return checks
}

// VerifyOptions are the settings of [Image.Verify]. The zero value and nil stand for the
// defaults. The functions must not call methods of the Image.
type VerifyOptions struct {
	// Workers is how many goroutines decode at most. 0 stands for one a core. If the
	// memory limit has no room for so many, there are fewer.
	Workers int

	// Progress is called now and then, from one goroutine at a time. The unit is
	// bytes: those of the disk and those of the data fork, both added up.
	Progress func(done, total int64)

	// Result, if not nil, is called with each result, from one goroutine at a time.
	// Damaged ranges come as they are found, checksums at the end of their part: that
	// of the data fork behind the damaged ranges, if it is a CRC-32, else first.
	Result func(VerifyResult)
}

// VerifyResult is one result of [Image.Verify]: a checksum that was compared, or a damaged
// range.
type VerifyResult struct {
	Checksum *Checksum // the checksum; nil if the result is Damage
	Damage   *Damage   // the range that can't be read as it was stored; nil if there is a Checksum
	Err      error     // a *ChecksumError, or the Damage's; nil if the checksum matches
}

// maxVerifyErrors is how many damaged ranges, and how many checksums, the error of
// Verify lists at most. An image may have any number.
const maxVerifyErrors = 100

// Verify compares every checksum that the image stores: over the data fork as it is stored,
// over each partition's decoded sectors, the master checksum over these, and those inside
// compressed data. It returns nil if all match and everything decodes. An image without
// checksums only has to decode: [Image.Checksums] says what there is to compare.
//
// Verify goes on past damage. Its error then joins a [*ChecksumError] for each checksum that
// does not match or whose block table can't be read, and a [*ChunkError] for each chunk that
// can't be decoded: up to a hundred of either kind, and how many more there are.
// VerifyOptions.Result gets all of them.
//
// Verify reads the data fork once, as a rule: a CRC-32 of it is summed as its bytes are
// fetched for decoding, and bytes that no chunk needs are read at the end. Any other
// checksum of the data fork takes a second read of it. As with Extract, the checkpoints that
// Verify leaves in zlib chunks are 1 MiB apart.
//
// Verify stops when ctx is done, at the first error of the source, or with [ErrMemoryLimit]
// at a chunk that needs a larger decoder than the limit allows.
func (im *Image) Verify(ctx context.Context, o *VerifyOptions) error {
	if o == nil {
		o = new(VerifyOptions)
	}
	for _, a := range im.plain.archives {
		defer a.CompareSums()()
	}
	v := verifier{im: im, ctx: ctx, o: o, total: im.size}
	if im.koly != nil && im.dataForkCheck() != nil {
		v.total += min(im.dataFork.length, math.MaxInt64-im.size)
	}
	for _, step := range []func() error{v.dataFork, v.disk, v.master} {
		if err := step(); err != nil {
			return err
		}
	}
	return v.err()
}

// verifier is the state of one Verify.
type verifier struct {
	im          *Image
	ctx         context.Context
	o           *VerifyOptions
	done, total int64

	fork   *check     // of the data fork, if it is a CRC-32,
	stored *sourceSum // which is this; nil else

	chunks errorList
	sums   errorList
	last   *ChunkError // that is in chunks
}

// errorList keeps some errors and counts the others.
type errorList struct {
	errs []error
	offs []int64 // of those that were inserted
	more int
}

func (l *errorList) add(err error) {
	if len(l.errs) < maxVerifyErrors {
		l.errs = append(l.errs, err)
	} else {
		l.more++
	}
}

// insert adds an error about byte off of the disk, unless it is there. Errors that come in any
// order are kept in that of the disk, and of too many the first ones.
func (l *errorList) insert(off int64, err error) {
	if slices.Contains(l.errs, err) {
		return
	}
	i, _ := slices.BinarySearchFunc(l.offs, off, func(a, b int64) int {
		if a <= b {
			return -1
		}
		return 1
	})
	l.errs, l.offs = slices.Insert(l.errs, i, err), slices.Insert(l.offs, i, off)
	if n := len(l.errs); n > maxVerifyErrors {
		l.errs, l.offs = l.errs[:n-1], l.offs[:n-1]
		l.more++
	}
}

// err joins all errors of the image.
func (v *verifier) err() error {
	errs := append(v.sums.errs, v.chunks.errs...)
	if v.sums.more > 0 {
		errs = append(errs, fmt.Errorf("%w: %d more checksums do not hold", ErrChecksum, v.sums.more))
	}
	if v.chunks.more > 0 {
		errs = append(errs, fmt.Errorf("%w: %d more places are damaged", ErrFormat, v.chunks.more))
	}
	return errors.Join(errs...)
}

// result notes how a checksum fared.
func (v *verifier) result(c *check, err error) {
	if err != nil {
		v.sums.add(err)
	}
	if v.o.Result != nil {
		v.o.Result(VerifyResult{Checksum: c.stored(), Err: err})
	}
}

// stored returns the checksum as the image has it.
func (c *check) stored() *Checksum {
	return &Checksum{c.err.Part, c.err.Partition, c.err.Algorithm, bytes.Clone(c.err.Want)}
}

// damaged notes a range that can't be read as it was.
func (v *verifier) damaged(d Damage) error {
	var chunk *ChunkError
	if errors.As(d.Err, &chunk) && chunk != v.last {
		v.last = chunk
		v.chunks.insert(d.Offset, chunk)
	}
	if v.o.Result != nil {
		v.o.Result(VerifyResult{Damage: &d, Err: d.Err})
	}
	return nil
}

func (v *verifier) count(n int64) {
	v.done += min(n, v.total-v.done) // the total may be less than all there is, where that has 64 bits
	if v.o.Progress != nil {
		v.o.Progress(v.done, v.total)
	}
}

// countTo counts up to so many bytes of the disk and of the data fork.
func (v *verifier) countTo(disk, fork int64) {
	v.count(min(disk-v.done, math.MaxInt64-fork) + fork)
}

// dataFork checks the stored bytes, in order. A CRC-32 is left to disk.
func (v *verifier) dataFork() error {
	im := v.im
	if im.koly == nil {
		return nil
	}
	c := im.dataForkCheck()
	if c == nil {
		return nil
	}
	all := span{im.dataFork.off, im.dataFork.off + im.dataFork.length}
	if c.crc() != nil {
		v.fork, v.stored = c, newSourceSum(all.from, all.to-all.from)
		return nil
	}
	readable, err := v.readStored([]span{all}, func(b []byte, _ int64) { c.add(b) })
	if err == nil {
		v.result(c, c.result(readable))
	}
	return err
}

// readStored reads ranges of the source for f. It reports whether all of them can be read;
// an error is the source's.
func (v *verifier) readStored(ranges []span, f func(b []byte, off int64)) (readable bool, err error) {
	readable = true
	if len(ranges) == 0 {
		return true, nil
	}
	buf, giveBack := v.im.readBuffer()
	defer giveBack()
	for _, r := range ranges {
		for off := r.from; off < r.to; {
			if err := v.ctx.Err(); err != nil {
				return false, err
			}
			n, err := v.im.src.ReadAt(buf[:min(int64(len(buf)), r.to-off)], off)
			if isDamage(err) { // of what the segments are joined of
				v.count(r.to - off)
				readable = false
				break
			}
			if err != nil {
				return false, err
			}
			f(buf[:n], off)
			off += int64(n)
			v.count(int64(n))
		}
	}
	return readable, nil
}

// disk decodes all chunks, and checks the tables' checksums, and that of the stored bytes
// where it is a CRC-32: these are summed as they are fetched, and the rest of them then.
func (v *verifier) disk() error {
	im := v.im
	before := v.done
	p := pipeline{
		e:       &im.engine,
		to:      im.size,
		workers: v.o.Workers,
		damaged: v.damaged,
		onePass: true,
		data:    func(int64, []byte) error { return nil },
		zeros:   func(context.Context, int64, int64) error { return nil },
		progress: func(done, _ int64) {
			if v.stored != nil {
				v.countTo(done, v.stored.n.Load())
			} else {
				v.countTo(done, before)
			}
		},
		sums:   im.newTableSums(0, im.size),
		stored: v.stored,
	}
	if _, err := p.run(v.ctx); err != nil {
		return err
	}
	if v.fork != nil {
		if err := v.restOfFork(); err != nil {
			return err
		}
	}
	for t, i := range im.order {
		if i < 0 {
			c := &check{err: ChecksumError{Part: fmt.Sprintf("block table %d %q", t, im.tables[t].name), Partition: -1}}
			v.result(c, c.result(false))
		}
	}
	return p.sums.results(func(_ int, c *check, err error) error {
		v.result(c, err)
		return nil
	})
}

// restOfFork sums what no worker has fetched of the data fork, and compares the sum.
func (v *verifier) restOfFork() error {
	v.countTo(v.im.size, v.stored.n.Load())
	readable, err := v.readStored(v.stored.rest(), func(b []byte, off int64) { v.stored.add(b, off) })
	if err != nil {
		return err
	}
	z := v.fork.crc()
	z.sum, v.fork.any = v.stored.sum.sum.Load(), v.stored.to > v.stored.from
	v.result(v.fork, v.fork.result(readable))
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
	v.result(c, c.result(known))
	return nil
}

// overlapping returns for each of the spans, which are sorted, whether it shares bytes
// with another.
func overlapping(spans []span) []bool {
	shared := make([]bool, len(spans))
	last := -1 // the one that ends last of those before
	for i, p := range spans {
		if p.from == p.to {
			continue
		}
		if last >= 0 && p.from < spans[last].to {
			// Whatever else i shares bytes with shares bytes with last, too.
			shared[i], shared[last] = true, true
		}
		if last < 0 || p.to > spans[last].to {
			last = i
		}
	}
	return shared
}

// partLabel names a partition in an error.
func (im *Image) partLabel(i int) string {
	if name := im.partitions[i].Name; name != "" {
		return fmt.Sprintf("partition %d %q", i, name)
	}
	return fmt.Sprintf("partition %d", i)
}

// Signature is the code signature of an image: what is signed, under which name, and by whom as
// it says of itself. Nothing of it is trusted: anyone can sign anything with certificates of any
// name, and this package does not ask who issued them. [Image.Signature] returns it.
type Signature struct {
	Identifier string // the name under which the image was signed
	TeamID     string // Apple's for the developer, such as "HX7739G8FX"; may be empty
	Flags      uint32 // as codesign shows them: 2 is an ad hoc signature, without certificates

	// Hash is the algorithm of the hashes, such as "SHA-256". CDHash is the hash of the code
	// directory, in which they are, cut to 20 bytes, as codesign shows it: it stands for the
	// image in a notarization ticket. If there are several code directories, these are of
	// the one of the strongest hash, by which macOS goes.
	Hash   string
	CDHash Digest

	// Certificates are those that the signature holds, the signer's first. One that crypto/x509
	// can't parse is missing.
	Certificates []*x509.Certificate

	SigningTime time.Time // when the signer says it was; zero if it doesn't say

	// Ticket is the notarization ticket that stapler has attached, as Apple's servers issued
	// it; nil if there is none, which does not mean that the image isn't notarized. Nothing
	// checks it.
	Ticket []byte

	Offset, Length int64 // the signature's place, in bytes of the image's file without encryption

	im        *Image
	super     *codesign.Superblob
	directory *codesign.Directory
	cms       *codesign.CMS
}

// Signature returns the image's code signature, and nil if it has none. It reads no more of the
// image than the signature.
//
// The error is [ErrFormat] if the signature is damaged, [ErrUnsupported] if it uses what this
// package doesn't read, or the source's. Signature is safe for concurrent use.
func (im *Image) Signature() (*Signature, error) {
	k := im.koly
	if k == nil || k.signature.length == 0 || !k.signature.within(im.plain.size) {
		return nil, nil
	}
	off, length := int64(k.signature.off), int64(k.signature.length)
	r := io.NewSectionReader(im.plain.r, off, length)
	magic := make([]byte, min(4, length))
	if _, err := readat.Full(r, magic, 0); err != nil {
		return nil, err
	}
	// Before there were signatures, the trailer had garbage where it now says where one is.
	if !codesign.IsSuperblob(magic) && off+length != k.at() {
		return nil, nil
	}
	s := &Signature{Offset: off, Length: length, im: im}
	if err := s.read(r); err != nil {
		return nil, signatureError(err)
	}
	return s, nil
}

// read reads the signature in r.
func (s *Signature) read(r io.ReaderAt) (err error) {
	if s.super, err = codesign.Open(r, s.Length); err != nil {
		return err
	}
	if s.directory, err = s.super.Directory(); err != nil {
		return err
	}
	hash, err := s.directory.CDHash()
	if err != nil {
		return err
	}
	s.Identifier, s.TeamID, s.Flags = s.directory.Identifier, s.directory.TeamID, s.directory.Flags
	s.Hash, s.CDHash = s.directory.HashType.String(), hash
	if s.Ticket, err = s.super.Content(codesign.SlotTicket); err != nil {
		return err
	}
	if s.cms, err = s.super.CMS(); err != nil || s.cms == nil {
		return err
	}
	s.Certificates, s.SigningTime = slices.Clone(s.cms.Certificates), s.cms.SigningTime
	return nil
}

// VerifyContent compares the image's file, and what the signature holds besides, with the hashes
// in the signature. If there are certificates, it also checks that the key of the signer's has
// signed these hashes. It returns nil if all of that is right: then nobody has changed the image
// since it was signed.
//
// VerifyContent does not say who signed the image, because it trusts no certificate. To find that
// out, verify Certificates against a root that you trust, by [x509.Certificate.Verify], for the
// time of signing.
//
// The error is a [*ChecksumError] or another [ErrChecksum] if something does not match,
// [ErrFormat] if the signature does not cover all of the image, and [ErrUnsupported] if it uses
// what this package can't check. VerifyContent reads the whole file, and stops when ctx is done,
// or at an error of the source. It is safe for concurrent use.
func (s *Signature) VerifyContent(ctx context.Context) error {
	im := s.im
	if limit := s.directory.CodeLimit; limit != s.Offset || s.Offset+s.Length != im.koly.at() {
		return &FormatError{Section: "code signature", Msg: fmt.Sprintf("it covers %d bytes of the image, and lies at %d to %d before a trailer at %d: something is not signed", limit, s.Offset, s.Offset+s.Length, im.koly.at())}
	}
	// It was signed while the trailer had its place, but no length.
	trailer := im.koly.raw
	clear(trailer[0x130:0x138])
	buf, giveBack := im.readBuffer()
	defer giveBack()
	err := s.super.VerifyContent(ctx, s.directory, im.plain.r, map[uint32][]byte{codesign.SlotTrailer: trailer[:]}, buf)
	if err == nil && s.cms != nil {
		err = s.super.VerifyCMS(s.cms, s.directory)
	}
	return signatureError(err)
}

// signatureError gives an error of package codesign its class here.
func signatureError(err error) error {
	var bad *codesign.Error
	var mismatch *codesign.Mismatch
	switch {
	case errors.As(err, &bad):
		return &FormatError{Section: "code signature", Offset: bad.Offset, Msg: bad.Msg}
	case errors.As(err, &mismatch):
		return &ChecksumError{"code signature's " + mismatch.Part, -1, mismatch.HashType.String(), mismatch.Want, mismatch.Got}
	case errors.Is(err, codesign.ErrCMS):
		return &classError{ErrChecksum, err}
	case errors.Is(err, codesign.ErrUnsupported):
		return &classError{ErrUnsupported, err}
	}
	return err
}

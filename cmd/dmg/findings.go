package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-dmg/dmg"
)

// A findings collects what Verify finds, part by part. It keeps a bounded number of
// places, however many chunks are damaged.
type findings struct {
	parts   []part         // in the order in which Verify checks them
	index   map[string]int // of the parts that are no partitions, by label
	first   int            // part of partition 0
	tables  bool           // the partitions are block tables: a chunk says which one it is in
	defects []error        // found when the image was opened

	sums        int                  // that don't hold
	losses      [numLosses]lossTally // chunks that can't be read, by the reason
	unsupported []string             // methods, the first few

	// eachChunk, if not nil, is called for every chunk that can't be read.
	eachChunk func(dmg.Chunk)
}

// A lossTally adds up chunks, which come in disk order.
type lossTally struct {
	chunks, places int
	bytes          int64
	kept           []lostRange // the first places
	last           dmg.Chunk   // that was added
	others         diskRange   // from the first place that is not kept to the end of the last
}

// maxRanges is how many places of each kind are listed.
const maxRanges = 1000

// A lossKind is why a chunk could not be read.
type lossKind int

const (
	lossDamage lossKind = iota
	lossCodec           // its compression is not supported: nothing is known to be wrong
	numLosses
)

// A lostRange is a run of the disk that can't be read, of one chunk or of neighbours
// that are stored by the same method.
type lostRange struct {
	diskRange
	chunks int
	method dmg.Method
	err    error // of the first chunk
}

// A part is what may have a checksum of its own.
type part struct {
	label, name string
	at          diskRange
	stored      bool               // a checksum is
	wrong       *dmg.ChecksumError // that does not hold
	lost        [numLosses]bool    // it has chunks that can't be read
}

// Labels of parts that are no partitions.
const (
	dataFork  = "data fork"
	master    = "master"
	wholeDisk = "disk"
)

// newFindings lists the parts of the image, and what was wrong when it was opened.
func newFindings(im *dmg.Image) *findings {
	f := newFindingsOf(im.Partitions(), im.Checksums(), im.Size(), slices.Contains(im.Layers(), "UDIF"))
	f.defects = defectsOf(im)
	return f
}

// newFindingsOf lists the parts of a disk. The data fork and the master checksum are
// parts only where the image stores one. A disk without block tables is one part,
// with the entries of its partition table besides.
func newFindingsOf(partitions []dmg.Partition, sums []dmg.Checksum, size int64, tables bool) *findings {
	f := &findings{index: make(map[string]int), tables: tables}
	stored := func(label string) bool {
		return slices.ContainsFunc(sums, func(s dmg.Checksum) bool { return s.Partition < 0 && s.Part == label })
	}
	if stored(dataFork) {
		f.addPart(part{label: dataFork, stored: true})
	}
	if !tables || len(partitions) == 0 {
		f.addPart(part{label: wholeDisk, at: diskRange{0, size}})
	}
	f.first = len(f.parts)
	for i, p := range partitions {
		f.parts = append(f.parts, part{label: strconv.Itoa(i), name: partitionName(p.Name), at: diskRange{p.Offset, p.Length}})
	}
	if stored(master) {
		f.addPart(part{label: master, stored: true})
	}
	for _, s := range sums {
		if s.Partition >= 0 {
			f.partition(s.Partition).stored = true
		}
	}
	return f
}

func (f *findings) addPart(p part) {
	f.index[p.label] = len(f.parts)
	f.parts = append(f.parts, p)
}

// partition returns the part that is the partition.
func (f *findings) partition(i int) *part { return &f.parts[f.first+i] }

// named returns the part of that label, or nil.
func (f *findings) named(label string) *part {
	i, ok := f.index[label]
	if !ok {
		return nil
	}
	return &f.parts[i]
}

// add takes an error of Verify, and all that it joins. It returns the first that is
// none of the image, which says why the image could not be verified.
func (f *findings) add(err error) error {
	switch e := err.(type) {
	case nil:
	case *dmg.ChecksumError:
		f.addSum(e)
	case *dmg.ChunkError:
		if !isDamage(e) {
			return e
		}
		f.addChunk(e)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if err := f.add(err); err != nil {
				return err
			}
		}
	default:
		return err
	}
	return nil
}

// addSum takes a checksum that does not hold, or that can't be computed because a
// chunk can't be read; then the chunk tells.
func (f *findings) addSum(e *dmg.ChecksumError) {
	if e.Got == nil {
		return
	}
	f.sums++
	p := f.named(e.Part)
	if e.Partition >= 0 {
		p = f.partition(e.Partition)
	}
	if p != nil {
		p.wrong = e
	}
}

// addChunk takes a chunk that can't be read. A large one may be damaged in several
// places, and counts once.
func (f *findings) addChunk(e *dmg.ChunkError) {
	kind := lossDamage
	if errors.Is(e, dmg.ErrUnsupported) {
		kind = lossCodec
		f.addMethod(e.Chunk.Method.String())
	}
	c := e.Chunk
	if !f.losses[kind].add(c, e.Err) {
		return
	}
	if c.Partition >= 0 {
		f.partition(c.Partition).lost[kind] = true
	}
	if f.eachChunk != nil {
		f.eachChunk(c)
	}
}

// add adds a chunk, to the last place if they are neighbours. It returns false if it
// was the last one already.
func (l *lossTally) add(c dmg.Chunk, err error) bool {
	if l.chunks > 0 && l.last == c {
		return false
	}
	joins := l.chunks > 0 && l.last.Offset+l.last.Length == c.Offset && l.last.Method == c.Method
	l.last = c
	l.chunks++
	l.bytes += c.Length
	if !joins {
		l.places++
	}
	switch n := len(l.kept); {
	case joins && n == l.places:
		l.kept[n-1].length += c.Length
		l.kept[n-1].chunks++
	case n < maxRanges:
		l.kept = append(l.kept, lostRange{diskRange{c.Offset, c.Length}, 1, c.Method, err})
	case l.others.length == 0:
		l.others = diskRange{c.Offset, c.Length}
	default:
		l.others.length = c.Offset + c.Length - l.others.off
	}
	return true
}

// touches reports whether some of a range of the disk can't be read, as far as places
// are kept.
func (l *lossTally) touches(r diskRange) bool {
	overlaps := func(lost diskRange) bool { return lost.off < r.end() && r.off < lost.end() }
	return overlaps(l.others) || slices.ContainsFunc(l.kept, func(k lostRange) bool { return overlaps(k.diskRange) })
}

// addMethod keeps a method that is not supported.
func (f *findings) addMethod(name string) {
	if len(f.unsupported) <= maxMethods && !slices.Contains(f.unsupported, name) {
		f.unsupported = append(f.unsupported, name)
	}
}

// lostIn reports whether a part has chunks that can't be read for such a reason. Where
// there are no block tables, the chunks' places tell.
func (f *findings) lostIn(p *part, kind lossKind) bool {
	return p.lost[kind] || (!f.tables || p.label == wholeDisk) && f.losses[kind].touches(p.at)
}

// count is how many findings there are.
func (f *findings) count() int {
	return f.sums + f.losses[lossDamage].chunks + f.losses[lossCodec].chunks + len(f.defects)
}

// isDamaged reports whether anything is wrong.
func (f *findings) isDamaged() bool { return f.sums+f.losses[lossDamage].chunks+len(f.defects) > 0 }

// String says how much is wrong, or else how much is not supported.
func (f *findings) String() string {
	unknown := plural(f.losses[lossCodec].chunks, "chunk") + " not checked"
	if !f.isDamaged() {
		return unknown + ": compression not supported (" + f.methods() + ")"
	}
	s := "damaged: " + plural(f.sums, "wrong checksum") + ", " + plural(f.losses[lossDamage].chunks, "unreadable chunk")
	if n := len(f.defects); n > 0 {
		s += ", " + plural(n, "defect")
	}
	if f.losses[lossCodec].chunks > 0 {
		s += ", " + unknown
	}
	return s
}

// methods lists the methods that are not supported.
func (f *findings) methods() string {
	s := strings.Join(f.unsupported[:min(maxMethods, len(f.unsupported))], ", ")
	if len(f.unsupported) > maxMethods {
		s += ", …"
	}
	return s
}

// err is the error that a command ends with after it has told of the findings; nil
// if there are none, or nobody has looked.
func (f *findings) err(image string) error {
	switch {
	case f == nil || f.count() == 0:
		return nil
	case f.isDamaged():
		return fmt.Errorf("%s: %v", image, f)
	}
	return &unsupportedError{image + ": " + f.String()}
}

// unsupportedError says what could not be checked. It Is dmg.ErrUnsupported.
type unsupportedError struct{ text string }

func (e *unsupportedError) Error() string        { return e.text }
func (e *unsupportedError) Is(target error) bool { return target == dmg.ErrUnsupported }

// Results of parts in which nothing is wrong.
const (
	good     = "good"
	readOnly = "readable, no checksum stored"
)

// result says how a part fared. Of a partition without a checksum, that of the data
// fork tells: it is over all bytes that the image stores.
func (f *findings) result(p *part) string {
	fork := f.named(dataFork)
	switch {
	case f.lostIn(p, lossDamage):
		return "damaged"
	case p.wrong != nil:
		return fmt.Sprintf("wrong: %s is %x, stored is %x", p.wrong.Algorithm, p.wrong.Got, p.wrong.Want)
	case f.lostIn(p, lossCodec):
		return "not checked: compression not supported"
	case p.stored, fork != nil && fork.wrong == nil:
		return good
	}
	return readOnly
}

// isBad reports whether something is wrong with a partition.
func (f *findings) isBad(partition int) bool {
	p := f.partition(partition)
	return f.lostIn(p, lossDamage) || p.wrong != nil
}

// lines returns a line for each defect and each range that can't be read, at most the
// first few of each kind, and says how many more there are.
func (f *findings) lines() []string {
	var lines []string
	for _, err := range f.defects {
		lines = append(lines, "damaged: "+oneLine(err))
	}
	for kind, word := range [numLosses]string{"lost", "not checked"} {
		l := &f.losses[kind]
		for _, r := range l.kept {
			lines = append(lines, word+": "+r.String())
		}
		if n := l.places - len(l.kept); n > 0 {
			lines = append(lines, fmt.Sprintf("%s: and %s more; %d bytes in all", word, plural(n, "place"), l.bytes))
		}
	}
	return lines
}

// String returns the range's sectors, and why it can't be read.
func (r lostRange) String() string {
	s := fmt.Sprintf("sectors %d-%d (%v", r.off/sectorSize, max(r.off, r.end()-1)/sectorSize, r.method)
	if r.chunks > 1 {
		s += fmt.Sprintf(", %d chunks): the first: ", r.chunks)
	} else {
		s += "): "
	}
	return s + oneLine(r.err)
}

// verdict is what all of this comes to, in few words.
func (f *findings) verdict() string {
	unchecked := 0
	for i := range f.parts {
		if f.result(&f.parts[i]) == readOnly {
			unchecked++
		}
	}
	switch {
	case f.count() > 0:
		return f.String()
	case unchecked == 0:
		return "verified: no damage"
	case unchecked < len(f.parts):
		return "no damage found; some of it has no checksum"
	}
	return "readable; no checksum is stored"
}

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-dmg/dmg"
)

// A findings collects what Verify finds, part by part. It keeps a bounded number of
// ranges, however many are damaged.
type findings struct {
	parts   []part         // in the order in which Verify checks them
	index   map[string]int // of the parts that are no partitions, by label
	first   int            // part of partition 0
	tables  bool           // the partitions are block tables: a chunk says which one it is in
	defects []error        // found when the image was opened

	sums   int                   // that don't hold
	losses [numLosses]damageList // by what is wrong

	// compared are all checksums that were, if keepSums says so.
	keepSums bool
	compared []sumJSON
	// eachRange, if not nil, is called for every range that can't be read as it was.
	eachRange func(diskRange)
}

// A lossKind is in which way a range could not be read.
type lossKind int

const (
	isLost        lossKind = iota // nothing decodes there
	isDoubtful                    // no checksum confirms what decoded
	isUnsupported                 // its compression is: nothing is known to be wrong
	numLosses
)

// String returns the kind's name in JSON.
func (k lossKind) String() string {
	return [numLosses]string{"lost", "doubtful", "unsupported"}[k]
}

// kindOf returns the kind of a damaged range.
func kindOf(d dmg.Damage) lossKind {
	switch {
	case !d.Lost:
		return isDoubtful
	case errors.Is(d.Err, dmg.ErrUnsupported):
		return isUnsupported
	}
	return isLost
}

// A part is what may have a checksum of its own.
type part struct {
	label, name string
	at          diskRange
	stored      bool               // a checksum is
	wrong       *dmg.ChecksumError // that does not hold
	unknown     bool               // whether the checksum holds: some of the part can't be read
	damaged     [numLosses]bool    // it has such ranges
}

// Labels of parts that are no partitions.
const (
	dataFork  = "data fork"
	master    = "master"
	wholeDisk = "disk"
)

// newFindings lists the parts of the image, and what was wrong when it was opened.
func newFindings(im *dmg.Image) *findings {
	partitions, udif := im.Partitions(), slices.Contains(im.Layers(), "UDIF")
	if udif { // what else the disk's own partition table has lies inside of those with a block table
		partitions = slices.DeleteFunc(partitions, func(p dmg.Partition) bool { return !p.Table })
	}
	f := newFindingsOf(partitions, im.Checksums(), im.Size(), udif)
	f.defects = im.Defects()
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

// add takes a result of Verify.
func (f *findings) add(r dmg.VerifyResult) {
	if r.Damage != nil {
		f.addDamage(*r.Damage)
		return
	}
	var wrong *dmg.ChecksumError
	errors.As(r.Err, &wrong)
	if wrong != nil {
		f.addSum(wrong)
	}
	if f.keepSums {
		f.compared = append(f.compared, newSumJSON(r.Checksum, wrong))
	}
}

// addSum takes a checksum that does not hold, or that can't be computed because some
// of its part can't be read; then that tells.
func (f *findings) addSum(e *dmg.ChecksumError) {
	p := f.named(e.Part)
	if e.Partition >= 0 {
		p = f.partition(e.Partition)
	}
	if p == nil {
		p = new(part) // a block table that can't be read
	}
	if e.Got == nil {
		p.unknown = true
		return
	}
	p.wrong = e
	f.sums++
}

// addDamage takes a range that can't be read as it was.
func (f *findings) addDamage(d dmg.Damage) {
	kind := kindOf(d)
	r := newDamagedRange(d)
	var chunk *dmg.ChunkError
	if errors.As(d.Err, &chunk) {
		r.err = chunk.Err // the line says what chunk it is
		if chunk.Chunk.Partition >= 0 {
			f.partition(chunk.Chunk.Partition).damaged[kind] = true
		}
	}
	f.losses[kind].add(r)
	if f.eachRange != nil {
		f.eachRange(r.diskRange)
	}
}

// isIn reports whether a part has ranges of such a kind. Where there are no block
// tables, the ranges' places tell.
func (f *findings) isIn(p *part, kind lossKind) bool {
	return p.damaged[kind] || (!f.tables || p.label == wholeDisk) && f.losses[kind].touches(p.at)
}

// isDamagedIn reports whether something in a part can't be read as it was.
func (f *findings) isDamagedIn(p *part) bool { return f.isIn(p, isLost) || f.isIn(p, isDoubtful) }

// any reports whether anything was found.
func (f *findings) any() bool { return f.isDamaged() || f.losses[isUnsupported].places() > 0 }

// isDamaged reports whether anything is wrong.
func (f *findings) isDamaged() bool {
	return f.sums+len(f.defects)+f.losses[isLost].places()+f.losses[isDoubtful].places() > 0
}

// String says how much is wrong, or else how much is not supported.
func (f *findings) String() string {
	unknown := plural(f.losses[isUnsupported].bytes(), "byte") + " not checked"
	if !f.isDamaged() {
		return unknown + ": unsupported compression (" + f.methods() + ")"
	}
	var all []string
	if f.sums > 0 {
		all = append(all, plural(f.sums, "wrong checksum"))
	}
	for _, kind := range []lossKind{isLost, isDoubtful} {
		if n := f.losses[kind].bytes(); n > 0 {
			all = append(all, plural(n, "byte")+" "+kind.String())
		}
	}
	if n := len(f.defects); n > 0 {
		all = append(all, plural(n, "defect"))
	}
	if f.losses[isUnsupported].places() > 0 {
		all = append(all, unknown)
	}
	return "damaged: " + strings.Join(all, ", ")
}

// methods lists the first methods on the disk that are not supported.
func (f *findings) methods() string {
	var all []string
	ranges, _ := f.losses[isUnsupported].listed()
	for i := range ranges {
		if name := ranges[i].method; !slices.Contains(all, name) {
			all = append(all, name)
		}
		if len(all) > maxMethods {
			all[maxMethods] = "…"
			break
		}
	}
	return strings.Join(all, ", ")
}

// err is the error that a command ends with after it has told of the findings; nil
// if there are none, or nobody has looked.
func (f *findings) err(image string) error {
	switch {
	case f == nil || !f.any():
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
	case f.isDamagedIn(p):
		return "damaged"
	case p.wrong != nil:
		return fmt.Sprintf("wrong: %s is %x, stored is %x", p.wrong.Algorithm, p.wrong.Got, p.wrong.Want)
	case f.isIn(p, isUnsupported):
		return "not checked: compression not supported"
	case p.unknown:
		return "can't be checked: some of it is damaged"
	case p.stored, fork != nil && fork.wrong == nil && !fork.unknown:
		return good
	}
	return readOnly
}

// isBad reports whether something is wrong with a partition.
func (f *findings) isBad(partition int) bool {
	p := f.partition(partition)
	return f.isDamagedIn(p) || p.wrong != nil
}

// lines returns a line for each defect and each range that can't be read, at most the
// first few of each kind, and says how many more there are.
func (f *findings) lines() []string {
	var lines []string
	for _, err := range f.defects {
		lines = append(lines, "damaged: "+oneLine(err))
	}
	for kind, word := range [numLosses]string{"lost", "doubtful", "not checked"} {
		ranges, more := f.losses[kind].listed()
		for i := range ranges {
			lines = append(lines, word+": "+rangeLine(&ranges[i]))
		}
		if more > 0 {
			lines = append(lines, fmt.Sprintf("%s: and %s more; %d bytes in all", word, plural(more, "range"), f.losses[kind].bytes()))
		}
	}
	return lines
}

// rangeLine returns the range's sectors, and why it can't be read.
func rangeLine(r *damagedRange) string {
	s := r.sectors()
	switch {
	case r.method == "":
		s += ": "
	case r.chunks > 1:
		s += fmt.Sprintf(" (%s, %d chunks): the first: ", r.method, r.chunks)
	default:
		s += " (" + r.method + "): "
	}
	return s + oneLine(r.err)
}

// unchecked is how many parts have no checksum.
func (f *findings) unchecked() int {
	n := 0
	for i := range f.parts {
		if f.result(&f.parts[i]) == readOnly {
			n++
		}
	}
	return n
}

// verdict is what all of this comes to, in few words.
func (f *findings) verdict() string {
	unchecked := f.unchecked()
	switch {
	case f.any():
		return f.String()
	case unchecked == 0:
		return "verified: no damage"
	case unchecked < len(f.parts):
		return "no damage found; some of it has no checksum"
	}
	return "readable; no checksum is stored"
}

// sumJSON is a checksum as scripts get it.
type sumJSON struct {
	Part      string  `json:"part"`
	Partition int     `json:"partition"` // -1 for what is no partition
	Algorithm string  `json:"algorithm"`
	Stored    string  `json:"stored"`   // hexadecimal
	Computed  *string `json:"computed"` // null if it can't be
	Good      bool    `json:"good"`
}

// newSumJSON describes a checksum that was compared. wrong is nil if it holds.
func newSumJSON(c *dmg.Checksum, wrong *dmg.ChecksumError) sumJSON {
	j := sumJSON{c.Part, c.Partition, c.Algorithm, hex.EncodeToString(c.Sum), nil, wrong == nil}
	switch {
	case wrong == nil:
		j.Computed = &j.Stored
	case wrong.Got != nil:
		got := hex.EncodeToString(wrong.Got)
		j.Computed = &got
	}
	return j
}

// verifyJSON is what was found in an image as scripts get it.
type verifyJSON struct {
	Image          string      `json:"image"`
	Result         string      `json:"result"` // good, readable, damaged, unsupported or error
	Status         int         `json:"status"` // the exit status for it
	Checksums      []sumJSON   `json:"checksums"`
	WrongChecksums int         `json:"wrong_checksums"`
	Lost           int64       `json:"lost"` // bytes of the disk, as the next two
	Doubtful       int64       `json:"doubtful"`
	Unsupported    int64       `json:"unsupported"`
	Ranges         []rangeJSON `json:"ranges"`
	MoreRanges     int         `json:"more_ranges"` // that are not listed
	Defects        []string    `json:"defects"`     // found when the image was opened
	Error          string      `json:"error,omitempty"`
}

// newVerifyJSON describes what was found, or the error that kept it from being found.
func newVerifyJSON(image string, f *findings, err error) verifyJSON {
	v := verifyJSON{Image: image, Checksums: []sumJSON{}, Ranges: []rangeJSON{}, Defects: []string{}}
	if err != nil {
		v.Result, v.Error = "error", oneLine(err)
		return v
	}
	v.Result = good
	switch {
	case f.isDamaged():
		v.Result = "damaged"
	case f.any():
		v.Result = isUnsupported.String()
	case f.unchecked() > 0:
		v.Result = "readable"
	}
	v.Checksums = append(v.Checksums, f.compared...)
	v.WrongChecksums = f.sums
	v.Lost, v.Doubtful, v.Unsupported = f.losses[isLost].bytes(), f.losses[isDoubtful].bytes(), f.losses[isUnsupported].bytes()
	for kind := range numLosses {
		ranges, more := f.losses[kind].listed()
		for i := range ranges {
			v.Ranges = append(v.Ranges, rangeJSON{kind.String(), ranges[i].off, ranges[i].length, oneLine(ranges[i].err)})
		}
		v.MoreRanges += more
	}
	for _, err := range f.defects {
		v.Defects = append(v.Defects, oneLine(err))
	}
	return v
}

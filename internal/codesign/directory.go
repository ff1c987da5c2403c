package codesign

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
)

// Directory is a code directory: what is signed, by its hashes, and under which name.
type Directory struct {
	Raw        []byte // the whole blob
	Version    uint32 // such as 0x20400
	Flags      uint32 // as codesign shows them: 2 is ad hoc, 0x10000 the hardened runtime
	Identifier string
	TeamID     string // empty if the directory has none
	HashType   HashType
	PageSize   int64 // bytes that a hash covers; 0 if one covers all
	CodeLimit  int64 // bytes from the start of what is signed that the hashes cover

	scatter  bool
	hashSize int
	hashes   int64 // offset in Raw of the first page's hash; those of special slots lie before it
	special  int64 // how many of these
	code     int64 // pages
}

// HashType is the kind of hash that a code directory has.
type HashType uint8

// hashTypes are the kinds by their numbers. Hashes longer than size are cut.
var hashTypes = []struct {
	name string
	size int
	make func() hash.Hash
	rank int
}{
	1: {"SHA-1", sha1.Size, sha1.New, 1},
	2: {"SHA-256", sha256.Size, sha256.New, 3},
	3: {"SHA-256 truncated", sha1.Size, sha256.New, 2},
	4: {"SHA-384", sha512.Size384, sha512.New384, 4},
	5: {"SHA-512", sha512.Size, sha512.New, 5},
}

// String returns the hash's usual name.
func (t HashType) String() string {
	if t.known() {
		return hashTypes[t].name
	}
	return fmt.Sprintf("hash type %d", uint8(t))
}

func (t HashType) known() bool { return t > 0 && int(t) < len(hashTypes) }

// rank orders kinds of hashes, the weakest first.
func (t HashType) rank() int {
	if t.known() {
		return hashTypes[t].rank
	}
	return 0
}

// new returns a new hash, or ErrUnsupported if it isn't known or may not be used: with
// GODEBUG=fips140=only, SHA-1 panics.
func (t HashType) new() (h hash.Hash, err error) {
	if !t.known() {
		return nil, fmt.Errorf("%w %v", ErrUnsupported, t)
	}
	defer func() {
		if recover() != nil {
			h, err = nil, fmt.Errorf("%w: %v may not be used in this program", ErrUnsupported, t)
		}
	}()
	h = hashTypes[t].make()
	h.Write([]byte{0})
	h.Sum(nil) // which is what panics
	h.Reset()
	return h, nil
}

// maxSpecial is the last special slot that a hash is looked for. The system has 11.
const maxSpecial = 64

// Lengths of a code directory's head by its version. Later versions have what earlier ones
// have.
const (
	minHead     = 44 // 0x20001
	scatterHead = 48 // 0x20100
	teamHead    = 52 // 0x20200
	limitHead   = 64 // 0x20300
)

// parseDirectory reads the head and the names of a code directory that begins with data, at
// byte at of the superblob.
func parseDirectory(data []byte, at int64) (*Directory, error) {
	if len(data) < minHead {
		return nil, &Error{at, "a code directory shorter than its head"}
	}
	u32 := func(off int) uint32 { return binary.BigEndian.Uint32(data[off:]) }
	d := &Directory{
		Raw: data, Version: u32(8), Flags: u32(12),
		hashes: int64(u32(16)), special: int64(u32(24)), code: int64(u32(28)),
		CodeLimit: int64(u32(32)), hashSize: int(data[36]), HashType: HashType(data[37]),
	}
	// From 0x20001 on the head is this one, and 0x2F000 is where Apple says that it ends to be.
	if d.Version < 0x20001 || d.Version >= 0x2F000 {
		return nil, fmt.Errorf("%w code directory of version %#x", ErrUnsupported, d.Version)
	}
	switch shift := data[39]; {
	case shift > 31:
		return nil, &Error{at + 39, fmt.Sprintf("pages of 2^%d bytes", shift)}
	case shift > 0:
		d.PageSize = 1 << shift
	}
	team := uint32(0)
	if d.Version >= 0x20100 && len(data) >= scatterHead {
		d.scatter = u32(44) != 0
	}
	if d.Version >= 0x20200 && len(data) >= teamHead {
		team = u32(48)
	}
	if d.Version >= 0x20300 && len(data) >= limitHead {
		if limit := binary.BigEndian.Uint64(data[56:]); limit > 1<<62 {
			return nil, &Error{at + 56, fmt.Sprintf("a code limit of %d", limit)}
		} else if limit > 0 {
			d.CodeLimit = int64(limit)
		}
	}
	var err error
	if d.Identifier, err = stringAt(data, u32(20), at+20); err != nil {
		return nil, err
	}
	if team > 0 {
		d.TeamID, err = stringAt(data, team, at+48)
	}
	return d, err
}

// stringAt returns the string that ends in a zero. at is the place of its offset, for errors.
func stringAt(data []byte, off uint32, at int64) (string, error) {
	if uint64(off) >= uint64(len(data)) {
		return "", &Error{at, "a name outside the code directory"}
	}
	s, _, ok := bytes.Cut(data[off:], []byte{0})
	if !ok {
		return "", &Error{at, "a name without an end"}
	}
	return string(s), nil
}

// checkHashes checks that the hashes are in the directory.
func (d *Directory) checkHashes(at int64) error {
	if d.HashType.known() && d.hashSize != hashTypes[d.HashType].size {
		return &Error{at + 36, fmt.Sprintf("hashes of %d bytes, which %v does not make", d.hashSize, d.HashType)}
	}
	if d.special > maxSpecial {
		return &Error{at + 24, fmt.Sprintf("%d special slots, more than %d", d.special, maxSpecial)}
	}
	size := int64(d.hashSize)
	if d.hashes < minHead || d.special > (d.hashes-minHead)/max(1, size) || d.hashes > int64(len(d.Raw)) || d.code > (int64(len(d.Raw))-d.hashes)/max(1, size) {
		return &Error{at + 16, "hashes outside the code directory"}
	}
	pages := min(1, d.CodeLimit)
	if d.PageSize > 0 {
		pages = (d.CodeLimit + d.PageSize - 1) / d.PageSize
	}
	if d.code != pages {
		return &Error{at + 28, fmt.Sprintf("%d hashes of pages, where there are %d pages", d.code, pages)}
	}
	return nil
}

// hash returns the hash of a page, or that of a special slot, whose number is negative.
func (d *Directory) hash(i int64) []byte {
	off := d.hashes + i*int64(d.hashSize)
	return d.Raw[off : off+int64(d.hashSize)]
}

// specialHash returns the hash of a special slot, nil if there is none.
func (d *Directory) specialHash(slot int64) []byte {
	if slot > d.special {
		return nil
	}
	h := d.hash(-slot)
	if !slices.ContainsFunc(h, func(c byte) bool { return c != 0 }) {
		return nil
	}
	return h
}

// CDHash returns the hash of the directory itself as codesign shows it: 20 bytes. It
// identifies what is signed, and is what a notarization ticket is for.
func (d *Directory) CDHash() ([]byte, error) {
	h, err := d.HashType.new()
	if err != nil {
		return nil, err
	}
	h.Write(d.Raw)
	return h.Sum(nil)[:sha1.Size], nil
}

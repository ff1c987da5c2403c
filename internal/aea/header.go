package aea

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/readat"
)

// Profiles: how the input of the key schedule comes about, and whether the archive is
// signed.
const (
	profileSigned          = 0 // nothing is encrypted; the input stands in the file
	profileKey             = 1
	profileKeySigned       = 2
	profileRecipient       = 3
	profileRecipientSigned = 4
	profilePassword        = 5
)

// Lengths in bytes.
const (
	fixedLen     = 12 // magic, profile, strength, length of the auth data
	pointLen     = 65 // a point of P-256, uncompressed
	inputLen     = 32 // what the file holds in profile 0
	saltLen      = 32
	macLen       = 32
	rootLen      = 48
	signatureLen = 128

	maxAuthData = 1 << 20 // Apple's have a few kilobytes
	minSegment  = 16 << 10
	minSegments = 32 // of a cluster
)

// Checksums of segments.
const (
	sumNone   = 0
	sumMurmur = 1
	sumSHA256 = 2
)

// prologue is what stands before the clusters.
type prologue struct {
	raw       []byte // all of it
	profile   uint32
	strength  byte // of scrypt
	auth      []byte
	signature []byte // with its MAC, where it is encrypted; nil if the profile has none
	public    []byte // the input or the sender's public key; nil if the profile has none
	salt      []byte
	rootMAC   []byte
	root      []byte
	firstMAC  []byte // of the first cluster's header
}

func (p *prologue) signed() bool {
	return p.profile == profileSigned || p.profile == profileKeySigned || p.profile == profileRecipientSigned
}

func (p *prologue) encrypted() bool { return p.profile != profileSigned }

// headerError is a FormatError of the prologue.
func headerError(off int64, format string, args ...any) error {
	return &FormatError{"header", off, fmt.Sprintf(format, args...)}
}

// parsePrologue reads the prologue. Nothing of it has been authenticated.
func parsePrologue(r io.ReaderAt, size int64) (*prologue, error) {
	if size < fixedLen {
		return nil, headerError(0, "cut off: the file has %d bytes", size)
	}
	var fixed [fixedLen]byte
	if _, err := readat.Full(r, fixed[:], 0); err != nil {
		return nil, err
	}
	word := binary.LittleEndian.Uint32(fixed[4:])
	p := &prologue{profile: word & 0xFFFFFF, strength: fixed[7]}
	if p.profile > profilePassword {
		return nil, fmt.Errorf("%w: profile %d", ErrUnsupported, p.profile)
	}
	if p.strength > maxStrength {
		return nil, fmt.Errorf("%w: scrypt strength %d", ErrUnsupported, p.strength)
	}
	auth := binary.LittleEndian.Uint32(fixed[8:])
	if auth > maxAuthData {
		return nil, headerError(8, "auth data of %d bytes, more than %d", auth, maxAuthData)
	}
	sig, public := 0, 0
	switch p.profile {
	case profileSigned:
		sig, public = signatureLen, inputLen
	case profileKeySigned:
		sig = signatureLen + macLen
	case profileRecipient:
		public = pointLen
	case profileRecipientSigned:
		sig, public = signatureLen+macLen, pointLen
	}
	n := fixedLen + int(auth) + sig + public + saltLen + macLen + rootLen + macLen
	if int64(n) > size {
		return nil, headerError(8, "cut off: the header has %d bytes, the file %d", n, size)
	}
	p.raw = make([]byte, n)
	if _, err := readat.Full(r, p.raw, 0); err != nil {
		return nil, err
	}
	b := p.raw[fixedLen:]
	take := func(n int) []byte {
		v := b[:n:n]
		b = b[n:]
		return v
	}
	p.auth, p.signature, p.public = take(int(auth)), take(sig), take(public)
	p.salt, p.rootMAC, p.root, p.firstMAC = take(saltLen), take(macLen), take(rootLen), take(macLen)
	return p, nil
}

// geometry is where an archive has what, as its root header says.
type geometry struct {
	size       int64 // of the content
	segment    int64 // bytes of content of all segments but the last
	segments   int64 // of a cluster: its header has room for so many, also if there are fewer
	codec      byte
	sum        byte
	sumLen     int64
	first      int64 // the place of the first cluster
	end        int64 // of the archive, as the root header says
	have       int64 // of the archive in the file
	headerLen  int64 // of each cluster
	all        int64 // segments of the archive
	clusters   int64
	lastLength int64 // of the last segment's content
}

// parseRoot reads the root header, which is authentic. But firmware keys are public, and
// profile 0 has none, so that it may say anything: it is compared with the file's length
// before anything follows from it.
func parseRoot(p *prologue, fileSize int64) (*geometry, error) {
	at := int64(len(p.raw)) - macLen - rootLen
	size, end := binary.LittleEndian.Uint64(p.root), binary.LittleEndian.Uint64(p.root[8:])
	g := &geometry{
		segment:  int64(binary.LittleEndian.Uint32(p.root[16:])),
		segments: int64(binary.LittleEndian.Uint32(p.root[20:])),
		codec:    p.root[24],
		sum:      p.root[25],
		first:    int64(len(p.raw)),
	}
	switch {
	case size > math.MaxInt64:
		return nil, headerError(at, "content of %d bytes", size)
	case end > math.MaxInt64 || int64(end) < g.first:
		return nil, headerError(at+8, "archive of %d bytes", end)
	case g.segment < minSegment:
		return nil, headerError(at+16, "segments of %d bytes, fewer than %d", g.segment, minSegment)
	case g.segments < minSegments:
		return nil, headerError(at+20, "%d segments a cluster, fewer than %d", g.segments, minSegments)
	}
	switch g.sum {
	case sumNone:
	case sumMurmur:
		g.sumLen = 8
	case sumSHA256:
		g.sumLen = 32
	default:
		return nil, fmt.Errorf("%w: checksum %d", ErrUnsupported, g.sum)
	}
	g.size, g.end, g.have = int64(size), int64(end), min(int64(end), fileSize)
	g.headerLen = g.segments*(8+g.sumLen) + macLen + g.segments*macLen
	if g.size == 0 {
		return g, nil
	}
	g.all = (g.size-1)/g.segment + 1
	g.clusters = (g.all-1)/g.segments + 1
	g.lastLength = g.size - (g.all-1)*g.segment
	if room := g.end - g.first; g.clusters > room/g.headerLen {
		return nil, headerError(at, "content of %d bytes in %d clusters, whose headers have no room in an archive of %d bytes", g.size, g.clusters, g.end)
	}
	return g, nil
}

// plain returns how many bytes of content a segment has.
func (g *geometry) plain(segment int64) int64 {
	if segment == g.all-1 {
		return g.lastLength
	}
	return g.segment
}

// used returns how many segments a cluster has.
func (g *geometry) used(cluster int64) int64 {
	return min(g.segments, g.all-cluster*g.segments)
}

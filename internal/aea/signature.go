package aea

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
)

// signers returns the points that may be the signer's: of the public key that was given, or
// else of those that the auth data names. A signed shortcut has a binary property list with
// SigningCertificateChain, whose first certificate is the signer's, or SigningPublicKey.
func (p *prologue) signers(given crypto.PublicKey) (points [][]byte) {
	if point := pointOf(given); point != nil {
		return [][]byte{point}
	}
	for _, key := range []string{"SigningCertificateChain", "SigningPublicKey"} {
		data := bplistData(p.auth, key)
		if data == nil {
			continue
		}
		if cert, err := x509.ParseCertificate(data); err == nil {
			data = pointOf(cert.PublicKey)
		}
		if key, err := ecdh.P256().NewPublicKey(data); err == nil {
			points = append(points, key.Bytes())
		}
	}
	return points
}

// pointOf returns the point of a public key of P-256, nil of any other.
func pointOf(key crypto.PublicKey) []byte {
	if k, ok := key.(*ecdsa.PublicKey); ok && k != nil {
		e, err := k.ECDH()
		if err != nil {
			return nil
		}
		key = e
	}
	if k, ok := key.(*ecdh.PublicKey); ok && k != nil && k.Curve() == ecdh.P256() {
		return k.Bytes()
	}
	return nil
}

// verifySignature verifies the signature over the prologue: ECDSA with SHA-256, in DER,
// filled up with zeros. Of an archive that was not signed it is all zeros.
func (p *prologue) verifySignature(m *mainKey, signer []byte) error {
	at := fixedLen + len(p.auth)
	wrong := func(msg string) error { return &sumError{"signature", int64(at), msg} }
	sig := bytes.Clone(p.signature[:signatureLen])
	if m.encrypted {
		above, err := derive(m.key, nil, "AEA_SEK", keyLen)
		if err != nil {
			return err
		}
		k, err := newCryptKey(above, "AEA_SEK2", true)
		if err != nil {
			return err
		}
		if !k.verify(p.signature[signatureLen:], sig, nil) {
			return wrong("its MAC does not match")
		}
		if err := k.decrypt(sig); err != nil {
			return err
		}
	}
	if len(bytes.Trim(sig, "\x00")) == 0 {
		return nil
	}
	signed := bytes.Clone(p.raw)
	clear(signed[at : at+len(p.signature)])
	sum := sha256.Sum256(signed)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), signer)
	if err != nil {
		return err
	}
	if n := 2 + int(sig[1]); n <= len(sig) { // of P-256, one byte is enough for the length
		sig = sig[:n]
	}
	if !ecdsa.VerifyASN1(key, sum[:], sig) {
		return wrong("it is not the signer's over this header")
	}
	return nil
}

// bplistData returns what a binary property list has under a key of its root dictionary: the
// bytes, or of an array those of its first element. It is nil if there are none. It looks
// at that alone, and so takes no more time or memory than the list is long.
func bplistData(list []byte, key string) []byte {
	const trailerLen = 32
	if len(list) < 8+trailerLen || string(list[:6]) != "bplist" {
		return nil
	}
	t := list[len(list)-trailerLen:]
	b := bplist{data: list[:len(list)-trailerLen], offsetLen: int(t[6]), refLen: int(t[7]), objects: binary.BigEndian.Uint64(t[8:])}
	table := binary.BigEndian.Uint64(t[24:])
	if b.offsetLen < 1 || b.offsetLen > 8 || b.refLen < 1 || b.refLen > 8 || table > uint64(len(b.data)) ||
		b.objects > (uint64(len(b.data))-table)/uint64(b.offsetLen) {
		return nil
	}
	b.offsets = b.data[table:]
	kind, n, refs := b.object(binary.BigEndian.Uint64(t[16:]))
	if kind != bplistDict || uint64(n) > uint64(len(refs)/b.refLen/2) {
		return nil
	}
	for i := range n {
		if k, m, name := b.object(b.ref(refs, i)); k != bplistASCII || uint64(m) > uint64(len(name)) || string(name[:m]) != key {
			continue
		}
		kind, size, value := b.object(b.ref(refs, n+i))
		if kind == bplistArray && size > 0 && len(value) >= b.refLen {
			kind, size, value = b.object(b.ref(value, 0))
		}
		if kind == bplistBytes && uint64(size) <= uint64(len(value)) {
			return value[:size]
		}
	}
	return nil
}

// bplist is a binary property list whose trailer has been read.
type bplist struct {
	data              []byte // without the trailer
	offsets           []byte // of the objects
	offsetLen, refLen int
	objects           uint64
}

// Kinds of objects: the high half of their first byte.
const (
	bplistInt   = 0x1
	bplistBytes = 0x4
	bplistASCII = 0x5
	bplistArray = 0xA
	bplistDict  = 0xD
)

// ref returns the i-th object number in refs, which has so many.
func (b *bplist) ref(refs []byte, i int) uint64 { return bigEndian(refs[i*b.refLen : (i+1)*b.refLen]) }

// object returns an object's kind, its count, and what follows in the list; kind 0 if there is
// no such object. The count is no more than there are bytes in the list.
func (b *bplist) object(number uint64) (kind byte, n int, rest []byte) {
	if number >= b.objects {
		return 0, 0, nil
	}
	at := bigEndian(b.offsets[number*uint64(b.offsetLen):][:b.offsetLen])
	if at >= uint64(len(b.data)) {
		return 0, 0, nil
	}
	mark := b.data[at]
	rest = b.data[at+1:]
	count := uint64(mark & 15)
	if count == 15 { // an integer follows: its length is a power of two
		if len(rest) == 0 || rest[0]>>4 != bplistInt || rest[0]&15 > 3 || len(rest) < 1+1<<(rest[0]&15) {
			return 0, 0, nil
		}
		size := 1 << (rest[0] & 15)
		count = bigEndian(rest[1 : 1+size])
		rest = rest[1+size:]
	}
	if count > uint64(len(b.data)) {
		return 0, 0, nil
	}
	return mark >> 4, int(count), rest
}

// bigEndian returns a number of up to eight bytes.
func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

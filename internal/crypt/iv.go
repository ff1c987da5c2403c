package crypt

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding"
	"encoding/binary"
	"hash"
)

// ivMaker makes the initial vectors of blocks: HMAC-SHA1 (RFC 2104) of a block's
// number, cut to 16 bytes. Its vectors are valid until the next call.
//
// In blocks of 512 bytes these are a third of the decryption's time, of which more
// than half isn't SHA-1's own work. Behind the key, of which only the state
// it leaves is kept, each of the two hashes has one block left, and its padding is
// always the same. With that padding written as if it were text, the hash's state
// is its sum, without the copies that a Sum makes.
type ivMaker struct {
	num   [4]byte
	mac   hash.Hash // keyed; for where states aren't as known
	sum   [sha1.Size]byte
	sha   stateHash // nil if mac is to be used
	inner hashing
	outer hashing
	state []byte // of sha
}

// stateHash is what the standard library's hashes can do.
type stateHash interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// hashing is one of the two hashes behind the key's block.
type hashing struct {
	key  []byte               // the state that the key leaves
	last [sha1.BlockSize]byte // the text and its padding (FIPS 180-4, section 5.1.1)
}

// stateSum is where the sum so far is in a state: after four bytes of magic. The
// standard library keeps reading states of that form, but doesn't promise to write
// it, so that newIVMaker looks.
const stateSum = 4

func newIVMaker(key []byte) *ivMaker {
	m := &ivMaker{mac: hmac.New(sha1.New, key)}
	sha, ok := sha1.New().(stateHash)
	if !ok {
		return m
	}
	want := bytes.Clone(m.iv(0))
	if m.inner.init(sha, key, 0x36, len(m.num)) && m.outer.init(sha, key, 0x5C, sha1.Size) {
		m.sha = sha
		if !bytes.Equal(m.iv(0), want) {
			m.sha = nil
		}
	}
	return m
}

// init prepares for a text of n bytes behind the key, which is padded with zeros
// and pad (RFC 2104, section 2). It reports whether sha gives its state and takes it.
func (h *hashing) init(sha stateHash, key []byte, pad byte, n int) bool {
	var block [sha1.BlockSize]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= pad
	}
	sha.Reset()
	sha.Write(block[:])
	var err error
	if h.key, err = sha.AppendBinary(nil); err != nil || len(h.key) < stateSum+sha1.Size {
		return false
	}
	h.last[n] = 0x80
	binary.BigEndian.PutUint64(h.last[sha1.BlockSize-8:], uint64(sha1.BlockSize+n)*8)
	return sha.UnmarshalBinary(h.key) == nil
}

// iv returns the vector of block n.
func (m *ivMaker) iv(n uint32) []byte {
	binary.BigEndian.PutUint32(m.num[:], n)
	if m.sha == nil {
		m.mac.Reset()
		m.mac.Write(m.num[:])
		return m.mac.Sum(m.sum[:0])[:ivLen]
	}
	copy(m.inner.last[:], m.num[:])
	copy(m.outer.last[:], m.hash(&m.inner))
	return m.hash(&m.outer)[:ivLen]
}

// hash returns the sum of a hashing. Neither call returns an error that it didn't
// when newIVMaker looked.
func (m *ivMaker) hash(h *hashing) []byte {
	m.sha.UnmarshalBinary(h.key)
	m.sha.Write(h.last[:])
	m.state, _ = m.sha.AppendBinary(m.state[:0])
	return m.state[stateSum:][:sha1.Size]
}

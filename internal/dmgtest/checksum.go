package dmgtest

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// SumType is a kind of checksum, as the number in an image. The zero value
// is CRC-32 where an option asks for a SumType.
type SumType uint32

const (
	CRC32  SumType = 2
	MD5    SumType = 4
	SHA1b  SumType = 5 // SHA-1 under its other number
	SHA1   SumType = 6
	SHA256 SumType = 7
	SHA384 SumType = 8
	SHA512 SumType = 9
	NoSum  SumType = 1 << 31 // no checksum: an image says 0
)

// Checksum is a checksum as it stands in koly and in a table: 136 bytes.
type Checksum struct {
	Type SumType
	Bits uint32
	Data [128]byte
}

// Sum is the checksum of data.
func Sum(t SumType, data []byte) (Checksum, error) {
	s, err := newSum(t)
	if err != nil {
		return Checksum{}, err
	}
	s.Write(data)
	return s.checksum(), nil
}

// value is the checksum's own bytes.
func (c *Checksum) value() []byte { return c.Data[:min(int(c.Bits/8), len(c.Data))] }

// A sum takes a checksum. CRC-32 is kept apart from the hashes, for a run of
// zeros of any length can be added to it at once.
type sum struct {
	kind SumType
	hash hash.Hash // nil for CRC-32 and none
	crc  uint32
	any  bool // false as long as nothing was added
}

func newSum(t SumType) (*sum, error) {
	s := &sum{kind: t}
	switch t {
	case 0:
		s.kind = CRC32
	case CRC32, NoSum:
	case MD5:
		s.hash = md5.New()
	case SHA1, SHA1b:
		s.hash = sha1.New()
	case SHA256:
		s.hash = sha256.New()
	case SHA384:
		s.hash = sha512.New384()
	case SHA512:
		s.hash = sha512.New()
	default:
		return nil, fmt.Errorf("no checksum of type %d", t)
	}
	return s, nil
}

func (s *sum) Write(p []byte) (int, error) {
	s.any = s.any || len(p) > 0
	if s.hash != nil {
		return s.hash.Write(p)
	}
	s.crc = crc32.Update(s.crc, crc32.IEEETable, p)
	return len(p), nil
}

// zeros adds n zeros.
func (s *sum) zeros(n int64) {
	s.any = s.any || n > 0
	if s.hash != nil {
		io.Copy(s.hash, Zeros(n).reader()) // a hash.Hash returns no error
		return
	}
	s.crc = crcZeros(s.crc, n)
}

// checksum is the sum as an image holds it. Where nothing was added, as for a
// table of ignore chunks only, an image holds zeros and not the hash of
// nothing.
func (s *sum) checksum() Checksum {
	c := Checksum{Type: s.kind}
	switch {
	case s.kind == NoSum:
		return Checksum{}
	case s.hash == nil:
		c.Bits = 32
		binary.BigEndian.PutUint32(c.Data[:], s.crc)
	default:
		c.Bits = uint32(s.hash.Size()) * 8
		if s.any {
			copy(c.Data[:], s.hash.Sum(nil))
		}
	}
	return c
}

// crcZeros is the CRC-32 of what crc is of, and n zeros after it. A zero byte
// multiplies the register by x⁸ modulo the polynomial, so n of them by x⁸ⁿ.
func crcZeros(crc uint32, n int64) uint32 {
	power, base := uint32(1)<<31, uint32(1)<<23 // 1 and x⁸, lowest power at the top
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = crcMul(power, base)
		}
		base = crcMul(base, base)
	}
	return ^crcMul(^crc, power)
}

// crcMul multiplies two polynomials modulo the CRC's.
func crcMul(a, b uint32) uint32 {
	var p uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			p ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return p
}

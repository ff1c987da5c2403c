package apfs

import (
	"crypto/aes"

	"golang.org/x/crypto/xts"
)

// sectorSize is the unit of encryption, in bytes, whatever the size of a block.
const sectorSize = 512

// volumeCipher is AES-XTS with a tweak for each sector: its number.
type volumeCipher struct{ xts *xts.Cipher }

// newCipher takes two keys, one after the other.
func newCipher(key []byte) (*volumeCipher, error) {
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return nil, err
	}
	return &volumeCipher{c}, nil
}

// decrypt decrypts whole sectors in place. The first one has the number first.
func (c *volumeCipher) decrypt(b []byte, first uint64) {
	for i := 0; len(b)-i >= sectorSize; i += sectorSize {
		c.xts.Decrypt(b[i:i+sectorSize], b[i:i+sectorSize], first)
		first++
	}
}

package aea

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// errOpen says that a private key does not open what HPKE has sealed.
var errOpen = errors.New("HPKE: the private key does not open it")

// openHPKE opens what was sealed for key: RFC 9180, base mode, DHKEM(P-256, HKDF-SHA256),
// HKDF-SHA256 and AES-256-GCM, with empty info and associated data, the first message. The
// standard library has it since Go 1.26 only.
func openHPKE(key exchanger, sender, sealed []byte) ([]byte, error) {
	public, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, headerError(fixedLen, "the wrapped key's sender is no point of P-256")
	}
	shared, err := key.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongPrivateKey, err) // a token's reason
	}
	// Section 4.1, ExtractAndExpand; 5.1, KeySchedule; mode 0.
	kem := hpkeSuite("KEM\x00\x10")
	hybrid := hpkeSuite("HPKE\x00\x10\x00\x01\x00\x02")
	context := string(sender) + string(key.PublicKey().Bytes())
	secret := kem.expand(kem.extract(nil, "eae_prk", shared), "shared_secret", context, sha256.Size)
	schedule := "\x00" + string(hybrid.extract(nil, "psk_id_hash", nil)) + string(hybrid.extract(nil, "info_hash", nil))
	secret = hybrid.extract(secret, "secret", nil)
	block, err := aes.NewCipher(hybrid.expand(secret, "key", schedule, 32))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err) // GODEBUG=fips140=only
	}
	plain, err := aead.Open(nil, hybrid.expand(secret, "base_nonce", schedule, aead.NonceSize()), sealed, nil)
	if err != nil {
		return nil, errOpen
	}
	return plain, nil
}

// An hpkeSuite is the suite_id with which the key derivations of RFC 9180 are labelled.
type hpkeSuite string

// extract is LabeledExtract of section 4.
func (s hpkeSuite) extract(salt []byte, label string, ikm []byte) []byte {
	k, err := hkdf.Extract(sha256.New, append([]byte("HPKE-v1"+string(s)+label), ikm...), salt)
	if err != nil {
		return nil // GODEBUG=fips140=only refuses it: the message does not open
	}
	return k
}

// expand is LabeledExpand of section 4.
func (s hpkeSuite) expand(key []byte, label, info string, n int) []byte {
	length := string(binary.BigEndian.AppendUint16(nil, uint16(n)))
	k, err := hkdf.Expand(sha256.New, key, length+"HPKE-v1"+string(s)+label+info, n)
	if err != nil {
		return make([]byte, n) // as in extract
	}
	return k
}

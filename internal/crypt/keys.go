package crypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"fmt"
	"slices"
)

const (
	// maxIterations caps PBKDF2 over all the records of one image, in however many
	// files it is. The largest count seen is 232,558, and macOS aims at a fraction
	// of a second; ten million take five seconds of a server's core.
	maxIterations = 10_000_000

	// privateKeyCost is what one use of the private key counts for: as many
	// iterations take as long with an RSA key of 2048 bits, about.
	privateKeyCost = 4000

	// maxRecord is as much of a record as is looked at: one for an RSA key of
	// 8192 bits fits. Apple's have 616 bytes.
	maxRecord = 2048

	passphraseLen = 0x68 // before the wrapped key
	publicKeyLen  = 0x34
	maxSalt       = 32
)

// The types of key records.
const (
	typePassphrase = 1
	typePublicKey  = 2
	typeKeyBag     = 3
)

// unlock tries every record until one opens. What it returns otherwise is the
// error a user can do most about: a password or key to give comes before what
// isn't supported, that before a record that is broken.
func (h *header) unlock(u *Unlocker) (*Cipher, error) {
	var best error
	for _, rec := range h.records {
		aesKey, hmacKey, err := rec.open(u)
		if err == nil {
			return newCipher(aesKey, hmacKey, h.blockSize)
		}
		if best == nil || rank(err) < rank(best) {
			best = err
		}
	}
	return nil, best
}

// rank orders the errors of records, most useful first.
func rank(err error) int {
	for i, class := range []error{ErrWrongPassword, ErrWrongPrivateKey, ErrNoPassword, ErrNoPrivateKey, ErrUnsupported} {
		if errors.Is(err, class) {
			return i
		}
	}
	return 5
}

// parseRecord reads a record of version 2 that is at off in the file.
func parseRecord(kind uint32, b []byte, off int64, keyLen int) record {
	switch kind {
	case typePassphrase:
		return &passphraseRecord{b: b, at: off, keyLen: keyLen}
	case typePublicKey:
		return &publicKeyRecord{b: b, at: off, keyLen: keyLen}
	case typeKeyBag:
		return badRecord{fmt.Errorf("%w: key in a key bag (type %d)", ErrUnsupported, kind)}
	}
	return badRecord{fmt.Errorf("%w: key of type %d", ErrUnsupported, kind)}
}

// badRecord is a record that opens nothing.
type badRecord struct{ err error }

func (r badRecord) open(*Unlocker) (_, _ []byte, err error) { return nil, nil, r.err }

// passphraseRecord holds the keys wrapped under one that PBKDF2 makes of a
// password:
//
//	0x00  how to derive: see derive    0x5C  padding 7, PKCS #7
//	0x30  IV size, IV in 32 bytes      0x60  mode, CBC with padding
//	0x54  bits of the derived key      0x64  size of the wrapped keys
//	0x58  cipher: 3DES or AES          0x68  the wrapped keys
type passphraseRecord struct {
	b      []byte
	at     int64
	keyLen int
}

func (r *passphraseRecord) open(u *Unlocker) (_, _ []byte, err error) {
	if len(r.b) < passphraseLen {
		return nil, nil, &FormatError{r.at, "short key record"}
	}
	// Everything is looked at before the password is: a record that can't be
	// opened should not ask for one.
	blob, err := sized(r.b[0x64:], r.at+0x64)
	if err != nil {
		return nil, nil, err
	}
	wrap, err := r.wrapping(len(blob))
	if err != nil {
		return nil, nil, err
	}
	kdf, err := u.derivation(r.b, r.at, wrap.keyLen)
	if err != nil {
		return nil, nil, err
	}
	if u.keys.Password == "" {
		return nil, nil, ErrNoPassword
	}
	k, err := u.derive(kdf)
	if err != nil {
		return nil, nil, err
	}
	plain, err := wrap.decrypt(k, blob)
	if err != nil {
		return nil, nil, err
	}
	// A wrong key leaves random bytes: padding is wrong for nearly all, the mark
	// that split looks for is for the rest.
	plain, ok := unpad(plain, wrap.block)
	if !ok {
		return nil, nil, ErrWrongPassword
	}
	return split(plain, r.keyLen, r.at, ErrWrongPassword)
}

// wrapping reads how the blob of n bytes is encrypted.
func (r *passphraseRecord) wrapping(n int) (*wrapping, error) {
	w := &wrapping{}
	switch bits, alg := be32(r.b[0x54:]), be32(r.b[0x58:]); {
	case alg == algTripleDES && bits == 192:
		w.new, w.block = des.NewTripleDESCipher, des.BlockSize
		w.keyLen = 24
	case alg == algAES && (bits == 128 || bits == 192 || bits == 256):
		w.new, w.block = aes.NewCipher, aes.BlockSize
		w.keyLen = int(bits / 8)
	default:
		return nil, fmt.Errorf("%w: key wrapped with algorithm %d, %d bits", ErrUnsupported, alg, bits)
	}
	pad, mode := be32(r.b[0x5C:]), be32(r.b[0x60:])
	if pad != padPKCS7 || mode < modeCBC || mode > modeCBCPad {
		return nil, fmt.Errorf("%w: key wrapped with padding %d, mode %d", ErrUnsupported, pad, mode)
	}
	// Newer systems wrap with AES and give it an IV of 8 bytes; the rest is 0.
	w.iv = make([]byte, w.block)
	ivSize := be32(r.b[0x30:])
	if ivSize > uint32(w.block) {
		return nil, &FormatError{r.at + 0x30, fmt.Sprintf("IV of %d bytes", ivSize)}
	}
	copy(w.iv, r.b[0x34:0x34+ivSize])
	if n == 0 || n%w.block != 0 {
		return nil, &FormatError{r.at + 0x64, fmt.Sprintf("wrapped key of %d bytes", n)}
	}
	return w, nil
}

// wrapping is a CBC cipher over a wrapped key.
type wrapping struct {
	new    func(key []byte) (cipher.Block, error)
	block  int
	keyLen int
	iv     []byte
}

func (w *wrapping) decrypt(key, blob []byte) ([]byte, error) {
	c, err := w.new(key)
	if err != nil {
		return nil, forbidden(err)
	}
	plain := make([]byte, len(blob))
	cipher.NewCBCDecrypter(c, w.iv).CryptBlocks(plain, blob)
	return plain, nil
}

// derivation is how a password becomes a key: PBKDF2 with HMAC-SHA1.
type derivation struct {
	salt       string
	iterations int
	keyLen     int
}

// derivation reads the fields that both versions have in the same order:
// algorithm, pseudo-random function (0, HMAC-SHA1), iterations, salt length, salt.
// It refuses what costs more than may still be spent.
func (u *Unlocker) derivation(b []byte, at int64, keyLen int) (d derivation, err error) {
	if kdf, prf := be32(b), be32(b[4:]); kdf != algPBKDF2 || prf != 0 {
		return d, fmt.Errorf("%w: key derivation %d/%d", ErrUnsupported, kdf, prf)
	}
	n, salt := be32(b[8:]), be32(b[0x0C:])
	if salt > maxSalt {
		return d, &FormatError{at + 0x0C, fmt.Sprintf("salt of %d bytes", salt)}
	}
	if n == 0 {
		return d, &FormatError{at + 8, "no iterations"}
	}
	// Compared before it becomes an int: n may be 2^32-1.
	if n <= maxIterations {
		d = derivation{string(b[0x10 : 0x10+salt]), int(n), keyLen}
		if u.derived[d] != nil || d.iterations <= u.budget {
			return d, nil
		}
	}
	return d, fmt.Errorf("%w: %d iterations of key derivation (limit %d for all keys of the image)", ErrUnsupported, n, maxIterations)
}

// derive returns the key that d makes of the password.
func (u *Unlocker) derive(d derivation) ([]byte, error) {
	if k := u.derived[d]; k != nil {
		return k, nil
	}
	u.budget -= d.iterations
	k, err := pbkdf2.Key(sha1.New, u.keys.Password, []byte(d.salt), d.iterations, d.keyLen)
	if err != nil {
		return nil, forbidden(err) // nothing else is wrong with these lengths
	}
	u.derived[d] = k
	return k, nil
}

// publicKeyRecord holds the keys encrypted to an RSA key, as hdiutil's
// -certificate and -pubkey make it: at 0 the length of a hash of the public key,
// its bytes (32), at 0x24 algorithm 42 (RSA), padding 10 (PKCS #1), mode, size of
// the blob, and the blob at 0x34. Decrypted, that is what a passphrase unwraps to.
//
// No image made by Apple's tools was at hand to check this: the layout is the one
// that another reader documents, and agrees with that of a passphrase record. What
// is hashed isn't known for sure, so the key is tried whatever the hash says.
type publicKeyRecord struct {
	b      []byte
	at     int64
	keyLen int
}

func (r *publicKeyRecord) open(u *Unlocker) (_, _ []byte, err error) {
	if len(r.b) < publicKeyLen {
		return nil, nil, &FormatError{r.at, "short key record"}
	}
	alg, pad := be32(r.b[0x24:]), be32(r.b[0x28:])
	if alg != algRSA || pad != padPKCS1 {
		return nil, nil, fmt.Errorf("%w: public key of algorithm %d, padding %d", ErrUnsupported, alg, pad)
	}
	blob, err := sized(r.b[0x30:], r.at+0x30)
	if err != nil {
		return nil, nil, err
	}
	if u.keys.PrivateKey == nil {
		return nil, nil, ErrNoPrivateKey
	}
	if u.budget < privateKeyCost {
		return nil, nil, fmt.Errorf("%w: more keys for certificates than are tried for an image", ErrUnsupported)
	}
	u.budget -= privateKeyCost
	plain, err := u.keys.PrivateKey.Decrypt(rand.Reader, blob, &rsa.PKCS1v15DecryptOptions{})
	if err != nil {
		// A key agent's reason (no permission, a device gone) is the user's to see.
		return nil, nil, fmt.Errorf("%w: %w", ErrWrongPrivateKey, err)
	}
	return split(plain, r.keyLen, r.at, ErrWrongPrivateKey)
}

// split cuts what a record unwraps to: AES key, HMAC key, and a mark that shows
// that the unwrapping was right.
func split(plain []byte, keyLen int, at int64, wrong error) (aesKey, hmacKey []byte, err error) {
	plain, ok := bytes.CutSuffix(plain, []byte("CKIE\x00"))
	if !ok {
		return nil, nil, wrong
	}
	if len(plain) < keyLen+hmacKeyLen {
		return nil, nil, &FormatError{at, "a key shorter than the header says"}
	}
	return plain[:keyLen], plain[keyLen : keyLen+hmacKeyLen], nil
}

// trailerRecord is version 1's one way to the keys: each wrapped on its own under
// the same derived key.
type trailerRecord struct {
	b      [trailerLen]byte
	at     int64
	keyLen int
}

// Where the wrapped keys are in the trailer: algorithm, bits, IV of the wrapping
// (32 bytes, unused), length, blob of up to 256 bytes. A third, at 0x2B8, checks
// the integrity of something no longer known.
const (
	v1DataKey = 0x60
	v1HMACKey = 0x18C
	v1MaxBlob = 256
)

func (r *trailerRecord) open(u *Unlocker) (aesKey, hmacKey []byte, err error) {
	if alg, bits := be32(r.b[0x14:]), be32(r.b[0x20:]); alg != algTripleDES || bits != 192 {
		return nil, nil, fmt.Errorf("%w: key wrapped with algorithm %d, %d bits", ErrUnsupported, alg, bits)
	}
	kdf, err := u.derivation(r.b[0x28:], r.at+0x28, 24)
	if err != nil {
		return nil, nil, err
	}
	if u.keys.Password == "" {
		return nil, nil, ErrNoPassword
	}
	k, err := u.derive(kdf)
	if err != nil {
		return nil, nil, err
	}
	c, err := des.NewTripleDESCipher(k)
	if err != nil {
		return nil, nil, forbidden(err)
	}
	if aesKey, err = r.unwrap(c, v1DataKey, r.keyLen); err != nil {
		return nil, nil, err
	}
	if hmacKey, err = r.unwrap(c, v1HMACKey, hmacKeyLen); err != nil {
		return nil, nil, err
	}
	return aesKey, hmacKey, nil
}

// unwrap opens the wrapped key at a place of the trailer, as RFC 3217 section 3.2
// does but for padding in place of a checksum, and 4 bytes before the key.
func (r *trailerRecord) unwrap(c cipher.Block, at, want int) ([]byte, error) {
	blob, err := sized(r.b[at+40:at+44+v1MaxBlob], r.at+int64(at)+40)
	if err != nil {
		return nil, err
	}
	if len(blob) == 0 || len(blob)%des.BlockSize != 0 {
		return nil, &FormatError{r.at + int64(at) + 40, fmt.Sprintf("wrapped key of %d bytes", len(blob))}
	}
	// The fixed IV is the RFC's. After the first pass the key is backwards and its
	// own IV in front.
	outer := make([]byte, len(blob))
	cipher.NewCBCDecrypter(c, []byte{0x4A, 0xDD, 0xA2, 0x2C, 0x79, 0xE8, 0x21, 0x05}).CryptBlocks(outer, blob)
	outer, ok := unpad(outer, des.BlockSize)
	if !ok || len(outer) <= des.BlockSize || len(outer)%des.BlockSize != 0 {
		return nil, ErrWrongPassword
	}
	slices.Reverse(outer)
	inner := outer[des.BlockSize:]
	cipher.NewCBCDecrypter(c, outer[:des.BlockSize]).CryptBlocks(inner, inner)
	// Padding of two passes and an exact length make a wrong password as good as
	// impossible to miss; there is no mark as in version 2.
	inner, ok = unpad(inner, des.BlockSize)
	if !ok || len(inner) != 4+want {
		return nil, ErrWrongPassword
	}
	return inner[4:], nil
}

// sized reads a length and that many bytes after it.
func sized(b []byte, at int64) ([]byte, error) {
	n := be32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, &FormatError{at, fmt.Sprintf("wrapped key of %d bytes", n)}
	}
	return b[4 : 4+n], nil
}

// unpad takes PKCS #7 padding off.
func unpad(b []byte, block int) ([]byte, bool) {
	if len(b) == 0 {
		return nil, false
	}
	n := int(b[len(b)-1])
	if n == 0 || n > block || n > len(b) {
		return nil, false
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, false
		}
	}
	return b[:len(b)-n], true
}

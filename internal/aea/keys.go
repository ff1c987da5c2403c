package aea

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/scrypt"
)

// Of scrypt: N is 2^(14 + 2 × strength), r is 8, p is 1.
const (
	maxStrength = 3
	scryptN     = 1 << 14
	scryptR     = 8
)

// scryptMemory returns how many bytes scrypt takes.
func scryptMemory(strength byte) int64 { return 128 * scryptR * scryptN << (2 * strength) }

const keyLen = 32

// derive is HKDF-SHA256, which all keys are made by.
func derive(secret, salt []byte, info string, n int) ([]byte, error) {
	k, err := hkdf.Key(sha256.New, secret, salt, info, n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err) // such as GODEBUG=fips140=only
	}
	return k, nil
}

// A cryptKey authenticates one part of an archive, and decrypts it unless the archive is
// not encrypted.
type cryptKey struct {
	mac []byte
	aes []byte // 32 bytes; nil if the archive is not encrypted
	ctr []byte
}

// derivedLen returns how many bytes of key a part of the archive takes.
func derivedLen(encrypted bool) int {
	if encrypted {
		return macLen + 32 + aes.BlockSize
	}
	return macLen
}

// newCryptKey derives the key of a part from the one above it.
func newCryptKey(above []byte, info string, encrypted bool) (cryptKey, error) {
	k, err := derive(above, nil, info, derivedLen(encrypted))
	if err != nil || !encrypted {
		return cryptKey{mac: k}, err
	}
	return cryptKey{k[:macLen], k[macLen : macLen+32], k[macLen+32:]}, nil
}

// verify reports whether data, as stored, has that MAC, together with what is bound to it.
func (k *cryptKey) verify(mac, data, bound []byte) bool {
	h := hmac.New(sha256.New, k.mac)
	h.Write(bound)
	h.Write(data)
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(bound))))
	return hmac.Equal(mac, h.Sum(nil))
}

// decrypt decrypts data in place.
func (k *cryptKey) decrypt(data []byte) error {
	if k.aes == nil {
		return nil
	}
	block, err := aes.NewCipher(k.aes)
	if err != nil {
		return err
	}
	cipher.NewCTR(block, k.ctr).XORKeyStream(data, data)
	return nil
}

// mainKey is the key that all others of an archive are derived from.
type mainKey struct {
	key       []byte
	encrypted bool
}

func (m *mainKey) root() (cryptKey, error) { return newCryptKey(m.key, "AEA_RHEK", m.encrypted) }

// clusterKey is the key that those of a cluster are derived from.
func (m *mainKey) clusterKey(cluster uint32) ([]byte, error) {
	return derive(m.key, nil, "AEA_CK"+string(binary.LittleEndian.AppendUint32(nil, cluster)), keyLen)
}

func (m *mainKey) header(clusterKey []byte) (cryptKey, error) {
	return newCryptKey(clusterKey, "AEA_CHEK", m.encrypted)
}

func (m *mainKey) segment(clusterKey []byte, segment uint32) (cryptKey, error) {
	return newCryptKey(clusterKey, "AEA_SK"+string(binary.LittleEndian.AppendUint32(nil, segment)), m.encrypted)
}

// An input is one way to the main key: what the key schedule begins with.
type input struct {
	secret    []byte
	salt      []byte
	recipient []byte // the point of the recipient; nil if there is none
	wrong     error  // if the root header's MAC contradicts
}

// unlock returns the key schedule's start: with the first of the keys with which the root
// header has its MAC. It decrypts the root header.
func (p *prologue) unlock(keys Keys, limit int64) (*mainKey, error) {
	in, err := p.input(keys, limit)
	if err != nil {
		return nil, err
	}
	var signers [][]byte
	if p.signed() {
		if signers = p.signers(keys.PublicKey); len(signers) == 0 {
			return nil, fmt.Errorf("%w: it is signed, and does not say by whom: the signer's public key is needed", ErrNoKey)
		}
	} else {
		signers = [][]byte{nil}
	}
	for _, signer := range signers {
		m, err := p.tryMain(in, signer)
		if err != nil || m != nil {
			return m, err
		}
	}
	return nil, in.wrong
}

// tryMain derives the main key, and opens the root header with it. It returns nil if
// the header's MAC says that the key is wrong.
func (p *prologue) tryMain(in *input, signer []byte) (*mainKey, error) {
	info := "AEA_AMK" + string(p.raw[4:8])
	if in.recipient != nil {
		info += string(p.public) + string(in.recipient)
	}
	main, err := derive(in.secret, in.salt, info+string(signer), keyLen)
	if err != nil {
		return nil, err
	}
	m := &mainKey{main, p.encrypted()}
	k, err := m.root()
	if err != nil {
		return nil, err
	}
	bound := append(append(make([]byte, 0, macLen+len(p.auth)), p.firstMAC...), p.auth...)
	if !k.verify(p.rootMAC, p.root, bound) {
		return nil, nil
	}
	if signer != nil {
		if err := p.verifySignature(m, signer); err != nil {
			return nil, err
		}
	}
	p.root = append([]byte(nil), p.root...) // raw stays as it is stored
	return m, k.decrypt(p.root)
}

// input returns what the key schedule begins with, by the profile.
func (p *prologue) input(keys Keys, limit int64) (*input, error) {
	const damaged = ", or the archive's header is damaged"
	in := &input{salt: p.salt}
	var err error
	switch p.profile {
	case profileSigned:
		in.secret, in.wrong = p.public, fmt.Errorf("%w: it is not signed by the public key that is given or named in it%s", ErrWrongKey, damaged)
	case profileKey, profileKeySigned:
		in.secret, err = p.symmetricKey(keys)
		in.wrong = fmt.Errorf("%w%s", ErrWrongKey, damaged)
		if p.signed() {
			in.wrong = fmt.Errorf("%w, or it is signed by another%s", ErrWrongKey, damaged)
		}
		if len(keys.Key) == 0 {
			in.wrong = fmt.Errorf("%w: what it unwraps is not the archive's key%s", ErrWrongPrivateKey, damaged)
		}
	case profileRecipient, profileRecipientSigned:
		in.secret, in.recipient, err = p.agreed(keys.PrivateKey)
		in.wrong = fmt.Errorf("%w%s", ErrWrongPrivateKey, damaged)
	case profilePassword:
		in.secret, in.salt, err = p.stretch(keys.Password, limit)
		in.wrong = fmt.Errorf("%w%s", ErrWrongPassword, damaged)
	}
	return in, err
}

// stretch makes the input of a password.
func (p *prologue) stretch(password string, limit int64) (secret, salt []byte, err error) {
	if password == "" {
		return nil, nil, ErrNoPassword
	}
	if need := scryptMemory(p.strength); need > limit {
		return nil, nil, fmt.Errorf("%w: making a key of its password takes %d MiB, the limit is %d bytes", ErrMemory, need>>20, limit)
	}
	two, err := derive(p.salt, nil, "AEA_SCRYPT", 2*saltLen)
	if err != nil {
		return nil, nil, err
	}
	secret, err = scryptKey(password, two[:saltLen], p.strength)
	return secret, two[saltLen:], err
}

// scryptKey is scrypt. With GODEBUG=fips140=only the standard library panics with short
// passwords.
func scryptKey(password string, salt []byte, strength byte) (key []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: its password can't be used in this process (%v): run it without GODEBUG=fips140=only", ErrUnsupported, r)
		}
	}()
	return scrypt.Key([]byte(password), salt, scryptN<<(2*strength), scryptR, 1, keyLen)
}

// symmetricKey returns the key of profiles 1 and 2: the one given, the one that the private
// key unwraps, or one that stands in the auth data.
func (p *prologue) symmetricKey(keys Keys) ([]byte, error) {
	f := p.fields()
	switch {
	case len(keys.Key) == keyLen:
		return keys.Key, nil
	case len(keys.Key) > 0:
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrWrongKey, len(keys.Key), keyLen)
	}
	// As some who pass firmware on write it there.
	if k, err := hex.DecodeString(f["encryption_key"]); err == nil && len(k) == keyLen {
		return k, nil
	}
	served := ""
	if url := f["com.apple.wkms.fcs-key-url"]; url != "" {
		served = ", which Apple serves at " + clip(url) + " (nothing is fetched here)"
	}
	wrapped := f["com.apple.wkms.fcs-response"]
	key, ok := agreement(keys.PrivateKey)
	switch {
	case wrapped == "":
		return nil, fmt.Errorf("%w: its symmetric key of %d bytes is needed%s", ErrNoKey, keyLen, served)
	case !ok:
		return nil, fmt.Errorf("%w: its symmetric key is needed, or the private key that unwraps it%s", ErrNoKey, served)
	}
	k, err := unwrap(wrapped, key)
	if errors.Is(err, errOpen) {
		id := ""
		if url := f["com.apple.wkms.fcs-key-url"]; url != "" {
			id = fmt.Sprintf(": the archive is wrapped for the one called %s", clip(url[strings.LastIndexByte(url, '/')+1:]))
		}
		return nil, fmt.Errorf("%w%s", ErrWrongPrivateKey, id)
	}
	return k, err
}

// clip quotes what an archive says, and cuts it off where it is too long to be read.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// unwrap opens Apple's response of a key server.
func unwrap(response string, key exchanger) ([]byte, error) {
	var r struct {
		Sender  string `json:"enc-request"`
		Wrapped string `json:"wrapped-key"`
	}
	if err := json.Unmarshal([]byte(response), &r); err != nil {
		return nil, headerError(fixedLen, "the wrapped key is no JSON: %v", err)
	}
	sender, err1 := base64.StdEncoding.DecodeString(r.Sender)
	wrapped, err2 := base64.StdEncoding.DecodeString(r.Wrapped)
	if err := errors.Join(err1, err2); err != nil {
		return nil, headerError(fixedLen, "the wrapped key is no base64")
	}
	k, err := openHPKE(key, sender, wrapped)
	if err == nil && len(k) != keyLen {
		return nil, headerError(fixedLen, "a wrapped key of %d bytes", len(k))
	}
	return k, err
}

// An exchanger is a private key for ECDH, which may lie in a token.
type exchanger interface {
	PublicKey() *ecdh.PublicKey
	ECDH(*ecdh.PublicKey) ([]byte, error)
}

// agreement returns key as one of P-256 for ECDH.
func agreement(key crypto.PrivateKey) (exchanger, bool) {
	if k, ok := key.(*ecdsa.PrivateKey); ok && k != nil {
		e, err := k.ECDH()
		if err != nil {
			return nil, false
		}
		key = e
	}
	if k, ok := key.(*ecdh.PrivateKey); ok && k == nil {
		return nil, false
	}
	e, ok := key.(exchanger)
	if !ok || e.PublicKey() == nil || e.PublicKey().Curve() != ecdh.P256() {
		return nil, false
	}
	return e, true
}

// IsPrivateKey reports whether key is a private key that Keys can use.
func IsPrivateKey(key crypto.PrivateKey) bool {
	_, ok := agreement(key)
	return ok
}

// IsPublicKey reports whether key is a public key that Keys can use.
func IsPublicKey(key crypto.PublicKey) bool { return pointOf(key) != nil }

// agreed returns the input of profiles 3 and 4: what the recipient's private key and the
// sender's public key have in common, and the recipient's point.
func (p *prologue) agreed(key crypto.PrivateKey) (secret, recipient []byte, err error) {
	sender, err := ecdh.P256().NewPublicKey(p.public)
	if err != nil {
		return nil, nil, headerError(int64(fixedLen+len(p.auth)+len(p.signature)), "the sender's public key is none of P-256")
	}
	k, ok := agreement(key)
	if !ok {
		return nil, nil, fmt.Errorf("%w: the recipient's of P-256 is needed", ErrNoPrivateKey)
	}
	if secret, err = k.ECDH(sender); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrWrongPrivateKey, err) // a token's reason
	}
	return secret, k.PublicKey().Bytes(), nil
}

// fields returns the auth data as fields, as Apple's firmware has them: each a length of
// four bytes, which counts them in, a name, a zero byte, and a value. Of auth data of
// another kind it returns those that there are before it differs.
func (p *prologue) fields() map[string]string {
	const most = 64
	f := make(map[string]string)
	for b := p.auth; len(b) > 4 && len(f) < most; {
		n := binary.LittleEndian.Uint32(b)
		if n < 5 || uint64(n) > uint64(len(b)) {
			break
		}
		name, value, ok := strings.Cut(string(b[4:n]), "\x00")
		if _, twice := f[name]; !ok || twice {
			break
		}
		f[name] = value
		b = b[n:]
	}
	return f
}

package dmgtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/binary"
	"slices"
)

// Encryption says how bytes become an encrypted image. The zero value is
// version 2, AES-256 in blocks of 4096 bytes, 1000 iterations for an empty
// password, and a 3DES-wrapped key. All keys, salts and vectors come from
// Seed, so nothing here keeps a secret.
type Encryption struct {
	Password   string
	Version    int  // 1 or 2; 0: 2
	KeyBits    int  // 128 or 256; 0: 256
	BlockSize  int  // 512, 4096, …; 0: 4096
	Iterations int  // of PBKDF2; 0: 1000
	AESWrap    bool // version 2: the key is wrapped as newer systems do it
	Decoys     int  // version 2: records of other passwords before the right one
	DataOffset int  // version 2: where the blocks begin, at least after the keys; 0: 0x1E000, as Apple
	Seed       uint64
}

// Numbers of algorithms, modes and paddings, and places that never change.
const (
	algTripleDES = 17
	algHMAC      = 91
	algPBKDF2    = 103
	algAES       = 0x80000001
	modeCBCPad   = 6
	modeCBCIV    = 5
	paddingPKCS7 = 7

	v2RecordLen = 0x268
	v2BlobAt    = 0x68
	v1Len       = 1276
	v1RecordLen = 300
)

// wrapIV is the vector of the outer encryption of RFC 3217.
var wrapIV = []byte{0x4A, 0xDD, 0xA2, 0x2C, 0x79, 0xE8, 0x21, 0x05}

// Image is plain as an encrypted image.
func (e Encryption) Image(plain []byte) []byte {
	e = e.withDefaults()
	if e.Version == 1 {
		return append(e.Band(plain), e.trailer(len(plain))...)
	}
	return append(e.header(len(plain)), e.Band(plain)...)
}

// Token is the file of that name in an encrypted sparse bundle, for a disk of
// size bytes.
func (e Encryption) Token(size int) []byte {
	e = e.withDefaults()
	if e.Version == 1 {
		return e.trailer(size)
	}
	return e.header(size)
}

// Band is plain encrypted, in blocks numbered from 0: a band of a sparse
// bundle. The last block is filled up with zeros.
func (e Encryption) Band(plain []byte) []byte {
	e = e.withDefaults()
	out := make([]byte, (len(plain)+e.BlockSize-1)/e.BlockSize*e.BlockSize)
	copy(out, plain)
	block, err := aes.NewCipher(e.aesKey())
	must(err)
	for n := 0; n*e.BlockSize < len(out); n++ {
		mac := hmac.New(sha1.New, e.hmacKey())
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
		b := out[n*e.BlockSize:][:e.BlockSize]
		cipher.NewCBCEncrypter(block, mac.Sum(nil)[:aes.BlockSize]).CryptBlocks(b, b)
	}
	return out
}

func (e Encryption) withDefaults() Encryption {
	for _, f := range []struct {
		v    *int
		zero int
	}{{&e.Version, 2}, {&e.KeyBits, 256}, {&e.BlockSize, 4096}, {&e.Iterations, 1000}, {&e.DataOffset, 0x1E000}} {
		if *f.v == 0 {
			*f.v = f.zero
		}
	}
	return e
}

// bytes are n bytes of the seed's, other ones for every use.
func (e Encryption) bytes(use uint64, n int) []byte { return Random(mix(e.Seed)+use, int64(n)).Bytes() }

// Uses of the seed's bytes. Decoys count on from the last.
const (
	useUUID = iota
	useAES
	useHMAC
	useIntegrity
	useV1IVs
	useRecord = 100
)

func (e Encryption) aesKey() []byte  { return e.bytes(useAES, e.KeyBits/8) }
func (e Encryption) hmacKey() []byte { return e.bytes(useHMAC, 20) }

// header is a version 2 header and what is before the data.
func (e Encryption) header(size int) []byte {
	keys := e.Decoys + 1
	end := 0x4C + 20*keys + v2RecordLen*keys
	h := make([]byte, max(e.DataOffset, end))
	copy(h, "encrcdsa")
	put32(h[8:], 2, aes.BlockSize, modeCBCIV, algAES, uint32(e.KeyBits), algHMAC, 160)
	copy(h[0x24:0x34], e.bytes(useUUID, 16))
	put32(h[0x34:], uint32(e.BlockSize))
	binary.BigEndian.PutUint64(h[0x38:], uint64(size))
	binary.BigEndian.PutUint64(h[0x40:], uint64(len(h)))
	put32(h[0x48:], uint32(keys))
	for i := range keys {
		entry, at := h[0x4C+20*i:], 0x4C+20*keys+v2RecordLen*i
		put32(entry, 1, 0, uint32(at), 0, v2RecordLen)
		password := e.Password
		if i < e.Decoys {
			password += " is not it"
		}
		copy(h[at:], e.record(i, password))
	}
	return h
}

// record is a version 2 record of the keys, wrapped under a password.
func (e Encryption) record(i int, password string) []byte {
	r := make([]byte, v2RecordLen)
	use := uint64(useRecord + 2*i)
	salt, iv := e.bytes(use, 20), e.bytes(use+1, 8)
	put32(r, algPBKDF2, 0, uint32(e.Iterations), uint32(len(salt)))
	copy(r[0x10:], salt)
	put32(r[0x30:], uint32(len(iv)))
	copy(r[0x34:], iv)
	keys := slices.Concat(e.aesKey(), e.hmacKey(), []byte("CKIE\x00"))
	bits, alg, wrap := uint32(192), uint32(algTripleDES), tripleDES
	if e.AESWrap {
		bits, alg, wrap = 256, algAES, aes.NewCipher
	}
	block, err := wrap(e.derive(password, salt, int(bits/8)))
	must(err)
	blob := encryptCBC(block, append(iv, make([]byte, block.BlockSize()-len(iv))...), keys)
	put32(r[0x54:], bits, alg, paddingPKCS7, modeCBCPad, uint32(len(blob)))
	copy(r[v2BlobAt:], blob)
	return r
}

// trailer is what version 1 has after its data.
func (e Encryption) trailer(size int) []byte {
	t := make([]byte, v1Len)
	salt := e.bytes(useRecord, 20)
	copy(t, e.bytes(useUUID, 16))
	put32(t[0x10:], uint32(e.BlockSize), algTripleDES, paddingPKCS7, modeCBCPad, 192, 8, algPBKDF2, 0, uint32(e.Iterations), uint32(len(salt)))
	copy(t[0x38:], salt)
	put32(t[0x58:], aes.BlockSize, modeCBCIV)
	block, err := tripleDES(e.derive(e.Password, salt, 24))
	must(err)
	records := []struct {
		alg, bits uint32
		key       []byte
	}{{algAES, uint32(e.KeyBits), e.aesKey()}, {algHMAC, 160, e.hmacKey()}, {algHMAC, 160, e.bytes(useIntegrity, 20)}}
	for i, rec := range records {
		iv := e.bytes(useV1IVs+uint64(i), 8)
		blob := wrapRFC3217(block, iv, rec.key)
		r := t[0x60+v1RecordLen*i:]
		put32(r, rec.alg, rec.bits)
		copy(r[8:], iv)
		put32(r[40:], uint32(len(blob)))
		copy(r[44:], blob)
	}
	binary.BigEndian.PutUint64(t[0x4E8:], uint64(size))
	put32(t[0x4F0:], 1)
	copy(t[0x4F4:], "cdsaencr")
	return t
}

// wrapRFC3217 encrypts a key twice: with a vector of its own, and then, the
// bytes turned round and that vector last, with the RFC's. Before the key
// stand four bytes that say how long its description is: it has none.
func wrapRFC3217(block cipher.Block, iv, key []byte) []byte {
	inner := append(bytes.Clone(iv), encryptCBC(block, iv, append(make([]byte, 4), key...))...)
	slices.Reverse(inner)
	return encryptCBC(block, wrapIV, inner)
}

// encryptCBC pads as PKCS#7 says, at least one byte.
func encryptCBC(block cipher.Block, iv, plain []byte) []byte {
	pad := block.BlockSize() - len(plain)%block.BlockSize()
	out := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	return out
}

func (e Encryption) derive(password string, salt []byte, n int) []byte {
	key, err := pbkdf2.Key(sha1.New, password, salt, e.Iterations, n)
	must(err)
	return key
}

func tripleDES(key []byte) (cipher.Block, error) { return des.NewTripleDESCipher(key) }

// put32 puts numbers one after the other.
func put32(b []byte, vs ...uint32) {
	for i, v := range vs {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
}

// must is for errors of key lengths, which are a test's own mistake.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

package apfstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
)

// xts is AES-XTS over sectors of 512 bytes, written for this package, so that the reader's
// is compared with another.
type xts struct{ data, tweak cipher.Block }

func newXTS(key []byte) *xts {
	return &xts{must(aes.NewCipher(key[:len(key)/2])), must(aes.NewCipher(key[len(key)/2:]))}
}

func (x *xts) crypt(b []byte, sector uint64, one func(dst, src []byte)) []byte {
	out := make([]byte, len(b))
	for off := 0; off < len(b); off += 512 {
		var t [16]byte
		binary.LittleEndian.PutUint64(t[:], sector)
		x.tweak.Encrypt(t[:], t[:])
		for i := off; i < off+512; i += 16 {
			var c [16]byte
			for j := range c {
				c[j] = b[i+j] ^ t[j]
			}
			one(c[:], c[:])
			for j := range c {
				out[i+j] = c[j] ^ t[j]
			}
			carry := byte(0)
			for j := range t {
				next := t[j] >> 7
				t[j] = t[j]<<1 | carry
				carry = next
			}
			if carry != 0 {
				t[0] ^= 0x87
			}
		}
		sector++
	}
	return out
}

func (x *xts) encrypt(b []byte, sector uint64) []byte { return x.crypt(b, sector, x.data.Encrypt) }
func (x *xts) decrypt(b []byte, sector uint64) []byte { return x.crypt(b, sector, x.data.Decrypt) }

// wrap is the key wrap of RFC 3394, 2.2.1, by index.
func wrap(kek, key []byte) []byte {
	c := must(aes.NewCipher(kek))
	n := len(key) / 8
	a := uint64(0xA6A6A6A6A6A6A6A6)
	r := append([]byte(nil), key...)
	for j := range 6 {
		for i := range n {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:], a)
			copy(b[8:], r[8*i:8*i+8])
			c.Encrypt(b[:], b[:])
			a = binary.BigEndian.Uint64(b[:]) ^ uint64(n*j+i+1)
			copy(r[8*i:], b[8:])
		}
	}
	return append(binary.BigEndian.AppendUint64(nil, a), r...)
}

// der is an element of DER.
func der(tag byte, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	switch n := len(body); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	}
}

// keyBlob is a wrapped key as keybags have it.
func keyBlob(uuid, wrapped []byte, more ...[]byte) []byte {
	flags := make([]byte, 8)
	if len(wrapped) == 24 {
		flags[0] = 2
	}
	inner := der(0xA3, append([][]byte{der(0x80, []byte{0}), der(0x81, uuid), der(0x82, flags), der(0x83, wrapped)}, more...)...)
	mac := make([]byte, 32)
	return der(0x30, der(0x80, []byte{0}), der(0x81, mac), der(0x82, make([]byte, 8)), inner)
}

// keys are those of an encrypted volume.
type keys struct {
	vek []byte // of 32 bytes, or of 16 as FileVault 2 left them
	kek []byte
}

// cipher is that of the volume's nodes and files.
func (k *keys) cipher(uuid []byte) *xts {
	if len(k.vek) == 16 {
		sum := sha256.Sum256(append(append([]byte(nil), k.vek...), uuid...))
		return newXTS(append(append([]byte(nil), k.vek...), sum[:16]...))
	}
	return newXTS(k.vek)
}

// NoIterations is a count of none: 0 stands for 1000.
const NoIterations = 1<<64 - 1<<32

// KeyBlob is a wrapped key of a user, as keybags have it.
func KeyBlob(uuid, wrapped []byte, iterations uint64, salt []byte) []byte {
	return keyBlob(uuid, wrapped, der(0x84, binary.BigEndian.AppendUint64([]byte{0}, iterations)), der(0x85, salt))
}

// Users wraps a volume's key of 32 bytes: the entries of a volume's keybag, and that of the
// container's.
func Users(key []byte, list []User) (entries [][]byte, volume []byte) {
	k := &keys{vek: key, kek: make([]byte, 32)}
	for i, u := range list {
		entries = append(entries, k.user(u, i))
	}
	return entries, keyBlob(make([]byte, 16), wrap(k.kek, k.vek))
}

// Keybag is a keybag that is not encrypted, in so many bytes.
func Keybag(size int, entries ...[]byte) []byte {
	var list []bagEntry
	for _, e := range entries {
		list = append(list, bagEntry{uuid: make([]byte, 16), tag: 3, data: e})
	}
	return keybag(size, list...)
}

// user is the entry of a password in the volume's keybag.
func (k *keys) user(u User, i int) []byte {
	salt := make([]byte, 16)
	salt[0] = byte(i + 1)
	n := u.Iterations
	switch n {
	case 0:
		n = 1000
	case NoIterations:
		n = 0
	}
	count := binary.BigEndian.AppendUint64([]byte{0}, n)
	var derived []byte
	if n > 0 && n <= 1<<20 {
		derived = must(pbkdf2.Key(sha256.New, u.Password, salt, int(n), 32))
	} else {
		derived = make([]byte, 32)
	}
	return keyBlob(salt, wrap(derived[:len(k.kek)], k.kek), der(0x84, count), der(0x85, salt))
}

// keybag writes a keybag into blocks.
func keybag(size int, bags ...bagEntry) block {
	b := make(block, size)
	b.u16(32, 2)
	b.u16(34, uint16(len(bags)))
	at := 48
	for _, e := range bags {
		copy(b[at:], e.uuid)
		b.u16(at+16, e.tag)
		b.u16(at+18, uint16(len(e.data)))
		copy(b[at+24:], e.data)
		at += (24 + len(e.data) + 15) &^ 15
	}
	b.u32(36, uint32(at-48))
	return b
}

type bagEntry struct {
	uuid []byte
	tag  uint16
	data []byte
}

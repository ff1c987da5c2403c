package apfs

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// maxKeybag bounds a keybag. One block of 4096 bytes has room for 20 users.
	maxKeybag = 64 << 10

	// maxIterations bounds PBKDF2 over all keys of a volume. macOS aims at a fraction of
	// a second, with 100,000 to 250,000 iterations. Ten million take some seconds.
	maxIterations = 10_000_000

	keybagHeaderLen = 48
	keybagEntryLen  = 24
)

// Tags of keybag entries.
const (
	tagVolumeKey  = 2 // in the container's: the volume's wrapped key
	tagUnlock     = 3 // in the container's: {block u64, count u64} of the volume's keybag. In that: a user's wrapped key
	typeKeybag    = 0x6B657973
	typeVolumeBag = 0x72656373
)

// unlock returns the cipher of an encrypted volume.
func (v *Volume) unlock() (*volumeCipher, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.cipher != nil {
		return v.mu.cipher, nil
	}
	if le.Uint64(v.c.super[superFlags:])&softwareKeys == 0 {
		return nil, unsupported("an encrypted volume whose keys are in a Mac's hardware")
	}
	if le.Uint64(v.super[volFlags:])&volOneKey == 0 {
		return nil, unsupported("an encrypted volume with a key for each file")
	}
	key, err := v.key()
	if err != nil {
		return nil, err
	}
	v.mu.cipher, err = newCipher(key)
	return v.mu.cipher, err
}

// key finds the volume's wrapped key in the container's keybag, its users' keys in the
// volume's, and unwraps them with the password.
func (v *Volume) key() ([]byte, error) {
	super := v.c.super
	bag, err := v.c.keybag(le.Uint64(super[superKeys:]), le.Uint64(super[superKeys+8:]), v.c.UUID, typeKeybag)
	if err != nil {
		return nil, err
	}
	wrapped, place := bag.find(v.UUID, tagVolumeKey), bag.find(v.UUID, tagUnlock)
	if len(wrapped) == 0 || len(place) == 0 || len(place[0]) < 16 {
		return nil, unsupported("an encrypted volume without keys in the container's keybag")
	}
	blob, err := parseKeyBlob(wrapped[0])
	if err != nil {
		return nil, damaged(bag.block, bag.what, "the volume's key: %v", err)
	}
	users, err := v.c.keybag(le.Uint64(place[0]), le.Uint64(place[0][8:]), v.UUID, typeVolumeBag)
	if err != nil {
		return nil, err
	}
	return users.open(v.c.password, blob)
}

// open tries the password on every user's key. The error is the one that a caller can do
// most about.
func (bag *keybag) open(password string, volume *keyBlob) ([]byte, error) {
	budget := maxIterations
	var best error
	for _, e := range bag.entries {
		if e.tag != tagUnlock {
			continue
		}
		key, err := openUser(e.data, password, &budget, volume)
		if err == nil {
			return key, nil
		}
		if best == nil || errors.Is(err, ErrPassword) {
			best = err
		}
	}
	if best == nil {
		return nil, unsupported("an encrypted volume that no password opens")
	}
	if _, ok := best.(keyError); ok {
		return nil, damaged(bag.block, bag.what, "%v", best)
	}
	return nil, best
}

// openUser unwraps the volume's key by way of one user's.
func openUser(b []byte, password string, budget *int, volume *keyBlob) ([]byte, error) {
	user, err := parseKeyBlob(b)
	if err != nil {
		return nil, err
	}
	switch n := user.iterations; {
	case n == 0 || len(user.salt) == 0:
		return nil, unsupported("a key that is not of a password")
	case n > uint64(*budget):
		return nil, unsupported("%d iterations of key derivation (limit %d for all keys of a volume)", n, maxIterations)
	case password == "":
		return nil, ErrNoPassword
	}
	*budget -= int(user.iterations)
	k, err := pbkdf2.Key(sha256.New, password, user.salt, int(user.iterations), 32)
	if err != nil {
		return nil, unsupported("key derivation: %v", err)
	}
	kek, ok := user.unwrap(k)
	if !ok {
		return nil, ErrWrongPassword
	}
	// The user's key is right: what fails now is not the password's fault.
	key, ok := volume.unwrap(kek)
	if !ok {
		return nil, keyError("the volume's key does not unwrap")
	}
	if len(key) == 16 {
		// A volume that FileVault 2 encrypted before it became APFS. Two readers agree
		// on this; no sample was at hand.
		second := sha256.Sum256(append(key[:16:16], volume.uuid...))
		key = append(key[:16:16], second[:16]...)
	}
	return key, nil
}

// keyError is damage in a key, in a block that the caller knows.
type keyError string

func (e keyError) Error() string { return string(e) }

// A keybag is a list of keys, encrypted with a UUID that everyone can read.
type keybag struct {
	what    string
	block   uint64
	entries []keybagEntry
}

type keybagEntry struct {
	uuid [16]byte
	tag  uint16
	data []byte
}

// keybag reads the keybag of count blocks.
func (c *Container) keybag(block, count uint64, uuid [16]byte, typ uint32) (*keybag, error) {
	what := "container's keybag"
	if typ == typeVolumeBag {
		what = "volume's keybag"
	}
	switch {
	case count == 0:
		return nil, unsupported("an encrypted volume in a container without a keybag")
	case count > uint64(maxKeybag/c.dev.blockSize):
		return nil, unsupported("%s of %d blocks", what, count)
	}
	b, err := c.dev.read(block, int64(count)*c.dev.blockSize, what)
	if err != nil {
		return nil, err
	}
	cipher, err := newCipher(append(uuid[:len(uuid):len(uuid)], uuid[:]...))
	if err != nil {
		return nil, unsupported("AES-XTS: %v", err)
	}
	cipher.decrypt(b, block*uint64(c.dev.blockSize/sectorSize))
	if le.Uint64(b) != fletcher64(b) {
		return nil, mismatch(block, what)
	}
	if have := le.Uint32(b[24:]); have != typ {
		return nil, damaged(block, what, "object of type %#x, want %#x", have, typ)
	}
	bag := &keybag{what: what, block: block}
	bag.entries, err = parseKeybag(b)
	if err != nil {
		return nil, damaged(block, what, "%v", err)
	}
	return bag, nil
}

// parseKeybag takes apart a decrypted keybag:
//
//	32 version u16 · 34 entries u16 · 36 bytes u32 · 48 entries
//
// each of which is {UUID, 16 tag u16, 18 length u16, 24 data}, rounded up to 16 bytes.
func parseKeybag(b []byte) ([]keybagEntry, error) {
	if len(b) < keybagHeaderLen {
		return nil, keyError("it is too short")
	}
	if version := le.Uint16(b[32:]); version != 2 {
		return nil, keyError(fmt.Sprintf("version %d", version))
	}
	count := int(le.Uint16(b[34:]))
	var entries []keybagEntry
	rest := b[keybagHeaderLen:]
	for range count {
		if len(rest) < keybagEntryLen {
			return nil, keyError(fmt.Sprintf("%d entries are more than fit", count))
		}
		n := int(le.Uint16(rest[18:]))
		if n > len(rest)-keybagEntryLen {
			return nil, keyError(fmt.Sprintf("an entry of %d bytes", n))
		}
		e := keybagEntry{tag: le.Uint16(rest[16:]), data: rest[keybagEntryLen : keybagEntryLen+n]}
		copy(e.uuid[:], rest)
		entries = append(entries, e)
		rest = rest[min((keybagEntryLen+n+15)&^15, len(rest)):]
	}
	return entries, nil
}

// find returns the data of the entries with a UUID and tag.
func (bag *keybag) find(uuid [16]byte, tag uint16) [][]byte {
	var found [][]byte
	for _, e := range bag.entries {
		if e.uuid == uuid && e.tag == tag {
			found = append(found, e.data)
		}
	}
	return found
}

// A keyBlob is a wrapped key, in DER:
//
//	SEQUENCE { [0] … [1] HMAC [2] salt of the HMAC
//	           [3] { [0] … [1] UUID [2] flags [3] wrapped key [4] iterations [5] salt } }
//
// where the last two are of keys that a password unwraps.
type keyBlob struct {
	uuid       []byte
	wrapped    []byte
	iterations uint64
	salt       []byte
}

func parseKeyBlob(b []byte) (*keyBlob, error) {
	outer, _, err := derValue(b, 0x30)
	if err != nil {
		return nil, err
	}
	inner, err := derField(outer, 0xA3)
	if err != nil {
		return nil, err
	}
	k := &keyBlob{}
	for len(inner) > 0 {
		tag, value, rest, err := derNext(inner)
		if err != nil {
			return nil, err
		}
		inner = rest
		switch tag {
		case 0x81:
			k.uuid = value
		case 0x83:
			k.wrapped = value
		case 0x84:
			if len(value) > 9 || len(value) == 9 && value[0] != 0 {
				return nil, keyError("an iteration count of more than 64 bits")
			}
			for _, c := range value {
				k.iterations = k.iterations<<8 | uint64(c)
			}
		case 0x85:
			k.salt = value
		}
	}
	if len(k.wrapped) != 24 && len(k.wrapped) != 40 {
		return nil, keyError(fmt.Sprintf("a wrapped key of %d bytes", len(k.wrapped)))
	}
	return k, nil
}

// derNext cuts the first element off b.
func derNext(b []byte) (tag byte, value, rest []byte, err error) {
	if len(b) < 2 {
		return 0, nil, nil, keyError("a key is cut off")
	}
	tag, n, b := b[0], int(b[1]), b[2:]
	if n >= 0x80 {
		size := n & 0x7F
		if size > 2 || size > len(b) {
			return 0, nil, nil, keyError("the length of a part of a key")
		}
		n = 0
		for _, c := range b[:size] {
			n = n<<8 | int(c)
		}
		b = b[size:]
	}
	if n > len(b) {
		return 0, nil, nil, keyError("a key is cut off")
	}
	return tag, b[:n], b[n:], nil
}

// derValue is derNext for an element that must have the tag.
func derValue(b []byte, want byte) (value, rest []byte, err error) {
	tag, value, rest, err := derNext(b)
	if err == nil && tag != want {
		err = keyError(fmt.Sprintf("tag %#x, want %#x", tag, want))
	}
	return value, rest, err
}

// derField returns the first element of b with the tag.
func derField(b []byte, want byte) ([]byte, error) {
	for {
		tag, value, rest, err := derNext(b)
		if err != nil {
			return nil, err
		}
		if tag == want {
			return value, nil
		}
		b = rest
	}
}

// unwrap unwraps the key with another: AES-256, or AES-128 for a key of 16 bytes.
func (k *keyBlob) unwrap(kek []byte) ([]byte, bool) {
	if len(k.wrapped) == 24 {
		kek = kek[:min(16, len(kek))]
	}
	return unwrapKey(kek, k.wrapped)
}

// unwrapKey is the key unwrap of RFC 3394, 2.2.2. It reports false where the integrity
// value is wrong: nearly always because kek is.
func unwrapKey(kek, wrapped []byte) ([]byte, bool) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(wrapped) < 16 || len(wrapped)%8 != 0 {
		return nil, false
	}
	n := len(wrapped)/8 - 1
	r := append([]byte(nil), wrapped[8:]...)
	var b [aes.BlockSize]byte // A | R[i]
	copy(b[:8], wrapped)
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			t := uint64(n*j + i)
			binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^t)
			copy(b[8:], r[8*(i-1):8*i])
			block.Decrypt(b[:], b[:])
			copy(r[8*(i-1):8*i], b[8:])
		}
	}
	return r, binary.BigEndian.Uint64(b[:8]) == 0xA6A6A6A6A6A6A6A6
}

package dmgtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/scrypt"

	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// Archive says how an Apple Encrypted Archive is written. The zero value is what Apple's
// firmware has, but for the key's wrapping: profile 1, segments of 1 MiB, LZFSE, SHA-256.
type Archive struct {
	Profile   int // 0 with NoKey; 0 without stands for 1
	NoKey     bool
	Key       []byte            // of profiles 1 and 2; ArchiveKey if nil
	Password  string            // of profile 5
	Strength  byte              // of scrypt
	Recipient *ecdh.PublicKey   // of profiles 3 and 4
	Signer    *ecdsa.PrivateKey // of profiles 0, 2 and 4
	Unsigned  bool              // its signature is left out
	Auth      []byte            // auth data

	Segment    int  // bytes; 0: 1 MiB
	PerCluster int  // segments; 0: 256
	Codec      byte // '-', 'z', 'e' or 'x'; 0: 'e'; others are stored, or have Encode
	Sum        byte // 0 SHA-256, 1 murmur, 2 none
	Mixed      bool // every other segment is stored
	Padding    int  // bytes behind the last cluster
	Seed       uint64

	Encode func(b []byte) []byte // compresses a segment; nil: by Codec

	// What lies in an authentic archive: each may be nil.
	Root    func(r *ArchiveRoot)               // its root header
	Entry   func(segment int, e *ArchiveEntry) // a segment's entry
	Content func(segment int, b []byte) []byte // a segment as it is stored, before it is encrypted

	BadSum     map[int]bool // segments whose checksum is wrong
	Flip       map[int]bool // segments of which a bit is flipped
	FlipHeader map[int]bool // likewise, clusters
}

// ArchiveRoot is the root header of an archive.
type ArchiveRoot struct {
	Size, Archive       uint64
	Segment, PerCluster uint32
	Codec, Sum          byte
	Zero                [22]byte
}

// ArchiveEntry is what a cluster's header has of a segment, but for the checksum.
type ArchiveEntry struct{ Plain, Packed uint32 }

// ArchiveKey is the symmetric key of archives that are given none.
var ArchiveKey = bytes.Repeat([]byte{7}, 32)

// archiveWriter is an archive that is being written.
type archiveWriter struct {
	Archive
	encrypted bool
	main      []byte
	use       uint64
}

// Image returns the archive of a content.
func (a Archive) Image(content io.ReaderAt, size int64) []byte {
	w := archiveWriter{Archive: a}
	w.defaults()
	front, back := w.prologue()
	clusters, stored := w.clusters(content, size)
	body := len(front) + len(w.signatureField()) + len(back) + macLen + 48 + macLen
	for i := range clusters {
		body += w.headerLen() + len(stored[i])
	}
	padding := w.random(a.Padding)
	next := w.random(macLen)
	if a.Padding > 0 {
		h := hmac.New(sha256.New, archiveKey(w.main, nil, "AEA_PAK", macLen))
		h.Write(padding)
		next = h.Sum(nil)
	}
	for i := len(clusters) - 1; i >= 0; i-- {
		clusters[i], next = w.sealCluster(i, clusters[i], next)
	}
	root := ArchiveRoot{Size: uint64(size), Archive: uint64(body + a.Padding), Segment: uint32(w.Segment), PerCluster: uint32(w.PerCluster), Codec: w.Codec, Sum: w.sumKind()}
	if a.Root != nil {
		a.Root(&root)
	}
	var plain bytes.Buffer
	must(binary.Write(&plain, binary.LittleEndian, root))
	sealed, mac := w.seal(w.key(w.main, "AEA_RHEK"), plain.Bytes(), append(bytes.Clone(next), a.Auth...))
	back = append(append(append(back, mac...), sealed...), next...)
	out := w.sign(front, back)
	for i := range clusters {
		out = append(append(out, clusters[i]...), stored[i]...)
	}
	return append(out, padding...)
}

const macLen = 32

func (w *archiveWriter) defaults() {
	if w.Profile == 0 && !w.NoKey {
		w.Profile = 1
	}
	if w.Key == nil {
		w.Key = ArchiveKey
	}
	if w.Segment == 0 {
		w.Segment = 1 << 20
	}
	if w.PerCluster == 0 {
		w.PerCluster = 256
	}
	if w.Codec == 0 {
		w.Codec = 'e'
	}
	w.encrypted = w.Profile != 0
}

// random returns bytes that differ from call to call, and are the same for the same seed.
func (w *archiveWriter) random(n int) []byte {
	w.use++
	return Random(mix(w.Seed)+w.use, int64(n)).Bytes()
}

func (w *archiveWriter) sumKind() byte { return [...]byte{2, 1, 0}[w.Sum] }

func (w *archiveWriter) sumLen() int { return [...]int{32, 8, 0}[w.Sum] }

func (w *archiveWriter) headerLen() int { return w.PerCluster*(8+w.sumLen()+macLen) + macLen }

func (w *archiveWriter) sum(b []byte) []byte {
	switch w.Sum {
	case 0:
		s := sha256.Sum256(b)
		return s[:]
	case 1:
		return murmur64A(b, 0xE2236FDC26A5F6D2)
	}
	return nil
}

// murmur64A is MurmurHash64A as its author published it.
func murmur64A(b []byte, seed uint64) []byte {
	const m, r = 0xC6A4A7935BD1E995, 47
	h := seed ^ uint64(len(b))*m
	for ; len(b) >= 8; b = b[8:] {
		k := binary.LittleEndian.Uint64(b) * m
		k ^= k >> r
		h = (h ^ k*m) * m
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		h = (h ^ binary.LittleEndian.Uint64(last[:])) * m
	}
	h = (h ^ h>>r) * m
	return binary.LittleEndian.AppendUint64(nil, h^h>>r)
}

// archiveKey is HKDF-SHA256.
func archiveKey(ikm, salt []byte, info string, n int) []byte {
	k, err := hkdf.Key(sha256.New, ikm, salt, info, n)
	must(err)
	return k
}

// key derives the key of a part.
func (w *archiveWriter) key(ikm []byte, info string) []byte {
	if w.encrypted {
		return archiveKey(ikm, nil, info, 80)
	}
	return archiveKey(ikm, nil, info, 32)
}

// seal encrypts data, if the archive is encrypted, and makes its MAC.
func (w *archiveWriter) seal(key, data, bound []byte) (sealed, mac []byte) {
	sealed = bytes.Clone(data)
	if len(key) == 80 {
		block, err := aes.NewCipher(key[32:64])
		must(err)
		cipher.NewCTR(block, key[64:]).XORKeyStream(sealed, sealed)
	}
	h := hmac.New(sha256.New, key[:32])
	h.Write(bound)
	h.Write(sealed)
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(bound))))
	return sealed, h.Sum(nil)
}

func le32(v int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(v))) }

// prologue makes the main key, and returns what stands before the signature, and what
// stands behind it up to the root header's MAC.
func (w *archiveWriter) prologue() (front, back []byte) {
	word := []byte{byte(w.Profile), 0, 0, 0}
	if w.Profile == 5 {
		word[3] = w.Strength
	}
	front = append(append([]byte("AEA1"), word...), le32(len(w.Auth))...)
	front = append(front, w.Auth...)
	salt := w.random(32)
	mainSalt, ikm := salt, w.Key
	info := "AEA_AMK" + string(word)
	switch w.Profile {
	case 0:
		ikm = w.random(32)
		back = append(back, ikm...)
	case 3, 4:
		mine := ArchivePrivateKey(w.Seed + 1000)
		var err error
		ikm, err = mine.ECDH(w.Recipient)
		must(err)
		back = append(back, mine.PublicKey().Bytes()...)
		info += string(mine.PublicKey().Bytes()) + string(w.Recipient.Bytes())
	case 5:
		two := archiveKey(salt, nil, "AEA_SCRYPT", 64)
		var err error
		ikm, err = scrypt.Key([]byte(w.Password), two[:32], 1<<(14+2*w.Strength), 8, 1, 32)
		must(err)
		mainSalt = two[32:]
	}
	if w.Signer != nil {
		public, err := w.Signer.PublicKey.ECDH()
		must(err)
		info += string(public.Bytes())
	}
	w.main = archiveKey(ikm, mainSalt, info, 32)
	return front, append(back, salt...)
}

// ArchivePrivateKey returns a key of P-256, the same one for the same seed.
func ArchivePrivateKey(seed uint64) *ecdh.PrivateKey {
	for ; ; seed += 1 << 32 {
		if k, err := ecdh.P256().NewPrivateKey(Random(mix(seed), 32).Bytes()); err == nil {
			return k
		}
	}
}

// signatureField returns the field of the signature without it.
func (w *archiveWriter) signatureField() []byte {
	return make([]byte, map[int]int{0: 128, 2: 128 + macLen, 4: 128 + macLen}[w.Profile])
}

// sign puts the signature between the parts of the prologue.
func (w *archiveWriter) sign(front, back []byte) []byte {
	field := w.signatureField()
	if len(field) == 0 {
		return append(front, back...)
	}
	sig := make([]byte, 128)
	if !w.Unsigned {
		sum := sha256.Sum256(bytes.Join([][]byte{front, field, back}, nil))
		der, err := ecdsa.SignASN1(rand.Reader, w.Signer, sum[:])
		must(err)
		copy(sig, der)
	}
	if w.encrypted {
		sealed, mac := w.seal(w.key(archiveKey(w.main, nil, "AEA_SEK", 32), "AEA_SEK2"), sig, nil)
		sig = append(sealed, mac...)
	}
	return bytes.Join([][]byte{front, sig, back}, nil)
}

// clusters returns the plain headers of the clusters, each with the MACs of its segments
// behind its entries, and the segments as they are stored.
func (w *archiveWriter) clusters(content io.ReaderAt, size int64) (headers, stored [][]byte) {
	entryLen := 8 + w.sumLen()
	var above, header, macs, data []byte
	flush := func() {
		if header == nil {
			return
		}
		unused := w.PerCluster - len(macs)/macLen
		header = append(header, make([]byte, unused*entryLen)...)
		headers = append(headers, append(append(header, macs...), w.random(unused*macLen)...))
		stored = append(stored, data)
	}
	for i := 0; int64(i)*int64(w.Segment) < size; i++ {
		if k := i % w.PerCluster; k == 0 {
			flush()
			above = archiveKey(w.main, nil, "AEA_CK"+le32(i/w.PerCluster), 32)
			header, macs, data = []byte{}, nil, nil
		}
		plain := make([]byte, min(int64(w.Segment), size-int64(i)*int64(w.Segment)))
		if _, err := content.ReadAt(plain, int64(i)*int64(w.Segment)); err != nil && err != io.EOF {
			panic(err)
		}
		packed := plain
		if !w.Mixed || i%2 == 0 {
			packed = w.encode(plain)
		}
		if len(packed) >= len(plain) {
			packed = plain
		}
		if w.Content != nil {
			packed = w.Content(i, packed)
		}
		sealed, mac := w.seal(w.key(above, "AEA_SK"+le32(i%w.PerCluster)), packed, nil)
		e := ArchiveEntry{uint32(len(plain)), uint32(len(packed))}
		if w.Entry != nil {
			w.Entry(i, &e)
		}
		sum := w.sum(plain)
		if w.BadSum[i] {
			sum[0] ^= 1
		}
		header = append(append(header, le32(int(e.Plain))+le32(int(e.Packed))...), sum...)
		macs = append(macs, mac...)
		if w.Flip[i] {
			sealed[len(sealed)/2] ^= 4
		}
		data = append(data, sealed...)
	}
	flush()
	return headers, stored
}

// sealCluster makes a cluster's header of its plain entries and MACs, and the header's MAC.
func (w *archiveWriter) sealCluster(i int, plain, next []byte) (header, mac []byte) {
	n := w.PerCluster * (8 + w.sumLen())
	bound := append(bytes.Clone(next), plain[n:]...)
	above := archiveKey(w.main, nil, "AEA_CK"+le32(i), 32)
	sealed, mac := w.seal(w.key(above, "AEA_CHEK"), plain[:n], bound)
	if w.FlipHeader[i] {
		sealed[5] ^= 16
	}
	return append(sealed, bound...), mac
}

func (w *archiveWriter) encode(b []byte) []byte {
	if w.Encode != nil {
		return w.Encode(b)
	}
	switch w.Codec {
	case 'z':
		out, err := Compress(Zlib, 0, b)
		must(err)
		return out
	case 'e':
		return lzfseenc.Encode(lzfseenc.V2, b)
	case 'x':
		out, err := Compress(LZMA, 0, b)
		must(err)
		return out
	}
	return b
}

// ArchiveField is a field of auth data, as Apple's firmware has them.
func ArchiveField(name, value string) []byte {
	return []byte(le32(4+len(name)+1+len(value)) + name + "\x00" + value)
}

// ArchiveWrap returns the fields with which Apple's firmware says how its key is wrapped for
// a private key, and where that is served.
func ArchiveWrap(public *ecdh.PublicKey, key []byte, url string) []byte {
	mine := ArchivePrivateKey(2000)
	shared, err := mine.ECDH(public)
	must(err)
	enc := mine.PublicKey().Bytes()
	extract := func(suite string, salt []byte, label string, ikm []byte) []byte {
		k, err := hkdf.Extract(sha256.New, append([]byte("HPKE-v1"+suite+label), ikm...), salt)
		must(err)
		return k
	}
	expand := func(suite string, prk []byte, label, info string, n int) []byte {
		k, err := hkdf.Expand(sha256.New, prk, string([]byte{0, byte(n)})+"HPKE-v1"+suite+label+info, n)
		must(err)
		return k
	}
	const kem, suite = "KEM\x00\x10", "HPKE\x00\x10\x00\x01\x00\x02"
	secret := expand(kem, extract(kem, nil, "eae_prk", shared), "shared_secret", string(enc)+string(public.Bytes()), 32)
	context := "\x00" + string(extract(suite, nil, "psk_id_hash", nil)) + string(extract(suite, nil, "info_hash", nil))
	secret = extract(suite, secret, "secret", nil)
	block, err := aes.NewCipher(expand(suite, secret, "key", context, 32))
	must(err)
	gcm, err := cipher.NewGCM(block)
	must(err)
	wrapped := gcm.Seal(nil, expand(suite, secret, "base_nonce", context, 12), key, nil)
	reply := fmt.Sprintf(`{"enc-request":%q,"wrapped-key":%q}`, base64.StdEncoding.EncodeToString(enc), base64.StdEncoding.EncodeToString(wrapped))
	return append(ArchiveField("com.apple.wkms.fcs-response", reply), ArchiveField("com.apple.wkms.fcs-key-url", url)...)
}

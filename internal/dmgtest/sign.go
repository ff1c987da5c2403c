package dmgtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // hashes of signatures, as the next two
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"slices"
	"time"
)

// Signing says how code is signed. The zero value is an ad hoc signature without a name.
type Signing struct {
	Identifier, TeamID string
	Version            uint32        // of the code directory; 0: 0x20400
	Hashes             []crypto.Hash // one code directory each; none: SHA-256
	PageBits           int           // pages of 2^n bytes; 0: one page
	Limit              uint64        // what the hashes cover, if not all
	Signer             *Signer       // nil: ad hoc
	Time               time.Time
	Ticket             []byte
	Entitlements       []byte
	Indefinite         bool // the CMS message has indefinite lengths, as codesign's have
}

// Signer is a key, and the certificates of it and of who signed that.
type Signer struct {
	Key   crypto.Signer
	Chain []*x509.Certificate // the key's first
}

// NewSigner makes a key with a certificate of the name and organizational unit, and one of an
// authority's.
func NewSigner(name, unit string) *Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return newSigner(key, name, unit)
}

// NewRSASigner is NewSigner with an RSA key, as Apple's developers have one, though a short one.
func NewRSASigner(name, unit string) *Signer {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	return newSigner(key, name, unit)
}

func newSigner(key crypto.Signer, name, unit string) *Signer {
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root of " + name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(4e9, 0)}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{unit}},
		NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(4e9, 0)}
	s := &Signer{Key: key}
	for _, c := range []struct {
		cert *x509.Certificate
		key  crypto.Signer
	}{{leaf, key}, {root, rootKey}} {
		der, err := x509.CreateCertificate(rand.Reader, c.cert, root, c.key.Public(), rootKey)
		must(err)
		parsed, err := x509.ParseCertificate(der)
		must(err)
		s.Chain = append(s.Chain, parsed)
	}
	return s
}

// Places of the signature's offset and length in koly.
const (
	kolySignature = 0x128
	kolySigned    = 0x138
)

// Image signs an image that ends in koly. The signature comes before it.
func (s Signing) Image(img []byte) []byte {
	code, koly := img[:len(img)-KolyLen], bytes.Clone(img[len(img)-KolyLen:])
	binary.BigEndian.PutUint64(koly[kolySignature:], uint64(len(code)))
	clear(koly[kolySignature+8 : kolySigned])
	sig := s.Superblob(code, map[int][]byte{6: koly})
	binary.BigEndian.PutUint64(koly[kolySignature+8:], uint64(len(sig)))
	return slices.Concat(code, sig, koly)
}

// Superblob signs code, and what belongs to special slots.
func (s Signing) Superblob(code []byte, special map[int][]byte) []byte {
	all := map[uint32][]byte{2: codeBlob(0xfade0c01, make([]byte, 4))}
	if s.Entitlements != nil {
		all[5] = codeBlob(0xfade7171, s.Entitlements)
	}
	slots := make(map[int][]byte)
	for slot, b := range special {
		slots[slot] = b
	}
	for slot, b := range all {
		slots[int(slot)] = b
	}
	hashes := s.Hashes
	if hashes == nil {
		hashes = []crypto.Hash{crypto.SHA256}
	}
	var directories [][]byte
	for i, h := range hashes {
		d := s.directory(code, slots, h)
		directories = append(directories, d)
		slot := uint32(0)
		if i > 0 {
			slot = 0x1000 + uint32(i) - 1
		}
		all[slot] = d
	}
	cms := []byte{}
	if s.Signer != nil {
		cms = s.cms(directories, hashes)
	}
	all[0x10000] = codeBlob(0xfade0b01, cms)
	if s.Ticket != nil {
		all[0x10002] = codeBlob(0xfade0b01, s.Ticket)
	}
	return superblob(all)
}

// superblob puts blobs in the order of their slots behind an index.
func superblob(all map[uint32][]byte) []byte {
	var order []uint32
	for slot := range all {
		order = append(order, slot)
	}
	slices.Sort(order)
	var index, body []byte
	for _, slot := range order {
		index = binary.BigEndian.AppendUint32(index, slot)
		index = binary.BigEndian.AppendUint32(index, uint32(12+8*len(all)+len(body)))
		body = append(body, all[slot]...)
	}
	count := binary.BigEndian.AppendUint32(nil, uint32(len(all)))
	return codeBlob(0xfade0cc0, slices.Concat(count, index, body))
}

// codeBlob is a blob: a magic number, its length, and its content.
func codeBlob(magic uint32, content []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, magic)
	b = binary.BigEndian.AppendUint32(b, uint32(8+len(content)))
	return append(b, content...)
}

// hashTypes are the numbers of hashes in a code directory.
var hashTypes = map[crypto.Hash]byte{crypto.SHA1: 1, crypto.SHA256: 2, crypto.SHA384: 4, crypto.SHA512: 5}

// directory is a code directory of one hash.
func (s Signing) directory(code []byte, special map[int][]byte, h crypto.Hash) []byte {
	version := s.Version
	if version == 0 {
		version = 0x20400
	}
	limit := s.Limit
	if limit == 0 {
		limit = uint64(len(code))
	}
	code = code[:limit]
	sum := func(b []byte) []byte {
		w := h.New()
		w.Write(b)
		return w.Sum(nil)
	}
	slots := 0
	for slot := range special {
		slots = max(slots, slot)
	}
	var hashes []byte
	for slot := slots; slot > 0; slot-- {
		if b := special[slot]; b != nil {
			hashes = append(hashes, sum(b)...)
		} else {
			hashes = append(hashes, make([]byte, h.Size())...)
		}
	}
	pages := uint32(0)
	for off := 0; off < len(code); pages++ {
		end := len(code)
		if s.PageBits > 0 {
			end = min(end, off+1<<s.PageBits)
		}
		hashes = append(hashes, sum(code[off:end])...)
		off = end
	}
	head := map[uint32]int{0x20001: 44, 0x20100: 48, 0x20200: 52, 0x20300: 64, 0x20400: 88, 0x20500: 96}[version]
	d := make([]byte, head)
	put := func(at int, v uint32) { binary.BigEndian.PutUint32(d[at:], v) }
	put(0, 0xfade0c02)
	put(8, version)
	if s.Signer == nil {
		put(12, 2)
	}
	names := append([]byte(s.Identifier), 0)
	put(20, uint32(head))
	if s.TeamID != "" && version >= 0x20200 {
		put(48, uint32(head+len(names)))
		names = append(append(names, s.TeamID...), 0)
	}
	put(16, uint32(head+len(names)+slots*h.Size()))
	put(24, uint32(slots))
	put(28, pages)
	put(32, uint32(limit))
	if version >= 0x20300 && s.Limit > 0 {
		put(32, 0xFFFFFFFF)
		binary.BigEndian.PutUint64(d[56:], limit)
	}
	d[36], d[37], d[39] = byte(h.Size()), hashTypes[h], byte(s.PageBits)
	d = slices.Concat(d, names, hashes)
	put(4, uint32(len(d)))
	return d
}

// Object identifiers in DER, without their header.
var (
	oidData          = []byte("\x2A\x86\x48\x86\xF7\x0D\x01\x07\x01")
	oidSignedData    = []byte("\x2A\x86\x48\x86\xF7\x0D\x01\x07\x02")
	oidContentType   = []byte("\x2A\x86\x48\x86\xF7\x0D\x01\x09\x03")
	oidMessageDigest = []byte("\x2A\x86\x48\x86\xF7\x0D\x01\x09\x04")
	oidSigningTime   = []byte("\x2A\x86\x48\x86\xF7\x0D\x01\x09\x05")
	oidCDHashes2     = []byte("\x2A\x86\x48\x86\xF7\x63\x64\x09\x02")
	oidSHA256        = []byte("\x60\x86\x48\x01\x65\x03\x04\x02\x01")
	oidECDSA256      = []byte("\x2A\x86\x48\xCE\x3D\x04\x03\x02")
)

// der is an element of ASN.1.
func der(tag byte, parts ...[]byte) []byte {
	content := bytes.Join(parts, nil)
	b := []byte{tag}
	switch n := len(content); {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n))
	}
	return append(b, content...)
}

// cms signs code directories with SHA-256.
func (s Signing) cms(directories [][]byte, hashes []crypto.Hash) []byte {
	wrap := der
	if s.Indefinite {
		wrap = func(tag byte, parts ...[]byte) []byte {
			return slices.Concat([]byte{tag, 0x80}, bytes.Join(parts, nil), []byte{0, 0})
		}
	}
	attribute := func(id []byte, values ...[]byte) []byte {
		return der(0x30, der(6, id), der(0x31, values...))
	}
	digest := sha256.Sum256(directories[0])
	attributes := [][]byte{
		attribute(oidContentType, der(6, oidData)),
		attribute(oidSigningTime, der(0x17, []byte(s.Time.UTC().Format("060102150405Z")))),
		attribute(oidMessageDigest, der(4, digest[:])),
	}
	if len(directories) > 1 {
		var all [][]byte
		for i, d := range directories {
			h := hashes[i].New()
			h.Write(d)
			all = append(all, der(0x30, der(6, oidSHA256), der(4, h.Sum(nil))))
		}
		attributes = append(attributes, attribute(oidCDHashes2, all...))
	}
	signed := sha256.Sum256(der(0x31, attributes...))
	signature, err := s.Signer.Key.Sign(rand.Reader, signed[:], crypto.SHA256)
	must(err)
	leaf := s.Signer.Chain[0]
	signer := der(0x30, der(2, []byte{1}),
		der(0x30, leaf.RawIssuer, der(2, leaf.SerialNumber.Bytes())),
		der(0x30, der(6, oidSHA256)), der(0xA0, attributes...),
		der(0x30, der(6, oidECDSA256)), der(4, signature))
	var certs [][]byte
	for _, c := range slices.Backward(s.Signer.Chain) { // a reader is to find the signer's
		certs = append(certs, c.Raw)
	}
	return wrap(0x30, der(6, oidSignedData), wrap(0xA0, wrap(0x30,
		der(2, []byte{1}), der(0x31, der(0x30, der(6, oidSHA256))), wrap(0x30, der(6, oidData)),
		wrap(0xA0, certs...), der(0x31, signer))))
}

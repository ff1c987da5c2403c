package codesign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	_ "crypto/sha1"   // of old messages
	_ "crypto/sha256" // for crypto/x509, as the next
	_ "crypto/sha256" // of others
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"
)

// CMS is the message that signs a code directory (RFC 5652, SignedData). Nothing in it is
// trusted: anyone can make certificates of any name.
type CMS struct {
	// Certificates are those in the message, the signer's first. Those that can't be parsed
	// are left out.
	Certificates []*x509.Certificate

	// SigningTime is when the signer says it was. It is zero if it doesn't say.
	SigningTime time.Time

	signer     bool     // the first of the certificates is the signer's
	digest     string   // object identifier of the digest, in bytes
	attributes []byte   // what is signed, as a SET
	hash       []byte   // of the code directory in slot 0, in attributes
	others     [][]byte // attributes that have the hashes of all code directories
	signature  []byte
}

// maxCertificates is how many certificates of a message are looked at.
const maxCertificates = 32

// Object identifiers, in DER, without tag and length.
const (
	oidSignedData    = "\x2A\x86\x48\x86\xF7\x0D\x01\x07\x02"
	oidMessageDigest = "\x2A\x86\x48\x86\xF7\x0D\x01\x09\x04"
	oidSigningTime   = "\x2A\x86\x48\x86\xF7\x0D\x01\x09\x05"

	// Apple's, below 1.2.840.113635.100.9: a property list, and since macOS 10.14 pairs of a
	// digest's identifier and a hash.
	oidCDHashes  = "\x2A\x86\x48\x86\xF7\x63\x64\x09\x01"
	oidCDHashes2 = "\x2A\x86\x48\x86\xF7\x63\x64\x09\x02"
)

// digests are the hashes of messages, by their object identifiers.
var digests = map[string]struct {
	hash       crypto.Hash
	kind       HashType
	rsa, ecdsa x509.SignatureAlgorithm
}{
	"\x2B\x0E\x03\x02\x1A":                 {crypto.SHA1, 1, x509.SHA1WithRSA, x509.ECDSAWithSHA1},
	"\x60\x86\x48\x01\x65\x03\x04\x02\x01": {crypto.SHA256, 2, x509.SHA256WithRSA, x509.ECDSAWithSHA256},
	"\x60\x86\x48\x01\x65\x03\x04\x02\x02": {crypto.SHA384, 4, x509.SHA384WithRSA, x509.ECDSAWithSHA384},
	"\x60\x86\x48\x01\x65\x03\x04\x02\x03": {crypto.SHA512, 5, x509.SHA512WithRSA, x509.ECDSAWithSHA512},
}

// CMS reads the message that signs the code directory in slot 0. It is nil if there is none,
// or an empty one, as in a signature that is ad hoc.
func (s *Superblob) CMS() (*CMS, error) {
	b, err := s.Content(SlotCMS)
	if len(b) == 0 || err != nil {
		return nil, err
	}
	c, err := parseCMS(b)
	if err != nil {
		at, _ := s.find(SlotCMS)
		return nil, &Error{at.off, "a damaged CMS message"}
	}
	return c, nil
}

// parseCMS parses a message.
func parseCMS(b []byte) (*CMS, error) {
	l := &list{b: b}
	l = l.in(l.take(tagSequence))
	kind := l.take(tagOID)
	if l.err == nil && string(kind.content) != oidSignedData {
		return nil, errBER
	}
	l = l.in(l.take(tagContext0))
	l = l.in(l.take(tagSequence))
	l.take(tagInteger)
	l.take(tagSet)
	l.take(tagSequence) // what is signed, which is elsewhere
	certs, _ := l.optional(tagContext0)
	l.optional(tagContext0 + 1) // revocation lists
	signers := l.in(l.take(tagSet))
	c := &CMS{}
	var all []element
	for rest := l.in(certs); len(all) < maxCertificates; {
		e, ok := rest.any()
		if !ok {
			break
		}
		all = append(all, e)
	}
	signer := signers.in(signers.take(tagSequence))
	if signer.err != nil {
		return nil, signer.err
	}
	issuer, serial, err := c.parseSigner(signer)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		cert, err := x509.ParseCertificate(e.full)
		if err != nil {
			continue
		}
		c.Certificates = append(c.Certificates, cert)
		if !c.signer && issuer != nil && bytes.Equal(cert.RawIssuer, issuer) && bytes.Equal(serialOf(cert), serial) {
			n := len(c.Certificates) - 1
			copy(c.Certificates[1:], c.Certificates[:n])
			c.Certificates[0], c.signer = cert, true
		}
	}
	return c, nil
}

// serialOf returns a certificate's serial number as it is encoded.
func serialOf(cert *x509.Certificate) []byte {
	l := &list{b: cert.RawTBSCertificate}
	l = l.in(l.take(tagSequence))
	l.optional(tagContext0) // version
	return l.take(tagInteger).content
}

// parseSigner parses a SignerInfo, and returns by which name and number its certificate is to
// be found; nil if it is by another way.
func (c *CMS) parseSigner(l *list) (issuer, serial []byte, err error) {
	l.take(tagInteger)
	if id, ok := l.optional(tagSequence); ok {
		id := l.in(id)
		issuer, serial = id.take(tagSequence).full, id.take(tagInteger).content
	} else {
		l.any() // the identifier of a key
	}
	c.digest = string(l.in(l.take(tagSequence)).take(tagOID).content)
	if attributes, ok := l.optional(tagContext0); ok {
		c.attributes = append([]byte{tagSet}, attributes.full[1:]...) // RFC 5652, 5.4
		c.parseAttributes(l.in(attributes))
	}
	l.take(tagSequence)
	c.signature = l.take(tagOctets).content
	return issuer, serial, l.err
}

// parseAttributes takes what it knows of signed attributes.
func (c *CMS) parseAttributes(l *list) {
	for {
		e, ok := l.optional(tagSequence)
		if !ok {
			return
		}
		a := l.in(e)
		kind := string(a.take(tagOID).content)
		values := a.in(a.take(tagSet))
		if kind == oidCDHashes2 {
			c.addHashes(values)
			continue
		}
		value, _ := values.any()
		switch {
		case kind == oidCDHashes && value.tag == tagOctets:
			c.addHashList(value.content)
		case kind == oidMessageDigest && value.tag == tagOctets:
			c.hash = value.content
		case kind == oidSigningTime:
			c.SigningTime = timeOf(value)
		}
	}
}

// addHashes adds hashes of code directories, cut as CDHash cuts them.
func (c *CMS) addHashes(values *list) {
	for {
		e, ok := values.optional(tagSequence)
		if !ok {
			return
		}
		l := values.in(e)
		l.take(tagOID)
		if h := l.take(tagOctets).content; len(h) >= sha1.Size {
			c.others = append(c.others, h[:sha1.Size])
		}
	}
}

// addHashList adds the hashes in a property list, each a data element. What else is in the
// list is of no account.
func (c *CMS) addHashList(xml []byte) {
	for range maxBlobs {
		_, rest, ok := bytes.Cut(xml, []byte("<data>"))
		text, _, ended := bytes.Cut(rest, []byte("</data>"))
		if !ok || !ended {
			return
		}
		xml = rest
		text = bytes.Join(bytes.Fields(text), nil)
		if h, err := base64.StdEncoding.AppendDecode(nil, text); err == nil && len(h) == sha1.Size {
			c.others = append(c.others, h)
		}
	}
}

// timeOf returns a time, zero if it is none.
func timeOf(e element) time.Time {
	layouts := map[byte]string{tagUTCTime: "060102150405Z0700", tagTime: "20060102150405Z0700"}
	t, err := time.Parse(layouts[e.tag], string(e.content))
	if err != nil || layouts[e.tag] == "" {
		return time.Time{}
	}
	if e.tag == tagUTCTime && t.Year() >= 2050 { // RFC 5652, 11.3
		t = t.AddDate(-100, 0, 0)
	}
	return t.UTC()
}

// ErrCMS means that a message does not sign the code directory.
var ErrCMS = errors.New("code signature: the CMS message does not sign this code directory")

// maxKey is the longest RSA key, in bits, that a signature is checked by. Apple's have 4096 at
// most. The time that it takes grows with the cube.
const maxKey = 8192

// VerifyCMS reports whether the message signs the code directory by the key of the signer's
// certificate: by itself, or as one of those that the message lists beside the one in slot 0.
// Whose certificate that is, it does not ask. An error is ErrUnsupported, the source's, or says
// that the message does not sign the directory.
func (s *Superblob) VerifyCMS(c *CMS, d *Directory) error {
	first, err := s.Blob(SlotDirectory)
	if err != nil {
		return err
	}
	if err := c.verify(first); err != nil || bytes.Equal(first, d.Raw) {
		return err
	}
	h, err := d.CDHash()
	if err == nil && !slices.ContainsFunc(c.others, func(o []byte) bool { return bytes.Equal(o, h) }) {
		err = ErrCMS
	}
	return err
}

// verify reports whether the message signs the code directory in slot 0.
func (c *CMS) verify(directory []byte) error {
	d, ok := digests[c.digest]
	switch {
	case !ok:
		return fmt.Errorf("%w digest of the CMS message", ErrUnsupported)
	case !c.signer:
		return fmt.Errorf("%w: the signer's certificate is not in the CMS message, or can't be read", ErrUnsupported)
	case c.attributes == nil:
		return fmt.Errorf("%w: a CMS message without signed attributes", ErrUnsupported)
	}
	h, err := d.kind.new()
	if err != nil {
		return err
	}
	h.Write(directory)
	if !bytes.Equal(h.Sum(nil), c.hash) {
		return ErrCMS
	}
	var algorithm x509.SignatureAlgorithm
	switch key := c.Certificates[0].PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() > maxKey {
			return fmt.Errorf("%w: an RSA key of %d bits", ErrUnsupported, key.N.BitLen())
		}
		algorithm = d.rsa
	case *ecdsa.PublicKey:
		algorithm = d.ecdsa
	default:
		return fmt.Errorf("%w: a key of type %T", ErrUnsupported, key)
	}
	if err := c.Certificates[0].CheckSignature(algorithm, c.attributes, c.signature); err != nil {
		return fmt.Errorf("%w: %v", ErrCMS, err)
	}
	return nil
}

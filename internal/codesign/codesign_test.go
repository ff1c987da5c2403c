package codesign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

var (
	signer = dmgtest.NewSigner("Developer ID Application: Test (ABCDE12345)", "ABCDE12345")
	signed = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	code   = bytes.Repeat([]byte("code"), 5000)
)

// signings are signatures of code, and what is to be read of them.
var signings = []struct {
	name string
	dmgtest.Signing
	hash HashType
	cms  bool
}{
	{"ad hoc", dmgtest.Signing{Identifier: "com.example.a"}, 2, false},
	{"the first version", dmgtest.Signing{Identifier: "a", Version: 0x20001, Hashes: []crypto.Hash{crypto.SHA1}, PageBits: 12}, 1, false},
	{"pages of two bytes", dmgtest.Signing{Identifier: "a", Hashes: []crypto.Hash{crypto.SHA1}, PageBits: 1}, 1, false},
	{"signed", dmgtest.Signing{Identifier: "com.example.b", TeamID: "ABCDE12345", Signer: signer, Time: signed, PageBits: 12}, 2, true},
	{"indefinite lengths", dmgtest.Signing{Identifier: "b", TeamID: "T", Version: 0x20200, Signer: signer, Time: signed, Indefinite: true}, 2, true},
	{"an RSA key", dmgtest.Signing{Identifier: "b", Signer: dmgtest.NewRSASigner(signer.Chain[0].Subject.CommonName, "T"), Time: signed, Indefinite: true}, 2, true},
	{"limit of 64 bits", dmgtest.Signing{Identifier: "b", Limit: 19_999, Signer: signer, Time: signed, PageBits: 10}, 2, true},
	{"two directories", dmgtest.Signing{Identifier: "c", Hashes: []crypto.Hash{crypto.SHA1, crypto.SHA256}, Signer: signer, Time: signed, PageBits: 12}, 2, true},
	{"SHA-384 last", dmgtest.Signing{Identifier: "c", Hashes: []crypto.Hash{crypto.SHA256, crypto.SHA1, crypto.SHA384}, Signer: signer, Time: signed}, 4, true},
	{"ticket and entitlements", dmgtest.Signing{Identifier: "d", Version: 0x20500, Signer: signer, Time: signed, Ticket: []byte("ticket"), Entitlements: []byte("<plist/>")}, 2, true},
}

// read opens a signature, and reads all that there is to read.
func read(b []byte) (*Superblob, *Directory, *CMS, error) {
	s, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, nil, nil, err
	}
	d, err := s.Directory()
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := s.CMS()
	return s, d, c, err
}

// verify compares code with a signature.
func verify(b, code []byte, beside map[uint32][]byte) error {
	s, d, c, err := read(b)
	if err != nil {
		return err
	}
	err = s.VerifyContent(context.Background(), d, bytes.NewReader(code), beside, make([]byte, 1000))
	if err == nil && c != nil {
		err = s.VerifyCMS(c, d)
	}
	return err
}

func TestSignatures(t *testing.T) {
	for _, tt := range signings {
		t.Run(tt.name, func(t *testing.T) {
			trailer := []byte("trailer")
			b := tt.Superblob(code, map[int][]byte{6: trailer})
			s, d, c, err := read(b)
			if err != nil {
				t.Fatal(err)
			}
			names, err := s.Names()
			if err != nil || names.Identifier != tt.Identifier || d.Identifier != tt.Identifier || names.TeamID != tt.TeamID || d.TeamID != tt.TeamID {
				t.Errorf("names %q %q, %v", d.Identifier, d.TeamID, err)
			}
			limit := int64(len(code))
			if tt.Limit > 0 {
				limit = int64(tt.Limit)
			}
			if d.HashType != tt.hash || d.CodeLimit != limit || (d.Flags == 2) == tt.cms {
				t.Errorf("hash %v, limit %d, flags %#x", d.HashType, d.CodeLimit, d.Flags)
			}
			if (c != nil) != tt.cms || c != nil && (len(c.Certificates) != 2 || c.Certificates[0].Subject.CommonName != signer.Chain[0].Subject.CommonName || !c.SigningTime.Equal(signed)) {
				t.Errorf("CMS %v", c)
			}
			if ticket, err := s.Content(SlotTicket); err != nil || !bytes.Equal(ticket, tt.Ticket) {
				t.Errorf("ticket %q, %v", ticket, err)
			}
			beside := map[uint32][]byte{SlotTrailer: trailer}
			if err := verify(b, code, beside); err != nil {
				t.Error(err)
			}
			counter := &dmgtest.Counter{R: bytes.NewReader(code)}
			if err := s.VerifyContent(context.Background(), d, counter, beside, make([]byte, 1000)); err != nil || counter.Calls() != int(limit+999)/1000 {
				t.Errorf("%d reads, %v", counter.Calls(), err)
			}
			// One wrong byte is noticed, wherever it is.
			wrong := bytes.Clone(code)
			for _, at := range []int64{0, 5000, limit - 1} {
				wrong[at] ^= 1
				var m *Mismatch
				if err := verify(b, wrong, beside); !errors.As(err, &m) || !strings.HasPrefix(m.Part, "page ") {
					t.Errorf("a wrong byte %d: %v", at, err)
				}
				wrong[at] ^= 1
			}
			for _, other := range []map[uint32][]byte{nil, {SlotTrailer: []byte("another")}, {SlotTrailer: trailer, SlotInfo: []byte("x")}, {SlotTrailer: trailer, 50: []byte("x")}} {
				var m *Mismatch
				if err := verify(b, code, other); !errors.As(err, &m) {
					t.Errorf("with %q: %v", other, err)
				}
			}
		})
	}
}

// Any byte of a signature may be another. Then it isn't taken for that of the code, but
// where nothing of it is asked for.
func TestSignatureBytes(t *testing.T) {
	sig := signings[3].Superblob(code, nil)
	s, d, _, err := read(sig)
	if err != nil {
		t.Fatal(err)
	}
	cms, _ := s.find(SlotCMS)
	taken := 0
	for i := range sig {
		if int64(i) > cms.off+100 && i%13 > 0 {
			continue
		}
		b := bytes.Clone(sig)
		b[i] ^= 0x41
		if verify(b, code, nil) != nil {
			continue
		}
		taken++
		if int64(i) < cms.off && i >= 12+3*8 {
			t.Errorf("byte %d of the code directory or of the requirements is of no account", i)
		}
	}
	// What is of no account: the slot of the CMS message, names and signatures in certificates
	// that are not the signer's, and the like.
	if taken > 120 {
		t.Errorf("%d of %d bytes are of no account", taken, len(sig))
	}
	// A directory that the message doesn't sign.
	other := signings[3].Signing
	other.Identifier = "com.example.z"
	forged := other.Superblob(code, nil)
	so, do, _, err := read(forged)
	if err != nil {
		t.Fatal(err)
	}
	_, _, c, _ := read(sig)
	if err := so.VerifyCMS(c, do); !errors.Is(err, ErrCMS) {
		t.Errorf("another's message: %v", err)
	}
	if err := s.VerifyCMS(c, do); !errors.Is(err, ErrCMS) {
		t.Errorf("a directory that is not listed: %v", err)
	}
	if err := s.VerifyCMS(c, d); err != nil {
		t.Error(err)
	}
}

// bend sets a number of four bytes.
func bend(b []byte, at int, v uint32) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b[at:], v)
	return b
}

func TestHostile(t *testing.T) {
	sig := signings[3].Superblob(code, nil)
	s, _, _, err := read(sig)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := s.find(SlotDirectory)
	d := int(at.off)
	for _, tt := range []struct {
		name        string
		sig         []byte
		unsupported bool
	}{
		{"nothing", nil, false},
		{"a header", sig[:12], false},
		{"cut", sig[:len(sig)-1], false},
		{"no superblob", bend(sig, 0, 0xfade0c02), false},
		{"longer than the file", bend(sig, 4, uint32(len(sig)+1)), false},
		{"2^32 blobs", bend(sig, 8, 1<<32-1), false},
		{"65 blobs", bend(sig, 8, 65), false},
		{"a blob outside", bend(sig, 16, uint32(len(sig)-7)), false},
		{"a blob at 2^32", bend(sig, 16, 1<<32-1), false},
		{"no directory", bend(sig, 12, 1), false},
		{"a directory that is none", bend(sig, d, 0xfade0c01), false},
		{"a directory of 7 bytes", bend(sig, d+4, 7), false},
		{"a directory of 37 bytes", bend(sig, d+4, 37), false},
		{"a directory of 43 bytes", bend(sig, d+4, 43), false},
		{"a directory of 4 GiB", bend(sig, d+4, 1<<32-1), false},
		{"an old version", bend(sig, d+8, 0x20000), true},
		{"a new version", bend(sig, d+8, 0x30000), true},
		{"hashes before the head", bend(sig, d+16, 10), false},
		{"hashes outside", bend(sig, d+16, 1<<32-1), false},
		{"a name outside", bend(sig, d+20, 1<<32-1), false},
		{"a team outside", bend(sig, d+48, 1<<32-1), false},
		{"2^32 special slots", bend(sig, d+24, 1<<32-1), false},
		{"64 special slots", bend(sig, d+24, 64), false},
		{"2^32 pages", bend(sig, d+28, 1<<32-1), false},
		{"no pages", bend(sig, d+28, 0), false},
		{"a limit of 4 GiB", bend(sig, d+32, 1<<32-1), false},
		{"a limit of 2^64", bend(sig, d+56, 1<<32-1), false},
		{"hashes of 0 bytes", bend(sig, d+36, 0x0002000C), false},
		{"hashes of 255 bytes", bend(sig, d+36, 0xFF02000C), false},
		{"a hash of no kind", bend(sig, d+36, 0x20FF000C), true},
		{"pages of 2^255 bytes", bend(sig, d+36, 0x200200FF), false},
	} {
		err := verify(tt.sig, code, nil)
		var bad *Error
		if errors.Is(err, ErrUnsupported) != tt.unsupported || errors.As(err, &bad) == tt.unsupported {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	names := signings[3].Signing
	names.Identifier = strings.Repeat("x", headLen)
	sig = names.Superblob(code, nil)
	if s, err := Open(bytes.NewReader(sig), int64(len(sig))); err != nil {
		t.Error(err)
	} else if d, err := s.Names(); err != nil || len(d.Identifier) != headLen || d.TeamID != "ABCDE12345" {
		t.Errorf("a long name: %v", err)
	}
}

func TestBER(t *testing.T) {
	deep := append(bytes.Repeat([]byte{0x30, 0x80}, 1000), make([]byte, 2000)...)
	for _, tt := range []struct {
		in string
		n  int // of the first element; 0 for an error
	}{
		{"\x02\x01\x05x", 3}, {"\x30\x80\x00\x00x", 4}, {"\x30\x80\x02\x01\x00\x00\x00x", 7}, {"\x30\x80\x30\x80\x00\x00\x00\x00", 8},
		{"\x04\x81\x01x", 4}, {"\x04\x84\x00\x00\x00\x01x", 7},
		{"", 0}, {"\x02", 0}, {"\x02\x02\x05", 0}, {"\x1f\x01\x01\x00", 0}, {"\x04\x80\x00\x00", 0}, {"\x04\x85\x00\x00\x00\x00\x01x", 0},
		{"\x04\x84\xff\xff\xff\xffx", 0}, {"\x04\x82\x00", 0}, {"\x30\x80\x02\x01\x00", 0}, {"\x30\x80\x00", 0}, {string(deep), 0},
	} {
		e, rest, err := next([]byte(tt.in))
		if (err == nil) != (tt.n > 0) || len(e.full) != tt.n || err == nil && len(e.full)+len(rest) != len(tt.in) {
			t.Errorf("%.20q: %x, %v, want %d bytes", tt.in, e.full, err, tt.n)
		}
	}
}

// The hashes of code directories in the property list that older messages have.
func TestHashList(t *testing.T) {
	hash := bytes.Repeat([]byte{0xAB}, 20)
	text := base64.StdEncoding.EncodeToString(hash)
	list := "<plist><dict><key>cdhashes</key><array><data>\n\t" + text[:9] + "\n\t" + text[9:] + "\n</data>"
	var c CMS
	c.addHashList([]byte(list + "<data>" + text[:8] + "</data><data>%</data><data>" + text))
	if len(c.others) != 1 || !bytes.Equal(c.others[0], hash) {
		t.Errorf("%x", c.others)
	}
	c.others = nil
	c.addHashList([]byte(strings.Repeat("<data>"+text+"</data>", 1000)))
	if len(c.others) != maxBlobs {
		t.Errorf("%d hashes", len(c.others))
	}
}

// Keys by which nothing is checked.
func TestKeys(t *testing.T) {
	sig := signings[3].Superblob(code, nil)
	s, d, c, err := read(sig)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []any{&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), maxKey), E: 65537}, ed25519.PublicKey(make([]byte, 32)), nil} {
		c.Certificates[0].PublicKey = key
		if err := s.VerifyCMS(c, d); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%T: %v", key, err)
		}
	}
	c.signer = false
	if err := s.VerifyCMS(c, d); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no signer: %v", err)
	}
}

// FuzzSignature reads anything as a signature. Whatever a signature says, changed code is
// noticed where it covers the code.
func FuzzSignature(f *testing.F) {
	for _, s := range signings {
		f.Add(s.Superblob(code, nil))
	}
	wrong := bytes.Clone(code)
	wrong[0] ^= 1
	f.Fuzz(func(t *testing.T, b []byte) {
		s, d, c, err := read(b)
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("an error without a class: %v", err)
			}
			return
		}
		if _, err := d.CDHash(); err != nil && (d.HashType.known() || !errors.Is(err, ErrUnsupported)) {
			t.Fatal(err)
		}
		if names, err := s.Names(); err != nil || names.Identifier != d.Identifier || names.TeamID != d.TeamID {
			t.Fatalf("names %v, %v", names, err)
		}
		if c != nil {
			s.VerifyCMS(c, d)
		}
		if d.CodeLimit < 1 || d.CodeLimit > int64(len(code)) {
			return
		}
		good, bad := verify(b, code, nil), verify(b, wrong, nil)
		if bad == nil {
			t.Fatalf("changed code is taken; the right one: %v", good)
		}
	})
}

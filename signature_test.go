package dmg_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// signedImage is an image with a signature.
func signedImage(t *testing.T, s dmgtest.Signing) []byte {
	t.Helper()
	return s.Image(dmgtest.Image(t, dmgtest.Text(1, 300_000).Bytes(), dmgtest.Options{}))
}

var signing = dmgtest.Signing{
	Identifier: "com.example.installer", TeamID: "ABCDE12345", Ticket: []byte("a ticket"), Indefinite: true,
	Signer: dmgtest.NewSigner("Developer ID Application: Example (ABCDE12345)", "ABCDE12345"), Time: time.Unix(1.7e9, 0),
}

func TestSignature(t *testing.T) {
	pages, old, adHoc := signing, signing, dmgtest.Signing{Identifier: "x"}
	pages.PageBits = 12
	old.Hashes, old.Version = []crypto.Hash{crypto.SHA1, crypto.SHA256}, 0x20200
	for _, tt := range []struct {
		name string
		dmgtest.Signing
	}{{"one page", signing}, {"pages", pages}, {"two code directories", old}, {"ad hoc", adHoc}} {
		t.Run(tt.name, func(t *testing.T) {
			img := signedImage(t, tt.Signing)
			for _, file := range [][]byte{
				img, dmgtest.Encryption{Password: "x"}.Image(img),
				append(bytes.Clone(img), make([]byte, 300)...), append(make([]byte, 128), img...), // as after MacBinary
			} {
				im, err := dmg.NewImage(bytes.NewReader(file), int64(len(file)), &dmg.Options{Password: "x"})
				if err != nil {
					t.Fatal(err)
				}
				s, err := im.Signature()
				if err != nil || s == nil {
					t.Fatal(s, err)
				}
				if s.Identifier != tt.Identifier || s.TeamID != tt.TeamID || s.Hash != "SHA-256" || len(s.CDHash) != 20 || !bytes.Equal(s.Ticket, tt.Ticket) {
					t.Errorf("%+v", s)
				}
				if at := int64(len(img)) - 512; s.Offset+s.Length != at || binary.BigEndian.Uint32(img[s.Offset:]) != 0xfade0cc0 {
					t.Errorf("at %d, %d bytes", s.Offset, s.Length)
				}
				if tt.Signer != nil && (len(s.Certificates) != 2 || !s.Certificates[0].Equal(tt.Signer.Chain[0]) || !s.SigningTime.Equal(tt.Time)) {
					t.Errorf("certificates %v, time %v", s.Certificates, s.SigningTime)
				}
				if err := s.VerifyContent(context.Background()); err != nil {
					t.Error(err)
				}
				ctx, cancel := context.WithCancelCause(context.Background())
				why := errors.New("why")
				cancel(why)
				if err := s.VerifyContent(ctx); !errors.Is(err, why) {
					t.Errorf("cancelled: %v", err)
				}
			}
		})
	}
}

// Any bit of a signed image, beside the signature's own bytes, changes what Signature or
// VerifyContent return.
func TestSignatureFlips(t *testing.T) {
	dmgtest.Long(t)
	img := signing.Image(dmgtest.Image(t, dmgtest.Text(1, 3000).Bytes(), dmgtest.Options{}))
	im, err := dmg.NewImage(bytes.NewReader(img), int64(len(img)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := im.Signature()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(img); i++ {
		if i+7 < len(img)-512 {
			i += 6 // of the trailer every byte, of the rest some
		}
		if int64(i) >= s.Offset && int64(i) < s.Offset+s.Length {
			i = int(s.Offset + s.Length)
		}
		b := bytes.Clone(img)
		b[i] ^= 0x10
		im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
		if err != nil {
			continue
		}
		got, err := im.Signature()
		if err == nil && got != nil {
			err = got.VerifyContent(context.Background())
		}
		if err == nil && got != nil {
			t.Errorf("byte %d of %d may be another", i, len(img))
		}
		if err != nil && !errors.Is(err, dmg.ErrFormat) && !errors.Is(err, dmg.ErrChecksum) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

func TestNoSignature(t *testing.T) {
	plain := dmgtest.Image(t, dmgtest.Text(1, 3000).Bytes(), dmgtest.Options{})
	with := func(off, length uint64) []byte {
		b := bytes.Clone(plain)
		koly := b[len(b)-512:]
		binary.BigEndian.PutUint64(koly[0x128:], off)
		binary.BigEndian.PutUint64(koly[0x130:], length)
		return b
	}
	end := uint64(len(plain) - 512)
	for _, tt := range []struct {
		name string
		img  []byte
		err  error
	}{
		{"none", plain, nil},
		{"garbage", with(0x0123456789ABCDEF, 0xFEDCBA9876543210), nil},
		{"garbage in the file", with(5, 7), nil},
		{"bytes in place of one", with(end-100, 100), dmg.ErrFormat},
		{"three bytes", with(end-3, 3), dmg.ErrFormat},
	} {
		im, err := dmg.NewImage(bytes.NewReader(tt.img), int64(len(tt.img)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := im.Signature(); s != nil || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v", tt.name, s, err)
		}
	}
	// A signature that covers less than the image, or has something behind it.
	part := signing
	part.Limit = 1000
	partly := part.Image(plain)
	gap := signing.Image(plain)
	gap = slices.Insert(gap, len(gap)-512, make([]byte, 16)...)
	for name, img := range map[string][]byte{"a part": partly, "a gap": gap} {
		im, err := dmg.NewImage(bytes.NewReader(img), int64(len(img)), nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := im.Signature()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.VerifyContent(context.Background()); !errors.Is(err, dmg.ErrFormat) {
			t.Errorf("%s is signed: %v", name, err)
		}
	}
	raw := make([]byte, 4096)
	copy(raw[510:], "\x55\xAA")
	im, err := dmg.NewImage(bytes.NewReader(raw), int64(len(raw)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := im.Signature()
	l, lerr := im.Licenses()
	if s != nil || err != nil || l != nil || lerr != nil || im.Trailer() != nil {
		t.Errorf("a raw disk: %v, %v, %v, %v, %v", s, err, l, lerr, im.Trailer())
	}
}

// An error of the source is passed on, and the next call tries again.
func TestSignatureSourceFails(t *testing.T) {
	img := signedImage(t, signing)
	failing := false
	fault := errors.New("fault")
	src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if failing {
			return 0, fault
		}
		return bytes.NewReader(img).ReadAt(p, off)
	})
	im, err := dmg.NewImage(src, int64(len(img)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := im.Signature()
	if err != nil {
		t.Fatal(err)
	}
	failing = true
	_, err = im.Signature()
	_, lerr := im.Licenses()
	if verr := s.VerifyContent(context.Background()); !errors.Is(err, fault) || !errors.Is(lerr, fault) || !errors.Is(verr, fault) {
		t.Errorf("%v, %v, %v", err, lerr, verr)
	}
	failing = false
	if err := s.VerifyContent(context.Background()); err != nil {
		t.Error(err)
	}
}

// licenseResources are an agreement in two languages.
var licenseResources = []dmgtest.Resource{
	{Type: "LPic", ID: 5000, Data: []byte("\x00\x0E\x00\x02" + "\x00\x00\x00\x00\x00\x00" + "\x00\x0E\x00\x01\x00\x01")},
	{Type: "TEXT", ID: 5000, Data: []byte("\xD2Hello\xD3\r")},
	{Type: "RTF ", ID: 5001, Data: []byte(`{\rtf1\ansi\ansicpg932 \'93\'fa\'96\'7b}`)},
	{Type: "STR#", ID: 5000, Data: []byte("\x00\x02\x07English\x05Agree")},
	{Type: "styl", ID: 5000, Data: []byte("no styles")},
	{Type: "TMPL", ID: 128, Data: []byte("no template")},
}

func TestLicenses(t *testing.T) {
	disk := dmgtest.Text(1, 3000).Bytes()
	for _, meta := range []dmgtest.Meta{dmgtest.PlistOnly, dmgtest.ResourceOnly, dmgtest.PlistAndRsrc} {
		img := dmgtest.Image(t, disk, dmgtest.Options{Meta: meta, Extra: licenseResources})
		im, err := dmg.NewImage(bytes.NewReader(img), int64(len(img)), nil)
		if err != nil {
			t.Fatal(err)
		}
		all, err := im.Licenses()
		if err != nil || len(all) != 2 {
			t.Fatalf("%v: %v, %v", meta, all, err)
		}
		en, ja := all[0], all[1]
		if en.Language != "en-US" || en.Region != 0 || en.Default || en.Text != "“Hello”\n" || en.RTF || en.Encoding != "MacRoman" || string(en.Data) != "\xD2Hello\xD3\r" || !slices.Equal(en.Words, []string{"English", "Agree"}) {
			t.Errorf("%v: %+v", meta, en)
		}
		if ja.Language != "ja" || ja.Region != 14 || !ja.Default || ja.Text != "日本" || !ja.RTF || ja.Encoding != "RTF" || ja.Words != nil {
			t.Errorf("%v: %+v", meta, ja)
		}
	}
	img := dmgtest.Image(t, disk, dmgtest.Options{})
	im, err := dmg.NewImage(bytes.NewReader(img), int64(len(img)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := im.Licenses(); all != nil || err != nil {
		t.Errorf("an image without a license: %v, %v", all, err)
	}
	l, err := dmgtest.Build(disk, dmgtest.Options{Meta: dmgtest.PlistAndRsrc, Extra: licenseResources})
	if err != nil {
		t.Fatal(err)
	}
	copy(l.Plist[len(l.Plist)/2:], "<<<<")
	img = l.Bytes()
	if im, err = dmg.NewImage(bytes.NewReader(img), int64(len(img)), nil); err != nil {
		t.Fatal(err)
	}
	if all, err := im.Licenses(); len(all) != 2 || err != nil {
		t.Errorf("a damaged list beside a resource fork: %v, %v", all, err)
	}
}

// An image by hdiutil whose resources are Apple's.
func TestLicenseSample(t *testing.T) {
	const name = "../shared/samples/fs/hfsplus-app.dmg"
	if _, err := os.Stat(name); err != nil {
		t.Skip("no samples")
	}
	im, err := dmg.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	all, err := im.Licenses()
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if l := all[0]; l.Language != "en-US" || !l.Default || l.Encoding != "MacRoman" || len(l.Words) != 6 || l.Words[0] != "English" || l.Words[1] != "Agree" || !strings.HasPrefix(l.Text, "Blah") {
		t.Errorf("%+v", l)
	}
	if tr := im.Trailer(); tr.Flags != 1 || tr.Segment != 1 || tr.Segments != 1 || tr.SegmentID[0] != 0xfc || tr.Variant != 1 {
		t.Errorf("%+v", tr)
	}
	if s, err := im.Signature(); s != nil || err != nil {
		t.Errorf("signature %v, %v", s, err)
	}
}

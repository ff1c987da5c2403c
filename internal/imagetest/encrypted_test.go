package imagetest

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

func TestSamplesPassword(t *testing.T) {
	for _, s := range ReadManifest(t) {
		if s.Password == "" {
			continue
		}
		t.Run(s.File, func(t *testing.T) {
			checkPassword(t, filepath.Join(Samples(), s.File))
		})
	}
}

// checkPassword opens an encrypted image without a password and with a wrong
// one.
func checkPassword(t *testing.T, name string) {
	t.Helper()
	const wrong = "correct horse battery staple"
	for _, tt := range []struct {
		password string
		err      error
		say      string
	}{
		{"", dmg.ErrNoPassword, "no password given"},
		{wrong, dmg.ErrWrongPassword, "wrong password"},
	} {
		im, err := dmg.Open(name, &dmg.Options{Password: tt.password, Key: dmgtest.ArchiveKey})
		if err == nil {
			im.Close()
			t.Errorf("password %q opens the image", tt.password)
			continue
		}
		checkPasswordError(t, err, tt.err)
		if msg := err.Error(); !strings.Contains(msg, tt.say) || strings.Contains(msg, wrong) {
			t.Errorf("password %q: the error is %q, want %q in it", tt.password, msg, tt.say)
		}
	}
}

// certificateImage is an encrypted image for whom the public key belongs to: the
// one key record of an image made for a password is replaced.
func certificateImage(t *testing.T, plain []byte, public *rsa.PublicKey) []byte {
	t.Helper()
	const recordAt = 0x4C + 20
	image := dmgtest.Encryption{Password: secret}.Image(plain)
	be := binary.BigEndian
	r := image[recordAt:]
	kek, err := pbkdf2.Key(sha1.New, secret, r[0x10:0x10+be.Uint32(r[0x0C:])], int(be.Uint32(r[8:])), 24)
	if err != nil {
		t.Fatal(err)
	}
	block, err := des.NewTripleDESCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	keys := bytes.Clone(r[0x68 : 0x68+be.Uint32(r[0x64:])])
	cipher.NewCBCDecrypter(block, r[0x34:0x3C]).CryptBlocks(keys, keys)
	keys = keys[:len(keys)-int(keys[len(keys)-1])] // PKCS #7
	blob, err := rsa.EncryptPKCS1v15(rand.Reader, public, keys)
	if err != nil {
		t.Fatal(err)
	}
	be.PutUint32(image[0x4C:], 2)
	clear(r[:0x34])
	be.PutUint32(r, 20)
	be.PutUint32(r[0x24:], 42)
	be.PutUint32(r[0x28:], 10)
	be.PutUint32(r[0x30:], uint32(len(blob)))
	copy(r[0x34:], blob)
	return image
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../crypt/testdata/certificate-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PrivateKey)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	disk := containerDisk()
	for name, o := range map[string]dmgtest.Options{"UDZO": inUDZO, "UDBZ": inUDBZ} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, certificateImage(t, dmgtest.Image(t, disk, o), &key.PublicKey))
			im, err := dmg.Open(file, &dmg.Options{PrivateKey: key})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			checkWrapped(t, im, &wrapped{format: name, layers: encrypted})
			CheckDisk(t, im, int64(len(disk)), SumOf(disk))
			for _, tt := range []struct {
				opts dmg.Options
				err  error
				say  string
			}{
				{dmg.Options{}, dmg.ErrNoPrivateKey, "no private key"},
				{dmg.Options{Password: secret}, dmg.ErrNoPrivateKey, "no private key"},
				{dmg.Options{PrivateKey: other}, dmg.ErrWrongPrivateKey, "wrong private key"},
			} {
				_, err := dmg.Open(file, &tt.opts)
				checkPasswordError(t, err, tt.err)
				if err == nil || !strings.Contains(err.Error(), tt.say) {
					t.Errorf("%v, want %q in it", err, tt.say)
				}
			}
		})
	}
}

// Neither errors nor what fmt makes of an image say a password or a key.
func TestSecrets(t *testing.T) {
	e := dmgtest.Encryption{Password: secret}
	im, err := dmg.Open(writeFile(t, e.Image(dmgtest.Image(t, containerDisk(), inUDZO))), &dmg.Options{Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, said := range []string{fmt.Sprintf(verb, im), fmt.Sprintf(verb, im.Partitions())} {
			for _, hidden := range []string{secret, fmt.Sprintf("%x", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]")} {
				if strings.Contains(said, hidden) {
					t.Errorf("%s prints the password", verb)
				}
			}
		}
	}
}

// BenchmarkEncrypted compares reads of an encrypted image of one zlib chunk with
// reads of a plain one.
func BenchmarkEncrypted(b *testing.B) {
	const size = 16 << 20
	disk := dmgtest.Mixed(40, size).Bytes()
	plain := dmgtest.Image(b, disk, dmgtest.Options{})
	for _, kind := range []struct {
		name string
		data []byte
	}{
		{"plain", plain},
		{"v2", dmgtest.Encryption{Password: secret}.Image(plain)},
		{"v2-128-512", dmgtest.Encryption{Password: secret, KeyBits: 128, BlockSize: 512}.Image(plain)},
	} {
		open := func(b *testing.B) *dmg.Image {
			im, err := dmg.NewImage(bytes.NewReader(kind.data), int64(len(kind.data)), &dmg.Options{Password: secret, MemoryLimit: 8 << 20})
			if err != nil {
				b.Fatal(err)
			}
			return im
		}
		b.Run("whole/"+kind.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := open(b).WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("random-4KiB/"+kind.name, func(b *testing.B) {
			im := open(b)
			if _, err := im.WriteTo(io.Discard); err != nil { // makes the checkpoints
				b.Fatal(err)
			}
			rng := mathrand.New(mathrand.NewPCG(1, 2))
			p := make([]byte, 4096)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := im.ReadAt(p, rng.Int64N(size/4096)*4096); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

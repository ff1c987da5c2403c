package imagetest

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestFIPS opens images in a process that may use nothing but what FIPS 140 allows.
// Encrypted ones, and signatures, that need SHA-1 are unsupported there; others can be read.
func TestFIPS(t *testing.T) {
	const child = "DMG_TEST_FIPS"
	disk := containerDisk()
	if dir := os.Getenv(child); dir != "" {
		for _, name := range []string{"v1.dmg", "v2.dmg", "wrapped.dmg", "image.sparsebundle"} {
			for _, password := range []string{"", secret} {
				_, err := dmg.Open(filepath.Join(dir, name), &dmg.Options{Password: password})
				if !errors.Is(err, dmg.ErrUnsupported) || errors.Is(err, dmg.ErrPassword) || !strings.Contains(err.Error(), "fips140=only") {
					t.Errorf("%s: %v, want ErrUnsupported", name, err)
				}
			}
		}
		for _, name := range []string{"plain.dmg", "plain.sparseimage"} {
			im, err := dmg.Open(filepath.Join(dir, name), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(disk))
			if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
				t.Errorf("%s: %v, or other bytes", name, err)
			}
			if err := im.BuildIndex(t.Context(), nil); err != nil {
				t.Errorf("%s: BuildIndex: %v", name, err)
			}
			im.Close()
		}
		for name, class := range map[string]error{"sha1.dmg": dmg.ErrUnsupported, "both.dmg": nil} {
			im, err := dmg.Open(filepath.Join(dir, name), nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := im.Signature()
			if s != nil {
				err = s.VerifyContent(t.Context())
			}
			if !errors.Is(err, class) || (s != nil) != (class == nil) {
				t.Errorf("%s: signature %v, %v", name, s, err)
			}
			im.Close()
		}
		return
	}
	e := dmgtest.Encryption{Password: secret}
	bundle := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{Token: e.Token(len(disk)), Encrypt: e.Band})
	dir := filepath.Dir(bundle)
	image := dmgtest.Image(t, disk, inUDZO)
	write(t, filepath.Join(dir, "plain.dmg"), image)
	write(t, filepath.Join(dir, "plain.sparseimage"), dmgtest.SparseImage(disk, dmgtest.SparseOptions{}))
	write(t, filepath.Join(dir, "v1.dmg"), dmgtest.Encryption{Version: 1, Password: secret}.Image(image))
	write(t, filepath.Join(dir, "v2.dmg"), e.Image(image))
	write(t, filepath.Join(dir, "wrapped.dmg"), dmgtest.Encryption{Password: secret, AESWrap: true}.Image(image))
	signer := dmgtest.NewSigner("a", "b")
	write(t, filepath.Join(dir, "sha1.dmg"), dmgtest.Signing{Signer: signer, Hashes: []crypto.Hash{crypto.SHA1}}.Image(image))
	write(t, filepath.Join(dir, "both.dmg"), dmgtest.Signing{Signer: signer, Hashes: []crypto.Hash{crypto.SHA1, crypto.SHA256}}.Image(image))
	cmd := dmgtest.Self(t, "-test.run=^TestFIPS$", "-test.v")
	cmd.Env = append(os.Environ(), child+"="+dir, "GODEBUG=fips140=only")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS") {
		t.Errorf("%v: %s", err, out)
	}
}

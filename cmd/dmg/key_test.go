package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

func TestKey(t *testing.T) {
	plain, err := os.ReadFile(images + "good-zlib.dmg")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	archive := func(name string, a dmgtest.Archive) string {
		a.Segment, a.PerCluster, a.Codec = 64<<10, 32, 'z'
		return file(name, string(a.Image(bytes.NewReader(plain), int64(len(plain)))))
	}
	private := func(seed uint64) string {
		der, err := x509.MarshalPKCS8PrivateKey(dmgtest.ArchivePrivateKey(seed))
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	recipient := dmgtest.ArchivePrivateKey(1).PublicKey()
	byKey := archive("key.dmg.aea", dmgtest.Archive{})
	wrapped := archive("wrapped.dmg.aea", dmgtest.Archive{Auth: dmgtest.ArchiveWrap(recipient, dmgtest.ArchiveKey, "https://keys.example/abc")})
	hex := fmt.Sprintf("%x", dmgtest.ArchiveKey)
	b64 := base64.StdEncoding.EncodeToString(dmgtest.ArchiveKey)
	want := string(zlibDisk(t))
	for _, tt := range []struct {
		name, image string
		args        string
		env, stdin  string
		errOut      string // end of standard error; empty: the image opens
	}{
		{name: "hexadecimal in the environment", image: byKey, env: hex},
		{name: "base64 in the environment", image: byKey, env: b64},
		{name: "base64 with a mark", image: byKey, args: "--key-file " + file("marked", "base64:"+b64+"\n")},
		{name: "bytes", image: byKey, args: "--key-file " + file("raw", string(dmgtest.ArchiveKey)), env: "x"},
		{name: "standard input", image: byKey, args: "--key-file -", stdin: hex + "\r\n"},
		{name: "PEM", image: wrapped, args: "--key-file " + file("pem", "a comment\n"+private(1))},
		{name: "PEM in the environment", image: wrapped, env: private(1)},
		{name: "none", image: byKey, errOut: "key.dmg.aea: encrypted archive: no key given: its symmetric key of 32 bytes is needed: give --key-file FILE or set DMG_KEY\n"},
		{name: "none for a wrapped key", image: wrapped, errOut: `which Apple serves at "https://keys.example/abc" (nothing is fetched here): give --key-file FILE or set DMG_KEY` + "\n"},
		{name: "wrong key", image: byKey, env: strings.Repeat("00", 32), errOut: "wrong key, or the archive's header is damaged (key from DMG_KEY)\n"},
		{name: "wrong PEM", image: wrapped, args: "--key-file " + file("other", private(2)), errOut: "wrapped for the one called \"abc\" (key from " + filepath.Join(dir, "other") + ")\n"},
		{name: "no key in it", image: byKey, args: "--key-file " + file("none", "hello"), errOut: "none: no key: neither PEM, nor 32 bytes in hexadecimal, in base64, or as they are\n"},
		{name: "no PEM of a key", image: byKey, env: "-----BEGIN X-----\n-----END X-----\n", errOut: "key: DMG_KEY: a PEM block \"X\" is no key\n"},
		{name: "standard input twice", image: byKey, args: "--key-file - --password-file -", stdin: "x", errOut: "standard input can't be the password and the key\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(keyVar, tt.env)
			got := dmgRunWith(t, tt.stdin, append([]string{"cat", tt.image}, strings.Fields(tt.args)...)...)
			if tt.errOut == "" {
				if got.status != 0 || got.errOut != "" || got.out != want {
					t.Errorf("status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
				}
				return
			}
			if got.status != statusPassword || !strings.HasPrefix(got.errOut, "dmg: ") || !strings.HasSuffix(got.errOut, tt.errOut) {
				t.Errorf("status %d, %q, want %q", got.status, got.errOut, tt.errOut)
			}
			if strings.Contains(got.errOut, hex) || strings.Contains(got.errOut, b64) {
				t.Errorf("the key is told: %q", got.errOut)
			}
		})
	}
	t.Setenv(keyVar, hex)
	if got := dmgRun(t, "info", byKey); got.status != 0 || !strings.Contains(got.out, "AEA") {
		t.Errorf("info: status %d, %q", got.status, got.out+got.errOut)
	} else {
		t.Log(got.out)
	}
}

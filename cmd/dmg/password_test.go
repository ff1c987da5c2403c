package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// encryptedImage writes good-zlib.dmg again, encrypted.
func encryptedImage(t *testing.T, password string) string {
	t.Helper()
	plain, err := os.ReadFile(images + "good-zlib.dmg")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "secret.dmg")
	if err := os.WriteFile(name, dmgtest.Encryption{Password: password}.Image(plain), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// utf16Bytes is s in UTF-16 without a mark.
func utf16Bytes(order binary.AppendByteOrder, s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

func TestPassword(t *testing.T) {
	const password = " pass wörd 🔑\ufffd"
	image, want := encryptedImage(t, password), string(zlibDisk(t))
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, tt := range []struct {
		name   string
		args   string
		env    string
		stdin  string
		errOut string // end of standard error; empty: the image opens
	}{
		{name: "environment", env: password},
		{name: "file", args: "--password-file " + file(password)},
		{name: "file with newline", args: "--password-file " + file(password+"\n")},
		{name: "file with CRLF", args: "--password-file " + file(password+"\r\n")},
		{name: "file before environment", args: "--password-file " + file(password), env: "x"},
		{name: "standard input", args: "--password-file -", stdin: password + "\n"},
		{name: "UTF-8 with a mark", args: "--password-file " + file("\xEF\xBB\xBF"+password+"\r\n")},
		{name: "UTF-16, little-endian", args: "--password-file " + file("\xFF\xFE"+utf16Bytes(binary.LittleEndian, password+"\r\n"))},
		{name: "UTF-16, big-endian", args: "--password-file " + file("\xFE\xFF"+utf16Bytes(binary.BigEndian, password))},
		{name: "UTF-16 on standard input", args: "--password-file -", stdin: "\xFF\xFE" + utf16Bytes(binary.LittleEndian, password+"\n")},
		{name: "mark alone", args: "--password-file " + file("\xEF\xBB\xBF\r\n"), errOut: "password file: empty\n"},
		{name: "odd UTF-16", args: "--password-file " + file("\xFF\xFEa"), errOut: "password file: its mark says UTF-16, but it is not: write it as UTF-8\n"},
		{name: "half a pair", args: "--password-file " + file("\xFF\xFE\x00\xD8"), errOut: "password file: its mark says UTF-16, but it is not: write it as UTF-8\n"},
		{name: "two first halves", args: "--password-file " + file("\xFF\xFE\x00\xD8\x00\xD8"), errOut: "password file: its mark says UTF-16, but it is not: write it as UTF-8\n"},
		{name: "none", errOut: "secret.dmg: encrypted, and no terminal to ask for the password: give --password-file FILE or set DMG_PASSWORD\n"},
		{name: "wrong environment", env: "x", errOut: " (password from DMG_PASSWORD)\n"},
		{name: "wrong file", args: "--password-file " + file("x"), env: password, errOut: "/password)\n"},
		{name: "empty lines", args: "--password-file -", stdin: "\n\r\n" + password + "\n\n"},
		{name: "several", args: "--password-file " + file("x\r\ny\r\n"+password+"\r\nz")},
		{name: "several, the last", args: "--password-file -", stdin: "x\n" + password},
		{name: "several in UTF-16", args: "--password-file -", stdin: "\xFF\xFE" + utf16Bytes(binary.LittleEndian, "x\n"+password+"\ny\n")},
		{name: "several, all wrong", args: "--password-file -", stdin: "x\ny\n " + password + "\n", errOut: " (all 3 passwords from standard input)\n"},
		{name: "too many", args: "--password-file -", stdin: strings.Repeat("x\n", 1001), errOut: "password file: 1001 lines, so not one of passwords\n"},
		{name: "empty file", args: "--password-file " + file("\n"), errOut: "password file: empty\n"},
		{name: "a disk for a file", args: "--password-file " + file(strings.Repeat("x", maxPassword+1)), errOut: "longer than 65536 bytes, so not one of passwords\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(passwordVar, tt.env)
			got := dmgRunWith(t, tt.stdin, append([]string{"cat", image}, strings.Fields(tt.args)...)...)
			if tt.errOut == "" {
				if got.status != 0 || got.errOut != "" || got.out != want {
					t.Errorf("status %d, %q, %d bytes", got.status, got.errOut, len(got.out))
				}
				return
			}
			if got.status != statusPassword || !strings.HasPrefix(got.errOut, "dmg: ") || !strings.HasSuffix(got.errOut, tt.errOut) {
				t.Errorf("status %d, %q, want %q", got.status, got.errOut, tt.errOut)
			}
			if strings.Contains(got.errOut, password) {
				t.Errorf("the password is told: %q", got.errOut)
			}
		})
	}
}

// An image for a certificate alone is not opened by any password: the command neither
// asks for one nor blames the one that it was given.
func TestPasswordOfCertificate(t *testing.T) {
	const want = "v2-certificate.img: encrypted: no private key given: give --key-file FILE or set DMG_KEY\n"
	for _, password := range []string{"", "x"} {
		t.Setenv(passwordVar, password)
		got := dmgRun(t, "info", "../../internal/crypt/testdata/v2-certificate.img")
		if got.status != statusPassword || !strings.HasSuffix(got.errOut, want) {
			t.Errorf("with the password %q: status %d, %q; want %q", password, got.status, got.errOut, want)
		}
	}
}

package crypt

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestFIPS opens images in a process that may not use SHA-1 and 3DES, with which the
// standard library panics. The error says so.
func TestFIPS(t *testing.T) {
	const child = "DMG_TEST_CRYPT_FIPS"
	if os.Getenv(child) == "" {
		cmd := dmgtest.Self(t, "-test.run=^TestFIPS$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1", "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS") && !strings.Contains(string(out), "--- SKIP: TestFIPS") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if !panics(func() { sha1.Sum(nil) }) {
		t.Skip("SHA-1 may be used all the same")
	}
	key := certificateKey(t)
	for _, tt := range madeTests {
		data := testFile(t, tt.file)
		for _, keys := range []Keys{{}, {Password: tt.password}, {Password: "wrong"}, {PrivateKey: key}} {
			if _, err := open(data, keys); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrPassword) || !strings.Contains(err.Error(), "fips140=only") {
				t.Errorf("%s: %v, want ErrUnsupported", tt.file, err)
			}
			if _, err := Unlock(bytes.NewReader(data), int64(len(data)), keys); !errors.Is(err, ErrUnsupported) {
				t.Errorf("Unlock of %s: %v, want ErrUnsupported", tt.file, err)
			}
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

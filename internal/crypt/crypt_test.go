package crypt

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// stream is the plaintext of the images in testdata.
func stream(n int) []byte {
	var out []byte
	for i := 0; len(out) < n; i++ {
		sum := sha256.Sum256([]byte(strconv.Itoa(i)))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func testFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func certificateKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(testFile(t, "certificate-key.pem"))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func open(data []byte, keys Keys) (*Reader, error) {
	return Open(bytes.NewReader(data), int64(len(data)), keys)
}

var madeTests = []struct {
	file      string // in testdata; make.py there says how each was made
	password  string
	size      int
	blockSize int64
	version   Version
}{
	{"v2-aes128-512.img", "secret", 5000, 512, V2},
	{"v2-aes256-4096.img", "Grüße \U0001f511", 12288, 4096, V2},
	{"v2-wrap-aes128.img", "secret", 1025, 512, V2},
	{"v2-wrap-aes192.img", "secret", 1025, 512, V2},
	{"v2-wrap-aes256.img", "secret", 1025, 512, V2},
	{"v2-three-keys.img", "first", 1536, 512, V2},
	{"v2-three-keys.img", "second", 1536, 512, V2},
	{"v2-three-keys.img", "third", 1536, 512, V2},
	{"v2-both.img", "secret", 2000, 512, V2},
	{"v1-aes128-512.img", "secret", 5120, 512, V1},
	{"v1-aes256-4096.img", "secret", 5000, 4096, V1},
	{"v2-certificate.img", "", 2000, 512, V2},
	{"v2-both.img", "", 2000, 512, V2},
	{"v2-both.img", "wrong, but the private key fits", 2000, 512, V2},
}

func TestMade(t *testing.T) {
	for _, tt := range madeTests {
		t.Run(tt.file+"/"+tt.password, func(t *testing.T) {
			data := testFile(t, tt.file)
			if v, err := Detect(bytes.NewReader(data), int64(len(data))); v != tt.version || err != nil {
				t.Errorf("Detect = %v, %v, want %v", v, err, tt.version)
			}
			keys := Keys{Password: tt.password}
			if tt.password == "" || strings.HasPrefix(tt.password, "wrong") {
				keys.PrivateKey = certificateKey(t)
			}
			r, err := open(data, keys)
			if err != nil {
				t.Fatal(err)
			}
			if r.Size() != int64(tt.size) || r.BlockSize() != tt.blockSize {
				t.Errorf("%d bytes in blocks of %d, want %d of %d", r.Size(), r.BlockSize(), tt.size, tt.blockSize)
			}
			got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
			if err != nil || !bytes.Equal(got, stream(tt.size)) {
				t.Errorf("other data, %v", err)
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		file string
		keys Keys
		err  error
	}{
		{"v2-aes128-512.img", Keys{}, ErrNoPassword},
		{"v2-aes128-512.img", Keys{PrivateKey: other}, ErrNoPassword},
		{"v2-aes128-512.img", Keys{Password: "Secret"}, ErrWrongPassword},
		{"v2-wrap-aes256.img", Keys{Password: "Secret"}, ErrWrongPassword},
		{"v2-three-keys.img", Keys{Password: "fourth"}, ErrWrongPassword},
		{"v1-aes256-4096.img", Keys{}, ErrNoPassword},
		{"v1-aes256-4096.img", Keys{Password: "Secret"}, ErrWrongPassword},
		{"v2-certificate.img", Keys{Password: "secret"}, ErrNoPrivateKey},
		{"v2-certificate.img", Keys{PrivateKey: other}, ErrWrongPrivateKey},
		{"v2-both.img", Keys{}, ErrNoPassword},
		{"v2-both.img", Keys{PrivateKey: other}, ErrWrongPrivateKey},
		{"v2-both.img", Keys{PrivateKey: other, Password: "Secret"}, ErrWrongPassword},
	}
	for _, tt := range tests {
		_, err := open(testFile(t, tt.file), tt.keys)
		if !errors.Is(err, tt.err) || !errors.Is(err, ErrPassword) {
			t.Errorf("%s: %v, want %v", tt.file, err, tt.err)
		}
		if tt.keys.Password != "" && strings.Contains(fmt.Sprint(err), tt.keys.Password) {
			t.Errorf("%s: the password is in the error", tt.file)
		}
	}
}

// put writes a big-endian number of size bytes.
func put(b []byte, at, size int, v uint64) []byte {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], v)
	copy(b[at:], n[8-size:])
	return b
}

var hostileTests = []struct {
	name     string
	file     string
	at, size int // at < 0: from the end
	value    uint64
	err      error  // nil: a *FormatError
	msg      string // part of the message
}{
	{"version", "v2-aes128-512.img", 0x08, 4, 3, ErrUnsupported, "version 3"},
	{"IV size", "v2-aes128-512.img", 0x0C, 4, 1 << 31, ErrUnsupported, "IV size 2147483648"},
	{"mode", "v2-aes128-512.img", 0x10, 4, 6, ErrUnsupported, "mode 6"},
	{"cipher", "v2-aes128-512.img", 0x14, 4, 17, ErrUnsupported, "cipher 17"},
	{"key bits", "v2-aes128-512.img", 0x18, 4, 192, ErrUnsupported, "192"},
	{"key bits that the record doesn't hold", "v2-aes128-512.img", 0x18, 4, 256, nil, "shorter"},
	{"IV algorithm", "v2-aes128-512.img", 0x1C, 4, 92, ErrUnsupported, "92"},
	{"IV key bits", "v2-aes128-512.img", 0x20, 4, 256, ErrUnsupported, "256"},
	{"block size 0", "v2-aes128-512.img", 0x34, 4, 0, nil, "block size 0"},
	{"block size 1", "v2-aes128-512.img", 0x34, 4, 1, nil, "block size 1"},
	{"block size 513", "v2-aes128-512.img", 0x34, 4, 513, nil, "block size 513"},
	{"block size 2^31", "v2-aes128-512.img", 0x34, 4, 1 << 31, nil, "block size 2147483648"},
	{"more data than blocks have numbers", "v2-aes128-512.img", 0x38, 8, 512 << 32, nil, "2199023255552 bytes of data"},
	{"data of 2^63-1", "v2-aes128-512.img", 0x38, 8, 1<<63 - 1, nil, "don't fit"},
	{"data of 2^64-1", "v2-aes128-512.img", 0x38, 8, 1<<64 - 1, nil, "negative"},
	{"data offset past the end", "v2-aes128-512.img", 0x40, 8, 6145, nil, "at 6145 don't fit"},
	{"data offset 2^63-1", "v2-aes128-512.img", 0x40, 8, 1<<63 - 1, nil, "don't fit"},
	{"no keys", "v2-aes128-512.img", 0x48, 4, 0, nil, "no keys"},
	{"2^32-1 keys", "v2-aes128-512.img", 0x48, 4, 1<<32 - 1, ErrUnsupported, "4294967295 keys"},
	{"key type", "v2-aes128-512.img", 0x4C, 4, 9, ErrUnsupported, "type 9"},
	{"key bag", "v2-aes128-512.img", 0x4C, 4, 3, ErrUnsupported, "key bag"},
	{"key past the end", "v2-aes128-512.img", 0x50, 8, 6000, nil, "past the end"},
	{"key at 2^63-1", "v2-aes128-512.img", 0x50, 8, 1<<63 - 1, nil, "past the end"},
	{"key at -1", "v2-aes128-512.img", 0x50, 8, 1<<64 - 1, nil, "past the end"},
	{"key of 2^63-1", "v2-aes128-512.img", 0x58, 8, 1<<63 - 1, nil, "past the end"},
	{"short key", "v2-aes128-512.img", 0x58, 8, 0x67, nil, "short key record"},
	{"no blob", "v2-aes128-512.img", 0x58, 8, 0x68, nil, "wrapped key of 48"},
	{"KDF", "v2-aes128-512.img", 0x60, 4, 104, ErrUnsupported, "104"},
	{"PRF", "v2-aes128-512.img", 0x64, 4, 1, ErrUnsupported, "103/1"},
	{"no iterations", "v2-aes128-512.img", 0x68, 4, 0, nil, "no iterations"},
	{"iterations 2^31", "v2-aes128-512.img", 0x68, 4, 1 << 31, ErrUnsupported, "2147483648 iterations"},
	{"iterations 2^32-1", "v2-aes128-512.img", 0x68, 4, 1<<32 - 1, ErrUnsupported, "4294967295 iterations"},
	{"iterations over the cap", "v2-aes128-512.img", 0x68, 4, maxIterations + 1, ErrUnsupported, "10000001 iterations"},
	{"salt", "v2-aes128-512.img", 0x6C, 4, 33, nil, "salt of 33"},
	{"wrapping IV of 9", "v2-aes128-512.img", 0x90, 4, 9, nil, "IV of 9"},
	{"wrapping IV of 2^32-1", "v2-wrap-aes256.img", 0x90, 4, 1<<32 - 1, nil, "IV of 4294967295"},
	{"wrapping bits", "v2-aes128-512.img", 0xB4, 4, 128, ErrUnsupported, "17, 128 bits"},
	{"wrapping algorithm", "v2-aes128-512.img", 0xB8, 4, 18, ErrUnsupported, "algorithm 18"},
	{"wrapping padding", "v2-aes128-512.img", 0xBC, 4, 0, ErrUnsupported, "padding 0"},
	{"wrapping mode", "v2-aes128-512.img", 0xC0, 4, 2, ErrUnsupported, "mode 2"},
	{"blob of 0", "v2-aes128-512.img", 0xC4, 4, 0, nil, "wrapped key of 0"},
	{"blob of 47", "v2-aes128-512.img", 0xC4, 4, 47, nil, "wrapped key of 47"},
	{"blob of 2^32-1", "v2-aes128-512.img", 0xC4, 4, 1<<32 - 1, nil, "wrapped key of 4294967295"},
	{"cut blob", "v2-aes128-512.img", 0xC4, 4, 40, ErrWrongPassword, ""},
	{"public key algorithm", "v2-certificate.img", 0x60 + 0x24, 4, 43, ErrUnsupported, "algorithm 43"},
	{"public key padding", "v2-certificate.img", 0x60 + 0x28, 4, 7, ErrUnsupported, "padding 7"},
	{"public key blob", "v2-certificate.img", 0x60 + 0x30, 4, 257, nil, "wrapped key of 257"},
	{"public key blob cut", "v2-certificate.img", 0x60 + 0x30, 4, 255, ErrWrongPrivateKey, ""},
	{"short public key", "v2-certificate.img", 0x58, 8, 0x33, nil, "short key record"},

	{"v1 version", "v1-aes128-512.img", 0x4F0 - trailerLen, 4, 2, ErrUnsupported, "version 2"},
	{"v1 block size", "v1-aes128-512.img", 0x10 - trailerLen, 4, 0, nil, "block size 0"},
	{"v1 wrapping", "v1-aes128-512.img", 0x14 - trailerLen, 4, 18, ErrUnsupported, "algorithm 18"},
	{"v1 wrapping bits", "v1-aes128-512.img", 0x20 - trailerLen, 4, 1 << 31, ErrUnsupported, "2147483648 bits"},
	{"v1 KDF", "v1-aes128-512.img", 0x28 - trailerLen, 4, 0, ErrUnsupported, "derivation 0"},
	{"v1 iterations", "v1-aes128-512.img", 0x30 - trailerLen, 4, 1 << 31, ErrUnsupported, "2147483648 iterations"},
	{"v1 salt", "v1-aes128-512.img", 0x34 - trailerLen, 4, 1 << 31, nil, "salt of 2147483648"},
	{"v1 IV size", "v1-aes128-512.img", 0x58 - trailerLen, 4, 8, ErrUnsupported, "IV size 8"},
	{"v1 key bits", "v1-aes128-512.img", 0x64 - trailerLen, 4, 0, ErrUnsupported, "0 bits"},
	{"v1 other key bits", "v1-aes128-512.img", 0x64 - trailerLen, 4, 256, ErrWrongPassword, ""},
	{"v1 blob", "v1-aes128-512.img", 0x88 - trailerLen, 4, 257, nil, "wrapped key of 257"},
	{"v1 blob of 0", "v1-aes128-512.img", 0x88 - trailerLen, 4, 0, nil, "wrapped key of 0"},
	{"v1 blob cut", "v1-aes128-512.img", 0x88 - trailerLen, 4, 8, ErrWrongPassword, ""},
	{"v1 data of 2^63-1", "v1-aes128-512.img", 0x4E8 - trailerLen, 8, 1<<63 - 1, nil, "don't fit"},
	{"v1 negative size", "v1-aes128-512.img", 0x4E8 - trailerLen, 8, 1 << 63, nil, "negative"},
}

// Every lie is refused, with little memory.
func TestHostile(t *testing.T) {
	key := certificateKey(t)
	for _, tt := range hostileTests {
		t.Run(tt.name, func(t *testing.T) {
			data := testFile(t, tt.file)
			at := tt.at
			if at < 0 {
				at += len(data)
			}
			put(data, at, tt.size, tt.value)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := open(data, Keys{Password: "secret", PrivateKey: key})
			runtime.ReadMemStats(&after)
			var format *FormatError
			if tt.err == nil && !errors.As(err, &format) || tt.err != nil && !errors.Is(err, tt.err) || !strings.Contains(fmt.Sprint(err), tt.msg) {
				t.Errorf("%v, want %v with %q", err, tt.err, tt.msg)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			// Nor is anyone asked for a password that can't help.
			if _, err := open(data, Keys{}); errors.Is(tt.err, ErrUnsupported) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("without keys: %v", err)
			}
		})
	}
}

// TestCutData opens files that lack the end of their data: what is there decrypts.
func TestCutData(t *testing.T) {
	for _, file := range []string{"v2-aes128-512.img", "v2-wrap-aes256.img", "v1-aes128-512.img"} {
		whole := testFile(t, file)
		r, err := open(whole, Keys{Password: "secret"})
		if err != nil || r.Missing() != 0 {
			t.Fatal(err, r.Missing())
		}
		plain := make([]byte, r.Size())
		if _, err := r.ReadAt(plain, 0); err != nil {
			t.Fatal(err)
		}
		stored := (r.Size() + aesBlock - 1) &^ (aesBlock - 1)
		for lack := int64(1); lack < stored; lack += 499 {
			end := r.base + stored - lack
			data := slices.Concat(whole[:end], whole[r.base+stored:]) // version 1 has its trailer there
			if strings.HasPrefix(file, "v2") {
				data = whole[:end]
			}
			cut, err := open(data, Keys{Password: "secret"})
			if have := (stored - lack) &^ (aesBlock - 1); have == 0 {
				var format *FormatError
				if !errors.As(err, &format) || !strings.Contains(err.Error(), "cut off") {
					t.Errorf("%s without its data: %v", file, err)
				}
				continue
			} else if err != nil || cut.Size() != have || cut.Missing() != r.Size()-have {
				t.Fatalf("%s, %d bytes cut off: %v; has %d, lacks %d, want %d", file, lack, err, cut.Size(), cut.Missing(), have)
			}
			got := make([]byte, len(plain))
			if n, err := cut.ReadAt(got, 0); int64(n) != cut.Size() || err != io.EOF || !bytes.Equal(got[:n], plain[:n]) {
				t.Fatalf("%s, %d bytes cut off: ReadAt = %d, %v", file, lack, n, err)
			}
		}
	}
}

// The cap is for all keys together.
func TestBudget(t *testing.T) {
	h, err := parse(bytes.NewReader(testFile(t, "v2-three-keys.img")), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		budget int
		err    error
	}{{999, ErrUnsupported}, {3002, ErrWrongPassword}, {3003, nil}} {
		u := NewUnlocker(Keys{Password: "third"})
		u.budget = tt.budget
		if _, err := h.unlock(u); !errors.Is(err, tt.err) {
			t.Errorf("with %d iterations: %v, want %v", tt.budget, err, tt.err)
		}
		// What was derived is there for another file with the same header.
		if _, err := h.unlock(u); !errors.Is(err, tt.err) {
			t.Errorf("with %d iterations, again: %v, want %v", tt.budget, err, tt.err)
		}
	}
}

// TestPrivateKeyBudget has the private key, whose use may take a second or a person
// at a token, used for some of an image's files at most.
func TestPrivateKeyBudget(t *testing.T) {
	h, err := parse(bytes.NewReader(testFile(t, "v2-certificate.img")), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	u := NewUnlocker(Keys{PrivateKey: certificateKey(t)})
	u.budget = 3 * privateKeyCost
	for i, want := range []error{nil, nil, nil, ErrUnsupported} {
		if _, err := h.unlock(u); !errors.Is(err, want) {
			t.Errorf("use %d: %v, want %v", i, err, want)
		}
	}
}

// The files of an image share what may be spent, and what was derived.
func TestUnlocker(t *testing.T) {
	image := func(seed uint64) *bytes.Reader {
		return bytes.NewReader(dmgtest.Encryption{Password: "secret", Seed: seed, Iterations: 100}.Image(stream(1000)))
	}
	u := NewUnlocker(Keys{Password: "secret"})
	u.budget = 250
	for i, tt := range []struct {
		seed   uint64
		budget int // that is left
		err    error
	}{{1, 150, nil}, {1, 150, nil}, {2, 50, nil}, {3, 50, ErrUnsupported}, {1, 50, nil}} {
		r := image(tt.seed)
		_, err := u.Open(r, r.Size())
		if !errors.Is(err, tt.err) || u.budget != tt.budget {
			t.Errorf("file %d: %v, %d iterations left, want %v, %d", i, err, u.budget, tt.err, tt.budget)
		}
	}
}

// Every prefix and every suffix of an image is refused or opens, and is not taken
// for another version.
func TestCut(t *testing.T) {
	dmgtest.Long(t)
	for _, file := range []string{"v2-aes128-512.img", "v1-aes128-512.img"} {
		data := testFile(t, file)
		for n := range data {
			if n > 2000 && n < len(data)-1500 && n%97 != 0 {
				continue
			}
			if r, err := open(data[:n], Keys{Password: "secret"}); err == nil && r.Size() > int64(n) {
				t.Errorf("%s: the first %d bytes open as %d", file, n, r.Size())
			}
			if _, err := open(data[n:], Keys{Password: "wrong"}); err == nil {
				t.Errorf("%s: opens from %d on with a wrong password", file, n)
			}
		}
	}
	for _, n := range []int64{-1, 0, 7, 8, trailerLen} {
		if v, err := Detect(bytes.NewReader(make([]byte, max(n, 0))), n); v != None || err != nil {
			t.Errorf("Detect of %d zeros = %v, %v", n, v, err)
		}
	}
	var format *FormatError
	if _, err := open(nil, Keys{}); !errors.As(err, &format) {
		t.Errorf("Open of nothing: %v", err)
	}
}

// A source's error while opening is passed on, and isn't there the next time.
func TestOpenFaults(t *testing.T) {
	fault := errors.New("fault")
	for _, file := range []string{"v2-both.img", "v1-aes128-512.img"} {
		data := testFile(t, file)
		for call := int64(1); ; call++ {
			src := &dmgtest.FailAt{R: bytes.NewReader(data), Call: call, Err: fault}
			_, err := Open(src, int64(len(data)), Keys{Password: "secret"})
			if src.Calls() < call {
				break
			}
			if !errors.Is(err, fault) || errors.Is(err, ErrPassword) {
				t.Errorf("%s, call %d: %v", file, call, err)
			}
			if _, err := Open(src, int64(len(data)), Keys{Password: "secret"}); err != nil {
				t.Errorf("%s, after call %d failed: %v", file, call, err)
			}
		}
	}
}

// Nothing that holds a key prints one.
func TestPrint(t *testing.T) {
	keys := Keys{Password: "secret", PrivateKey: certificateKey(t)}
	r, err := open(testFile(t, "v2-aes128-512.img"), keys)
	if err != nil {
		t.Fatal(err)
	}
	u := NewUnlocker(keys)
	values := []any{keys, &keys, u, struct{ U *Unlocker }{u}, r, *r, r.c, struct{ K Keys }{keys}, []Keys{keys}, struct{ R *Reader }{r}}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if s := fmt.Sprintf(verb, v); len(s) > 100 || strings.Contains(s, "secret") || strings.Contains(s, "736563726574") {
				t.Errorf("%s of %T: %.200s", verb, v, s)
			}
		}
	}
	for _, s := range []string{keys.String(), keys.GoString(), u.GoString(), r.GoString(), r.c.GoString()} {
		if !strings.HasPrefix(s, "crypt.") {
			t.Error(s)
		}
	}
}

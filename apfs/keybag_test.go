package apfs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/go-dmg/dmg/internal/apfstest"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Vectors of RFC 3394, section 4.
func TestUnwrapKey(t *testing.T) {
	const kek = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	for _, tt := range []struct {
		bits         int
		key, wrapped string
	}{
		{128, "00112233445566778899AABBCCDDEEFF", "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"},
		{192, "00112233445566778899AABBCCDDEEFF", "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D"},
		{256, "00112233445566778899AABBCCDDEEFF", "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"},
		{256, "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F", "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"},
	} {
		k := unhex(t, kek)[:tt.bits/8]
		wrapped := unhex(t, tt.wrapped)
		if got, ok := unwrapKey(k, wrapped); !ok || !bytes.Equal(got, unhex(t, tt.key)) {
			t.Errorf("%d bits: %X, %t", tt.bits, got, ok)
		}
		for i := range wrapped {
			wrapped[i] ^= 1
			if _, ok := unwrapKey(k, wrapped); ok {
				t.Errorf("%d bits: byte %d may be another", tt.bits, i)
			}
			wrapped[i] ^= 1
		}
		for n := range wrapped {
			if _, ok := unwrapKey(k, wrapped[:n]); ok {
				t.Errorf("%d bits: %d bytes are enough", tt.bits, n)
			}
		}
	}
}

func TestParseKeyBlob(t *testing.T) {
	whole := apfstest.KeyBlob(make([]byte, 16), make([]byte, 40), 1000, make([]byte, 16))
	k, err := parseKeyBlob(whole)
	if err != nil || len(k.uuid) != 16 || len(k.wrapped) != 40 || k.iterations != 1000 || len(k.salt) != 16 {
		t.Errorf("%+v, %v", k, err)
	}
	for n := range whole {
		if _, err := parseKeyBlob(whole[:n]); err == nil {
			t.Errorf("%d bytes are enough", n)
		}
	}
	for _, iterations := range []uint64{0, 1, 255, 256, 1 << 31, 1<<64 - 1} {
		k, err := parseKeyBlob(apfstest.KeyBlob(nil, make([]byte, 24), iterations, []byte{1}))
		if err != nil || k.iterations != iterations {
			t.Errorf("%d iterations: %+v, %v", iterations, k, err)
		}
	}
}

// A user whose key costs too much does not keep another from opening the volume; and what
// is said of several is what can be done most about.
func TestOpenKeybag(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	for _, tt := range []struct {
		name     string
		users    []apfstest.User
		password string
		want     error // nil: the key
	}{
		{"none", nil, "x", ErrUnsupported},
		{"right", []apfstest.User{{Password: "x", Iterations: 2}}, "x", nil},
		{"second", []apfstest.User{{Password: "y", Iterations: 3}, {Password: "x", Iterations: 2}}, "x", nil},
		{"behind one that costs too much", []apfstest.User{{Password: "y", Iterations: maxIterations + 1}, {Password: "x", Iterations: 2}}, "x", nil},
		{"costs too much", []apfstest.User{{Password: "x", Iterations: maxIterations + 1}}, "x", ErrUnsupported},
		{"wrong", []apfstest.User{{Password: "y", Iterations: 2}, {Password: "y", Iterations: 1 << 63}}, "x", ErrWrongPassword},
		{"missing", []apfstest.User{{Password: "y", Iterations: 1 << 63}, {Password: "y", Iterations: 2}}, "", ErrNoPassword},
		{"no iterations", []apfstest.User{{Password: "y", Iterations: apfstest.NoIterations}}, "x", ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			entries, volume := apfstest.Users(key, tt.users)
			bag := &keybag{what: "keybag"}
			for _, e := range entries {
				bag.entries = append(bag.entries, keybagEntry{tag: tagUnlock, data: e})
			}
			blob, err := parseKeyBlob(volume)
			if err != nil {
				t.Fatal(err)
			}
			got, err := bag.open(tt.password, blob)
			if !errors.Is(err, tt.want) || tt.want == nil && !bytes.Equal(got, key) {
				t.Errorf("%x, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// FuzzKeybag takes any bytes for a decrypted keybag, and opens what is in it. The entries
// must be parts of it, in order; and a key blob must be read as it is written again.
func FuzzKeybag(f *testing.F) {
	key := bytes.Repeat([]byte{7}, 32)
	entries, _ := apfstest.Users(key, []apfstest.User{{Password: "x", Iterations: 2}, {Password: "y", Iterations: 1}})
	f.Add(apfstest.Keybag(512, entries...))
	f.Add(apfstest.Keybag(100))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseKeybag(b)
		if err != nil {
			if _, ok := err.(keyError); !ok {
				t.Errorf("error %T", err)
			}
			return
		}
		total := keybagHeaderLen
		for _, e := range list {
			total += keybagEntryLen + len(e.data)
			k, err := parseKeyBlob(e.data)
			if err != nil {
				continue
			}
			again, err := parseKeyBlob(apfstest.KeyBlob(k.uuid, k.wrapped, k.iterations, k.salt))
			if err != nil || !bytes.Equal(again.uuid, k.uuid) || !bytes.Equal(again.wrapped, k.wrapped) || again.iterations != k.iterations || !bytes.Equal(again.salt, k.salt) {
				t.Errorf("%+v is written and read as %+v, %v", k, again, err)
			}
			if k.iterations > 1000 {
				continue
			}
			budget := 1000
			if got, err := openUser(e.data, "x", &budget, k); err == nil && len(got) != 32 {
				t.Errorf("a key of %d bytes", len(got))
			} else if uint64(1000-budget) > k.iterations {
				t.Errorf("%d iterations, the key has %d", 1000-budget, k.iterations)
			}
		}
		if total > len(b) {
			t.Errorf("%d bytes of entries in %d", total, len(b))
		}
	})
}

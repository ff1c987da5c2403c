//go:build go1.26

package aea

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"testing"
)

// The standard library seals, and this package opens.
func TestOpenHPKE(t *testing.T) {
	for range 3 {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public, err := hpke.NewDHKEMPublicKey(key.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte{5}, 32)
		sealed, err := sender.Seal(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := openHPKE(key, enc, sealed)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x, %v", got, err)
		}
		sealed[0] ^= 1
		if _, err := openHPKE(key, enc, sealed); !errors.Is(err, errOpen) {
			t.Errorf("damaged: %v", err)
		}
		if _, err := openHPKE(key, enc[:64], sealed); err == nil || errors.Is(err, errOpen) {
			t.Errorf("a short point: %v", err)
		}
	}
}

package crypt

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// The vectors are HMAC-SHA1's, by states of SHA-1 and without.
func TestIV(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 9))
	for seed := range uint64(20) {
		key := dmgtest.Random(seed, hmacKeyLen).Bytes()
		byState, byMAC := newIVMaker(key), newIVMaker(key)
		if byState.sha == nil {
			t.Log("SHA-1's states aren't as known: vectors take twice the time")
		}
		byMAC.sha = nil
		mac := hmac.New(sha1.New, key)
		for i := range uint32(50) {
			n := i
			if i >= 10 {
				n = rnd.Uint32()
			}
			mac.Reset()
			mac.Write(binary.BigEndian.AppendUint32(nil, n))
			want := mac.Sum(nil)[:16]
			if got := byState.iv(n); !bytes.Equal(got, want) {
				t.Errorf("block %d: vector %x, want %x", n, got, want)
			}
			if got := byMAC.iv(n); !bytes.Equal(got, want) {
				t.Errorf("block %d: vector by MAC %x, want %x", n, got, want)
			}
		}
	}
}

func BenchmarkIV(b *testing.B) {
	for name, drop := range map[string]bool{"state": false, "mac": true} {
		b.Run(name, func(b *testing.B) {
			m := newIVMaker(stream(hmacKeyLen))
			if drop {
				m.sha = nil
			}
			b.ReportAllocs()
			for n := uint32(0); b.Loop(); n++ {
				m.iv(n)
			}
		})
	}
}

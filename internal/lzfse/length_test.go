package lzfse

import (
	"bytes"
	"errors"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// TestLength: the headers say how long what is decoded is.
func TestLength(t *testing.T) {
	for name, p := range samples() {
		p = p[:min(len(p), 300_000)]
		for _, kind := range lzfseenc.Kinds {
			stream := lzfseenc.Encode(kind, p)
			for _, behind := range []string{"", "garbage"} {
				b := append(bytes.Clone(stream), behind...)
				if n, err := Length(bytes.NewReader(b), int64(len(b))); n != int64(len(p)) || err != nil {
					t.Errorf("%s, bvx%c: %d, %v; want %d", name, kind, n, err, len(p))
				}
			}
			for _, cut := range []int{0, 3, 7, len(stream) / 2, len(stream) - 1} {
				cut = min(cut, len(stream)-1)
				n, err := Length(bytes.NewReader(stream[:cut]), int64(cut))
				if corrupt := (*CorruptError)(nil); n != 0 || !errors.As(err, &corrupt) {
					t.Errorf("%s, bvx%c, cut to %d: %d, %v", name, kind, cut, n, err)
				}
			}
		}
	}
	stream := "bvx-\x01\x00\x00\x00xbvx?"
	if n, err := Length(bytes.NewReader([]byte(stream)), int64(len(stream))); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
}

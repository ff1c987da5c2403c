package deflate

import (
	"bytes"
	"io"
	"testing"
)

// decodeAll decodes what is left, max bytes a call.
func decodeAll(d *Decoder, max int) ([]byte, error) {
	var out []byte
	for {
		p, err := d.Decode(max)
		if (len(p) > 0) == (err != nil) {
			panic("bytes and an error, or neither")
		}
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, p...)
	}
}

func TestDecode(t *testing.T) {
	d := new(Decoder)
	for _, s := range streams(t) {
		t.Run(s.name, func(t *testing.T) {
			for _, max := range []int{0, 1, 7, 4096, 65535} {
				d.Reset(bytes.NewReader(s.raw))
				got, err := decodeAll(d, max)
				if err != nil {
					t.Fatalf("max %d: %v after %d bytes of %d", max, err, len(got), len(s.want))
				}
				if !bytes.Equal(got, s.want) {
					t.Fatalf("max %d: wrong bytes", max)
				}
				if d.Out() != int64(len(s.want)) {
					t.Errorf("Out %d, want %d", d.Out(), len(s.want))
				}
			}
		})
	}
}

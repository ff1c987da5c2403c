package dmg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestRawWithoutData has a raw chunk of 2^50 sectors fail as one, where it has no
// data: an error for every few megabytes of it would take all memory.
func TestRawWithoutData(t *testing.T) {
	const sectors = 1 << 50
	data := dmgtest.Text(1, 8*sectorSize).Bytes()
	for _, stored := range []uint64{0, 3 * sectorSize, 8 * sectorSize} {
		table := dmgtest.NewTable("", 0, sectors+8,
			dmgtest.Chunk{Method: dmgtest.Raw, Sectors: sectors, Length: stored},
			dmgtest.Chunk{Method: dmgtest.Raw, Sector: sectors, Sectors: 8, Length: uint64(len(data))})
		l := &dmgtest.Layout{Tables: []dmgtest.Table{table}, Data: data, Koly: dmgtest.NewKoly()}
		l.Koly.Sectors = sectors + 8
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
		b := l.Bytes()
		im, err := NewImage(bytes.NewReader(b), int64(len(b)), nil)
		if err != nil {
			t.Fatal(err)
		}
		var joined interface{ Unwrap() []error }
		err = im.Verify(context.Background(), nil)
		if !errors.Is(err, ErrFormat) || !errors.As(err, &joined) || len(joined.Unwrap()) > 3 {
			t.Errorf("%d bytes stored: Verify: %.500v", stored, err)
		}
		if n, err := im.WriteTo(io.Discard); uint64(n) != stored || !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes stored: WriteTo = %d, %v", stored, n, err)
		}
		got := make([]byte, len(data))
		if _, err := im.ReadAt(got, sectors*sectorSize); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes stored: behind it: %v, or other bytes", stored, err)
		}
	}
}

package hfsplus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// TestRecordsOverlap: where two records of the extents tree have the same block, it is
// not what the read before decides.
func TestRecordsOverlap(t *testing.T) {
	file := hfsvol.File("file", make([]byte, 40*512))
	file.DataExtent = 1
	v := hfsvol.Write(hfsvol.Dir("Volume", file), hfsvol.Options{BlockSize: 512})
	for _, r := range v.Extents.Records {
		if start := binary.BigEndian.Uint32(r.Key[6:]); start == 16 {
			binary.BigEndian.PutUint32(v.Image[r.Off+2+6:], 15)
		}
	}
	for _, order := range [][]int64{{14, 15, 22}, {15, 14, 22}, {22, 15, 14}} {
		fsys, err := hfsplus.New(bytes.NewReader(v.Image), int64(len(v.Image)))
		if err != nil {
			t.Fatal(err)
		}
		f, err := fsys.Open("file")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, block := range order {
			_, err := f.(io.ReaderAt).ReadAt(make([]byte, 512), block*512)
			if want := block == 14; errors.Is(err, hfsplus.ErrFormat) != want {
				t.Errorf("%v: block %d: %v", order, block, err)
			}
		}
	}
}

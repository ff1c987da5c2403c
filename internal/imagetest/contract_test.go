package imagetest

import (
	"bytes"
	"errors"
	"io"
	"math"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/readat"
)

// TestSourceContract has a source return an impossible count at its first call,
// then at its second, and so on until opening and reading no longer ask so often.
// What reads from it must say so, and may not panic or count the bytes.
func TestSourceContract(t *testing.T) {
	disk := dmgtest.Mixed(50, 96<<10).Bytes()
	image := func(o dmgtest.Options) []byte { return dmgtest.Image(t, disk, o) }
	e := dmgtest.Encryption{Password: secret, BlockSize: 512}
	for name, data := range map[string][]byte{
		"raw":          rawDisk(),
		"raw chunks":   image(dmgtest.Options{ChunkSectors: 32, Codecs: []dmgtest.Method{dmgtest.Raw}}),
		"zlib":         image(dmgtest.Options{ChunkSectors: 64}),
		"bzip2":        image(dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}, Level: 1}),
		"others":       image(dmgtest.Options{ChunkSectors: 64, Codecs: []dmgtest.Method{dmgtest.LZFSE, dmgtest.LZMA, dmgtest.ADC}}),
		"fork":         image(dmgtest.Options{Meta: dmgtest.ResourceOnly, KolyFirst: true}),
		"no sums":      image(dmgtest.Options{DataSum: dmgtest.NoSum, TableSum: dmgtest.NoSum, MasterSum: dmgtest.NoSum}),
		"v1":           dmgtest.Encryption{Password: secret, Version: 1}.Image(image(dmgtest.Options{})),
		"v2":           e.Image(image(dmgtest.Options{})),
		"sparse image": dmgtest.SparseImage(disk, dmgtest.SparseOptions{BandSectors: 16, NodeIDs: 3}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, lie := range []func(room int) int{
				func(int) int { return -1 },
				func(int) int { return math.MinInt },
				func(room int) int { return room + 1 },
				func(int) int { return math.MaxInt },
			} {
				for call := 1; checkContract(t, data, call, lie); call++ {
				}
			}
		})
	}
}

// checkContract reports whether there was such a call.
func checkContract(t *testing.T, data []byte, call int, lie func(room int) int) bool {
	t.Helper()
	var count atomic.Int64
	src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if count.Add(1) == int64(call) {
			return lie(len(p)), nil
		}
		return bytes.NewReader(data).ReadAt(p, off)
	})
	im, err := dmg.NewImage(src, int64(len(data)), &dmg.Options{Password: secret})
	if err != nil {
		if calls := int(count.Load()); calls != call || !errors.Is(err, readat.ErrCount) || errors.Is(err, dmg.ErrFormat) {
			t.Fatalf("call %d of %d while opening: %v", call, calls, err)
		}
		return true
	}
	p := make([]byte, im.Size()+1)
	n, err := im.ReadAt(p, 0)
	calls := int(count.Load())
	lied := calls >= call
	if n < 0 || n > len(p) || lied != errors.Is(err, readat.ErrCount) || !lied && err != io.EOF {
		t.Fatalf("call %d of %d while reading: %d, %v", call, calls, n, err)
	}
	return lied
}

// TestIndexSourceContract is the same of what an index is read from.
func TestIndexSourceContract(t *testing.T) {
	for _, n := range []int{-1, math.MinInt, math.MaxInt} {
		if _, err := dmg.ReadIndex(lyingReader(n)); !errors.Is(err, readat.ErrCount) {
			t.Errorf("a count of %d: %v", n, err)
		}
	}
}

// lyingReader returns an impossible count.
type lyingReader int

func (n lyingReader) Read([]byte) (int, error) { return int(n), nil }

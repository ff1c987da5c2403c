package dmg_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// sheet is a file of a fixed size in memory.
type sheet []byte

func (s sheet) WriteAt(p []byte, off int64) (int, error) { return copy(s[off:], p), nil }

// With Damaged, Extract passes over what can't be read, in chunks of every kind,
// and writes all else.
func TestExtractDamaged(t *testing.T) {
	const chunk = 16 << 10
	disk := dmgtest.Text(5, 20*chunk).Bytes()
	methods := []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2, dmgtest.ADC, dmgtest.LZFSE, dmgtest.LZMA}
	l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: methods, ChunkSectors: chunk / 512})
	if err != nil {
		t.Fatal(err)
	}
	bent := []int{0, 1, 3, 9, 17}
	for _, i := range bent {
		c := l.Tables[0].Chunks[i]
		clear(l.Data[c.Offset+c.Length/2:][:c.Length/2])
	}
	b := l.Bytes()
	open := func() *dmg.Image {
		im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return im
	}
	for _, workers := range []int{0, 3} {
		for _, indexed := range []bool{false, true} {
			im := open()
			if indexed {
				if err := im.BuildIndex(context.Background(), nil); err != nil {
					t.Fatal(err)
				}
			}
			got, lost := make(sheet, len(disk)), make(map[int]bool)
			progress, end := checkProgress(t, im.Size())
			err := im.Extract(context.Background(), got, &dmg.ExtractOptions{Workers: workers, Progress: progress, Damaged: func(err *dmg.ChunkError) error {
				lost[int(err.Chunk.Offset/chunk)] = true // unlocked: calls must not be concurrent
				return nil
			}})
			end()
			if err != nil {
				t.Fatal(err)
			}
			for i := range len(disk) / chunk {
				switch at := i * chunk; {
				case lost[i] != slices.Contains(bent, i):
					t.Errorf("%d workers: chunk %d is damaged: %v", workers, i, lost[i])
				case !lost[i] && !bytes.Equal(got[at:at+chunk], disk[at:at+chunk]):
					t.Errorf("%d workers: chunk %d is wrong", workers, i)
				}
			}
		}
	}

	// Its error ends it, and what isn't damage is not its to pass over.
	enough := errors.New("enough")
	calls := 0
	err = open().Extract(context.Background(), make(sheet, len(disk)), &dmg.ExtractOptions{Damaged: func(*dmg.ChunkError) error {
		calls++
		return enough
	}})
	if !errors.Is(err, enough) || calls == 0 {
		t.Errorf("after %d calls: %v, want %v", calls, err, enough)
	}
	fault := errors.New("fault")
	c := l.Tables[0].Chunks[7]
	opened := false
	src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if at := int64(c.Offset) + 1; off <= at && at < off+int64(len(p)) && opened {
			return 0, fault
		}
		return bytes.NewReader(b).ReadAt(p, off)
	})
	im, err := dmg.NewImage(src, int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	opened = true
	if err := im.Extract(context.Background(), make(sheet, len(disk)), &dmg.ExtractOptions{Damaged: func(*dmg.ChunkError) error { return nil }}); !errors.Is(err, fault) {
		t.Errorf("a source that fails: %v, want %v", err, fault)
	}
}

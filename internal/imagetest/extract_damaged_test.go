package imagetest

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
			got := make(sheet, len(disk))
			var damage []dmg.Damage
			progress, end := dmgtest.CheckProgress(t, im.Size())
			err := im.Extract(context.Background(), got, &dmg.ExtractOptions{Workers: workers, Progress: progress, Damaged: func(d dmg.Damage) error {
				if errors.Is(d.Err, dmg.ErrChecksum) && !errors.As(d.Err, new(*dmg.ChunkError)) {
					return nil // of the table: some of it can't be read
				}
				damage = append(damage, d) // unlocked: calls must not be concurrent
				return nil
			}})
			end()
			if err != nil {
				t.Fatal(err)
			}
			for i := range len(disk) / chunk {
				at := int64(i * chunk)
				listed := slices.ContainsFunc(damage, func(d dmg.Damage) bool { return d.Offset < at+chunk && d.End() > at })
				if listed != slices.Contains(bent, i) {
					t.Errorf("%d workers: chunk %d is damaged: %v", workers, i, listed)
				}
			}
			checkDamage(t, dmgtest.Raw, disk, got, damage)
		}
	}

	// Its error ends it, and what isn't damage is not its to pass over.
	enough := errors.New("enough")
	calls := 0
	err = open().Extract(context.Background(), make(sheet, len(disk)), &dmg.ExtractOptions{Damaged: func(dmg.Damage) error {
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
	if err := im.Extract(context.Background(), make(sheet, len(disk)), &dmg.ExtractOptions{Damaged: func(dmg.Damage) error { return nil }}); !errors.Is(err, fault) {
		t.Errorf("a source that fails: %v, want %v", err, fault)
	}
}

// checkDamage has every byte right that no range lists, and right or zero where one is
// lost. In zlib chunks, of whose blocks some bytes may decode, a lost sector has a zero.
func checkDamage(t *testing.T, method dmgtest.Method, disk, got []byte, damage []dmg.Damage) {
	t.Helper()
	listed, lost := make([]bool, len(disk)), make([]bool, len(disk))
	for _, d := range damage {
		if d.Length <= 0 || d.Offset < 0 || d.End() > int64(len(disk)) {
			t.Fatalf("range %v on a disk of %d", d, len(disk))
		}
		for i := d.Offset; i < d.End(); i++ {
			listed[i] = true
			lost[i] = lost[i] || d.Lost
		}
	}
	for i := range disk {
		if !listed[i] && got[i] != disk[i] {
			t.Fatalf("byte %d is wrong, and not listed: %v", i, damage)
		}
		if lost[i] && got[i] != 0 && got[i] != disk[i] {
			sector := got[i/512*512 : min(len(got), i/512*512+512)]
			if method != dmgtest.Zlib || !slices.Contains(sector, 0) {
				t.Fatalf("byte %d is lost, and neither right nor zero", i)
			}
		}
	}
}

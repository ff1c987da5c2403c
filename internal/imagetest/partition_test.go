package imagetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestWholeDiskTable has the partitions of a GUID table inside one block table found
// when they are asked for, and chunks and checksums count the block table.
func TestWholeDiskTable(t *testing.T) {
	t.Parallel()
	for _, codec := range []dmgtest.Method{dmgtest.Raw, dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZFSE} {
		b := dmgtest.Image(t, gptDisk(), dmgtest.Options{Codecs: []dmgtest.Method{codec}, ChunkSectors: 256})
		src := &dmgtest.Counter{R: bytes.NewReader(b)}
		im, err := dmg.NewImage(src, int64(len(b)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := im.Stats().SourceBytes; n > 0 {
			t.Errorf("%v: opening reads %d bytes of the disk", codec, n)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				im.Partitions()
			}()
		}
		wg.Wait()
		calls := src.Calls()
		parts := im.Partitions()
		if len(parts) != 3 || !parts[0].Table || parts[1].Table || parts[1].Type != "Apple_HFS" || src.Calls() != calls {
			t.Errorf("%v: %v, with %d reads more", codec, parts, src.Calls()-calls)
		}
		got := make([]byte, parts[1].Length)
		if _, err := parts[1].Section().ReadAt(got, 0); err != nil || !bytes.Equal(got, gptDisk()[parts[1].Offset:][:len(got)]) {
			t.Errorf("%v: %v, or other bytes", codec, err)
		}
		for c := range im.Chunks() {
			if c.Partition != 0 {
				t.Errorf("%v is of partition %d", c, c.Partition)
			}
		}
		if err := im.Verify(context.Background(), nil); err != nil {
			t.Error(err)
		}
	}
}

// TestPartitionsFault has the source fail while the partition table is read: that
// costs its partitions until it works again.
func TestPartitionsFault(t *testing.T) {
	b := dmgtest.Image(t, gptDisk(), dmgtest.Options{ChunkSectors: 256})
	broken := false
	src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if broken {
			return 0, errors.New("connection reset")
		}
		return bytes.NewReader(b).ReadAt(p, off)
	})
	im, err := dmg.NewImage(src, int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 3, 3} {
		broken = i != 1
		if got := im.Partitions(); len(got) != want {
			t.Errorf("call %d: %v, want %d", i, got, want)
		}
	}
}

// TestWholeDiskSample is an image whose one table has a GUID table inside.
func TestWholeDiskSample(t *testing.T) {
	im, err := dmg.Open(filepath.Join(Samples(), "faults", "whole-disk-gpt.dmg"), nil)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	parts := im.Partitions()
	if len(parts) != 3 || parts[1].Name != "EFI System Partition" || parts[2].Type != "Apple_APFS" || parts[2].Offset != 200*sector {
		t.Errorf("%+v", parts)
	}
	if !strings.HasPrefix(parts[0].Name, "whole disk") || !parts[0].Table {
		t.Errorf("%+v", parts[0])
	}
}

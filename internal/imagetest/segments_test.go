package imagetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestSegmentsOfAnyName opens a split image by each of its files, under names that
// hdiutil gives them and under others.
func TestSegmentsOfAnyName(t *testing.T) {
	disk := containerDisk()
	for kind, o := range map[string]dmgtest.Options{
		"last koly": inUDZO, "koly first": {ChunkSectors: 64, KolyFirst: true}, "tails": {ChunkSectors: 64, Tail: 511}, "prefix": {ChunkSectors: 64, Prefix: 700},
	} {
		files := segments(t, disk, o, 12)
		for format, usual := range map[string]bool{"": true, "disk.%03d.dmg": false, "part %d": false} {
			dir := t.TempDir()
			var names []string
			for i, data := range files {
				name := filepath.Join(dir, fmt.Sprintf(format, i+1))
				if usual {
					name = dmgtest.SegmentName(filepath.Join(dir, "image.dmg"), i+1)
				}
				write(t, name, data)
				names = append(names, name)
			}
			write(t, filepath.Join(dir, "readme.txt"), []byte("not a segment"))
			write(t, filepath.Join(dir, "another.dmg"), dmgtest.Image(t, disk, o))
			for _, i := range []int{0, 1, 11} {
				before := openFiles()
				im, err := dmg.Open(names[i], nil)
				if err != nil {
					t.Errorf("%s, %s: %v", kind, filepath.Base(names[i]), err)
					continue
				}
				checkWrapped(t, im, &wrapped{format: "UDZO", layers: []string{"segments"}})
				CheckDisk(t, im, int64(len(disk)), SumOf(disk))
				if len(im.Defects()) > 0 {
					t.Errorf("%s, %s: defects %v", kind, filepath.Base(names[i]), im.Defects())
				}
				if err := im.Close(); err != nil {
					t.Error(err)
				}
				checkClosed(t, before)
			}
		}
	}
}

// TestConcatenatedSegments opens segments that were joined into one file.
func TestConcatenatedSegments(t *testing.T) {
	disk := containerDisk()
	for name, o := range map[string]dmgtest.Options{
		"plist": inUDZO, "fork": {ChunkSectors: 64, Meta: dmgtest.ResourceOnly}, "both": {ChunkSectors: 64, Meta: dmgtest.PlistAndRsrc}, "tail": {ChunkSectors: 64, Tail: 300},
	} {
		joined := bytes.Join(segments(t, disk, o, 12), nil)
		im, err := dmg.NewImage(bytes.NewReader(joined), int64(len(joined)), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkWrapped(t, im, &wrapped{format: "UDZO", layers: []string{"segments"}})
		CheckDisk(t, im, int64(len(disk)), SumOf(disk))
		if im, err = dmg.Open(writeFile(t, joined), nil); err != nil {
			t.Errorf("%s: Open: %v", name, err)
			continue
		}
		CheckDisk(t, im, int64(len(disk)), SumOf(disk))
		im.Close()
	}
}

// TestCutSegments cuts one of the files. All that the others have can be read.
func TestCutSegments(t *testing.T) {
	t.Parallel()
	disk := containerDisk()
	part := dmgtest.SegmentName
	for _, tt := range []struct {
		name   string
		o      dmgtest.Options
		number int
		keep   func(b []byte) []byte
		defect string
	}{
		{"raw, 5 cut", dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}}, 5, func(b []byte) []byte { return b[:10_000] }, "image.005.dmgpart"},
		{"raw chunks, 5 cut", dmgtest.Options{ChunkSectors: 64, Codecs: []dmgtest.Method{dmgtest.Raw}}, 5, func(b []byte) []byte { return b[:10_000] }, "image.005.dmgpart"},
		{"raw, last cut", dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}}, 12, func(b []byte) []byte { return b[:10_000] }, "image.012.dmgpart"},
		{"raw, 5 without its trailer", dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}}, 5, func(b []byte) []byte { return b[:len(b)-100] }, "image.005.dmgpart"},
		{"raw, 5 empty", dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}}, 5, func(b []byte) []byte { return nil }, "image.005.dmgpart"},
		{"raw, the front of 5", dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}}, 5, func(b []byte) []byte { return b[1000:] }, "image.005.dmgpart"},
		{"UDZO, 5 cut", inUDZO, 5, func(b []byte) []byte { return b[:1000] }, "image.005.dmgpart"},
		{"UDZO, last cut", inUDZO, 12, func(b []byte) []byte { return b[:1000] }, "image.012.dmgpart"},
		{"UDZO, koly first, 5 cut", dmgtest.Options{ChunkSectors: 64, KolyFirst: true}, 5, func(b []byte) []byte { return b[:1000] }, "image.005.dmgpart"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := segments(t, disk, tt.o, 12)
			first := dmgtest.SegmentFiles(t, files)
			intact, err := dmg.Open(first, nil)
			if err != nil {
				t.Fatal(err)
			}
			data := slices.Collect(intact.Chunks())
			if err := intact.Close(); err != nil {
				t.Fatal(err)
			}
			write(t, part(first, tt.number), tt.keep(files[tt.number-1]))
			im, err := dmg.Open(first, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			if d := im.Defects(); len(d) != 1 || !strings.Contains(d[0].Error(), tt.defect) || !errors.Is(d[0], dmg.ErrFormat) {
				t.Errorf("defects %v, want one of %s", d, tt.defect)
			}
			whole := tt.name == "raw, 5 without its trailer" // but for that
			if err := im.Verify(t.Context(), nil); whole && err != nil || !whole && !errors.Is(err, dmg.ErrFormat) {
				t.Errorf("Verify: %v, want ErrFormat", err)
			}
			// Of compressed chunks those are lost whose data touches the file; of raw
			// ones, what is in it.
			size := int64(0) // of a file's data
			for _, c := range data {
				size = max(size, c.DataOffset+c.DataLength)
			}
			size = (size + 11) / 12
			from, to := size*int64(tt.number-1), size*int64(tt.number)
			for _, c := range data {
				lost := c.DataLength > 0 && c.DataOffset < to && c.DataOffset+c.DataLength > from
				switch {
				case !lost || c.Method != dmg.Raw:
					p := make([]byte, c.Length)
					n, err := im.ReadAt(p, c.Offset)
					if !lost && err != nil || lost && err != nil && !errors.Is(err, dmg.ErrFormat) {
						t.Errorf("%v: %d, %v", c, n, err)
					}
					if !bytes.Equal(p[:n], disk[c.Offset:][:n]) {
						t.Errorf("%v: other bytes", c)
					}
				default:
					checkRawLoss(t, im, c, disk, from, to)
				}
			}
		})
	}
}

// checkRawLoss reads a raw chunk, of whose data the file that has bytes from up to to
// was damaged: what lies before and behind them reads.
func checkRawLoss(t *testing.T, im *dmg.Image, c dmg.Chunk, disk []byte, from, to int64) {
	t.Helper()
	before := c.Offset + max(0, from-c.DataOffset)
	behind := c.Offset + min(c.Length, (to-c.DataOffset+511)&^511)
	for _, r := range [][2]int64{{c.Offset, before}, {behind, c.Offset + c.Length}} {
		p := make([]byte, r[1]-r[0])
		if n, err := im.ReadAt(p, r[0]); len(p) > 0 && err != nil || !bytes.Equal(p[:n], disk[r[0]:][:n]) {
			t.Errorf("%v: ReadAt of %d at %d = %d, %v", c, len(p), r[0], n, err)
		}
	}
}

func TestFaultSegments(t *testing.T) {
	for i := range 3 {
		im, err := dmg.Open(faultFile(t, fmt.Sprintf("segments/disk.%03d.dmg", i+1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		CheckDisk(t, im, 65536, faultSum)
		im.Close()
	}
	var all []byte
	for i := range 3 {
		b, err := os.ReadFile(faultFile(t, fmt.Sprintf("segments/disk.%03d.dmg", i+1)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	im, err := dmg.NewImage(bytes.NewReader(all), int64(len(all)), nil)
	if err != nil {
		t.Fatal(err)
	}
	CheckDisk(t, im, 65536, faultSum)
}

package dmg

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// fuzzImage is what the fuzz targets' indexes are of: a zlib chunk and one of
// bzip2, as small as they can be to have a checkpoint each.
func fuzzImage(tb testing.TB) (image, disk, index []byte) {
	const chunk = minSpacing/sectorSize + 2
	disk = dmgtest.Join(dmgtest.Text(1, minSpacing), dmgtest.Text(2, minSpacing)).Bytes()
	image = dmgtest.Image(tb, disk, dmgtest.Options{
		Codecs:       []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2},
		Level:        1,
		ChunkSectors: chunk,
	})
	return image, disk, builtIndex(tb, image, disk)
}

// FuzzReadIndex reads anything as an index. What is accepted gives right bytes
// or an error.
func FuzzReadIndex(f *testing.F) {
	image, disk, index := fuzzImage(f)
	f.Add(index)
	f.Add(saved(f, newTest(f, image, nil)))
	f.Add(index[:indexHeader])
	f.Fuzz(func(t *testing.T, b []byte) {
		tryIndex(t, image, b, disk)
	})
}

// FuzzIndexStreams puts an index together that has the image's identity and
// the right checksum. It can say anything about what comes before a checkpoint,
// and so give wrong bytes, but reads end, and their errors have a class.
func FuzzIndexStreams(f *testing.F) {
	image, disk, index := fuzzImage(f)
	whole := unforged(f, index)
	entries, parts := soleGroup(f, whole)
	f.Add(whole.count, []byte(nil), entries, parts[0], parts[1], parts[2], parts[3])
	f.Add(whole.count, whole.directory, []byte(nil), parts[0], parts[1], parts[2], parts[3])
	f.Add(uint64(0), []byte(nil), []byte(nil), []byte(nil), []byte(nil), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, count uint64, directory, entries, states, gaps, lengths, literals []byte) {
		forged := forged{id: whole.id, count: count}
		if count > 0 {
			forged.add(min(count, groupPoints), entries, [numParts][]byte{states, gaps, lengths, literals})
		}
		if len(directory) > 0 {
			forged.directory = directory
		}
		ix := readIndex(t, forged.file())
		// In little memory everything is unpacked at once.
		if im, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix, MemoryLimit: 700 << 10}); err == nil {
			if n := im.Stats().CheckpointBytes; n > 350<<10+checkpointOverhead+chunkOverhead {
				t.Fatalf("%d bytes of checkpoints in little memory", n)
			}
		} else if !errors.Is(err, ErrIndex) {
			t.Fatalf("in little memory %v, want ErrIndex", err)
		}
		im, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix, MemoryLimit: 16 << 20})
		if err != nil {
			if !errors.Is(err, ErrIndex) {
				t.Fatalf("%v, want ErrIndex", err)
			}
			return
		}
		if n := im.Stats().CheckpointBytes; n > 8<<20 {
			t.Fatalf("%d bytes of checkpoints", n)
		}
		classes := []error{ErrIndex, ErrFormat, ErrChecksum}
		isClass := func(err error) bool {
			return slices.ContainsFunc(classes, func(c error) bool { return errors.Is(err, c) })
		}
		p := make([]byte, 5000)
		for off := int64(len(disk) - len(p)); off >= 0; off -= 30_011 {
			if n, err := im.ReadAt(p, off); n != len(p) && !isClass(err) {
				t.Fatalf("ReadAt(%d) = %d, %v", off, n, err)
			}
		}
		// What was taken can be saved and taken again, if it can be unpacked.
		switch _, err := im.Index(); {
		case errors.Is(err, ErrIndex):
			return
		case err != nil:
			t.Fatalf("Index: %v", err)
		}
		if again := saved(t, im); len(again) < indexHeader+sha256.Size {
			t.Fatalf("an index of %d bytes", len(again))
		} else if _, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: readIndex(t, again)}); err != nil {
			t.Fatalf("saved again: %v", err)
		}
	})
}

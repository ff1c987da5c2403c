package imagetest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

func TestSegmentErrors(t *testing.T) {
	disk := containerDisk()
	good := segments(t, disk, inUDZO, 12)
	foreign := segments(t, disk, dmgtest.Options{ChunkSectors: 32, Codecs: []dmgtest.Method{dmgtest.Raw}}, 12)
	part := func(first string, n int) string { return dmgtest.SegmentName(first, n) }
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, first string) (open string)
		err   error
		say   []string
	}{
		{"missing", func(t *testing.T, first string) string { remove(t, part(first, 5)); return first },
			dmg.ErrFormat, []string{"image.005.dmgpart", "missing", "5 of 12", "one directory"}},
		{"last missing", func(t *testing.T, first string) string { remove(t, part(first, 12)); return first },
			dmg.ErrFormat, []string{"image.012.dmgpart", "missing", "12 of 12"}},
		{"foreign", func(t *testing.T, first string) string { write(t, part(first, 3), foreign[2]); return first },
			dmg.ErrFormat, []string{"image.003.dmgpart"}},
		{"directory", func(t *testing.T, first string) string {
			remove(t, part(first, 2))
			if err := os.Mkdir(part(first, 2), 0o777); err != nil {
				t.Fatal(err)
			}
			return first
		}, dmg.ErrFormat, []string{"image.002.dmgpart", "not a regular file"}},
		{"first missing", func(t *testing.T, first string) string { remove(t, first); return part(first, 2) },
			dmg.ErrFormat, []string{"image.dmg", "missing", "1 of 12", "one directory"}},
		{"first without trailer", func(t *testing.T, first string) string {
			write(t, first, good[0][:len(good[0])-600])
			return part(first, 12)
		}, dmg.ErrFormat, []string{"image.dmg", "cut off or damaged"}},
		{"one with another password", func(t *testing.T, first string) string {
			write(t, part(first, 9), dmgtest.Encryption{Password: "another"}.Image(good[8]))
			return first
		}, dmg.ErrPassword, []string{"image.009.dmgpart", "no password given"}},
		{"one with a damaged header", func(t *testing.T, first string) string {
			b := dmgtest.Encryption{Password: "another"}.Image(good[8])
			clear(b[0x34:0x38])
			write(t, part(first, 9), b)
			return first
		}, dmg.ErrFormat, []string{"image.009.dmgpart", "block size 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := tt.spoil(t, dmgtest.SegmentFiles(t, good))
			before := openFiles()
			_, err := dmg.Open(name, nil)
			checkClosed(t, before)
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			for _, say := range tt.say {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("the error is %q, want %q in it", err, say)
				}
			}
		})
	}
	// The parts of an image that a caller's own source holds can't be found.
	for _, i := range []int{0, 1, 11} {
		_, err := dmg.NewImage(bytes.NewReader(good[i]), int64(len(good[i])), nil)
		if !errors.Is(err, dmg.ErrUnsupported) || !strings.Contains(err.Error(), "with Open") || !strings.Contains(err.Error(), "12 files") {
			t.Errorf("NewImage of segment %d: %v", i+1, err)
		}
	}
}

// The parts of an image may each be encrypted. What deriving their keys takes is
// limited for all together, and done once where their headers have the salt in
// common.
func TestSegmentKeys(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	good := segments(t, containerDisk(), inUDZO, 12)
	encrypt := func(of func(i int) dmgtest.Encryption) [][]byte {
		parts := make([][]byte, len(good))
		for i, b := range good {
			parts[i] = of(i).Image(b)
		}
		return parts
	}
	const limit = 10_000_000
	e := dmgtest.Encryption{Password: secret}
	first := dmgtest.SegmentFiles(t, encrypt(func(i int) dmgtest.Encryption { return dmgtest.Encryption{Password: secret, Seed: uint64(i)} }))
	im, err := dmg.Open(first, &dmg.Options{Password: secret})
	if err != nil {
		t.Fatal("parts with a salt each:", err)
	}
	im.Close()

	// Were it not for the iterations of the parts before, the last could be
	// tried.
	same := encrypt(func(int) dmgtest.Encryption { return e })
	same[11] = put(encrypt(func(i int) dmgtest.Encryption { e := e; e.Seed = uint64(i); return e })[11], 0x4C+20+8, limit-500, 4)
	first = dmgtest.SegmentFiles(t, same)
	checkHostile(t, dmg.ErrUnsupported, "image.012.dmgpart: encryption not supported: 9999500 iterations", func() (*dmg.Image, error) {
		return dmg.Open(first, &dmg.Options{Password: secret})
	})

	// Twelve times these would be too many. A header differs from the others'
	// in the length of the data.
	e.Iterations = limit/12 + 100_000
	header := e.Image(nil)
	for i, b := range good {
		same[i] = append(put(header, 0x38, uint64(len(b)), 8), e.Band(b)...)
	}
	im, err = dmg.Open(dmgtest.SegmentFiles(t, same), &dmg.Options{Password: secret})
	if err != nil {
		t.Fatal("parts with one salt:", err)
	}
	im.Close()
}

// What the file system says of a part is not damage of the image.
func TestSegmentFault(t *testing.T) {
	first := dmgtest.SegmentFiles(t, segments(t, containerDisk(), inUDZO, 12))
	name := dmgtest.SegmentName(first, 6)
	remove(t, name)
	if err := os.Symlink(name, name); err != nil {
		t.Skip("no links: ", err)
	}
	_, err := dmg.Open(first, nil)
	var path *fs.PathError
	if !errors.As(err, &path) || errors.Is(err, dmg.ErrFormat) || !strings.Contains(err.Error(), "image.006.dmgpart") {
		t.Errorf("a part that is a link to itself: %v", err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestSegmentNames opens split images of names that are no UTF-8, or that another
// system would take for a path.
func TestSegmentNames(t *testing.T) {
	disk := dmgtest.Text(1, 256<<10).Bytes()
	files := segments(t, disk, dmgtest.Options{ChunkSectors: 64}, 3)
	for _, first := range []string{"im\xE4ge.dmg", "image.dmg", "a\\b:c.dmg"} {
		t.Run(first, func(t *testing.T) {
			dir := t.TempDir()
			for i, data := range files {
				if err := os.WriteFile(filepath.Join(dir, dmgtest.SegmentName(first, i+1)), data, 0o600); err != nil {
					t.Skipf("the file system refuses the name: %v", err)
				}
			}
			im, err := dmg.Open(filepath.Join(dir, first), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			got := make([]byte, len(disk))
			if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
				t.Errorf("%v, or other bytes", err)
			}
		})
	}
}

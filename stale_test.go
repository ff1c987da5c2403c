package dmg_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// A stale index, a damaged index and a damaged image are told apart by their classes.
func TestStaleIndex(t *testing.T) {
	t.Run("packed", func(t *testing.T) { testStaleIndex(t, 0) })
	// Of 1 MiB the index's share has no room for an unpacker.
	t.Run("unpacked", func(t *testing.T) { testStaleIndex(t, 1<<20) })
}

func testStaleIndex(t *testing.T, limit int64) {
	disk := dmgtest.Random(3, 4<<20).Bytes() // in stored blocks, so that damage shows only in checksums
	image := dmgtest.Image(t, disk, dmgtest.Options{})
	damaged := bytes.Clone(image)
	damaged[len(disk)/2] ^= 1
	other := dmgtest.Image(t, dmgtest.Random(4, 1<<20).Bytes(), dmgtest.Options{})
	open := func(file []byte, ix *dmg.Index) (*dmg.Image, error) {
		return dmg.NewImage(bytes.NewReader(file), int64(len(file)), &dmg.Options{Index: ix, MemoryLimit: limit})
	}
	index := func(file []byte) []byte {
		im, err := open(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := im.BuildIndex(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		ix, err := im.Index()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := ix.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	good, foreign := index(image), index(other)
	broken := bytes.Clone(good)
	broken[len(broken)/2] ^= 1
	read := func(file, index []byte) error {
		var ix *dmg.Index
		if index != nil {
			var err error
			if ix, err = dmg.ReadIndex(bytes.NewReader(index)); err != nil {
				return err
			}
		}
		im, err := open(file, ix)
		if err != nil {
			return err
		}
		_, err = io.Copy(struct{ io.Writer }{io.Discard}, im.Section(0, im.Size()))
		return err
	}
	for _, tt := range []struct {
		name        string
		file, index []byte
		want        []error
	}{
		{"the image's own index", image, good, nil},
		{"no index, damaged image", damaged, nil, []error{dmg.ErrChecksum}},
		{"damaged index", image, broken, []error{dmg.ErrIndex}},
		{"index of another image", image, foreign, []error{dmg.ErrIndex, dmg.ErrStaleIndex}},
		{"image changed since", damaged, good, []error{dmg.ErrIndex, dmg.ErrStaleIndex, dmg.ErrChecksum}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := read(tt.file, tt.index)
			if (err == nil) != (tt.want == nil) {
				t.Fatal(err)
			}
			for _, class := range []error{
				dmg.ErrIndex, dmg.ErrStaleIndex, dmg.ErrChecksum,
				dmg.ErrFormat, dmg.ErrUnsupported, dmg.ErrMemoryLimit, dmg.ErrPassword,
			} {
				if is := errors.Is(err, class); is != slices.Contains(tt.want, class) {
					t.Errorf("%v: Is %q: %v", err, class, is)
				}
			}
		})
	}

	// Recovery goes on past a checkpoint that does not fit: the image may be what is
	// wrong, and what comes after is readable.
	ix, err := dmg.ReadIndex(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	im, err := open(damaged, ix)
	if err != nil {
		t.Fatal(err)
	}
	var got diskWriter
	stale := 0
	err = im.Extract(context.Background(), &got, &dmg.ExtractOptions{Damaged: func(d dmg.Damage) error {
		if errors.Is(d.Err, dmg.ErrStaleIndex) {
			stale++
		}
		return nil
	}, Ordered: true})
	if err != nil || stale == 0 || len(got) != len(disk) || !bytes.Equal(got[3<<20:], disk[3<<20:]) {
		t.Errorf("Extract: %v, %d stale ranges, %d bytes", err, stale, len(got))
	}
}

// diskWriter is a disk in memory that is written in order.
type diskWriter []byte

func (w *diskWriter) WriteAt(p []byte, off int64) (int, error) {
	if off != int64(len(*w)) {
		return 0, errors.New("written out of order")
	}
	*w = append(*w, p...)
	return len(p), nil
}

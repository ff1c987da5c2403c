package dmgtest_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-dmg/dmg/internal/crypt"
	. "github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/segment"
	"github.com/go-dmg/dmg/internal/sparse"
)

// The containers are read by the packages that are tested against Apple's
// own samples: what they read alike is written alike.

func TestEncryption(t *testing.T) {
	plain := Mixed(1, 100<<10+48).Bytes()
	for _, e := range []Encryption{
		{Password: "a"},
		{Password: "päßword", KeyBits: 128, BlockSize: 512},
		{Password: "a", AESWrap: true},
		{Password: "a", AESWrap: true, KeyBits: 128, Decoys: 3},
		{Password: "a", Decoys: 1, DataOffset: 1, Seed: 7},
		{Password: "a", Version: 1},
		{Password: "a", Version: 1, KeyBits: 128, BlockSize: 512, Iterations: 3},
	} {
		t.Run(fmt.Sprintf("%+v", e), func(t *testing.T) {
			img := e.Image(plain)
			r, err := crypt.Open(bytes.NewReader(img), int64(len(img)), crypt.Keys{Password: e.Password})
			if err != nil {
				t.Fatal(err)
			}
			same(t, r, r.Size(), plain)
			if _, err := crypt.Open(bytes.NewReader(img), int64(len(img)), crypt.Keys{Password: "other"}); err == nil {
				t.Error("any password opens it")
			}
			token := e.Token(len(plain))
			c, err := crypt.Unlock(bytes.NewReader(token), int64(len(token)), crypt.Keys{Password: e.Password})
			if err != nil {
				t.Fatal(err)
			}
			band := e.Band(plain)
			same(t, c.Reader(bytes.NewReader(band), int64(len(band))), int64(len(plain)), plain)
		})
	}
}

func TestSparseImage(t *testing.T) {
	plain := Mixed(1, 5<<20+512).Bytes()
	for _, o := range []SparseOptions{
		{},
		{KeepZeros: true},
		{BandSectors: 1},
		{BandSectors: 64, Shuffle: true, Seed: 3},
		{BandSectors: 64, Shuffle: true, NodeIDs: 1},
		{BandSectors: 7, NodeIDs: 13, KeepZeros: true},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			img := SparseImage(plain, o)
			m, err := sparse.OpenImage(bytes.NewReader(img), int64(len(img)))
			if err != nil {
				t.Fatal(err)
			}
			same(t, m, m.Size(), plain)
		})
	}
}

func TestSparseBundle(t *testing.T) {
	plain := Mixed(1, 5<<20+512).Bytes()
	e := Encryption{Password: "a"}
	for _, o := range []BundleOptions{
		{},
		{BandSize: 1 << 20},
		{BandSize: 1 << 20, KeepZeros: true},
		{BandSize: 96 << 10, Short: true},
		{BandSize: 1 << 20, Token: e.Token(len(plain)), Encrypt: e.Band},
	} {
		t.Run(fmt.Sprint(o.BandSize, o.KeepZeros, o.Short, len(o.Token)), func(t *testing.T) {
			b, err := sparse.OpenBundle(os.DirFS(SparseBundle(t, plain, o)), unlocker(e.Password))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			same(t, b, b.Size(), plain)
		})
	}
}

func unlocker(password string) sparse.Unlocker {
	return func(r io.ReaderAt, size int64) (sparse.Decrypter, error) {
		c, err := crypt.Unlock(r, size, crypt.Keys{Password: password})
		if err != nil {
			return nil, err
		}
		return func(r io.ReaderAt, size int64) sparse.Sized { return c.Reader(r, size) }, nil
	}
}

func TestSegments(t *testing.T) {
	disk := Mixed(1, 600<<10).Bytes()
	l, err := Build(disk, Options{ChunkSectors: 64, Prefix: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{0, len(l.Data), len(l.Data) - 1, 100_000, 2000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			first := SegmentFiles(t, l.Segments(limit))
			var parts []segment.Part
			var joined []byte
			for n := 1; ; n++ {
				name := SegmentName(first, n)
				data, err := os.ReadFile(name)
				if os.IsNotExist(err) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if filepath.Base(name) != segment.PartName("image.dmg", n) {
					t.Errorf("part %d is %s", n, name)
				}
				koly := data[len(data)-KolyLen:]
				at, size := binary.BigEndian.Uint64(koly[0x18:]), binary.BigEndian.Uint64(koly[0x20:])
				if running := binary.BigEndian.Uint64(koly[0x10:]); running != uint64(len(joined)) || limit > 0 && size > uint64(limit) {
					t.Errorf("part %d: %d bytes at %d, of %d before it", n, size, running, len(joined))
				}
				joined = append(joined, data[at:at+size]...)
				parts = append(parts, segment.Part{Name: name, R: bytes.NewReader(data), Size: int64(len(data))})
			}
			if !bytes.Equal(joined, l.Data) {
				t.Error("the parts' data is not the image's")
			}
			if r, err := segment.Join(parts); err != nil {
				t.Error(err)
			} else {
				same(t, r, r.Size(), l.Data)
			}
		})
	}
	if plain := l.Segments(0); len(plain) != 1 || !bytes.Equal(plain[0], l.Bytes()) {
		t.Error("one segment is not the image")
	}
}

// same reads all of r and compares.
func same(t *testing.T, r io.ReaderAt, size int64, want []byte) {
	t.Helper()
	if size != int64(len(want)) {
		t.Fatalf("%d bytes, want %d", size, len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, size))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d other bytes than the %d written, %v", len(got), len(want), err)
	}
}

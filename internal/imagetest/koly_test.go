package imagetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestImagePlace has an image found that has other bytes before and behind it.
func TestImagePlace(t *testing.T) {
	disk := dmgtest.Text(1, 64<<10).Bytes()
	for _, o := range []dmgtest.Options{
		{Codecs: []dmgtest.Method{dmgtest.Raw}, ChunkSectors: 16},
		{Codecs: []dmgtest.Method{dmgtest.Raw, dmgtest.Zlib}, ChunkSectors: 16, Meta: dmgtest.ResourceOnly},
		{Codecs: []dmgtest.Method{dmgtest.Raw}, ChunkSectors: 16, Meta: dmgtest.PlistAndRsrc, Prefix: 512, TableOffset: true},
	} {
		image := dmgtest.Image(t, disk, o)
		for _, before := range []int{0, 1, 128, 70_000} {
			for _, behind := range []int{0, 61, 511, 512, 100_000, 1<<20 - dmgtest.KolyLen} {
				t.Run(fmt.Sprintf("%d-%d-%d", o.Meta, before, behind), func(t *testing.T) {
					b := bytes.Join([][]byte{dmgtest.Random(2, int64(before)).Bytes(), image, dmgtest.Random(3, int64(behind)).Bytes()}, nil)
					im, err := newImage(b)
					if err != nil {
						t.Fatal(err)
					}
					got := make([]byte, len(disk))
					if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) || im.Size() != int64(len(disk)) {
						t.Errorf("%v, or other bytes", err)
					}
					if d := im.Defects(); len(d) > 0 {
						t.Error(d)
					}
					for c := range im.Chunks() {
						if stored := image[c.DataOffset:][:c.DataLength]; c.Method == dmg.Raw && !bytes.Equal(stored, disk[c.Offset:][:c.Length]) {
							t.Errorf("the data of %v is not at byte %d of the image", c, c.DataOffset)
						}
					}
				})
			}
		}
		_, err := newImage(append(bytes.Clone(image), make([]byte, 1<<20-dmgtest.KolyLen+1)...))
		if !errors.Is(err, dmg.ErrFormat) {
			t.Errorf("a megabyte behind it: %v", err)
		}
	}
}

// TestImagePlaceEncrypted has bytes around an image inside of an encrypted one.
func TestImagePlaceEncrypted(t *testing.T) {
	disk := dmgtest.Text(1, 64<<10).Bytes()
	image := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 16})
	b := bytes.Join([][]byte{make([]byte, 128), image, make([]byte, 1000)}, nil)
	b = dmgtest.Encryption{Password: secret}.Image(b)
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &dmg.Options{Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := im.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), disk) {
		t.Errorf("%v, or other bytes", err)
	}
}

// TestImageInDisk has a raw disk stay one that has an image among its files.
func TestImageInDisk(t *testing.T) {
	image := dmgtest.Image(t, dmgtest.Text(1, 64<<10).Bytes(), dmgtest.Options{ChunkSectors: 16})
	for _, behind := range []int{0, 100, 4096} {
		disk := bytes.Join([][]byte{rawDisk(), image, make([]byte, behind)}, nil)
		im, err := newImage(disk)
		if err != nil || im.Format() != "UDRW" || im.Size() != int64(len(disk)) {
			t.Errorf("%d bytes behind it: %v, %v", behind, im, err)
		}
	}
	// But the data fork of an image may itself begin like a disk.
	disk := rawDisk()
	image = dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}})
	for _, behind := range []int{0, 100, 4096} {
		im, err := newImage(append(bytes.Clone(image), make([]byte, behind)...))
		if err != nil || im.Format() != "UDRO" || im.Size() != int64(len(disk)) {
			t.Errorf("an image of a disk, %d bytes behind it: %v", behind, err)
		}
	}
}

// TestMacBinary is an image in a MacBinary file.
func TestMacBinary(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(Samples(), "faults", "macbinary.dmg.bin"))
	if err != nil {
		t.Skip(err)
	}
	im, err := newImage(b)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := im.WriteTo(h); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != "74f553f37d1e6a2e83b3c4f337a4ecf59eec004669ab53fdf67df9033827aaf7" {
		t.Error(got)
	}
}

// TestManyTrailers looks at what looks like a trailer a few times only, and reads no
// more than the last megabyte for them.
func TestManyTrailers(t *testing.T) {
	k := dmgtest.NewKoly()
	k.DataLength, k.PlistOffset, k.PlistLength, k.Sectors = 1000, 2000, 1000, 8
	for _, bend := range []func(){
		func() {},
		func() { k.PlistOffset = 1 << 63 },
		func() { k.SignatureOffset, k.SignatureLength = 1<<64-1, 1<<64-1 },
		func() { k.PlistLength, k.RsrcOffset, k.RsrcLength = 0, 100, 1000 },
	} {
		bend()
		for _, step := range []int{12, 512} {
			b := append([]byte("x"), bytes.Repeat(k.Bytes()[:step], 4<<20/step)...) // a first one would be that of Disk Copy
			b = append(b, make([]byte, 1024)...)
			src := &dmgtest.Counter{R: bytes.NewReader(b)}
			begun := time.Now()
			_, err := dmg.NewImage(src, int64(len(b)), nil)
			if !errors.Is(err, dmg.ErrFormat) {
				t.Error(err)
			}
			if took := time.Since(begun); src.Calls() > 70 || src.Bytes() > 2<<20 || took > 5*time.Second {
				t.Errorf("%d reads of %d bytes, %v", src.Calls(), src.Bytes(), took)
			}
		}
	}
}

// TestTrailerFault has an error of the source passed on, wherever the trailer is
// looked for.
func TestTrailerFault(t *testing.T) {
	image := dmgtest.Image(t, dmgtest.Text(1, 64<<10).Bytes(), dmgtest.Options{ChunkSectors: 16})
	b := bytes.Join([][]byte{make([]byte, 100_000), image, make([]byte, 100_000)}, nil)
	broken := errors.New("connection reset")
	for call := int64(1); ; call++ {
		src := &dmgtest.FailAt{R: bytes.NewReader(b), Call: call, Err: broken, Sticky: true}
		_, err := dmg.NewImage(src, int64(len(b)), nil)
		if src.Calls() < call {
			if err != nil || call < 4 {
				t.Errorf("after %d calls: %v", src.Calls(), err)
			}
			break
		}
		if !errors.Is(err, broken) {
			t.Errorf("call %d fails: %v", call, err)
		}
	}
}

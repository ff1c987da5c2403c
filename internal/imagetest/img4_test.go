package imagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// TestFirmware opens what IM4P and IMG4 files have in them.
func TestFirmware(t *testing.T) {
	disk := bandDisk()
	ext := bytes.Clone(disk)
	udif := dmgtest.Image(t, disk, inUDZO)
	e := dmgtest.Encryption{Password: secret}
	lzfse := func(kind lzfseenc.Kind) []byte { return lzfseenc.Encode(kind, disk) }
	size := int64(len(disk))
	for _, tt := range []struct {
		name   string
		file   dmgtest.IM4P
		format string
		layers string
		class  error // or
		say    string
	}{
		{"stored", dmgtest.IM4P{Payload: ext}, "UDRW", "[IM4P raw]", nil, ""},
		{"IMG4", dmgtest.IM4P{Payload: ext, IMG4: true, Properties: true}, "UDRW", "[IMG4 IM4P raw]", nil, ""},
		{"long lengths", dmgtest.IM4P{Payload: ext, Long: true, Keybag: []byte{}}, "UDRW", "[IM4P raw]", nil, ""},
		{"UDIF", dmgtest.IM4P{Type: "gdmg", Payload: udif}, "UDZO", "[IM4P UDIF]", nil, ""},
		{"encrypted UDIF", dmgtest.IM4P{Payload: e.Image(udif)}, "UDZO", "[IM4P encrypted UDIF]", nil, ""},
		{"LZFSE", dmgtest.IM4P{Payload: lzfse(lzfseenc.V2), Compressed: true, Algorithm: 1, Size: size}, "UDRW", "[IM4P LZFSE raw]", nil, ""},
		{"LZFSE in IMG4", dmgtest.IM4P{Payload: lzfse(lzfseenc.LZVN), Compressed: true, Algorithm: 1, Size: size, IMG4: true, First: true}, "UDRW", "[IMG4 IM4P LZFSE raw]", nil, ""},
		{"LZFSE of unknown size", dmgtest.IM4P{Payload: lzfse(lzfseenc.V1)}, "UDRW", "[IM4P LZFSE raw]", nil, ""},

		{"encrypted for devices", dmgtest.IM4P{Payload: ext, Keybag: []byte("\x30\x00")}, "", "", dmg.ErrUnsupported, "encrypted with keys that Apple's devices have"},
		{"LZSS", dmgtest.IM4P{Payload: append([]byte("complzss"), disk...)}, "", "", dmg.ErrUnsupported, "LZSS"},
		{"algorithm 7", dmgtest.IM4P{Payload: ext, Compressed: true, Algorithm: 7}, "", "", dmg.ErrUnsupported, "unknown algorithm"},
		{"kernel", dmgtest.IM4P{Type: "krnl", Payload: dmgtest.Random(1, 5000).Bytes()}, "", "", dmg.ErrFormat, "what is in the IM4P at byte 0: neither"},
		{"packed kernel", dmgtest.IM4P{Type: "krnl", Payload: lzfseenc.Encode(lzfseenc.V2, dmgtest.Text(1, 5000).Bytes())}, "", "", dmg.ErrFormat, "what is in the LZFSE at byte 0: "},
		{"Mach-O", dmgtest.IM4P{Type: "krnl", Payload: append([]byte("\xCF\xFA\xED\xFE"), make([]byte, 5000)...)}, "", "", dmg.ErrFormat, "what is in the IM4P at byte 0: a Mach-O executable"},
		{"empty", dmgtest.IM4P{Payload: []byte{}}, "", "", dmg.ErrFormat, "what is in the IM4P at byte 0: an empty file"},
		{"IM4P in IM4P", dmgtest.IM4P{Payload: dmgtest.IM4P{Payload: ext}.Bytes()}, "", "", dmg.ErrUnsupported, "an IM4P file"},
		{"stream without its end", dmgtest.IM4P{Payload: bytes.TrimSuffix(lzfse(lzfseenc.V2), []byte("bvx$"))}, "", "", dmg.ErrFormat, "LZFSE data at byte"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := append(tt.file.Bytes(), "behind"...)
			im, err := dmg.NewImage(bytes.NewReader(file), int64(len(file)), &dmg.Options{Password: secret})
			if tt.class != nil {
				if !errors.Is(err, tt.class) || !strings.Contains(fmt.Sprint(err), tt.say) {
					t.Fatalf("%v, want %v, %q", err, tt.class, tt.say)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			if im.Format() != tt.format || fmt.Sprint(im.Layers()) != tt.layers || len(im.Defects()) > 0 {
				t.Errorf("%s, %v, defects %v; want %s, %s", im.Format(), im.Layers(), im.Defects(), tt.format, tt.layers)
			}
			CheckDisk(t, im, size, SumOf(disk))
			if err := im.Verify(context.Background(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	file := dmgtest.IM4P{Payload: ext}.Bytes()
	for n := range file {
		if n > 100 && n < len(file)-100 {
			continue
		}
		if _, err := dmg.NewImage(bytes.NewReader(file[:n]), int64(n), nil); !errors.Is(err, dmg.ErrFormat) || n >= 12 && !strings.Contains(err.Error(), "cut off") {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// TestFirmwareLies: what an IM4P says of a compressed payload's size is found out.
func TestFirmwareLies(t *testing.T) {
	disk := bandDisk()
	for _, size := range []int64{int64(len(disk)) - 512, int64(len(disk)) + 512, 1 << 40, 1<<63 - 1} {
		file := dmgtest.IM4P{Payload: lzfseenc.Encode(lzfseenc.V2, disk), Compressed: true, Algorithm: 1, Size: size}.Bytes()
		im, err := dmg.NewImage(bytes.NewReader(file), int64(len(file)), nil)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4096)
		if _, err := im.ReadAt(p, 512); err != nil || !bytes.Equal(p, disk[512:][:4096]) {
			t.Errorf("of %d bytes: %v", size, err)
		}
		if err := im.Verify(context.Background(), nil); size > int64(len(disk)) && !errors.Is(err, dmg.ErrFormat) {
			t.Errorf("of %d bytes: Verify returns %v", size, err)
		}
		im.Close()
	}
}

// TestFirmwareIndex: a saved index is used, and one of another payload of the same size is
// refused.
func TestFirmwareIndex(t *testing.T) {
	file := func(seed uint64) []byte {
		disk := dmgtest.Random(seed, 3<<20).Bytes()
		copy(disk[510:], "\x55\xAA")
		return dmgtest.IM4P{Payload: lzfseenc.Encode(lzfseenc.Stored, disk)}.Bytes()
	}
	open := func(file []byte, ix *dmg.Index) (*dmg.Image, error) {
		return dmg.NewImage(bytes.NewReader(file), int64(len(file)), &dmg.Options{Index: ix})
	}
	im, err := open(file(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	if err := im.BuildIndex(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	ix, err := im.Index()
	if err != nil {
		t.Fatal(err)
	}
	again, err := open(file(1), ix)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.ReadAt(make([]byte, 512), 5<<19); err != nil || again.Stats().BytesDecoded > 1<<20 {
		t.Errorf("with the index a read decodes %d bytes, %v", again.Stats().BytesDecoded, err)
	}
	if _, err := open(file(2), ix); !errors.Is(err, dmg.ErrStaleIndex) {
		t.Errorf("the index of another payload: %v", err)
	}
}

// TestFirmwareRandom reads a large LZFSE payload at random: once the way there has been
// decoded, that takes little.
func TestFirmwareRandom(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.NotRaced(t)
	disk := dmgtest.Random(1, 12<<20).Bytes() // packing other content takes seconds
	copy(disk[510:], "\x55\xAA")
	file := dmgtest.IM4P{Payload: lzfseenc.Encode(lzfseenc.Stored, disk), Compressed: true, Algorithm: 1, Size: int64(len(disk))}.Bytes()
	im, err := dmg.NewImage(bytes.NewReader(file), int64(len(file)), &dmg.Options{MemoryLimit: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	p := make([]byte, 4096)
	for _, off := range []int64{11 << 20, 5 << 20, 9<<20 + 77, 1 << 20, 11<<20 + 5000} {
		before := im.Stats().BytesDecoded
		if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:][:len(p)]) {
			t.Fatalf("at %d: %v", off, err)
		}
		if n := im.Stats().BytesDecoded - before; off != 11<<20 && n > 2<<20+4096 {
			t.Errorf("at %d, a read decodes %d bytes", off, n)
		}
	}
}

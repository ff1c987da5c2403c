package imagetest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// gzipped is b compressed by gzip.
func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// TestNotImages opens what is no image, or none that is read. The error says what it
// is and what to do. internal/sniff has the rest of the table.
func TestNotImages(t *testing.T) {
	image := dmgtest.Image(t, bandDisk(), inUDZO)
	e := dmgtest.Encryption{Password: secret}
	for _, tt := range []struct {
		name  string
		data  []byte
		class error
		say   []string
	}{
		{"empty", nil, dmg.ErrFormat, []string{"empty file", "download it again"}},
		{"zeros", make([]byte, 100_000), dmg.ErrFormat, []string{"zeros"}},
		{"page", []byte("<!DOCTYPE html>\n<html></html>"), dmg.ErrFormat, []string{"an HTML page", "download that again"}},
		{"gzip", gzipped(image), dmg.ErrFormat, []string{"a gzip file", "gunzip"}},
		{"ZIP", append([]byte("PK\x03\x04"), dmgtest.Random(1, 2000).Bytes()...), dmg.ErrFormat, []string{"a ZIP archive", "unpack it"}},
		{"QCOW2", append([]byte("QFI\xFB"), dmgtest.Random(1, 2000).Bytes()...), dmg.ErrUnsupported, []string{"QCOW2", "convert it"}},
		{"AEA", append([]byte("AEA1"), dmgtest.Random(1, 2000).Bytes()...), dmg.ErrUnsupported, []string{"AEA", "decrypt it"}},
		{"ASIF", append([]byte("shdw"), dmgtest.Random(1, 2000).Bytes()...), dmg.ErrUnsupported, []string{"ASIF", "diskutil"}},
		{"cut in its trailer", image[:len(image)-100], dmg.ErrFormat, []string{"begins like a disk image, but the trailer that ends one is missing: the file is cut off (an incomplete download?)"}},
		{"cut in its list", image[:len(image)-700], dmg.ErrFormat, []string{"cut off"}},
		{"cut in its data", image[:30_000], dmg.ErrFormat, []string{"cut off"}},
		{"encrypted, cut", e.Image(image)[:0x1E000+8192], dmg.ErrFormat, []string{"cut off", "bytes that are missing"}},
		{"encrypted page", e.Image([]byte("<!DOCTYPE html>\n<html></html>\n\n")), dmg.ErrFormat, []string{"what is encrypted", "an HTML page"}},
		{"token", e.Token(1 << 20), dmg.ErrFormat, []string{"token of a sparse bundle"}},
		{"random", dmgtest.Random(24, 100_000).Bytes(), dmg.ErrFormat, []string{"neither"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := dmg.NewImage(bytes.NewReader(tt.data), int64(len(tt.data)), &dmg.Options{Password: secret})
			other := dmg.ErrUnsupported
			if tt.class == other {
				other = dmg.ErrFormat
			}
			if !errors.Is(err, tt.class) || errors.Is(err, other) {
				t.Fatalf("%v, want %v", err, tt.class)
			}
			for _, say := range tt.say {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("the error is %q, want %q in it", err, say)
				}
			}
		})
	}
}

// TestSignaturesRefuseNothing has disks and images begin like something else.
func TestSignaturesRefuseNothing(t *testing.T) {
	for _, magic := range []string{"PK\x03\x04", "\x1F\x8B\x08\x00", "BZh91AY&SY", "<!DOCTYPE html>", "AEA1", "shdw", "QFI\xFB", "MZ\x90\x00", "\xFD7zXZ\x00", "x\x9C", "xar!", "bvx2"} {
		disk := bandDisk()
		copy(disk, magic)
		im, err := dmg.NewImage(bytes.NewReader(disk), int64(len(disk)), nil)
		if err != nil || im.Format() != "UDRW" {
			t.Errorf("a raw disk that begins with %q: %v", magic, err)
		}
		image := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 16, Codecs: []dmgtest.Method{dmgtest.Raw}})
		if !bytes.HasPrefix(image, []byte(magic)) {
			t.Fatal("the image begins otherwise")
		}
		if im, err = dmg.NewImage(bytes.NewReader(image), int64(len(image)), nil); err != nil || im.Format() != "UDRO" {
			t.Errorf("an image that begins with %q: %v", magic, err)
		}
	}
	tar := dmgtest.Random(2, 20_000).Bytes()
	copy(tar[257:], "ustar\x0000")
	copy(tar[510:], "\x55\xAA")
	if _, err := dmg.NewImage(bytes.NewReader(tar), int64(len(tar)), nil); err != nil {
		t.Errorf("a disk with a boot record that has ustar at 257: %v", err)
	}
}

// udf is a disc of n bytes with the descriptors of a volume recognition sequence.
func udf(n int, ids ...string) []byte {
	disk := dmgtest.Random(25, int64(n)).Bytes()
	for i, id := range ids {
		if at := 32768 + 2048*i; at+6 <= n {
			copy(disk[at:], "\x00"+id)
		}
	}
	return disk
}

// TestFileSystemDisks opens disks without a partition table.
func TestFileSystemDisks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		disk   []byte
		format string // "" if it is none
	}{
		{"UDF", udf(100_000, "BEA01", "NSR02", "TEA01"), "UDTO"},
		{"UDF 2.01", udf(100_000, "BEA01", "NSR03", "TEA01"), "UDTO"},
		{"UDF with a boot descriptor", udf(100_000, "BEA01", "BOOT2", "NSR03", "TEA01"), "UDTO"},
		{"UDF beside ISO 9660", udf(100_000, "CD001", "CD001", "BEA01", "NSR02", "TEA01"), "UDTO"},
		{"UDF without its beginning", udf(100_000, "NSR02", "TEA01"), ""},
		{"UDF without a volume", udf(100_000, "BEA01", "TEA01"), ""},
		{"UDF, cut", udf(34_000, "BEA01", "NSR02"), ""},
		{"ext", marked(70_000, 1080, "\x53\xEF"), "UDRW"},
		{"GPT of large sectors", marked(70_000, 4096, "EFI PART"), "UDRW"},
		{"partition map alone", marked(70_000, 512, "PM\x00\x00"), "UDRW"},
		{"Linux swap", marked(70_000, 4086, "SWAPSPACE2"), "UDRW"},
		{"Btrfs", marked(70_000, 65600, "_BHRfS_M"), "UDRW"},
		{"XFS", marked(70_000, 0, "XFSB"), "UDRW"},
		{"LUKS", marked(70_000, 0, "LUKS\xBA\xBE"), "UDRW"},
		{"FAT, exFAT, NTFS", marked(70_000, 510, "\x55\xAA"), "UDRW"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im, err := dmg.NewImage(bytes.NewReader(tt.disk), int64(len(tt.disk)), nil)
			if tt.format == "" {
				if !errors.Is(err, dmg.ErrFormat) {
					t.Errorf("%v, want ErrFormat", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if im.Format() != tt.format {
				t.Errorf("Format = %s, want %s", im.Format(), tt.format)
			}
			CheckDisk(t, im, int64(len(tt.disk)), SumOf(tt.disk))
		})
	}
}

func TestFaultNotImages(t *testing.T) {
	for file, say := range map[string]string{
		"cut.dmg":  "begins like a disk image, but the trailer that ends one is missing: the file is cut off (an incomplete download?)",
		"page.dmg": "an HTML page",
	} {
		if _, err := dmg.Open(faultFile(t, file), nil); !errors.Is(err, dmg.ErrFormat) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v, want ErrFormat with %q", file, err, say)
		}
	}
	// Of real images of Apple's writers, too, the first part tells what they were.
	for _, s := range ReadManifest(t) {
		b, err := os.ReadFile(filepath.Join(Samples(), s.File))
		if err != nil || s.Password != "" || len(b) < 100_000 || !bytes.Equal(b[len(b)-512:][:4], []byte("koly")) {
			continue
		}
		for _, n := range []int{len(b) / 2, len(b) - 1} {
			im, err := dmg.NewImage(bytes.NewReader(b[:n]), int64(n), nil)
			if err == nil && slices.Contains([]string{"UDRW", "UDTO"}, im.Format()) {
				continue // its first chunks are raw
			}
			if !errors.Is(err, dmg.ErrFormat) || !strings.Contains(err.Error(), "cut off") {
				t.Errorf("%s, %d of %d bytes: %v", s.File, n, len(b), err)
			}
		}
	}
}

package lzfse

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// samplesDir holds images that Apple's tools wrote; they are not part of the
// repository.
const samplesDir = "../../../shared/samples"

// TestSample decodes a whole image by hdiutil: bvx2 and bvxn blocks.
func TestSample(t *testing.T) {
	const name = "hdiutil/hfsplus_lzfse.dmg"
	image, err := os.ReadFile(filepath.Join(samplesDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no samples here")
	}
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile(filepath.Join(samplesDir, "MANIFEST.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []int{1, 511, MaxDecode} {
		sum := sha256.Sum256(decodeImage(t, image, step))
		if s := hex.EncodeToString(sum[:]); !strings.Contains(string(manifest), name+"\t-\t1964032\t"+s) {
			t.Errorf("step %d: SHA-256 of the disk is %s, not in the manifest", step, s)
		}
	}
}

var plistData = regexp.MustCompile(`<data>([^<]*)</data>`)

// decodeImage puts the disk in a UDIF image together. It knows just enough of
// the format for one sample.
func decodeImage(t *testing.T, image []byte, step int) []byte {
	const lzfseChunk = 0x80000007
	be := binary.BigEndian
	koly := image[len(image)-512:]
	disk := make([]byte, be.Uint64(koly[0x1EC:])*512)
	plist := image[be.Uint64(koly[0xD8:]):][:be.Uint64(koly[0xE0:])]
	decoded := 0
	var z Reader
	for _, m := range plistData.FindAllSubmatch(plist, -1) {
		table, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(m[1])), ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(table, []byte("mish")) {
			continue
		}
		for c := table[204:]; len(c) >= 40; c = c[40:] {
			if be.Uint32(c) != lzfseChunk {
				continue
			}
			to := disk[(be.Uint64(table[8:])+be.Uint64(c[8:]))*512:][:be.Uint64(c[16:])*512]
			from := image[be.Uint64(koly[0x18:])+be.Uint64(table[0x18:])+be.Uint64(c[24:]):]
			got, err := decode(t, &z, bytes.NewReader(from[:be.Uint64(c[32:])]), step)
			if err != io.EOF || len(got) != len(to) {
				t.Fatalf("chunk of %d bytes: got %d, %v", len(to), len(got), err)
			}
			copy(to, got)
			decoded++
		}
	}
	if decoded == 0 {
		t.Fatal("no LZFSE chunks found")
	}
	return disk
}

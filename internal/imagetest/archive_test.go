package imagetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-dmg/dmg"
)

// archives are samples of encrypted archives.
const archives = "../../../shared/samples/aea"

var archiveKey, _ = hex.DecodeString("00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f")

func TestX(t *testing.T) {
	for _, name := range []string{"key_zlib.aea", "key_lzfse_murmur.aea", "udif_inside.dmg.aea", "key_lz4.aea", "bad_segment_bit.aea", "bad_cluster_bit.aea"} {
		im, err := dmg.Open(filepath.Join(archives, "made", name), &dmg.Options{Key: archiveKey})
		if err != nil {
			t.Error(err)
			continue
		}
		var b bytes.Buffer
		_, err = im.WriteTo(&b)
		t.Logf("%s %x %v %v %v %+v %v", name, sha256.Sum256(b.Bytes()), err, im.Layers(), im.Format(), im.Stats(), im.Defects())
		f, err := im.FS()
		if err != nil {
			t.Error(err)
			continue
		}
		n := 0
		fs.WalkDir(f, ".", func(string, fs.DirEntry, error) error { n++; return nil })
		t.Log(n, im.Stats())
		im.Close()
	}
	_ = os.Args
}

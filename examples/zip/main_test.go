package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// pack writes an archive of what is in a folder.
func pack(t *testing.T, dir string, method uint16) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: path.Join("images", filepath.ToSlash(rel)), Method: method})
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	name := filepath.Join(t.TempDir(), "a.zip")
	if err == nil {
		err = os.WriteFile(name, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// An archive has a split image and a sparse bundle, whole and packed.
func TestRun(t *testing.T) {
	const containers = "../../testdata/containers"
	disk := dmgtest.Mixed(1, 1<<20).Bytes()
	bundle := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 128 << 10})
	stored, packed := pack(t, containers, zip.Store), pack(t, containers, zip.Deflate)
	for _, tt := range []struct{ archive, image, want, err string }{
		{stored, "images/split.dmg", "UDZO [\"segments\" \"UDIF\"], a disk of 135168 bytes\n", ""},
		{stored, "images/split.003.dmgpart", "UDZO [\"segments\" \"UDIF\"], a disk of 135168 bytes\n", ""},
		{stored, "images/nodes.sparseimage", "UDSP [\"sparse image\"], a disk of ", ""},
		{pack(t, filepath.Dir(bundle), zip.Store), "images/image.sparsebundle", "UDSB [\"sparse bundle\"], a disk of 1048576 bytes\n", ""},
		{stored, "images/none.dmg", "", "images/none.dmg"},
		{stored, "images", "", "Info.plist"},
		{packed, "images/split.dmg", "", "images/split.dmg: it is compressed"},
		{"main.go", "split.dmg", "", "not a valid zip file"},
		{"none.zip", "split.dmg", "", "none.zip"},
	} {
		var out bytes.Buffer
		err := run(tt.archive, tt.image, &out)
		if !strings.HasPrefix(out.String(), tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v; want %q, %q", tt.image, out.String(), err, tt.want, tt.err)
		}
	}
}

// What is read through the archive is what is in the bundle.
func TestBundle(t *testing.T) {
	disk := dmgtest.Mixed(1, 1<<20).Bytes()
	archive, err := os.Open(pack(t, filepath.Dir(dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 128 << 10})), zip.Store))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	info, err := archive.Stat()
	if err != nil {
		t.Fatal(err)
	}
	files, err := newStoredFS(archive, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	im, err := dmg.OpenFS(files, "images/image.sparsebundle", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	if got, err := io.ReadAll(im.Section(0, im.Size())); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("%d bytes, %v; or wrong ones", len(got), err)
	}
}

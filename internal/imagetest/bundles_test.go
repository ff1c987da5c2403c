package imagetest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// edit changes Info.plist of a bundle, and its copy.
func edit(t *testing.T, bundle, old, new string) {
	t.Helper()
	for _, info := range []string{"Info.plist", "Info.bckup"} {
		name := filepath.Join(bundle, info)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(b), old, new, 1)
		if changed == string(b) {
			t.Fatalf("no %s in %s", old, b)
		}
		write(t, name, []byte(changed))
	}
}

// TestBundleVersion2 reads a bundle of version 2 with maps of its bands, under any
// name. A map that says that nothing was written is right: to decrypt the hole in a
// band's file would make noise of it.
func TestBundleVersion2(t *testing.T) {
	e := dmgtest.Encryption{Password: secret}
	for name, o := range map[string]dmgtest.BundleOptions{
		"plain":     {BandSize: 16384, KeepZeros: true},
		"encrypted": {BandSize: 16384, KeepZeros: true, Encrypt: e.Band, Token: e.Token(10 * 16384)},
	} {
		for _, as := range []string{"v2.backupbundle", "v2", "v2.dmg"} {
			t.Run(name+" "+as, func(t *testing.T) {
				disk := dmgtest.Random(60, 10*16384).Bytes()
				bundle := dmgtest.SparseBundle(t, disk, o)
				edit(t, bundle, "<integer>1<", "<integer>2<")
				edit(t, bundle, "</dict>", "<key>uuid</key><string>00000000-0000-0000-0000-000000000000</string></dict>")
				if err := os.Mkdir(filepath.Join(bundle, "mapped"), 0o777); err != nil {
					t.Fatal(err)
				}
				// The second and fourth unit of band 3 were never written.
				write(t, filepath.Join(bundle, "mapped/3"), []byte{0b0101})
				want := bytes.Clone(disk)
				clear(want[3*16384+4096:][:4096])
				clear(want[3*16384+3*4096:][:4096])
				renamed := filepath.Join(filepath.Dir(bundle), as)
				if err := os.Rename(bundle, renamed); err != nil {
					t.Fatal(err)
				}
				im, err := dmg.Open(renamed, &dmg.Options{Password: secret})
				if err != nil {
					t.Fatal(err)
				}
				defer im.Close()
				CheckDisk(t, im, int64(len(want)), SumOf(want))
				if im.Format() != "UDSB" || len(im.Defects()) > 0 {
					t.Errorf("Format %s, defects %v", im.Format(), im.Defects())
				}
			})
		}
	}
}

// TestInsideBundle opens what a bundle consists of. The error says what to open.
func TestInsideBundle(t *testing.T) {
	disk := bandDisk() // band 0 alone looks like a raw disk
	e := dmgtest.Encryption{Password: secret}
	bundle := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 4096, Token: e.Token(len(disk)), Encrypt: e.Band})
	plain := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: 4096})
	for _, dir := range []string{bundle, plain} {
		for _, name := range []string{"bands", "bands/", "bands/0", "bands/f", "token", "Info.plist", "Info.bckup"} {
			before := openFiles()
			_, err := dmg.Open(dir+"/"+name, &dmg.Options{Password: secret})
			if !errors.Is(err, dmg.ErrFormat) || !strings.Contains(err.Error(), "instead, "+dir) {
				t.Errorf("%s: %v, want ErrFormat that names %s", name, err, dir)
			}
			checkClosed(t, before)
		}
	}
	// Names alone say nothing.
	other := filepath.Join(t.TempDir(), "bands")
	if err := os.Mkdir(other, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0", "token"} {
		write(t, filepath.Join(other, name), disk)
		im, err := dmg.Open(filepath.Join(other, name), nil)
		if err != nil {
			t.Errorf("a raw disk of the name %s: %v", name, err)
			continue
		}
		im.Close()
	}
	t.Chdir(filepath.Join(plain, "bands"))
	if _, err := dmg.Open("0", nil); err == nil || !strings.Contains(err.Error(), "instead, ..") {
		t.Errorf("a band by its name alone: %v", err)
	}
}

func TestFaultBundleVersion2(t *testing.T) {
	im, err := dmg.Open(faultFile(t, "v2.backupbundle"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	CheckDisk(t, im, 65536, faultSum)
}

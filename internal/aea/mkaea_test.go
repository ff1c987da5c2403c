package aea_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/aea"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

const mkaea = "../../../shared/tools/mkaea.py"

// TestMkaea reads what another program writes, which shares no code with this package: all
// codecs, with all profiles, checksums and sizes in turn.
func TestMkaea(t *testing.T) {
	if _, err := os.Stat(mkaea); err != nil {
		t.Skip("no ", mkaea)
	}
	if err := exec.Command("python3", "-c", "import cryptography").Run(); err != nil {
		t.Skip("no python3 with cryptography: ", err)
	}
	dmgtest.Native(t)
	const segment, cluster = 16 << 10, 32 * 16 << 10
	sizes := []int64{0, 1, segment - 1, segment, segment + 1, cluster - 1, cluster, cluster + 1, 2*cluster + 3*segment}
	i := 0
	for _, codec := range []string{"zlib", "none", "zlib,none", "zlib-raw", "lzma", "lz4", "lz4-frames", "lzbitmap", "lzfse", "lzfse-mixed"} {
		for k, size := range sizes {
			if codec != "zlib" && codec != "none" && (k%3 != i%3 || size > cluster+1) || dmgtest.Part() && k != 4 {
				continue
			}
			i++
			profile, sum := i%6, []string{"none", "murmur", "sha256"}[i/6%3]
			t.Run(fmt.Sprintf("%s/%d/profile %d/%s", codec, size, profile, sum), func(t *testing.T) {
				t.Parallel()
				checkMkaea(t, size, profile, "--codec", codec, "--sum", sum, "--pad", []string{"16K", "padme"}[i%2])
			})
		}
	}
}

// checkMkaea makes an archive and reads it.
func checkMkaea(t *testing.T, size int64, profile int, args ...string) {
	dir := t.TempDir()
	content := dmgtest.Mixed(uint64(size), size).Bytes()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out.aea")
	if err := os.WriteFile(in, content, 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{mkaea, in, out, "--json", "--profile", fmt.Sprint(profile), "--segment", "16K", "--per-cluster", "32", "--password", "secret"}, args...)
	said, err := exec.Command("python3", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var says map[string]string
	if err := json.Unmarshal(said[bytes.IndexByte(said, '{'):], &says); err != nil {
		t.Fatal(err)
	}
	keys := aea.Keys{Password: "secret"}
	for name, value := range says {
		switch {
		case name == "key-hex":
			fmt.Sscanf(value, "%x", &keys.Key)
		case name == "recipient-key":
			keys.PrivateKey = readKey(t, value)
		case name == "signer":
			keys.PublicKey = readKey(t, value)
		}
	}
	image, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, image, keys)
	defer r.CompareSums()()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			checkReads(t, r, content, uint64(g), 2)
		}()
	}
	wg.Wait()
	if t.Failed() {
		t.Log(strings.Join(args, " "))
	}
}

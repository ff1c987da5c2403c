package imagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// put changes a number in a copy of b.
func put(b []byte, at int, v uint64, bytesOfIt int) []byte {
	b = bytes.Clone(b)
	for i := range bytesOfIt {
		b[at+bytesOfIt-1-i] = byte(v >> (8 * i))
	}
	return b
}

// hostileTests are headers that ask for what can't be. Each must fail fast, and
// without the memory it asks for.
func hostileTests(t *testing.T) []hostile {
	disk := rawDisk()
	v2 := dmgtest.Encryption{Password: secret, Decoys: 1, DataOffset: 1 << 13}.Image(disk)
	v1 := dmgtest.Encryption{Password: secret, Version: 1}.Image(disk)
	sp := dmgtest.SparseImage(threeNodes(), dmgtest.SparseOptions{BandSectors: 1})
	udif := dmgtest.Image(t, disk, inUDZO)
	var (
		key  = 0x4C + 2*20             // the first key record of v2
		keys = []int{key, key + 0x268} // and both
		end  = len(v1) - 1276
		koly = len(udif) - dmgtest.KolyLen
		all  = func(b []byte, at []int, by int, v uint64, n int) []byte {
			return put(put(b, at[0]+by, v, n), at[1]+by, v, n)
		}
	)
	return []hostile{
		{"v2 iterations 2^31", all(v2, keys, 8, 1<<31, 4), dmg.ErrUnsupported, "2147483648"},
		{"v2 iterations 2^32-1", all(v2, keys, 8, math.MaxUint32, 4), dmg.ErrUnsupported, "4294967295"},
		{"v2 no iterations", all(v2, keys, 8, 0, 4), dmg.ErrFormat, ""},
		{"v2 salt of 2^31", all(v2, keys, 0x0C, 1<<31, 4), dmg.ErrFormat, ""},
		{"v2 IV of 2^31", all(v2, keys, 0x30, 1<<31, 4), dmg.ErrFormat, ""},
		{"v2 wrapped key of 2^31", all(v2, keys, 0x64, 1<<31, 4), dmg.ErrFormat, ""},
		{"v2 keys past the end", put(put(v2, 0x4C+4, uint64(len(v2)), 8), 0x60+4, 1<<40, 8), dmg.ErrFormat, ""},
		{"v2 keys at 2^63", put(put(v2, 0x4C+4, 1<<63, 8), 0x60+4, math.MaxUint64, 8), dmg.ErrFormat, ""},
		{"v2 keys of 2^63", put(put(v2, 0x4C+12, 1<<63-1, 8), 0x60+12, 1<<63, 8), dmg.ErrFormat, ""},
		{"v2 2^32-1 keys", put(v2, 0x48, math.MaxUint32, 4), dmg.ErrUnsupported, ""},
		{"v2 no keys", put(v2, 0x48, 0, 4), dmg.ErrFormat, ""},
		{"v2 block size 0", put(v2, 0x34, 0, 4), dmg.ErrFormat, ""},
		{"v2 block size 2^31", put(v2, 0x34, 1<<31, 4), dmg.ErrFormat, ""},
		{"v2 data of 2^63", put(v2, 0x38, 1<<63, 8), dmg.ErrFormat, ""},
		{"v2 data of 2^63-1", put(v2, 0x38, 1<<63-1, 8), dmg.ErrFormat, ""},
		{"v2 data at 2^63", put(v2, 0x40, 1<<63, 8), dmg.ErrFormat, ""},
		{"v2 data at 2^63-1", put(v2, 0x40, 1<<63-1, 8), dmg.ErrFormat, ""},
		{"v2 key bits 2^31", put(v2, 0x18, 1<<31, 4), dmg.ErrUnsupported, ""},
		{"v2 cut to its magic", v2[:8], dmg.ErrFormat, ""},
		{"v1 iterations 2^31", put(v1, end+0x30, 1<<31, 4), dmg.ErrUnsupported, "2147483648"},
		{"v1 block size 0", put(v1, end+0x10, 0, 4), dmg.ErrFormat, ""},
		{"v1 block size 2^31", put(v1, end+0x10, 1<<31, 4), dmg.ErrFormat, ""},
		{"v1 data of 2^63", put(v1, end+0x4E8, 1<<63, 8), dmg.ErrFormat, ""},
		{"v1 data of 2^63-1", put(v1, end+0x4E8, 1<<63-1, 8), dmg.ErrFormat, ""},
		{"v1 wrapped key of 2^31", put(v1, end+0x60+40, 1<<31, 4), dmg.ErrFormat, ""},
		{"v2 without its data", v2[:1<<13], dmg.ErrFormat, "cut off"},
		{"v2 cut inside its first block", v2[:1<<13+15], dmg.ErrFormat, "cut off"},
		{"v1 trailer alone, of data", v1[end:], dmg.ErrFormat, ""},

		{"sparse bands of 0", put(sp, 8, 0, 4), dmg.ErrFormat, ""},
		{"sparse bands of 2^32-1 sectors", put(sp, 8, math.MaxUint32, 4), dmg.ErrFormat, ""},
		{"sparse disk of 2^63", put(sp, 0x1C, 1<<54, 8), dmg.ErrFormat, ""},
		{"sparse disk of 2^64-1 sectors", put(sp, 0x1C, math.MaxUint64, 8), dmg.ErrFormat, ""},
		{"sparse cut in its header", sp[:4095], dmg.ErrFormat, ""},
		{"sparse cut behind its header", sp[:4096], dmg.ErrFormat, "cut off"},

		{"koly with its data at 2^63", put(udif, koly+0x18, 1<<63, 8), dmg.ErrFormat, ""},
		{"koly with its plist at 2^63", put(udif, koly+0xD8, 1<<63, 8), dmg.ErrFormat, ""},
		{"koly with a plist of 2^63", put(udif, koly+0xE0, 1<<63, 8), dmg.ErrFormat, ""},
		{"koly with a resource fork of 2^63", put(put(udif, koly+0xE0, 0, 8), koly+0x30, 1<<63, 8), dmg.ErrFormat, ""},
		{"segment 1 of 2^32-1", put(put(udif, koly+0x38, 1, 4), koly+0x3C, math.MaxUint32, 4), dmg.ErrFormat, ""},
		{"segment 2^32-1 of 2", put(put(udif, koly+0x38, math.MaxUint32, 4), koly+0x3C, 2, 4), dmg.ErrFormat, ""},
		{"segment 0 of 2", put(udif, koly+0x3C, 2, 4), dmg.ErrFormat, ""},
	}
}

type hostile struct {
	name string
	data []byte
	err  error
	say  string
}

func TestHostileHeaders(t *testing.T) {
	opts := &dmg.Options{Password: secret}
	for _, tt := range hostileTests(t) {
		t.Run(tt.name, func(t *testing.T) {
			name := writeFile(t, tt.data)
			checkHostile(t, tt.err, tt.say, func() (*dmg.Image, error) { return dmg.Open(name, opts) })
		})
	}
}

// checkHostile opens something that must fail, in bounded time and memory.
func checkHostile(t *testing.T, class error, say string, open func() (*dmg.Image, error)) {
	t.Helper()
	// The ends of a file are read ahead, 32 KiB each, and a property list of up
	// to 64 KiB grows as it is read. Each encrypted file, of which there may be
	// twelve, takes a buffer of 128 KiB.
	const most = 2 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	files, start := openFiles(), time.Now()
	im, err := open()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if err == nil {
		im.Close()
	}
	checkClosed(t, files)
	if !errors.Is(err, class) || !strings.Contains(fmt.Sprint(err), say) {
		t.Errorf("%v, want %v with %q", err, class, say)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("allocated %d bytes on the way to %v", n, err)
	}
	// A few iterations of key derivation take a millisecond; the machine may be
	// busy with other things.
	if took > 5*time.Second {
		t.Errorf("took %v on the way to %v", took, err)
	}
}

// What a bundle has elsewhere, by a link, is none of its.
func TestBundleLinks(t *testing.T) {
	disk := thinDisk()
	for _, tt := range []struct {
		name  string
		files []string // that are moved out of the bundle, a link in their place
	}{
		{"Info.plist", []string{"Info.plist", "Info.bckup"}},
		{"token", []string{"token"}},
		{"bands", []string{"bands"}},
		{"a band", []string{"bands/1"}},
	} {
		for _, absolute := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", absolute ", absolute), func(t *testing.T) {
				name := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: bandSize})
				if im, err := dmg.Open(name, nil); err != nil {
					t.Fatal(err)
				} else if err := im.Close(); err != nil {
					t.Fatal(err)
				}
				for _, f := range tt.files {
					outside := filepath.Join(filepath.Dir(name), filepath.Base(f))
					link := outside
					if !absolute {
						link = strings.Repeat("../", 1+strings.Count(f, "/")) + filepath.Base(f)
					}
					if err := os.Rename(filepath.Join(name, f), outside); err != nil {
						t.Fatal(err)
					}
					if err := os.Symlink(link, filepath.Join(name, f)); err != nil {
						t.Skip(err)
					}
					if _, err := os.Stat(filepath.Join(name, f)); err != nil {
						t.Fatal("the link leads nowhere: ", err)
					}
				}
				im, err := dmg.Open(name, nil)
				if err != nil {
					return
				}
				defer im.Close()
				// Nothing but that band is lost.
				_, err = im.ReadAt(make([]byte, bandSize), bandSize)
				if tt.name != "a band" || !errors.Is(err, dmg.ErrFormat) || len(im.Defects()) != 1 {
					t.Errorf("the bundle opens, reads with %v, and has the defects %v", err, im.Defects())
				}
				p := make([]byte, 4*bandSize)
				if _, err := im.ReadAt(p, 2*bandSize); err != nil || !bytes.Equal(p, disk[2*bandSize:6*bandSize]) {
					t.Errorf("the next bands: %v", err)
				}
			})
		}
	}
}

// The property list of a bundle is as hostile as any header.
func TestHostileBundles(t *testing.T) {
	disk := thinDisk()
	e := dmgtest.Encryption{Password: secret, BlockSize: 512, DataOffset: 4096}
	for _, tt := range []struct {
		name     string
		old, new string // in Info.plist
		token    []byte
		class    error
		say      string
	}{
		{"band size 0", "<integer>8192<", "<integer>0<", nil, dmg.ErrFormat, "band-size"},
		{"band size 2^63-1", "<integer>8192<", "<integer>9223372036854775807<", nil, dmg.ErrFormat, "band-size"},
		{"band size 2^63", "<integer>8192<", "<integer>9223372036854775808<", nil, dmg.ErrFormat, "Info.plist"},
		{"band size of 100 digits", "<integer>8192<", "<integer>" + strings.Repeat("9", 100) + "<", nil, dmg.ErrFormat, "Info.plist"},
		{"odd band size", "<integer>8192<", "<integer>8191<", nil, dmg.ErrFormat, "band-size"},
		{"negative size", fmt.Sprintf("<integer>%d<", len(disk)), "<integer>-1<", nil, dmg.ErrFormat, "size -1"},
		{"another bundle", "com.apple.diskimage.sparsebundle", "com.apple.application", nil, dmg.ErrUnsupported, "com.apple.application"},
		{"nested plist", "<dict>", strings.Repeat("<array>", 5000), nil, dmg.ErrFormat, "Info.plist"},
		{"long plist", "<dict>", strings.Repeat(" ", 70<<10) + "<dict>", nil, dmg.ErrFormat, "64 KiB"},
		{"v2 iterations 2^31", "", "", put(e.Token(len(disk)), 0x4C+20+8, 1<<31, 4), dmg.ErrUnsupported, "2147483648"},
		{"v2 block size 0", "", "", put(e.Token(len(disk)), 0x34, 0, 4), dmg.ErrFormat, "block size 0"},
		{"v2 key past the end", "", "", put(e.Token(len(disk)), 0x4C+4, 1<<40, 8), dmg.ErrFormat, "past the end"},
		{"token of nothing", "", "", make([]byte, 5000), dmg.ErrFormat, "not an encrypted image"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: bandSize, Token: tt.token})
			for _, info := range []string{"Info.plist", "Info.bckup"} {
				b, err := os.ReadFile(filepath.Join(name, info))
				if err != nil {
					t.Fatal(err)
				}
				changed := bytes.Replace(b, []byte(tt.old), []byte(tt.new), 1)
				if tt.old != "" && bytes.Equal(changed, b) {
					t.Fatalf("no %s in %s", tt.old, b)
				}
				write(t, filepath.Join(name, info), changed)
			}
			checkHostile(t, tt.class, tt.say, func() (*dmg.Image, error) { return dmg.Open(name, &dmg.Options{Password: secret}) })
		})
	}
}

// A disk of 2^63 bytes is no mistake, and costs what is stored of it.
func TestHugeDisks(t *testing.T) {
	name := dmgtest.SparseBundle(t, thinDisk(), dmgtest.BundleOptions{BandSize: bandSize})
	for _, info := range []string{"Info.plist", "Info.bckup"} {
		b, err := os.ReadFile(filepath.Join(name, info))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(name, info), bytes.Replace(b, fmt.Appendf(nil, "<integer>%d<", len(thinDisk())), []byte("<integer>9223372036854775807<"), 1))
	}
	sp := put(dmgtest.SparseImage(thinDisk(), dmgtest.SparseOptions{BandSectors: 16}), 0x1C, 1<<54-1, 8)
	for name, size := range map[string]int64{name: math.MaxInt64, writeFile(t, sp): math.MaxInt64 &^ 511} {
		im, err := dmg.Open(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer im.Close()
		CheckChunks(t, im)
		p := []byte("not read")
		if n, err := im.ReadAt(p, size-3); im.Size() != size || n != 3 || err != io.EOF || string(p[:n]) != "\x00\x00\x00" {
			t.Errorf("Size = %d; the last bytes: %d, %v, %q", im.Size(), n, err, p[:n])
		}
		got := make([]byte, len(thinDisk()))
		if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, thinDisk()) {
			t.Errorf("the first bytes: %v", err)
		}
	}
}

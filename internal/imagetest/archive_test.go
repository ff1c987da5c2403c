package imagetest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// archiveSamples are archives whose content is a disk: see the samples' own MANIFEST.
var archiveSamples = []struct {
	file   string
	opts   dmg.Options
	layers []string
}{
	{"key_zlib.aea", sampleKey, []string{"AEA", "raw"}},
	{"key_xz_nosum.aea", sampleKey, []string{"AEA", "raw"}},
	{"key_lz4_frames.aea", sampleKey, []string{"AEA", "raw"}},
	{"key_lzfse_murmur.aea", sampleKey, []string{"AEA", "raw"}},
	{"key_lzbitmap.aea", sampleKey, []string{"AEA", "raw"}},
	{"password.aea", dmg.Options{Password: "pässword"}, []string{"AEA", "raw"}},
	{"recipient.aea", dmg.Options{}, []string{"AEA", "raw"}},
	{"wrapped.dmg.aea", dmg.Options{}, []string{"AEA", "raw"}},
	{"udif_inside.dmg.aea", sampleKey, []string{"AEA", "UDIF"}},
}

var sampleKey = func() dmg.Options {
	key, err := hex.DecodeString("00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f")
	if err != nil {
		panic(err)
	}
	return dmg.Options{Key: key}
}()

// Disks in archives, and the files on them.
func TestArchiveSamples(t *testing.T) {
	dir := filepath.Join(Samples(), "aea/made")
	for _, tt := range archiveSamples {
		t.Run(tt.file, func(t *testing.T) {
			name := filepath.Join(dir, tt.file)
			if _, err := os.Stat(name); err != nil {
				t.Skip("no samples: ", err)
			}
			if tt.opts.Key == nil && tt.opts.Password == "" {
				base, _, _ := strings.Cut(tt.file, ".")
				block, _ := pem.Decode(readFile(t, filepath.Join(dir, base+".pem")))
				key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				tt.opts.PrivateKey = key
			}
			im, err := dmg.Open(name, &tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			if got := im.Layers(); !slices.Equal(got, tt.layers) || !im.Encrypted() {
				t.Errorf("Layers = %q, want %q; Encrypted = %v", got, tt.layers, im.Encrypted())
			}
			sum := "d3fc84894c6a387275cd71087096268873031221db7fd29647de4ddad88316ad"
			if tt.layers[1] == "UDIF" {
				sum = SumOf(ReadInSteps(t, im, 4096))
			}
			CheckDisk(t, im, 1964032, sum)
			files, err := im.FS()
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			err = fs.WalkDir(files, ".", func(_ string, d fs.DirEntry, err error) error {
				n++
				return err
			})
			if err != nil || n != 18 {
				t.Errorf("%d files, %v", n, err)
			}
		})
	}
}

// What opens an archive, and what is said if that is missing or wrong.
func TestArchiveKeys(t *testing.T) {
	recipient, other := dmgtest.ArchivePrivateKey(1), dmgtest.ArchivePrivateKey(2)
	wrapped := dmgtest.Archive{Auth: dmgtest.ArchiveWrap(recipient.PublicKey(), dmgtest.ArchiveKey, "https://keys.example/abc")}
	disk := rawDisk()
	for _, tt := range []struct {
		name string
		how  dmgtest.Archive
		opts dmg.Options
		err  error // nil if it opens
		says string
	}{
		{"key", dmgtest.Archive{}, dmg.Options{Key: dmgtest.ArchiveKey}, nil, ""},
		{"no key", dmgtest.Archive{}, dmg.Options{}, dmg.ErrNoKey, "dmg: encrypted archive: no key given"},
		{"wrong key", dmgtest.Archive{}, dmg.Options{Key: make([]byte, 32)}, dmg.ErrWrongKey, "wrong key"},
		{"password", dmgtest.Archive{Profile: 5, Password: secret}, dmg.Options{Password: secret}, nil, ""},
		{"no password", dmgtest.Archive{Profile: 5, Password: secret}, dmg.Options{}, dmg.ErrNoPassword, "no password given"},
		{"wrong password", dmgtest.Archive{Profile: 5, Password: secret}, dmg.Options{Password: "x"}, dmg.ErrWrongPassword, "wrong password"},
		{"private key", wrapped, dmg.Options{PrivateKey: recipient}, nil, ""},
		{"no private key", wrapped, dmg.Options{}, dmg.ErrNoKey, `Apple serves at "https://keys.example/abc" (nothing is fetched here)`},
		{"wrong private key", wrapped, dmg.Options{PrivateKey: other}, dmg.ErrWrongPrivateKey, `for the one called "abc"`},
		{"recipient", dmgtest.Archive{Profile: 3, Recipient: recipient.PublicKey()}, dmg.Options{PrivateKey: recipient}, nil, ""},
		{"no recipient", dmgtest.Archive{Profile: 3, Recipient: recipient.PublicKey()}, dmg.Options{}, dmg.ErrNoPrivateKey, "no private key given"},
		{"wrong recipient", dmgtest.Archive{Profile: 3, Recipient: recipient.PublicKey()}, dmg.Options{PrivateKey: other}, dmg.ErrWrongPrivateKey, "wrong private key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.how.Codec, tt.how.Segment = 'z', 64<<10
			b := tt.how.Image(bytes.NewReader(disk), int64(len(disk)))
			im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &tt.opts)
			if tt.err == nil {
				if err != nil {
					t.Fatal(err)
				}
				CheckDisk(t, im, int64(len(disk)), SumOf(disk))
				return
			}
			checkPasswordError(t, err, tt.err)
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the error is %q, want %q in it", err, tt.says)
			}
		})
	}
	for _, opts := range []dmg.Options{{PrivateKey: "no key"}, {PublicKey: 5}} {
		if _, err := dmg.NewImage(bytes.NewReader(disk), int64(len(disk)), &opts); err == nil || errors.Is(err, dmg.ErrPassword) {
			t.Errorf("%T, %T: %v", opts.PrivateKey, opts.PublicKey, err)
		}
	}
}

// archiveDisk is a raw disk of many segments.
func archiveDisk(size int64) []byte {
	disk := dmgtest.Mixed(3, size).Bytes()
	copy(disk[510:], "\x55\xAA")
	return disk
}

// Extract and WriteTo lose a damaged segment, and no byte beside it.
func TestArchiveDamage(t *testing.T) {
	for _, segment := range []int{16 << 10, 100_000, 1 << 20, 5 << 20} {
		disk := archiveDisk(int64(segment)*4 + 300)
		a := dmgtest.Archive{Segment: segment, Codec: 'z', Flip: map[int]bool{1: true, 4: true}}
		b := a.Image(bytes.NewReader(disk), int64(len(disk)))
		im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &archiveOpts)
		if err != nil {
			t.Fatal(err)
		}
		if d := im.Defects(); len(d) != 1 || !errors.Is(d[0], dmg.ErrChecksum) {
			t.Errorf("Defects = %v", d)
		}
		want := bytes.Clone(disk)
		clear(want[segment : 2*segment])
		clear(want[4*segment:])
		got := make(sheet, len(disk))
		lost := int64(0)
		err = im.Extract(context.Background(), got, &dmg.ExtractOptions{Damaged: func(d dmg.Damage) error {
			var chunk *dmg.ChunkError
			if !d.Lost || !errors.Is(d.Err, dmg.ErrChecksum) || !errors.As(d.Err, &chunk) {
				t.Errorf("%v: %v", d, d.Err)
			}
			lost += d.Length
			return nil
		}})
		if err != nil || !bytes.Equal(got, want) || lost != int64(segment)+300 {
			t.Errorf("segments of %d: %v, %d bytes lost, equal %v", segment, err, lost, bytes.Equal(got, want))
		}
		var out bytes.Buffer
		n, err := im.WriteTo(&out)
		if !errors.Is(err, dmg.ErrChecksum) || n > int64(segment) || !bytes.Equal(out.Bytes(), disk[:n]) {
			t.Errorf("segments of %d: WriteTo = %d, %v", segment, n, err)
		}
		err = im.Verify(context.Background(), nil)
		if !errors.Is(err, dmg.ErrChecksum) {
			t.Errorf("Verify = %v", err)
		}
		p := make([]byte, 1000)
		if _, err := im.ReadAt(p, int64(segment)); !errors.Is(err, dmg.ErrChecksum) {
			t.Errorf("a read of the damaged segment: %v", err)
		}
		if _, err := im.ReadAt(p, 3*int64(segment)); err != nil || !bytes.Equal(p, disk[3*segment:][:1000]) {
			t.Errorf("a read of another: %v", err)
		}
	}
}

// Verify compares the checksums of segments, too.
func TestArchiveVerify(t *testing.T) {
	disk := archiveDisk(100_000)
	a := dmgtest.Archive{Segment: 32 << 10, PerCluster: 32, Codec: 'z', BadSum: map[int]bool{1: true}}
	b := a.Image(bytes.NewReader(disk), int64(len(disk)))
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &archiveOpts)
	if err != nil {
		t.Fatal(err)
	}
	CheckDisk(t, im, int64(len(disk)), SumOf(disk))
	if err := im.Verify(context.Background(), nil); !errors.Is(err, dmg.ErrChecksum) || !strings.Contains(err.Error(), "segment 1") {
		t.Errorf("Verify = %v", err)
	}
}

// A compressed image in an archive of which a segment is damaged loses the chunks in it.
func TestArchiveDamageInside(t *testing.T) {
	disk := containerDisk()
	inner := dmgtest.Image(t, disk, inUDZO)
	a := dmgtest.Archive{Segment: 16 << 10, PerCluster: 32, Codec: '-', Flip: map[int]bool{2: true}}
	b := a.Image(bytes.NewReader(inner), int64(len(inner)))
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &archiveOpts)
	if err != nil {
		t.Fatal(err)
	}
	got := make(sheet, len(disk))
	bad := make([]bool, len(disk))
	err = im.Extract(context.Background(), got, &dmg.ExtractOptions{Damaged: func(d dmg.Damage) error {
		for i := d.Offset; i < d.End(); i++ {
			bad[i] = true
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i, c := range got {
		if bad[i] {
			lost++
		} else if c != disk[i] {
			t.Fatalf("byte %d is wrong", i)
		}
	}
	if lost == 0 || lost > 3*32<<10 {
		t.Errorf("%d bytes lost", lost)
	}
}

// Of a disk in an archive that is cut off, what is there can be read.
func TestArchiveCut(t *testing.T) {
	const segment = 16 << 10
	disk := archiveDisk(20 * segment)
	b := dmgtest.Archive{Segment: segment, PerCluster: 32, Codec: 'z'}.Image(bytes.NewReader(disk), int64(len(disk)))
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)-20_000), &archiveOpts)
	if err != nil {
		t.Fatal(err)
	}
	if im.Size() != int64(len(disk)) || len(im.Defects()) != 1 || !strings.Contains(im.Defects()[0].Error(), "cut off") {
		t.Errorf("%d bytes, defects %v", im.Size(), im.Defects())
	}
	p := make([]byte, len(disk))
	n, err := im.ReadAt(p, 0)
	if !errors.Is(err, dmg.ErrFormat) || n < 15*segment || n%segment != 0 || !bytes.Equal(p[:n], disk[:n]) {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
}

// More layers than anyone would make are refused.
func TestArchiveNesting(t *testing.T) {
	disk := rawDisk()
	for depth := 1; depth < 8; depth++ {
		disk = dmgtest.Archive{Segment: 64 << 10, PerCluster: 32, Codec: '-'}.Image(bytes.NewReader(disk), int64(len(disk)))
		_, err := dmg.NewImage(bytes.NewReader(disk), int64(len(disk)), &archiveOpts)
		if deep := depth > 4; deep != errors.Is(err, dmg.ErrUnsupported) || !deep && err != nil {
			t.Errorf("%d archives: %v", depth, err)
		}
	}
}

// A random read takes one call of the source, for its segment. What it takes counts.
func TestArchiveReads(t *testing.T) {
	disk := archiveDisk(8 << 20)
	b := dmgtest.Archive{Codec: 'z'}.Image(bytes.NewReader(disk), int64(len(disk)))
	for _, limit := range []int64{0, 16 << 20} {
		src := &dmgtest.Counter{R: bytes.NewReader(b)}
		im, err := dmg.NewImage(src, int64(len(b)), &dmg.Options{Key: dmgtest.ArchiveKey, MemoryLimit: limit})
		if err != nil {
			t.Fatal(err)
		}
		if calls := src.Calls(); calls > 6 {
			t.Errorf("opening took %d calls: %v", calls, src.Ranges())
		}
		for i, off := range []int64{3<<20 + 5000, 3<<20 + 100_000, 5 << 20} {
			src.Reset()
			before := im.Stats()
			p := make([]byte, 4096)
			if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:][:4096]) {
				t.Fatal(err)
			}
			s := im.Stats()
			if want := 1 - i%2; src.Calls() != want || s.SourceReads-before.SourceReads != int64(want) || s.SourceBytes-before.SourceBytes != src.Bytes() {
				t.Errorf("read %d: %d calls, want %d; %+v", i, src.Calls(), want, s)
			}
			if s.BytesDecoded-before.BytesDecoded != int64(1-i%2)<<20 || s.CacheHits-before.CacheHits != int64(i%2) {
				t.Errorf("read %d: %+v, before %+v", i, s, before)
			}
			if most := max(limit, dmg.DefaultMemoryLimit*min(1, 1-limit)); s.MemoryUsed <= 1<<20 || s.MemoryUsed > most {
				t.Errorf("MemoryUsed = %d of %d", s.MemoryUsed, most)
			}
		}
	}
	_, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &dmg.Options{Key: dmgtest.ArchiveKey, MemoryLimit: 1 << 20})
	if !errors.Is(err, dmg.ErrMemoryLimit) || !strings.Contains(err.Error(), "a limit of 3 MiB will do") {
		t.Errorf("a limit of 1 MiB: %v", err)
	}
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &dmg.Options{Key: dmgtest.ArchiveKey, MemoryLimit: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	CheckDisk(t, im, int64(len(disk)), SumOf(disk))
}

// The limit that an error suggests does, and so does the least one.
func TestArchiveMemoryLimit(t *testing.T) {
	disk := containerDisk()
	inner := dmgtest.Image(t, disk, inUDBZ)
	b := dmgtest.Archive{Segment: 1 << 20, Codec: '-'}.Image(bytes.NewReader(inner), int64(len(inner)))
	limit := int64(1 << 20)
	for range 3 {
		im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &dmg.Options{Key: dmgtest.ArchiveKey, MemoryLimit: limit})
		if err == nil {
			var out bytes.Buffer
			if _, err = im.WriteTo(&out); err == nil {
				if !bytes.Equal(out.Bytes(), disk) {
					t.Error("other bytes")
				}
				return
			}
		}
		at := strings.Index(err.Error(), "a limit of ")
		if !errors.Is(err, dmg.ErrMemoryLimit) || at < 0 {
			t.Fatal(err)
		}
		fmt.Sscanf(err.Error()[at:], "a limit of %d MiB", &limit)
		limit <<= 20
	}
	t.Errorf("a limit of %d bytes does not do", limit)
}

// Workers fetch and decode segments side by side, also where prefetches have room for few. So
// do readers.
func TestArchiveWorkers(t *testing.T) {
	const segment, segments = 1 << 20, 16
	disk := archiveDisk(segments * segment)
	b := dmgtest.Archive{Segment: segment, Codec: '-'}.Image(bytes.NewReader(disk), int64(len(disk)))
	var now, most atomic.Int64
	slow := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		return bytes.NewReader(b).ReadAt(p, off)
	})
	im, err := dmg.NewImage(slow, int64(len(b)), &archiveOpts)
	if err != nil {
		t.Fatal(err)
	}
	if err := im.Extract(context.Background(), nowhere{}, &dmg.ExtractOptions{Workers: 8}); err != nil {
		t.Fatal(err)
	}
	if m := most.Swap(0); m < 5 {
		t.Errorf("8 workers read at %d places at once at most", m)
	}
	if im, err = dmg.NewImage(slow, int64(len(b)), &archiveOpts); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 4096)
			off := int64(2*i+1)*segment + 5000
			if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:][:4096]) {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if m := most.Load(); m < 5 {
		t.Errorf("8 readers read at %d places at once at most", m)
	}
}

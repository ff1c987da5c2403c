package dmg_test

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestSamplesNewImage reads every sample that is a file from a source of the
// caller's own, one that returns io.EOF with its last bytes.
func TestSamplesNewImage(t *testing.T) {
	for _, s := range readManifest(t) {
		if strings.HasSuffix(s.file, ".sparsebundle") {
			continue // a directory
		}
		t.Run(s.file, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(samples, s.file))
			if err != nil {
				t.Fatal(err)
			}
			src := dmgtest.EagerEOF{R: bytes.NewReader(b), Size: int64(len(b))}
			im, err := dmg.NewImage(src, int64(len(b)), &dmg.Options{Password: s.password})
			if err != nil {
				t.Fatal(err)
			}
			if im.Size() != s.size {
				t.Errorf("Size = %d, want %d", im.Size(), s.size)
			}
			if got := sumOf(readInPieces(t, im, 16)); got != s.sum {
				t.Errorf("SHA-256 %s, want %s", got, s.sum)
			}
			if im.Encrypted() != (s.password != "") {
				t.Errorf("Encrypted = %v with the password %q", im.Encrypted(), s.password)
			}
			if err := im.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSamplesPassword(t *testing.T) {
	for _, s := range readManifest(t) {
		if s.password == "" {
			continue
		}
		t.Run(s.file, func(t *testing.T) {
			checkPassword(t, filepath.Join(samples, s.file))
		})
	}
}

// checkPassword opens an encrypted image without a password and with a wrong
// one.
func checkPassword(t *testing.T, name string) {
	t.Helper()
	const wrong = "correct horse battery staple"
	for _, tt := range []struct {
		password string
		err      error
		say      string
	}{
		{"", dmg.ErrNoPassword, "no password given"},
		{wrong, dmg.ErrWrongPassword, "wrong password"},
	} {
		im, err := dmg.Open(name, &dmg.Options{Password: tt.password})
		if err == nil {
			im.Close()
			t.Errorf("password %q opens the image", tt.password)
			continue
		}
		checkPasswordError(t, err, tt.err)
		if msg := err.Error(); !strings.Contains(msg, tt.say) || strings.Contains(msg, wrong) {
			t.Errorf("password %q: the error is %q, want %q in it", tt.password, msg, tt.say)
		}
	}
}

// checkPasswordError asks that err is ErrPassword, and which of its kinds, and of no
// other class.
func checkPasswordError(t *testing.T, err, want error) {
	t.Helper()
	for _, class := range []error{
		dmg.ErrPassword, dmg.ErrNoPassword, dmg.ErrWrongPassword, dmg.ErrNoPrivateKey, dmg.ErrWrongPrivateKey,
		dmg.ErrFormat, dmg.ErrUnsupported, dmg.ErrChecksum, dmg.ErrIndex, dmg.ErrMemoryLimit,
	} {
		if is := errors.Is(err, class); is != (class == want || class == dmg.ErrPassword) {
			t.Errorf("%v: Is %q: %v", err, class, is)
		}
	}
}

// containerDisk is 400 KiB with areas that don't compress and runs of zeros.
func containerDisk() []byte {
	return dmgtest.Join(dmgtest.Mixed(7, 160<<10), dmgtest.Zeros(80<<10), dmgtest.Text(8, 100<<10), dmgtest.Random(9, 60<<10)).Bytes()
}

// thinDisk is 50 bands of 8 KiB, of which every third is zeros and some begin or
// end with them. The last is short.
func thinDisk() []byte {
	disk := dmgtest.Random(10, 50*bandSize-3*512).Bytes()
	for i := 0; i*bandSize < len(disk); i++ {
		band := disk[i*bandSize : min((i+1)*bandSize, len(disk))]
		switch i % 6 {
		case 0, 3:
			clear(band)
		case 1:
			clear(band[1000:])
		case 2:
			clear(band[:4096])
		}
	}
	return disk
}

const bandSize = 8 << 10

// Compressed images as they stand in the containers.
var (
	inUDZO = dmgtest.Options{ChunkSectors: 64}
	inUDBZ = dmgtest.Options{ChunkSectors: 256, Codecs: []dmgtest.Method{dmgtest.Bzip2}}
)

const secret = "Open, Sesame! \U0001F511"

// A wrapped image is a disk in containers.
type wrapped struct {
	name   string
	format string
	layers []string // as Layers returns them, less UDIF
	opts   dmg.Options
	disk   func() []byte
	write  func(t testing.TB, disk []byte) string // returns the name to open
}

var wrappedImages = []wrapped{
	{name: "v1 UDZO", format: "UDZO", layers: encrypted, write: encrypt(dmgtest.Encryption{Version: 1, KeyBits: 128, BlockSize: 512}, inUDZO)},
	{name: "v1 UDBZ", format: "UDBZ", layers: encrypted, write: encrypt(dmgtest.Encryption{Version: 1}, inUDBZ)},
	{name: "v2 UDZO", format: "UDZO", layers: encrypted, write: encrypt(dmgtest.Encryption{KeyBits: 128, BlockSize: 512}, inUDZO)},
	{name: "v2 UDBZ", format: "UDBZ", layers: encrypted, write: encrypt(dmgtest.Encryption{}, inUDBZ)},
	{name: "v2 AES-wrapped UDZO", format: "UDZO", layers: encrypted, write: encrypt(dmgtest.Encryption{AESWrap: true}, inUDZO)},
	{name: "v2 AES-wrapped UDBZ", format: "UDBZ", layers: encrypted, write: encrypt(dmgtest.Encryption{AESWrap: true, KeyBits: 128}, inUDBZ)},
	{name: "v2 three keys UDZO", format: "UDZO", layers: encrypted, write: encrypt(dmgtest.Encryption{Decoys: 2}, inUDZO)},
	{name: "v2 three keys UDBZ", format: "UDBZ", layers: encrypted, write: encrypt(dmgtest.Encryption{Decoys: 2, AESWrap: true}, inUDBZ)},
	{name: "v2 padded UDZO", format: "UDZO", layers: encrypted,
		write: encrypt(dmgtest.Encryption{DataOffset: 1 << 13}, dmgtest.Options{ChunkSectors: 64, Tail: 300})},
	{name: "v2 koly first", format: "UDZO", layers: encrypted,
		write: encrypt(dmgtest.Encryption{}, dmgtest.Options{ChunkSectors: 64, KolyFirst: true})},

	{name: "sparse image of three nodes", format: "UDSP", layers: []string{"sparse image"}, disk: threeNodes, write: sparse(dmgtest.SparseOptions{BandSectors: 1})},
	{name: "sparse image in disorder", format: "UDSP", layers: []string{"sparse image"}, disk: threeNodes,
		write: sparse(dmgtest.SparseOptions{BandSectors: 1, Shuffle: true})},
	{name: "sparse image of short nodes", format: "UDSP", layers: []string{"sparse image"}, disk: thinDisk,
		write: sparse(dmgtest.SparseOptions{BandSectors: 16, NodeIDs: 4, Shuffle: true})},
	{name: "v2 sparse image", format: "UDSP", layers: []string{"encrypted", "sparse image"}, disk: threeNodes,
		write: sparse(dmgtest.SparseOptions{BandSectors: 1, Shuffle: true}, dmgtest.Encryption{BlockSize: 512})},
	{name: "v1 sparse image", format: "UDSP", layers: []string{"encrypted", "sparse image"}, disk: thinDisk,
		write: sparse(dmgtest.SparseOptions{BandSectors: 16}, dmgtest.Encryption{Version: 1})},

	{name: "sparse bundle", format: "UDSB", layers: []string{"sparse bundle"}, disk: thinDisk, write: bundle()},
	{name: "v2 sparse bundle", format: "UDSB", layers: []string{"encrypted", "sparse bundle"}, disk: thinDisk,
		write: bundle(dmgtest.Encryption{BlockSize: 512})},
	{name: "v1 sparse bundle", format: "UDSB", layers: []string{"encrypted", "sparse bundle"}, disk: thinDisk,
		write: bundle(dmgtest.Encryption{Version: 1, KeyBits: 128, BlockSize: 512})},

	{name: "segments UDZO", format: "UDZO", layers: []string{"segments"}, write: split(inUDZO)},
	{name: "segments UDBZ", format: "UDBZ", layers: []string{"segments"}, write: split(inUDBZ)},
	{name: "segments with tails", format: "UDZO", layers: []string{"segments"}, write: split(dmgtest.Options{ChunkSectors: 64, Tail: 511})},
	{name: "segments after a prefix", format: "UDZO", layers: []string{"segments"},
		write: split(dmgtest.Options{Prefix: 5000, TableOffset: true, Shuffle: true})},
	{name: "segments with koly first", format: "UDZO", layers: []string{"segments"}, write: split(dmgtest.Options{ChunkSectors: 64, KolyFirst: true})},
	{name: "segments, each encrypted", format: "UDBZ", layers: []string{"encrypted", "segments"}, write: split(inUDBZ, dmgtest.Encryption{})},

	{name: "raw", format: "UDRW", disk: rawDisk, write: func(t testing.TB, disk []byte) string { return writeFile(t, disk) }},
	{name: "v1 raw", format: "UDRW", layers: encrypted, disk: rawDisk, write: encryptRaw(dmgtest.Encryption{Version: 1})},
	{name: "v2 raw", format: "UDRW", layers: encrypted, disk: rawDisk, write: encryptRaw(dmgtest.Encryption{})},
}

var encrypted = []string{"encrypted"}

// image returns the disk and the name of the file that it is wrapped in.
func (w *wrapped) image(t testing.TB) (disk []byte, name string) {
	t.Helper()
	if w.disk == nil {
		w.disk = containerDisk
	}
	if slices.Contains(w.layers, "encrypted") {
		w.opts.Password = secret
	}
	disk = w.disk()
	return disk, w.write(t, disk)
}

// rawDisk has a boot record.
func rawDisk() []byte { return mbrDisk(mbrPart{0xAF, 8, 1000}) }

// threeNodes is a disk of more bands of a sector than two nodes have room for,
// 1008 and 1010, after holes are left out.
func threeNodes() []byte {
	disk := dmgtest.Random(11, 2300*512).Bytes()
	for i := 0; i < len(disk); i += 17 * 512 {
		clear(disk[i : i+512])
	}
	return disk
}

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// encrypt makes an encrypted UDIF image.
func encrypt(e dmgtest.Encryption, o dmgtest.Options) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string {
		e.Password = secret
		return writeFile(t, e.Image(dmgtest.Image(t, disk, o)))
	}
}

func encryptRaw(e dmgtest.Encryption) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string {
		e.Password = secret
		return writeFile(t, e.Image(disk))
	}
}

// sparse makes a sparse image, encrypted if e says how.
func sparse(o dmgtest.SparseOptions, e ...dmgtest.Encryption) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string {
		data := dmgtest.SparseImage(disk, o)
		for _, e := range e {
			e.Password = secret
			data = e.Image(data)
		}
		return writeFile(t, data)
	}
}

// bundle makes a sparse bundle whose bands end where their zeros begin.
func bundle(e ...dmgtest.Encryption) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string {
		o := dmgtest.BundleOptions{BandSize: bandSize, Short: true}
		for _, e := range e {
			e.Password = secret
			o.Token, o.Encrypt = e.Token(len(disk)), e.Band
		}
		return dmgtest.SparseBundle(t, disk, o)
	}
}

// split makes twelve segments. Their edges cut chunks, as is checked.
func split(o dmgtest.Options, e ...dmgtest.Encryption) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string {
		t.Helper()
		files := segments(t, disk, o, 12)
		for _, e := range e {
			e.Password = secret
			for i, data := range files {
				files[i] = e.Image(data)
			}
		}
		return dmgtest.SegmentFiles(t, files)
	}
}

// segments cuts an image into n files.
func segments(t testing.TB, disk []byte, o dmgtest.Options, n int) [][]byte {
	t.Helper()
	l, err := dmgtest.Build(disk, o)
	if err != nil {
		t.Fatal(err)
	}
	limit := (len(l.Data) + n - 1) / n
	cut := 0
	for _, c := range l.Tables[0].Chunks {
		at := c.Offset + l.Tables[0].DataOffset
		if c.Length > 0 && at/uint64(limit) != (at+c.Length-1)/uint64(limit) {
			cut++
		}
	}
	files := l.Segments(limit)
	if len(files) != n || cut == 0 {
		t.Fatalf("%d segments whose edges cut %d chunks, want %d", len(files), cut, n)
	}
	return files
}

var containerTests = []struct {
	file   string // in testdata/containers; the README of testdata says how each was made
	format string
	layers []string
}{
	{"encrypted-v1.dmg", "UDZO", encrypted},
	{"encrypted-v2.dmg", "UDZO", encrypted},
	{"encrypted-three-keys.dmg", "UDZO", encrypted},
	{"nodes.sparseimage", "UDSP", []string{"sparse image"}},
	{"encrypted.sparseimage", "UDSP", []string{"encrypted", "sparse image"}},
	{"split.dmg", "UDZO", []string{"segments"}},
}

func TestContainerImages(t *testing.T) {
	for _, tt := range containerTests {
		t.Run(tt.file, func(t *testing.T) {
			im := openTest(t, filepath.Join("containers", tt.file), &dmg.Options{Password: "secret"})
			checkWrapped(t, im, &wrapped{format: tt.format, layers: tt.layers})
			checkDisk(t, im, diskSize, fullDisk)
		})
	}
	files, err := filepath.Glob("testdata/containers/*")
	if err != nil {
		t.Fatal(err)
	}
	tested := 0
	for _, name := range files {
		if filepath.Ext(name) != ".dmgpart" { // read with their first
			tested++
		}
	}
	if tested != len(containerTests) {
		t.Errorf("%d images in testdata/containers, %d in the test", tested, len(containerTests))
	}
}

// TestContainers reads disks out of everything that can be around them.
func TestContainers(t *testing.T) {
	for _, w := range wrappedImages {
		t.Run(w.name, func(t *testing.T) {
			disk, name := w.image(t)
			before := openFiles()
			im, err := dmg.Open(name, &w.opts)
			if err != nil {
				t.Fatal(err)
			}
			checkWrapped(t, im, &w)
			checkDisk(t, im, int64(len(disk)), sumOf(disk))
			if now := openFiles(); now > 0 && now <= before {
				t.Errorf("%d files are open, before it was opened %d", now, before)
			}
			// Once is enough, and twice does no harm.
			for range 2 {
				if err := im.Close(); err != nil {
					t.Error("Close: ", err)
				}
			}
			checkClosed(t, before)
			if w.opts.Password != "" {
				checkPassword(t, name)
			}
			// This fails after everything was opened.
			if _, err := dmg.Open(name, &dmg.Options{Password: w.opts.Password, MemoryLimit: -1}); err == nil {
				t.Error("opens with a negative limit")
			}
			checkClosed(t, before)
			if st, err := os.Stat(name); err == nil && !st.IsDir() && !slices.Contains(w.layers, "segments") {
				checkSource(t, name, &w, disk)
			}
		})
	}
}

// openFiles counts the files that the process has open, where the system tells.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// checkClosed tests that no more files are open than before.
func checkClosed(t *testing.T, before int) {
	t.Helper()
	if now := openFiles(); now != before {
		t.Errorf("%d files are open, before %d", now, before)
	}
}

// checkWrapped tests what an image says of what is around it.
func checkWrapped(t *testing.T, im *dmg.Image, w *wrapped) {
	t.Helper()
	layers := slices.Clone(w.layers)
	switch w.format {
	case "UDSP", "UDSB": // the sparse disk is the last layer
	case "UDRW", "UDTO":
		layers = append(layers, "raw")
	default:
		layers = append(layers, "UDIF")
	}
	if got := im.Layers(); !slices.Equal(got, layers) {
		t.Errorf("Layers = %q, want %q", got, layers)
	}
	if im.Format() != w.format {
		t.Errorf("Format = %q, want %q", im.Format(), w.format)
	}
	if want := slices.Contains(w.layers, "encrypted"); im.Encrypted() != want {
		t.Errorf("Encrypted = %v", im.Encrypted())
	}
}

// checkSource opens the file through NewImage, first from a source that fails at
// its first read, then at its second, and so on until it opens. The source's
// error must come back as such.
func checkSource(t *testing.T, name string, w *wrapped, disk []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fault := errors.New("the cable came off")
	for call := int64(1); ; call++ {
		src := &dmgtest.FailAt{R: bytes.NewReader(b), Call: call, Err: fault, Sticky: call%2 == 0}
		im, err := dmg.NewImage(src, int64(len(b)), &w.opts)
		if src.Calls() >= call {
			if !errors.Is(err, fault) || errors.Is(err, dmg.ErrFormat) || errors.Is(err, dmg.ErrUnsupported) || errors.Is(err, dmg.ErrPassword) {
				t.Fatalf("a source that fails at call %d: %v", call, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("a source that fails at call %d of %d: %v", call, src.Calls(), err)
		}
		if call == 1 {
			t.Error("opened without a read")
		}
		src.Call, src.Sticky = 0, false
		if !bytes.Equal(readInSteps(t, im, 100_000), disk) {
			t.Error("NewImage: other bytes")
		}
		return
	}
}

// certificateImage is an encrypted image for whom the public key belongs to: the
// one key record of an image made for a password is replaced.
func certificateImage(t *testing.T, plain []byte, public *rsa.PublicKey) []byte {
	t.Helper()
	const recordAt = 0x4C + 20
	image := dmgtest.Encryption{Password: secret}.Image(plain)
	be := binary.BigEndian
	r := image[recordAt:]
	kek, err := pbkdf2.Key(sha1.New, secret, r[0x10:0x10+be.Uint32(r[0x0C:])], int(be.Uint32(r[8:])), 24)
	if err != nil {
		t.Fatal(err)
	}
	block, err := des.NewTripleDESCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	keys := bytes.Clone(r[0x68 : 0x68+be.Uint32(r[0x64:])])
	cipher.NewCBCDecrypter(block, r[0x34:0x3C]).CryptBlocks(keys, keys)
	keys = keys[:len(keys)-int(keys[len(keys)-1])] // PKCS #7
	blob, err := rsa.EncryptPKCS1v15(rand.Reader, public, keys)
	if err != nil {
		t.Fatal(err)
	}
	be.PutUint32(image[0x4C:], 2)
	clear(r[:0x34])
	be.PutUint32(r, 20)
	be.PutUint32(r[0x24:], 42)
	be.PutUint32(r[0x28:], 10)
	be.PutUint32(r[0x30:], uint32(len(blob)))
	copy(r[0x34:], blob)
	return image
}

func TestCertificate(t *testing.T) {
	text, err := os.ReadFile("internal/crypt/testdata/certificate-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PrivateKey)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	disk := containerDisk()
	for name, o := range map[string]dmgtest.Options{"UDZO": inUDZO, "UDBZ": inUDBZ} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, certificateImage(t, dmgtest.Image(t, disk, o), &key.PublicKey))
			im, err := dmg.Open(file, &dmg.Options{PrivateKey: key})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			checkWrapped(t, im, &wrapped{format: name, layers: encrypted})
			checkDisk(t, im, int64(len(disk)), sumOf(disk))
			for _, tt := range []struct {
				opts dmg.Options
				err  error
				say  string
			}{
				{dmg.Options{}, dmg.ErrNoPrivateKey, "no private key"},
				{dmg.Options{Password: secret}, dmg.ErrNoPrivateKey, "no private key"},
				{dmg.Options{PrivateKey: other}, dmg.ErrWrongPrivateKey, "wrong private key"},
			} {
				_, err := dmg.Open(file, &tt.opts)
				checkPasswordError(t, err, tt.err)
				if err == nil || !strings.Contains(err.Error(), tt.say) {
					t.Errorf("%v, want %q in it", err, tt.say)
				}
			}
		})
	}
}

// Neither errors nor what fmt makes of an image say a password or a key.
func TestSecrets(t *testing.T) {
	e := dmgtest.Encryption{Password: secret}
	im, err := dmg.Open(writeFile(t, e.Image(dmgtest.Image(t, containerDisk(), inUDZO))), &dmg.Options{Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, said := range []string{fmt.Sprintf(verb, im), fmt.Sprintf(verb, im.Partitions())} {
			for _, hidden := range []string{secret, fmt.Sprintf("%x", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]")} {
				if strings.Contains(said, hidden) {
					t.Errorf("%s prints the password", verb)
				}
			}
		}
	}
}

func TestSegmentErrors(t *testing.T) {
	disk := containerDisk()
	good := segments(t, disk, inUDZO, 12)
	foreign := segments(t, disk, dmgtest.Options{ChunkSectors: 32, Codecs: []dmgtest.Method{dmgtest.Raw}}, 12)
	part := func(first string, n int) string { return dmgtest.SegmentName(first, n) }
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, first string) (open string)
		err   error
		say   []string
	}{
		{"missing", func(t *testing.T, first string) string { remove(t, part(first, 5)); return first },
			dmg.ErrFormat, []string{"image.005.dmgpart", "missing", "5 of 12", "one directory"}},
		{"last missing", func(t *testing.T, first string) string { remove(t, part(first, 12)); return first },
			dmg.ErrFormat, []string{"image.012.dmgpart", "missing", "12 of 12"}},
		{"foreign", func(t *testing.T, first string) string { write(t, part(first, 3), foreign[2]); return first },
			dmg.ErrFormat, []string{"image.003.dmgpart"}},
		{"directory", func(t *testing.T, first string) string {
			remove(t, part(first, 2))
			if err := os.Mkdir(part(first, 2), 0o777); err != nil {
				t.Fatal(err)
			}
			return first
		}, dmg.ErrFormat, []string{"image.002.dmgpart", "not a regular file"}},
		{"first missing", func(t *testing.T, first string) string { remove(t, first); return part(first, 2) },
			dmg.ErrFormat, []string{"image.dmg", "missing", "1 of 12", "one directory"}},
		{"first without trailer", func(t *testing.T, first string) string {
			write(t, first, good[0][:len(good[0])-600])
			return part(first, 12)
		}, dmg.ErrFormat, []string{"image.dmg", "cut off or damaged"}},
		{"one with another password", func(t *testing.T, first string) string {
			write(t, part(first, 9), dmgtest.Encryption{Password: "another"}.Image(good[8]))
			return first
		}, dmg.ErrPassword, []string{"image.009.dmgpart", "no password given"}},
		{"one with a damaged header", func(t *testing.T, first string) string {
			b := dmgtest.Encryption{Password: "another"}.Image(good[8])
			clear(b[0x34:0x38])
			write(t, part(first, 9), b)
			return first
		}, dmg.ErrFormat, []string{"image.009.dmgpart", "block size 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := tt.spoil(t, dmgtest.SegmentFiles(t, good))
			before := openFiles()
			_, err := dmg.Open(name, nil)
			checkClosed(t, before)
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			for _, say := range tt.say {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("the error is %q, want %q in it", err, say)
				}
			}
		})
	}
	// The parts of an image that a caller's own source holds can't be found.
	for _, i := range []int{0, 1, 11} {
		_, err := dmg.NewImage(bytes.NewReader(good[i]), int64(len(good[i])), nil)
		if !errors.Is(err, dmg.ErrUnsupported) || !strings.Contains(err.Error(), "with Open") || !strings.Contains(err.Error(), "12 files") {
			t.Errorf("NewImage of segment %d: %v", i+1, err)
		}
	}
}

// The parts of an image may each be encrypted. What deriving their keys takes is
// limited for all together, and done once where their headers have the salt in
// common.
func TestSegmentKeys(t *testing.T) {
	dmgtest.Native(t)
	good := segments(t, containerDisk(), inUDZO, 12)
	encrypt := func(of func(i int) dmgtest.Encryption) [][]byte {
		parts := make([][]byte, len(good))
		for i, b := range good {
			parts[i] = of(i).Image(b)
		}
		return parts
	}
	const limit = 10_000_000
	e := dmgtest.Encryption{Password: secret}
	first := dmgtest.SegmentFiles(t, encrypt(func(i int) dmgtest.Encryption { return dmgtest.Encryption{Password: secret, Seed: uint64(i)} }))
	im, err := dmg.Open(first, &dmg.Options{Password: secret})
	if err != nil {
		t.Fatal("parts with a salt each:", err)
	}
	im.Close()

	// Were it not for the iterations of the parts before, the last could be
	// tried.
	same := encrypt(func(int) dmgtest.Encryption { return e })
	same[11] = put(encrypt(func(i int) dmgtest.Encryption { e := e; e.Seed = uint64(i); return e })[11], 0x4C+20+8, limit-500, 4)
	first = dmgtest.SegmentFiles(t, same)
	checkHostile(t, dmg.ErrUnsupported, "image.012.dmgpart: encryption not supported: 9999500 iterations", func() (*dmg.Image, error) {
		return dmg.Open(first, &dmg.Options{Password: secret})
	})

	// Twelve times these would be too many. A header differs from the others'
	// in the length of the data.
	e.Iterations = limit/12 + 100_000
	header := e.Image(nil)
	for i, b := range good {
		same[i] = append(put(header, 0x38, uint64(len(b)), 8), e.Band(b)...)
	}
	im, err = dmg.Open(dmgtest.SegmentFiles(t, same), &dmg.Options{Password: secret})
	if err != nil {
		t.Fatal("parts with one salt:", err)
	}
	im.Close()
}

// What the file system says of a part is not damage of the image.
func TestSegmentFault(t *testing.T) {
	first := dmgtest.SegmentFiles(t, segments(t, containerDisk(), inUDZO, 12))
	name := dmgtest.SegmentName(first, 6)
	remove(t, name)
	if err := os.Symlink(name, name); err != nil {
		t.Skip("no links: ", err)
	}
	_, err := dmg.Open(first, nil)
	var path *fs.PathError
	if !errors.As(err, &path) || errors.Is(err, dmg.ErrFormat) || !strings.Contains(err.Error(), "image.006.dmgpart") {
		t.Errorf("a part that is a link to itself: %v", err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

type mbrPart struct {
	kind         byte
	first, count uint32
}

// mbrDisk is 1 MiB with a master boot record.
func mbrDisk(parts ...mbrPart) []byte {
	disk := dmgtest.Random(20, 1<<20).Bytes()
	clear(disk[446:4096])
	disk[510], disk[511] = 0x55, 0xAA
	for i, p := range parts {
		e := disk[446+16*i:]
		e[4] = p.kind
		binary.LittleEndian.PutUint32(e[8:], p.first)
		binary.LittleEndian.PutUint32(e[12:], p.count)
	}
	return disk
}

// gptDisk is 1 MiB with a GUID partition table (UEFI specification, chapter
// 5.3) of two partitions, at 40 and at 1000.
func gptDisk() []byte {
	disk := mbrDisk(mbrPart{0xEE, 1, 2047})
	le := binary.LittleEndian
	array := make([]byte, 128*128)
	for i, p := range []struct {
		guid, name  string
		first, last uint64
	}{
		{"\x00SFH\x00\x00\xaa\x11\xaa\x11\x000eC\xec\xac", "Daten \u00fc", 40, 999},
		{"\xa2\xa0\xd0\xeb\xe5\xb9\x33\x44\x87\xc0\x68\xb6\xb7\x26\x99\xc7", "", 1000, 1999},
	} {
		e := array[128*i:]
		copy(e, p.guid)
		e[16] = byte(i + 1) // its own GUID
		le.PutUint64(e[32:], p.first)
		le.PutUint64(e[40:], p.last)
		for j, c := range utf16.Encode([]rune(p.name)) {
			le.PutUint16(e[56+2*j:], c)
		}
	}
	copy(disk[1024:], array)
	h := disk[512:1024]
	clear(h)
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return disk
}

// apmDisk is 1 MiB with an Apple partition map (Inside Macintosh: Devices,
// chapter 3) of the map itself, a partition, and free space.
func apmDisk() []byte {
	disk := dmgtest.Random(21, 1<<20).Bytes()
	clear(disk[:64*512])
	copy(disk, "ER\x02\x00")
	be := binary.BigEndian
	for i, p := range []struct {
		name, kind   string
		first, count uint32
	}{{"Apple", "Apple_partition_map", 1, 63}, {"Macintosh HD", "Apple_HFS", 64, 1900}, {"", "Apple_Free", 1964, 84}} {
		e := disk[512*(i+1):]
		copy(e, "PM")
		be.PutUint32(e[4:], 3)
		be.PutUint32(e[8:], p.first)
		be.PutUint32(e[12:], p.count)
		copy(e[16:48], p.name)
		copy(e[48:80], p.kind)
	}
	return disk
}

// marked is a disk of n bytes with a signature.
func marked(n, at int, magic string) []byte {
	disk := dmgtest.Text(22, int64(n)).Bytes()
	copy(disk[at:], magic)
	return disk
}

type namedRange struct {
	name, kind     string
	offset, length int64
}

var (
	mbrParts = []namedRange{{"", "Apple_HFS", 8 * 512, 1000 * 512}, {"", "DOS_FAT_32", 1008 * 512, 100 * 512}}
	gptParts = []namedRange{{"Daten \u00fc", "Apple_HFS", 40 * 512, 960 * 512}, {"", "Microsoft Basic Data", 1000 * 512, 1000 * 512}}
	apmParts = []namedRange{{"Apple", "Apple_partition_map", 512, 63 * 512}, {"Macintosh HD", "Apple_HFS", 64 * 512, 1900 * 512}}
)

var rawTests = []struct {
	name   string
	disk   []byte
	format string // "" if it is none
	parts  []namedRange
}{
	{"MBR", mbrDisk(mbrPart{0xAF, 8, 1000}, mbrPart{0x0B, 1008, 100}), "UDRW", mbrParts},
	{"MBR past the end", mbrDisk(mbrPart{0xAF, 8, 1 << 31}, mbrPart{0x0B, math.MaxUint32, math.MaxUint32}), "UDRW", nil},
	{"GPT", gptDisk(), "UDRW", gptParts},
	{"APM", apmDisk(), "UDRW", apmParts},
	{"HFS+", marked(5000, 1024, "H+"), "UDRW", nil},
	{"HFSX", marked(5000, 1024, "HX"), "UDRW", nil},
	{"HFS", marked(5000, 1024, "BD"), "UDRW", nil},
	{"APFS", marked(5000, 32, "NXSB"), "UDRW", nil},
	{"ISO 9660", marked(40000, 32769, "CD001"), "UDTO", nil},
	{"the shortest", marked(512, 510, "\x55\xAA"), "UDRW", nil},
	{"empty", nil, "", nil},
	{"one byte", []byte("s"), "", nil},
	{"zeros", make([]byte, 100_000), "", nil},
	{"text", dmgtest.Text(23, 100_000).Bytes(), "", nil},
	{"random", dmgtest.Random(24, 100_000).Bytes(), "", nil},
	{"a mark cut short", []byte("NXSB" + strings.Repeat("x", 507) + "\x55"), "", nil},
}

func TestRawDisks(t *testing.T) {
	for _, tt := range rawTests {
		t.Run(tt.name, func(t *testing.T) {
			im, err := dmg.Open(writeFile(t, tt.disk), nil)
			if tt.format == "" {
				if !errors.Is(err, dmg.ErrFormat) {
					t.Fatalf("%v, want ErrFormat", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			checkWrapped(t, im, &wrapped{format: tt.format})
			checkDisk(t, im, int64(len(tt.disk)), sumOf(tt.disk))
			checkPartitions(t, im, tt.disk, tt.parts)
			for c := range im.Chunks() {
				if c.Method != dmg.Raw || c.Partition != -1 || c.DataOffset != c.Offset {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

// checkPartitions compares the partitions, and what each of them reads.
func checkPartitions(t *testing.T, im *dmg.Image, disk []byte, want []namedRange) {
	t.Helper()
	var got []namedRange
	for _, p := range im.Partitions() {
		got = append(got, namedRange{p.Name, p.Type, p.Offset, p.Length})
		b, err := io.ReadAll(p.Section())
		if err != nil || !bytes.Equal(b, disk[p.Offset:p.Offset+p.Length]) {
			t.Errorf("partition at %d: %d bytes that differ, %v", p.Offset, len(b), err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("partitions\n%+v, want\n%+v", got, want)
	}
}

// The partition table inside a sparse disk is found as well.
func TestSparsePartitions(t *testing.T) {
	disk := gptDisk()
	im, err := dmg.Open(writeFile(t, dmgtest.SparseImage(disk, dmgtest.SparseOptions{BandSectors: 8, Shuffle: true})), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	checkPartitions(t, im, disk, gptParts)
	im, err = dmg.Open(dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{BandSize: bandSize}), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	checkPartitions(t, im, disk, gptParts)
}

// Block tables without names get those of the disk's partition table, where
// their ranges are the same.
func TestNamelessTables(t *testing.T) {
	for _, tt := range []struct {
		name   string
		disk   []byte
		tables []dmgtest.Partition
		want   []namedRange
	}{
		{"GPT", gptDisk(), []dmgtest.Partition{{First: 0, Sectors: 40}, {First: 40, Sectors: 960}, {First: 1000, Sectors: 1000}, {First: 2000, Sectors: 48}}, []namedRange{
			{"", "", 0, 40 * 512}, gptParts[0], gptParts[1], {"", "", 2000 * 512, 48 * 512},
		}},
		{"APM", apmDisk(), []dmgtest.Partition{{Name: "DDM (DDM : 0)", Sectors: 1}, {First: 1, Sectors: 63}, {First: 64, Sectors: 1900}}, []namedRange{
			{"DDM (DDM : 0)", "DDM", 0, 512}, apmParts[0], apmParts[1],
		}},
		{"another range", gptDisk(), []dmgtest.Partition{{First: 0, Sectors: 41}, {First: 41, Sectors: 959}, {First: 1000}}, []namedRange{
			{"", "", 0, 41 * 512}, {"", "", 41 * 512, 959 * 512}, {"", "", 1000 * 512, 1048 * 512}, gptParts[0], gptParts[1],
		}},
		{"named", gptDisk(), []dmgtest.Partition{{Name: "x", First: 0, Sectors: 40}, {Name: "mine (Apple_UFS : 1)", First: 40, Sectors: 960}, {Name: "rest (y : 2)", First: 1000}}, []namedRange{
			{"x", "", 0, 40 * 512}, {"mine (Apple_UFS : 1)", "Apple_UFS", 40 * 512, 960 * 512}, {"rest (y : 2)", "y", 1000 * 512, 1048 * 512}, gptParts[1],
		}},
		{"named, and all types known", gptDisk(), []dmgtest.Partition{{Name: "x (y : 0)", First: 0, Sectors: 40}, {Name: "mine (Apple_UFS : 1)", First: 40, Sectors: 960}}, []namedRange{
			{"x (y : 0)", "y", 0, 40 * 512}, {"mine (Apple_UFS : 1)", "Apple_UFS", 40 * 512, 960 * 512},
		}},
		{"names without types", gptDisk(), []dmgtest.Partition{{Name: "part 0", First: 0, Sectors: 40}, {Name: "part 1", First: 40, Sectors: 960}, {Name: "part 2 (unknown partition : 2)", First: 1000}}, []namedRange{
			{"part 0", "", 0, 40 * 512}, {"part 1", "Apple_HFS", 40 * 512, 960 * 512}, {"part 2 (unknown partition : 2)", "", 1000 * 512, 1048 * 512}, gptParts[1],
		}},
		{"one table and a GPT", gptDisk(), []dmgtest.Partition{{Name: "whole disk (unknown partition : 0)"}}, []namedRange{
			{"whole disk (unknown partition : 0)", "", 0, 2048 * 512}, gptParts[0], gptParts[1],
		}},
		{"one table and an APM", apmDisk(), []dmgtest.Partition{{Name: "disk image"}}, []namedRange{
			{"disk image", "", 0, 2048 * 512}, apmParts[0], apmParts[1],
		}},
		{"one table and an MBR", mbrDisk(mbrPart{0x0C, 8, 1000}), []dmgtest.Partition{{Name: "whole disk (unknown partition : 0)"}}, []namedRange{
			{"whole disk (unknown partition : 0)", "", 0, 2048 * 512}, {"", "Windows_FAT_32", 8 * 512, 1000 * 512},
		}},
		{"one nameless table", gptDisk(), []dmgtest.Partition{{}}, []namedRange{{"", "", 0, 2048 * 512}, gptParts[0], gptParts[1]}},
		{"no table", containerDisk(), []dmgtest.Partition{{First: 0, Sectors: 40}}, []namedRange{{"", "", 0, 40 * 512}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := dmgtest.Image(t, tt.disk, dmgtest.Options{ChunkSectors: 64, Partitions: tt.tables})
			im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
			if err != nil {
				t.Fatal(err)
			}
			checkPartitions(t, im, tt.disk, tt.want)
		})
	}
}

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
		checkChunks(t, im)
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

// A directory that is no sparse bundle is there, and is no image.
func TestDirectories(t *testing.T) {
	half := dmgtest.SparseBundle(t, thinDisk(), dmgtest.BundleOptions{BandSize: bandSize})
	if err := os.RemoveAll(filepath.Join(half, "bands")); err != nil {
		t.Fatal(err)
	}
	for name, say := range map[string]string{t.TempDir(): "lacks Info.plist", half: "lacks bands"} {
		_, err := dmg.Open(name, nil)
		if !errors.Is(err, dmg.ErrFormat) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), say) {
			t.Errorf("%v, want ErrFormat with %q", err, say)
		}
	}
	if _, err := dmg.Open(filepath.Join(t.TempDir(), "x.dmg"), nil); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, dmg.ErrFormat) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
}

// openReads are the source's reads that opening may take. Each is a round trip
// where the source is remote.
var openReads = []struct {
	name  string
	most  int
	plist int // bytes of property list at least
	make  func(t *testing.T) []byte
}{
	{"small plist", 4, 0, func(t *testing.T) []byte { return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 2048}) }},
	{"plist of 200 KB", 4, 200_000, func(t *testing.T) []byte {
		return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 1, Zeros: dmgtest.ZeroKeep, Codecs: []dmgtest.Method{dmgtest.Raw}})
	}},
	{"resource fork", 4, 0, func(t *testing.T) []byte {
		return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 64, Meta: dmgtest.ResourceOnly})
	}},
	{"koly first", 5, 0, func(t *testing.T) []byte {
		return dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 64, KolyFirst: true})
	}},
	{"v2", 4, 0, func(t *testing.T) []byte {
		return dmgtest.Encryption{Password: secret}.Image(dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 2048}))
	}},
	{"v1", 4, 0, func(t *testing.T) []byte {
		return dmgtest.Encryption{Password: secret, Version: 1}.Image(dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 2048}))
	}},
	{"v2, plist of 200 KB", 8, 200_000, func(t *testing.T) []byte {
		return dmgtest.Encryption{Password: secret}.Image(dmgtest.Image(t, bigDisk(), dmgtest.Options{ChunkSectors: 1, Zeros: dmgtest.ZeroKeep, Codecs: []dmgtest.Method{dmgtest.Raw}}))
	}},
	{"sparse image of a node", 5, 0, func(*testing.T) []byte { return dmgtest.SparseImage(gptDisk(), dmgtest.SparseOptions{BandSectors: 16}) }},
	{"raw", 5, 0, func(*testing.T) []byte { return gptDisk() }},
}

// bigDisk is much larger than what is read ahead of a file's ends.
func bigDisk() []byte { return dmgtest.Mixed(30, 2<<20).Bytes() }

func TestOpenReads(t *testing.T) {
	for _, tt := range openReads {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.make(t)
			if tt.plist > 0 {
				tail := bytes.LastIndex(b, []byte("koly"))
				if tail > 0 {
					if n := binary.BigEndian.Uint64(b[tail+0xE0:]); n < uint64(tt.plist) {
						t.Fatalf("a property list of %d bytes, want %d", n, tt.plist)
					}
				}
			}
			src := &dmgtest.Counter{R: bytes.NewReader(b)}
			if _, err := dmg.NewImage(src, int64(len(b)), &dmg.Options{Password: secret}); err != nil {
				t.Fatal(err)
			}
			if src.Calls() > tt.most {
				t.Errorf("%d reads, want at most %d: %v", src.Calls(), tt.most, src.Ranges())
			}
			t.Logf("%d reads, %d bytes", src.Calls(), src.Bytes())
		})
	}
}

// BenchmarkEncrypted compares reads of an encrypted image of one zlib chunk with
// reads of a plain one.
func BenchmarkEncrypted(b *testing.B) {
	const size = 16 << 20
	disk := dmgtest.Mixed(40, size).Bytes()
	plain := dmgtest.Image(b, disk, dmgtest.Options{})
	for _, kind := range []struct {
		name string
		data []byte
	}{
		{"plain", plain},
		{"v2", dmgtest.Encryption{Password: secret}.Image(plain)},
		{"v2-128-512", dmgtest.Encryption{Password: secret, KeyBits: 128, BlockSize: 512}.Image(plain)},
	} {
		open := func(b *testing.B) *dmg.Image {
			im, err := dmg.NewImage(bytes.NewReader(kind.data), int64(len(kind.data)), &dmg.Options{Password: secret, MemoryLimit: 8 << 20})
			if err != nil {
				b.Fatal(err)
			}
			return im
		}
		b.Run("whole/"+kind.name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := open(b).WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("random-4KiB/"+kind.name, func(b *testing.B) {
			im := open(b)
			if _, err := im.WriteTo(io.Discard); err != nil { // makes the checkpoints
				b.Fatal(err)
			}
			rng := mathrand.New(mathrand.NewPCG(1, 2))
			p := make([]byte, 4096)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := im.ReadAt(p, rng.Int64N(size/4096)*4096); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestOpenPartitionsInManyChunks opens a disk whose partition table says that it goes
// on through a thousand chunks, each a bzip2 block of random bytes.
func TestOpenPartitionsInManyChunks(t *testing.T) {
	dmgtest.Native(t)
	const n, block = 1024, 4096
	entry := make([]byte, block)
	copy(entry, "PM")
	binary.BigEndian.PutUint32(entry[4:], n)
	data, err := dmgtest.Compress(dmgtest.Bzip2, 9, append(entry, dmgtest.Random(1, 890_000).Bytes()...))
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, block)
	copy(first, "ER")
	binary.BigEndian.PutUint16(first[2:], block)
	table := dmgtest.NewTable("", 0, (n+1)*8, dmgtest.Chunk{Method: dmgtest.Raw, Sectors: 8, Length: block})
	for i := range uint64(n) {
		table.Chunks = append(table.Chunks, dmgtest.Chunk{Method: dmgtest.Bzip2, Sector: (i + 1) * 8, Sectors: 8, Offset: block, Length: uint64(len(data))})
	}
	table.Count = n + 1
	l := &dmgtest.Layout{Tables: []dmgtest.Table{table}, Data: append(first, data...), Koly: dmgtest.NewKoly()}
	l.Koly.Sectors = (n + 1) * 8
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	b := l.Bytes()
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := im.Stats().BytesDecoded; got > n/10*512 {
		t.Errorf("opening decoded %d bytes, in as many blocks as there are sectors in these", got)
	}
}

// TestOpenLargeList opens an encrypted image whose property list is decrypted by
// several goroutines, all of which come to the file's last bytes at once.
func TestOpenLargeList(t *testing.T) {
	const block = 1 << 20
	disk := dmgtest.Text(1, 64<<10).Bytes()
	l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}})
	if err != nil {
		t.Fatal(err)
	}
	l.Data = append(l.Data, make([]byte, block+32-len(l.Data))...)
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	l.Plist = append(l.Plist, bytes.Repeat([]byte(" "), 3*block+64-len(l.Data)-len(l.Plist))...)
	l.Koly.PlistLength = uint64(len(l.Plist)) + dmgtest.KolyLen
	b := dmgtest.Encryption{Password: "x", BlockSize: block}.Image(l.Bytes())
	b = append(b, make([]byte, 32<<10)...)[:0x1E000+3*block-24+32<<10] // the trailer straddles where the last 32 KiB begin
	for range 20 {
		im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &dmg.Options{Password: "x"})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(disk))
		if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
			t.Fatalf("%v, or other bytes", err)
		}
	}
}

// TestSegmentNames opens split images of names that are no UTF-8, or that another
// system would take for a path.
func TestSegmentNames(t *testing.T) {
	disk := dmgtest.Text(1, 256<<10).Bytes()
	files := segments(t, disk, dmgtest.Options{ChunkSectors: 64}, 3)
	for _, first := range []string{"im\xE4ge.dmg", "image.dmg", "a\\b:c.dmg"} {
		t.Run(first, func(t *testing.T) {
			dir := t.TempDir()
			for i, data := range files {
				if err := os.WriteFile(filepath.Join(dir, dmgtest.SegmentName(first, i+1)), data, 0o600); err != nil {
					t.Skipf("the file system refuses the name: %v", err)
				}
			}
			im, err := dmg.Open(filepath.Join(dir, first), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			got := make([]byte, len(disk))
			if _, err := im.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
				t.Errorf("%v, or other bytes", err)
			}
		})
	}
}

package imagetest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestSamplesNewImage reads every sample that is a file from a source of the
// caller's own, one that returns io.EOF with its last bytes.
func TestSamplesNewImage(t *testing.T) {
	for _, s := range ReadManifest(t) {
		if strings.HasSuffix(s.File, ".sparsebundle") {
			continue // a directory
		}
		t.Run(s.File, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(Samples(), s.File))
			if err != nil {
				t.Fatal(err)
			}
			src := dmgtest.EagerEOF{R: bytes.NewReader(b), Size: int64(len(b))}
			im, err := dmg.NewImage(src, int64(len(b)), &dmg.Options{Password: s.Password})
			if err != nil {
				t.Fatal(err)
			}
			if im.Size() != s.Size {
				t.Errorf("Size = %d, want %d", im.Size(), s.Size)
			}
			if got := SumOf(ReadInPieces(t, im, 16)); got != s.Sum {
				t.Errorf("SHA-256 %s, want %s", got, s.Sum)
			}
			if im.Encrypted() != (s.Password != "") {
				t.Errorf("Encrypted = %v with the password %q", im.Encrypted(), s.Password)
			}
			if err := im.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkPasswordError asks that err is ErrPassword, and which of its kinds, and of no
// other class.
func checkPasswordError(t *testing.T, err, want error) {
	t.Helper()
	for _, class := range []error{
		dmg.ErrPassword, dmg.ErrNoPassword, dmg.ErrWrongPassword, dmg.ErrNoPrivateKey, dmg.ErrWrongPrivateKey, dmg.ErrNoKey, dmg.ErrWrongKey,
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

	{name: "AEA raw", format: "UDRW", layers: []string{"AEA"}, opts: archiveOpts, disk: rawDisk, write: archive(nil)},
	{name: "AEA UDZO", format: "UDZO", layers: []string{"AEA"}, opts: archiveOpts, write: archive(plainImage(inUDZO))},
	{name: "AEA UDBZ", format: "UDBZ", layers: []string{"AEA"}, opts: archiveOpts, write: archive(plainImage(inUDBZ))},
	{name: "AEA UDZO after a prefix", format: "UDZO", layers: []string{"AEA"}, opts: archiveOpts,
		write: archive(plainImage(dmgtest.Options{Prefix: 5000, TableOffset: true, Shuffle: true}))},
	{name: "AEA sparse image", format: "UDSP", layers: []string{"AEA", "sparse image"}, opts: archiveOpts, disk: threeNodes,
		write: archive(sparse(dmgtest.SparseOptions{BandSectors: 1, Shuffle: true}))},
	{name: "AEA v2 UDZO", format: "UDZO", layers: []string{"AEA", "encrypted"}, opts: archiveOpts, write: archive(encrypt(dmgtest.Encryption{}, inUDZO))},
	{name: "AEA v1 raw", format: "UDRW", layers: []string{"AEA", "encrypted"}, opts: archiveOpts, disk: rawDisk, write: archive(encryptRaw(dmgtest.Encryption{Version: 1}))},
	{name: "AEA in AEA, raw", format: "UDRW", layers: []string{"AEA", "AEA"}, opts: archiveOpts, disk: rawDisk, write: archive(archive(nil))},
	{name: "v2 AEA UDZO", format: "UDZO", layers: []string{"encrypted", "AEA"}, opts: archiveOpts, write: encryptFile(archive(plainImage(inUDZO)))},

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

// encryptFile encrypts what write makes.
func encryptFile(write func(testing.TB, []byte) string) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string {
		return writeFile(t, dmgtest.Encryption{Password: secret}.Image(readFile(t, write(t, disk))))
	}
}

func plainImage(o dmgtest.Options) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string { return writeFile(t, dmgtest.Image(t, disk, o)) }
}

// archive makes an encrypted archive of what write makes, or of the disk, in small segments.
func archive(write func(testing.TB, []byte) string) func(testing.TB, []byte) string {
	return func(t testing.TB, disk []byte) string {
		if write != nil {
			disk = readFile(t, write(t, disk))
		}
		a := dmgtest.Archive{Segment: 32 << 10, PerCluster: 32, Codec: 'z', Mixed: true}
		return writeFile(t, a.Image(bytes.NewReader(disk), int64(len(disk))))
	}
}

var archiveOpts = dmg.Options{Key: dmgtest.ArchiveKey}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
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
			im := OpenTest(t, filepath.Join("containers", tt.file), &dmg.Options{Password: "secret"})
			checkWrapped(t, im, &wrapped{format: tt.format, layers: tt.layers})
			CheckDisk(t, im, DiskSize, FullDisk)
		})
	}
	files, err := filepath.Glob("../../testdata/containers/*")
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
			CheckDisk(t, im, int64(len(disk)), SumOf(disk))
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
	if want := slices.Contains(w.layers, "encrypted") || slices.Contains(w.layers, "AEA"); im.Encrypted() != want {
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
		if !bytes.Equal(ReadInSteps(t, im, 100_000), disk) {
			t.Error("NewImage: other bytes")
		}
		return
	}
}

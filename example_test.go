package dmg_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-dmg/dmg"
)

// mustOpen keeps error handling out of examples that show something else.
func mustOpen(name string, opts *dmg.Options) *dmg.Image {
	im, err := dmg.Open(name, opts)
	if err != nil {
		log.Fatal(err)
	}
	return im
}

func Example() {
	im, err := dmg.Open("testdata/good-zlib.dmg", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer im.Close()

	fmt.Println(im.Format(), im.Size())
	sector := make([]byte, 512)
	if _, err := im.ReadAt(sector, 80*512); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s…\n", sector[:32])
	// Output:
	// UDZO 135168
	// other on with use offset of in p…
}

// The files of an image, without decoding the rest.
func ExampleImage_FS() {
	im := mustOpen("testdata/good-apfs.dmg", nil)
	defer im.Close()
	files, err := im.FS()
	if err != nil {
		log.Fatal(err)
	}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		fmt.Println(name)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	script, err := fs.ReadFile(files, "Hello.app/Contents/MacOS/hello")
	fmt.Printf("%q %v\n", script, err)
	// Output:
	// .
	// Applications
	// Hello.app
	// Hello.app/Contents
	// Hello.app/Contents/Info.plist
	// Hello.app/Contents/MacOS
	// Hello.app/Contents/MacOS/hello
	// Read me.txt
	// "#!/bin/sh\necho hello\n" <nil>
}

// The file systems of an image, whatever its partition table says.
func ExampleImage_Volumes() {
	im := mustOpen("testdata/good-apfs.dmg", nil)
	defer im.Close()
	volumes, err := im.Volumes()
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range volumes {
		fmt.Println(v)
		fmt.Println(v.Name, v.Type, v.Partition, v.Offset, v.Length)
	}
	// Output:
	// APFS "Hello" (partition 0)
	// Hello APFS 0 0 4366336
}

// An image in memory, or behind any other io.ReaderAt.
func ExampleNewImage() {
	file, err := os.ReadFile("testdata/good-bzip2.dmg")
	if err != nil {
		log.Fatal(err)
	}
	im, err := dmg.NewImage(bytes.NewReader(file), int64(len(file)), &dmg.Options{MemoryLimit: 16 << 20})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(im.Format(), im.Size())
	// Output:
	// UDBZ 135168
}

// An image in any file system whose files can be read at any offset, such as one that
// is embedded in the program.
func ExampleOpenFS() {
	fsys := os.DirFS("testdata")
	im, err := dmg.OpenFS(fsys, "good-lzma.dmg", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer im.Close()
	fmt.Println(im.Format(), im.Size())
	// Output:
	// ULMO 135168
}

//go:embed testdata/containers/split*
var splitImage embed.FS

// An image in the program itself. It was split into three files, which are found beside the
// one that is named.
func ExampleOpenFS_embed() {
	im, err := dmg.OpenFS(splitImage, "testdata/containers/split.dmg", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer im.Close()
	fmt.Println(im.Format(), im.Layers(), im.Size())
	// Output:
	// UDZO [segments UDIF] 135168
}

// An image in a zip archive, which must have it without compression.
func ExampleNewImage_zip() {
	archive := zipOf("testdata/good-bzip2.dmg")
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range r.File {
		if f.Method != zip.Store {
			log.Fatal("compressed in the archive: write the file out first")
		}
		at, err := f.DataOffset()
		if err != nil {
			log.Fatal(err)
		}
		size := int64(f.UncompressedSize64)
		im, err := dmg.NewImage(io.NewSectionReader(bytes.NewReader(archive), at, size), size, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(f.Name, im.Format(), im.Size())
	}
	// Output:
	// good-bzip2.dmg UDBZ 135168
}

// zipOf returns a zip archive that stores a file without compression.
func zipOf(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	f, err := w.CreateHeader(&zip.FileHeader{Name: filepath.Base(name), Method: zip.Store})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return archive.Bytes()
}

// What is damaged, or no image at all, is told from what can't be read.
func ExampleOpen_errors() {
	for _, name := range []string{"testdata/README.md", "testdata/bad-plist-range.dmg", "testdata/none.dmg"} {
		_, err := dmg.Open(name, nil)
		switch {
		case errors.Is(err, os.ErrNotExist):
			fmt.Println("there is none")
		case errors.Is(err, dmg.ErrFormat):
			fmt.Println(err)
		}
	}
	// Output:
	// dmg: file at byte 0: a text file, not a disk image: if it was to be a disk image, download it again
	// dmg: koly at byte 216: property list outside the file
	// there is none
}

func ExampleImage_Partitions() {
	im := mustOpen("testdata/good-zlib.dmg", nil)
	defer im.Close()

	for _, p := range im.Partitions() {
		fmt.Printf("%s: %d bytes from byte %d on\n", p.Name, p.Length, p.Offset)
	}
	// Output:
	// Driver Descriptor Map (DDM : 0): 512 bytes from byte 0 on
	// Apple (Apple_partition_map : 1): 32256 bytes from byte 512 on
	// disk image (Apple_HFS : 2): 102400 bytes from byte 32768 on
}

// A partition is what packages that read file systems take.
func ExamplePartition_Section() {
	im := mustOpen("testdata/good-zlib.dmg", nil)
	defer im.Close()

	for _, p := range im.Partitions() {
		if p.Type != "Apple_HFS" {
			continue
		}
		var r io.ReadSeeker = p.Section()
		start := make([]byte, 16)
		if _, err := io.ReadFull(r, start); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q\n", start)
	}
	// Output:
	// "is chunk other c"
}

// How many bytes of the disk are stored in which way.
func ExampleImage_Chunks() {
	im := mustOpen("testdata/good-mixed.dmg", nil)
	defer im.Close()

	bytes := make(map[dmg.Method]int64)
	for c := range im.Chunks() {
		bytes[c.Method] += c.Length
	}
	for _, m := range slices.Sorted(maps.Keys(bytes)) {
		fmt.Println(m, bytes[m])
	}
	// Output:
	// zero 79360
	// raw 6656
	// adc 10240
	// zlib 8192
	// bzip2 10240
	// lzfse 10240
	// lzma 10240
}

func ExampleImage_WriteTo() {
	im := mustOpen("testdata/good-lzfse.dmg", nil)
	defer im.Close()

	sum := sha256.New()
	if _, err := im.WriteTo(sum); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", sum.Sum(nil))
	// Output:
	// ef5a0155dc7b21303cdad93c4b8719b09c259b6a33cc9a5cdb1e967aec3a156f
}

// The disk as a file, with holes where it is zero.
func ExampleImage_Extract() {
	im := mustOpen("testdata/good-zlib.dmg", nil)
	defer im.Close()

	dir, err := os.MkdirTemp("", "dmg")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	if err != nil {
		log.Fatal(err)
	}
	if err := f.Truncate(im.Size()); err != nil {
		log.Fatal(err)
	}
	if err := im.Extract(context.Background(), f, &dmg.ExtractOptions{Sparse: true}); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}

	disk, err := os.ReadFile(f.Name())
	fmt.Printf("%x %v\n", sha256.Sum256(disk), err)
	// Output:
	// ef5a0155dc7b21303cdad93c4b8719b09c259b6a33cc9a5cdb1e967aec3a156f <nil>
}

// A range is read as from any io.ReaderAt; one that touches what is damaged says
// what that is.
func ExampleImage_ReadAt() {
	im := mustOpen("testdata/bad-stream.dmg", nil)
	defer im.Close()

	p := make([]byte, 4096)
	for _, off := range []int64{64 << 10, 44 << 10, im.Size() - 100} {
		n, err := im.ReadAt(p, off)
		var damaged *dmg.ChunkError
		switch {
		case errors.As(err, &damaged):
			fmt.Printf("%d bytes, then a damaged %v\n", n, damaged.Chunk)
		case err == io.EOF:
			fmt.Printf("%d bytes, then the end of the disk\n", n)
		case err != nil:
			log.Fatal(err) // the file could not be read
		default:
			fmt.Printf("%d bytes\n", n)
		}
	}
	// Output:
	// 4096 bytes
	// 0 bytes, then a damaged zlib chunk at sectors 80-95
	// 100 bytes, then the end of the disk
}

// What Verify has to compare. A part without a checksum may be damaged unnoticed.
func ExampleImage_Checksums() {
	im := mustOpen("testdata/good-zlib.dmg", nil)
	defer im.Close()

	for _, sum := range im.Checksums() {
		fmt.Printf("%s: %s %x\n", sum.Part, sum.Algorithm, sum.Sum)
	}
	// Output:
	// data fork: CRC-32 0a115344
	// partition 0 "Driver Descriptor Map (DDM : 0)": CRC-32 6a460f43
	// partition 1 "Apple (Apple_partition_map : 1)": CRC-32 642c34c7
	// partition 2 "disk image (Apple_HFS : 2)": CRC-32 71b55f32
	// master: CRC-32 ecd99225
}

// An index that was saved beside its image.
func ExampleImage_Licenses() {
	im := mustOpen("testdata/good-license.dmg", nil)
	defer im.Close()

	licenses, err := im.Licenses()
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range licenses {
		fmt.Printf("%s, %t: %q\n", l.Language, l.Default, l.Text) // quoted: it may hold anything
	}
	// Output:
	// en-US, true: "“As is”, without a warranty.\n"
	// de, false: "Ohne Gewähr.\n"
}

func ExampleImage_Signature() {
	im := mustOpen("testdata/good-license.dmg", nil)
	defer im.Close()

	s, err := im.Signature()
	if err != nil {
		log.Fatal(err)
	}
	if s == nil {
		fmt.Println("not signed")
		return
	}
	fmt.Printf("%q, team %q, %d certificates, ticket %t\n", s.Identifier, s.TeamID, len(s.Certificates), s.Ticket != nil)
	if err := s.VerifyContent(context.Background()); err != nil {
		log.Fatal(err) // something was changed
	}
	fmt.Println("it is what was signed, by whomever")
	// Output:
	// "com.example.license", team "", 0 certificates, ticket true
	// it is what was signed, by whomever
}

func ExampleReadIndex() {
	f, err := os.Open("Installer.dmg.dmgidx")
	if errors.Is(err, os.ErrNotExist) {
		fmt.Println("no index: the first way through a chunk finds its checkpoints")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	index, err := dmg.ReadIndex(f)
	if err != nil {
		log.Fatal(err) // ErrIndex if it is damaged
	}
	im, err := dmg.Open("Installer.dmg", &dmg.Options{Index: index})
	if err != nil {
		log.Fatal(err) // ErrIndex if it is of another image
	}
	defer im.Close()
	// Output: no index: the first way through a chunk finds its checkpoints
}

// Verify finds all damage there is; its error joins one for each.
func ExampleImage_Verify() {
	im := mustOpen("testdata/bad-stream.dmg", nil)
	defer im.Close()

	err := im.Verify(context.Background(), nil)
	if err == nil {
		fmt.Println("whole")
		return
	}
	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) {
		log.Fatal(err) // of the image's source
	}
	for _, err := range all.Unwrap() {
		var chunk *dmg.ChunkError
		var sum *dmg.ChecksumError
		switch {
		case errors.As(err, &chunk):
			fmt.Printf("lost: %d bytes from byte %d on\n", chunk.Chunk.Length, chunk.Chunk.Offset)
		case errors.As(err, &sum) && sum.Got == nil:
			fmt.Printf("%s: can't be checked\n", sum.Part)
		case errors.As(err, &sum):
			fmt.Printf("%s: wrong %s\n", sum.Part, sum.Algorithm)
		}
	}
	// Output:
	// data fork: wrong CRC-32
	// partition 2 "disk image (Apple_HFS : 2)": can't be checked
	// lost: 8192 bytes from byte 40960 on
}

// A sector costs what has to be decoded for it, and nothing the second time.
func ExampleImage_Stats() {
	im := mustOpen("testdata/good-zlib.dmg", nil)
	defer im.Close()

	sector := make([]byte, 512)
	for range 2 {
		if _, err := im.ReadAt(sector, 80*512); err != nil {
			log.Fatal(err)
		}
		s := im.Stats()
		fmt.Printf("read %d, decoded %d, %d from the cache\n", s.BytesRead, s.BytesDecoded, s.CacheHits)
	}
	// Output:
	// read 512, decoded 512, 0 from the cache
	// read 1024, decoded 512, 1 from the cache
}

// An index saved once spares later runs the way through large chunks.
func ExampleImage_Index() {
	im := mustOpen("testdata/good-one-chunk.dmg", nil)
	defer im.Close()
	if err := im.BuildIndex(context.Background(), nil); err != nil {
		log.Fatal(err)
	}
	index, err := im.Index()
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := index.WriteTo(&file); err != nil {
		log.Fatal(err)
	}

	index, err = dmg.ReadIndex(&file)
	if err != nil {
		log.Fatal(err)
	}
	again := mustOpen("testdata/good-one-chunk.dmg", &dmg.Options{Index: index})
	defer again.Close()
	sector := make([]byte, 512)
	_, err = again.ReadAt(sector, 98304)
	fmt.Println(err, again.Stats().BytesDecoded, "bytes decoded")

	// It is for this image alone.
	_, err = dmg.Open("testdata/good-zlib.dmg", &dmg.Options{Index: index})
	fmt.Println(errors.Is(err, dmg.ErrIndex))
	// Output:
	// <nil> 512 bytes decoded
	// true
}

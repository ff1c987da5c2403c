package dmgtest

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
)

// archives bends encrypted archives: all that stands in front, and what only those can write
// who have the key, the root header, clusters' headers and segments.
func (b *bender) archives() {
	content := Join(Text(6, 60<<10), Random(7, 20<<10)).Bytes()
	copy(content[510:], "\x55\xAA") // a disk's mark
	disk := bytes.NewReader(content)
	small := Archive{Segment: 16 << 10, PerCluster: 32, Codec: 'z'}
	give := func(a Archive, name string, args ...any) {
		if a.Segment == 0 {
			a.Segment, a.PerCluster, a.Codec = small.Segment, small.PerCluster, small.Codec
		}
		b.give(a.Image(disk, disk.Size()), name, args...)
	}
	give(small, "sound")
	b.archiveFronts(small, disk, give)

	var root ArchiveRoot
	get := small
	get.Root = func(r *ArchiveRoot) { root = *r }
	get.Image(disk, disk.Size())
	bend(&root, func(what string) {
		bent := root
		give(Archive{Root: func(r *ArchiveRoot) { *r = bent }}, "root header, %s", what)
	})
	for _, p := range wrapping(4, uint64(root.Segment), uint64(root.PerCluster)) {
		give(Archive{Root: func(r *ArchiveRoot) { r.Segment, r.PerCluster = uint32(p[0]), uint32(p[1]) }}, "segment size %#x, %#x a cluster", p[0], p[1])
	}
	for _, p := range wrapping(8, root.Size, root.Archive) {
		give(Archive{Root: func(r *ArchiveRoot) { r.Size, r.Archive = p[0], p[1] }}, "%#x bytes of content in %#x", p[0], p[1])
	}
	for _, codec := range []byte("-4befxz?\x00\xFF") {
		give(Archive{Root: func(r *ArchiveRoot) { r.Codec = codec }}, "codec %q of other data", codec)
	}

	for _, segment := range []int{0, 3} {
		var entry ArchiveEntry
		get := small
		get.Entry = func(i int, e *ArchiveEntry) {
			if i == segment {
				entry = *e
			}
		}
		get.Image(disk, disk.Size())
		bend(&entry, func(what string) {
			bent := entry
			give(Archive{Entry: func(i int, e *ArchiveEntry) {
				if i == segment {
					*e = bent
				}
			}}, "segment %d, %s", segment, what)
		})
		give(Archive{Flip: map[int]bool{segment: true}}, "segment %d damaged", segment)
		give(Archive{BadSum: map[int]bool{segment: true}}, "segment %d, checksum", segment)
	}
	give(Archive{Entry: func(_ int, e *ArchiveEntry) { e.Plain, e.Packed = 1<<32-1, 1<<32-1 }}, "all lengths 2^32-1")
	give(Archive{Entry: func(_ int, e *ArchiveEntry) { e.Packed = 0 }}, "nothing packed")
	give(Archive{FlipHeader: map[int]bool{0: true}}, "header damaged")
	b.archiveStreams()
	b.archiveSizes(disk)
}

// archiveFronts bends what stands in front of an archive, and the keys' ways in.
func (b *bender) archiveFronts(small Archive, disk *bytes.Reader, give func(a Archive, name string, args ...any)) {
	image := small.Image(disk, disk.Size())
	for at := 4; at < 200; at += 4 {
		for _, n := range numbers(4, word{at, 4, true}.of(image)) {
			b.give(word{at, 4, true}.put(image, n), "front, word %#x=%#x", at, n)
		}
	}
	for profile := range byte(8) {
		bent := bytes.Clone(image)
		bent[4] = profile
		b.give(bent, "front, profile %d", profile)
	}
	for n := 4; n < 2600; n += 97 {
		b.give(image[:n], "cut at %d", n)
	}
	for _, cut := range []int{1, 1000, 10_000} {
		b.give(image[:len(image)-cut], "cut by %d", cut)
	}
	// To derive a key of a strong password takes up to a gigabyte, which need not be done to
	// write that it has one.
	password := small
	password.Profile, password.Password = 5, HostilePassword
	image = password.Image(disk, disk.Size())
	for strength := range byte(4) {
		image[7] = strength
		b.give(bytes.Clone(image), "a password of strength %d", strength)
	}
	for name, auth := range map[string][]byte{
		"one byte":             {1},
		"a megabyte":           make([]byte, 1<<20),
		"a field of no bytes":  {0, 0, 0, 0, 1, 2, 3, 4},
		"a field of 2^32-1":    {255, 255, 255, 255, 1, 2, 3, 4},
		"a field without name": {5, 0, 0, 0, 0},
		"many fields":          bytes.Repeat(ArchiveField("a", "b"), 10_000),
		"a key in deep JSON":   ArchiveField("com.apple.wkms.fcs-response", string(bytes.Repeat([]byte(`{"enc-request":[`), 10_000))),
		"a key of no bytes":    ArchiveField("com.apple.wkms.fcs-response", `{"enc-request":"","wrapped-key":""}`),
		"an address":           ArchiveField("com.apple.wkms.fcs-key-url", "https://x/\x1b[31m"+string(bytes.Repeat([]byte("y"), 100_000))),
	} {
		give(Archive{Auth: auth}, "auth data: %s", name)
	}
	b.archiveLists(small, disk)
}

// archiveLists bends the binary property list that names the signer.
func (b *bender) archiveLists(small Archive, disk *bytes.Reader) {
	list := []byte("bplist00\xD1\x01\x02_\x10\x10SigningPublicKeyO\x10\x41" + string(ArchivePrivateKey(1).PublicKey().Bytes()) +
		"\x08\x0B\x1E\x00\x00\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x62")
	image := func(list []byte) []byte {
		front := append([]byte("AEA1\x00\x00\x00\x00"), le32(len(list))...)
		return append(append(front, list...), Random(9, 4000).Bytes()...)
	}
	b.give(image(list), "list, sound")
	for i := range list {
		for _, n := range []byte{0, 1, list[i] ^ 0x80, 0xFF, list[i] + 1} {
			bent := bytes.Clone(list)
			bent[i] = n
			b.give(image(bent), "list, byte %d=%#x", i, n)
		}
	}
}

// archiveStreams are segments that don't decode to what they should.
func (b *bender) archiveStreams() {
	const segment = 64 << 10
	zeros := Zeros(segment)
	stream := func(codec byte, b []byte) Archive {
		return Archive{Segment: segment, PerCluster: 32, Codec: codec, Encode: func([]byte) []byte { return b }}
	}
	bomb, _ := Compress(Zlib, 9, make([]byte, 4<<20))
	xz, _ := Compress(LZMA, 0, make([]byte, 1<<20))
	lzfse := lzfseenc.Encode(lzfseenc.V2, make([]byte, 1<<20))
	lz4 := append([]byte{0x1F, 0, 1, 0}, bytes.Repeat([]byte{255}, 30_000)...)
	lzbitmap := append([]byte("ZBM\x09"), bytes.Repeat([]byte{0xFF}, 1000)...)
	for codec, whole := range map[byte][]byte{'z': bomb, 'x': xz, 'e': lzfse, 'f': lzfse, '4': lz4, 'b': lzbitmap} {
		whole = whole[:min(len(whole), segment-1)]
		for _, n := range []int{1, 2, 3, 10, 100, len(whole) / 2, len(whole)} {
			n = min(n, len(whole))
			b.give(stream(codec, whole[:n]).Image(zeros, segment), "codec %c, %d bytes of a bomb", codec, n)
		}
		for i := 0; i < min(60, len(whole)); i++ {
			bent := bytes.Clone(whole)
			bent[i] ^= 0xFF
			b.give(stream(codec, bent).Image(zeros, segment), "codec %c, byte %d", codec, i)
		}
	}
	for _, size := range []uint32{0, 1, segment - 1, segment + 1, 1<<31 - 1, 1<<32 - 1} {
		frame := binary.LittleEndian.AppendUint32([]byte("bv41"), size)
		frame = binary.LittleEndian.AppendUint32(frame, 4)
		b.give(stream('4', append(frame, "\x1F\x00\x01\x00bv4$"...)).Image(zeros, segment), "codec 4, a frame of %d", size)
	}
}

// archiveSizes are archives whose numbers are large, and true.
func (b *bender) archiveSizes(disk *bytes.Reader) {
	for _, perCluster := range []int{1000, 30_000, 200_000} {
		a := Archive{Segment: 16 << 10, PerCluster: perCluster, Codec: 'z'}
		b.give(a.Image(disk, disk.Size()), "%d segments a cluster", perCluster)
	}
	for _, segment := range []int{1 << 20, 8 << 20, 64 << 20, 1 << 30} {
		a := Archive{Segment: segment, PerCluster: 32, Codec: 'z'}
		b.give(a.Image(disk, disk.Size()), "segments of %d", segment)
	}
	memo := make(map[int][]byte)
	a := Archive{Segment: 16 << 10, PerCluster: 32, Codec: 'z', Encode: func(b []byte) []byte {
		if memo[len(b)] == nil {
			memo[len(b)], _ = Compress(Zlib, 1, b)
		}
		return memo[len(b)]
	}}
	b.give(a.Image(Zeros(100<<20), 100<<20), "200 clusters")
	nested := make([]byte, disk.Size())
	disk.ReadAt(nested, 0)
	for i := range 30 {
		nested = Archive{Segment: 256 << 10, PerCluster: 32, Codec: '-'}.Image(bytes.NewReader(nested), int64(len(nested)))
		if i < 6 || i == 29 {
			b.give(nested, "%s", fmt.Sprintf("%d archives inside each other", i+2))
		}
	}
}

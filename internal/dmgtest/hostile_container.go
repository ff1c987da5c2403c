package dmgtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// encrypted bends the words of both kinds of encryption header, and what is in
// the image that they hide.
func (b *bender) encrypted() {
	inner := small(Options{})
	e := Encryption{Password: HostilePassword, Iterations: 10, BlockSize: 512, DataOffset: 1536}
	for _, aesWrap := range []bool{false, true} {
		e.AESWrap = aesWrap
		image := e.Image(inner.Bytes())
		for at := 8; at < 0x4C+20+v2BlobAt+8; at += 4 {
			bendWord(image, at, 4, func(image []byte, n uint64) {
				b.give(image, "v2, AES wrap %v, word %#x=%#x", aesWrap, at, n)
			})
		}
		for _, at := range []int{0x38, 0x40, 0x50, 0x58} {
			bendWord(image, at, 8, func(image []byte, n uint64) {
				b.give(image, "v2, AES wrap %v, %#x=%#x", aesWrap, at, n)
			})
		}
		record := 0x4C + 20
		for _, p := range [][2]word{
			{{0x40, 8, false}, {0x38, 8, false}},                                    // where the data is
			{{0x50, 8, false}, {0x58, 8, false}},                                    // where a key's record is
			{{record + 0x0C, 4, false}, {record + 0x30, 4, false}},                  // salt and vector
			{{record + v2BlobAt - 4, 4, false}, {record + v2BlobAt - 20, 4, false}}, // wrapped key, and bits of what wraps it
		} {
			bendPair(image, p[0], p[1], func(image []byte, what string) { b.give(image, "v2, AES wrap %v, %s", aesWrap, what) })
		}
		for n := 0; n < 1536; n += 97 {
			b.give(image[:n], "v2, AES wrap %v, cut at %d", aesWrap, n)
		}
	}
	e.AESWrap, e.Version = false, 1
	image := e.Image(inner.Bytes())
	trailer := len(image) - v1Len
	var words []int
	for at := 0x10; at < 0x60; at += 4 {
		words = append(words, at)
	}
	for rec := range 3 {
		for at := 0; at < 48; at += 4 {
			words = append(words, 0x60+rec*v1RecordLen+at)
		}
	}
	for at := 0x4E8; at < v1Len; at += 4 {
		words = append(words, at)
	}
	for _, at := range words {
		bendWord(image, trailer+at, 4, func(image []byte, n uint64) { b.give(image, "v1, word %#x=%#x", at, n) })
	}
	bendWord(image, trailer+0x4E8, 8, func(image []byte, n uint64) { b.give(image, "v1, 0x4e8=%#x", n) })
	bendPair(image, word{trailer + 0x4EC, 4, false}, word{trailer + 0x10, 4, false}, func(image []byte, what string) { b.give(image, "v1, size and block size %s", what) })
	e.Version = 2
	b.decoys(e, inner)
	for what, bent := range map[string]func(*Layout){
		"a disk of 2^54-1 sectors": func(l *Layout) { l.Koly.Sectors = 1<<54 - 1 },
	} {
		l := small(Options{})
		bent(l)
		b.give(e.Image(l.Bytes()), "v2, inside %s", what)
	}
	twice := e.Image(e.Image(inner.Bytes()))
	b.give(twice, "v2 in v2")
	for range 20 {
		twice = e.Image(twice)
	}
	b.give(twice, "v2 in v2, 22 times")
}

// decoys are headers with many keys, each of which asks for much work.
func (b *bender) decoys(e Encryption, inner *Layout) {
	for _, keys := range []int{2, 64, 1000} {
		for _, iterations := range []uint32{100_000, 9_999_999, 1<<31 - 1, math.MaxUint32} {
			e.Decoys, e.DataOffset = keys, 0
			image := e.Image(inner.Bytes())
			for i := range keys {
				put32(image[0x4C+20*(keys+1)+v2RecordLen*i+8:], iterations)
			}
			b.give(image, "v2, %d keys of %d iterations", keys+1, iterations)
		}
	}
}

// sparse bends the nodes of a sparse image.
func (b *bender) sparse() {
	disk := Text(6, 64<<10).Bytes()
	image := SparseImage(disk, SparseOptions{BandSectors: 16, NodeIDs: 2})
	second := int(binary.BigEndian.Uint64(image[0x14:]))
	for _, node := range []int{0, second} {
		for at := 0; at < 0x48; at += 4 {
			bendWord(image, node+at, 4, func(image []byte, n uint64) { b.give(image, "node at %d, word %#x=%#x", node, at, n) })
		}
		for _, at := range []int{0x0C, 0x14, 0x1C} {
			bendWord(image, node+at, 8, func(image []byte, n uint64) { b.give(image, "node at %d, %#x=%#x", node, at, n) })
		}
		for _, next := range []int{node, 0, 4096, second, second + 512, len(image), len(image) - 4096, len(image) - 1} {
			for _, at := range []int{0x0C, 0x14} {
				bent := bytes.Clone(image)
				binary.BigEndian.PutUint64(bent[node+at:], uint64(next))
				b.give(bent, "node at %d, %#x, next at %d", node, at, next)
			}
		}
	}
	for _, p := range [][2]word{
		{{0x08, 4, false}, {sparseIDsAt, 4, false}},   // band size and a band's place
		{{0x08, 4, false}, {0x10, 4, false}},          // and the disk's
		{{0x10, 4, false}, {0x20, 4, false}},          // the disk's, twice
		{{0x14, 8, false}, {second + 0x0C, 8, false}}, // links
	} {
		bendPair(image, p[0], p[1], func(image []byte, what string) { b.give(image, "%s", what) })
	}
	full := bytes.Clone(image)
	for i := range sparseFirst {
		binary.BigEndian.PutUint32(full[sparseIDsAt+4*i:], uint32(i+1))
	}
	b.give(full, "more bands than there is file")
	for i := range sparseFirst {
		binary.BigEndian.PutUint32(full[sparseIDsAt+4*i:], 1)
	}
	b.give(full, "one band a thousand times")
	for n := 0; n < len(image); n += 509 {
		b.give(image[:n], "cut at %d", n)
	}
	b.give(slices.Concat(image[:4096], bytes.Repeat(image[second:second+4096], 2000)), "nodes only")
}

// bundles bends the property list of a sparse bundle, its token, and its bands.
func (b *bender) bundles() {
	const bandSize, size = 4096, 5*4096 - 512
	disk := Text(6, size).Bytes()
	files := func(info string, token []byte) []NamedFile {
		all := []NamedFile{{"Info.plist", []byte(info)}, {"token", token}}
		for i := range 3 { // the others are holes
			all = append(all, NamedFile{fmt.Sprintf("bands/%x", 2*i), bandOf(disk, 2*i, bandSize)})
		}
		return all
	}
	give := func(all []NamedFile, name string, args ...any) {
		b.giveImage(HostileImage{Dir: all}, name, args...)
	}
	good := fmt.Sprintf(bundleInfo, bandSize, size)
	for _, f := range []struct{ key, right string }{
		{"band-size", "<integer>4096</integer>"}, {"size", fmt.Sprintf("<integer>%d</integer>", size)},
		{"bundle-backingstore-version", "<integer>1</integer>"}, {"diskimage-bundle-type", "<string>com.apple.diskimage.sparsebundle</string>"},
	} {
		field := "<key>" + f.key + "</key>\n\t" + f.right
		for _, n := range numbers(8, bandSize) {
			for _, v := range []string{fmt.Sprintf("<integer>%d</integer>", n), fmt.Sprintf("<integer>-%d</integer>", n), fmt.Sprintf("<string>%d</string>", n)} {
				give(files(strings.Replace(good, field, "<key>"+f.key+"</key>"+v, 1), nil), "%s is %s", f.key, v)
			}
		}
		for _, v := range []string{"<integer>99999999999999999999</integer>", "<integer>0x7FFFFFFFFFFFFFFF</integer>", "<integer/>", "<real>4096.5</real>", "<real>1e999</real>", "<real>nan</real>", "<true/>", "<array/>", "<dict/>", "<data/>", "<date>x</date>", ""} {
			give(files(strings.Replace(good, field, "<key>"+f.key+"</key>"+v, 1), nil), "%s is %s", f.key, v)
		}
		give(files(strings.Replace(good, field, "", 1), nil), "without %s", f.key)
		give(files(strings.Replace(good, field, field+field, 1), nil), "%s twice", f.key)
	}
	for _, p := range wrapping(8, bandSize, size) {
		give(files(fmt.Sprintf(bundleInfo, p[0], p[1]), nil), "bands of %#x for a disk of %#x", p[0], p[1])
	}
	for i, v := range documents {
		give(files(v, nil), "document %d %.40q", i, v)
	}
	for n := 0; n < len(good); n += 13 {
		give(files(good[:n], nil), "Info.plist cut at %d", n)
	}
	b.bands(files(good, nil), give)
	b.tokens(func(token []byte) []NamedFile { return files(good, token) }, size, give)
}

// bands are files of other names and sizes than those of bands.
func (b *bender) bands(files []NamedFile, give func([]NamedFile, string, ...any)) {
	long := bytes.Repeat([]byte("long"), 64<<10)
	for _, name := range []string{"bands/00", "bands/1", "bands/A", "bands/-1", "bands/+1", "bands/0x1", "bands/5", "bands/7fffffffffffffff", "bands/8000000000000000", "bands/ffffffffffffffff", "bands/10000000000000000", "bands/1/2", "bands/" + strings.Repeat("f", 200), "Info.bckup", "lock"} {
		give(append(slices.Clip(files), NamedFile{name, long}), "and %.40s", name)
	}
	for i, f := range files {
		give(slices.Delete(slices.Clone(files), i, i+1), "without %s", f.Name)
		for _, n := range []int{0, 1, 511, len(f.Data) + 1} {
			bent := slices.Clone(files)
			bent[i].Data = append(bytes.Clone(f.Data), 0)[:min(n, len(f.Data)+1)]
			give(bent, "%s of %d bytes", f.Name, len(bent[i].Data))
		}
		bent := slices.Clone(files)
		bent[i].Data = long
		give(bent, "%s of %d bytes", f.Name, len(long))
		bent[i] = NamedFile{f.Name + "/x", nil}
		give(bent, "%s a directory", f.Name)
	}
	many := slices.Clone(files)
	for i := range 500 {
		many = append(many, NamedFile{fmt.Sprintf("bands/%x", int64(1)<<40+int64(i)), nil})
	}
	give(many, "500 bands past the end")
}

// tokens are encryption headers that have no data of their own.
func (b *bender) tokens(files func(token []byte) []NamedFile, size int, give func([]NamedFile, string, ...any)) {
	for _, version := range []int{1, 2} {
		e := Encryption{Password: HostilePassword, Version: version, Iterations: 10, BlockSize: 512, DataOffset: 1536}
		token := e.Token(size)
		for n := 0; n <= len(token); n += 199 {
			give(files(token[:n]), "token of version %d cut at %d", version, n)
		}
		words := []word{{0x34, 4, false}, {0x38, 8, false}, {0x40, 8, false}, {0x48, 4, false}, {0x50, 8, false}, {0x58, 8, false}}
		if version == 1 {
			words = []word{{0x10, 4, false}, {0x30, 4, false}, {0x34, 4, false}, {0x4E8, 8, false}, {0x4F0, 4, false}}
		}
		for _, w := range words {
			bendWord(token, w.at, w.width, func(token []byte, n uint64) {
				give(files(token), "token of version %d, %#x=%#x", version, w.at, n)
			})
		}
	}
}

// segments bends what the files of a split image say of each other.
func (b *bender) segments() {
	l, err := Build(Random(7, 24*SectorSize).Bytes(), Options{Codecs: []Method{Raw, Zlib}, ChunkSectors: 2})
	must(err)
	files := l.Segments(4096)
	give := func(bent [][]byte, name string, args ...any) {
		if len(bent) > 0 {
			b.giveFiles(bent[0], bent[1:], name, args...)
		}
	}
	for i, file := range files {
		koly := len(file) - KolyLen
		with := func(koly []byte, what string) {
			bent := slices.Clone(files)
			bent[i] = append(bytes.Clone(file[:len(file)-KolyLen]), koly...)
			give(bent, "file %d, %s", i+1, what)
		}
		var k Koly
		_, err := binary.Decode(file[koly:], binary.BigEndian, &k)
		must(err)
		bend(&k, func(what string) { with(k.Bytes(), what) })
		for _, p := range [][2]word{
			{{0x10, 8, false}, {0x20, 8, false}}, // running offset, data length
			{{0x18, 8, false}, {0x20, 8, false}}, // data offset, length
			{{0x10, 8, false}, {0x18, 8, false}},
			{{0x38, 4, false}, {0x3C, 4, false}}, // number, count
		} {
			bendPair(file[koly:], p[0], p[1], with)
		}
		give(slices.Delete(slices.Clone(files), i, i+1), "without file %d", i+1)
		bent := slices.Clone(files)
		bent[i] = files[(i+1)%len(files)]
		give(bent, "file %d is the next", i+1)
		bent[i] = nil
		give(bent, "file %d is empty", i+1)
		bent[i] = file[:len(file)/2]
		give(bent, "file %d is cut", i+1)
		bent[i] = file[koly:]
		give(bent, "file %d has no data", i+1)
	}
	slices.Reverse(files[1:])
	give(files, "backwards")
}

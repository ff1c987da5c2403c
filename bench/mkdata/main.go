// Command mkdata makes what bench/run measures with: compressed streams, and
// disk images of one and the same disk. What exists already is left alone.
//
// Encoders are the programs that everybody has (zlib's by way of pigz, bzip2,
// xz), because their streams are the usual ones; where a program is missing a
// Go encoder stands in, and the list on standard output says so.
package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

const (
	textSize    = 8 << 20
	englishSize = 60 << 20
	noiseSize   = 32 << 20
	zeroSize    = 128 << 20
	largeSize   = 1 << 30
)

// A file is one of bench/work and how it is made.
type file struct {
	name  string
	make  func() ([]byte, error)
	about string
	large bool
}

// A maker makes files in a directory, of the Go tree at goroot.
type maker struct {
	dir, goroot string
	made        map[string]bool // by this run
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("mkdata: ")
	dir := flag.String("dir", "bench/work", "where the files go; corpus.raw is there")
	goroot := flag.String("goroot", "", "the Go tree that the text is of")
	large := flag.Bool("large", false, "the images of 1 GiB too")
	flag.Parse()
	m := &maker{*dir, *goroot, make(map[string]bool)}
	for _, f := range m.files() {
		if f.large && !*large {
			continue
		}
		size, err := m.provide(f)
		if err != nil {
			log.Fatalf("%s: %v", f.name, err)
		}
		fmt.Printf("| %s | %d | %s |\n", f.name, size, m.about(f))
	}
}

// files lists what is to be made, what depends on others after them.
func (m *maker) files() []file {
	const mib = 1 << 20 / dmgtest.SectorSize
	zlib, bzip2, xz := encoderOf(dmgtest.Zlib), encoderOf(dmgtest.Bzip2), encoderOf(dmgtest.LZMA)
	lzfse := encoderOf(dmgtest.LZFSE)
	return []file{
		{name: "text.raw", make: m.text, about: "English: the comments and documents of the Go tree, without markup and repetitions"},
		{name: "english.raw", make: m.english, about: "text.raw again and again; no bzip2 block reaches from one copy to the next"},
		{name: "noise.raw", make: noise, about: "random bytes"},
		{name: "zeros.raw", make: func() ([]byte, error) { return make([]byte, zeroSize), nil }, about: "zeros"},
		{name: "corpus.zlib", make: m.compress(zlib, "corpus.raw"), about: zlib.about},
		{name: "text.zlib", make: m.compress(zlib, "text.raw"), about: zlib.about},
		{name: "noise.zlib", make: m.compress(zlib, "noise.raw"), about: zlib.about},
		{name: "zeros.zlib", make: m.compress(zlib, "zeros.raw"), about: zlib.about},
		{name: "corpus.gz", make: m.gzip("corpus"), about: "the same DEFLATE stream with gzip's header and trailer"},
		{name: "text.gz", make: m.gzip("text"), about: "likewise"},
		{name: "noise.gz", make: m.gzip("noise"), about: "likewise"},
		{name: "zeros.gz", make: m.gzip("zeros"), about: "likewise"},
		{name: "corpus.bz2", make: m.compress(bzip2, "corpus.raw"), about: bzip2.about},
		{name: "english.bz2", make: m.compress(bzip2, "english.raw"), about: bzip2.about},
		{name: "zbig.dmg", make: m.single(zlib, "corpus.zlib"), about: "corpus.zlib as ONE chunk"},
		{name: "bbig.dmg", make: m.single(bzip2, "corpus.bz2"), about: "corpus.bz2 as ONE chunk"},
		{name: "z1m.dmg", make: m.chunked(zlib, mib), about: "chunks of 1 MiB: " + zlib.about},
		{name: "b1m.dmg", make: m.chunked(bzip2, mib), about: "chunks of 1 MiB: " + bzip2.about},
		{name: "lzfse1m.dmg", make: m.chunked(lzfse, mib), about: "chunks of 1 MiB: " + lzfse.about},
		{name: "lzma1m.dmg", make: m.chunked(xz, mib), about: "chunks of 1 MiB: " + xz.about},
		{name: "zbig1g.dmg", make: m.large(zlib), about: "corpus.raw repeated up to 1 GiB, as ONE chunk: " + zlib.about, large: true},
		{name: "bbig1g.dmg", make: m.large(bzip2), about: "the same: " + bzip2.about, large: true},
	}
}

// provide makes the file unless it is there, and returns its size. It never
// leaves half a file under the name.
func (m *maker) provide(f file) (int64, error) {
	name := m.path(f.name)
	if st, err := os.Stat(name); err == nil {
		return st.Size(), nil
	}
	log.Printf("making %s", f.name)
	m.made[f.name] = true
	data, err := f.make()
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(name+".part", data, 0o666); err != nil {
		return 0, err
	}
	return int64(len(data)), os.Rename(name+".part", name)
}

// about says how the file was made: as an earlier run says, which may have had
// other encoders, or as this one does.
func (m *maker) about(f file) string {
	list, _ := os.ReadFile(m.path("files.md"))
	for line := range strings.Lines(string(list)) {
		if cells := strings.Split(line, " | "); len(cells) == 3 && cells[0] == "| "+f.name && !m.made[f.name] {
			return strings.TrimSuffix(cells[2], " |\n")
		}
	}
	return f.about
}

func (m *maker) path(name string) string { return filepath.Join(m.dir, name) }

func (m *maker) read(name string) ([]byte, error) { return os.ReadFile(m.path(name)) }

// english is text.raw up to a size that bzip2 works at for seconds.
func (m *maker) english() ([]byte, error) {
	text, err := m.read("text.raw")
	if err != nil {
		return nil, err
	}
	return repeat(text, englishSize), nil
}

// repeat returns size bytes of data again and again. Neither DEFLATE's window
// nor a bzip2 block is as long as what is repeated here, so that the copies
// decode as different data would.
func repeat(data []byte, size int) []byte {
	return bytes.Repeat(data, size/len(data)+1)[:size]
}

// noise is data that no encoder makes smaller.
func noise() ([]byte, error) {
	p := make([]byte, noiseSize)
	rand.NewChaCha8([32]byte([]byte("bytes without any order in them."))).Read(p)
	return p, nil
}

// compress makes the stream of a file.
func (m *maker) compress(e encoder, name string) func() ([]byte, error) {
	return func() ([]byte, error) {
		data, err := m.read(name)
		if err != nil {
			return nil, err
		}
		return e.encode(data)
	}
}

// gzip puts the DEFLATE stream of a zlib stream into a gzip file (RFC 1952), so
// that programs which read only those decode the same stream.
func (m *maker) gzip(name string) func() ([]byte, error) {
	return func() ([]byte, error) {
		raw, err := m.read(name + ".raw")
		if err != nil {
			return nil, err
		}
		z, err := m.read(name + ".zlib")
		if err != nil {
			return nil, err
		}
		gz := []byte{0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF} // no time, unknown system
		gz = append(gz, z[2:len(z)-4]...)
		gz = binary.LittleEndian.AppendUint32(gz, crc32.ChecksumIEEE(raw))
		return binary.LittleEndian.AppendUint32(gz, uint32(len(raw))), nil
	}
}

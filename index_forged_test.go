package dmg

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// tryIndex reads the disk through an image that is given an index, if it is
// taken, from many places. It fails the test for wrong bytes, and for an error
// of another class than ErrIndex.
func tryIndex(t *testing.T, image, index, disk []byte) (taken bool) {
	t.Helper()
	ix, err := ReadIndex(bytes.NewReader(index))
	if err == nil {
		var im *Image
		if im, err = NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix}); err == nil {
			for off := int64(len(disk)) - 10; err == nil && off > 0; off -= int64(len(disk)) / 40 {
				p := make([]byte, 10)
				if _, err = im.ReadAt(p, off); err == nil && !bytes.Equal(p, disk[off:][:len(p)]) {
					t.Errorf("wrong bytes at %d", off)
				}
			}
			taken = err == nil
		}
	}
	if err != nil && !errors.Is(err, ErrIndex) {
		t.Errorf("%v, want ErrIndex", err)
	}
	return taken
}

func TestIndexMutated(t *testing.T) {
	dmgtest.NotRaced(t)
	dmgtest.Long(t)
	t.Parallel()
	disk := indexDisk()
	for _, tt := range indexImages[:4] {
		t.Run(tt.name, func(t *testing.T) {
			image := dmgtest.Image(t, disk, tt.o)
			index := builtIndex(t, image, disk)
			if !tryIndex(t, image, index, disk) {
				t.Fatal("the whole index is refused")
			}
			rng := rand.New(rand.NewPCG(5, 6))
			for range 200 {
				bad := mutate(rng, index)
				if tryIndex(t, image, bad, disk) && !bytes.Equal(bad, index) {
					t.Fatal("a changed index is taken")
				}
			}
		})
	}
}

// mutate returns b with one to four changes.
func mutate(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(4) {
		if len(b) == 0 {
			break
		}
		i := rng.IntN(len(b))
		n := min(1+rng.IntN(40), len(b)-i)
		switch rng.IntN(5) {
		case 0:
			b[i] ^= 1 << rng.IntN(8)
		case 1:
			b[i] = byte(rng.Uint32())
		case 2:
			b = slices.Delete(b, i, i+n)
		case 3:
			b = slices.Insert(b, i, b[i:i+n]...)
		case 4:
			clear(b[i : i+n])
		}
	}
	return b
}

func TestIndexCutShort(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	disk := dmgtest.Text(1, 600<<10).Bytes()
	image := dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2}, ChunkSectors: 600})
	index := builtIndex(t, image, disk)
	if n := binary.BigEndian.Uint64(index[indexCount:]); n < 2 {
		t.Fatalf("%d checkpoints", n)
	}
	for n := range index {
		if _, err := ReadIndex(bytes.NewReader(index[:n])); !errors.Is(err, ErrIndex) {
			t.Fatalf("the first %d bytes of %d: %v, want ErrIndex", n, len(index), err)
		}
		// Nor is it taken when the checksum is right.
		if n < indexHeader || n%11 != 0 || n == len(index)-sha256.Size {
			continue
		}
		ix := readIndex(t, seal(bytes.Clone(index[:n])))
		if _, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix}); !errors.Is(err, ErrIndex) {
			t.Fatalf("the first %d bytes of %d with a checksum: %v, want ErrIndex", n, len(index), err)
		}
	}
	if _, err := ReadIndex(bytes.NewReader(append(bytes.Clone(index), 0))); !errors.Is(err, ErrIndex) {
		t.Errorf("a byte more: %v, want ErrIndex", err)
	}
}

// seal appends the checksum.
func seal(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(body, sum[:]...)
}

func TestIndexOfAnotherImage(t *testing.T) {
	dmgtest.NotRaced(t)
	t.Parallel()
	disk := dmgtest.Join(dmgtest.Text(6, 800<<10), dmgtest.Random(7, 5000)).Bytes()
	changed := bytes.Clone(disk)
	changed[len(changed)-100] ^= 1 // in random bytes: the streams stay as long
	bend := func(f func(l *dmgtest.Layout)) []byte {
		l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: 512})
		if err != nil {
			t.Fatal(err)
		}
		f(l)
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
		return l.Bytes()
	}
	noSums := dmgtest.Options{DataSum: dmgtest.NoSum, TableSum: dmgtest.NoSum, MasterSum: dmgtest.NoSum}
	image := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 512})
	raw := make([]byte, 1<<20)
	copy(raw[510:], "\x55\xAA")
	for _, tt := range []struct {
		name       string
		image, own []byte
	}{
		{"other content", dmgtest.Image(t, changed, dmgtest.Options{ChunkSectors: 512}), image},
		{"other content, no checksums", dmgtest.Image(t, changed, noSums), dmgtest.Image(t, disk, noSums)},
		{"other chunks", dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 511}), image},
		{"other level", dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 512, Level: 1}), image},
		{"other order", dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 512, Shuffle: true, Seed: 3}), image},
		{"other name", bend(func(l *dmgtest.Layout) { l.Tables[0].Name += "x" }), image},
		{"other sum of a table", bend(func(l *dmgtest.Layout) { l.Tables[0].Checksum.Data[0]++ }), image},
		{"other place of a chunk", bend(func(l *dmgtest.Layout) { l.Tables[0].Chunks[1].Offset-- }), image},
		{"other method of a chunk", bend(func(l *dmgtest.Layout) { l.Tables[0].Chunks[1].Method = dmgtest.Raw }), image},
		{"other segment id", bend(func(l *dmgtest.Layout) { l.Koly.SegmentID[3]++ }), image},
		{"a tail", append(bytes.Clone(image), 1, 2, 3), image},
		{"a raw disk", raw, image},
	} {
		t.Run(tt.name, func(t *testing.T) {
			index := builtIndex(t, tt.own, disk)
			if !tryIndex(t, tt.own, index, disk) {
				t.Fatal("its own index is refused")
			}
			if bytes.Equal(tt.image, tt.own) {
				t.Fatal("no other image")
			}
			_, err := NewImage(bytes.NewReader(tt.image), int64(len(tt.image)), &Options{Index: readIndex(t, index)})
			if !errors.Is(err, ErrIndex) {
				t.Errorf("%v, want ErrIndex", err)
			}
		})
	}
}

// forged is an index that can say anything and have the right checksum.
type forged struct {
	id        []byte
	count     uint64
	directory []byte
	groups    []byte
}

func (f *forged) file() []byte {
	b := binary.BigEndian.AppendUint32([]byte(indexMagic), indexVersion)
	b = binary.BigEndian.AppendUint64(append(b, f.id...), f.count)
	directory := storedStream(f.directory)
	b = binary.BigEndian.AppendUint64(b, uint64(len(directory)))
	return seal(append(append(b, directory...), f.groups...))
}

// add adds a group of checkpoints.
func (f *forged) add(points uint64, entries []byte, parts [numParts][]byte) {
	var group []byte
	for _, part := range parts[:numParts-1] {
		group = binary.AppendUvarint(group, uint64(len(part)))
	}
	group = append(group, storedStream(bytes.Join(parts[:], nil))...)
	f.directory = binary.AppendUvarint(f.directory, points)
	f.directory = binary.AppendUvarint(f.directory, uint64(len(group)))
	f.directory = append(f.directory, entries...)
	f.groups = append(f.groups, group...)
}

// storedStream is a DEFLATE stream of stored blocks (RFC 1951, section 3.2.4),
// which fuzzing has no time to compress.
func storedStream(p []byte) []byte {
	const most = 1<<16 - 1
	var b []byte
	for last := false; !last; {
		n := min(most, len(p))
		last = n == len(p)
		header := byte(0)
		if last {
			header = 1
		}
		b = append(b, header)
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(n))
		b = append(b, p[:n]...)
		p = p[n:]
	}
	return b
}

// inflated decompresses a DEFLATE stream.
func inflated(t testing.TB, b []byte) []byte {
	t.Helper()
	p, err := io.ReadAll(flate.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unforged takes an index apart.
func unforged(t testing.TB, index []byte) *forged {
	t.Helper()
	n := binary.BigEndian.Uint64(index[indexDirectory:])
	b := index[indexHeader : len(index)-sha256.Size]
	return &forged{
		id:        index[indexIdentity:indexCount],
		count:     binary.BigEndian.Uint64(index[indexCount:]),
		directory: inflated(t, b[:n]),
		groups:    b[n:],
	}
}

// soleGroup takes the group of an index apart that has one: what the directory
// says of its checkpoints, and its parts.
func soleGroup(t testing.TB, f *forged) (entries []byte, parts [numParts][]byte) {
	t.Helper()
	_, n := binary.Uvarint(f.directory)
	length, k := binary.Uvarint(f.directory[n:])
	if length != uint64(len(f.groups)) {
		t.Fatal("not one group")
	}
	group := f.groups
	var lengths []uint64
	for range numParts - 1 {
		v, n := binary.Uvarint(group)
		lengths, group = append(lengths, v), group[n:]
	}
	raw := inflated(t, group)
	for i, n := range lengths {
		parts[i], raw = raw[:n], raw[n:]
	}
	parts[numParts-1] = raw
	return f.directory[n+k:], parts
}

// A test of an index of two chunks that have checkpoints and a third that has
// none. It is refused when the image is opened, or by the read that wants the
// checkpoint, or taken.
type verdict int

const (
	taken verdict = iota
	atOpen
	atRead
)

// What an index says is checked although its checksum is right.
func TestIndexForged(t *testing.T) {
	t.Parallel()
	disk := indexDisk()
	image := dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2, dmgtest.Raw}, ChunkSectors: 3000})
	index := builtIndex(t, image, disk)
	id := index[indexIdentity:indexCount]
	if whole := unforged(t, index); !tryIndex(t, image, whole.file(), disk) {
		t.Fatal("the index is refused when it is put together again")
	}
	numbers := func(v ...uint64) (b []byte) {
		for _, n := range v {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	cat := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	one := func(entries []byte, parts ...[]byte) (f forged) {
		f.count = 1
		f.add(1, entries, [numParts][]byte(append(parts, make([][]byte, numParts-len(parts))...)))
		return f
	}
	const zlibChunk, bzip2Chunk, rawChunk = 0, 1, 2
	// A checkpoint before a block at byte 64 KiB of chunk 0.
	at := numbers(zlibChunk, minSpacing, 40, 1)
	state := func(runs ...byte) []byte { return append([]byte{1, 0}, runs...) }
	good := one(at, state(0))
	// A block at byte 5 of chunk 1.
	block := func(cursors uint64) []byte { return numbers(bzip2Chunk, 5, 256, cursors) }
	point := []byte{9, 0, 0, 0, 0}
	changed := func(f forged, change func(f *forged)) forged {
		f.directory, f.groups = bytes.Clone(f.directory), bytes.Clone(f.groups)
		change(&f)
		return f
	}
	for _, tt := range []struct {
		name string
		f    forged
		want verdict
	}{
		{"none", forged{}, taken},
		{"one", good, taken},
		{"one block", one(block(0), point), taken},
		{"a count too high", changed(good, func(f *forged) { f.count = 2 }), atOpen},
		{"a count far too high", changed(good, func(f *forged) { f.count = 1<<64 - 1 }), atOpen},
		{"a count too low", changed(good, func(f *forged) { f.count = 0 }), atOpen},
		{"bytes behind the directory", changed(good, func(f *forged) { f.directory = append(f.directory, 0) }), atOpen},
		{"bytes behind the groups", changed(good, func(f *forged) { f.groups = append(f.groups, 0) }), atOpen},
		{"a group cut", changed(good, func(f *forged) { f.groups = f.groups[1:] }), atOpen},
		{"a group of none", changed(good, func(f *forged) { f.directory = numbers(0, uint64(len(f.groups))) }), atOpen},
		{"a group of too many", changed(good, func(f *forged) { f.count, f.directory[0] = 100, groupPoints+1 }), atOpen},
		{"a group without data", changed(good, func(f *forged) { f.directory[1], f.groups = 0, nil }), atRead},
		{"no such chunk", one(numbers(3, minSpacing, 40), state(0)), atOpen},
		{"chunk of 70 bits", one(bytes.Repeat([]byte{0xFF}, 10), state(0)), atOpen},
		{"chunk without checkpoints", one(numbers(rawChunk, minSpacing, 40), state(0)), atOpen},
		{"past the chunk's end", one(numbers(zlibChunk, 3000*sectorSize, 40), state(0)), atOpen},
		{"at the chunk's start", one(numbers(zlibChunk, 0, 40), state(0)), atOpen},
		{"at an odd byte", one(numbers(zlibChunk, minSpacing+5, 40), state(0)), atOpen},
		{"past the data", one(numbers(zlibChunk, minSpacing, 1<<40), state(0)), atOpen},
		{"far past the data", one(numbers(zlibChunk, minSpacing, 1<<63-1), state(0)), atOpen},
		{"a block past the data", one(numbers(bzip2Chunk, 5, 9<<32, 0), point), atOpen},
		{"the same place twice", func() (f forged) {
			f.count = 2
			f.add(2, cat(at, numbers(0, 0, 0)), [numParts][]byte{cat(state(0), state(0))})
			return f
		}(), atOpen},
		{"one less than the group says", func() (f forged) {
			f.count = 2
			f.add(2, cat(at, numbers(0, minSpacing, 0, 1)), [numParts][]byte{state(0)})
			return f
		}(), atRead},
		{"no state", one(at), atRead},
		{"a state without flags", one(at, []byte{0, 0}), atRead},
		{"a long state", one(at, []byte{3, 0, 0, 0, 0}), atRead},
		{"a sum of 33 bits", one(numbers(zlibChunk, minSpacing, 40, 1<<32), state(0)), atOpen},
		{"no sum", one(numbers(zlibChunk, minSpacing, 40), state(0)), atOpen},
		{"a state of 2 KiB", one(at, cat([]byte{0x80, 0x10}, make([]byte, 3000))), atRead},
		{"a state of no kind", one(at, []byte{1, 0xFF, 0}), atRead},
		{"more states", one(at, cat(state(0), state(0))), atRead},
		{"literals left over", one(at, state(0), nil, nil, []byte{1}), atRead},
		{"a run without bytes", one(at, state(1), []byte{0}, []byte{1}), atRead},
		{"a window too long", one(at, state(2), []byte{0, 1}, numbers(32<<10, 0), make([]byte, 33<<10)), atRead},
		{"a group too large", one(at, state(0), nil, nil, make([]byte, 1<<20)), atRead},
		{"no block", one(block(0), []byte{10, 0, 0, 0, 0}), atRead},
		{"a cursor elsewhere", one(block(1), cat(point, make([]byte, cursorLen))), atRead},
		{"cursors cut", one(block(2), cat(point, make([]byte, cursorLen))), atRead},
		{"too many cursors", one(block(16383), cat(point, make([]byte, 16383*cursorLen))), atOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.f.id = id
			ix := readIndex(t, tt.f.file())
			got := taken
			im, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix})
			if err != nil {
				got = atOpen
			} else {
				for chunk, points := range places(im) {
					for _, off := range points {
						if _, _, e := im.store.record(nil, chunk, off); e != nil {
							got, err = atRead, e
						}
					}
				}
			}
			if got != tt.want || err != nil && !errors.Is(err, ErrIndex) {
				t.Errorf("%v, %v, want %v", got, err, tt.want)
			}
			// Where there is no memory to keep it packed all is noticed at once.
			_, err = NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix, MemoryLimit: 700 << 10})
			if (err == nil) != (tt.want == taken) || err != nil && !errors.Is(err, ErrIndex) {
				t.Errorf("in little memory: %v, want %v", err, tt.want)
			}
		})
	}
}

// A header that is wrong, though its checksum is right.
func TestIndexHeader(t *testing.T) {
	disk := dmgtest.Text(1, 300<<10).Bytes()
	image := dmgtest.Image(t, disk, dmgtest.Options{})
	index := builtIndex(t, image, disk)
	for _, tt := range []struct {
		name string
		at   int
	}{
		{"magic", 3},
		{"version", len(indexMagic) + 3},
		{"identity", indexIdentity},
		{"count", indexCount + 7},
		{"length of the directory", indexHeader - 1},
		{"huge directory", indexHeader - 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(index[:len(index)-sha256.Size])
			b[tt.at] ^= 0x80
			if tryIndex(t, image, seal(b), disk) {
				t.Error("it is taken")
			}
		})
	}
	if _, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: new(Index)}); !errors.Is(err, ErrIndex) {
		t.Errorf("the zero Index: %v, want ErrIndex", err)
	}
	if _, err := new(Index).WriteTo(io.Discard); !errors.Is(err, ErrIndex) {
		t.Errorf("WriteTo of the zero Index: %v, want ErrIndex", err)
	}
	if n := new(Index).Len(); n != 0 {
		t.Errorf("Len of the zero Index is %d", n)
	}
}

// An index costs what its file says, not what its numbers say.
func TestReadIndexBounded(t *testing.T) {
	dmgtest.Long(t) // reads 256 MiB
	endless := io.MultiReader(bytes.NewReader([]byte(indexMagic)), io.LimitReader(zeroReader{}, 1<<40))
	if _, err := ReadIndex(endless); !errors.Is(err, ErrIndex) {
		t.Errorf("an endless file: %v, want ErrIndex", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

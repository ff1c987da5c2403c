package imagetest

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// faultCodecs are the ways in which chunks are stored. A new codec joins the tests of
// damage and of faulty sources by a row.
var faultCodecs = []struct {
	method   dmgtest.Method
	compress func(t *testing.T, b []byte) []byte // nil: dmgtest's
	summed   bool                                // the stream has a checksum of its own
}{
	{dmgtest.Raw, func(_ *testing.T, b []byte) []byte { return b }, false},
	{dmgtest.ADC, nil, false},
	{dmgtest.Zlib, nil, true},
	{dmgtest.Bzip2, nil, true},
	{dmgtest.LZFSE, nil, false},
	{dmgtest.LZMA, xzSummed, true},
}

// xzSummed makes an .xz file with a checksum, as xz does and hdiutil doesn't.
func xzSummed(t *testing.T, b []byte) []byte {
	var z bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 20, CheckSum: xz.CRC32}.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// A faultImage is an image of one codec.
type faultImage struct {
	disk, file []byte
	data       [2]int // the stored chunks in file
}

// newFaultImage stores disk in chunks, with a table checksum if summed.
func newFaultImage(t *testing.T, codec int, disk []byte, chunk int, summed bool) faultImage {
	t.Helper()
	c := &faultCodecs[codec]
	return storeFaultImage(t, c.method, c.compress, disk, chunk, summed)
}

// storeFaultImage is newFaultImage of a method, with that compression.
func storeFaultImage(t *testing.T, method dmgtest.Method, compress func(t *testing.T, b []byte) []byte, disk []byte, chunk int, summed bool) faultImage {
	t.Helper()
	l := &dmgtest.Layout{Koly: dmgtest.NewKoly()}
	var chunks []dmgtest.Chunk
	for at := 0; at < len(disk); at += chunk {
		b := disk[at:min(len(disk), at+chunk)]
		var z []byte
		if compress != nil {
			z = compress(t, b)
		} else {
			var err error
			if z, err = dmgtest.Compress(method, 1, b); err != nil {
				t.Fatal(err)
			}
		}
		chunks = append(chunks, dmgtest.Chunk{Method: method, Sector: uint64(at / 512), Sectors: uint64(len(b) / 512), Offset: uint64(len(l.Data)), Length: uint64(len(z))})
		l.Data = append(l.Data, z...)
	}
	table := dmgtest.NewTable("disk", 0, int64(len(disk)/512), chunks...)
	if summed {
		table.Checksum, _ = dmgtest.Sum(dmgtest.CRC32, disk)
	}
	l.Tables = []dmgtest.Table{table}
	l.Koly.Sectors = uint64(len(disk) / 512)
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	file := l.Bytes()
	at := bytes.Index(file, l.Data)
	return faultImage{disk, file, [2]int{at, at + len(l.Data)}}
}

func openBytes(t *testing.T, b []byte, ix *dmg.Index) *dmg.Image {
	t.Helper()
	im, err := dmg.NewImage(bytes.NewReader(b), int64(len(b)), &dmg.Options{Index: ix})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// readWays are the ways to all of the disk's bytes. Each returns what it got, and the
// first error: then the bytes before are those of the disk.
var readWays = []struct {
	name   string
	whole  bool // compares the checksums of tables
	proved bool // what comes before an error is right
	read   func(im *dmg.Image, size int) ([]byte, error)
}{
	{"ReadAt", false, true, func(im *dmg.Image, size int) ([]byte, error) { return readBy(im, size, size) }},
	{"ReadAt by 4 KiB", false, false, func(im *dmg.Image, size int) ([]byte, error) { return readBy(im, size, 4096) }},
	{"ReadAt from the middle", false, false, func(im *dmg.Image, size int) ([]byte, error) {
		p := make([]byte, size)
		if n, err := im.ReadAt(p[size/2:], int64(size/2)); err != nil && (err != io.EOF || n < size-size/2) {
			return nil, err
		}
		n, err := im.ReadAt(p[:size/2], 0)
		if err != nil {
			return p[:n], err
		}
		return p, nil
	}},
	{"WriteTo", true, false, func(im *dmg.Image, size int) ([]byte, error) {
		var b bytes.Buffer
		_, err := im.WriteTo(&b)
		return b.Bytes(), err
	}},
	{"Extract", true, false, func(im *dmg.Image, size int) ([]byte, error) {
		b := make(sheet, size)
		err := im.Extract(context.Background(), b, nil)
		return b, err
	}},
	{"Verify", true, false, func(im *dmg.Image, size int) ([]byte, error) {
		if err := im.Verify(context.Background(), nil); err != nil {
			return nil, err
		}
		return readBy(im, size, size)
	}},
}

func readBy(im *dmg.Image, size, step int) ([]byte, error) {
	p := make([]byte, size)
	for at := 0; at < size; {
		n, err := im.ReadAt(p[at:min(size, at+step)], int64(at))
		at += n
		if err == io.EOF && at == size {
			err = nil
		}
		if err != nil {
			return p[:at], err
		}
	}
	return p, nil
}

// R9: of any flipped bit, in any codec with a checksum and by any way to the data,
// none goes unnoticed; and no read counts a wrong byte before its error.
func TestFlippedBits(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	t.Parallel()
	disk := dmgtest.Mixed(3, 256<<10).Bytes()
	for codec, row := range faultCodecs {
		for _, chunk := range []int{len(disk), 32 << 10} {
			for _, tables := range []bool{false, true} {
				if !row.summed && !tables {
					continue // nothing can tell
				}
				t.Run(fmt.Sprintf("%v/chunks of %d/table sums %v", row.method, chunk, tables), func(t *testing.T) {
					t.Parallel()
					fi := newFaultImage(t, codec, disk, chunk, tables)
					good := openBytes(t, fi.file, nil)
					if err := good.BuildIndex(context.Background(), nil); err != nil {
						t.Fatal(err)
					}
					ix := mustIndex(t, good)
					rng := rand.New(rand.NewPCG(uint64(codec), uint64(chunk)))
					for range dmgtest.Times(2000, 40, 1) {
						bit := fi.data[0]*8 + rng.IntN((fi.data[1]-fi.data[0])*8)
						bad := bytes.Clone(fi.file)
						bad[bit/8] ^= 1 << (bit % 8)
						checkFlip(t, fi.disk, bad, bit, ix, row.summed)
					}
				})
			}
		}
	}
}

// R9 in chunks in which reads resume: of .xz blocks the check is compared, of LZFSE and ADC
// the table's.
func TestFlippedBitsResumed(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	t.Parallel()
	disk := dmgtest.Mixed(3, 2560<<10).Bytes()
	for codec, row := range faultCodecs {
		switch row.method {
		case dmgtest.ADC, dmgtest.LZFSE, dmgtest.LZMA:
		default:
			continue
		}
		t.Run(fmt.Sprint(row.method), func(t *testing.T) {
			t.Parallel()
			if row.method == dmgtest.LZMA {
				row.compress = xzBlocks
			}
			fi := storeFaultImage(t, row.method, row.compress, disk, len(disk), !row.summed)
			good := openBytes(t, fi.file, nil)
			if err := good.BuildIndex(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			ix := mustIndex(t, good)
			if ix.Len() == 0 {
				t.Fatal("no checkpoints")
			}
			rng := rand.New(rand.NewPCG(uint64(codec), 9))
			for range dmgtest.Times(200, 4, 1) {
				bit := fi.data[0]*8 + rng.IntN((fi.data[1]-fi.data[0])*8)
				bad := bytes.Clone(fi.file)
				bad[bit/8] ^= 1 << (bit % 8)
				checkFlip(t, fi.disk, bad, bit, ix, row.summed)
			}
		})
	}
}

// xzBlocks makes an .xz file of blocks with checksums.
func xzBlocks(t *testing.T, b []byte) []byte {
	var z bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 64 << 10, CheckSum: xz.CRC64, BlockSize: 300_000}.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// checkFlip reads an image with a flipped bit by all ways, cold, warm, and with an
// index that was made before or after the damage.
func checkFlip(t *testing.T, disk, bad []byte, bit int, before *dmg.Index, summed bool) {
	t.Helper()
	own := openBytes(t, bad, nil)
	if err := own.BuildIndex(context.Background(), nil); err != nil {
		t.Fatalf("bit %d: BuildIndex: %v", bit, err)
	}
	for _, ix := range []*dmg.Index{nil, before, mustIndex(t, own)} {
		for _, way := range readWays {
			if !summed && !way.whole {
				continue
			}
			im, err := dmg.NewImage(bytes.NewReader(bad), int64(len(bad)), &dmg.Options{Index: ix})
			if errors.Is(err, dmg.ErrIndex) {
				break // the damage is where the index looks
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got, err := way.read(im, len(disk))
				if err == nil && !bytes.Equal(got, disk) {
					t.Fatalf("bit %d: %s: wrong bytes without an error", bit, way.name)
				}
				if err != nil && way.proved && !bytes.Equal(got, disk[:len(got)]) {
					t.Fatalf("bit %d: %s: wrong bytes before the error", bit, way.name)
				}
			}
		}
	}
}

func mustIndex(t *testing.T, im *dmg.Image) *dmg.Index {
	t.Helper()
	var b bytes.Buffer
	if ix, err := im.Index(); err != nil {
		t.Fatal(err)
	} else if _, err := ix.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	ix, err := dmg.ReadIndex(&b)
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// errLink is the error of a faulty source.
var errLink = errors.New("the link is down")

// A faultySource fails one call, in a way of its own.
type faultySource struct {
	file []byte
	kind int
	at   atomic.Int64 // calls until the faulty one; below 0: none
}

var faultKinds = []string{"no bytes", "half", "garbage", "all but one", "short without an error", "all of it"}

func (s *faultySource) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(s.file).ReadAt(p, off)
	if s.at.Add(-1) != 0 {
		return n, err
	}
	switch faultKinds[s.kind] {
	case "half":
		return n / 2, errLink
	case "garbage":
		for i := range p {
			p[i] = byte(i * 151)
		}
		return n / 2, errLink
	case "all but one":
		return max(0, n-1), errLink
	case "short without an error":
		return n / 2, nil
	case "all of it":
		return n, errLink
	}
	return 0, errLink
}

// R8: a source that fails once, at any call and in any way, costs an error at most. No
// wrong byte is read without one, and afterwards all is as it was.
func TestFaultySource(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	t.Parallel()
	disk := dmgtest.Mixed(5, int64(dmgtest.Times(512<<10, 512<<10, 128<<10))).Bytes()
	for codec, row := range faultCodecs {
		for _, chunk := range []int{len(disk), len(disk) / 8} {
			plain := newFaultImage(t, codec, disk, chunk, true)
			for _, password := range []string{"", "secret"} {
				file := plain.file
				if password != "" {
					file = dmgtest.Encryption{Password: password, BlockSize: 512}.Image(file)
				}
				t.Run(fmt.Sprintf("%v/chunks of %d/encrypted %v", row.method, chunk, password != ""), func(t *testing.T) {
					t.Parallel()
					for kind := range faultKinds {
						for w := range readWays {
							if dmgtest.Part() && (kind+w+codec+len(password))%len(faultKinds) != 0 {
								continue // the other codecs meet it
							}
							for k := int64(1); k < 200; k += 1 + k/int64(dmgtest.Times(40, 3, 1)) {
								if !readFaulty(t, file, disk, password, kind, w, k) {
									break
								}
							}
						}
					}
				})
			}
		}
	}
}

// readFaulty reads an image whose source fails at the k-th call after it was opened. It
// returns false if there are less.
func readFaulty(t *testing.T, file, disk []byte, password string, kind, way int, k int64) bool {
	t.Helper()
	src := &faultySource{file: file, kind: kind}
	im, err := dmg.NewImage(src, int64(len(file)), &dmg.Options{Password: password})
	if err != nil {
		t.Fatal(err)
	}
	src.at.Store(k)
	w := &readWays[way]
	name := fmt.Sprintf("%s, call %d gives %s", w.name, k, faultKinds[kind])
	got, err := w.read(im, len(disk))
	failed := src.at.Load() <= 0
	src.at.Store(-1)
	switch {
	case err == nil && !bytes.Equal(got, disk):
		t.Fatalf("%s: wrong bytes without an error", name)
	case err != nil && !errors.Is(err, errLink) && !(errors.Is(err, io.ErrNoProgress) && faultKinds[kind] == "short without an error"):
		t.Fatalf("%s: %v, want the source's error", name, err)
	case err != nil && w.proved && faultKinds[kind] != "garbage" && !bytes.Equal(got, disk[:len(got)]):
		t.Fatalf("%s: wrong bytes before the error", name)
	}
	for range 2 {
		for _, w := range readWays {
			if got, err := w.read(im, len(disk)); err != nil || !bytes.Equal(got, disk) {
				t.Fatalf("%s; then %s: %v, right: %v", name, w.name, err, bytes.Equal(got, disk))
			}
		}
	}
	return failed
}

// R10: after any damage, Extract writes all that decodes, and lists what is lost or
// doubtful: all other bytes are right.
func TestRandomDamage(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	t.Parallel()
	disk := dmgtest.Mixed(7, 1<<20).Bytes()
	for codec, row := range faultCodecs {
		for _, chunk := range []int{len(disk), 128 << 10} {
			t.Run(fmt.Sprintf("%v/chunks of %d", row.method, chunk), func(t *testing.T) {
				t.Parallel()
				fi := newFaultImage(t, codec, disk, chunk, true)
				good := openBytes(t, fi.file, nil)
				if err := good.BuildIndex(context.Background(), nil); err != nil {
					t.Fatal(err)
				}
				ix := mustIndex(t, good)
				rng := rand.New(rand.NewPCG(uint64(codec), uint64(chunk)+1))
				for i := range dmgtest.Times(200, 25, 1) {
					bad := bytes.Clone(fi.file)
					for range 1 + rng.IntN(4) {
						at := fi.data[0] + rng.IntN(fi.data[1]-fi.data[0])
						switch rng.IntN(3) {
						case 0:
							bad[at] ^= 1 << rng.IntN(8)
						case 1:
							clear(bad[at:min(fi.data[1], at+1+rng.IntN(2000))])
						default:
							for j := at; j < min(fi.data[1], at+1+rng.IntN(100)); j++ {
								bad[j] = byte(rng.Uint32())
							}
						}
					}
					own := openBytes(t, bad, nil)
					if err := own.BuildIndex(context.Background(), nil); err != nil {
						t.Fatal(err)
					}
					ownIndex := mustIndex(t, own)
					checkSalvage(t, row.method, own, disk, dmg.ExtractOptions{}, fmt.Sprintf("damage %d, after BuildIndex", i))
					for _, o := range []dmg.ExtractOptions{{}, {Ordered: true}, {Workers: 1}} {
						for _, ix := range []*dmg.Index{nil, ix, ownIndex} {
							im, err := dmg.NewImage(bytes.NewReader(bad), int64(len(bad)), &dmg.Options{Index: ix})
							if errors.Is(err, dmg.ErrIndex) {
								continue
							}
							if err != nil {
								t.Fatal(err)
							}
							checkSalvage(t, row.method, im, disk, o, fmt.Sprintf("damage %d, ordered %v, %d workers, index %v", i, o.Ordered, o.Workers, ix != nil))
						}
					}
				}
			})
		}
	}
}

// checkSalvage extracts a damaged image. It returns how many bytes are right.
func checkSalvage(t *testing.T, method dmgtest.Method, im *dmg.Image, disk []byte, o dmg.ExtractOptions, name string) (right int) {
	t.Helper()
	got := make(sheet, len(disk))
	var damage, sums []dmg.Damage
	o.Damaged = func(d dmg.Damage) error {
		var sum *dmg.ChecksumError
		if errors.As(d.Err, &sum) {
			sums = append(sums, d)
		} else {
			damage = append(damage, d)
		}
		return nil
	}
	if err := im.Extract(context.Background(), got, &o); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if bytes.Equal(got, disk) && len(damage)+len(sums) == 0 {
		return len(disk)
	}
	if len(damage)+len(sums) == 0 {
		t.Fatalf("%s: wrong bytes, and nothing is listed", name)
	}
	damage = append(damage, sums...)
	checkDamage(t, method, disk, got, damage)
	for i := range disk {
		if got[i] == disk[i] {
			right++
		}
	}
	return right
}

// Salvage saves what can be told, and no less than other programs do.
func TestSalvage(t *testing.T) {
	t.Parallel()
	text, mixed := dmgtest.Text(9, 2<<20).Bytes(), dmgtest.Mixed(9, 2<<20).Bytes()
	source := sourceCode(t) // whose blocks are many
	adler := func(z []byte, _ *rand.Rand) { z[len(z)-1] ^= 1 }
	for row, tt := range []struct {
		name   string
		method dmgtest.Method
		level  int
		disk   []byte
		damage func(z []byte, rng *rand.Rand)
		least  int // bytes that are right
		good   int // of these, bytes that are not listed
	}{
		{"a wrong Adler-32", dmgtest.Zlib, 6, text[:64<<10], adler, 64 << 10, 0},
		// As many as bzip2recover saves.
		{"the second of three bzip2 blocks", dmgtest.Bzip2, 1, text[:256<<10], func(z []byte, _ *rand.Rand) { z[len(z)/2] ^= 0x10 }, 160_000, 160_000},
		{"the first bzip2 block", dmgtest.Bzip2, 1, text[:256<<10], func(z []byte, _ *rand.Rand) { z[1000] ^= 0x10 }, 160_000, 160_000},
		{"the last bzip2 block", dmgtest.Bzip2, 1, text[:256<<10], func(z []byte, _ *rand.Rand) { z[len(z)-1000] ^= 0x10 }, 190_000, 190_000},
		{"two bzip2 blocks of many", dmgtest.Bzip2, 1, text, func(z []byte, _ *rand.Rand) {
			z[len(z)/4] ^= 0x10
			z[len(z)/4*3] ^= 0x10
		}, 1_600_000, 900_000},
		{"a bzip2 block that begins with nothing", dmgtest.Bzip2, 1, text[:256<<10], func(z []byte, _ *rand.Rand) { clear(z[len(z)/2-3000 : len(z)/2+3000]) }, 90_000, 90_000},
		{"one bit of zlib", dmgtest.Zlib, 6, mixed, func(z []byte, _ *rand.Rand) { z[len(z)/4] ^= 0x10 }, 1 << 20, 0},
		{"six bits of zlib", dmgtest.Zlib, 6, mixed, func(z []byte, rng *rand.Rand) {
			for range 6 {
				z[2+rng.IntN(len(z)/2)] ^= 1 << rng.IntN(8)
			}
		}, 600_000, 0},
		{"a block of zlib that can't be decoded", dmgtest.Zlib, 6, source, func(z []byte, _ *rand.Rand) {
			// Most damage only changes what a block decodes to, and its length.
			// Where a block begins it is noticed at once.
			for at := len(z) / 4; ; at++ {
				z[at] ^= 0xFF
				// Only what is behind the place needs to be looked at: the
				// decoder notices soon, or not at all.
				r := flate.NewReader(bytes.NewReader(z[2:min(len(z), at+4000)]))
				if _, err := io.Copy(io.Discard, r); err != io.ErrUnexpectedEOF {
					return
				}
				z[at] ^= 0xFF
			}
		}, len(source) / 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z, err := dmgtest.Compress(tt.method, tt.level, tt.disk)
			if err != nil {
				t.Fatal(err)
			}
			tt.damage(z, rand.New(rand.NewPCG(4, 4)))
			l := &dmgtest.Layout{Koly: dmgtest.NewKoly(), Data: z}
			n := uint64(len(tt.disk) / 512)
			l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, int64(n), dmgtest.Chunk{Method: tt.method, Sectors: n, Length: uint64(len(z))})}
			l.Koly.Sectors = n
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			for _, ordered := range []bool{false, true} {
				if dmgtest.Part() && ordered != (row%2 == 0) {
					continue
				}
				listed := make([]bool, len(tt.disk))
				got := make(sheet, len(tt.disk))
				var damage []dmg.Damage
				err := openBytes(t, l.Bytes(), nil).Extract(context.Background(), got, &dmg.ExtractOptions{Ordered: ordered, Damaged: func(d dmg.Damage) error {
					damage = append(damage, d)
					for i := d.Offset; i < d.End(); i++ {
						listed[i] = true
					}
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				checkDamage(t, tt.method, tt.disk, got, damage)
				right, good := 0, 0
				for i := range got {
					if got[i] == tt.disk[i] {
						if right++; !listed[i] {
							good++
						}
					}
				}
				t.Logf("%d of %d bytes are right, %d not listed, %v", right, len(got), good, damage[:min(len(damage), 4)])
				if right < tt.least || good < tt.good {
					t.Errorf("want %d, %d", tt.least, tt.good)
				}
			}
		})
	}
}

// sourceCode returns half a megabyte of source code in whole sectors.
func sourceCode(t *testing.T) (b []byte) {
	t.Helper()
	files, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, text...)
	}
	return b[:min(len(b), 512<<10)/512*512]
}

// Of a range that ends inside a chunk, no wrong byte goes unnoticed either, and with an
// index that was made before the damage, reads from the disk's end backwards notice a
// bzip2 block that has become longer.
func TestDamageInRanges(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	disk := dmgtest.Mixed(3, 512<<10).Bytes()
	for codec, row := range faultCodecs {
		if !row.summed {
			continue
		}
		t.Run(row.method.String(), func(t *testing.T) {
			t.Parallel()
			fi := newFaultImage(t, codec, disk, len(disk), false)
			good := openBytes(t, fi.file, nil)
			if err := good.BuildIndex(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			ix := mustIndex(t, good)
			rng := rand.New(rand.NewPCG(uint64(codec), 77))
			for range dmgtest.Times(2000, 200, 8) {
				bad := bytes.Clone(fi.file)
				bit := fi.data[0]*8 + rng.IntN((fi.data[1]-fi.data[0])*8)
				bad[bit/8] ^= 1 << (bit % 8)
				off := rng.Int64N(int64(len(disk) - 1))
				n := 1 + rng.Int64N(int64(len(disk))-off)
				im := openBytes(t, bad, nil)
				got := make(sheet, n)
				err := im.Extract(context.Background(), got, &dmg.ExtractOptions{Offset: off, Length: n})
				if err == nil && !bytes.Equal(got, disk[off:off+n]) {
					t.Fatalf("bit %d: %d bytes at %d: wrong without an error", bit, n, off)
				}
				listed := make([]bool, n)
				err = openBytes(t, bad, nil).Extract(context.Background(), got, &dmg.ExtractOptions{Offset: off, Length: n, Damaged: func(d dmg.Damage) error {
					for i := max(0, d.Offset-off); i < min(n, d.End()-off); i++ {
						listed[i] = true
					}
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				for i := range got {
					if !listed[i] && got[i] != disk[off+int64(i)] {
						t.Fatalf("bit %d: %d bytes at %d: byte %d is wrong, and not listed", bit, n, off, i)
					}
				}
				if row.method != dmgtest.Bzip2 {
					continue
				}
				im, err = dmg.NewImage(bytes.NewReader(bad), int64(len(bad)), &dmg.Options{Index: ix})
				if errors.Is(err, dmg.ErrIndex) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				all, silent := make([]byte, len(disk)), true
				for at := len(disk); at > 0 && silent; {
					from := max(0, at-10_000)
					_, err := im.ReadAt(all[from:at], int64(from))
					silent = err == nil
					at = from
				}
				if silent && !bytes.Equal(all, disk) {
					t.Fatalf("bit %d: read backwards: wrong without an error", bit)
				}
			}
		})
	}
}

package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/indexfile"
)

// openIndexed opens the image with an index. When the test ends the engine must
// be at rest.
func (ti testImage) openIndexed(tb testing.TB, limit int64, ix *Index) *Image {
	tb.Helper()
	im := newTest(tb, ti.file, &Options{MemoryLimit: limit, Index: ix})
	tb.Cleanup(func() { checkAtRest(tb, &im.engine) })
	return im
}

// index returns an index of the image with checkpoints at every spacing.
func (ti testImage) index(tb testing.TB, spacing int64) *Index {
	tb.Helper()
	im := ti.open(tb, 1<<30, nil)
	ti.wayThrough(tb, im, 1<<20)
	id, err := im.identity()
	if err != nil {
		tb.Fatal(err)
	}
	w := indexfile.Writer{Limit: indexfile.MaxLen}
	w.Begin()
	if err := im.pack(&w, spacing); err != nil {
		tb.Fatal(err)
	}
	return readIndex(tb, w.Finish(id))
}

// packedNow returns how many checkpoints there are, of an index and others, and
// how many of the former are in the log.
func packedNow(im *Image) (packed, others, copies int) {
	im.mu.Lock()
	defer im.mu.Unlock()
	for _, points := range im.mu.points.chunks {
		for _, p := range points {
			switch {
			case p.group == 0:
				others++
			case p.log != noRecord:
				packed++
				copies++
			default:
				packed++
			}
		}
	}
	return packed, others, copies
}

// Opening unpacks nothing; a read unpacks the group it wants, once.
func TestPackedGroups(t *testing.T) {
	dmgtest.NotRaced(t)
	t.Parallel()
	ti := workload{codecs: allCodecs[1:2], size: 8 << 20}.image(t)
	ix := ti.index(t, minSpacing)
	im := ti.openIndexed(t, 64<<20, ix)
	packed, others, copies := packedNow(im)
	if packed != ix.Len() || others != 0 || copies != 0 {
		t.Fatalf("opened with %d checkpoints, %d of them packed, %d of these in the log", packed+others, packed, copies)
	}
	want := 0
	for group := range len(im.mu.points.packed.groups) {
		places := im.mu.points.packed.groups[group].places
		want += len(places)
		for _, p := range places {
			before := im.Stats().BytesDecoded
			ti.mustRead(t, im, p.Off+1000, 100)
			if n := im.Stats().BytesDecoded - before; n > 1100 {
				t.Errorf("a read behind the checkpoint at %d decoded %d bytes", p.Off, n)
			}
			if _, _, copies := packedNow(im); copies != want {
				t.Fatalf("%d records in the log after a read in group %d, want %d", copies, group, want)
			}
		}
	}
	if packed != want || want == 0 {
		t.Errorf("%d checkpoints in groups, %d in all", want, packed)
	}
}

// littleRoom is a limit that leaves the index packed and the log the rest of the
// checkpoints' share: a quarter of it and a little.
func littleRoom(ix *Index) int64 {
	packed := int64(len(ix.file)) + indexfile.UnpackerMemory + int64(ix.Len())*(checkpointOverhead+placeMemory+groupMemory/groupPoints) + chunkOverhead + 64<<10
	return 2 * packed * 8 / 6
}

// Where the log has no room for all the records, those of packed checkpoints go
// first, and come again. None of the checkpoints is lost, and reads decode no
// more for it.
func TestPackedLittleRoom(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	ti := workload{codecs: allCodecs[1:2], size: fewer[int64](32<<20, 4)}.image(t)
	ix := ti.index(t, 2*minSpacing)
	limit := littleRoom(ix)
	im := ti.openIndexed(t, limit, ix)
	packed, _, _ := packedNow(im)
	if packed != ix.Len() {
		t.Fatalf("%d of %d checkpoints are packed", packed, ix.Len())
	}
	most := 0
	gone := false
	var wg sync.WaitGroup
	for r := range uint64(4) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(1, r))
			for range fewer(1500, 4) {
				ti.mustRead(t, im, rng.Int64N(im.Size()-4096), 4096)
				if r == 0 {
					_, _, copies := packedNow(im)
					gone = gone || copies < most
					most = max(most, copies)
				}
			}
		}()
	}
	wg.Wait()
	if n, _, _ := packedNow(im); !gone || most == n || n != packed {
		t.Errorf("%d packed checkpoints, of %d; %d in the log at most; some left it: %v", n, packed, most, gone)
	}
	decoded := im.Stats().BytesDecoded
	rng := rand.New(rand.NewPCG(2, 2))
	for range 100 {
		ti.mustRead(t, im, rng.Int64N(im.Size()-4096), 4096)
		now := im.Stats().BytesDecoded
		if n := now - decoded; n > 2*minSpacing+4096 {
			t.Errorf("a read decoded %d bytes", n)
		}
		decoded = now
	}
	// Those that the way through leaves between them are thinned out.
	ti.wayThrough(t, im, 1<<20)
	if n, others, _ := packedNow(im); n != packed {
		t.Errorf("%d packed checkpoints of %d after the way through, and %d others", n, packed, others)
	}
	if n := im.Stats().CheckpointBytes; n > limit/16*9+chunkOverhead+checkpointOverhead {
		t.Errorf("%d bytes of checkpoints, the limit is %d", n, limit)
	}
}

// A decoder that has no room beside the packed checkpoints gets theirs.
func TestPackedYield(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	ti := workload{codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2}, chunk: fewer[int64](8192, 4), size: fewer[int64](32<<20, 8)}.image(t)
	ix := ti.index(t, minSpacing)
	const limit = int64(bzip2Memory) + fetchBuffer + 300<<10
	im := ti.openIndexed(t, limit, ix)
	if packed, _, _ := packedNow(im); packed == 0 || im.Stats().CheckpointBytes < 300<<10 {
		t.Fatalf("%d packed checkpoints of %d bytes: the test tests nothing", packed, im.Stats().CheckpointBytes)
	}
	var wg sync.WaitGroup
	for r := range uint64(4) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(1, r))
			for range fewer(60, 4) {
				ti.mustRead(t, im, rng.Int64N(im.Size()-4096), 4096)
			}
		}()
	}
	within(t, "reading where packed checkpoints must go", wg.Wait)
	if packed, _, _ := packedNow(im); packed > 0 {
		t.Errorf("%d packed checkpoints are left", packed)
	}
}

// A bzip2 block of which the index has few cursors gets the others when it is
// read, as one that is not in an index.
func TestPackedBlockGrows(t *testing.T) {
	t.Parallel()
	ti := workload{codecs: allCodecs[2:3], size: fewer[int64](4<<20, 2)}.image(t)
	im := ti.open(t, 64<<20, nil)
	for off := int64(0); off < im.Size(); off += 400_000 {
		ti.mustRead(t, im, off, 100)
	}
	few := indexOf(t, im)
	whole := ti.index(t, minSpacing)
	im = ti.openIndexed(t, 64<<20, few)
	if got := indexOf(t, im); !bytes.Equal(got.file, few.file) || bytes.Equal(got.file, whole.file) {
		t.Error("another index when it is saved again")
	}
	ti.wayThrough(t, im, 10_000)
	if got := indexOf(t, im); !bytes.Equal(got.file, whole.file) {
		t.Error("another index than without one before")
	}
}

// Reads in the steady state allocate nothing, whether the log has room or a group
// is unpacked again for each.
func TestPackedAllocs(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	if dmgtest.Raced() {
		t.Skip("the race detector allocates")
	}
	ti := workload{codecs: allCodecs[1:2], size: fewer[int64](32<<20, 4)}.image(t)
	ix := ti.index(t, 2*minSpacing)
	for _, limit := range []int64{64 << 20, littleRoom(ix)} {
		t.Run(fmt.Sprintf("%dKiB", limit>>10), func(t *testing.T) {
			im := ti.openIndexed(t, limit, ix)
			rng := rand.New(rand.NewPCG(7, 7))
			p := make([]byte, 4096)
			read := func() { ti.mustReadInto(t, im, p, rng.Int64N(im.Size()-4096)) }
			for range fewer(3000, 4) {
				read()
			}
			if n := testing.AllocsPerRun(500, read); n != 0 {
				t.Errorf("%v allocations a read", n)
			}
		})
	}
}

// An index with the right checksum may say anything. Reads end, and keep to the
// limit.
func TestIndexMutatedAndSealed(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotRaced(t)
	t.Parallel()
	disk := indexDisk()
	for _, tt := range indexImages[:4] {
		t.Run(tt.name, func(t *testing.T) {
			image := dmgtest.Image(t, disk, tt.o)
			index := builtIndex(t, image, disk)
			body := index[:len(index)-32]
			rng := rand.New(rand.NewPCG(5, 7))
			refused, failed := 0, 0
			for range fewer(200, 10) {
				bad := seal(mutate(rng, body))
				ix, err := ReadIndex(bytes.NewReader(bad))
				if err != nil {
					continue
				}
				im, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix, MemoryLimit: 16 << 20})
				if err != nil {
					if refused++; !errors.Is(err, ErrIndex) {
						t.Fatalf("%v, want ErrIndex", err)
					}
					continue
				}
				p := make([]byte, 100)
				for off := int64(50); off < int64(len(disk))-100; off += int64(len(disk)) / 30 {
					_, err := im.ReadAt(p, off)
					if err == nil {
						continue // its bytes may be the forger's
					}
					if failed++; !errors.Is(err, ErrIndex) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
						t.Fatalf("%v, want a class", err)
					}
				}
				if n := im.Stats().CheckpointBytes; n > 8<<20 {
					t.Fatalf("%d bytes of checkpoints", n)
				}
				checkAtRest(t, &im.engine)
			}
			t.Logf("%d refused, %d reads failed", refused, failed)
			if refused == 0 || failed == 0 {
				t.Error("nothing was refused, or no read failed")
			}
		})
	}
}

// TestYield reads by turns from a chunk that leaves checkpoints and from one whose
// decoder takes nearly all memory, for which these have to go. Reads leave new ones
// as close as before each time.
func TestYield(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	small, big := fewer[int64](4<<20, 2), fewer[int64](12<<20, 2)
	y, err := dmgtest.Compress(dmgtest.LZMA, 0, dmgtest.Text(2, big).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2} {
		x, err := dmgtest.Compress(method, 9, dmgtest.Text(1, small).Bytes())
		if err != nil {
			t.Fatal(err)
		}
		open := func(limit int64) *Image {
			return imageOf(t, Options{MemoryLimit: limit}, slices.Concat(x, y),
				dmgtest.Chunk{Method: method, Sectors: uint64(small / sectorSize), Length: uint64(len(x))},
				dmgtest.Chunk{Method: dmgtest.LZMA, Sectors: uint64(big / sectorSize), Offset: uint64(len(x)), Length: uint64(len(y))})
		}
		p := make([]byte, 512)
		im := open(1 << 30)
		memory, err := xzMemory(im.src, &im.chunks[1], 0)
		if err != nil {
			t.Fatal(err)
		}
		im = open(memory + fetchBuffer + 10<<10)
		spacing, yielded := spacingOf(im), 0
		rounds := 50 // doubled so often, a spacing would overflow
		if dmgtest.Part() {
			rounds = 10
		}
		if method == dmgtest.Zlib {
			rounds = 5
		}
		for range rounds {
			if _, err := im.ReadAt(p, small/2); err != nil {
				t.Fatal(err)
			}
			left := im.Stats().CheckpointBytes
			if _, err := im.ReadAt(p, small); err != nil {
				t.Fatal(err)
			}
			if im.Stats().CheckpointBytes < left {
				yielded++
			}
		}
		if yielded < rounds*9/10 || spacingOf(im) != spacing {
			t.Errorf("%v: checkpoints went %d times of %d; %d apart, were %d", method, yielded, rounds, spacingOf(im), spacing)
		}
	}
}

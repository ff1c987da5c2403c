package dmg

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

var errSource = errors.New("the source's own error")

// sourceOf returns a source of the engine's kind, and its counters.
func sourceOf(r io.ReaderAt) (countingSource, *counters) {
	n := new(counters)
	return countingSource{r: r, n: n}, n
}

// answer is a source that returns what it is told, whatever it is asked for.
func answer(n int, err error) io.ReaderAt {
	return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) { return n, err })
}

var countingSourceTests = []struct {
	name string
	n    int // of 10 bytes
	from error
	want error
}{
	{name: "whole", n: 10},
	{name: "whole with the end", n: 10, from: io.EOF},
	{name: "whole with an error", n: 10, from: errSource},
	{name: "part with an error", n: 3, from: errSource, want: errSource},
	{name: "nothing with an error", n: 0, from: errSource, want: errSource},
	// The chunk map lies within the source's size, so its end is a surprise,
	// and io.EOF from ReadAt would be taken for the disk's.
	{name: "end", n: 0, from: io.EOF, want: io.ErrUnexpectedEOF},
	{name: "part and end", n: 3, from: io.EOF, want: io.ErrUnexpectedEOF},
	{name: "nothing without an error", n: 0, want: io.ErrNoProgress},
}

func TestCountingSource(t *testing.T) {
	for _, tt := range countingSourceTests {
		t.Run(tt.name, func(t *testing.T) {
			s, count := sourceOf(answer(tt.n, tt.from))
			n, err := s.ReadAt(make([]byte, 10), 0)
			if n != tt.n || err != tt.want {
				t.Errorf("ReadAt = %d, %v, want %d, %v", n, err, tt.n, tt.want)
			}
			if s := count.sum(); s.SourceBytes != int64(tt.n) || s.SourceReads != 1 {
				t.Errorf("counted %d bytes in %d reads", s.SourceBytes, s.SourceReads)
			}
		})
	}
}

// fetched are 300 KiB to fetch, 1000 bytes into their source.
const fetchedOff, fetchedLen = 1000, 300 << 10

func TestFetcher(t *testing.T) {
	disk := dmgtest.Random(1, fetchedOff+fetchedLen+5000).Bytes()
	for _, tt := range []struct {
		name string
		skip int64
		want int64 // offset in the data up to which bytes are needed, 0 if unknown
		lens []int // of the calls of the source
	}{
		// Where nothing is known a fetch is small, and then doubles.
		{name: "unknown", lens: []int{16 << 10, 32 << 10, 64 << 10, 128 << 10, 60 << 10}},
		{name: "unknown from the middle", skip: 280 << 10, lens: []int{16 << 10, 4 << 10}},
		// What is known to be needed comes in one call, and no more.
		{name: "known", want: 20 << 10, lens: []int{20 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10, 40 << 10}},
		{name: "known, more than a buffer", want: 200 << 10, lens: []int{128 << 10, 72 << 10, 16 << 10, 32 << 10, 52 << 10}},
		{name: "known, beyond the data", want: 1 << 40, lens: []int{128 << 10, 128 << 10, 44 << 10}},
		{name: "at the end", skip: fetchedLen},
		{name: "past the end", skip: fetchedLen + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counter := &dmgtest.Counter{R: bytes.NewReader(disk)}
			src, _ := sourceOf(counter)
			f := fetcher{src: src}
			f.begin(fetchedOff, fetchedOff+fetchedLen)
			f.skip(tt.skip)
			if tt.want > 0 {
				f.want = fetchedOff + tt.want
			}
			got, err := io.ReadAll(&f)
			if err != nil {
				t.Fatal(err)
			}
			from := min(fetchedLen, tt.skip)
			if !bytes.Equal(got, disk[fetchedOff+from:fetchedOff+fetchedLen]) {
				t.Errorf("%d bytes, not those of the data from %d on", len(got), from)
			}
			var lens []int
			for _, r := range counter.Ranges() {
				lens = append(lens, r.Len)
			}
			if len(lens) != len(tt.lens) {
				t.Fatalf("calls of %v bytes, want %v", lens, tt.lens)
			}
			for i := range lens {
				if lens[i] != tt.lens[i] {
					t.Fatalf("calls of %v bytes, want %v", lens, tt.lens)
				}
			}
		})
	}
}

// A decoder is an io.Reader's user: what iotest asks of one holds.
func TestFetcherReader(t *testing.T) {
	disk := dmgtest.Text(1, 40<<10).Bytes()
	src, _ := sourceOf(bytes.NewReader(disk))
	f := fetcher{src: src}
	f.begin(0, int64(len(disk)))
	if err := iotest.TestReader(&f, disk); err != nil {
		t.Error(err)
	}
}

// An error of the source must reach the reader whose fetch it was, and stand
// apart from the data's end. Bytes that came along with it are no reason to
// keep it: a decoder may have enough of them, and who goes on with it later
// asked for nothing that failed.
func TestFetcherError(t *testing.T) {
	disk := dmgtest.Random(2, 100<<10).Bytes()
	for _, tt := range []struct {
		name string
		n    int // bytes that come with the failure
		from error
		want error // of the fetch that finds no bytes
	}{
		{name: "at once", n: 0, from: errSource, want: errSource},
		{name: "end", n: 0, from: io.EOF, want: io.ErrUnexpectedEOF},
		{name: "silence", n: 0, want: io.ErrNoProgress},
		{name: "after some bytes", n: 1000, from: errSource},
		{name: "end after some bytes", n: 1000, from: io.EOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failing := true
			src, _ := sourceOf(dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
				if failing {
					failing = false
					return copy(p[:tt.n], disk[off:]), tt.from
				}
				return copy(p, disk[off:]), nil
			}))
			f := fetcher{src: src}
			f.begin(0, int64(len(disk)))
			p := make([]byte, len(disk))
			n, err := f.Read(p)
			if n != tt.n || err != tt.want || f.err != tt.want {
				t.Fatalf("Read = %d, %v and the source's error is %v, want %d, %v", n, err, f.err, tt.n, tt.want)
			}
			if tt.want != nil {
				// The decoder is of no use after that, until it begins anew.
				if n, err := f.Read(p); n != 0 || err != tt.want {
					t.Errorf("Read again = %d, %v", n, err)
				}
				f.begin(0, int64(len(disk)))
				n = 0
			}
			rest, err := io.ReadAll(&f)
			if err != nil || !bytes.Equal(append(p[:n], rest...), disk) {
				t.Errorf("the rest: %d bytes, %v", len(rest), err)
			}
		})
	}
}

// counted opens the image through a counter, which starts behind the open.
func (ti testImage) counted(t *testing.T, limit int64) (*Image, *dmgtest.Counter) {
	t.Helper()
	counter := new(dmgtest.Counter)
	im := ti.open(t, limit, func(r io.ReaderAt) io.ReaderAt { counter.R = r; return counter })
	counter.Reset()
	return im, counter
}

// Chunks that lie together are fetched together: by a read that covers them, in
// one call as far as there is memory, and by one that goes on and on.
func TestJoinedFetches(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	disk := dmgtest.Text(3, 2<<20).Bytes()
	zeros := bytes.Clone(disk)
	for off := 96 << 10; off < len(zeros); off += 256 << 10 {
		clear(zeros[off : off+64<<10]) // chunks without data
	}
	mixed := []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2}
	for _, tt := range []struct {
		name string
		disk []byte
		o    dmgtest.Options
		// calls that a read of 1 MiB takes, one of everything, and reads of
		// 4 KiB over everything, at most
		large, whole, small int
		over                int64 // bytes that the first fetches too many, at most
	}{
		{"zlib", disk, dmgtest.Options{ChunkSectors: 64}, 1, 1, 8, firstFetch},
		{"zlib, zeros between", zeros, dmgtest.Options{ChunkSectors: 64}, 1, 1, 8, firstFetch},
		{"zlib, gaps", disk, dmgtest.Options{ChunkSectors: 64, Trailing: 5000}, 1, 1, 8, firstFetch + 5000},
		{"ADC", disk, dmgtest.Options{ChunkSectors: 64, Codecs: []dmgtest.Method{dmgtest.ADC}}, 1, 1, 8, firstFetch},
		{"bzip2", disk, dmgtest.Options{ChunkSectors: 64, Codecs: []dmgtest.Method{dmgtest.Bzip2}}, 1, 1, 8, firstFetch},
		{"raw", disk, dmgtest.Options{ChunkSectors: 64, Codecs: []dmgtest.Method{dmgtest.Raw}}, 1, 1, 512, 0},
		// What can't be joined is fetched apart, and only what is needed.
		{"two codecs", disk, dmgtest.Options{ChunkSectors: 64, Codecs: mixed}, 33, 64, 130, firstFetch},
		{"raw, shuffled", disk, dmgtest.Options{ChunkSectors: 64, Codecs: []dmgtest.Method{dmgtest.Raw}, Shuffle: true, Seed: 1}, 33, 64, 512, 0},
		{"shuffled", disk, dmgtest.Options{ChunkSectors: 64, Shuffle: true, Seed: 1}, 33, 64, 130, 2 * joinGap},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ti := testImage{tt.disk, dmgtest.Image(t, tt.disk, tt.o)}
			im, counter := ti.counted(t, 64<<20)
			const off, n = 300_000, 1 << 20
			ti.mustRead(t, im, off, n)
			stored := int64(0) // in the chunks that the read touches
			for c := range im.Chunks() {
				if c.Offset < off+n && off < c.end() {
					stored += c.DataLength
				}
			}
			if counter.Calls() > tt.large || counter.Bytes() > stored+tt.over {
				t.Errorf("1 MiB: %d calls for %d bytes, want %d and %d", counter.Calls(), counter.Bytes(), tt.large, stored+tt.over)
			}
			for _, way := range []struct {
				step, calls int
			}{{len(tt.disk), tt.whole}, {4096, tt.small}} {
				im, counter := ti.counted(t, 64<<20)
				ti.wayThrough(t, im, way.step)
				if counter.Calls() > way.calls || counter.Bytes() > int64(len(ti.file))+tt.over {
					t.Errorf("steps of %d: %d calls for %d bytes, want %d", way.step, counter.Calls(), counter.Bytes(), way.calls)
				}
			}
		})
	}
}

// What is cached isn't fetched with its neighbours.
func TestJoinedFetchesSpareTheCached(t *testing.T) {
	ti := workload{codecs: allCodecs[1:2], chunk: 64, size: 1 << 20, kind: "random"}.image(t)
	im, counter := ti.counted(t, 64<<20)
	const chunk = 32 << 10
	ti.mustRead(t, im, 3*chunk, 3*chunk)
	counter.Reset()
	ti.mustRead(t, im, 0, 8*chunk)
	if want := int64(5*chunk + 5*chunk/10); counter.Bytes() > want || counter.Calls() > 2 {
		t.Errorf("%d bytes in %d calls, want %d in 2", counter.Bytes(), counter.Calls(), want)
	}
}

// A block of bzip2 is fetched in one call once it is known where it ends: with
// little memory in a few.
func TestBzip2Fetches(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	disk := dmgtest.Random(4, fewer[int64](4<<20, 2)).Bytes() // blocks of 900 kB, which bzip2 makes no smaller
	ti := testImage{disk, dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}})}
	for _, tt := range []struct {
		limit int64
		calls int
	}{{8 << 20, 8}, {32 << 20, 1}} {
		im, counter := ti.counted(t, tt.limit)
		ti.wayThrough(t, im, 1<<20)
		points := im.mu.points.chunks[0]
		for k, p := range points {
			// Elsewhere between, so that no decoder is left where this read is.
			ti.mustRead(t, im, points[(k+2)%len(points)].off+50_000, 100)
			end := im.chunks[0].DataLength
			if k+1 < len(points) {
				end = points[k+1].in
			}
			counter.Reset()
			ti.mustRead(t, im, p.off+700_000%(im.chunks[0].Length-p.off), 4096)
			if counter.Calls() > tt.calls || counter.Bytes() > end-p.in+64<<10 {
				t.Errorf("limit %d: %d bytes of a block in %d calls, want %d in %d", tt.limit, counter.Bytes(), counter.Calls(), end-p.in, tt.calls)
			}
		}
	}
}

// Where blocks are decoded ahead their data is fetched once.
func TestAheadFetchesOnce(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotEmulated(t)
	withCores(t)
	ti := workload{codecs: allCodecs[2:3], size: fewer[int64](12<<20, 2)}.image(t)
	for _, step := range []int{len(ti.disk), 5 << 20} {
		im, counter := ti.counted(t, 64<<20)
		ti.wayThrough(t, im, step)
		limit := im.chunks[0].DataLength * 102 / 100
		if step < len(ti.disk) {
			limit = im.chunks[0].DataLength * 108 / 100 // where a read ends is a guess
		}
		if counter.Bytes() > limit {
			t.Errorf("steps of %d: %d bytes fetched of %d", step, counter.Bytes(), im.chunks[0].DataLength)
		}
	}
	im, counter := ti.counted(t, 64<<20)
	if _, err := im.WriteTo(io.Discard); err != nil || counter.Bytes() > im.chunks[0].DataLength*102/100 {
		t.Errorf("WriteTo: %d bytes fetched of %d, %v", counter.Bytes(), im.chunks[0].DataLength, err)
	}
}

// What came of the source is asked for again after it turned out to be wrong:
// it may have been the source that erred.
func TestFailuresAreFetchedAgain(t *testing.T) {
	for _, m := range allCodecs {
		w := workload{codecs: []dmgtest.Method{m}, chunk: 64, size: 256 << 10}
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			for i := range 6 {
				var bad Chunk // the source is wrong in its data
				im := ti.open(t, 16<<20, func(r io.ReaderAt) io.ReaderAt {
					return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
						n, err := r.ReadAt(p, off)
						for i := range p[:n] {
							if at := off + int64(i) - bad.DataOffset; at >= 0 && at < bad.DataLength {
								p[i] = 0
							}
						}
						return n, err
					})
				})
				// Its data comes with that of the chunk before, and the next
				// one's with it.
				bad = im.chunks[i+1]
				p := make([]byte, 3*bad.Length)
				var chunk *ChunkError
				if _, err := im.ReadAt(p, im.chunks[i].Offset); !errors.As(err, &chunk) || chunk.Chunk != bad {
					t.Fatalf("%v is wrong: %v", bad, err)
				}
				bad = Chunk{}
				ti.mustRead(t, im, im.chunks[i].Offset, len(p))
			}
		})
	}
}

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
	return countingSource{r, n}, n
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
			if b, r := count.sourceBytes.Load(), count.sourceReads.Load(); b != int64(tt.n) || r != 1 {
				t.Errorf("counted %d bytes in %d reads", b, r)
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

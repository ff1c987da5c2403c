package dmg

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Partitions that share bytes are found wherever in the order they are.
func TestOverlapping(t *testing.T) {
	at := func(ranges ...[2]int64) (parts []span) {
		for _, r := range ranges {
			parts = append(parts, span{r[0], r[1]})
		}
		return parts
	}
	for _, tt := range []struct {
		name  string
		parts []span
		want  []bool
	}{
		{"none", nil, []bool{}},
		{"side by side", at([2]int64{0, 10}, [2]int64{10, 20}), []bool{false, false}},
		{"neighbours", at([2]int64{0, 11}, [2]int64{10, 20}, [2]int64{20, 30}), []bool{true, true, false}},
		{"far apart", at([2]int64{0, 100}, [2]int64{10, 20}, [2]int64{50, 60}, [2]int64{100, 110}), []bool{true, true, true, false}},
		{"the same", at([2]int64{0, 10}, [2]int64{0, 10}), []bool{true, true}},
		{"empty", at([2]int64{0, 10}, [2]int64{5, 5}, [2]int64{10, 20}), []bool{false, false, false}},
		{"up to the end", at([2]int64{0, 1<<63 - 1}, [2]int64{1<<63 - 513, 1<<63 - 1}), []bool{true, true}},
	} {
		if got := overlapping(tt.parts); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var parts []span
		off := int64(0)
		for range rnd.IntN(9) {
			off += rnd.Int64N(6)
			parts = append(parts, span{off, off + rnd.Int64N(12)})
		}
		want := make([]bool, len(parts))
		for i, p := range parts {
			for k, q := range parts {
				want[i] = want[i] || i != k && max(p.from, q.from) < min(p.to, q.to)
			}
		}
		if got := overlapping(parts); !slices.Equal(got, want) {
			t.Fatalf("%v: %v, want %v", parts, got, want)
		}
	}
}

// Verify reads the data fork once, also where several cores decode one chunk: what these
// fetch is summed too.
func TestVerifyFetchesOnce(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotEmulated(t)
	notForced(t)
	cores, methods := []int{1, 4, 8, 16}, []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2}
	if dmgtest.Raced() {
		cores, methods = cores[1:2], methods[:1]
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, m := range methods {
		ti := workload{codecs: []dmgtest.Method{m}, size: 24 << 20, kind: "mixed"}.image(t)
		for _, procs := range cores {
			runtime.GOMAXPROCS(procs)
			im := ti.open(t, 128<<20, nil)
			before := im.Stats().SourceBytes
			if err := im.Verify(context.Background(), nil); err != nil {
				t.Errorf("method %#x on %d cores: %v", m, procs, err)
			}
			n := im.Stats().SourceBytes - before
			if fork := im.dataFork.length; n > fork+fork/8 {
				t.Errorf("method %#x on %d cores: %d bytes fetched of a data fork of %d", m, procs, n, fork)
			}
			if m == dmgtest.Zlib && wentAhead(im) != (procs >= leastInflate) {
				t.Errorf("method %#x on %d cores: decoded ahead: %v", m, procs, wentAhead(im))
			}
		}
	}
}

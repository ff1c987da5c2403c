package dmg

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// R1: a random read in a long ADC chunk decodes no more than from one checkpoint to the
// next, also with a saved index; and the data is that of a decoder from the start.
func TestStreamCheckpoints(t *testing.T) {
	dmgtest.NotEmulated(t)
	ti := workload{codecs: []dmgtest.Method{dmgtest.ADC}, size: 12 << 20}.image(t)
	im := ti.open(t, 0, nil)
	if err := im.BuildIndex(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	ix, err := im.Index()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := ix.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	if n := im.mu.points.find(0, im.size) + 1; n != 11 {
		t.Errorf("%d checkpoints, want 11", n)
	}
	for _, im := range []*Image{im, ti.openIndexed(t, 4<<20, readIndex(t, file.Bytes()))} {
		spacing := int64(windowSpacing)
		for i, p := range im.mu.points.chunks[0] { // a small index has few
			spacing = max(spacing, p.off)
			if i > 0 {
				spacing = max(spacing, p.off-im.mu.points.chunks[0][i-1].off)
			}
		}
		if len(im.mu.points.chunks[0]) == 0 {
			t.Fatal("no checkpoints")
		}
		rng := rand.New(rand.NewPCG(5, 5))
		for range 200 {
			before := im.Stats().BytesDecoded
			off := rng.Int64N(im.Size() - 4096)
			ti.mustRead(t, im, off, 4096)
			if n := im.Stats().BytesDecoded - before; n > spacing+4096+2*maxDecode {
				t.Errorf("a read at %d decoded %d bytes", off, n)
			}
		}
		checkAtRest(t, &im.engine)
	}
}

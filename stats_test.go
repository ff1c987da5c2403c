package dmg_test

import (
	"io"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/imagetest"
)

// MemoryUsed counts all uses of the memory limit: at rest the cache, the checkpoints
// and the idle decoders, and while WriteTo delivers data the buffers too.
func TestStatsMemoryUsed(t *testing.T) {
	const limit = 8 << 20
	for _, name := range []string{"good-zlib.dmg", "good-bzip2.dmg", "good-lzfse.dmg", "good-one-chunk.dmg"} {
		t.Run(name, func(t *testing.T) {
			im := imagetest.OpenTest(t, name, &dmg.Options{MemoryLimit: limit})
			if s := im.Stats(); s.MemoryUsed != 0 {
				t.Errorf("%d bytes before the first read", s.MemoryUsed)
			}
			if _, err := im.ReadAt(make([]byte, 512), 80*512); err != nil {
				t.Fatal(err)
			}
			if s := im.Stats(); s.MemoryUsed <= s.CacheBytes+s.CheckpointBytes || s.CacheBytes == 0 || s.MemoryUsed > limit {
				t.Errorf("%d bytes with an idle decoder, %d of cache and %d of checkpoints", s.MemoryUsed, s.CacheBytes, s.CheckpointBytes)
			}
			w := &memoryWriter{im: im}
			if _, err := im.WriteTo(w); err != nil {
				t.Fatal(err)
			}
			if w.most > limit || w.most == 0 {
				t.Errorf("%d bytes at most while WriteTo writes", w.most)
			}
		})
	}
}

// memoryWriter notes how much of the limit is in use while WriteTo writes.
type memoryWriter struct {
	im   *dmg.Image
	most int64
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	s := w.im.Stats()
	if s.MemoryUsed > s.CacheBytes+s.CheckpointBytes { // buffers and decoders
		w.most = max(w.most, s.MemoryUsed)
	}
	return io.Discard.Write(p)
}

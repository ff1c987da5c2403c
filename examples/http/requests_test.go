package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// latency is what each request takes beside the transfer.
const latency = 20 * time.Millisecond

// fileServer is net/http's, further away, and counts.
type fileServer struct {
	*httptest.Server
	requests, bytes atomic.Int64
}

func serve(t *testing.T, file []byte) *fileServer {
	s := new(fileServer)
	modified := time.Unix(1_700_000_000, 0)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.requests.Add(1)
		time.Sleep(latency)
		http.ServeContent(tally{w, &s.bytes}, req, "image.dmg", modified, bytes.NewReader(file))
	}))
	t.Cleanup(s.Close)
	return s
}

// tally counts the bytes of bodies.
type tally struct {
	http.ResponseWriter
	n *atomic.Int64
}

// Write counts first: the client may have all of p, and go on, before it is
// heard here that p was written.
func (t tally) Write(p []byte) (int, error) {
	t.n.Add(int64(len(p)))
	n, err := t.ResponseWriter.Write(p)
	t.n.Add(int64(n - len(p)))
	return n, err
}

// cost is what some work takes of a server.
type cost struct {
	requests, bytes int64
	time            time.Duration
}

func (c cost) String() string {
	return fmt.Sprintf("%3d requests %6d KB %v", c.requests, c.bytes/1000, c.time.Round(time.Millisecond))
}

// cost measures work. No other may be under way.
func (s *fileServer) cost(work func()) cost {
	requests, bytes, start := s.requests.Load(), s.bytes.Load(), time.Now()
	work()
	return cost{s.requests.Load() - requests, s.bytes.Load() - bytes, time.Since(start)}
}

const mib = 1 << 20

// openLimit is how many requests it takes to open any image, at most.
const openLimit = 4

// requestTests are images and the most requests that a read of 4 KiB takes in
// each: the first one of an image, and any with an index; then 16 MiB read in
// steps of 32 KiB, and written in one go. A span between checkpoints comes at
// once, and so do a block of bzip2 and, up to a megabyte, the data of chunks that
// lie together. Zlib's checkpoints say where a span ends, but a read that ends
// before is not given all of it at first. ADC, LZFSE and LZMA go on from the chunk's
// start: how much of the data is needed is a guess, and the rest comes in a second
// request.
var requestTests = []struct {
	name    string
	content func(seed uint64, n int64) dmgtest.Content
	options dmgtest.Options
	encrypt bool

	cold, indexed, sequential, whole int64 // 0: not tried
	indexedBytes                     int64 // that a read with an index fetches, at most
}{
	{"zlib one chunk", dmgtest.Mixed, inOne(dmgtest.Zlib), false, 10, 2, 11, 13, 64 << 10},
	{"zlib 1 MiB chunks", dmgtest.Mixed, inChunks(dmgtest.Zlib), false, 2, 2, 11, 12, 96 << 10},
	{"zlib 32 KiB chunks", dmgtest.Mixed, dmgtest.Options{ChunkSectors: 64}, false, 1, 2, 12, 10, 40 << 10},
	// It does not compress, so that there is more to fetch: of each chunk a little
	// over a megabyte.
	{"zlib encrypted", dmgtest.Random, inChunks(dmgtest.Zlib), true, 2, 2, 24, 24, 128 << 10},
	{"bzip2 one chunk", dmgtest.Mixed, inOne(dmgtest.Bzip2), false, 15, 1, 12, 17, 512 << 10},
	{"bzip2 1 MiB chunks", dmgtest.Mixed, inChunks(dmgtest.Bzip2), false, 2, 1, 10, 12, 512 << 10},
	{"bzip2 encrypted", dmgtest.Mixed, inOne(dmgtest.Bzip2), true, 15, 1, 12, 17, 512 << 10},
	{"LZFSE 1 MiB chunks", dmgtest.Mixed, inChunks(dmgtest.LZFSE), false, 2, 2, 12, 12, 640 << 10},
	{"LZFSE encrypted", dmgtest.Mixed, inChunks(dmgtest.LZFSE), true, 2, 2, 12, 13, 640 << 10},
	{"LZMA 1 MiB chunks", dmgtest.Mixed, inChunks(dmgtest.LZMA), false, 2, 2, 13, 11, 640 << 10},
	{"ADC 1 MiB chunks", dmgtest.Mixed, inChunks(dmgtest.ADC), false, 2, 2, 14, 16, 704 << 10},
	{"raw", dmgtest.Mixed, inOne(dmgtest.Raw), false, 1, 1, 0, 22, 40 << 10},
	{"raw encrypted", dmgtest.Mixed, inOne(dmgtest.Raw), true, 1, 1, 0, 22, 40 << 10},
}

// inOne and inChunks store the disk in one chunk, and in chunks of a megabyte.
func inOne(m dmgtest.Method) dmgtest.Options {
	return dmgtest.Options{Codecs: []dmgtest.Method{m}}
}

func inChunks(m dmgtest.Method) dmgtest.Options {
	return dmgtest.Options{Codecs: []dmgtest.Method{m}, ChunkSectors: dmgtest.DefaultChunk}
}

func TestRequests(t *testing.T) {
	dmgtest.NotEmulated(t)
	size := int64(20 * mib)
	if dmgtest.Part() {
		size = 3 * mib
	}
	for _, tt := range requestTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			disk := tt.content(1, size).Bytes()
			file := dmgtest.Image(t, disk, tt.options)
			opts := new(dmg.Options)
			if tt.encrypt {
				opts.Password = "secret"
				file = dmgtest.Encryption{Password: opts.Password}.Image(file)
			}
			c := client{t: t, server: serve(t, file), disk: disk, opts: opts}

			c.check("open", openLimit, c.open)
			c.check("cold read", tt.cold, func() { c.read(size/8*5+mib/2, 4096) })
			if tt.sequential > 0 {
				c.open()
				got := c.check("sequential", tt.sequential, func() {
					for off := int64(0); off < min(size, 16*mib); off += 32 << 10 {
						c.read(off, 32<<10)
					}
				})
				// It may have read ahead beyond the last byte, and a chunk has
				// parts that compress better than others.
				if most := c.stored(min(size, 16*mib)) + mib*3/2; got.bytes > most {
					t.Errorf("sequential: %d bytes, more than %d", got.bytes, most)
				}
			}
			c.open()
			got := c.check("one go", tt.whole, func() { c.im.WriteTo(io.Discard) })
			if most := c.stored(size) * 105 / 100; got.bytes > most {
				t.Errorf("one go: %d bytes, more than %d", got.bytes, most)
			}
			// It reads the data twice: as it is stored, for the image's own checksum.
			c.check("verify", 2*tt.whole, func() { c.im.Verify(context.Background(), nil) })

			opts.Index = buildIndex(t, file, *opts)
			c.check("open with index", openLimit, c.open)
			rng := rand.New(rand.NewPCG(1, 2))
			for range 20 {
				got := c.check("read with index", tt.indexed, func() { c.read(rng.Int64N(size/4096)*4096, 4096) })
				if got.bytes > tt.indexedBytes {
					t.Errorf("read with index: %d bytes, more than %d", got.bytes, tt.indexedBytes)
				}
			}
		})
	}
}

// client reads an image from a server, and checks what it gets and at which
// cost.
type client struct {
	t      *testing.T
	server *fileServer
	disk   []byte
	opts   *dmg.Options
	im     *dmg.Image
}

func (c *client) open() {
	var err error
	if c.im, err = openImage(c.server.URL, c.opts); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read(off, n int64) {
	p := make([]byte, n)
	if _, err := c.im.ReadAt(p, off); err != nil || !bytes.Equal(p, c.disk[off:off+n]) {
		c.t.Fatalf("ReadAt(%d, %d): %v, or wrong bytes", n, off, err)
	}
}

// stored is how many bytes of the image the disk's first end bytes take: their
// chunks in proportion.
func (c *client) stored(end int64) (n int64) {
	for chunk := range c.im.Chunks() {
		if part := min(chunk.Length, end-chunk.Offset); part > 0 {
			n += chunk.DataLength * part / chunk.Length
		}
	}
	return n
}

func (c *client) check(what string, limit int64, work func()) cost {
	got := c.server.cost(work)
	c.t.Logf("%-16s %v", what, got)
	if got.requests > limit {
		c.t.Errorf("%s: %d requests, more than %d", what, got.requests, limit)
	}
	return got
}

// buildIndex makes an image's index where the image is near.
func buildIndex(t *testing.T, file []byte, opts dmg.Options) *dmg.Index {
	im, err := dmg.NewImage(bytes.NewReader(file), int64(len(file)), &opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := im.BuildIndex(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	ix, err := im.Index()
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

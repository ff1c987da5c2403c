package apfs_test

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/internal/apfstest"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// largeFiles is how many files the large volume has: 100,000 where tests run whole.
func largeFiles() int {
	if dmgtest.Part() {
		return 10_000
	}
	return 100_000
}

// large is a volume with a folder of many small files, which share their content.
var large = sync.OnceValue(func() *apfstest.Disk {
	first := apfstest.Text("file 0", "the content of all")
	folder := apfstest.Dir("many", first)
	for i := 1; i < largeFiles(); i++ {
		folder.Children = append(folder.Children, &apfstest.File{Name: fmt.Sprint("file ", i), Share: first})
	}
	return (&apfstest.Container{Volumes: []*apfstest.Volume{{Name: "Large", Root: []*apfstest.File{folder}}}}).Write()
})

// counter counts what is asked of a source.
type counter struct {
	r            io.ReaderAt
	calls, bytes atomic.Int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.calls.Add(1)
	c.bytes.Add(int64(len(p)))
	return c.r.ReadAt(p, off)
}

func largeFS(tb testing.TB, r io.ReaderAt) *apfs.FS {
	tb.Helper()
	c, err := apfs.New(r, large().Size, nil)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := c.Volumes()
	if err != nil {
		tb.Fatal(err)
	}
	fsys, err := list[0].FS()
	if err != nil {
		tb.Fatal(err)
	}
	return fsys
}

// One small file of a large volume takes few reads, from opening the container on.
func TestLargeVolumeReads(t *testing.T) {
	dmgtest.NotEmulated(t)
	c := &counter{r: large()}
	fsys := largeFS(t, c)
	opened, openedBytes := c.calls.Load(), c.bytes.Load()
	data, err := fsys.ReadFile("many/file 7777")
	if err != nil || string(data) != "the content of all" {
		t.Fatalf("%q, %v", data, err)
	}
	calls, bytes := c.calls.Load(), c.bytes.Load()
	t.Logf("opening: %d calls, %d bytes; the file: %d calls, %d bytes", opened, openedBytes, calls-opened, bytes-openedBytes)
	if calls > 25 || bytes > 160<<10 {
		t.Errorf("%d calls for %d bytes", calls, bytes)
	}
}

// Leaves that follow each other are read together.
func TestLargeVolumeList(t *testing.T) {
	c := &counter{r: large()}
	fsys := largeFS(t, c)
	list, err := fsys.ReadDir("many")
	if err != nil || len(list) != largeFiles() {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	t.Logf("%d calls, %d bytes", c.calls.Load(), c.bytes.Load())
	if calls := c.calls.Load(); calls > 200 {
		t.Errorf("%d calls", calls)
	}
}

func BenchmarkLookup(b *testing.B) {
	fsys := largeFS(b, large())
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprint("many/file ", rand.IntN(largeFiles()))
		if _, err := fsys.Stat(names[i]); err != nil {
			b.Fatal(err)
		}
	}
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("of=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if _, err := fsys.Stat(names[i%n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadFile(b *testing.B) {
	fsys := largeFS(b, large())
	b.ReportAllocs()
	for i := range b.N {
		if _, err := fsys.ReadFile(fmt.Sprint("many/file ", i%100)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadDir(b *testing.B) {
	for range b.N {
		list, err := fs.ReadDir(largeFS(b, large()), "many")
		if err != nil || len(list) != largeFiles() {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for range b.N {
		largeFS(b, large())
	}
}

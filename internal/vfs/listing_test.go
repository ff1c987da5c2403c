package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A counted is a directory that counts its look-ups, and does not tell cases apart.
type counted struct {
	*mem
	lookups *atomic.Int64
}

func (c counted) Lookup(name string) (Node, error) {
	c.lookups.Add(1)
	for i, n := range c.names {
		if strings.EqualFold(n, name) {
			return c.child(i), nil
		}
	}
	return nil, fs.ErrNotExist
}

func (c counted) child(i int) Node {
	if n := c.children[i]; n.mode.IsDir() {
		return counted{n, c.lookups}
	}
	return c.children[i]
}

func (c counted) Entries() Entries { return &countedEntries{c, 0} }

type countedEntries struct {
	dir counted
	i   int
}

func (e *countedEntries) Next() (Entry, error) {
	entry, err := (&memEntries{e.dir.mem, e.i}).Next()
	if err == nil {
		entry.Node = e.dir.child(e.i)
		e.i++
	}
	return entry, err
}

func newCounted() (*FS, *mem, *atomic.Int64) {
	_, r := newTree()
	n := new(atomic.Int64)
	return New(counted{r, n}), r, n
}

// What a directory has given out is opened without a look-up there.
func TestListing(t *testing.T) {
	f, r, lookups := newCounted()
	for i := range 100 {
		r.put(fmt.Sprintf("a/b/file%d", i), file0(fmt.Sprint("content ", i)))
		r.put(fmt.Sprintf("a/c%d/file", i), file0(fmt.Sprint("folder ", i)))
	}
	r.put("a/b/link", link("../c7"))
	want := func(path, content string, n int64) {
		t.Helper()
		before := lookups.Load()
		data, err := f.ReadFile(path)
		if string(data) != content || err != nil {
			t.Errorf("%s: %q, %v", path, data, err)
		}
		if got := lookups.Load() - before; got != n {
			t.Errorf("%s: %d look-ups, want %d", path, got, n)
		}
	}
	if err := fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			_, err = f.ReadFile(path)
		}
		return err
	}); err != nil || lookups.Load() != 0 {
		t.Errorf("a walk: %v, %d look-ups", err, lookups.Load())
	}
	list, err := f.ReadDir("a/b")
	if err != nil || len(list) != 101 {
		t.Fatal(len(list), err)
	}
	clear(list) // the caller's own
	want("a/b/file7", "content 7", 0)
	want("a/b/file99", "content 99", 0)
	want("a/b/FILE7", "content 7", 1) // another spelling
	want("a/b/link/file", "folder 7", 1)
	before := lookups.Load()
	if _, err := f.Open("a/b/none"); !errors.Is(err, fs.ErrNotExist) || lookups.Load() != before+1 {
		t.Errorf("%v after %d look-ups", err, lookups.Load()-before)
	}

	// What was given out in pieces is known piece by piece.
	f = New(counted{r, lookups})
	d, err := f.Open("a/b")
	if err != nil {
		t.Fatal(err)
	}
	want("a/b/file3", "content 3", 3) // and the way there
	for range 3 {
		list, err := d.(fs.ReadDirFile).ReadDir(30)
		if err != nil || len(list) != 30 {
			t.Fatal(list, err)
		}
		names := []string{list[29].Name(), list[0].Name(), list[13].Name()}
		list[0], list[29] = list[29], list[0]
		for _, name := range names {
			want("a/b/"+name, "content "+strings.TrimPrefix(name, "file"), 0)
		}
	}
	want("a/b/file3", "content 3", 1)
}

// TestListingsBounded: listings that are in use stay, others go, and none takes too much.
func TestListingsBounded(t *testing.T) {
	f, r, lookups := newCounted()
	for i := range 3 * maxListings {
		r.put(fmt.Sprintf("d%02d/file", i), file0("x"))
	}
	long := strings.Repeat("x", 1000)
	for name, n := range map[string]int{"big1": 1600, "big2": 1600, "big3": 1600, "huge": 5000} {
		dir := newMem(fs.ModeDir, "")
		for i := range n {
			dir.names, dir.children = append(dir.names, fmt.Sprint(long, i)), append(dir.children, file0("x"))
		}
		r.put(name, dir)
	}
	check := func() {
		t.Helper()
		latest, bytes := *f.listings.latest.Load(), 0
		for _, l := range latest {
			n := 0
			for _, e := range l.entries {
				n += entryCost + len(e.entry.Name)
			}
			if n != l.bytes {
				t.Errorf("%d bytes, want %d", l.bytes, n)
			}
			bytes += n
		}
		if len(latest) > maxListings || bytes > maxListed {
			t.Errorf("%d listings of %d bytes", len(latest), bytes)
		}
	}
	if _, err := f.ReadDir("."); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxListings {
		name := fmt.Sprintf("d%02d", i)
		if _, err := f.ReadDir(name); err != nil {
			t.Fatal(err)
		}
		check()
	}
	if n := lookups.Load(); n != 0 {
		t.Errorf("the root was forgotten: %d look-ups", n)
	}
	if f.listings.find(f.root, "d00") == nil || len(*f.listings.latest.Load()) != maxListings {
		t.Errorf("%d listings", len(*f.listings.latest.Load()))
	}
	for _, name := range []string{"big1", "big2", "big3"} {
		if _, err := f.ReadDir(name); err != nil {
			t.Fatal(err)
		}
		check()
	}
	kept := len(*f.listings.latest.Load())
	if _, err := f.ReadDir("huge"); err != nil || len(*f.listings.latest.Load()) != kept {
		t.Errorf("%v, %d listings, want %d", err, len(*f.listings.latest.Load()), kept)
	}
	check()
	before := lookups.Load()
	if _, err := f.ReadFile("huge/" + long + "7"); err != nil || lookups.Load() != before+1 {
		t.Errorf("%v, %d look-ups", err, lookups.Load()-before)
	}
}

// Sixteen goroutines list directories, and open what is in them.
func TestListingsTogether(t *testing.T) {
	f, r, _ := newCounted()
	for i := range 40 {
		for j := range 20 {
			r.put(fmt.Sprintf("d%d/f%d", i, j), file0(fmt.Sprint(i, " ", j)))
		}
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for k := range 120 {
				i := (k*7 + g) % 40
				if list, err := f.ReadDir(fmt.Sprint("d", i)); err != nil || len(list) != 20 {
					t.Errorf("%d entries, %v", len(list), err)
				}
				for j := range 20 {
					data, err := f.ReadFile(fmt.Sprintf("d%d/f%d", (i+j%2)%40, j))
					if want := fmt.Sprint((i+j%2)%40, " ", j); string(data) != want || err != nil {
						t.Errorf("%q, %v, want %q", data, err, want)
					}
				}
			}
		})
	}
	wg.Wait()
}

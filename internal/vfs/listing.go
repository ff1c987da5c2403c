package vfs

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// maxListed bounds the bytes of entries that an FS keeps: some 30,000 entries with
	// names of usual length.
	maxListed = 4 << 20

	// maxListings is how many listings an FS keeps. All of them are looked through for
	// one, and a walk needs those on the way to where it is.
	maxListings = 16

	// entryCost is what an entry takes apart from its name: a node, the entry, and what
	// leads to it.
	entryCost = 128
)

// A listing is what a directory gave out: all entries, or some of them. A volume never
// changes, so they stay what they are.
type listing struct {
	dir   uint64 // the directory's ID
	bytes int
	used  atomic.Bool // since the last listing came

	sort    sync.Once
	entries []*dirEntry  // by name, once they are sorted
	next    atomic.Int32 // behind the entry that was found last
}

// find returns the entry's node, or nil.
func (l *listing) find(name string) Node {
	l.sort.Do(func() {
		slices.SortFunc(l.entries, func(a, b *dirEntry) int { return strings.Compare(a.entry.Name, b.entry.Name) })
	})
	if i := int(l.next.Load()); i < len(l.entries) && l.entries[i].entry.Name == name { // as a walk asks
		l.next.Store(int32(i + 1))
		return l.entries[i].entry.Node
	}
	i, found := slices.BinarySearchFunc(l.entries, name, func(e *dirEntry, name string) int { return strings.Compare(e.entry.Name, name) })
	if !found {
		return nil
	}
	l.next.Store(int32(i + 1))
	return l.entries[i].entry.Node
}

// listings are the latest ones of an FS: a program that lists a directory looks at what
// is in it next, by path. Readers take no lock.
type listings struct {
	mu     sync.Mutex // for who changes latest
	latest atomic.Pointer[[]*listing]
}

// find returns the node that a directory gave out under just this name, or nil.
func (ls *listings) find(dir Node, name string) Node {
	latest := ls.latest.Load()
	if latest == nil {
		return nil
	}
	id := dir.ID()
	for _, l := range *latest {
		if l.dir != id {
			continue
		}
		if !l.used.Load() { // most of the time, nothing is written to
			l.used.Store(true)
		}
		return l.find(name)
	}
	return nil
}

// keep keeps what a directory has given out. Of what there is no room for, those listings
// go first that were not used since the last one came, and of these the older ones.
func (ls *listings) keep(dir Node, entries []*dirEntry) {
	l := &listing{dir: dir.ID()}
	for _, e := range entries {
		l.bytes += entryCost + len(e.entry.Name)
	}
	if len(entries) == 0 || l.bytes > maxListed {
		return
	}
	l.entries = entries
	ls.mu.Lock()
	defer ls.mu.Unlock()
	kept, bytes := []*listing{l}, l.bytes
	if latest := ls.latest.Load(); latest != nil {
		for _, used := range []bool{true, false} {
			for _, old := range *latest {
				if old.used.Load() == used && old.dir != l.dir && len(kept) < maxListings && bytes+old.bytes <= maxListed {
					kept, bytes = append(kept, old), bytes+old.bytes
				}
			}
		}
	}
	for _, l := range kept {
		l.used.Store(false)
	}
	ls.latest.Store(&kept)
}

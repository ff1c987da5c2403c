package main

import (
	"io"
	"io/fs"
	"time"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/hfsplus"
)

// facts are what a volume knows of a file besides what fs.FileInfo has.
type facts struct {
	known      bool
	id, links  uint64
	uid, gid   uint32
	flags      uint32 // as of chflags
	created    time.Time
	changed    time.Time // its attributes
	accessed   time.Time
	resource   int64 // size of the resource fork, in bytes
	compressed bool
}

// factsOf returns a file's facts. The zero facts are of a file system that has none.
func factsOf(info fs.FileInfo) facts {
	switch s := info.Sys().(type) {
	case *hfsplus.Stat:
		return facts{true, s.ID, uint64(s.Links), s.UID, s.GID, s.Flags, s.Created, s.Changed, s.Accessed, s.ResourceFork, s.Compressed}
	case *apfs.Stat:
		return facts{true, s.ID, uint64(s.Links), s.UID, s.GID, s.Flags, s.Created, s.Changed, s.Accessed, s.ResourceFork, s.Compressed}
	}
	return facts{links: 1}
}

// A walk is where a walk through a volume's folders is.
type walk struct {
	folder uint64 // its id; 0 where the walk begins
	depth  int    // of the folder, in that where the walk begins
	again  bool   // the folder, or one around it, was met before at another path
}

// seenFolders has the folders that a walk has met, by their ids. A folder that has several
// names, as only HFS+ has them, is walked through at each of them; but inside of its
// further ones no other such folder is walked through again. Forty folders, each twice in
// the one before, would have 2^40 paths.
type seenFolders map[uint64]seenAt

// seenAt is where a folder was met first. That it has one name is what the volume says.
type seenAt struct {
	parent uint64
	name   string
}

// maxSeen bounds how many folders are kept that have one name, as the volume says.
const maxSeen = 1 << 18

// enter returns the walk inside of a folder that is met in a walk, unless ok is false.
func (s seenFolders) enter(w walk, info fs.FileInfo, name string) (in walk, ok bool) {
	f := factsOf(info)
	in = walk{f.id, w.depth + 1, w.again}
	if !f.known {
		return in, true
	}
	at, before := s[f.id]
	switch {
	case !before && (f.links > 1 || len(s) < maxSeen):
		s[f.id] = seenAt{w.folder, name}
	case before && (f.links > 1 || at != seenAt{w.folder, name}):
		in.again = true
		return in, !w.again
	}
	return in, true
}

// xattrFS is a file system that has extended attributes.
type xattrFS interface {
	ListXattr(name string) ([]string, error)
	OpenXattr(name, attr string) (*io.SectionReader, error)
}

// xattrNames returns the names of a file's extended attributes.
func xattrNames(files fs.FS, name string) ([]string, error) {
	if x, ok := files.(xattrFS); ok {
		return x.ListXattr(name)
	}
	return nil, nil
}

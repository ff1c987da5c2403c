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

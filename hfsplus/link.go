package hfsplus

import (
	"fmt"
	"io/fs"
	"sync/atomic"
)

// Hard links (TN1150, "Hard Links"; directory hard links: Apple's open source hfs).
// The links are files whose Finder info has a type and a creator of their own. What
// they link to lies in one of two private folders of the root folder, under a name
// with the number that the links have.

type linkKind uint8

const (
	noLink linkKind = iota
	fileLink
	folderLink
)

// privateFolders are the names of the folders, and how the names in them begin.
var privateFolders = [...]struct{ folder, prefix string }{
	fileLink:   {"\x00\x00\x00\x00HFS+ Private Data", "iNode"},
	folderLink: {".HFS+ Private Directory Data\r", "dir_"},
}

// linkKind finds out whether a file's record is a hard link.
func (fsys *FS) linkKind(data []byte) linkKind {
	chained := be.Uint16(data[2:])&hasLinkChain != 0
	switch string(data[48:56]) {
	case "hlnkhfs+":
		// Links older than Mac OS X 10.5 don't have the flag. macOS tells them from
		// other files by their date.
		if chained || be.Uint32(data[12:]) == fsys.rootCreated {
			return fileLink
		}
	case "fdrpMACS": // without the flag it is an alias file of the Finder
		if chained {
			return folderLink
		}
	}
	return noLink
}

// follow makes n what the link with this number leads to. It goes one step: a link
// to a link leads to the second link's file, which is empty.
func (fsys *FS) follow(n *node, kind linkKind, number uint32) error {
	folder, err := fsys.privateFolder(kind)
	if err != nil {
		return err
	}
	if folder != 0 {
		at, data, err := fsys.entry(folder, asciiUnits(fmt.Sprint(privateFolders[kind].prefix, number)))
		if err != nil {
			return err
		}
		if at.node != nil && (be.Uint16(data) == folderRecord) == (kind == folderLink) {
			n.leaf, n.rec, n.id = at.node.number, uint16(at.i), be.Uint32(data[8:])
			if n.typ = fs.ModeDir; kind == fileLink {
				n.typ = fileMode(be.Uint16(data[42:])).Type()
			}
			return nil
		}
	}
	n.broken = true
	return nil
}

// privateFolder returns a private folder's identifier, or 0 if there is none.
func (fsys *FS) privateFolder(kind linkKind) (uint32, error) {
	known := [...]*atomic.Uint32{fileLink: &fsys.fileLinks, folderLink: &fsys.folderLinks}[kind]
	if id := known.Load(); id != 0 {
		return id, nil
	}
	at, data, err := fsys.entry(rootID, asciiUnits(privateFolders[kind].folder))
	if at.node == nil || err != nil || be.Uint16(data) != folderRecord {
		return 0, err
	}
	id := be.Uint32(data[8:])
	known.Store(id)
	return id, nil
}

// asciiUnits is an ASCII name as it is stored.
func asciiUnits(name string) []byte {
	units := make([]byte, 0, 2*len(name))
	for i := range len(name) {
		units = append(units, 0, name[i])
	}
	return units
}

// hidden reports whether macOS shows nobody an entry: the private folders, and the
// journal's files.
func (fsys *FS) hidden(parent uint32, units []byte) bool {
	if parent != rootID || len(units) < 2 || be.Uint16(units) != 0 && be.Uint16(units) != '.' {
		return false
	}
	for _, name := range fsys.hiddenNames {
		if string(units) == name {
			return true
		}
	}
	return false
}

package apfs

import (
	"bytes"
	"io/fs"
	"math/bits"
	"strings"
	"time"
)

// Types of file system records: the top 4 bits of a key's first u64, above the id.
const (
	recSnapshot = 0x1
	recInode    = 0x3
	recAttr     = 0x4
	recExtent   = 0x8
	recEntry    = 0x9

	idMask = 1<<60 - 1
)

// Ids of inodes.
const rootID = 2

// recordKey is the part of a record's key by which trees sort first: the id, then the type.
func recordKey(id uint64, typ uint64) uint64 { return id<<4 | typ }

// fsKey takes apart a key of the file system tree or of the snapshot tree. Behind the id
// and type it has
//
//	4 attribute          8 length u16 · 10 name
//	5 sibling            8 id u64
//	8 extent             8 offset u64
//	9 entry, hashed      8 length of the name (10 bits), hash (22 bits) · 12 name
//	9 entry, plain       8 length u16 · 10 name
//	0xB snapshot's name  8 length u16 · 10 name
//	0xD file data hash   8 offset u64
//
// where names end with a NUL, which the length includes. Entries are sorted by hash, and
// those of one hash in an order on which readers disagree, so that it is left out here.
func fsKey(hashed bool) func([]byte) (treeKey, bool) {
	return func(k []byte) (treeKey, bool) {
		if len(k) < 8 {
			return treeKey{}, false
		}
		key := treeKey{a: bits.RotateLeft64(le.Uint64(k), 4)}
		switch typ := key.a & 0xF; {
		case typ == recEntry && hashed:
			if len(k) < 12 {
				return key, false
			}
			key.b = uint64(le.Uint32(k[8:]) >> 10)
		case typ == recEntry, typ == recAttr, typ == 0xB:
			name, ok := keyName(k, 10, 0xFFFF)
			if !ok {
				return key, false
			}
			key.name = name
		case typ == recExtent, typ == 0x5, typ == 0xD:
			if len(k) < 16 {
				return key, false
			}
			key.b = le.Uint64(k[8:])
		}
		return key, true
	}
}

// keyName returns the name in a key, whose length ends in front of it, without its NUL. A
// key of wrong length has none.
func keyName(k []byte, at int, mask uint16) ([]byte, bool) {
	if len(k) < at {
		return nil, false
	}
	n := int(le.Uint16(k[8:]) & mask)
	if n == 0 || n > len(k)-at || k[at+n-1] != 0 {
		return nil, false
	}
	return k[at : at+n-1], true
}

// An entry is a directory's record of a name:
//
//	0 inode id u64 · 8 date added u64 · 16 flags u16 (low 4 bits: type) · 18 extended fields
type entry struct {
	name string
	hash uint32 // of a hashed key
	id   uint64
	typ  fs.FileMode
}

// parseEntry takes apart a directory entry. It reports false for one that can't be right.
func parseEntry(k, v []byte, hashed bool) (e entry, ok bool) {
	at, mask := 10, uint16(0xFFFF)
	if hashed {
		at, mask = 12, 0x3FF
		e.hash = le.Uint32(k[8:]) >> 10
	}
	name, ok := keyName(k, at, mask)
	if !ok || len(v) < 18 {
		return e, false
	}
	e.name, e.id = string(name), le.Uint64(v)
	e.typ, ok = entryTypes[le.Uint16(v[16:])&0xF]
	return e, ok
}

// entryTypes are those of the C library's struct dirent.
var entryTypes = map[uint16]fs.FileMode{
	1: fs.ModeNamedPipe, 2: fs.ModeDevice | fs.ModeCharDevice, 4: fs.ModeDir, 6: fs.ModeDevice,
	8: 0, 10: fs.ModeSymlink, 12: fs.ModeSocket,
	14: fs.ModeIrregular, // a whiteout, of union mounts
}

// An inode is a file's record:
//
//	0 parent u64 · 8 private id u64 · 16 created · 24 modified · 32 changed · 40 accessed
//	48 internal flags u64 · 56 children or links i32 · 68 BSD flags u32 · 72 owner u32
//	76 group u32 · 80 mode u16 · 84 uncompressed size u64 · 92 extended fields
type inode struct {
	private                              uint64
	created, modified, changed, accessed time.Time
	links                                int32 // of a directory its children
	bsdFlags                             uint32
	uid, gid                             uint32
	mode                                 uint16
	stream                               *dstream // nil where the file has no content
	device                               uint32
}

const (
	inodeLen      = 92
	bsdCompressed = 0x20 // UF_COMPRESSED
)

// Types of extended fields.
const (
	fieldStream = 8
	fieldDevice = 14
)

// A dstream is {size u64, allocated u64, crypto id u64, written u64, read u64}.
type dstream struct {
	size     uint64
	cryptoID uint64
}

const dstreamLen = 40

func parseDstream(b []byte) *dstream { return &dstream{le.Uint64(b), le.Uint64(b[16:])} }

// parseInode takes apart an inode. It reports false for one that can't be right.
func parseInode(v []byte) (*inode, bool) {
	if len(v) < inodeLen {
		return nil, false
	}
	n := &inode{
		private: le.Uint64(v[8:]),
		created: fileTime(v[16:]), modified: fileTime(v[24:]), changed: fileTime(v[32:]), accessed: fileTime(v[40:]),
		links:    int32(le.Uint32(v[56:])),
		bsdFlags: le.Uint32(v[68:]), uid: le.Uint32(v[72:]), gid: le.Uint32(v[76:]),
		mode: le.Uint16(v[80:]),
	}
	ok := fields(v[inodeLen:], func(typ byte, b []byte) bool {
		switch typ {
		case fieldStream:
			if len(b) < dstreamLen {
				return false
			}
			n.stream = parseDstream(b)
		case fieldDevice:
			if len(b) < 4 {
				return false
			}
			n.device = le.Uint32(b)
		}
		return true
	})
	return n, ok
}

// fields gives out extended fields:
//
//	0 count u16 · 2 bytes u16 · count × {type u8, flags u8, size u16}, then the values
//
// each of which is padded to 8 bytes. It reports whether they fit and give liked them all.
func fields(b []byte, give func(typ byte, value []byte) bool) bool {
	if len(b) < 4 {
		return len(b) == 0
	}
	count := int(le.Uint16(b))
	heads := b[4:]
	if 4*count > len(heads) {
		return false
	}
	values := heads[4*count:]
	for i := range count {
		head := heads[4*i:]
		size := int(le.Uint16(head[2:]))
		if size > len(values) || !give(head[0], values[:size]) {
			return false
		}
		values = values[min((size+7)&^7, len(values)):] // the last one may lack its padding
	}
	return true
}

func fileTime(b []byte) time.Time {
	ns := int64(le.Uint64(b))
	return time.Unix(0, ns).UTC()
}

// fileMode is the mode of a file as Go has it.
func fileMode(mode uint16) (fs.FileMode, bool) {
	m := fs.FileMode(mode & 0o777)
	for bit, set := range map[uint16]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= set
		}
	}
	typ, ok := entryTypes[mode>>12]
	return m | typ, ok
}

// cString is a text in a field of fixed length, up to its NUL.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// Package apfstest writes APFS containers for tests. It shares nothing with the reader, and
// is written after Apple's reference; apfsck of apfsprogs accepts what it knows of them.
package apfstest

import (
	"io/fs"
	"time"
)

// A Container is what to write. The zero values of most fields stand for something usual.
type Container struct {
	BlockSize int    // 4096
	Blocks    uint64 // what the container claims; at least 32,768, as apfsck wants
	XID       uint64 // of the newest transaction; 100
	Compact   bool   // no space where Apple's tools leave some; apfsck complains
	UUID      [16]byte
	Volumes   []*Volume

	// Ring is how many blocks the descriptor area has: 8. Newest is where in it the map
	// of the newest checkpoint is; its superblock follows. Old is how many older ones
	// are in front of that.
	Ring, Newest, Old int
	// StaleBlock0 leaves block 0 to the oldest checkpoint, TornBlock0 makes its checksum
	// wrong, and Unfinished adds a checkpoint map without a superblock.
	StaleBlock0, TornBlock0, Unfinished bool

	MaxKeys  int    // of the nodes of object maps; 0: as many as fit
	Incompat uint64 // 2
	Hardware bool   // keys are in hardware
}

// A Volume is a file system to write.
type Volume struct {
	Name          string
	Role          uint16
	UUID          [16]byte // made of its number where it is zero
	CaseSensitive bool
	Exact         bool // names are not normalized, nor hashed
	Sealed        bool
	Incompat      uint64 // besides what the fields above say

	Root      []*File
	Snapshots []Snapshot // the oldest first
	// ShowSnapshot is which snapshot the volume is shown as; 0 for none, 1 for the first.
	ShowSnapshot int

	Users      []User // of an encrypted volume
	Converted  bool   // the key has 16 bytes, as FileVault 2 leaves it
	PerFileKey bool
	// CryptoID is added to the block to make an extent's crypto id.
	CryptoID uint64

	MaxKeys int // of the nodes of the file system tree; 0: as many as fit
}

// A User can open an encrypted volume.
type User struct {
	Password   string
	Iterations uint64 // 1000
}

// A Snapshot is a state of the volume.
type Snapshot struct {
	Name    string
	XID     uint64
	Created time.Time
	Root    []*File
}

// A File is a file, a directory or a symbolic link. The same *File in two snapshots is the
// same inode.
type File struct {
	Name     string
	Mode     uint16 // st_mode; 0100644
	Data     []byte
	Size     int64 // of the stream; len(Data) where it is 0
	Children []*File
	Target   string // of a symbolic link
	Xattrs   []Xattr
	Links    []*File // names of the same file: Name and Parent's children say where
	LinkTo   *File   // a further name of a file
	CloneOf  *File   // has that file's stream, by its private id
	Share    *File   // has a stream of its own over that file's blocks

	Fragment int    // blocks of an extent; extents are backwards on the disk
	Holes    []Hole // of Data, which has zeros there
	UID, GID uint32
	Flags    uint32 // BSD flags
	Rdev     uint32
	Modified time.Time

	// What follows is for damage.
	ID        uint64 // of the inode, instead of a number of its own
	NoInode   bool
	Hash      *uint32 // instead of the name's
	EntryType uint16  // instead of the mode's
}

// A Hole is a range of a file in whole blocks.
type Hole struct {
	Off, Len int64
	Missing  bool // there is no extent at all, instead of one of block 0
}

// An Xattr is an extended attribute.
type Xattr struct {
	Name   string
	Data   []byte
	Stream bool
	Flags  uint16 // besides stream or embedded
}

// Dir is a directory.
func Dir(name string, children ...*File) *File {
	return &File{Name: name, Mode: 0o040755, Children: children}
}

// Text is a file of a text.
func Text(name, text string) *File { return &File{Name: name, Data: []byte(text)} }

// Link is a symbolic link.
func Link(name, target string) *File { return &File{Name: name, Mode: 0o120755, Target: target} }

// FileMode is the mode as Go has it.
func (f *File) FileMode() fs.FileMode {
	m := fs.FileMode(f.Mode & 0o777)
	switch f.Mode >> 12 {
	case 4:
		m |= fs.ModeDir
	case 10:
		m |= fs.ModeSymlink
	}
	return m
}

// writer is a container being written.
type writer struct {
	c    *Container
	d    *Disk
	bs   int
	next uint64 // free block
	oid  uint64 // free object

	super   block
	volumes []record // of the container's object map
}

const (
	oidSpaceman = 1024 + iota
	oidReaper
	oidInnerQueue
	oidMainQueue
	firstOID
)

// Write writes the container. It panics where that can't be done: tests should not ask for
// it.
func (c *Container) Write() *Disk {
	def(&c.BlockSize, 4096)
	def(&c.XID, 100)
	def(&c.Ring, 8)
	def(&c.Incompat, 2)
	w := &writer{c: c, bs: c.BlockSize, oid: firstOID, d: &Disk{BlockSize: c.BlockSize}}
	w.next = 1 + uint64(c.Ring) + c.checkpointData()
	if c.UUID == [16]byte{} {
		copy(c.UUID[:], "container's UUID")
	}
	w.super = make(block, w.bs)
	var bags []bagEntry
	for i, v := range c.Volumes {
		bags = append(bags, w.volume(i, v)...)
	}
	w.super.u64(160, w.omap(w.volumes, nil, c.XID, true, c.MaxKeys))
	if bags != nil {
		w.super.u64(1296, w.keybag("container's keybag", bags, c.UUID, 0x6B657973))
		w.super.u64(1304, 1)
	}
	w.finish()
	return w.d
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// alloc takes n blocks.
func (w *writer) alloc(n uint64) uint64 {
	b := w.next
	w.next += n
	return b
}

func (w *writer) newOID() uint64 {
	w.oid++
	return w.oid - 1
}

// header writes an object's header and checksum.
func (w *writer) header(b block, oid, xid uint64, typ, subtype uint32) {
	b.u64(8, oid)
	b.u64(16, xid)
	b.u32(24, typ)
	b.u32(28, subtype)
	b.u64(0, fletcher(b))
}

// put stores a block, encrypted if there is a cipher.
func (w *writer) put(at uint64, b []byte, what string, c *xts) {
	n := (len(b) + w.bs - 1) / w.bs
	for uint64(len(w.d.blocks)) < at+uint64(n) {
		w.d.blocks = append(w.d.blocks, nil)
	}
	if c != nil {
		b = c.encrypt(b, at*uint64(w.bs/512))
	}
	for i := range n {
		part := make([]byte, w.bs)
		copy(part, b[i*w.bs:])
		w.d.blocks[at+uint64(i)] = part
	}
	if what != "" {
		o := Object{Block: at, Count: uint64(n), What: what}
		if c != nil {
			o.cipher, o.sector = c, at*uint64(w.bs/512)
		}
		w.d.Objects = append(w.d.Objects, o)
	}
}

// keybag writes an encrypted keybag, and returns its block.
func (w *writer) keybag(what string, entries []bagEntry, uuid [16]byte, typ uint32) uint64 {
	at := w.alloc(1)
	b := keybag(w.bs, entries...)
	w.header(b, at, w.c.XID, typ, 0)
	w.put(at, b, what, newXTS(append(append([]byte(nil), uuid[:]...), uuid[:]...)))
	return at
}

// Package hfsvol writes HFS+ and HFSX volumes for tests: such as Apple's tools write,
// and such as they could write but no sample shows, with forks in many extents, any
// size of node and block, and links of all kinds.
//
// It follows Apple's Technical Note TN1150 and shares no code with the reader. 7-Zip
// and The Sleuth Kit read what it writes. The same input always gives the same bytes.
// What can't be written, such as a record longer than a node, is a panic: a test asked
// for it.
package hfsvol

import "unicode/utf16"

// Options say what a volume is like. The zero value is a small HFS+ volume as macOS
// writes them.
type Options struct {
	HFSX       bool // version 5, which compares names as numbers
	FoldedHFSX bool // version 5, which compares names as HFS+ does

	BlockSize int // bytes, a power of two from 512 on; 0: 4096

	// Sizes of nodes in bytes, powers of two from 512 to 32768. 0: 4096, in the
	// attributes tree 8192.
	CatalogNode, ExtentsNode, AttributesNode int

	// MaxRecords bounds the records of a node of the catalog and the attributes
	// tree, so that trees become deep. 0: as many as fit.
	MaxRecords int

	// The catalog's and the attributes tree's forks are cut into extents of so many
	// blocks. 0: one extent.
	CatalogExtent, AttributesExtent int

	// CatalogRoom is how many blocks before the files the catalog gets, as newfs_hfs
	// gives it some. 0: it comes behind them, in blocks of its length.
	CatalogRoom int

	NoAttributes bool // no attributes tree at all; else there is one, maybe empty
	Wrapper      bool // inside an HFS volume, as Mac OS 8 and 9 write them
	Journal      Journal
	Dirty        bool // not marked as unmounted
	Spare        int  // free blocks at the end

	edit func(w *writer) // changes records before they are put into trees
}

// Journal says whether a volume has a journal.
type Journal int

const (
	NoJournal    Journal = iota
	EmptyJournal         // nothing waits to be replayed
	FullJournal          // something waits: a journal whose end is not its start
)

// An Entry is a file, a folder, or one of the names of either.
type Entry struct {
	Name  string   // as it is stored: decomposed, a slash for what Finder shows as one
	Units []uint16 // in place of Name: UTF-16, well-formed or not

	Dir      bool
	Children []*Entry // of a folder

	// Inode makes this a hard link: one of the names of Inode, which itself is in no
	// folder. Of a link all but the name, and Inode, is ignored.
	Inode *Entry

	Mode          uint16 // with the type of file; 0: 0100644 or 040755
	ZeroMode      bool   // write 0
	Owner, Group  uint32
	AdminFlags    uint8
	OwnerFlags    uint8
	Special       uint32 // of a device
	Type, Creator string // four bytes each, or none
	FinderFlags   uint16
	Time          uint32 // seconds since 1904, UTC; the access date is one later, and so on

	Data, Rsrc             []byte
	DataExtent, RsrcExtent int // cut into extents of so many blocks. 0: one extent
	Xattrs                 []Xattr

	// Shown is what readers show as the content of a file that is stored compressed.
	Shown []byte

	ID uint32 // set by Write

	stored *fork // of Data, once it has a place
}

// An Xattr is an extended attribute.
type Xattr struct {
	Name   string
	Data   []byte
	Fork   bool // in a fork of its own, not in the tree
	Extent int  // the fork is cut into extents of so many blocks. 0: one extent
}

// Symlink returns a symbolic link.
func Symlink(name, target string) *Entry {
	return &Entry{Name: name, Mode: 0120755, Type: "slnk", Creator: "rhap", Data: []byte(target)}
}

// File returns a file.
func File(name string, data []byte) *Entry { return &Entry{Name: name, Data: data} }

// Dir returns a folder.
func Dir(name string, children ...*Entry) *Entry {
	return &Entry{Name: name, Dir: true, Children: children}
}

// Link returns a name of an inode.
func Link(name string, inode *Entry) *Entry { return &Entry{Name: name, Inode: inode} }

// Content is what a reader shows: Shown if there is such, or Data.
func (e *Entry) Content() []byte {
	if e.Shown != nil {
		return e.Shown
	}
	return e.Data
}

// units is the entry's name in UTF-16.
func (e *Entry) units() []uint16 {
	if e.Units != nil {
		return e.Units
	}
	return utf16.Encode([]rune(e.Name))
}

// A Volume is what was written, and where things are in it.
type Volume struct {
	Image  []byte
	Offset int64 // in Image, of the HFS+ volume: 0 but for a wrapper

	BlockSize, Blocks int
	Header            int64 // offsets in Image of the volume header, its copy, and the journal's parts
	Copy              int64
	JournalInfo       int64
	JournalHeader     int64

	Catalog, Extents, Attributes Tree
}

// A Tree says where a B-tree's nodes and records are.
type Tree struct {
	NodeSize int
	Depth    int
	Root     int
	Nodes    []int64 // offsets in Image of all nodes, by number
	Records  []Record
	Extents  [][2]uint32 // of the tree's fork
}

// A Record is a record of a leaf or of an index node.
type Record struct {
	Node, Index int
	Height      int    // of the node: 1 for a leaf
	Key         []byte // without its length
	Off         int64  // in Image, of the key's length
	Data        int64  // in Image, of what follows the key
	Size        int    // of that
}

// Time is what an Entry without a time has: 2020-02-02 02:02:02 UTC.
const Time = 3663453722

// RootCreated is when the root folder was created, and so, by Apple's rule, all hard
// links.
const RootCreated = 3600000000

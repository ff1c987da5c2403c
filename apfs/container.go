package apfs

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// Offsets in a container superblock.
const (
	superMagic     = 32   // "NXSB"
	superBlockSize = 36   // u32
	superBlocks    = 40   // u64
	superIncompat  = 64   // u64
	superUUID      = 72   // 16 bytes
	superDescCount = 104  // u32: blocks of the descriptor area
	superDescBase  = 112  // i64: its first block
	superOmap      = 160  // u64: a block
	superVolumes   = 184  // 100 × u64: oids, 0 for none
	superFlags     = 1264 // u64
	superKeys      = 1296 // {block u64, count u64}: the container's keybag

	superLen = 4096 // the least size of a block

	containerMagic = "NXSB"
	maxVolumes     = 100
	minBlockSize   = 4096
	maxBlockSize   = 65536

	// maxDescriptors bounds what is read to find the newest superblock. Apple's tools
	// make areas of 8 to 280 blocks.
	maxDescriptors = 16384
	// descriptorsInPieces is set in the count where the area is not in one piece.
	descriptorsInPieces = 1 << 31

	incompatVersion1 = 0x1
	incompatVersion2 = 0x2
	incompatFusion   = 0x100

	softwareKeys = 4 // of the flags: keys are not in hardware
)

// Options of New. The zero value is for containers without encrypted volumes.
type Options struct {
	// Password opens encrypted volumes. It is the password of any of their users, or a
	// personal recovery key as macOS shows it. It is taken byte for byte, in UTF-8.
	Password string
}

// A Container is what an APFS partition holds: volumes that share its blocks.
//
// Its methods, those of its volumes and of their files may be called at the same time.
type Container struct {
	// UUID is the container's.
	UUID [16]byte
	// BlockSize is in bytes: BlockError.Block × BlockSize is where a block begins.
	BlockSize int

	dev      device
	super    []byte // the newest superblock
	xid      uint64 // its transaction
	password string
	cache    *nodeCache
	omap     *omap

	mu struct {
		sync.Mutex
		volumes [maxVolumes]*Volume
	}
}

// New finds the newest checkpoint in the container that r has at its start. Size is that
// of r, which may be less than what the container claims: what is missing can't be read.
// A nil o is like the zero Options.
//
// New reads the container's superblocks and its object map. Its errors are those of
// Container.Volumes.
func New(r io.ReaderAt, size int64, o *Options) (*Container, error) {
	c := &Container{cache: newNodeCache(nodeCacheSize)}
	if o != nil {
		c.password = o.Password
	}
	if size < superLen {
		return nil, fmt.Errorf("%w: %d bytes are no container", ErrFormat, size)
	}
	c.dev = device{r: r, size: size, blockSize: superLen}
	first, err := c.dev.read(0, superLen, "container superblock")
	if err != nil {
		return nil, err
	}
	if string(first[superMagic:superMagic+4]) != containerMagic {
		return nil, damaged(0, "container superblock", "no APFS container: the magic number is missing")
	}
	c.dev.blockSize = int64(le.Uint32(first[superBlockSize:]))
	if s := c.dev.blockSize; s < minBlockSize || s > maxBlockSize || bits.OnesCount64(uint64(s)) != 1 {
		return nil, damaged(0, "container superblock", "blocks of %d bytes", s)
	}
	if c.super, err = c.newest(first); err != nil {
		return nil, err
	}
	c.xid = le.Uint64(c.super[16:])
	c.BlockSize = int(c.dev.blockSize)
	copy(c.UUID[:], c.super[superUUID:])
	if err := c.checkFeatures(); err != nil {
		return nil, err
	}
	c.omap, err = c.openOmap(le.Uint64(c.super[superOmap:]))
	return c, err
}

// Format keeps the password out of whatever is printed.
func (o Options) Format(f fmt.State, _ rune) { io.WriteString(f, "apfs.Options{…}") }

// Format keeps the password out of whatever is printed.
func (c *Container) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "APFS container %x", c.UUID)
}

// newest returns the superblock of the newest checkpoint. The descriptor area is a ring of
// superblocks and of checkpoint maps. Block 0 is a copy of one of them, which may be old or
// torn: it says where the ring is, and counts only if there is nothing better.
//
// A checkpoint map that is newer than all superblocks is an unfinished write.
func (c *Container) newest(first []byte) (super []byte, err error) {
	count := le.Uint32(first[superDescCount:])
	if count&descriptorsInPieces != 0 {
		return nil, unsupported("a checkpoint descriptor area that is not in one piece")
	}
	if count > maxDescriptors {
		return nil, damaged(0, "container superblock", "%d checkpoint descriptor blocks", count)
	}
	var best []byte
	var bestXID uint64
	consider := func(b []byte, block uint64) {
		if string(b[superMagic:superMagic+4]) != containerMagic || le.Uint32(b[superBlockSize:]) != uint32(c.dev.blockSize) ||
			best != nil && le.Uint64(b[16:]) <= bestXID || checkObject(b, block, le.Uint64(b[8:]), typeSuperblock, "") != nil {
			return
		}
		best, bestXID = b, le.Uint64(b[16:])
	}
	base := le.Uint64(first[superDescBase:])
	ringErr := c.scanRing(base, uint64(count), consider)
	if ringErr != nil && !errors.Is(ringErr, ErrFormat) {
		return nil, ringErr
	}
	if c.dev.blockSize > superLen {
		if first, err = c.dev.read(0, c.dev.blockSize, "container superblock"); err != nil {
			return nil, err
		}
	}
	consider(first, 0)
	switch {
	case best != nil:
		return append([]byte(nil), best...), nil // not the piece of the ring around it
	case ringErr != nil:
		return nil, ringErr
	}
	return nil, mismatch(0, "container superblock, and all of its checkpoints")
}

// scanRing gives every block of the ring that is there.
func (c *Container) scanRing(base, count uint64, give func(b []byte, block uint64)) error {
	const piece = 1 << 20
	for done := uint64(0); done < count; {
		n := min(count-done, piece/uint64(c.dev.blockSize))
		if base+done < base || base+done >= c.dev.blocks() {
			return damaged(base, "checkpoint descriptor area", "it is past the end of the data")
		}
		n = min(n, c.dev.blocks()-base-done)
		b, err := c.dev.read(base+done, int64(n)*c.dev.blockSize, "checkpoint descriptor area")
		if err != nil {
			return err
		}
		for i := range n {
			give(b[int64(i)*c.dev.blockSize:][:c.dev.blockSize], base+done+i)
		}
		done += n
	}
	return nil
}

// checkFeatures refuses what this package does not read.
func (c *Container) checkFeatures() error {
	switch f := le.Uint64(c.super[superIncompat:]); {
	case f&incompatFusion != 0:
		return unsupported("Fusion drive: the container is spread over two disks")
	case f&incompatVersion1 != 0:
		return unsupported("APFS version 1, of a beta of macOS 10.12")
	case f&^incompatVersion2 != 0:
		return unsupported("container with incompatible features %#x", f&^incompatVersion2)
	}
	return nil
}

// physicalNode returns the load function of trees whose oids are blocks.
func (c *Container) physicalNode(kind *treeKind) func(uint64, []byte) (*node, error) {
	return func(block uint64, _ []byte) (*node, error) {
		key := nodeKey{kind: kind, oid: block, block: block}
		return c.node(key, func(b []byte) ([]byte, error) { return nil, checkNode(b, key) })
	}
}

// node returns a node from the cache; or it reads the node, and prepare decrypts and checks
// it. What prepare returns is kept as node.sum.
func (c *Container) node(key nodeKey, prepare func(b []byte) ([]byte, error)) (*node, error) {
	if n := c.cache.get(key); n != nil {
		return n, nil
	}
	b, err := c.dev.read(key.block, c.dev.blockSize, key.kind.name)
	if err != nil {
		return nil, err
	}
	sum, err := prepare(b)
	if err != nil {
		return nil, err
	}
	return c.keep(b, key, sum)
}

// keep parses a node, and puts it into the cache.
func (c *Container) keep(b []byte, key nodeKey, sum []byte) (*node, error) {
	n, err := parseNode(b, key.block, key.kind)
	if err != nil {
		return nil, err
	}
	n.sum = sum
	c.cache.put(key, n)
	return n, nil
}

// checkNode compares a node's header with what it should be.
func checkNode(b []byte, key nodeKey) error {
	typ := uint32(typeTreeNode)
	if le.Uint16(b[32:])&nodeRoot != 0 {
		typ = typeTreeRoot
	}
	if err := checkObject(b, key.block, key.oid, typ, key.kind.name); err != nil {
		return err
	}
	if sub := le.Uint32(b[28:]); sub != key.kind.subtype {
		return damaged(key.block, key.kind.name, "node of subtype %#x, want %#x", sub, key.kind.subtype)
	}
	return nil
}

package apfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/readat"
)

var le = binary.LittleEndian

// Every metadata block begins with
//
//	0 checksum u64 · 8 oid u64 · 16 xid u64 · 24 type u32 · 28 subtype u32
//
// where the type's low 16 bits are one of these.
const (
	typeSuperblock = 0x1
	typeTreeRoot   = 0x2
	typeTreeNode   = 0x3
	typeOmap       = 0xB
	typeVolume     = 0xD
	typeFSTree     = 0xE
	typeSnapTree   = 0x10
	typeIntegrity  = 0x1E
	typeExtentTree = 0x1F

	// Of the high bits these say how the oid of a tree is to be understood: as a
	// block's number, or by way of an object map.
	storageMask = 0xC0000000
	physical    = 0x40000000
)

// fletcher64 returns the checksum of a block: over all of it but the checksum, in
// 32-bit words. The sums of a block of 64 KiB stay below 2⁶⁰, so that one reduction at
// the end will do.
func fletcher64(block []byte) uint64 {
	const m = math.MaxUint32
	var a, c uint64
	for b := block[8:]; len(b) >= 8; b = b[8:] {
		w := le.Uint64(b)
		a += w & m
		c += a
		a += w >> 32
		c += a
	}
	x := m - (a+c)%m
	y := m - (a+x)%m
	return y<<32 | x
}

// device is the container's bytes, in blocks.
type device struct {
	r         io.ReaderAt
	size      int64 // of r: a container may claim more
	blockSize int64 // a power of two, 4096 to 65,536
}

// blocks returns how many whole blocks there are.
func (d *device) blocks() uint64 { return uint64(d.size / d.blockSize) }

// read returns n bytes from a block's start on. The caller bounds n.
func (d *device) read(block uint64, n int64, what string) ([]byte, error) {
	if block >= d.blocks() || n > d.size-int64(block)*d.blockSize {
		return nil, damaged(block, what, "the block is past the end of the data, which has %d blocks", d.blocks())
	}
	b := make([]byte, n)
	if _, err := readat.Full(d.r, b, int64(block)*d.blockSize); err != nil {
		return nil, fmt.Errorf("apfs: %s at block %d: %w", what, block, err)
	}
	return b, nil
}

// object reads a metadata block, and compares its checksum, type and id.
func (d *device) object(block, oid uint64, typ uint32, what string) ([]byte, error) {
	b, err := d.read(block, d.blockSize, what)
	if err != nil {
		return nil, err
	}
	return b, checkObject(b, block, oid, typ, what)
}

func checkObject(b []byte, block, oid uint64, typ uint32, what string) error {
	if le.Uint64(b) != fletcher64(b) {
		return mismatch(block, what)
	}
	if have := le.Uint32(b[24:]) & 0xFFFF; have != typ {
		return damaged(block, what, "object of type %#x, want %#x", have, typ)
	}
	if have := le.Uint64(b[8:]); have != oid {
		return damaged(block, what, "object %d, want %d", have, oid)
	}
	return nil
}

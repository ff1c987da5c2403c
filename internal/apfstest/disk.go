package apfstest

import (
	"encoding/binary"
	"io"
	"os"
)

var le = binary.LittleEndian

// A block is one block of a container, with setters by offset.
type block []byte

func (b block) u16(off int, v uint16) { le.PutUint16(b[off:], v) }
func (b block) u32(off int, v uint32) { le.PutUint32(b[off:], v) }
func (b block) u64(off int, v uint64) { le.PutUint64(b[off:], v) }

// An Object is a block of metadata, for those who bend it.
type Object struct {
	Block uint64
	Count uint64 // of blocks
	What  string // such as "superblock", "object map", "node of object map"

	cipher *xts // of an encrypted one
	sector uint64
}

// A Disk is a container that was written.
type Disk struct {
	BlockSize int
	Size      int64 // of the bytes in use; a container may claim more
	Claimed   int64 // what it claims
	Objects   []Object

	blocks [][]byte // nil for zeros
}

// ReadAt reads the disk as it is.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		if off >= d.Size {
			return n, io.EOF
		}
		in := int(off % int64(d.BlockSize))
		want := min(d.BlockSize-in, len(p)-n)
		if b := d.blocks[off/int64(d.BlockSize)]; b != nil {
			copy(p[n:n+want], b[in:])
		} else {
			clear(p[n : n+want])
		}
		n += want
		off += int64(want)
	}
	return n, nil
}

// Bytes returns the disk's bytes in use.
func (d *Disk) Bytes() []byte {
	b := make([]byte, d.Size)
	d.ReadAt(b, 0)
	return b
}

// WriteFile writes a sparse file of the claimed size.
func (d *Disk) WriteFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for i, b := range d.blocks {
		if b == nil {
			continue
		}
		if _, err := f.WriteAt(b, int64(i*d.BlockSize)); err != nil {
			f.Close()
			return err
		}
	}
	if err := f.Truncate(max(d.Claimed, d.Size)); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Bend returns a disk in which an object is another. Change gets the object decrypted, and
// changes it; what has a checksum gets a new one that is right. The disk itself stays.
func (d *Disk) Bend(o Object, change func(b []byte)) *Disk {
	return d.bend(o, change, true)
}

// Break is Bend without a new checksum.
func (d *Disk) Break(o Object, change func(b []byte)) *Disk {
	return d.bend(o, change, false)
}

func (d *Disk) bend(o Object, change func(b []byte), sum bool) *Disk {
	c := *d
	c.blocks = append([][]byte(nil), d.blocks...)
	plain := d.plain(o)
	change(plain)
	if sum {
		le.PutUint64(plain, fletcher(plain))
	}
	if o.cipher != nil {
		plain = o.cipher.encrypt(plain, o.sector)
	}
	for i := range o.Count {
		c.blocks[o.Block+i] = plain[int(i)*d.BlockSize:][:d.BlockSize]
	}
	return &c
}

// plain returns an object's bytes, decrypted.
func (d *Disk) plain(o Object) []byte {
	plain := make([]byte, 0, int(o.Count)*d.BlockSize)
	for i := range o.Count {
		plain = append(plain, d.blocks[o.Block+i]...)
	}
	if o.cipher != nil {
		plain = o.cipher.decrypt(plain, o.sector)
	}
	return plain
}

// fletcher is the checksum of a block, done by the book: modulo 2³²-1 at each word.
func fletcher(b []byte) uint64 {
	const m = 1<<32 - 1
	var a, c uint64
	for i := 8; i < len(b); i += 4 {
		a = (a + uint64(le.Uint32(b[i:]))) % m
		c = (c + a) % m
	}
	x := m - (a+c)%m
	y := m - (a+x)%m
	return y<<32 | x
}

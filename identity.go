package dmg

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// identity returns a hash of all that tells the image from others: of the size,
// what the trailer and the block tables say, which has checksums of the content
// as a rule, and the chunk map. It reads the source only where there are none.
func (im *Image) identity() (id [sha256.Size]byte, err error) {
	h := sha256.New()
	f := fingerprint{h: h}
	f.numbers(uint64(im.plain.size), uint64(im.size), uint64(len(im.tables)), uint64(len(im.chunks)))
	f.bytes([]byte(im.plain.format))
	if k := im.koly; k != nil {
		f.numbers(k.runningOffset, k.data.off, k.data.length, k.rsrc.off, k.rsrc.length, k.xml.off, k.xml.length)
		f.numbers(uint64(k.segment), uint64(k.segments), k.sectors)
		f.bytes(k.segmentSet[:])
		f.checksum(k.dataSum)
		f.checksum(k.masterSum)
	}
	for i := range im.tables {
		t := &im.tables[i]
		f.bytes([]byte(t.name))
		f.numbers(t.first, t.count)
		f.checksum(t.sum)
	}
	for i := range im.chunks {
		c := &im.chunks[i]
		f.numbers(uint64(c.Method), uint64(c.Offset), uint64(c.Length), uint64(c.DataOffset), uint64(c.DataLength))
	}
	if k := im.koly; k != nil && !k.dataSum.says() && !k.masterSum.says() {
		err = im.sample(&f)
	}
	f.flush()
	h.Sum(id[:0])
	return id, err
}

// says reports whether c can tell contents apart.
func (c *checksum) says() bool {
	return c.kind != 0 && len(bytes.Trim(c.sum, "\x00")) > 0
}

// sample adds the ends of up to 128 chunks' data, evenly spread: there the
// checksums of zlib and bzip2 streams are.
func (im *Image) sample(f *fingerprint) error {
	const most, length = 64, 32
	stored := 0
	for i := range im.chunks {
		if im.chunks[i].DataLength > 0 {
			stored++
		}
	}
	k, step := 0, max(1, stored/most)
	for i := range im.chunks {
		c := &im.chunks[i]
		if c.DataLength == 0 {
			continue
		}
		if k++; k%step != 0 {
			continue
		}
		var buf [length]byte
		b := buf[:min(length, c.DataLength)]
		if _, err := im.src.ReadAt(b, c.DataOffset+c.DataLength-int64(len(b))); err != nil {
			return err
		}
		f.bytes(b)
	}
	return nil
}

// fingerprint hashes numbers and byte strings, so that no two sequences of them
// look the same.
type fingerprint struct {
	h hash.Hash
	b []byte
}

func (f *fingerprint) numbers(v ...uint64) {
	for _, n := range v {
		f.b = binary.BigEndian.AppendUint64(f.b, n)
	}
	if len(f.b) > 4<<10 {
		f.flush()
	}
}

func (f *fingerprint) bytes(p []byte) {
	f.numbers(uint64(len(p)))
	f.b = append(f.b, p...)
}

func (f *fingerprint) checksum(c checksum) {
	f.numbers(uint64(c.kind))
	f.bytes(c.sum)
}

func (f *fingerprint) flush() {
	f.h.Write(f.b)
	f.b = f.b[:0]
}

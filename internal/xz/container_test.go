package xz

import (
	"encoding/binary"
	"hash/crc32"
)

// container writes .xz files around data that is given, right or wrong.
type container struct {
	check   byte
	blocks  []byte
	records []uint64 // of the index: unpadded and uncompressed sizes
}

func sum(p []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(p)) }

// block writes a block whose header has these filters, and no sizes.
func (w *container) block(filters, data, check []byte) { w.blockOf(0, filters, data, check) }

// blockOf writes a block whose header has these flags and then these fields. The
// index says that it has three bytes of output if it has more than one of input.
func (w *container) blockOf(flags byte, fields, data, check []byte) {
	head := append([]byte{0, flags}, fields...)
	for len(head)%4 != 0 {
		head = append(head, 0)
	}
	head[0] = byte(len(head) / 4)
	head = append(head, sum(head)...)
	w.blocks = append(append(w.blocks, head...), data...)
	for i := len(data); i%4 != 0; i++ {
		w.blocks = append(w.blocks, 0)
	}
	w.blocks = append(w.blocks, check...)
	size := uint64(0)
	if len(data) > 1 {
		size = produced(data)
	}
	w.records = append(w.records, uint64(len(head)+len(data)+len(check)), size)
}

// produced counts what LZMA2 chunks say that they decode to.
func produced(p []byte) (n uint64) {
	for len(p) > 0 && p[0] != 0 {
		size := int(p[1])<<8 + int(p[2]) + 1
		if p[0] >= 0x80 {
			size += int(p[0]&0x1F) << 16
		}
		switch {
		case p[0] < 0x80:
			p = p[min(len(p), 3+size):]
		case p[0] < 0xC0:
			p = p[min(len(p), 5+int(p[3])<<8+int(p[4])+1):]
		default:
			p = p[min(len(p), 6+int(p[3])<<8+int(p[4])+1):]
		}
		n += uint64(size)
	}
	return n
}

// end returns the file.
func (w *container) end() []byte {
	flags := []byte{0, w.check}
	file := append([]byte(headerMagic), flags...)
	file = append(append(file, sum(flags)...), w.blocks...)
	index := binary.AppendUvarint([]byte{0}, uint64(len(w.records)/2))
	for _, n := range w.records {
		index = binary.AppendUvarint(index, n)
	}
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = append(index, sum(index)...)
	tail := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	file = append(append(file, index...), sum(tail)...)
	return append(append(file, tail...), footerMagic...)
}

// seal makes the checksums of a stream's header and of its first block's right,
// for a fuzzer that can't.
func seal(raw []byte) {
	if len(raw) < streamHeaderLen+1 {
		return
	}
	copy(raw, headerMagic)
	copy(raw[8:], sum(raw[6:8]))
	n := int(raw[streamHeaderLen]) * 4
	if n > 0 && len(raw) >= streamHeaderLen+n+4 {
		copy(raw[streamHeaderLen+n:], sum(raw[streamHeaderLen:streamHeaderLen+n]))
	}
}

package dmgtest

import "encoding/binary"

// Program is a Mach-O program of one processor, as far as its headers go.
type Program struct {
	Order        binary.AppendByteOrder // nil: little-endian
	CPU, Subtype uint32
	Size         int      // bytes before the signature, a multiple of 16; 0: 8192
	Data         []byte   // what fills it behind the headers
	Signing      *Signing // nil: not signed
}

// Bytes is the program, for macOS 11.2.
func (p Program) Bytes() []byte {
	order := p.Order
	if order == nil {
		order = binary.LittleEndian
	}
	u32 := func(vs ...uint32) (b []byte) {
		for _, v := range vs {
			b = order.AppendUint32(b, v)
		}
		return b
	}
	size := p.Size
	if size == 0 {
		size = 8192
	}
	const headLen, buildLen = 32, 24
	commands := u32(0x32, buildLen, 1, 11<<16|2<<8, 12<<16, 0) // LC_BUILD_VERSION
	n := uint32(1)
	if p.Signing != nil {
		commands = append(commands, u32(0x1D, 16, uint32(size), 0)...) // LC_CODE_SIGNATURE
		n++
	}
	head := u32(0xfeedfacf, p.CPU, p.Subtype, 2, n, uint32(len(commands)), 0, 0)
	code := make([]byte, size)
	copy(code[copy(code, append(head, commands...)):], p.Data)
	if p.Signing == nil {
		return code
	}
	sig := p.Signing.Superblob(code, nil)
	order.AppendUint32(code[:headLen+buildLen+12], uint32(len(sig))) // too late to be signed
	return append(code, sig...)
}

// FatProgram is a program of several processors.
func FatProgram(programs ...Program) []byte {
	const at = 4096
	b := binary.BigEndian.AppendUint32(nil, 0xcafebabe)
	b = binary.BigEndian.AppendUint32(b, uint32(len(programs)))
	var body []byte
	for _, p := range programs {
		code := p.Bytes()
		for _, v := range []uint32{p.CPU, p.Subtype, at + uint32(len(body)), uint32(len(code)), 4} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		body = append(body, code...)
		body = append(body, make([]byte, -len(body)&15)...)
	}
	return append(append(b, make([]byte, at-len(b))...), body...)
}

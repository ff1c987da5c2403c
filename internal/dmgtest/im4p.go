package dmgtest

import "slices"

// IM4P is a firmware file around a payload.
type IM4P struct {
	Type, Description string // type: four letters, "rdsk" if empty
	Payload           []byte
	Keybag            []byte // if not nil
	Compressed        bool   // there is a part with these two
	Algorithm, Size   int64
	First             bool // that part is before the keybag
	Properties        bool // a part that is no reader's
	IMG4              bool // an IMG4 is around it, with a manifest
	Long              bool // lengths take four bytes each, but those of strings
}

// Bytes writes the file.
func (f IM4P) Bytes() []byte {
	if f.Type == "" {
		f.Type = "rdsk"
	}
	compression := []byte{}
	if f.Compressed {
		compression = f.element(0x30, f.integer(f.Algorithm), f.integer(f.Size))
	}
	keybag := []byte{}
	if f.Keybag != nil {
		keybag = f.element(0x04, f.Keybag)
	}
	if f.First {
		keybag, compression = compression, keybag
	}
	properties := []byte{}
	if f.Properties {
		properties = f.element(0xA0, f.element(0x30, f.element(0x16, []byte("PAYP")), f.element(0x31)))
	}
	b := f.element(0x30, f.element(0x16, []byte("IM4P")), f.element(0x16, []byte(f.Type)), f.element(0x16, []byte(f.Description)),
		f.element(0x04, f.Payload), keybag, compression, properties)
	if f.IMG4 {
		b = f.element(0x30, f.element(0x16, []byte("IMG4")), b, f.element(0xA0, f.element(0x30, f.element(0x16, []byte("IM4M")))))
	}
	return b
}

// element writes an element of DER.
func (f IM4P) element(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	n := len(content)
	head := []byte{tag}
	switch {
	case f.Long && tag != 0x16 || n >= 1<<24: // names are found by their bytes
		head = append(head, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	case n >= 1<<16:
		head = append(head, 0x83, byte(n>>16), byte(n>>8), byte(n))
	case n >= 1<<8:
		head = append(head, 0x82, byte(n>>8), byte(n))
	case n >= 1<<7:
		head = append(head, 0x81, byte(n))
	default:
		head = append(head, byte(n))
	}
	return append(head, content...)
}

func (f IM4P) integer(v int64) []byte {
	b := []byte{byte(v)}
	for v >>= 8; v != 0 && v != -1; v >>= 8 {
		b = append(b, byte(v))
	}
	if last := b[len(b)-1]; v == 0 && last >= 0x80 {
		b = append(b, 0)
	}
	slices.Reverse(b)
	return f.element(0x02, b)
}

package appinfo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/go-dmg/dmg/internal/codesign"
	"github.com/go-dmg/dmg/internal/readat"
)

// Limits of a program's headers. Apple's linkers make load commands of some KB.
const (
	maxSlices   = 32
	maxCommands = 1 << 20 // bytes
	headLen     = 4 << 10 // what is read at first
)

// architectures are the names that lipo has for types of processors.
var architectures = map[uint32]string{
	7: "i386", 7 | is64: "x86_64", 12: "arm", 12 | is64: "arm64", 12 | is32: "arm64_32", 18: "ppc", 18 | is64: "ppc64",
}

const (
	is64 = 0x01000000
	is32 = 0x02000000
)

// subtypes are names of their own.
var subtypes = map[[2]uint32]string{
	{7 | is64, 8}: "x86_64h", {12, 6}: "armv6", {12, 9}: "armv7", {12, 11}: "armv7s", {12 | is64, 2}: "arm64e",
}

// architecture names a processor.
func architecture(cpu, subtype uint32) string {
	subtype &= 0xFFFFFF // above are capabilities
	if name := subtypes[[2]uint32{cpu, subtype}]; name != "" {
		return name
	}
	if name := architectures[cpu]; name != "" {
		return name
	}
	return fmt.Sprintf("cpu %#x", cpu)
}

// errMachO means that a program is no Mach-O file, or a damaged one.
var errMachO = errors.New("no Mach-O program")

// program reads what the headers of an application's program say.
func (f *Finder) program(it *Item, name string) {
	r, size, closer, err := f.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = &contentError{name, "the program is missing"}
	}
	if err != nil {
		it.Err = err
		return
	}
	defer closer.Close()
	p := program{r: r, size: size}
	err = p.read()
	it.Architectures = p.architectures
	if it.MinSystem == "" {
		it.MinSystem = p.minSystem
	}
	it.Signature, it.TeamID = p.signature, p.team
	var bad *codesign.Error
	switch {
	case errors.Is(err, errMachO), errors.As(err, &bad), errors.Is(err, codesign.ErrUnsupported):
		it.Err = &contentError{name, err.Error()}
	case err != nil:
		it.Err = err
	}
}

// program is a Mach-O file, as <mach-o/loader.h> and <mach-o/fat.h> in Apple's SDK have it.
type program struct {
	r    io.ReaderAt
	size int64
	head []byte // the start of r

	architectures []string
	minSystem     string
	signature     string
	team          string
}

// Magic numbers as they are read big-endian.
const (
	magicFat   = 0xcafebabe
	magicFat64 = 0xcafebabf
	magic32    = 0xfeedface
	magic64    = 0xfeedfacf
	cigam32    = 0xcefaedfe
	cigam64    = 0xcffaedfe
)

// read reads the headers. Of a file for several processors it takes the signature, and the
// system's version, of the first: they are signed alike.
func (p *program) read() error {
	p.head = make([]byte, min(p.size, headLen))
	if _, err := readat.Full(p.r, p.head, 0); err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(string(p.head), "#!"):
		return nil // a script
	case len(p.head) < 8:
		return errMachO
	}
	u32, u64 := binary.BigEndian.Uint32, binary.BigEndian.Uint64
	entryLen := 20
	switch u32(p.head) {
	case magicFat64:
		entryLen = 32
	case magicFat:
	default:
		return p.slice(0, p.size, true)
	}
	n := u32(p.head[4:])
	if n == 0 || n > maxSlices || 8+int(n)*entryLen > len(p.head) { // a class file of Java has this magic, too
		return errMachO
	}
	for i := range int(n) {
		e := p.head[8+i*entryLen:]
		p.architectures = append(p.architectures, architecture(u32(e), u32(e[4:])))
	}
	e := p.head[8:]
	off, length := uint64(u32(e[8:])), uint64(u32(e[12:]))
	if entryLen == 32 {
		off, length = u64(e[8:]), u64(e[16:])
	}
	if off > uint64(p.size) || length > uint64(p.size)-off {
		return errMachO
	}
	return p.slice(int64(off), int64(length), false)
}

// slice reads the headers of one processor's program.
func (p *program) slice(off, size int64, alone bool) error {
	h := p.head
	if off > 0 {
		h = make([]byte, min(size, headLen))
		if _, err := readat.Full(p.r, h, off); err != nil {
			return err
		}
	}
	if len(h) < 32 {
		return errMachO
	}
	var order binary.ByteOrder = binary.BigEndian
	headerLen := 28
	switch binary.BigEndian.Uint32(h) {
	case magic32:
	case magic64:
		headerLen = 32
	case cigam32:
		order = binary.LittleEndian
	case cigam64:
		order, headerLen = binary.LittleEndian, 32
	default:
		return errMachO
	}
	if alone {
		p.architectures = append(p.architectures, architecture(order.Uint32(h[4:]), order.Uint32(h[8:])))
	}
	length := int64(order.Uint32(h[20:]))
	if length > maxCommands || length > size-int64(headerLen) {
		return errMachO
	}
	commands := h[headerLen:]
	if length <= int64(len(commands)) {
		commands = commands[:length]
	} else {
		commands = make([]byte, length)
		if _, err := readat.Full(p.r, commands, off+int64(headerLen)); err != nil {
			return err
		}
	}
	if err := p.commands(commands, order, off, size); err != nil {
		return err
	}
	if p.signature == "" {
		p.signature = Unsigned
	}
	return nil
}

// Load commands.
const (
	lcCodeSignature = 0x1D
	lcVersionMinOSX = 0x24
	lcBuildVersion  = 0x32
	platformMacOS   = 1
)

// commands looks at load commands for the system's version and the signature.
func (p *program) commands(b []byte, order binary.ByteOrder, off, size int64) error {
	for len(b) >= 8 {
		kind, n := order.Uint32(b), order.Uint32(b[4:])
		if n < 8 || uint64(n) > uint64(len(b)) {
			return errMachO
		}
		c := b[:n]
		b = b[n:]
		switch {
		case kind == lcVersionMinOSX && n >= 16:
			p.minSystem = version(order.Uint32(c[8:]))
		case kind == lcBuildVersion && n >= 24 && order.Uint32(c[8:]) == platformMacOS:
			p.minSystem = version(order.Uint32(c[12:]))
		case kind == lcCodeSignature && n >= 16 && p.signature == "":
			at, length := int64(order.Uint32(c[8:])), int64(order.Uint32(c[12:]))
			if at > size || length > size-at {
				return errMachO
			}
			if err := p.signer(off+at, length); err != nil {
				return err
			}
		}
	}
	return nil
}

// version is a version of a system: a half and two quarters of 32 bits.
func version(v uint32) string {
	s := fmt.Sprintf("%d.%d", v>>16, v>>8&0xFF)
	if v&0xFF > 0 {
		s += fmt.Sprintf(".%d", v&0xFF)
	}
	return s
}

// signer reads who signed the program: by the code directory, or by the signer's certificate,
// where older signatures alone have it.
func (p *program) signer(off, length int64) error {
	const adHoc = 2
	s, err := codesign.Open(io.NewSectionReader(p.r, off, length), length)
	if err != nil {
		return err
	}
	d, err := s.Names()
	if err != nil {
		return err
	}
	p.signature, p.team = Signed, d.TeamID
	if d.Flags&adHoc != 0 {
		p.signature = AdHoc
		return nil
	}
	if p.team != "" {
		return nil
	}
	c, err := s.CMS()
	switch {
	case err != nil:
		return err
	case c == nil:
		p.signature = AdHoc
	case len(c.Certificates) > 0:
		p.team = teamOf(c.Certificates[0])
	}
	return nil
}

package dmgtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Resource is one datum of the resource fork or of its copy in the plist.
// Names are written byte for byte: they need not be UTF-8.
type Resource struct {
	Type       string // four characters
	ID         int
	Name       string
	CFName     string // plist only; absent where empty, as in old images
	Attributes uint16
	Data       []byte
}

const plistHead = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
`

// Plist is the resources as the XML that hdiutil writes.
func Plist(all []Resource) []byte {
	var b bytes.Buffer
	b.WriteString(plistHead + "<dict>\n\t<key>resource-fork</key>\n\t<dict>\n")
	for _, kind := range types(all) {
		fmt.Fprintf(&b, "\t\t<key>%s</key>\n\t\t<array>\n", escape(kind))
		for _, r := range all {
			if r.Type == kind {
				r.writeXML(&b)
			}
		}
		b.WriteString("\t\t</array>\n")
	}
	b.WriteString("\t</dict>\n</dict>\n</plist>\n")
	return b.Bytes()
}

func (r *Resource) writeXML(b *bytes.Buffer) {
	const in = "\t\t\t\t"
	fmt.Fprintf(b, "\t\t\t<dict>\n%s<key>Attributes</key>\n%s<string>%#04x</string>\n", in, in, r.Attributes)
	if r.CFName != "" {
		fmt.Fprintf(b, "%s<key>CFName</key>\n%s<string>%s</string>\n", in, in, escape(r.CFName))
	}
	fmt.Fprintf(b, "%s<key>Data</key>\n%s<data>\n", in, in)
	const line = 39 // bytes, 52 characters: what fits beside the tabs
	for d := r.Data; len(d) > 0; d = d[min(line, len(d)):] {
		b.WriteString(in + base64.StdEncoding.EncodeToString(d[:min(line, len(d))]) + "\n")
	}
	fmt.Fprintf(b, "%s</data>\n%s<key>ID</key>\n%s<string>%d</string>\n", in, in, in, r.ID)
	fmt.Fprintf(b, "%s<key>Name</key>\n%s<string>%s</string>\n\t\t\t</dict>\n", in, in, escape(r.Name))
}

// escape leaves every byte alone that XML lets stand, and those that only
// ill-formed XML has.
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// types lists the resources' types in the order of their first appearance.
func types(all []Resource) []string {
	var kinds []string
	seen := map[string]bool{}
	for _, r := range all {
		if !seen[r.Type] {
			seen[r.Type] = true
			kinds = append(kinds, r.Type)
		}
	}
	return kinds
}

// A resource fork's header fills 256 bytes; the map's begins with a copy of
// it, and its type list comes 28 bytes in.
const (
	rsrcDataAt = 256
	rsrcTypes  = 28
)

// ResourceFork is the resources as a classic resource fork. Its offsets have
// 24 bits for data and 16 for the rest.
func ResourceFork(all []Resource) ([]byte, error) {
	if len(all) == 0 {
		return nil, errors.New("a resource fork needs a resource")
	}
	kinds := types(all)
	var data, typeList, refs, names []byte
	be := binary.BigEndian
	typeList = be.AppendUint16(typeList, uint16(len(kinds)-1))
	refsAt := 2 + 8*len(kinds) // from the type list's start
	for _, kind := range kinds {
		if len(kind) != 4 {
			return nil, fmt.Errorf("resource type %q is not four characters", kind)
		}
		count := 0
		at := refsAt + len(refs)
		for _, r := range all {
			if r.Type != kind {
				continue
			}
			if len(data) >= 1<<24 || len(names) >= 1<<15 || at+12*(count+1) >= 1<<16 {
				return nil, errors.New("too much for a resource fork")
			}
			count++
			name := r.Name[:min(len(r.Name), 255)]
			refs = be.AppendUint16(refs, uint16(r.ID))
			refs = be.AppendUint16(refs, uint16(len(names)))
			refs = be.AppendUint32(refs, uint32(r.Attributes&0xFF)<<24|uint32(len(data)))
			refs = be.AppendUint32(refs, 0)
			names = append(append(names, byte(len(name))), name...)
			data = append(be.AppendUint32(data, uint32(len(r.Data))), r.Data...)
		}
		typeList = append(typeList, kind...)
		typeList = be.AppendUint16(typeList, uint16(count-1))
		typeList = be.AppendUint16(typeList, uint16(at))
	}
	return joinFork(data, append(typeList, refs...), names), nil
}

// joinFork puts the header before the data, and the map after it.
func joinFork(data, lists, names []byte) []byte {
	be := binary.BigEndian
	mapLen := rsrcTypes + len(lists) + len(names)
	var head []byte
	for _, v := range []int{rsrcDataAt, rsrcDataAt + len(data), len(data), mapLen} {
		head = be.AppendUint32(head, uint32(v))
	}
	m := append(bytes.Clone(head), make([]byte, 8)...)
	m = be.AppendUint16(m, rsrcTypes)
	m = be.AppendUint16(m, uint16(rsrcTypes+len(lists)))
	return bytes.Join([][]byte{head, make([]byte, rsrcDataAt-len(head)), data, m, lists, names}, nil)
}

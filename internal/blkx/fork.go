package blkx

import (
	"encoding/binary"
	"slices"

	"github.com/go-dmg/dmg/internal/plistguard"
)

// MaxFork is the length of the longest resource fork, in bytes: its data is found by
// offsets of 24 bits.
const MaxFork = 32 << 20

// IsFork reports whether b looks like the beginning of a resource fork of length bytes.
func IsFork(b []byte, length uint64) bool {
	if len(b) < forkHeader {
		return false
	}
	data, dmap := forkParts(b)
	return data.off >= forkHeader && data.within(length) && dmap.off >= forkHeader && dmap.within(length)
}

// ParseFork returns the resources of type blkx. The layout is that of Inside
// Macintosh: More Macintosh Toolbox, "Resource Fork Format".
func ParseFork(fork []byte) ([]Resource, error) {
	found, err := ForkResources(fork, "blkx")
	if err != nil {
		return nil, err
	}
	if found["blkx"] == nil {
		return nil, &Error{Section: "resource map", Msg: "no blkx resources"}
	}
	return found["blkx"], nil
}

// ForkResources returns the resources of the given types, by type. Their data lies in fork.
// An error is an *Error.
func ForkResources(fork []byte, types ...string) (map[string][]Resource, error) {
	bad := func(at int, msg string) (map[string][]Resource, error) {
		return nil, &Error{Section: "resource fork", Offset: int64(at), Msg: msg}
	}
	if len(fork) < forkHeader {
		return bad(0, "short header")
	}
	data, dmap := forkParts(fork)
	if n := uint64(len(fork)); !data.within(n) || !dmap.within(n) {
		return bad(0, "data or map outside the fork")
	}
	m := forkMap{
		at:   int(dmap.off),
		data: fork[data.off : data.off+data.length],
		b:    fork[dmap.off : dmap.off+dmap.length],
		left: int(data.length),
	}
	return m.resources(types)
}

// forkHeader is the length of a resource fork's header.
const forkHeader = 16

// forkParts returns where a resource fork says that its data and its map are.
func forkParts(fork []byte) (data, dmap extent) {
	b := readBuf(fork[:forkHeader])
	data.off, dmap.off = uint64(b.uint32()), uint64(b.uint32())
	data.length, dmap.length = uint64(b.uint32()), uint64(b.uint32())
	return data, dmap
}

// extent is a part of a fork as its header claims it.
type extent struct{ off, length uint64 } // of 32 bits each

// within reports whether e lies in the first size bytes of a fork.
func (e extent) within(size uint64) bool { return e.off+e.length <= size }

// readBuf reads big-endian fields off a slice whose length has been checked.
type readBuf []byte

func (b *readBuf) uint16() uint16 { return binary.BigEndian.Uint16(b.sub(2)) }

func (b *readBuf) uint32() uint32 { return binary.BigEndian.Uint32(b.sub(4)) }

func (b *readBuf) sub(n int) []byte {
	v := (*b)[:n]
	*b = (*b)[n:]
	return v
}

// forkMap is the index of a resource fork.
type forkMap struct {
	at   int    // of the map in the fork, for errors
	b    []byte // the map
	data []byte // what the map points into
	left int    // of data: resources don't share it, or thousands could, of megabytes each
}

func (m *forkMap) bad(at int, msg string) error {
	return &Error{Section: "resource map", Offset: int64(m.at + at), Msg: msg}
}

// resources finds the types and reads their references.
func (m *forkMap) resources(types []string) (map[string][]Resource, error) {
	const listsAt = 24
	if len(m.b) < listsAt+4 {
		return nil, m.bad(0, "short map")
	}
	b := readBuf(m.b[listsAt:])
	at, names := int(b.uint16()), int(b.uint16())
	if at+2 > len(m.b) {
		return nil, m.bad(listsAt, "type list outside the map")
	}
	b = readBuf(m.b[at:])
	found := make(map[string][]Resource)
	// Counts are stored less one; 0xFFFF stands for none.
	for range int(b.uint16() + 1) {
		if len(found) == len(types) {
			break // what follows is of no account
		}
		if len(b) < 8 {
			return nil, m.bad(at, "short type list")
		}
		kind, count, refs := string(b.sub(4)), int(b.uint16())+1, int(b.uint16())
		if !slices.Contains(types, kind) || found[kind] != nil {
			continue
		}
		var err error
		if found[kind], err = m.references(at+refs, count, names); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// references reads count resources whose list starts at byte at of the map.
func (m *forkMap) references(at, count, names int) ([]Resource, error) {
	const refLen = 12
	if at > len(m.b) || count*refLen > len(m.b)-at {
		return nil, m.bad(at, "reference list outside the map")
	}
	b := readBuf(m.b[at:])
	tables := make([]Resource, count)
	for i := range tables {
		id := int(int16(b.uint16()))
		name := int(int16(b.uint16()))
		off := int(b.uint32() & 0xFFFFFF) // below the attributes
		b.sub(4)                          // room for a handle in memory
		if off > len(m.data)-4 {
			return nil, m.bad(at+i*refLen, "resource outside the data")
		}
		d := m.data[off:]
		n := uint64(binary.BigEndian.Uint32(d))
		if n > uint64(len(d)-4) {
			return nil, m.bad(at+i*refLen, "resource longer than the data")
		}
		if m.left -= 4 + int(n); m.left < 0 {
			return nil, m.bad(at+i*refLen, "resources overlap")
		}
		tables[i] = Resource{ID: id, Name: m.name(names + name), Data: d[4 : 4+n]}
	}
	return tables, nil
}

// name returns the counted string at byte at of the map, "" if it isn't there. Such
// names are in Mac OS Roman.
func (m *forkMap) name(at int) string {
	if at < 0 || at >= len(m.b) || int(m.b[at]) > len(m.b)-at-1 {
		return ""
	}
	return plistguard.MacRoman(m.b[at+1 : at+1+int(m.b[at])])
}

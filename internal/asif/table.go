package asif

import (
	"encoding/binary"
	"fmt"
)

// piece returns an extent that begins at off and ends where another may, at the end of
// its chunk at the latest, but for holes. It also returns how many chunks of the file are
// said to be used by what begins there. The error is the source's.
func (d *Disk) piece(off int64) (Extent, int64, error) {
	reach := d.tableReach()
	t, within := off/reach, off%reach
	tableRest := min(reach-within, d.size-off)
	table, rest, fault, err := d.table(t)
	switch {
	case err != nil:
		return Extent{}, 0, err
	case fault != nil && rest: // no directory any more
		return Extent{Offset: off, Length: d.size - off, Err: fault}, 0, nil
	case fault != nil:
		return Extent{Offset: off, Length: tableRest, Err: fault}, 0, nil
	case table == 0:
		return Extent{Offset: off, Length: tableRest, Hole: true}, 0, nil
	}
	used := int64(0)
	if within == 0 {
		used++
	}
	g, within := within/d.groupReach(), within%d.groupReach()
	group := table + g*(d.perGroup+1)*entryLen
	if length := (d.perGroup + 1) * entryLen; group+length > d.fileSize {
		return Extent{Offset: off, Length: min(d.groupReach()-within, d.size-off), Err: d.outside(group, length)}, used, nil
	}
	e, more, err := d.inGroup(group, off, within)
	return e, used + more, err
}

// outside is the fault of a place that the file doesn't have.
func (d *Disk) outside(off, n int64) *FormatError {
	return &FormatError{d.fileSize, fmt.Sprintf("%d bytes at %d lie outside the file", n, off)}
}

// table returns where table t is in the file, 0 if there is none. A fault may be that of
// all tables from t on.
func (d *Disk) table(t int64) (at int64, all bool, fault *FormatError, err error) {
	if t >= d.tables || t > (d.fileSize-d.dir-entryLen)/entryLen || d.dir > d.fileSize-entryLen {
		return 0, true, &FormatError{d.fileSize, fmt.Sprintf("the directory has no table %d", t)}, nil
	}
	entry := d.dir + t*entryLen
	v, err := d.number(entry)
	switch {
	case err != nil || v == 0:
		return 0, false, nil, err
	case v > uint64(d.fileSize/d.chunk):
		return 0, false, &FormatError{entry, fmt.Sprintf("table %d is chunk %d, outside the file", t, v)}, nil
	}
	return int64(v) * d.chunk, false, nil, nil
}

// inGroup returns the piece at off of the disk, which is so far within a group at a place
// in the file, and 1 if it is the first of a chunk in use.
func (d *Disk) inGroup(group, off, within int64) (Extent, int64, error) {
	i, within := within/d.chunk, within%d.chunk
	e := Extent{Offset: off, Length: min(d.chunk-within, d.size-off)}
	at := group + i*entryLen
	b, err := d.pages.read(d, at)
	if err != nil {
		return e, 0, err
	}
	v := binary.BigEndian.Uint64(b)
	state, chunk := v>>stateShift, v&chunkMask
	switch {
	case v == 0:
		n := zeroEntries(b, d.perGroup-i)
		return Extent{Offset: off, Length: min(n*d.chunk-within, d.size-off), Hole: true}, 0, nil
	case v&^(3<<stateShift|chunkMask) != 0, (state&1 == 0) != (chunk == 0):
		e.Err = &FormatError{at, fmt.Sprintf("entry %#x", v)}
		return e, 0, nil
	case state == 2: // discarded
		e.Hole = true
		return e, 0, nil
	case chunk >= uint64(d.fileSize/d.chunk)+1:
		e.Err = &FormatError{at, fmt.Sprintf("entry %#x: chunk %d lies outside the file", v, chunk)}
		return e, 0, nil
	}
	used := int64(0)
	if within == 0 {
		used = 1
	}
	e.DataOffset = int64(chunk)*d.chunk + within
	if state == 3 {
		if e, err = d.bySector(e, group, i, within); err != nil {
			return e, used, err
		}
	}
	return d.clip(e), used, nil
}

// clip shortens what is stored to what the file has, or makes damage of it.
func (d *Disk) clip(e Extent) Extent {
	switch {
	case e.Hole || e.Err != nil:
	case e.DataOffset >= d.fileSize:
		e.Err = d.outside(e.DataOffset, e.Length)
		e.DataOffset = 0
	default:
		e.Length = min(e.Length, d.fileSize-e.DataOffset)
	}
	return e
}

// zeroEntries returns how many of the entries that b begins with are zero, most at most.
func zeroEntries(b []byte, most int64) (n int64) {
	for n < most && len(b) >= entryLen && binary.BigEndian.Uint64(b) == 0 {
		b = b[entryLen:]
		n++
	}
	return n
}

// bySector shortens an extent, which begins in chunk i of a group, to the sectors that are
// as its first: stored, or a hole, or neither.
func (d *Disk) bySector(e Extent, group, i, within int64) (Extent, error) {
	at := group + d.perGroup*entryLen
	v, err := d.number(at)
	if err != nil {
		return e, err
	}
	if v == 0 || v > chunkMask {
		e.Err = &FormatError{at, fmt.Sprintf("bitmap entry %#x", v)}
		return e, nil
	}
	sectors := d.chunk / d.block
	first := i*sectors + within/d.block
	if v > uint64(d.fileSize/d.chunk) || int64(v)*d.chunk+((i+1)*sectors+3)/4 > d.fileSize {
		e.Err = &FormatError{at, fmt.Sprintf("bitmap entry %#x: chunk %d lies outside the file", v, v)}
		return e, nil
	}
	bitmap := int64(v) * d.chunk
	state, n, err := d.states(bitmap, first, (i+1)*sectors)
	if err != nil {
		return e, err
	}
	e.Length = min(e.Length, n*d.block-within%d.block)
	switch state {
	case 0:
		e.Hole, e.DataOffset = true, 0
	case 1:
	default:
		e.Err = &FormatError{bitmap + first/4, fmt.Sprintf("sector state %d", state)}
	}
	return e, nil
}

// states returns the state of a sector in a bitmap, and how many have it from there to end.
func (d *Disk) states(bitmap, first, end int64) (state byte, n int64, err error) {
	for s := first; s < end; {
		b, err := d.pages.read(d, bitmap+s/4)
		if err != nil {
			return 0, 0, err
		}
		if s == first {
			state = b[0] >> (s % 4 * 2) & 3
		}
		all := state * 0x55
		for len(b) > 0 && s < end {
			if s%4 == 0 && b[0] == all && s+4 <= end {
				s += 4
				b = b[1:]
				continue
			}
			if b[0]>>(s%4*2)&3 != state {
				return state, s - first, nil
			}
			if s++; s%4 == 0 {
				b = b[1:]
			}
		}
	}
	return state, end - first, nil
}

// number reads a number of 64 bits.
func (d *Disk) number(at int64) (uint64, error) {
	var n [8]byte
	for i := 0; i < len(n); {
		b, err := d.pages.read(d, at+int64(i))
		if err != nil {
			return 0, err
		}
		i += copy(n[i:], b)
	}
	return binary.BigEndian.Uint64(n[:]), nil
}

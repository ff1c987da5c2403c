package hfsplus

import "bytes"

// Types of the catalog's records.
const (
	folderRecord = 1
	fileRecord   = 2
	folderThread = 3
	fileThread   = 4
)

// A catalog key is the parent's identifier, the name's length, and the name.
const catalogKeyLen = 6

func catalogKey(parent uint32, units []byte) []byte {
	key := make([]byte, catalogKeyLen, catalogKeyLen+len(units))
	be.PutUint32(key, parent)
	be.PutUint16(key[4:], uint16(len(units)/2))
	return append(key, units...)
}

func validCatalogKey(key []byte) bool {
	if len(key) < catalogKeyLen {
		return false
	}
	n := int(be.Uint16(key[4:]))
	return n <= maxName && catalogKeyLen+2*n <= len(key)
}

func keyName(key []byte) []byte {
	return key[catalogKeyLen : catalogKeyLen+2*int(be.Uint16(key[4:]))]
}

// compareBinary is the order of HFSX volumes that tell cases apart.
func compareBinary(a, b []byte) int {
	if c := bytes.Compare(a[:4], b[:4]); c != 0 {
		return c
	}
	return bytes.Compare(keyName(a), keyName(b))
}

// compareFolded is the order of all others.
func compareFolded(a, b []byte) int {
	if c := bytes.Compare(a[:4], b[:4]); c != 0 {
		return c
	}
	a, b = keyName(a), keyName(b)
	same := 0 // bytes that are: neighbours begin alike
	for same+8 <= min(len(a), len(b)) && be.Uint64(a[same:]) == be.Uint64(b[same:]) {
		same += 8
	}
	a, b = a[same:], b[same:]
	for {
		var x, y uint16 // 0 at the end: no unit folds to 0 that isn't ignored
		for len(a) >= 2 && x == 0 {
			x, a = fold(be.Uint16(a)), a[2:]
		}
		for len(b) >= 2 && y == 0 {
			y, b = fold(be.Uint16(b)), b[2:]
		}
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		case x == 0:
			return 0
		}
	}
}

// A record is a folder's or a file's record of the catalog.
type record struct {
	folder                                        bool
	flags                                         uint16
	id                                            uint32
	created, modified, changed, accessed, archive uint32 // seconds since 1904
	owner, group                                  uint32
	adminFlags, ownerFlags                        uint8
	mode                                          uint16 // 0 if there are no permissions
	special                                       uint32 // of a device, a hard link, or what is linked to
	finder                                        [32]byte
	forks                                         []byte // as stored, and not changed: the data fork's, and the resource fork's
}

// data is the data fork of a file.
func (r *record) data() forkData { return parseFork(r.forks) }

// resource is the resource fork of a file.
func (r *record) resource() forkData { return parseFork(r.forks[80:]) }

const (
	folderRecordLen = 88
	fileRecordLen   = 248

	hasLinkChain = 0x20 // of a record's flags
	compressed   = 0x20 // of the owner's flags: UF_COMPRESSED of macOS
)

// parseRecord decodes a record whose length and type were checked.
func parseRecord(b []byte) record {
	r := record{
		folder:   be.Uint16(b) == folderRecord,
		flags:    be.Uint16(b[2:]),
		id:       be.Uint32(b[8:]),
		created:  be.Uint32(b[12:]),
		modified: be.Uint32(b[16:]),
		changed:  be.Uint32(b[20:]),
		accessed: be.Uint32(b[24:]),
		archive:  be.Uint32(b[28:]),
		owner:    be.Uint32(b[32:]),
		group:    be.Uint32(b[36:]),

		adminFlags: b[40],
		ownerFlags: b[41],
		mode:       be.Uint16(b[42:]),
		special:    be.Uint32(b[44:]),
	}
	copy(r.finder[:], b[48:80])
	if !r.folder {
		r.forks = b[88:fileRecordLen]
	}
	return r
}

// recordLen returns the length of a folder's or file's record, and 0 for others.
func recordLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch be.Uint16(b) {
	case folderRecord:
		return folderRecordLen
	case fileRecord:
		return fileRecordLen
	}
	return 0
}

func isThread(b []byte) bool {
	return len(b) >= 2 && (be.Uint16(b) == folderThread || be.Uint16(b) == fileThread)
}

// parseThread decodes a thread record: where a folder or a file is.
func parseThread(b []byte) (parent uint32, units []byte, ok bool) {
	if len(b) < 10 || !isThread(b) {
		return 0, nil, false
	}
	n := 2 * int(be.Uint16(b[8:]))
	if n > 2*maxName || 10+n > len(b) {
		return 0, nil, false
	}
	return be.Uint32(b[4:]), b[10 : 10+n], true
}

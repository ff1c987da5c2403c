package apfs

// Flags of an object map's values.
const (
	omapDeleted   = 1
	omapEncrypted = 4
	omapNoHeader  = 8
)

// omapKind: key {oid u64, xid u64}, value {flags u32, size u32, block u64}.
var omapKind = &treeKind{
	name: "object map", subtype: typeOmap,
	keySize: 16, valueSize: 16,
	key: func(k []byte) (treeKey, bool) {
		if len(k) < 16 {
			return treeKey{}, false
		}
		return treeKey{a: le.Uint64(k), b: le.Uint64(k[8:])}, true
	},
}

// An omap says in which block a virtual object is, in each transaction.
type omap struct{ tree }

// mapping is a value of an object map.
type mapping struct {
	flags uint32
	block uint64
}

// openOmap reads an object map:
//
//	32 flags u32 · 36 snapshots u32 · 40 type of the tree · 48 tree (block) u64
func (c *Container) openOmap(block uint64) (*omap, error) {
	b, err := c.dev.object(block, block, typeOmap, omapKind.name)
	if err != nil {
		return nil, err
	}
	return &omap{tree{kind: omapKind, root: le.Uint64(b[48:]), load: c.physicalNode(omapKind)}}, nil
}

// find returns where an object is in a transaction: its newest version that is not newer
// than the transaction. Older ones stand beside it where there are snapshots.
func (m *omap) find(oid, xid uint64) (mapping, bool, error) {
	k, v, ok, err := m.floor(treeKey{a: oid, b: xid})
	if err != nil {
		return mapping{}, false, err
	}
	if !ok || le.Uint64(k) != oid || len(v) < 16 {
		return mapping{}, false, nil
	}
	to := mapping{flags: le.Uint32(v), block: le.Uint64(v[8:])}
	return to, to.flags&omapDeleted == 0, nil
}

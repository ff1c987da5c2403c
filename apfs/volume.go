package apfs

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Offsets in a volume superblock.
const (
	volMagic        = 32  // "APSB"
	volIncompat     = 56  // u64
	volTreeType     = 116 // u32: of the file system tree
	volSnapTreeType = 124 // u32
	volOmap         = 128 // u64: a block
	volTree         = 136 // u64: oid of the file system tree
	volSnapTree     = 152 // u64
	volFiles        = 184 // u64, then folders, symlinks, others and snapshots
	volUUID         = 240 // 16 bytes
	volChanged      = 256 // u64, ns
	volFlags        = 264 // u64
	volName         = 704 // 256 bytes
	volRole         = 964 // u16
	volRootXID      = 968 // u64: the volume is shown as of this snapshot
	volRolling      = 976 // u64: oid of the state of a change of encryption under way
	volGroup        = 1008
	volIntegrity    = 1024 // u64: oid
	volExtents      = 1032 // u64: the tree of a sealed volume's extents
	volExtentsType  = 1040 // u32

	volumeMagic = "APSB"

	incompatFold       = 0x01 // case does not matter
	incompatDataless   = 0x02 // some snapshots have no data
	incompatRolled     = 0x04 // the encryption was changed
	incompatNormalized = 0x08 // forms of Unicode do not matter
	incompatIncomplete = 0x10 // a restore that did not finish
	incompatSealed     = 0x20

	volUnencrypted = 0x1 // of the flags
	volOneKey      = 0x8 // one key for all files
)

// A Volume is one of a container's file systems.
type Volume struct {
	Name  string
	Index int // from 0, in the order of Container.Volumes; gaps are volumes that were deleted
	// Role is what macOS uses the volume for: "" for none, or "system", "data",
	// "preboot", "recovery", "vm", "user", "installer", "update", "backup" and some
	// more. A role without a name is given as a number, such as "0x280".
	Role string
	UUID [16]byte
	// Group is the same for volumes that macOS shows as one, as a system volume and
	// its data volume. It is zero for others.
	Group         [16]byte
	Encrypted     bool // whether FS needs the password
	CaseSensitive bool
	Sealed        bool // whether the nodes of its tree have hashes, as a system volume's
	// Files, Folders, Symlinks and Others count what the volume says it has, without
	// its root directory. A file with several names counts once.
	Files, Folders, Symlinks, Others uint64
	Modified                         time.Time

	c      *Container
	super  []byte
	omap   uint64    // block
	fsKind *treeKind // of this volume alone: see nodeKey

	// The lock is held while the key is derived, so that callers at once derive it once.
	mu struct {
		sync.Mutex
		cipher *volumeCipher
	}
}

// Volumes lists the volumes, the same ones at each call. Those whose superblock can't be read are missing from the
// list; the error tells about them, joined by errors.Join. So a list that is not empty is
// of use even with an error.
func (c *Container) Volumes() ([]*Volume, error) {
	var list []*Volume
	var errs []error
	for i := range maxVolumes {
		oid := le.Uint64(c.super[superVolumes+8*i:])
		if oid == 0 {
			continue
		}
		v, err := c.volumeOnce(i, oid)
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %d: %w", i, err))
			continue
		}
		list = append(list, v)
	}
	return list, errors.Join(errs...)
}

// volumeOnce returns the volume that an earlier call has read, if there was one: its nodes
// are in the cache.
func (c *Container) volumeOnce(index int, oid uint64) (*Volume, error) {
	c.mu.Lock()
	v := c.mu.volumes[index]
	c.mu.Unlock()
	if v != nil {
		return v, nil
	}
	v, err := c.volume(index, oid)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.volumes[index] == nil { // nobody was faster
		c.mu.volumes[index] = v
	}
	return c.mu.volumes[index], nil
}

// volume reads the superblock of the volume of an oid.
func (c *Container) volume(index int, oid uint64) (*Volume, error) {
	const what = "volume superblock"
	m, ok, err := c.omap.find(oid, c.xid)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, damaged(c.omap.root, omapKind.name, "volume %d (object %d) is not in it", index, oid)
	}
	b, err := c.dev.object(m.block, oid, typeVolume, what)
	if err != nil {
		return nil, err
	}
	return c.parseVolume(b, m.block, index)
}

func (c *Container) parseVolume(b []byte, block uint64, index int) (*Volume, error) {
	if string(b[volMagic:volMagic+4]) != volumeMagic {
		return nil, damaged(block, "volume superblock", "the magic number is missing")
	}
	v := &Volume{
		c: c, super: b, Index: index, omap: le.Uint64(b[volOmap:]),
		Name:          cString(b[volName : volName+256]),
		Role:          role(le.Uint16(b[volRole:])),
		Encrypted:     le.Uint64(b[volFlags:])&volUnencrypted == 0,
		CaseSensitive: le.Uint64(b[volIncompat:])&incompatFold == 0,
		Sealed:        le.Uint64(b[volIncompat:])&incompatSealed != 0,
		Files:         le.Uint64(b[volFiles:]),
		Folders:       le.Uint64(b[volFiles+8:]),
		Symlinks:      le.Uint64(b[volFiles+16:]),
		Others:        le.Uint64(b[volFiles+24:]),
		Modified:      fileTime(b[volChanged:]),
	}
	copy(v.UUID[:], b[volUUID:])
	copy(v.Group[:], b[volGroup:])
	v.fsKind = &treeKind{name: "file system tree", subtype: typeFSTree, key: fsKey(v.naming().hashed), names: true}
	return v, nil
}

func (v *Volume) naming() naming {
	f := le.Uint64(v.super[volIncompat:])
	return naming{hashed: f&(incompatFold|incompatNormalized) != 0, fold: f&incompatFold != 0}
}

// role names a role: one bit of the low six, or a number above them.
func role(r uint16) string {
	names := map[uint16]string{
		0: "", 1: "system", 2: "user", 4: "recovery", 8: "vm", 0x10: "preboot", 0x20: "installer",
		1 << 6: "data", 2 << 6: "baseband", 3 << 6: "update", 4 << 6: "xart", 5 << 6: "hardware", 6 << 6: "backup",
		7 << 6: "sidecar", 9 << 6: "enterprise", 11 << 6: "prelogin",
	}
	if name, ok := names[r]; ok {
		return name
	}
	return fmt.Sprintf("%#x", r)
}

// checkVolume refuses what this package does not read of a volume or snapshot.
func checkVolume(super []byte) error {
	const known = incompatFold | incompatDataless | incompatRolled | incompatNormalized | incompatSealed
	f := le.Uint64(super[volIncompat:])
	switch {
	case le.Uint64(super[volRolling:]) != 0:
		return unsupported("a volume that is being encrypted or decrypted")
	case f&incompatIncomplete != 0:
		return unsupported("a volume whose restore did not finish")
	case f&^known != 0:
		return unsupported("volume with incompatible features %#x", f&^known)
	}
	return nil
}

// FS returns the volume's files. The error Is ErrNoPassword or ErrWrongPassword where the
// volume is encrypted and Options.Password does not open it, and ErrUnsupported where its
// keys are in a Mac's hardware, or it has features that this package doesn't know.
//
// Deriving a key from the password takes a fraction of a second as a rule, and some
// seconds at most. It happens once for a Volume.
func (v *Volume) FS() (*FS, error) {
	if xid := le.Uint64(v.super[volRootXID:]); xid != 0 {
		s, err := v.snapshot(xid)
		if err != nil {
			return nil, err
		}
		return s.FS()
	}
	return v.open(v.super, v.c.xid)
}

// A Snapshot is a volume as it was at a point in time.
type Snapshot struct {
	Name    string
	XID     uint64 // the transaction of which it is
	Created time.Time

	v     *Volume
	block uint64 // of its superblock
}

// FS returns the files as they were. Errors are those of Volume.FS.
func (s *Snapshot) FS() (*FS, error) {
	b, err := s.superblock()
	if err != nil {
		return nil, err
	}
	return s.v.open(b, s.XID)
}

// superblock reads the volume superblock that the snapshot kept. Its own transaction is
// another one than the snapshot's, and its object map, snapshot tree and extent references
// are empty: the volume's map is used for them all.
func (s *Snapshot) superblock() ([]byte, error) {
	const what = "superblock of a snapshot"
	b, err := s.v.c.dev.read(s.block, s.v.c.dev.blockSize, what)
	if err != nil {
		return nil, err
	}
	if err := checkObject(b, s.block, le.Uint64(b[8:]), typeVolume, what); err != nil {
		return nil, err
	}
	if string(b[volMagic:volMagic+4]) != volumeMagic {
		return nil, damaged(s.block, what, "the magic number is missing")
	}
	return b, nil
}

// snapKind: a snapshot is type 1, its id the transaction; type 0xB finds it by name.
var snapKind = &treeKind{name: "snapshot tree", subtype: typeSnapTree, key: fsKey(false), names: true}

// Snapshots lists the volume's snapshots, the oldest first. With an error, the list has
// those that come before the damage.
func (v *Volume) Snapshots() ([]*Snapshot, error) {
	t, err := v.snapTree()
	if t == nil || err != nil {
		return nil, err
	}
	c, err := t.seek(treeKey{}, false)
	if err != nil {
		return nil, err
	}
	var list []*Snapshot
	for {
		k, val, ok, err := c.next()
		if !ok || err != nil {
			return slices.Clip(list), err
		}
		if k := le.Uint64(k); k>>60 == recSnapshot {
			s, err := v.parseSnapshot(k&idMask, val, c.leaf())
			if err != nil {
				return list, err
			}
			list = append(list, s)
		}
	}
}

// snapshot returns the snapshot of a transaction.
func (v *Volume) snapshot(xid uint64) (*Snapshot, error) {
	t, err := v.snapTree()
	if err != nil {
		return nil, err
	}
	if t != nil {
		val, ok, err := t.get(treeKey{a: recordKey(xid, recSnapshot)})
		if err != nil {
			return nil, err
		}
		if ok {
			return v.parseSnapshot(xid, val, t.root)
		}
	}
	return nil, fmt.Errorf("%w: the volume is to be shown as of snapshot %d, which is not there", ErrFormat, xid)
}

// parseSnapshot takes apart the record of a snapshot:
//
//	0 extents tree · 8 superblock (block) · 16 created, ns · 24 changed · 32 inum
//	40 type of the extents tree u32 · 44 flags u32 · 48 name length u16 · 50 name with NUL
func (v *Volume) parseSnapshot(xid uint64, val []byte, block uint64) (*Snapshot, error) {
	if len(val) < 50 || int(le.Uint16(val[48:])) > len(val)-50 {
		return nil, damaged(block, snapKind.name, "snapshot %d is malformed", xid)
	}
	return &Snapshot{
		v: v, XID: xid, block: le.Uint64(val[8:]), Created: fileTime(val[16:]),
		Name: cString(val[50 : 50+le.Uint16(val[48:])]),
	}, nil
}

// snapTree returns the tree of snapshots, or nil where the volume has none.
func (v *Volume) snapTree() (*tree, error) {
	root := le.Uint64(v.super[volSnapTree:])
	if root == 0 {
		return nil, nil
	}
	return v.sideTree(snapKind, root, le.Uint32(v.super[volSnapTreeType:]), v.c.xid)
}

// sideTree returns a tree beside that of the files, whose type says whether its oids are
// blocks, as in all volumes seen.
func (v *Volume) sideTree(kind *treeKind, root uint64, typ uint32, xid uint64) (*tree, error) {
	if typ&storageMask == physical {
		return &tree{kind: kind, root: root, load: v.c.physicalNode(kind)}, nil
	}
	if typ&storageMask != 0 {
		return nil, unsupported("%s of type %#x", kind.name, typ)
	}
	m, err := v.c.openOmap(v.omap)
	if err != nil {
		return nil, err
	}
	return &tree{kind: kind, root: root, load: (&view{v: v, omap: m, xid: xid, kind: kind}).load}, nil
}

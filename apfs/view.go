package apfs

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
)

// A view is a volume's virtual objects as of a transaction.
type view struct {
	v      *Volume
	omap   *omap
	xid    uint64
	kind   *treeKind
	cipher *volumeCipher         // nil where the volume is not encrypted
	sum    func(b []byte) []byte // of a sealed volume's nodes, else nil
}

// load returns the node of an oid. A sealed volume's nodes are compared with the hash in
// their parent, and many have no header of their own.
func (w *view) load(oid uint64, hash []byte) (*node, error) {
	m, ok, err := w.omap.find(oid, w.xid)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, damaged(w.omap.root, omapKind.name, "object %d of the %s is not in it", oid, w.kind.name)
	}
	key := nodeKey{kind: w.kind, oid: oid, block: m.block, flags: m.flags}
	n, err := w.v.c.node(key, func(b []byte) ([]byte, error) { return w.prepare(b, key) })
	if err != nil {
		return nil, err
	}
	switch {
	case hash != nil && w.sum != nil && !bytes.Equal(n.sum, hash):
		return nil, mismatch(m.block, w.kind.name)
	case (hash == nil || w.sum == nil) && m.flags&omapNoHeader != 0:
		return nil, damaged(m.block, w.kind.name, "a node without a checksum or a hash")
	}
	return n, nil
}

// ahead reads nodes that follow each other on the disk at once, and keeps those that are
// right. What is wrong with the others, load will find.
func (w *view) ahead(oids []uint64) {
	var keys []nodeKey
	for _, oid := range oids {
		m, ok, err := w.omap.find(oid, w.xid)
		key := nodeKey{kind: w.kind, oid: oid, block: m.block, flags: m.flags}
		if !ok || err != nil || len(keys) > 0 && m.block != keys[0].block+uint64(len(keys)) || w.v.c.cache.get(key) != nil {
			break
		}
		keys = append(keys, key)
	}
	if len(keys) < 2 {
		return
	}
	c := w.v.c
	b, err := c.dev.read(keys[0].block, int64(len(keys))*c.dev.blockSize, w.kind.name)
	if err != nil {
		return
	}
	for i, key := range keys {
		part := append([]byte(nil), b[int64(i)*c.dev.blockSize:][:c.dev.blockSize]...) // the cache lets go of each by itself
		if sum, err := w.prepare(part, key); err == nil {
			c.keep(part, key, sum)
		}
	}
}

// prepare decrypts a node, checks its header where it has one, and returns its hash.
func (w *view) prepare(b []byte, key nodeKey) ([]byte, error) {
	if key.flags&omapEncrypted != 0 {
		if w.cipher == nil {
			return nil, damaged(key.block, key.kind.name, "an encrypted node in a volume without encryption")
		}
		w.cipher.decrypt(b, key.block*uint64(len(b)/sectorSize))
	}
	if key.flags&omapNoHeader == 0 {
		if err := checkNode(b, key); err != nil {
			return nil, err
		}
	}
	if w.sum == nil {
		return nil, nil
	}
	return w.sum(b), nil
}

// Hash types of a sealed volume.
var hashTypes = map[uint32]func([]byte) []byte{
	1: func(b []byte) []byte { s := sha256.Sum256(b); return s[:] },
	2: func(b []byte) []byte { s := sha512.Sum512_256(b); return s[:] },
	3: func(b []byte) []byte { s := sha512.Sum384(b); return s[:] },
	4: func(b []byte) []byte { s := sha512.Sum512(b); return s[:] },
}

// seal reads a sealed volume's integrity object: the kind of hash, and the root's.
//
//	32 version u32 · 36 flags u32 · 40 hash type u32 · 44 offset of the root's hash u32
//	48 transaction in which the seal was broken u64
//
// No sealed volume was at hand. Two readers agree that hashes are over whole nodes.
func (w *view) seal(oid uint64) (rootHash []byte, err error) {
	const what = "integrity metadata"
	m, ok, err := w.omap.find(oid, w.xid)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, damaged(w.omap.root, omapKind.name, "the volume's %s (object %d) is not in it", what, oid)
	}
	b, err := w.v.c.dev.object(m.block, oid, typeIntegrity, what)
	if err != nil {
		return nil, err
	}
	typ, at := le.Uint32(b[40:]), le.Uint32(b[44:])
	if w.sum, ok = hashTypes[typ]; !ok {
		return nil, unsupported("a sealed volume with hashes of type %d", typ)
	}
	n := len(w.sum(nil))
	if at < 56 || uint64(at)+uint64(n) > uint64(len(b)) {
		return nil, damaged(m.block, what, "root hash at %d", at)
	}
	if le.Uint64(b[48:]) != 0 {
		// The volume was changed after it was sealed, so that the root's hash is not of
		// this root.
		return nil, nil
	}
	return b[at : int(at)+n], nil
}

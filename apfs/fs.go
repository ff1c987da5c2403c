package apfs

import (
	"io/fs"

	"github.com/go-dmg/dmg/internal/decmpfs"
	"github.com/go-dmg/dmg/internal/vfs"
)

// An FS is the files of a volume, or of a snapshot. It is an [fs.FS], [fs.ReadDirFS],
// [fs.StatFS], [fs.ReadFileFS] and an fs.ReadLinkFS. Its methods, and ReadAt of its files,
// may be called at the same time. Errors are of type [*fs.PathError]; what they wrap Is one
// of this package's classes, or the source's error.
//
// Names are given out in NFC, and found in any form, in any case where the volume does not
// tell cases apart. A name that io/fs can't express is given out with escapes: %u and four
// hexadecimal digits for a byte. Links are followed inside the volume, and never lead out.
type FS struct {
	v       *Volume
	tree    tree
	extents *tree // of a sealed volume
	cipher  *volumeCipher
	naming  naming
	vfs     *vfs.FS

	decoders decmpfs.Pool
}

// open returns the files that a volume superblock has as of a transaction.
func (v *Volume) open(super []byte, xid uint64) (*FS, error) {
	if err := checkVolume(super); err != nil {
		return nil, err
	}
	f := &FS{v: v, naming: v.naming()}
	if v.Encrypted {
		var err error
		if f.cipher, err = v.unlock(); err != nil {
			return nil, err
		}
	}
	m, err := v.c.openOmap(v.omap)
	if err != nil {
		return nil, err
	}
	w := &view{v: v, omap: m, xid: xid, kind: v.fsKind, cipher: f.cipher}
	f.tree = tree{kind: v.fsKind, root: le.Uint64(super[volTree:]), load: w.load, ahead: w.ahead}
	switch typ := le.Uint32(super[volTreeType:]); typ & storageMask {
	case 0:
	case physical:
		f.tree.load, f.tree.ahead = v.c.physicalNode(v.fsKind), nil
	default:
		return nil, unsupported("%s of type %#x", v.fsKind.name, typ)
	}
	if le.Uint64(super[volIncompat:])&incompatSealed != 0 {
		if err := f.openSealed(w, super); err != nil {
			return nil, err
		}
	}
	f.vfs = vfs.New(&fileNode{fs: f, id: rootID, typ: fs.ModeDir})
	// A wrong password, or a tree that can't be read at all, is better told now.
	_, err = f.tree.load(f.tree.root, f.tree.rootHash)
	return f, err
}

// openSealed opens what only a sealed volume has: the hashes of its nodes, and a tree for
// the extents.
//
// A snapshot's superblock lacks some fields that are the same for all states. Whether these
// are among them is not known: then the volume's are taken.
func (f *FS) openSealed(w *view, super []byte) (err error) {
	if le.Uint64(super[volIntegrity:]) == 0 && le.Uint64(super[volExtents:]) == 0 {
		super = f.v.super
	}
	if oid := le.Uint64(super[volIntegrity:]); oid != 0 {
		if f.tree.rootHash, err = w.seal(oid); err != nil {
			return err
		}
	}
	root, err := f.tree.load(f.tree.root, f.tree.rootHash)
	if err != nil {
		return err
	}
	f.tree.relative = root.hashed
	if oid := le.Uint64(super[volExtents:]); oid != 0 {
		f.extents, err = f.v.sideTree(extKind, oid, le.Uint32(super[volExtentsType:]), w.xid)
	}
	return err
}

// Open opens a file or a directory, and follows symbolic links. A file is an
// [io.ReaderAt], an [io.Seeker] and an [io.WriterTo], a directory an [fs.ReadDirFile].
func (f *FS) Open(name string) (fs.File, error) { return f.vfs.Open(name) }

// ReadDir lists a directory, sorted by name. See [fs.ReadDirFile] for a way to list a huge
// directory in pieces.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) { return f.vfs.ReadDir(name) }

// ReadFile returns the content of a file. It follows symbolic links.
func (f *FS) ReadFile(name string) ([]byte, error) { return f.vfs.ReadFile(name) }

// Stat describes a file. It follows symbolic links. FileInfo.Sys returns a [*Stat].
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.vfs.Stat(name) }

// Lstat is Stat, but of a symbolic link itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.vfs.Lstat(name) }

// ReadLink returns the target of a symbolic link as it is stored.
func (f *FS) ReadLink(name string) (string, error) { return f.vfs.ReadLink(name) }

// Package apfs reads Apple's file system APFS: containers, the volumes in them, their
// snapshots and files.
//
//	c, err := apfs.New(disk, size, &apfs.Options{Password: "…"}) // any io.ReaderAt
//	volumes, err := c.Volumes()
//	fsys, err := volumes[0].FS() // an fs.FS
//	data, err := fs.ReadFile(fsys, "Applications/Example.app/Contents/Info.plist")
//
// It reads what is asked for, and nothing else: a file is found by the trees' keys. It
// needs no more of the source than an [io.ReaderAt], whose reads may be slow.
//
// # What is read
//
// Volumes with and without case, with names hashed or not; hard links, symbolic links,
// clones, sparse files; extended attributes, resource forks; files that macOS stored
// compressed (zlib, LZVN, LZFSE, LZBITMAP); snapshots; sealed volumes; volumes encrypted
// with a password.
//
// Refused by name, as ErrUnsupported: Fusion drives, keys in a Mac's hardware, a key for
// each file, restores and changes of encryption that did not finish, and features that are
// not known.
//
// # Damage
//
// Every block of metadata has a checksum, which is compared when the block is read. A read
// that needs a damaged block returns a [*BlockError] with the block's number. Other reads
// do not fail.
//
// File data has no checksum in APFS. A sealed volume has hashes beside the checksums. Those
// of the file system tree's nodes are compared when a node is read, up to the root's in the
// integrity object, unless the volume says that the seal was broken. Those of file
// contents are not compared.
//
// # Memory
//
// A container keeps 8 MiB of tree nodes at most, and an [FS] 4 MiB of the folders that were
// listed last, so that what is in them is opened without a search. Nothing is allocated by a number on the
// disk alone.
package apfs

// Package aea reads Apple Encrypted Archives at any offset: the files that begin with
// "AEA1", such as the disks of restore images since macOS 15 and signed shortcuts.
//
// An archive's content is cut into segments of one size, each compressed, encrypted and
// authenticated on its own. Segments stand in clusters. A cluster's header has the
// lengths, checksums and MACs of its segments, and the MAC of the next header. So headers
// are read in order, from the first to the one that a read needs, and each only once; a
// segment is one read of the source. Nothing of a segment is used before its MAC is
// compared.
//
// Apple publishes no specification. docs/FORMAT.md says what is known and from where.
// Signatures are verified where the signer's public key is known. The padding behind the
// last segment is not read.
//
// Passwords and keys are never part of an error or of what fmt prints for the types here.
package aea

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Classes of errors. A source's own error is passed on, wrapped, instead.
var (
	// ErrUnsupported: a profile or codec that this package doesn't read.
	ErrUnsupported = errors.New("encrypted archive not supported")
	// ErrChecksum: something is not what its MAC, checksum or signature says.
	ErrChecksum = errors.New("encrypted archive: checksum mismatch")
	// ErrMemory: the memory limit is too low for the archive.
	ErrMemory = errors.New("memory limit too low for an encrypted archive")

	// ErrPassword: the keys given don't open the archive. Every one of those below is
	// ErrPassword as well.
	ErrPassword = errors.New("encrypted archive")

	ErrNoKey           = fmt.Errorf("%w: no key given", ErrPassword)
	ErrWrongKey        = fmt.Errorf("%w: wrong key", ErrPassword)
	ErrNoPassword      = fmt.Errorf("%w: no password given", ErrPassword)
	ErrWrongPassword   = fmt.Errorf("%w: wrong password", ErrPassword)
	ErrNoPrivateKey    = fmt.Errorf("%w: no private key given", ErrPassword)
	ErrWrongPrivateKey = fmt.Errorf("%w: wrong private key", ErrPassword)
)

// FormatError is a part of an archive that can't be right, or that is missing.
type FormatError struct {
	Section string // "header", "cluster 3", "segment 700"
	Offset  int64  // in the archive, in bytes
	Msg     string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("encrypted archive: %s at byte %d: %s", e.Section, e.Offset, e.Msg)
}

// A sumError says what is not as its MAC, checksum or signature says.
type sumError struct {
	section string
	offset  int64
	msg     string
}

func (e *sumError) Error() string {
	return fmt.Sprintf("encrypted archive: %s at byte %d: %s", e.section, e.offset, e.msg)
}

func (e *sumError) Is(target error) bool { return target == ErrChecksum }

// Keys is what may open an archive. The profile decides which of them is used.
type Keys struct {
	// Key is the symmetric key, 32 bytes.
	Key []byte
	// Password in UTF-8, taken byte for byte. An empty one counts as none.
	Password string
	// PrivateKey is the recipient's P-256 key, or the one with which Apple's key servers
	// have wrapped the symmetric key: an *ecdsa.PrivateKey, an *ecdh.PrivateKey, or what
	// has the latter's methods PublicKey and ECDH. Keys of other kinds count as none.
	PrivateKey crypto.PrivateKey
	// PublicKey is the signer's P-256 key, of a signed archive that doesn't name it: an
	// *ecdsa.PublicKey or an *ecdh.PublicKey.
	PublicKey crypto.PublicKey
}

// Format keeps keys out of whatever is printed.
func (Keys) Format(f fmt.State, _ rune) { io.WriteString(f, "aea.Keys{…}") }

// String keeps keys out of whatever is printed.
func (Keys) String() string { return "aea.Keys{…}" }

// GoString keeps keys out of whatever is printed.
func (k Keys) GoString() string { return k.String() }

const magic = "AEA1"

// Is reports whether a file whose first bytes are head is an archive of a profile that this
// package reads: a disk may begin with any four bytes.
func Is(head []byte) bool {
	if len(head) < fixedLen || string(head[:len(magic)]) != magic {
		return false
	}
	profile, auth := binary.LittleEndian.Uint32(head[4:])&0xFFFFFF, binary.LittleEndian.Uint32(head[8:])
	return profile <= profilePassword && head[7] <= maxStrength && auth <= maxAuthData
}

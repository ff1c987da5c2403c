package apfs

import (
	"errors"
	"fmt"
)

// Classes of errors, to be tested with errors.Is. An error of the source is passed
// on, wrapped: it is of none of these classes.
var (
	// ErrFormat means that there is no APFS container, or that its structures are
	// damaged. The error is a *BlockError where one block is to blame.
	ErrFormat = errors.New("apfs: damaged")
	// ErrChecksum means that a metadata block is not what its checksum says. The
	// error is a *BlockError. What is stored in other blocks stays readable.
	ErrChecksum = errors.New("apfs: checksum mismatch")
	// ErrUnsupported means that the container or the volume is valid as far as can be
	// told, but uses something that this package does not read. The error names it.
	ErrUnsupported = errors.New("apfs: unsupported")
	// ErrPassword means that a volume is encrypted, and that the password is missing
	// or wrong. Such an error also Is ErrNoPassword or ErrWrongPassword.
	ErrPassword = errors.New("apfs: encrypted volume")
	// ErrNoPassword means that a password opens the volume, and none was given.
	ErrNoPassword = fmt.Errorf("%w: no password given", ErrPassword)
	// ErrWrongPassword means that the password does not open the volume.
	ErrWrongPassword = fmt.Errorf("%w: wrong password", ErrPassword)
)

// A BlockError is damage in one block of a container. It Is ErrFormat or ErrChecksum.
type BlockError struct {
	Block uint64 // its number; it begins at byte Block × block size of the container
	What  string // what should be there, such as "file system tree"
	Msg   string // what is wrong with it
	class error
}

// Error returns the block, what it should be, and what is wrong.
func (e *BlockError) Error() string {
	return fmt.Sprintf("apfs: %s at block %d: %s", e.What, e.Block, e.Msg)
}

// Unwrap returns ErrFormat or ErrChecksum.
func (e *BlockError) Unwrap() error { return e.class }

func damaged(block uint64, what, format string, args ...any) error {
	return &BlockError{block, what, fmt.Sprintf(format, args...), ErrFormat}
}

func mismatch(block uint64, what string) error {
	return &BlockError{block, what, "checksum mismatch", ErrChecksum}
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

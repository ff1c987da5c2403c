// Package crypt decrypts Apple's encrypted disk images: version 2, a header in
// front that begins with "encrcdsa", and version 1, a trailer of 1276 bytes that
// ends with "cdsaencr". What is inside, and a header that stands apart from its
// data as a sparse bundle's token does, is the caller's to handle.
//
// The data is cut into blocks of 512 or 4096 bytes, each AES-CBC with an initial
// vector of its own made from its number, so a read decrypts only what it touches.
// Nothing authenticates the data: a damaged image decrypts to garbage without an
// error.
//
// Passwords and keys are never part of an error or of what fmt prints for the
// types here.
package crypt

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// Classes of errors. A source's own error is passed on, wrapped, instead.
var (
	// ErrUnsupported: an algorithm, size or cost this package doesn't do. The
	// error names the number.
	ErrUnsupported = errors.New("encryption not supported")

	// ErrPassword: the keys given don't open the image. Every one of the four
	// below is ErrPassword as well.
	ErrPassword = errors.New("encrypted")

	ErrNoPassword      = fmt.Errorf("%w: no password given", ErrPassword)
	ErrWrongPassword   = fmt.Errorf("%w: wrong password", ErrPassword)
	ErrNoPrivateKey    = fmt.Errorf("%w: no private key given", ErrPassword)
	ErrWrongPrivateKey = fmt.Errorf("%w: wrong private key", ErrPassword)
)

// FormatError is a header that can't be right.
type FormatError struct {
	Offset int64 // in the file or token
	Msg    string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("encryption header at %d: %s", e.Offset, e.Msg)
}

// Version is the kind of header an image has.
type Version int

const (
	None Version = iota // not encrypted
	V1                  // trailer, Mac OS X 10.3 and 10.4
	V2                  // header, since 10.5
)

// Keys is what may open an image. Each is tried where an image has a record for
// it; the zero value opens none.
type Keys struct {
	// Password in UTF-8, taken byte for byte: the tools that make images don't
	// normalise either. Text typed on a Mac is composed (NFC) as a rule, names
	// copied from its file system aren't. An empty one counts as none.
	Password string

	// PrivateKey opens images made for a certificate, with PKCS #1 v1.5. It
	// may sit in a token or a key agent.
	PrivateKey crypto.Decrypter
}

// Format keeps keys out of whatever is printed.
func (Keys) Format(f fmt.State, _ rune) { io.WriteString(f, "crypt.Keys{…}") }

// String keeps keys out of whatever is printed.
func (Keys) String() string { return "crypt.Keys{…}" }

// GoString keeps keys out of whatever is printed.
func (k Keys) GoString() string { return k.String() }

const (
	magicV1 = "cdsaencr"
	magicV2 = "encrcdsa"
)

// Detect reports which header, if any, r of size bytes has. Its error is r's.
func Detect(r io.ReaderAt, size int64) (Version, error) {
	var magic [len(magicV2)]byte
	if size < int64(len(magic)) {
		return None, nil
	}
	if _, err := readat.Full(r, magic[:], 0); err != nil {
		return None, err
	}
	if string(magic[:]) == magicV2 {
		return V2, nil
	}
	if size < trailerLen {
		return None, nil
	}
	if _, err := readat.Full(r, magic[:], size-int64(len(magic))); err != nil {
		return None, err
	}
	if string(magic[:]) == magicV1 {
		return V1, nil
	}
	return None, nil
}

// Open finds the header of the encrypted image r of size bytes, opens it with
// one of keys and returns the data inside.
func Open(r io.ReaderAt, size int64, keys Keys) (*Reader, error) {
	return NewUnlocker(keys).Open(r, size)
}

// Unlock is Open for a header that stands alone, as in a sparse bundle's token:
// the data's place and size in it mean nothing. The Cipher makes a Reader of each
// file encrypted under it.
func Unlock(token io.ReaderAt, size int64, keys Keys) (*Cipher, error) {
	return NewUnlocker(keys).Unlock(token, size)
}

// An Unlocker opens the headers of one image, of which each file may have one of
// its own. Deriving a key from a password takes up to a few seconds: the work for
// all of them is capped together, and done once for those that have the salt in
// common. It is for one goroutine.
type Unlocker struct {
	keys    Keys
	budget  int // iterations that may still be spent
	derived map[derivation][]byte
}

// NewUnlocker returns an Unlocker that tries keys.
func NewUnlocker(keys Keys) *Unlocker {
	return &Unlocker{keys, maxIterations, make(map[derivation][]byte)}
}

// Open is the function Open for one file of the image.
func (u *Unlocker) Open(r io.ReaderAt, size int64) (*Reader, error) {
	h, err := parse(r, size)
	if err != nil {
		return nil, err
	}
	have, err := h.checkData(size)
	if err != nil {
		return nil, err
	}
	if err := permitted(); err != nil {
		return nil, err
	}
	c, err := h.unlock(u)
	if err != nil {
		return nil, err
	}
	return &Reader{c: c, src: r, base: h.dataOffset, size: have, missing: h.dataSize - have}, nil
}

// Unlock is the function Unlock for one header of the image.
func (u *Unlocker) Unlock(token io.ReaderAt, size int64) (*Cipher, error) {
	h, err := parse(token, size)
	if err != nil {
		return nil, err
	}
	if err := permitted(); err != nil {
		return nil, err
	}
	return h.unlock(u)
}

// permitted returns an error where the process may not use SHA-1, of which all keys
// and initial vectors are made: with GODEBUG=fips140=only the standard library panics
// with it. There is no way to ask for that before Go 1.26.
func permitted() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = forbidden(r)
		}
	}()
	mac := hmac.New(sha1.New, make([]byte, hmacKeyLen))
	mac.Write(make([]byte, 4))
	mac.Sum(nil)
	return nil
}

// forbidden is the error for a function of the standard library that refuses.
func forbidden(why any) error {
	return fmt.Errorf("%w: it needs SHA-1 and may need 3DES, which this process may not use (%v): run it without GODEBUG=fips140=only", ErrUnsupported, why)
}

// Format keeps keys out of whatever is printed.
func (u *Unlocker) Format(f fmt.State, _ rune) { io.WriteString(f, u.String()) }

// String keeps keys out of whatever is printed.
func (*Unlocker) String() string { return "crypt.Unlocker{…}" }

// GoString keeps keys out of whatever is printed.
func (u *Unlocker) GoString() string { return u.String() }

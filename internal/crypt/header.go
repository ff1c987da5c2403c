package crypt

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// Numbers in both headers are big-endian. Apple's for algorithms are those of the
// CDSA interface it published (cssmtype.h, cssmapple.h).
const (
	algTripleDES = 17
	algRSA       = 42
	algHMACSHA1  = 91
	algPBKDF2    = 103
	algAES       = 0x80000001

	modeCBC    = 4
	modeCBCIV  = 5
	modeCBCPad = 6

	padPKCS7 = 7
	padPKCS1 = 10
)

const (
	headerLen  = 0x4C // version 2, up to the table of keys
	entryLen   = 20   // of that table
	trailerLen = 1276 // version 1, whole

	// maxKeys bounds the work on a table. Images have one to three.
	maxKeys = 64

	// Blocks of 512 and 4096 bytes are known. A reader works for any size, but
	// its smallest step is one AES block of one of them.
	minBlock = 512
	maxBlock = 1 << 20

	hmacKeyLen = 20
	ivLen      = 16
)

// header is what both versions say: how the data is encrypted, where it is, and
// records that hold its keys.
type header struct {
	blockSize  int64
	keyLen     int // of AES, bytes
	dataOffset int64
	dataSize   int64
	dataEnd    int64 // no data from here on, -1: the end of the file
	records    []record
}

// record is one way to the keys. Those that this package can't use are kept for
// what they say when nothing else fits.
type record interface {
	// open returns the AES key and the HMAC key. Its error is ErrPassword's,
	// ErrUnsupported's or a *FormatError.
	open(u *Unlocker) (aesKey, hmacKey []byte, err error)
}

func parse(r io.ReaderAt, size int64) (*header, error) {
	v, err := Detect(r, size)
	switch {
	case err != nil:
		return nil, err
	case v == V2:
		return parseV2(r, size)
	case v == V1:
		return parseV1(r, size)
	}
	return nil, &FormatError{0, "not an encrypted image"}
}

// parseV2 reads the header in front:
//
//	0x00  "encrcdsa"        0x1C  IV algorithm 91, HMAC-SHA1
//	0x08  version 2         0x20  bits of its key, 160
//	0x0C  IV size 16        0x24  UUID
//	0x10  mode 5, CBC       0x34  block size
//	0x14  cipher, AES       0x38  data size, 64 bits
//	0x18  key bits          0x40  data offset, 64 bits
//	0x48  number of keys, then for each: type, offset, length (64 bits each)
//
// Apple leaves 120 KiB between the header and the data for further keys, so the
// records may be anywhere in the file.
func parseV2(r io.ReaderAt, size int64) (*header, error) {
	if size < headerLen {
		return nil, &FormatError{size, "short header"}
	}
	var b [headerLen]byte
	if _, err := readat.Full(r, b[:], 0); err != nil {
		return nil, err
	}
	h := &header{dataEnd: -1}
	// What can't be decrypted at all is told apart from what is damaged, so the
	// algorithms come before the sizes.
	if err := h.algorithms(b[:]); err != nil {
		return nil, err
	}
	dataSize, dataOffset := be64(b[0x38:]), be64(b[0x40:])
	if dataSize < 0 || dataOffset < 0 {
		return nil, &FormatError{0x38, "negative size or offset"}
	}
	// Not compared with the file yet: a bundle's token has no data.
	h.dataSize, h.dataOffset = dataSize, dataOffset
	n := be32(b[0x48:])
	if n > maxKeys {
		return nil, fmt.Errorf("%w: %d keys (limit %d)", ErrUnsupported, n, maxKeys)
	}
	if size < headerLen+int64(n)*entryLen {
		return nil, &FormatError{0x48, "more keys than data"}
	}
	return h, h.readRecords(r, size, int(n))
}

// algorithms checks the fields that say how the data is encrypted.
func (h *header) algorithms(b []byte) error {
	fields := []struct {
		at   int
		name string
		want uint32
	}{
		{0x08, "header version", 2},
		{0x0C, "IV size", ivLen},
		{0x10, "cipher mode", modeCBCIV},
		{0x14, "cipher", algAES},
		{0x1C, "IV algorithm", algHMACSHA1},
		{0x20, "IV key bits", hmacKeyLen * 8},
	}
	for _, f := range fields {
		if got := be32(b[f.at:]); got != f.want {
			return fmt.Errorf("%w: %s %d", ErrUnsupported, f.name, got)
		}
	}
	if err := h.setKeyBits(be32(b[0x18:])); err != nil {
		return err
	}
	return h.setBlockSize(be32(b[0x34:]), 0x34)
}

func (h *header) setKeyBits(bits uint32) error {
	if bits != 128 && bits != 256 {
		return fmt.Errorf("%w: AES key of %d bits", ErrUnsupported, bits)
	}
	h.keyLen = int(bits / 8)
	return nil
}

func (h *header) setBlockSize(n uint32, at int64) error {
	if n < minBlock || n > maxBlock || n%minBlock != 0 {
		return &FormatError{at, fmt.Sprintf("block size %d", n)}
	}
	h.blockSize = int64(n)
	return nil
}

// readRecords follows the table. A record that can't be right fails only itself:
// another key may open the image.
func (h *header) readRecords(r io.ReaderAt, size int64, n int) error {
	if n == 0 {
		return &FormatError{0x48, "no keys"}
	}
	for i := range n {
		at := headerLen + int64(i)*entryLen
		var e [entryLen]byte
		if _, err := readat.Full(r, e[:], at); err != nil {
			return err
		}
		off, length := be64(e[4:]), be64(e[12:])
		if off < 0 || length < 0 || off > size || length > size-off {
			h.records = append(h.records, badRecord{&FormatError{at, "a key past the end of the file"}})
			continue
		}
		// The file has this much, and no record needs more than maxRecord.
		body := make([]byte, min(length, maxRecord))
		if _, err := readat.Full(r, body, off); err != nil {
			return err
		}
		h.records = append(h.records, parseRecord(be32(e[:]), body, off, h.keyLen))
	}
	return nil
}

// parseV1 reads the trailer, which is also what a version 1 token is:
//
//	0x00   UUID                   0x58   IV size 16, mode 5 (CBC)
//	0x10   block size             0x60   AES key, wrapped
//	0x14   how keys are wrapped   0x18C  HMAC key, wrapped
//	0x28   key derivation         0x2B8  integrity key, wrapped
//	0x4E8  data size, 64 bits     0x4F0  version 1, "cdsaencr"
//
// The data is everything before it, from the file's beginning.
func parseV1(r io.ReaderAt, size int64) (*header, error) {
	var b [trailerLen]byte
	at := size - trailerLen
	if _, err := readat.Full(r, b[:], at); err != nil {
		return nil, err
	}
	fields := []struct {
		at   int
		name string
		want uint32
	}{
		{0x4F0, "trailer version", 1},
		{0x58, "IV size", ivLen},
		{0x5C, "cipher mode", modeCBCIV},
		{v1DataKey, "cipher", algAES},
		{v1HMACKey, "IV algorithm", algHMACSHA1},
		{v1HMACKey + 4, "IV key bits", hmacKeyLen * 8},
	}
	for _, f := range fields {
		if got := be32(b[f.at:]); got != f.want {
			return nil, fmt.Errorf("%w: %s %d", ErrUnsupported, f.name, got)
		}
	}
	h := &header{dataSize: be64(b[0x4E8:]), dataEnd: at}
	if h.dataSize < 0 {
		return nil, &FormatError{at + 0x4E8, "negative size"}
	}
	if err := h.setKeyBits(be32(b[v1DataKey+4:])); err != nil {
		return nil, err
	}
	if err := h.setBlockSize(be32(b[0x10:]), at+0x10); err != nil {
		return nil, err
	}
	h.records = []record{&trailerRecord{b: b, at: at, keyLen: h.keyLen}}
	return h, nil
}

// checkData compares the place of the data with the file, and returns how many bytes
// of it that has. The data ends with a whole AES block, in writers known with a
// whole block of the image. Where the file was cut off that is less than
// h.dataSize, and as many whole AES blocks as there are.
func (h *header) checkData(size int64) (have int64, err error) {
	end := h.dataEnd
	if end < 0 {
		end = size
	}
	if h.dataOffset <= end {
		have = (end - h.dataOffset) &^ (aesBlock - 1)
	}
	// Block numbers have 32 bits; what a writer does beyond isn't known.
	many := h.dataSize>>32 >= h.blockSize
	switch {
	case have >= h.dataSize && many:
		return 0, fmt.Errorf("%w: %d bytes in blocks of %d", ErrUnsupported, h.dataSize, h.blockSize)
	case have >= h.dataSize && h.dataOffset <= end:
		return h.dataSize, nil
	case h.dataEnd < 0 && h.dataOffset == size:
		return 0, &FormatError{end, "no data behind the header: the file is cut off there, or it is the token of a sparse bundle, whose directory is to be opened"}
	case have == 0 || many:
		return 0, &FormatError{end, fmt.Sprintf("%d bytes of data at %d don't fit the file: it is damaged or cut off", h.dataSize, h.dataOffset)}
	}
	return have, nil
}

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// be64 returns a size or an offset, negative where it doesn't fit.
func be64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

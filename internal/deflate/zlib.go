package deflate

import "errors"

// ErrDictionary says that a zlib stream wants a preset dictionary.
var ErrDictionary = errors.New("deflate: zlib stream with a preset dictionary")

const (
	// ZlibHeaderLen bytes precede the DEFLATE stream in a zlib stream.
	ZlibHeaderLen = 2

	// ZlibTrailerLen bytes follow it: the output's Adler-32, big-endian.
	ZlibTrailerLen = 4
)

// CheckZlibHeader checks the first bytes of a zlib stream, as in RFC 1950,
// 2.2. Only DEFLATE with a window of at most 32 KiB is taken.
func CheckZlibHeader(p []byte) error {
	if len(p) < ZlibHeaderLen {
		return &CorruptError{Offset: int64(len(p)), Msg: "zlib header cut short"}
	}
	cmf, flg := uint(p[0]), uint(p[1])
	switch {
	case (cmf<<8|flg)%31 != 0:
		return &CorruptError{Offset: 1, Msg: "zlib header check (FCHECK)"}
	case cmf&15 != 8:
		return &CorruptError{Offset: 0, Msg: "zlib compression method not DEFLATE"}
	case cmf>>4 > 7:
		return &CorruptError{Offset: 0, Msg: "zlib window larger than 32 KiB"}
	case flg&0x20 != 0:
		return ErrDictionary
	}
	return nil
}

package dmgtest

import (
	"bytes"
	"io"

	"github.com/dsnet/compress/bzip2"
	"github.com/go-dmg/dmg/internal/dmgtest/adcenc"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
	"github.com/klauspost/compress/zlib"
	"github.com/ulikunitz/xz"
)

// Compress is data as a chunk of the method holds it. Level is zlib's and
// bzip2's, 0 the codec's own. A method that no reader knows gets bytes that
// mean nothing, half as many as the data.
func Compress(m Method, level int, data []byte) ([]byte, error) {
	var b bytes.Buffer
	err := encode(&b, m, level, bytes.NewReader(data), int64(len(data)))
	return b.Bytes(), err
}

// encode compresses the n bytes of r to w.
func encode(w io.Writer, m Method, level int, r io.Reader, n int64) error {
	switch m {
	case Raw:
		_, err := io.Copy(w, r)
		return err
	case Zlib, Bzip2, LZMA:
		return encodeStream(w, m, level, r, n)
	case ADC, LZFSE:
		return encodeBlock(w, m, r)
	}
	_, err := io.Copy(w, Random(uint64(m), (n+1)/2).reader())
	return err
}

// encodeStream is for codecs whose encoders take the data bit by bit.
func encodeStream(w io.Writer, m Method, level int, r io.Reader, n int64) error {
	enc, err := newEncoder(w, m, level, n)
	if err != nil {
		return err
	}
	if _, err := io.Copy(enc, r); err != nil {
		return err
	}
	return enc.Close()
}

func newEncoder(w io.Writer, m Method, level int, n int64) (io.WriteCloser, error) {
	switch m {
	case Zlib:
		// Not the standard library's, whose output may change with the
		// toolchain: testdata must come out the same on every machine.
		if level == 0 {
			level = zlib.DefaultCompression
		}
		return zlib.NewWriterLevel(w, level)
	case Bzip2:
		return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: level})
	default:
		// Apple's tools write no check; a dictionary larger than the chunk
		// would only ask readers for memory.
		dict := 1 << 12
		for int64(dict) < n && dict < 8<<20 {
			dict <<= 1
		}
		return xz.WriterConfig{DictCap: dict, NoCheckSum: true}.NewWriter(w)
	}
}

// encodeBlock is for codecs whose encoders want all the data at once.
func encodeBlock(w io.Writer, m Method, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	stored := adcenc.Encode
	if m == LZFSE {
		// As Apple's encoder does: what is short has blocks without entropy
		// coding.
		kind := lzfseenc.V2
		if len(data) < 4096 {
			kind = lzfseenc.LZVN
		}
		stored = func(p []byte) []byte { return lzfseenc.Encode(kind, p) }
	}
	_, err = w.Write(stored(data))
	return err
}

package bzip2

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	dsnet "github.com/dsnet/compress/bzip2"
)

// compress makes a stream with dsnet's Writer.
func compress(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := dsnet.NewWriter(&out, &dsnet.WriterConfig{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// words makes n bytes of text that compresses like prose.
func words(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	list := make([][]byte, 4000)
	for i := range list {
		list[i] = make([]byte, 1+rng.IntN(9))
		for j := range list[i] {
			list[i][j] = "etaoinshrdlucmfwypvbgkjqxz"[min(rng.IntN(26), rng.IntN(26))]
		}
	}
	var p []byte
	for len(p) < n {
		p = append(p, list[min(rng.IntN(len(list)), rng.IntN(len(list)))]...)
		p = append(p, ' ')
	}
	return p[:n]
}

// decode decodes all of data straight through.
func decode(r io.Reader) ([]byte, error) {
	var (
		s   Stream
		b   Block
		t   Text
		out []byte
		buf = make([]byte, 64<<10)
	)
	for s.Reset(r); ; {
		if err := s.Next(&b); err == io.EOF {
			return out, nil
		} else if err != nil {
			return out, err
		}
		b.Unwind(&t)
		crc := uint32(0)
		for c := t.Start(); ; {
			n, err := t.Read(&c, buf)
			crc = UpdateCRC(crc, buf[:n])
			out = append(out, buf[:n]...)
			if err == io.EOF {
				break
			} else if err != nil {
				return out, err
			}
		}
		if crc != b.CRC() {
			return out, ErrChecksum
		}
	}
}

func TestDecode(t *testing.T) {
	data := words(2_500_000, 1)
	got, err := decode(bytes.NewReader(compress(t, data, 9)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("decoded to other bytes")
	}
}

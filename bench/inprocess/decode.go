//go:build linux

package main

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	stdflate "compress/flate"
	stdzlib "compress/zlib"
	"encoding/binary"
	"errors"
	"io"

	dsnet "github.com/dsnet/compress/bzip2"
	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
	klauspost "github.com/klauspost/compress/flate"
)

// decoders decode a stream in memory to w, by what is decoded and by whom. Ours
// check the checksums as the C libraries do; compress/flate and klauspost's
// have none to check.
var decoders = map[string]func(w io.Writer, z []byte) error{
	"inflate ours": func(w io.Writer, z []byte) error { return inflate(w, z, true) },
	"inflate ours, no Adler-32": func(w io.Writer, z []byte) error {
		return inflate(w, z, false)
	},
	"inflate compress/zlib": func(w io.Writer, z []byte) error {
		r, err := stdzlib.NewReader(bytes.NewReader(z))
		if err != nil {
			return err
		}
		return copyAll(w, r)
	},
	"inflate compress/flate": func(w io.Writer, z []byte) error {
		return copyAll(w, stdflate.NewReader(bytes.NewReader(z[deflate.ZlibHeaderLen:])))
	},
	"inflate klauspost/compress/flate": func(w io.Writer, z []byte) error {
		return copyAll(w, klauspost.NewReader(bytes.NewReader(z[deflate.ZlibHeaderLen:])))
	},
	"bunzip2 ours": bunzip2,
	"bunzip2 compress/bzip2": func(w io.Writer, z []byte) error {
		return copyAll(w, stdbzip2.NewReader(bytes.NewReader(z)))
	},
	"bunzip2 dsnet/compress/bzip2": func(w io.Writer, z []byte) error {
		r, err := dsnet.NewReader(bytes.NewReader(z), nil)
		if err != nil {
			return err
		}
		return copyAll(w, r)
	},
}

// copyAll copies through a buffer, whatever shortcuts there are.
func copyAll(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 64<<10))
	return err
}

var errSum = errors.New("wrong checksum")

func inflate(w io.Writer, z []byte, check bool) error {
	if err := deflate.CheckZlibHeader(z); err != nil {
		return err
	}
	d := new(deflate.Decoder)
	d.Reset(&memory{z[deflate.ZlibHeaderLen:]})
	sum := uint32(1)
	for {
		p, err := d.Decode(0)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if check {
			sum = deflate.Adler32(sum, p)
		}
		w.Write(p)
	}
	var trailer [deflate.ZlibTrailerLen]byte
	if err := d.Trailer(trailer[:]); err != nil {
		return err
	}
	if check && sum != binary.BigEndian.Uint32(trailer[:]) {
		return errSum
	}
	return nil
}

// memory is what is left of data in memory, as a deflate.Lender.
type memory struct{ p []byte }

func (m *memory) Lend(n int) ([]byte, error) {
	if len(m.p) == 0 {
		return nil, io.EOF
	}
	p := m.p[:min(n, len(m.p))]
	m.p = m.p[len(p):]
	return p, nil
}

func (m *memory) Buffered() int { return len(m.p) }

func (m *memory) Read(p []byte) (int, error) {
	q, err := m.Lend(len(p))
	return copy(p, q), err
}

func bunzip2(w io.Writer, z []byte) error {
	var (
		s    bzip2.Stream
		b    bzip2.Block
		text bzip2.Text
	)
	buf := make([]byte, 64<<10)
	for s.Reset(bytes.NewReader(z)); ; {
		err := s.Next(&b)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		b.Unwind(&text)
		if err := readText(w, &text, buf); err != nil {
			return err
		}
	}
}

// readText writes a block's bytes to w and checks their CRC.
func readText(w io.Writer, text *bzip2.Text, buf []byte) error {
	crc := uint32(0)
	for c := text.Start(); ; {
		n, err := text.Read(&c, buf)
		crc = bzip2.UpdateCRC(crc, buf[:n])
		w.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if crc != text.CRC() {
		return errSum
	}
	return nil
}

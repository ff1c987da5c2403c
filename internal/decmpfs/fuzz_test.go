package decmpfs

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest/decmpfsenc"
)

// readPieces reads a file in pieces of a length, the first chunks and the last. It
// returns what it read before an error, by place, and the error's class.
func readPieces(t *testing.T, f *File, length int64, backwards bool) (pieces map[int64][]byte, errs map[int64]error) {
	pieces, errs = make(map[int64][]byte), make(map[int64]error)
	var offs []int64
	for off := int64(0); off < min(f.Size(), 5*65536); off += length {
		offs = append(offs, off)
	}
	if last := max(0, f.Size()-1) / 65536 * 65536; last >= 5*65536 {
		for off := last; off < f.Size(); off += length {
			offs = append(offs, off)
		}
	}
	for i := range offs {
		off := offs[i]
		if backwards {
			off = offs[len(offs)-1-i]
		}
		p := make([]byte, min(length, f.Size()-off))
		n, err := f.ReadAt(p, off)
		if n < 0 || n > len(p) || n < len(p) && err == nil {
			t.Fatalf("ReadAt of %d bytes: %d, %v", len(p), n, err)
		}
		if err != nil {
			errs[off] = class(t, err)
		}
		pieces[off] = p[:n]
	}
	return pieces, errs
}

// FuzzDecmpfs holds the reader to this. Any attribute and fork give errors with a
// class, and the same bytes and errors chunk by chunk, in small pieces, backwards,
// and again. Anything that is compressed, in each way, comes back.
func FuzzDecmpfs(f *testing.F) {
	content := decmpfsenc.Text(65536 + 300)
	for _, e := range decmpfsenc.Encodings {
		f.Add(decmpfsenc.Inline(e.Inline, content[:200], e.Chunk), []byte{})
		attr, fork := decmpfsenc.Fork(e.Fork, content[:1000], 1, e.Chunk)
		f.Add(attr, fork)
	}
	attr, fork := decmpfsenc.Fork(4, content, 0, decmpfsenc.Encodings[2].Chunk)
	f.Add(attr, fork)
	for _, tt := range errorTests {
		if len(tt.attr) < 1000 {
			f.Add(tt.attr, []byte(tt.fork))
		}
	}
	var pool Pool
	f.Fuzz(func(t *testing.T, attr, fork []byte) {
		fuzzRead(t, &pool, attr, fork)
		plain := append(bytes.Clone(attr), fork...)
		if len(plain) == 0 {
			return
		}
		rnd := rand.New(rand.NewPCG(uint64(len(attr)), uint64(len(fork))))
		e := decmpfsenc.Encodings[rnd.IntN(len(decmpfsenc.Encodings))]
		if rnd.IntN(2) == 0 {
			plain = bytes.Repeat(plain, 1+70_000/len(plain))
		}
		attr, fork = decmpfsenc.Fork(e.Fork, plain, rnd.IntN(3), e.Chunk)
		file, err := pool.New(attr, bytes.NewReader(fork), int64(len(fork)))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(plain)+1)
		if n, err := file.ReadAt(got, 0); err != io.EOF || !bytes.Equal(got[:n], plain) {
			t.Fatalf("%s: %d bytes of %d, %v", e.Name, n, len(plain), err)
		}
	})
}

func fuzzRead(t *testing.T, pool *Pool, attr, fork []byte) {
	open := func() *File {
		file, err := pool.New(attr, bytes.NewReader(fork), int64(len(fork)))
		if class(t, err) != nil {
			return nil
		}
		return file
	}
	file := open()
	if file == nil {
		return
	}
	if h, err := ParseHeader(attr); err != nil || h.Size != file.Size() {
		t.Fatalf("header has %d bytes, %v; file %d", h.Size, err, file.Size())
	}
	want, wantErrs := readPieces(t, file, 65536, false)
	for round, length := range []int64{65536, 30_011, 65536} {
		if round == 1 {
			file = open()
		}
		got, errs := readPieces(t, file, length, round > 0)
		for off, p := range got {
			chunk := off / 65536 * 65536
			// A piece that two chunks share fails where the second one does.
			if off-chunk+int64(len(p)) > 65536 {
				p = p[:65536-(off-chunk)]
			}
			whole := want[chunk]
			if wantErrs[chunk] != nil && (len(p) > 0 || errs[off] != wantErrs[chunk]) {
				t.Fatalf("piece at %d has %d bytes and error %v, its chunk %v", off, len(p), errs[off], wantErrs[chunk])
			}
			if len(p) > 0 && !bytes.Equal(p, whole[off-chunk:][:len(p)]) {
				t.Fatalf("piece at %d differs from its chunk", off)
			}
		}
		if round == 0 && len(errs) != len(wantErrs) {
			t.Fatalf("%d chunks fail the second time, %d the first", len(errs), len(wantErrs))
		}
	}
}

package aea_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/go-dmg/dmg/internal/aea"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// FuzzAEA reads authentic archives that say anything: root header, entries and segments are
// the input's. Whatever they are, reads in order and at random give the same bytes or fail,
// in bounded memory.
func FuzzAEA(f *testing.F) {
	const segment, perCluster = 16 << 10, 32
	content := dmgtest.Join(dmgtest.Text(1, 3*segment), dmgtest.Random(2, 1000))
	for _, codec := range []byte("-zex4bf?") {
		f.Add(codec, byte(0), []byte(nil), []byte(nil), []byte(nil), uint16(0))
	}
	root := binary.LittleEndian.AppendUint64(nil, uint64(content.Size()))
	f.Add(byte('z'), byte(1), root, []byte(nil), []byte(nil), uint16(0))
	f.Add(byte('z'), byte(2), []byte(nil), binary.LittleEndian.AppendUint32(nil, segment), []byte("bv41 \x00\x00\x00\x04\x00\x00\x00"), uint16(100))
	f.Fuzz(func(t *testing.T, codec, sum byte, root, entries, packed []byte, cut uint16) {
		a := dmgtest.Archive{Segment: segment, PerCluster: perCluster, Codec: codec, Sum: sum % 3}
		a.Root = func(r *dmgtest.ArchiveRoot) {
			var b bytes.Buffer
			binary.Write(&b, binary.LittleEndian, r)
			copy(b.Bytes(), root)
			binary.Read(&b, binary.LittleEndian, r)
		}
		a.Entry = func(i int, e *dmgtest.ArchiveEntry) {
			if b := entries[min(len(entries), 8*i):]; len(b) >= 8 {
				e.Plain, e.Packed = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
			}
		}
		if len(packed) > 0 {
			a.Content = func(i int, b []byte) []byte {
				if i == 1 {
					return packed[:min(len(packed), segment)]
				}
				return b
			}
		}
		image := a.Image(content, content.Size())
		image = image[:max(0, len(image)-int(cut))]
		checkFuzzed(t, image, aea.Keys{Key: dmgtest.ArchiveKey})
	})
}

// FuzzAEAFront opens files that begin as an archive, with keys of all kinds.
func FuzzAEAFront(f *testing.F) {
	for _, tt := range profiles {
		a, _ := tt.how()
		f.Add(archiveOf(a, dmgtest.Text(1, 100)))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) > 4 && image[4] == 5 {
			return // a password takes long
		}
		checkFuzzed(t, image, aea.Keys{Key: dmgtest.ArchiveKey, Password: "pässword", PrivateKey: recipient})
	})
}

// checkFuzzed opens an archive and reads the beginning of its content twice.
func checkFuzzed(t *testing.T, image []byte, keys aea.Keys) {
	const memory, most = 16 << 20, 256 << 10
	r, err := aea.Open(bytes.NewReader(image), int64(len(image)), keys, memory)
	if err != nil {
		checkClass(t, err)
		return
	}
	if missing, err := r.Missing(); err != nil || missing < 0 || missing > r.Size() {
		t.Fatalf("%d bytes of %d are missing, %v", missing, r.Size(), err)
	}
	stop := r.CompareSums()
	whole := make([]byte, min(most, r.Size()))
	n, err := r.ReadAt(whole, 0)
	if err != nil && err != io.EOF {
		checkClass(t, err)
	}
	stop()
	for off := int64(len(whole)) - 1; off >= 0; off -= 7001 {
		p := make([]byte, min(3000, int64(len(whole))-off))
		k, err := r.ReadAt(p, off)
		if off+int64(k) <= int64(n) && !bytes.Equal(p[:k], whole[off:off+int64(k)]) {
			t.Fatalf("%d bytes at %d differ", k, off)
		}
		if off+int64(len(p)) <= int64(n) && k < len(p) {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, k, err)
		}
	}
	if s := r.Stats(); s.Memory > r.Reserved() || r.Reserved() > memory {
		t.Fatalf("%d bytes in use of %d of %d", s.Memory, r.Reserved(), memory)
	}
}

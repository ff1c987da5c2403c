package xz

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/stream"
)

// pointsOf returns all checkpoints that decoding the file leaves, and what it gives.
func pointsOf(t *testing.T, file []byte) (points []stream.Point, out []byte, err error) {
	t.Helper()
	s := NewStreams(Memory(1 << 20))
	s.Reset(bytes.NewReader(file))
	for s.Mark(1); ; {
		var p []byte
		p, err = s.Decode(1)
		if point, ok := s.Point(false); ok {
			point.Record = bytes.Clone(point.Record)
			points = append(points, point)
			s.Mark(point.Off + 1)
		}
		if err != nil {
			return points, out, err
		}
		out = append(out, p...)
	}
}

// resumeAt goes on from a checkpoint to the file's end.
func resumeAt(s *Streams, file []byte, p stream.Point) (out []byte, err error) {
	var r stream.Record
	if err := r.Parse(p.Record); err != nil {
		return nil, err
	}
	if err := s.Resume(bytes.NewReader(file[r.In:]), p.Off, &r); err != nil {
		return nil, err
	}
	return all(s, 7)
}

// offsets lists where checkpoints are, in the output and the data.
func offsets(points []stream.Point) string {
	var b strings.Builder
	for _, p := range points {
		fmt.Fprintf(&b, "%d:%d ", p.Off, p.In)
	}
	return strings.TrimSpace(b.String())
}

// TestResets has checkpoints at blocks, and where the dictionary is reset in one, but not
// where its check can't be carried over.
func TestResets(t *testing.T) {
	const zero = "\xE0\x00\x01\x00\x06\x5D\x00\x00\x00\x00\x00\x00\x00" // two zeros, with all resets
	filters := []byte{0x21, 1, 22}
	crc := func(p string) []byte { return sum([]byte(p)) }
	one := "\x01\x00\x02abc" + "\x02\x00\x00d" + "\x01\x00\x00e" + zero + "\xC0" + zero[1:] + zero + "\x00"
	oneOut := "abcde\x00\x00\x00\x00\x00\x00"
	two := "\x01\x00\x01fg\x00"
	for _, tt := range []struct {
		check byte
		sums  [][]byte
		want  string // checkpoints in the output
	}{
		{checkNone, [][]byte{nil, nil}, "4 5 9 11"},
		{checkCRC32, [][]byte{crc(oneOut), crc("fg")}, "4 5 9 11"},
		{0x02, [][]byte{{1, 2, 3, 4}, {1, 2, 3, 4}}, "4 5 9 11"}, // unknown, four bytes
	} {
		w := &container{check: tt.check}
		w.block(filters, []byte(one), tt.sums[0])
		w.block(filters, []byte(two), tt.sums[1])
		file := w.end()
		points, out, err := pointsOf(t, file)
		if err != io.EOF || string(out) != oneOut+"fg" {
			t.Fatalf("check %d: %q, %v", tt.check, out, err)
		}
		var at []string
		for _, p := range points {
			at = append(at, fmt.Sprint(p.Off))
			s := NewStreams(Memory(1 << 20))
			if got, err := resumeAt(s, file, p); err != io.EOF || string(got) != string(out[p.Off:]) {
				t.Errorf("check %d, from byte %d: %q, %v", tt.check, p.Off, got, err)
			}
		}
		if got := strings.Join(at, " "); got != tt.want {
			t.Errorf("check %d: checkpoints at %s, want %s", tt.check, got, tt.want)
		}
		if tt.check != checkCRC32 {
			continue
		}
		// The check of a block is compared by who resumes in it.
		bent := bytes.Clone(file)
		bent[bytes.Index(bent, tt.sums[0])] ^= 1
		s := NewStreams(Memory(1 << 20))
		if _, err := resumeAt(s, bent, points[1]); !errors.Is(err, ErrCheck) {
			t.Errorf("a wrong check: %v", err)
		}
	}
}

// indexOf returns what Index says of a file.
func indexOf(t *testing.T, file []byte) (points []stream.Point) {
	t.Helper()
	err := Index(bytes.NewReader(file), int64(len(file)), func(p stream.Point) {
		p.Record = bytes.Clone(p.Record)
		points = append(points, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	return points
}

// TestIndex has the index give the checkpoints that decoding leaves at the blocks, of one
// stream and of several.
func TestIndex(t *testing.T) {
	data := mixed(9, 60_000)
	blocks := encode(t, data, xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC64, BlockSize: 7000})
	one := encode(t, data[:5000], xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC32})
	w := new(container) // with blocks of nothing
	filters := []byte{0x21, 1, 22}
	for _, s := range []string{"", "\x01\x00\x02abc", "", "", "\x01\x00\x00d", ""} {
		w.block(filters, []byte(s+"\x00"), nil)
	}
	many := bytes.Repeat(lzma2("\x01\x00\x02abc"), maxListed)
	for _, tt := range []struct {
		name   string
		file   []byte
		points int
	}{
		{"one block", one, 0},
		{"blocks", blocks, 8},
		{"blocks of nothing", w.end(), 2},
		{"streams", bytes.Join([][]byte{one, blocks, make([]byte, 12), one, one}, nil), 1 + 8 + 1 + 1},
		{"padding at the end", bytes.Join([][]byte{blocks, make([]byte, 400)}, nil), 8},
		{"as many streams as are listed", many, maxListed - 1},
	} {
		decoded, _, err := pointsOf(t, tt.file)
		if err != io.EOF {
			t.Fatalf("%s: %v", tt.name, err)
		}
		listed := indexOf(t, tt.file)
		if len(listed) != tt.points {
			t.Errorf("%s: %d blocks are listed, want %d", tt.name, len(listed), tt.points)
		}
		for i, p := range listed {
			// Decoding also leaves those inside blocks.
			for len(decoded) > 0 && decoded[0].Off < p.Off {
				decoded = decoded[1:]
			}
			if len(decoded) == 0 || decoded[0].Off != p.Off || decoded[0].In != p.In || !bytes.Equal(decoded[0].Record, p.Record) {
				t.Errorf("%s: checkpoint %d is at %s, and not what decoding leaves", tt.name, i, offsets(listed[i:i+1]))
			}
		}
	}
}

// TestIndexBad has nothing listed of a file whose index can't be right, and the source's
// error passed on.
func TestIndexBad(t *testing.T) {
	blocks := encode(t, mixed(9, 60_000), xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC64, BlockSize: 7000})
	forged := func(bend func(w *container)) []byte {
		w := new(container)
		for range 3 {
			w.block([]byte{0x21, 1, 22}, []byte("\x01\x00\x02abc\x00"), nil)
		}
		bend(w)
		return w.end()
	}
	if n := len(indexOf(t, forged(func(*container) {}))); n != 2 {
		t.Fatalf("%d blocks are listed", n)
	}
	bent := func(at int) []byte {
		b := bytes.Clone(blocks)
		b[len(b)+at] ^= 1
		return b
	}
	for _, tt := range []struct {
		name string
		file []byte
	}{
		{"nothing", nil},
		{"zeros", make([]byte, 5000)},
		{"a stream header", blocks[:12]},
		{"cut", blocks[:len(blocks)-1]},
		{"garbage behind", append(bytes.Clone(blocks), "garbage!"...)},
		{"the footer's magic", bent(-1)}, {"its flags", bent(-3)}, {"its size", bent(-5)}, {"its checksum", bent(-9)},
		{"the index's checksum", bent(-13)}, {"a number in it", bent(-20)},
		{"the front cut off", blocks[4000:]},
		{"many streams", bytes.Repeat(lzma2("\x01\x00\x02abc"), maxListed+1)},
		{"a size of 2^63", forged(func(w *container) { w.records[0] = 1<<63 - 1 })},
		{"sizes that wrap", forged(func(w *container) { w.records[0], w.records[2] = 1<<63-4, 1<<63-4 })},
		{"no size", forged(func(w *container) { w.records[2] = 0 })},
		{"too much output", forged(func(w *container) { w.records[1], w.records[3] = 1<<63-1, 1<<63-1 })},
		{"a block too many", forged(func(w *container) { w.records = append(w.records, w.records[:2]...) })},
	} {
		if points := indexOf(t, tt.file); len(points) > 0 {
			t.Errorf("%s: %s", tt.name, offsets(points))
		}
	}
	broken := errors.New("broken")
	r := failing{bytes.NewReader(blocks), broken}
	if err := Index(r, int64(len(blocks)), func(stream.Point) { t.Error("a block") }); err != broken {
		t.Errorf("%v", err)
	}
}

// failing is a source that fails.
type failing struct {
	io.ReaderAt
	err error
}

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// TestHere has the place where a decoder stops give the record of the checkpoint there, and
// a block's check compared that ends there.
func TestHere(t *testing.T) {
	data := mixed(3, 30_000)
	file := encode(t, data, xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC32, BlockSize: 10_000})
	file = append(file, encode(t, data, xz.WriterConfig{DictCap: 4 << 10, CheckSum: xz.CRC64, BlockSize: 10_000})...)
	listed := indexOf(t, file)
	if len(listed) != 5 {
		t.Fatalf("%d blocks", len(listed))
	}
	s := NewStreams(Memory(1 << 20))
	to := func(file []byte, off int64) ([]byte, error) {
		s.Reset(bytes.NewReader(file))
		for n := int64(0); n < off; {
			p, err := s.Decode(int(off - n))
			if n += int64(len(p)); err != nil {
				t.Fatal(err)
			}
		}
		return s.Here()
	}
	for _, p := range listed {
		here, err := to(file, p.Off)
		if err != nil || !bytes.Equal(here, p.Record) {
			t.Errorf("byte %d: %x, %v", p.Off, here, err)
		}
		if rest, err := all(s, 1000); err != io.EOF || len(rest) != 60_000-int(p.Off) {
			t.Errorf("behind byte %d: %d bytes, %v", p.Off, len(rest), err)
		}
		if here, err := to(file, p.Off-1); here != nil || err != nil {
			t.Errorf("before byte %d: %x, %v", p.Off, here, err)
		}
		bent := bytes.Clone(file)
		bent[p.In-1] ^= 1 // the end of the check before; of a stream, its footer
		if _, err := to(bent, p.Off); err == nil && p.Off != 30_000 {
			t.Errorf("byte %d: a wrong check is not found", p.Off)
		}
	}
	if here, err := to(file, 60_000); here != nil || err != nil {
		t.Errorf("at the end: %x, %v", here, err)
	}
}

// TestRecords has records refused that are none.
func TestRecords(t *testing.T) {
	points, _, _ := pointsOf(t, lzma2("\x01\x00\x02abc", "\x01\x00\x00d"))
	if len(points) != 1 {
		t.Fatalf("%d checkpoints", len(points))
	}
	var good stream.Record
	if err := good.Parse(points[0].Record); err != nil {
		t.Fatal(err)
	}
	s := NewStreams(Memory(1 << 20))
	for _, tt := range []struct {
		name string
		bend func(r *stream.Record)
		off  int64
		good bool
	}{
		{"as it is", func(*stream.Record) {}, 3, true},
		{"less output than the block has made", func(*stream.Record) {}, 2, false},
		{"no state", func(r *stream.Record) { r.State = nil }, 3, false},
		{"a number too few", func(r *stream.Record) { r.State = r.State[:len(r.State)-1] }, 3, false},
		{"a number too many", func(r *stream.Record) { r.State = append(r.State, 0) }, 3, false},
		{"a check of no type", func(r *stream.Record) { r.State[0] = 16 }, 3, false},
		{"a window", func(r *stream.Record) { r.Window = []byte{1, 0, 1, 0} }, 3, false},
		{"no window", func(r *stream.Record) { r.Window = nil }, 3, false},
		{"output to leave out", func(r *stream.Record) { r.Skip = 1 }, 3, false},
		{"a block that begins before the data", func(r *stream.Record) { r.In = 3 }, 3, false},
	} {
		r := good
		r.State = bytes.Clone(good.State)
		tt.bend(&r)
		if err := s.Resume(bytes.NewReader(nil), tt.off, &r); (err == nil) != tt.good || err != nil && err != stream.ErrRecord {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

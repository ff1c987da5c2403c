package indexfile

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/lzfse"
	"github.com/go-dmg/dmg/internal/stream"
)

// A point is a checkpoint as a decoder leaves it.
type point struct {
	kind   Kind
	chunk  int
	off    int64
	sum    uint32
	record []byte
}

// zlibPoints returns a checkpoint every Spacing bytes of a DEFLATE stream.
func zlibPoints(t *testing.T, chunk int, data []byte) (points []point, dataLength int64) {
	t.Helper()
	stream, err := dmgtest.Compress(dmgtest.Zlib, 9, data)
	if err != nil {
		t.Fatal(err)
	}
	var z deflate.Decoder
	z.Reset(bytes.NewReader(stream[deflate.ZlibHeaderLen:]))
	for at := int64(Spacing); at < int64(len(data)); at += Spacing {
		for z.Out() < at {
			if _, err := z.Decode(int(at - z.Out())); err != nil {
				t.Fatal(err)
			}
		}
		var c deflate.Checkpoint
		z.Checkpoint(&c)
		record, err := c.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		record = deflate.AppendPackedWindow(record, z.Window(), nil)
		points = append(points, point{Zlib, chunk, at, uint32(at) * 7, record})
	}
	return points, int64(len(stream))
}

// bzip2Points returns a checkpoint for each block of a stream, with cursors.
func bzip2Points(t *testing.T, chunk int, data []byte) (points []point, dataLength int64) {
	t.Helper()
	stream, err := dmgtest.Compress(dmgtest.Bzip2, 1, data)
	if err != nil {
		t.Fatal(err)
	}
	var s bzip2.Stream
	var b bzip2.Block
	s.Reset(bytes.NewReader(stream))
	at := int64(0)
	for {
		err := s.Next(&b)
		if err == io.EOF {
			return points, int64(len(stream))
		}
		if err != nil {
			t.Fatal(err)
		}
		record, _ := b.Point().AppendBinary(nil)
		begin := at
		cursor := b.Start()
		for p := make([]byte, bzip2.CursorSpacing); ; {
			n, err := b.Read(&cursor, p)
			if at += int64(n); err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			record, _ = cursor.AppendBinary(record)
		}
		points = append(points, point{Bzip2, chunk, begin, 0, record})
	}
}

// streamPoints returns checkpoints of an LZFSE stream, and one of an LZMA stream.
func streamPoints(t *testing.T, chunk int, data []byte) (points []point, dataLength int64) {
	t.Helper()
	compressed, err := dmgtest.Compress(dmgtest.LZFSE, 0, data)
	if err != nil {
		t.Fatal(err)
	}
	var z lzfse.Reader
	z.Reset(bytes.NewReader(compressed))
	for z.Mark(Spacing); ; {
		b, err := z.Decode(5000)
		p, ok := z.Point(err != nil)
		if ok {
			points = append(points, point{Stream, chunk, p.Off, 0, bytes.Clone(p.Record)})
			z.Mark(p.Off + 10*Spacing)
		}
		if len(b) == 0 {
			break
		}
	}
	last := points[len(points)-1]
	var r stream.Record
	if err := r.Parse(last.record); err != nil {
		t.Fatal(err)
	}
	r = stream.Record{In: r.In + 5, State: []byte{1, 2, 3}, Window: []byte{0}}
	return append(points, point{Stream, chunk, last.off + 1, 0, r.Append(nil)}), int64(len(compressed))
}

// testImage is an image of a zlib chunk, one without checkpoints, a bzip2 chunk, and one of
// LZFSE.
func testImage(t *testing.T) (chunks []Chunk, points []point) {
	t.Helper()
	text := dmgtest.Text(1, 900<<10).Bytes()
	zlib, zlibLength := zlibPoints(t, 0, text)
	blocks, bzip2Length := bzip2Points(t, 2, text[:350<<10])
	if len(zlib) < 2*GroupPoints-4 || len(blocks) < 3 {
		t.Fatalf("%d and %d checkpoints", len(zlib), len(blocks))
	}
	streams, streamLength := streamPoints(t, 3, text)
	if len(streams) < 3 {
		t.Fatalf("%d checkpoints", len(streams))
	}
	return []Chunk{
		{Zlib, int64(len(text)), zlibLength}, {None, 100, 100}, {Bzip2, 350 << 10, bzip2Length}, {Stream, int64(len(text)), streamLength},
	}, append(append(zlib, blocks...), streams...)
}

var testIdentity = sha256.Sum256([]byte("image"))

func written(w *Writer, points []point) File {
	w.Begin()
	for _, p := range points {
		w.Put(p.kind, p.chunk, p.off, p.sum, p.record)
	}
	return w.Finish(testIdentity)
}

// directory opens the file's directory for these chunks.
func directory(f File, chunks []Chunk) (*Directory, error) {
	return f.Directory(len(chunks), func(i int) Chunk { return chunks[i] })
}

// TestRoundTrip has every checkpoint come back as it was put, out of groups in any order.
func TestRoundTrip(t *testing.T) {
	chunks, points := testImage(t)
	w := Writer{Limit: MaxLen}
	file := written(&w, points)
	if again := written(&w, points); !bytes.Equal(again, file) {
		t.Error("the same checkpoints give another file")
	}
	f, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Count() != uint64(len(points)) || !bytes.Equal(f.Identity(), testIdentity[:]) {
		t.Errorf("%d checkpoints of %x", f.Count(), f.Identity())
	}
	d, err := directory(f, chunks)
	if err != nil {
		t.Fatal(err)
	}
	type group struct {
		data   []byte
		places []Place
		from   int
	}
	var groups []group
	n := 0
	for d.Next() {
		groups = append(groups, group{d.Data, append([]Place(nil), d.Places...), n})
		n += len(d.Places)
	}
	if d.Err() != nil || n != len(points) || len(groups) < 2 {
		t.Fatalf("%d checkpoints in %d groups: %v", n, len(groups), d.Err())
	}
	u := NewUnpacker()
	for i := range groups {
		g := groups[len(groups)-1-i]
		if err := u.Unpack(g.data, g.places); err != nil {
			t.Fatal(err)
		}
		for i, p := range g.places {
			want := points[g.from+i]
			cursors := 0
			if want.kind == Bzip2 {
				cursors = bzip2.RecordCursors(len(want.record))
			}
			if p.Chunk != want.chunk || p.Off != want.off || p.Sum() != want.sum || p.Cursors() != cursors || p.In() > chunks[p.Chunk].DataLength {
				t.Errorf("%+v, want checkpoint %d of chunk %d", p, want.off, want.chunk)
			}
			if !bytes.Equal(u.Record(i), want.record) {
				t.Errorf("another record of checkpoint %d of chunk %d", want.off, want.chunk)
			}
		}
	}
	if n := testing.AllocsPerRun(10, func() { u.Unpack(groups[0].data, groups[0].places) }); n != 0 {
		t.Errorf("%v allocations for a group", n)
	}
}

// TestWriterLimit has no file that is longer than it may be, and full say so.
func TestWriterLimit(t *testing.T) {
	_, points := testImage(t)
	w := Writer{Limit: MaxLen}
	n := int64(len(written(&w, points)))
	for _, tt := range []struct {
		limit int64
		fits  bool
	}{{n, true}, {n - 1, false}, {int64(minLen), false}} {
		w.Limit = tt.limit
		if got := written(&w, points); (got != nil) != tt.fits {
			t.Errorf("limit %d: a file of %d bytes, %d were needed", tt.limit, len(got), n)
		}
	}
	if !w.Full() {
		t.Error("a file that is too long is not full")
	}
}

// TestNoRecord has the writer leave out what is no record of its kind, or of that place.
func TestNoRecord(t *testing.T) {
	_, points := testImage(t)
	zlib, block, last := points[0], points[len(points)-1], points[len(points)-1]
	for i := len(points) - 1; block.kind != Bzip2; i-- {
		block = points[i]
	}
	record := func(bend func(r *stream.Record)) point {
		var r stream.Record
		if err := r.Parse(last.record); err != nil {
			t.Fatal(err)
		}
		bend(&r)
		return point{Stream, 3, last.off, 0, r.Append(nil)}
	}
	for _, tt := range []struct {
		name  string
		point point
	}{
		{"nothing", point{Zlib, 0, Spacing, 0, nil}},
		{"elsewhere", point{Zlib, 0, 2 * Spacing, 0, zlib.record}},
		{"cut", point{Zlib, 0, Spacing, 0, zlib.record[:len(zlib.record)-1]}},
		{"another kind", point{Bzip2, 0, Spacing, 0, zlib.record}},
		{"no kind", point{None, 0, Spacing, 0, zlib.record}},
		{"a block cut", point{Bzip2, 2, 0, 0, block.record[:len(block.record)-1]}},
		{"a block of no level", point{Bzip2, 2, 0, 0, append([]byte{8: 10}, make([]byte, 4)...)}},
		{"a block of too many cursors", point{Bzip2, 2, 0, 0, append(bytes.Clone(block.record[:bzip2.PointLen]), make([]byte, (bzip2.MaxCursors+1)*bzip2.CursorLen)...)}},
		{"a stream's cut", point{Stream, 3, last.off, 0, last.record[:3]}},
		{"a stream's without a window", record(func(r *stream.Record) { r.Window = nil })},
		{"a window too long", record(func(r *stream.Record) { r.Window = binary.AppendUvarint(nil, stream.MaxWindow+1) })},
		{"a run cut", record(func(r *stream.Record) { r.Window = []byte{9, 0, 3, 1} })},
		{"a shrunk window that is none", record(func(r *stream.Record) { r.Window = []byte{0, 9, 0x1F} })},
		{"too many bytes needed", record(func(r *stream.Record) { r.Need = stream.MaxNeed + 1 })},
	} {
		w := Writer{Limit: MaxLen}
		if f := written(&w, []point{tt.point}); f.Count() != 0 {
			t.Errorf("%s: it is a checkpoint", tt.name)
		}
	}
	w := Writer{Limit: MaxLen}
	if f := written(&w, []point{zlib, block}); f.Count() != 2 {
		t.Errorf("%d checkpoints of two", f.Count())
	}
}

// TestParse has the frame's faults found, each by its own check.
func TestParse(t *testing.T) {
	_, points := testImage(t)
	w := Writer{Limit: MaxLen}
	file := written(&w, points[:3])
	sealed := func(b []byte) []byte {
		sum := sha256.Sum256(b)
		return append(b, sum[:]...)
	}
	body := func() []byte { return bytes.Clone(file[:len(file)-sha256.Size]) }
	changed := func(at int) []byte {
		b := body()
		b[at] ^= 1
		return sealed(b)
	}
	for _, tt := range []struct {
		name string
		file []byte
		msg  string
	}{
		{"whole", file, ""},
		{"nothing", nil, "cut short"},
		{"a byte less than the least", make([]byte, minLen-1), "cut short at 91 bytes"},
		{"magic", changed(0), "no index file"},
		{"version", changed(len(magic) + 3), "version 0, not 1"},
		{"a byte more", append(bytes.Clone(file), 0), "checksum"},
		{"a byte less", file[:len(file)-1], "checksum"},
		{"too long", make([]byte, MaxLen+1), "more than"},
	} {
		f, err := Parse(tt.file)
		var e *Error
		if tt.msg == "" {
			if err != nil || !bytes.Equal(f, tt.file) {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if !errors.As(err, &e) || !strings.Contains(e.Msg, tt.msg) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.msg)
		}
	}
}

// forged is a file of one group, which can say anything and has the right checksum.
func forged(t *testing.T, points uint64, entries []byte, parts [numParts][]byte) File {
	t.Helper()
	compressed := func(p []byte) []byte {
		var b bytes.Buffer
		z, _ := flate.NewWriter(&b, 1)
		z.Write(p)
		z.Close()
		return b.Bytes()
	}
	var group []byte
	for _, part := range parts[:numParts-1] {
		group = binary.AppendUvarint(group, uint64(len(part)))
	}
	group = append(group, compressed(bytes.Join(parts[:], nil))...)
	d := binary.AppendUvarint(nil, points)
	d = binary.AppendUvarint(d, uint64(len(group)))
	d = compressed(append(d, entries...))
	b := binary.BigEndian.AppendUint32([]byte(magic), version)
	b = binary.BigEndian.AppendUint64(append(b, testIdentity[:]...), points)
	b = binary.BigEndian.AppendUint64(b, uint64(len(d)))
	b = append(append(b, d...), group...)
	sum := sha256.Sum256(b)
	f, err := Parse(append(b, sum[:]...))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestForged has the limits of a group and of a checkpoint's place found to the byte. The
// tests of the root package read images with files that are forged in other ways.
func TestForged(t *testing.T) {
	const end, dataLength = 4 * Spacing, 1000
	chunks := []Chunk{{Zlib, end, dataLength}, {None, end, dataLength}, {Bzip2, end, dataLength}, {Stream, end, dataLength}}
	numbers := func(v ...uint64) (b []byte) {
		for _, n := range v {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	state := []byte{1, 0, 0} // before a block, and a window of no runs
	block := []byte{9, 0, 0, 0, 0}
	for _, tt := range []struct {
		name    string
		entries []byte
		parts   [numParts][]byte
		open    string // what the directory is refused for
		chunk   int    // that the error names
		unpack  string // what the group is refused for
	}{
		{name: "zlib", entries: numbers(0, Spacing, 40, 1<<32-1), parts: [numParts][]byte{state}},
		{name: "zlib, all of the data", entries: numbers(0, Spacing, (dataLength-deflate.ZlibHeaderLen)*8-1, 0), parts: [numParts][]byte{state}},
		{name: "zlib, a bit more", entries: numbers(0, Spacing, (dataLength-deflate.ZlibHeaderLen)*8, 0), open: "byte 1001 of the data of", chunk: 0},
		{name: "zlib, the last place", entries: numbers(0, end-Spacing, 40, 0), parts: [numParts][]byte{state}},
		{name: "zlib, the end", entries: numbers(0, end, 40, 0), open: "after byte 0 of", chunk: 0},
		{name: "zlib, the start", entries: numbers(0, 0, 40, 0), open: "at byte 0 of", chunk: 0},
		{name: "zlib, a byte off", entries: numbers(0, Spacing+1, 40, 0), open: "at byte 32769 of", chunk: 0},
		{name: "zlib, a sum of 33 bits", entries: numbers(0, Spacing, 40, 1<<32), open: "is the most", chunk: -1},
		{name: "bzip2", entries: numbers(2, 0, 40, 0), parts: [numParts][]byte{block}},
		{name: "bzip2, all of the data", entries: numbers(2, 5, dataLength*8-1, 0), parts: [numParts][]byte{block}},
		{name: "bzip2, a bit more", entries: numbers(2, 5, dataLength*8, 0), open: "byte 1001 of the data of", chunk: 2},
		{name: "bzip2, a cursor too many", entries: numbers(2, 0, 40, bzip2.MaxCursors+1), open: "is the most", chunk: -1},
		{name: "bzip2, a cursor that is none", entries: numbers(2, 0, 40, 1), parts: [numParts][]byte{append(bytes.Clone(block), make([]byte, bzip2.CursorLen)...)}, unpack: "byte 0 of", chunk: 2},
		{name: "stream", entries: numbers(3, 5, 40, 0), parts: [numParts][]byte{{0, 1, 9, 0, 0}}},
		{name: "stream, all of the data", entries: numbers(3, 5, 40, dataLength-5), parts: [numParts][]byte{{0, 1, 9, 0, 0}}},
		{name: "stream, a byte more", entries: numbers(3, 5, 40, dataLength-4), open: "byte 1001 of the data of", chunk: 3},
		{name: "stream, too many bytes needed", entries: numbers(3, 5, 40, stream.MaxNeed+1), open: "is the most", chunk: -1},
		{name: "stream, a bit off", entries: numbers(3, 5, 41, 0), parts: [numParts][]byte{{0, 1, 9, 0, 0}}, unpack: "byte 5 of", chunk: 3},
		{name: "stream, too many bytes to leave out", entries: numbers(3, 5, 40, 0), parts: [numParts][]byte{append(numbers(stream.MaxSkip+1), 1, 9, 0, 0)}, unpack: "byte 5 of", chunk: 3},
		{name: "stream, a state too long", entries: numbers(3, 5, 40, 0), parts: [numParts][]byte{append(append([]byte{0}, numbers(stream.MaxState+1)...), make([]byte, stream.MaxState+3)...)}, unpack: "byte 5 of", chunk: 3},
		{name: "stream, a state cut", entries: numbers(3, 5, 40, 0), parts: [numParts][]byte{{0, 4, 9, 0, 0}}, unpack: "byte 5 of", chunk: 3},
		{name: "stream, a window too long", entries: numbers(3, 5, 40, 0), parts: [numParts][]byte{append([]byte{0, 1, 9}, append(numbers(stream.MaxWindow+1), 0)...)}, unpack: "byte 5 of", chunk: 3},
		{name: "stream, runs in no window", entries: numbers(3, 5, 40, 0), parts: [numParts][]byte{{0, 1, 9, 0, 1}, {0}, {0}}, unpack: "byte 5 of", chunk: 3},
		{name: "stream, a run longer than the window", entries: numbers(3, 5, 40, 0), parts: [numParts][]byte{{0, 1, 9, 3, 1}, {1}, {3}, {1, 2, 3}}, unpack: "byte 5 of", chunk: 3},
		{name: "no checkpoints", entries: numbers(1, 0, 40, 0), open: "a checkpoint in", chunk: 1},
		{name: "no chunk", entries: numbers(4, 0, 40, 0), open: "a chunk that is none", chunk: -1},
		{name: "no state", entries: numbers(0, Spacing, 40, 0), unpack: "byte 32768 of", chunk: 0},
		{name: "a window too long", entries: numbers(0, Spacing, 40, 0), parts: [numParts][]byte{{1, 0, 1}, {0}, numbers(deflate.WindowSize + 1), make([]byte, deflate.WindowSize+1)}, unpack: "byte 32768 of", chunk: 0},
		{name: "the largest group", entries: numbers(0, Spacing, 40, 0), parts: [numParts][]byte{state, nil, nil, make([]byte, maxGroup-len(state))}, unpack: "bytes left over in a group", chunk: -1},
		{name: "a larger group", entries: numbers(0, Spacing, 40, 0), parts: [numParts][]byte{state, nil, nil, make([]byte, maxGroup-len(state)+1)}, unpack: "a group of more than", chunk: -1},
	} {
		f := forged(t, 1, tt.entries, tt.parts)
		check := func(doing string, err error, want string) {
			t.Helper()
			var e *Error
			switch {
			case want == "" && err != nil:
				t.Errorf("%s: %s: %v", tt.name, doing, err)
			case want != "" && (!errors.As(err, &e) || !strings.Contains(e.Msg, want) || e.Chunk != tt.chunk):
				t.Errorf("%s: %s: %v, want %q of chunk %d", tt.name, doing, err, want, tt.chunk)
			}
		}
		d, err := directory(f, chunks)
		if err != nil {
			t.Fatal(err)
		}
		u := NewUnpacker()
		var unpacked error
		n := 0
		for d.Next() {
			n += len(d.Places)
			unpacked = u.Unpack(d.Data, d.Places)
		}
		check("the directory", d.Err(), tt.open)
		if tt.open == "" {
			check("the group", unpacked, tt.unpack)
			if n != 1 {
				t.Errorf("%s: %d checkpoints", tt.name, n)
			}
		}
	}
}

// TestErrorCause has an error tell what the decompressor found.
func TestErrorCause(t *testing.T) {
	err := NewUnpacker().Unpack([]byte{0, 0, 0, 0xFF}, nil)
	if !errors.Is(err, deflate.ErrCorrupt) || !strings.HasPrefix(err.Error(), "group: ") {
		t.Errorf("%v, want what package deflate says", err)
	}
}

// TestShrunk has records that were shrunk in memory give the same file.
func TestShrunk(t *testing.T) {
	_, points := testImage(t)
	w := Writer{Limit: MaxLen}
	want := bytes.Clone(written(&w, points))
	shrunk := 0
	for i := range points {
		if p := &points[i]; p.kind == Stream {
			n := len(p.record)
			p.record = stream.Shrink(append(make([]byte, 0, 2*stream.MaxRecord), p.record...))
			if len(p.record) < n {
				shrunk++
			}
		}
	}
	if got := written(&w, points); shrunk == 0 || !bytes.Equal(got, want) {
		t.Errorf("%d records shrunk, another file", shrunk)
	}
}

package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// part makes one part's file: junk before its data, a property list after it.
func part(number, count uint32, set byte, running int, data []byte) []byte {
	out := append(bytes.Repeat([]byte{'j'}, int(number)*3), data...)
	out = append(out, "<plist/>"...)
	koly := make([]byte, trailerLen)
	copy(koly, "koly")
	be := binary.BigEndian
	be.PutUint64(koly[0x10:], uint64(running))
	be.PutUint64(koly[0x18:], uint64(number)*3)
	be.PutUint64(koly[0x20:], uint64(len(data)))
	be.PutUint32(koly[0x38:], number)
	be.PutUint32(koly[0x3C:], count)
	koly[0x40] = set
	be.PutUint64(koly[0x1EC:], 1000)
	return append(out, koly...)
}

// split makes the parts of data, cut at the given places.
func split(data []byte, cuts ...int) [][]byte {
	var files [][]byte
	from := 0
	for i, to := range append(cuts, len(data)) {
		files = append(files, part(uint32(i+1), uint32(len(cuts)+1), 9, from, data[from:to]))
		from = to
	}
	return files
}

func parts(files [][]byte) []Part {
	var all []Part
	for i, f := range files {
		all = append(all, Part{PartName("x.dmg", i+1), bytes.NewReader(f), int64(len(f))})
	}
	return all
}

var testData = dmgtest.Random(1, 100_000).Bytes()

// cuts makes 12 segments, two of them empty.
var cuts = []int{0, 1, 5000, 5000, 5001, 20_000, 33_333, 40_000, 77_777, 99_999, 100_000}

func check(t *testing.T, r *Reader) {
	t.Helper()
	if r.Size() != int64(len(testData)) {
		t.Fatalf("Size = %d", r.Size())
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<62))
	if err != nil || !bytes.Equal(got, testData) {
		t.Fatalf("%d bytes that differ, %v", len(got), err)
	}
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(g, 1))
			for range 300 {
				off, n := rnd.IntN(len(testData)+50), rnd.IntN(1<<rnd.IntN(17))
				p := make([]byte, n)
				got, err := r.ReadAt(p, int64(off))
				want := min(n, max(len(testData)-off, 0))
				if got != want || (err == nil) != (got == n) || err != nil && err != io.EOF || !bytes.Equal(p[:got], testData[min(off, len(testData)):][:got]) {
					t.Errorf("ReadAt of %d at %d = %d, %v", n, off, got, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
		t.Errorf("ReadAt(-1): %v", err)
	}
}

func TestJoin(t *testing.T) {
	for _, c := range [][]int{cuts, {50_000}, {}} {
		r, err := Join(parts(split(testData, c...)))
		if err != nil {
			t.Fatal(err)
		}
		if r.Parts() != len(c)+1 {
			t.Errorf("Parts = %d", r.Parts())
		}
		check(t, r)
	}
	whole := part(0, 0, 0, 0, testData)
	r, err := Join([]Part{{"x.dmg", bytes.NewReader(whole), int64(len(whole))}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, r)
}

// A trailer may be padded, or in front.
func TestTrailerPlaces(t *testing.T) {
	plain := part(1, 2, 9, 0, testData)
	koly := plain[len(plain)-trailerLen:]
	want, err := ParseTrailer(bytes.NewReader(plain), int64(len(plain)))
	if err != nil || want.Number != 1 || want.Count != 2 || want.Length != int64(len(testData)) {
		t.Fatalf("%+v, %v", want, err)
	}
	front := append(bytes.Clone(koly), plain[:len(plain)-trailerLen]...)
	for _, data := range [][]byte{append(plain, 0), append(plain, make([]byte, trailerLen-1)...), front, koly} {
		got, err := ParseTrailer(bytes.NewReader(data), int64(len(data)))
		if len(data) == trailerLen {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("a trailer without its data: %v", err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := ParseTrailer(bytes.NewReader(plain), int64(len(plain)-trailerLen)); !errors.Is(err, ErrFormat) {
		t.Errorf("no trailer: %v", err)
	}
}

func put64(b []byte, fromEnd int, v uint64) []byte {
	binary.BigEndian.PutUint64(b[len(b)-trailerLen+fromEnd:], v)
	return b
}

func TestRefuse(t *testing.T) {
	good := func() [][]byte { return split(testData, 30_000, 60_000) }
	for _, tt := range []struct {
		name  string
		files func() [][]byte
		part  string
		err   error
		msg   string
	}{
		{"none", func() [][]byte { return nil }, "", ErrMissing, ""},
		{"last missing", func() [][]byte { return good()[:2] }, "x.003.dmgpart", ErrMissing, "number 3 of 3"},
		{"middle missing", func() [][]byte { f := good(); return [][]byte{f[0], f[2]} }, "x.002.dmgpart", ErrOrder, "it is 3, not 2 of 3"},
		{"swapped", func() [][]byte { f := good(); return [][]byte{f[0], f[2], f[1]} }, "x.002.dmgpart", ErrOrder, "it is 3"},
		{"second alone", func() [][]byte { return good()[1:2] }, "x.dmg", ErrOrder, "it is 2, not 1 of 3"},
		{"one too many", func() [][]byte { f := good(); return append(f, f[2]) }, "x.004.dmgpart", ErrOrder, "not 4 of 3"},
		{"other set", func() [][]byte {
			f := good()
			f[1] = part(2, 3, 8, 30_000, testData[30_000:60_000])
			return f
		}, "x.002.dmgpart", ErrForeign, ""},
		{"other count", func() [][]byte {
			f := good()
			f[1] = part(2, 4, 9, 30_000, testData[30_000:60_000])
			return f
		}, "x.002.dmgpart", ErrForeign, "4 segments"},
		{"other disk", func() [][]byte { f := good(); put64(f[2], 0x1EC, 999); return f }, "x.003.dmgpart", ErrForeign, "999 sectors"},
		{"gap", func() [][]byte { f := good(); put64(f[1], 0x10, 30_001); return f }, "x.002.dmgpart", ErrOrder, "belongs at 30001"},
		{"first part of later data", func() [][]byte { f := good(); put64(f[0], 0x10, 1); return f }, "x.dmg", ErrOrder, "belongs at 1"},
		{"first without trailer", func() [][]byte { f := good(); f[0] = f[0][:len(f[0])-1]; return f }, "x.dmg", ErrCut, ""},
		{"first empty", func() [][]byte { f := good(); f[0] = nil; return f }, "x.dmg", ErrCut, ""},
		{"first's data past the end", func() [][]byte { f := good(); put64(f[0], 0x20, 1<<40); return f }, "x.dmg", ErrCut, ""},
		{"first's data at 2^63-1", func() [][]byte { f := good(); put64(f[0], 0x18, 1<<63-1); return f }, "x.dmg", ErrCut, ""},
		{"first of negative data", func() [][]byte { f := good(); put64(f[0], 0x20, 1<<63); return f }, "x.dmg", ErrCut, ""},
		{"behind one without trailer, too early", func() [][]byte { f := good(); f[1] = nil; put64(f[2], 0x10, 29_999); return f }, "x.003.dmgpart", ErrOrder, "belongs at 29999"},
		{"behind one without trailer, at 2^62", func() [][]byte { f := good(); f[1] = nil; put64(f[2], 0x10, 1<<62); return f }, "x.003.dmgpart", ErrFormat, ""},
		{"one too many without trailer", func() [][]byte { return append(good(), nil) }, "x.004.dmgpart", ErrCut, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Join(parts(tt.files()))
			var e *PartError
			if !errors.Is(err, tt.err) || tt.part != "" && (!errors.As(err, &e) || e.Name != tt.part) || !strings.Contains(fmt.Sprint(err), tt.msg) {
				t.Errorf("%v, want %s: %v with %q", err, tt.part, tt.err, tt.msg)
			}
		})
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		first string
		n     int
		name  string
	}{
		{"x.dmg", 1, "x.dmg"},
		{"x.dmg", 2, "x.002.dmgpart"},
		{"x.dmg", 10, "x.010.dmgpart"},
		{"x.dmg", 1000, "x.1000.dmgpart"},
		{"x.y.dmg", 2, "x.y.002.dmgpart"},
		{"X.DMG", 2, "X.002.dmgpart"},
		{"dir.d/x.dmg", 2, "dir.d/x.002.dmgpart"},
		{"x.img", 2, "x.002.dmgpart"},
		{"x", 2, "x.002.dmgpart"},
	} {
		if got := PartName(tt.first, tt.n); got != tt.name {
			t.Errorf("PartName(%q, %d) = %q, want %q", tt.first, tt.n, got, tt.name)
		}
	}
	for name, first := range map[string]string{
		"x.dmg":              "x.dmg",
		"x.002.dmgpart":      "x.dmg",
		"a/x.y.1000.dmgpart": "a/x.y.dmg",
		"X.002.DMGPART":      "X.DMG",
		"x.001.dmgpart":      "x.001.dmgpart",
		"x.abc.dmgpart":      "x.abc.dmgpart",
		"x.dmgpart":          "x.dmgpart",
		".dmgpart":           ".dmgpart",
		"":                   "",
	} {
		if got := FirstName(name); got != first {
			t.Errorf("FirstName(%q) = %q, want %q", name, got, first)
		}
	}
}

// files puts parts under the names that name gives them.
func files(f [][]byte, name func(n int) string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i, data := range f {
		fsys[name(i+1)] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func TestOpen(t *testing.T) {
	all := split(testData, cuts...)
	for _, tt := range []struct {
		first string
		name  func(n int) string
	}{
		{"x.dmg", func(n int) string { return PartName("x.dmg", n) }},
		{"d/x.dmg", func(n int) string { return PartName("d/x.dmg", n) }},
		{"X.DMG", func(n int) string { return strings.ToUpper(PartName("X.DMG", n)) }},
		{"x.img", func(n int) string {
			if n == 1 {
				return "x.img"
			}
			return fmt.Sprintf("x.img.%03d.dmgpart", n)
		}},
	} {
		r, err := Open(files(all, tt.name), tt.first, nil)
		if err != nil {
			t.Fatal(err)
		}
		check(t, r)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	fsys := files(all, func(n int) string { return PartName("x.dmg", n) })
	dir := t.TempDir()
	if err := os.CopyFS(dir, fsys); err != nil {
		t.Fatal(err)
	}
	r, err := Open(os.DirFS(dir), "x.dmg", nil)
	if err != nil {
		t.Fatal(err)
	}
	check(t, r)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestOpenRefuse(t *testing.T) {
	all := split(testData, 30_000, 60_000)
	name := func(n int) string { return PartName("x.dmg", n) }
	check := func(fsys fs.FS, first, part string, want error, msg string) {
		t.Helper()
		_, err := Open(fsys, first, nil)
		var e *PartError
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Name != part || !strings.Contains(err.Error(), msg) {
			t.Errorf("Open(%s) = %v, want %s: %v with %q", first, err, part, want, msg)
		}
	}
	fsys := files(all, name)
	for _, tt := range []struct{ second, part, say string }{
		{"x.002.dmgpart", "x.dmg", "number 1 of 3"},
		{"x.img.002.dmgpart", "x.img.dmg", "number 1 of 3"},
		{"X.002.DMGPART", "X.DMG", "number 1 of 3"},
		{"d/x.002.dmgpart", "d/x.dmg", "number 1 of 3"},
		{"second.dmg", "second.dmg", "number 1 of 3"},
	} {
		check(files(all[1:], func(n int) string { return []string{tt.second, "third"}[n-1] }), tt.second, tt.part, ErrMissing, tt.say)
	}
	check(fsys, "y.dmg", "y.dmg", fs.ErrNotExist, "")
	delete(fsys, "x.003.dmgpart")
	check(fsys, "x.dmg", "x.003.dmgpart", ErrMissing, "number 3 of 3")
	fsys["x.003.dmgpart"] = &fstest.MapFile{Mode: fs.ModeNamedPipe}
	check(fsys, "x.dmg", "x.003.dmgpart", ErrFormat, "not a regular file")
	many := part(1, 1<<32-1, 9, 0, testData)
	check(files([][]byte{many}, name), "x.dmg", "x.dmg", ErrFormat, "4294967295 segments")

	fault := errors.New("fault")
	calls := 0
	_, err := Open(files(all, name), "x.dmg", func(_ string, r io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
		if calls++; calls == 2 {
			return nil, 0, fault
		}
		return r, size, nil
	})
	var e *PartError
	if !errors.Is(err, fault) || !errors.As(err, &e) || e.Name != "x.002.dmgpart" {
		t.Errorf("unwrap's error became %v", err)
	}
}

// A part's error is passed on with its name, what was read before is right, and
// the next read works.
func TestFaults(t *testing.T) {
	fault := errors.New("fault")
	all := parts(split(testData, 30_000, 60_000))
	src := &dmgtest.FailAt{R: all[1].R, Call: 2, Err: fault} // the first reads the trailer
	all[1].R = src
	all[2].R = dmgtest.Short{R: all[2].R, Max: 1000}
	r, err := Join(all)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 80_000)
	n, err := r.ReadAt(p, 10_000)
	var e *PartError
	if n != 20_000 || !errors.Is(err, fault) || !errors.As(err, &e) || e.Name != "x.002.dmgpart" || !bytes.Equal(p[:n], testData[10_000:30_000]) {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	check(t, r)
	r.spans[0].R = bytes.NewReader(nil)
	if _, err := r.ReadAt(p, 10_000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut part: %v", err)
	}
	if _, err := ParseTrailer(&dmgtest.FailAt{Call: 1, Err: fault}, 1000); !errors.Is(err, fault) {
		t.Errorf("ParseTrailer: %v", err)
	}
}

// FuzzJoin: parts that join read the same in any order as one after the other.
func FuzzJoin(f *testing.F) {
	all := split(testData[:3000], 1000, 1000)
	f.Add(all[0], all[1], all[2], int64(500), uint16(2000))
	f.Add(all[0], all[2], all[1], int64(0), uint16(1))
	f.Fuzz(func(t *testing.T, a, b, c []byte, off int64, n uint16) {
		all := parts([][]byte{a, b, c})
		r, err := Join(all)
		if err != nil {
			return
		}
		if len(r.Defects()) > 0 {
			if n, err := r.ReadAt(make([]byte, n), off&(1<<62-1)); n < 0 || err != nil && err != io.EOF && !errors.Is(err, ErrCut) {
				t.Fatalf("ReadAt = %d, %v", n, err)
			}
			return
		}
		var whole []byte
		for _, p := range all {
			tr, err := ParseTrailer(p.R, p.Size)
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, tr.Length)
			if _, err := p.R.ReadAt(data, tr.Offset); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			whole = append(whole, data...)
		}
		if off < 0 {
			off = -(off + 1)
		}
		p := make([]byte, n)
		got, err := r.ReadAt(p, off)
		want := whole[min(off, int64(len(whole))):]
		want = want[:min(int(n), len(want))]
		if !bytes.Equal(p[:got], want) || err != nil && err != io.EOF || (err == nil) != (got == int(n)) {
			t.Fatalf("ReadAt of %d at %d = %d, %v, want %d", n, off, got, err, len(want))
		}
	})
}

// TestAnyNames opens images by any of their parts, and under any names.
func TestAnyNames(t *testing.T) {
	all := split(testData, 30_000, 60_000)
	for _, names := range [][]string{
		{"x.dmg", "x.002.dmgpart", "x.003.dmgpart"},
		{"x", "x.002.dmgpart", "x.003.dmgpart"},
		{"X.DMG", "X.002.DMGPART", "X.003.DMGPART"},
		{"x.img", "x.img.002.dmgpart", "x.img.003.dmgpart"},
		{"disk.001.dmg", "disk.002.dmg", "disk.003.dmg"},
		{"d/c.dmg", "d/b.dmg", "d/a.dmg"},
		{"renamed.dmg", "x.002.dmgpart", "x.003.dmgpart"},
		{"x.dmg", "x.003.dmgpart", "x.002.dmgpart"}, // swapped
		{"x.002.dmgpart", "x.dmg", "x.003.dmgpart"},
	} {
		fsys := files(all, func(n int) string { return names[n-1] })
		dir := path.Dir(names[0])
		fsys[path.Join(dir, "AAA.dmg")] = &fstest.MapFile{Data: part(2, 3, 8, 30_000, testData[30_000:60_000])} // of another set
		fsys[path.Join(dir, "AAB.dmg")] = &fstest.MapFile{Data: part(2, 4, 9, 30_000, testData[30_000:60_000])}
		fsys[path.Join(dir, "AAC")] = &fstest.MapFile{Data: []byte("short")}
		fsys[path.Join(dir, "AAD")] = &fstest.MapFile{Mode: fs.ModeNamedPipe}
		fsys[path.Join(dir, "z.dmg")] = &fstest.MapFile{Data: all[1]} // a copy
		for _, name := range names {
			r, err := Open(fsys, name, nil)
			if err != nil {
				t.Errorf("%v, by %s: %v", names, name, err)
				continue
			}
			if got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<62)); err != nil || !bytes.Equal(got, testData) {
				t.Errorf("%v, by %s: %d bytes that differ, %v", names, name, len(got), err)
			}
			if f := r.First(); f.Name != names[0] || len(r.Defects()) > 0 {
				t.Errorf("%v, by %s: the first is %s; defects %v", names, name, f.Name, r.Defects())
			}
		}
	}
	// So many files are looked at.
	fsys := files(all, func(n int) string { return []string{"c", "b", "a"}[n-1] })
	r, err := Open(&endless{fsys}, "c", nil)
	if !errors.Is(err, ErrMissing) {
		t.Errorf("in a directory without end: %v, %v", r, err)
	}
}

// endless is a file system whose directories have no end.
type endless struct{ fs.FS }

func (e *endless) Open(name string) (fs.File, error) {
	if name == "." {
		return endlessDir{}, nil
	}
	return e.FS.Open(name)
}

type endlessDir struct{ fs.File }

func (endlessDir) Close() error { return nil }

func (endlessDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > 100_000 {
		return nil, errors.New("all of it")
	}
	info, _ := fs.Stat(fstest.MapFS{"none": {}}, "none")
	return slices.Repeat([]fs.DirEntry{fs.FileInfoToDirEntry(info)}, n), nil
}

// TestCutParts cuts parts: all that is there can be read.
func TestCutParts(t *testing.T) {
	// One after the other, without junk before the data.
	make3 := func() [][]byte {
		f := split(testData, 40_000, 80_000)
		for i := range f {
			f[i] = f[i][3*(i+1):]
			put64(f[i], 0x18, 0)
		}
		return f
	}
	cut := func(f [][]byte, i, n int) [][]byte { f[i] = f[i][:n]; return f }
	front := func(i, lack int) [][]byte {
		f := make3()
		koly := bytes.Clone(f[i][len(f[i])-trailerLen:])
		binary.BigEndian.PutUint64(koly[0x18:], trailerLen)
		f[i] = append(koly, f[i][:len(f[i])-trailerLen-len("<plist/>")]...)
		return cut(f, i, len(f[i])-lack)
	}
	size := int64(len(testData))
	for _, tt := range []struct {
		name    string
		files   [][]byte
		missing []Range
	}{
		{"second", cut(make3(), 1, 1000), []Range{{41_000, 39_000}}},
		{"second, in its trailer", cut(make3(), 1, 40_000+100), nil},
		{"second, empty", cut(make3(), 1, 0), []Range{{40_000, 40_000}}},
		{"third", cut(make3(), 2, 15_000), []Range{{95_000, 25_000}}}, // taken to be as long as others
		{"third, empty", cut(make3(), 2, 0), []Range{{80_000, 40_000}}},
		{"both", cut(cut(make3(), 1, 1000), 2, 1000), []Range{{41_000, 79_000}}},
		{"second, trailer in front", front(1, 10), []Range{{79_990, 10}}},
		{"third, trailer in front", front(2, 10), []Range{{99_990, 10}}},
		{"second, in front", func() [][]byte { f := make3(); f[1] = f[1][1000:]; return f }(), []Range{{40_000, 40_000}}},
		{"second, data past the end", func() [][]byte { f := make3(); put64(f[1], 0x20, 1<<40); return f }(), []Range{{40_000, 40_000}}},
		{"second of negative data", func() [][]byte { f := make3(); put64(f[1], 0x20, 1<<63); return f }(), []Range{{40_000, 40_000}}},
		{"none", make3(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Join(parts(tt.files))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.Missing(), tt.missing) {
				t.Errorf("missing %v, want %v", r.Missing(), tt.missing)
			}
			if n := len(r.Defects()); (n == 0) != (tt.name == "none") {
				t.Errorf("defects %v", r.Defects())
			}
			lost := func(off int64) bool {
				return off >= size || slices.ContainsFunc(tt.missing, func(m Range) bool { return m.Off <= off && off < m.Off+m.Len })
			}
			p := make([]byte, 50)
			for off := int64(0); off < size; off += 25 {
				want := int64(0)
				for want < 50 && !lost(off+want) {
					want++
				}
				n, err := r.ReadAt(p, off)
				if off+want < size && (int64(n) != want || (err == nil) != (n == len(p))) || !bytes.Equal(p[:min(int64(n), want)], testData[off:][:min(int64(n), want)]) {
					t.Fatalf("ReadAt at %d = %d, %v, want %d", off, n, err, want)
				}
				if off+want < min(size, r.Size()) && n < len(p) && !errors.Is(err, ErrCut) {
					t.Fatalf("ReadAt at %d: %v, want ErrCut", off, err)
				}
			}
		})
	}
}

// TestConcatenated finds parts that stand one behind the other.
func TestConcatenated(t *testing.T) {
	// The trailer's place tells where a part begins, and junk there is none before it.
	f := split(testData, 30_000, 60_000)
	for i := range f {
		put64(f[i], 0xD8, uint64(len(f[i])-trailerLen-len("<plist/>")))
		put64(f[i], 0xE0, uint64(len("<plist/>")))
	}
	joined := bytes.Join(f, nil)
	open := func(b []byte) []Part {
		t.Helper()
		parts, err := Concatenated("x", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		return parts
	}
	for name, b := range map[string][]byte{"": joined, "padded": bytes.Join([][]byte{f[0], make([]byte, 400), f[1], make([]byte, 511), f[2]}, nil)} {
		r, err := Join(open(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check(t, r)
	}
	for name, b := range map[string][]byte{
		"none": nil, "one": f[0], "the last": f[2], "two": joined[:len(f[0])+len(f[1])], "without the first": joined[len(f[0]):],
		"in another order": bytes.Join([][]byte{f[1], f[0], f[2]}, nil), "something before": append([]byte("x"), joined...),
		"one is cut": append(bytes.Clone(f[0][10:]), joined[len(f[0]):]...), "never split": part(0, 0, 0, 0, testData),
		"one twice": append(bytes.Clone(f[0]), joined...),
	} {
		if parts := open(b); parts != nil {
			t.Errorf("%s: %d parts", name, len(parts))
		}
	}
	fault := errors.New("fault")
	for call := int64(1); call <= 3; call++ {
		src := &dmgtest.FailAt{R: bytes.NewReader(joined), Call: call, Err: fault}
		if _, err := Concatenated("x", src, int64(len(joined))); !errors.Is(err, fault) {
			t.Errorf("a source that fails at call %d: %v", call, err)
		}
	}
}

package img4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// find is Find, of which the payload must be inside.
func find(t *testing.T, b []byte) (*Payload, error) {
	t.Helper()
	p, err := Find(bytes.NewReader(b), int64(len(b)))
	if wrong := (*FormatError)(nil); err != nil && (!errors.As(err, &wrong) || wrong.Offset < 0 || wrong.Offset > int64(len(b))) {
		t.Fatalf("%v", err)
	}
	if err == nil && (p.Off < 0 || p.Length < 0 || p.Off > int64(len(b)) || p.Length > int64(len(b))-p.Off || p.Size < 0) {
		t.Fatalf("%+v in %d bytes", p, len(b))
	}
	return p, err
}

var fileTests = []struct {
	name string
	file dmgtest.IM4P
	want Payload // but for its place
}{
	{"stored", dmgtest.IM4P{}, Payload{Type: "rdsk"}},
	{"of another type", dmgtest.IM4P{Type: "gdmg", Description: "a cryptex"}, Payload{Type: "gdmg"}},
	{"long description", dmgtest.IM4P{Description: strings.Repeat("x", 70_000)}, Payload{Type: "rdsk"}},
	{"IMG4", dmgtest.IM4P{IMG4: true}, Payload{Layers: []string{"IMG4", "IM4P"}, Type: "rdsk"}},
	{"empty keybag", dmgtest.IM4P{Keybag: []byte{}}, Payload{Type: "rdsk"}},
	{"keybag", dmgtest.IM4P{Keybag: []byte("\x30\x00")}, Payload{Type: "rdsk", Encrypted: true}},
	{"properties", dmgtest.IM4P{Properties: true}, Payload{Type: "rdsk"}},
	{"algorithm 0", dmgtest.IM4P{Compressed: true, Size: 5}, Payload{Type: "rdsk"}},
	{"LZFSE", dmgtest.IM4P{Compressed: true, Algorithm: 1, Size: 0xFFFFFFFFFF}, Payload{Type: "rdsk", Compression: LZFSE, Size: 0xFFFFFFFFFF}},
	{"LZFSE, size 2^63-1", dmgtest.IM4P{Compressed: true, Algorithm: 1, Size: 1<<63 - 1}, Payload{Type: "rdsk", Compression: LZFSE, Size: 1<<63 - 1}},
	{"algorithm 2", dmgtest.IM4P{Compressed: true, Algorithm: 2, Size: 5}, Payload{Type: "rdsk", Compression: Other}},
	{"LZFSE that isn't said", dmgtest.IM4P{Payload: []byte("bvx2....")}, Payload{Type: "rdsk", Compression: LZFSE}},
	{"LZSS", dmgtest.IM4P{Payload: []byte("complzss....")}, Payload{Type: "rdsk", Compression: LZSS}},
	{"compression first", dmgtest.IM4P{Compressed: true, Algorithm: 1, Size: 128, Keybag: []byte("x"), First: true, Properties: true},
		Payload{Type: "rdsk", Encrypted: true, Compression: LZFSE, Size: 128}},
	{"empty payload", dmgtest.IM4P{Payload: []byte{}}, Payload{Type: "rdsk"}},
}

func TestFiles(t *testing.T) {
	for _, tt := range fileTests {
		for _, long := range []bool{false, true} {
			for _, n := range []int{10, 127, 128, 65535, 65536, 1 << 24} {
				f := tt.file
				f.Long = long
				if n == 1<<24 && tt.name != "stored" {
					continue
				}
				if f.Payload == nil {
					f.Payload = bytes.Repeat([]byte("payload "), n/8+1)[:n]
				} else if n > 10 {
					continue
				}
				b := f.Bytes()
				p, err := find(t, append(b, "garbage"...))
				if err != nil {
					t.Fatalf("%s: %v", tt.name, err)
				}
				want := tt.want
				if want.Layers == nil {
					want.Layers = []string{"IM4P"}
				}
				if got := b[p.Off:][:p.Length]; !bytes.Equal(got, f.Payload) {
					t.Errorf("%s: payload of %d bytes at %d, want %d", tt.name, p.Length, p.Off, len(f.Payload))
				}
				p.Off, p.Length = 0, 0
				if fmt.Sprint(*p) != fmt.Sprint(want) {
					t.Errorf("%s: %+v, want %+v", tt.name, *p, want)
				}
				if !Is(b[:min(HeaderLen, len(b))]) {
					t.Errorf("%s: it isn't told", tt.name)
				}
			}
		}
	}
}

// TestCut: of a file that was cut off the error says so, wherever that was.
func TestCut(t *testing.T) {
	b := dmgtest.IM4P{Payload: make([]byte, 300), Compressed: true, Algorithm: 1, Size: 5, IMG4: true}.Bytes()
	for n := range b {
		_, err := find(t, b[:n])
		if err == nil || n >= HeaderLen && !strings.Contains(err.Error(), fmt.Sprintf("cut off: %d bytes", len(b)-n)) {
			t.Errorf("cut to %d of %d: %v", n, len(b), err)
		}
	}
}

var faultTests = []struct{ name, data, say string }{
	{"empty", "", "no IM4P"},
	{"no sequence", "\x31\x06\x16\x04IM4P", "no IM4P"},
	{"indefinite length", "\x30\x80\x16\x04IM4P\x00\x00", "no IM4P"},
	{"length of five bytes", "\x30\x85\x00\x00\x00\x00\x06\x16\x04IM4P", "no IM4P"},
	{"another name", "\x30\x06\x16\x04IM4M", "no IM4P"},
	{"IMG4 in IMG4", "\x30\x0e\x16\x04IMG4\x30\x06\x16\x04IMG4", `"IMG4" where IM4P`},
	{"longer than its parent", "\x30\x0e\x16\x04IM4P\x16\x7Frdsk\x16\x00xx", "longer than what it is in"},
	{"type of five letters", "\x30\x12\x16\x04IM4P\x16\x05rdskk\x16\x00\x04\x01x", "name of 5 bytes"},
	{"no description", "\x30\x0c\x16\x04IM4P\x16\x04rdsk", "without end"},
	{"payload of another kind", "\x30\x11\x16\x04IM4P\x16\x04rdsk\x16\x00\x05\x01x", "kind 0x5"},
	{"payload longer than the rest", "\x30\x11\x16\x04IM4P\x16\x04rdsk\x16\x00\x04\x02x", "cut off: 1 bytes"},
	{"payload of 4 GiB", "\x30\x15\x16\x04IM4P\x16\x04rdsk\x16\x00\x04\x84\xFF\xFF\xFF\xFFx", "cut off: 4294967294 bytes"},
	{"compression of nothing", "\x30\x13\x16\x04IM4P\x16\x04rdsk\x16\x00\x04\x01x\x30\x00", "without end"},
	{"negative size", "\x30\x19\x16\x04IM4P\x16\x04rdsk\x16\x00\x04\x01x\x30\x06\x02\x01\x01\x02\x01\x80", "negative"},
	{"number without bytes", "\x30\x18\x16\x04IM4P\x16\x04rdsk\x16\x00\x04\x01x\x30\x05\x02\x01\x01\x02\x00", "number of 0 bytes"},
	{"number of nine bytes", "\x30\x21\x16\x04IM4P\x16\x04rdsk\x16\x00\x04\x01x\x30\x0e\x02\x01\x01\x02\x09\x00123456789"[:36], "number of 9 bytes"},
}

func TestFaults(t *testing.T) {
	for _, tt := range faultTests {
		if p, err := find(t, []byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s: %+v, %v; want %q", tt.name, p, err, tt.say)
		}
	}
	for _, b := range []string{"", "0", "\x30\x06\x16\x04IM4", "\x30\x06\x16\x04IM4M", "\x30\x80\x16\x04IM4P", "\x31\x06\x16\x04IM4P"} {
		if Is([]byte(b)) {
			t.Errorf("%q is told for a firmware file", b)
		}
	}
}

// TestParts: a file has any number of parts behind its payload, of which few are read.
func TestParts(t *testing.T) {
	b := dmgtest.IM4P{Payload: []byte("x"), Long: true}.Bytes()
	b = append(b, bytes.Repeat([]byte{5, 0}, 100_000)...)
	n := len(b) - 6
	copy(b[2:], []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	counter := &dmgtest.Counter{R: bytes.NewReader(b)}
	if _, err := Find(counter, int64(len(b))); err != nil || counter.Calls() > 20 {
		t.Errorf("%v after %d calls", err, counter.Calls())
	}
}

// TestSource: a source's error is passed on.
func TestSource(t *testing.T) {
	b := dmgtest.IM4P{Payload: []byte("payload"), Compressed: true, Algorithm: 1, Size: 5}.Bytes()
	fails := errors.New("the source fails")
	for good := range 10 {
		r := &failing{bytes.NewReader(b), good, fails}
		if _, err := Find(r, int64(len(b))); !errors.Is(err, fails) {
			t.Errorf("after %d calls: %v", good, err)
		}
	}
}

type failing struct {
	r    io.ReaderAt
	good int
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.good--; f.good < 0 {
		return 0, f.err
	}
	return f.r.ReadAt(p, off)
}

// FuzzIM4P holds the parser to this: whatever a file says, the payload is inside it; and
// what a writer puts around a payload leads to that.
func FuzzIM4P(f *testing.F) {
	for _, tt := range faultTests {
		f.Add([]byte(tt.data))
	}
	for _, tt := range fileTests {
		if len(tt.file.Description) < 100 {
			f.Add(tt.file.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := find(t, b)
		if err == nil && !Is(b[:min(HeaderLen, len(b))]) {
			t.Fatalf("%+v in a file that isn't told", p)
		}
		file := dmgtest.IM4P{Payload: b, Compressed: len(b)%2 == 0, Algorithm: int64(len(b)) % 3, Size: int64(len(b)) << 20,
			IMG4: len(b)%3 == 0, Long: len(b)%5 == 0, First: len(b)%7 == 0, Properties: len(b)%11 == 0}
		around := file.Bytes()
		p, err = find(t, around)
		if err != nil || !slices.Equal(around[p.Off:][:p.Length], b) || file.Compressed && file.Algorithm == 1 && p.Size != file.Size {
			t.Fatalf("%+v, %v in a file of %d bytes", p, err, len(around))
		}
	})
}

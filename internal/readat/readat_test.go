package readat_test

import (
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/readat"
)

// source is called once for each row, with what is asked for.
type source func(p []byte, off int64) (int, error)

func (s source) ReadAt(p []byte, off int64) (int, error) { return s(p, off) }

var errSource = errors.New("source")

var fullTests = []struct {
	name string
	read source // of ten bytes at 5
	n    int
	err  error
}{
	{"whole", func(p []byte, off int64) (int, error) { return len(p), nil }, 10, nil},
	{"whole with EOF", func(p []byte, off int64) (int, error) { return len(p), io.EOF }, 10, nil},
	{"whole with an error", func(p []byte, off int64) (int, error) { return len(p), errSource }, 10, nil},
	{"bytes one by one", func(p []byte, off int64) (int, error) { return 1, nil }, 10, nil},
	{"early end", func(p []byte, off int64) (int, error) { return 3, io.EOF }, 3, io.ErrUnexpectedEOF},
	{"nothing", func(p []byte, off int64) (int, error) { return 0, nil }, 0, io.ErrNoProgress},
	{"an error", func(p []byte, off int64) (int, error) { return 4, errSource }, 4, errSource},
	{"an error later", func(p []byte, off int64) (int, error) {
		if off > 5 {
			return 0, errSource
		}
		return 6, nil
	}, 6, errSource},
	{"more than all", func(p []byte, off int64) (int, error) { return len(p) + 1, nil }, 0, readat.ErrCount},
	{"more than all with EOF", func(p []byte, off int64) (int, error) { return math.MaxInt, io.EOF }, 0, readat.ErrCount},
	{"less than nothing", func(p []byte, off int64) (int, error) { return -1, nil }, 0, readat.ErrCount},
	{"less than nothing with an error", func(p []byte, off int64) (int, error) { return math.MinInt, errSource }, 0, readat.ErrCount},
	{"more than the rest", func(p []byte, off int64) (int, error) { return 6, nil }, 6, readat.ErrCount},
	{"less than nothing later", func(p []byte, off int64) (int, error) {
		if off > 5 {
			return -6, nil
		}
		return 6, nil
	}, 6, readat.ErrCount},
}

func TestFull(t *testing.T) {
	for _, tt := range fullTests {
		t.Run(tt.name, func(t *testing.T) {
			want := int64(5)
			n, err := readat.Full(source(func(p []byte, off int64) (int, error) {
				if off != want {
					t.Errorf("read at %d, want %d", off, want)
				}
				n, err := tt.read(p, off)
				want += int64(n)
				return n, err
			}), make([]byte, 10), 5)
			if n != tt.n || !errors.Is(err, tt.err) {
				t.Errorf("Full = %d, %v, want %d, %v", n, err, tt.n, tt.err)
			}
		})
	}
}

// reader is called for each Read with how often it was called before.
type reader struct {
	calls int
	read  func(k int, p []byte) (int, error)
}

func (r *reader) Read(p []byte) (int, error) {
	r.calls++
	return r.read(r.calls-1, p)
}

func TestSome(t *testing.T) {
	for _, tt := range []struct {
		name  string
		read  func(k int, p []byte) (int, error) // into ten bytes
		n     int
		err   error
		calls int
	}{
		{"some", func(k int, p []byte) (int, error) { return 3, nil }, 3, nil, 1},
		{"all with EOF", func(k int, p []byte) (int, error) { return len(p), io.EOF }, 10, io.EOF, 1},
		{"some with an error", func(k int, p []byte) (int, error) { return 4, errSource }, 4, errSource, 1},
		{"the end", func(k int, p []byte) (int, error) { return 0, io.EOF }, 0, io.EOF, 1},
		{"at the last time", func(k int, p []byte) (int, error) { return k / 99, nil }, 1, nil, 100},
		{"nothing, ever", func(k int, p []byte) (int, error) { return 0, nil }, 0, io.ErrNoProgress, 100},
		{"nothing, then an error", func(k int, p []byte) (int, error) {
			if k == 5 {
				return 0, errSource
			}
			return 0, nil
		}, 0, errSource, 6},
		{"more than all", func(k int, p []byte) (int, error) { return len(p) + 1, nil }, 0, readat.ErrCount, 1},
		{"less than nothing", func(k int, p []byte) (int, error) { return -1, io.EOF }, 0, readat.ErrCount, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &reader{read: tt.read}
			if n, err := readat.Some(r, make([]byte, 10)); n != tt.n || !errors.Is(err, tt.err) || r.calls != tt.calls {
				t.Errorf("Some = %d, %v after %d calls, want %d, %v after %d", n, err, r.calls, tt.n, tt.err, tt.calls)
			}
		})
	}
	if n, err := readat.Some(iotest.ErrReader(errSource), nil); n != 0 || err != errSource {
		t.Errorf("Some of no bytes = %d, %v", n, err)
	}
}

// io.ReadAll panics with an impossible count.
func TestChecked(t *testing.T) {
	for _, tt := range []struct {
		n    int // of the second call; the first returns 3
		want string
		err  error
	}{{-1, "xxx", readat.ErrCount}, {math.MaxInt, "xxx", readat.ErrCount}, {2, "xxxxx", nil}} {
		r := &reader{read: func(k int, p []byte) (int, error) {
			switch k {
			case 0:
				return copy(p, "xxx"), nil
			case 1:
				copy(p, "xx")
				return tt.n, nil
			}
			return 0, io.EOF
		}}
		got, err := io.ReadAll(readat.Checked(r))
		if string(got) != tt.want || err != tt.err {
			t.Errorf("a count of %d: %q, %v, want %q, %v", tt.n, got, err, tt.want, tt.err)
		}
	}
	if n, err := readat.Checked(iotest.ErrReader(errSource)).Read(nil); n != 0 || err != nil {
		t.Errorf("Read of no bytes = %d, %v", n, err)
	}
}

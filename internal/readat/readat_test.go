package readat_test

import (
	"errors"
	"io"
	"testing"

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
			if n != tt.n || err != tt.err {
				t.Errorf("Full = %d, %v, want %d, %v", n, err, tt.n, tt.err)
			}
		})
	}
}

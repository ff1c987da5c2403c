package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// The ends of names: the first part's, and the others'. Both come in capitals from
// file systems that know no others.
const (
	firstExt = ".dmg"
	partExt  = ".dmgpart"
)

// PartName returns the name that hdiutil gives part n of the image whose first
// part is named first: x.dmg, x.002.dmgpart, x.1000.dmgpart.
func PartName(first string, n int) string {
	if n <= 1 {
		return first
	}
	return fmt.Sprintf("%s.%03d%s", stem(first), n, partExt)
}

// FirstName returns the name of the first part of the image of which name is a
// part. What isn't named as a part is its own first.
func FirstName(name string) string {
	base, ok := cutExt(name, partExt)
	if !ok {
		return name
	}
	ext := path.Ext(base)
	if n, err := strconv.ParseUint(strings.TrimPrefix(ext, "."), 10, 32); err != nil || n < 2 || len(ext) < 4 {
		return name
	}
	first := firstExt
	if strings.HasSuffix(name, strings.ToUpper(partExt)) {
		first = strings.ToUpper(firstExt)
	}
	return strings.TrimSuffix(base, ext) + first
}

// stem is what the names of all parts begin with.
func stem(first string) string {
	if base, ok := cutExt(first, firstExt); ok {
		return base
	}
	return strings.TrimSuffix(first, path.Ext(first))
}

// cutExt cuts ext off the end of name whatever the case.
func cutExt(name, ext string) (base string, ok bool) {
	if n := len(name) - len(ext); n > 0 && strings.EqualFold(name[n:], ext) {
		return name[:n], true
	}
	return name, false
}

// candidates lists the names part n may have, most likely first. Where the first
// part was renamed to something without .dmg, the others may have kept all of its
// name.
func candidates(first string, n int) []string {
	name := PartName(first, n)
	upper, _ := cutExt(name, partExt)
	all := []string{name, upper + strings.ToUpper(partExt)}
	if _, ok := cutExt(first, firstExt); !ok {
		all = append(all, fmt.Sprintf("%s.%03d%s", first, n, partExt))
	}
	return all
}

// Open opens the image whose first part is the file first of fsys, and the parts
// beside it. unwrap, if not nil, takes off what is around each file, as the
// encryption of one; what it returns for the first part tells how many there are.
//
// The files need to be an io.ReaderAt. All stay open until Close.
func Open(fsys fs.FS, first string, unwrap func(r io.ReaderAt, size int64) (io.ReaderAt, int64, error)) (*Reader, error) {
	if unwrap == nil {
		unwrap = func(r io.ReaderAt, size int64) (io.ReaderAt, int64, error) { return r, size, nil }
	}
	var closers []io.Closer
	r, err := open(fsys, first, unwrap, &closers)
	if err != nil {
		for _, c := range closers {
			c.Close()
		}
		return nil, err
	}
	r.closers = closers
	return r, nil
}

func open(fsys fs.FS, first string, unwrap func(io.ReaderAt, int64) (io.ReaderAt, int64, error), closers *[]io.Closer) (*Reader, error) {
	add := func(name string) (Part, error) {
		p, c, err := openPart(fsys, name)
		if err != nil {
			return Part{}, err
		}
		*closers = append(*closers, c)
		if p.R, p.Size, err = unwrap(p.R, p.Size); err != nil {
			return Part{}, &PartError{name, err}
		}
		return p, nil
	}
	p, err := add(first)
	if err != nil {
		return nil, err
	}
	t, err := ParseTrailer(p.R, p.Size)
	if err != nil {
		return nil, &PartError{first, err}
	}
	if t.Count > maxParts {
		return nil, &PartError{first, fmt.Errorf("%w: %d segments (limit %d)", ErrFormat, t.Count, maxParts)}
	}
	// A part that says it isn't the first needs no others to be refused.
	if t.Segmented() && t.Number > 1 {
		return nil, &PartError{first, fmt.Errorf("%w but %d of %d: %s", ErrNotFirst, t.Number, t.Count, advice(fsys, first))}
	}
	parts := []Part{p}
	for n := 2; n <= int(t.Count); n++ {
		name, err := find(fsys, first, n, t.Count)
		if err != nil {
			return nil, err
		}
		if p, err = add(name); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return Join(parts)
}

// advice says what to open instead of a part that isn't the first. Files may
// have been renamed: only a name that exists is advised.
func advice(fsys fs.FS, name string) string {
	first := FirstName(name)
	if first == name {
		return "open the first"
	}
	for _, n := range []string{first, stem(first)} {
		if _, err := fs.Stat(fsys, n); err == nil {
			return "open " + n
		}
	}
	return "open the first, whose name would be " + first
}

// find returns the name of the file that is part n.
func find(fsys fs.FS, first string, n int, count uint32) (string, error) {
	all := candidates(first, n)
	for _, name := range all {
		_, err := fs.Stat(fsys, name)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", &PartError{name, err}
		}
	}
	return "", &PartError{all[0], missing(uint32(n), count)}
}

func openPart(fsys fs.FS, name string) (Part, io.Closer, error) {
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return Part{}, nil, &PartError{name, err}
	}
	// Opening a pipe would wait for its other end.
	if !st.Mode().IsRegular() {
		return Part{}, nil, &PartError{name, fmt.Errorf("%w: not a regular file", ErrFormat)}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return Part{}, nil, &PartError{name, err}
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		f.Close()
		return Part{}, nil, &PartError{name, fmt.Errorf("can't be read from its middle on (%T)", f)}
	}
	return Part{name, r, st.Size()}, f, nil
}

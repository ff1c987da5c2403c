package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
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

// candidates lists the names part n may have beside a part of the given name, most
// likely first. Where the first part was renamed to something without .dmg, the
// others may have kept all of its name.
func candidates(beside string, n int) []string {
	first := FirstName(beside)
	if n == 1 {
		if first == beside {
			return nil
		}
		return []string{first, stem(first)}
	}
	name := PartName(first, n)
	upper, _ := cutExt(name, partExt)
	all := []string{name, upper + strings.ToUpper(partExt)}
	if _, ok := cutExt(first, firstExt); !ok {
		all = append(all, fmt.Sprintf("%s.%03d%s", first, n, partExt))
	}
	return all
}

// Unwrap takes off what is around a file, as the encryption of one.
type Unwrap func(name string, r io.ReaderAt, size int64) (io.ReaderAt, int64, error)

// Open opens the image of which the file name of fsys is a part, with the parts
// beside it: under the names that hdiutil gives them, or under any name, if the
// trailer says that the file is the part. unwrap, if not nil, is called for each
// file but those of other names.
//
// The files need to be an io.ReaderAt. All stay open until Close.
func Open(fsys fs.FS, name string, unwrap Unwrap) (*Reader, error) {
	if unwrap == nil {
		unwrap = func(_ string, r io.ReaderAt, size int64) (io.ReaderAt, int64, error) { return r, size, nil }
	}
	o := opener{fsys: fsys, unwrap: unwrap, name: name}
	r, err := o.open()
	if err != nil {
		for _, c := range o.closers {
			c.Close()
		}
		return nil, err
	}
	r.closers = o.closers
	return r, nil
}

// opener finds the parts of an image.
type opener struct {
	fsys    fs.FS
	unwrap  Unwrap
	name    string  // of the part that was named
	trailer Trailer // its trailer
	closers []io.Closer
	others  map[uint32]string // parts of other names, once looked for
}

func (o *opener) open() (*Reader, error) {
	p, err := o.add(o.name)
	if err != nil {
		return nil, err
	}
	t, _, err := p.trailer()
	switch {
	case err != nil:
		return nil, &PartError{o.name, err}
	case t.Count > maxParts:
		return nil, &PartError{o.name, fmt.Errorf("%w: %d segments (limit %d)", ErrFormat, t.Count, maxParts)}
	case t.Segmented() && (t.Number < 1 || t.Number > t.Count):
		return nil, &PartError{o.name, fmt.Errorf("%w: number %d of %d", ErrFormat, t.Number, t.Count)}
	}
	o.trailer = t
	parts := make([]Part, max(1, t.Count))
	for i := range parts {
		n := uint32(i + 1)
		if !t.Segmented() || n == t.Number {
			parts[i] = p
		} else if parts[i], err = o.find(n, parts[0].Name); err != nil {
			return nil, err
		}
	}
	return Join(parts)
}

// add opens a file.
func (o *opener) add(name string) (Part, error) {
	p, c, err := openPart(o.fsys, name)
	if err != nil {
		return Part{}, err
	}
	r, size, err := o.unwrap(name, p.R, p.Size)
	if err != nil {
		c.Close()
		return Part{}, &PartError{name, err}
	}
	o.closers = append(o.closers, c)
	p.R, p.Size = r, size
	return p, nil
}

// find opens part n. A file of a usual name that lacks its trailer is taken for the
// part if no other file is.
func (o *opener) find(n uint32, first string) (Part, error) {
	names := candidates(o.name, int(n))
	if first != "" && first != o.name {
		names = append(names, candidates(first, int(n))...)
	}
	var damaged *Part
	var failed error // why a file of a usual name isn't the part
	for _, name := range names {
		if _, err := fs.Stat(o.fsys, name); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return Part{}, &PartError{name, err}
		}
		p, err := o.add(name)
		if err == nil {
			var t Trailer
			if t, _, err = p.trailer(); err == nil {
				err = t.check(o.trailer, n)
			}
			switch {
			case err == nil:
				return p, nil
			case err == ErrCut && n > 1 && damaged == nil:
				damaged = &p
			}
			err = &PartError{name, err}
		}
		if !slices.ContainsFunc([]error{ErrForeign, ErrOrder, ErrFormat}, func(class error) bool { return errors.Is(err, class) }) {
			return Part{}, err // of the file system, or of what is around the part
		}
		failed = cmp.Or(failed, err)
	}
	if o.others == nil {
		o.look()
	}
	switch name := o.others[n]; {
	case name != "":
		return o.add(name)
	case damaged != nil:
		return *damaged, nil
	case failed != nil:
		return Part{}, failed
	}
	name := o.name
	if o.trailer.Number == 1 || FirstName(name) != name {
		name = names[0]
	}
	return Part{}, &PartError{name, missing(n, o.trailer.Count)}
}

// maxLook is how many entries of the directory are looked at to find parts of other
// names.
const maxLook = 4096

// look finds the parts in the directory whatever their names: what a regular file's
// trailer says counts. Of two files that say the same the first by name is taken.
// Encrypted files are not looked into, nor is anything that can't be read.
func (o *opener) look() {
	o.others = make(map[uint32]string)
	dir := path.Dir(o.name)
	f, err := o.fsys.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return
	}
	entries, _ := d.ReadDir(maxLook)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if !e.Type().IsRegular() || name == o.name {
			continue
		}
		if n := o.number(name); n > 0 && o.others[n] == "" {
			o.others[n] = name
		}
	}
}

// number returns which part a file is, 0 if it is none.
func (o *opener) number(name string) uint32 {
	p, c, err := openPart(o.fsys, name)
	if err != nil {
		return 0
	}
	defer c.Close()
	t, _, err := p.trailer()
	if err != nil || t.check(o.trailer, t.Number) != nil {
		return 0
	}
	return t.Number
}

// Concatenated returns the parts of an image whose files were put one behind the
// other in r, size bytes, named so in errors. It returns nil if that isn't so: if
// what stands before the part that r ends with is not the part before.
func Concatenated(name string, r io.ReaderAt, size int64) ([]Part, error) {
	var last Trailer
	var parts []Part
	want := uint32(0)
	for end := size; end > 0; want-- {
		b, at, err := findTrailer(io.NewSectionReader(r, 0, end), end)
		if errors.Is(err, ErrFormat) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		t := parseTrailer(b)
		if parts == nil {
			if last = t; !t.Segmented() || t.Number != t.Count || t.Count > maxParts {
				return nil, nil
			}
			want = t.Count
			parts = make([]Part, want)
		}
		// The trailer stands behind all that it speaks of.
		length := max(t.Offset+t.Length, be64(b[0x28:])+be64(b[0x30:]), be64(b[0xD8:])+be64(b[0xE0:]))
		start := at - length
		if t.check(last, want) != nil || !t.fits(end) || start < 0 || start > at || (start == 0) != (want == 1) {
			return nil, nil
		}
		parts[want-1] = Part{fmt.Sprintf("%s, part %d", name, want), io.NewSectionReader(r, start, end-start), end - start}
		end = start
	}
	return parts, nil
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

package sparse

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"slices"
	"strconv"
	"sync"

	"howett.net/plist"

	"github.com/go-dmg/dmg/internal/plistguard"
	"github.com/go-dmg/dmg/internal/readat"
)

const (
	bundleType = "com.apple.diskimage.sparsebundle"

	// maxInfo is far above what Info.plist needs, a dozen lines.
	maxInfo = 64 << 10

	// maxBand is above the 8 GiB that hdiutil makes at most.
	maxBand = 1 << 40

	// maxOpen is how many band files stay open while nothing reads them.
	maxOpen = 64

	// listing is how many names of bands are read at once.
	listing = 1024
)

// Sized is an io.ReaderAt that knows its end.
type Sized interface {
	io.ReaderAt
	Size() int64
}

// Decrypter makes the plain text of a band, size bytes of r, readable. Blocks are
// numbered anew in each band.
type Decrypter func(r io.ReaderAt, size int64) Sized

// Unlocker finds the Decrypter for a bundle whose token, size bytes of r, says
// that its bands are encrypted. Its error is the bundle's.
type Unlocker func(r io.ReaderAt, size int64) (Decrypter, error)

// Bundle is a sparse bundle: Info.plist says how large disk and bands are, and
// bands/, in lower-case hexadecimal, holds those that were written.
type Bundle struct {
	fsys     fs.FS
	size     int64
	bandSize int64
	decrypt  Decrypter // nil: not encrypted
	stored   []int64   // the numbers of the bands there are, ascending
	bad      []int64   // those of them that can't be read, ascending
	files    handles
	defects  defects
}

// OpenBundle opens the sparse bundle that is the root of fsys. unlock is called
// if it is encrypted, and only then.
//
// It lists the bands, keeps 8 bytes for each, and opens them when they are read.
// The files of fsys need to be an io.ReaderAt or an io.Seeker. Only regular files
// are opened, but a link among them is followed: fsys should be one that can't be
// left, as os.Root's.
func OpenBundle(fsys fs.FS, unlock Unlocker) (*Bundle, error) {
	b := &Bundle{fsys: fsys}
	b.files.open = b.open
	b.files.mu.open = make(map[int64]*handle)
	if err := b.readInfo(); err != nil {
		return nil, err
	}
	if err := b.list(); err != nil {
		return nil, err
	}
	if err := b.readToken(unlock); err != nil {
		return nil, err
	}
	return b, nil
}

// info is what is used of Info.plist.
type info struct {
	Type     string `plist:"diskimage-bundle-type"`
	Version  int64  `plist:"bundle-backingstore-version"`
	BandSize int64  `plist:"band-size"`
	Size     int64  `plist:"size"`
}

// readInfo reads Info.plist, or the copy that is kept beside it where that fails.
func (b *Bundle) readInfo() error {
	err := b.readInfoFile("Info.plist")
	if err != nil && b.readInfoFile("Info.bckup") == nil {
		return nil
	}
	return err
}

func (b *Bundle) readInfoFile(name string) error {
	xml, err := readSmall(b.fsys, name)
	if err != nil {
		return err
	}
	// Anything that the list itself makes wrong is the list's fault, whether the
	// guard, the decoder or this package notices.
	var v info
	if err := decodeInfo(xml, &v); err != nil {
		return &FormatError{name, 0, err.Error()}
	}
	switch {
	case v.Type == "":
		return &FormatError{name, 0, "no diskimage-bundle-type"}
	case v.Type != bundleType:
		return fmt.Errorf("%w: bundle of type %.64q", ErrUnsupported, v.Type)
	case v.Version > 1:
		return fmt.Errorf("%w: sparse bundle of version %d", ErrUnsupported, v.Version)
	case v.BandSize <= 0 || v.BandSize > maxBand || v.BandSize%sector != 0:
		return &FormatError{name, 0, fmt.Sprintf("band-size %d", v.BandSize)}
	case v.Size < 0:
		return &FormatError{name, 0, fmt.Sprintf("size %d", v.Size)}
	}
	b.size, b.bandSize = v.Size, v.BandSize
	return nil
}

// decodeInfo decodes a list that the guard let through. The decoder panics on
// some values it can't store.
func decodeInfo(xml []byte, v *info) (err error) {
	if err := plistguard.Check(xml); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not decodable: %v", r)
		}
	}()
	_, err = plist.Unmarshal(xml, v)
	return err
}

// readSmall reads a regular file of at most maxInfo bytes.
func readSmall(fsys fs.FS, name string) ([]byte, error) {
	// Stat comes first: opening a pipe would wait for its other end.
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &FormatError{name, 0, "not a regular file"}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxInfo+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxInfo {
		return nil, &FormatError{name, maxInfo, "longer than 64 KiB"}
	}
	return data, nil
}

// list notes which bands there are.
func (b *Bundle) list() error {
	f, err := b.fsys.Open("bands")
	if err != nil {
		return err
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return &FormatError{"bands", 0, "not a directory"}
	}
	for {
		entries, err := dir.ReadDir(listing)
		for _, e := range entries {
			if err := b.note(e); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	slices.Sort(b.stored)
	slices.Sort(b.bad)
	b.stored = slices.Clip(b.stored)
	return nil
}

// note takes a band's number from its name. Names that aren't a number as the
// writer spells it are other files; numbers past the disk's end are left over
// from when it was larger.
func (b *Bundle) note(e fs.DirEntry) error {
	n, err := strconv.ParseInt(e.Name(), 16, 64)
	if err != nil || n < 0 || bandName(n) != "bands/"+e.Name() || b.size == 0 || n > (b.size-1)/b.bandSize {
		return nil
	}
	if !e.Type().IsRegular() {
		b.bad = append(b.bad, n)
		b.defects.add(bandName(n), 0, "not a regular file: it can't be read")
	}
	b.stored = append(b.stored, n)
	return nil
}

func bandName(n int64) string { return "bands/" + strconv.FormatInt(n, 16) }

// readToken looks whether the bands are encrypted. A bundle that isn't has an
// empty token, or none.
func (b *Bundle) readToken(unlock Unlocker) error {
	// A version 2 token has the size of a whole header area, 120 KiB; what it
	// holds is the unlocker's to judge.
	f, size, err := openFile(b.fsys, "token")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if size == 0 {
		return nil
	}
	b.decrypt, err = unlock(f, size)
	return err
}

// Size returns the bytes of the disk.
func (b *Bundle) Size() int64 { return b.size }

// BandSize returns the bytes of a band.
func (b *Bundle) BandSize() int64 { return b.bandSize }

// Encrypted reports whether there was something to unlock.
func (b *Bundle) Encrypted() bool { return b.decrypt != nil }

// Defects returns what is wrong with the bundle, though the rest of it can be read:
// 100 errors at most.
func (b *Bundle) Defects() []error { return b.defects }

// Close closes the files that are open. Reads fail from then on; those under way
// may finish.
func (b *Bundle) Close() error { return b.files.close() }

// ReadAt implements io.ReaderAt.
func (b *Bundle) ReadAt(p []byte, off int64) (int, error) {
	p, eof := clip(p, off, b.size)
	done := 0
	for done < len(p) {
		at := off + int64(done)
		n, in := at/b.bandSize, at%b.bandSize
		part := p[done:]
		part = part[:min(int64(len(part)), b.bandSize-in)]
		m, err := b.readBand(part, n, in)
		done += m
		if err != nil {
			return done, err
		}
	}
	return done, eof
}

// readBand reads from band n. What its file lacks is zeros.
func (b *Bundle) readBand(p []byte, n, off int64) (int, error) {
	if _, ok := slices.BinarySearch(b.stored, n); !ok {
		clear(p)
		return len(p), nil
	}
	if _, bad := slices.BinarySearch(b.bad, n); bad {
		return 0, &FormatError{bandName(n), 0, "not a regular file"}
	}
	h, err := b.files.acquire(n)
	if err != nil {
		return 0, err
	}
	defer b.files.release(h)
	// Short bands are usual: a file grows as far as it was written to.
	have := max(min(h.data.Size()-off, int64(len(p))), 0)
	m, err := readat.Full(h.data, p[:have], off)
	if err != nil {
		return m, fmt.Errorf("%s: %w", bandName(n), err)
	}
	clear(p[have:])
	return len(p), nil
}

// ExtentAt returns the extent from off, which is on the disk, to where bands begin
// or cease to be stored, or to be readable. A band counts as stored in full.
func (b *Bundle) ExtentAt(off int64) Extent {
	n := off / b.bandSize
	i, stored := slices.BinarySearch(b.stored, n)
	j, bad := slices.BinarySearch(b.bad, n)
	// next is the number of the first band that is no longer so.
	next := int64(math.MaxInt64)
	switch {
	case bad:
		next = n + 1
	case stored:
		for i++; i < len(b.stored) && b.stored[i] == b.stored[i-1]+1; i++ {
		}
		next = b.stored[i-1] + 1
		if j < len(b.bad) {
			next = min(next, b.bad[j])
		}
	case i < len(b.stored):
		next = b.stored[i]
	}
	// Compared by division: next times the band size may not fit.
	end := b.size
	if next <= (b.size-1)/b.bandSize {
		end = next * b.bandSize
	}
	e := Extent{Offset: off, Length: end - off, Hole: !stored}
	if stored && !bad {
		e.Stored = e.Length
	}
	return e
}

// Extents returns the whole disk in order. Neighbours that could be one are one.
func (b *Bundle) Extents() iter.Seq[Extent] { return extents(b.size, b.ExtentAt) }

// open opens the file of band n.
func (b *Bundle) open(n int64) (Sized, io.Closer, error) {
	f, size, err := openFile(b.fsys, bandName(n))
	if err != nil {
		return nil, nil, err
	}
	// What a file has beyond its band is no part of the disk.
	size = min(size, b.bandSize)
	if b.decrypt != nil {
		return b.decrypt(f, size), f, nil
	}
	return io.NewSectionReader(f, 0, size), f, nil
}

// file is a regular file that can be read anywhere.
type file interface {
	io.ReaderAt
	io.Closer
}

func openFile(fsys fs.FS, name string) (file, int64, error) {
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, &FormatError{name, 0, "not a regular file"}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, 0, err
	}
	switch g := f.(type) {
	case file:
		return g, st.Size(), nil
	case io.Seeker:
		return &seekerAt{f: f, seeker: g}, st.Size(), nil
	}
	f.Close()
	return nil, 0, fmt.Errorf("%w: %s can't be read from its middle on (%T)", ErrUnsupported, name, f)
}

// seekerAt reads at an offset of a file that only knows one position.
type seekerAt struct {
	f      fs.File
	seeker io.Seeker
	mu     sync.Mutex // held while reading: the position is the file's
}

func (s *seekerAt) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.seeker.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(s.f, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

func (s *seekerAt) Close() error { return s.f.Close() }

package sparse

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
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

	// mapUnit is what a bit of a band's map is about, in bytes.
	mapUnit = 4096

	// maxMap is the size of the map of a band of 8 GiB. Up to maxOpen of them are
	// kept.
	maxMap = 256 << 10

	// maxMaps is how many maps are looked at when a bundle is opened. All are when
	// their bands are read.
	maxMaps = 10_000
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
// bands/ holds those that were written, their numbers in lower-case hexadecimal as
// names. Names in upper case, which some file systems make of them, serve where
// there is none in lower case.
//
// Version 2 differs in a directory mapped/, with a map of each band: a bit for each
// 4096 bytes, low bit first, which is clear where nothing was written or it was
// discarded. That reads as zeros, whatever the band's file has there, which in an
// encrypted bundle would decrypt to noise. A band without a map, or with one of
// another length, counts in full. The version's number itself says nothing: Apple's
// reader doesn't look at it either.
type Bundle struct {
	fsys     fs.FS
	size     int64
	bandSize int64
	decrypt  Decrypter        // nil: not encrypted
	stored   []int64          // the numbers of the bands there are, ascending
	bad      []int64          // those of them that can't be read, ascending
	odd      map[int64]string // names of bands that are not in lower case
	mapped   bool             // there are maps of bands
	badMaps  []int64          // of these bands they can't be read, ascending
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
	if err := b.lookAtMaps(); err != nil {
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
	BandSize int64  `plist:"band-size"`
	Size     int64  `plist:"size"`
}

// readInfo reads Info.plist, or the copy that is kept beside it where that is missing
// or damaged. What is no sparse bundle by Info.plist is none, whatever the copy says.
func (b *Bundle) readInfo() error {
	const name, backup = "Info.plist", "Info.bckup"
	err := b.readInfoFile(name)
	var damaged *FormatError
	if !errors.As(err, &damaged) && !errors.Is(err, fs.ErrNotExist) || b.readInfoFile(backup) != nil {
		return err
	}
	if damaged != nil {
		b.defects.add(name, damaged.Offset, "%s; %s was read instead", damaged.Msg, backup)
	} else {
		b.defects.add(name, 0, "missing; %s was read instead", backup)
	}
	return nil
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
	case v.Type != bundleType && v.Type != "":
		return fmt.Errorf("%w: bundle of type %.64q", ErrUnsupported, v.Type)
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
	if xml, err = plistguard.Lenient(xml); err != nil {
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
	odd := make(map[int64]fs.DirEntry)
	if err := readNames(dir, func(e fs.DirEntry) { b.note(e, odd) }); err != nil {
		return err
	}
	slices.Sort(b.stored)
	b.addOdd(odd)
	slices.Sort(b.bad)
	b.stored = slices.Clip(b.stored)
	return nil
}

// note takes a band's number from its name, and keeps in odd those that aren't
// spelled as writers do.
func (b *Bundle) note(e fs.DirEntry, odd map[int64]fs.DirEntry) {
	n, ok := b.number(e.Name())
	switch {
	case !ok:
	case b.bandName(n) == "bands/"+e.Name():
		b.add(n, e)
	case odd[n] == nil || e.Name() < odd[n].Name():
		odd[n] = e
	}
}

// number returns which band a file of that name is. Names that aren't a number
// without leading zeros are other files; numbers past the disk's end are left over
// from when it was larger.
func (b *Bundle) number(name string) (n int64, ok bool) {
	n, err := strconv.ParseInt(name, 16, 64)
	ok = err == nil && n >= 0 && strconv.FormatInt(n, 16) == strings.ToLower(name) && b.size > 0 && n <= (b.size-1)/b.bandSize
	return n, ok
}

// add takes a file for band n.
func (b *Bundle) add(n int64, e fs.DirEntry) {
	if !e.Type().IsRegular() {
		b.bad = append(b.bad, n)
		b.defects.add("bands/"+e.Name(), 0, "not a regular file: it can't be read")
	}
	b.stored = append(b.stored, n)
}

// addOdd takes the files whose names are not in lower case, where there is no other
// for the band.
func (b *Bundle) addOdd(odd map[int64]fs.DirEntry) {
	usual := b.stored
	for _, n := range slices.Sorted(maps.Keys(odd)) {
		e := odd[n]
		if _, there := slices.BinarySearch(usual, n); there {
			b.defects.add("bands/"+e.Name(), 0, "%s is there as well, and is read instead", b.bandName(n))
			continue
		}
		if b.odd == nil {
			b.odd = make(map[int64]string)
		}
		b.odd[n] = e.Name()
		b.add(n, e)
	}
	slices.Sort(b.stored)
}

// bandName returns the name of band n's file.
func (b *Bundle) bandName(n int64) string { return "bands/" + b.baseName(n) }

func (b *Bundle) baseName(n int64) string {
	if name := b.odd[n]; name != "" {
		return name
	}
	return strconv.FormatInt(n, 16)
}

// lookAtMaps finds out whether the bundle has maps of its bands, and which of them
// can't be right.
func (b *Bundle) lookAtMaps() error {
	f, err := b.fsys.Open("mapped")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil
	}
	looked := 0
	defer func() { slices.Sort(b.badMaps) }()
	return readNames(dir, func(e fs.DirEntry) {
		b.mapped = true
		n, ok := b.number(e.Name())
		if !ok {
			return
		}
		file := "mapped/" + e.Name()
		if !e.Type().IsRegular() {
			b.badMaps = append(b.badMaps, n)
			b.defects.add(file, 0, "not a regular file: the band counts in full")
			return
		}
		if looked++; looked > maxMaps {
			return
		}
		if info, err := e.Info(); err == nil && info.Size() != b.mapLen() {
			b.defects.add(file, 0, "%d bytes instead of %d: the band counts in full", info.Size(), b.mapLen())
		}
	})
}

// readNames calls note for each entry of a directory.
func readNames(dir fs.ReadDirFile, note func(fs.DirEntry)) error {
	for {
		entries, err := dir.ReadDir(listing)
		for _, e := range entries {
			note(e)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// mapLen returns the bytes of a band's map.
func (b *Bundle) mapLen() int64 {
	units := (b.bandSize + mapUnit - 1) / mapUnit
	return (units + 7) / 8
}

// bandMap returns the map of band n, nil if there is none, or none that can be right.
func (b *Bundle) bandMap(n int64) ([]byte, error) {
	name := "mapped/" + b.baseName(n)
	if _, bad := slices.BinarySearch(b.badMaps, n); bad || !b.mapped {
		return nil, nil
	}
	st, err := fs.Stat(b.fsys, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular() || st.Size() != b.mapLen():
		return nil, nil
	case st.Size() > maxMap:
		return nil, fmt.Errorf("%w: maps of %d bytes (limit %d)", ErrUnsupported, st.Size(), maxMap)
	}
	f, _, err := openFile(b.fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bits := make([]byte, b.mapLen())
	if _, err := readat.Full(f, bits, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return bits, nil
}

// mappedBand is a band with its map.
type mappedBand struct {
	Sized
	bits []byte
}

// ReadAt implements io.ReaderAt.
func (m *mappedBand) ReadAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		at := off + int64(done)
		end := at
		used := m.used(at)
		for end < off+int64(len(p)) && m.used(end) == used {
			end += mapUnit - end%mapUnit
		}
		part := p[done:min(int64(len(p)), end-off)]
		if !used {
			clear(part)
		} else if n, err := readat.Full(m.Sized, part, at); err != nil {
			return done + n, err
		}
		done += len(part)
	}
	return len(p), nil
}

// used reports whether the band has anything at byte off.
func (m *mappedBand) used(off int64) bool {
	unit := off / mapUnit
	return m.bits[unit/8]>>(unit%8)&1 != 0
}

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
		return 0, &FormatError{b.bandName(n), 0, "not a regular file"}
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
		return m, fmt.Errorf("%s: %w", b.bandName(n), err)
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
	f, size, err := openFile(b.fsys, b.bandName(n))
	if err != nil {
		return nil, nil, err
	}
	// What a file has beyond its band is no part of the disk.
	size = min(size, b.bandSize)
	var data Sized = io.NewSectionReader(f, 0, size)
	if b.decrypt != nil {
		data = b.decrypt(f, size)
	}
	bits, err := b.bandMap(n)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	if bits != nil {
		data = &mappedBand{data, bits}
	}
	return data, f, nil
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

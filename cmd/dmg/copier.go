package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
)

// A copier copies files out of a volume: one goroutine walks the folders and makes what is
// made at once, several others copy contents.
//
// Everything is written through an os.Root, and each folder on the way was made by the
// copier or was seen to be a folder, so that nothing is written through a link: what the
// copier replaces are never folders. A folder has a Root of its own, so that a file in it
// takes no walk from the destination.
type copier struct {
	*cpCmd
	std    *stdio
	files  fs.FS
	root   *os.Root
	ctx    context.Context
	cancel context.CancelCauseFunc // with the error that ends everything

	sources []source
	links   map[uint64]*linked // what has several names, by its id
	visited map[uint64]bool    // folders that have several names
	jobs    chan []piece
	small   []piece    // files for one worker, which have not been handed to it yet
	buf     []byte     // of the walker itself
	stdMu   sync.Mutex // guards missed and standard error
	missed  missed
	done    atomic.Int64
	total   int64
	update  func(done, total int64)
}

// A source is what a user asked for.
type source struct {
	path string
	info fs.FileInfo
}

// linked is a file with several names, of which one has been copied.
type linked struct {
	name string
	left uint64 // how many names are still to come
}

// maxLinked bounds how many files are remembered for their further names, each of some 200
// bytes. Beyond it, the names become files of their own.
const maxLinked = 1 << 18

// plan finds what is to be copied, before anything is written.
func (k *copier) plan(paths []string) error {
	names := make(map[string]string) // in the destination
	for _, p := range paths {
		name := cleanPath(p)
		switch other, ok := names[path.Base(name)]; {
		case name == "." && len(paths) > 1:
			return refusal(fmt.Sprintf("%q is all that is in the volume: leave out the other paths", p))
		case ok && other == name:
			return refusal(name + " is to be copied twice")
		case ok:
			return refusal(fmt.Sprintf("%s and %s have one name: copy one after the other, to other places", other, name))
		}
		names[path.Base(name)] = name
		info, err := fs.Lstat(k.files, name)
		if err != nil {
			return inVolume(k.Image, err)
		}
		k.sources = append(k.sources, source{name, info})
	}
	return nil
}

// run copies all sources.
func (k *copier) run(dest destination) error {
	k.links, k.visited = make(map[uint64]*linked), make(map[uint64]bool)
	k.jobs = make(chan []piece, 1)
	progress, stop := startProgress(k.std, "cp", 1, k.Quiet)
	k.update = progress
	if !k.Quiet && isTerminal(k.std.err) {
		k.measure()
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 16) {
		workers.Go(func() {
			buf := make([]byte, bufferSize)
			for job := range k.jobs {
				for _, p := range job {
					p.copy(buf)
				}
			}
		})
	}
	top := &folder{copier: k, dir: k.root, ours: isEmpty(k.root)}
	top.pending.Store(1)
	for _, s := range k.sources {
		to := dest.in(s.path)
		if s.info.IsDir() && to == "." {
			k.entries(top, s.path, ".", 0, false)
		} else {
			k.copy(top, s.path, to, s.info, 0, false)
		}
	}
	k.flush()
	close(k.jobs)
	workers.Wait()
	stop()
	if err := context.Cause(k.ctx); err != nil {
		return err
	}
	return k.missed.err()
}

// isEmpty reports whether there is nothing in a folder.
func isEmpty(root *os.Root) bool {
	f, err := root.Open(".")
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return err == io.EOF
}

// measure adds up the sizes of what is to be copied, for the progress bar. It stops at
// what takes long or can't be read: that is copy's to tell.
func (k *copier) measure() {
	const most = 100_000 // entries
	n := 0
	for _, s := range k.sources {
		if !s.info.IsDir() {
			k.total += s.info.Size()
			continue
		}
		_ = fs.WalkDir(k.files, s.path, func(_ string, d fs.DirEntry, err error) error {
			if n++; n > most || k.ctx.Err() != nil {
				return fs.SkipAll
			}
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil {
					k.total += info.Size()
				}
			}
			return nil
		})
	}
}

// shown is a name in the destination as users know it.
func (k *copier) shown(name string) string {
	return filepath.Join(k.root.Name(), filepath.FromSlash(name))
}

// at gives an error of writing in the destination the name that users know: that of a Root
// begins at some folder in it.
func (k *copier) at(name string, err error) error {
	var file *fs.PathError
	var link *os.LinkError
	switch {
	case isA[volumeError](err):
		return err // it is one of reading
	case errors.As(err, &file):
		err = file.Err
	case errors.As(err, &link):
		err = link.Err
	default:
		return err
	}
	return &fs.PathError{Op: "write", Path: k.shown(name), Err: err}
}

// fail tells of what can't be copied, or ends everything.
func (k *copier) fail(err error) {
	if k.ctx.Err() != nil {
		return // this is only its echo
	}
	if !k.KeepGoing {
		k.cancel(err)
		return
	}
	k.stdMu.Lock()
	defer k.stdMu.Unlock()
	k.missed.add(k.std, err)
}

// note tells of what is left out, and is no error.
func (k *copier) note(name, what string) {
	if k.Quiet {
		return
	}
	k.stdMu.Lock()
	defer k.stdMu.Unlock()
	fmt.Fprintf(k.std.err, "dmg: %s: left out: %s\n", printable(name), what)
}

// A folder is one that is being copied. Its mode and times are set when all in it has been
// copied.
type folder struct {
	*copier
	parent  *folder
	name    string      // from the destination
	dir     *os.Root    // the folder itself
	info    fs.FileInfo // nil if it was there before, or is the destination itself
	ours    bool        // all that is in it is from this copy
	pending atomic.Int64
}

// release says that one of the things has been done for which the folder waits.
func (f *folder) release() {
	if f.pending.Add(-1) > 0 || f.parent == nil {
		return
	}
	f.dir.Close()
	if f.info != nil {
		err := f.parent.dir.Chmod(path.Base(f.name), f.info.Mode().Perm())
		if err = cmp.Or(err, f.parent.setTimes(f.name, f.info)); err != nil {
			f.fail(f.at(f.name, err))
		}
	}
	f.parent.release()
}

// setTimes gives a file or folder in the folder its times, as far as the volume knows them.
func (f *folder) setTimes(name string, info fs.FileInfo) error {
	modified := info.ModTime()
	if modified.IsZero() {
		return nil
	}
	accessed := factsOf(info).accessed
	if accessed.IsZero() {
		accessed = modified
	}
	return f.dir.Chtimes(path.Base(name), accessed, modified)
}

// copy copies what is at a path of the volume.
func (k *copier) copy(in *folder, from, to string, info fs.FileInfo, depth int, again bool) {
	if k.ctx.Err() != nil {
		return
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		k.folder(in, from, to, info, depth, again)
	case 0:
		k.file(in, from, to, info)
	case fs.ModeSymlink:
		if err := k.symlink(in, from, to, info); err != nil {
			k.fail(k.at(to, err))
		}
	default:
		k.note(from, "it is a "+typeName(info.Mode()))
	}
}

// folder copies a folder and all that is in it. A folder with several names, as only HFS+
// has them, is copied at each of them; but again is true in its further copies, and there
// no other such folder is copied again: or else a few of these, each with two of the next,
// would have more copies than any disk has room for.
func (k *copier) folder(in *folder, from, to string, info fs.FileInfo, depth int, again bool) {
	if depth > maxDepth {
		k.fail(inVolume(k.Image, &fs.PathError{Op: "open", Path: from, Err: errDepth}))
		return
	}
	if f := factsOf(info); f.known && f.links > 1 {
		if k.visited[f.id] {
			if again {
				k.note(from, "it is a further name of a folder that has been copied")
				return
			}
			again = true
		}
		k.visited[f.id] = true
	}
	f := &folder{copier: k, parent: in, name: to, info: info, ours: true}
	err := in.dir.Mkdir(path.Base(to), 0o700)
	if errors.Is(err, fs.ErrExist) {
		f.info, f.ours = nil, false
		err = nil
	}
	if err == nil {
		err = f.enter(in)
	}
	if err != nil {
		k.fail(k.at(to, err))
		return
	}
	f.pending.Store(1)
	in.pending.Add(1)
	defer f.release()
	k.sideFile(in, from, to)
	k.entries(f, from, to, depth, again)
	k.flush() // two workers in one folder would wait for each other
}

// enter opens the folder in the destination. It does not follow a link there.
func (f *folder) enter(in *folder) error {
	base := path.Base(f.name)
	there, err := in.dir.Lstat(base)
	switch {
	case err != nil:
		return err
	case f.info == nil && in.ours:
		return clash(f.shown(f.name))
	case !there.IsDir():
		return existsAs(f.shown(f.name), "a folder", there)
	}
	if f.dir, err = in.dir.OpenRoot(base); err != nil {
		return err
	}
	if here, err := f.dir.Stat("."); err != nil || !os.SameFile(here, there) {
		f.dir.Close()
		return cmp.Or(err, error(refusal(f.shown(f.name)+" has been replaced by something else while it was copied")))
	}
	return nil
}

// entries copies what is in a folder.
func (k *copier) entries(f *folder, from, to string, depth int, again bool) {
	open, err := k.files.Open(from)
	if err != nil {
		k.fail(inVolume(k.Image, err))
		return
	}
	defer open.Close()
	dir, ok := open.(fs.ReadDirFile)
	if !ok {
		k.fail(inVolume(k.Image, &fs.PathError{Op: "readdir", Path: from, Err: errors.ErrUnsupported}))
		return
	}
	for k.ctx.Err() == nil {
		entries, err := dir.ReadDir(batch)
		for _, e := range entries {
			full := path.Join(from, e.Name())
			if err := checkHostName(e.Name()); err != nil {
				k.fail(refusal(fmt.Sprintf("%s: %s/%s: %v", k.Image, from, e.Name(), err)))
				continue
			}
			info, err := e.Info()
			if err != nil {
				k.fail(inVolume(k.Image, &fs.PathError{Op: "lstat", Path: full, Err: causeOf(err)}))
				continue
			}
			k.copy(f, full, path.Join(to, e.Name()), info, depth+1, again)
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			k.fail(inVolume(k.Image, err))
			return
		}
	}
}

// symlink copies a symbolic link as it is.
func (k *copier) symlink(in *folder, from, to string, info fs.FileInfo) error {
	target, err := fs.ReadLink(k.files, from)
	if err != nil {
		return inVolume(k.Image, err)
	}
	if err := k.place(in, to, func(name string) error { return k.root.Symlink(target, name) }); err != nil {
		return err
	}
	return setLinkTimes(k.root, to, info)
}

// place makes something that is no folder. What is there already is replaced only if the
// user wants it, by a rename, so that at no time nothing is there.
func (k *copier) place(in *folder, to string, create func(name string) error) error {
	err := create(to)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := k.mayReplace(in, to); err != nil {
		return err
	}
	temp := tempIn(to)
	if err := create(temp); err != nil {
		return err
	}
	err = k.root.Rename(temp, to)
	k.root.Remove(temp) // it is there also if both are names of one file: then rename does nothing
	return err
}

// mayReplace returns an error if what is at a name must stay.
func (k *copier) mayReplace(in *folder, to string) error {
	there, err := k.root.Lstat(to)
	switch {
	case err != nil:
		return err
	case in.ours:
		return clash(k.shown(to))
	case !there.Mode().IsRegular() && there.Mode().Type() != fs.ModeSymlink:
		return existsAs(k.shown(to), "a file", there)
	case !k.Force:
		return existsError(k.shown(to))
	case belongs(k.shown(to), k.Image):
		return refusal(k.shown(to) + " belongs to the image")
	}
	return nil
}

// clash says that something is in a folder that this copy has made, where nothing can be:
// two names of the volume are one here, or another program is at work.
func clash(name string) error {
	return refusal(name + " exists already, in a folder that is new: either another program writes there, such as a second copy to the same place, " +
		"or the destination takes two names of the volume for one: then copy to a file system that tells capital letters from small ones")
}

// existsAs says that something else is where a copy is to be.
func existsAs(name, wanted string, there fs.FileInfo) error {
	is := map[string]string{"dir": "folder", "symlink": "symbolic link"}
	what := typeName(there.Mode())
	return refusal(fmt.Sprintf("%s exists and is a %s, but %s is to be copied there", name, cmp.Or(is[what], what), wanted))
}

// tempIn is a temporary name in the folder of a name.
func tempIn(name string) string {
	return path.Join(path.Dir(name), fmt.Sprintf(".dmg.%08x.part", rand.Uint32()))
}

const (
	// bufferSize is how much is read at a time. What a file system decodes at once, 64
	// KiB of a compressed file, is a part of it.
	bufferSize = 512 << 10

	// maxSmall is how many small files one goroutine copies after the other.
	maxSmall = 32

	// pieceSize is the part of a large file that one goroutine copies.
	pieceSize = 4 << 20
)

// file copies a file, or makes its further names links to the first.
func (k *copier) file(in *folder, from, to string, info fs.FileInfo) {
	f := factsOf(info)
	c := &fileCopy{copier: k, in: in, path: from, to: to, info: info}
	in.pending.Add(1)
	if !f.known || f.links <= 1 {
		c.start()
		return
	}
	if first := k.links[f.id]; first != nil {
		if first.left--; first.left == 0 {
			delete(k.links, f.id)
		}
		err := k.place(in, to, func(name string) error { return k.root.Link(first.name, name) })
		if err == nil || isA[refusal](err) {
			if err != nil {
				k.fail(err)
			}
			in.release()
			return
		}
		// The destination may have no hard links: then it gets a second file.
	}
	// At once, since its next name may be the next entry.
	if k.buf == nil {
		k.buf = make([]byte, bufferSize)
	}
	piece{c, 0, info.Size(), true}.copy(k.buf)
	if !c.failed.Load() && k.links[f.id] == nil && len(k.links) < maxLinked {
		k.links[f.id] = &linked{to, f.links - 1}
	}
}

// A fileCopy is a file that is being copied.
type fileCopy struct {
	*copier
	in       *folder
	path, to string // in the volume, and in the destination
	info     fs.FileInfo

	open   fs.File
	out    *os.File
	temp   string       // its name in the folder until it is complete, which may be its own
	pieces atomic.Int64 // that are not done
	failed atomic.Bool
}

// A piece is a part of a file: the bytes from off up to end.
type piece struct {
	*fileCopy
	off, end int64
	whole    bool // all of the file, which isn't open yet
}

// start hands the file to the workers: as a whole with other small ones, or in pieces.
func (c *fileCopy) start() {
	size := c.info.Size()
	if size <= pieceSize {
		if c.small = append(c.small, piece{c, 0, size, true}); len(c.small) >= maxSmall || size > bufferSize {
			c.flush()
		}
		return
	}
	n := (size-1)/pieceSize + 1
	c.pieces.Store(n)
	if err := c.create(); err != nil {
		c.fault(err)
		c.close()
		return
	}
	for off := int64(0); off < size; off += pieceSize {
		c.hand([]piece{{c, off, off + min(pieceSize, size-off), false}})
	}
}

// flush hands the small files to a worker.
func (k *copier) flush() {
	if len(k.small) > 0 {
		k.hand(k.small)
		k.small = nil
	}
}

// hand gives pieces to a worker, or drops them if everything is to end.
func (k *copier) hand(job []piece) {
	select {
	case k.jobs <- job:
	case <-k.ctx.Done():
		for _, p := range job {
			p.copy(nil)
		}
	}
}

// copy copies the piece, and closes the file if it is the last one.
func (p piece) copy(buf []byte) {
	err := context.Cause(p.ctx)
	if err == nil && p.whole {
		err = p.create()
	}
	if err == nil && !p.failed.Load() {
		err = p.copyRange(buf)
	}
	p.fault(err)
	if p.whole || p.pieces.Add(-1) == 0 {
		p.close()
	}
}

// fault notes that a part of the file could not be copied.
func (c *fileCopy) fault(err error) {
	if err != nil && !c.failed.Swap(true) {
		c.fail(c.at(c.to, err))
	}
}

// create opens the file in the volume and makes the copy, without a name that is taken.
func (c *fileCopy) create() (err error) {
	if c.open, err = c.files.Open(c.path); err != nil {
		return inVolume(c.Image, err)
	}
	if _, ok := c.open.(io.ReaderAt); !ok {
		return inVolume(c.Image, &fs.PathError{Op: "read", Path: c.path, Err: errors.ErrUnsupported})
	}
	name := path.Base(c.to)
	c.out, err = c.in.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err := c.mayReplace(c.in, c.to); err != nil {
			return err
		}
		name = tempIn(name)
		c.out, err = c.in.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	if c.temp = name; c.info.Size() > bufferSize {
		return c.out.Truncate(c.info.Size()) // copyRange leaves out zeros
	}
	return nil
}

// copyRange copies the piece's bytes.
func (p piece) copyRange(buf []byte) error {
	from := p.open.(io.ReaderAt)
	for off := p.off; off < p.end; {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), p.end-off)]
		n, err := from.ReadAt(b, off)
		if n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return inVolume(p.Image, &fs.PathError{Op: "read", Path: p.path, Err: causeOf(err)})
		}
		if n < bufferSize || !isZero(b) {
			if _, err := p.out.WriteAt(b, off); err != nil {
				return err
			}
		}
		off += int64(n)
		p.progress(int64(n))
	}
	return nil
}

// zeros are what isZero compares with.
var zeros [64 << 10]byte

// isZero reports whether all bytes are zero.
func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// progress adds to what has been copied.
func (k *copier) progress(n int64) {
	done := k.done.Add(n)
	if k.total > 0 {
		k.stdMu.Lock()
		defer k.stdMu.Unlock()
		k.update(min(done, k.total), k.total)
	}
}

// close completes the copy, or removes it if it has failed.
func (c *fileCopy) close() {
	if c.open != nil {
		c.open.Close()
	}
	if c.out != nil {
		var err error
		if !c.failed.Load() {
			err = c.out.Chmod(c.info.Mode().Perm())
		}
		err = cmp.Or(err, c.out.Close())
		if err == nil && !c.failed.Load() && c.temp != path.Base(c.to) {
			err = c.in.dir.Rename(c.temp, path.Base(c.to))
		}
		if c.fault(err); c.failed.Load() {
			c.in.dir.Remove(c.temp)
		}
	}
	if !c.failed.Load() {
		c.fault(c.in.setTimes(c.to, c.info))
		c.sideFile(c.in, c.path, c.to)
	}
	c.in.release()
}

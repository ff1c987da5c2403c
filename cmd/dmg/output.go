package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/go-dmg/dmg/internal/segment"
)

// An output is a file that is to be written as a whole or not at all: until
// commit it has a temporary name beside its own. Devices and pipes are written
// to directly.
type output struct {
	name  string // where it will be, symbolic links followed
	force bool   // replace what is there
	mode  fs.FileMode
	place place

	f    *outputFile
	temp string // the temporary name; empty for devices and pipes
	stop func() // ends the waiting for interrupts, of a stream; nil for others

	// Calls of the system that tests replace, to see them or to let them fail.
	fsync func(*os.File) error
	link  func(oldname, newname string) error
}

// An outputFile is a file whose Write ends with the context, if it has one.
type outputFile struct {
	*os.File
	ctx context.Context // nil if nothing interrupts a write
}

// Write implements io.Writer.
func (f *outputFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if f.ctx != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = f.ctx.Err()
	}
	return n, err
}

// place is the kind of thing that is at the output's name.
type place int

const (
	regular place = iota // a regular file, or nothing yet
	device               // can be written at any offset, and isn't zeros before
	stream               // can be written in order only
)

// newOutput checks that the output may be written, and creates nothing yet, so
// that users hear of a wrong name before they are asked for a password. The
// image's name is needed so that the output does not replace a file of the image.
func newOutput(name, image string, force bool) (*output, error) {
	switch {
	case name == "":
		return nil, misuse("the output's name is empty")
	case belongs(name, image):
		return nil, refusal(name + " belongs to the image: give another name")
	}
	o := &output{name: name, force: force, mode: 0o666, fsync: (*os.File).Sync, link: os.Link}
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return o, nil
	} else if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil, refusal(name + " is a directory: give the name of a file")
	case !force:
		return nil, existsError(name)
	case errors.Is(err, fs.ErrNotExist): // a symbolic link to nowhere
		return o, nil
	case err != nil:
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		o.mode = mode.Perm()
		o.name, err = filepath.EvalSymlinks(name)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		o.place = device
	default:
		o.place = stream
	}
	return o, err
}

// belongs reports whether the file of that name is one of the image's. An image
// that can't be found has none; opening it will tell.
func belongs(name, image string) bool {
	in, err := os.Stat(image)
	if err != nil {
		return false
	}
	if in.IsDir() {
		return isWithin(name, in)
	}
	out, err := os.Stat(name)
	return err == nil && (os.SameFile(out, in) || isSegment(out, image))
}

// goesIntoImage reports whether standard output is a file of the image, as where a
// shell was told to append to it.
func goesIntoImage(std *stdio, image string) bool {
	f, ok := std.out.(*os.File)
	if !ok {
		return false
	}
	out, err := f.Stat()
	if err != nil || !out.Mode().IsRegular() {
		return false
	}
	in, err := os.Stat(image)
	return err == nil && (os.SameFile(out, in) || isSegment(out, image))
}

// isWithin reports whether the file is in the folder of a sparse bundle, or would
// be: a band that isn't there yet stands for zeros.
func isWithin(name string, bundle fs.FileInfo) bool {
	dir, _ := filepath.Split(name) // Dir would take a/.. for nothing, where a may be a link
	if dir == "" {
		dir = "."
	}
	if file, err := filepath.EvalSymlinks(name); err == nil {
		dir = filepath.Dir(file)
	}
	for {
		here, err := os.Stat(dir)
		if err != nil || os.SameFile(here, bundle) {
			return err == nil
		}
		dir += "/.." // not by its name, which may be that of a link
		if up, err := os.Stat(dir); err != nil || os.SameFile(up, here) {
			return false
		}
	}
}

// isSegment reports whether the file is a further one of an image that is split: by its
// name, or by the set that its trailer names. Of encrypted ones only the names tell.
func isSegment(file fs.FileInfo, image string) bool {
	dir, first := filepath.Split(image)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		name := filepath.Join(dir, e.Name())
		info, err := os.Stat(name)
		return err == nil && os.SameFile(info, file) && (namesSegment(e.Name(), first) || inOneSet(name, image))
	})
}

// inOneSet reports whether two files are segments of one image, by their trailers.
func inOneSet(a, b string) bool {
	setA, okA := segmentSet(a)
	setB, okB := segmentSet(b)
	return okA && okB && setA == setB
}

// segmentSet returns what segments of one image have in common, if the file is one.
func segmentSet(name string) (set [16]byte, ok bool) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return set, false
	}
	f, err := os.Open(name)
	if err != nil {
		return set, false
	}
	defer f.Close()
	t, err := segment.ParseTrailer(f, info.Size())
	return t.Set, err == nil && t.Segmented()
}

// namesSegment reports whether a name is that of a further segment. The first may
// have been renamed to something without .dmg, all of which the others then have.
func namesSegment(name, first string) bool {
	of := segment.FirstName(name)
	stem := strings.TrimSuffix(of, filepath.Ext(of))
	return of != name && (stem == first || stem == strings.TrimSuffix(first, filepath.Ext(first)))
}

// existsError says how to overwrite the file. That it has to be said is the
// point.
func existsError(name string) error {
	return refusal(name + " exists: -f overwrites it")
}

// create makes the file, of size bytes that are all zeros, or opens the device.
func (o *output) create(size int64) error {
	switch o.place {
	case stream:
		return o.openStream()
	case device:
		f, err := os.OpenFile(o.name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		o.f = &outputFile{File: f}
		return o.checkDevice(size)
	}
	if err := o.createTemp(); err != nil {
		return err
	}
	return o.f.Truncate(size)
}

// openStream opens a pipe or a terminal. An interrupt ends the opening, and the
// writes: a pipe makes both wait for a reader, which may never come. Without a
// reader, opening a pipe that must not wait fails, and is tried again.
func (o *output) openStream() error {
	const pause = 20 * time.Millisecond
	ctx, stop := interruptible(context.Background())
	o.stop = stop
	flags := os.O_WRONLY
	info, err := os.Stat(o.name)
	if err != nil {
		return err
	}
	pipe := info.Mode()&fs.ModeNamedPipe != 0
	if pipe {
		flags |= syscall.O_NONBLOCK
	}
	for {
		f, err := os.OpenFile(o.name, flags, 0)
		if err == nil {
			o.f = &outputFile{f, ctx}
			// What has no deadlines, such as a terminal, does not wait for long.
			context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
			return nil
		}
		if !pipe || !errors.Is(err, syscall.ENXIO) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// createTemp makes a file that no other program has, with the permissions that
// it is to have in the end: the process's umask is not asked again at a rename.
func (o *output) createTemp() error {
	var f *os.File
	var err error
	for range 100 {
		o.temp = tempName(o.name)
		f, err = os.OpenFile(o.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, o.mode)
		if !errors.Is(err, fs.ErrExist) { // else another extract's
			break
		}
	}
	if err == nil {
		o.f = &outputFile{File: f}
		return nil
	}
	o.temp = ""
	// The user knows nothing of a temporary name.
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("create %s: %w", o.name, err)
}

// tempName is a name beside the file's own. File systems allow 255 bytes, some
// only 143: a long name is cut, so that the temporary name is not too long where
// the file's own is not.
func tempName(name string) string {
	const longest = 100 // bytes
	dir, base := filepath.Split(name)
	if len(base) > longest {
		end := longest
		for end > longest-utf8.UTFMax && !utf8.RuneStart(base[end]) {
			end--
		}
		base = base[:end]
	}
	return fmt.Sprintf("%s%s.%08x.part", dir, base, rand.Uint32())
}

// checkDevice refuses a device that the disk doesn't fit on before any of it
// is overwritten.
func (o *output) checkDevice(size int64) error {
	if o.place != device {
		return nil
	}
	room, err := o.f.Seek(0, io.SeekEnd)
	if err == nil && room < size {
		err = refusal(fmt.Sprintf("%s has %s, too little for the %s to be written", o.name, humanSize(room), humanSize(size)))
	}
	return err
}

// commit gives the file its name. What the file holds is on the disk before it
// has the name, so that a power cut can't leave a file that only looks complete.
func (o *output) commit() error {
	if o.place != stream {
		if err := o.sync(o.f.File); err != nil {
			return err
		}
	}
	if err := o.f.Close(); err != nil {
		return err
	}
	if o.temp == "" {
		return nil
	}
	if err := o.giveName(); err != nil {
		return err
	}
	o.temp = ""
	return o.syncDir()
}

// giveName moves the file from its temporary name to its own. Another program may
// have made a file of that name in the meantime. Unless it is to be replaced, it
// stays: a link fails where there is one, and a rename would not.
func (o *output) giveName() error {
	if o.force {
		return os.Rename(o.temp, o.name)
	}
	err := o.link(o.temp, o.name)
	switch {
	case err == nil:
		return os.Remove(o.temp)
	case errors.Is(err, fs.ErrExist):
		return existsError(o.name)
	}
	return o.renameOver() // the file system has no links
}

// renameOver takes the name with an empty file, which fails if there is one, and
// puts the complete file in its place.
func (o *output) renameOver() error {
	f, err := os.OpenFile(o.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return existsError(o.name)
	}
	if err != nil {
		return err
	}
	empty, err := f.Stat()
	err = cmp.Or(err, f.Close())
	if err == nil {
		err = os.Rename(o.temp, o.name)
	}
	if err != nil {
		if here, statErr := os.Lstat(o.name); statErr == nil && empty != nil && os.SameFile(here, empty) {
			os.Remove(o.name)
		}
	}
	return err
}

// sync waits until the system has stored the file. Not every file system can tell.
func (o *output) sync(f *os.File) error {
	err := o.fsync(f)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}

// syncDir waits until the system has stored the file's name, which is in its
// directory. Windows opens no directories, and a directory that can't be read
// can't be opened either.
func (o *output) syncDir() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, _ := filepath.Split(o.name) // Dir would take a/.. for nothing, where a may be a link
	f, err := os.Open(cmp.Or(dir, "."))
	if err != nil {
		return nil
	}
	defer f.Close()
	return o.sync(f)
}

// discard removes what was written, unless it was committed.
func (o *output) discard() {
	if o.f != nil {
		o.f.Close()
	}
	if o.temp != "" {
		os.Remove(o.temp)
	}
	if o.stop != nil {
		o.stop()
	}
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

	f    *os.File
	temp string // the temporary name; empty for devices and pipes
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
// image's name is needed lest the output replaces a file of it.
func newOutput(name, image string, force bool) (*output, error) {
	switch {
	case name == "":
		return nil, misuse("the output's name is empty")
	case belongs(name, image):
		return nil, fmt.Errorf("%s belongs to the image: give another name", name)
	}
	o := &output{name: name, force: force, mode: 0o666}
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return o, nil
	} else if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory: give the name of a file", name)
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

// isSegment reports whether the file is a further one of an image that is split, as
// far as names tell.
func isSegment(file fs.FileInfo, image string) bool {
	dir, first := filepath.Split(image)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		if !namesSegment(e.Name(), first) {
			return false
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		return err == nil && os.SameFile(info, file)
	})
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
	return fmt.Errorf("%s exists: -f overwrites it", name)
}

// create makes the file, of size bytes that are all zeros, or opens the device.
func (o *output) create(size int64) (err error) {
	if o.place != regular {
		if o.f, err = os.OpenFile(o.name, os.O_WRONLY, 0); err != nil {
			return err
		}
		return o.checkDevice(size)
	}
	if err := o.createTemp(); err != nil {
		return err
	}
	return o.f.Truncate(size)
}

// createTemp makes a file that no other program has, with the permissions that
// it is to have in the end: the process's umask is not asked again at a rename.
func (o *output) createTemp() (err error) {
	for range 100 {
		o.temp = fmt.Sprintf("%s.%08x.part", o.name, rand.Uint32())
		o.f, err = os.OpenFile(o.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, o.mode)
		if !errors.Is(err, fs.ErrExist) { // else another extract's
			break
		}
	}
	if err == nil {
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

// checkDevice refuses a device that the disk doesn't fit on before any of it
// is overwritten.
func (o *output) checkDevice(size int64) error {
	if o.place != device {
		return nil
	}
	room, err := o.f.Seek(0, io.SeekEnd)
	if err == nil && room < size {
		err = fmt.Errorf("%s has %s, too little for the %s to be written", o.name, humanSize(room), humanSize(size))
	}
	return err
}

// commit gives the file its name.
func (o *output) commit() error {
	if err := o.f.Close(); err != nil {
		return err
	}
	if o.temp == "" {
		return nil
	}
	// Someone may have made such a file in the meantime.
	if _, err := os.Lstat(o.name); err == nil && !o.force {
		return existsError(o.name)
	}
	if err := os.Rename(o.temp, o.name); err != nil {
		return err
	}
	o.temp = ""
	return nil
}

// discard removes what was written, unless it was committed.
func (o *output) discard() {
	if o.f != nil {
		o.f.Close()
	}
	if o.temp != "" {
		os.Remove(o.temp)
	}
}

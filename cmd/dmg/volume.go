package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/hfsplus"
)

// volumeFlags are what the commands that read files have in common.
type volumeFlags struct {
	Partition    string `short:"p" placeholder:"NAME" help:"Read this volume: the number of its partition from dmg info, or a name or type, of the volume or of its partition. A part of a name will do if it fits one only."`
	snapshotFlag `embed:""`
	openFlags    `embed:""`
}

// snapshotFlag is for what reads files.
type snapshotFlag struct {
	Snapshot string `placeholder:"NAME" help:"Read an APFS volume as it was: the name of a snapshot from dmg info, or a part of it."`
}

// pathHelp explains the paths of the commands that read files.
const pathHelp = `Paths begin at the volume's root, with or without a slash. A slash in a name is a colon in the path, as macOS shows it.
What no path can hold is written as %u and four digits: ls prints it so.`

// openVolume opens the image and the volume that is to be read. The caller closes the
// image.
func (f *volumeFlags) openVolume(std *stdio, image string) (*dmg.Image, fs.FS, error) {
	return f.openFlags.openVolume(std, image, f.Partition, f.Snapshot)
}

// openVolume opens the image and the volume of that name, at a snapshot of that name. It
// asks for the volume's password as for an image's. The caller closes the image.
func (f *openFlags) openVolume(std *stdio, image, name, snapshot string) (*dmg.Image, fs.FS, error) {
	var files fs.FS
	im, err := f.openWithVolume(std, image, func(im *dmg.Image) (err error) {
		files, err = volumeFiles(im, name, snapshot)
		return err
	})
	return im, files, err
}

// volumeFiles returns the files of the volume that chooseVolume chooses, or of its snapshot
// of that name.
func volumeFiles(im *dmg.Image, name, snapshot string) (fs.FS, error) {
	v, err := chooseVolume(im, name)
	if err != nil {
		return nil, err
	}
	open := v.FS
	if snapshot != "" {
		s, err := snapshotNamed(v, snapshot)
		if err != nil {
			return nil, err
		}
		open = s.FS
	}
	files, err := open()
	if errors.Is(err, dmg.ErrPassword) {
		err = lockedError{err, v}
	}
	return files, err
}

// A lockedError says that a volume, not the image, takes a password that was not given, or
// another one.
type lockedError struct {
	error
	volume dmg.Volume
}

// Unwrap returns the cause.
func (e lockedError) Unwrap() error { return e.error }

// chooseVolume returns the volume of that name, or the one that users see mounted.
func chooseVolume(im *dmg.Image, name string) (dmg.Volume, error) {
	if name == "" {
		return im.Volume()
	}
	found, err := volumesNamed(im, name)
	if err != nil {
		return dmg.Volume{}, err
	}
	if len(found) > 1 {
		return dmg.Volume{}, refusal(fmt.Sprintf("%q fits %s: give a name that only one has", name, listed(found, dmg.Volume.String)))
	}
	return found[0], nil
}

// snapshotNamed returns the snapshot of that name, or the only one of which it is a part.
func snapshotNamed(v dmg.Volume, name string) (dmg.Snapshot, error) {
	all, damage := v.Snapshots()
	for _, fits := range []func(s dmg.Snapshot) bool{
		func(s dmg.Snapshot) bool { return s.Name == name },
		func(s dmg.Snapshot) bool {
			return strings.Contains(strings.ToLower(s.Name), strings.ToLower(name))
		},
	} {
		found := slices.DeleteFunc(slices.Clone(all), func(s dmg.Snapshot) bool { return !fits(s) })
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return dmg.Snapshot{}, refusal(fmt.Sprintf("%q fits the snapshots %s: give a name that only one has", name, listed(found, quotedName)))
		}
	}
	switch {
	case damage != nil: // it may be among those that were not read
		return dmg.Snapshot{}, damage
	case len(all) == 0:
		return dmg.Snapshot{}, refusal(fmt.Sprintf("%s has no snapshots", v))
	}
	return dmg.Snapshot{}, refusal(fmt.Sprintf("%s has no snapshot %q, but %s", v, name, listed(all, quotedName)))
}

func quotedName(s dmg.Snapshot) string { return strconv.Quote(s.Name) }

// listed lists the first of several for a message.
func listed[T any](all []T, text func(T) string) string {
	const most = 10
	var texts []string
	for _, v := range all[:min(len(all), most)] {
		texts = append(texts, text(v))
	}
	if n := len(all) - most; n > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(texts, ", ")
}

// volumesNamed returns the volumes in the partition of that number, or those that fit the
// name best; one at least.
func volumesNamed(im *dmg.Image, name string) ([]dmg.Volume, error) {
	vols, err := im.Volumes()
	if err != nil {
		return nil, err
	}
	parts := im.Partitions()
	if i, err := strconv.Atoi(name); err == nil {
		if i < 0 || i >= len(parts) {
			return nil, refusal(fmt.Sprintf("no partition %d: %s", i, partitionCount(len(parts))))
		}
		found := slices.DeleteFunc(vols, func(v dmg.Volume) bool { return v.Partition != i })
		if len(found) == 0 {
			return nil, refusal(fmt.Sprintf("partition %d has no file system: see dmg info", i))
		}
		return found, nil
	}
	for _, fits := range nameMatches(name) {
		found := slices.DeleteFunc(slices.Clone(vols), func(v dmg.Volume) bool {
			var p dmg.Partition
			if v.Partition >= 0 {
				p = parts[v.Partition]
			}
			return !fits(&p, []dmg.Volume{v})
		})
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, refusal(fmt.Sprintf("no volume or partition with files has the name or type %q: see dmg info", name))
}

// nameMatches are the ways in which a name may be that of a partition or of the volumes in
// it, the best first: it is the name of one, or a part of it; or the type, such as
// Apple_APFS, or a part of it, in which FAT32 is DOS_FAT_32.
func nameMatches(name string) []func(p *dmg.Partition, vs []dmg.Volume) bool {
	contains := func(s string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(name)) }
	plain := plainType(name)
	any := func(vs []dmg.Volume, fits func(v dmg.Volume) bool) bool { return slices.ContainsFunc(vs, fits) }
	return []func(*dmg.Partition, []dmg.Volume) bool{
		func(p *dmg.Partition, vs []dmg.Volume) bool { return p.Name == name },
		func(p *dmg.Partition, vs []dmg.Volume) bool {
			return any(vs, func(v dmg.Volume) bool { return v.Name == name })
		},
		func(p *dmg.Partition, vs []dmg.Volume) bool {
			return contains(p.Name) || any(vs, func(v dmg.Volume) bool { return contains(v.Name) })
		},
		func(p *dmg.Partition, vs []dmg.Volume) bool {
			return strings.EqualFold(p.Type, name) || any(vs, func(v dmg.Volume) bool { return strings.EqualFold(v.Type, name) })
		},
		func(p *dmg.Partition, vs []dmg.Volume) bool {
			fits := func(kind string) bool {
				return contains(kind) || plain != "" && strings.Contains(plainType(kind), plain)
			}
			return fits(p.Type) || any(vs, func(v dmg.Volume) bool { return fits(v.Type) })
		},
	}
}

// cleanPath makes a path of io/fs of one that a user gave.
func cleanPath(name string) string {
	if name = path.Clean("/" + name)[1:]; name == "" {
		return "."
	}
	return name
}

// A volumeError is an error of reading a file system: a *fs.PathError in it is none of the
// host's.
type volumeError struct{ error }

// Unwrap returns the cause.
func (e volumeError) Unwrap() error { return e.error }

// volumeStatus is the exit status for an error of reading a file system that is of no
// class of package dmg.
func volumeStatus(err error) int {
	switch {
	case errors.Is(err, apfs.ErrPassword):
		return statusPassword
	case errors.Is(err, hfsplus.ErrUnsupported), errors.Is(err, apfs.ErrUnsupported), errors.Is(err, errors.ErrUnsupported):
		return statusUnsupported
	case isA[syscall.Errno](err), isA[net.Error](err):
		return statusIO
	}
	return statusDamaged
}

// inVolume says in which image the path is that an error of reading a volume is about.
func inVolume(image string, err error) error {
	var at *fs.PathError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &at):
		return fmt.Errorf("%s: %w", image, volumeError{err})
	case errors.Is(err, fs.ErrNotExist):
		return refusal(fmt.Sprintf("%s: the volume has no file or folder %q: dmg ls lists what there is", image, at.Path))
	}
	return fmt.Errorf("%s: %s: %w", image, at.Path, volumeError{at.Err}) // what was done to it tells a user nothing
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/hfsplus"
)

// catCmd is dmg cat: what cat is for files, for those in an image, and what dd is for
// disks, for the disk in it.
type catCmd struct {
	imageArg     `embed:""`
	Paths        []string  `arg:"" optional:"" name:"path" help:"The files to write; the disk if not given."`
	Offset       byteSize  `short:"o" placeholder:"N" help:"Where to begin; at the beginning if not given."`
	Length       *byteSize `short:"n" placeholder:"N" help:"How much to write; to the end if not given."`
	Partition    string    `short:"p" placeholder:"NAME" help:"The volume that the files are in, or the partition to count from and to end with: a number, name or type from dmg info, or a part of a name."`
	snapshotFlag `embed:""`
	openFlags    `embed:""`
}

// Help implements kong.HelpProvider.
func (catCmd) Help() string {
	return `Writes files of the image to standard output, one after the other, and decodes no more for it than it must. With offset
and length it writes a part of one.

Without a path, it writes the bytes of the disk from offset on. Output ends at the end of the disk, even if that comes
before length. More than 1 MiB is decoded on all cores, and the checksums of partitions that lie in it are compared: the
exit status is 1 if one does not hold.

` + pathHelp + `

` + numberHelp + `

Example:

    dmg cat Installer.dmg Foo.app/Contents/Info.plist
    dmg cat disk.dmg --offset 1024s --length 4k | xxd
    dmg cat disk.dmg --partition Apple_HFS --offset 0x400 --length 512 | xxd`
}

// Run implements the command.
func (c *catCmd) Run(std *stdio) error {
	if len(c.Paths) > 0 {
		return c.files(std)
	}
	if c.Snapshot != "" {
		return refusal("--snapshot is for files: give the path of one")
	}
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	r, err := partitionRange(im, c.Partition)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Image, err)
	}
	if int64(c.Offset) > r.length {
		// Beginning at the end is fine, as it is for dd and tail: there is nothing to write.
		of := "disk"
		if c.Partition != "" {
			of = "partition"
		}
		return refusal(fmt.Sprintf("%s: offset %d is past the end of the %s, which has %d bytes", c.Image, c.Offset, of, r.length))
	}
	r.off += int64(c.Offset)
	r.length -= int64(c.Offset)
	if c.Length != nil {
		r.length = min(r.length, int64(*c.Length))
	}
	if r.length <= smallRange {
		err = writeRange(std.out, im, r)
	} else {
		_, err = im.Section(r.off, r.length).WriteTo(std.out)
	}
	if isDamage(err) {
		return fmt.Errorf("%s: %w", c.Image, err)
	}
	return err
}

// files writes files.
func (c *catCmd) files(std *stdio) error {
	if len(c.Paths) > 1 && (c.Offset > 0 || c.Length != nil) {
		return refusal("--offset and --length are for one file: give one path")
	}
	im, files, err := c.openVolume(std, c.Image, c.Partition, c.Snapshot)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	for _, p := range c.Paths {
		if err := c.file(std, files, cleanPath(p)); err != nil {
			return err
		}
	}
	return nil
}

// file writes a file, or the part of it that is asked for.
func (c *catCmd) file(std *stdio, files fs.FS, name string) error {
	f, err := files.Open(name)
	if errors.Is(err, hfsplus.ErrLoop) {
		if target, err := fs.ReadLink(files, name); err == nil && path.IsAbs(target) {
			return refusal(fmt.Sprintf("%s: %s is a symbolic link to %s, which is outside of the image: on a Mac it is the Mac's own", c.Image, name, target))
		}
		return refusal(fmt.Sprintf("%s: %s: symbolic links lead in a circle; dmg ls -l shows where to", c.Image, name))
	}
	if err != nil {
		return inVolume(c.Image, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return inVolume(c.Image, err)
	}
	switch {
	case info.IsDir():
		return refusal(fmt.Sprintf("%s: %s is a folder: dmg ls lists it, dmg cp copies it", c.Image, name))
	case !info.Mode().IsRegular():
		return refusal(fmt.Sprintf("%s: %s is a %s, which has no content", c.Image, name, typeName(info.Mode())))
	case int64(c.Offset) > info.Size():
		return refusal(fmt.Sprintf("%s: %s: offset %d is past the end of the file, which has %d bytes", c.Image, name, c.Offset, info.Size()))
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return inVolume(c.Image, &fs.PathError{Op: "read", Path: name, Err: errors.ErrUnsupported})
	}
	off, end := int64(c.Offset), info.Size()
	if c.Length != nil {
		end = off + min(int64(*c.Length), end-off)
	}
	buf := make([]byte, min(end-off, bufferSize))
	for off < end {
		b := buf[:min(int64(len(buf)), end-off)]
		n, err := r.ReadAt(b, off)
		if _, err := std.out.Write(b[:n]); err != nil {
			return err
		}
		if off += int64(n); n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return inVolume(c.Image, &fs.PathError{Op: "read", Path: name, Err: causeOf(err)})
		}
	}
	return nil
}

// smallRange is the longest range, in bytes, that is read at once: to start workers
// would take longer.
const smallRange = 1 << 20

// writeRange writes a short range of the disk, as far as it can be read.
func writeRange(w io.Writer, im *dmg.Image, r diskRange) error {
	b := make([]byte, max(0, min(r.length, im.Size()-r.off)))
	n, err := im.ReadAt(b, r.off)
	if err == io.EOF && n == len(b) {
		err = nil // the end of the disk
	}
	if n == 0 {
		return err
	}
	if _, err := w.Write(b[:n]); err != nil {
		return err
	}
	return err
}

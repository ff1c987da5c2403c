package main

import (
	"fmt"
	"io"

	"github.com/go-dmg/dmg"
)

// catCmd is dmg cat: what dd is for disks, for the disk in an image.
type catCmd struct {
	imageArg  `embed:""`
	Offset    byteSize  `short:"o" placeholder:"N" help:"Where to begin; at the beginning if not given."`
	Length    *byteSize `short:"n" placeholder:"N" help:"How much to write; to the end if not given."`
	Partition string    `short:"p" placeholder:"NAME" help:"Count from the start of this partition, and end at its end: a number, name or type from dmg info, or a part of a name."`
	openFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (catCmd) Help() string {
	return `Writes the bytes of the disk from offset on to standard output, and decodes no more for it than it must. Output
ends at the end of the disk, even if that comes before length. More than 1 MiB is decoded on all cores, and the checksums
of partitions that lie in it are compared: the exit status is 1 if one does not hold.

` + numberHelp + `

Example:

    dmg cat disk.dmg --offset 1024s --length 4k | xxd
    dmg cat disk.dmg --partition Apple_HFS --offset 0x400 --length 512 | xxd`
}

// Run implements the command.
func (c *catCmd) Run(std *stdio) error {
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

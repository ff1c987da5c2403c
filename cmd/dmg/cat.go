package main

import (
	"fmt"
	"io"
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
ends at the end of the disk, even if that comes before length.

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
	_, err = io.CopyBuffer(onlyWriter{std.out}, io.NewSectionReader(im, r.off, r.length), make([]byte, min(copySize, r.length+1)))
	return err
}

// onlyWriter hides a file's ReadFrom, which would not use the buffer given.
type onlyWriter struct{ io.Writer }

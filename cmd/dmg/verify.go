package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/go-dmg/dmg"
)

// verifyCmd is dmg verify.
type verifyCmd struct {
	imageArg  `embed:""`
	Quiet     bool `short:"q" help:"Show no progress."`
	openFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (verifyCmd) Help() string {
	return `Decodes the whole disk and checks every checksum that the image stores, then says for each part whether it is good,
and which sectors are lost if it isn't. A part without a checksum is only read, and damage in it may go unnoticed. The
exit status is 0 if nothing wrong is found, 1 if there is.

Example:

    dmg verify Installer.dmg
    dmg verify --quiet Installer.dmg > /dev/null && echo good`
}

// Run implements the command.
func (c *verifyCmd) Run(ctx context.Context, std *stdio) error {
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	ctx, stop := interruptible(ctx)
	defer stop()
	progress, stopProgress := startProgress(std, "verify", im.Size(), c.Quiet)
	err = im.Verify(ctx, progress)
	stopProgress()
	var d damage
	if err := d.add(err); err != nil {
		return fmt.Errorf("%s: %w", c.Image, err)
	}
	if err := d.print(std.out, im); err != nil {
		return err
	}
	return d.err(c.Image)
}

// plural counts things whose name takes an s.
func plural(n int, name string) string {
	if n != 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}

// damage is what is wrong with an image.
type damage struct {
	sums   []*dmg.ChecksumError
	chunks []*dmg.ChunkError
}

// add sorts the errors that err joins. It returns the first that is no damage,
// which says why the image could not be verified.
func (d *damage) add(err error) error {
	switch e := err.(type) {
	case nil:
	case *dmg.ChecksumError:
		d.sums = append(d.sums, e)
	case *dmg.ChunkError:
		if !isDamage(e) {
			return e
		}
		d.chunks = append(d.chunks, e)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if err := d.add(err); err != nil {
				return err
			}
		}
	default:
		return err
	}
	return nil
}

// count is how many errors there are.
func (d *damage) count() int { return len(d.sums) + len(d.chunks) }

// String says how much is damaged. A checksum that can't be checked for a chunk
// is not wrong, and a large chunk may be damaged in several places.
func (d *damage) String() string {
	wrong, chunks := 0, make(map[dmg.Chunk]bool)
	for _, e := range d.sums {
		if e.Got != nil {
			wrong++
		}
	}
	for _, e := range d.chunks {
		chunks[e.Chunk] = true
	}
	return plural(wrong, "wrong checksum") + ", " + plural(len(chunks), "unreadable chunk")
}

// err is the error that a command ends with after it has told of the damage; nil
// if there is none, or nobody has looked.
func (d *damage) err(image string) error {
	if d == nil || d.count() == 0 {
		return nil
	}
	return fmt.Errorf("%s: damaged: %v", image, d)
}

// print writes a line a part, in the order in which they were checked, one a
// chunk that is lost, and in the end what could not be checked.
func (d *damage) print(w io.Writer, im *dmg.Image) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "part\tresult\tname")
	parts := partsOf(im)
	for _, p := range parts {
		result := d.result(p.label, p.partition)
		if !p.stored && result == "good" {
			result = "no checksum stored"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", p.label, result, p.name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, e := range d.chunks {
		fmt.Fprintf(&b, "lost: %s\n", oneLine(e))
	}
	fmt.Fprint(&b, unchecked(parts))
	for line := range strings.Lines(b.String()) {
		// Where the last column is empty, there is the padding of the one before.
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// wholeDisk is the label of a disk that is one part.
const wholeDisk = "disk"

// part is what may have a checksum of its own.
type part struct {
	label, name string
	partition   int // index, -1 for other parts
	stored      bool
}

// partsOf returns the parts of an image in the order in which Verify checks them.
// A disk without partitions is one part if nothing else is.
func partsOf(im *dmg.Image) []part {
	var parts []part
	for i, p := range im.Partitions() {
		parts = append(parts, part{label: strconv.Itoa(i), name: partitionName(p.Name), partition: i})
	}
	switch {
	case slices.Contains(im.Layers(), "UDIF"):
		parts = slices.Insert(parts, 0, part{label: "data fork", partition: -1})
		parts = append(parts, part{label: "master", partition: -1})
	case len(parts) == 0:
		parts = append(parts, part{label: wholeDisk, partition: -1})
	}
	for _, sum := range im.Checksums() {
		for i := range parts {
			p := &parts[i]
			p.stored = p.stored || p.partition == sum.Partition && (p.partition >= 0 || p.label == sum.Part)
		}
	}
	return parts
}

// unchecked returns a line that says how many parts have no checksum, nothing if
// all have one.
func unchecked(parts []part) string {
	n := 0
	for _, p := range parts {
		if !p.stored {
			n++
		}
	}
	switch n {
	case 0:
		return ""
	case len(parts):
		return "no checksum is stored in this image: that it can be read is all that is known\n"
	}
	return fmt.Sprintf("no checksum is stored for %s of %d: that data can be read there is all that is known\n", plural(n, "part"), len(parts))
}

// result says how a part fared: that of a name, or else a partition.
func (d *damage) result(part string, partition int) string {
	for _, e := range d.chunks {
		if e.Chunk.Partition == partition && (partition >= 0 || part == wholeDisk) {
			return "damaged"
		}
	}
	for _, e := range d.sums {
		if e.Partition == partition && (partition >= 0 || e.Part == part) {
			return fmt.Sprintf("%s is %x, stored is %x", e.Algorithm, e.Got, e.Want)
		}
	}
	return "good"
}

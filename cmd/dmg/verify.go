package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
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
and which sectors are lost if it isn't. The exit status is 0 if all is good, 1 if not.

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
	if !d.add(err) {
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

// add sorts the errors that err joins. It reports whether all of them are
// damage; others say that the image could not be verified.
func (d *damage) add(err error) bool {
	switch e := err.(type) {
	case nil:
	case *dmg.ChecksumError:
		d.sums = append(d.sums, e)
	case *dmg.ChunkError:
		d.chunks = append(d.chunks, e)
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !d.add(err) })
	default:
		return false
	}
	return true
}

// count is how much is damaged.
func (d *damage) count() int { return len(d.sums) + len(d.chunks) }

// String says how much is damaged.
func (d *damage) String() string {
	return plural(len(d.sums), "wrong checksum") + ", " + plural(len(d.chunks), "unreadable chunk")
}

// err is the error that a command ends with after it has told of the damage; nil
// if there is none, or nobody has looked.
func (d *damage) err(image string) error {
	if d == nil || d.count() == 0 {
		return nil
	}
	return fmt.Errorf("%s: damaged: %v", image, d)
}

// print writes a line a part, in the order in which they were checked, and one
// a chunk that is lost.
func (d *damage) print(w io.Writer, im *dmg.Image) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	udif := slices.Contains(im.Layers(), "UDIF")
	fmt.Fprintln(t, "part\tresult\tname")
	if udif {
		fmt.Fprintf(t, "data fork\t%s\t\n", d.result("data fork", -1))
	}
	for i, p := range im.Partitions() {
		fmt.Fprintf(t, "%d\t%s\t%s\n", i, d.result("", i), partitionName(p.Name))
	}
	if udif {
		fmt.Fprintf(t, "master\t%s\t\n", d.result("master", -1))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, e := range d.chunks {
		fmt.Fprintf(&b, "lost: %s\n", oneLine(e))
	}
	for line := range strings.Lines(b.String()) {
		// Where the last column is empty, there is the padding of the one before.
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// result says how a part fared: that of a name, or else a partition.
func (d *damage) result(part string, partition int) string {
	for _, e := range d.chunks {
		if partition >= 0 && e.Chunk.Partition == partition {
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

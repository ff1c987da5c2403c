package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
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
	return `Decodes the whole disk and compares every checksum that the image stores. It prints a line for each part:

    data fork     the checksum over the bytes that the image stores, as they
                  are stored: compressed. Not every image has one.
    0, 1, 2, ...  a partition, by the number that dmg info gives it. Its
                  checksum is over the decoded bytes.
    disk          the whole disk, in an image without block tables
    master        the checksum over the checksums of the partitions. It finds
                  damage in these, not in the disk.

A part is one of these:

    good          every checksum over it holds
    readable      all of it was read, but the image stores no checksum over
                  it. Sparse images, sparse bundles and raw disks never do.
    damaged       some of it can't be decoded: the lines below, which begin
                  with "lost:", say which sectors
    wrong         it was decoded, but a checksum over it does not hold
    not checked   it uses a compression that dmg does not support, which is
                  no damage: lines that begin with "not checked:" say where

Lines that begin with "damaged:" tell what was found wrong when the image was opened.

The exit status is 0 if nothing wrong was found, 1 if something is damaged, and 3 if nothing is damaged but something
is not supported.

Example:

    dmg verify Installer.dmg
    dmg verify --quiet Installer.dmg > /dev/null && echo good`
}

// Run implements the command.
func (c *verifyCmd) Run(ctx context.Context, std *stdio) error {
	c.listsDefects = true
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	found, err := verify(ctx, std, im, c.Quiet, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Image, err)
	}
	if err := found.print(std.out); err != nil {
		return err
	}
	return found.err(c.Image)
}

// verify finds what is wrong with an image, and calls eachChunk, if not nil, for every
// chunk that can't be read. An interrupt ends it.
func verify(ctx context.Context, std *stdio, im *dmg.Image, quiet bool, eachChunk func(dmg.Chunk)) (*findings, error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	progress, stopProgress := startProgress(std, "verify", im.Size(), quiet)
	err := im.Verify(ctx, progress)
	stopProgress()
	found := newFindings(im)
	found.eachChunk = eachChunk
	return found, found.add(err)
}

// plural counts things whose name takes an s.
func plural(n int, name string) string {
	if n != 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}

// print writes a line a part, and then one for each defect and each place that can't
// be read.
func (f *findings) print(w io.Writer) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "part\tresult\tname")
	for i := range f.parts {
		p := &f.parts[i]
		fmt.Fprintf(t, "%s\t%s\t%s\n", p.label, f.result(p), p.name)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range f.lines() {
		fmt.Fprintln(&b, line)
	}
	for line := range strings.Lines(b.String()) {
		// Where the last column is empty, there is the padding of the one before.
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

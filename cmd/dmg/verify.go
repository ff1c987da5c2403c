package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-dmg/dmg"
)

// verifyCmd is dmg verify.
type verifyCmd struct {
	imagesArg `embed:""`
	JSON      bool `name:"json" help:"Print JSON, an object a line for each image, whose fields stay as they are in later versions."`
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
                  it. Sparse images (also ASIF), sparse bundles and raw disks
                  never do.
    damaged       some of it can't be decoded, or a checksum in its compressed
                  data does not hold: the lines below say which sectors
    wrong         it was decoded, but a checksum over it does not hold
    not checked   it uses a compression that dmg does not support, which is
                  no damage: lines that begin with "not checked:" say where
    can't be      something else that is damaged or missing keeps the checksum
    checked       from being computed

The lines below these begin with one of:

    damaged:      what was found wrong when the image was opened
    lost:         sectors that can't be decoded
    doubtful:     sectors that are decoded, but that no checksum confirms:
                  any of them may be wrong
    not checked:  sectors whose compression dmg does not support

With --json, a line is an object for an image:

    image            as it was named
    result           "good", "damaged", "unsupported", "readable" (nothing wrong
                     was found, but some of it has no checksum), or "error"
    status           the exit status for it
    checksums        each that was compared: part, partition (-1 for what is
                     none), algorithm, stored, computed (null if some of what
                     it is over can't be read), good
    wrong_checksums  how many don't hold
    lost, doubtful, unsupported
                     bytes of the disk that are so: see above
    ranges           the first 1,000 ranges of each kind: kind ("lost",
                     "doubtful" or "unsupported"), offset and length in bytes of
                     the disk, error
    more_ranges      how many ranges there are besides
    defects          what was found wrong when the image was opened
    error            why it could not be verified, if the result is "error"

The exit status is 0 if nothing wrong was found, 1 if something is damaged, and 3 if nothing is damaged but something
is not supported.

` + severalHelp + `

Example:

    dmg verify Installer.dmg
    dmg verify --json Installer.dmg | jq -e '.result == "good"' > /dev/null && echo good
    dmg verify --json *.dmg | jq -r 'select(.result != "good") | .image'
    dmg verify --json damaged.dmg | jq -c '.ranges[]'`
}

// Run implements the command.
func (c *verifyCmd) Run(ctx context.Context, std *stdio) error {
	c.listsDefects = true
	if err := c.checkSeveral(c.Images); err != nil {
		return err
	}
	ctx, stop := std.interruptible(ctx)
	defer stop()
	first := true
	return forEach(std, c.Images, func(image string) error {
		found, err := c.image(ctx, std, image)
		switch {
		case c.JSON && errors.Is(err, context.Canceled), err != nil && (!c.JSON || isA[abortError](err)):
			return err
		case c.JSON:
			result := newVerifyJSON(image, found, err)
			if err == nil {
				err = found.err(image)
			}
			result.Status = statusOK
			if err != nil {
				result.Status = statusOf(err)
			}
			if err := writeJSON(std.out, result); err != nil {
				return abort(err)
			}
			return err
		}
		if len(c.Images) > 1 {
			space := "\n"
			if first {
				space = ""
			}
			if _, err := fmt.Fprintf(std.out, "%s%s:\n", space, printable(image)); err != nil {
				return abort(err)
			}
		}
		first = false
		if err := found.print(std.out); err != nil {
			return abort(err)
		}
		return found.err(image)
	})
}

// image finds what is wrong with an image.
func (c *verifyCmd) image(ctx context.Context, std *stdio, image string) (*findings, error) {
	im, err := c.open(std, image)
	if err != nil {
		return nil, err
	}
	defer c.close(std, im)
	found := newFindings(im)
	found.keepSums = c.JSON
	if err := verify(ctx, std, im, c.Quiet, found); err != nil {
		return nil, fmt.Errorf("%s: %w", image, err)
	}
	return found, nil
}

// verify adds to the findings what is wrong with an image.
func verify(ctx context.Context, std *stdio, im *dmg.Image, quiet bool, found *findings) error {
	progress, stopProgress := startProgress(std, "verify", im.Size(), quiet)
	err := im.Verify(ctx, &dmg.VerifyOptions{Progress: progress, Result: found.add})
	stopProgress()
	if !isOfImage(err) {
		return err
	}
	return nil
}

// isOfImage reports whether an error of Verify joins what is wrong with the image only,
// which the results told. Else the image could not be verified.
func isOfImage(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !isOfImage(err) })
	}
	switch {
	case err == nil:
		return true
	case isA[*dmg.ChunkError](err):
		return isDamage(err)
	}
	return errors.Is(err, dmg.ErrChecksum) || errors.Is(err, dmg.ErrFormat) // also of how many there are besides
}

// plural counts things whose name takes an s.
func plural[N int | int64](n N, name string) string {
	if n != 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}

// print writes a line a part, and then one for each defect and each range that can't
// be read as it was.
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

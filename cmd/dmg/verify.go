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
	imageArg  `embed:""`
	JSON      bool `name:"json" help:"Print JSON, an object a line."`
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

With --json, the output is one object a line, with a "kind": "checksum" for each checksum that was compared, "lost",
"doubtful" or "unsupported" for each range of such bytes, in the order in which they are found, and in the end "verdict",
which sums them up. "offset" and "length" are in bytes of the disk; "computed" is null if the checksum can't be computed,
because some of what it is over can't be read. The "result" of the verdict is good, damaged, unsupported, or readable: nothing
wrong was found, but some of it has no checksum.

The exit status is 0 if nothing wrong was found, 1 if something is damaged, and 3 if nothing is damaged but something
is not supported.

Example:

    dmg verify Installer.dmg
    dmg verify --quiet Installer.dmg > /dev/null && echo good
    dmg verify --json damaged.dmg | jq -c 'select(.kind == "lost")'`
}

// Run implements the command.
func (c *verifyCmd) Run(ctx context.Context, std *stdio) error {
	c.listsDefects = true
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	var lines *jsonLines
	if c.JSON {
		lines = &jsonLines{w: std.out}
	}
	found, err := verify(ctx, std, im, c.Quiet, lines, nil)
	switch {
	case err != nil && lines != nil && lines.err != nil:
		return lines.err // of the output
	case err != nil:
		return fmt.Errorf("%s: %w", c.Image, err)
	case c.JSON:
		err = lines.put(found.verdictJSON())
	default:
		err = found.print(std.out)
	}
	if err != nil {
		return err
	}
	return found.err(c.Image)
}

// verify finds what is wrong with an image. It writes every result to lines, and calls
// eachRange with every range that can't be read as it was, unless these are nil. An
// interrupt ends it.
func verify(ctx context.Context, std *stdio, im *dmg.Image, quiet bool, lines *jsonLines, eachRange func(diskRange)) (*findings, error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	found := newFindings(im)
	found.json, found.eachRange = lines, eachRange
	progress, stopProgress := startProgress(std, "verify", im.Size(), quiet)
	err := im.Verify(ctx, &dmg.VerifyOptions{Progress: progress, Result: func(r dmg.VerifyResult) {
		if found.add(r); lines != nil && lines.err != nil {
			stop() // nobody gets the results
		}
	}})
	stopProgress()
	if !isOfImage(err) {
		return nil, err
	}
	return found, nil
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-dmg/dmg"
)

// extractCmd is dmg extract.
type extractCmd struct {
	imageArg  `embed:""`
	Out       string `arg:"" help:"The file to write, - for standard output."`
	Partition string `short:"p" placeholder:"NAME" help:"Write this partition only: a number, name or type from dmg info, or a part of a name."`
	Force     bool   `short:"f" help:"Overwrite OUT if it exists."`
	KeepGoing bool   `help:"Write all that can be decoded, and zeros for what is lost, list both, and exit with status 1 in the end."`
	JSON      bool   `name:"json" help:"List what is damaged as JSON, an object a line, on standard output."`
	Quiet     bool   `short:"q" help:"Show no progress."`
	openFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (extractCmd) Help() string {
	return `Writes the disk as a raw image. The file has a name that ends in .part until it is complete, and is removed if
that fails or is interrupted, or if a checksum shows that something in it is wrong. Where the disk has holes, so has the
file, if its file system can do so.

With --keep-going the file is kept, and lines on standard error say which sectors of the disk are damaged:

    lost sectors      can't be decoded, and are written as zeros
    doubtful sectors  are written as they are decoded, but no checksum
                      confirms them: any of them may be wrong

All other sectors are as they were stored. Up to 1,000 lines of each kind are printed.

With --json, the list is on standard output instead, and not shortened: an object a line for each range, with "kind"
("lost" or "doubtful"), "offset" and "length" in bytes of the disk, and "error". The ranges come as they are found. The
last object, of kind "total", has what was written ("length"), and how much of it is "lost" and "doubtful", in bytes. It
is missing if the command fails.

Example:

    dmg extract Installer.dmg disk.img
    dmg extract --partition Apple_HFS Installer.dmg hfs.img
    dmg extract Installer.dmg - | sha256sum
    dmg extract --keep-going damaged.dmg disk.img
    dmg extract --keep-going --json damaged.dmg disk.img > damage.json`
}

// Run implements the command.
func (c *extractCmd) Run(ctx context.Context, std *stdio) error {
	if c.Out == "-" {
		return c.toStdout(ctx, std)
	}
	// What is wrong with the output's name is told before a password is asked for.
	out, err := newOutput(c.Out, c.Image, c.Force)
	if err != nil {
		return err
	}
	im, r, err := c.openRange(std)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	ctx, stop := std.interruptible(ctx)
	defer stop()
	defer out.discard() // unless it is committed
	if err := out.create(r.length); err != nil {
		return err
	}
	o := dmg.ExtractOptions{Ordered: out.place == stream, Sparse: out.place == regular}
	var w io.WriterAt = out.f.File // by which Extract sees that it is a file
	if o.Ordered {
		w = sequential{out.f}
	}
	progress, stopProgress := startProgress(std, "extract", r.length, c.Quiet)
	o.Progress = progress
	found, err := c.write(ctx, std, im, r, w, o)
	stopProgress()
	if err != nil {
		return c.explain(err, out.place)
	}
	if err := out.commit(); err != nil {
		return err
	}
	return found.report(std, c.Image, r)
}

// toStdout shows no progress: the output may be the same terminal, by way of a
// pager. A signal ends the program at once, since nothing is left behind.
func (c *extractCmd) toStdout(ctx context.Context, std *stdio) error {
	if c.JSON {
		return refusal("with --json, standard output gets the list of damage: give a file for the disk")
	}
	if isTerminal(std.out) && !c.Force {
		return refusal("standard output is a terminal: redirect it, or insist with -f")
	}
	im, r, err := c.openRange(std)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	found, err := c.write(ctx, std, im, r, sequential{std.out}, dmg.ExtractOptions{Ordered: true})
	if err != nil {
		return c.explain(err, stream)
	}
	return found.report(std, c.Image, r)
}

// openRange opens the image and finds what is to be extracted of it.
func (c *extractCmd) openRange(std *stdio) (*dmg.Image, diskRange, error) {
	im, err := c.open(std, c.Image)
	if err != nil {
		return nil, diskRange{}, err
	}
	r, err := partitionRange(im, c.Partition)
	if err != nil {
		im.Close()
		return nil, diskRange{}, fmt.Errorf("%s: %w", c.Image, err)
	}
	return im, r, nil
}

// write writes the range to w, in the way that o says. It returns what is damaged, if
// that is to be passed over.
func (c *extractCmd) write(ctx context.Context, std *stdio, im *dmg.Image, r diskRange, w io.WriterAt, o dmg.ExtractOptions) (*extractDamage, error) {
	found := new(extractDamage)
	if c.JSON {
		found.json = &jsonLines{w: std.out}
	}
	if r.length == 0 { // to Extract, that is all of the disk
		return found, nil
	}
	o.Offset, o.Length = r.off, r.length
	if c.KeepGoing {
		o.Damaged = found.add
	}
	return found, im.Extract(ctx, w, &o)
}

// sequential makes a WriterAt of a Writer, for callers that write in order.
type sequential struct{ io.Writer }

// WriteAt ignores the offset, which is where the last call ended.
func (w sequential) WriteAt(p []byte, _ int64) (int, error) { return w.Write(p) }

// explain says what can be done about an error of Extract. It leaves out how far Extract
// got: there is no file any more.
func (c *extractCmd) explain(err error, to place) error {
	var chunk *dmg.ChunkError
	var sum *dmg.ChecksumError
	switch {
	case errors.As(err, &chunk) && isDamage(err) && !c.KeepGoing:
		return fmt.Errorf("%s: %w; --keep-going extracts the rest", c.Image, chunk)
	case errors.As(err, &chunk):
		return fmt.Errorf("%s: %w", c.Image, chunk)
	case errors.As(err, &sum) && to == regular:
		return fmt.Errorf("%s: %w; --keep-going keeps the file, and lists what may be wrong", c.Image, sum)
	case errors.As(err, &sum):
		return fmt.Errorf("%s: everything was written, but some of it is wrong: %w; --keep-going lists where", c.Image, sum)
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	if errors.Is(err, dmg.ErrMemoryLimit) {
		return fmt.Errorf("%s: %w", c.Image, err)
	}
	return err
}

// extractDamage collects the ranges that are damaged.
type extractDamage struct {
	lost, doubtful damageList
	json           *jsonLines // nil if the ranges are to be listed as text
}

// add takes a range.
func (f *extractDamage) add(d dmg.Damage) error {
	kind, list := isDoubtful, &f.doubtful
	if d.Lost {
		kind, list = isLost, &f.lost
	}
	list.add(newDamagedRange(d))
	if f.json != nil {
		return f.json.put(rangeJSON{kind.String(), d.Offset, d.Length, oneLine(d.Err)})
	}
	return nil
}

// report lists what is damaged in the range that was extracted. It returns an error if
// anything is.
func (f *extractDamage) report(std *stdio, image string, r diskRange) error {
	lost, doubtful := f.lost.bytes(), f.doubtful.bytes()
	if f.json != nil {
		if err := f.json.put(totalJSON{"total", r.length, lost, doubtful}); err != nil {
			return err
		}
	} else {
		f.lost.print(std.err, isLost)
		f.doubtful.print(std.err, isDoubtful)
	}
	if lost+doubtful == 0 {
		return nil
	}
	var all []string
	if lost > 0 {
		all = append(all, plural(lost, "byte")+" in "+plural(f.lost.places(), "place")+" can't be read and were written as zeros")
	}
	if doubtful > 0 {
		all = append(all, plural(doubtful, "byte")+" in "+plural(f.doubtful.places(), "place")+" were written but may be wrong")
	}
	return fmt.Errorf("%s: %s", image, strings.Join(all, "; "))
}

// print lists the ranges, as far as there may be lines.
func (l *damageList) print(w io.Writer, kind lossKind) {
	ranges, more := l.listed()
	for i := range ranges {
		r := &ranges[i]
		first := ""
		if r.chunks > 1 {
			first = "the first: "
		}
		fmt.Fprintf(w, "dmg: %s %s (%s): %s%s\n", kind, r.sectors(), plural(r.length, "byte"), first, oneLine(r.err))
	}
	if more > 0 {
		fmt.Fprintf(w, "dmg: and %s more\n", plural(more, kind.String()+" range"))
	}
}

// totalJSON is the last object of a list of damage. The numbers are bytes.
type totalJSON struct {
	Kind     string `json:"kind"`   // total
	Length   int64  `json:"length"` // that was written
	Lost     int64  `json:"lost"`
	Doubtful int64  `json:"doubtful"`
}

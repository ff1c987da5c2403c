package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/go-dmg/dmg"
)

// extractCmd is dmg extract.
type extractCmd struct {
	imageArg  `embed:""`
	Out       string `arg:"" help:"The file to write, - for standard output."`
	Partition string `short:"p" placeholder:"NAME" help:"Write this partition only: a number or name from dmg info, or a part of a name."`
	Force     bool   `short:"f" help:"Overwrite OUT if it exists."`
	KeepGoing bool   `help:"Write zeros for what is damaged, list it, and exit with status 1 in the end."`
	Quiet     bool   `short:"q" help:"Show no progress."`
	openFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (extractCmd) Help() string {
	return `Writes the disk as a raw image. The file has a name that ends in .part until it is complete, and is removed if
that fails or is interrupted. Where the disk has holes, so has the file, if its file system can do so.

Example:

    dmg extract Installer.dmg disk.img
    dmg extract --partition Apple_HFS Installer.dmg hfs.img
    dmg extract Installer.dmg - | sha256sum
    dmg extract --keep-going damaged.dmg disk.img`
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
	ctx, stop := interruptible(ctx)
	defer stop()
	defer out.discard() // unless it is committed
	if err := out.create(r.length); err != nil {
		return err
	}
	progress, stopProgress := startProgress(std, "extract", r.length, c.Quiet)
	lost, err := c.write(ctx, im, r, out, progress)
	stopProgress()
	if err != nil {
		return c.explain(err)
	}
	if err := out.commit(); err != nil {
		return err
	}
	return c.reportLost(std, lost)
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

// write copies the range to a file in the way that suits the file.
func (c *extractCmd) write(ctx context.Context, im *dmg.Image, r diskRange, out *output, progress func(done, total int64)) ([]loss, error) {
	if out.place == stream {
		return c.stream(ctx, im, r, out.f, progress)
	}
	cp := copier{
		im:        im,
		from:      r,
		to:        out.f,
		sparse:    out.place == regular,
		keepGoing: c.KeepGoing,
		progress:  progress,
	}
	if r == (diskRange{0, im.Size()}) {
		return c.whole(ctx, &cp)
	}
	return cp.run(ctx, im.Chunks())
}

// whole copies the whole disk, on all cores even where it is one chunk. What is
// lost of damaged chunks isn't known then: they are copied again.
func (c *extractCmd) whole(ctx context.Context, cp *copier) ([]loss, error) {
	damaged := make(map[dmg.Chunk]bool)
	o := dmg.ExtractOptions{Sparse: cp.sparse, Progress: cp.progress}
	if c.KeepGoing {
		o.Damaged = func(err *dmg.ChunkError) error {
			if !isDamage(err) {
				return err
			}
			damaged[err.Chunk] = true
			return nil
		}
	}
	if err := cp.im.Extract(ctx, cp.to, &o); err != nil {
		return nil, err
	}
	cp.progress = func(int64, int64) {} // all is done but for what is damaged
	return cp.run(ctx, maps.Keys(damaged))
}

// stream copies the range to what can be written in order only.
func (c *extractCmd) stream(ctx context.Context, im *dmg.Image, r diskRange, w io.Writer, progress func(done, total int64)) ([]loss, error) {
	// Decoding runs ahead in WriteTo, which has no way around damage and no range.
	if !c.KeepGoing && r == (diskRange{0, im.Size()}) {
		_, err := im.WriteTo(&streamWriter{ctx: ctx, w: w, progress: progress, total: r.length})
		return nil, err
	}
	cp := copier{im: im, from: r, to: sequential{w}, inOrder: true, keepGoing: c.KeepGoing, progress: progress}
	return cp.run(ctx, im.Chunks())
}

// A streamWriter gives WriteTo what it lacks: a way to end, and progress.
type streamWriter struct {
	ctx         context.Context
	w           io.Writer
	progress    func(done, total int64)
	done, total int64
}

// Write implements io.Writer.
func (s *streamWriter) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	s.done += int64(n)
	s.progress(s.done, s.total)
	return n, err
}

// toStdout shows no progress: the output may be the same terminal, by way of a
// pager. A signal ends the program at once, since nothing is left behind.
func (c *extractCmd) toStdout(ctx context.Context, std *stdio) error {
	if isTerminal(std.out) && !c.Force {
		return errors.New("standard output is a terminal: redirect it, or insist with -f")
	}
	im, r, err := c.openRange(std)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	lost, err := c.stream(ctx, im, r, std.out, func(int64, int64) {})
	if err != nil {
		return c.explain(err)
	}
	return c.reportLost(std, lost)
}

// explain says what can be done about a chunk that can't be read.
func (c *extractCmd) explain(err error) error {
	var chunk *dmg.ChunkError
	switch {
	case !c.KeepGoing && isDamage(err):
		return fmt.Errorf("%s: %w; --keep-going extracts the rest", c.Image, err)
	case errors.As(err, &chunk), errors.Is(err, dmg.ErrMemoryLimit):
		return fmt.Errorf("%s: %w", c.Image, err)
	}
	return err
}

// reportLost lists what is lost, and says what was written for it. It returns an
// error if there is any.
func (c *extractCmd) reportLost(std *stdio, lost []loss) error {
	if len(lost) == 0 {
		return nil
	}
	var bytes, early int64
	for _, l := range lost {
		bytes += l.length
		early += l.early
		fmt.Fprintf(std.err, "dmg: lost sectors %d-%d: %s\n", l.off/sectorSize, (l.end()-1)/sectorSize, oneLine(l.err))
	}
	written := " and were written as zeros"
	if early > 0 {
		written = fmt.Sprintf(": %d were written before the damage was met and may be wrong, %d as zeros", early, bytes-early)
	}
	return fmt.Errorf("%s: %d bytes in %s can't be read%s", c.Image, bytes, plural(len(lost), "place"), written)
}

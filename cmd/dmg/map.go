package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-dmg/dmg"
)

// mapCmd is dmg map.
type mapCmd struct {
	imageArg  `embed:""`
	Out       string `short:"o" placeholder:"FILE" help:"The file to write, - for standard output, as if not given."`
	Verify    bool   `help:"Decode the whole disk, as dmg verify does, and mark what is damaged."`
	Force     bool   `short:"f" help:"Overwrite the file if it exists."`
	Quiet     bool   `short:"q" help:"Show no progress."`
	openFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (mapCmd) Help() string {
	return `Draws an SVG picture, for browsers and documents: the disk in rows of cells, the color of each saying how it is
stored, and how much smaller, and beside it where the partitions begin. What is in no block table stays white.

With --verify, damage is marked and listed below, and the exit status is 1 if there is any. Without, only the image's
structures are read, no data.

Example:

    dmg map Installer.dmg -o Installer.svg
    dmg map --verify damaged.dmg > damaged.svg`
}

// Run implements the command.
func (c *mapCmd) Run(ctx context.Context, std *stdio) error {
	var out *output // nil for standard output
	if c.Out != "" && c.Out != "-" {
		var err error
		if out, err = newOutput(c.Out, c.Image, c.Force); err != nil {
			return err
		}
		defer out.discard() // unless it is committed
	}
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	if out != nil { // an interrupt must not leave half of it behind
		var stop context.CancelFunc
		ctx, stop = std.interruptible(ctx)
		defer stop()
	}
	m := newDiskMap(im, c.Image)
	if c.Verify {
		if err := c.verify(ctx, std, im, m); err != nil {
			return fmt.Errorf("%s: %w", c.Image, err)
		}
	}
	if err := writeMap(std, out, m.svg()); err != nil {
		return err
	}
	return m.found.err(c.Image)
}

// verify finds what is wrong, and marks it on the map.
func (c *mapCmd) verify(ctx context.Context, std *stdio, im *dmg.Image, m *diskMap) error {
	ctx, stop := std.interruptible(ctx)
	defer stop()
	m.found = newFindings(im)
	m.found.eachRange = func(r diskRange) { mark(m.cells, m.grid.cellSize, r) }
	return verify(ctx, std, im, c.Quiet, m.found)
}

// writeMap writes the picture, all at once.
func writeMap(std *stdio, out *output, picture []byte) error {
	if out == nil {
		_, err := std.out.Write(picture)
		return err
	}
	if err := out.create(0); err != nil {
		return err
	}
	if _, err := out.f.Write(picture); err != nil {
		return err
	}
	return out.commit()
}

// A diskMap is all that a picture of a disk shows.
type diskMap struct {
	name       string
	format     string
	grid       grid
	cells      []cell
	totals     [numLooks]methodInfo
	total      methodInfo
	methods    []string // that can't be read
	partitions []mapPartition
	omitted    int       // partitions that there is no room for
	found      *findings // nil if nobody has looked
}

// A mapPartition is a partition, as far as it is on the disk.
type mapPartition struct {
	index int
	name  string
	diskRange
}

// newDiskMap goes through the image's chunks and reads nothing.
func newDiskMap(im *dmg.Image, name string) *diskMap {
	m := &diskMap{
		name:   filepath.Base(name),
		format: im.Format() + " (" + strings.Join(im.Layers(), ", ") + ")",
		grid:   newGrid(im.Size()),
	}
	m.cells = layOut(im.Chunks(), im.Size(), m.grid.cellSize)
	for c := range im.Chunks() {
		l := lookOf(c)
		m.totals[l].add(c)
		m.total.add(c)
		// An image can make up any number of methods.
		if name := c.Method.String(); l == unsupported && len(m.methods) <= maxMethods && !slices.Contains(m.methods, name) {
			m.methods = append(m.methods, name)
		}
	}
	m.partitions, m.omitted = mapPartitions(im.Partitions(), im.Size())
	return m
}

// maxMethods is how many methods are named that can't be read, and maxPartitions
// how many partitions there is room for.
const (
	maxMethods    = 3
	maxPartitions = 32
)

// mapPartitions sorts the partitions by their places on a disk of size bytes, and
// leaves out the smallest ones that are too many.
func mapPartitions(all []dmg.Partition, size int64) (shown []mapPartition, omitted int) {
	for i, p := range all {
		off := min(max(p.Offset, 0), size)
		if n := min(p.Length, size-off); n > 0 {
			shown = append(shown, mapPartition{i, p.Name, diskRange{off, n}})
		}
	}
	if omitted = len(shown) - maxPartitions; omitted > 0 {
		slices.SortStableFunc(shown, func(a, b mapPartition) int { return cmp.Compare(b.length, a.length) })
		shown = shown[:maxPartitions]
	}
	slices.SortStableFunc(shown, func(a, b mapPartition) int { return cmp.Compare(a.off, b.off) })
	return shown, max(omitted, 0)
}

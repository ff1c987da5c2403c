package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-dmg/dmg"
)

// infoCmd is dmg info. It reads only the image's structures, no data.
type infoCmd struct {
	imageArg  `embed:""`
	JSON      bool `name:"json" help:"Print JSON, whose fields stay as they are in later versions."`
	openFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (infoCmd) Help() string {
	return `Prints the image's format as hdiutil names it, what is wrapped around the disk, the disk's size, its
partitions, how its bytes are stored: chunks and bytes by method, and how many times larger the disk is than what is
stored of it, and where: a map of the disk in one line, of which dmg map draws a large one.

Example:

    dmg info Installer.dmg
    dmg info --json Installer.dmg | jq '.partitions[] | .name'`
}

// imageInfo is what info says; its JSON is an interface that scripts rely on.
type imageInfo struct {
	Image      string          `json:"image"`
	Format     string          `json:"format"`
	Layers     []string        `json:"layers"` // what is around the disk, outermost first
	Encrypted  bool            `json:"encrypted"`
	Size       int64           `json:"size"` // of the disk, bytes
	Partitions []partitionInfo `json:"partitions"`
	Methods    []methodInfo    `json:"methods"`
	Total      methodInfo      `json:"total"` // its Method is "total"
}

// partitionInfo is a partition; Offset and Length are in bytes of the disk.
type partitionInfo struct {
	Index  int    `json:"index"`
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

// methodInfo sums up the chunks that are stored in one way.
type methodInfo struct {
	Method string   `json:"method"`
	Chunks int64    `json:"chunks"`
	Bytes  int64    `json:"bytes"`  // of the disk
	Stored int64    `json:"stored"` // in the image
	Ratio  *float64 `json:"ratio"`  // Bytes by Stored; null if nothing is stored
}

func (m *methodInfo) add(c dmg.Chunk) {
	m.Chunks++
	m.Bytes += c.Length
	m.Stored += c.DataLength
}

// setRatio leaves the ratio null where nothing is stored: JSON has no infinity.
func (m *methodInfo) setRatio() {
	if m.Stored > 0 {
		r := float64(m.Bytes) / float64(m.Stored)
		m.Ratio = &r
	}
}

// Run implements the command.
func (c *infoCmd) Run(std *stdio) error {
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	info := describe(im)
	info.Image = c.Image
	var b bytes.Buffer
	if c.JSON {
		err = writeJSON(&b, info)
	} else {
		if err = info.print(&b); err == nil {
			err = printLine(&b, im, lineStyleOf(std.out))
		}
	}
	if err != nil {
		return err
	}
	// All at once, so that an error leaves no half of a table.
	_, err = std.out.Write(b.Bytes())
	return err
}

// describe sums up an image. A disk may have chunks of methods that can't be
// read, and they are counted like the others.
func describe(im *dmg.Image) *imageInfo {
	info := &imageInfo{
		Format:     im.Format(),
		Layers:     append([]string{}, im.Layers()...), // never null
		Encrypted:  im.Encrypted(),
		Size:       im.Size(),
		Partitions: []partitionInfo{},
		Methods:    []methodInfo{},
		Total:      methodInfo{Method: "total"},
	}
	for i, p := range im.Partitions() {
		info.Partitions = append(info.Partitions, partitionInfo{i, p.Name, p.Offset, p.Length})
	}
	byMethod := make(map[dmg.Method]*methodInfo)
	var methods []dmg.Method
	for c := range im.Chunks() {
		m := byMethod[c.Method]
		if m == nil {
			m = &methodInfo{Method: c.Method.String()}
			byMethod[c.Method] = m
			methods = append(methods, c.Method)
		}
		m.add(c)
		info.Total.add(c)
	}
	slices.Sort(methods) // by their numbers, which puts holes first
	for _, method := range methods {
		m := byMethod[method]
		m.setRatio()
		info.Methods = append(info.Methods, *m)
	}
	info.Total.setRatio()
	return info
}

// print writes the text form up to the map: first the image, then two tables. Names come
// last in their lines, since their width on a terminal is anyone's guess.
func (info *imageInfo) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s (%s)\n", printable(info.Image), info.Format, strings.Join(info.Layers, ", "))
	fmt.Fprintf(w, "disk: %d bytes, %s, %d sectors\n", info.Size, humanSize(info.Size), info.Size/sectorSize)
	if len(info.Partitions) > 0 {
		fmt.Fprintln(w)
		if err := info.printPartitions(w); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	if err := info.printMethods(w); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// printPartitions writes a line a partition, numbered as --partition counts.
func (info *imageInfo) printPartitions(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "partition\toffset\tlength\tsize\t  name")
	for _, p := range info.Partitions {
		fmt.Fprintf(t, "%d\t%d\t%d\t%s\t  %s\n", p.Index, p.Offset, p.Length, humanSize(p.Length), partitionName(p.Name))
	}
	return t.Flush()
}

// partitionName is a partition's name as tables show it.
func partitionName(name string) string {
	if name == "" {
		return "(unnamed)"
	}
	return printable(name)
}

// printMethods writes a line a method, and their total.
func (info *imageInfo) printMethods(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "method\tchunks\tbytes\tstored\tratio\t")
	for _, m := range append(info.Methods, info.Total) {
		ratio := "-"
		if m.Ratio != nil {
			ratio = fmt.Sprintf("%.2f", *m.Ratio)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t\n", m.Method, m.Chunks, m.Bytes, m.Stored, ratio)
	}
	return t.Flush()
}

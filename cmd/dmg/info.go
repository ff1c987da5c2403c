package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/hfsplus"
)

// infoCmd is dmg info. It reads only the image's structures, and what says which file
// systems are on the disk.
type infoCmd struct {
	imagesArg    `embed:""`
	JSON         bool     `name:"json" help:"Print JSON, an object a line for each image, whose fields stay as they are in later versions."`
	Hash         []string `placeholder:"NAME" enum:"md5,sha1,sha256,sha512" help:"Decode the disk, and print its hash and that of each partition: md5, sha1, sha256, sha512, or several with commas."`
	carriedFlags `embed:""`
	openFlags    `embed:""`
}

// Help implements kong.HelpProvider.
func (infoCmd) Help() string {
	return `Prints what can be said of an image by its structures, and by a look at the start of each partition:

    its format, as hdiutil names it, and what is wrapped around the disk
    the size of the disk
    what is wrong with the image, in lines that begin with "damaged:"
    the license agreement, if it has one: its languages
    the code signature, if it has one: the name, the team, the certificates,
      none of which is checked, and the hash that stands for the image
    the partitions, with their places, types and names
    the volumes: which file systems are on the disk, whatever a partition's
      type says, where, how much of each is in use, and how many files it
      has; "-" stands for what isn't known
    the snapshots of APFS volumes, by the time in UTC at which they were made
    each method of storing bytes: how many chunks use it, how many bytes
      of the disk they hold, how many bytes are stored for these, and the
      ratio of the two
    a map of the disk in one line, of which dmg map draws a large one

An image fails if it can't be opened. Damage that lets it open is none of the exit status: dmg verify checks an image.
With --signature it fails too if it has no signature, or one that does not match.

` + severalHelp + `

With --json, a line is an object for an image. Its fields; sizes and offsets are in bytes:

    image        as it was named
    format       as hdiutil names it, such as "UDZO"
    layers       what is around the disk, outermost first, such as "encrypted"
    encrypted    true or false
    size         of the disk
    hashes       of the disk, by name, with --hash
    defects      what is wrong with the image, in words
    partitions   each with index, name, type, offset, length; with --hash,
                 the first 128 have hashes, too
    volumes      each with partition (null if it is in none), name, type,
                 offset, length, block_size, used, files (a count), role,
                 encrypted, dirty, snapshots (each with name and created, a
                 time in UTC), and error if it is damaged; what isn't known is
                 null
    methods      each with method, chunks (a count), bytes (of the disk),
                 stored (in the image), ratio
    total        the same, of all methods together
    trailer      of a UDIF image: flags, segment, segments, segment_id, variant,
                 as stored; null for another
    checksums    those that the image stores: part, partition (-1 for what is
                 none), algorithm, stored
    licenses     the license agreement in each language: language, region,
                 default, encoding, rtf, and text with --license
    signature    the code signature, or null: identifier, team, flags, hash,
                 cdhash, certificates (names), signed (a time), ticket
                 (whether a notarization ticket is attached), offset, length,
                 matches with --signature, and error if it can't be read or
                 does not match

Of an image that can't be read it has image, error (in words) and status (the exit status for it) only.

Example:

    dmg info Installer.dmg
    dmg info --json *.dmg | jq -r 'select(.volumes) | .image + " " + .volumes[].type'
    dmg info --hash sha256 evidence.dmg
    dmg info --license Installer.dmg
    dmg info --json disk.dmg | jq -r '.volumes[]?.snapshots[]? | .created + " " + .name'`
}

// imageInfo is what info says; its JSON is an interface that scripts rely on.
type imageInfo struct {
	Image      string            `json:"image"`
	Format     string            `json:"format"`
	Layers     []string          `json:"layers"` // what is around the disk, outermost first
	Encrypted  bool              `json:"encrypted"`
	Size       int64             `json:"size"`             // of the disk, bytes
	Hashes     map[string]string `json:"hashes,omitempty"` // of the disk, hexadecimal, by name
	Defects    []string          `json:"defects"`          // what is wrong with the image, as far as opening it tells
	Partitions []partitionInfo   `json:"partitions"`
	Volumes    []volumeInfo      `json:"volumes"`
	Methods    []methodInfo      `json:"methods"`
	Total      methodInfo        `json:"total"` // its Method is "total"
	carried
}

// partitionInfo is a partition; Offset and Length are in bytes of the disk.
type partitionInfo struct {
	Index  int               `json:"index"`
	Name   string            `json:"name"`
	Type   string            `json:"type"` // empty if it isn't known
	Offset int64             `json:"offset"`
	Length int64             `json:"length"`
	Hashes map[string]string `json:"hashes,omitempty"`
}

// volumeInfo is a file system; Offset, Length and Used are in bytes.
type volumeInfo struct {
	Partition *int   `json:"partition"` // null if it is in none
	Name      string `json:"name"`
	Type      string `json:"type"`
	Offset    int64  `json:"offset"` // on the disk
	Length    int64  `json:"length"`
	BlockSize *int64 `json:"block_size"` // null if it isn't known, as Used and Files
	Used      *int64 `json:"used"`
	Files     *int64 `json:"files"`
	Role      string `json:"role"` // of an APFS volume
	Encrypted bool   `json:"encrypted"`
	Dirty     bool   `json:"dirty"`           // its journal has changes that were not made yet
	Error     string `json:"error,omitempty"` // why its files can't be read, if it is damaged

	Snapshots []snapshotInfo `json:"snapshots"` // the oldest first
}

// snapshotInfo is a snapshot of an APFS volume.
type snapshotInfo struct {
	Name    string     `json:"name"`
	Created *time.Time `json:"created"` // null if the volume has no time
}

// newVolumeInfo leaves null what isn't known. The error is that of reading the image.
func newVolumeInfo(v *dmg.Volume) (volumeInfo, error) {
	info := volumeInfo{Name: v.Name, Type: v.Type, Offset: v.Offset, Length: v.Length, Role: v.Role, Encrypted: v.Encrypted, Snapshots: []snapshotInfo{}}
	if v.Partition >= 0 {
		info.Partition = &v.Partition
	}
	if v.BlockSize > 0 {
		info.BlockSize = &v.BlockSize
	}
	if v.Used >= 0 {
		info.Used = &v.Used
	}
	if v.Files >= 0 {
		info.Files = &v.Files
	}
	snapshots, err := v.Snapshots()
	for _, s := range snapshots {
		info.Snapshots = append(info.Snapshots, snapshotInfo{s.Name, timeJSON(s.Created)})
	}
	if err == nil {
		var files fs.FS
		files, err = v.FS()
		if journaled, ok := files.(interface{ Dirty() (bool, error) }); ok {
			info.Dirty, err = journaled.Dirty()
		}
	}
	damaged := errors.Is(err, dmg.ErrFormat) || errors.Is(err, dmg.ErrChecksum) || errors.Is(err, hfsplus.ErrFormat)
	switch {
	case damaged && !errors.Is(err, dmg.ErrIndex):
		info.Error = oneLine(err)
	case errors.Is(err, dmg.ErrUnsupported), errors.Is(err, dmg.ErrPassword): // Type and Encrypted say so
	case err != nil:
		return info, err
	}
	return info, nil
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
func (c *infoCmd) Run(ctx context.Context, std *stdio) error {
	c.listsDefects = true
	if err := c.checkSeveral(c.Images); err != nil {
		return err
	}
	ctx, stop := std.interruptible(ctx)
	defer stop()
	first := true
	return forEach(std, c.Images, func(image string) error {
		var b bytes.Buffer // all at once, so that an error leaves no half of a table
		err := c.image(ctx, std, image, &b)
		switch {
		case err != nil && !isA[signatureError](err):
			b.Reset()
			if c.JSON && !isA[abortError](err) {
				if err := writeJSON(&b, failedJSON{image, oneLine(err), statusOf(err)}); err != nil {
					return err
				}
			}
		case first:
			first = false
		case !c.JSON:
			if _, err := io.WriteString(std.out, "\n"); err != nil {
				return abort(err)
			}
		}
		if _, err := std.out.Write(b.Bytes()); err != nil {
			return abort(err)
		}
		return err
	})
}

// failedJSON is an image that can't be read as scripts get it.
type failedJSON struct {
	Image  string `json:"image"`
	Error  string `json:"error"`
	Status int    `json:"status"` // the exit status for it
}

// image writes what is to be said of an image.
func (c *infoCmd) image(ctx context.Context, std *stdio, image string, b *bytes.Buffer) error {
	im, err := c.open(std, image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	volumes, err := im.Volumes()
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	info, err := describe(im, volumes)
	if err == nil && len(c.Hash) > 0 {
		err = info.addHashes(std, im, c.Hash)
	}
	if err == nil {
		info.carried, err = c.describeCarried(ctx, im)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	info.Image = image
	switch {
	case c.JSON:
		err = writeJSON(b, info)
	case c.License:
		return info.printLicenses(b, image)
	default:
		if err = info.print(b); err == nil {
			err = printLine(b, im, lineStyleOf(std.out))
		}
	}
	return cmp.Or(err, c.signatureErr(image, info.Signature))
}

// describe sums up an image.
func describe(im *dmg.Image, volumes []dmg.Volume) (*imageInfo, error) {
	info := &imageInfo{
		Format:     im.Format(),
		Layers:     append([]string{}, im.Layers()...), // never null
		Encrypted:  im.Encrypted(),
		Size:       im.Size(),
		Defects:    []string{},
		Partitions: []partitionInfo{},
		Volumes:    []volumeInfo{},
	}
	for _, err := range im.Defects() {
		info.Defects = append(info.Defects, oneLine(err))
	}
	for i, p := range im.Partitions() {
		info.Partitions = append(info.Partitions, partitionInfo{Index: i, Name: p.Name, Type: p.Type, Offset: p.Offset, Length: p.Length})
	}
	for i := range volumes {
		v, err := newVolumeInfo(&volumes[i])
		if err != nil {
			return nil, err
		}
		info.Volumes = append(info.Volumes, v)
	}
	info.Methods, info.Total = sumMethods(im.Chunks())
	return info, nil
}

// maxUnnamed is how many methods without a name are counted one by one. An image can
// have a different one in every chunk.
const maxUnnamed = 16

// sumMethods sums up the chunks by method, those that can't be read like the others.
// Methods without a name, beyond the first few, are summed up together.
func sumMethods(chunks iter.Seq[dmg.Chunk]) (methods []methodInfo, total methodInfo) {
	total = methodInfo{Method: "total"}
	others := methodInfo{Method: "others"}
	byMethod := make(map[dmg.Method]*methodInfo)
	unnamed := 0
	for c := range chunks {
		total.add(c)
		m := byMethod[c.Method]
		if m == nil {
			name := c.Method.String()
			if strings.HasPrefix(name, "0x") {
				if unnamed == maxUnnamed {
					others.add(c)
					continue
				}
				unnamed++
			}
			m = &methodInfo{Method: name}
			byMethod[c.Method] = m
		}
		m.add(c)
	}
	methods = []methodInfo{}                                    // never null
	for _, method := range slices.Sorted(maps.Keys(byMethod)) { // by their numbers, which puts holes first
		methods = append(methods, *byMethod[method])
	}
	if others.Chunks > 0 {
		methods = append(methods, others)
	}
	for i := range methods {
		methods[i].setRatio()
	}
	total.setRatio()
	return methods, total
}

// print writes the text form up to the map: first the image, then two tables. Names come
// last in their lines, since their width on a terminal is anyone's guess.
func (info *imageInfo) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s (%s)\n", printable(info.Image), info.Format, strings.Join(info.Layers, ", "))
	fmt.Fprintf(w, "disk: %d bytes, %s, %d sectors\n", info.Size, humanSize(info.Size), info.Size/sectorSize)
	for _, defect := range info.Defects {
		fmt.Fprintf(w, "damaged: %s\n", defect)
	}
	info.printHashes(w)
	info.carried.print(w)
	if len(info.Partitions) > 0 {
		fmt.Fprintln(w)
		if err := info.printPartitions(w); err != nil {
			return err
		}
	}
	if len(info.Volumes) > 0 {
		fmt.Fprintln(w)
		if err := info.printVolumes(w); err != nil {
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

// printHashes writes a line a hash.
func (info *imageInfo) printHashes(w io.Writer) {
	print := func(of string, hashes map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(hashes)) {
			fmt.Fprintf(w, "%s of %s: %s\n", name, of, hashes[name])
		}
	}
	print("disk", info.Hashes)
	for _, p := range info.Partitions {
		print(fmt.Sprintf("partition %d", p.Index), p.Hashes)
	}
}

// printPartitions writes a line a partition, numbered as --partition counts.
func (info *imageInfo) printPartitions(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "partition\toffset\tlength\tsize\ttype\t  name")
	for _, p := range info.Partitions {
		fmt.Fprintf(t, "%d\t%d\t%d\t%s\t%s\t  %s\n",
			p.Index, p.Offset, p.Length, humanSize(p.Length), printable(cmp.Or(p.Type, "-")), partitionName(p.Name))
	}
	return t.Flush()
}

// printVolumes writes a line a volume.
func (info *imageInfo) printVolumes(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "volume in\toffset\tlength\tused\tfiles\ttype\t  name")
	for _, v := range info.Volumes {
		in, used, files, kind := "-", "-", "-", v.Type
		if v.Partition != nil {
			in = strconv.Itoa(*v.Partition)
		}
		if v.Used != nil {
			used = humanSize(*v.Used)
		}
		if v.Files != nil {
			files = strconv.FormatInt(*v.Files, 10)
		}
		if v.Role != "" {
			kind += ", " + v.Role
		}
		if v.Encrypted {
			kind += ", encrypted"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t  %s\n", in, v.Offset, v.Length, used, files, printable(kind), partitionName(v.Name))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, v := range info.Volumes {
		if v.Error != "" {
			fmt.Fprintf(w, "damaged: %s\n", v.Error)
		}
		if v.Dirty {
			fmt.Fprintf(w, "not unmounted: %s has changes in its journal, without which it is read\n", partitionName(v.Name))
		}
		v.printSnapshots(w)
	}
	return nil
}

// printSnapshots writes a line a snapshot, of the newest ones.
func (v *volumeInfo) printSnapshots(w io.Writer) {
	const most = 100
	list := v.Snapshots
	if n := len(list) - most; n > 0 {
		fmt.Fprintf(w, "snapshots of %s: %d older ones, which --json lists\n", partitionName(v.Name), n)
		list = list[n:]
	}
	for _, s := range list {
		made := "at no known time"
		if s.Created != nil {
			made = s.Created.Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(w, "snapshot of %s, %s: %s\n", partitionName(v.Name), made, printable(s.Name))
	}
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

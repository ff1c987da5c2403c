package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"
)

// lsCmd is dmg ls.
type lsCmd struct {
	imageArg    `embed:""`
	Path        string `arg:"" optional:"" help:"The folder or file to list; the volume's root if not given."`
	Long        bool   `short:"l" help:"Print mode, links, owner, group, size and time as well."`
	Recursive   bool   `short:"R" help:"List folders in folders, all with their paths."`
	JSON        bool   `name:"json" help:"Print JSON, an object a line, whose fields stay as they are in later versions."`
	volumeFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (lsCmd) Help() string {
	return `Lists what is in a folder, a line each, sorted by name; a folder of more than 20,000 in the volume's order. Folders end with a slash. With -R each line is a path that
dmg cat and dmg cp take. It reads no more of the image than the folders.

` + pathHelp + `

With -l, a line has the mode, @ if there are extended attributes, the number of links, owner and group by number, the size
in bytes, the time of the last change of the content in UTC, and the name; of a symbolic link also where it leads to.

With --json, an object has "path", "type" ("file", "dir", "symlink", "fifo", "socket" or "device"), "size", "mode" in
octal, "modified", and of what the volume knows "target", "id", "links", "uid", "gid", "flags" (as of chflags),
"created", "changed", "accessed", "resource_fork" (its size), "compressed" and "xattrs" (their names).

A folder that can't be read is told on standard error, and the rest is listed; the exit status is not 0 then.

Example:

    dmg ls Installer.dmg
    dmg ls -l Installer.dmg Foo.app/Contents
    dmg ls --snapshot 2024-05-06 disk.dmg
    dmg ls -R --json Installer.dmg | jq -r 'select(.size > 1000000) | .path'`
}

// Run implements the command.
func (c *lsCmd) Run(std *stdio) error {
	im, files, err := c.openVolume(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	return c.list(std, files)
}

// list lists what is at the path.
func (c *lsCmd) list(std *stdio, files fs.FS) error {
	l := &lister{lsCmd: c, std: std, files: files, out: bufio.NewWriter(std.out), missed: missed{what: "listed"}, room: sorted, seen: make(map[uint64]bool)}
	name := cleanPath(c.Path)
	// As ls does, follow a link where there is no room to show it. It may lead to nowhere:
	// in installers, /Applications is that of the system.
	info, err := fs.Lstat(files, name)
	if err == nil && info.Mode().Type() == fs.ModeSymlink && !c.Long && !c.JSON {
		if there, err := fs.Stat(files, name); err == nil {
			info = there
		}
	}
	if err != nil {
		return inVolume(c.Image, err)
	}
	if info.IsDir() {
		err = l.folder(name, 0, false)
	} else {
		err = l.entry(name, name, info)
	}
	return cmp.Or(err, l.out.Flush(), l.missed.err())
}

// A lister lists a volume's files.
type lister struct {
	*lsCmd
	std    *stdio
	files  fs.FS
	out    *bufio.Writer
	missed missed
	room   int             // for entries that are held to be sorted
	seen   map[uint64]bool // folders that have several names, by id
}

const (
	// sorted is how many entries are held at a time, in all folders that one path leads
	// through, to be sorted.
	sorted = 20_000

	// batch is how many entries of a folder are held at a time: it may have millions.
	batch = 256

	// maxDepth bounds how deep folders lie in each other. A path of macOS has 1,024
	// bytes at most, so that no program can use a deeper one.
	maxDepth = 512
)

var errDepth = fmt.Errorf("folders more than %d deep in each other", maxDepth)

// folder lists a folder. It goes on past what can't be read, and returns only errors of
// the output. In the second list of a folder with several names, again is true: see
// copier.folder.
func (l *lister) folder(name string, depth int, again bool) error {
	if depth > maxDepth {
		return l.miss(&fs.PathError{Op: "open", Path: name, Err: errDepth})
	}
	f, err := l.files.Open(name)
	if err != nil {
		return l.miss(err)
	}
	defer f.Close()
	dir, ok := f.(fs.ReadDirFile)
	if !ok {
		return l.miss(&fs.PathError{Op: "readdir", Path: name, Err: errors.ErrUnsupported})
	}
	// A folder of usual size is sorted, of a larger one no more than that is held.
	most := max(batch, l.room)
	for {
		entries, err := dir.ReadDir(most)
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
		l.room -= len(entries)
		if err := l.entries(name, entries, depth, again); err != nil {
			return err
		}
		l.room += len(entries)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return l.miss(err)
		}
		most = batch
	}
}

// entries lists entries of a folder.
func (l *lister) entries(name string, entries []fs.DirEntry, depth int, again bool) error {
	for _, e := range entries {
		full := path.Join(name, e.Name())
		info, err := e.Info()
		if err != nil {
			if err := l.miss(&fs.PathError{Op: "lstat", Path: full, Err: causeOf(err)}); err != nil {
				return err
			}
			continue
		}
		shown := e.Name()
		if l.Recursive {
			shown = full
		}
		if err := l.entry(full, shown, info); err != nil {
			return err
		}
		if !l.Recursive || !e.IsDir() {
			continue
		}
		again := again
		if f := factsOf(info); f.known && f.links > 1 {
			if l.seen[f.id] && again {
				continue
			}
			again, l.seen[f.id] = again || l.seen[f.id], true
		}
		if err := l.folder(full, depth+1, again); err != nil {
			return err
		}
	}
	return nil
}

// miss notes what can't be read, between the lines that have been printed.
func (l *lister) miss(err error) error {
	if err := l.out.Flush(); err != nil {
		return err
	}
	l.missed.add(l.std, inVolume(l.Image, err))
	return nil
}

// entry prints a line.
func (l *lister) entry(full, shown string, info fs.FileInfo) error {
	if l.JSON {
		return l.entryJSON(full, info)
	}
	line := printable(shown)
	if info.IsDir() && shown != "." {
		line += "/"
	}
	if !l.Long {
		_, err := fmt.Fprintln(l.out, line)
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if target, err := fs.ReadLink(l.files, full); err == nil {
			line += " -> " + printable(target)
		} else if err := l.miss(err); err != nil {
			return err
		}
	}
	at := " "
	if names, err := xattrNames(l.files, full); len(names) > 0 {
		at = "@"
	} else if err != nil {
		if err := l.miss(err); err != nil {
			return err
		}
	}
	f := factsOf(info)
	modified := "-"
	if t := info.ModTime(); !t.IsZero() {
		modified = t.UTC().Format("2006-01-02 15:04:05")
	}
	_, err := fmt.Fprintf(l.out, "%s%s %3d %5d %5d %12d %19s %s\n", modeString(info.Mode()), at, f.links, f.uid, f.gid, info.Size(), modified, line)
	return err
}

// modeString returns a mode as ls has it.
func modeString(m fs.FileMode) string {
	b := []byte("-rwxrwxrwx")
	switch m.Type() {
	case fs.ModeDir:
		b[0] = 'd'
	case fs.ModeSymlink:
		b[0] = 'l'
	case fs.ModeNamedPipe:
		b[0] = 'p'
	case fs.ModeSocket:
		b[0] = 's'
	case fs.ModeDevice:
		b[0] = 'b'
	case fs.ModeDevice | fs.ModeCharDevice:
		b[0] = 'c'
	}
	for i := range 9 {
		if m&(1<<(8-i)) == 0 {
			b[1+i] = '-'
		}
	}
	for _, s := range []struct {
		bit fs.FileMode
		at  int
		c   byte
	}{{fs.ModeSetuid, 3, 's'}, {fs.ModeSetgid, 6, 's'}, {fs.ModeSticky, 9, 't'}} {
		if m&s.bit != 0 {
			if b[s.at] == '-' {
				s.c -= 'a' - 'A' // it has no effect without the other
			}
			b[s.at] = s.c
		}
	}
	return string(b)
}

// fileJSON is a file as scripts get it. What the volume doesn't know is left out.
type fileJSON struct {
	Path         string     `json:"path"`
	Type         string     `json:"type"`
	Size         int64      `json:"size"`
	Mode         string     `json:"mode"`
	Modified     *time.Time `json:"modified,omitempty"`
	Target       *string    `json:"target,omitempty"`
	ID           uint64     `json:"id,omitempty"`
	Links        uint64     `json:"links,omitempty"`
	UID          *uint32    `json:"uid,omitempty"`
	GID          *uint32    `json:"gid,omitempty"`
	Flags        uint32     `json:"flags,omitempty"`
	Created      *time.Time `json:"created,omitempty"`
	Changed      *time.Time `json:"changed,omitempty"`
	Accessed     *time.Time `json:"accessed,omitempty"`
	ResourceFork int64      `json:"resource_fork,omitempty"`
	Compressed   bool       `json:"compressed,omitempty"`
	Xattrs       []string   `json:"xattrs,omitempty"`
}

// typeName is a file's type in JSON.
func typeName(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "dir"
	case fs.ModeSymlink:
		return "symlink"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	}
	return "device"
}

// timeJSON returns nil for a time that is not set.
func timeJSON(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (l *lister) entryJSON(full string, info fs.FileInfo) error {
	m := info.Mode()
	special := (uint32(m&fs.ModeSetuid)>>23&1)<<2 | (uint32(m&fs.ModeSetgid)>>22&1)<<1 | uint32(m&fs.ModeSticky)>>20&1
	f := factsOf(info)
	j := fileJSON{
		Path: full, Type: typeName(m), Size: info.Size(), Mode: fmt.Sprintf("%04o", special<<9|uint32(m.Perm())),
		Modified: timeJSON(info.ModTime()), Created: timeJSON(f.created), Changed: timeJSON(f.changed), Accessed: timeJSON(f.accessed),
		ID: f.id, Links: f.links, Flags: f.flags, ResourceFork: f.resource, Compressed: f.compressed,
	}
	if f.known {
		j.UID, j.GID = &f.uid, &f.gid
	}
	var err error
	if j.Xattrs, err = xattrNames(l.files, full); err != nil {
		if err := l.miss(err); err != nil {
			return err
		}
	}
	if m.Type() == fs.ModeSymlink {
		if target, err := fs.ReadLink(l.files, full); err == nil {
			j.Target = &target
		} else if err := l.miss(err); err != nil {
			return err
		}
	}
	return writeJSON(l.out, j)
}

// causeOf is an error without the path that it is about.
func causeOf(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// missed are errors that a command has told, and gone on.
type missed struct {
	what  string // was to be done
	first error
	n     int
}

// maxTold is how many errors of one command are told.
const maxTold = 100

// add tells of an error.
func (m *missed) add(std *stdio, err error) {
	if m.n++; m.n == 1 {
		m.first = err
	}
	if m.n <= maxTold {
		fmt.Fprintln(std.err, "dmg: "+urlText(err, oneLine(err)))
	}
}

// err returns nil if there were none. Its status is the first one's.
func (m *missed) err() error {
	if m.n == 0 {
		return nil
	}
	return missedError{m}
}

type missedError struct{ *missed }

// Error says how many there were; which they were has been told.
func (e missedError) Error() string {
	return "not everything could be " + e.what + ": " + plural(e.n, "error")
}

// Unwrap returns the first.
func (e missedError) Unwrap() error { return e.first }

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// cpCmd is dmg cp.
type cpCmd struct {
	imageArg    `embed:""`
	Paths       []string `arg:"" name:"path" help:"The files and folders to copy, . for all; and last, where to: a folder, or a new name."`
	Force       bool     `short:"f" help:"Replace files that exist."`
	KeepGoing   bool     `help:"Go on past files that can't be copied, and exit with their status in the end."`
	Xattrs      bool     `name:"xattrs" help:"Copy extended attributes, Finder information and resource forks, into files named ._NAME."`
	Quiet       bool     `short:"q" help:"Show no progress, and don't tell what is left out."`
	volumeFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (cpCmd) Help() string {
	return `Copies files and folders, with all that is in them, out of an image. The last argument is where to: a folder that exists,
for a copy of the same name in it, or the copy's own name. For the path . all that is in the volume goes into the folder.
It reads no more of the image than it copies, and decodes on all cores.

` + pathHelp + `

Modes and times are kept, but for the bits setuid, setgid and sticky. Owners and flags are not. Symbolic links are copied as
they are, wherever they lead to, and hard links stay hard links. Nothing is written outside of the destination, nor through
a link in it. Devices, pipes and sockets are left out and named on standard error. A file that can't be copied as a whole is
removed. Folders are merged with those that exist; files that exist are only replaced with -f, each when its copy is complete.

With --xattrs, a file with extended attributes, Finder information or a resource fork gets a file ._NAME beside it, in
the format AppleDouble, as macOS writes it on file systems without these: on macOS, dot_clean puts them back.

Example:

    dmg cp Installer.dmg Foo.app /opt
    dmg cp Installer.dmg Foo.app/Contents/Info.plist .
    dmg cp --keep-going damaged.dmg . rescued`
}

// Run implements the command.
func (c *cpCmd) Run(ctx context.Context, std *stdio) error {
	if len(c.Paths) < 2 {
		return misuse(`no destination: give it last, such as . for this folder`)
	}
	sources, to := c.Paths[:len(c.Paths)-1], c.Paths[len(c.Paths)-1]
	// What is wrong with the destination is told before a password is asked for.
	dest, err := newDestination(to, c.Image, len(sources) > 1)
	if err != nil {
		return err
	}
	im, files, err := c.openVolume(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	ctx, stop := std.interruptible(ctx)
	defer stop()
	return c.copy(ctx, std, files, dest, sources)
}

// copy copies what is at the paths.
func (c *cpCmd) copy(ctx context.Context, std *stdio, files fs.FS, dest destination, paths []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	k := &copier{cpCmd: c, std: std, files: files, ctx: ctx, cancel: cancel, missed: missed{what: "copied"}}
	if err := k.plan(paths); err != nil {
		return err
	}
	root, err := os.OpenRoot(dest.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	k.root = root
	return k.run(dest)
}

// A destination is where to copy to.
type destination struct {
	dir  string // that exists
	name string // of the copy in it; empty if it is to have its own
}

// newDestination finds out what is at the place that a user named.
func newDestination(name, image string, several bool) (destination, error) {
	if name == "" {
		return destination{}, misuse("the destination's name is empty")
	}
	if belongs(name, image) {
		return destination{}, refusal(name + " belongs to the image: give another name")
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return destination{dir: name}, nil
	case err == nil && !info.Mode().IsRegular(): // also where a link leads to it, as from /dev/stdout
		return destination{}, refusal(fmt.Sprintf("%s is a %s: dmg cat can write a file to it", name, typeName(info.Mode())))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return destination{}, err
	case several:
		return destination{}, refusal(name + " is no folder: several files can only be copied into one that exists")
	case os.IsPathSeparator(name[len(name)-1]):
		return destination{}, refusal(name + " is no folder that exists: leave out the slash, and it is the copy's name")
	}
	dir, base := filepath.Split(name) // Dir would take a/.. for nothing, where a may be a link
	if base == "." || base == ".." {
		return destination{}, err
	}
	if dir == "" {
		dir = "."
	}
	return destination{dir, base}, nil
}

// in returns the copy's name for what is at a path of the volume.
func (d destination) in(source string) string {
	if d.name != "" {
		return d.name
	}
	return path.Base(source) // . for all
}

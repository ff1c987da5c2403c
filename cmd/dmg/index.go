package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-dmg/dmg"
)

// indexCmd is dmg index.
type indexCmd struct {
	imageArg      `embed:""`
	Out           string `short:"o" placeholder:"FILE" help:"The file to write, - for standard output; IMAGE.dmgidx if not given, or a file in the cache folder if IMAGE is a URL."`
	Force         bool   `short:"f" help:"Overwrite the file even if it is no index."`
	JSON          bool   `name:"json" help:"Print JSON, one object."`
	Quiet         bool   `short:"q" help:"Show no progress."`
	passwordFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (indexCmd) Help() string {
	return `Decodes the whole disk once and saves, in a twentieth of the image's size or less, the places from which it can
be decoded: reads at any offset are fast from then on, in chunks of any size. The other commands use the
file by themselves if it is beside the image and has its name with .dmgidx at the end.

Of a URL, the index goes into the user's cache folder, unless -o says where: dmg/index in ~/.cache or $XDG_CACHE_HOME, on
macOS in ~/Library/Caches, on Windows in %LocalAppData%. It is used as long as the server gives the file the same size, ETag
and date, and may be removed at any time. Without such an index, URL.dmgidx on the server is used if it is there. It is asked for only if a chunk of the image
has more than 4 MiB of compressed data: in others a read takes few requests without an index.

The index holds pieces of the disk, of an encrypted image's too: it gets the image's permissions, and those of an
encrypted image nobody else can read. An index can also be forged to give wrong bytes, so use none that came from
elsewhere.

With --json it prints an object with "image", "index" (the file's name), "size" of the file in bytes, and "checkpoints", which is
0 if the image has no use for an index.

Example:

    dmg index Installer.dmg
    dmg cat -v Installer.dmg --offset 2G --length 4k | xxd
    dmg index /mnt/Installer.dmg -o Installer.idx && dmg nbd --index Installer.idx /mnt/Installer.dmg`
}

// Run implements the command.
func (c *indexCmd) Run(ctx context.Context, std *stdio) error {
	if c.Out == "-" {
		return c.toStdout(ctx, std)
	}
	open, folder, err := std.opener(c.Image)
	if err != nil {
		return err
	}
	name, old := c.Out, ""
	switch {
	case name != "":
	case folder == nil:
		name = indexName(c.Image)
	default:
		if name, old, err = folder.cachedIndex(); err != nil {
			return fmt.Errorf("no folder for caches: %w; give -o FILE", err)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
	}
	out, err := newOutput(name, c.Image, c.Force || isIndex(name))
	if err != nil {
		return err
	}
	im, err := c.openWith(std, c.Image, open)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	ctx, stop := std.interruptible(ctx)
	defer stop()
	defer out.discard() // unless it is committed
	if out.mode, err = indexMode(im, c.Image, folder != nil); err != nil {
		return err
	}
	if err := out.create(0); err != nil {
		return err
	}
	checkpoints, size, err := c.build(ctx, std, im, out.f)
	if err != nil {
		return err
	}
	if err := out.commit(); err != nil {
		return err
	}
	removeOthers(old, name)
	if c.JSON {
		return writeJSON(std.out, indexJSON{c.Image, name, size, checkpoints})
	}
	note := ""
	if checkpoints == 0 {
		note = ": the image has no use for an index"
	}
	_, err = fmt.Fprintf(std.out, "%s: %s, %s%s\n", printable(name), humanSize(size), plural(checkpoints, "checkpoint"), note)
	return err
}

// indexJSON is an index that was written as scripts get it.
type indexJSON struct {
	Image       string `json:"image"`
	Index       string `json:"index"` // the file
	Size        int64  `json:"size"`  // of the file in bytes
	Checkpoints int    `json:"checkpoints"`
}

// toStdout leaves nothing behind that a signal would have to wait for.
func (c *indexCmd) toStdout(ctx context.Context, std *stdio) error {
	if c.JSON {
		return refusal("with --json, standard output gets an object: give a file for the index")
	}
	if isTerminal(std.out) && !c.Force {
		return refusal("standard output is a terminal: redirect it, or insist with -f")
	}
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	_, _, err = c.build(ctx, std, im, std.out)
	return err
}

// build decodes the disk and writes its index. It returns how many checkpoints
// and bytes that has.
func (c *indexCmd) build(ctx context.Context, std *stdio, im *dmg.Image, w io.Writer) (checkpoints int, size int64, err error) {
	progress, stopProgress := startProgress(std, "index", im.Size(), c.Quiet)
	err = im.BuildIndex(ctx, &dmg.BuildIndexOptions{Progress: progress})
	stopProgress()
	if err != nil {
		return 0, 0, err
	}
	ix, err := im.Index()
	if err != nil {
		return 0, 0, err
	}
	size, err = ix.WriteTo(w)
	return ix.Len(), size, err
}

// removeOthers removes the files beside the one of that name whose names begin in the same
// way, if old says in which: indexes of earlier versions of a URL, which nothing looks for
// any more.
func removeOthers(old, name string) {
	if old == "" {
		return
	}
	dir, keep := filepath.Split(name)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != keep && strings.HasPrefix(e.Name(), old) && strings.HasSuffix(e.Name(), indexExt) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// indexMode is who may read an image's index: no more than may read the disk.
// Of an encrypted image those need a password, which the index doesn't ask for, and of a
// URL maybe one for the server.
func indexMode(im *dmg.Image, image string, isURL bool) (fs.FileMode, error) {
	if im.Encrypted() || isURL {
		return 0o600, nil
	}
	info, err := os.Stat(image)
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm()&0o666 | 0o600, nil
}

// indexName is where an image's index is looked for. That of a sparse bundle,
// a folder, is beside it too.
func indexName(image string) string {
	name := filepath.Clean(image) // without slashes at its end
	if base := filepath.Base(name); base == "." || base == ".." {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
	}
	return name + indexExt
}

// isIndex reports whether the file is an index, whichever image's.
func isIndex(name string) bool {
	_, err := readIndex(name, true)
	return err == nil
}

// indexExt is what the name of an index has behind its image's.
const indexExt = ".dmgidx"

// readIndex reads the index in a file. A file that must be regular is not read
// if it isn't: a pipe could keep a command waiting that nobody gave one.
func readIndex(name string, regular bool) (*dmg.Index, error) {
	if regular {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return dmg.ReadIndex(f)
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/go-dmg/dmg/internal/appinfo"
)

// appCmd is dmg app.
type appCmd struct {
	imagesArg   `embed:""`
	Nested      bool `help:"List applications and packages inside of applications, too."`
	JSON        bool `name:"json" help:"Print JSON, an object a line for each image, whose fields stay as they are in later versions."`
	volumeFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (appCmd) Help() string {
	return `Lists the applications and installer packages on the image's volume, wherever they are: the path, the name and the version (the
build if it has no version), and below that what each says of itself:

    id             the bundle identifier, or that of the package
    needs          the oldest version of macOS that it is for
    architectures  those that its program is for, such as arm64 and x86_64
    signed by      the team, as the signature says. "ad hoc" is a signature
                   without certificates, "no one" no signature.

Nothing of this is checked: anyone can make an application of any name, and sign it with certificates of any name.

It reads folders, property lists, the headers of programs and the tables of contents of packages, and no more of the image
than it takes to decode these.

` + severalHelp + `

With --json, a line is an object for an image:

    image   as it was named
    items   the applications and packages, by path: kind ("app" or "package"),
            path, name, id, version, build, min_system, architectures,
            signature ("signed", "ad hoc" or "unsigned"), team, and error if
            some of this could not be read. What isn't known is empty.
    errors  folders that could not be read, if there are any

Of an image that can't be read it has image, error (in words) and status (the exit status for it) only.

Example:

    dmg app Installer.dmg
    dmg app --json *.dmg | jq -r '.image as $i | .items[]? | [$i, .id, .version] | @tsv'`
}

// appJSON is what scripts get of an image.
type appJSON struct {
	Image  string     `json:"image"`
	Items  []itemJSON `json:"items"`
	Errors []string   `json:"errors,omitempty"`
}

// itemJSON is an application or a package.
type itemJSON struct {
	Kind          string   `json:"kind"`
	Path          string   `json:"path"`
	Name          string   `json:"name"`
	ID            string   `json:"id"`
	Version       string   `json:"version"`
	Build         string   `json:"build"`
	MinSystem     string   `json:"min_system"`
	Architectures []string `json:"architectures"`
	Signature     string   `json:"signature"`
	Team          string   `json:"team"`
	Error         string   `json:"error,omitempty"`
}

// Run implements the command.
func (c *appCmd) Run(ctx context.Context, std *stdio) error {
	if err := c.checkSeveral(c.Images); err != nil {
		return err
	}
	ctx, stop := std.interruptible(ctx)
	defer stop()
	return forEach(std, c.Images, func(image string) error {
		var b bytes.Buffer
		found, err := c.image(ctx, std, image)
		switch {
		case found != nil && c.JSON:
			if err := writeJSON(&b, found.appJSON); err != nil {
				return abort(err)
			}
		case found != nil:
			found.print(&b, len(c.Images) > 1)
		case c.JSON && !isA[abortError](err):
			if err := writeJSON(&b, failedJSON{image, oneLine(err), statusOf(err)}); err != nil {
				return abort(err)
			}
		}
		if _, err := std.out.Write(b.Bytes()); err != nil {
			return abort(err)
		}
		return err
	})
}

// appsFound are what was found in an image, and what could not be read.
type appsFound struct {
	appJSON
	missed missed
}

// image returns the applications and packages in an image. If it can't read all of the image,
// it returns those that it found, and an error.
func (c *appCmd) image(ctx context.Context, std *stdio, image string) (*appsFound, error) {
	im, files, err := c.openVolume(std, image)
	if err != nil {
		return nil, err
	}
	defer c.close(std, im)
	found := &appsFound{appJSON: appJSON{Image: image, Items: []itemJSON{}}, missed: missed{what: "read"}}
	f := appinfo.Finder{
		FS: files, Nested: c.Nested,
		Folder: func(info fs.FileInfo) (uint64, bool) {
			facts := factsOf(info)
			return facts.id, facts.known
		},
		Missed: func(err error) {
			err = inVolume(image, err)
			found.missed.add(std, err)
			if len(found.Errors) < maxTold {
				found.Errors = append(found.Errors, oneLine(err))
			}
		},
	}
	err = f.Find(ctx, ".", func(it appinfo.Item) error {
		found.add(std, it)
		return nil
	})
	if err != nil {
		return nil, inVolume(image, err)
	}
	if err := found.missed.err(); err != nil {
		return found, fmt.Errorf("%s: %w", image, err)
	}
	if len(found.Items) == 0 && !c.JSON {
		fmt.Fprintf(std.err, "dmg: %s: no application and no installer package is on the volume\n", printable(image))
	}
	return found, nil
}

// add adds an item to the list. If the item's own files are malformed, the item has the error:
// the image is not damaged, so the command does not fail.
func (a *appsFound) add(std *stdio, it appinfo.Item) {
	j := itemJSON{
		Kind: it.Kind, Path: it.Path, Name: it.Name, ID: it.ID, Version: it.Version, Build: it.Build, MinSystem: it.MinSystem,
		Architectures: append([]string{}, it.Architectures...), Signature: it.Signature, Team: it.TeamID,
	}
	switch {
	case it.Err == nil:
	case errors.Is(it.Err, appinfo.ErrContent):
		j.Error = oneLine(it.Err)
	default:
		err := inVolume(a.Image, it.Err)
		j.Error = oneLine(err)
		a.missed.add(std, err)
	}
	a.Items = append(a.Items, j)
}

// print writes the text form. The bytes.Buffer that it goes to has no errors.
func (a *appsFound) print(w io.Writer, named bool) {
	for _, it := range a.Items {
		if named {
			fmt.Fprintf(w, "%s: ", printable(a.Image))
		}
		fmt.Fprintf(w, "%s: %s", printable(it.Path), printable(it.Name))
		if it.Version != "" {
			fmt.Fprintf(w, " %s", printable(it.Version))
		}
		if it.Build != "" && it.Build != it.Version {
			fmt.Fprintf(w, " (%s)", printable(it.Build))
		}
		fmt.Fprintln(w)
		signer := map[string]string{appinfo.Unsigned: "no one", appinfo.AdHoc: "ad hoc", appinfo.Signed: "a team that is not named"}[it.Signature]
		if it.Team != "" {
			signer = "team " + it.Team
		}
		needs := ""
		if it.MinSystem != "" {
			needs = "macOS " + it.MinSystem
		}
		for _, line := range [][2]string{
			{"id", it.ID}, {"needs", needs}, {"architectures", strings.Join(it.Architectures, ", ")}, {"signed by", signer}, {"not read", it.Error},
		} {
			if line[1] != "" {
				fmt.Fprintf(w, "    %-14s %s\n", line[0], printable(line[1]))
			}
		}
	}
}

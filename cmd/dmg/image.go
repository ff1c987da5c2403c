package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/go-dmg/dmg"
)

// imageArg is the argument of every command on an image.
type imageArg struct {
	Image string `arg:"" help:"The disk image: a file, a sparse bundle, or an http or https URL."`
}

// passwordFlags are how an image is to be opened that needs no index.
type passwordFlags struct {
	PasswordFile string   `placeholder:"FILE" help:"Read the password of an encrypted image or APFS volume from FILE, - for standard input. Each line is a password, which are tried in order."`
	KeyFile      string   `placeholder:"FILE" help:"Read an encrypted archive's key from FILE, - for standard input: a private key in PEM, or the symmetric key in hexadecimal or base64."`
	MemoryLimit  byteSize `placeholder:"SIZE" help:"Memory for decoding, such as 32M; 64M if not given."`
	Verbose      bool     `short:"v" help:"Say on standard error what was decoded and fetched."`

	listsDefects bool            // the command prints them itself
	given        *givenPasswords // nil if they were not read yet
}

// open opens the image, asking for a password where it takes one.
func (f *passwordFlags) open(std *stdio, image string) (*dmg.Image, error) {
	open, _, err := std.opener(image)
	if err != nil {
		return nil, err
	}
	return f.openWith(std, image, open)
}

// openWith opens the image by a function that is called again, with a password,
// if that is missing.
func (f *passwordFlags) openWith(std *stdio, image string, open opener) (*dmg.Image, error) {
	if image == "" {
		return nil, misuse("the image's name is empty")
	}
	if goesIntoImage(std, image) {
		return nil, refusal(image + ": standard output is a file of the image")
	}
	if err := checkSeekable(image); err != nil {
		return nil, err
	}
	opts := &dmg.Options{MemoryLimit: int64(f.MemoryLimit)}
	im, err := f.openWithPassword(std, image, opts, open)
	limitHeap(opts.MemoryLimit)
	if err == nil {
		if !f.listsDefects {
			warnOfDefects(std, image, im)
		}
		return im, nil
	}
	// The system's errors name the file themselves.
	var path *fs.PathError
	if errors.As(err, &path) && path.Path == image {
		return nil, err
	}
	var index indexError
	if errors.As(err, &index) || isA[*urlError](err) {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %w", image, err)
}

// checkSeekable refuses what can't be read at any offset. To open a pipe would
// wait for a writer, without a word. A block device may hold an image.
func checkSeekable(image string) error {
	if image == "-" {
		return refusal("an image can't be read from standard input, which can't be read at any offset: save it to a file, or give its URL")
	}
	info, err := os.Stat(image)
	if err != nil {
		return nil // opening it says why
	}
	what := ""
	switch mode := info.Mode(); {
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeCharDevice != 0:
		what = "a character device"
	default:
		return nil
	}
	return notAnImage(fmt.Sprintf("%s is %s, not a regular file: an image must be in a file that can be read at any offset", image, what))
}

// warnOfDefects tells of the first defects.
func warnOfDefects(std *stdio, image string, im *dmg.Image) {
	const most = 3
	defects := im.Defects()
	for _, err := range defects[:min(most, len(defects))] {
		fmt.Fprintf(std.err, "dmg: warning: %s: %s\n", printable(image), oneLine(err))
	}
	if n := len(defects) - most; n > 0 {
		fmt.Fprintf(std.err, "dmg: warning: %s: and %s more, which dmg info lists\n", printable(image), plural(n, "defect"))
	}
}

// opener is the type of dmg.Open.
type opener func(image string, opts *dmg.Options) (*dmg.Image, error)

// openFlags are how the image is to be opened.
type openFlags struct {
	passwordFlags `embed:""`
	Index         string `placeholder:"FILE" xor:"index" help:"Use the index in FILE, or at a URL, from dmg index; IMAGE.dmgidx if not given and there is one."`
	NoIndex       bool   `xor:"index" help:"Use no index."`
}

// open opens the image with its index, if it has one.
func (f *openFlags) open(std *stdio, image string) (*dmg.Image, error) {
	return f.openWithVolume(std, image, func(*dmg.Image) error { return nil })
}

// openWithVolume opens the image with its index, if it has one, and then by the function
// what is to be read of it. If either takes a password, it asks for that.
func (f *openFlags) openWithVolume(std *stdio, image string, volume func(*dmg.Image) error) (*dmg.Image, error) {
	open, err := f.opener(std, image)
	if err != nil {
		return nil, err
	}
	var failed error // and not for a password
	im, err := f.openWith(std, image, func(image string, opts *dmg.Options) (*dmg.Image, error) {
		im, err := open(image, opts)
		if err != nil {
			return nil, err
		}
		if failed = volume(im); errors.Is(failed, dmg.ErrPassword) {
			im.Close()
			return nil, failed
		}
		return im, nil
	})
	if err == nil && failed != nil {
		im.Close()
		return nil, fmt.Errorf("%s: %w", image, failed)
	}
	return im, err
}

// opener returns the function that opens the image with its index, if it has one: beside
// it, or of a URL in the user's cache folder.
func (f *openFlags) opener(std *stdio, image string) (opener, error) {
	open, folder, err := std.opener(image)
	if err != nil || f.NoIndex {
		return open, err
	}
	name := f.Index
	switch {
	case name != "":
	case folder == nil:
		name = indexName(image)
	default:
		open = f.withIndexBeside(std, folder)
		if name, _, err = folder.cachedIndex(); err != nil {
			return open, nil // there is no cache folder
		}
	}
	index, err := std.readIndex(name, f.Index == "")
	switch {
	case err == nil:
	case f.Index != "":
		return nil, newIndexError(name, err)
	default:
		if !errors.Is(err, fs.ErrNotExist) {
			f.ignoreIndex(std, image, newIndexError(name, err))
		}
		return open, nil
	}
	return func(image string, opts *dmg.Options) (*dmg.Image, error) {
		return f.openIndexed(std, image, opts, name, index, open)
	}, nil
}

// checkSeveral returns an error if the flags are for one image, and there are several.
func (f *openFlags) checkSeveral(images []string) error {
	if len(images) > 1 && f.Index != "" {
		return refusal("--index is for one image: leave it out, and each one's own index is used, if it has one")
	}
	return nil
}

// openIndexed opens the image with an index. One that doesn't fit is done
// without, unless the user named it.
func (f *openFlags) openIndexed(std *stdio, image string, opts *dmg.Options, name string, index *dmg.Index, open opener) (*dmg.Image, error) {
	with := *opts
	with.Index = index
	im, err := open(image, &with)
	switch {
	case err == nil:
		f.verbosef(std, "using the index %s", printable(name))
		return im, nil
	case !errors.Is(err, dmg.ErrIndex):
		return nil, err
	case f.Index != "":
		return nil, newIndexError(name, err)
	}
	f.ignoreIndex(std, image, newIndexError(name, err))
	return open(image, opts)
}

// ignoreIndex says why an index is not used, and what helps.
func (f *openFlags) ignoreIndex(std *stdio, image string, err error) {
	f.verbosef(std, "warning: %s; going on without it; dmg index -f %s makes a new one", oneLine(err), printable(image))
}

// indexError is an error of an index file.
type indexError struct{ error }

// Unwrap returns the cause.
func (e indexError) Unwrap() error { return e.error }

// newIndexError names the file, as the system's errors do already.
func newIndexError(name string, err error) error {
	var path *fs.PathError
	if !errors.As(err, &path) {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return indexError{err}
}

// close closes the image, and says what it cost if the user wants to know.
func (f *passwordFlags) close(std *stdio, im *dmg.Image) {
	s := im.Stats()
	f.verbosef(std, "read %s of the disk; decoded %s; fetched %s of the image in %d reads",
		humanSize(s.BytesRead), humanSize(s.BytesDecoded), humanSize(s.SourceBytes), s.SourceReads)
	im.Close()
}

// verbosef says something to users who want to know more.
func (f *passwordFlags) verbosef(std *stdio, format string, args ...any) {
	if f.Verbose {
		fmt.Fprintf(std.err, "dmg: "+format+"\n", args...)
	}
}

// A diskRange is the part of the disk that a command is about.
type diskRange struct{ off, length int64 }

func (r diskRange) end() int64 { return r.off + r.length }

// partitionRange is the range of the partition that a user named, or of the volume that
// is in none, as nameMatches finds it, or by the partition's index. Without a name it is
// the whole disk.
func partitionRange(im *dmg.Image, name string) (diskRange, error) {
	if name == "" {
		return diskRange{0, im.Size()}, nil
	}
	parts := im.Partitions()
	if i, err := strconv.Atoi(name); err == nil {
		if i < 0 || i >= len(parts) {
			return diskRange{}, refusal(fmt.Sprintf("no partition %d: %s", i, partitionCount(len(parts))))
		}
		return diskRange{parts[i].Offset, parts[i].Length}, nil
	}
	for i, fits := range nameMatches(name) {
		volumes := make(map[int][]dmg.Volume) // by partition
		if i > 0 {                            // without them, a partition's own name takes no look at the disk
			all, err := im.Volumes()
			if err != nil {
				return diskRange{}, err
			}
			for _, v := range all {
				volumes[v.Partition] = append(volumes[v.Partition], v)
			}
		}
		var found []int
		for i := range parts {
			if fits(&parts[i], volumes[i]) {
				found = append(found, i)
			}
		}
		switch {
		case len(found) > 1:
			return diskRange{}, refusal(fmt.Sprintf("%q fits partitions %s: give a number", name, numbers(found)))
		case len(found) == 1:
			p := parts[found[0]]
			return diskRange{p.Offset, p.Length}, nil
		}
		for _, v := range volumes[-1] {
			if fits(new(dmg.Partition), []dmg.Volume{v}) {
				return diskRange{v.Offset, v.Length}, nil
			}
		}
	}
	return diskRange{}, refusal(fmt.Sprintf("no partition has the name or type %q: %s", name, partitionCount(len(parts))))
}

// plainType returns a partition's type in lower case, without what separates its words.
func plainType(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// numbers lists the first numbers, and says how many there are besides.
func numbers(all []int) string {
	const most = 20
	s := strings.Trim(fmt.Sprint(all[:min(most, len(all))]), "[]")
	if n := len(all) - most; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// partitionCount says what could have been asked for.
func partitionCount(n int) string {
	switch n {
	case 0:
		return "the image has none"
	case 1:
		return "there is only number 0; see dmg info"
	}
	return fmt.Sprintf("there are 0 to %d; see dmg info", n-1)
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/go-dmg/dmg"
)

// imageArg is the argument of every command on an image.
type imageArg struct {
	Image string `arg:"" help:"The disk image."`
}

// openFlags are how the image is to be opened.
type openFlags struct {
	PasswordFile string   `placeholder:"FILE" help:"Read an encrypted image's password from FILE, - for standard input; one newline at its end is not part of it."`
	MemoryLimit  byteSize `placeholder:"SIZE" help:"Memory for decoding, such as 32M; 64M if not given."`
	Verbose      bool     `short:"v" help:"Say on standard error what was decoded and fetched."`
}

// open opens the image, asking for a password where it takes one.
func (f *openFlags) open(std *stdio, image string) (*dmg.Image, error) {
	if image == "" {
		return nil, misuse("the image's name is empty")
	}
	opts := &dmg.Options{MemoryLimit: int64(f.MemoryLimit)}
	im, err := f.openWithPassword(std, image, opts)
	if err == nil {
		return im, nil
	}
	// The system's errors name the file themselves.
	var path *fs.PathError
	if errors.As(err, &path) && path.Path == image {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %w", image, err)
}

// close closes the image, and says what it cost if the user wants to know.
func (f *openFlags) close(std *stdio, im *dmg.Image) {
	s := im.Stats()
	f.verbosef(std, "read %s of the disk; decoded %s; fetched %s of the image in %d reads",
		humanSize(s.BytesRead), humanSize(s.BytesDecoded), humanSize(s.SourceBytes), s.SourceReads)
	im.Close()
}

// verbosef says something to users who want to know more.
func (f *openFlags) verbosef(std *stdio, format string, args ...any) {
	if f.Verbose {
		fmt.Fprintf(std.err, "dmg: "+format+"\n", args...)
	}
}

// A diskRange is the part of the disk that a command is about.
type diskRange struct{ off, length int64 }

func (r diskRange) end() int64 { return r.off + r.length }

// partitionRange is the range of the partition that a user named: by its index,
// by its name, or by a part of it that no other has. Without a name it is the
// whole disk.
func partitionRange(im *dmg.Image, name string) (diskRange, error) {
	if name == "" {
		return diskRange{0, im.Size()}, nil
	}
	parts := im.Partitions()
	if i, err := strconv.Atoi(name); err == nil {
		if i < 0 || i >= len(parts) {
			return diskRange{}, fmt.Errorf("no partition %d: %s", i, partitionCount(len(parts)))
		}
		return diskRange{parts[i].Offset, parts[i].Length}, nil
	}
	var found []int // partitions whose names contain the name
	for i, p := range parts {
		if p.Name == name {
			return diskRange{p.Offset, p.Length}, nil
		}
		if strings.Contains(strings.ToLower(p.Name), strings.ToLower(name)) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return diskRange{}, fmt.Errorf("no partition is named %q: %s", name, partitionCount(len(parts)))
	case 1:
		p := parts[found[0]]
		return diskRange{p.Offset, p.Length}, nil
	}
	return diskRange{}, fmt.Errorf("%q fits partitions %s: give a number", name, strings.Trim(fmt.Sprint(found), "[]"))
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

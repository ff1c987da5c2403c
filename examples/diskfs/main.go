// Command diskfs lists the files of a FAT file system inside an Apple disk image, or
// writes one of them to standard output. Nothing is extracted: the package of the
// file system reads from the partition, which decodes what is read.
//
//	cd examples/diskfs # a module of its own
//	go run . image.dmg
//	go run . image.dmg docs/readme.txt
//
// A [dmg.Partition] opens as an [io.SectionReader], so most packages that read file
// systems take one as it is. For go-diskfs it is to look like a file, and to remember
// errors:
//
//	im, err := dmg.Open("image.dmg", nil)
//	...
//	for _, p := range im.Partitions() {
//		if strings.Contains(p.Type, "FAT") {
//			part := &partition{SectionReader: p.Section().SectionReader}
//			files, err := openFAT(part)
//			...
//			err = write(os.Stdout, part, files, "docs/readme.txt")
//		}
//	}
//
// Package dmg takes images for hostile, but go-diskfs allocates what a file system
// says it needs: read images of people you trust.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/go-dmg/dmg"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: diskfs IMAGE [FILE]")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1], os.Args[2:]...); err != nil {
		fmt.Fprintln(os.Stderr, "diskfs:", err)
		os.Exit(1)
	}
}

// run lists the files of an image, or writes those that are named.
func run(w io.Writer, image string, names ...string) error {
	im, err := dmg.Open(image, nil)
	if err != nil {
		return err
	}
	defer im.Close()
	part, err := findFAT(im)
	if err != nil {
		return err
	}
	files, err := openFAT(part)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return list(w, part, files)
	}
	for _, name := range names {
		if err := write(w, part, files, name); err != nil {
			return err
		}
	}
	return nil
}

// findFAT opens the first FAT partition. An image without partitions may be a file
// system as a whole.
func findFAT(im *dmg.Image) (*partition, error) {
	parts := im.Partitions()
	if len(parts) == 0 {
		return &partition{SectionReader: io.NewSectionReader(im, 0, im.Size())}, nil
	}
	for _, p := range parts {
		if strings.Contains(p.Type, "FAT") { // DOS_FAT_32, Windows_FAT_16, …
			return &partition{SectionReader: p.Section().SectionReader}, nil
		}
	}
	return nil, errors.New("no FAT partition in the image")
}

// openFAT opens the file system in a partition, whichever kind of FAT it is.
// diskfs.OpenBackend would look for partitions inside, also at the end, and where the
// image is one chunk all of it would have to be decoded to get there.
func openFAT(part *partition) (fs.FS, error) {
	const readOnly = true
	b, size := file.New(part, readOnly), part.Size()
	var errs []error
	for _, open := range []func() (fs.FS, error){
		func() (fs.FS, error) { return fat32.Read(b, size, 0, 0) },
		func() (fs.FS, error) { return fat16.Read(b, size, 0, 0) },
		func() (fs.FS, error) { return fat12.Read(b, size, 0, 0) },
	} {
		part.err = nil
		files, err := open()
		if err == nil {
			return files, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// list prints the size, the time and the name of every file. Names can hold anything.
func list(w io.Writer, part *partition, files fs.FS) error {
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%10d  %s  %q\n", info.Size(), info.ModTime().Format(time.DateTime), name)
		return err
	})
	return errors.Join(err, part.err)
}

// write copies a file to w.
func write(w io.Writer, part *partition, files fs.FS, name string) error {
	info, err := fs.Stat(files, name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// Reads that begin inside a cluster can go past the file's end. Clusters have up
	// to 64 KiB, and so all reads begin where one does.
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if part.err != nil {
			return part.err // and what was read is not to be trusted
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A partition looks like an open file of its size. It keeps its first error, because
// go-diskfs passes over those that it meets inside of files, where zeros would stand
// for what is damaged.
type partition struct {
	*io.SectionReader
	err error
}

// ReadAt implements io.ReaderAt.
func (p *partition) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.SectionReader.ReadAt(b, off)
	if p.err == nil && n < len(b) {
		p.err = err
	}
	return n, err
}

// Stat implements fs.File.
func (p *partition) Stat() (fs.FileInfo, error) { return partitionInfo{p.Size()}, nil }

// Close implements fs.File. Closing the image is its opener's business.
func (*partition) Close() error { return nil }

// partitionInfo is what a partition says of itself as a file.
type partitionInfo struct{ size int64 }

func (i partitionInfo) Name() string       { return "partition" }
func (i partitionInfo) Size() int64        { return i.size }
func (i partitionInfo) Mode() fs.FileMode  { return 0o444 }
func (i partitionInfo) ModTime() time.Time { return time.Time{} }
func (i partitionInfo) IsDir() bool        { return false }
func (i partitionInfo) Sys() any           { return nil }

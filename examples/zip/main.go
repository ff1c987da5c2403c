// Command zip describes a disk image in a zip archive without unpacking it:
//
//	go run ./examples/zip archive.zip Installer.dmg
//
// The image may be a file, any file of an image that was split, or a sparse bundle, which
// is a folder. The archive must store its files without compression (zip -0).
package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/go-dmg/dmg"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: zip ARCHIVE IMAGE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "zip: %q\n", err.Error())
		os.Exit(1)
	}
}

func run(archive, image string, stdout io.Writer) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	files, err := newStoredFS(f, info.Size())
	if err != nil {
		return err
	}
	im, err := dmg.OpenFS(files, image, nil)
	if err != nil {
		return err
	}
	defer im.Close()
	_, err = fmt.Fprintf(stdout, "%s %q, a disk of %d bytes\n", im.Format(), im.Layers(), im.Size())
	return err
}

// A storedFS has the files of a zip archive that are stored without compression. They are
// an io.ReaderAt, which those of zip.Reader are not. It may be used concurrently.
type storedFS struct {
	*zip.Reader
	archive io.ReaderAt
	entries map[string]*zip.File // by name
}

// newStoredFS returns the files of an archive of size bytes.
func newStoredFS(archive io.ReaderAt, size int64) (*storedFS, error) {
	r, err := zip.NewReader(archive, size)
	if err != nil {
		return nil, err
	}
	s := &storedFS{r, archive, make(map[string]*zip.File)}
	for _, f := range r.File {
		s.entries[f.Name] = f
	}
	return s, nil
}

// Open implements fs.FS.
func (s *storedFS) Open(name string) (fs.File, error) {
	f, err := s.Reader.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err // a folder lists its files
	}
	stored, err := s.stored(s.entries[name])
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &storedFile{f, stored}, nil
}

// stored returns the part of the archive that is the file.
func (s *storedFS) stored(f *zip.File) (*io.SectionReader, error) {
	const encrypted = 1 // APPNOTE.TXT, section 4.4.4: bit 0 of the flags
	if f == nil || f.Method != zip.Store || f.Flags&encrypted != 0 {
		return nil, errors.New("it is compressed or encrypted in the archive: unpack it first")
	}
	at, err := f.DataOffset()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(s.archive, at, int64(f.UncompressedSize64)), nil
}

// A storedFile is a file of the archive that can be read at any offset.
type storedFile struct {
	fs.File
	section *io.SectionReader
}

// ReadAt implements io.ReaderAt.
func (f *storedFile) ReadAt(p []byte, off int64) (int, error) { return f.section.ReadAt(p, off) }

// Command firmware reads files out of a restore image (.ipsw) that lies on a web server. It
// fetches a few megabytes of the many gigabytes:
//
//	go run ./examples/firmware -key key.pem https://example.com/restore.ipsw
//	go run ./examples/firmware -key key.pem -volume NAME https://example.com/restore.ipsw /usr/lib/dyld > dyld
//
// The first lists the root folder of the largest disk, the second writes a file of it. A
// restore image is a zip archive, in which the disks are stored as they are: encrypted
// archives of APFS containers. Without -key the error says where Apple serves the key.
package main

import (
	"archive/zip"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/httpfile"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "firmware:", printable(err.Error()))
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("firmware", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: firmware [flags] URL [PATH]")
		flags.PrintDefaults()
	}
	keyName := flags.String("key", "", "read the key from this `file`: a private key in PEM, or the symmetric key in base64")
	disk := flags.String("disk", "", "the disk's `name` in the restore image; else its largest")
	volume := flags.String("volume", "", "the volume's `name`, if the disk has several")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 1 || flags.NArg() > 2 {
		flags.Usage()
		return flag.ErrHelp
	}
	opts, err := readKey(*keyName)
	if err != nil {
		return err
	}
	traffic := new(counter)
	defer func() {
		fmt.Fprintf(stderr, "%d requests, %d bytes\n", traffic.requests.Load(), traffic.bytes.Load())
	}()
	f, err := httpfile.Open(context.Background(), &http.Client{Transport: traffic}, flags.Arg(0))
	if err != nil {
		return err
	}
	section, err := findDisk(f, f.Size(), *disk)
	if err != nil {
		return err
	}
	im, err := dmg.NewImage(section, section.Size(), opts)
	if err != nil {
		return err
	}
	defer im.Close()
	files, err := volumeFS(im, *volume)
	if err != nil {
		return err
	}
	return write(stdout, files, flags.Arg(1))
}

// readKey returns options with the key that the file holds, without one if there is no name.
func readKey(name string) (*dmg.Options, error) {
	opts := new(dmg.Options)
	if name == "" {
		return opts, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		opts.PrivateKey, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	} else {
		opts.Key, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return opts, nil
}

// findDisk returns a disk of the restore image r: the one of that name, or else the largest.
func findDisk(r io.ReaderAt, size int64, name string) (*io.SectionReader, error) {
	z, err := zip.NewReader(&tail{r: r, size: size}, size)
	if err != nil {
		return nil, err
	}
	var disk *zip.File
	for _, f := range z.File {
		isDisk := strings.HasSuffix(f.Name, ".dmg.aea") || strings.HasSuffix(f.Name, ".dmg")
		if f.Name == name || name == "" && isDisk && (disk == nil || f.CompressedSize64 > disk.CompressedSize64) {
			disk = f
		}
	}
	if disk == nil {
		return nil, errors.New("the restore image has no such disk")
	}
	if disk.Method != zip.Store {
		return nil, fmt.Errorf("%s is compressed in the restore image, so that it can't be read at any offset", disk.Name)
	}
	off, err := disk.DataOffset()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(r, off, int64(disk.CompressedSize64)), nil
}

// tail reads the end of r once: a zip archive has its directory there, and archive/zip reads
// it bit by bit.
type tail struct {
	r    io.ReaderAt
	size int64
	buf  []byte
}

// ReadAt implements io.ReaderAt, for one goroutine.
func (t *tail) ReadAt(p []byte, off int64) (int, error) {
	const keep = 128 << 10
	from := max(0, t.size-keep)
	if off < from {
		return t.r.ReadAt(p, off)
	}
	if t.buf == nil {
		buf := make([]byte, t.size-from)
		if n, err := t.r.ReadAt(buf, from); n < len(buf) {
			return 0, err
		}
		t.buf = buf
	}
	n := copy(p, t.buf[min(off-from, int64(len(t.buf))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// volumeFS returns the files of the volume of that name, or of the one that there is.
func volumeFS(im *dmg.Image, name string) (fs.FS, error) {
	if name == "" {
		return im.FS()
	}
	volumes, err := im.Volumes()
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if v.Name == name {
			return v.FS()
		}
	}
	return nil, fmt.Errorf("the disk has no volume %q", name)
}

// write writes a file, or a folder's names.
func write(w io.Writer, files fs.FS, name string) error {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		name = "."
	}
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		// In large steps: each is a request or two.
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, make([]byte, 1<<20))
		return err
	}
	entries, err := fs.ReadDir(files, name)
	for _, e := range entries {
		if err == nil {
			_, err = fmt.Fprintln(w, printable(e.Name()))
		}
	}
	return err
}

// counter counts requests, and the bytes that come back.
type counter struct{ requests, bytes atomic.Int64 }

// RoundTrip implements http.RoundTripper.
func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		resp.Body = &countedBody{resp.Body, c}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	c *counter
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.c.bytes.Add(int64(n))
	return n, err
}

// printable is s with a replacement character for all that is no visible text: names in an
// image are untrusted, and could command the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

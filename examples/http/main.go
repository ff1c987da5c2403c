// Command http reads an Apple disk image that lies on a web server, and fetches
// only what it needs of it:
//
//	go run ./examples/http https://example.com/image.dmg
//	go run ./examples/http -offset 0 -length 512 https://example.com/image.dmg | xxd
//
// The first prints what is in the image, the second writes bytes of the disk.
// With -index image.dmg.dmgidx, which "dmg index image.dmg" wrote, it goes
// straight to any byte of a large chunk, where otherwise it would fetch the chunk
// up to there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/httpfile"
)

func main() {
	err := run(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "http:", printable(err.Error()))
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: http [flags] URL")
		flags.PrintDefaults()
	}
	offset := flags.Int64("offset", 0, "write from this byte of the disk on")
	length := flags.Int64("length", 0, "write so many bytes of the disk, instead of printing what is in the image")
	indexName := flags.String("index", "", "use the checkpoints saved in this `file`, if it is there")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return flag.ErrHelp
	}
	if *offset < 0 || *length < 0 {
		return fmt.Errorf("-offset %d, -length %d: neither can be negative", *offset, *length)
	}
	index, err := readIndex(*indexName)
	if err != nil {
		return err
	}
	im, err := openImage(flags.Arg(0), &dmg.Options{Index: index})
	if err != nil {
		return err
	}
	if *length > 0 {
		_, err := io.Copy(stdout, io.NewSectionReader(im, *offset, *length))
		return err
	}
	return describe(stdout, im)
}

// openImage opens the image at a URL.
func openImage(url string, opts *dmg.Options) (*dmg.Image, error) {
	f, err := httpfile.Open(context.Background(), nil, url)
	if err != nil {
		return nil, err
	}
	return dmg.NewImage(f, f.Size(), opts)
}

// readIndex reads a saved index. It returns nil if there is none: it saves time,
// and everything can be read without.
func readIndex(name string) (*dmg.Index, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return dmg.ReadIndex(f)
}

func describe(w io.Writer, im *dmg.Image) error {
	_, err := fmt.Fprintf(w, "%s, a disk of %d bytes\n", im.Format(), im.Size())
	for _, p := range im.Partitions() {
		if err == nil {
			_, err = fmt.Fprintf(w, "%12d %12d  %s\n", p.Offset, p.Length, printable(p.Name))
		}
	}
	return err
}

// printable is s with a replacement character for all that is no visible text. The
// names of partitions and the texts of a server are untrusted: they could command
// the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

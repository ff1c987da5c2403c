// Command appversion prints the versions of the applications in an Apple disk image:
//
//	go run ./examples/appversion Installer.dmg
//
// It decodes only the folders on the way and the applications' Info.plist.
package main

import (
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"

	"howett.net/plist"

	"github.com/go-dmg/dmg"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: appversion IMAGE")
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		log.Fatalf("%q", err.Error()) // quoted: names in an image could command the terminal
	}
}

func run(image string, stdout io.Writer) error {
	im, err := dmg.Open(image, nil)
	if err != nil {
		return err
	}
	defer im.Close()
	files, err := im.FS()
	if err != nil {
		return err
	}
	names, err := fs.Glob(files, "*.app/Contents/Info.plist")
	if err != nil {
		return err
	}
	for _, name := range names {
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		var info struct {
			ID      string `plist:"CFBundleIdentifier"`
			Version string `plist:"CFBundleVersion"`
		}
		if _, err := plist.Unmarshal(data, &info); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(stdout, "%q %q\n", info.ID, info.Version)
	}
	return nil
}

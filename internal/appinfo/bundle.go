package appinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"howett.net/plist"

	"github.com/go-dmg/dmg/internal/plistguard"
)

// maxInfo is how long an Info.plist may be, in bytes. Those with long lists of documents' types
// have 100 KB.
const maxInfo = 1 << 20

// infoPlaces are where bundles have their Info.plist, and where their program is then: those of
// macOS, those of iOS, those of iOS inside of one that macOS can run, and very old ones.
var infoPlaces = []struct{ info, programs string }{
	{"Contents/Info.plist", "Contents/MacOS"},
	{"Info.plist", "."},
	{"WrappedBundle/Info.plist", "WrappedBundle"}, // a link
	{"Support Files/Info.plist", "."},
}

// bundle reads an application, or a package that is a folder.
func (f *Finder) bundle(it *Item) {
	for _, place := range infoPlaces {
		data, err := f.readFile(path.Join(it.Path, place.info), maxInfo)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			it.Err = err
			return
		}
		info, err := parseInfo(data)
		if err != nil {
			it.Err = &contentError{path.Join(it.Path, place.info), err.Error()}
			return
		}
		f.describe(it, info, path.Join(it.Path, place.programs))
		return
	}
	it.Err = &contentError{it.Path, "no Info.plist"}
}

// describe takes what an Info.plist says.
func (f *Finder) describe(it *Item, info map[string]string, programs string) {
	first := func(keys ...string) string {
		for _, k := range keys {
			if info[k] != "" {
				return info[k]
			}
		}
		return ""
	}
	if name := first("CFBundleDisplayName", "CFBundleName"); name != "" {
		it.Name = name
	}
	it.ID = info["CFBundleIdentifier"]
	it.Version, it.Build = info["CFBundleShortVersionString"], info["CFBundleVersion"]
	it.MinSystem = info["LSMinimumSystemVersion"] // MinimumOSVersion is of iOS
	if it.Kind != App {
		return
	}
	name := info["CFBundleExecutable"]
	if name == "" {
		name = strings.TrimSuffix(path.Base(it.Path), path.Ext(it.Path))
	}
	if strings.Contains(name, "/") || !fs.ValidPath(name) || name == "." {
		it.Err = &contentError{it.Path, fmt.Sprintf("the program's name is %q", name)}
		return
	}
	f.program(it, path.Join(programs, name))
}

// infoKeys are what is read of an Info.plist.
var infoKeys = []string{
	"CFBundleDisplayName", "CFBundleName", "CFBundleIdentifier", "CFBundleShortVersionString", "CFBundleVersion",
	"LSMinimumSystemVersion", "CFBundleExecutable",
}

// parseInfo reads the texts of an Info.plist, which is XML or binary.
func parseInfo(data []byte) (map[string]string, error) {
	if strings.HasPrefix(string(data[:min(len(data), 8)]), binaryMagic) {
		return parseBinary(data, infoKeys)
	}
	doc, err := plistguard.Lenient(plistguard.UTF8(data))
	if err != nil {
		return nil, err
	}
	// Any of the values may be of a type that it should not be of.
	var dict map[string]any
	if _, err := plist.Unmarshal(doc, &dict); err != nil {
		return nil, err
	}
	info := make(map[string]string)
	for _, k := range infoKeys {
		switch v := dict[k].(type) {
		case string:
			info[k] = strings.TrimSpace(v)
		case uint64:
			info[k] = strconv.FormatUint(v, 10)
		case int64:
			info[k] = strconv.FormatInt(v, 10)
		case float64:
			info[k] = strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return info, nil
}

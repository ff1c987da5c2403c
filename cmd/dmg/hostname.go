package main

import (
	"errors"
	"path/filepath"
	"runtime"
	"strings"
)

// checkHostName returns an error if an entry's name can't be that of a file of this system.
// os.Root guards what is outside of the destination; but in a name of Windows, a colon
// makes another stream of a file, and spaces and full stops at its end are ignored.
func checkHostName(name string) error { return checkName(name, runtime.GOOS == "windows") }

func checkName(name string, windows bool) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return errors.New("no file can have that name")
	}
	if !windows {
		return nil
	}
	bad := strings.ContainsAny(name, `<>:"|?*\`) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) ||
		strings.TrimRight(name, " .") != name || !filepath.IsLocal(name)
	if bad {
		return errors.New("no file on Windows can have that name")
	}
	return nil
}

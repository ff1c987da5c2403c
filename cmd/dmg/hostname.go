package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// checkHostName returns an error if a name can't be that of a file of this system. os.Root
// guards what is outside of the destination; but in a name of Windows, a colon makes
// another stream of a file, and spaces and full stops at its end are ignored.
func checkHostName(name string) error { return checkName(name, runtime.GOOS == "windows") }

func checkName(name string, windows bool) error {
	if !windows || name == "." {
		return nil
	}
	bad := strings.ContainsAny(name, `<>:"|?*\`) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) ||
		strings.TrimRight(name, " .") != name || !filepath.IsLocal(name)
	if bad {
		return fmt.Errorf("Windows has no files of that name")
	}
	return nil
}

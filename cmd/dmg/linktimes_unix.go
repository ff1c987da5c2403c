//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// setLinkTimes gives a symbolic link its times, without following it.
func setLinkTimes(root *os.Root, name string, info fs.FileInfo) error {
	modified := info.ModTime()
	if modified.IsZero() {
		return nil
	}
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	t, err := unix.TimeToTimespec(modified)
	if err != nil {
		return nil // it is beyond what the system can say
	}
	err = unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && err != unix.ENOSYS && err != unix.ENOTSUP {
		return &fs.PathError{Op: "set times", Path: name, Err: err}
	}
	return nil
}

package vfs

import (
	"io/fs"
	"strings"
)

// A walk is at a node. Before that are the directories that lead to it from the
// root, without symbolic links. Walks share the array: it is never written to.
type walk struct {
	fs    *FS
	at    []Node
	links int
}

func (w *walk) here() Node { return w.at[len(w.at)-1] }

// up goes back to an earlier directory. What is appended then makes a new array.
func (w *walk) up(n int) { w.at = w.at[:n:n] }

// looped reports whether the node is one of the directories that lead to it.
func (w *walk) looped() bool { return isAmong(w.here(), w.at[:len(w.at)-1]) }

// isAmong reports whether n is one of the directories.
func isAmong(n Node, dirs []Node) bool {
	if !n.Type().IsDir() {
		return false
	}
	for _, dir := range dirs {
		if dir.ID() == n.ID() {
			return true
		}
	}
	return false
}

// to goes on along a path, which may be a valid path of io/fs or a symbolic link's
// target with what follows behind the link.
func (w *walk) to(path string, follow bool) error {
	for more := true; more; {
		var elem string
		elem, path, more = strings.Cut(path, "/")
		if !w.here().Type().IsDir() {
			return fs.ErrNotExist // nothing is below a file, and a slash behind it asks for a directory
		}
		switch elem {
		case "", ".":
			continue
		case "..":
			w.up(max(len(w.at)-1, 1)) // the root is its own parent
			continue
		}
		n, err := w.lookup(elem)
		if err != nil {
			return err
		}
		if n.Type() != fs.ModeSymlink || !more && !follow {
			w.at = append(w.at, n)
			continue
		}
		target, err := w.follow(n)
		if err != nil {
			return err
		}
		if more {
			target += "/" + path
		}
		path, more = target, true
	}
	return nil
}

// end returns the node that the last element of a path leads to, and whether that is a
// directory that contains itself. Unlike to, it may leave the walk where it is.
func (w *walk) end(elem string, follow bool) (n Node, looped bool, err error) {
	target := elem
	if elem != "." { // the root
		if n, err = w.lookup(elem); err != nil {
			return nil, false, err
		}
		if n.Type() != fs.ModeSymlink || !follow {
			return n, isAmong(n, w.at), nil
		}
		if target, err = w.follow(n); err != nil {
			return nil, false, err
		}
	}
	if err := w.to(target, true); err != nil {
		return nil, false, err
	}
	return w.here(), w.looped(), nil
}

// lookup returns the entry that has the name, of where the walk is.
func (w *walk) lookup(name string) (Node, error) {
	if !w.here().Type().IsDir() {
		return nil, fs.ErrNotExist // nothing is below a file
	}
	if w.looped() {
		return nil, ErrLoop
	}
	if n := w.fs.listings.find(w.here(), name); n != nil {
		return n, nil
	}
	return w.here().Lookup(name)
}

// follow returns a link's target, relative to where the walk is then.
func (w *walk) follow(link Node) (string, error) {
	if w.links++; w.links > maxLinks {
		return "", ErrLoop
	}
	target, err := link.Target()
	if err != nil {
		return "", err
	}
	if target == "" {
		return "", fs.ErrNotExist
	}
	if target[0] == '/' {
		w.up(1)
	}
	return target, nil
}

package dmgtest

import (
	"fmt"
	"iter"
	"slices"
)

// HostileImage is an image made to harm its reader.
type HostileImage struct {
	Name  string // of its own: the class, what is bent, and to what
	Class string // what it aims at, such as "koly" or "bomb"
	Image []byte
	Rest  [][]byte    // the further files of an image that is split; see SegmentName
	Dir   []NamedFile // what is in a sparse bundle, which has no Image
	Index []byte      // saved checkpoints for an image that is sound
}

// NamedFile is a file of a directory.
type NamedFile struct {
	Name string // with slashes
	Data []byte
}

// HostilePassword opens those of the hostile images that are encrypted, ArchiveKey those that
// are archives.
const HostilePassword = "hostile"

// Hostile makes hostile images, the same ones every time: each field of each
// structure bent to the numbers at which arithmetic breaks, structures that lie
// about each other, and data that decodes to far more, or far more slowly, than
// its size lets expect. Most are a few kilobytes, the bombs up to 32 MiB. Classes to
// leave out are not made, for some take long.
func Hostile(leaveOut ...string) iter.Seq[HostileImage] {
	return func(yield func(HostileImage) bool) {
		b := &bender{yield: yield, given: make(map[string]bool)}
		for _, class := range hostileClasses {
			if b.class = class.name; !b.stopped && !slices.Contains(leaveOut, class.name) {
				class.give(b)
			}
		}
	}
}

var hostileClasses = []struct {
	name string
	give func(*bender)
}{
	{"koly", (*bender).kolys},
	{"mish", (*bender).mishes},
	{"wrap", (*bender).wraps},
	{"cut", (*bender).cuts},
	{"chunks", (*bender).chunks},
	{"tables", (*bender).tables},
	{"plist", (*bender).plists},
	{"plist size", (*bender).longPlists},
	{"fork", (*bender).forks},
	{"encrypted", (*bender).encrypted},
	{"archive", (*bender).archives},
	{"sparse", (*bender).sparse},
	{"bundle", (*bender).bundles},
	{"asif", (*bender).asif},
	{"im4p", (*bender).im4p},
	{"segments", (*bender).segments},
	{"raw", (*bender).raw},
	{"stream", (*bender).streams},
	{"xz", (*bender).xz},
	{"bomb", (*bender).bombs},
	{"slow", (*bender).slow},
}

// HostileClasses are the classes of Hostile's images, and "index", that of
// HostileIndexes, in the order in which they come.
func HostileClasses() []string {
	var names []string
	for _, class := range hostileClasses {
		names = append(names, class.name)
	}
	return append(names, "index")
}

// A bender gives the images of one class after the other.
type bender struct {
	class   string
	yield   func(HostileImage) bool
	given   map[string]bool // names: two ways of bending may lead to the same
	stopped bool
}

func (b *bender) give(image []byte, name string, args ...any) {
	b.giveFiles(image, nil, name, args...)
}

func (b *bender) giveFiles(image []byte, rest [][]byte, name string, args ...any) {
	b.giveImage(HostileImage{Image: image, Rest: rest}, name, args...)
}

func (b *bender) giveImage(h HostileImage, name string, args ...any) {
	h.Class, h.Name = b.class, b.class+"/"+fmt.Sprintf(name, args...)
	if !b.stopped && !b.given[h.Name] {
		b.given[h.Name] = true
		b.stopped = !b.yield(h)
	}
}

// seal gives the image that l is with its tables as they are now.
func (b *bender) seal(l *Layout, name string, args ...any) {
	must(l.Seal())
	b.give(l.Bytes(), name, args...)
}

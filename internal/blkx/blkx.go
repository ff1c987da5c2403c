// Package blkx reads the resources of type blkx, each of which holds a block table
// of a UDIF image, from an XML property list or a resource fork, and those of other types
// that it is asked for. It decodes nothing else of the list, and takes the resources as
// they are: bytes with a name.
//
// Lists come from untrusted images. What a list makes this package allocate is a
// small multiple of its length at most, and no list makes it recurse deeply.
package blkx

import "fmt"

// Resource is a block table, or another resource, as the image's metadata holds it.
type Resource struct {
	ID   int // 0 where block tables were asked for in a property list
	Name string
	Data []byte
	Err  error // why the rest of Data could not be decoded; nil if Data is complete
}

// Error says what is wrong with a list, and where.
type Error struct {
	Section string // the structure
	Offset  int64  // in the list, in bytes
	Msg     string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s at %d: %s", e.Section, e.Offset, e.Msg)
}

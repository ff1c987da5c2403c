package xz

import (
	"errors"
	"io"
)

// Streams decodes a file of several streams, and the padding between them, as one.
// It must not be used by several goroutines at once.
type Streams struct {
	z  *Reader
	in limited
}

// NewStreams returns a Streams that takes so many bytes of memory, at once, and
// has as long a window as [NewReader]'s.
func NewStreams(memory int64) *Streams { return &Streams{z: NewReader(memory)} }

// Reset makes s read a new file from r, as [Reader.Reset] does.
func (s *Streams) Reset(r io.Reader) {
	s.in = limited{r: r}
	s.z.Reset(&s.in)
}

// Decode is [Reader.Decode] over all streams: io.EOF is the end of the last one.
// What begins no further stream behind it, whatever that is, is not looked at.
func (s *Streams) Decode(max int) ([]byte, error) {
	for {
		p, err := s.z.Decode(max)
		if err != io.EOF {
			return p, err
		}
		if err := s.z.Next(); err != nil {
			return nil, err
		}
	}
}

// Finish reads on to the end of the stream at hand, for a caller that needs no
// more of its data, and so compares the block's check, the index and the footer.
// What stands behind that stream is not looked at. It gives up with ErrLong if that
// takes more than about max bytes of output, or more than max bytes of input behind
// those that it has fetched; other errors are those of Decode. Only Reset may follow.
func (s *Streams) Finish(max int64) error {
	s.in.limited, s.in.left = true, max
	for excess := int64(0); excess <= max; {
		p, err := s.z.Decode(MaxDecode)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		excess += int64(len(p))
	}
	return ErrLong
}

// ErrLong says that a stream goes on far behind the last byte of interest.
var ErrLong = errors.New("xz: the stream goes on far behind the last byte of interest")

// limited is a reader of which no more than so many bytes are to be read.
type limited struct {
	r       io.Reader
	limited bool
	left    int64 // bytes, if limited
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if l.r == nil {
		return 0, io.EOF
	}
	if !l.limited {
		return l.r.Read(p)
	}
	if l.left == 0 {
		return 0, ErrLong
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= max(0, min(int64(n), l.left)) // the source may lie: the Reader will notice
	return n, err
}

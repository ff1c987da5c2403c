package readat

import "io"

// maxEmptyReads is how often in a row a source may return nothing, as in bufio.
const maxEmptyReads = 100

// Some reads from r once, and returns at least one byte or an error, maybe both.
// A source that returns neither is asked again, some times. An impossible count is
// ErrCount.
func Some(r io.Reader, p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := r.Read(p)
		if n < 0 || n > len(p) {
			return 0, ErrCount
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// Checked returns a Reader of r's bytes that keeps to io.Reader's contract: the
// standard library panics where a count is impossible.
func Checked(r io.Reader) io.Reader { return checked{r} }

type checked struct{ r io.Reader }

func (c checked) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return Some(c.r, p)
}

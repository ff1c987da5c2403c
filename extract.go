package dmg

import "io"

// WriteTo writes the whole disk to w in order. It returns how many bytes were
// written, and the first error.
func (e *engine) WriteTo(w io.Writer) (n int64, err error) {
	buf := make([]byte, 1<<20)
	for n < e.size && err == nil {
		var k int
		k, err = e.ReadAt(buf[:min(int64(len(buf)), e.size-n)], n)
		if k > 0 {
			kk, werr := w.Write(buf[:k])
			n += int64(kk)
			if werr != nil {
				return n, werr
			}
		}
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// Package stream is what decoders of streams have in common whose matches copy from
// a window of the last output: they decode into a buffer that holds the window and
// what is not returned yet, and hand out slices of it.
package stream

// MaxDecode is the most bytes one call of [Output.Decode] returns.
const MaxDecode = 64 << 10

// Output is a decoder's output. Its user sets the first three fields, once, and calls
// Restart before each stream.
type Output struct {
	Buf    []byte // room for the window, MaxDecode, Slack and more: the more, the rarer it is moved
	Window int    // how many of the last bytes stay
	Slack  int    // how far behind its limit step may write

	Base int64 // offset in the decoded stream of Buf[0]
	Wr   int   // Buf[:Wr] is decoded
	rd   int   // Buf[rd:Wr] is not yet returned
	Err  error // what follows that, or nil: not known yet

	mark  int64 // where a checkpoint is wanted; 0: nowhere
	low   int   // Buf[:low] is the window of one that is pending; 0: there is none
	point pending
}

// Restart forgets all output, the slice that Decode returned last included.
func (o *Output) Restart() {
	o.Base, o.Wr, o.rd, o.Err = 0, 0, 0, nil
	o.mark, o.low, o.point.begun = 0, 0, false
}

// Decode returns the next bytes of the decoded stream: max of them, or all that are
// left if the stream has fewer. A max outside 1…MaxDecode means MaxDecode. The slice
// is part of Buf: it is valid until the next call and must not be written to.
//
// For more output it calls step again and again. That decodes some of the stream
// into Buf from Wr on, moves Wr, and goes no further than it must beyond limit and
// never more than Slack. Its error ends the decoding.
//
// Either the slice has bytes in it or the error is set, never both. All bytes before
// the error are returned first, and further calls repeat it.
func (o *Output) Decode(max int, step func(limit int) error) ([]byte, error) {
	if max <= 0 || max > MaxDecode {
		max = MaxDecode
	}
	if o.Wr-o.rd < max && o.Err == nil {
		o.produce(max, step)
	}
	n := min(max, o.Wr-o.rd)
	if n <= 0 { // less where an error comes before a checkpoint that was resumed
		return nil, o.Err
	}
	p := o.Buf[o.rd : o.rd+n : o.rd+n]
	o.rd += n
	return p, nil
}

// Read is io.Reader's over Decode.
func (o *Output) Read(p []byte, step func(limit int) error) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := o.Decode(min(len(p), MaxDecode), step)
	return copy(p, b), err
}

// produce decodes until n bytes are ready to be returned or an error follows.
func (o *Output) produce(n int, step func(limit int) error) {
	if o.rd+n+o.Slack > len(o.Buf) {
		o.slide()
	}
	for limit := o.rd + n; o.Wr < limit && o.Err == nil; {
		o.Err = step(limit)
	}
}

// slide moves the window, and what has not been returned, to the buffer's start.
func (o *Output) slide() {
	from := max(0, min(o.rd, o.Wr-o.Window))
	copy(o.Buf, o.Buf[from:o.Wr])
	o.rd -= from
	o.Wr -= from
	o.Base += int64(from)
	o.low = max(0, o.low-from)
}

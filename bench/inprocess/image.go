//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/bzip2"
)

// readSize is that of a random read, in bytes: a page, or a file system's block.
const readSize = 4 << 10

// through measures one way through an image of which nothing is known yet.
func (o options) through(file string, pass func(*dmg.Image, io.Writer) error) (result, error) {
	im, err := dmg.Open(file, &dmg.Options{MemoryLimit: o.limit})
	if err != nil {
		return result{}, err
	}
	defer im.Close()
	if o.check {
		s := sha256.New()
		err := pass(im, s)
		return result{SHA256: hexSum(s)}, err
	}
	var n counter
	start, processor := time.Now(), processorTime()
	if err := pass(im, &n); err != nil {
		return result{}, err
	}
	return result{
		Seconds:       time.Since(start).Seconds(),
		Processor:     (processorTime() - processor).Seconds(),
		Bytes:         int64(n),
		DecodedOfSize: float64(im.Stats().BytesDecoded) / float64(im.Size()),
	}, nil
}

func writeTo(im *dmg.Image, w io.Writer) error {
	_, err := im.WriteTo(w)
	return err
}

// buildIndex writes nothing but when asked for what is to be compared.
func buildIndex(im *dmg.Image, w io.Writer) error {
	if err := im.BuildIndex(context.Background(), nil); err != nil {
		return err
	}
	if _, timed := w.(*counter); timed {
		return nil
	}
	return writeTo(im, w)
}

func readInOrder(im *dmg.Image, w io.Writer) error {
	buf := make([]byte, readSize)
	for off := int64(0); off < im.Size(); off += readSize {
		n, err := im.ReadAt(buf, off)
		if err != nil && err != io.EOF {
			return err
		}
		w.Write(buf[:n])
	}
	return nil
}

// A series draws offsets. It is so plain that the Python side draws the same:
// SplitMix64.
type series uint64

func (s *series) offset(size int64) int64 {
	const sector = 512
	*s += 0x9E3779B97F4A7C15
	x := uint64(*s)
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	x ^= x >> 31
	return int64(x%uint64((size-readSize)/sector+1)) * sector
}

// random measures reads anywhere on the disk, after one way through it.
func (o options) random(file string) (result, error) {
	im, err := dmg.Open(file, &dmg.Options{MemoryLimit: o.limit})
	if err != nil {
		return result{}, err
	}
	defer im.Close()
	if _, err := im.WriteTo(new(counter)); err != nil {
		return result{}, err
	}
	r := result{Through: processorTime().Seconds(), Bytes: im.Size()}
	warm, timed := series(1), series(2)
	if err := o.compare(im, &warm); err != nil {
		return r, err
	}
	buf := make([]byte, readSize)
	before := im.Stats()
	start, processor := time.Now(), processorTime()
	for range o.reads {
		if _, err := im.ReadAt(buf, timed.offset(im.Size())); err != nil && err != io.EOF {
			return r, err
		}
	}
	n := float64(o.reads)
	r.Seconds = time.Since(start).Seconds() / n
	r.Processor = (processorTime() - processor).Seconds() / n
	after := im.Stats()
	r.DecodedRead = float64(after.BytesDecoded-before.BytesDecoded) / n
	r.SourceRead = float64(after.SourceBytes-before.SourceBytes) / n
	r.CallsRead = float64(after.SourceReads-before.SourceReads) / n
	r.Checkpoints = after.CheckpointBytes
	return r, nil
}

// compare checks reads against the disk's own bytes, and has warmed the cache
// when the clock starts.
func (o options) compare(im *dmg.Image, s *series) error {
	raw, err := os.Open(o.raw)
	if err != nil {
		return err
	}
	defer raw.Close()
	st, err := raw.Stat()
	if err != nil {
		return err
	}
	got, want := make([]byte, readSize), make([]byte, readSize)
	for range 50 {
		off := s.offset(im.Size())
		if _, err := im.ReadAt(got, off); err != nil && err != io.EOF {
			return err
		}
		for n := 0; n < readSize; {
			k, err := raw.ReadAt(want[n:], (off+int64(n))%st.Size())
			if k == 0 {
				return err
			}
			n += k
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("wrong bytes at %d", off)
		}
	}
	return nil
}

// A span is where a bzip2 block's bytes are on the disk.
type span struct{ off, length int64 }

// clustered measures reads within one bzip2 block after another, each of which
// has not been read from for long: the first read there, and those that follow.
func (o options) clustered(file string) (result, error) {
	const blocks, reads = 20, 200
	im, err := dmg.Open(file, &dmg.Options{MemoryLimit: o.limit})
	if err != nil {
		return result{}, err
	}
	defer im.Close()
	if _, err := im.WriteTo(new(counter)); err != nil {
		return result{}, err
	}
	spans, err := blockSpans(im, file)
	if err != nil {
		return result{}, err
	}
	var first, rest time.Duration
	s := series(3)
	buf := make([]byte, readSize)
	for i := range blocks {
		at := spans[i*(len(spans)-1)/blocks]
		start := processorTime()
		for k := range reads {
			if _, err := im.ReadAt(buf, at.off+s.offset(at.length)); err != nil {
				return result{}, err
			}
			if k == 0 {
				first += processorTime() - start
				start = processorTime()
			}
		}
		rest += processorTime() - start
	}
	return result{First: first.Seconds() / blocks, Processor: rest.Seconds() / (blocks * (reads - 1))}, nil
}

// blockSpans finds the blocks of an image that is one bzip2 chunk.
func blockSpans(im *dmg.Image, file string) ([]span, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var (
		spans []span
		s     bzip2.Stream
		b     bzip2.Block
		text  bzip2.Text
	)
	buf := make([]byte, 64<<10)
	at := int64(0)
	for c := range im.Chunks() {
		s.Reset(io.NewSectionReader(f, c.DataOffset, c.DataLength))
		for s.Next(&b) == nil {
			var n counter
			b.Unwind(&text)
			if err := readText(&n, &text, buf); err != nil {
				return nil, err
			}
			spans = append(spans, span{at, int64(n)})
			at += int64(n)
		}
	}
	if at != im.Size() {
		return nil, fmt.Errorf("blocks hold %d bytes of %d", at, im.Size())
	}
	return spans, nil
}

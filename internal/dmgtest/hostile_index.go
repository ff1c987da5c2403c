package dmgtest

import (
	"bytes"
	"crypto/sha256"
	"iter"
	"slices"
)

// HostileIndexes bends the saved checkpoints of an image that is sound, whatever
// their format, as long as a SHA-256 of the rest ends it: that is always right,
// so that what is bent is looked at.
func HostileIndexes(image, index []byte) iter.Seq[HostileImage] {
	return func(yield func(HostileImage) bool) {
		b := &bender{class: "index", yield: yield, given: make(map[string]bool)}
		body := index[:len(index)-sha256.Size]
		give := func(body []byte, name string, args ...any) {
			sum := sha256.Sum256(body)
			b.giveImage(HostileImage{Image: image, Index: append(slices.Clip(body), sum[:]...)}, name, args...)
		}
		b.indexBytes(body, give)
		b.indexWords(body, give)
		for n := 0; n < len(body); n += 1 + n/64 {
			give(body[:n], "cut at %d", n)
			give(slices.Concat(body[:n], body[n:], body[n:]), "from %d twice", n)
			give(slices.Concat(body[:n], body[min(n+1, len(body)):]), "without byte %d", n)
			give(slices.Concat(body[:n], []byte{0}, body[n:]), "a zero more at %d", n)
		}
		give(append(bytes.Clone(body), make([]byte, 1<<20)...), "then zeros")
		give(append(bytes.Clone(body), Random(10, 1<<20).Bytes()...), "then anything")
	}
}

// indexHead is how much of an index is bent in every way. What comes after is
// compressed, mostly, and bent in one way at each place.
const indexHead = 160

func (b *bender) indexBytes(body []byte, give func([]byte, string, ...any)) {
	for at := range body {
		values := []byte{0, 1, 0x7F, 0x80, 0xFE, 0xFF, body[at] - 1, body[at] + 1, body[at] ^ 0x80}
		if at >= indexHead {
			values = values[at%len(values):][:1]
		}
		for _, v := range values {
			give(word{at, 1, false}.put(body, uint64(v)), "byte %d is %#x", at, v)
		}
	}
}

func (b *bender) indexWords(body []byte, give func([]byte, string, ...any)) {
	for at := 0; at+8 <= len(body) && !b.stopped; at++ {
		w := word{at, 8 >> (at / 4 % 2), at/8%2 == 1 && at >= indexHead}
		ns := numbers(w.width, w.of(body))
		if at >= indexHead {
			ns = ns[at%len(ns):][:1]
		}
		for _, n := range ns {
			give(w.put(body, n), "%d bytes at %d, lowest first %v, are %#x", w.width, at, w.little, n)
		}
		if next := at + w.width; at < indexHead && at%4 == 0 && next+8 <= len(body) {
			bendPair(body, w, word{next, w.width, false}, func(body []byte, what string) { give(body, "%d bytes each, %s", w.width, what) })
		}
	}
}

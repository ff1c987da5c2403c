package main

import (
	"cmp"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"slices"

	"github.com/go-dmg/dmg"
)

// hashes are what info --hash computes, by name.
var hashes = map[string]func() hash.Hash{
	"md5":    md5.New,
	"sha1":   sha1.New,
	"sha256": sha256.New,
	"sha512": sha512.New,
}

// maxHashed is how many partitions are hashed. An image may have any number of them, one
// over the other.
const maxHashed = 128

// A rangeHash is the hash of a range of the disk.
type rangeHash struct {
	diskRange
	hash.Hash
}

// A diskHasher is a writer of the disk from its beginning on, which makes the hashes of
// ranges of it.
type diskHasher struct {
	at       int64
	ranges   []*rangeHash // that are not complete, by their beginnings
	progress func(done int64)
}

// Write implements io.Writer.
func (h *diskHasher) Write(p []byte) (int, error) {
	end := h.at + int64(len(p))
	for _, r := range h.ranges {
		if r.off >= end {
			break
		}
		if from, to := max(h.at, r.off), min(end, r.end()); from < to {
			r.Hash.Write(p[from-h.at : to-h.at]) // it never fails
		}
	}
	h.ranges = slices.DeleteFunc(h.ranges, func(r *rangeHash) bool { return r.end() <= end })
	h.at = end
	h.progress(end)
	return len(p), nil
}

// addHashes decodes the disk, and adds the hash of it and of each partition to what is said
// of the image.
func (info *imageInfo) addHashes(std *stdio, im *dmg.Image, names []string) error {
	update, stop := startProgress(std, "hash", im.Size(), false)
	defer stop()
	w := &diskHasher{progress: func(done int64) { update(done, im.Size()) }}
	type result struct {
		into *map[string]string
		name string
		hash hash.Hash
	}
	var all []result
	add := func(r diskRange, into *map[string]string) {
		*into = make(map[string]string)
		for _, name := range names {
			h := hashes[name]()
			w.ranges = append(w.ranges, &rangeHash{r, h})
			all = append(all, result{into, name, h})
		}
	}
	add(diskRange{0, im.Size()}, &info.Hashes)
	for i := range info.Partitions[:min(len(info.Partitions), maxHashed)] {
		if p := &info.Partitions[i]; p.Offset <= im.Size() && p.Length <= im.Size()-p.Offset { // all of it is there
			add(diskRange{p.Offset, p.Length}, &p.Hashes)
		}
	}
	slices.SortStableFunc(w.ranges, func(a, b *rangeHash) int { return cmp.Compare(a.off, b.off) })
	if _, err := im.WriteTo(struct{ io.Writer }{w}); err != nil {
		return err
	}
	for _, r := range all {
		(*r.into)[r.name] = hex.EncodeToString(r.hash.Sum(nil))
	}
	return nil
}

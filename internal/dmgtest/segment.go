package dmgtest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Segments cuts the image into files of at most limit bytes of data fork each.
// Every file ends in a koly of its own, which says where its data begins in
// the joined data fork; offsets of chunks go on counting in that. Block
// tables and sums are the first segment's, whose prefix and tail are l's too.
func (l *Layout) Segments(limit int) [][]byte {
	size := max(len(l.Data), 1)
	if limit > 0 {
		size = min(size, limit)
	}
	count := max(1, (len(l.Data)+size-1)/size)
	files := make([][]byte, count)
	for i := range files {
		start := i * size
		s := *l
		s.Data = l.Data[start:min(start+size, len(l.Data))]
		s.Koly.RunningOffset = uint64(start)
		s.Koly.Segment, s.Koly.Segments = uint32(i+1), uint32(count)
		s.split(i == 0)
		files[i] = s.Bytes()
	}
	return files
}

// split makes koly speak of a segment's own file. Only the first has tables.
func (l *Layout) split(first bool) {
	k := &l.Koly
	if !first {
		l.Prefix, l.Rsrc, l.Plist, l.Tail = nil, nil, nil, nil
	}
	k.DataOffset = uint64(len(l.Prefix))
	if l.KolyFirst {
		k.DataOffset += KolyLen
	}
	k.DataLength = uint64(len(l.Data))
	k.RsrcOffset, k.RsrcLength = place(k.DataOffset+k.DataLength, l.Rsrc)
	k.PlistOffset, k.PlistLength = place(k.DataOffset+k.DataLength+k.RsrcLength, l.Plist)
}

// SegmentName is the name of segment i, from 1, of an image whose first
// segment has that name: x.dmg, x.002.dmgpart, …, x.1000.dmgpart.
func SegmentName(first string, i int) string {
	if i == 1 {
		return first
	}
	return fmt.Sprintf("%s.%03d.dmgpart", strings.TrimSuffix(first, filepath.Ext(first)), i)
}

// SegmentFiles writes the segments into the test's temporary directory and
// returns the name of the first.
func SegmentFiles(tb testing.TB, segments [][]byte) string {
	tb.Helper()
	first := filepath.Join(tb.TempDir(), "image.dmg")
	for i, data := range segments {
		writeFile(tb, SegmentName(first, i+1), data)
	}
	return first
}

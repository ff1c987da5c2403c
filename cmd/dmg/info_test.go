package main

import (
	"iter"
	"testing"

	"github.com/go-dmg/dmg"
)

// TestManyMethods has a method of its own in every chunk.
func TestManyMethods(t *testing.T) {
	const kinds = 400_000
	chunks := func(yield func(dmg.Chunk) bool) {
		for i := range int64(kinds) {
			m := dmg.Method(0x90000000 + i)
			switch i {
			case 100, 300_000:
				m = dmg.Zlib
			case 399_999:
				m = dmg.Raw // known, and last
			}
			if !yield(dmg.Chunk{Method: m, Offset: i * sectorSize, Length: sectorSize, DataLength: 2}) {
				return
			}
		}
	}
	methods, total := sumMethods(iter.Seq[dmg.Chunk](chunks))
	if len(methods) != 2+maxUnnamed+1 {
		t.Errorf("%d methods", len(methods))
	}
	var sum methodInfo
	byName := make(map[string]methodInfo)
	for _, m := range methods {
		sum.Chunks += m.Chunks
		sum.Bytes += m.Bytes
		sum.Stored += m.Stored
		byName[m.Method] = m
		if m.Ratio == nil || *m.Ratio != sectorSize/2 {
			t.Errorf("%s has the wrong ratio", m.Method)
		}
	}
	if sum.Chunks != kinds || total.Chunks != kinds || sum.Bytes != total.Bytes || sum.Stored != total.Stored {
		t.Errorf("the methods have %+v together, the total is %+v", sum, total)
	}
	for name, want := range map[string]int64{"zlib": 2, "raw": 1, "0x90000000": 1, "others": kinds - 3 - maxUnnamed} {
		if got := byName[name].Chunks; got != want {
			t.Errorf("%s: %d chunks, want %d", name, got, want)
		}
	}
	if last := methods[len(methods)-1].Method; last != "others" {
		t.Errorf("%s is last", last)
	}
}

package hfsvol

import (
	"hash/crc32"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// The generator must not fail, and give each name once. What it makes of a volume does
// not depend on which others are made.
func TestHostile(t *testing.T) {
	dmgtest.Native(t)
	count, bytes, nth := 0, 0, dmgtest.Times(1, 1, 10)
	sums := make(map[string]uint32)
	for h := range Hostile() {
		if count++; count%97 == 0 {
			sums[h.Name] = crc32.ChecksumIEEE(h.Image())
		}
	}
	count = 0
	classes := make(map[string]int)
	for h := range Hostile() {
		classes[h.Class]++
		if count++; count%nth > 0 && sums[h.Name] == 0 {
			continue
		}
		image := h.Image()
		bytes += len(image)
		if sum, ok := sums[h.Name]; ok && sum != crc32.ChecksumIEEE(image) {
			t.Errorf("%s is another one", h.Name)
		}
	}
	t.Logf("%d volumes, %d MB: %v", count, bytes>>20, classes)
	for _, name := range HostileClasses() {
		if classes[name] < 30 {
			t.Errorf("%s: %d volumes", name, classes[name])
		}
	}
	if count < 3000 {
		t.Errorf("%d volumes", count)
	}
}

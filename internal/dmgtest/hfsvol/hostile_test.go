package hfsvol

import (
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// The generator must not fail, and give each name once.
func TestHostile(t *testing.T) {
	dmgtest.Native(t)
	count, bytes := 0, 0
	classes := make(map[string]int)
	for h := range Hostile() {
		count++
		bytes += len(h.Image)
		classes[h.Class]++
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

package appinfo

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// A search goes through a hostile volume in bounded time: folders that have names in each other
// are looked into once.
func TestHostileVolumes(t *testing.T) {
	dmgtest.Native(t)
	n, longest, which := 0, time.Duration(0), ""
	for h := range hfsvol.Hostile() {
		if n++; n%100 != 0 && h.Class != "folders" {
			continue
		}
		image := h.Image()
		files, err := hfsplus.New(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			continue
		}
		begun := time.Now()
		f := Finder{FS: files, Nested: true, Folder: func(info fs.FileInfo) (uint64, bool) {
			s, ok := info.Sys().(*hfsplus.Stat)
			if !ok {
				return 0, false
			}
			return s.ID, true
		}}
		ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Second, errors.New("it takes too long"))
		if err := f.Find(ctx, ".", func(Item) error { return nil }); err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
		cancel()
		if took := time.Since(begun); took > longest {
			longest, which = took, h.Name
		}
	}
	t.Logf("%d volumes; %s took %v", n, which, longest)
}
